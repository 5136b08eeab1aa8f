/* SPDX-License-Identifier: MIT */
/*
 * What plans read of a tuning file: for each shape which row serves from which T on.
 *
 *     [collect_logits f32 sequence softmax]
 *     128 8 1: 256 avx512_slots10@1 2048 avx512_slots16@1 131072 -
 *
 * E, K and threads, then the ranges of T. A choice holds for T that are no more than two powers of two away from one
 * that was measured, of two that are as near the lower; before the first range and where `-` stands the model chooses.
 */
#ifndef SEQTOPK_SRC_TUNING_RANGES_H
#define SEQTOPK_SRC_TUNING_RANGES_H

#include "src/tuning/file.h"

/* From T = tokens on, a power of two, 1 for 0 tokens too. Row -1: the model's choice. */
typedef struct seqtopk_tuning_range {
    int32_t tokens, row;
} seqtopk_tuning_range;

/* Whether two shapes stand under one heading of the choices. */
int seqtopk_ranges_same_heading(const seqtopk_tuning_shape *a, const seqtopk_tuning_shape *b);

/* The ranges of the T of `size` decisions, ascending and of one shape; returns how many. */
int32_t seqtopk_ranges_of(const seqtopk_measurement *decision, int32_t size,
                          seqtopk_tuning_range range[SEQTOPK_TUNING_BUCKETS]);

/* A place in a file's choices. */
typedef struct seqtopk_ranges_cursor {
    const char *at, *end;
    int32_t line;               /* the number of the line that was read last */
    seqtopk_tuning_shape shape; /* of that line */
    const char *begin;          /* of that line */
    /* Of the last heading: what was wrong with it, which drops its lines too, and a row of its op and dtype. */
    seqtopk_tuning_reason lost;
    int32_t op_row;
} seqtopk_ranges_cursor;

/* Begins at the first of the choices. The text, which may be a file's beginning (seqtopk_tuning_file_start) or all of it,
 * must outlive the cursor. Refuses as seqtopk_tuning_file_parse does. */
seqtopk_status seqtopk_ranges_open(seqtopk_ranges_cursor *cursor, const char *text, size_t size,
                                   const seqtopk_tuning_reader *reader, seqtopk_error *error);

typedef enum seqtopk_ranges_line {
    SEQTOPK_RANGES_END,
    SEQTOPK_RANGES_SHAPE,
    SEQTOPK_RANGES_DROPPED
} seqtopk_ranges_line;

/* Reads the next line with a shape, or one that is dropped and sets *reason. Ranges are not looked at. */
seqtopk_ranges_line seqtopk_ranges_next(seqtopk_ranges_cursor *cursor, seqtopk_tuning_reason *reason);

/*
 * Reads a line that seqtopk_ranges_next has read, under a heading of *shape, which gets the line's numbers. Returns how
 * many ranges it has, 0: none is any good. One that is not is the model's, and *reason is that of the first such.
 */
int32_t seqtopk_ranges_read(const char *line, seqtopk_tuning_shape *shape, const seqtopk_tuning_reader *reader,
                            seqtopk_tuning_range range[SEQTOPK_TUNING_BUCKETS], seqtopk_tuning_reason *reason);

#endif
