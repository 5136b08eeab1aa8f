/* SPDX-License-Identifier: MIT */
/* How far a long command is, on standard error: a bar on a terminal, a line now and then in a log. */
#ifndef SEQTOPK_CLI_PROGRESS_H
#define SEQTOPK_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct seqtopk_progress {
    const char *command;
    bool terminal, drawn;
    double shown;   /* seconds at which it was last drawn */
    char group[64]; /* last told in a log */
} seqtopk_progress;

seqtopk_progress seqtopk_progress_new(const char *command);

/* done of points, so many seconds gone and left; `group`: in a log a line for each new one; `what`: beside the bar. */
void seqtopk_progress_show(seqtopk_progress *progress, size_t done, size_t points, double gone, double left,
                           const char *group, const char *what);

/* Takes the bar off the terminal, so that other lines can follow. */
void seqtopk_progress_clear(seqtopk_progress *progress);

/* "4:07"; returns `text`. */
enum { SEQTOPK_CLOCK = 24 };
const char *seqtopk_clock_text(double seconds, char text[SEQTOPK_CLOCK]);

#endif
