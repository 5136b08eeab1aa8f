/* SPDX-License-Identifier: MIT */
/*
 * A long sequence: one pass over its rows collects the candidates down to a bound that a sample of rows gives
 * (estimate.c). The bound only decides how many are collected: with too few or too many of them, another bound is
 * estimated.
 */
#include "src/route/way.h"

#include <math.h>
#include <string.h>

static int64_t collect_logits(const seqtopk_call *call, int64_t first, int64_t last, float low,
                              seqtopk_candidates *candidates) {
    return call->kernels->collect_logits(&call->rows, first, last, low, call->plan->min_experts, candidates);
}

static int64_t collect_scores(const seqtopk_call *call, int64_t first, int64_t last, float low,
                              seqtopk_candidates *candidates) {
    const seqtopk_scoring how = seqtopk_scoring_of(call);
    return call->kernels->collect_scores(&call->rows, first, last, low, call->plan->min_experts, &how, candidates);
}

/* What is left of the space for candidates behind those that there are. */
static seqtopk_candidates behind(const seqtopk_candidates *candidates) {
    seqtopk_candidates some = *candidates;
    some.keys += candidates->size;
    some.order += candidates->size;
    some.ids += candidates->size;
    some.capacity -= candidates->size;
    return some;
}

/* Where candidates stand that will be bounded: a little behind their places (SEQTOPK_RUN_SLACK). */
static seqtopk_candidates before_bounds(const seqtopk_candidates *candidates) {
    seqtopk_candidates all = *candidates;
    all.keys += SEQTOPK_BOUND_LEAD;
    all.ids += SEQTOPK_BOUND_LEAD;
    return all;
}

/* Rows that have to be prepared are collected from block by block. */
static int64_t collect_prepared(const seqtopk_call *call, int64_t first, int64_t last, float low,
                                seqtopk_collect_fn *collect, seqtopk_candidates *candidates) {
    const seqtopk_call ready = seqtopk_prepare(call, first, last);
    candidates->counts += first;
    const int64_t bad = collect(&ready, 0, last - first, low, candidates);
    candidates->counts -= first;
    return bad >= 0 ? first + bad : -1;
}

/* The same, without stretches of masked ones. */
static int64_t collect_ready(const seqtopk_call *call, int64_t first, int64_t last, float low,
                             seqtopk_collect_fn *collect, seqtopk_candidates *candidates) {
    int is_masked;
    if (!call->is_raw && !call->rows.token_mask)
        return collect(call, first, last, low, candidates);
    candidates->size = 0;
    for (int64_t t = first, next; t < last; t = next) {
        seqtopk_candidates some = behind(candidates);
        next = seqtopk_stretch(call, t, last, &is_masked);
        if (is_masked) {
            seqtopk_leave_out(call, t, next);
            memset(candidates->counts + t, 0, (size_t)(next - t) * sizeof *candidates->counts);
            continue;
        }
        if (call->is_raw)
            next = seqtopk_block_end(t, next, seqtopk_prepared_at_once(call));
        const int64_t bad =
            call->is_raw ? collect_prepared(call, t, next, low, collect, &some) : collect(call, t, next, low, &some);
        if (bad >= 0)
            return bad;
        candidates->size = some.size < 0 ? -1 : candidates->size + some.size;
        if (some.size < 0)
            return -1;
    }
    return -1;
}

/*
 * Where fewer of a row reach `low`, op collect_scores makes all of its keys and collects the first min_experts, but none that has the same
 * key as the last of them: there may be one, with a larger logit, and so the row is looked at as one whose bound has equal
 * keys on either side. (op collect_logits goes by the logits, and collects all that may be equal.)
 */
static void mark_lowest(const seqtopk_call *call, seqtopk_candidates *candidates, int64_t first, int64_t last,
                        float low) {
    const int32_t min = call->plan->min_experts;
    const float *keys = candidates->keys;
    for (int64_t t = first; t < last; t++) {
        const int32_t n = candidates->counts[t] & ~SEQTOPK_TIED_AT_BOUND;
        float least = INFINITY;
        for (int32_t i = 0; i < n && n <= min; i++)
            least = keys[i] < least ? keys[i] : least;
        if (least < low && n == candidates->counts[t]) {
            candidates->counts[t] |= SEQTOPK_TIED_AT_BOUND;
            candidates->tied++;
        }
        keys += n;
    }
}

/*
 * Where a token's experts are bounded, candidates are bounded while they are in the cache, some rows after the other:
 * before that a token may have many more than will stay, and all together than there is space for. Where some rows have too
 * many they are taken again, half as many at a time.
 */
