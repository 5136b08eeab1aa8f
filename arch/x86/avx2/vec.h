/* SPDX-License-Identifier: MIT */
/* Eight lanes. arch/common/lanes.h says what each name means. */
#ifndef SEQTOPK_ARCH_X86_AVX2_VEC_H
#define SEQTOPK_ARCH_X86_AVX2_VEC_H

#include <immintrin.h>
#include <stdint.h>

#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__) || defined(__AVX512F__)
#error "compile with exactly the features of the avx2 row of arch/isa.def"
#endif

#define VEC_LANES 8
typedef __m256 vec;

static inline vec vec_set1(float x) { return _mm256_set1_ps(x); }
static inline vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vec_store(float *p, vec a) { _mm256_storeu_ps(p, a); }
static inline vec vec_add(vec a, vec b) { return _mm256_add_ps(a, b); }
static inline vec vec_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
static inline vec vec_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
static inline vec vec_div(vec a, vec b) { return _mm256_div_ps(a, b); }
static inline vec vec_sqrt(vec a) { return _mm256_sqrt_ps(a); }
static inline vec vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline vec vec_fms(vec a, vec b, vec c) { return _mm256_fmsub_ps(a, b, c); }
static inline vec vec_max(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline vec vec_min(vec a, vec b) { return _mm256_min_ps(a, b); }

static inline vec vec_if_lt(vec a, vec b, vec x, vec y) {
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

static inline int vec_any_not_lt(vec a, vec b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NLT_UQ)); }

static inline vec vec_add_exponent(vec p, vec z) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(z), 23)));
}

static inline vec vec_split(vec x, vec *k) {
    __m256i bits = _mm256_castps_si256(x);
    __m256i exponent = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3f3504f3)), 23);
    *k = _mm256_cvtepi32_ps(exponent);
    return _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(exponent, 23)));
}

static inline float vec_sum16(const vec *v) {
    __m256 eight = _mm256_add_ps(v[0], v[1]);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline vec vec_load_f32(const float *p, int i) { return _mm256_loadu_ps(p + i); }

static inline vec vec_load_bf16(const uint16_t *p, int i) {
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}

static inline vec vec_load_f16(const uint16_t *p, int i) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + i)));
}

/* What selection needs beside arithmetic: arch/common/lanes.h. */
#define VEC_SWEEP_ROWS 2
static inline uint32_t vec_mask_nlt(vec a, vec b) {
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NLT_UQ));
}
static inline uint32_t vec_mask_gt(vec a, vec b) {
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
}
static inline uint32_t vec_mask_ge(vec a, vec b) {
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ));
}
static inline uint32_t vec_mask_eq(vec a, vec b) {
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ));
}
static inline uint16_t vec_bits16_nlt(const vec *x, vec limit) {
    return (uint16_t)(vec_mask_nlt(x[0], limit) | vec_mask_nlt(x[1], limit) << 8);
}
static inline uint64_t vec_first_bit(uint64_t bits) { return _tzcnt_u64(bits); }

/*
 * The lanes of a mask, moved together to the front, and the others after them. A lane's number takes a byte of the
 * table, which is 2 KiB so: rows of eight 32-bit numbers would leave the cache.
 */
static inline vec vec_compress(vec a, uint32_t mask) {
#define BIT(m, b) ((uint64_t)(m) >> (b)&1)
#define BELOW(m, b) (__builtin_popcount((m) & ((1u << (b)) - 1)))
/* Where lane b goes, as bits of its byte there. */
#define LANE(m, b) ((uint64_t)(b) << 8 * (BIT(m, b) ? BELOW(m, b) : __builtin_popcount(m) + (b)-BELOW(m, b)))
#define ROW(m) (LANE(m, 1) | LANE(m, 2) | LANE(m, 3) | LANE(m, 4) | LANE(m, 5) | LANE(m, 6) | LANE(m, 7))
#define ROWS4(m) ROW(m), ROW((m) + 1), ROW((m) + 2), ROW((m) + 3)
#define ROWS16(m) ROWS4(m), ROWS4((m) + 4), ROWS4((m) + 8), ROWS4((m) + 12)
#define ROWS64(m) ROWS16(m), ROWS16((m) + 16), ROWS16((m) + 32), ROWS16((m) + 48)
    static const uint64_t lanes[256] = {ROWS64(0u), ROWS64(64u), ROWS64(128u), ROWS64(192u)};
#undef ROWS64
#undef ROWS16
#undef ROWS4
#undef ROW
#undef LANE
#undef BELOW
#undef BIT
    const __m128i row = _mm_loadl_epi64((const __m128i *)(const void *)(lanes + mask));
    return _mm256_permutevar8x32_ps(a, _mm256_cvtepu8_epi32(row));
}

static inline vec vec_load_u16(const uint16_t *p) {
    return _mm256_castsi256_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}

static inline void vec_store_bits(int32_t *p, vec a) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm256_castps_si256(a));
}

static inline void vec_store_u16(uint16_t *p, vec a) {
    const __m256i low = _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(0xffff));
    _mm_storeu_si128((__m128i *)(void *)p,
                     _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
}

static inline vec vec_abs(vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline vec vec_of_raw_f32(vec a) { return a; }
static inline vec vec_of_raw_bf16(vec a) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 16)); }
static inline vec vec_of_raw_f16(vec a) {
    const __m256i x = _mm256_castps_si256(a);
    return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
}

static inline vec vec_load_first(const float *p, int n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), in = _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
    return _mm256_blendv_ps(_mm256_set1_ps(-__builtin_inff()), _mm256_maskload_ps(p, in), _mm256_castsi256_ps(in));
}

static inline void vec_store_first(float *p, vec a, int n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane), a);
}

/* The lanes `stride` away by exclusive or; stride is a constant once loops are unrolled. */
static inline vec vec_across(vec a, int stride) {
    switch (stride) {
    case 1: return _mm256_permute_ps(a, 0xb1);
    case 2: return _mm256_permute_ps(a, 0x4e);
    default: return _mm256_permute2f128_ps(a, a, 0x01);
    }
}

static inline vec vec_blend(const int32_t *mask, vec a, vec b) {
    return _mm256_blendv_ps(b, a, _mm256_loadu_ps((const float *)(const void *)mask));
}

static inline vec vec_raise(vec a, uint32_t lanes) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i on = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)lanes), bit), bit);
    return _mm256_blendv_ps(a, _mm256_set1_ps(__builtin_inff()), _mm256_castsi256_ps(on));
}

/* To 12 bits. */
#define VEC_ROUGH_ERROR 0x1p-11f
#define VEC_RECIPROCAL(x) _mm256_rcp_ps(x)
#define VEC_ROOT(x) _mm256_mul_ps(x, _mm256_rsqrt_ps(x))

#endif
