/* SPDX-License-Identifier: MIT */
/* The first k of a row by insertion into a sorted list of ids: for few keys, or small k. */
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

/* The first k of keys [n], those at -inf left out; returns how many. k >= 0. */
static inline int32_t insert_row(const float *keys, int32_t n, int32_t k, int32_t *ids) {
    int32_t size = 0;
    for (int32_t id = 0; id < n && k > 0; id++)
        if (keys[id] > -INFINITY)
            size = insert_id(keys, id, k, ids, size);
    return size;
}

#endif
