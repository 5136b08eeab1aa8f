/* SPDX-License-Identifier: MIT */
/* What --model and --parity set: all of a router that no option says otherwise. */
#ifndef SEQTOPK_CLI_MODEL_H
#define SEQTOPK_CLI_MODEL_H

#include "desc.h"
#include "inputs.h"

#include <seqtopk/seqtopk.h>

typedef struct seqtopk_cli_model {
    const char *name; /* as the list of presets has it; NULL: none was named */
    int32_t experts;
    bool is_biased;
} seqtopk_cli_model;

/*
 * Fills `model`, and from it what was not given of `cli` and of *top_k; `given` gets what is as good as given. Without
 * --model it only looks for a *top_k above 0. Prints what is wrong; returns SEQTOPK_OPTIONS_RUN or the exit status.
 */
int seqtopk_cli_model_take(const seqtopk_options *options, uint64_t *given, seqtopk_cli_desc *cli, int64_t *top_k,
                           seqtopk_cli_model *model);

/* The same where --shape tells tokens, experts and, with `count` 3, K, or with --model the tokens alone: sizes becomes T, E
 * and K. sizes[2] is --top-k before, 0 if it was not given. */
int seqtopk_cli_model_shape(const seqtopk_options *options, uint64_t *given, seqtopk_cli_desc *cli, const char *shape,
                            int count, int64_t sizes[3], seqtopk_cli_model *model);

/* The same where a file of logits tells them: reads it, and fills `desc`. top_k: 0 if it was not given. */
int seqtopk_cli_model_load(const seqtopk_options *options, uint64_t *given, seqtopk_cli_desc *cli,
                           seqtopk_cli_sources *sources, int64_t top_k, seqtopk_cli_inputs *inputs, seqtopk_desc *desc,
                           seqtopk_cli_model *model);

/* The place of a name in the list. On an unknown one -1, after an error that names the nearest; `where` begins it:
 * "route: --model". */
int32_t seqtopk_cli_model_find(const char *where, const char *name);

#endif
