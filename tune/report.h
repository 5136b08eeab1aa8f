/* SPDX-License-Identifier: MIT */
/* A tuning run as a page: one file of HTML with its drawings inside, well-formed as XML too, that needs no network. */
#ifndef SEQTOPK_TUNE_REPORT_H
#define SEQTOPK_TUNE_REPORT_H

#include "tune/tune.h"

#include <stdio.h>

typedef struct seqtopk_tune_report {
    const char *processor, *machine, *library; /* its name, its key, the library's version */
    const char *when;                          /* a date */
    const seqtopk_tune_result *results;        /* in the order of the grid */
    size_t count;
    double seconds, noise;
} seqtopk_tune_report;

/* False: no memory, or `out` took no more (its error is set). */
bool seqtopk_tune_report_write(const seqtopk_tune_report *report, FILE *out);

#endif
