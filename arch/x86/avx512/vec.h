/* SPDX-License-Identifier: MIT */
/* Sixteen lanes. arch/common/lanes.h says what each name means. */
#ifndef SEQTOPK_ARCH_X86_AVX512_VEC_H
#define SEQTOPK_ARCH_X86_AVX512_VEC_H

#include "arch/kernel.h"

#include <immintrin.h>
#include <stdint.h>

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__) ||             \
    !defined(__AVX512VBMI__) || !defined(__AVX512VBMI2__) || defined(__AVX512FP16__) || defined(__AVX512BF16__)
#error "compile with exactly the features of the avx512 row of arch/isa.def"
#endif

#define VEC_LANES 16
typedef __m512 vec;

static inline vec vec_set1(float x) { return _mm512_set1_ps(x); }
static inline vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vec_store(float *p, vec a) { _mm512_storeu_ps(p, a); }
static inline vec vec_add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec vec_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
static inline vec vec_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec vec_div(vec a, vec b) { return _mm512_div_ps(a, b); }
static inline vec vec_sqrt(vec a) { return _mm512_sqrt_ps(a); }
static inline vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec vec_fms(vec a, vec b, vec c) { return _mm512_fmsub_ps(a, b, c); }
static inline vec vec_max(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline vec vec_min(vec a, vec b) { return _mm512_min_ps(a, b); }

static inline vec vec_if_lt(vec a, vec b, vec x, vec y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}

static inline int vec_any_not_lt(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ); }

static inline vec vec_add_exponent(vec p, vec z) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(z), 23)));
}

static inline vec vec_split(vec x, vec *k) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i exponent = _mm512_srai_epi32(_mm512_sub_epi32(bits, _mm512_set1_epi32(0x3f3504f3)), 23);
    *k = _mm512_cvtepi32_ps(exponent);
    return _mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_slli_epi32(exponent, 23)));
}

static inline float vec_sum16(const vec *v) {
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v[0]), _mm512_extractf32x8_ps(v[0], 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* Four rows at once, a quarter of the result's lanes each, take half the shuffles, in the same tree: what is left is the sum of
 * four lanes. */
static inline __attribute__((always_inline)) vec sum_quarters(vec (*rows)[1]) {
    const vec a = rows[0][0], b = rows[1][0], c = rows[2][0], d = rows[3][0];
    const vec ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    const vec cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

static inline vec sum_pairs(vec a, vec b) {
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
}

#define VEC_SUMS16
static inline __attribute__((always_inline)) void vec_sums16(vec (*rows)[1], const int n, float *sums) {
    if (n == 16) {
        const vec ab = sum_pairs(sum_quarters(rows), sum_quarters(rows + 4));
        const vec cd = sum_pairs(sum_quarters(rows + 8), sum_quarters(rows + 12));
        const vec all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x88), _mm512_shuffle_ps(ab, cd, 0xdd));
        const __m512i row = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_storeu_ps(sums, _mm512_permutexvar_ps(row, all));
        return;
    }
    int r = 0;
    for (; r + 4 <= n; r += 4) {
        vec all = sum_quarters(rows + r);
        all = _mm512_add_ps(all, _mm512_permute_ps(all, 0x4e));
        all = _mm512_add_ps(all, _mm512_permute_ps(all, 0xb1));
        _mm_storeu_ps(sums + r, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, all)));
    }
    for (; r < n; r++)
        sums[r] = vec_sum16(rows[r]);
}

static inline vec vec_load_f32(const float *p, int i) { return _mm512_loadu_ps(p + i); }

static inline vec vec_load_bf16(const uint16_t *p, int i) {
    __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(p + i));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

static inline vec vec_load_f16(const uint16_t *p, int i) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p + i)));
}

