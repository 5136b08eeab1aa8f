/* SPDX-License-Identifier: MIT */
/* One lane in plain C: what every other vec.h must equal to the bit. arch/common/lanes.h says what each name means. */
#ifndef SEQTOPK_ARCH_REF_VEC_H
#define SEQTOPK_ARCH_REF_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define VEC_LANES 1
#define VEC_SWEEP_ROWS 1
typedef float vec;

static inline uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline vec vec_set1(float x) { return x; }
static inline vec vec_load(const float *p) { return *p; }
static inline void vec_store(float *p, vec a) { *p = a; }
static inline vec vec_load_first(const float *p, int n) { return n > 0 ? *p : -INFINITY; }

static inline void vec_store_first(float *p, vec a, int n) {
    if (n > 0)
        *p = a;
}

static inline vec vec_add(vec a, vec b) { return a + b; }
static inline vec vec_sub(vec a, vec b) { return a - b; }
static inline vec vec_mul(vec a, vec b) { return a * b; }
static inline vec vec_div(vec a, vec b) { return a / b; }
/* fma and sqrt are exact by IEEE 754, whoever computes them. */
static inline vec vec_sqrt(vec a) { return sqrtf(a); }
static inline vec vec_fma(vec a, vec b, vec c) { return fmaf(a, b, c); }
static inline vec vec_fms(vec a, vec b, vec c) { return fmaf(a, b, -c); }
static inline vec vec_max(vec a, vec b) { return a > b ? a : b; }
static inline vec vec_min(vec a, vec b) { return a < b ? a : b; }
static inline vec vec_if_lt(vec a, vec b, vec x, vec y) { return a < b ? x : y; }
static inline int vec_any_not_lt(vec a, vec b) { return !(a < b); }
static inline vec vec_add_exponent(vec p, vec z) { return float_of(bits_of(p) + (bits_of(z) << 23)); }

static inline vec vec_split(vec x, vec *k) {
    const uint32_t root_half = 0x3f3504f3;
    uint32_t exponent = (uint32_t)((int32_t)(bits_of(x) - root_half) >> 23);
    *k = (float)(int32_t)exponent;
    return float_of(bits_of(x) - (exponent << 23));
}

static inline vec vec_sum16(const vec *v) {
    float a[8];
    for (int i = 0; i < 8; i++)
        a[i] = v[i] + v[i + 8];
    return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}

static inline vec vec_load_f32(const float *p, int i) { return p[i]; }
static inline vec vec_load_bf16(const uint16_t *p, int i) { return float_of((uint32_t)p[i] << 16); }

static inline vec vec_load_f16(const uint16_t *p, int i) {
    uint32_t sign = (uint32_t)(p[i] & 0x8000) << 16, exponent = (p[i] >> 10) & 31, fraction = p[i] & 1023;
    if (exponent == 31) /* a signalling NaN becomes quiet, as the conversion instructions have it */
        return float_of(sign | 0x7f800000 | (fraction ? 0x400000 | fraction << 13 : 0));
    if (exponent == 0) { /* subnormal: fraction * 2^-24, exactly */
        float x = (float)fraction * 0x1p-24f;
        return float_of(sign | bits_of(x));
    }
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

#endif
