/* SPDX-License-Identifier: MIT */
/*
 * Where a sequence's past is cut, kept at hand while the past grows: the keys of the past are counted against a place that
 * moves a few ranks a token.
 *
 *     log      every key of the past (log.h): exact, and too long to be read at every step
 *     rungs    of those the ones about the cut, four times fewer from rung to rung, in the order of their tokens
 *     window   the few hundred at the cut, sorted
 *
 * A new token's keys are compared with the ends of each. When the cut nears the end of a rung, a new one is filled from the
 * next larger one, some hundred keys a step and soon enough, so that no input makes a step long. Nothing of this decides
 * a result: where the window does not hold what is asked, it is made anew from the log at once, and without memory the log
 * is counted.
 *
 * (Ladders of buckets about a moving place: Tang, Goh and Thng 2005, "Ladder queue"; here they are kept by token, so that
 * the last tokens can be taken back.)
 */
#ifndef SEQTOPK_SRC_CACHE_LADDER_H
#define SEQTOPK_SRC_CACHE_LADDER_H

#include "src/cache/shelf.h"

/* The keys of the past, token by token. */
typedef struct seqtopk_log {
    seqtopk_shelf tokens; /* of seqtopk_token_note and `width` keys each */
    int32_t width;        /* keys of a token that compete: max_experts - min_experts */
} seqtopk_log;

typedef struct seqtopk_token_note {
    uint32_t
        sure; /* how many experts the token has whatever the others have; SEQTOPK_NOTE_MASKED: it brought no budget */
    uint32_t given;   /* how many it got */
} seqtopk_token_note; /* then float keys[width], best first, -inf behind the last */
#define SEQTOPK_NOTE_MASKED UINT32_MAX

static inline const float *seqtopk_note_keys(const seqtopk_token_note *note) { return (const float *)(note + 1); }

/* Of the past's words those in [low, high). */
typedef struct seqtopk_band {
    seqtopk_shelf words; /* by token; of the window, which is kept sorted, none */
    uint64_t low, high;
    int64_t above; /* words of the past from `high` on */
} seqtopk_band;

/* A band that is being filled, to take the place of another. */
typedef struct seqtopk_refill {
    seqtopk_band band; /* above: of what has been read */
    int64_t cursor;    /* what has been read of the source: words, or of the log tokens */
    int32_t source;    /* a band, or SEQTOPK_FROM_LOG */
    int32_t is_active;
} seqtopk_refill;

enum { SEQTOPK_BANDS = 11, SEQTOPK_FROM_LOG = SEQTOPK_BANDS };

typedef struct seqtopk_ladder {
    int64_t total;            /* keys of the past */
    int32_t step;             /* most ranks that the cut can move by with one token */
    int32_t target, space;    /* words that the window should have, and has space for */
    int32_t is_settled;       /* the bands are of use */
    int32_t quiet;            /* for so many tokens nothing needs to be looked after */
    int32_t bands;            /* band[0] is the window, the others are the rungs from the smallest on */
    uint32_t seed;            /* of the places that are sampled */
    int32_t first, count;     /* of the window: sorted[first, first + count) */
    int32_t spare_count;      /* of the one that is being filled: spare[0, spare_count) */
    uint64_t *sorted, *spare; /* [space], ascending */
    seqtopk_band band[SEQTOPK_BANDS];
    seqtopk_refill refill[SEQTOPK_BANDS];
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
