/* SPDX-License-Identifier: MIT */
/*
 * The steps of the ways of src/plan/ways.def. A run is what a part of the team has of a sequence: tokens [first, last).
 *   collect  scores the run's rows and keeps what may be selected. Returns the first bad token, or -1. Where the data do
 *            not suit the way, run->size is -1 and run->fallback says why.
 *   cut      where the sequence is cut, once all of its runs were collected. Returns 0, and sequence->fallback says why,
 *            if what was collected does not tell.
 *   list     lists the run's winners from pair `at` on, or only counts them if !list; returns the pair after the last.
 */
#ifndef SEQTOPK_SRC_ROUTE_WAY_H
#define SEQTOPK_SRC_ROUTE_WAY_H

#include "src/route/call.h"

typedef int64_t seqtopk_collect_step(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, seqtopk_run *run);
typedef int seqtopk_cut_step(const seqtopk_call *call, int64_t s, seqtopk_sequence *sequence);
typedef int64_t seqtopk_list_step(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, int64_t at, int list);

#define SEQTOPK_WAY(name, steps, instead, kernels, about)                                                              \
    seqtopk_collect_step seqtopk_##name##_collect;                                                                     \
    seqtopk_cut_step seqtopk_##steps##_cut;                                                                            \
    seqtopk_list_step seqtopk_##steps##_list;
#include "src/plan/ways.def"
#undef SEQTOPK_WAY

/* Where this part keeps the candidates of a run. */
seqtopk_candidates seqtopk_run_candidates(const seqtopk_call *call, int64_t s, int32_t part, int64_t first, int64_t last);

/* The bound down to which the candidates of sequence [first, last) are worth collecting, by a sample of its rows, in *low.
 * share: 1, or how much more or less than that is to be let in. Returns 0 if there is none. */
int seqtopk_estimate_bound(const seqtopk_call *call, int64_t first, int64_t last, double share, float *low);

/* The run does not suit its way. */
static inline int64_t seqtopk_run_falls_back(seqtopk_run *run, seqtopk_fallback why) {
    run->size = -1;
    run->fallback = (int16_t)why;
    return -1;
}

#endif
