/* SPDX-License-Identifier: MIT */
/* The passes of floor.h, compiled once for each instruction set over its vec.h, for the command only. */
#include SEQTOPK_VEC_H

#include "arch/common/lanes.h"
#include "arch/common/name.h"
#include "floor.h"

/* ------------------------------------------------------------------ scores -- */

/* 1 / d and sqrt(d) to the last bits, for normal d: without a division, which takes as long as sixteen other
 * instructions, where there is an estimate good to 14 bits. */
#if VEC_LANES == 16
static inline vec reciprocal(vec d) {
    const vec y = _mm512_rcp14_ps(d);
    return vec_fma(y, _mm512_fnmadd_ps(d, y, vec_set1(1.0f)), y);
}

static inline vec square_root(vec d) {
    const vec y = _mm512_rsqrt14_ps(d), root = vec_mul(d, y);
    return vec_fma(_mm512_fnmadd_ps(root, y, vec_set1(1.0f)), vec_mul(root, vec_set1(0.5f)), root);
}
#else
static inline vec reciprocal(vec d) { return vec_div(vec_set1(1.0f), d); }
static inline vec square_root(vec d) { return vec_sqrt(d); }
#endif

/* Of n vectors at once: see exp_full_of. Below -80 it is as at -80, which no bias can tell from 0. */
static inline __attribute__((always_inline)) void floor_sigmoid_of(vec *x, const int n) {
    for (int i = 0; i < n; i++)
        x[i] = vec_min(vec_sub(vec_set1(0.0f), x[i]), vec_set1(80.0f));
    for (int i = 0; i < n; i++)
        x[i] = exp_term(x[i]);
    for (int i = 0; i < n; i++)
        x[i] = reciprocal(vec_add(x[i], vec_set1(1.0f)));
}

/* sqrt(max(x, 0) + log(1 + e)), e = exp(-|x|), with log(1 + e) / e a polynomial good to 2.4e-7 (Chebyshev, on [0, 1]), of
 * which the root leaves a half. */
static inline __attribute__((always_inline)) void floor_sqrtsoftplus_of(vec *x, const int n) {
    static const float terms[] = {0x1.634b44p-5f, -0x1.b4f3e4p-4f, 0x1.69fe7ep-3f, -0x1.f527bcp-3f,
                                  0x1.54b26cp-2f, -0x1.fff878p-2f, 0x1.fffff8p-1f};
    const vec zero = vec_set1(0.0f);
    vec e[SCORE_VECS], p[SCORE_VECS];
    for (int i = 0; i < n; i++)
        e[i] = exp_term(vec_min(x[i], vec_sub(zero, x[i])));
    for (int i = 0; i < n; i++)
        p[i] = vec_set1(-0x1.112b9cp-7f);
#pragma GCC unroll 8
    for (int t = 0; t < (int)(sizeof terms / sizeof *terms); t++)
        for (int i = 0; i < n; i++)
            p[i] = vec_fma(p[i], e[i], vec_set1(terms[t]));
    for (int i = 0; i < n; i++)
        x[i] = square_root(vec_fma(p[i], e[i], vec_max(x[i], zero)));
}

static inline __attribute__((always_inline)) void floor_scores_of(const int32_t score, vec *x, const int n) {
    if (score == SEQTOPK_SCORE_SIGMOID)
        floor_sigmoid_of(x, n);
    else if (score == SEQTOPK_SCORE_SQRTSOFTPLUS)
        floor_sqrtsoftplus_of(x, n);
    else if (score == SEQTOPK_SCORE_SOFTMAX) /* but for the row's divisor, which groups of one row share */
        for (int i = 0; i < n; i++)
            x[i] = exp_term(x[i]);
}

/* ---------------------------------------------------------------- maxima -- */

/* The best of each lane, and the second best where that is asked for. */
typedef struct floor_best {
    vec first, second;
} floor_best;

static inline __attribute__((always_inline)) void best_start(floor_best *best) {
    best->first = best->second = vec_set1(-INFINITY);
}

static inline __attribute__((always_inline)) void best_take(floor_best *best, vec key, const int two) {
    if (two)
        best->second = vec_max(best->second, vec_min(best->first, key));
    best->first = vec_max(best->first, key);
}

static inline __attribute__((always_inline)) floor_best best_of(floor_best a, floor_best b, const int two) {
    floor_best best = {vec_max(a.first, b.first), a.second};
    if (two)
        best.second = vec_max(vec_max(a.second, b.second), vec_min(a.first, b.first));
    return best;
}

/* Of lanes `stride` apart one is kept of each of a and b: a's where the bit is 0 in the lane's number. */
static inline __attribute__((always_inline)) void halve(vec a, vec b, const int level, vec *x, vec *y) {
    static const int32_t low[4][16] = {{-1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0},
                                       {-1, -1, 0, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1, -1, 0, 0},
                                       {-1, -1, -1, -1, 0, 0, 0, 0, -1, -1, -1, -1, 0, 0, 0, 0},
                                       {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0}};
    *x = vec_blend(low[level], a, b);
    *y = vec_across(vec_blend(low[level], b, a), 1 << level);
}

/* Lane i of the result is over all lanes of best[i]: half the work of doing them one by one. */
static inline __attribute__((always_inline)) floor_best best_across(floor_best *best, const int two) {
#pragma GCC unroll 4
    for (int level = 0; 1 << level < VEC_LANES; level++)
#pragma GCC unroll 8
        for (int i = 0; i < VEC_LANES >> (level + 1); i++) {
            floor_best a, b;
            a.second = b.second = best[2 * i].second;
            halve(best[2 * i].first, best[2 * i + 1].first, level, &a.first, &b.first);
            if (two)
                halve(best[2 * i].second, best[2 * i + 1].second, level, &a.second, &b.second);
            best[i] = best_of(a, b, two);
        }
    return best[0];
}

/* Over all lanes of one. */
static inline __attribute__((always_inline)) floor_best best_across_one(floor_best best, const int two) {
#pragma GCC unroll 4
    for (int stride = VEC_LANES / 2; stride > 0; stride /= 2) {
        const floor_best other = {vec_across(best.first, stride), two ? vec_across(best.second, stride) : best.second};
        best = best_of(best, other, two);
    }
    return best;
}

/* Of the first n segments of `best` the maxima or sums go to `to`. */
static inline __attribute__((always_inline)) void best_store(floor_best *best, int n, float *to, const int two,
                                                             const int32_t score) {
    for (int i = n; i < VEC_LANES && n > 1; i++)
        best_start(best + i);
    floor_best all = n == 1 ? best_across_one(best[0], two) : best_across(best, two);
    vec sum = all.first;
    if (two) {
        floor_scores_of(score, &all.first, 1);
        floor_scores_of(score, &all.second, 1);
        sum = vec_add(all.first, all.second);
    }
    if (n == VEC_LANES)
        vec_store(to, sum);
    else
        vec_store_first(to, sum, n);
}

/* Segments in step, where they are made of scores and where they are not. */
enum { SCORED_STEP = VEC_SCORE_GROUPS, PLAIN_STEP = VEC_SWEEP_ROWS };
_Static_assert(VEC_LANES % SCORED_STEP == 0 && VEC_LANES % PLAIN_STEP == 0, "steps fill a vector");
_Static_assert((int)PLAIN_STEP <= (int)SEQTOPK_FLOOR_ROWS, "there is work space for a step");

#define ROWS_UNIT "src/cli/floor.inc"
#include "arch/common/each_dtype.inc"
