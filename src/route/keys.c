/* SPDX-License-Identifier: MIT */
/* Keys of rows after group limits and bounds. */
#include "src/route/call.h"

#include <math.h>

/* Sets the keys of the row's first min_experts candidates to +inf, and of those after its first max_experts to -inf. */
static void bound(const seqtopk_call *call, int64_t token, float *keys) {
    const int32_t experts = call->plan->desc.experts, min = call->plan->min_experts, max = call->plan->max_experts;
    int32_t *ids = call->work.ids;
    const int32_t n = seqtopk_rank_row(call, token, keys, max < experts ? max : min, ids);
    if (max < experts) {
        float *kept = call->work.values;
        for (int32_t i = 0; i < n; i++)
            kept[i] = keys[ids[i]];
        for (int32_t e = 0; e < experts; e++)
            keys[e] = -INFINITY;
        for (int32_t i = 0; i < n; i++)
            keys[ids[i]] = kept[i];
    }
    for (int32_t i = 0; i < n && i < min; i++)
        keys[ids[i]] = INFINITY;
}

/* The largest of keys [n]. Four at a time, since each comparison waits for the one before. */
static float largest(const float *keys, int32_t n) {
    float best[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    int32_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int lane = 0; lane < 4; lane++)
            best[lane] = keys[i + lane] > best[lane] ? keys[i + lane] : best[lane];
    for (; i < n; i++)
        best[0] = keys[i] > best[0] ? keys[i] : best[0];
    for (int lane = 1; lane < 4; lane++)
        best[0] = best[lane] > best[0] ? best[lane] : best[0];
    return best[0];
}

/* A quota of one, as the published models have it. */
static void keep_first(float *keys, int32_t size) {
    const float best = largest(keys, size);
    int32_t first = 0;
    while (keys[first] < best)
        first++;
    for (int32_t e = 0; e < size; e++)
        keys[e] = e == first ? keys[e] : -INFINITY;
}

/* Of each group [size] of a row the first `quota`; the keys of all others become -inf. */
static void keep_quota_of(const seqtopk_call *call, float *keys) {
    const int32_t groups = call->plan->desc.groups, size = call->plan->desc.experts / groups;
    int32_t *ids = call->work.ids;
    float *kept = call->work.values;
    for (int32_t g = 0; g < groups; g++, keys += size) {
        if (call->plan->desc.group_quota == 1) {
            keep_first(keys, size);
            continue;
        }
        const int32_t n = call->kernels->topk_row(keys, size, call->plan->desc.group_quota, ids);
        for (int32_t i = 0; i < n; i++)
            kept[i] = keys[ids[i]];
        for (int32_t e = 0; e < size; e++)
            keys[e] = -INFINITY;
        for (int32_t i = 0; i < n; i++)
            keys[ids[i]] = kept[i];
    }
}

/* The same, by the logits where those tell equal keys apart. */
static void keep_quota(const seqtopk_call *call, int64_t token, float *keys) {
    const int32_t experts = call->plan->desc.experts;
    float *logits = call->work.scores;
    if (!seqtopk_tells_by_logit(call)) {
        keep_quota_of(call, keys);
        return;
    }
    seqtopk_logits_of(call, token);
    for (int32_t e = 0; e < experts; e++)
        logits[e] = keys[e] > -INFINITY ? logits[e] : -INFINITY;
    keep_quota_of(call, logits);
    for (int32_t e = 0; e < experts; e++)
        keys[e] = logits[e] > -INFINITY ? keys[e] : -INFINITY;
}

void seqtopk_grouped_keys(const seqtopk_call *call, int64_t first, int64_t last, float *keys) {
    const seqtopk_desc *desc = &call->plan->desc;
    const int loses = seqtopk_loses_groups(desc);
    seqtopk_rows_keys(call, first, last, keys);
    for (int64_t t = first; t < last && (loses || desc->group_quota); t++, keys += desc->experts) {
        const float *scores = keys;
        if (call->in.token_mask && !call->in.token_mask[t])
            continue;
        if (loses && desc->group_n > 1 && call->rows.key != SEQTOPK_KEY_SCORE) {
            seqtopk_call by_score = *call;
            by_score.rows.key = SEQTOPK_KEY_SCORE;
            seqtopk_rows_keys(&by_score, t, t + 1, call->work.scores);
            scores = call->work.scores;
        } else if (loses && seqtopk_tells_by_logit(call)) {
            scores = seqtopk_logits_of(call, t);
        }
        if (loses)
            call->kernels->mask_groups(scores, keys, desc->experts, desc->groups, desc->group_n, desc->group_top_k,
                                       call->work.values);
        if (desc->group_quota)
            keep_quota(call, t, keys);
    }
}

static void row_keys(const void *context, int64_t token, float *keys) {
    seqtopk_grouped_keys(context, token, token + 1, keys);
}

seqtopk_scoring seqtopk_scoring_of(const seqtopk_call *call) {
    const seqtopk_desc *desc = &call->plan->desc;
    return (seqtopk_scoring){.groups = seqtopk_loses_groups(desc) ? desc->groups : 1,
                             .group_n = desc->group_n,
                             .group_top_k = desc->group_top_k,
                             .keys = call->work.spare,
                             .keys_size = call->plan->work_rows * desc->experts + SEQTOPK_CANDIDATES_SLACK,
                             .row = call->work.keys,
                             .ids = (uint16_t *)call->work.words,
                             .row_keys = row_keys,
                             .context = call};
}

void seqtopk_candidate_keys(const seqtopk_call *call, int64_t first, int64_t last, float *keys) {
    const int32_t experts = call->plan->desc.experts;
    const seqtopk_desc *desc = &call->plan->desc;
    const int32_t left = desc->group_quota ? desc->group_top_k * desc->group_quota : experts; /* by then */
    const int bounded = call->plan->min_experts > 0 || call->plan->max_experts < left;
    seqtopk_grouped_keys(call, first, last, keys);
    for (int64_t t = first; t < last && bounded; t++, keys += experts)
        if (!call->in.token_mask || call->in.token_mask[t])
            bound(call, t, keys);
}
