/* SPDX-License-Identifier: MIT */
/*
 * The floor of a router: the fastest pass that makes, for every logit, what the router's key needs, and that leaves
 * nothing but what a later step would need of each row. No route can be faster: it has to do all that, and then select.
 *
 *   softmax                     the log-sum-exp of each row, by the plan's own kernel
 *   other scores                the maximum of each row: without a bias logits order as scores do
 *   softmax with a bias         the probabilities, p + b and the maximum of each row
 *   other scores with a bias    s(x) + b and the maximum of each row
 *   with groups                 instead of the row's maximum the score of each group
 *
 * Scores are good to the last bits but are not the route's, to the bit: what the same bits everywhere cost is above the
 * floor. Nor is a row looked at once more for a NaN, or because its exponentials overflow: random logits have neither.
 */
#ifndef SEQTOPK_CLI_FLOOR_H
#define SEQTOPK_CLI_FLOOR_H

#include "arch/kernel.h"

#include <seqtopk/seqtopk.h>

#include <stddef.h>

/* What a pass is given. Rows are dense. */
typedef struct seqtopk_floor_rows {
    const void *logits; /* [T, E] */
    const float *bias;  /* [E] or NULL */
    float *best;        /* [T * groups]: the maximum of each row, or the score of each group */
    float *work;        /* [SEQTOPK_FLOOR_WORK(E)] */
    int32_t experts, groups;
    int32_t two;   /* a group's score is its two best added up */
    int32_t score; /* seqtopk_score */
    int32_t ahead; /* bytes ahead that memory is asked for */
} seqtopk_floor_rows;

enum { SEQTOPK_FLOOR_ROWS = 16 };
#define SEQTOPK_FLOOR_WORK(experts) ((size_t)SEQTOPK_FLOOR_ROWS * ((size_t)(experts) + 32))

/* All but the log-sum-exp, of rows [first, last); src/cli/floor_rows.c, once for each instruction set and dtype. */
typedef void seqtopk_floor_fn(const seqtopk_floor_rows *rows, int64_t first, int64_t last);
#define SEQTOPK_ISA(isa, features)                                                                                     \
    seqtopk_floor_fn seqtopk_floor_f32__##isa##_rows, seqtopk_floor_bf16__##isa##_rows, seqtopk_floor_f16__##isa##_rows;
#include "arch/isa.def"
#undef SEQTOPK_ISA

typedef struct seqtopk_floor {
    seqtopk_lse_fn *lse;     /* NULL: not needed */
    seqtopk_floor_fn *other; /* NULL: not needed */
    seqtopk_rows lse_rows;
    seqtopk_floor_rows rows;
    int64_t tokens;
    char name[96]; /* "s(x) + b and the row's maximum, avx512" */
} seqtopk_floor;

/*
 * The floor of `desc` for these logits, with `lse` for a row's log-sum-exp, by the instruction set `isa`. Returns 0 for
 * want of memory; seqtopk_floor_free is due in either case.
 */
int seqtopk_floor_make(seqtopk_floor *floor, const seqtopk_desc *desc, int64_t tokens, const void *logits,
                       const float *bias, seqtopk_lse_fn *lse, const char *isa);
void seqtopk_floor_free(seqtopk_floor *floor);

/* One pass over all rows. `floor` is a seqtopk_floor. */
void seqtopk_floor_call(void *floor);

#endif
