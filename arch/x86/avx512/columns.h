/* SPDX-License-Identifier: MIT */
/* The k-th largest of each of 16 rows of 16, all rows at once: a row of a network's lines is a register. */
#ifndef SEQTOPK_ARCH_X86_AVX512_COLUMNS_H
#define SEQTOPK_ARCH_X86_AVX512_COLUMNS_H

#include "arch/common/few.h"
#include "vec.h"

#include <math.h>
#include <string.h>

/* Row i of 16 becomes column i. By quarters of rows as they are loaded, then within them. */
static inline void transpose16(float (*rows)[16], __m512 x[16]) {
    __m512 quarter[16];
    for (int c = 0; c < 4; c++)
        for (int r = 0; r < 4; r++) {
            __m512 a = _mm512_castps128_ps512(_mm_loadu_ps(rows[r] + 4 * c));
            a = _mm512_insertf32x4(a, _mm_loadu_ps(rows[r + 4] + 4 * c), 1);
            a = _mm512_insertf32x4(a, _mm_loadu_ps(rows[r + 8] + 4 * c), 2);
            quarter[4 * c + r] = _mm512_insertf32x4(a, _mm_loadu_ps(rows[r + 12] + 4 * c), 3);
        }
    for (int c = 0; c < 4; c++) {
        const __m512 *q = quarter + 4 * c;
        const __m512 a = _mm512_unpacklo_ps(q[0], q[1]), b = _mm512_unpackhi_ps(q[0], q[1]);
        const __m512 d = _mm512_unpacklo_ps(q[2], q[3]), e = _mm512_unpackhi_ps(q[2], q[3]);
        x[4 * c] = _mm512_shuffle_ps(a, d, 0x44);
        x[4 * c + 1] = _mm512_shuffle_ps(a, d, 0xee);
        x[4 * c + 2] = _mm512_shuffle_ps(b, e, 0x44);
        x[4 * c + 3] = _mm512_shuffle_ps(b, e, 0xee);
    }
}

static inline void larger_first(__m512 *a, __m512 *b) {
    const __m512 most = _mm512_max_ps(*a, *b);
    *b = _mm512_min_ps(*a, *b);
    *a = most;
}

/* 1 <= k <= 16; no NaN. */
static __attribute__((noinline)) void kth_of_rows(float (*rows)[16], int k, float *kth) {
    __m512 x[16];
    float sorted[16][16];
    transpose16(rows, x);
    /* M. W. Green's network of 60 comparisons, a column of it after the other. */
    /* clang-format off */
    larger_first(x + 0, x + 1); larger_first(x + 2, x + 3); larger_first(x + 4, x + 5); larger_first(x + 6, x + 7);
    larger_first(x + 8, x + 9); larger_first(x + 10, x + 11); larger_first(x + 12, x + 13);
    larger_first(x + 14, x + 15);
    larger_first(x + 0, x + 2); larger_first(x + 1, x + 3); larger_first(x + 4, x + 6); larger_first(x + 5, x + 7);
    larger_first(x + 8, x + 10); larger_first(x + 9, x + 11); larger_first(x + 12, x + 14);
    larger_first(x + 13, x + 15);
    larger_first(x + 0, x + 4); larger_first(x + 1, x + 5); larger_first(x + 2, x + 6); larger_first(x + 3, x + 7);
    larger_first(x + 8, x + 12); larger_first(x + 9, x + 13); larger_first(x + 10, x + 14);
    larger_first(x + 11, x + 15);
    larger_first(x + 0, x + 8); larger_first(x + 1, x + 9); larger_first(x + 2, x + 10); larger_first(x + 3, x + 11);
    larger_first(x + 4, x + 12); larger_first(x + 5, x + 13); larger_first(x + 6, x + 14);
    larger_first(x + 7, x + 15);
    larger_first(x + 5, x + 10); larger_first(x + 6, x + 9); larger_first(x + 3, x + 12);
    larger_first(x + 13, x + 14); larger_first(x + 4, x + 8); larger_first(x + 7, x + 11); larger_first(x + 1, x + 2);
    larger_first(x + 1, x + 4); larger_first(x + 7, x + 13); larger_first(x + 2, x + 8); larger_first(x + 11, x + 14);
    larger_first(x + 2, x + 4); larger_first(x + 5, x + 6); larger_first(x + 9, x + 10); larger_first(x + 11, x + 13);
    larger_first(x + 3, x + 8); larger_first(x + 7, x + 12);
    larger_first(x + 6, x + 8); larger_first(x + 10, x + 12); larger_first(x + 3, x + 5); larger_first(x + 7, x + 9);
    larger_first(x + 3, x + 4); larger_first(x + 5, x + 6); larger_first(x + 7, x + 8); larger_first(x + 9, x + 10);
    larger_first(x + 11, x + 12);
    larger_first(x + 6, x + 7); larger_first(x + 8, x + 9);
    /* clang-format on */
    for (int i = 0; i < 16; i++)
        _mm512_storeu_ps(sorted[i], x[i]);
    memcpy(kth, sorted[k - 1], sizeof sorted[0]);
}

/* The same of the first n rows; of the others anything may come to be. */
static inline void kth_of_few(float (*rows)[16], int n, int k, float *kth) {
    enum { FEWEST = 3 }; /* for fewer the network is too long */
    float all[16];
    if (n < FEWEST) {
        for (int r = 0; r < n; r++) {
            const vec row[1] = {vec_load(rows[r])};
            kth[r] = kth16(row, k);
        }
        return;
    }
    for (int r = n; r < 16; r++)
        vec_store(rows[r], vec_set1(-INFINITY));
    kth_of_rows(rows, k, all);
    memcpy(kth, all, (size_t)n * sizeof *kth);
}

#endif
