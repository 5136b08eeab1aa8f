/* SPDX-License-Identifier: MIT */
/*
 * An estimated lower bound on the key where a sequence will be cut, from a sample of its rows. Exactness never rests on
 * it.
 *
 * Of n sampled rows, n * K candidates are expected above the cut. Were rows alike, their true number would vary with a
 * standard deviation of sqrt(n * K) (a Poisson count). The bound is the sample's key at place n * K + 3 * sqrt(n * K) + 2,
 * that is 3 standard deviations farther down, and 2 places for the smallest samples: the true cut is below it for about
 * one sequence in a thousand, which is then swept again.
 */
#include "src/route/way.h"

#include <math.h>

enum { LEAST_ROWS = 8, MOST_ROWS_BY_SHARE = 2048, MOST_ROWS = 128 };

/* How many rows are sampled: one in kernels->sample, no more than fit the work space, at most a quarter. */
static int64_t sampled_rows(const seqtopk_call *call, int64_t tokens) {
    const int64_t share = call->kernels->sample, most = MOST_ROWS_BY_SHARE / share;
    int64_t n = tokens / share;
    n = n < LEAST_ROWS ? LEAST_ROWS : n > most ? most : n;
    n = n > call->plan->work_rows ? call->plan->work_rows : n;
    return n > tokens / 4 ? tokens / 4 : n;
}

/* Which of the sample's keys is the bound: its place from the largest on, for `routed` unmasked rows. */
static double place_in_sample(const seqtopk_call *call, int64_t routed, double share) {
    const double expected = (double)routed * call->plan->desc.top_k;
    const double eligible = (double)routed * call->plan->max_experts;
    double place = share * (expected + 3.0 * sqrt(expected) + 2.0);
    /* With max_experts few candidates beyond the budget are eligible, and counts vary less: 0.6 of those are enough. */
    if (share == 1.0 && place > expected + 0.6 * (eligible - expected))
        place = expected + 0.6 * (eligible - expected);
    return place > eligible ? eligible : place;
}

int seqtopk_estimate_bound(const seqtopk_call *call, int64_t first, int64_t last, double share, float *low) {
    const int64_t tokens = last - first, n = sampled_rows(call, tokens);
    if (n < 1)
        return 0;
    if (seqtopk_leaves_upto(&call->plan->desc, call->plan->desc.top_k)) { /* all that is left counts */
        *low = -1e30f;
        return 1;
    }
    float shift[MOST_ROWS], lse[MOST_ROWS];
    uint8_t mask[MOST_ROWS];
    const int64_t step = tokens / n, from = first + step / 2;
    seqtopk_call sample = *call; /* the same call with these rows alone: groups and bounds apply */
    seqtopk_rows *rows = &sample.rows;
    if (call->places) {
        sample.places += from;
        sample.place_step = step;
    } else {
        rows->logits = (const char *)rows->logits + from * rows->stride;
        rows->stride *= step;
    }
    rows->shift = shift;
    rows->lse = lse;
    rows->token_mask = NULL;
    int64_t routed = n;
    if (call->in.token_mask) {
        for (int64_t i = 0; i < n; i++)
            mask[i] = call->in.token_mask[from + i * step];
        rows->token_mask = mask;
        routed = seqtopk_unmasked(mask, 0, n);
    }
    sample.in.token_mask = rows->token_mask;
    if (seqtopk_rows_lse(&sample, 0, n) >= 0)
        return 0;
    seqtopk_candidate_keys(&sample, 0, n, call->work.keys);
    const double place = place_in_sample(call, routed, share);
    if (place < 1.0)
        return 0;
    *low = call->kernels->select_keys(call->work.keys, n * call->rows.experts, (int64_t)place, call->work.spare).key;
    return fabsf(*low) <= 1e30f;
}
