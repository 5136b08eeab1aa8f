/* SPDX-License-Identifier: MIT */
/* The kernels of arch/kernels.def and the sizes of sizes.def as one table, and which of them this machine can run. */
#ifndef SEQTOPK_SRC_KERNELS_REGISTRY_H
#define SEQTOPK_SRC_KERNELS_REGISTRY_H

#include "arch/kernel.h"

#include <seqtopk/seqtopk.h>

/* What is chosen: a kernel for each stage, then a value for each size. */
typedef enum seqtopk_op {
#define SEQTOPK_OP(name, reads) SEQTOPK_OP_##name,
#include "arch/kernels.def"
#undef SEQTOPK_OP
    SEQTOPK_KERNEL_OPS,
    SEQTOPK_OP_before_sizes = SEQTOPK_KERNEL_OPS - 1,
#define SEQTOPK_SIZE_OP(name) SEQTOPK_OP_##name,
#include "src/kernels/sizes.def"
#undef SEQTOPK_SIZE_OP
    SEQTOPK_OPS,
    SEQTOPK_SIZE_OPS = SEQTOPK_OPS - SEQTOPK_KERNEL_OPS
} seqtopk_op;
/* How many rows are kernels, and how many there are in all. */
enum {
#define SEQTOPK_KERNEL(op, dtype, isa, algorithm, revision, applies, about) +1
#define SEQTOPK_SIZE(size, variant, revision, value, about) +1
    seqtopk_registry_kernels = 0
#include "arch/kernels.def"
    ,
    seqtopk_registry_size = seqtopk_registry_kernels
#include "src/kernels/sizes.def"
#undef SEQTOPK_KERNEL
#undef SEQTOPK_SIZE
};

/* dtypes of a row: the logits' (values of seqtopk_dtype), i32 or u64. */
enum { SEQTOPK_ROW_f32 = SEQTOPK_DTYPE_F32, SEQTOPK_ROW_bf16, SEQTOPK_ROW_f16, SEQTOPK_ROW_i32, SEQTOPK_ROW_u64 };

typedef void seqtopk_any_fn(void);

typedef struct seqtopk_row {
    const char *name, *op_name, *dtype_name, *isa_name, *algorithm, *about;
    const char *variant;      /* "<isa>_<algorithm>": the name without op and dtype */
    seqtopk_any_fn *function; /* of type seqtopk_<op>_fn; NULL: the row is a size, */
    int64_t value;            /* and this is its value */
    int (*applies)(const seqtopk_desc *desc);
    seqtopk_op op;
    int32_t dtype;
    int32_t isa; /* index into isa.def */
    int32_t revision;
} seqtopk_row;

extern const seqtopk_row seqtopk_registry[];

/* Whether an op reads logits and has rows for each dtype of them; the rows of the others are of keys or ids. */
int seqtopk_op_reads_logits(seqtopk_op op);

/* Rows of isa.def by name; -1 if there is none. */
int32_t seqtopk_isa_index(const char *name);

/* Whether this CPU and operating system can run row `isa` of isa.def. */
int seqtopk_isa_runs(int32_t isa);

/* What isa.def's row lacks to run: CPU features, or the operating system's support; "": nothing. */
enum { SEQTOPK_ISA_MISSING = 256 };
void seqtopk_isa_missing(int32_t isa, char text[SEQTOPK_ISA_MISSING]);

#endif
