/* SPDX-License-Identifier: MIT */
/*
 * Four lanes in GNU C's vectors, for any processor; with SSE2 some of its instructions. arch/common/lanes.h says what each
 * name means.
 */
#ifndef SEQTOPK_ARCH_REF_VEC_H
#define SEQTOPK_ARCH_REF_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define VEC_LANES 4
#define VEC_SWEEP_ROWS 2
typedef float vec __attribute__((vector_size(16)));
typedef int32_t vec_ints __attribute__((vector_size(16)));
typedef uint32_t vec_bits __attribute__((vector_size(16)));

static inline vec vec_set1(float x) { return (vec){x, x, x, x}; }

static inline vec vec_load(const float *p) {
    vec a;
    memcpy(&a, p, sizeof a);
    return a;
}

static inline void vec_store(float *p, vec a) { memcpy(p, &a, sizeof a); }
static inline vec vec_add(vec a, vec b) { return a + b; }
static inline vec vec_sub(vec a, vec b) { return a - b; }
static inline vec vec_mul(vec a, vec b) { return a * b; }
static inline vec vec_div(vec a, vec b) { return a / b; }

/* a where the mask is -1, b where it is 0. */
static inline vec vec_choose(vec_ints mask, vec a, vec b) {
    return (vec)((mask & (vec_ints)a) | (~mask & (vec_ints)b));
}

#ifdef __SSE2__
static inline vec vec_sqrt(vec a) { return (vec)_mm_sqrt_ps((__m128)a); }
static inline vec vec_max(vec a, vec b) { return (vec)_mm_max_ps((__m128)a, (__m128)b); }
static inline vec vec_min(vec a, vec b) { return (vec)_mm_min_ps((__m128)a, (__m128)b); }
static inline uint32_t vec_signs(vec_ints a) { return (uint32_t)_mm_movemask_ps((__m128)a); }
#else
static inline vec vec_sqrt(vec a) {
    return (vec){__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]), __builtin_sqrtf(a[3])};
}
static inline vec vec_max(vec a, vec b) { return vec_choose(a > b, a, b); }
static inline vec vec_min(vec a, vec b) { return vec_choose(a < b, a, b); }
static inline uint32_t vec_signs(vec_ints a) { return (uint32_t)((a[0] & 1) | (a[1] & 2) | (a[2] & 4) | (a[3] & 8)); }
#endif

#ifdef __FP_FAST_FMAF
static inline vec vec_fma(vec a, vec b, vec c) {
    return (vec){__builtin_fmaf(a[0], b[0], c[0]), __builtin_fmaf(a[1], b[1], c[1]), __builtin_fmaf(a[2], b[2], c[2]),
                 __builtin_fmaf(a[3], b[3], c[3])};
}
#else
/*
 * Where no instruction does it: in double the product is exact, and the sum rounded to so many bits that rounding it once
 * more, to float, gives what one rounding does; unless it seems to be just between two floats, where only what the sum lost
 * can tell, or the result is subnormal and has other neighbours. Then the sum's error (Knuth's two-sum) makes it odd,
 * towards what is missing, and an odd number is rounded as the exact sum (Boldo and Melquiond 2008). The error of an
 * infinite or undefined sum is undefined, and they stay as they are.
 */
typedef double vec_doubles __attribute__((vector_size(16)));
typedef uint64_t vec_longs __attribute__((vector_size(16)));

static inline vec_doubles vec_odd_sum(vec_doubles product, vec_doubles c) {
    const vec_doubles sum = product + c, back = sum - product, zero = {0.0, 0.0};
    const vec_doubles error = (product - (sum - back)) + (c - back);
    const vec_longs inexact = (vec_longs)(error < zero) | (vec_longs)(error > zero);
    const vec_longs even = inexact & ~(vec_longs)sum & 1, against = ((vec_longs)error ^ (vec_longs)sum) >> 63;
    return (vec_doubles)((vec_longs)sum + even - ((even & against) << 1));
}

