/* SPDX-License-Identifier: MIT */
/* The lists of a route, and the files they become. */
#ifndef SEQTOPK_CLI_SAVE_H
#define SEQTOPK_CLI_SAVE_H

#include <stdbool.h>
#include <stdint.h>

/* As in seqtopk_output; experts: that lists may name. */
typedef struct seqtopk_cli_lists {
    int64_t tokens, experts, selected;
    int32_t *token_offsets, *expert_ids;
    float *weights;
    int32_t *expert_offsets, *expert_tokens, *expert_slots;
    int64_t sequences;
    float *null_weights;       /* [tokens], where there are null experts; else NULL */
    float *sequence_margins;   /* [sequences], where they are asked for; else NULL */
    int32_t *ways, *fallbacks; /* [sequences]; reported, not saved */
    int64_t dropped[2];        /* tokens that on_nonfinite dropped, and the first; reported, not saved */
} seqtopk_cli_lists;

/* Places for so many pairs. Returns false without memory; seqtopk_cli_lists_free is due in either case. */
bool seqtopk_cli_lists_make(seqtopk_cli_lists *lists, int64_t tokens, int64_t experts, int64_t pairs);
void seqtopk_cli_lists_free(seqtopk_cli_lists *lists);

/* Makes the lists by expert, tokens ascending, from those by token. */
void seqtopk_cli_lists_permute(seqtopk_cli_lists *lists);

/*
 * Writes what there is of them into `directory`, which is made if need be. All are whole and on the disk under other names
 * before the first gets its own. Prints what failed; returns the exit status.
 */
int seqtopk_cli_save(const char *directory, const seqtopk_cli_lists *lists);

#endif
