/* SPDX-License-Identifier: MIT */
/* Lists of a call, and whether two calls gave the same, to the bit. */
#ifndef SEQTOPK_TUNE_VERIFY_H
#define SEQTOPK_TUNE_VERIFY_H

#include <seqtopk/seqtopk.h>

#include <stdbool.h>

typedef struct seqtopk_tune_lists {
    int64_t tokens, capacity;
    int32_t experts;
    int32_t *token_offsets, *expert_ids, *expert_offsets, *expert_tokens, *expert_slots;
    float *weights;
    int64_t selected;
    int32_t way; /* that the call went */
} seqtopk_tune_lists;

/* Makes room for calls of up to so many tokens. False: no memory; free it in any case. */
bool seqtopk_tune_lists_new(seqtopk_tune_lists *lists, int64_t tokens, int32_t experts, int32_t top_k);
void seqtopk_tune_lists_free(seqtopk_tune_lists *lists);

/* An output into them: lists by token, and by expert if asked for. */
seqtopk_output seqtopk_tune_lists_output(seqtopk_tune_lists *lists, bool by_expert);

/* The first list that differs between two calls of `tokens` tokens ("expert_ids"), or NULL. */
const char *seqtopk_tune_lists_differ(const seqtopk_tune_lists *a, const seqtopk_tune_lists *b, int64_t tokens,
                                      bool by_expert);

/* Fills them with what no route writes, so that a kernel that writes nothing does not pass. */
void seqtopk_tune_lists_spoil(seqtopk_tune_lists *lists);

#endif
