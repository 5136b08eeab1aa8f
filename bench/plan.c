/* SPDX-License-Identifier: MIT */
/*
 * What a plan costs: the first of a process, which asks the CPU and reads the tuning file, and later ones; without a
 * tuning file and with one. Each first plan is that of a process of its own.
 */
#define _GNU_SOURCE
#include "src/cli/measure.h"

#include <seqtopk/seqtopk.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 101, LATER = 100 };

typedef struct {
    double first, later; /* us */
} cost;

/* Makes a plan; returns the time in us, or ends the process. */
static double time_plan(void) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan;
    desc.experts = 128;
    desc.top_k = 8;
    const double begin = seqtopk_measure_now();
    const seqtopk_status status = seqtopk_plan_create(&plan, &desc, &error);
    const double end = seqtopk_measure_now();
    if (status) {
        fprintf(stderr, "bench-plan: %s\n", error.message);
        _exit(1);
    }
    seqtopk_plan_destroy(plan);
    return (end - begin) / 1e3;
}

/* Ends the process if the tuning file is of no use. */
static void check_file(const char *file) {
    seqtopk_tuning_info info = SEQTOPK_TUNING_INFO_INIT;
    if (seqtopk_tuning_get_info(seqtopk_tuning_machine(), &info) == SEQTOPK_OK && info.path)
        return;
    fprintf(stderr, "bench-plan: %s: %s\n", file, info.reason);
    _exit(1);
}

/* The costs in a new process, by `tuning`, a file or "none"; 0: it failed. */
static int measure(const char *tuning, cost *c) {
    int ends[2];
    if (pipe(ends) != 0)
        return 0;
    const pid_t child = fork();
    if (child == 0) {
        setenv("SEQTOPK_TUNING", tuning, 1);
        c->first = time_plan();
        c->later = 0;
        for (int i = 0; i < LATER; i++)
            c->later += time_plan() / LATER;
        if (strcmp(tuning, "none") != 0)
            check_file(tuning);
        _exit(write(ends[1], c, sizeof *c) != sizeof *c);
    }
    close(ends[1]);
    const int whole = child > 0 && read(ends[0], c, sizeof *c) == sizeof *c;
    close(ends[0]);
    int how = 0;
    return child > 0 && waitpid(child, &how, 0) == child && how == 0 && whole;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values) {
    qsort(values, PROCESSES, sizeof *values, ascending);
    return values[PROCESSES / 2];
}

int main(int argc, char **argv) {
    static double first[2][PROCESSES], later[2][PROCESSES];
    if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
        fprintf(stderr, "Usage: bench-plan [FILE.tuning]\nWhat a plan costs without a tuning file, and with FILE.\n");
        return 2;
    }
    const char *const tunings[] = {"none", argv[1]};
    for (int p = 0; p < PROCESSES; p++)
        for (int t = 0; t < argc; t++) {
            cost c;
            if (!measure(tunings[t], &c)) {
                return 1;
            }
            first[t][p] = c.first;
            later[t][p] = c.later;
        }
    double firsts[2], laters[2];
    printf("us, medians of %d processes      first plan   later plans\n", PROCESSES);
    for (int t = 0; t < argc; t++) {
        firsts[t] = median(first[t]);
        laters[t] = median(later[t]);
        printf("%-30s %12.1f  %12.2f\n", t ? "with the file" : "without a tuning file", firsts[t], laters[t]);
    }
    if (argc == 2)
        printf("%-30s %12.1f  %12.2f\n", "the file adds", firsts[1] - firsts[0], laters[1] - laters[0]);
    return 0;
}
