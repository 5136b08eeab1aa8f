/* SPDX-License-Identifier: MIT */
/* Which kernel serves each stage: what is forced, else what was tuned, else what the model says. */
#ifndef SEQTOPK_SRC_PLAN_DECIDE_H
#define SEQTOPK_SRC_PLAN_DECIDE_H

#include "src/plan/plan.h"
#include "src/tuning/lookup.h"

/* What is forced, and by what: a field of desc or a variable of the environment. */
typedef struct seqtopk_forced {
    const char *isa, *isa_from;
    const char *kernels, *kernels_from;
    const char *way, *way_from;
    int32_t isa_index; /* -1: none */
    int32_t way_index; /* the same */
    const seqtopk_row *row[SEQTOPK_OPS];
} seqtopk_forced;

/* From the fields of `desc`, or where these are NULL from the environment. */
seqtopk_status seqtopk_force(seqtopk_forced *forced, const seqtopk_desc *desc, seqtopk_error *error);

/* A plan while it is made. */
enum { SEQTOPK_DRAFT_DECISIONS = SEQTOPK_OPS * (1 + SEQTOPK_TUNING_BUCKETS) };
typedef struct seqtopk_draft {
    seqtopk_desc desc;
    const seqtopk_tuning *tuning; /* NULL: not asked */
    int32_t way;                  /* the forced one; -1: none */
    int32_t first[SEQTOPK_OPS + 1], decisions;
    seqtopk_decision decision[SEQTOPK_DRAFT_DECISIONS]; /* why is NULL where line is not 0 */
} seqtopk_draft;

/* Adds the decisions on every op to a draft whose desc and tuning are set. */
void seqtopk_decide(seqtopk_draft *draft, const seqtopk_forced *forced);

#endif
