/* SPDX-License-Identifier: MIT */
/* Threads to lend to the library: one is started for each part of each step. */
#ifndef SEQTOPK_CLI_THREADS_H
#define SEQTOPK_CLI_THREADS_H

#include <seqtopk/seqtopk.h>

seqtopk_parallel seqtopk_cli_threads(int32_t threads);

#endif
