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
    seqtopk_nth_keys_fn *nth;
    float *keys;
    size_t size, capacity, budget;
    float floor; /* keys up to this may have been dropped; -inf: none was */
} reservoir;

static const seqtopk_cut everything = {-FLT_MAX, INT32_MAX - 1, INT64_MAX};
static const seqtopk_cut only_the_certain = {INFINITY, INT32_MAX - 1, INT64_MAX};

static void pour(reservoir *r, const float *keys, int64_t n, int64_t *certain) {
    for (int64_t i = 0; i < n; i++) {
        if (keys[i] == INFINITY) {
            ++*certain;
        } else if (keys[i] > r->floor) {
            r->keys[r->size++] = keys[i];
            if (r->size == r->capacity) {
                r->floor = r->nth(r->keys, r->size, r->budget);
                r->size = r->budget;
            }
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

static seqtopk_cut find_cut(const seqtopk_call *call, int64_t first, int64_t last) {
    const seqtopk_plan *plan = call->plan;
    const int32_t top_k = plan->desc.top_k, experts = plan->desc.experts;
    const int64_t budget = seqtopk_call_budget(call, first, last);
    if (budget == 0)
        return only_the_certain;
    reservoir r = {.nth = call->kernels->nth_keys,
                   .keys = call->reservoir + 2 * top_k * first,
                   .capacity = 2 * (size_t)top_k * (size_t)(last - first),
                   .budget = (size_t)budget,
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
    if (r.floor == -INFINITY && (int64_t)r.size <= left)
        return everything;
    const float key = r.nth(r.keys, r.size, (size_t)left);
    int64_t above = 0, equal = 0;
    for (size_t i = 0; i < r.size; i++) {
        above += r.keys[i] > key;
        equal += r.keys[i] == key;
    }
    if (key > r.floor && above + equal == left)
        return (seqtopk_cut){key, INT32_MAX - 1, INT64_MAX};
    return seqtopk_find_staged(call, first, last, key, left - above);
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
    sequence->cut = call->plan->desc.scope == SEQTOPK_SCOPE_TOKEN ? only_the_certain : find_cut(call, first, last);
    sequence->has_keys = 0;
    return 1;
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
            const int32_t n =
                call->kernels->list_keys(call->work.keys + (row - t) * call->rows.experts, call->rows.experts, row,
                                         &call->sequence[s].cut, list ? call->expert_ids + at : NULL);
            if (list && row == call->sequence[s].cut.token && seqtopk_tells_by_logit(call))
                seqtopk_list_first(call, row, n, call->expert_ids + at, NULL);
            at += n;
        }
    }
    return at;
}
