/* SPDX-License-Identifier: MIT */
/*
 * A bound that the cut of a sequence is likely to be above, by a sample of its rows. Exactness never rests on it.
 *
 * Of n sampled rows, n * K candidates are expected above the cut. How many really are varies: were rows alike, as the
 * square root of that, sqrt(n * K) (a Poisson count). So the bound is put where 3 standard deviations more are let in,
 * and 2 for the smallest samples: the true cut is below it for about one sequence in a thousand, which then is asked again.
 */
#include "src/route/way.h"

#include <math.h>

enum { LEAST_ROWS = 8, MOST_ROWS_BY_SHARE = 2048, MOST_ROWS = 128 };

/* How many rows are looked at: one in kernels->sample, no more than there is work space for, a quarter at the most. */
static int64_t sampled_rows(const seqtopk_call *call, int64_t tokens) {
    const int64_t share = call->kernels->sample, most = MOST_ROWS_BY_SHARE / share;
    int64_t n = tokens / share;
    n = n < LEAST_ROWS ? LEAST_ROWS : n > most ? most : n;
    n = n > call->plan->work_rows ? call->plan->work_rows : n;
    return n > tokens / 4 ? tokens / 4 : n;
}

/* Which of the sample's keys is taken: the place, from the largest, that `routed` rows and a share make of it. */
static double place_in_sample(const seqtopk_call *call, int64_t routed, double share) {
    const double expected = (double)routed * call->plan->desc.top_k;
    const double eligible = (double)routed * call->plan->max_experts;
    double place = share * (expected + 3.0 * sqrt(expected) + 2.0);
    /* Bounds leave little beyond the budget, and make counts vary less: 0.6 of what is eligible beyond it is enough. */
    if (share == 1.0 && place > expected + 0.6 * (eligible - expected))
        place = expected + 0.6 * (eligible - expected);
    return place > eligible ? eligible : place;
}

int seqtopk_estimate_bound(const seqtopk_call *call, int64_t first, int64_t last, double share, float *low) {
    const int64_t tokens = last - first, n = sampled_rows(call, tokens);
    if (n < 1)
        return 0;
    float shift[MOST_ROWS], lse[MOST_ROWS];
    uint8_t mask[MOST_ROWS];
    const int64_t step = tokens / n, from = first + step / 2;
    seqtopk_call sample = *call; /* the same call of these rows alone, so that keys are as its bounds leave them */
    seqtopk_rows *rows = &sample.rows;
    rows->logits = (const char *)rows->logits + from * rows->stride;
    rows->stride *= step;
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
    if (call->kernels->lse(rows, 0, n) >= 0)
        return 0;
    seqtopk_candidate_keys(&sample, 0, n, call->work.keys);
    const double place = place_in_sample(call, routed, share);
    if (place < 1.0)
        return 0;
    *low = call->kernels->select_keys(call->work.keys, n * call->rows.experts, (int64_t)place, call->work.spare).key;
    return fabsf(*low) <= 1e30f;
}
