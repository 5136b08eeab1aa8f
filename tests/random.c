/* SPDX-License-Identifier: MIT */
#include "random.h"
#include "bits.h"

#include <seqtopk/seqtopk.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* xoshiro256**, seeded by splitmix64 (Blackman and Vigna; public domain). */
static uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

uint64_t random_first_seed(void) {
    const char *given = getenv("SEQTOPK_TEST_SEED");
    return given && *given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
}

void random_seed(random_state *r, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        r->s[i] = z ^ z >> 31;
    }
}

uint64_t random_u64(random_state *r) {
    uint64_t *s = r->s, result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint32_t random_below(random_state *r, uint32_t n) { return (uint32_t)((random_u64(r) >> 32) * n >> 32); }

double random_unit(random_state *r) { return (double)(random_u64(r) >> 11) * 0x1p-53; }

/* Irwin-Hall: sums of uniforms, so that no libm takes part and a seed means the same everywhere. */
double random_normal(random_state *r) {
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += random_unit(r);
    return sum;
}

void random_shuffle(random_state *r, int32_t *values, size_t n) {
    for (size_t i = n; i > 1; i--) {
        size_t j = random_below(r, (uint32_t)i);
        int32_t swap = values[i - 1];
        values[i - 1] = values[j];
        values[j] = swap;
    }
}

const char *random_kind_name(random_kind kind) {
    static const char *const names[RANDOM_KINDS] = {
        "normal",   "uniform", "few",      "equal", "two",  "ascending", "descending", "giant",     "drift",
        "denormal", "zeros",   "excluded", "empty", "huge", "offset",    "extreme",    "preferred", "beats",
    };
    return kind < RANDOM_KINDS ? names[kind] : "?";
}

uint16_t random_to_bf16(float value) {
    uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffff) >= 0x7f800000)
        return (uint16_t)(bits >> 16);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((rounded & 0x7fff) == 0x7f80 ? rounded - 1 : rounded);
}

uint16_t random_to_f16(float value) {
    uint32_t sign = bits_of(value) >> 16 & 0x8000;
    double size = fabs((double)value);
    if (value != value)
        return (uint16_t)(sign | 0x7e00);
    if (isinf(value))
        return (uint16_t)(sign | 0x7c00);
    if (size >= 65504)
        return (uint16_t)(sign | 0x7bff);
    int exponent = -14;
    while (exponent < 15 && size >= ldexp(1, exponent + 1))
        exponent++;
    double steps = size / ldexp(1, exponent - 10), whole = floor(steps), rest = steps - whole;
    uint32_t fraction = (uint32_t)whole;
    fraction += rest > 0.5 || (rest == 0.5 && (fraction & 1));
    /* A fraction that reaches 2048 carries into the exponent, as it should; one below 1024 is a denormal. */
    return (uint16_t)(sign | (fraction + ((uint32_t)(exponent + 14) << 10)));
}

void random_store_bits(void *logits, int dtype, size_t index, uint32_t bits) {
    const uint16_t half = (uint16_t)bits;
    if (dtype == SEQTOPK_DTYPE_F32)
        memcpy((unsigned char *)logits + 4 * index, &bits, 4);
    else
        memcpy((unsigned char *)logits + 2 * index, &half, 2);
}

void random_store(void *logits, int dtype, size_t index, float value) {
    random_store_bits(logits, dtype, index,
                      dtype == SEQTOPK_DTYPE_F32    ? bits_of(value)
                      : dtype == SEQTOPK_DTYPE_BF16 ? random_to_bf16(value)
                                                    : random_to_f16(value));
}

uint32_t random_nan(random_state *r, int dtype, uint32_t i) {
    enum { LOW_BITS = 1024 };
    static const uint32_t uppers[] = {0, 0x400000, 0x2aa800, 0x7ffc00};
    const int is_f32 = dtype == SEQTOPK_DTYPE_F32, is_bf16 = dtype == SEQTOPK_DTYPE_BF16;
    const uint32_t exponent = is_f32 ? 0x7f800000 : is_bf16 ? 0x7f80 : 0x7c00, sign = is_f32 ? 0x80000000 : 0x8000;
    const uint32_t fraction = (is_f32 ? 0x800000 : is_bf16 ? 0x80 : 0x400) - 1;
    const uint32_t bits = i < RANDOM_NANS ? i % LOW_BITS | uppers[i / LOW_BITS % 4] : (uint32_t)random_u64(r);
    const uint32_t payload = bits & fraction ? bits & fraction : (fraction >> 1) + 1;
    const int negative = i < RANDOM_NANS ? i >= RANDOM_NANS / 2 : random_below(r, 2) != 0;
    return exponent | payload | (negative ? sign : 0);
}

static float draw(random_state *r, random_kind kind, size_t row, size_t rows, size_t e, size_t experts) {
    double z = random_normal(r), u = random_unit(r);
    switch (kind) {
    case RANDOM_UNIFORM: return (float)(u * 8 - 4);
    case RANDOM_FEW: return (float)floor(u * 5) * 0.5f;
    case RANDOM_EQUAL: return 0.625f;
    case RANDOM_TWO: return u < 0.1 ? 1.5f : -0.25f;
    case RANDOM_ASCENDING: return (float)e * 0.03125f - 4 + (float)row * 0.0078125f;
    case RANDOM_DESCENDING: return (float)(experts - e) * 0.03125f - 4;
    case RANDOM_GIANT: return (float)(z + (row == rows / 2 ? 40 : 0));
    case RANDOM_DRIFT: return (float)(z + 6 * (double)row / (double)rows);
    case RANDOM_DENORMAL: return (float)(z * 1e-40);
    case RANDOM_ZEROS: return u < 0.5 ? 0.0f : -0.0f;
    case RANDOM_EXCLUDED: return u < 0.33 ? -INFINITY : (float)z;
    case RANDOM_EMPTY: return row % 3 == 1 ? -INFINITY : (float)z;
    case RANDOM_HUGE: return u < 0.2 ? 1e38f : u < 0.5 ? -3e38f : u < 0.6 ? 3.4e38f : (float)(z * 1e37);
    case RANDOM_OFFSET: return (float)(z + 1000);
    case RANDOM_EXTREME: return (float)(u < 0.3 ? 88 + z : u < 0.8 ? -88 + 8 * z : -104 + z);
    case RANDOM_PREFERRED: return (float)(z + (e % 17 == 3 ? 9 : 0));
    case RANDOM_BEATS: return (float)(z + (row % 16 == 8 ? 12 : 0));
    case RANDOM_NORMAL: return (float)(z * 1.5);
    case RANDOM_KINDS: break;
    }
    return NAN;
}

void random_logits(random_state *r, random_kind kind, int dtype, void *logits, size_t rows, size_t experts,
                   size_t stride) {
    for (size_t row = 0; row < rows; row++)
        for (size_t e = 0; e < experts; e++)
            random_store(logits, dtype, row * stride + e, draw(r, kind, row, rows, e, experts));
}
