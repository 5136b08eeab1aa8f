/* SPDX-License-Identifier: MIT */
/*
 * From a bound on keys, s(x) + b >= low, to limits on logits, expert by expert: x >= s^-1(low - b). On the safe side of all
 * roundings, the scores' own among them: a limit may let in more, never less.
 */
#ifndef SEQTOPK_ARCH_COMMON_INVERSE_H
#define SEQTOPK_ARCH_COMMON_INVERSE_H

#include "arch/common/lanes.h"

#include <seqtopk/seqtopk.h>

static inline vec log_of(vec x) {
    vec shift, rest = log_parts(x, &shift);
    return vec_add(shift, rest);
}

/* The logit whose score is s > 0; for softmax the log-probability. Within 2^-16 of it or of its size. */
static inline vec inverse_score(int32_t score, vec s) {
    const vec one = vec_set1(1.0f);
    switch ((seqtopk_score)score) {
    case SEQTOPK_SCORE_SOFTMAX: return log_of(s);
    case SEQTOPK_SCORE_SIGMOID: return log_of(vec_div(s, vec_sub(one, s)));
    case SEQTOPK_SCORE_SQRTSOFTPLUS: { /* log(exp(s^2) - 1) */
        const vec y = vec_min(vec_mul(s, s), vec_set1(FLT_MAX)), near = vec_set1(0.01f), far = vec_set1(20.0f);
        const vec middle = log_of(vec_sub(exp_full(vec_min(vec_max(y, near), far)), one));
        const vec low = vec_fma(y, vec_set1(0.5f), log_of(vec_max(y, vec_set1(1e-37f))));
        return vec_if_lt(y, near, low, vec_if_lt(y, far, middle, y));
    }
    case SEQTOPK_SCORE_LOGITS: break;
    }
    return s;
}

/* limits [E, up to a multiple of 16]: +inf beyond E. For softmax of log-probabilities. |low| <= 1e30. */
static inline void find_limits(int32_t score, float low, const float *bias, int32_t experts, float *limits) {
    const vec never = vec_set1(INFINITY), always = vec_set1(-FLT_MAX), lows = vec_set1(low), one = vec_set1(1.0f);
    for (int32_t e = 0; e < (experts + LANES - 1) / LANES * LANES; e += VEC_LANES) {
        const int32_t left = experts - e < 0 ? 0 : experts - e < VEC_LANES ? experts - e : VEC_LANES;
        const vec b = vec_load_first(bias + (left ? e : 0), left), t = vec_sub(lows, b);
        const vec size = vec_add(vec_add(vec_abs(lows), vec_abs(b)), vec_abs(t));
        vec limit = vec_sub(t, vec_mul(size, vec_set1(0x1p-20f)));
        if (score != SEQTOPK_SCORE_LOGITS) {
            const vec least = vec_set1(1e-18f); /* smaller scores are not looked into */
            const vec x = inverse_score(score, vec_max(limit, least));
            const vec margin = vec_mul(vec_add(vec_abs(x), one), vec_set1(0x1p-14f));
            vec lower = vec_if_lt(limit, least, always, vec_sub(x, margin));
            if (score != SEQTOPK_SCORE_SQRTSOFTPLUS) {
                /* Next to 1 the margin is taken before the inverse, whose slope has no bound there. */
                const vec near = vec_set1(1.0f - 0x1p-18f);
                const vec top = inverse_score(score, near);
                lower = vec_if_lt(limit, near, lower, vec_sub(top, one));
                lower = vec_if_lt(one, limit, never, lower);
            }
            limit = lower;
        }
        limit = vec_max(limit, always);
        vec_store(limits + e, vec_if_lt(b, always, never, limit)); /* -inf beyond E, too */
    }
}

#endif
