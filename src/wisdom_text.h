/* SPDX-License-Identifier: MIT */
/* What reading and writing a tuning file have in common. */
#ifndef SEQTOPK_SRC_WISDOM_TEXT_H
#define SEQTOPK_SRC_WISDOM_TEXT_H

#include "src/wisdom.h"

#include <string.h>

#define SEQTOPK_WISDOM_MAGIC "seqtopk-tuning "

enum { SEQTOPK_WISDOM_DIGITS = 16 }; /* of the checksum, hexadecimal */

/* Words of a heading, by value. */
static const char *const seqtopk_wisdom_scopes[] = {"sequence", "token"};
static const char *const seqtopk_wisdom_scores[] = {"softmax", "sigmoid", "sqrtsoftplus", "logits"};
enum {
    SEQTOPK_WISDOM_SCOPES = sizeof seqtopk_wisdom_scopes / sizeof *seqtopk_wisdom_scopes,
    SEQTOPK_WISDOM_SCORES = sizeof seqtopk_wisdom_scores / sizeof *seqtopk_wisdom_scores
};

/* 0, or what is wrong with a shape, the numbers of a shape, a row as a shape's choice, or a decision, in the order of
 * seqtopk_wisdom_reason. */
seqtopk_wisdom_reason seqtopk_tuned_shape_check(const seqtopk_tuned_shape *shape);
seqtopk_wisdom_reason seqtopk_tuned_numbers_check(const seqtopk_tuned_shape *shape);
seqtopk_wisdom_reason seqtopk_tuned_row_check(const seqtopk_tuned_shape *shape, int32_t row);
seqtopk_wisdom_reason seqtopk_tuned_check(const seqtopk_tuned *tuned);

/* Against damage, not against malice: a forged file can be slow and nothing else. Four lanes, so that a large file
 * is not a long wait. */
uint64_t seqtopk_wisdom_checksum(const char *text, size_t size);

/* A file whose header and checksums are good: the lines of its two parts. */
typedef struct seqtopk_wisdom_parts {
    char library[SEQTOPK_WISDOM_LIBRARY], machine[SEQTOPK_WISDOM_MACHINE];
    const char *choices, *choices_end;
    const char *decisions, *decisions_end; /* NULL where only choices were asked for */
    int32_t choices_line;                  /* the number of the first line */
} seqtopk_wisdom_parts;

/* How many bytes of a file's beginning plans read; 0: these bytes of it do not tell. */
size_t seqtopk_wisdom_start(const char *text, size_t size);

/* Looks at header and checksums of a file, or if not `whole` of its beginning: what follows then is not looked at. The
 * text must outlive *parts. Refuses as seqtopk_wisdom_parse does. */
seqtopk_status seqtopk_wisdom_open(seqtopk_wisdom_parts *parts, const char *text, size_t size, int whole,
                                   const seqtopk_wisdom_reader *reader, seqtopk_error *error);

/* "op dtype scope score" of a heading, and what is behind it; *op_row: a row of that op and dtype, of the last heading
 * at first. */
seqtopk_wisdom_reason seqtopk_wisdom_read_heading(const char **at, seqtopk_tuned_shape *shape, int32_t *op_row);

/* "E K threads" and what is behind it; 0: it is not that. */
int seqtopk_wisdom_read_numbers(const char **at, seqtopk_tuned_shape *shape);

/* "variant@revision" and what is behind it, or only "variant" (*revision -1); 0: it is not that. *row -1: there is
 * none. */
int seqtopk_wisdom_read_row(const char **at, const seqtopk_tuned_shape *shape, int32_t *row, int64_t *revision);

/* 0, or why this reader cannot use a row of that revision. */
seqtopk_wisdom_reason seqtopk_wisdom_usable(const seqtopk_wisdom_reader *reader, int32_t row, int64_t revision);

#endif
