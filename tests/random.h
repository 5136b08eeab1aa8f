/* SPDX-License-Identifier: MIT */
/* Seeded random numbers, the same on every machine, and the kinds of logits that routers and adversaries produce. */
#ifndef SEQTOPK_TESTS_RANDOM_H
#define SEQTOPK_TESTS_RANDOM_H

#include <stddef.h>
#include <stdint.h>

typedef struct random_state {
    uint64_t s[4];
} random_state;

/* Where a run begins that is not told: at SEQTOPK_TEST_SEED, or at the time. */
uint64_t random_first_seed(void);
void random_seed(random_state *r, uint64_t seed);
uint64_t random_u64(random_state *r);
uint32_t random_below(random_state *r, uint32_t n); /* [0, n) */
double random_unit(random_state *r);                /* [0, 1) */
double random_normal(random_state *r);
void random_shuffle(random_state *r, int32_t *values, size_t n);

typedef enum random_kind {
    RANDOM_NORMAL,
    RANDOM_UNIFORM,
    RANDOM_FEW,        /* five distinct values: ties everywhere */
    RANDOM_EQUAL,      /* one value */
    RANDOM_TWO,        /* two values, the larger one rare */
    RANDOM_ASCENDING,  /* along each row */
    RANDOM_DESCENDING, /* along each row */
    RANDOM_GIANT,      /* one row far above all others */
    RANDOM_DRIFT,      /* rises along the sequence */
    RANDOM_DENORMAL,
    RANDOM_ZEROS,     /* +0 and -0 */
    RANDOM_EXCLUDED,  /* every third logit is -inf */
    RANDOM_EMPTY,     /* whole rows of -inf among others */
    RANDOM_HUGE,      /* 1e38, -3e38 */
    RANDOM_OFFSET,    /* near 1000 */
    RANDOM_EXTREME,   /* near +-88, where exp overflows and underflows */
    RANDOM_PREFERRED, /* the same few experts far ahead in every row */
    RANDOM_BEATS,     /* one row in 16 far above the others */
    RANDOM_KINDS
} random_kind;

const char *random_kind_name(random_kind kind);

/* Fills [rows, experts] with logits of `dtype` (a seqtopk_dtype), rows `stride` elements apart. None is NaN or +inf. */
void random_logits(random_state *r, random_kind kind, int dtype, void *logits, size_t rows, size_t experts,
                   size_t stride);

/* Rounds to nearest, ties to even; what lies beyond the largest finite value becomes that. */
uint16_t random_to_bf16(float value);
uint16_t random_to_f16(float value);

/* Stores one value of `dtype`, or its bits. */
void random_store(void *logits, int dtype, size_t index, float value);
void random_store_bits(void *logits, int dtype, size_t index, uint32_t bits);

/* The bits of the i-th NaN of `dtype`, i < RANDOM_NANS: every combination of the ten low bits under a few upper ones, in
 * both signs; beyond those a random one. */
enum { RANDOM_NANS = 8192 };
uint32_t random_nan(random_state *r, int dtype, uint32_t i);

#endif
