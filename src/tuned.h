/* SPDX-License-Identifier: MIT */
/* A tuning file as plans look it up. */
#ifndef SEQTOPK_SRC_TUNED_H
#define SEQTOPK_SRC_TUNED_H

#include "src/wisdom.h"

#include <stdatomic.h>

/* A row for each bucket of T, [2^b, 2^(b + 1)) tokens (0 is in the first), and the line that says so; row -1: no
 * decision. */
typedef struct seqtopk_tuned_rows {
    int32_t row[SEQTOPK_WISDOM_BUCKETS], line[SEQTOPK_WISDOM_BUCKETS];
} seqtopk_tuned_rows;

/* What stands under one heading. */
typedef struct seqtopk_tuned_section {
    seqtopk_tuned_shape shape;
    int16_t experts, top_k, threads; /* of the shape: their logarithms, see tuned.c */
    int32_t line;                    /* of the first line below the heading, and where it begins */
    uint32_t at;
    _Atomic(const seqtopk_tuned_rows *) rows; /* NULL: not read yet */
} seqtopk_tuned_section;

/* Only headings are read at once; what stands under one is read when a plan first needs it, and kept. */
struct seqtopk_tuning {
    char *text, *path, *reason;
    size_t size;
    int stays; /* not to be freed */
    seqtopk_wisdom_cursor start;
    int32_t sections, first[SEQTOPK_OPS + 1]; /* of op o: [first[o], first[o + 1]) */
    seqtopk_tuned_section *section;
};

/* Reads the headings of tuning->text, whose header, end and checksum are good (tuning->start). */
seqtopk_status seqtopk_tuned_index(seqtopk_tuning *tuning, seqtopk_error *error);

/* Frees what was indexed and read. */
void seqtopk_tuned_free(seqtopk_tuning *tuning);

/* What the shape nearest to the plan's says about an op; NULL: nothing is near. Rows are not checked against the
 * plan. */
const seqtopk_tuned_rows *seqtopk_tuned_look_up(const seqtopk_tuning *tuning, const seqtopk_desc *desc, seqtopk_op op);

#endif