#ifdef __SSE2__
static inline vec_doubles vec_first_two(vec a) { return (vec_doubles)_mm_cvtps_pd((__m128)a); }
static inline vec_doubles vec_last_two(vec a) { return (vec_doubles)_mm_cvtps_pd(_mm_movehl_ps((__m128)a, (__m128)a)); }
static inline vec vec_of_doubles(vec_doubles first, vec_doubles last) {
    return (vec)_mm_movelh_ps(_mm_cvtpd_ps((__m128d)first), _mm_cvtpd_ps((__m128d)last));
}
static inline vec_ints vec_low_words(vec_doubles first, vec_doubles last) {
    return (vec_ints)_mm_shuffle_ps((__m128)first, (__m128)last, _MM_SHUFFLE(2, 0, 2, 0));
}
static inline vec_ints vec_high_words(vec_doubles first, vec_doubles last) {
    return (vec_ints)_mm_shuffle_ps((__m128)first, (__m128)last, _MM_SHUFFLE(3, 1, 3, 1));
}
#else
static inline vec_doubles vec_first_two(vec a) { return (vec_doubles){a[0], a[1]}; }
static inline vec_doubles vec_last_two(vec a) { return (vec_doubles){a[2], a[3]}; }
static inline vec vec_of_doubles(vec_doubles first, vec_doubles last) {
    return (vec){(float)first[0], (float)first[1], (float)last[0], (float)last[1]};
}
static inline vec_ints vec_low_words(vec_doubles first, vec_doubles last) {
    const vec_longs a = (vec_longs)first, b = (vec_longs)last;
    return (vec_ints)(vec_bits){(uint32_t)a[0], (uint32_t)a[1], (uint32_t)b[0], (uint32_t)b[1]};
}
static inline vec_ints vec_high_words(vec_doubles first, vec_doubles last) {
    const vec_longs a = (vec_longs)first >> 32, b = (vec_longs)last >> 32;
    return (vec_ints)(vec_bits){(uint32_t)a[0], (uint32_t)a[1], (uint32_t)b[0], (uint32_t)b[1]};
}
#endif

/* Lanes of -1 where a sum seems to be just between two floats. */
static inline vec_ints vec_between(vec_doubles first, vec_doubles last) {
    return (vec_low_words(first, last) & 0x1fffffff) == 0x10000000;
}

/* The same where it is below the least normal float, but not 0. */
static inline vec_ints vec_subnormal(vec_doubles first, vec_doubles last) {
    const vec_ints size = vec_high_words(first, last) & 0x7fffffff;
    return (size < 0x38100000) & (size > 0);
}

#define VEC_FMA_ASKS
static inline vec vec_fma(vec a, vec b, vec c) {
    const vec_doubles p = vec_first_two(a) * vec_first_two(b), q = vec_last_two(a) * vec_last_two(b);
    const vec_doubles r = vec_first_two(c), s = vec_last_two(c), first = p + r, last = q + s;
    if (__builtin_expect(vec_signs(vec_between(first, last) | vec_subnormal(first, last)) != 0, 0))
        return vec_of_doubles(vec_odd_sum(p, r), vec_odd_sum(q, s));
    return vec_of_doubles(first, last);
}

/* Whether a step is in doubt is asked once, after the last: then all are done again, one by one. */
static inline vec vec_polynomial(vec f, const float *terms, int n) {
    const vec_doubles f_first = vec_first_two(f), f_last = vec_last_two(f);
    vec_ints doubtful = {0, 0, 0, 0};
    vec p = vec_set1(terms[0]);
#pragma GCC unroll 8
    for (int t = 1; t < n; t++) {
        const vec_doubles term = {(double)terms[t], (double)terms[t]};
        const vec_doubles first = vec_first_two(p) * f_first + term, last = vec_last_two(p) * f_last + term;
        doubtful |= vec_between(first, last);
        p = vec_of_doubles(first, last);
    }
    if (__builtin_expect(vec_signs(doubtful) != 0, 0)) {
        p = vec_set1(terms[0]);
        for (int t = 1; t < n; t++)
            p = vec_fma(p, f, vec_set1(terms[t]));
    }
    return p;
}
#define VEC_POLYNOMIAL vec_polynomial

/* In double n is rounded once, and the difference is exact: no bit of a product is below 2^-48 of it. */
static inline vec vec_reduce(vec x, float factor, vec *z) {
    const vec_doubles by = {(double)factor, (double)factor}, round = {0x1.8p52, 0x1.8p52};
    const vec_doubles p = vec_first_two(x) * by, q = vec_last_two(x) * by, first = p + round, last = q + round;
    *z = (vec)vec_low_words(first, last);
    return vec_of_doubles(p - (first - round), q - (last - round));
}
#define VEC_REDUCE vec_reduce
#endif

static inline vec vec_fms(vec a, vec b, vec c) { return vec_fma(a, b, -c); }
static inline vec vec_if_lt(vec a, vec b, vec x, vec y) { return vec_choose(a < b, x, y); }
static inline uint32_t vec_mask_gt(vec a, vec b) { return vec_signs(a > b); }
static inline uint32_t vec_mask_ge(vec a, vec b) { return vec_signs(a >= b); }
static inline uint32_t vec_mask_eq(vec a, vec b) { return vec_signs(a == b); }
static inline uint32_t vec_mask_nlt(vec a, vec b) { return vec_signs(~(a < b)); }
static inline int vec_any_not_lt(vec a, vec b) { return (int)vec_mask_nlt(a, b); }

