/* SPDX-License-Identifier: MIT */
/* The first k of a row: by insertion into a sorted list of ids, or for large k by a heap. */
#ifndef SEQTOPK_ARCH_COMMON_INSERT_H
#define SEQTOPK_ARCH_COMMON_INSERT_H

#include <math.h>
#include <stdint.h>

/* ids [size], best first, of at most k >= 1, take in `id` if keys[id] is above the last of k. Ids come ascending, so that
 * equals stay in their order. Returns the new size. */
static inline int32_t insert_id(const float *keys, int32_t id, int32_t k, int32_t *ids, int32_t size) {
    const float key = keys[id];
    if (size == k && !(key > keys[ids[k - 1]]))
        return size;
    int32_t place = size < k ? size++ : k - 1;
    for (; place > 0 && key > keys[ids[place - 1]]; place--)
        ids[place] = ids[place - 1];
    ids[place] = id;
    return size;
}

/* Whether candidate a stands before candidate b in one row. */
static inline int stands_before(const float *keys, int32_t a, int32_t b) {
    return keys[a] > keys[b] || (keys[a] == keys[b] && a < b);
}

/* ids [n] is a heap whose root stands last in that order, but for the place `hole`, which `id` is to fill. */
static inline void sift_id(const float *keys, int32_t *ids, int32_t n, int32_t hole, int32_t id) {
    for (int64_t child; (child = 2 * (int64_t)hole + 1) < n; hole = (int32_t)child) {
        if (child + 1 < n && stands_before(keys, ids[child], ids[child + 1]))
            child++;
        if (!stands_before(keys, id, ids[child]))
            break;
        ids[hole] = ids[child];
    }
    ids[hole] = id;
}

/* As insert_row; k >= 1. */
static inline int32_t heap_row(const float *keys, int32_t n, int32_t k, int32_t *ids) {
    int32_t size = 0, e = 0;
    for (; e < n && size < k; e++)
        if (keys[e] > -INFINITY)
            ids[size++] = e;
    for (int32_t root = size / 2; root-- > 0;)
        sift_id(keys, ids, size, root, ids[root]);
    for (; e < n; e++)
        if (keys[e] > keys[ids[0]])
            sift_id(keys, ids, size, 0, e);
    for (int32_t last = size - 1; last > 0; last--) {
        const int32_t worst = ids[0];
        sift_id(keys, ids, last, 0, ids[last]);
        ids[last] = worst;
    }
    return size;
}

/* The first k of keys [n], those at -inf left out; returns how many. k >= 0. */
static inline int32_t insert_row(const float *keys, int32_t n, int32_t k, int32_t *ids) {
    enum { MANY = 128 }; /* from which on moves, of which there may be k * n, cost more than a heap */
    int32_t size = 0;
    if (k > MANY)
        return heap_row(keys, n, k, ids);
    for (int32_t id = 0; id < n && k > 0; id++)
        if (keys[id] > -INFINITY)
            size = insert_id(keys, id, k, ids, size);
    return size;
}

#endif
