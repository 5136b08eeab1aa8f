/* SPDX-License-Identifier: MIT */
/*
 * min_p and top_p: of a token's first K experts only the best few that matter. Both cut its experts in the order of their
 * scores, so that whichever cuts first decides.
 */
#include "src/route/call.h"

#include <math.h>
#include <string.h>

/* The plain scores of one token's experts, in the places of weights. */
static void score_token(const seqtopk_call *call, int64_t token, int32_t from, int32_t n) {
    static const seqtopk_weighing plain = {.norm = SEQTOPK_NORM_NONE, .scale = 1.0f, .least = -INFINITY};
    const int32_t own[] = {0, n};
    seqtopk_rows row = call->rows;
    if (call->is_raw) {
        row = seqtopk_prepare(call, token, token + 1).rows;
        call->kernels->weigh_logits(&row, &plain, 0, 1, own, call->expert_ids + from, call->list_weights + from);
        return;
    }
    row.logits = (const char *)row.logits + token * row.stride;
    row.shift += token;
    row.lse += token;
    row.token_mask = NULL;
    call->kernels->weigh_logits(&row, &plain, 0, 1, own, call->expert_ids + from, call->list_weights + from);
}

static int32_t best_of(const float *scores, int32_t n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (scores[i] > scores[best])
            best = i;
    return best;
}

/* Of scores [n] those that stay become -inf; best first, of equals the lower expert. At least one stays. */
static void mark_best(const seqtopk_desc *desc, float *scores, int32_t n) {
    const float least = desc->min_p * scores[best_of(scores, n)];
    float reached = 0.0f;
    for (int32_t taken = 0; taken < n; taken++) {
        const int32_t next = best_of(scores, n);
        const float score = scores[next];
        const int is_enough = (desc->top_p > 0.0f && reached >= desc->top_p) || score < least;
        if (is_enough && taken > 0 && taken >= desc->min_experts)
            return;
        reached += score;
        scores[next] = -INFINITY;
    }
}

void seqtopk_prune(const seqtopk_call *call, int64_t first, int64_t last, seqtopk_run *run) {
    const seqtopk_desc *desc = &call->plan->desc;
    float *scores = call->work.values;
    const int64_t begin = first * call->plan->pairs, end = begin + run->size;
    int64_t at = begin;
    for (int64_t t = first; t < last; t++) {
        const int32_t from = call->token_offsets[t];
        const int32_t n = (int32_t)((t + 1 < last ? call->token_offsets[t + 1] : end) - from);
        score_token(call, t, from, n);
        memcpy(scores, call->list_weights + from, (size_t)n * sizeof *scores);
        if (n > 0)
            mark_best(desc, scores, n);
        call->token_offsets[t] = (int32_t)at;
        for (int32_t i = 0; i < n; i++)
            if (scores[i] == -INFINITY) {
                call->expert_ids[at] = call->expert_ids[from + i];
                call->list_weights[at++] = call->list_weights[from + i];
            }
    }
    run->size = at - begin;
}
