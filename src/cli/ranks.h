/* SPDX-License-Identifier: MIT */
/* Ranks of `--team mpi`: processes that share a file's sequences. libseqtopk_mpi is loaded when it is asked for. */
#ifndef SEQTOPK_CLI_RANKS_H
#define SEQTOPK_CLI_RANKS_H

#include "inputs.h"
#include "save.h"

#include <seqtopk/seqtopk.h>

/* What a rank did, for the report. */
typedef struct seqtopk_cli_rank {
    int64_t tokens, pairs, ns, collective_ns; /* of a route, and of that in collectives */
    int64_t allreduces, exscans, bytes;       /* of a route; bytes that it gave to them */
} seqtopk_cli_rank;

typedef struct seqtopk_cli_ranks seqtopk_cli_ranks;

/* Joins the team of all processes that were started together; count_all: of seqtopk_team. Prints what is wrong and returns NULL. */
seqtopk_cli_ranks *seqtopk_cli_ranks_join(int32_t count_all);
/* NULL is fine. */
void seqtopk_cli_ranks_leave(seqtopk_cli_ranks *ranks);

int32_t seqtopk_cli_ranks_rank(const seqtopk_cli_ranks *ranks);
int32_t seqtopk_cli_ranks_size(const seqtopk_cli_ranks *ranks);

/* The same exit status for all: the largest. */
int seqtopk_cli_ranks_agree(seqtopk_cli_ranks *ranks, int status);

/*
 * Routes this rank's part of each sequence some times. At rank 0 *lists are then those of the whole file, and told [size] is
 * what each rank did. Prints what is wrong at rank 0; returns SEQTOPK_OPTIONS_RUN, or the exit status, the same on all.
 */
int seqtopk_cli_ranks_route(seqtopk_cli_ranks *ranks, const seqtopk_cli_inputs *inputs, const seqtopk_plan *plan,
                            const seqtopk_desc *desc, const char *path, const seqtopk_parallel *parallel,
                            seqtopk_cli_lists *lists, seqtopk_cli_rank *told, int32_t *repetitions);

#endif
