/* SPDX-License-Identifier: MIT */
/* Threads that stay, for timing calls on several: starting one costs more than many a call. */
#ifndef SEQTOPK_TUNE_TEAM_H
#define SEQTOPK_TUNE_TEAM_H

#include "tune/topology.h"

#include <seqtopk/seqtopk.h>

typedef struct seqtopk_tune_team seqtopk_tune_team;

/* `threads` in all, the caller's among them: thread i is kept on place i of the topology. NULL: they cannot be had. */
seqtopk_tune_team *seqtopk_tune_team_new(int32_t threads, const seqtopk_tune_topology *topology);
void seqtopk_tune_team_free(seqtopk_tune_team *team);

/* The loan that seqtopk_route_parallel takes. */
seqtopk_parallel seqtopk_tune_team_loan(seqtopk_tune_team *team);

#endif
