/* SPDX-License-Identifier: MIT */
/*
 * The weights of Phi-3.5-MoE (arXiv 2409.12136, as it is at inference): each of a token's experts is weighed by a softmax over
 * the experts whose logits are near its own, those before it left out. The softmax is that of the kernels, over a row that
 * has only those.
 */
#include "src/route/call.h"

#include <math.h>

/* x where it is near enough to m, the best that is left, else -inf. */
static void keep_near(const float *x, int32_t experts, float m, float jitter, float *near) {
    for (int32_t e = 0; e < experts; e++) {
        const float size = fabsf(x[e]), factor = size > m ? size : m;
        near[e] = (m - x[e]) / factor > 2.0f * jitter ? -INFINITY : x[e];
    }
}

/* The probability of one expert of a float32 row, times `scale`. */
static float weigh_one(const seqtopk_call *call, const float *row, int32_t expert, float scale) {
    const seqtopk_weighing how = {.norm = SEQTOPK_NORM_NONE, .scale = scale, .least = -INFINITY};
    const int32_t own[] = {0, 1};
    float shift, lse, weight;
    const seqtopk_rows rows = {.logits = row,
                               .stride = (int64_t)call->rows.experts * (int64_t)sizeof *row,
                               .shift = &shift,
                               .lse = &lse,
                               .experts = call->rows.experts,
                               .ahead = SEQTOPK_AHEAD,
                               .score = SEQTOPK_SCORE_SOFTMAX};
    call->kernels->lse(&rows, 0, 1);
    call->kernels->weigh_logits(&rows, &how, 0, 1, own, &expert, &weight);
    return weight;
}

static void mix_token(const seqtopk_call *call, int64_t token) {
    const seqtopk_desc *desc = &call->plan->desc;
    const int32_t from = call->token_offsets[token], n = call->token_offsets[token + 1] - from;
    const int32_t *ids = call->expert_ids + from;
    float *x = call->work.keys, *near = call->work.spare, *selected = call->work.scores;
    float *weight_of = call->work.values;
    int32_t *ranked = call->work.ids;
    if (n < 1)
        return;
    seqtopk_rows_keys(call, token, token + 1, x);
    for (int32_t e = 0; e < desc->experts; e++)
        selected[e] = -INFINITY;
    for (int32_t i = 0; i < n; i++)
        selected[ids[i]] = x[ids[i]];
    call->kernels->topk_row(selected, desc->experts, n, ranked);
    for (int32_t i = 0; i < n; i++) {
        const int32_t best = ranked[i];
        keep_near(x, desc->experts, x[best], desc->norm_jitter, near);
        weight_of[best] = weigh_one(call, near, best, desc->scale);
        x[best] = -INFINITY;
    }
    for (int32_t i = 0; i < n; i++)
        call->list_weights[from + i] = weight_of[ids[i]];
}

void seqtopk_mix_sparsely(const seqtopk_call *call, int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++)
        mix_token(call, t);
}
