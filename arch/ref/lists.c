/* SPDX-License-Identifier: MIT */
/* histogram and offset_experts. */
#include "arch/kernels.h"

#include <string.h>

void seqtopk_histogram_i32__ref_scan(const int32_t *ids, int64_t n, int32_t experts, int32_t *histogram) {
    (void)experts;
    for (int64_t i = 0; i < n; i++)
        histogram[ids[i]]++;
}

/* No branch, since whether an expert has pairs is anybody's guess. */
int32_t seqtopk_offset_experts_i32__ref_scan(const int32_t *histogram, int32_t experts,
                                             const seqtopk_offset_lists *to) {
    const size_t size = (size_t)experts * sizeof *histogram;
    int32_t at = 0, n = 0;
    for (int32_t e = 0; to->counts && e < experts; e++)
        to->counts[e] += histogram[e];
    for (int32_t e = 0; e < experts; e++) {
        const int32_t pairs = histogram[e];
        if (to->active)
            to->active[n] = e;
        n += pairs > 0;
        to->offsets[e] = at;
        at += pairs;
        if (to->ends)
            to->ends[e] = at;
    }
    if (to->cursors)
        memcpy(to->cursors, to->offsets, size);
    if (to->begins)
        memcpy(to->begins, to->offsets, size);
    return n;
}