static inline uint16_t vec_bits16_nlt(const vec *x, vec limit) {
    return (uint16_t)(vec_mask_nlt(x[0], limit) | vec_mask_nlt(x[1], limit) << 4 | vec_mask_nlt(x[2], limit) << 8 |
                      vec_mask_nlt(x[3], limit) << 12);
}

static inline vec vec_add_exponent(vec p, vec z) { return (vec)((vec_bits)p + ((vec_bits)z << 23)); }

static inline vec vec_split(vec x, vec *k) {
    const vec_ints exponent = (vec_ints)((vec_bits)x - 0x3f3504f3u) >> 23;
    *k = __builtin_convertvector(exponent, vec);
    return (vec)((vec_bits)x - ((vec_bits)exponent << 23));
}

static inline float vec_sum16(const vec *v) {
    const vec four = (v[0] + v[2]) + (v[1] + v[3]);
    return (four[0] + four[2]) + (four[1] + four[3]);
}

#ifdef __SSE2__
static inline vec vec_load_u16(const uint16_t *p) {
    return (vec)_mm_unpacklo_epi16(_mm_loadl_epi64((const __m128i *)(const void *)p), _mm_setzero_si128());
}
#else
static inline vec vec_load_u16(const uint16_t *p) { return (vec)(vec_bits){p[0], p[1], p[2], p[3]}; }
#endif
static inline vec vec_of_raw_f32(vec a) { return a; }
static inline vec vec_of_raw_bf16(vec a) { return (vec)((vec_bits)a << 16); }

/* By a product that is exact, of subnormal numbers too. A signalling NaN becomes quiet, as conversion instructions have it. */
static inline vec vec_of_raw_f16(vec a) {
    const vec_bits half = (vec_bits)a, size = (half & 0x7fffu) << 13;
    const vec_bits finite = (vec_bits)((vec)size * vec_set1(0x1p112f));
    const vec_bits special = (vec_bits)(size >= 0x0f800000u), undefined = (vec_bits)(size > 0x0f800000u);
    return (vec)((half & 0x8000u) << 16 | finite | (special & 0x7f800000u) | (undefined & 0x400000u));
}

static inline vec vec_load_f32(const float *p, int i) { return vec_load(p + i); }
static inline vec vec_load_bf16(const uint16_t *p, int i) { return vec_of_raw_bf16(vec_load_u16(p + i)); }
static inline vec vec_load_f16(const uint16_t *p, int i) { return vec_of_raw_f16(vec_load_u16(p + i)); }

static inline vec vec_load_first(const float *p, int n) {
    vec a = vec_set1(-INFINITY);
    memcpy(&a, p, (size_t)n * sizeof *p);
    return a;
}

static inline void vec_store_first(float *p, vec a, int n) { memcpy(p, &a, (size_t)n * sizeof *p); }
static inline void vec_store_bits(int32_t *p, vec a) { memcpy(p, &a, sizeof a); }

static inline void vec_store_u16(uint16_t *p, vec a) {
    for (int i = 0; i < 4; i++)
        p[i] = (uint16_t)((vec_bits)a)[i];
}

static inline vec vec_abs(vec a) { return (vec)((vec_bits)a & 0x7fffffffu); }
static inline uint64_t vec_first_bit(uint64_t bits) { return bits ? (uint64_t)__builtin_ctzll(bits) : 64; }

/* The lanes of the mask in front, the others after them. */
static inline vec vec_compress(vec a, uint32_t mask) {
    static const uint8_t order[16][4] = {
        {0, 1, 2, 3}, {0, 1, 2, 3}, {1, 0, 2, 3}, {0, 1, 2, 3}, {2, 0, 1, 3}, {0, 2, 1, 3}, {1, 2, 0, 3}, {0, 1, 2, 3},
        {3, 0, 1, 2}, {0, 3, 1, 2}, {1, 3, 0, 2}, {0, 1, 3, 2}, {2, 3, 0, 1}, {0, 2, 3, 1}, {1, 2, 3, 0}, {0, 1, 2, 3}};
    float lanes[4];
    memcpy(lanes, &a, sizeof a);
    const uint8_t *from = order[mask & 15];
    return (vec){lanes[from[0]], lanes[from[1]], lanes[from[2]], lanes[from[3]]};
}

static inline vec vec_across(vec a, int stride) {
    return stride == 1 ? (vec){a[1], a[0], a[3], a[2]} : (vec){a[2], a[3], a[0], a[1]};
}

static inline vec vec_blend(const int32_t *mask, vec a, vec b) {
    vec_ints lanes;
    memcpy(&lanes, mask, sizeof lanes);
    return vec_choose(lanes, a, b);
}

static inline vec vec_raise(vec a, uint32_t lanes) {
    const vec_bits bit = {1, 2, 4, 8}, all = {lanes, lanes, lanes, lanes};
    return vec_choose((all & bit) != 0, vec_set1(INFINITY), a);
}

#endif
