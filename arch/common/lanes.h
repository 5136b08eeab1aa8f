/* SPDX-License-Identifier: MIT */
/*
 * The canonical arithmetic: every float that decides a bit of the result is computed here, in this order of operations,
 * on every instruction set. A row is dealt out to 16 virtual lanes (element e to lane e mod 16, ascending; a lane's terms
 * are added 16 at a time, and those sums in turn), and lanes are added in one tree: i + (i + 8), then + 4, + 2, + 1.
 *
 * Included after an ISA's vec.h, which supplies VEC_LANES (a divisor of 16), the type `vec` and:
 *   vec_set1 vec_load vec_store vec_add vec_sub vec_mul vec_div vec_sqrt  as named
 *   vec_fma(a, b, c)       a * b + c, rounded once;  vec_fms(a, b, c)  a * b - c, rounded once
 *   vec_max(a, b)          a > b ? a : b;  vec_min(a, b)  a < b ? a : b     (b if either is NaN)
 *   vec_if_lt(a, b, x, y)  a < b ? x : y
 *   vec_any_not_lt(a, b)   nonzero if in any lane not a < b
 *   vec_add_exponent(p, z) adds the integer in the low bits of z's significand to p's exponent
 *   vec_split(x, &k)       x = m * 2^k for positive normal x, m in [sqrt(1/2), sqrt(2)); returns m
 *   vec_sum16(v)           the tree over v[VECS]
 *   vec_load_f32, vec_load_bf16, vec_load_f16 (p, i)   elements i .. of the row at p, as float
 *   vec_load_first(p, n)   n elements, 0 to VEC_LANES, and nothing beyond them; -inf in the other lanes
 *   vec_store_first(p, a, n)   the first n lanes, 0 to VEC_LANES, and nothing beyond
 *   VEC_SWEEP_ROWS         rows whose sums fit in registers together
 *   VEC_FMA_ASKS           defined where vec_fma branches on its lanes
 * where it has better than what stands here:
 *   VEC_SUMS16, vec_sums16(rows, n, sums)   vec_sum16 of n rows of VECS vectors
 *   VEC_EXP_TERM(x)        exp(x) as add_exp_term adds it, for x <= 88
 *   VEC_POLYNOMIAL(f, terms, n)   terms[0], then n - 1 times the vec_fma of it, f and the next of terms; none may come to
 *                          a subnormal number
 *   VEC_REDUCE(x, y, &z)   x * y - n, rounded once, where n is x * y rounded to an integer, of at most 2^21, as vec_fma
 *                          with ROUND_TO_INT does; n in the low bits of z's significand. x and y are finite
 *   VEC_SCORE_GROUPS       times sixteen columns whose scores are made at once
 *   VEC_MASKED_LOADS, vec_load_upto_f32, _bf16, _f16 (p, n)   vec_load_first for any n > 0, of each dtype
 *   VEC_KEEP(x, least)     *x becomes 0 in lanes below `least`; returns which are not, a VEC_MASK
 *   VEC_SCALE(mask, p, n)  p * 2^n, rounded once, in the lanes of a VEC_MASK, 0 in the others
 *   VEC_DIV_FIRST(a, b, n) vec_div of which the first n lanes are wanted
 *   VEC_LOAD_FEW, VEC_STORE_FEW   vec_load_first, vec_store_first by no wider vector than n, at least 1, needs; what is
 *                          loaded beyond n may be anything
 *   VEC_LOAD_PARTS(p, at, width), VEC_STORE_PARTS(p, at, a, width)   lanes from i * width on are the `width` elements from
 *                          p + at[i] on; width is a constant: 4, 8 or VEC_LANES. Later ones are stored over earlier ones
 *   VEC_KEEP_LANES(a, mask, absent)   a in the lanes of the mask, `absent` in the others
 *   VEC_PARTS_OF_ONE(x, e, n)  x[i] becomes x[i] / (1 + e[i]), rounded as a division is, for e in [0, 1] and x 1 or e
 * and for the kernels that select:
 *   vec_mask_gt, _ge, _eq, _nlt (a, b)   a bit for each lane; _nlt: not less than, true of a NaN
 *   vec_bits16_nlt(x, limit)             the same of the 16 lanes x[VECS]
 *   vec_compress(a, mask)                the lanes of the mask in their order, moved together to the front; anything
 *                                        in the other lanes
 *   vec_load_u16(p), vec_store_bits(p, a)   small integers as lanes of 32 bits
 *   vec_store_u16(p, a)                  the low 16 bits of each lane
 *   vec_of_raw_f32, _bf16, _f16 (a)      floats from lanes whose low bits are elements, the other bits 0
 *   vec_abs(a)                           without the sign
 *   vec_first_bit(bits)                  the lowest bit's number, any number of at least 64 if there is none
 *   vec_across(a, stride)                lanes whose numbers differ in the bit `stride` change places
 *   vec_blend(mask, a, b)               lanes of a where mask[VEC_LANES] is -1, of b where it is 0
 *   vec_raise(a, mask)                   +inf in the lanes of the mask, a in the others
 * and, where rows alone stay in registers (arch/common/one.inc), for vectors of 16 lanes:
 *   VEC_JOIN(a, n, x, mask)              the lanes of the mask in x, in their order, behind the first n lanes of a, n up to 16
 *   vec_count_above(x, keys, n)          how many of keys [n] are above each lane, as an integer; n is even and a constant
 *   vec_mask_ints_lt(a, n)               a bit for each lane whose integer is below n
 *   vec_or_powers(a, mask)               the bits of the integers, below 32, in the lanes of the mask
 *   vec_numbers(n)                       n, n + 1 and so on, as integers
 *   vec_largest_of(x, mask), vec_lane0(x)   the largest of the lanes of the mask, none a NaN; the first lane
 *   vec_keep_bits(a, mask), vec_gather(p, ids, mask)   a, and the elements of p that the ids name, and 0 outside the mask
 * tests/check_vec.def holds each of them to this.
 */
