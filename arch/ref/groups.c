/* SPDX-License-Identifier: MIT */
/* groups in plain C: however many groups there are, and however many of their best count. */
#include "arch/kernels.h"

#include <float.h>
#include <math.h>

/* heap [n] is a min-heap, but for its root, whose place `value` takes. */
static void replace_least(float *heap, int32_t n, float value) {
    int32_t hole = 0;
    for (int64_t child; (child = 2 * (int64_t)hole + 1) < n; hole = (int32_t)child) {
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (value <= heap[child])
            break;
        heap[hole] = heap[child];
    }
    heap[hole] = value;
}

/* heap [n]: the n largest of values [size] as a min-heap; -inf in the places that are left. 1 <= n. */
static void take_best(const float *values, int32_t size, int32_t n, float *heap) {
    for (int32_t i = 0; i < n; i++)
        heap[i] = -INFINITY;
    for (int32_t i = 0; i < size; i++)
        if (values[i] > heap[0])
            replace_least(heap, n, values[i]);
}

/* best [n], 1 <= n: the n largest of values [size], sorted; -inf in the places that are left. No branches: for few. */
static inline void sort_few(const float *values, int32_t size, int32_t n, float *best) {
    for (int32_t i = 0; i < n; i++)
        best[i] = -INFINITY;
    for (int32_t i = 0; i < size; i++) {
        float value = values[i];
        for (int32_t j = 0; j < n; j++) {
            const float larger = best[j] > value ? best[j] : value;
            value = best[j] > value ? value : best[j];
            best[j] = larger;
        }
    }
}

/* The same for many. */
static void sort_best(const float *values, int32_t size, int32_t n, float *best) {
    take_best(values, size, n, best);
    for (int32_t last = n - 1; last > 0; last--) {
        const float least = best[0];
        replace_least(best, last, best[last]);
        best[last] = least;
    }
}

/* The sum of a group's best n, or of what it has; -inf of none. *is_whole: whether it has so many. */
static float score_of(const float *members, int32_t size, int32_t n, float *best, int *is_whole) {
    switch (n) { /* what stays in registers */
    case 1: sort_few(members, size, 1, best); break;
    case 2: sort_few(members, size, 2, best); break;
    case 3: sort_few(members, size, 3, best); break;
    case 4: sort_few(members, size, 4, best); break;
    default: sort_best(members, size, n, best);
    }
    float sum = best[0];
    *is_whole = best[n - 1] > -INFINITY;
    if (sum == -INFINITY)
        return sum;
    for (int32_t i = 1; i < n && best[i] > -INFINITY; i++)
        sum += best[i];
    return sum > FLT_MAX ? FLT_MAX : sum < -FLT_MAX ? -FLT_MAX : sum; /* -inf means: no candidate */
}

/* Scores the groups; what comes before or after all that is asked about is +inf or -inf. Returns how many are whole. */
static int32_t score_groups(const float *scores, int32_t size, int32_t groups, int32_t group_n, int of_whole,
                            float *group, float *best) {
    int32_t whole = 0;
    for (int32_t g = 0; g < groups; g++) {
        int is_whole;
        group[g] = score_of(scores + (int64_t)g * size, size, group_n, best, &is_whole);
        if (is_whole != of_whole)
            group[g] = is_whole ? INFINITY : -INFINITY;
        whole += is_whole;
    }
    return whole;
}

void seqtopk_mask_groups_f32__ref_scan(const float *scores, float *keys, int32_t experts, int32_t groups,
                                       int32_t group_n, int32_t group_top_k, float *work) {
    const int32_t size = experts / groups;
    float *group = work, *heap = work + groups;
    if (score_groups(scores, size, groups, group_n, 1, group, heap) < group_top_k)
        score_groups(scores, size, groups, group_n, 0, group, heap);
    take_best(group, groups, group_top_k, heap);
    const float cut = heap[0];
    int32_t ties = group_top_k;
    for (int32_t g = 0; g < groups; g++)
        ties -= group[g] > cut;
    for (int32_t g = 0; g < groups; g++) {
        if (group[g] > cut || (group[g] == cut && ties-- > 0))
            continue;
        for (int32_t e = g * size; e < (g + 1) * size; e++)
            keys[e] = -INFINITY;
    }
}
