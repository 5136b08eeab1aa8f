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

/* How a row is called under a heading: its name after "seqtopk_<op>_<dtype>__". */
static inline const char *seqtopk_wisdom_row_word(const seqtopk_row *row) {
    return row->name + strlen("seqtopk_") + strlen(row->op_name) + strlen("_") + strlen(row->dtype_name) + strlen("__");
}

/* 0, or what is wrong with a shape, or with a decision, in the order of seqtopk_wisdom_reason. */
seqtopk_wisdom_reason seqtopk_tuned_shape_check(const seqtopk_tuned_shape *shape);
seqtopk_wisdom_reason seqtopk_tuned_check(const seqtopk_tuned *tuned);

/* Against damage, not against malice: a forged file can be slow and nothing else. Four lanes, so that a large file is not
 * a long wait. */
uint64_t seqtopk_wisdom_checksum(const char *text, size_t size);

#endif
