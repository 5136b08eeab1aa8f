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

/* The key at which a sequence is cut. A token alone may have been listed without: it is its top_k-th key. */
static float cut_key(const seqtopk_call *call, int64_t s) {
    const int32_t way = call->sequence[s].way;
    if (way != SEQTOPK_WAY_topk_logits && way != SEQTOPK_WAY_topk_scores && way != SEQTOPK_WAY_topk_rows)
        return call->sequence[s].cut.key;
    seqtopk_candidate_keys(call, 0, 1, call->work.keys);
    return call->kernels->select_keys(call->work.keys, call->rows.experts, call->plan->desc.top_k, call->work.spare)
        .key;
}

static float margin_of(const seqtopk_call *call, int64_t s) {
    int64_t first, last, reach = 0;
    float next = -INFINITY;
    seqtopk_call_sequence(call, s, &first, &last);
    const int64_t budget = seqtopk_call_budget(call, first, last), block = seqtopk_call_block(call);
    if (budget == 0)
        return INFINITY;
    const float cut = cut_key(call, s);
    for (int64_t t = first, end; t < last; t = end) {
        end = seqtopk_block_end(t, last, block);
        seqtopk_candidate_keys(call, t, end, call->work.keys);
        for (int64_t i = 0; i < (end - t) * call->rows.experts; i++) {
            const float key = call->work.keys[i];
            reach += key >= cut && key > -INFINITY;
            next = key < cut && key > next ? key : next;
        }
    }
    if (!(cut < INFINITY) || (reach <= budget && next == -INFINITY))
        return INFINITY;
    return reach > budget ? 0.0f : cut - next;
}

void seqtopk_tell_sequence_margins(const seqtopk_call *call) {
    for (int64_t s = call->part; call->out.sequence_margins && s < call->sequences; s += call->parts)
        call->out.sequence_margins[s] = margin_of(call, s);
}

void seqtopk_tell_runners(const seqtopk_call *call, int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++)
        tell_token(call, t);
}
