/* SPDX-License-Identifier: MIT */
/*
 * Token scope. Each part lists its tokens in the collect step, from the index that holds if every token before had
 * top_k experts; where some had fewer candidates, the gaps are closed afterwards.
 */
#include "src/route/way.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Scratch of this part, as space for candidates. */
static seqtopk_candidates own_candidates(const seqtopk_call *call, int32_t *counts) {
    return (seqtopk_candidates){.keys = call->work.spare,
                                .ids = call->work.key_ids,
                                .counts = counts,
                                .work = call->work.words,
                                .capacity = call->plan->work_rows * call->rows.experts};
}

int64_t seqtopk_topk_logits_collect(const seqtopk_call *call, int64_t s, int64_t first, int64_t last,
                                    seqtopk_run *run) {
    const int32_t top_k = call->plan->pairs;
    const seqtopk_lists to = seqtopk_lists_of(call, 1);
    seqtopk_candidates few = own_candidates(call, NULL);
    int64_t at = first * top_k, bad = -1;
    int is_masked;
    (void)s;
    for (int64_t t = first, next; bad < 0 && few.size >= 0 && t < last; t = next) {
        next = seqtopk_stretch(call, t, last, &is_masked);
        if (is_masked)
            seqtopk_list_none(call, to.offsets, t, next, at);
        else
            bad = call->kernels->topk_logits(&call->rows, t, next, top_k, &few, &to, &at, last * top_k);
    }
    run->size = at - first * top_k;
    return bad < 0 && few.size < 0 ? seqtopk_run_falls_back(run, SEQTOPK_FALLBACK_TIES) : bad;
}

/* A token's first top_k by its keys [E], however many those are. Returns the pair after them. */
static int64_t list_keys(const seqtopk_call *call, int64_t token, const float *keys, int32_t top_k, int64_t at) {
    const int32_t experts = call->rows.experts;
    int32_t count;
    seqtopk_candidates few = own_candidates(call, &count);
    const seqtopk_kth kth = seqtopk_leaves_upto(&call->plan->desc, top_k)
                                ? (seqtopk_kth){-INFINITY, 0, 0}
                                : call->kernels->select_keys(keys, experts, top_k, call->work.spare);
    int32_t ties = kth.key > -INFINITY ? top_k - (int32_t)kth.above : 0;
    if (kth.key > -INFINITY && kth.equal > ties && seqtopk_tells_by_logit(call))
        return at + seqtopk_list_of_row(call, token, keys, top_k, call->expert_ids + at, call->list_weights + at);
    call->kernels->collect_keys(keys, experts, 0, 1, kth.key > -INFINITY ? kth.key : -FLT_MAX, &few);
    for (int32_t i = 0; i < count; i++) {
        if (few.keys[i] == kth.key && ties-- <= 0)
            continue;
        call->expert_ids[at] = few.ids[i];
        call->list_weights[at++] = few.keys[i];
    }
    return at;
}

/* The same of a token whose normaliser is known, with scores in the places of weights, online keys: seqtopk_scoring.list_row. */
static int64_t list_row(const void *context, int64_t token, int64_t at) {
    static const seqtopk_weighing plain = {.norm = SEQTOPK_NORM_NONE, .scale = 1.0f, .least = -INFINITY};
    const seqtopk_call *call = context;
    seqtopk_rows row = call->rows;
    seqtopk_grouped_keys(call, token, token + 1, call->work.keys);
    const int64_t end = list_keys(call, token, call->work.keys, call->plan->pairs, at);
    const int has_keys = call->plan->desc.scope == SEQTOPK_SCOPE_ONLINE;
    float *scores = has_keys ? call->list_scores : call->list_weights;
    if (!scores)
        return end;
    const int32_t own[] = {0, (int32_t)(end - at)};
    row.logits = (const char *)row.logits + token * row.stride;
    row.shift += token;
    row.lse += token;
    row.token_mask = NULL;
    call->kernels->weigh_logits(&row, &plain, 0, 1, own, call->expert_ids + at, scores + at);
    return end;
}

