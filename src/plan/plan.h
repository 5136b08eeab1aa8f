/* SPDX-License-Identifier: MIT */
#ifndef SEQTOPK_SRC_PLAN_PLAN_H
#define SEQTOPK_SRC_PLAN_PLAN_H

#include "src/kernels/limits.h"
#include "src/plan/ways.h"

/* Which row serves an op for calls of at least tokens_from tokens. */
typedef struct seqtopk_decision {
    const seqtopk_row *row;
    const char *why;
    int64_t tokens_from;
    int32_t contenders;
    int32_t line; /* of the tuning file; 0: not by it */
} seqtopk_decision;

/* The kernels, sizes and ways of calls of at least tokens_from tokens. */
typedef struct seqtopk_kernels {
    int64_t tokens_from;
    union {
        struct {
#define SEQTOPK_OP(op, reads) seqtopk_##op##_fn *op;
#include "arch/kernels.def"
#undef SEQTOPK_OP
        };
        seqtopk_any_fn *of[SEQTOPK_KERNEL_OPS]; /* by op; NULL: there is no kernel, or no way of this plan needs it */
    };
    union {
        struct {
#define SEQTOPK_SIZE_OP(size) int64_t size;
#include "src/kernels/sizes.def"
#undef SEQTOPK_SIZE_OP
        };
        int64_t size[SEQTOPK_SIZE_OPS];
    };
    int64_t block_rows;              /* that have their keys made together, by the size `block` */
    uint32_t ways;                   /* bit w: way w has all of its kernels */
    uint8_t way[2][SEQTOPK_LENGTHS]; /* [is_biased][length]: the first that serves */
} seqtopk_kernels;

struct seqtopk_plan {
    seqtopk_desc desc;  /* defaults resolved, shared experts not counted; isa and kernel are not kept */
    int32_t columns;    /* of a row of logits */
    int32_t dispatched; /* experts that lists may name: E of all outputs */
    int32_t beside;     /* pairs that each token has beside those that compete: its shared experts */
    int32_t adjusts;    /* lists are changed after they are made: null or shared experts */
    /* Every token's first min_experts candidates are selected, those after its first max_experts never are: the desc's
     * in sequence scope, K and K in token scope, max_experts both online, where the past decides how many of those stay. */
    int32_t min_experts, max_experts;
    int32_t pairs;                  /* for each token there is space for so many: K; online max_experts */
    int32_t way;                    /* the forced one; -1: none */
    int32_t is_keyed;               /* seqtopk_is_keyed, whether there is a bias or not */
    int32_t is_plain;               /* experts ascend, and a router says no more than score, bias, groups and norm */
    int64_t most_tokens;            /* the most tokens whose pairs int32 lists can index */
    int64_t work_rows;              /* for whose keys a part's scratch has space */
    int32_t ranges;                 /* of T between which no decision changes */
    seqtopk_kernels *kernels;       /* [ranges], by tokens_from, the first from 0; behind the decisions */
    int32_t first[SEQTOPK_OPS + 1]; /* the decisions on op o: [first[o], first[o + 1]), by tokens_from */
    seqtopk_decision decision[];    /* then the kernels, and the texts of what a tuning file decided */
};

/* The kernels of a call of so many tokens. */
static inline const seqtopk_kernels *seqtopk_plan_kernels(const seqtopk_plan *plan, int64_t tokens) {
    const seqtopk_kernels *kernels = plan->kernels + plan->ranges - 1;
    while (kernels->tokens_from > tokens)
        kernels--;
    return kernels;
}

/* Why a way does not serve: its predicate, a kernel that is missing, another way that is forced; NULL: it does. */
const char *seqtopk_plan_why_not(const seqtopk_plan *plan, const seqtopk_kernels *kernels, seqtopk_way_id way,
                                 const seqtopk_ask *ask);

/* What a plan's calls ask for, but for is_biased and length. */
static inline seqtopk_ask seqtopk_plan_ask(const seqtopk_plan *plan) {
    return (seqtopk_ask){.desc = &plan->desc, .min_experts = plan->min_experts, .max_experts = plan->max_experts};
}

/* The row that serves `op` in a call of so many tokens; NULL: none does. */
static inline const seqtopk_row *seqtopk_plan_row(const seqtopk_plan *plan, seqtopk_op op, int64_t tokens) {
    const seqtopk_row *row = NULL;
    for (int32_t i = plan->first[op]; i < plan->first[op + 1] && plan->decision[i].tokens_from <= tokens; i++)
        row = plan->decision[i].row;
    return row;
}

/* The most slots that blocks of so many pairs can take, as seqtopk_max_block_slots. */
int64_t seqtopk_block_slots_of(const seqtopk_plan *plan, int64_t pairs, int32_t block_size);

/* Copies *desc with every default resolved, or says which field is wrong. */
seqtopk_status seqtopk_desc_resolve(seqtopk_desc *resolved, const seqtopk_desc *desc, seqtopk_error *error);

/* Whether a row may be preferred to the rows after it. */
int seqtopk_model_suits(const seqtopk_row *row, const seqtopk_desc *desc);

#endif