/* The first n elements, n > 0, and -inf beyond; no more than those is read. */
#define VEC_MASKED_LOADS
static inline __mmask16 vec_first(int32_t n) { return (__mmask16)_bzhi_u32(0xffff, n > 255 ? 255 : (unsigned)n); }
static inline vec vec_load_upto_f32(const float *p, int32_t n) {
    return _mm512_mask_loadu_ps(_mm512_set1_ps(-__builtin_inff()), vec_first(n), p);
}

static inline vec vec_load_upto_bf16(const uint16_t *p, int32_t n) {
    const __m256i x = _mm256_mask_loadu_epi16(_mm256_set1_epi16((short)0xff80), vec_first(n), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

static inline vec vec_load_upto_f16(const uint16_t *p, int32_t n) {
    return _mm512_cvtph_ps(_mm256_mask_loadu_epi16(_mm256_set1_epi16((short)0xfc00), vec_first(n), p));
}

/*
 * exp_term in one instruction less: scalef saturates, so that no upper clamp is needed. Above 88 the bits differ from
 * the other instruction sets', but such a sum never counts.
 */
#define VEC_EXP_TERM exp_term_scalef
static inline vec exp_polynomial(vec f);
static inline vec exp_term_scalef(vec x) {
    const vec log2_e = _mm512_set1_ps(0x1.715476p+0f), round = _mm512_set1_ps(0x1.8p23f);
    x = _mm512_max_ps(_mm512_set1_ps(-87.0f), x);
    vec n = _mm512_sub_ps(_mm512_fmadd_ps(x, log2_e, round), round);
    return _mm512_scalef_ps(exp_polynomial(_mm512_fmsub_ps(x, log2_e, n)), n);
}

#define VEC_SCORE_GROUPS 4

/* Half the lanes are divided in half the time. */
#define VEC_DIV_FIRST div_first
static inline vec div_first(vec a, vec b, int n) {
    if (n > 8)
        return _mm512_div_ps(a, b);
    return _mm512_zextps256_ps512(_mm256_div_ps(_mm512_castps512_ps256(a), _mm512_castps512_ps256(b)));
}

#define VEC_SCALE _mm512_maskz_scalef_ps
#define VEC_MASK __mmask16
#define VEC_KEEP keep_from
static inline __mmask16 keep_from(vec *x, float least) {
    const __mmask16 kept = _mm512_cmp_ps_mask(*x, _mm512_set1_ps(least), _CMP_NLT_UQ);
    *x = _mm512_maskz_mov_ps(kept, *x);
    return kept;
}

/*
 * A division takes as long as sixteen other instructions. From a reciprocal good to 14 bits, whatever its bits, one
 * Newton step leads to one of three floats, and from each of them the last step to what a division gives: so for every
 * e that there is, but for 1 / (2 - 2^-23), which is never reached from 1/2. Hence the maximum, of which the last step
 * makes 1/2 where that is right.
 */
#define VEC_PARTS_OF_ONE parts_of_one
static inline __attribute__((always_inline)) void parts_of_one(vec *x, const vec *e, const int n) {
    const vec one = _mm512_set1_ps(1.0f), above_half = _mm512_set1_ps(0x1.000002p-1f);
    vec d[VEC_SCORE_GROUPS], y[VEC_SCORE_GROUPS], q[VEC_SCORE_GROUPS];
    for (int i = 0; i < n; i++)
        d[i] = _mm512_add_ps(one, e[i]);
    for (int i = 0; i < n; i++)
        y[i] = _mm512_rcp14_ps(d[i]);
    for (int i = 0; i < n; i++)
        y[i] = _mm512_fmadd_ps(y[i], _mm512_fnmadd_ps(d[i], y[i], one), y[i]);
    for (int i = 0; i < n; i++)
        y[i] = _mm512_max_ps(y[i], above_half);
    for (int i = 0; i < n; i++)
        q[i] = _mm512_mul_ps(x[i], y[i]);
    for (int i = 0; i < n; i++)
        x[i] = _mm512_fnmadd_ps(d[i], q[i], x[i]);
    for (int i = 0; i < n; i++)
        x[i] = _mm512_fmadd_ps(x[i], y[i], q[i]);
}

/* What selection needs beside arithmetic: arch/common/lanes.h. */
#define VEC_SWEEP_ROWS 4
static inline uint32_t vec_mask_nlt(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ); }
static inline uint32_t vec_mask_gt(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
static inline uint32_t vec_mask_ge(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
static inline uint32_t vec_mask_eq(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static inline uint16_t vec_bits16_nlt(const vec *x, vec limit) { return _mm512_cmp_ps_mask(x[0], limit, _CMP_NLT_UQ); }
static inline vec vec_compress(vec a, uint32_t mask) { return _mm512_maskz_compress_ps((__mmask16)mask, a); }
static inline uint64_t vec_first_bit(uint64_t bits) { return _tzcnt_u64(bits); }

static inline vec vec_load_u16(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)));
}

static inline void vec_store_bits(int32_t *p, vec a) { _mm512_storeu_si512(p, _mm512_castps_si512(a)); }
static inline void vec_store_u16(uint16_t *p, vec a) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(_mm512_castps_si512(a)));
}
static inline vec vec_abs(vec a) { return _mm512_abs_ps(a); }
static inline vec vec_of_raw_f32(vec a) { return a; }
static inline vec vec_of_raw_bf16(vec a) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 16)); }
static inline vec vec_of_raw_f16(vec a) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_castps_si512(a))); }

