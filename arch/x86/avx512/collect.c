/* SPDX-License-Identifier: MIT */
/* The collect and topk kernels by compression of ids. */
#include "vec.h"

#include "arch/common/columns.h"
#include "arch/common/few.h"
#include "arch/common/name.h"
#include "arch/common/select.h"
#include "arch/common/weigh.h"
#include "arch/kernels.h"

static const uint16_t first_columns[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                           16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

static inline float float_of_bf16(uint16_t x) {
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128((int)((uint32_t)x << 16))));
}
static inline float float_of_f16(uint16_t x) { return _cvtsh_ss(x); }

#define ROWS_DTYPE f32
#define ROWS_TYPE float
#define ROWS_HALVES 0
/* In this order: each needs what stands before it. */
/* clang-format off */
#include "arch/common/dtype.inc"
#include "arch/common/score.inc"
#include "arch/common/limits.inc"
#include "collect.inc"
#include "collect_short.inc"
#include "topk_compress.inc"
#include "arch/common/dtype_end.inc"
/* clang-format on */

void KERNEL(collect_keys, f32, compress)(const float *keys, int32_t experts, int64_t first, int64_t last, float low,
                                         seqtopk_candidates *candidates) {
    const seqtopk_rows rows = rows_of_keys(keys, experts);
    seqtopk_candidates own = *candidates;
    own.counts += first;
    collect_f32 c = collect_of_f32(&rows, &own, 0, low);
    collect_rows_f32(&c, 0, last - first, 0, take_logits_f32, no_end_f32);
    candidates->size = own.size;
}

#define ROWS_DTYPE bf16
#define ROWS_TYPE uint16_t
#define ROWS_HALVES 1
/* clang-format off */
#include "arch/common/dtype.inc"
#include "arch/common/score.inc"
#include "arch/common/limits.inc"
#include "collect.inc"
#include "collect_short.inc"
#include "topk_compress.inc"
#include "arch/common/dtype_end.inc"
/* clang-format on */

#define ROWS_DTYPE f16
#define ROWS_TYPE uint16_t
#define ROWS_HALVES 1
/* clang-format off */
#include "arch/common/dtype.inc"
#include "arch/common/score.inc"
#include "arch/common/limits.inc"
#include "collect.inc"
#include "collect_short.inc"
#include "topk_compress.inc"
#include "arch/common/dtype_end.inc"
/* clang-format on */
