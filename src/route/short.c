/* SPDX-License-Identifier: MIT */
/* A sequence of at most one block needs no sample: all of its rows together give the bound on its candidates. */
#include "src/route/way.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Leaves out the masked tokens that a sequence begins and ends with. */
static void trim(const seqtopk_call *call, int64_t *first, int64_t *last) {
    const uint8_t *mask = call->rows.token_mask;
    const int64_t begin = *first, end = *last;
    while (mask && *first < *last && !mask[*first])
        ++*first;
    while (mask && *first < *last && !mask[*last - 1])
        --*last;
    seqtopk_leave_out(call, begin, *first);
    seqtopk_leave_out(call, *last, end);
    memset(call->candidates.counts + begin, 0, (size_t)(*first - begin) * sizeof *call->candidates.counts);
    memset(call->candidates.counts + *last, 0, (size_t)(end - *last) * sizeof *call->candidates.counts);
}

int64_t seqtopk_short_logits_collect(const seqtopk_call *call, int64_t s, int64_t first, int64_t last,
                                     seqtopk_run *run) {
    const int64_t budget = seqtopk_call_budget(call, first, last);
    if (budget < 1)
        return seqtopk_run_falls_back(run, SEQTOPK_FALLBACK_FEW);
    seqtopk_candidates candidates = seqtopk_run_candidates(call, s, call->part, first, last);
    trim(call, &first, &last);
    const int64_t bad = call->kernels->collect_short(&call->rows, first, last, budget, call->kernels->select_keys,
                                                     call->work.spare, &run->low, &candidates);
    run->size = candidates.size;
    return bad < 0 && candidates.size < 0 ? seqtopk_run_falls_back(run, SEQTOPK_FALLBACK_TIES) : bad;
}

int64_t seqtopk_short_keys_collect(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, seqtopk_run *run) {
    const int32_t experts = call->rows.experts;
    const int64_t budget = seqtopk_call_budget(call, first, last), bad = seqtopk_rows_lse(call, first, last);
    if (bad >= 0)
        return bad;
    if (budget < 1)
        return seqtopk_run_falls_back(run, SEQTOPK_FALLBACK_FEW);
    seqtopk_candidates candidates = seqtopk_run_candidates(call, s, call->part, first, last);
    trim(call, &first, &last);
    seqtopk_candidate_keys(call, first, last, call->work.keys);
    run->kth = call->kernels->select_keys(call->work.keys, (last - first) * experts, budget, call->work.spare);
    if (!(fabsf(run->kth.key) <= FLT_MAX))
        return seqtopk_run_falls_back(run, SEQTOPK_FALLBACK_FEW);
    run->low = run->kth.key;
    run->is_cut = 1;
    call->kernels->collect_keys(call->work.keys, experts, first, last, run->low, &candidates);
    run->size = candidates.size;
    return candidates.size < 0 ? seqtopk_run_falls_back(run, SEQTOPK_FALLBACK_TIES) : -1;
}
