/* SPDX-License-Identifier: MIT */
/* What reading and writing a tuning file have in common. */
#ifndef SEQTOPK_SRC_TUNING_TEXT_H
#define SEQTOPK_SRC_TUNING_TEXT_H

#include "src/tuning/file.h"

#include <string.h>

#define SEQTOPK_TUNING_MAGIC "seqtopk-tuning "

enum { SEQTOPK_TUNING_DIGITS = 16 }; /* of the checksum, hexadecimal */

/* Words of a heading, by value. */
static const char *const seqtopk_tuning_scopes[] = {"sequence", "token"};
static const char *const seqtopk_tuning_scores[] = {"softmax", "sigmoid", "sqrtsoftplus", "logits"};
enum {
    SEQTOPK_TUNING_SCOPES = sizeof seqtopk_tuning_scopes / sizeof *seqtopk_tuning_scopes,
    SEQTOPK_TUNING_SCORES = sizeof seqtopk_tuning_scores / sizeof *seqtopk_tuning_scores
};

/* 0, or what is wrong with a shape, the numbers of a shape, a row as a shape's choice, or a decision, in the order of
 * seqtopk_tuning_reason. */
seqtopk_tuning_reason seqtopk_tuning_shape_check(const seqtopk_tuning_shape *shape);
seqtopk_tuning_reason seqtopk_tuning_numbers_check(const seqtopk_tuning_shape *shape);
seqtopk_tuning_reason seqtopk_tuning_row_check(const seqtopk_tuning_shape *shape, int32_t row);
seqtopk_tuning_reason seqtopk_measurement_check(const seqtopk_measurement *tuned);

/* Against damage, not against malice: a forged file can be slow and nothing else. Four lanes, so that a large file
 * is not a long wait. */
uint64_t seqtopk_tuning_file_checksum(const char *text, size_t size);

/* A file whose header and checksums are good: the lines of its two parts. */
typedef struct seqtopk_tuning_parts {
    char library[SEQTOPK_TUNING_LIBRARY], machine[SEQTOPK_TUNING_MACHINE];
    const char *choices, *choices_end;
    const char *decisions, *decisions_end; /* NULL where only choices were asked for */
    int32_t choices_line;                  /* the number of the first line */
} seqtopk_tuning_parts;

/* How many bytes of a file's beginning plans read; 0: these bytes of it do not tell. */
size_t seqtopk_tuning_file_start(const char *text, size_t size);

/* Looks at header and checksums of a file, or if not `whole` of its beginning: what follows then is not looked at. The
 * text must outlive *parts. Refuses as seqtopk_tuning_file_parse does. */
seqtopk_status seqtopk_tuning_file_open(seqtopk_tuning_parts *parts, const char *text, size_t size, int whole,
                                        const seqtopk_tuning_reader *reader, seqtopk_error *error);

/* "op dtype scope score" of a heading, and what is behind it; *op_row: a row of that op and dtype, of the last heading
 * at first. */
seqtopk_tuning_reason seqtopk_tuning_file_read_heading(const char **at, seqtopk_tuning_shape *shape, int32_t *op_row);

/* "E K threads" and what is behind it; 0: it is not that. */
int seqtopk_tuning_file_read_numbers(const char **at, seqtopk_tuning_shape *shape);

/* "variant@revision" and what is behind it, or only "variant" (*revision -1); 0: it is not that. *row -1: there is
 * none. */
int seqtopk_tuning_file_read_row(const char **at, const seqtopk_tuning_shape *shape, int32_t *row, int64_t *revision);

/* 0, or why this reader cannot use a row of that revision. */
seqtopk_tuning_reason seqtopk_tuning_file_usable(const seqtopk_tuning_reader *reader, int32_t row, int64_t revision);

#endif
