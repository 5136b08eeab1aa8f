/* SPDX-License-Identifier: MIT */
/*
 * select_keys by digits of the keys' numbers in the order of floats. The digits are counted from the range in which the keys
 * lie, since the exponents of a router's keys are few; what shares the k-th largest's digit is compressed for the next.
 * Four rounds at the most, whatever the keys are.
 */
#ifndef SEQTOPK_ARCH_COMMON_SELECT_RADIX_H
#define SEQTOPK_ARCH_COMMON_SELECT_RADIX_H

#include "arch/common/select.h"

enum { DIGIT_BITS = 10, DIGITS = 1 << DIGIT_BITS };

/* The numbers of the least and the largest of keys [n], n > 0; -0 counts as +0. */
static inline between range_of(const float *keys, int64_t n) {
    vec least = vec_set1(keys[0]), most = least;
    float lows[VEC_LANES], highs[VEC_LANES];
    int64_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) {
        const vec x = vec_load(keys + i);
        least = vec_min(least, x);
        most = vec_max(most, x);
    }
    vec_store(lows, least);
    vec_store(highs, most);
    float low = lows[0], high = highs[0];
    for (int v = 1; v < VEC_LANES; v++) {
        low = lows[v] < low ? lows[v] : low;
        high = highs[v] > high ? highs[v] : high;
    }
    for (; i < n; i++) {
        low = keys[i] < low ? keys[i] : low;
        high = keys[i] > high ? keys[i] : high;
    }
    return (between){number_of(low + 0.0f), number_of(high + 0.0f)};
}

/* How many keys have each digit, in two halves: equal digits in a row do not wait for each other. The digit of a NaN,
 * which callers promise not to pass, is the last one. */
static inline void count_digits(const float *keys, int64_t n, uint32_t from, int shift, uint32_t last,
                                uint32_t counts[2][DIGITS]) {
    enum { BLOCK = 64 };
    int64_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        uint32_t digit[BLOCK];
        for (int j = 0; j < BLOCK; j++) {
            const uint32_t own = (number_of(keys[i + j] + 0.0f) - from) >> shift;
            digit[j] = own < last ? own : last;
        }
        for (int j = 0; j < BLOCK; j += 2) {
            counts[0][digit[j]]++;
            counts[1][digit[j + 1]]++;
        }
    }
    for (; i < n; i++) {
        const uint32_t own = (number_of(keys[i] + 0.0f) - from) >> shift;
        counts[0][own < last ? own : last]++;
    }
}

static inline seqtopk_kth select_by_digits(const float *keys, int64_t n, int64_t k, float *work) {
    const int64_t wanted = k;
    const uint32_t minus_zero = number_of(-0.0f);
    if (n > FEW) {
        between in = range_of(keys, n);
        for (int round = 0; n > FEW && round < ROUNDS; round++) {
            if (in.least == in.most)
                return (seqtopk_kth){numbered(in.least), wanted - k, n};
            uint32_t counts[2][DIGITS];
            const int bits = 32 - __builtin_clz(in.most - in.least), shift = bits > DIGIT_BITS ? bits - DIGIT_BITS : 0;
            const uint32_t digits = ((in.most - in.least) >> shift) + 1;
            memset(counts[0], 0, digits * sizeof counts[0][0]);
            memset(counts[1], 0, digits * sizeof counts[1][0]);
            count_digits(keys, n, in.least, shift, digits - 1, counts);
            uint32_t digit = digits - 1;
            for (; digit > 0 && k > counts[0][digit] + counts[1][digit]; digit--)
                k -= counts[0][digit] + counts[1][digit];
            const uint32_t first = in.least + (digit << shift), last = first + (uint32_t)((1ull << shift) - 1);
            in.least = first;
            in.most = last < in.most ? last : in.most;
            /* No key has the number of -0, which compares as +0 does. */
            n = keep(KEEP_INSIDE, keys, n, numbered(in.least), numbered(in.most - (in.most == minus_zero)), work, NULL);
            keys = work;
        }
    }
    seqtopk_kth place = select_few64(keys, n, k);
    place.above += wanted - k;
    return place;
}

#endif
