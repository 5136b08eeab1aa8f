/* SPDX-License-Identifier: MIT */
/* All kernels that read logits, for the ISA whose vec.h stands before this and whose name is ROWS_ISA. */
#ifdef ROWS_SWEEP
#include "arch/common/few.h"
#endif
#include "arch/common/lanes.h"
#include "arch/common/weigh.h"
#include "arch/kernel.h"
#include "src/registry.h"

#ifndef VEC_MASKED_LOADS
static const float minus_infinity_f32 = -INFINITY;
static const uint16_t minus_infinity_bf16 = 0xff80;
static const uint16_t minus_infinity_f16 = 0xfc00;
#endif

#define SEQTOPK_KERNEL(op, dtype, isa, algorithm, revision, applies, about)                                            \
    seqtopk_##op##_fn seqtopk_##op##_##dtype##__##isa##_##algorithm;
#include "arch/kernels.def"
#undef SEQTOPK_KERNEL

#define ROWS_DTYPE f32
#define ROWS_TYPE float
#include "arch/common/dtype.inc"
#include "arch/common/score.inc"
#include "arch/common/rows.inc"
#ifdef ROWS_SWEEP
#include "arch/common/limits.inc"
#include "arch/common/sweep.inc"
#include "arch/common/pick.inc"
#include "arch/common/collect.inc"
#endif
#include "arch/common/dtype_end.inc"

#define ROWS_DTYPE bf16
#define ROWS_TYPE uint16_t
#include "arch/common/dtype.inc"
#include "arch/common/score.inc"
#include "arch/common/rows.inc"
#ifdef ROWS_SWEEP
#include "arch/common/limits.inc"
#include "arch/common/sweep.inc"
#include "arch/common/pick.inc"
#endif
#include "arch/common/dtype_end.inc"

#define ROWS_DTYPE f16
#define ROWS_TYPE uint16_t
#include "arch/common/dtype.inc"
#include "arch/common/score.inc"
#include "arch/common/rows.inc"
#ifdef ROWS_SWEEP
#include "arch/common/limits.inc"
#include "arch/common/sweep.inc"
#include "arch/common/pick.inc"
#endif
#include "arch/common/dtype_end.inc"

#define WEIGH_NAME_(isa) seqtopk_weigh_f32__##isa##_lanes16
#define WEIGH_NAME(isa) WEIGH_NAME_(isa)

void WEIGH_NAME(ROWS_ISA)(int32_t score, const seqtopk_weighing *how, int64_t first, int64_t last,
                          const int32_t *offsets, float *weights) {
    const int64_t end = offsets[last];
    int64_t i = offsets[first];
    for (; i + VEC_LANES <= end; i += VEC_LANES)
        vec_store(weights + i, score_of_key(score, vec_load(weights + i)));
    if (i < end) {
        float part[VEC_LANES] = {0};
        memcpy(part, weights + i, (size_t)(end - i) * sizeof *part);
        vec_store(part, score_of_key(score, vec_load(part)));
        memcpy(weights + i, part, (size_t)(end - i) * sizeof *part);
    }
    if (first == last || (how->norm == SEQTOPK_NORM_NONE && how->scale == 1.0f))
        return;
    /* A token is read before the one ahead of it is written: a load beside bytes that a masked store has just left alone
     * waits for that store all the same. */
    vec next[VECS];
    weigh_load16(weights + offsets[first], offsets[first + 1] - offsets[first], 0.0f, next);
    for (int64_t t = first; t < last; t++) {
        const int32_t n = offsets[t + 1] - offsets[t];
        vec x[VECS];
        for (int v = 0; v < VECS; v++)
            x[v] = next[v];
        if (t + 1 < last)
            weigh_load16(weights + offsets[t + 1], offsets[t + 2] - offsets[t + 1], 0.0f, next);
        if (n <= LANES) {
            weigh16(x, n, how);
            weigh_store16(weights + offsets[t], n, x);
        } else {
            weigh(weights + offsets[t], n, how);
        }
    }
}