/* Rows [first, last) listed, up to top_k of each, from pair *at on. */
static int64_t list_scores(const seqtopk_call *call, int64_t first, int64_t last, int32_t top_k,
                           const seqtopk_scoring *how, const seqtopk_lists *to, int64_t *at, int64_t end) {
    int is_masked;
    int64_t bad = -1;
    for (int64_t t = first, next; bad < 0 && t < last; t = next) {
        next = seqtopk_stretch(call, t, last, &is_masked);
        if (is_masked)
            seqtopk_list_none(call, to->offsets, t, next, *at);
        else
            bad = call->kernels->topk_scores(&call->rows, t, next, top_k, how, to, at, end);
    }
    return bad;
}

int64_t seqtopk_topk_scores_collect(const seqtopk_call *call, int64_t s, int64_t first, int64_t last,
                                    seqtopk_run *run) {
    const int32_t top_k = call->plan->pairs;
    seqtopk_lists to = seqtopk_lists_of(call, 1);
    seqtopk_scoring how = seqtopk_scoring_of(call);
    int64_t at = first * top_k;
    to.scores = call->list_scores;
    (void)s;
    how.list_row = list_row;
    how.lists_keys = call->plan->desc.scope == SEQTOPK_SCOPE_ONLINE;
    const int64_t bad = list_scores(call, first, last, top_k, &how, &to, &at, last * top_k);
    run->size = at - first * top_k;
    return bad;
}

/* A token's first max_experts, with their keys. */
static int64_t list_first(const void *context, int64_t token, int64_t at) {
    const seqtopk_call *call = context;
    seqtopk_grouped_keys(call, token, token + 1, call->work.keys);
    return list_keys(call, token, call->work.keys, call->plan->max_experts, at);
}

/* Where a token's first max_experts are put: their ids in the places of `order`, which is made afterwards. */
static seqtopk_lists lists_of_first(const seqtopk_candidates *candidates) {
    return (seqtopk_lists){
        .offsets = candidates->counts, .ids = (int32_t *)(void *)candidates->order, .keys = candidates->keys};
}

/* Lists of rows [first, last), `size` pairs, become candidates. */
static void take_first(const seqtopk_lists *lists, int64_t first, int64_t last, int64_t size,
                       seqtopk_candidates *candidates) {
    int32_t *const counts = candidates->counts;
    for (int64_t t = first; t < last; t++)
        counts[t] = (t + 1 < last ? counts[t + 1] : (int32_t)size) - counts[t];
    for (int64_t i = 0; i < size; i++)
        candidates->ids[i] = (uint16_t)lists->ids[i];
    candidates->size = size;
}

/* The first max_experts of rows [first, last), whatever their keys. */
static int64_t collect_first(const seqtopk_call *call, int64_t first, int64_t last, float low,
                             seqtopk_candidates *candidates) {
    seqtopk_call own = *call;
    const seqtopk_lists to = lists_of_first(candidates);
    int64_t at = 0;
    (void)low;
    own.expert_ids = to.ids;
    own.list_weights = to.keys;
    seqtopk_scoring how = seqtopk_scoring_of(&own);
    how.list_row = list_first;
    how.lists_keys = 1;
    const int64_t bad = list_scores(call, first, last, call->plan->max_experts, &how, &to, &at, candidates->capacity);
    if (bad < 0)
        take_first(&to, first, last, at, candidates);
    return bad;
}

/* The same by the logits alone. */
static int64_t collect_first_logits(const seqtopk_call *call, int64_t first, int64_t last, float low,
                                    seqtopk_candidates *candidates) {
    const seqtopk_lists to = lists_of_first(candidates);
    seqtopk_candidates work = own_candidates(call, NULL);
    int64_t at = 0;
    (void)low;
    const int64_t bad = call->kernels->topk_logits(&call->rows, first, last, call->plan->max_experts, &work, &to, &at,
                                                   candidates->capacity);
    if (bad < 0 && work.size >= 0)
        take_first(&to, first, last, at, candidates);
    else
        candidates->size = -1;
    return bad;
}

static int64_t collect_and_bound(const seqtopk_call *call, int64_t s, int64_t first, int64_t last,
                                 seqtopk_collect_fn *collect, seqtopk_run *run) {
    seqtopk_candidates candidates = seqtopk_run_candidates(call, s, call->part, first, last);
    run->low = -FLT_MAX;
    const int64_t bad = seqtopk_collect_bounded(call, first, last, run->low, collect, &candidates);
    run->size = candidates.size;
    return bad < 0 && candidates.size < 0 ? seqtopk_run_falls_back(run, SEQTOPK_FALLBACK_TIES) : bad;
}

