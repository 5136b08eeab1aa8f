/* SPDX-License-Identifier: MIT */
/*
 * A long sequence: one pass over its rows collects the candidates down to a bound that a sample of rows gives
 * (estimate.c). The bound only decides how many are collected: with too few or too many of them, another bound is
 * estimated.
 */
#include "src/route/way.h"

#include <math.h>

/*
 * Collects a run's candidates down to run->low; where they do not all fit, candidates->size ends as -1. The rows
 * before token *looked have their log-sum-exp from an earlier pass; *looked moves on. Returns the first bad token, or
 * -1.
 */
typedef int64_t sweep_fn(const seqtopk_call *call, int64_t first, int64_t last, const seqtopk_run *run,
                         seqtopk_candidates *candidates, int64_t *looked);

static int64_t sweep_logits(const seqtopk_call *call, int64_t first, int64_t last, const seqtopk_run *run,
                            seqtopk_candidates *candidates, int64_t *looked) {
    const seqtopk_plan *plan = call->plan;
    const int64_t bad =
        call->kernels->collect_logits(&call->rows, first, last, run->low, plan->min_experts, candidates);
    (void)looked;
    if (bad < 0 && candidates->size > 0 && candidates->order != candidates->keys)
        call->kernels->bound_candidates(candidates, first, last, plan->min_experts, plan->max_experts);
    return bad;
}

static int64_t sweep_scores(const seqtopk_call *call, int64_t first, int64_t last, const seqtopk_run *run,
                            seqtopk_candidates *candidates, int64_t *looked) {
    const seqtopk_plan *plan = call->plan;
    const seqtopk_scoring how = seqtopk_scoring_of(call);
    const int64_t bad =
        call->kernels->collect_scores(&call->rows, first, last, run->low, plan->min_experts, &how, candidates);
    (void)looked;
    if (bad < 0 && candidates->size > 0 && candidates->order != candidates->keys)
        call->kernels->bound_candidates(candidates, first, last, plan->min_experts, plan->max_experts);
    return bad;
}

static int64_t sweep_keys(const seqtopk_call *call, int64_t first, int64_t last, const seqtopk_run *run,
                          seqtopk_candidates *candidates, int64_t *looked) {
    const int64_t block = seqtopk_call_block(call);
    for (int64_t t = first, next; t < last && candidates->size >= 0; t = next) {
        next = seqtopk_block_end(t, last, block);
        const int64_t bad = next > *looked ? call->kernels->lse(&call->rows, t, next) : -1;
        if (bad >= 0)
            return bad;
        *looked = next > *looked ? next : *looked;
        seqtopk_candidate_keys(call, t, next, call->work.keys);
        call->kernels->collect_keys(call->work.keys, call->rows.experts, t, next, run->low, candidates);
    }
    return -1;
}

/*
 * Where a bound lets in more candidates than fit, or, if this run is the whole sequence, fewer than the budget,
 * another is estimated for a share of candidates between the shares that turned out too small and too large. Each pass
 * costs as much as the first, and the staged way ten times as much: hence up to four passes.
 */
static int64_t collect_estimated(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, sweep_fn *sweep,
                                 seqtopk_run *run) {
    enum { TURNS = 4 };
    int64_t begin, end, looked = first;
    double share = 1.0, too_little = 0.0, too_much = 0.0;
    seqtopk_call_sequence(call, s, &begin, &end);
    const int is_whole = first == begin && last == end;
    const int64_t budget = seqtopk_call_budget(call, begin, end);
    run->size = -1;
    for (int turn = 0; turn < TURNS && seqtopk_estimate_bound(call, begin, end, share, &run->low); turn++) {
        seqtopk_candidates candidates = seqtopk_run_candidates(call, s, call->part, first, last);
        const int64_t bad = sweep(call, first, last, run, &candidates, &looked);
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
    return collect_estimated(call, s, first, last, sweep_logits, run);
}

int64_t seqtopk_sweep_scores_collect(const seqtopk_call *call, int64_t s, int64_t first, int64_t last,
                                     seqtopk_run *run) {
    return collect_estimated(call, s, first, last, sweep_scores, run);
}

int64_t seqtopk_sweep_keys_collect(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, seqtopk_run *run) {
    return collect_estimated(call, s, first, last, sweep_keys, run);
}
