/* SPDX-License-Identifier: MIT */
/* histogram. */
#include "arch/kernels.h"

void seqtopk_histogram_i32__ref_scan(const int32_t *ids, int64_t n, int32_t *histogram) {
    for (int64_t i = 0; i < n; i++)
        histogram[ids[i]]++;
}
