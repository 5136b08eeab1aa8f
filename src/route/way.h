/* SPDX-License-Identifier: MIT */
/*
 * The steps of the ways of src/plan/ways.def. A run is those tokens [first, last) of a sequence that one part has.
 *   collect  reads the run's logits and keeps the candidates that may be selected. Returns the first bad token, or -1.
 *            Where the way cannot serve these data, run->size becomes -1 and run->fallback says why.
 *   cut      finds where the sequence is cut, once all of its runs are collected. Returns 0, and sequence->fallback says
 *            why, if the collected candidates do not suffice for that.
 *   list     lists the run's selected pairs from pair `at` on, or only counts them if !list; returns the index after
 *            the last.
 */
#ifndef SEQTOPK_SRC_ROUTE_WAY_H
#define SEQTOPK_SRC_ROUTE_WAY_H

#include "src/route/call.h"

typedef int64_t seqtopk_collect_step(const seqtopk_call *call, int64_t s, int64_t first, int64_t last,
                                     seqtopk_run *run);
typedef int seqtopk_cut_step(const seqtopk_call *call, int64_t s, seqtopk_sequence *sequence);
typedef int64_t seqtopk_list_step(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, int64_t at,
                                  int list);

#define SEQTOPK_WAY(name, steps, instead, kernels, about)                                                              \
    seqtopk_collect_step seqtopk_##name##_collect;                                                                     \
    seqtopk_cut_step seqtopk_##steps##_cut;                                                                            \
    seqtopk_list_step seqtopk_##steps##_list;
#include "src/plan/ways.def"
#undef SEQTOPK_WAY

/* Where this part keeps the candidates of a run. */
seqtopk_candidates seqtopk_run_candidates(const seqtopk_call *call, int64_t s, int32_t part, int64_t first,
                                          int64_t last);

/* The n-th candidate, by token and expert, of those whose key is `key`; there are at least n >= 1. Candidates of all runs
 * of a sequence, as they were collected; or of tokens [first, last), whose keys are made anew. */
seqtopk_cut seqtopk_find_collected(const seqtopk_call *call, int64_t s, float key, int64_t n);
seqtopk_cut seqtopk_find_staged(const seqtopk_call *call, int64_t first, int64_t last, float key, int64_t n);

/* Whether the collected scores of a sequence are all that its weights need. */
int seqtopk_has_keys(const seqtopk_call *call, int32_t way);

/* Estimates from a sample of rows the bound down to which candidates of sequence [first, last) need be collected, in
 * *low. share: 1; 2 lets in about twice as many candidates, and so on. Returns 0 if the sample gives no bound. */
int seqtopk_estimate_bound(const seqtopk_call *call, int64_t first, int64_t last, double share, float *low);

/* Of rows [first, last), the candidates down to `low`, as op collect_logits. */
typedef int64_t seqtopk_collect_fn(const seqtopk_call *call, int64_t first, int64_t last, float low,
                                   seqtopk_candidates *candidates);

/* sweep.c: all candidates of a run so, with the bounds on a token's experts applied while they are in the cache. */
int64_t seqtopk_collect_bounded(const seqtopk_call *call, int64_t first, int64_t last, float low,
                                seqtopk_collect_fn *collect, seqtopk_candidates *candidates);

/* Its way cannot serve the run. */
static inline int64_t seqtopk_run_falls_back(seqtopk_run *run, seqtopk_fallback why) {
    run->size = -1;
    run->fallback = (int16_t)why;
    return -1;
}

#endif
