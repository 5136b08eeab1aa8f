/* SPDX-License-Identifier: MIT */
#ifndef SEQTOPK_SRC_PLAN_PLAN_H
#define SEQTOPK_SRC_PLAN_PLAN_H

#include "src/kernels/limits.h"
#include "src/kernels/registry.h"

/* Which kernel serves an op for calls of at least tokens_from tokens. */
typedef struct seqtopk_decision {
    const seqtopk_row *row;
    const char *why;
    int64_t tokens_from;
    int32_t contenders;
    int32_t line; /* of the tuning file; 0: not by it */
} seqtopk_decision;

/* The kernels that serve calls of so many tokens and more. */
typedef struct seqtopk_kernels {
    int64_t tokens_from;
    int32_t staged; /* the sweep or pick is the reference's, which is none */
    union {
        struct {
#define SEQTOPK_OP(op) seqtopk_##op##_fn *op;
#include "arch/ops.def"
#undef SEQTOPK_OP
        };
        seqtopk_any_fn *of[SEQTOPK_OPS]; /* by op */
    };
} seqtopk_kernels;

struct seqtopk_plan {
    seqtopk_desc desc; /* defaults resolved; isa and kernel are not kept */
    /* Every token's first `sure` contenders are selected, those after its first `most` never are: min_experts and
     * max_experts in sequence scope, K and K in token scope. */
    int32_t sure, most;
    int64_t most_tokens;            /* whose pairs int32 lists can index */
    int64_t work_rows;              /* whose keys a part has room for */
    int32_t ranges;                 /* of T between which no decision changes */
    seqtopk_kernels *kernels;       /* [ranges], by tokens_from, the first from 0; behind the decisions */
    int32_t first[SEQTOPK_OPS + 1]; /* the decisions on op o: [first[o], first[o + 1]), by tokens_from */
    seqtopk_decision decision[];    /* then the kernels, and the texts of what a tuning file decided */
};

/* Fills plan->kernels from the decisions, for the ranges that they have. */
void seqtopk_plan_gather(seqtopk_plan *plan);

/* The kernels of a call of so many tokens. */
static inline const seqtopk_kernels *seqtopk_plan_kernels(const seqtopk_plan *plan, int64_t tokens) {
    const seqtopk_kernels *kernels = plan->kernels + plan->ranges - 1;
    while (kernels->tokens_from > tokens)
        kernels--;
    return kernels;
}

/* Whether groups keep any expert from being selected. */
static inline int seqtopk_is_grouped(const seqtopk_desc *desc) {
    return desc->groups > 1 && desc->group_top_k < desc->groups;
}

/* Copies *desc with every default resolved, or says which field is wrong. */
seqtopk_status seqtopk_desc_resolve(seqtopk_desc *resolved, const seqtopk_desc *desc, seqtopk_error *error);

/* The most tokens up to which a row is preferred to the rows after it; INT64_MAX: always, -1: never. */
int64_t seqtopk_model_limit(const seqtopk_row *row, const seqtopk_desc *desc);

/* The kernel that serves `op` in a call of so many tokens. */
static inline const seqtopk_row *seqtopk_plan_row(const seqtopk_plan *plan, seqtopk_op op, int64_t tokens) {
    int32_t i = plan->first[op + 1] - 1;
    while (plan->decision[i].tokens_from > tokens) /* the first is from 0 */
        i--;
    return plan->decision[i].row;
}

#endif
