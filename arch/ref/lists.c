/* SPDX-License-Identifier: MIT */
/* list_keys and histogram. */
#include "arch/kernels.h"

#include <math.h>

int32_t seqtopk_list_keys_f32__ref_scan(const float *keys, int32_t experts, int64_t token, const seqtopk_cut *cut,
                                        int32_t *ids) {
    /* Among equals of the cut's key, this row takes part up to this expert. */
    const int32_t ties = token < cut->token ? experts : token == cut->token ? cut->expert + 1 : 0;
    int32_t n = 0;
    for (int32_t e = 0; e < experts; e++) {
        const float key = keys[e];
        if (key > cut->key || (key == cut->key && e < ties) || key == INFINITY) {
            if (ids)
                ids[n] = e;
            n++;
        }
    }
    return n;
}

void seqtopk_histogram_i32__ref_scan(const int32_t *ids, int64_t n, int32_t *histogram) {
    for (int64_t i = 0; i < n; i++)
        histogram[ids[i]]++;
}
