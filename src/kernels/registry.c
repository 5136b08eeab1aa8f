/* SPDX-License-Identifier: MIT */
#include "src/kernels/registry.h"

#define SEQTOPK_KERNEL(op, dtype, isa, algorithm, revision, applies, about)                                            \
    seqtopk_##op##_fn seqtopk_##op##_##dtype##__##isa##_##algorithm;
#include "arch/kernels.def"
#undef SEQTOPK_KERNEL

enum {
#define SEQTOPK_ISA(name, features) ISA_##name,
#include "arch/isa.def"
#undef SEQTOPK_ISA
};

/* The predicates that kernels.def names. */
static int always(const seqtopk_desc *desc) {
    (void)desc;
    return 1;
}

static int sweeps(const seqtopk_desc *desc) {
    return desc->scope == SEQTOPK_SCOPE_SEQUENCE;
}

static int picks(const seqtopk_desc *desc) {
    return desc->scope == SEQTOPK_SCOPE_TOKEN;
}

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
     applies,                                                                                                          \
     SEQTOPK_OP_##op,                                                                                                  \
     SEQTOPK_ROW_##dtype,                                                                                              \
     ISA_##isa,                                                                                                        \
     revision},
#include "arch/kernels.def"
#undef SEQTOPK_KERNEL
};

int seqtopk_op_reads_logits(seqtopk_op op) {
    return op == SEQTOPK_OP_lse || op == SEQTOPK_OP_keys || op == SEQTOPK_OP_collect_logits || op == SEQTOPK_OP_collect_short || op == SEQTOPK_OP_topk_logits ||
           op == SEQTOPK_OP_weigh_logits;
}

int32_t seqtopk_kernel_count(void) { return seqtopk_registry_size; }

seqtopk_status seqtopk_kernel_get(int32_t index, seqtopk_kernel *kernel) {
    if (!kernel)
        return SEQTOPK_E_NULL;
    if (kernel->struct_size != sizeof *kernel)
        return SEQTOPK_E_STRUCT;
    if (index < 0 || index >= seqtopk_registry_size)
        return SEQTOPK_E_VALUE;
    const seqtopk_row *row = seqtopk_registry + index;
    kernel->revision = row->revision;
    kernel->name = row->name;
    kernel->op = row->op_name;
    kernel->dtype = row->dtype_name;
    kernel->isa = row->isa_name;
    kernel->algorithm = row->algorithm;
    kernel->about = row->about;
    kernel->usable = seqtopk_isa_runs(row->isa);
    return SEQTOPK_OK;
}
