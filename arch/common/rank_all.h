/* SPDX-License-Identifier: MIT */
/* The variants of rank, and nth, by name, for the ISA whose vec.h stands before this and whose name is RANK_ISA. */
#include "arch/common/rank_compress.h"
#include "arch/common/rank_heap.h"
#include "arch/common/rank_quickselect.h"
#include "arch/common/rank_radix.h"

#define RANK_NAME__(op, isa, algorithm) seqtopk_##op##_f32__##isa##_##algorithm
#define RANK_NAME_(op, isa, algorithm) RANK_NAME__(op, isa, algorithm)
#define RANK_NAME(op, algorithm) RANK_NAME_(op, RANK_ISA, algorithm)

seqtopk_rank_fn RANK_NAME(rank, compress), RANK_NAME(rank, quickselect), RANK_NAME(rank, heap), RANK_NAME(rank, radix);
seqtopk_nth_fn RANK_NAME(nth, quickselect);

seqtopk_place RANK_NAME(rank, compress)(const float *keys, int64_t n, int64_t k, float *room) {
    return rank_by_compression(keys, n, k, room);
}

seqtopk_place RANK_NAME(rank, quickselect)(const float *keys, int64_t n, int64_t k, float *room) {
    if (room != keys)
        memcpy(room, keys, (size_t)n * sizeof *room);
    return quickselect(room, n, k);
}

seqtopk_place RANK_NAME(rank, heap)(const float *keys, int64_t n, int64_t k, float *room) {
    return rank_by_reservoir(keys, n, k, room);
}

seqtopk_place RANK_NAME(rank, radix)(const float *keys, int64_t n, int64_t k, float *room) {
    return rank_by_digits(keys, n, k, room);
}

float RANK_NAME(nth, quickselect)(float *keys, size_t n, size_t k) {
    return quickselect(keys, (int64_t)n, (int64_t)k).key;
}
