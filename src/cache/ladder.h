/* SPDX-License-Identifier: MIT */
/*
 * Where a sequence's past is cut, kept at hand while the past grows: the keys of the past are counted against a place that
 * moves a few ranks a token.
 *
 *     log      every key of the past: exact, and too long to be read at every step
 *     rungs    of those the ones about the cut, four times fewer from rung to rung
 *     window   the few hundred at the cut, sorted
 *
 * A new token's words are compared with the ends of each. When the cut nears the end of a rung, a new one is picked about
 * it from the next larger one, some hundred words a step and soon enough, so that no input makes a step long. Nothing of this
 * decides a result: where the window does not hold what is asked, all is made anew from the log at once, and without memory
 * the log is counted.
 *
 * (Ladders of buckets about a moving place: Tang, Goh and Thng 2005, "Ladder queue"; here they are kept by token, so that
 * the last tokens can be taken back.)
 */
#ifndef SEQTOPK_SRC_CACHE_LADDER_H
#define SEQTOPK_SRC_CACHE_LADDER_H

#include "src/cache/window.h"

enum { SEQTOPK_RUNGS = SEQTOPK_LIMITS / 2 - 1, SEQTOPK_FROM_LOG = SEQTOPK_RUNGS };

/* A rung that is being picked anew, and what is left of the one before. */
typedef struct seqtopk_refill {
    seqtopk_rung made;
    seqtopk_reader reader;
    seqtopk_shelf old; /* whose memory is given back little by little */
    int32_t source;    /* a rung, or SEQTOPK_FROM_LOG */
    int32_t is_active;
} seqtopk_refill;

typedef struct seqtopk_ladder {
    int64_t total;           /* keys of the past */
    int32_t step;            /* most ranks that the cut can move by with one token */
    int32_t is_settled;      /* window and rungs are of use */
    int32_t quiet;           /* for so many tokens nothing needs to be looked after */
    int64_t read, most_read; /* words of the past that this step has read on, and the most that one has */
    int32_t rungs;           /* from the smallest on */
    int32_t is_retiring;     /* there is an `old` one */
    int32_t has_limits;      /* so many, as window and rungs are; 0: they have changed since */
    uint64_t limits[SEQTOPK_LIMITS];
    seqtopk_window window;
    seqtopk_sample *sample; /* of the log; behind the ladder */
    seqtopk_rung rung[SEQTOPK_RUNGS];
    seqtopk_refill refill[SEQTOPK_RUNGS];
} seqtopk_ladder;

/* step: the larger of the most experts of a token and of its keys that compete. NULL: no memory. */
seqtopk_ladder *seqtopk_ladder_make(int32_t step, seqtopk_purse *purse);
void seqtopk_ladder_drop(seqtopk_ladder *ladder, seqtopk_purse *purse);
seqtopk_ladder *seqtopk_ladder_copy(seqtopk_ladder *from, seqtopk_purse *purse);

/* Forgets all but how many keys there are: the log has changed. */
void seqtopk_ladder_unsettle(seqtopk_ladder *ladder, int64_t total, seqtopk_purse *purse);

/* How many of a new token's words [n], best first, are among the first `places` of the past and them. */
int32_t seqtopk_ladder_winners(seqtopk_ladder *ladder, const seqtopk_log *log, const uint64_t *words, int32_t n,
                               int64_t places, seqtopk_purse *purse);

/* The last token of the log joins the past, whose cut stands at `places` now. */
void seqtopk_ladder_add(seqtopk_ladder *ladder, const seqtopk_log *log, const uint64_t *words, int32_t n,
                        int64_t places, seqtopk_purse *purse);

/* Takes back the last token, which the log still has. */
void seqtopk_ladder_take_back(seqtopk_ladder *ladder, const seqtopk_log *log, const uint64_t *words, int32_t n,
                              seqtopk_purse *purse);

/* Bytes, without what the shelves of the rungs have. */
size_t seqtopk_ladder_bytes(const seqtopk_ladder *ladder);

#endif
