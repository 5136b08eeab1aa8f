/* SPDX-License-Identifier: MIT */
/* The drawings of a report: maps over T and E x K. */
#ifndef SEQTOPK_TUNE_REPORT_MAP_H
#define SEQTOPK_TUNE_REPORT_MAP_H

#include "tune/tune.h"

#include <stdio.h>

/* The results of one scope and dtype. */
typedef struct seqtopk_report_section {
    const seqtopk_tune_result **results;
    size_t count;
} seqtopk_report_section;

/* The ops that the section decides, those whose choice matters most first; returns how many. */
int32_t seqtopk_report_ops(const seqtopk_report_section *section, seqtopk_op ops[SEQTOPK_OPS]);

/* Which kernel of an op wins where: cell by cell with numbers, or, `fine` not set, in runs of T that one kernel wins.
 */
void seqtopk_report_winners(FILE *out, const seqtopk_report_section *section, seqtopk_op op, bool fine);

/* How often the floor a call takes; how much longer without tuning. */
void seqtopk_report_floor(FILE *out, const seqtopk_report_section *section);
void seqtopk_report_gain(FILE *out, const seqtopk_report_section *section);

/* Text, with what HTML would take for its own made harmless; a duration. */
void seqtopk_report_text(FILE *out, const char *text);
void seqtopk_report_time(FILE *out, double ns);

#endif
