/* SPDX-License-Identifier: MIT */
/* Keys with their tokens as one number each: the larger word comes first in the order (larger key, then lower token). */
#ifndef SEQTOPK_ARCH_WORDS_H
#define SEQTOPK_ARCH_WORDS_H

#include <stdint.h>
#include <string.h>

/* Orders as the key does; -0 equals +0. */
static inline uint32_t seqtopk_digits_of(float key) {
    uint32_t bits;
    const float one_zero = key + 0.0f;
    memcpy(&bits, &one_zero, sizeof bits);
    return bits ^ ((bits >> 31) * 0x7fffffffu | 0x80000000u);
}

static inline uint64_t seqtopk_word_of(float key, int64_t token) {
    return (uint64_t)seqtopk_digits_of(key) << 32 | (uint32_t)(UINT32_MAX - (uint32_t)token);
}

static inline int64_t seqtopk_token_of(uint64_t word) { return (int64_t)(UINT32_MAX - (uint32_t)word); }

/* For qsort: the first in the order before the others. */
static inline int seqtopk_by_word(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* Below and above every word. */
#define SEQTOPK_WORD_LEAST 0
#define SEQTOPK_WORD_MOST UINT64_MAX

#endif
