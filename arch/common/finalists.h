/* SPDX-License-Identifier: MIT */
/*
 * The few experts of a row that may be among its first k: found by a limit that at least k of its keys reach, scored to the
 * last bit, and the first k of them listed.
 */
#ifndef SEQTOPK_ARCH_COMMON_FINALISTS_H
#define SEQTOPK_ARCH_COMMON_FINALISTS_H

#include "arch/common/columns.h"
#include "arch/common/weigh.h"

/* States of a row: to be decided by what is compared; masked; to be decided by all of its exact keys. */
enum { ROW_OPEN = 0, ROW_MASKED = -1, ROW_WHOLE = -2 };

/* Of one row. */
typedef struct {
    /* At first the maxima of the row's lanes; then of the finalists the logits as they stand in the row (the low bits of
     * 32), and at last their scores. */
    _Alignas(64) float x[COLUMN_MOST];
    float keys[COLUMN_MOST]; /* their biases, then keys */
    uint16_t ids[COLUMN_MOST];
    int32_t found; /* how many; or ROW_MASKED or ROW_WHOLE */
} finalists;

/* Of a row alone, in registers (arch/common/one.inc), at most. */
enum { FINALISTS_OF_ONE = 2 * LANES };

/* From one row's to the next's, in floats. */
enum { FINALISTS_STRIDE = sizeof(finalists) / sizeof(float) };

/* How many lanes' maxima bound a row's top_k-th largest closely: of 2 * top_k lanes it is about the 1.4 * top_k-th. */
static inline int lanes_of_top_k(int32_t top_k) {
    return top_k <= 8 ? LANES : top_k <= 12 ? 2 * LANES : top_k <= 32 ? 4 * LANES : 8 * LANES;
}

/* The maxima of `lanes` lanes of x [n], n a multiple of 16: element i to lane i mod `lanes`, which is a constant. */
static inline __attribute__((always_inline)) void lane_maxima(const float *x, int32_t n, const int lanes,
                                                              float *maxima) {
    vec most[COLUMN_MOST / VEC_LANES];
    int32_t i = 0;
    for (int v = 0; v < lanes / VEC_LANES; v++)
        most[v] = vec_set1(-INFINITY);
    for (; i + lanes <= n; i += lanes)
        for (int v = 0; v < lanes / VEC_LANES; v++)
            most[v] = vec_max(most[v], vec_load(x + i + v * VEC_LANES));
    for (int v = 0; v < lanes / VEC_LANES; v++)
        vec_store(maxima + v * VEC_LANES,
                  i + v * VEC_LANES < n ? vec_max(most[v], vec_load(x + i + v * VEC_LANES)) : most[v]);
}

static inline void find_maxima(const float *x, int32_t n, int lanes, float *maxima) {
    switch (lanes) {
    case LANES: lane_maxima(x, n, LANES, maxima); break;
    case 2 * LANES: lane_maxima(x, n, 2 * LANES, maxima); break;
    case 4 * LANES: lane_maxima(x, n, 4 * LANES, maxima); break;
    default: lane_maxima(x, n, 8 * LANES, maxima); break;
    }
}

/* The k-th largest of keys [16 * groups]: each is counted by how many are above it. */
static inline __attribute__((always_inline)) float kth_by_counts(const float *keys, const int groups, int32_t k) {
    const vec kth = vec_set1((float)k);
    vec x[2 * VECS], above[2 * VECS], least = vec_set1(INFINITY);
    for (int v = 0; v < groups * VECS; v++)
        x[v] = vec_load(keys + v * VEC_LANES);
    count_lanes_above(x, groups * VECS, keys, groups * LANES, above);
    for (int v = 0; v < groups * VECS; v++)
        least = vec_min(least, vec_if_lt(above[v], kth, x[v], vec_set1(INFINITY)));
    return first_lane(smallest_across(least, VEC_LANES));
}

/* What at least k of keys [32] reach, k <= 16: about the k-th largest, or the next smaller of those that are the larger one of
 * their pair, so that 16 are counted and not all. -inf where there is none, for equals. */
static inline float bound_of_pairs(const float *keys, int32_t k) {
    const vec fewest = vec_set1((float)(k - 1));
    vec own[VECS], above[VECS], most = vec_set1(-INFINITY);
    float all[2 * LANES];
    for (int v = 0; v < VECS; v++) {
        const vec a = vec_load(keys + v * VEC_LANES), b = vec_load(keys + LANES + v * VEC_LANES);
        own[v] = vec_max(a, b);
        vec_store(all + v * VEC_LANES, own[v]);
        vec_store(all + LANES + v * VEC_LANES, vec_min(a, b));
    }
    count_lanes_above(own, VECS, all, 2 * LANES, above);
    for (int v = 0; v < VECS; v++)
        most = vec_max(most, vec_if_lt(above[v], fewest, vec_set1(-INFINITY), own[v]));
    return largest_lane(most);
}

