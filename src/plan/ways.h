/* SPDX-License-Identifier: MIT */
/* Which way a sequence goes from logits to lists: ways.def as a table, and the one predicate of each way. */
#ifndef SEQTOPK_SRC_PLAN_WAYS_H
#define SEQTOPK_SRC_PLAN_WAYS_H

#include "src/kernels/registry.h"

typedef enum seqtopk_way_id {
#define SEQTOPK_WAY(name, steps, instead, kernels, about) SEQTOPK_WAY_##name,
#include "src/plan/ways.def"
#undef SEQTOPK_WAY
    SEQTOPK_WAYS
} seqtopk_way_id;

/* How long a sequence is, or in token scope a batch. */
typedef enum seqtopk_length {
    SEQTOPK_LENGTH_LONG,
    SEQTOPK_LENGTH_FEW,   /* at most SEQTOPK_FEW_TOKENS, on one thread */
    SEQTOPK_LENGTH_SHORT, /* it fits into one block of keys, on one thread */
    SEQTOPK_LENGTH_ALONE, /* the call has one token, and is not shared by threads */
    SEQTOPK_LENGTHS
} seqtopk_length;

/* Of so few tokens a sample says little. Measured with --way topk_cut at 32 to 256 tokens of 8 to 896 experts, on a Zen 4: at
 * 64 it is the faster way for nearly all of them, at 128 for the largest K only. */
enum { SEQTOPK_FEW_TOKENS = 64 };

static inline seqtopk_length seqtopk_length_of(int64_t tokens, int64_t block_rows) {
    return tokens <= block_rows           ? SEQTOPK_LENGTH_SHORT
           : tokens <= SEQTOPK_FEW_TOKENS ? SEQTOPK_LENGTH_FEW
                                          : SEQTOPK_LENGTH_LONG;
}

/* All that decides which ways serve a sequence, or in token scope a batch. */
typedef struct seqtopk_ask {
    const seqtopk_desc *desc; /* resolved */
    int32_t min_experts,
        max_experts;   /* of a token: K and K in token scope; online max_experts and max_experts, of which
                                       * the past decides later how many stay */
    int32_t is_biased; /* there is a selection bias */
    seqtopk_length length;
} seqtopk_ask;

typedef struct seqtopk_way_row {
    const char *name, *about;
    const char *(*why_not)(const seqtopk_ask *ask); /* NULL: it serves */
    seqtopk_way_id instead;
    uint32_t kernels; /* bit o: op o */
} seqtopk_way_row;

extern const seqtopk_way_row seqtopk_ways[SEQTOPK_WAYS];

/* Whether a token's first K experts are pruned by their scores: min_p or top_p. */
static inline int seqtopk_prunes(const seqtopk_desc *desc) { return desc->min_p > 0.0f || desc->top_p > 0.0f; }

/* How many experts a token gets at least and at most, before it is pruned or its past decides. */
static inline int32_t seqtopk_most_of_token(const seqtopk_desc *desc) {
    return desc->scope == SEQTOPK_SCOPE_TOKEN ? desc->top_k : desc->max_experts;
}
static inline int32_t seqtopk_least_of_token(const seqtopk_desc *desc) {
    return desc->scope == SEQTOPK_SCOPE_SEQUENCE ? desc->min_experts : seqtopk_most_of_token(desc);
}

/* Whether rows are made ready before kernels read them: scaled or capped, or since they are made anew as float32. */
static inline int seqtopk_prepares(const seqtopk_desc *desc) {
    if (desc->norm == SEQTOPK_NORM_SPARSEMIXER && desc->dtype != SEQTOPK_DTYPE_F32)
        return 1;
    return desc->logit_softcap > 0.0f || (desc->logit_scale != 0.0f && desc->logit_scale != 1.0f);
}

/* Whether a row of the registry is for the logits of such a plan, or reads none. */
int seqtopk_row_reads(const seqtopk_row *row, const seqtopk_desc *desc);

/* Whether a token loses groups, and whether these or a quota in each keep any expert from being selected. */
int seqtopk_loses_groups(const seqtopk_desc *desc);
int seqtopk_is_grouped(const seqtopk_desc *desc);

/* Whether keys of whole rows must be made, which one pass over the logits cannot: a bias, groups, or min_experts
 * above 16. */
int seqtopk_is_keyed(const seqtopk_ask *ask);

/* Whether quotas leave a token no more candidates than `most`. */
static inline int seqtopk_leaves_upto(const seqtopk_desc *desc, int32_t most) {
    return desc->group_quota > 0 && desc->group_top_k * desc->group_quota <= most;
}

/* The ops of all ways that may serve calls of such a description, and those that a call of any way may need. */
uint32_t seqtopk_ways_reach(const seqtopk_desc *desc);

/* Why a way serves no call of such a description, whatever its length and bias; NULL: it may serve some. */
const char *seqtopk_ways_why_never(int32_t way, const seqtopk_desc *desc);

/* The row of that name, -1 if there is none. */
int32_t seqtopk_way_index(const char *name);

#endif
