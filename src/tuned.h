/* SPDX-License-Identifier: MIT */
/* A tuning file as plans look it up. */
#ifndef SEQTOPK_SRC_TUNED_H
#define SEQTOPK_SRC_TUNED_H

#include "src/wisdom.h"

#include <stdatomic.h>

enum { SEQTOPK_TUNED_KNOWN = SEQTOPK_WISDOM_BUCKETS, SEQTOPK_TUNED_WORDS };

/* What stands under one heading. */
typedef struct seqtopk_tuned_section {
    seqtopk_tuned_shape shape;
    int16_t experts, top_k, threads; /* of the shape: their logarithms, see tuned.c */
    int32_t line;                    /* of the first line below the heading, and where it begins */
    uint32_t at;
} seqtopk_tuned_section;

/*
 * Only headings are read at once; what stands under one is read when a plan first needs it, and kept. Threads that do so
 * at the same time store the same.
 */
struct seqtopk_tuning {
    char *text, *path, *reason;
    size_t size;
    int stays; /* not to be freed */
    seqtopk_wisdom_cursor start;
    int32_t sections, first[SEQTOPK_OPS + 1]; /* of op o: [first[o], first[o + 1]) */
    seqtopk_tuned_section *section;
    /* [sections]: by bucket of T row + 1 and in the upper half the line, or 0; then 1 once they are known, 2 if all are 0. */
    _Atomic uint64_t (*words)[SEQTOPK_TUNED_WORDS];
};

/* Reads the headings of tuning->text, whose header, end and checksum are good (tuning->start). */
seqtopk_status seqtopk_tuned_index(seqtopk_tuning *tuning, seqtopk_error *error);

/* A row for each bucket of T, [2^b, 2^(b + 1)) tokens (0 is in the first), and the line that says so; row -1: no decision. */
typedef struct seqtopk_tuned_rows {
    int32_t row[SEQTOPK_WISDOM_BUCKETS], line[SEQTOPK_WISDOM_BUCKETS];
} seqtopk_tuned_rows;

/* What the shape nearest to the plan's says about an op; 0: nothing is near. Rows are not checked against the plan. */
int seqtopk_tuned_look_up(const seqtopk_tuning *tuning, const seqtopk_desc *desc, seqtopk_op op, seqtopk_tuned_rows *rows);

#endif
