/* SPDX-License-Identifier: MIT */
/* `seqtopk tune`: finds the subcommand; and what the subcommands share. */
#define _POSIX_C_SOURCE 200809L
#include "tune.h"
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    seqtopk_command_fn *run;
} subcommands[] = {
    {"show", seqtopk_cli_tune_show},     {"verify", seqtopk_cli_tune_verify}, {"merge", seqtopk_cli_tune_merge},
    {"export", seqtopk_cli_tune_export}, {"key", seqtopk_cli_tune_key},
};
enum { SUBCOMMANDS = sizeof subcommands / sizeof *subcommands };

#if !SEQTOPK_WITH_TUNE
static int missing(const char *command) {
    return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                            "%s: this build cannot time kernels: hwloc was not found when it was built; install "
                            "libhwloc-dev and build with -Dtune=enabled",
                            command);
}

int seqtopk_cli_tune_run(int argc, char **argv) {
    if (argc < 2 || (strcmp(argv[1], "--help") && strcmp(argv[1], "-h")))
        return missing("tune");
    puts("Usage: seqtopk tune show|merge|export|key [OPTIONS]\n"
         "Works with tuning files; each has --help. Timing kernels (tune, tune verify) is not in this build: it\n"
         "was built without hwloc.");
    return SEQTOPK_EXIT_OK;
}

int seqtopk_cli_tune_verify(int argc, char **argv) { return (void)argc, (void)argv, missing("tune verify"); }
#endif

int seqtopk_cli_tune(int argc, char **argv) {
    if (argc < 2 || argv[1][0] == '-')
        return seqtopk_cli_tune_run(argc, argv);
    const char *names[SUBCOMMANDS];
    for (size_t i = 0; i < SUBCOMMANDS; i++) {
        names[i] = subcommands[i].name;
        if (!strcmp(argv[1], names[i]))
            return subcommands[i].run(argc - 1, argv + 1);
    }
    const char *near = seqtopk_options_nearest(argv[1], names, SUBCOMMANDS);
    if (near)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "tune: unknown subcommand '%s'; did you mean '%s'?", argv[1], near);
    return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "tune: unknown subcommand '%s'; see seqtopk tune --help", argv[1]);
}

/* ----------------------------------------------------------------- files -- */

int seqtopk_cli_tune_load(const char *command, const char *path, bool any, seqtopk_tuning_file *file,
                          char used[SEQTOPK_STORE_PATH]) {
    const seqtopk_tuning_reader reader = any ? seqtopk_tuning_reader_any() : seqtopk_tuning_reader_here();
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    if (path) {
        if (strlen(path) >= SEQTOPK_STORE_PATH)
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: %.60s...: %s", command, path, strerror(ENAMETOOLONG));
        strcpy(used, path);
        if (seqtopk_store_load(file, path, &reader, &error) == SEQTOPK_OK)
            return SEQTOPK_OPTIONS_RUN;
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: %s", command, error.message);
    }
    char found[SEQTOPK_STORE_PATH];
    for (int place = 0; place < SEQTOPK_STORE_PLACES; place++)
        if (seqtopk_store_place(place, found) && access(found, F_OK) == 0)
            return seqtopk_cli_tune_load(command, found, any, file, used);
    return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                            "%s: no tuning file of this machine is in force; make one with "
                            "`seqtopk tune`, or name one",
                            command);
}

int seqtopk_cli_tune_target(const char *command, const char *output, char path[SEQTOPK_STORE_PATH]) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    if (output) {
        if (strlen(output) >= SEQTOPK_STORE_PATH)
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --output: %s", command, strerror(ENAMETOOLONG));
        strcpy(path, output);
        return SEQTOPK_OPTIONS_RUN;
    }
    if (seqtopk_store_target(path, &error) == SEQTOPK_OK)
        return SEQTOPK_OPTIONS_RUN;
    return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: %s; or name a file with --output", command, error.message);
}

/* So many directories the store makes if they are not there. */
enum { MADE = 2 };

int seqtopk_cli_tune_writable(const char *command, const char *path) {
    char directory[SEQTOPK_STORE_PATH];
    int missing_parts = 0;
    strcpy(directory, path);
    if (access(path, F_OK) == 0 && access(path, W_OK) != 0)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: %s: cannot be written: %s; name another file with --output",
                                command, path, strerror(errno));
    for (;;) {
        char *slash = strrchr(directory, '/');
        if (!slash)
            strcpy(directory, ".");
        else if (slash == directory)
            directory[1] = 0;
        else
            *slash = 0;
        if (access(directory, W_OK | X_OK) == 0)
            return SEQTOPK_OPTIONS_RUN;
        if (errno != ENOENT || !slash || slash == directory || ++missing_parts > MADE)
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                    "%s: %s: cannot be written: %s: %s; name another file with --output", command, path,
                                    directory, strerror(errno));
    }
}

int seqtopk_cli_tune_replaceable(const char *command, const char *path) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    if (seqtopk_store_replaceable(path, &error) == SEQTOPK_OK || access(path, F_OK) != 0) /* what is missing is made */
        return SEQTOPK_OPTIONS_RUN;
    return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: %s", command, error.message);
}

double seqtopk_cli_tune_gap(const seqtopk_measurement *tuned) {
    return tuned->runner_up >= 0 ? (double)tuned->runner_up_ps / (double)tuned->ps - 1 : 0;
}
