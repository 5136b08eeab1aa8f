/* SPDX-License-Identifier: MIT */
/* Candidates' keys: what groups and bounds leave of them. */
#include "src/call.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* A group's score: the sum, best first, of its best `n` keys; -inf if it has fewer candidates. */
static float group_score(const seqtopk_call *call, const float *keys, int32_t size, int32_t n) {
    int32_t *best = call->room.ids;
    if (call->top(keys, size, n, best) < n)
        return -INFINITY;
    float sum = keys[best[0]];
    for (int32_t i = 1; i < n; i++)
        sum += keys[best[i]];
    return sum > FLT_MAX ? FLT_MAX : sum < -FLT_MAX ? -FLT_MAX : sum; /* -inf means: no score */
}

/* Loses the row's candidates outside its best groups. `keys` order candidates, `scores` add up; they may be one row. */
static void limit_groups(const seqtopk_call *call, float *keys, const float *scores) {
    const seqtopk_desc *desc = &call->plan->desc;
    const int32_t size = desc->experts / desc->groups;
    float *group = call->room.values;
    int32_t *kept = call->room.group_ids, *is_kept = call->room.ids;
    for (int32_t g = 0; g < desc->groups; g++)
        group[g] = group_score(call, scores + (int64_t)g * size, size, desc->group_n);
    const int32_t n = call->top(group, desc->groups, desc->group_top_k, kept);
    memset(is_kept, 0, (size_t)desc->groups * sizeof *is_kept);
    for (int32_t i = 0; i < n; i++)
        is_kept[kept[i]] = 1;
    /* Groups without a score fill what places are left, the lower first: they can still hold candidates. */
    int32_t places = desc->group_top_k - n;
    for (int32_t g = 0; g < desc->groups; g++) {
        if (is_kept[g] || (group[g] == -INFINITY && places-- > 0))
            continue;
        for (int32_t e = g * size; e < (g + 1) * size; e++)
            keys[e] = -INFINITY;
    }
}

/* Marks the row's first `sure` candidates with +inf and loses those after its first `most`. */
static void bound(const seqtopk_call *call, float *keys) {
    const int32_t experts = call->plan->desc.experts, sure = call->plan->sure, most = call->plan->most;
    int32_t *ids = call->room.ids;
    const int32_t n = call->top(keys, experts, most < experts ? most : sure, ids);
    if (most < experts) {
        float *kept = call->room.values;
        for (int32_t i = 0; i < n; i++)
            kept[i] = keys[ids[i]];
        for (int32_t e = 0; e < experts; e++)
            keys[e] = -INFINITY;
        for (int32_t i = 0; i < n; i++)
            keys[ids[i]] = kept[i];
    }
    for (int32_t i = 0; i < n && i < sure; i++)
        keys[ids[i]] = INFINITY;
}

void seqtopk_grouped_keys(const seqtopk_call *call, int64_t first, int64_t last, float *keys) {
    const seqtopk_desc *desc = &call->plan->desc;
    const int grouped = desc->groups > 1 && desc->group_top_k < desc->groups;
    call->keys(&call->rows, first, last, keys);
    for (int64_t t = first; t < last && grouped; t++, keys += desc->experts) {
        const float *scores = keys;
        if (call->in.token_mask && !call->in.token_mask[t])
            continue;
        if (desc->group_n > 1 && call->rows.key != SEQTOPK_KEY_SCORE) {
            seqtopk_rows rows = call->rows;
            rows.key = SEQTOPK_KEY_SCORE;
            call->keys(&rows, t, t + 1, call->room.scores);
            scores = call->room.scores;
        }
        limit_groups(call, keys, scores);
    }
}

void seqtopk_candidate_keys(const seqtopk_call *call, int64_t first, int64_t last, float *keys) {
    const int32_t experts = call->plan->desc.experts;
    const int bounded = call->plan->sure > 0 || call->plan->most < experts;
    seqtopk_grouped_keys(call, first, last, keys);
    for (int64_t t = first; t < last && bounded; t++, keys += experts)
        if (!call->in.token_mask || call->in.token_mask[t])
            bound(call, keys);
}
