/* SPDX-License-Identifier: MIT */
/* topk_row, for any k. */
#include "arch/common/insert.h"
#include "arch/kernels.h"

#include <math.h>

/* Whether candidate a stands before candidate b in one row. */
static inline int before(const float *keys, int32_t a, int32_t b) {
    return keys[a] > keys[b] || (keys[a] == keys[b] && a < b);
}

int32_t seqtopk_topk_row_f32__ref_insertion(const float *keys, int32_t n, int32_t k, int32_t *ids) {
    return insert_row(keys, n, k, ids);
}

/* ids [n] is a heap whose root stands last in the order, but for the place `hole`, which `id` is to fill. */
static void sift_id(const float *keys, int32_t *ids, int32_t n, int32_t hole, int32_t id) {
    for (int64_t child; (child = 2 * (int64_t)hole + 1) < n; hole = (int32_t)child) {
        if (child + 1 < n && before(keys, ids[child], ids[child + 1]))
            child++;
        if (!before(keys, id, ids[child]))
            break;
        ids[hole] = ids[child];
    }
    ids[hole] = id;
}

int32_t seqtopk_topk_row_f32__ref_heap(const float *keys, int32_t n, int32_t k, int32_t *ids) {
    int32_t size = 0, e = 0;
    for (; e < n && size < k; e++)
        if (keys[e] > -INFINITY)
            ids[size++] = e;
    for (int32_t root = size / 2; root-- > 0;)
        sift_id(keys, ids, size, root, ids[root]);
    for (; e < n && k > 0; e++)
        if (keys[e] > keys[ids[0]])
            sift_id(keys, ids, size, 0, e);
    for (int32_t last = size - 1; last > 0; last--) {
        int32_t worst = ids[0];
        sift_id(keys, ids, last, 0, ids[last]);
        ids[last] = worst;
    }
    return size;
}
