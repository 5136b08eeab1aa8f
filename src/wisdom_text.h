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

/* 0, or what is wrong with a shape, the numbers of a shape, or a decision, in the order of seqtopk_wisdom_reason. */
seqtopk_wisdom_reason seqtopk_tuned_shape_check(const seqtopk_tuned_shape *shape);
seqtopk_wisdom_reason seqtopk_tuned_numbers_check(const seqtopk_tuned_shape *shape);
seqtopk_wisdom_reason seqtopk_tuned_check(const seqtopk_tuned *tuned);

/* Against damage, not against malice: a forged file can be slow and nothing else. Four lanes, so that a large file
 * is not a long wait. */
uint64_t seqtopk_wisdom_checksum(const char *text, size_t size);

#endif
