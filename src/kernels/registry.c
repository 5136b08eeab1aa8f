/* SPDX-License-Identifier: MIT */
#include "src/kernels/registry.h"
#include "src/abi.h"
#include "src/status.h"

#include "arch/kernels.h"

enum {
#define SEQTOPK_ISA(name, features) ISA_##name,
#include "arch/isa.def"
#undef SEQTOPK_ISA
};

/* The predicates that kernels.def names: for which plans a kernel can serve. */
static int always(const seqtopk_desc *desc) {
    (void)desc;
    return 1;
}

/* It keeps a group's best two, and a bit in a word for each group. */
static int pairs_of_groups(const seqtopk_desc *desc) { return desc->group_n <= 2 && desc->groups <= 64; }

#if SEQTOPK_WITH_AVX512
/* A comparison for each, and their cursors in one vector. */
static int few_experts(const seqtopk_desc *desc) { return desc->experts <= 16; }
#endif

const seqtopk_row seqtopk_registry[] = {
#define SEQTOPK_KERNEL(op, dtype, isa, algorithm, revision, applies, about)                                            \
    {"seqtopk_" #op "_" #dtype "__" #isa "_" #algorithm,                                                               \
     #op,                                                                                                              \
     #dtype,                                                                                                           \
     #isa,                                                                                                             \
     #algorithm,                                                                                                       \
     about,                                                                                                            \
     #isa "_" #algorithm,                                                                                              \
     (seqtopk_any_fn *)seqtopk_##op##_##dtype##__##isa##_##algorithm,                                                  \
     0,                                                                                                                \
     applies,                                                                                                          \
     SEQTOPK_OP_##op,                                                                                                  \
     SEQTOPK_ROW_##dtype,                                                                                              \
     ISA_##isa,                                                                                                        \
     revision},
#include "arch/kernels.def"
#undef SEQTOPK_KERNEL
#define SEQTOPK_SIZE(size, variant, revision, value, about)                                                            \
    {#size "_" #variant, #size,           "i32",   "ref",   #variant, about, #variant, NULL, value, always,            \
     SEQTOPK_OP_##size,  SEQTOPK_ROW_i32, ISA_ref, revision},
#include "src/kernels/sizes.def"
#undef SEQTOPK_SIZE
};

int seqtopk_op_reads_logits(seqtopk_op op) {
    enum { LOGITS, KEYS, PAIRS, WORDS };
    static const uint8_t reads[SEQTOPK_OPS] = {
#define SEQTOPK_OP(name, reads) [SEQTOPK_OP_##name] = reads,
#include "arch/kernels.def"
#undef SEQTOPK_OP
#define SEQTOPK_SIZE_OP(name) [SEQTOPK_OP_##name] = PAIRS,
#include "src/kernels/sizes.def"
#undef SEQTOPK_SIZE_OP
    };
    return reads[op] == LOGITS;
}

int32_t seqtopk_kernel_count(void) { return seqtopk_registry_kernels; }

seqtopk_status seqtopk_kernel_get(int32_t index, seqtopk_kernel *kernel) {
    if (!kernel)
        return SEQTOPK_E_NULL;
    if (!seqtopk_struct_is_sized(kernel, SEQTOPK_FIRST_kernel))
        return SEQTOPK_E_STRUCT;
    if (index < 0 || index >= seqtopk_registry_kernels)
        return SEQTOPK_E_VALUE;
    const seqtopk_row *row = seqtopk_registry + index;
    const seqtopk_kernel ours = {
        .revision = row->revision,
        .name = row->name,
        .op = row->op_name,
        .dtype = row->dtype_name,
        .isa = row->isa_name,
        .algorithm = row->algorithm,
        .about = row->about,
        .usable = seqtopk_isa_runs(row->isa),
    };
    seqtopk_give_struct(kernel, &ours, sizeof ours);
    return SEQTOPK_OK;
}
