/* SPDX-License-Identifier: MIT */
/*
 * Where the keys of a sequence are cut whose candidates are with several ranks: a bracket around the cut, narrowed by what all
 * ranks together have counted. Nothing here communicates; words are those of this sequence, summed over ranks or about to be.
 *
 * Keys are compared as words: unsigned 32-bit numbers that order as the floats do.
 */
#ifndef SEQTOPK_SRC_TEAM_BRACKET_H
#define SEQTOPK_SRC_TEAM_BRACKET_H

#include "arch/kernel.h"

#include <string.h>

static inline uint32_t seqtopk_key_word(float key) {
    uint32_t bits;
    key += 0.0f; /* one zero */
    memcpy(&bits, &key, sizeof bits);
    return bits ^ ((UINT32_C(0) - (bits >> 31)) | UINT32_C(1) << 31);
}

static inline float seqtopk_word_key(uint32_t word) {
    const uint32_t bits = word >> 31 ? word ^ UINT32_C(1) << 31 : ~word;
    float key;
    memcpy(&key, &bits, sizeof key);
    return key;
}

/* -FLT_MAX and +inf: the key of what is selected in any case. What is excluded is below. */
#define SEQTOPK_WORD_LEAST UINT32_C(0x00800000)
#define SEQTOPK_WORD_CERTAIN UINT32_C(0xff800000)

/* A histogram of all keys: fine from 2^-4 to 2^5, sixty-four times as coarse elsewhere, and a last bin of what is certain. */
enum { SEQTOPK_GRID_SEGMENTS = 5 };
typedef struct seqtopk_grid {
    uint32_t from[SEQTOPK_GRID_SEGMENTS + 1];
    int32_t base[SEQTOPK_GRID_SEGMENTS + 1], shift[SEQTOPK_GRID_SEGMENTS];
    int32_t bins;
} seqtopk_grid;

/* The finest with at most so many bins. is_negative: no key is above 0 but those that are certain. */
seqtopk_grid seqtopk_grid_of(int32_t bins, int is_negative);
/* *hint: the segment of the last word, which is most often the next one's too. */
static inline int32_t seqtopk_grid_bin(const seqtopk_grid *grid, uint32_t word, int32_t *hint) {
    int32_t i = *hint;
    while (i > 0 && word < grid->from[i])
        i--;
    while (i < SEQTOPK_GRID_SEGMENTS && word >= grid->from[i + 1])
        i++;
    *hint = i;
    return i == SEQTOPK_GRID_SEGMENTS ? grid->bins - 1
                                      : grid->base[i] + (int32_t)((word - grid->from[i]) >> grid->shift[i]);
}
uint32_t seqtopk_grid_edge(const seqtopk_grid *grid, int32_t bin); /* the least word in it */

/* What the next words are. */
typedef enum seqtopk_asked {
    SEQTOPK_ASK_SPREAD, /* counts in bins of the grid, divided by how much the sample has there */
    SEQTOPK_ASK_DIGITS, /* counts in bins of one width */
    SEQTOPK_ASK_KEYS,   /* the keys themselves, rank after rank */
    SEQTOPK_ASK_TIES,   /* nothing but how many of the ties are before each rank's */
    SEQTOPK_ASK_NOTHING
} seqtopk_asked;

/* Weights of sampled keys are in units of 1/64 row. */
enum { SEQTOPK_SAMPLE_UNIT = 64 };

typedef struct seqtopk_bracket {
    /* Known to all ranks. */
    int64_t budget, above; /* above the bracket */
    int64_t inside;        /* in it; the most that can be while it is not known */
    int64_t most;          /* candidates at all */
    uint32_t low, high;    /* both in the bracket */
    uint32_t complete;     /* no rank has collected candidates below, but for as long as is_staged */
    uint32_t width;        /* of DIGITS: words to a counter */
    int32_t asked, bits;   /* bits of a counter */
    int32_t first_bin, last_bin, is_staged;
    /* This rank's. */
    int64_t before, own; /* of the keys or ties: those of lower ranks, and its own */
    int64_t quota;       /* how many of its ties are selected */
    int64_t at;          /* in rounds after SPREAD: where its words are */
    int64_t kept,
        kept_at; /* so many of its keys are kept from place kept_at on: all from kept_low to kept_high; -1: none */
    uint32_t kept_low, kept_high;
    /* Scratch. */
    int32_t *bases;   /* [words]: of SPREAD, by bin of the grid from first_bin on: where its counters begin, */
    uint32_t *widths; /* and how many words each of those counts */
} seqtopk_bracket;

/* After the sample, weights [grid->bins]: `live` rows of all ranks, each with `top_k` to spend; the number of candidates above
 * the cut has that variance. Returns the key down to which all ranks have to collect. */
float seqtopk_bracket_begin(seqtopk_bracket *b, const seqtopk_grid *grid, const int64_t *weights, int32_t words,
                            int64_t live, int32_t top_k, int64_t most, double variance);

/* How many words DIGITS or KEYS take. */
int64_t seqtopk_bracket_words(const seqtopk_bracket *b);

/* The words of those keys that are in the bracket, picked [n]: returns how many; those above are added to *above. */
int32_t seqtopk_bracket_pick(const seqtopk_bracket *b, const float *keys, int32_t n, uint32_t *picked, int64_t *above);
/* The same of words; `picked` may be where they are. */
int32_t seqtopk_bracket_pick_words(const seqtopk_bracket *b, const uint32_t *from, int32_t n, uint32_t *picked);

/* Adds picked words to the counts. */
void seqtopk_bracket_count(const seqtopk_bracket *b, const seqtopk_grid *grid, const uint32_t *picked, int32_t n,
                           int64_t *words);

/* Reads the sums and decides what is asked next. `above`: with SPREAD, those above the bracket. */
void seqtopk_bracket_read(seqtopk_bracket *b, const seqtopk_grid *grid, const int64_t *sums, int32_t words,
                          int64_t above);

/* Before TIES, and after KEYS: this rank's share of the ties, `before` and `own` being set. */
void seqtopk_bracket_share(seqtopk_bracket *b);

#endif