int64_t seqtopk_topk_cut_collect(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, seqtopk_run *run) {
    return collect_and_bound(call, s, first, last, collect_first, run);
}

int64_t seqtopk_logits_cut_collect(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, seqtopk_run *run) {
    return collect_and_bound(call, s, first, last, collect_first_logits, run);
}

/* A token that needs all of its keys is not for few steps. */
static int64_t list_otherwise(const void *context, int64_t token, int64_t at) {
    (void)context;
    (void)token;
    return at - 1;
}

int64_t seqtopk_collect_one(const seqtopk_call *call, int32_t *ids, float *keys, int64_t end, int32_t *ranks,
                            float *scores, int32_t *did_more) {
    const seqtopk_lists to = {.offsets = call->token_offsets,
                              .ids = ids,
                              .keys = keys,
                              .to_scores = seqtopk_weighs_scores(call),
                              .score = call->rows.score,
                              .scores = scores};
    seqtopk_scoring how = seqtopk_scoring_of(call);
    int64_t at = 0;
    how.keys_size = call->rows.experts + SEQTOPK_CANDIDATES_SLACK;
    how.list_row = list_otherwise;
    how.lists_keys = call->plan->desc.scope == SEQTOPK_SCOPE_ONLINE;
    how.weighing = !ranks && to.to_scores ? &call->weighing : NULL;
    how.ranks = ranks;
    how.did_more = did_more;
    return call->kernels->topk_scores(&call->rows, 0, 1, call->plan->pairs, &how, &to, &at, end) < 0 ? at : -1;
}

/* Makes a run's keys block by block, and lists each token by them. */
int64_t seqtopk_topk_rows_collect(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, seqtopk_run *run) {
    const int32_t top_k = call->plan->pairs;
    const int64_t block = seqtopk_call_block(call);
    int64_t at = first * top_k;
    int is_masked;
    (void)s;
    for (int64_t t = first, next; t < last; t = next) {
        next = seqtopk_stretch(call, t, last, &is_masked);
        if (is_masked) {
            seqtopk_list_none(call, call->token_offsets, t, next, at);
            continue;
        }
        next = seqtopk_block_end(t, next, block);
        const int64_t bad = seqtopk_rows_lse(call, t, next);
        if (bad >= 0)
            return bad;
        seqtopk_grouped_keys(call, t, next, call->work.keys);
        for (int64_t row = t; row < next; row++) {
            call->token_offsets[row] = (int32_t)at;
            at = list_keys(call, row, call->work.keys + (row - t) * call->rows.experts, top_k, at);
        }
    }
    run->size = at - first * top_k;
    return -1;
}

/* Tokens do not compete with each other: there is nothing to cut. */
int seqtopk_topk_cut(const seqtopk_call *call, int64_t s, seqtopk_sequence *sequence) {
    (void)s;
    sequence->has_keys = sequence->way != SEQTOPK_WAY_topk_rows || seqtopk_prunes(&call->plan->desc);
    return 1;
}

/* Closes the gaps between the parts' lists, each of which begins where it would if every token had top_k experts. */
static void join_lists(const seqtopk_call *call) {
    const int32_t top_k = call->plan->pairs;
    int64_t at = 0;
    for (int32_t p = 0; p < call->parts; p++) {
        int64_t first, last;
        if (!seqtopk_call_run(call, 0, p, &first, &last))
            continue;
        const int64_t from = first * top_k, pairs = call->runs[p].size;
        if (at < from) {
            memmove(call->expert_ids + at, call->expert_ids + from, (size_t)pairs * sizeof *call->expert_ids);
            memmove(call->list_weights + at, call->list_weights + from, (size_t)pairs * sizeof *call->list_weights);
            for (int64_t t = first; t < last; t++)
                call->token_offsets[t] -= (int32_t)(from - at);
        }
        at += pairs;
    }
}

int64_t seqtopk_topk_list(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, int64_t at, int list) {
    (void)last;
    if (list && first == 0 &&
        call->parts > 1) /* one part moves all lists, which overlap: the one that has the first token */
        join_lists(call);
    return at + call->runs[s + call->part].size;
}
