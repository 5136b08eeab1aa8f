/* SPDX-License-Identifier: MIT */
/*
 * Threads to lend to the library. They are started when they are first wanted and then stay: between two steps of a
 * route they wait for some microseconds awake, since waking them would take as long as the step, and then asleep.
 */
#ifndef SEQTOPK_CLI_THREADS_H
#define SEQTOPK_CLI_THREADS_H

#include <seqtopk/seqtopk.h>

typedef struct seqtopk_cli_team seqtopk_cli_team;

/* At most so many threads, the caller's own one of them; NULL for want of memory. */
seqtopk_cli_team *seqtopk_cli_team_make(int32_t threads);

/* What the library takes; the team must outlive its use. */
seqtopk_parallel seqtopk_cli_team_lend(seqtopk_cli_team *team);

/* Ends the threads. NULL is fine. */
void seqtopk_cli_team_end(seqtopk_cli_team *team);

#endif
