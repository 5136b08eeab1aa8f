/* SPDX-License-Identifier: MIT */
/* The k-th largest of each of up to 16 rows, all rows at once: a line of a sorting network is a vector across the rows. */
#ifndef SEQTOPK_ARCH_COMMON_COLUMNS_H
#define SEQTOPK_ARCH_COMMON_COLUMNS_H

#include "arch/common/select.h"

/* The most keys of a row. */
enum { COLUMN_MOST = 128 };

/* Of so few experts, and winners, each is compared with all others (few_columns.inc). */
enum { FEW_EXPERTS = 16, FEW_WINNERS = 4 };

/* Rows of 16, `stride` apart, become columns. */
static inline __attribute__((always_inline)) void transpose16(const float *rows, int64_t stride,
                                                              float (*columns)[LANES]) {
#ifdef VEC_TRANSPOSE16
    VEC_TRANSPOSE16(rows, stride, columns);
#else
    for (int r = 0; r < LANES; r++)
        for (int i = 0; i < LANES; i++)
            columns[i][r] = rows[r * stride + i];
#endif
}

static inline __attribute__((always_inline)) void larger_first(vec *a, vec *b) {
    const vec most = vec_max(*a, *b);
    *b = vec_min(*a, *b);
    *a = most;
}

/* Sixteen lines sorted, the largest first: M. W. Green's network of 60 comparisons. */
static inline __attribute__((always_inline)) void sort_lines16(vec x[16]) {
    static const uint8_t pairs[60][2] = {
        {0, 1},   {2, 3},  {4, 5},   {6, 7},   {8, 9},   {10, 11}, {12, 13}, {14, 15}, {0, 2},  {1, 3},
        {4, 6},   {5, 7},  {8, 10},  {9, 11},  {12, 14}, {13, 15}, {0, 4},   {1, 5},   {2, 6},  {3, 7},
        {8, 12},  {9, 13}, {10, 14}, {11, 15}, {0, 8},   {1, 9},   {2, 10},  {3, 11},  {4, 12}, {5, 13},
        {6, 14},  {7, 15}, {5, 10},  {6, 9},   {3, 12},  {13, 14}, {4, 8},   {7, 11},  {1, 2},  {1, 4},
        {7, 13},  {2, 8},  {11, 14}, {2, 4},   {5, 6},   {9, 10},  {11, 13}, {3, 8},   {7, 12}, {6, 8},
        {10, 12}, {3, 5},  {7, 9},   {3, 4},   {5, 6},   {7, 8},   {9, 10},  {11, 12}, {6, 7},  {8, 9},
    };
#pragma GCC unroll 60
    for (int i = 0; i < 60; i++)
        larger_first(x + pairs[i][0], x + pairs[i][1]);
}

/* One line against another in memory. */
static inline void part_lines(float *a, float *b) {
    vec x = vec_load(a), y = vec_load(b);
    larger_first(&x, &y);
    vec_store(a, x);
    vec_store(b, y);
}

/* Two sorted runs of `length` lines become one. */
static inline void merge_lines(float (*lines)[LANES], int length) {
    for (int lane = 0; lane < LANES; lane += VEC_LANES) {
        for (int i = 0; i < length; i++)
            part_lines(lines[i] + lane, lines[2 * length - 1 - i] + lane);
        for (int stride = length / 2; stride > 0; stride /= 2)
            for (int i = 0; i < 2 * length; i++)
                if (!(i & stride))
                    part_lines(lines[i] + lane, lines[i + stride] + lane);
    }
}

/* kth [16]: the k-th largest of lines that sort_rows left: one sorted run, or the best of what is left of every way to
 * take k of two. */
static inline void kth_of_runs(float (*lines)[LANES], int size, int k, float *kth) {
    const int length = size / 2;
    if (size == LANES) {
        memcpy(kth, lines[k - 1], LANES * sizeof *kth);
        return;
    }
    for (int lane = 0; lane < LANES; lane += VEC_LANES) {
        vec best = vec_set1(-INFINITY);
        for (int i = k > length ? k - length : 0; i <= k && i <= length; i++) {
            const vec infinite = vec_set1(INFINITY);
            const vec a = i > 0 ? vec_load(lines[i - 1] + lane) : infinite;
            const vec b = i < k ? vec_load(lines[length + k - i - 1] + lane) : infinite;
            best = vec_max(best, vec_min(a, b));
        }
        vec_store(kth + lane, best);
    }
}

/* Rows [16] of `size` keys, a power of two from 16 to COLUMN_MOST, `stride` apart, become lines [size]: of 16 one sorted
 * run, of more two. No NaN. */
static __attribute__((noinline)) void sort_rows(const float *rows, int64_t stride, int size, float (*lines)[LANES]) {
    for (int from = 0; from < size; from += LANES) {
        float(*run)[LANES] = lines + from;
        transpose16(rows + from, stride, run);
        for (int lane = 0; lane < LANES; lane += VEC_LANES) {
            vec x[16];
            for (int i = 0; i < 16; i++)
                x[i] = vec_load(run[i] + lane);
            sort_lines16(x);
            for (int i = 0; i < 16; i++)
                vec_store(run[i] + lane, x[i]);
        }
    }
    for (int length = LANES; 2 * length < size; length *= 2)
        for (int from = 0; from < size; from += 2 * length)
            merge_lines(lines + from, length);
}

/* The k-th largest of each row, 1 <= k <= size. */
static inline void kth_of_rows(const float *rows, int64_t stride, int size, int k, float *kth) {
    _Alignas(64) float lines[COLUMN_MOST][LANES];
    sort_rows(rows, stride, size, lines);
    kth_of_runs(lines, size, k, kth);
}

/* The least size that n keys fit in. */
static inline int size_of_rows(int32_t n) {
    return n <= LANES ? LANES : n <= 2 * LANES ? 2 * LANES : n <= 4 * LANES ? 4 * LANES : 8 * LANES;
}

/* The same of the first n rows. */
static inline void kth_of_few(const float *rows, int64_t stride, int size, int n, int k, float *kth) {
    enum { FEWEST = 3 }; /* for fewer the network is too long */
    float all[LANES];
    if (n < FEWEST && size <= FEW) {
        for (int r = 0; r < n; r++)
            kth[r] = select_few64(rows + r * stride, size, k).key;
        return;
    }
    kth_of_rows(rows, stride, size, k, all);
    memcpy(kth, all, (size_t)n * sizeof *kth);
}

#endif
