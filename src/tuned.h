/* SPDX-License-Identifier: MIT */
/* A tuning file as plans look it up. */
#ifndef SEQTOPK_SRC_TUNED_H
#define SEQTOPK_SRC_TUNED_H

#include "src/choices.h"

#include <stdatomic.h>

/* What a line of the choices says. */
typedef struct seqtopk_tuned_line {
    int32_t number;
    int32_t ranges;
    seqtopk_tuned_range range[]; /* [ranges] */
} seqtopk_tuned_line;

/* A line of the choices, of which only the shape is read at once. */
typedef struct seqtopk_tuned_entry {
    int16_t experts, top_k, threads; /* logarithms, see tuned.c */
    int32_t number;
    uint32_t at;                              /* where it begins in the text */
    _Atomic(const seqtopk_tuned_line *) line; /* NULL: not read yet */
} seqtopk_tuned_entry;

/* The lines under one heading. */
typedef struct seqtopk_tuned_group {
    seqtopk_tuned_shape shape; /* of which the numbers are not set */
    int32_t first, entries;    /* entries [first, first + entries) */
} seqtopk_tuned_group;

struct seqtopk_tuning {
    char *text, *path, *reason;
    size_t size;
    int stays; /* not to be freed */
    seqtopk_wisdom_reader reader;
    int32_t entries, groups, first[SEQTOPK_OPS + 1]; /* of op o: the groups [first[o], first[o + 1]) */
    seqtopk_tuned_entry *entry;
    seqtopk_tuned_group *group;
};

/* Reads the shapes of tuning->text, for tuning->reader. Refuses as seqtopk_wisdom_parse does. */
seqtopk_status seqtopk_tuned_index(seqtopk_tuning *tuning, seqtopk_error *error);

/* Frees what was indexed and read. */
void seqtopk_tuned_free(seqtopk_tuning *tuning);

/* The line of the shape nearest to the plan's, for an op; NULL: nothing is near. Rows are not checked against the
 * plan. */
const seqtopk_tuned_line *seqtopk_tuned_look_up(const seqtopk_tuning *tuning, const seqtopk_desc *desc, seqtopk_op op);

#endif
