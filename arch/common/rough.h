/* SPDX-License-Identifier: MIT */
/*
 * Scores to some three digits, at a third of their price. They decide no bit: whoever compares rough keys keeps all that
 * lie within the error of what decides, and makes the exact scores of those few. Included after lanes.h.
 */
#ifndef SEQTOPK_ARCH_COMMON_ROUGH_H
#define SEQTOPK_ARCH_COMMON_ROUGH_H

#include "arch/common/few.h"

#include <seqtopk/seqtopk.h>

/* An ISA may have a reciprocal and a square root to some bits: both relative to VEC_ROUGH_ERROR. */
#ifndef VEC_ROUGH_ERROR
#define VEC_ROUGH_ERROR 0x1p-22f
#define VEC_RECIPROCAL(x) vec_div(vec_set1(1.0f), x)
#define VEC_ROOT(x) vec_sqrt(x)
#endif

/* How far a rough score is from the exact one, relative to it, at the most: exp_rough's 7.5e-5 and log1p's 5.7e-5, what
 * the ISA's own functions add, and roundings. For softmax: of a sum's terms, x up to 88, over the sum. */
#define ROUGH_ERROR (1.5e-4f + 2.0f * VEC_ROUGH_ERROR)
#define ROUGH_ERROR_SOFTMAX 4e-5f
/* And absolutely, where scores are next to nothing. */
#define ROUGH_LEAST 1e-14f

/* exp(x) of n vectors, for x <= 87; from -87 down it is exp(-87). */
static inline __attribute__((always_inline)) void exp_rough_of(vec *x, const int n) {
    vec z[SCORE_VECS], p[SCORE_VECS];
    for (int i = 0; i < n; i++)
        x[i] = vec_max(x[i], vec_set1(-87.0f));
    for (int i = 0; i < n; i++)
        z[i] = vec_fma(x[i], vec_set1(LOG2_E), vec_set1(ROUND_TO_INT));
    for (int i = 0; i < n; i++)
        x[i] = vec_fms(x[i], vec_set1(LOG2_E), vec_sub(z[i], vec_set1(ROUND_TO_INT)));
    for (int i = 0; i < n; i++)
        p[i] = vec_fma(x[i], vec_set1(0x1.c3f760p-5f), vec_set1(0x1.f0de1ap-3f));
    for (int i = 0; i < n; i++)
        p[i] = vec_fma(p[i], x[i], vec_set1(0x1.62f31ap-1f));
    for (int i = 0; i < n; i++)
        p[i] = vec_fma(p[i], x[i], vec_set1(0x1.fff692p-1f));
    for (int i = 0; i < n; i++)
        x[i] = vec_add_exponent(p[i], z[i]);
}

/* x [n] become scores. score is a constant where this is called; LOGITS are what they are. */
static inline __attribute__((always_inline)) void rough_scores_of(const int32_t score, vec *x, const int n) {
    const vec zero = vec_set1(0.0f), one = vec_set1(1.0f);
    vec e[SCORE_VECS];
    if (score == SEQTOPK_SCORE_SIGMOID) {
        for (int i = 0; i < n; i++)
            e[i] = vec_min(vec_sub(zero, x[i]), vec_set1(87.0f));
        exp_rough_of(e, n);
        for (int i = 0; i < n; i++)
            x[i] = VEC_RECIPROCAL(vec_add(one, e[i]));
    } else if (score == SEQTOPK_SCORE_SQRTSOFTPLUS) {
        for (int i = 0; i < n; i++)
            e[i] = vec_min(x[i], vec_sub(zero, x[i]));
        exp_rough_of(e, n);
        for (int i = 0; i < n; i++) {
            vec p = vec_fma(e[i], vec_set1(0x1.52b790p-5f), vec_set1(-0x1.426930p-3f));
            p = vec_fma(p, e[i], vec_set1(0x1.39a6f4p-2f));
            p = vec_fma(p, e[i], vec_set1(-0x1.fce7c0p-2f));
            p = vec_fma(p, e[i], vec_set1(0x1.fff890p-1f));
            p = vec_fma(p, e[i], vec_max(x[i], zero));
            x[i] = VEC_ROOT(vec_max(p, vec_set1(1e-30f)));
        }
    }
}

/* A vector of biases, -inf, which excludes, beyond the last. */
static inline vec load_bias(const float *bias, int32_t e, int32_t experts) {
    return experts - e >= VEC_LANES ? vec_load(bias + e) : vec_load_first(bias + e, experts - e);
}

/* The largest bias, without its sign; -inf is none. */
static inline float largest_bias(const float *bias, int32_t experts) {
    vec most = vec_set1(0.0f);
    for (int32_t e = 0; e < experts; e += VEC_LANES) {
        const vec own = load_bias(bias, e, experts);
        most = vec_max(most, vec_if_lt(vec_set1(-INFINITY), own, vec_abs(own), vec_set1(0.0f)));
    }
    return largest_lane(most);
}

/* Whether a bias is NaN or +inf. */
static inline int is_odd_bias(const float *bias, int32_t experts) {
    uint32_t odd = 0;
    for (int32_t e = 0; e < experts; e += VEC_LANES)
        odd |= vec_mask_nlt(load_bias(bias, e, experts), vec_set1(INFINITY));
    return odd != 0;
}

#endif