static inline vec vec_load_first(const float *p, int n) {
    return _mm512_mask_loadu_ps(_mm512_set1_ps(-__builtin_inff()), (__mmask16)_bzhi_u32(0xffff, (unsigned)n), p);
}

static inline void vec_store_first(float *p, vec a, int n) {
    _mm512_mask_storeu_ps(p, (__mmask16)_bzhi_u32(0xffff, (unsigned)n), a);
}

#define VEC_LOAD_PARTS load_parts
#define VEC_STORE_PARTS store_parts
static inline __m256 load_quarters(const float *p, const float *q) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(q), 1);
}

static inline __attribute__((always_inline)) vec load_parts(const float *p, const int32_t *at, const int width) {
    if (width == 4)
        return _mm512_insertf32x8(_mm512_castps256_ps512(load_quarters(p + at[0], p + at[1])),
                                  load_quarters(p + at[2], p + at[3]), 1);
    if (width == 8)
        return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(p + at[0])), _mm256_loadu_ps(p + at[1]), 1);
    return vec_load(p + at[0]);
}

static inline __attribute__((always_inline)) void store_parts(float *p, const int32_t *at, vec a, const int width) {
    if (width == 4) {
        _mm_storeu_ps(p + at[0], _mm512_castps512_ps128(a));
        _mm_storeu_ps(p + at[1], _mm512_extractf32x4_ps(a, 1));
        _mm_storeu_ps(p + at[2], _mm512_extractf32x4_ps(a, 2));
        _mm_storeu_ps(p + at[3], _mm512_extractf32x4_ps(a, 3));
    } else if (width == 8) {
        _mm256_storeu_ps(p + at[0], _mm512_castps512_ps256(a));
        _mm256_storeu_ps(p + at[1], _mm512_extractf32x8_ps(a, 1));
    } else {
        vec_store(p + at[0], a);
    }
}

#define VEC_KEEP_LANES keep_lanes
static inline vec spread(vec a, uint32_t mask) {
    __asm__("" : "+v"(a)); /* from memory it is microcode, on Zen */
    return _mm512_maskz_expand_ps((__mmask16)mask, a);
}
static inline vec keep_lanes(vec a, uint32_t mask, float absent) {
    return _mm512_mask_blend_ps((__mmask16)mask, _mm512_set1_ps(absent), a);
}

