/* SPDX-License-Identifier: MIT */
/* All kernels that read logits; collect_keys and weigh_keys, which do the same from keys. */
#include SEQTOPK_VEC_H

#include "arch/common/finalists.h"
#include "arch/common/groups.h"
#include "arch/common/inverse.h"
#include "arch/common/lanes.h"
#include "arch/common/name.h"
#include "arch/common/rough.h"
#include "arch/common/weigh.h"
#include "arch/kernels.h"

#define ROWS_UNIT "arch/common/rows_unit.inc"
#include "arch/common/each_dtype.inc"

/* Keys go through as logits that need no score. */
void KERNEL(collect_keys, f32, slots16)(const float *keys, int32_t experts, int64_t first, int64_t last, float low,
                                        seqtopk_candidates *candidates) {
    const seqtopk_rows rows = rows_of_keys(keys, experts);
    seqtopk_candidates own = *candidates;
    own.counts += first;
    (void)sweep_rows_of_f32(&rows, 0, last - first, low, 0, &own, 16);
    candidates->size = own.size;
}

int KERNEL(weigh_keys, f32, lanes16)(int32_t score, const seqtopk_weighing *how, int64_t first, int64_t last,
                                     const int32_t *offsets, float *weights) {
    return weigh_tokens(score, how, first, last, offsets, weights);
}
