/* SPDX-License-Identifier: MIT */
/* The command `seqtopk`: finds the subcommand and runs it. */
#include "cli.h"
#include "options.h"

#include <seqtopk/seqtopk.h>

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

typedef struct command {
    const char *name, *about;
    seqtopk_command_fn *run;
} command;

static const command commands[] = {
    {"route", "route a file of router logits and show what came out", seqtopk_cli_route},
    {"decode", "the same token by token, as while decoding, and what that differs in", seqtopk_cli_decode},
    {"bench", "measure what this machine does for a shape", seqtopk_cli_bench},
    {"info", "show this machine, the kernels, and the plan for a shape", seqtopk_cli_info},
    {"models", "list the routers of published models, which --model takes by name", seqtopk_cli_models},
    {"tune", "find the fastest kernels of this machine, once; show, verify, merge what was found", seqtopk_cli_tune},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static int help(void) {
    puts("Usage: seqtopk COMMAND [OPTIONS]\n"
         "CPU routing for Mixture-of-Experts models: router logits to lists of experts.\n\n"
         "Commands:");
    for (size_t i = 0; i < COMMANDS; i++)
        printf("  %-10s %s\n", commands[i].name, commands[i].about);
    puts("\nOptions:\n"
         "  --version  show the version of the library\n"
         "  --help     show this help; seqtopk COMMAND --help shows a command's\n\n"
         "Exit status: 0 done, 1 a bad file or a failure, 2 a usage error.");
    return SEQTOPK_EXIT_OK;
}

static int unknown(const char *word) {
    const char *names[COMMANDS];
    for (size_t i = 0; i < COMMANDS; i++)
        names[i] = commands[i].name;
    const char *near = seqtopk_options_nearest(word, names, COMMANDS);
    const char *kind = word[0] == '-' ? "option" : "command";
    if (near)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "unknown %s '%s'; did you mean '%s'?", kind, word, near);
    return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "unknown %s '%s'; see seqtopk --help", kind, word);
}

static int run(int argc, char **argv) {
    if (argc < 2)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "a command is missing; see seqtopk --help");
    const char *word = argv[1];
    if (!strcmp(word, "--help") || !strcmp(word, "-h"))
        return help();
    if (!strcmp(word, "--version")) {
        printf("seqtopk %s\n", seqtopk_version());
        return SEQTOPK_EXIT_OK;
    }
    for (size_t i = 0; i < COMMANDS; i++)
        if (!strcmp(word, commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    return unknown(word);
}

int main(int argc, char **argv) {
    setlocale(LC_CTYPE, ""); /* for the bars; numbers keep the C locale's point */
    int status = run(argc, argv);
    if (fflush(stdout) || ferror(stdout))
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "standard output: %s", strerror(errno));
    return status;
}
