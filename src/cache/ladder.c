/* SPDX-License-Identifier: MIT */
#include "src/cache/ladder.h"
#include "arch/words.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* The window's words: enough that a cut that wanders by some ranks a token leaves it after many tokens, few enough that
     * of a new token's hardly any is among them, and to insert one moves little. */
    WINDOW = 256,
    RATIO_BITS = 2,  /* a rung has 4 times the words of the next smaller one */
    LEAST_SHARE = 8, /* a rung is worth its memory where the past has 8 times its words, */
    FIRST_SHARE = 4, /* the smallest one earlier */
    LEAST_READ = 64, /* words of a refill a token: what costs no more than to look after it, */
    /* And what does not make a step long. A cut that moves by 8 ranks with every token needs 2,600 of a log that has just
     * become 8 times a rung, where window and rungs are late at once; with 3,072 one trace in 1,400 of such cuts was late (check),
     * with this one in 8,000, and with twice as much too. */
    MOST_READ = 4096,
    RETIRED = 8192,  /* bytes of what was given up, a token */
    MOST_QUIET = 64, /* tokens that rungs are behind the log: to catch up is not to make a step long */
    TRIES = 4
};

/* ----------------------------------------------------------------- places -- */

/* Words that rung i should have; i = -1 is the window. */
static int64_t target_of(const seqtopk_ladder *l, int i) { return (int64_t)l->window.target << RATIO_BITS * (i + 1); }

/* Whether the past is large enough for a rung more. */
static int wants_rung(const seqtopk_ladder *l) {
    return l->rungs < SEQTOPK_RUNGS && l->total > (l->rungs ? LEAST_SHARE : FIRST_SHARE) * target_of(l, l->rungs);
}

/* The rank at which the past is cut. */
static int64_t rank_of(const seqtopk_ladder *l, int64_t places) {
    return places > l->total ? l->total : places < 1 ? 1 : places;
}

/* Ranks from the cut to an end of what is in [low, high); below 0: it is not inside. An end beyond which nothing is is far
 * away. */
