/* SPDX-License-Identifier: MIT */
/*
 * Quickselect in place: keys above a pivot are moved to the front, whole vectors at a time, from both ends; then one of
 * the two sides is gone on with. Where many keys equal the pivot a second pass puts those in the middle.
 */
#ifndef SEQTOPK_ARCH_COMMON_SELECT_QUICKSELECT_H
#define SEQTOPK_ARCH_COMMON_SELECT_QUICKSELECT_H

#include "arch/common/select.h"

enum { SIDE = 4, SIDE_KEYS = SIDE * VEC_LANES }; /* vectors read from one end before the ends are compared again */

/* Rearranges keys [n] so that those above `pivot` come first; returns how many. */
static inline int64_t part_above(float *keys, int64_t n, float pivot) {
    const uint32_t all = first_lanes(VEC_LANES);
    const vec p = vec_set1(pivot);
    vec held[3 * SIDE];
    int vecs = 0;
    /* [left, from) and [to, right) may be overwritten, [from, to) is still to be read. */
    float *left = keys, *right = keys + n, *from = left, *to = right;
    if (n >= 2 * SIDE_KEYS) {
        for (; vecs < 2 * SIDE; vecs += 2, from += VEC_LANES) {
            held[vecs] = vec_load(from);
            held[vecs + 1] = vec_load(to -= VEC_LANES);
        }
        while (to - from >= SIDE_KEYS) {
            const float *source = from;
            vec x[SIDE];
            if (from - left <= right - to)
                from += SIDE_KEYS;
            else
                source = to -= SIDE_KEYS;
            for (int v = 0; v < SIDE; v++)
                x[v] = vec_load(source + v * VEC_LANES);
            for (int v = 0; v < SIDE; v++) {
                const uint32_t above = vec_mask_gt(x[v], p);
                const int count = count_bits(above);
                vec_store_split(left, right, x[v], above);
                left += count;
                right -= VEC_LANES - count;
            }
        }
    }
    for (; to - from >= VEC_LANES; from += VEC_LANES)
        held[vecs++] = vec_load(from);
    const int rest = (int)(to - from);
    const vec last = vec_load_first(from, rest);
    /* Nothing is unread now, and the ends may meet: no store may reach beyond its own keys. */
    for (int v = 0; v < vecs; v++) {
        const uint32_t above = vec_mask_gt(held[v], p);
        const int count = count_bits(above);
        vec_store_first(left, vec_compress(held[v], above), count);
        right -= VEC_LANES - count;
        vec_store_first(right, vec_compress(held[v], above ^ all), VEC_LANES - count);
        left += count;
    }
    const uint32_t above = vec_mask_gt(last, p) & first_lanes(rest);
    const int count = count_bits(above);
    vec_store_first(left, vec_compress(last, above), count);
    vec_store_first(left + count, vec_compress(last, above ^ first_lanes(rest)), rest - count);
    return left + count - keys;
}

/* The largest number less than x, in the order of keys. */
static inline float next_below(float x) { return numbered(number_of(x == 0 ? -0.0f : x) - 1); }

/* Sorts keys [n], n <= FEW. */
static inline void sort_few(float *keys, int64_t n) {
    vec x[FEW_VECS];
    for (int v = 0; v < FEW_VECS; v++)
        x[v] = load_first(keys + v * VEC_LANES, n - v * VEC_LANES);
    sort_groups(x, FEW / LANES);
    for (int64_t i = 0, v = 0; i < n; i += VEC_LANES, v++)
        vec_store_first(keys + i, x[v], n - i < VEC_LANES ? (int)(n - i) : VEC_LANES);
}

/* The k-th largest of keys [n], which are rearranged so that the k largest come first. */
static inline seqtopk_kth quickselect(float *keys, int64_t n, int64_t k) {
    enum { PATIENCE = 6 }; /* rounds that leave more than three quarters */
    const float *const begin = keys;
    between where = anywhere();
    int bad = 0;
    for (int round = 0; n > FEW && round < ROUNDS; round++) {
        float sorted[FEW];
        const float share = (float)k / (float)n;
        const int at = (int)((k - 1) * FEW / n), aside = 1 + (int)sqrtf((float)FEW * share * (1 - share));
        const int64_t before = n;
        float pivot;
        int ties = 1;
        if (bad > PATIENCE) {
            pivot = middle(where);
        } else {
            /* A little to the side where fewer keys are: those are likely to be what is left. */
            sort_sample(keys, n, sorted);
            const int place = at < FEW / 2 ? at + aside : at - aside;
            pivot = sorted[place];
            ties = (place > 0 && sorted[place - 1] == pivot) || (place < FEW - 1 && sorted[place + 1] == pivot);
        }
        const int64_t above = part_above(keys, n, pivot);
        if (k <= above) {
            rise(&where, pivot);
            n = above;
        } else {
            keys += above;
            n -= above;
            k -= above;
            if (ties) {
                const int64_t equal = pivot == -INFINITY ? n : part_above(keys, n, next_below(pivot));
                if (k <= equal)
                    return (seqtopk_kth){pivot, keys - begin, equal};
                fall(&where, pivot);
                keys += equal;
                n -= equal;
                k -= equal;
            }
        }
        bad += n > before - before / 4;
    }
    sort_few(keys, n < FEW ? n : FEW); /* more are left only after a NaN */
    seqtopk_kth place = {keys[k - 1], keys - begin, 0};
    for (int64_t i = 0; i < n; i++) {
        place.above += keys[i] > place.key;
        place.equal += keys[i] == place.key;
    }
    return place;
}

#endif
