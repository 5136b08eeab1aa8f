/* SPDX-License-Identifier: MIT */
/* What the variants of select_keys share: up to 64 keys sorted by a network, larger arrays sampled, counted and compressed. */
#ifndef SEQTOPK_ARCH_COMMON_SELECT_H
#define SEQTOPK_ARCH_COMMON_SELECT_H

#include "arch/common/few.h"

enum { FEW = 64, FEW_VECS = FEW / VEC_LANES };

/* The first n keys, which may be none or more than there are lanes; -inf in the other lanes. */
static inline vec load_first(const float *p, int64_t n) {
    return vec_load_first(p, n > VEC_LANES ? VEC_LANES : n > 0 ? (int)n : 0);
}

/* Of several groups at once: whether to inline so many columns is left to the compiler. */
static inline void order16(vec x[VECS], const int stride, const int32_t *larger, const int rising) {
    column16(x, stride, larger, rising);
}

/* Sorts x [16] that first falls and then rises, or the other way round, or is a rotation of such. */
static inline void merge16(vec x[VECS], const int rising) {
    order16(x, 8, larger16[6], rising);
    order16(x, 4, larger16[7], rising);
    order16(x, 2, larger16[8], rising);
    order16(x, 1, larger16[9], rising);
}

/* What comes before merge16: one run of 8 that falls, and one that rises. */
static inline void runs8(vec x[VECS]) {
    order16(x, 1, larger16[0], 0);
    order16(x, 2, larger16[1], 0);
    order16(x, 1, larger16[2], 0);
    order16(x, 4, larger16[3], 0);
    order16(x, 2, larger16[4], 0);
    order16(x, 1, larger16[5], 0);
}

/* Lane by lane the larger to a and the smaller to b. Of two zeros, which are equal, each is kept. */
static inline void part_vec(vec *a, vec *b) {
    const vec most = vec_max(*a, *b), least = vec_min(*b, *a);
    *a = most;
    *b = least;
}

/* x [16 * groups] sorted, largest first: a bitonic network. groups: 1, 2 or 4. */
static inline void sort_groups(vec *x, const int groups) {
    for (int g = 0; g < groups; g++)
        runs8(x + g * VECS);
    for (int g = 0; g < groups; g++)
        merge16(x + g * VECS, g & 1);
    for (int pair = 0; pair < groups / 2; pair++) {
        vec *const y = x + 2 * pair * VECS;
        for (int v = 0; v < VECS; v++)
            pair ? part_vec(y + VECS + v, y + v) : part_vec(y + v, y + VECS + v);
        merge16(y, pair);
        merge16(y + VECS, pair);
    }
    if (groups == 4) {
        for (int v = 0; v < 2 * VECS; v++)
            part_vec(x + v, x + 2 * VECS + v);
        for (int half = 0; half < 4; half += 2)
            for (int v = 0; v < VECS; v++)
                part_vec(x + half * VECS + v, x + (half + 1) * VECS + v);
        for (int g = 0; g < 4; g++)
            merge16(x + g * VECS, 0);
    }
}

/* The place of the k-th largest of keys [n], n <= 16 * groups. */
static inline seqtopk_kth select_groups(const float *keys, int64_t n, int64_t k, const int groups) {
    vec x[FEW_VECS], sorted[FEW_VECS];
    float fallen[FEW];
    for (int v = 0; v < groups * VECS; v++)
        sorted[v] = x[v] = load_first(keys + v * VEC_LANES, n - v * VEC_LANES);
    sort_groups(sorted, groups);
    for (int v = 0; v < groups * VECS; v++)
        vec_store(fallen + v * VEC_LANES, sorted[v]);
    seqtopk_kth place = {fallen[k < 1 ? 0 : (k < groups * LANES ? k : groups * LANES) - 1], 0,
                         0}; /* k > n only after a NaN */
    const vec key = vec_set1(place.key);
    for (int v = 0; v < groups * VECS; v++) {
        place.above += count_bits(vec_mask_gt(x[v], key));
        place.equal += count_bits(vec_mask_eq(x[v], key));
    }
    return place;
}

/* The same for n <= FEW. */
static inline seqtopk_kth select_few64(const float *keys, int64_t n, int64_t k) {
    return n <= LANES       ? select_groups(keys, n, k, 1)
           : n <= 2 * LANES ? select_groups(keys, n, k, 2)
                            : select_groups(keys, n, k, 4);
}

/*
 * Keys from all over keys [n], n > FEW, sorted. Four neighbours at a time are had for the price of one, but are likely
 * to be of one token and tell less; where passes are long, that counts.
 */
