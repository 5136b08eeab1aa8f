/* SPDX-License-Identifier: MIT */
/* All kernels that read logits, for the ISA whose vec.h stands before this and whose name is ROWS_ISA. */
#include "arch/common/lanes.h"
#include "arch/kernel.h"
#include "src/registry.h"

static const float minus_infinity_f32 = -INFINITY;
static const uint16_t minus_infinity_bf16 = 0xff80;
static const uint16_t minus_infinity_f16 = 0xfc00;

#define SEQTOPK_KERNEL(op, dtype, isa, algorithm, revision, applies, about)                                            \
    seqtopk_##op##_fn seqtopk_##op##_##dtype##__##isa##_##algorithm;
#include "arch/kernels.def"
#undef SEQTOPK_KERNEL

#define ROWS_DTYPE f32
#define ROWS_TYPE float
#include "arch/common/rows.inc"

#define ROWS_DTYPE bf16
#define ROWS_TYPE uint16_t
#include "arch/common/rows.inc"

#define ROWS_DTYPE f16
#define ROWS_TYPE uint16_t
#include "arch/common/rows.inc"