int64_t seqtopk_collect_bounded(const seqtopk_call *call, int64_t first, int64_t last, float low,
                                seqtopk_collect_fn *collect, seqtopk_candidates *candidates) {
    enum { AT_ONCE = 128, LEAST = 16, FEWEST = 4 };
    const int64_t quarter = (last - first) / 4 / LEAST * LEAST;
    int64_t rows = quarter > AT_ONCE ? AT_ONCE : quarter < LEAST ? LEAST : quarter;
    for (int64_t t = first, next; t < last; t = next) {
        seqtopk_candidates some = behind(candidates), all = before_bounds(&some);
        next = seqtopk_block_end(t, last, rows);
        const int64_t bad = collect_ready(call, t, next, low, collect, &all);
        if (bad >= 0)
            return bad;
        if (all.size < 0 && rows > FEWEST) {
            rows /= 2;
            next = t;
            continue;
        }
        if (all.size < 0) {
            candidates->size = -1;
            return -1;
        }
        call->kernels->bound_candidates(&all, t, next, call->plan->min_experts, call->plan->max_experts, &some);
        if (collect == collect_scores && call->plan->min_experts > 0 && seqtopk_tells_by_logit(call))
            mark_lowest(call, &some, t, next, low);
        seqtopk_settle_bounds(call, &some, t, next);
        candidates->size += some.size;
    }
    return -1;
}

/* The rows before token *looked have their log-sum-exp from an earlier pass; *looked moves on. */
static int64_t sweep_keys(const seqtopk_call *call, int64_t first, int64_t last, const seqtopk_run *run,
                          seqtopk_candidates *candidates, int64_t *looked) {
    const int64_t block = seqtopk_call_block(call);
    for (int64_t t = first, next; t < last && candidates->size >= 0; t = next) {
        next = seqtopk_block_end(t, last, block);
        const int64_t bad = next > *looked ? seqtopk_rows_lse(call, t, next) : -1;
        if (bad >= 0)
            return bad;
        *looked = next > *looked ? next : *looked;
        seqtopk_candidate_keys(call, t, next, call->work.keys);
        call->kernels->collect_keys(call->work.keys, call->rows.experts, t, next, run->low, candidates);
    }
    return -1;
}

/* Collects a run's candidates down to run->low, by `collect` or, if that is NULL, from keys; where they do not all fit,
 * candidates->size ends as -1. Returns the first bad token, or -1. */
static int64_t sweep(const seqtopk_call *call, int64_t first, int64_t last, const seqtopk_run *run,
                     seqtopk_collect_fn *collect, seqtopk_candidates *candidates, int64_t *looked) {
    return !collect ? sweep_keys(call, first, last, run, candidates, looked)
           : candidates->order == candidates->keys
               ? collect_ready(call, first, last, run->low, collect, candidates)
               : seqtopk_collect_bounded(call, first, last, run->low, collect, candidates);
}

/*
 * Where a bound lets in more candidates than fit, or, if this run is the whole sequence, fewer than the budget,
 * another is estimated for a share of candidates between the shares that turned out too small and too large. Each pass
 * costs as much as the first, and the staged way ten times as much: hence up to four passes.
 */
static int64_t collect_estimated(const seqtopk_call *call, int64_t s, int64_t first, int64_t last,
                                 seqtopk_collect_fn *collect, seqtopk_run *run) {
    enum { TURNS = 4 };
    int64_t begin, end, looked = first;
    double share = 1.0, too_little = 0.0, too_much = 0.0;
    seqtopk_call_sequence(call, s, &begin, &end);
    const int is_whole = first == begin && last == end;
    const int64_t budget = seqtopk_call_budget(call, begin, end);
    run->size = -1;
    if (call->lows) {
        seqtopk_candidates candidates = seqtopk_run_candidates(call, s, call->part, first, last);
        run->low = call->lows[s];
        const int64_t bad = sweep(call, first, last, run, collect, &candidates, &looked);
        run->size = candidates.size;
        return bad >= 0 || run->size >= 0 ? bad : seqtopk_run_falls_back(run, SEQTOPK_FALLBACK_SAMPLE);
    }
    for (int turn = 0; turn < TURNS && seqtopk_estimate_bound(call, begin, end, share, &run->low); turn++) {
        seqtopk_candidates candidates = seqtopk_run_candidates(call, s, call->part, first, last);
        const int64_t bad = sweep(call, first, last, run, collect, &candidates, &looked);
        run->size = candidates.size;
        if (bad >= 0 || (run->size >= 0 && !(is_whole && run->size < budget)))
            return bad;
        if (run->size < 0)
            too_much = share;
        else
            too_little = share;
        share = too_much == 0.0     ? 1.5 * share * (double)budget / (double)(run->size + 1)
                : too_little == 0.0 ? 0.5 * share
                                    : sqrt(too_little * too_much);
    }
    return seqtopk_run_falls_back(run, SEQTOPK_FALLBACK_SAMPLE);
}

int64_t seqtopk_sweep_logits_collect(const seqtopk_call *call, int64_t s, int64_t first, int64_t last,
                                     seqtopk_run *run) {
    return collect_estimated(call, s, first, last, collect_logits, run);
}

int64_t seqtopk_sweep_scores_collect(const seqtopk_call *call, int64_t s, int64_t first, int64_t last,
                                     seqtopk_run *run) {
    return collect_estimated(call, s, first, last, collect_scores, run);
}

int64_t seqtopk_sweep_keys_collect(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, seqtopk_run *run) {
    return collect_estimated(call, s, first, last, NULL, run);
}