static int64_t room_above(uint64_t high, int64_t above, int64_t rank) {
    return high == SEQTOPK_WORD_MOST ? INT64_MAX : rank - above - 1;
}
static int64_t room_below(uint64_t low, int64_t above, int64_t count, int64_t rank) {
    return low == SEQTOPK_WORD_LEAST ? INT64_MAX : above + count - rank;
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Ranks from the cut to the end of a rung on one side. */
static int64_t room_beside(const seqtopk_rung *rung, int64_t rank, int is_upward) {
    return is_upward ? room_above(rung->high, rung->above, rank)
                     : room_below(rung->low, rung->above, rung->words.size, rank);
}

static int64_t room_in_rung(const seqtopk_ladder *l, int i, int64_t rank) {
    return smaller(room_beside(l->rung + i, rank, 1), room_beside(l->rung + i, rank, 0));
}

static seqtopk_source source_of(const seqtopk_ladder *l, const seqtopk_log *log, int32_t source) {
    return (seqtopk_source){log, source == SEQTOPK_FROM_LOG ? NULL : l->rung + source};
}

/* The smallest source that has so many words on both sides of the cut. */
static int32_t source_for(const seqtopk_ladder *l, int i, int64_t words, int64_t rank) {
    for (; i < l->rungs; i++)
        if (room_in_rung(l, i, rank) >= words)
            return i;
    return SEQTOPK_FROM_LOG;
}

/* The smallest source that has the cut, and so many words on one side of it. */
static int32_t source_beyond(const seqtopk_ladder *l, int64_t words, int is_upward, int64_t rank) {
    for (int i = 0; i < l->rungs; i++)
        if (room_in_rung(l, i, rank) >= 0 && room_beside(l->rung + i, rank, is_upward) >= words)
            return i;
    return SEQTOPK_FROM_LOG;
}

/* What a source has: so many words, in [low, high), and how many of the past are above them. */
typedef struct extent {
    uint64_t low, high;
    int64_t above, count;
    const seqtopk_sample *sample;
} extent;

static extent extent_of(const seqtopk_ladder *l, int32_t source) {
    const seqtopk_rung *rung = l->rung + source;
    return source == SEQTOPK_FROM_LOG ? (extent){SEQTOPK_WORD_LEAST, SEQTOPK_WORD_MOST, 0, l->total, l->sample}
                                      : (extent){rung->low, rung->high, rung->above, rung->words.size, rung->sample};
}

/* The word beyond which on one side of `about` are about `words` words of a source. */
static uint64_t word_beyond(const seqtopk_ladder *l, int32_t source, uint64_t about, int64_t words, int is_upward) {
    const extent has = extent_of(l, source);
    const int64_t nth = has.count > 0 ? words * has.sample->count / has.count : 0;
    return seqtopk_sample_nearest(has.sample, about, nth < 1 ? 1 : (int32_t)nth, is_upward,
                                  is_upward ? has.high : has.low);
}

/* ---------------------------------------------------------------- refills -- */

static void drop_refill(seqtopk_refill *refill, seqtopk_purse *purse) {
    if (refill->is_active)
        seqtopk_rung_drop(&refill->made, purse);
    refill->is_active = 0;
}

void seqtopk_ladder_unsettle(seqtopk_ladder *l, int64_t total, seqtopk_purse *purse) {
    for (int i = 0; i < l->rungs; i++) {
        drop_refill(l->refill + i, purse);
        seqtopk_shelf_free(&l->refill[i].old, purse);
        seqtopk_rung_drop(l->rung + i, purse);
    }
    l->rungs = 0;
    l->is_retiring = 0;
    l->window.count = 0;
    l->window.is_extending = 0;
    l->is_settled = 0;
    l->total = total;
}

/* A rung more, which has nothing yet, so that it is due to be picked. Returns 0 if there is no memory. */
static int add_rung(seqtopk_ladder *l, seqtopk_purse *purse) {
    if (!seqtopk_rung_make(l->rung + l->rungs, SEQTOPK_WORD_MOST - 1, SEQTOPK_WORD_MOST, purse))
        return 0;
    l->refill[l->rungs].is_active = l->refill[l->rungs].has_low = 0;
    seqtopk_shelf_init(&l->refill[l->rungs].old, sizeof(uint64_t));
    l->rungs++;
    return 1;
}

/* What a refill is read into. */
typedef struct picked {
    seqtopk_rung *rung;
    int64_t most;
    seqtopk_purse *purse;
} picked;

static int put_into_rung(void *to, const uint64_t *words, int64_t n) {
    const picked *p = to;
    return seqtopk_rung_push(p->rung, words, n, p->purse) && p->rung->words.size <= p->most;
}

static int begin_refill(seqtopk_ladder *l, int i, int32_t source, uint64_t low, uint64_t high, seqtopk_purse *purse) {
    seqtopk_refill *refill = l->refill + i;
    if (!seqtopk_rung_make(&refill->made, low, high, purse))
        return 0;
    refill->made.sample->gap = 1u << RATIO_BITS * (i + 1); /* as if it had its words: a sample is soon thinned out */
    refill->reader = (seqtopk_reader){.low = low, .high = high};
    refill->source = source;
    refill->is_active = 1;
    return 1;
}

static int has_readers(const seqtopk_ladder *l, int i) {
    int has = l->window.is_extending && l->window.source == i;
    for (int r = 0; r < l->rungs; r++)
        has |= r != i && l->refill[r].is_active && l->refill[r].source == i;
    return has;
}

/* Whether a rung is about to be replaced, as soon as nobody reads it any more: nobody begins to. */
static int is_going(const seqtopk_ladder *l, const seqtopk_log *log, int32_t source) {
    const seqtopk_refill *refill = l->refill + source;
    if (source == SEQTOPK_FROM_LOG || !refill->is_active)
        return 0;
    const seqtopk_source from = source_of(l, log, refill->source);
    return refill->reader.cursor == seqtopk_source_size(&from);
}

/* All of the source has been read: the new rung takes the place of the old. */
static void finish_refill(seqtopk_ladder *l, int i, seqtopk_purse *purse) {
    seqtopk_refill *refill = l->refill + i;
    seqtopk_rung *rung = l->rung + i;
    refill->made.above = refill->reader.above + extent_of(l, refill->source).above;
    seqtopk_shelf_free(&refill->old, purse); /* has mostly been given back */
    refill->old = rung->words;
    seqtopk_purse_give(purse, rung->sample, seqtopk_rung_bytes());
    *rung = refill->made;
    refill->is_active = 0;
    l->is_retiring = 1;
}

/* Returns 0 if the refill was given up. */
static int read_refill(seqtopk_ladder *l, const seqtopk_log *log, int i, int64_t budget, seqtopk_purse *purse) {
    seqtopk_refill *refill = l->refill + i;
    const seqtopk_source source = source_of(l, log, refill->source);
    picked to = {&refill->made, 4 * target_of(l, i), purse};
    if (!seqtopk_read_on(&refill->reader, &source, budget, put_into_rung, &to)) {
        drop_refill(refill, purse);
        return 0;
    }
    if (refill->reader.cursor == seqtopk_source_size(&source) && !has_readers(l, i))
        finish_refill(l, i, purse);
    return 1;
}

/* Gives back some of what was given up: all at once it would take as long as a hundred steps. */
static void retire(seqtopk_ladder *l, seqtopk_purse *purse) {
    int64_t budget = RETIRED / (int64_t)sizeof(uint64_t);
    for (int i = 0; i < l->rungs && budget > 0; i++) {
        seqtopk_shelf *old = &l->refill[i].old;
        const int64_t size = old->size;
        seqtopk_shelf_cut(old, size > budget ? size - budget : 0, 0, purse);
        budget -= size;
        if (old->size == 0)
            seqtopk_shelf_free(old, purse);
    }
    l->is_retiring = budget <= 0;
}

/* ----------------------------------------------------------- looking after -- */

/* A rung has about half of its target on either side of the cut, and an eighth more where ends are guessed from a sample. When
 * three quarters of that half are left on one side, or it has grown to three times its target, it is time for a new one, which
 * on that side has as much more as the cut may move by until it is made: then three eighths must be left, for the next smaller
 * one to be picked from it. */
static int64_t centred(int64_t target) { return target / 2; }
static int64_t is_near(int64_t target) { return target * 3 / 8; }
static int64_t is_late(int64_t target) { return target * 3 / 16; }

/* Words to read in this step, so that all is read before the cut has moved by so many ranks. */
static int64_t budget_of(const seqtopk_ladder *l, int64_t left, int64_t ranks) {
    const int64_t steps = ranks > l->step ? ranks / l->step : 1;
    const int64_t budget = left / steps + 1 + l->step;
    return budget < LEAST_READ ? LEAST_READ : budget > MOST_READ ? MOST_READ : budget;
}

static int64_t left_of(const seqtopk_source *source, const seqtopk_reader *reader) {
    return (seqtopk_source_size(source) - reader->cursor) * (source->rung ? 1 : source->log->width);
}

/* The tokens after which a band that has so much room is no later than late. */
static int64_t quiet_for(const seqtopk_ladder *l, int64_t room, int64_t target) {
    return room > is_late(target) ? (room - is_late(target)) / l->step : 0;
}

/* The word at the cut. */
static uint64_t word_at(const seqtopk_ladder *l, int64_t rank) {
    const int64_t at = l->window.above + l->window.count - rank;
    return at < 0 ? l->window.low : at >= l->window.count ? l->window.high : seqtopk_window_words(&l->window)[at];
}

/* Where rung i, picked anew, should end on one side: what the one that there is has is known better than what is beyond. */
static uint64_t end_of(const seqtopk_ladder *l, int i, int32_t source, int64_t rank, int is_upward) {
    const seqtopk_rung *rung = l->rung + i;
    const int64_t target = target_of(l, i);
    const int64_t room = room_beside(rung, rank, is_upward);
    const int64_t words =
        centred(target) + target / 8 + (room < is_near(target) ? is_near(target) - is_late(target) : 0);
    if (room_in_rung(l, i, rank) < 0)
        return word_beyond(l, source, word_at(l, rank), words, is_upward);
    return room >= words ? word_beyond(l, i, word_at(l, rank), words, is_upward)
                         : word_beyond(l, source, is_upward ? rung->high : rung->low, words - room, is_upward);
}

static void look_after_rung(seqtopk_ladder *l, const seqtopk_log *log, int i, int64_t rank, int *began, int64_t *quiet,
                            seqtopk_purse *purse) {
    seqtopk_refill *refill = l->refill + i;
    const int64_t target = target_of(l, i), room = room_in_rung(l, i, rank), size = l->rung[i].words.size;
    if (!refill->is_active) {
        const int64_t growth = (3 * target - size) / l->step;
        if (room >= is_near(target) && growth > 0) {
            *quiet = smaller(*quiet, smaller(quiet_for(l, room, target), growth));
            refill->has_low = 0;
            return;
        }
        *quiet = 0;
        const int32_t source = source_for(l, growth > 0 ? i + 1 : i, centred(target) + target / 4, rank);
        if (*began || is_going(l, log, source)) /* one end a token: to look for it takes its time */
            return;
        *began = 1;
        refill->has_low = !refill->has_low;
        if (refill->has_low) {
            refill->low = end_of(l, i, source, rank, 0);
            return;
        }
        const uint64_t high = end_of(l, i, source, rank, 1);
        if (refill->low < high) /* the cut has moved since */
            (void)begin_refill(l, i, source, refill->low, high, purse);
        return;
    }
    *quiet = 0;
    const seqtopk_source source = source_of(l, log, refill->source);
    /* A new rung is not waited for; but what it is made of must not be far behind when it is done. */
    const int64_t left = left_of(&source, &refill->reader);
    const int64_t budget = room < 0 ? budget_of(l, left > l->total ? left : l->total, target / 8)
                                    : budget_of(l, left, room - is_late(target));
    l->read += left < budget ? left : budget;
    (void)read_refill(l, log, i, budget, purse);
}

/* The tokens for which the window needs nothing; -1: it is to be extended. */
static int64_t calm_of(const seqtopk_ladder *l, int64_t rank) {
    const seqtopk_window *w = &l->window;
    const int64_t room = smaller(room_above(w->high, w->above, rank), room_below(w->low, w->above, w->count, rank));
    return w->is_extending || room < is_near(w->target)
               ? -1
               : smaller(MOST_QUIET, smaller(quiet_for(l, room, w->target), (2 * w->target - w->count) / l->step));
}

/* The window is extended on the side that the cut nears. */
static void look_after_window(seqtopk_ladder *l, const seqtopk_log *log, int64_t rank, int *began) {
    seqtopk_window *w = &l->window;
    const int64_t target = w->target, up = room_above(w->high, w->above, rank),
                  down = room_below(w->low, w->above, w->count, rank);
    if (!w->is_extending) {
        const int is_upward = up < down;
        const int32_t source = source_beyond(l, target * 3 / 4, is_upward, rank);
        if (is_going(l, log, source))
            return;
        seqtopk_window_extend(w, is_upward,
                              word_beyond(l, source, is_upward ? w->high : w->low, target * 3 / 8, is_upward), source);
        *began = 1;
        return;
    }
    const seqtopk_source source = source_of(l, log, w->source);
    const int64_t ranks = (w->is_extending > 0 ? up : down) - 2 * l->step;
    const int64_t left = left_of(&source, &w->reader), budget = budget_of(l, left, ranks);
    l->read += left < budget ? left : budget;
    seqtopk_window_read_on(w, &source, budget, rank);
}

/* The rungs are given what the log has had since, each from the next larger one if that has all. Returns 0 if there is no
 * memory. */
static int catch_up(seqtopk_ladder *l, const seqtopk_log *log, seqtopk_purse *purse) {
    seqtopk_rung *larger = NULL;
    int64_t had = 0, above = 0; /* words of the larger one before, and above it since */
    for (int i = l->rungs - 1; i >= 0; i--) {
        seqtopk_rung *rung = l->rung + i;
        const int is_within = larger && larger->low <= rung->low && rung->high <= larger->high;
        const seqtopk_source source = {log, is_within ? larger : NULL};
        seqtopk_reader reader = {.low = rung->low, .high = rung->high, .cursor = is_within ? had : l->caught_up};
        picked to = {rung, INT64_MAX, purse};
        const int64_t size = rung->words.size;
        if (!seqtopk_read_on(&reader, &source, INT64_MAX, put_into_rung, &to))
            return 0;
        above = reader.above + (is_within ? above : 0);
        rung->above += above;
        larger = rung;
        had = size;
    }
    l->caught_up = log->tokens.size;
    return 1;
}

/* What is to be done after a token, if there is anything. */
static void look_after(seqtopk_ladder *l, const seqtopk_log *log, int64_t places, seqtopk_purse *purse) {
    const int64_t rank = rank_of(l, places);
    int64_t quiet = MOST_QUIET;
    l->calm = (int32_t)calm_of(l, rank);
    if (l->calm >= 0 && l->quiet >= 0)
        return;
    if (!catch_up(l, log, purse)) { /* the window does without rungs, until it has to be made anew */
        seqtopk_ladder_unsettle(l, l->total, purse);
        return;
    }
    int began = wants_rung(l) && add_rung(l, purse); /* it is begun from the next token on */
    l->read = 0;
    if (l->is_retiring)
        retire(l, purse);
    if (l->calm < 0)
        look_after_window(l, log, rank, &began);
    for (int i = 0; i < l->rungs; i++)
        look_after_rung(l, log, i, rank, &began, &quiet, purse);
    l->quiet = l->is_retiring ? 0 : (int32_t)quiet;
    l->most_read = l->read > l->most_read ? l->read : l->most_read;
}

/* --------------------------------------------------------------- settling -- */

/* What a whole source is read into. */
typedef struct pile {
    uint64_t *words;
    int64_t size;
} pile;

static int put_onto_pile(void *to, const uint64_t *words, int64_t n) {
    pile *p = to;
    memcpy(p->words + p->size, words, (size_t)n * sizeof *words);
    p->size += n;
    return 1;
}

/* The word of a sample at a share of it, from the best on: about where a rank is. */
static uint64_t guess_word(const seqtopk_ladder *l, int32_t source, int64_t rank) {
    const extent has = extent_of(l, source);
    return word_beyond(l, source, SEQTOPK_WORD_LEAST, has.count - (rank - has.above), 1);
}

/* Picks rung i at once from the smallest source that serves, if that succeeds. */
static void fill_rung(seqtopk_ladder *l, const seqtopk_log *log, int i, int64_t rank, seqtopk_purse *purse) {
    const int64_t target = target_of(l, i);
    for (int64_t half = centred(target), tries = 0; tries < TRIES; tries++) {
        const int32_t source = source_for(l, i + 1, target, rank);
        const uint64_t about = guess_word(l, source, rank);
        if (!begin_refill(l, i, source, word_beyond(l, source, about, half, 0), word_beyond(l, source, about, half, 1),
                          purse))
            return;
        if (!read_refill(l, log, i, INT64_MAX, purse))
            half /= 2;
        else if (room_in_rung(l, i, rank) > is_late(target))
            return;
    }
}

/* Makes the window at once: sorts the smallest source that serves. */
static int fill_window(seqtopk_ladder *l, const seqtopk_log *log, int64_t rank, seqtopk_purse *purse) {
    const int32_t number = source_for(l, 0, l->window.target, rank);
    const seqtopk_source source = source_of(l, log, number);
    const extent has = extent_of(l, number);
    const size_t bytes = (size_t)(has.count ? has.count : 1) * sizeof(uint64_t);
    pile p = {seqtopk_purse_take(purse, bytes), 0};
    seqtopk_reader reader = {.low = SEQTOPK_WORD_LEAST, .high = SEQTOPK_WORD_MOST};
    if (!p.words)
        return 0;
    (void)seqtopk_read_on(&reader, &source, INT64_MAX, put_onto_pile, &p);
    qsort(p.words, (size_t)p.size, sizeof *p.words, seqtopk_by_word);
    seqtopk_window_fill(&l->window, p.words, p.size, has.low, has.high, has.above, rank - 1 - has.above);
    seqtopk_purse_give(purse, p.words, bytes);
    return 1;
}

/* The log has changed since its sample was taken. */
static void sample_log(seqtopk_ladder *l, const seqtopk_log *log) {
    const int64_t all = log->tokens.size * log->width, gap = all / SEQTOPK_SAMPLE + 1;
    seqtopk_sample_clear(l->sample, SEQTOPK_SAMPLE);
    for (int64_t i = 0; i < all; i += gap) {
        /* A gap of whole tokens would always meet keys of the same rank. */
        const int64_t token = i / log->width, rank = gap < log->width ? i % log->width : i / gap % log->width;
        int64_t ignored;
        const float key = seqtopk_note_keys(seqtopk_log_at(log, token, &ignored))[rank];
        if (key > -INFINITY)
            l->sample->words[l->sample->count++] = seqtopk_word_of(key, token);
    }
    while (l->sample->gap < gap)
        l->sample->gap *= 2;
}

int seqtopk_ladder_settle(seqtopk_ladder *l, const seqtopk_log *log, int64_t places, seqtopk_purse *purse) {
    seqtopk_ladder_unsettle(l, l->total, purse);
    sample_log(l, log);
    while (wants_rung(l) && add_rung(l, purse))
        ;
    for (int i = l->rungs - 1; i >= 0; i--)
        fill_rung(l, log, i, rank_of(l, places), purse); /* where it fails the next larger source serves */
    l->caught_up = log->tokens.size;
    l->most_read = l->total > l->most_read ? l->total : l->most_read;
    l->is_settled = fill_window(l, log, rank_of(l, places), purse);
    l->quiet = l->calm = 0;
    return l->is_settled;
}

/* ----------------------------------------------------------------- ladder -- */

/* Of a ladder and its sample. */
static size_t own_bytes(void) { return sizeof(seqtopk_ladder) + seqtopk_sample_bytes(SEQTOPK_SAMPLE); }

seqtopk_ladder *seqtopk_ladder_make(int32_t step, seqtopk_purse *purse) {
    seqtopk_ladder *l = seqtopk_purse_take(purse, own_bytes());
    if (!l)
        return NULL;
    memset(l, 0, sizeof *l);
    l->step = step;
    l->sample = (seqtopk_sample *)(l + 1);
    seqtopk_sample_clear(l->sample, SEQTOPK_SAMPLE);
    l->is_settled = 1; /* there is nothing yet */
    if (seqtopk_window_make(&l->window, 16 * step > WINDOW ? 16 * step : WINDOW, purse))
        return l;
    seqtopk_purse_give(purse, l, own_bytes());
    return NULL;
}

size_t seqtopk_ladder_bytes(const seqtopk_ladder *l) {
    size_t bytes = own_bytes() + seqtopk_window_bytes(&l->window);
    for (int i = 0; i < l->rungs; i++)
        bytes += (1 + (size_t)l->refill[i].is_active) * seqtopk_rung_bytes();
    return bytes;
}

void seqtopk_ladder_drop(seqtopk_ladder *l, seqtopk_purse *purse) {
    if (!l)
        return;
    seqtopk_ladder_unsettle(l, 0, purse);
    seqtopk_window_free(&l->window, purse);
    seqtopk_purse_give(purse, l, own_bytes());
}

seqtopk_ladder *seqtopk_ladder_copy(seqtopk_ladder *from, seqtopk_purse *purse) {
    seqtopk_ladder *l = seqtopk_ladder_make(from->step, purse);
    if (!l)
        return NULL;
    l->total = from->total;
    l->caught_up = from->caught_up;
    memcpy(l->sample, from->sample, seqtopk_sample_bytes(SEQTOPK_SAMPLE));
    l->is_settled = from->is_settled;
    if (!l->is_settled)
        return l;
    seqtopk_window_copy(&l->window, &from->window);
    for (; l->rungs < from->rungs; l->rungs++) { /* what was being picked begins anew */
        if (!seqtopk_rung_copy(l->rung + l->rungs, from->rung + l->rungs, purse)) {
            seqtopk_ladder_unsettle(l, from->total, purse);
            break;
        }
        seqtopk_shelf_init(&l->refill[l->rungs].old, sizeof(uint64_t));
    }
    return l;
}

/* How many of the past's keys come before a word, counted in the log. */
static int64_t count_log(const seqtopk_log *log, uint64_t word) {
    int64_t count = 0, ignored;
    for (int64_t t = 0; t < log->tokens.size; t++) {
        const float *keys = seqtopk_note_keys(seqtopk_log_at(log, t, &ignored));
        for (int32_t j = 0; j < log->width && keys[j] > -INFINITY && seqtopk_word_of(keys[j], t) > word; j++)
            count++;
    }
    return count;
}

int32_t seqtopk_ladder_count(const seqtopk_log *log, const float *keys, int32_t n, int64_t places) {
    int32_t winners = 0;
    while (winners < n && count_log(log, seqtopk_word_of(keys[winners], log->tokens.size)) + winners < places)
        winners++;
    return winners;
}

/* The words of a token's next keys, up to SEQTOPK_INSERTED of them; returns how many. */
static int32_t next_words(const float *keys, int32_t from, int32_t to, int64_t token, uint64_t *words) {
    const int32_t n = to - from < SEQTOPK_INSERTED ? to - from : SEQTOPK_INSERTED;
    for (int32_t j = 0; j < n; j++)
        words[j] = seqtopk_word_of(keys[from + j], token);
    return n;
}

static void enter_sample(seqtopk_sample *sample, const float *keys, int32_t n, int64_t token) {
    uint64_t words[SEQTOPK_INSERTED];
    for (int32_t from = 0, count; from < n; from += count) {
        count = next_words(keys, from, n, token, words);
        seqtopk_sample_pass(sample, words, count);
    }
}

/* The last token's keys [from, to) come to the window. */
static void enter_window(seqtopk_ladder *l, const float *keys, int32_t from, int32_t to, int64_t token, int64_t rank) {
    uint64_t words[SEQTOPK_INSERTED];
    for (int32_t count; from < to; from += count) {
        count = next_words(keys, from, to, token, words);
        seqtopk_window_insert(&l->window, words, count);
    }
    seqtopk_window_trim(&l->window, rank);
}

void seqtopk_ladder_join(seqtopk_ladder *l, const seqtopk_log *log, const float *keys, int32_t n,
                         const seqtopk_contest *contest, int64_t places, seqtopk_purse *purse) {
    const int64_t token = log->tokens.size - 1;
    l->total += n;
    if (l->sample->wait >= (uint32_t)n)
        l->sample->wait -= (uint32_t)n;
    else
        enter_sample(l->sample, keys, n, token);
    if (!l->is_settled)
        return;
    l->window.above += contest->above;
    if (contest->above < contest->reach)
        enter_window(l, keys, contest->above, contest->reach, token, rank_of(l, places));
    l->quiet--;
    l->calm--;
    if (l->quiet < 0 || l->calm < 0)
        look_after(l, log, places, purse);
}

void seqtopk_ladder_take_back(seqtopk_ladder *l, const seqtopk_log *log, const uint64_t *words, int32_t n,
                              seqtopk_purse *purse) {
    l->total -= n;
    l->quiet = l->calm = 0;
    if (n > 0)
        seqtopk_sample_cut(l->sample, seqtopk_token_of(words[0]));
    if (!l->is_settled)
        return;
    seqtopk_window_take_back(&l->window, words, n);
    if (log->tokens.size > l->caught_up) /* no rung has it, and nobody has read it */
        return;
    l->caught_up = log->tokens.size - 1;
    /* Those that read a source before the source itself. */
    if (l->window.is_extending) {
        const seqtopk_source source = source_of(l, log, l->window.source);
        seqtopk_window_forget(&l->window, &source, words, n);
    }
    for (int i = 0; i < l->rungs; i++) {
        seqtopk_refill *refill = l->refill + i;
        if (!refill->is_active)
            continue;
        const seqtopk_source source = source_of(l, log, refill->source);
        int32_t from;
        const int32_t count = seqtopk_read_back(&refill->reader, &source, words, n, &from);
        if (count > 0)
            seqtopk_rung_take_back(&refill->made, words + from, count, purse);
    }
    for (int i = 0; i < l->rungs; i++)
        seqtopk_rung_take_back(l->rung + i, words, n, purse);
}
