/* SPDX-License-Identifier: MIT */
/* select_keys and nth_keys, by name: rank_*.h have the algorithms. */
#include SEQTOPK_VEC_H

#include "arch/common/name.h"
#include "arch/common/select_compress.h"
#include "arch/common/select_heap.h"
#include "arch/common/select_quickselect.h"
#include "arch/common/select_radix.h"
#include "arch/kernels.h"

seqtopk_kth KERNEL(select_keys, f32, compress)(const float *keys, int64_t n, int64_t k, float *work) {
    return select_by_compression(keys, n, k, work);
}

seqtopk_kth KERNEL(select_keys, f32, quickselect)(const float *keys, int64_t n, int64_t k, float *work) {
    if (work != keys)
        memcpy(work, keys, (size_t)n * sizeof *work);
    return quickselect(work, n, k);
}

seqtopk_kth KERNEL(select_keys, f32, heap)(const float *keys, int64_t n, int64_t k, float *work) {
    return select_by_reservoir(keys, n, k, work);
}

seqtopk_kth KERNEL(select_keys, f32, radix)(const float *keys, int64_t n, int64_t k, float *work) {
    return select_by_digits(keys, n, k, work);
}

float KERNEL(nth_keys, f32, quickselect)(float *keys, size_t n, size_t k) {
    return quickselect(keys, (int64_t)n, (int64_t)k).key;
}
