/* SPDX-License-Identifier: MIT */
/*
 * Where a sequence's past is cut, kept at hand while the past grows: the keys of the past are counted against a place that
 * moves a few ranks a token.
 *
 *     log      every key of the past: exact, and too long to be read at every step
 *     rungs    of those the ones about the cut, four times fewer from rung to rung
 *     window   the few hundred at the cut, sorted
 *
 * A new token's keys are compared with the window's ends; the rungs catch up with the log when they are looked after, every
 * few dozen tokens. When the cut nears the end of a rung, a new one is picked about it from the next larger one, some hundred
 * words a step and soon enough, so that no input makes a step long. Nothing of this decides a result: where the window does
 * not hold what is asked, all is made anew from the log at once, and without memory the log is counted.
 *
 * (Ladders of buckets about a moving place: Tang, Goh and Thng 2005, "Ladder queue"; here they are kept by token, so that
 * the last tokens can be taken back.)
 */
#ifndef SEQTOPK_SRC_CACHE_LADDER_H
#define SEQTOPK_SRC_CACHE_LADDER_H

#include "src/cache/window.h"

#include "arch/words.h"

enum { SEQTOPK_RUNGS = 11, SEQTOPK_FROM_LOG = SEQTOPK_RUNGS };

/* A rung that is being picked anew, and what is left of the one before. */
typedef struct seqtopk_refill {
    seqtopk_rung made;
    seqtopk_reader reader;
    seqtopk_shelf old; /* whose memory is given back little by little */
    int32_t source;    /* a rung, or SEQTOPK_FROM_LOG */
    int32_t is_active;
    int32_t has_low; /* it begins with the next token: where it ends below has been looked for */
    uint64_t low;
} seqtopk_refill;

typedef struct seqtopk_ladder {
    int64_t total;           /* keys of the past */
    int32_t step;            /* most ranks that the cut can move by with one token */
    int32_t is_settled;      /* window and rungs are of use */
    int32_t quiet, calm;     /* for so many tokens the rungs, and the window, need not be looked after */
    int64_t read, most_read; /* words of the past that this step has read on, and the most that one has */
    int32_t rungs;           /* from the smallest on */
    int32_t is_retiring;     /* there is an `old` one */
    int64_t caught_up;       /* tokens of the log that the rungs have; the window has all */
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

/* Whether the window has the words of these ranks, as far as there are any. */
static inline int seqtopk_ladder_has(const seqtopk_ladder *l, int64_t from, int64_t to) {
    from = from < 1 ? 1 : from;
    to = to > l->total ? l->total : to;
    return from > to || (l->is_settled && from > l->window.above && to <= l->window.above + l->window.count);
}

/*
 * The contest of the next token's candidates, of which `sure` stay and `n` compete for the first `places` of all, where the window
 * has ranks places - n + 1 to `places`: the best that competes wins if it comes before the word of rank `places` of the past, the
 * next one if it comes before that of the rank above it; where there is no such rank it wins, and where one does not no later
 * one does.
 */
static inline seqtopk_contest seqtopk_ladder_contest(const seqtopk_ladder *l, int64_t token, int32_t sure, int32_t n,
                                                     int64_t places) {
    const int64_t beyond = places - l->total; /* places that no key of the past takes */
    const int32_t most = places < n ? (places > 0 ? (int32_t)places : 0) : n;
    return (seqtopk_contest){
        .cut = seqtopk_window_words(&l->window) + (l->window.above + l->window.count - places),
        .high = l->window.high,
        .low = l->window.low,
        .token = token,
        .sure = sure,
        .uncontested = sure + (beyond <= 0     ? 0
                               : beyond < most ? (int32_t)beyond
                                               : most),
        .most = sure + most,
    };
}

/* Brings nearer what a token meets of a ladder: itself up to its window, which ends where the words are told, and its sample;
 * then, from there, the words at the cut. */
static inline __attribute__((always_inline)) void seqtopk_ladder_fetch(const seqtopk_ladder *l) {
    for (size_t at = 0; at < offsetof(seqtopk_ladder, window.reader); at += 64)
        __builtin_prefetch((const char *)l + at, 1);
    __builtin_prefetch(l->sample);
}
static inline __attribute__((always_inline)) void seqtopk_ladder_fetch_cut(const seqtopk_ladder *l, int64_t places) {
    const int64_t at = l->window.above + l->window.count - places;
    if (at < 0 || at >= l->window.count)
        return;
    __builtin_prefetch(seqtopk_window_words(&l->window) + at);
    __builtin_prefetch(seqtopk_window_words(&l->window) + at + 8);
}

/* Makes the window anew about `places`. Returns 0 if there is no memory. */
int seqtopk_ladder_settle(seqtopk_ladder *ladder, const seqtopk_log *log, int64_t places, seqtopk_purse *purse);

/* How many win of keys [n], best first, without a window: the log is counted. */
int32_t seqtopk_ladder_count(const seqtopk_log *log, const float *keys, int32_t n, int64_t places);

/* The last token of the log joins the past, whose cut stands at `places` now: keys [n], best first, as they stood in their contest. */
void seqtopk_ladder_join(seqtopk_ladder *ladder, const seqtopk_log *log, const float *keys, int32_t n,
                         const seqtopk_contest *contest, int64_t places, seqtopk_purse *purse);

/* Takes back the last token, which the log still has. */
void seqtopk_ladder_take_back(seqtopk_ladder *ladder, const seqtopk_log *log, const uint64_t *words, int32_t n,
                              seqtopk_purse *purse);

/* Bytes, without what the shelves of the rungs have. */
size_t seqtopk_ladder_bytes(const seqtopk_ladder *ladder);

#endif
