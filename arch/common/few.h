/* SPDX-License-Identifier: MIT */
/* Sixteen keys or a few more: sorted by a network, ranked by counting, the first k of them taken and listed. Included after an ISA's vec.h. */
#ifndef SEQTOPK_ARCH_COMMON_FEW_H
#define SEQTOPK_ARCH_COMMON_FEW_H

#include "arch/common/insert.h"
#include "arch/common/lanes.h"
#include "arch/common/weigh.h"
#include "arch/kernel.h"

/* The compiler's own vectors: to count lanes needs no other instruction. */
typedef float lane_floats __attribute__((vector_size(4 * VEC_LANES), aligned(4), may_alias));
typedef int32_t lane_ints __attribute__((vector_size(4 * VEC_LANES), aligned(4), may_alias));

/* How many of keys [n] are above each lane of x [vecs]: none waits for another. */
static inline __attribute__((always_inline)) void count_lanes_above(const vec *x, const int vecs, const float *keys,
                                                                    const int n, vec *above) {
    lane_ints counts[2 * VECS];
    for (int v = 0; v < vecs; v++)
        counts[v] = (lane_ints){0};
    for (int i = 0; i < n; i++) {
        const vec other = vec_set1(keys[i]);
        for (int v = 0; v < vecs; v++)
            counts[v] -= (lane_floats)other > (lane_floats)x[v];
    }
    for (int v = 0; v < vecs; v++) {
        const lane_floats own = __builtin_convertvector(counts[v], lane_floats);
        above[v] = vec_load((const float *)(const void *)&own);
    }
}

/* Keys as rows that need no score. */
static inline seqtopk_rows rows_of_keys(const float *keys, int32_t experts) {
    return (seqtopk_rows){.logits = keys,
                          .stride = (int64_t)experts * (int64_t)sizeof *keys,
                          .experts = experts,
                          .ahead = SEQTOPK_AHEAD,
                          .score = SEQTOPK_SCORE_LOGITS,
                          .key = SEQTOPK_KEY_LOGIT};
}

static inline vec load_upto(const float *p, int64_t n) {
    float part[VEC_LANES] = {0};
    if (n >= VEC_LANES)
        return vec_load(p);
    memcpy(part, p, (size_t)n * sizeof *p);
    return vec_load(part);
}

/*
 * A bitonic network over 16 lanes, column by column: each lane against the one `stride` away, which keeps the larger of the
 * two where `larger` is -1. The columns by the size of what is merged, and stride.
 */
static const int32_t larger16[10][LANES] = {
    {-1, 0, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1}, /* 2, 1 */
    {-1, -1, 0, 0, 0, 0, -1, -1, -1, -1, 0, 0, 0, 0, -1, -1}, /* 4, 2 */
    {-1, 0, -1, 0, 0, -1, 0, -1, -1, 0, -1, 0, 0, -1, 0, -1}, /* 4, 1 */
    {-1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1}, /* 8, 4 */
    {-1, -1, 0, 0, -1, -1, 0, 0, 0, 0, -1, -1, 0, 0, -1, -1}, /* 8, 2 */
    {-1, 0, -1, 0, -1, 0, -1, 0, 0, -1, 0, -1, 0, -1, 0, -1}, /* 8, 1 */
    {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0}, /* 16, 8 */
    {-1, -1, -1, -1, 0, 0, 0, 0, -1, -1, -1, -1, 0, 0, 0, 0}, /* 16, 4 */
    {-1, -1, 0, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1, -1, 0, 0}, /* 16, 2 */
    {-1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0}, /* 16, 1 */
};

/* One column, for a result that falls, or rises. */
static inline __attribute__((always_inline)) void column16(vec x[VECS], const int stride, const int32_t *larger,
                                                           const int rising) {
    vec across[VECS];
    for (int v = 0; v < VECS; v++)
        across[v] = VECS > 1 && stride >= VEC_LANES ? x[v ^ (stride / VEC_LANES)] : vec_across(x[v], stride);
    for (int v = 0; v < VECS; v++) {
        const vec least = vec_min(x[v], across[v]), most = vec_max(x[v], across[v]);
        x[v] = vec_blend(larger + v * VEC_LANES, rising ? least : most, rising ? most : least);
    }
}

/* x [16] sorted, largest first. */
static inline __attribute__((always_inline)) void sort16(vec x[VECS]) {
    column16(x, 1, larger16[0], 0);
    column16(x, 2, larger16[1], 0);
    column16(x, 1, larger16[2], 0);
    column16(x, 4, larger16[3], 0);
    column16(x, 2, larger16[4], 0);
    column16(x, 1, larger16[5], 0);
    column16(x, 8, larger16[6], 0);
    column16(x, 4, larger16[7], 0);
    column16(x, 2, larger16[8], 0);
    column16(x, 1, larger16[9], 0);
}

/* The k-th largest of x [16], 1 <= k <= 16. */
static inline float kth16(const vec x[VECS], int k) {
    float sorted[LANES];
    vec y[VECS];
    for (int v = 0; v < VECS; v++)
        y[v] = x[v];
    sort16(y);
    for (int v = 0; v < VECS; v++)
        vec_store(sorted + v * VEC_LANES, y[v]);
    return sorted[k - 1];
}

/* Which of some keys are the first k: those above the cut, and so many ties, the lower places first. */
typedef struct {
    float cut;
    int32_t ties;
} first_k;

static inline first_k first_of_place(seqtopk_kth place, int32_t k) {
    return (first_k){place.key, k - (int32_t)place.above};
}

