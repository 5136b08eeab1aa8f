/* SPDX-License-Identifier: MIT */
/* Four lanes of AArch64. arch/common/lanes.h says what each name means. */
#ifndef SEQTOPK_ARCH_ARM_NEON_VEC_H
#define SEQTOPK_ARCH_ARM_NEON_VEC_H

#include <arm_neon.h>
#include <stdint.h>

#if !defined(__aarch64__) || !defined(__ARM_NEON)
#error "compile with exactly the features of the neon row of arch/isa.def"
#endif

#define VEC_LANES 4
typedef float32x4_t vec;

static inline vec vec_set1(float x) { return vdupq_n_f32(x); }
static inline vec vec_load(const float *p) { return vld1q_f32(p); }
static inline void vec_store(float *p, vec a) { vst1q_f32(p, a); }
static inline vec vec_add(vec a, vec b) { return vaddq_f32(a, b); }
static inline vec vec_sub(vec a, vec b) { return vsubq_f32(a, b); }
static inline vec vec_mul(vec a, vec b) { return vmulq_f32(a, b); }
static inline vec vec_div(vec a, vec b) { return vdivq_f32(a, b); }
static inline vec vec_sqrt(vec a) { return vsqrtq_f32(a); }
static inline vec vec_fma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
static inline vec vec_fms(vec a, vec b, vec c) { return vfmaq_f32(vnegq_f32(c), a, b); }
/* fmax and fmin would answer a NaN with a NaN on either side, and order the zeros; a comparison does as x86 does. */
static inline vec vec_max(vec a, vec b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline vec vec_min(vec a, vec b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static inline vec vec_if_lt(vec a, vec b, vec x, vec y) { return vbslq_f32(vcltq_f32(a, b), x, y); }
static inline int vec_any_not_lt(vec a, vec b) { return vminvq_u32(vcltq_f32(a, b)) == 0; }

static inline vec vec_add_exponent(vec p, vec z) {
    return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(p), vshlq_n_u32(vreinterpretq_u32_f32(z), 23)));
}

static inline vec vec_split(vec x, vec *k) {
    int32x4_t bits = vreinterpretq_s32_f32(x);
    int32x4_t exponent = vshrq_n_s32(vsubq_s32(bits, vdupq_n_s32(0x3f3504f3)), 23);
    *k = vcvtq_f32_s32(exponent);
    return vreinterpretq_f32_s32(vsubq_s32(bits, vshlq_n_s32(exponent, 23)));
}

static inline float vec_sum16(const vec *v) {
    float32x4_t four = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
    float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

static inline vec vec_load_f32(const float *p, int i) { return vld1q_f32(p + i); }
static inline vec vec_load_bf16(const uint16_t *p, int i) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + i), 16));
}
static inline vec vec_load_f16(const uint16_t *p, int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + i))); }

/* What selection needs beside arithmetic: arch/common/lanes.h. */
#define VEC_SWEEP_ROWS 2
static inline uint32_t vec_bits_of(uint32x4_t lanes) {
    static const uint32_t bit[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(lanes, vld1q_u32(bit)));
}
static inline uint32_t vec_mask_nlt(vec a, vec b) { return vec_bits_of(vmvnq_u32(vcltq_f32(a, b))); }
static inline uint32_t vec_mask_gt(vec a, vec b) { return vec_bits_of(vcgtq_f32(a, b)); }
static inline uint32_t vec_mask_ge(vec a, vec b) { return vec_bits_of(vcgeq_f32(a, b)); }
static inline uint32_t vec_mask_eq(vec a, vec b) { return vec_bits_of(vceqq_f32(a, b)); }

static inline uint16_t vec_bits16_nlt(const vec *x, vec limit) {
    static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint16x8_t low =
        vuzp1q_u16(vreinterpretq_u16_u32(vcltq_f32(x[0], limit)), vreinterpretq_u16_u32(vcltq_f32(x[1], limit)));
    uint16x8_t high =
        vuzp1q_u16(vreinterpretq_u16_u32(vcltq_f32(x[2], limit)), vreinterpretq_u16_u32(vcltq_f32(x[3], limit)));
    uint8x16_t less = vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));
    uint8x16_t bits = vbicq_u8(vld1q_u8(bit), less);
    uint8x16_t sums = vpaddq_u8(bits, bits);
    sums = vpaddq_u8(sums, sums);
    sums = vpaddq_u8(sums, sums);
    return vgetq_lane_u16(vreinterpretq_u16_u8(sums), 0);
}