static inline void sort_sample(const float *keys, int64_t n, float sorted[FEW]) {
    enum { LONG = 16384 };
    vec x[FEW_VECS];
    if (n <= LONG)
        for (uint64_t i = 0; i < FEW; i += 4)
            memcpy(sorted + i, keys + (uint64_t)(n - 3) * (i + 2) / FEW, 4 * sizeof *sorted);
    else
        for (uint64_t i = 0; i < FEW; i++)
            sorted[i] = keys[(uint64_t)n * (2 * i + 1) / (2 * FEW)];
    for (int v = 0; v < FEW_VECS; v++)
        x[v] = vec_load(sorted + v * VEC_LANES);
    sort_groups(x, FEW / LANES);
    for (int v = 0; v < FEW_VECS; v++)
        vec_store(sorted + v * VEC_LANES, x[v]);
}

/* Floats numbered in their order, -0 just before +0; and back. */
static inline uint32_t number_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits >> 31 ? ~bits : bits | 0x80000000;
}

static inline float numbered(uint32_t number) {
    const uint32_t bits = number >> 31 ? number & 0x7fffffff : ~number;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The next larger float, of the two zeros the one that is followed by positive numbers; no NaN, nor +inf. */
static inline float next_up(float x) { return numbered(number_of(x + 0.0f) + 1); }

/*
 * The numbers between which a key is known to be. Where sampling does not get on, halving these does, in 32 steps at
 * the most: no input takes more than so many passes. Each is counted all the same (ROUNDS): a loop that ends only if a
 * comparison turns out as it should would not end with a NaN, which callers promise not to pass.
 */
enum { ROUNDS = 256 };
typedef struct {
    uint32_t least, most;
} between;

static inline between anywhere(void) { return (between){number_of(-INFINITY), number_of(INFINITY)}; }
static inline float middle(between b) { return numbered(b.least + (b.most - b.least) / 2); }
/* It is above x, or below it. */
static inline void rise(between *b, float x) { b->least = number_of(x) + 1 > b->least ? number_of(x) + 1 : b->least; }
static inline void fall(between *b, float x) { b->most = number_of(x) - 1 < b->most ? number_of(x) - 1 : b->most; }

/* How many keys are above x, or at it too. */
static inline int64_t count_above(const float *keys, int64_t n, float x, const int or_at) {
    const vec limit = vec_set1(x);
    int64_t count = 0, i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) {
        const vec y = vec_load(keys + i);
        count += count_bits(or_at ? vec_mask_ge(y, limit) : vec_mask_gt(y, limit));
    }
    for (; i < n; i++)
        count += or_at ? keys[i] >= x : keys[i] > x;
    return count;
}

/* How many keys are above `most`, and how many at or above `least`. */
static inline void count_brackets(const float *keys, int64_t n, float least, float most, int64_t *above,
                                  int64_t *upto) {
    const vec low = vec_set1(least), high = vec_set1(most);
    int64_t over = 0, in = 0, i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) {
        const vec x = vec_load(keys + i);
        over += count_bits(vec_mask_gt(x, high));
        in += count_bits(vec_mask_ge(x, low));
    }
    if (i < n) {
        const vec x = load_first(keys + i, n - i);
        over += count_bits(vec_mask_gt(x, high) & first_lanes(n - i));
        in += count_bits(vec_mask_ge(x, low) & first_lanes(n - i));
    }
    *above = over;
    *upto = in;
}

/* Which keys to keep: above `most`, from `least` on, both at once, up to `most`, or below `least`. */
enum { KEEP_ABOVE, KEEP_FROM, KEEP_INSIDE, KEEP_UPTO, KEEP_BELOW };

static inline uint32_t to_keep(const int what, vec x, vec low, vec high, int64_t *above) {
    if (what == KEEP_ABOVE)
        return vec_mask_gt(x, high);
    if (what == KEEP_FROM)
        return vec_mask_ge(x, low);
    if (what == KEEP_UPTO)
        return vec_mask_ge(high, x);
    if (what == KEEP_BELOW)
        return vec_mask_gt(low, x);
    const uint32_t over = vec_mask_gt(x, high);
    *above += count_bits(over);
    return vec_mask_ge(x, low) & ~over;
}

/* Moves such keys together to `to` [n], which may be where they are; returns how many. *above gets those above `most`
 * where that is not known from the answer: KEEP_INSIDE. */
static inline int64_t keep(const int what, const float *keys, int64_t n, float least, float most, float *to,
                           int64_t *above) {
    const vec low = vec_set1(least), high = vec_set1(most);
    int64_t kept = 0, over = 0, i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) {
        const vec x = vec_load(keys + i);
        const uint32_t in = to_keep(what, x, low, high, &over);
        vec_store(to + kept, vec_compress(x, in));
        kept += count_bits(in);
    }
    if (i < n) {
        const vec x = load_first(keys + i, n - i);
        /* -inf beyond the end are never above. */
        const uint32_t in = to_keep(what, x, low, high, &over) & first_lanes(n - i);
        const int taken = count_bits(in);
        vec_store_first(to + kept, vec_compress(x, in), taken);
        kept += taken;
    }
    if (above)
        *above = over;
    return kept;
}

#endif
