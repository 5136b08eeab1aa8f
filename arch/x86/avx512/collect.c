/* SPDX-License-Identifier: MIT */
/* The collect and topk kernels by compression of ids. */
#include "vec.h"

#include "arch/common/columns.h"
#include "arch/common/few.h"
#include "arch/common/name.h"
#include "arch/common/select.h"
#include "arch/common/weigh.h"
#include "arch/kernels.h"

#define ROWS_UNIT "arch/x86/avx512/collect_unit.inc"
#include "arch/common/each_dtype.inc"

void KERNEL(collect_keys, f32, compress)(const float *keys, int32_t experts, int64_t first, int64_t last, float low,
                                         seqtopk_candidates *candidates) {
    const seqtopk_rows rows = rows_of_keys(keys, experts);
    seqtopk_candidates own = *candidates;
    own.counts += first;
    collect_f32 c = collect_of_f32(&rows, &own, 0, low);
    collect_rows_f32(&c, 0, last - first, 0, take_logits_f32, no_end_f32);
    candidates->size = own.size;
}