static inline uint64_t vec_first_bit(uint64_t bits) { return bits ? (uint64_t)__builtin_ctzll(bits) : 64; }

/* The lanes of a mask, moved together to the front, and the others after them. */
static inline vec vec_compress(vec a, uint32_t mask) {
#define LANE(n) 4 * (n), 4 * (n) + 1, 4 * (n) + 2, 4 * (n) + 3
#define ROW(a, b, c, d)                                                                                                \
    { LANE(a), LANE(b), LANE(c), LANE(d) }
    static const uint8_t lanes[16][16] = {ROW(0, 1, 2, 3), ROW(0, 1, 2, 3), ROW(1, 0, 2, 3), ROW(0, 1, 2, 3),
                                          ROW(2, 0, 1, 3), ROW(0, 2, 1, 3), ROW(1, 2, 0, 3), ROW(0, 1, 2, 3),
                                          ROW(3, 0, 1, 2), ROW(0, 3, 1, 2), ROW(1, 3, 0, 2), ROW(0, 1, 3, 2),
                                          ROW(2, 3, 0, 1), ROW(0, 2, 3, 1), ROW(1, 2, 3, 0), ROW(0, 1, 2, 3)};
#undef ROW
#undef LANE
    return vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(a), vld1q_u8(lanes[mask])));
}

static inline vec vec_load_u16(const uint16_t *p) { return vreinterpretq_f32_u32(vmovl_u16(vld1_u16(p))); }
static inline void vec_store_u16(uint16_t *p, vec a) { vst1_u16(p, vmovn_u32(vreinterpretq_u32_f32(a))); }
static inline void vec_store_bits(int32_t *p, vec a) { vst1q_s32(p, vreinterpretq_s32_f32(a)); }
static inline vec vec_abs(vec a) { return vabsq_f32(a); }
static inline vec vec_of_raw_f32(vec a) { return a; }
static inline vec vec_of_raw_bf16(vec a) { return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(a), 16)); }
static inline vec vec_of_raw_f16(vec a) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(vreinterpretq_u32_f32(a))));
}

static inline vec vec_load_first(const float *p, int n) {
    vec a = vdupq_n_f32(-__builtin_inff());
    switch (n) {
    case 0: return a;
    case 1: return vld1q_lane_f32(p, a, 0);
    case 2: return vcombine_f32(vld1_f32(p), vget_low_f32(a));
    case 3: return vcombine_f32(vld1_f32(p), vld1_lane_f32(p + 2, vget_low_f32(a), 0));
    default: return vld1q_f32(p);
    }
}

static inline void vec_store_first(float *p, vec a, int n) {
    if (n >= 4) {
        vst1q_f32(p, a);
        return;
    }
    if (n & 2) {
        vst1_f32(p, vget_low_f32(a));
        p += 2;
        a = vextq_f32(a, a, 2);
    }
    if (n & 1)
        vst1q_lane_f32(p, a, 0);
}

/* The lanes `stride` away by exclusive or; stride is a constant once loops are unrolled. */
static inline vec vec_across(vec a, int stride) { return stride == 1 ? vrev64q_f32(a) : vextq_f32(a, a, 2); }

static inline vec vec_blend(const int32_t *mask, vec a, vec b) {
    return vbslq_f32(vreinterpretq_u32_s32(vld1q_s32(mask)), a, b);
}

static inline vec vec_raise(vec a, uint32_t lanes) {
    static const uint32_t bit[4] = {1, 2, 4, 8};
    return vbslq_f32(vtstq_u32(vdupq_n_u32(lanes), vld1q_u32(bit)), vdupq_n_f32(__builtin_inff()), a);
}

/* From 8 bits by one Newton step. */
#define VEC_ROUGH_ERROR 0x1p-13f
#define VEC_RECIPROCAL rough_reciprocal
#define VEC_ROOT rough_root
static inline vec rough_reciprocal(vec x) {
    const vec y = vrecpeq_f32(x);
    return vmulq_f32(y, vrecpsq_f32(x, y));
}
static inline vec rough_root(vec x) {
    const vec y = vrsqrteq_f32(x);
    return vmulq_f32(x, vmulq_f32(y, vrsqrtsq_f32(vmulq_f32(x, y), y)));
}

#endif
