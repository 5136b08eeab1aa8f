/* SPDX-License-Identifier: MIT */
/* What tokens nearly got: the best experts that were not selected, and by how much they missed it. */
#include "src/route/call.h"

#include <math.h>

static void tell_token(const seqtopk_call *call, int64_t token) {
    const seqtopk_output *out = &call->out;
    const int32_t experts = call->rows.experts, most = out->runner_ids ? out->runners : 1;
    const int64_t place = seqtopk_place(call, token);
    float *keys = call->work.keys, worst = INFINITY;
    int32_t *runners = call->work.group_ids, selected = 0;
    seqtopk_grouped_keys(call, token, token + 1, keys);
    for (int32_t i = call->token_offsets[token]; i < call->token_offsets[token + 1]; i++) {
        const int32_t id = call->expert_ids[i];
        if (id >= experts) /* a shared one */
            continue;
        worst = keys[id] < worst ? keys[id] : worst;
        keys[id] = -INFINITY;
        selected++;
    }
    const int32_t n = seqtopk_rank_row(call, token, keys, most, runners);
    if (out->margins)
        out->margins[place] = selected > 0 && n > 0 ? (worst - keys[runners[0]]) + 0.0f : INFINITY; /* one zero */
    for (int32_t i = 0; out->runner_ids && i < most; i++)
        out->runner_ids[place * most + i] = i < n ? runners[i] : -1;
}

void seqtopk_tell_runners(const seqtopk_call *call, int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++)
        tell_token(call, t);
}
