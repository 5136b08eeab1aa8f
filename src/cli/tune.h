/* SPDX-License-Identifier: MIT */
/* What the subcommands of `seqtopk tune` share. */
#ifndef SEQTOPK_CLI_TUNE_H
#define SEQTOPK_CLI_TUNE_H

#include "cli.h"

#include "src/tuning/machine.h"
#include "src/tuning/store.h"

#include <stdbool.h>

seqtopk_command_fn seqtopk_cli_tune_run, seqtopk_cli_tune_show, seqtopk_cli_tune_verify, seqtopk_cli_tune_merge,
    seqtopk_cli_tune_export, seqtopk_cli_tune_key;

/*
 * Loads a tuning file, or, with `path` NULL, the one in force; `used` gets its path. `any`: another machine's or
 * version's too. What is wrong is printed; returns SEQTOPK_OPTIONS_RUN or the exit status.
 */
int seqtopk_cli_tune_load(const char *command, const char *path, bool any, seqtopk_tuning_file *file,
                          char used[SEQTOPK_STORE_PATH]);

/* Where a tuner is to write: --output, or this machine's file. Prints; returns as above. */
int seqtopk_cli_tune_target(const char *command, const char *output, char path[SEQTOPK_STORE_PATH]);

/* Whether a file can be written there, found out before the work is done: the directory, or the nearest above it that
 * is there, takes new files. Prints; returns as above. */
int seqtopk_cli_tune_writable(const char *command, const char *path);

/* Whether what stands there may be replaced by a tuning file, found out before the work is done. Prints; as above. */
int seqtopk_cli_tune_replaceable(const char *command, const char *path);

/* How much longer the runner-up takes, as a share of the winner's time. */
double seqtopk_cli_tune_gap(const seqtopk_measurement *tuned);

#endif