#ifndef SEQTOPK_ARCH_COMMON_LANES_H
#define SEQTOPK_ARCH_COMMON_LANES_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 16, VECS = LANES / VEC_LANES };

/* Without an instruction for it, which x86 had late, compilers call a function of theirs. */
static inline int count_bits64(uint64_t bits) {
#if defined(__x86_64__) && !defined(__POPCNT__)
    bits -= bits >> 1 & 0x5555555555555555;
    bits = (bits & 0x3333333333333333) + (bits >> 2 & 0x3333333333333333);
    return (int)(((bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f) * 0x0101010101010101 >> 56);
#else
    return __builtin_popcountll(bits);
#endif
}

static inline int count_bits(uint32_t bits) {
#if defined(__x86_64__) && !defined(__POPCNT__)
    return count_bits64(bits);
#else
    return __builtin_popcount(bits);
#endif
}

/* Where the j-th 16 bits of words of 64 stand among numbers of 16. */
#define BIG_ENDIAN_HERE (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
#define IN_WORD(j) (BIG_ENDIAN_HERE ? (j) ^ 3 : (j))

/* Whether vec_fma branches on what is in all lanes: those that do not count must have been set then. */
#ifdef VEC_FMA_ASKS
enum { ASKS_ALL_LANES = 1 };
#else
enum { ASKS_ALL_LANES = 0 };
#endif

/* Times sixteen columns whose scores are made at once: as many as there are registers for. */
#ifndef VEC_SCORE_GROUPS
#define VEC_SCORE_GROUPS 1
#endif
enum { SCORE_VECS = VEC_SCORE_GROUPS * VECS };

#ifndef VEC_DIV_FIRST
#define VEC_DIV_FIRST(a, b, n) ((void)(n), vec_div(a, b))
#endif
/* The largest, or the smallest, of every `width` lanes, a power of two, in each of them. */
static inline __attribute__((always_inline)) vec largest_across(vec x, const int width) {
    for (int stride = width / 2; stride > 0; stride /= 2)
        x = vec_max(x, vec_across(x, stride));
    return x;
}

static inline __attribute__((always_inline)) vec smallest_across(vec x, const int width) {
    for (int stride = width / 2; stride > 0; stride /= 2)
        x = vec_min(x, vec_across(x, stride));
    return x;
}

static inline float first_lane(vec x) {
    float lane[VEC_LANES];
    vec_store(lane, x);
    return lane[0];
}

#ifndef VEC_LOAD_FEW
#define VEC_LOAD_FEW vec_load_first
#define VEC_STORE_FEW vec_store_first
#endif

/* 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits of the significand. */
#define ROUND_TO_INT 0x1.8p23f
/* The same for multiples of 1/8. */
#define ROUND_TO_EIGHTH 0x1.8p20f
#define LOG2_E 0x1.715476p+0f
#define LOG2_E_REST 0x1.4ae0cp-26f
/* ln 2 in two parts; the first has 9 bits, so that small multiples of it are exact. */
#define LN2_HI 0x1.63p-1f
#define LN2_LO -0x1.bd0106p-13f

/*
 * 2^f for |f| <= 1/2, relative error 1e-7 at the most before rounding (minimax, exact at 0). A single constant reduces the argument: its error,
 * 1.4e-8 * |x|, is small beside the 1.2e-7 * |log w| that a weight is allowed.
 */
static inline __attribute__((always_inline)) void exp_polynomial_of(const vec *f, vec *p, const int n) {
    static const float terms[] = {0x1.5bdaccp-10f, 0x1.3ce8aep-7f, 0x1.c6b6d8p-5f,
                                  0x1.ebf9c2p-3f,  0x1.62e42ap-1f, 1.0f};
    enum { TERMS = sizeof terms / sizeof *terms };
#ifdef VEC_POLYNOMIAL
    for (int i = 0; i < n; i++)
        p[i] = VEC_POLYNOMIAL(f[i], terms, TERMS);
#else
    for (int i = 0; i < n; i++)
        p[i] = vec_set1(terms[0]);
#pragma GCC unroll 8
    for (int t = 1; t < TERMS; t++)
        for (int i = 0; i < n; i++)
            p[i] = vec_fma(p[i], f[i], vec_set1(terms[t]));
#endif
}

static inline vec exp_polynomial(vec f) {
    vec p;
    exp_polynomial_of(&f, &p, 1);
    return p;
}

/*
 * exp(x) as a term of a row's sum: from x = -87 down it is exp(-87), which no sum that counts can feel; from 88 up, and for
 * a NaN of any payload, it is too large for a sum that counts (see SUM_MOST), so that the row is looked at once more. The
 * minimum comes first and returns its second operand for a NaN: what adds to an exponent must never see one, whose
 * significand would run over into the exponent and leave a finite number.
 */
static inline vec exp_term(vec x) {
#ifdef VEC_EXP_TERM
    return VEC_EXP_TERM(x);
#else
    x = vec_max(vec_set1(-87.0f), vec_min(x, vec_set1(88.0f)));
#ifdef VEC_REDUCE
    vec z, f = VEC_REDUCE(x, LOG2_E, &z);
#else
    vec z = vec_fma(x, vec_set1(LOG2_E), vec_set1(ROUND_TO_INT));
    vec f = vec_fms(x, vec_set1(LOG2_E), vec_sub(z, vec_set1(ROUND_TO_INT)));
#endif
    return vec_add_exponent(exp_polynomial(f), z);
#endif
}

/*
 * exp(x) for any x <= 88, to a few units in the last place however small: subnormal and zero results are what one
 * rounding of the product makes them. Of n <= SCORE_VECS vectors at once, step by step: one's steps wait for each other,
 * and so long a chain fills the processor's window before the next one's begins.
 */
static inline __attribute__((always_inline)) void exp_full_of(vec *x, const int n) {
    vec k[SCORE_VECS], f[SCORE_VECS];
#ifdef VEC_SCALE
    /* What comes to nothing is not computed at all: an underflow can take as long as a hundred instructions. */
    VEC_MASK counts[SCORE_VECS];
    for (int i = 0; i < n; i++)
        counts[i] = VEC_KEEP(x + i, -104.0f);
#else
    for (int i = 0; i < n; i++)
        x[i] = vec_max(vec_set1(-160.0f), x[i]);
#endif
    for (int i = 0; i < n; i++)
        k[i] = vec_fma(x[i], vec_set1(LOG2_E), vec_set1(ROUND_TO_INT));
    for (int i = 0; i < n; i++)
        k[i] = vec_sub(k[i], vec_set1(ROUND_TO_INT));
    for (int i = 0; i < n; i++)
        f[i] = vec_fms(x[i], vec_set1(LOG2_E), k[i]);
    for (int i = 0; i < n; i++)
        f[i] = vec_fma(x[i], vec_set1(LOG2_E_REST), f[i]);
    exp_polynomial_of(f, x, n);
#ifdef VEC_SCALE
    for (int i = 0; i < n; i++)
        x[i] = VEC_SCALE(counts[i], x[i], k[i]);
#else
    for (int i = 0; i < n; i++) {
        vec half = vec_fma(k[i], vec_set1(0.5f), vec_set1(ROUND_TO_INT));
        vec rest = vec_add(vec_sub(k[i], vec_sub(half, vec_set1(ROUND_TO_INT))), vec_set1(ROUND_TO_INT));
        x[i] = vec_mul(vec_add_exponent(x[i], half), vec_add_exponent(vec_set1(1.0f), rest));
    }
#endif
}

static inline vec exp_full(vec x) {
    exp_full_of(&x, 1);
    return x;
}

/* log(m) for m in [sqrt(1/2), sqrt(2)), by 2 atanh((m - 1) / (m + 1)). */
static inline vec log_near_one(vec m) {
    vec t = vec_div(vec_sub(m, vec_set1(1.0f)), vec_add(m, vec_set1(1.0f)));
    vec u = vec_mul(t, t);
    vec p = vec_fma(u, vec_set1(2.0f / 9), vec_set1(2.0f / 7));
    p = vec_fma(p, u, vec_set1(2.0f / 5));
    p = vec_fma(p, u, vec_set1(2.0f / 3));
    p = vec_fma(p, u, vec_set1(2.0f));
    return vec_mul(p, t);
}

/*
 * log(s) for positive normal s in two parts: `shift`, a multiple of 1/8, and the remainder, |lse| < 0.1. A key
 * (x - shift) - lse then loses nothing to the size of the log-sum-exp.
 */
static inline vec log_parts(vec s, vec *shift) {
    vec k, m = vec_split(s, &k);
    vec log_m = log_near_one(m);
    vec whole = vec_fma(k, vec_set1(0x1.62e430p-1f), log_m);
    *shift = vec_sub(vec_add(whole, vec_set1(ROUND_TO_EIGHTH)), vec_set1(ROUND_TO_EIGHTH));
    vec coarse = vec_fms(k, vec_set1(LN2_HI), *shift);
    return vec_add(coarse, vec_fma(k, vec_set1(LN2_LO), log_m));
}

/* 2 atanh(t) / t. */
static inline vec atanh_over_half(vec t) {
    vec u = vec_mul(t, t);
    vec p = vec_fma(u, vec_set1(2.0f / 15), vec_set1(2.0f / 13));
    p = vec_fma(p, u, vec_set1(2.0f / 11));
    p = vec_fma(p, u, vec_set1(2.0f / 9));
    p = vec_fma(p, u, vec_set1(2.0f / 7));
    p = vec_fma(p, u, vec_set1(2.0f / 5));
    p = vec_fma(p, u, vec_set1(2.0f / 3));
    return vec_fma(p, u, vec_set1(2.0f));
}

/* log(1 + e) for e in [0, 1], good to the last bits for small e as well: 2 atanh(e / (2 + e)). */
static inline vec log1p_unit(vec e) {
    vec t = vec_div(e, vec_add(vec_set1(2.0f), e));
    return vec_mul(atanh_over_half(t), t);
}

/* log(1 + e) / e, for e of 0 as well. */
static inline vec log1p_over(vec e) {
    vec two_and = vec_add(vec_set1(2.0f), e);
    return vec_div(atanh_over_half(vec_div(e, two_and)), two_and);
}

/* Of n vectors at once, as exp_full_of. */
static inline __attribute__((always_inline)) void sigmoid_of(vec *x, const int n) {
    const vec zero = vec_set1(0.0f), one = vec_set1(1.0f);
    vec e[SCORE_VECS];
    for (int i = 0; i < n; i++)
        e[i] = vec_min(x[i], vec_sub(zero, x[i]));
    exp_full_of(e, n);
    for (int i = 0; i < n; i++)
        x[i] = vec_if_lt(x[i], zero, e[i], one);
#ifdef VEC_PARTS_OF_ONE
    VEC_PARTS_OF_ONE(x, e, n);
#else
    for (int i = 0; i < n; i++)
        x[i] = vec_div(x[i], vec_add(one, e[i]));
#endif
}

/* Far down it is exp(x / 2), whose square would leave the range of normal numbers first. */
static inline vec sqrtsoftplus(vec x) {
    vec zero = vec_set1(0.0f), far = vec_set1(-40.0f);
    vec e = exp_full(vec_if_lt(x, far, vec_mul(x, vec_set1(0.5f)), vec_min(x, vec_sub(zero, x))));
    return vec_if_lt(x, far, e, vec_sqrt(vec_add(vec_max(x, zero), log1p_unit(e))));
}

/* What sqrtsoftplus(x) = s lost to its last two roundings: a softmax over such scores would feel that. */
static inline vec sqrtsoftplus_rest(vec x, vec s) {
    vec zero = vec_set1(0.0f), positive = vec_max(x, zero);
    vec log = log1p_unit(exp_full(vec_min(x, vec_sub(zero, x))));
    vec sum = vec_add(positive, log), back = vec_sub(sum, positive);
    vec loss = vec_add(vec_sub(positive, vec_sub(sum, back)), vec_sub(log, back));
    vec rest = vec_div(vec_sub(loss, vec_fms(s, s, sum)), vec_add(s, s));
    return vec_if_lt(x, vec_set1(-40.0f), zero, rest);
}

/* What is too large for a float is the largest. */
static inline vec saturated(vec key) { return vec_min(vec_max(key, vec_set1(-FLT_MAX)), vec_set1(FLT_MAX)); }

/* With a normaliser of such a size log-probabilities come to the limits of a float, and tie where logits do not. */
#define SATURATES_FROM 1e30f

/*
 * The log-probability (x - shift) - lse, rounded once: what the first subtraction loses is given back to the second.
 * What is too large for a float saturates.
 */
static inline vec log_probability(vec x, vec shift, vec lse) {
    vec d = vec_sub(x, shift);
    vec back = vec_sub(d, x); /* -shift, but for the loss */
    vec loss = vec_sub(vec_sub(x, vec_sub(d, back)), vec_add(shift, back));
    return saturated(vec_add(d, vec_sub(loss, lse)));
}

/* x where it is NaN or infinite, else y. */
static inline vec if_finite(vec x, vec y) {
    const vec infinity = vec_set1(INFINITY);
    return vec_if_lt(vec_sub(vec_set1(0.0f), infinity), x, vec_if_lt(x, infinity, y, x), x);
}

/* factor * x, finite where x is. */
static inline vec scaled(vec x, float factor) { return if_finite(x, saturated(vec_mul(x, vec_set1(factor)))); }

/* tanh(x) / x for x up to 0.625, from x * x: a polynomial of Cephes. */
static inline vec tanh_over(vec u) {
    vec p = vec_fma(u, vec_set1(-5.70498872745e-3f), vec_set1(2.06390887954e-2f));
    p = vec_fma(p, u, vec_set1(-5.37397155531e-2f));
    p = vec_fma(p, u, vec_set1(1.33314422036e-1f));
    p = vec_fma(p, u, vec_set1(-3.33332819422e-1f));
    return vec_fma(p, u, vec_set1(1.0f));
}

/* cap * tanh(factor * x), to 4e-7 of itself; NaN and infinities stay what they are. */
static inline vec soft_capped(vec x, float factor, float cap) {
    const vec zero = vec_set1(0.0f), one = vec_set1(1.0f), t = vec_mul(x, vec_set1(factor));
    const vec size = vec_min(vec_max(t, vec_sub(zero, t)), vec_set1(40.0f)); /* beyond it tanh is 1 */
    const vec e = exp_full(vec_mul(size, vec_set1(-2.0f)));
    const vec far = vec_div(vec_sub(one, e), vec_add(one, e));
    const vec near = vec_mul(size, tanh_over(vec_mul(size, size)));
    const vec y = vec_mul(vec_if_lt(size, vec_set1(0.625f), near, far), vec_set1(cap));
    return if_finite(x, vec_if_lt(t, zero, vec_sub(zero, y), y));
}

/*
 * A row's sum of plain exp(x) counts while it stands between these: then no term overflowed, what underflowed did not
 * matter, and no maximum need be known. Other rows (large offsets, -inf throughout, NaN) take the way over the maximum.
 */
/* A lane adds up so many terms before it adds them to its total: rounding errors do not pile up in long rows. */
enum { SUM_RUN = 16 };

#define SUM_LEAST 0x1p-32f
#define SUM_MOST 0x1p32f

/* vec_sum16 of n rows. */
#ifndef VEC_SUMS16
static inline __attribute__((always_inline)) void vec_sums16(vec (*rows)[VECS], const int n, float *sums) {
    for (int r = 0; r < n; r++)
        sums[r] = vec_sum16(rows[r]);
}
#endif

/* Lanes [0, n) of a, and `other` in those from n on; n may be negative. */
static inline vec vec_keep_first(vec a, int64_t n, float other) {
    static const float numbers[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return vec_if_lt(vec_load(numbers), vec_set1((float)n), a, vec_set1(other));
}

/* Lanes [0, n). */
static inline uint32_t first_lanes(int64_t n) {
    return n < VEC_LANES ? (1u << n) - 1 : (uint32_t)((1ull << VEC_LANES) - 1);
}

#endif
