/* SPDX-License-Identifier: MIT */
/* Files and lists on the command line -> a seqtopk_input that is whole and consistent. */
#ifndef SEQTOPK_CLI_INPUTS_H
#define SEQTOPK_CLI_INPUTS_H

#include "npy.h"

#include <seqtopk/seqtopk.h>

typedef struct seqtopk_cli_sources {
    const char *logits, *lengths, *cu_seqlens, *token_seq, *mask, *bias, *factors,
        *given;     /* all but logits may be NULL */
    int64_t shared; /* experts that the bias is not of, */
    int64_t beside; /* and those that factors are of, and logits are not */
    int rows_later; /* of the logits only what they are: no data */
} seqtopk_cli_sources;

typedef struct seqtopk_cli_inputs {
    seqtopk_npy logits; /* data NULL with rows_later */
    seqtopk_dtype dtype;
    int64_t tokens, experts, sequences;
    int64_t unmasked;
    int32_t *cu_seqlens;       /* [sequences + 1], or NULL for one sequence or with token_seq */
    int32_t *token_seq;        /* [tokens] or NULL */
    uint8_t *token_mask;       /* [tokens] or NULL */
    seqtopk_npy bias, factors; /* data NULL without */
    int32_t *given;            /* [tokens, given_width] or NULL */
    int64_t given_width;
} seqtopk_cli_inputs;

/*
 * Reads and checks everything. `dtype` is a seqtopk_dtype that the user insists on, or -1. Prints what is wrong;
 * returns SEQTOPK_OPTIONS_RUN or the exit status. seqtopk_cli_inputs_free is due in either case.
 */
int seqtopk_cli_inputs_load(const seqtopk_cli_sources *sources, int dtype, seqtopk_cli_inputs *inputs);

void seqtopk_cli_inputs_free(seqtopk_cli_inputs *inputs);

seqtopk_input seqtopk_cli_inputs_view(const seqtopk_cli_inputs *inputs);

/* Says on standard error where the file has the NaN or +inf that `token` was rejected for; returns the exit status. */
int seqtopk_cli_inputs_nonfinite(const seqtopk_cli_inputs *inputs, const char *path, int64_t token);

#endif
