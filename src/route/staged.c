/* SPDX-License-Identifier: MIT */
/*
 * Stage by stage, for every scope, bias, group and bound: the keys of all rows, block by block; the cut; the keys
 * again, and the lists. For the cut, keys go through a reservoir that keeps the best of them, so that memory grows
 * with the budget and not with the T * E candidates.
 */
#include "src/route/way.h"

#include <float.h>
#include <math.h>

typedef struct {
    seqtopk_select_keys_fn *select;
    float *keys, *work; /* [2 * budget] */
    int64_t size, budget;
    float floor; /* keys up to this may have been dropped; -inf: none was */
} reservoir;

static const seqtopk_cut everything = {-FLT_MAX, INT32_MAX - 1, INT64_MAX};
static const seqtopk_cut only_the_certain = {INFINITY, INT32_MAX - 1, INT64_MAX};

/* Keeps the best `budget` keys. */
static void prune(reservoir *r) {
    const seqtopk_kth kth = r->select(r->keys, r->size, r->budget, r->work);
    int64_t kept = 0;
    for (int64_t i = 0; i < r->size; i++) { /* no branch: which are kept cannot be foretold */
        r->keys[kept] = r->keys[i];
        kept += r->keys[i] > kth.key;
    }
    while (kept < r->budget)
        r->keys[kept++] = kth.key;
    r->floor = kth.key;
    r->size = kept;
}

static void pour(reservoir *r, const float *keys, int64_t n, int64_t *certain) {
    for (int64_t i = 0; i < n; i++) {
        if (keys[i] == INFINITY) {
            ++*certain;
        } else if (keys[i] > r->floor) {
            r->keys[r->size++] = keys[i];
            if (r->size == 2 * r->budget)
                prune(r);
        }
    }
}

seqtopk_cut seqtopk_find_staged(const seqtopk_call *call, int64_t first, int64_t last, float key, int64_t n) {
    const int32_t experts = call->plan->desc.experts;
    for (int64_t t = first; t < last; t++) {
        seqtopk_candidate_keys(call, t, t + 1, call->work.keys);
        for (int32_t e = 0; e < experts; e++)
            if (call->work.keys[e] == key && --n == 0)
                return (seqtopk_cut){key, e, t};
    }
    return (seqtopk_cut){key, INT32_MAX - 1, INT64_MAX};
}

/* Space for candidates of a sequence [first, last) that has kept none. */
static float *space_of(const seqtopk_call *call, int64_t s, int64_t first, int64_t last) {
    int64_t begin, end;
    int32_t part = 0;
    while (!seqtopk_call_run(call, s, part, &begin, &end))
        part++;
    return seqtopk_run_candidates(call, s, part, first, last).keys;
}

static seqtopk_cut find_cut(const seqtopk_call *call, int64_t s, int64_t first, int64_t last) {
    const int32_t top_k = call->plan->desc.top_k, experts = call->plan->desc.experts;
    const int64_t budget = seqtopk_call_budget(call, first, last);
    if (budget == 0)
        return only_the_certain;
    reservoir r = {.select = call->kernels->select_keys,
                   .keys = call->reservoir + 2 * top_k * first,
                   .work = space_of(call, s, first, last),
                   .budget = budget,
                   .floor = -INFINITY};
    int64_t certain = 0;
    int is_masked;
    const int64_t block = seqtopk_call_block(call);
    for (int64_t t = first, next; t < last; t = next) {
        next = seqtopk_stretch(call, t, last, &is_masked);
        if (is_masked)
            continue;
        next = seqtopk_block_end(t, next, block);
        seqtopk_candidate_keys(call, t, next, call->work.keys);
        pour(&r, call->work.keys, (next - t) * experts, &certain);
    }
    const int64_t left = budget - certain;
    if (left <= 0)
        return only_the_certain;
    if (r.floor == -INFINITY && r.size <= left)
        return everything;
    const seqtopk_kth kth = r.select(r.keys, r.size, left, r.work);
    if (kth.key > r.floor && kth.above + kth.equal == left)
        return (seqtopk_cut){kth.key, INT32_MAX - 1, INT64_MAX};
    return seqtopk_find_staged(call, first, last, kth.key, left - kth.above);
}

int64_t seqtopk_staged_collect(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, seqtopk_run *run) {
    (void)s;
    run->size = 0; /* nothing is kept: keys are made again where they are needed */
    return seqtopk_rows_lse(call, first, last);
}

int seqtopk_staged_cut(const seqtopk_call *call, int64_t s, seqtopk_sequence *sequence) {
    int64_t first, last;
    seqtopk_call_sequence(call, s, &first, &last);
    /* In token scope min_experts is K: the keys of all selected candidates are +inf. */
    sequence->cut = call->plan->desc.scope == SEQTOPK_SCOPE_TOKEN ? only_the_certain : find_cut(call, s, first, last);
    sequence->has_keys = 0;
    return 1;
}

/* Writes the ids, ascending, of those experts of a token, keys [E], that are not after the cut. Returns how many. ids may be
 * NULL, to count only. */
static int32_t list_keys(const float *keys, int32_t experts, int64_t token, const seqtopk_cut *cut, int32_t *ids) {
    /* Among equals of the cut's key, this token takes part up to this expert. */
    const int32_t ties = token < cut->token ? experts : token == cut->token ? cut->expert + 1 : 0;
    int32_t n = 0;
    for (int32_t e = 0; e < experts; e++) {
        const float key = keys[e];
        if (key > cut->key || (key == cut->key && e < ties) || key == INFINITY) {
            if (ids)
                ids[n] = e;
            n++;
        }
    }
    return n;
}

int64_t seqtopk_staged_list(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, int64_t at, int list) {
    const int64_t block = seqtopk_call_block(call);
    int is_masked;
    for (int64_t t = first, next; t < last; t = next) {
        next = seqtopk_stretch(call, t, last, &is_masked);
        if (is_masked) {
            for (int64_t row = t; list && row < next; row++)
                call->token_offsets[row] = (int32_t)at;
            continue;
        }
        next = seqtopk_block_end(t, next, block);
        seqtopk_candidate_keys(call, t, next, call->work.keys);
        for (int64_t row = t; row < next; row++) {
            if (list)
                call->token_offsets[row] = (int32_t)at;
            const int32_t n = list_keys(call->work.keys + (row - t) * call->rows.experts, call->rows.experts, row,
                                        &call->sequence[s].cut, list ? call->expert_ids + at : NULL);
            if (list && row == call->sequence[s].cut.token && seqtopk_tells_by_logit(call))
                seqtopk_list_first(call, row, n, call->expert_ids + at, NULL);
            at += n;
        }
    }
    return at;
}