/* The same of `size` keys, as size_of_rows has it. */
static inline float kth_of_one(const float *keys, int size, int32_t k) {
    switch (size) {
    case LANES: return kth_by_counts(keys, 1, k);
    case 2 * LANES: return kth_by_counts(keys, 2, k);
    case FEW: return select_few64(keys, size, k).key;
    default: return first_of_many(keys, size, k).cut;
    }
}

/* What at least k of a row's maxima [size] reach. */
static inline float bound_of_one(const float *maxima, int size, int32_t k) {
    const float bound = size == 2 * LANES && k <= LANES ? bound_of_pairs(maxima, k) : -INFINITY;
    return bound > -INFINITY ? bound : kth_of_one(maxima, size, k);
}

/* A bit for each of 16 columns a [16] that is not below its limit p [16]. */
static inline __attribute__((always_inline)) uint32_t bits16_nlt(const vec a[VECS], const vec p[VECS]) {
    uint32_t bits = 0;
    for (int v = 0; v < VECS; v++)
        bits |= vec_mask_nlt(a[v], p[v]) << v * VEC_LANES;
    return bits;
}

/* The same of 32 columns, a and b, against p and q. */
#ifdef VEC_BITS32_NLT
#define BITS32_NLT VEC_BITS32_NLT
#else
#define BITS32_NLT(a, b, p, q) (bits16_nlt(a, p) | bits16_nlt(b, q) << 16)
#endif

/* Appends the ids of 32 columns from `base` on whose bits are set; up to 32 places beyond may be written. */
static inline uint16_t *append_ids32(uint32_t bits, int32_t base, uint16_t *ids) {
#ifdef VEC_TAKE_BITS32
    return VEC_TAKE_BITS32(bits, base, ids);
#else
    enum { SLOTS = 3 }; /* of so many bits it is not asked whether they are there */
    const int count = count_bits(bits);
    uint64_t left = bits;
    for (int i = 0; i < SLOTS; i++, left &= left - 1)
        ids[i] = (uint16_t)((uint64_t)base + (vec_first_bit(left) & 31));
    for (int i = SLOTS; i < count; i++, left &= left - 1)
        ids[i] = (uint16_t)((uint64_t)base + (vec_first_bit(left) & 31));
    return ids + count;
#endif
}

static inline __attribute__((always_inline)) void load16(const float *x, vec to[VECS]) {
    for (int v = 0; v < VECS; v++)
        to[v] = vec_load(x + v * VEC_LANES);
}

/* The ids of those of x [n], n a multiple of 16, that are not below the limit, ascending; returns how many. */
static inline int32_t ids_reaching(const float *x, int32_t n, float limit, uint16_t *ids) {
    vec least[VECS];
    uint16_t *to = ids;
    int32_t i = 0;
    for (int v = 0; v < VECS; v++)
        least[v] = vec_set1(limit);
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        vec a[VECS], b[VECS];
        load16(x + i, a);
        load16(x + i + LANES, b);
        to = append_ids32(BITS32_NLT(a, b, least, least), i, to);
    }
    if (i < n) {
        vec a[VECS];
        load16(x + i, a);
        to = append_ids32(bits16_nlt(a, least), i, to);
    }
    return (int32_t)(to - ids);
}

/* How many places of each row's finalists are looked at. */
static inline int finalists_size(const finalists *f, int rows) {
    int32_t most = 1;
    for (int r = 0; r < rows; r++)
        most = f[r].found > most ? f[r].found : most;
    return size_of_rows(most);
}

/* Lists the first top_k of a row's finalists, ids ascending, with their scores or their keys, from pair `at` on; returns the
 * pair after them. kth: their top_k-th largest key. */
static inline int64_t finalists_list(const finalists *f, int32_t top_k, float kth, int with_keys,
                                     const seqtopk_lists *to, int64_t at, int64_t end) {
    const float *listed = with_keys ? f->keys : f->x;
    const int32_t n = f->found;
    first_k stay = first_of_row(f->keys, n, top_k, kth);
    for (int32_t i = 0; i < n; i += VEC_LANES) {
        const uint32_t in = take_first(vec_load(f->keys + i), first_lanes(n - i), &stay);
        const int taken = count_bits(in);
        append(to, at, end, vec_compress(vec_load(listed + i), in), vec_compress(vec_load_u16(f->ids + i), in), taken);
        if (to->scores)
            vec_store(to->scores + at, vec_compress(vec_load(f->x + i), in));
        at += taken;
    }
    return at;
}

#endif
