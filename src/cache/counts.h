/* SPDX-License-Identifier: MIT */
/*
 * A past of fixed size: how many of its keys are in each bin of a grid, and of the last tokens in which bins theirs are, so
 * that these can be taken back. A key counts as the least of its bin, so that this is what all keys would come to, had they been
 * rounded down: a candidate whose bin is the cut's may lose where it would have won.
 */
#ifndef SEQTOPK_SRC_CACHE_COUNTS_H
#define SEQTOPK_SRC_CACHE_COUNTS_H

#include "src/cache/log.h"

/* Bins, and sums of 32 bins and of 32 of those. */
enum { SEQTOPK_BINS = 15360, SEQTOPK_BIN_BLOCKS = SEQTOPK_BINS / 32, SEQTOPK_BIN_GROUPS = SEQTOPK_BIN_BLOCKS / 32 };
enum { SEQTOPK_COUNTS_BYTES = 65536 }; /* of all of it, at most */

typedef struct seqtopk_counts {
    int64_t tokens;
    int64_t doubtful; /* candidates that lost in the cut's bin */
    int32_t width;    /* keys of a token */
    int32_t depth;    /* tokens whose bins there is space for */
    int32_t held;     /* and of how many of the last ones they are known */
    int32_t hint;     /* the bin where the last search for the cut ended; no result depends on it */
    uint32_t group[SEQTOPK_BIN_GROUPS], block[SEQTOPK_BIN_BLOCKS], bin[SEQTOPK_BINS];
    /* then [depth] notes, token t's at t % depth: seqtopk_token_note, uint16_t bins[width], best first */
} seqtopk_counts;

/* The bin of a key; `key` says what keys are (seqtopk_key). */
uint16_t seqtopk_bin_of(int32_t key, float value);

/* Tokens that fit; 0: not one. */
int32_t seqtopk_counts_depth(int32_t width);
size_t seqtopk_counts_bytes(int32_t width, int32_t depth);
void seqtopk_counts_init(seqtopk_counts *counts, int32_t width, int32_t depth);

/* The note of one of the last `held` tokens. What stands for no key is SEQTOPK_BINS. */
seqtopk_token_note *seqtopk_counts_note(const seqtopk_counts *counts, int64_t token);
static inline uint16_t *seqtopk_note_bins(seqtopk_token_note *note) { return (uint16_t *)(note + 1); }

/* How many of a new token's keys [n], in these bins, best first, are among the first `places` of the past and them. */
int32_t seqtopk_counts_winners(seqtopk_counts *counts, const uint16_t *bins, int32_t n, int64_t places);

/* A token joins the past, with n keys, at most `width`. Returns its note, to be filled in. */
seqtopk_token_note *seqtopk_counts_add(seqtopk_counts *counts, const uint16_t *bins, int32_t n);
/* The last token goes. Returns its note. */
const seqtopk_token_note *seqtopk_counts_take_back(seqtopk_counts *counts);

/* Where the first `places` of all keys end: how many are in the bins above *bin. */
int64_t seqtopk_counts_cut(const seqtopk_counts *counts, int64_t places, int32_t *bin);

/* Whether the sums are those of the bins: a past that was saved may have been damaged. */
int seqtopk_counts_are_sound(const seqtopk_counts *counts);

#endif