/* A load waits for a masked store before it whose vector reaches into its own, masked out or not. */
#define VEC_LOAD_FEW load_few
#define VEC_STORE_FEW store_few
static inline vec load_few(const float *p, int n) {
    if (n > 8)
        return vec_load_first(p, n);
    const __mmask8 first = (__mmask8)_bzhi_u32(0xff, (unsigned)n);
    return _mm512_zextps256_ps512(n > 4 ? _mm256_maskz_loadu_ps(first, p)
                                        : _mm256_zextps128_ps256(_mm_maskz_loadu_ps(first, p)));
}

static inline void store_few(float *p, vec a, int n) {
    const __mmask8 first = (__mmask8)_bzhi_u32(0xff, (unsigned)n);
    __m256 half = _mm512_castps512_ps256(a);
    __m128 quarter = _mm512_castps512_ps128(a);
    /* Or gcc makes one instruction of the cast and the store: an extract, which faults where it is masked out, too. */
    __asm__("" : "+v"(half), "+v"(quarter));
    if (n > 8)
        vec_store_first(p, a, n);
    else if (n > 4)
        _mm256_mask_storeu_ps(p, first, half);
    else
        _mm_mask_storeu_ps(p, first, quarter);
}

/* The lanes `stride` away by exclusive or; stride is a constant once loops are unrolled. */
static inline vec vec_across(vec a, int stride) {
    switch (stride) {
    case 1: return _mm512_permute_ps(a, 0xb1);
    case 2: return _mm512_permute_ps(a, 0x4e);
    case 4: return _mm512_shuffle_f32x4(a, a, 0xb1);
    default: return _mm512_shuffle_f32x4(a, a, 0x4e);
    }
}

/* Tables of masks are constant: so are the bits made of them here. */
static inline __attribute__((always_inline)) vec vec_blend(const int32_t *mask, vec a, vec b) {
    __mmask16 lanes = 0;
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        lanes |= (__mmask16)((mask[i] & 1) << i);
    return _mm512_mask_blend_ps(lanes, b, a);
}

static inline vec vec_raise(vec a, uint32_t lanes) {
    return _mm512_mask_mov_ps(a, (__mmask16)lanes, _mm512_set1_ps(__builtin_inff()));
}

/* To 14 bits. */
#define VEC_ROUGH_ERROR 0x1p-13f
#define VEC_RECIPROCAL(x) _mm512_rcp14_ps(x)
#define VEC_ROOT(x) _mm512_mul_ps(x, _mm512_rsqrt14_ps(x))

/* Ids are compressed 32 at a time. */
#define VEC_BITS32_NLT(a, b, p, q)                                                                                     \
    _mm512_kunpackw(_mm512_cmp_ps_mask(*(b), *(q), _CMP_NLT_UQ), _mm512_cmp_ps_mask(*(a), *(p), _CMP_NLT_UQ))
/* The numbers 0 to 31, of 16 bits. */
static inline __m512i columns32(void) {
    static const uint16_t columns[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                         16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
    return _mm512_loadu_si512(columns);
}

#define VEC_TAKE_BITS32 take_bits32
static inline uint16_t *take_bits32(__mmask32 bits, int32_t base, uint16_t *ids) {
    const __m512i columns = _mm512_add_epi16(columns32(), _mm512_set1_epi16((short)base));
    _mm512_storeu_si512(ids, _mm512_maskz_compress_epi16(bits, columns));
    return ids + __builtin_popcount(bits);
}

/* By quarters of rows as they are loaded, then within them. */
#define VEC_PICK8 pick_eight
static inline int64_t pick_eight(const uint64_t *words, uint64_t low, uint64_t high, uint64_t *picked, int64_t *above) {
    const __m512i own = _mm512_loadu_si512(words);
    const __mmask8 beyond = _mm512_cmpge_epu64_mask(own, _mm512_set1_epi64((long long)high));
    const __mmask8 inside = _mm512_cmpge_epu64_mask(own, _mm512_set1_epi64((long long)low)) & (__mmask8)~beyond;
    _mm512_storeu_si512(picked, _mm512_maskz_compress_epi64(inside, own));
    *above += _mm_popcnt_u32(beyond);
    return _mm_popcnt_u32(inside);
}

/* The words of 16 keys of a token (arch/words.h). */
static inline __attribute__((always_inline)) void words16(vec keys, int64_t token, __m512i words[2]) {
    const __m512i bits = _mm512_castps_si512(_mm512_add_ps(keys, _mm512_setzero_ps())); /* -0 becomes +0 */
    const __m512i flip = _mm512_or_si512(_mm512_srai_epi32(bits, 31), _mm512_set1_epi32(INT32_MIN));
    const __m512i digits = _mm512_xor_si512(bits, flip);
    const __m512i low = _mm512_set1_epi64((long long)(UINT32_MAX - (uint32_t)token));
    words[0] = _mm512_or_si512(_mm512_slli_epi64(_mm512_cvtepu32_epi64(_mm512_castsi512_si256(digits)), 32), low);
    words[1] = _mm512_or_si512(_mm512_slli_epi64(_mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(digits, 1)), 32), low);
}

