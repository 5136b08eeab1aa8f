/* SPDX-License-Identifier: MIT */
/* All kernels that read logits, and weigh_keys. */
#include SEQTOPK_VEC_H

#include "arch/common/finalists.h"
#include "arch/common/groups.h"
#include "arch/common/inverse.h"
#include "arch/common/lanes.h"
#include "arch/common/name.h"
#include "arch/common/rough.h"
#include "arch/common/weigh.h"
#include "arch/kernels.h"

#ifndef VEC_MASKED_LOADS
static const float minus_infinity_f32 = -INFINITY;
static const uint16_t minus_infinity_bf16 = 0xff80;
static const uint16_t minus_infinity_f16 = 0xfc00;
#endif

#define ROWS_DTYPE f32
#define ROWS_TYPE float
/* In this order: each needs what stands before it. */
/* clang-format off */
#include "arch/common/dtype.inc"
#include "arch/common/score.inc"
#include "arch/common/rows.inc"
#include "arch/common/limits.inc"
#include "arch/common/sweep.inc"
#include "arch/common/contest.inc"
#include "arch/common/topk_scores.inc"
#include "arch/common/collect_scores.inc"
#include "arch/common/keys_slots.inc"
#include "arch/common/dtype_end.inc"
/* clang-format on */

#define ROWS_DTYPE bf16
#define ROWS_TYPE uint16_t
/* clang-format off */
#include "arch/common/dtype.inc"
#include "arch/common/score.inc"
#include "arch/common/rows.inc"
#include "arch/common/limits.inc"
#include "arch/common/sweep.inc"
#include "arch/common/contest.inc"
#include "arch/common/topk_scores.inc"
#include "arch/common/collect_scores.inc"
#include "arch/common/dtype_end.inc"
/* clang-format on */

#define ROWS_DTYPE f16
#define ROWS_TYPE uint16_t
/* clang-format off */
#include "arch/common/dtype.inc"
#include "arch/common/score.inc"
#include "arch/common/rows.inc"
#include "arch/common/limits.inc"
#include "arch/common/sweep.inc"
#include "arch/common/contest.inc"
#include "arch/common/topk_scores.inc"
#include "arch/common/collect_scores.inc"
#include "arch/common/dtype_end.inc"
/* clang-format on */

void KERNEL(weigh_keys, f32, lanes16)(int32_t score, const seqtopk_weighing *how, int64_t first, int64_t last,
                                      const int32_t *offsets, float *weights) {
    weigh_tokens(score, how, first, last, offsets, weights);
}
