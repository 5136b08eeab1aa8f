/* SPDX-License-Identifier: MIT */
#include "logits.h"
#include "cli.h"

#include <stdlib.h>
#include <string.h>

/* splitmix64 */
static uint64_t draw(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static double uniform(uint64_t *state) { return (double)(draw(state) >> 11) * 0x1p-53; }

/* Eight 16-bit numbers added up: of mean 0 and variance 1, normal up to four standard deviations, and no logarithm
 * whose last bits would differ from one C library to the next. */
static double normal(uint64_t *state) {
    const double width = 53509.85; /* sqrt(8 / 12) * 65536 */
    uint64_t a = draw(state), b = draw(state);
    int64_t sum = 0;
    for (int i = 0; i < 64; i += 16)
        sum += (int64_t)(a >> i & 0xffff) + (int64_t)(b >> i & 0xffff);
    return (double)(sum - 4 * 65535) / width;
}

static uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Rounds to even; |x| stays far below 65504. */
static uint16_t to_f16(float x) {
    uint32_t bits, sign;
    memcpy(&bits, &x, sizeof bits);
    sign = bits >> 16 & 0x8000;
    bits &= UINT32_C(0x7fffffff);
    if (bits < UINT32_C(0x38800000)) { /* 2^-14: below, the half is a multiple of 2^-24, which adding 0.5 rounds to */
        float magnitude;
        memcpy(&magnitude, &bits, sizeof magnitude);
        magnitude += 0.5f;
        memcpy(&bits, &magnitude, sizeof bits);
        return (uint16_t)(sign | (bits - UINT32_C(0x3f000000)));
    }
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | (bits - UINT32_C(0x38000000)) >> 13);
}

static void put(void *data, int64_t i, seqtopk_dtype dtype, float x) {
    switch (dtype) {
    case SEQTOPK_DTYPE_F32: ((float *)data)[i] = x; break;
    case SEQTOPK_DTYPE_BF16: ((uint16_t *)data)[i] = to_bf16(x); break;
    case SEQTOPK_DTYPE_F16: ((uint16_t *)data)[i] = to_f16(x); break;
    }
}

int seqtopk_cli_logits_make(seqtopk_cli_logits *logits, int64_t tokens, int64_t experts, seqtopk_dtype dtype,
                            int biased, uint64_t seed) {
    enum { LINE = 64 };
    const unsigned long long size = dtype == SEQTOPK_DTYPE_F32 ? 4 : 2;
    const unsigned long long bytes = size * (unsigned long long)tokens * (unsigned long long)experts;
    double *liking = seqtopk_cli_alloc((unsigned long long)experts, sizeof *liking);
    *logits = (seqtopk_cli_logits){.bytes = (size_t)bytes};
    if (bytes <= SIZE_MAX - LINE)
        logits->data = aligned_alloc(LINE, ((size_t)bytes + LINE - 1) / LINE * LINE);
    if (biased)
        logits->bias = seqtopk_cli_alloc((unsigned long long)experts, sizeof(float));
    if (!liking || !logits->data || (biased && !logits->bias)) {
        free(liking);
        return 0;
    }
    for (int64_t e = 0; e < experts; e++) {
        liking[e] = 0.5 * normal(&seed);
        if (biased)
            logits->bias[e] = (float)(0.25 * normal(&seed));
    }
    for (int64_t t = 0, i = 0; t < tokens; t++) {
        const double sureness = 0.75 + uniform(&seed);
        for (int64_t e = 0; e < experts; e++, i++)
            put(logits->data, i, dtype, (float)(sureness * (liking[e] + normal(&seed))));
    }
    free(liking);
    return 1;
}

void seqtopk_cli_logits_free(seqtopk_cli_logits *logits) {
    free(logits->data);
    free(logits->bias);
}