/* Of a row hardly ever more than 8 are picked. */
#define VEC_PICK_ROW pick_row
static inline __attribute__((always_inline)) int64_t pick_row(vec keys, uint32_t mask, int64_t token,
                                                              uint64_t *picked) {
    __m512i words[2];
    const int64_t n = _mm_popcnt_u32(mask);
    words16(vec_compress(keys, mask), token, words);
    _mm512_storeu_si512(picked, words[0]);
    if (n > 8)
        _mm512_storeu_si512(picked + 8, words[1]);
    return n;
}

/* Which of 16 words reach a limit: a bit for each. */
static inline __attribute__((always_inline)) uint32_t reaching16(const __m512i words[2], __m512i first, __m512i last) {
    return _mm512_kunpackb(_mm512_cmpge_epu64_mask(words[1], last), _mm512_cmpge_epu64_mask(words[0], first));
}

/* What a candidate of rank r must reach is moved to its lane. */
#define VEC_CONTEST_BY_RANK contest_by_rank
static inline __attribute__((always_inline)) uint32_t contest_by_rank(seqtopk_contest *c, const float *keys,
                                                                      const int32_t *ranks, int32_t n) {
    const uint32_t in = ((uint32_t)1 << n) - 1;
    const uint32_t read = ((uint32_t)1 << (c->most - c->sure)) - ((uint32_t)1 << (c->uncontested - c->sure));
    const __m512i rank = _mm512_maskz_loadu_epi32((__mmask16)in, ranks);
    const __m512i at = _mm512_sub_epi32(rank, _mm512_set1_epi32(c->sure));
    const __m512i high = _mm512_set1_epi64((long long)c->high), low = _mm512_set1_epi64((long long)c->low);
    const __m512i cut[2] = {_mm512_maskz_loadu_epi64((__mmask8)read, c->cut),
                            _mm512_maskz_loadu_epi64((__mmask8)(read >> 8), c->cut + 8)};
    const __m512i first = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(at)),
                  last = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(at, 1));
    const uint32_t competes = _mm512_mask_cmpge_epi32_mask((__mmask16)in, at, _mm512_setzero_si512()),
                   won = _mm512_mask_cmplt_epi32_mask((__mmask16)in, rank, _mm512_set1_epi32(c->uncontested)),
                   open = _mm512_mask_cmplt_epi32_mask((__mmask16)in, rank, _mm512_set1_epi32(c->most));
    __m512i words[2];
    words16(_mm512_maskz_loadu_ps((__mmask16)in, keys), c->token, words);
    const uint32_t bits = won | (open & reaching16(words, _mm512_permutex2var_epi64(cut[0], first, cut[1]),
                                                   _mm512_permutex2var_epi64(cut[0], last, cut[1])));
    c->winners = __builtin_popcount(bits & competes);
    c->above = __builtin_popcount(reaching16(words, high, high) & competes);
    c->reach = __builtin_popcount(reaching16(words, low, low) & competes);
    return bits;
}