/* The first k of keys [n] whose k-th largest is `kth`; all if there are no more. */
static inline first_k first_of_row(const float *keys, int32_t n, int32_t k, float kth) {
    first_k first = {-INFINITY, 0};
    int32_t reach = 0, above = 0;
    if (n <= k)
        return first;
    for (int32_t i = 0; i < n; i += VEC_LANES)
        reach += count_bits(vec_mask_ge(vec_load(keys + i), vec_set1(kth)) & first_lanes(n - i));
    first = (first_k){kth, n};
    if (reach > k) { /* ties */
        for (int32_t i = 0; i < n; i += VEC_LANES)
            above += count_bits(vec_mask_gt(vec_load(keys + i), vec_set1(kth)) & first_lanes(n - i));
        first.ties = k - above;
    }
    return first;
}

/* Of many keys, one after the other, the largest first: k rounds at the most, whatever the keys are. */
static inline first_k first_of_many(const float *keys, int32_t n, int32_t k) {
    first_k first = {INFINITY, k};
    for (int32_t equal = 0, rounds = 0; equal < first.ties && rounds < k; rounds++) {
        float lanes[VEC_LANES];
        vec most = vec_set1(-INFINITY);
        first.ties -= equal;
        for (int32_t i = 0; i < n; i += VEC_LANES) {
            const vec x = vec_keep_first(load_upto(keys + i, n - i), n - i, -INFINITY);
            most = vec_max(most, vec_if_lt(x, vec_set1(first.cut), x, vec_set1(-INFINITY)));
        }
        vec_store(lanes, most);
        first.cut = -INFINITY;
        for (int i = 0; i < VEC_LANES; i++)
            first.cut = lanes[i] > first.cut ? lanes[i] : first.cut;
        equal = 0;
        for (int32_t i = 0; i < n; i += VEC_LANES)
            equal += count_bits(vec_mask_eq(load_upto(keys + i, n - i), vec_set1(first.cut)) & first_lanes(n - i));
    }
    return first;
}

/* The largest of a vector's lanes. */
static inline float largest_lane(vec x) { return first_lane(largest_across(x, VEC_LANES)); }

/* Whether of keys [n] equal ones are both among the first and not. */
static inline int splits_equals(const float *keys, int32_t n, first_k first) {
    int32_t equal = 0;
    if (!(first.cut > -INFINITY) || first.ties >= n)
        return 0;
    for (int32_t i = 0; i < n; i += VEC_LANES)
        equal += count_bits(vec_mask_eq(load_upto(keys + i, n - i), vec_set1(first.cut)) & first_lanes(n - i));
    return equal > first.ties;
}

/* Those of one vector, and fewer ties for the next. */
static inline uint32_t take_first(vec x, uint32_t inside, first_k *first) {
    const uint32_t over = vec_mask_gt(x, vec_set1(first->cut)) & inside;
    uint32_t equal = vec_mask_eq(x, vec_set1(first->cut)) & inside;
    while (equal && count_bits(equal) > first->ties) /* the later experts lose */
        equal &= ~(1u << (31 - __builtin_clz(equal)));
    first->ties -= count_bits(equal);
    return over | equal;
}

/* Puts the first `taken` lanes at place `at` of the lists, and nothing at or beyond `end`. */
static inline __attribute__((always_inline)) void append(const seqtopk_lists *to, int64_t at, int64_t end, vec keys,
                                                         vec ids, int taken) {
    if (to->to_scores)
        keys = score_of_key(to->score, ASKS_ALL_LANES ? vec_keep_first(keys, taken, 0.0f) : keys);
    if (end - at >= VEC_LANES) {
        vec_store(to->keys + at, keys);
        vec_store_bits(to->ids + at, ids);
    } else {
        float some_keys[VEC_LANES];
        int32_t some_ids[VEC_LANES];
        const size_t fits = end - at < taken ? (end > at ? (size_t)(end - at) : 0) : (size_t)taken;
        vec_store(some_keys, keys);
        vec_store_bits(some_ids, ids);
        memcpy(to->keys + at, some_keys, fits * sizeof *some_keys);
        memcpy(to->ids + at, some_ids, fits * sizeof *some_ids);
    }
}

/* The first k of one row, as op topk_row has them: what reaches the k-th largest of its lanes' maxima, sorted. */
static inline int32_t topk_of_row(const float *keys, int32_t n, int32_t k, int32_t *ids) {
    enum { MOST = 64 };
    int32_t few_ids[MOST], size = 0, listed = 0;
    vec most[VECS];
    if (k > LANES || k < 1 || n <= 2 * k)
        return insert_row(keys, n, k, ids);
    for (int v = 0; v < VECS; v++)
        most[v] = vec_set1(-FLT_MAX);
    for (int32_t i = 0; i < n; i += LANES)
        for (int v = 0; v < VECS; v++) {
            const int32_t at = i + v * VEC_LANES;
            const vec x = at + VEC_LANES <= n ? vec_load(keys + at)
                          : at < n            ? vec_keep_first(load_upto(keys + at, n - at), n - at, -INFINITY)
                                              : vec_set1(-INFINITY);
            most[v] = vec_max(most[v], x);
        }
    const vec limit = vec_set1(kth16(most, k));
    for (int32_t i = 0; i < n; i += VEC_LANES) {
        const vec x = i + VEC_LANES <= n ? vec_load(keys + i) : load_upto(keys + i, n - i);
        for (uint32_t in = vec_mask_ge(x, limit) & first_lanes(n - i); in; in &= in - 1) {
            if (size == MOST) /* ties */
                return insert_row(keys, n, k, ids);
            few_ids[size++] = i + __builtin_ctz(in);
        }
    }
    for (int32_t i = 0; i < size; i++)
        listed = insert_id(keys, few_ids[i], k, ids, listed);
    return listed;
}

#endif
