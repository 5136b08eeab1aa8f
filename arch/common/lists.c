/* SPDX-License-Identifier: MIT */
/* The expert-major lists, once for each instruction set. */
#include SEQTOPK_VEC_H

#include "arch/common/name.h"
#include "arch/common/scatter.h"
#include "arch/kernels.h"

void KERNEL(scatter, i32, packed)(const int32_t *offsets, const int32_t *ids, int64_t first, int64_t last,
                                  int32_t experts, int32_t *cursors, int32_t *work, const seqtopk_scattered *to) {
    scatter_pairs(offsets, ids, first, last, experts, cursors, work, to);
}
