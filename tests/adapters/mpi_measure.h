/* SPDX-License-Identifier: MIT */
/* What a route takes in a team of MPI processes, and what of that is the exchange: for check-mpi --measure. */
#ifndef SEQTOPK_TESTS_ADAPTERS_MPI_MEASURE_H
#define SEQTOPK_TESTS_ADAPTERS_MPI_MEASURE_H

#include <seqtopk/seqtopk.h>

/*
 * One sequence of so many tokens on each rank, 128 experts, K = 8, 1 to 10 each. A collective ends delay_us later than it would.
 * Every other route the ranks wait for the last of them before each collective, so that waiting is told apart from the exchange.
 * Prints the medians, the mean of all ranks or also each one's (by_rank), at rank 0. Returns 0 when done.
 */
int measure_route(const seqtopk_team *team, int64_t tokens, long delay_us, int by_rank);

#endif
