/* SPDX-License-Identifier: MIT */
/* What `seqtopk bench` was asked for and what it measured; printed for people and for programs. */
#ifndef SEQTOPK_CLI_BENCH_H
#define SEQTOPK_CLI_BENCH_H

#include "desc.h"
#include "floor.h"
#include "measure.h"

#include "src/plan/plan.h"

typedef struct seqtopk_bench_values {
    seqtopk_cli_desc desc;
    const char *shape;
    const char *model; /* NULL without --model; else its name in the list, once the shape is known */
    int64_t top_k, sequences, seed;
    int biased, cold, json;
    float seconds;
} seqtopk_bench_values;

/* What is measured, narrowest first. */
enum {
    SEQTOPK_BENCH_READ,
    SEQTOPK_BENCH_FLOOR,
    SEQTOPK_BENCH_ROUTE,
    SEQTOPK_BENCH_PERMUTED,
    SEQTOPK_BENCH_REFERENCE, /* without samples where it would take too long */
    SEQTOPK_BENCH_ITEMS
};

typedef struct seqtopk_bench_report {
    const seqtopk_options *options;
    uint64_t given;
    const seqtopk_bench_values *values;
    const seqtopk_desc *desc;
    const seqtopk_plan *plan;
    const seqtopk_row *score; /* the plan's kernel of op lse */
    const seqtopk_floor *floor;
    const char *read_isa;
    const seqtopk_measure *items; /* [SEQTOPK_BENCH_ITEMS] */
    size_t bytes;                 /* of the logits */
    int32_t rounds;
    double seconds;
} seqtopk_bench_report;

/* Returns the exit status. */
int seqtopk_bench_print(const seqtopk_bench_report *report);

#endif
