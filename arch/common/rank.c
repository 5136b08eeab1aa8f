/* SPDX-License-Identifier: MIT */
/* The variants of rank, and nth, by name, for the ISA whose vec.h stands before this and whose name is RANK_ISA. */
#include "arch/common/rank_compress.h"
#include "arch/common/rank_heap.h"
#include "arch/common/rank_quickselect.h"
#include "arch/common/rank_radix.h"
#include "arch/kernels.h"

#define RANK_NAME__(op, isa, algorithm) seqtopk_##op##_f32__##isa##_##algorithm
#define RANK_NAME_(op, isa, algorithm) RANK_NAME__(op, isa, algorithm)
#define RANK_NAME(op, algorithm) RANK_NAME_(op, RANK_ISA, algorithm)

seqtopk_kth RANK_NAME(select_keys, compress)(const float *keys, int64_t n, int64_t k, float *work) {
    return rank_by_compression(keys, n, k, work);
}

seqtopk_kth RANK_NAME(select_keys, quickselect)(const float *keys, int64_t n, int64_t k, float *work) {
    if (work != keys)
        memcpy(work, keys, (size_t)n * sizeof *work);
    return quickselect(work, n, k);
}

seqtopk_kth RANK_NAME(select_keys, heap)(const float *keys, int64_t n, int64_t k, float *work) {
    return rank_by_reservoir(keys, n, k, work);
}

seqtopk_kth RANK_NAME(select_keys, radix)(const float *keys, int64_t n, int64_t k, float *work) {
    return rank_by_digits(keys, n, k, work);
}

float RANK_NAME(nth_keys, quickselect)(float *keys, size_t n, size_t k) {
    return quickselect(keys, (int64_t)n, (int64_t)k).key;
}
