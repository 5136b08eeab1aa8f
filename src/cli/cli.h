/* SPDX-License-Identifier: MIT */
/* What the files of the command share. A new command is one file, one declaration here and one row in main.c. */
#ifndef SEQTOPK_CLI_CLI_H
#define SEQTOPK_CLI_CLI_H

/* Exit statuses: scripts rely on them. */
enum { SEQTOPK_EXIT_OK = 0, SEQTOPK_EXIT_FAILURE = 1, SEQTOPK_EXIT_USAGE = 2 };

/* A command; argv[0] is its name. Returns the exit status. */
typedef int seqtopk_command_fn(int argc, char **argv);

seqtopk_command_fn seqtopk_cli_route;
seqtopk_command_fn seqtopk_cli_decode;
seqtopk_command_fn seqtopk_cli_info;
seqtopk_command_fn seqtopk_cli_bench;
seqtopk_command_fn seqtopk_cli_models;
seqtopk_command_fn seqtopk_cli_tune;

/*
 * Prints one line on standard error and returns `status`, so that `return seqtopk_cli_fail(...)` reads well. File
 * names are printed by way of it, hence control characters, newlines too, come out as '?'.
 */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
int seqtopk_cli_fail(int status, const char *format, ...);

/* malloc of `count` items that may be 0, with the product checked; NULL only for want of memory. */
void *seqtopk_cli_alloc(unsigned long long count, unsigned long long item_size);

#endif
