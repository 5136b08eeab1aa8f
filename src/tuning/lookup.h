/* SPDX-License-Identifier: MIT */
/* A tuning file as plans look it up. */
#ifndef SEQTOPK_SRC_TUNING_LOOKUP_H
#define SEQTOPK_SRC_TUNING_LOOKUP_H

#include "src/tuning/ranges.h"

#include <stdatomic.h>

/* What a line of the choices says. */
typedef struct seqtopk_tuning_line {
    int32_t number;
    int32_t ranges;
    seqtopk_tuning_range range[]; /* [ranges] */
} seqtopk_tuning_line;

/* A line of the choices, of which only the shape is read at once. */
typedef struct seqtopk_tuning_entry {
    int16_t experts, top_k, threads; /* logarithms, see lookup.c */
    int32_t number;
    uint32_t at;                         /* where it begins in the text */
    _Atomic(seqtopk_tuning_line *) line; /* NULL: not read yet */
} seqtopk_tuning_entry;

/* The lines under one heading. */
typedef struct seqtopk_tuning_group {
    seqtopk_tuning_shape shape; /* of which the numbers are not set */
    int32_t first, entries;     /* entries [first, first + entries) */
} seqtopk_tuning_group;

struct seqtopk_tuning {
    char *text, *path, *reason;
    size_t size;
    int stays; /* not to be freed */
    seqtopk_tuning_reader reader;
    int32_t entries, groups, first[SEQTOPK_OPS + 1]; /* of op o: the groups [first[o], first[o + 1]) */
    seqtopk_tuning_entry *entry;
    seqtopk_tuning_group *group;
};

/* Reads the shapes of tuning->text, for tuning->reader. Refuses as seqtopk_tuning_file_parse does. */
seqtopk_status seqtopk_tuning_index(seqtopk_tuning *tuning, seqtopk_error *error);

/* Frees what was indexed and read. */
void seqtopk_tuning_unindex(seqtopk_tuning *tuning);

/* The line of the shape nearest to the plan's, for an op; NULL: nothing is near. Rows are not checked against the
 * plan. */
const seqtopk_tuning_line *seqtopk_tuning_look_up(const seqtopk_tuning *tuning, const seqtopk_desc *desc,
                                                  seqtopk_op op);

#endif
