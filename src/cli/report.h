/* SPDX-License-Identifier: MIT */
/* What came out of a route: the same for people and for programs. */
#ifndef SEQTOPK_CLI_REPORT_H
#define SEQTOPK_CLI_REPORT_H

#include "inputs.h"
#include "json.h"
#include "model.h"
#include "options.h"
#include "ranks.h"
#include "save.h"

#include <seqtopk/seqtopk.h>

typedef struct seqtopk_cli_report {
    const char *path, *directory; /* directory: NULL without --out */
    const seqtopk_cli_model *model;
    const seqtopk_options *options;
    uint64_t given;
    const seqtopk_cli_inputs *inputs;
    const seqtopk_desc *desc;
    const seqtopk_plan *plan;
    const seqtopk_cli_lists *lists;
    int32_t threads;
    double median_ns;
    int32_t repetitions;
    const seqtopk_cli_rank *told; /* [ranks]; 0: one process alone */
    int32_t ranks;
} seqtopk_cli_report;

/* Returns the exit status. */
int seqtopk_cli_report_print(const seqtopk_cli_report *report, bool json);

/* What a router is, after "routing    ", and as members of an object. */
void seqtopk_cli_router_text(const seqtopk_desc *desc, bool is_biased);
void seqtopk_cli_router_json(seqtopk_json *json, const seqtopk_plan *plan, const seqtopk_desc *desc, bool is_biased);

/* The decisions of a plan that hold for calls of so many tokens; < 0: all of them. */
void seqtopk_cli_choices_text(const seqtopk_plan *plan, int64_t tokens);
void seqtopk_cli_choices_json(seqtopk_json *json, const seqtopk_plan *plan, int64_t tokens);

#endif
