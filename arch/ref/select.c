/* SPDX-License-Identifier: MIT */
/* Selection among keys in plain C: nth_keys and select_keys (the k-th largest), topk_row (the first k of a row, in order). */
#include "arch/common/insert.h"
#include "arch/kernels.h"

#include <math.h>
#include <string.h>

static inline void swap(float *a, float *b) {
    float t = *a;
    *a = *b;
    *b = t;
}

static inline float median3(float a, float b, float c) {
    float low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

/* Tukey's ninther: sorted, reversed and organ-pipe input all split well. */
static float ninther(const float *keys, size_t n) {
    const size_t step = n / 9;
    const float *k = keys;
    if (n < 9)
        return keys[n / 2];
    return median3(median3(k[0], k[step], k[2 * step]), median3(k[3 * step], k[4 * step], k[5 * step]),
                   median3(k[6 * step], k[7 * step], k[8 * step]));
}

/* A pivot that cannot split badly, for input made to defeat the ninther: the median of medians of five. */
static float median_of_medians(float *keys, size_t n) {
    size_t groups = n / 5;
    if (groups == 0)
        return keys[0];
    for (size_t g = 0; g < groups; g++) {
        float *five = keys + 5 * g;
        for (int i = 1; i < 5; i++)
            for (int j = i; j > 0 && five[j] > five[j - 1]; j--)
                swap(five + j, five + j - 1);
        swap(keys + g, five + 2);
    }
    return seqtopk_nth_keys_f32__ref_quickselect(keys, groups, groups / 2 + 1);
}

float seqtopk_nth_keys_f32__ref_quickselect(float *keys, size_t n, size_t k) {
    int patience = 32;
    for (;;) {
        float pivot = patience-- > 0 ? ninther(keys, n) : median_of_medians(keys, n);
        /* [0, above) > pivot, [above, i) == pivot, [below, n) < pivot */
        size_t above = 0, i = 0, below = n;
        while (i < below) {
            if (keys[i] > pivot)
                swap(keys + above++, keys + i++);
            else if (keys[i] < pivot)
                swap(keys + i, keys + --below);
            else
                i++;
        }
        if (k <= above) {
            n = above;
        } else if (k <= below) {
            return pivot;
        } else {
            keys += below;
            n -= below;
            k -= below;
        }
    }
}

/* Makes the subtree of `root` a min-heap; those of its children are. */
static void sift(float *heap, size_t n, size_t root) {
    float key = heap[root];
    size_t hole = root;
    for (size_t child; (child = 2 * hole + 1) < n; hole = child) {
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (key <= heap[child])
            break;
        heap[hole] = heap[child];
    }
    heap[hole] = key;
}

float seqtopk_nth_keys_f32__ref_heap(float *keys, size_t n, size_t k) {
    for (size_t root = k / 2; root-- > 0;)
        sift(keys, k, root);
    for (size_t i = k; i < n; i++)
        if (keys[i] > keys[0]) {
            swap(keys, keys + i);
            sift(keys, k, 0);
        }
    return keys[0];
}

seqtopk_kth seqtopk_select_keys_f32__ref_quickselect(const float *keys, int64_t n, int64_t k, float *work) {
    memmove(work, keys, (size_t)n * sizeof *work);
    seqtopk_kth place = {seqtopk_nth_keys_f32__ref_quickselect(work, (size_t)n, (size_t)k), 0, 0};
    for (int64_t i = 0; i < n; i++) {
        place.above += work[i] > place.key;
        place.equal += work[i] == place.key;
    }
    return place;
}

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