/* For rows alone. */
#define VEC_JOIN join_behind
static inline vec join_behind(vec a, int n, vec x, uint32_t mask) {
    return _mm512_mask_expand_ps(a, (__mmask16)(0xffffu << n), _mm512_maskz_compress_ps((__mmask16)mask, x));
}

static inline __attribute__((always_inline)) vec vec_count_above(vec x, const float *keys, const int n) {
    const __m512i one = _mm512_set1_epi32(1);
    __m512i even = _mm512_setzero_si512(), odd = even;
#pragma GCC unroll 16
    for (int i = 0; i < n; i += 2) {
        even = _mm512_mask_add_epi32(even, _mm512_cmp_ps_mask(x, _mm512_set1_ps(keys[i]), _CMP_LT_OQ), even, one);
        odd = _mm512_mask_add_epi32(odd, _mm512_cmp_ps_mask(x, _mm512_set1_ps(keys[i + 1]), _CMP_LT_OQ), odd, one);
    }
    return _mm512_castsi512_ps(_mm512_add_epi32(even, odd));
}
static inline uint32_t vec_mask_ints_lt(vec a, int32_t n) {
    return _mm512_cmplt_epi32_mask(_mm512_castps_si512(a), _mm512_set1_epi32(n));
}
static inline vec vec_numbers(int32_t n) {
    static const int32_t numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_loadu_si512(numbers), _mm512_set1_epi32(n)));
}
static inline uint32_t vec_or_powers(vec a, uint32_t mask) {
    return (uint32_t)_mm512_mask_reduce_or_epi32((__mmask16)mask,
                                                 _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_castps_si512(a)));
}
static inline float vec_largest_of(vec x, uint32_t mask) { return _mm512_mask_reduce_max_ps((__mmask16)mask, x); }
static inline float vec_lane0(vec x) { return _mm512_cvtss_f32(x); }
static inline vec vec_keep_bits(vec a, uint32_t mask) { return _mm512_maskz_mov_ps((__mmask16)mask, a); }
static inline vec vec_gather(const float *p, vec ids, uint32_t mask) {
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), (__mmask16)mask, _mm512_castps_si512(ids), p, 4);
}

/* The first columns of 16 rows, four at a time. */
static inline __attribute__((always_inline)) void transpose_quarters(const float *rows, int64_t stride,
                                                                     const int quarters, float (*columns)[16]) {
    for (int c = 0; c < quarters; c++) {
        __m512 q[4];
        for (int r = 0; r < 4; r++) {
            __m512 a = _mm512_castps128_ps512(_mm_loadu_ps(rows + r * stride + 4 * c));
            a = _mm512_insertf32x4(a, _mm_loadu_ps(rows + (r + 4) * stride + 4 * c), 1);
            a = _mm512_insertf32x4(a, _mm_loadu_ps(rows + (r + 8) * stride + 4 * c), 2);
            q[r] = _mm512_insertf32x4(a, _mm_loadu_ps(rows + (r + 12) * stride + 4 * c), 3);
        }
        const __m512 a = _mm512_unpacklo_ps(q[0], q[1]), b = _mm512_unpackhi_ps(q[0], q[1]);
        const __m512 d = _mm512_unpacklo_ps(q[2], q[3]), e = _mm512_unpackhi_ps(q[2], q[3]);
        vec_store(columns[4 * c], _mm512_shuffle_ps(a, d, 0x44));
        vec_store(columns[4 * c + 1], _mm512_shuffle_ps(a, d, 0xee));
        vec_store(columns[4 * c + 2], _mm512_shuffle_ps(b, e, 0x44));
        vec_store(columns[4 * c + 3], _mm512_shuffle_ps(b, e, 0xee));
    }
}
#define VEC_TRANSPOSE16(rows, stride, columns) transpose_quarters(rows, stride, 4, columns)

/* What is faster than element by element: LOCAL(gather_raw), for topk_scores.inc. */
#define VEC_GATHER_ROWS "arch/x86/avx512/gather.inc"

#endif
