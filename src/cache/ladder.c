/* SPDX-License-Identifier: MIT */
#include "src/cache/ladder.h"
#include "src/cache/words.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* The window's words: enough that a cut that wanders by some ranks a token leaves it after thousands of tokens, few
     * enough that to insert a word moves a KiB at most. */
    WINDOW = 512,
    RATIO_BITS = 2,  /* a rung has 4 times the words of the next smaller one */
    LEAST_SHARE = 8, /* a rung is worth its memory where the past has 8 times its words */
    SAMPLE = 256,
    SETTLE_SAMPLE = 1024,
    LEAST_READ = 128, /* words of a refill a token: what costs less than to look after it */
    MOST_READ = 4096, /* and at most */
    TRIES = 4
};

/* ------------------------------------------------------------------ bands -- */

static int64_t target_of(const seqtopk_ladder *l, int i) { return (int64_t)l->target << RATIO_BITS * i; }
static int64_t size_of(const seqtopk_ladder *l, int i) { return i ? l->band[i].words.size : l->count; }
static uint64_t *window_of(const seqtopk_ladder *l) { return l->sorted + l->first; }

/* Of words [n], best first, how many are not below `limit`. */
static int32_t reaching(const uint64_t *words, int32_t n, uint64_t limit) {
    int32_t count = 0;
    if (n == 0 || words[0] < limit)
        return 0;
    if (words[n - 1] >= limit)
        return n;
    for (int32_t i = 0; i < n; i++)
        count += words[i] >= limit;
    return count;
}

/* The rank at which the past is cut. */
static int64_t rank_of(const seqtopk_ladder *l, int64_t places) {
    return places > l->total ? l->total : places < 1 ? 1 : places;
}

/* Ranks from the cut to the nearer end of a band; below 0: it is not inside. An end beyond which nothing is is far away. */
static int64_t distance(const seqtopk_ladder *l, int i, int64_t places) {
    const seqtopk_band *band = l->band + i;
    const int64_t rank = rank_of(l, places);
    const int64_t up = band->high == SEQTOPK_WORD_MOST ? INT64_MAX : rank - band->above - 1;
    const int64_t down = band->low == SEQTOPK_WORD_LEAST ? INT64_MAX : band->above + size_of(l, i) - rank;
    return up < down ? up : down;
}

/* A rung that has nothing yet, so that it is due to be filled. */
static void clear_band(seqtopk_ladder *l, int i) {
    seqtopk_shelf_init(&l->band[i].words, sizeof(uint64_t));
    l->band[i].low = SEQTOPK_WORD_MOST - 1;
    l->band[i].high = SEQTOPK_WORD_MOST;
    l->band[i].above = 0;
    l->refill[i].is_active = 0;
}

static void drop_refill(seqtopk_refill *refill, seqtopk_purse *purse) {
    if (refill->is_active)
        seqtopk_shelf_free(&refill->band.words, purse);
    refill->is_active = 0;
}

void seqtopk_ladder_unsettle(seqtopk_ladder *l, int64_t total, seqtopk_purse *purse) {
    for (int i = 0; i < l->bands; i++) {
        drop_refill(l->refill + i, purse);
        seqtopk_shelf_free(&l->band[i].words, purse);
    }
    l->bands = 0;
    l->count = 0;
    l->is_settled = 0;
    l->total = total;
}

/* ----------------------------------------------------------------- window -- */

/* The index of the first word of an ascending array that is not below `word`. */
static int32_t index_of(const uint64_t *words, int32_t n, uint64_t word) {
    int32_t from = 0;
    while (n > 0) {
        const int32_t half = n / 2;
        if (words[from + half] < word) {
            from += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    return from;
}

/* Inserts into an array that has space behind its words. */
static void insert_behind(uint64_t *words, int32_t *count, uint64_t word) {
    const int32_t at = index_of(words, *count, word);
    memmove(words + at + 1, words + at, (size_t)(*count - at) * sizeof *words);
    words[at] = word;
    ++*count;
}

static void insert_into_window(seqtopk_ladder *l, uint64_t word) {
    uint64_t *words = window_of(l);
    const int32_t at = index_of(words, l->count, word);
    const int has_front = l->first > 0, has_back = l->first + l->count < l->space;
    if (has_front && (at < l->count - at || !has_back)) {
        memmove(words - 1, words, (size_t)at * sizeof *words);
        words[at - 1] = word;
        l->first--;
    } else {
        memmove(words + at + 1, words + at, (size_t)(l->count - at) * sizeof *words);
        words[at] = word;
    }
    l->count++;
}

static void take_from(uint64_t *words, int32_t *count, uint64_t word) {
    const int32_t at = index_of(words, *count, word);
    memmove(words + at, words + at + 1, (size_t)(*count - at - 1) * sizeof *words);
    --*count;
}

/* Leaves about `target` words round the cut, in the middle of the space. Words that are equal, as one token's may be, stay
 * on one side. */
static void trim_window(seqtopk_ladder *l, int64_t places) {
    seqtopk_band *window = l->band;
    uint64_t *words = window_of(l);
    const int64_t middle = window->above + l->count - rank_of(l, places);
    const int64_t most = l->count - l->target, wanted = middle - l->target / 2;
    int32_t from = (int32_t)(wanted < 0 ? 0 : wanted < most ? wanted : most), to = from + l->target;
    while (to > 0 && to < l->count && words[to - 1] == words[to])
        to--;
    while (from > 0 && words[from - 1] == words[from])
        from--;
    if (to < l->count) {
        window->above += l->count - to;
        window->high = words[to];
    }
    if (from > 0)
        window->low = words[from];
    l->first = (l->space - (to - from)) / 2;
    l->count = to - from;
    memmove(window_of(l), words + from, (size_t)l->count * sizeof *words);
}

/* ----------------------------------------------------------------- source -- */

static int64_t source_size(const seqtopk_ladder *l, const seqtopk_log *log, int source) {
    return source == SEQTOPK_FROM_LOG ? log->tokens.size : size_of(l, source);
}

static const float *log_row(const seqtopk_log *log, int64_t token) {
    int64_t count;
    const seqtopk_token_note *note = seqtopk_shelf_at(&log->tokens, token, &count);
    return seqtopk_note_keys(note);
}

static uint32_t next_random(uint32_t *seed) { /* any spread will do: no result depends on it */
    *seed = *seed * 1664525u + 1013904223u;
    return *seed ^ *seed >> 15;
}

/* Words [at most n] from anywhere in a source. Returns how many. */
static int32_t sample_words(seqtopk_ladder *l, const seqtopk_log *log, int source, int32_t n, uint64_t *words) {
    const int64_t size = source_size(l, log, source);
    int32_t count = 0;
    for (int32_t i = 0; i < n && size > 0; i++) {
        const uint64_t spread = (uint64_t)next_random(&l->seed) << 32 | next_random(&l->seed);
        const int64_t at = (int64_t)(spread % (uint64_t)size);
        int64_t ignored;
        if (source != SEQTOPK_FROM_LOG) {
            words[count++] =
                source ? *(const uint64_t *)seqtopk_shelf_at(&l->band[source].words, at, &ignored) : window_of(l)[at];
        } else {
            const float key = log_row(log, at)[(spread >> 40) % (uint64_t)log->width];
            words[count] = seqtopk_word_of(key, at);
            count += key > -INFINITY;
        }
    }
    return count;
}

/* Keys of a row of the log as words; returns how many it has. */
static int32_t words_of_row(const seqtopk_log *log, int64_t token, const float *keys, int32_t from, int32_t space,
                            uint64_t *words) {
    int32_t n = 0;
    for (int32_t j = from; j < log->width && n < space && keys[j] > -INFINITY; j++)
        words[n++] = seqtopk_word_of(keys[j], token);
    return n;
}

/* ---------------------------------------------------------------- refills -- */

/* Adds words [n] of the source, in its order. Returns 0 if the band becomes too large, or there is no memory. */
static int read_words(seqtopk_ladder *l, int i, const uint64_t *words, int64_t n, seqtopk_purse *purse) {
    seqtopk_refill *refill = l->refill + i;
    const uint64_t low = refill->band.low, high = refill->band.high;
    int64_t above = 0;
    for (int64_t w = 0; w < n; w++) {
        above += words[w] >= high;
        if (words[w] < low || words[w] >= high)
            continue;
        if (i == 0) {
            if (l->spare_count == l->space)
                return 0;
            insert_behind(l->spare, &l->spare_count, words[w]);
        } else {
            uint64_t *place = seqtopk_shelf_push(&refill->band.words, purse);
            if (!place || refill->band.words.size > 4 * target_of(l, i))
                return 0;
            *place = words[w];
        }
    }
    refill->band.above += above;
    return 1;
}

static int read_log(seqtopk_ladder *l, const seqtopk_log *log, int i, int64_t budget, seqtopk_purse *purse) {
    enum { PIECE = 64 };
    uint64_t words[PIECE];
    seqtopk_refill *refill = l->refill + i;
    for (; budget > 0 && refill->cursor < log->tokens.size; refill->cursor++) {
        const float *keys = log_row(log, refill->cursor);
        for (int32_t from = 0, n = PIECE; n == PIECE; from += n) {
            n = words_of_row(log, refill->cursor, keys, from, PIECE, words);
            if (!read_words(l, i, words, n, purse))
                return 0;
        }
        budget -= log->width;
    }
    return 1;
}

/* Reads on for about `budget` words. */
static int read_on(seqtopk_ladder *l, const seqtopk_log *log, int i, int64_t budget, seqtopk_purse *purse) {
    seqtopk_refill *refill = l->refill + i;
    if (refill->source == SEQTOPK_FROM_LOG)
        return read_log(l, log, i, budget, purse);
    while (budget > 0 && refill->cursor < size_of(l, refill->source)) {
        int64_t n;
        const uint64_t *words = seqtopk_shelf_at(&l->band[refill->source].words, refill->cursor, &n);
        n = n < budget ? n : budget;
        if (!read_words(l, i, words, n, purse))
            return 0;
        refill->cursor += n;
        budget -= n;
    }
    return 1;
}

static int has_readers(const seqtopk_ladder *l, int source) {
    for (int i = 0; i < l->bands; i++)
        if (l->refill[i].is_active && l->refill[i].source == source && i != source)
            return 1;
    return 0;
}

/* All of the source has been read: the new band takes the place of the old. */
static void finish(seqtopk_ladder *l, int i, seqtopk_purse *purse) {
    seqtopk_refill *refill = l->refill + i;
    if (refill->source != SEQTOPK_FROM_LOG)
        refill->band.above += l->band[refill->source].above;
    seqtopk_shelf_free(&l->band[i].words, purse);
    l->band[i] = refill->band;
    refill->is_active = 0;
    if (i > 0)
        return;
    uint64_t *sorted = l->spare;
    l->spare = l->sorted;
    l->sorted = sorted;
    l->first = 0;
    l->count = l->spare_count;
}

static void begin(seqtopk_ladder *l, int i, int source, uint64_t low, uint64_t high) {
    seqtopk_refill *refill = l->refill + i;
    seqtopk_shelf_init(&refill->band.words, sizeof(uint64_t));
    if (source != SEQTOPK_FROM_LOG) { /* beyond the source's own ends there is nothing to read */
        low = low > l->band[source].low ? low : l->band[source].low;
        high = high < l->band[source].high ? high : l->band[source].high;
    }
    refill->band.low = low;
    refill->band.high = high;
    refill->band.above = 0;
    refill->cursor = 0;
    refill->source = source;
    refill->is_active = 1;
    if (i == 0)
        l->spare_count = 0;
}

/* The `nth` nearest of the words of a sample on one side of `about`: its end of a new band. */
static uint64_t nearest(const uint64_t *words, int32_t n, uint64_t about, int32_t nth, int upward) {
    uint64_t best[SAMPLE];
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++) {
        /* Distances, so that both sides are the smallest of something. */
        if (upward ? words[i] <= about : words[i] > about)
            continue;
        const uint64_t far = upward ? words[i] - about : about - words[i];
        if (count == nth && far >= best[count - 1])
            continue;
        int32_t at = count < nth ? count++ : count - 1;
        for (; at > 0 && best[at - 1] > far; at--)
            best[at] = best[at - 1];
        best[at] = far;
    }
    if (count < nth)
        return upward ? SEQTOPK_WORD_MOST : SEQTOPK_WORD_LEAST;
    return upward ? about + best[nth - 1] : about - best[nth - 1];
}

/* The smallest source that has all about the cut. */
static int source_for(const seqtopk_ladder *l, int i, int64_t places) {
    if (i > 0 && size_of(l, i) > 2 * target_of(l, i) && distance(l, i, places) > target_of(l, i) / 2)
        return i;
    for (int j = i + 1; j < l->bands; j++)
        if (distance(l, j, places) > target_of(l, i))
            return j;
    return SEQTOPK_FROM_LOG;
}

/* Begins to fill band i anew, about the word where the past is cut. */
static void begin_refill(seqtopk_ladder *l, const seqtopk_log *log, int i, int64_t places) {
    uint64_t words[SAMPLE];
    const int source = source_for(l, i, places);
    const int64_t in_window = l->band[0].above + l->count - rank_of(l, places);
    if (in_window < 0 || in_window >= l->count)
        return; /* there will be a new window first */
    const uint64_t about = window_of(l)[in_window];
    const int32_t n = sample_words(l, log, source, SAMPLE, words);
    const int64_t all = source == SEQTOPK_FROM_LOG ? l->total : size_of(l, source);
    const int64_t nth = all > 0 ? (int64_t)n * target_of(l, i) / 2 / all : 0;
    if (nth >= SAMPLE / 2)
        begin(l, i, source, SEQTOPK_WORD_LEAST, SEQTOPK_WORD_MOST);
    else
        begin(l, i, source, nearest(words, n, about, nth > 2 ? (int32_t)nth : 2, 0),
              nearest(words, n, about, nth > 2 ? (int32_t)nth : 2, 1));
}

/* Reads on, faster the nearer the cut is to the end of what there is. */
static void look_after_refill(seqtopk_ladder *l, const seqtopk_log *log, int i, int64_t places, seqtopk_purse *purse) {
    seqtopk_refill *refill = l->refill + i;
    const int64_t unit = refill->source == SEQTOPK_FROM_LOG ? log->width : 1;
    const int64_t left = (source_size(l, log, refill->source) - refill->cursor) * unit;
    const int64_t steps = distance(l, i, places) / (2 * l->step);
    int64_t budget = left / (steps > 1 ? steps : 1) + 2 * l->step;
    budget = budget < LEAST_READ ? LEAST_READ : budget > MOST_READ ? MOST_READ : budget;
    if (!read_on(l, log, i, budget, purse))
        drop_refill(refill, purse);
    else if (refill->cursor == source_size(l, log, refill->source) && !has_readers(l, i))
        finish(l, i, purse);
}

/* Whether a band should be filled anew; else lowers *quiet to the tokens for which it need not be looked at. */
static int is_due(const seqtopk_ladder *l, int i, int64_t places, int64_t *quiet) {
    const int64_t target = target_of(l, i), size = size_of(l, i), room = distance(l, i, places) - target / 4;
    if (room < 0 || (i > 0 && size > 2 * target))
        return 1;
    const int64_t tokens = room / (2 * l->step);
    *quiet = tokens < *quiet ? tokens : *quiet;
    if (i > 0 && (2 * target - size) / l->step < *quiet)
        *quiet = (2 * target - size) / l->step;
    return 0;
}

static void look_after(seqtopk_ladder *l, const seqtopk_log *log, int64_t places, seqtopk_purse *purse) {
    int64_t quiet = 1024;
    if (l->bands < SEQTOPK_BANDS && l->total > LEAST_SHARE * target_of(l, l->bands))
        clear_band(l, l->bands++);
    int began = 0;
    for (int i = 0; i < l->bands; i++) {
        if (l->refill[i].is_active) {
            look_after_refill(l, log, i, places, purse);
            quiet = 0;
        } else if (is_due(l, i, places, &quiet)) {
            if (!began++) /* one a token: a sample takes its time */
                begin_refill(l, log, i, places);
            quiet = 0;
        }
    }
    l->quiet = (int32_t)quiet;
}

/* --------------------------------------------------------------- settling -- */

static int by_rank(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* Fills rung i at once from the smallest source that serves. Returns 0 if that was without success. */
static int fill_rung(seqtopk_ladder *l, const seqtopk_log *log, int i, int64_t places, seqtopk_purse *purse) {
    uint64_t words[SETTLE_SAMPLE];
    for (int tries = 0; tries < TRIES; tries++) {
        const int source = source_for(l, i, places);
        const int32_t n = sample_words(l, log, source, SETTLE_SAMPLE, words);
        const int64_t all = source == SEQTOPK_FROM_LOG ? l->total : size_of(l, source);
        const int64_t before = source == SEQTOPK_FROM_LOG ? 0 : l->band[source].above;
        if (n == 0)
            return 0;
        qsort(words, (size_t)n, sizeof *words, by_rank);
        const int64_t at = (places - before) * n / all, half = target_of(l, i) * n / all / 2 + n / 64 + 1;
        begin(l, i, source, at + half < n ? words[at + half] : SEQTOPK_WORD_LEAST,
              at - half >= 0 ? words[at - half] : SEQTOPK_WORD_MOST);
        if (!read_on(l, log, i, INT64_MAX, purse)) {
            drop_refill(l->refill + i, purse);
            continue;
        }
        finish(l, i, purse);
        if (distance(l, i, places) > target_of(l, i) / 4)
            return 1;
    }
    return 0;
}

/* Makes the window at once: sorts the smallest source that serves. */
static int fill_window(seqtopk_ladder *l, const seqtopk_log *log, int64_t places, seqtopk_purse *purse) {
    const int source = source_for(l, 0, places);
    const int64_t all = source == SEQTOPK_FROM_LOG ? l->total : size_of(l, source);
    const size_t bytes = (size_t)(all ? all : 1) * sizeof(uint64_t);
    uint64_t *words = seqtopk_purse_take(purse, bytes);
    if (!words)
        return 0;
    int64_t n = 0, here;
    if (source == SEQTOPK_FROM_LOG)
        for (int64_t t = 0; t < log->tokens.size; t++)
            n += words_of_row(log, t, log_row(log, t), 0, log->width, words + n);
    else
        for (; n < all; n += here) {
            const void *from = seqtopk_shelf_at(&l->band[source].words, n, &here);
            memcpy(words + n, from, (size_t)here * sizeof *words);
        }
    qsort(words, (size_t)n, sizeof *words, by_rank);
    const int64_t above = source == SEQTOPK_FROM_LOG ? 0 : l->band[source].above;
    int64_t from = places - above - l->target / 2, to = from + l->target;
    if (all <= l->target) {
        from = 0;
        to = n;
    }
    from = from < 0 ? 0 : from > n ? n : from;
    to = to < 0 ? 0 : to > n ? n : to;
    while (from > 0 && from < n && words[from] == words[from - 1]) /* equals stay together */
        from--;
    while (to > 0 && to < n && words[to] == words[to - 1])
        to++;
    const int fits = to - from <= l->space;
    if (fits) {
        seqtopk_band *window = l->band;
        window->above = above + from;
        window->high = from > 0                     ? words[from - 1]
                       : source == SEQTOPK_FROM_LOG ? SEQTOPK_WORD_MOST
                                                    : l->band[source].high;
        window->low = to < n ? words[to - 1] : source == SEQTOPK_FROM_LOG ? SEQTOPK_WORD_LEAST : l->band[source].low;
        l->count = (int32_t)(to - from);
        l->first = (l->space - l->count) / 2;
        for (int64_t i = from; i < to; i++)
            window_of(l)[to - 1 - i] = words[i];
    }
    seqtopk_purse_give(purse, words, bytes);
    return fits;
}

static void settle(seqtopk_ladder *l, const seqtopk_log *log, int64_t places, seqtopk_purse *purse) {
    seqtopk_ladder_unsettle(l, l->total, purse);
    l->bands = 1;
    while (l->bands < SEQTOPK_BANDS && l->total > LEAST_SHARE * target_of(l, l->bands))
        l->bands++;
    for (int i = 0; i < l->bands; i++)
        clear_band(l, i);
    for (int i = l->bands - 1; i > 0; i--)
        (void)fill_rung(l, log, i, rank_of(l, places), purse); /* where it fails the next larger source serves */
    l->is_settled = fill_window(l, log, rank_of(l, places), purse);
    l->quiet = 0;
}

/* ----------------------------------------------------------------- ladder -- */

seqtopk_ladder *seqtopk_ladder_make(int32_t step, seqtopk_purse *purse) {
    const int32_t target = 16 * step > WINDOW ? 16 * step : WINDOW, space = 2 * target + step;
    seqtopk_ladder *l = seqtopk_purse_take(purse, sizeof *l);
    uint64_t *words = seqtopk_purse_take(purse, 2 * (size_t)space * sizeof *words);
    if (!l || !words) {
        seqtopk_purse_give(purse, l, sizeof *l);
        seqtopk_purse_give(purse, words, 2 * (size_t)space * sizeof *words);
        return NULL;
    }
    memset(l, 0, sizeof *l);
    l->step = step;
    l->target = target;
    l->space = space;
    l->sorted = words;
    l->spare = words + space;
    l->seed = 1;
    return l;
}

size_t seqtopk_ladder_bytes(const seqtopk_ladder *l) { return sizeof *l + 2 * (size_t)l->space * sizeof *l->sorted; }

void seqtopk_ladder_drop(seqtopk_ladder *l, seqtopk_purse *purse) {
    if (!l)
        return;
    seqtopk_ladder_unsettle(l, 0, purse);
    uint64_t *words = l->sorted < l->spare ? l->sorted : l->spare;
    seqtopk_purse_give(purse, words, 2 * (size_t)l->space * sizeof *words);
    seqtopk_purse_give(purse, l, sizeof *l);
}

seqtopk_ladder *seqtopk_ladder_copy(seqtopk_ladder *from, seqtopk_purse *purse) {
    seqtopk_ladder *l = seqtopk_ladder_make(from->step, purse);
    if (!l)
        return NULL;
    l->total = from->total;
    l->seed = from->seed;
    if (!from->is_settled)
        return l;
    l->is_settled = 1;
    l->bands = from->bands;
    l->first = from->first;
    l->count = from->count;
    memcpy(window_of(l), window_of(from), (size_t)l->count * sizeof *l->sorted);
    for (int i = 0; i < l->bands; i++) {
        l->band[i] = from->band[i];
        if (!seqtopk_shelf_share(&l->band[i].words, &from->band[i].words, purse)) {
            l->bands = i;
            seqtopk_ladder_unsettle(l, from->total, purse);
            break;
        }
    }
    return l; /* what was being filled begins anew */
}

/* How many of the past's keys come before a word, counted in the log. */
static int64_t count_log(const seqtopk_log *log, uint64_t word) {
    int64_t count = 0;
    for (int64_t t = 0; t < log->tokens.size; t++) {
        const float *keys = log_row(log, t);
        for (int32_t j = 0; j < log->width && keys[j] > -INFINITY && seqtopk_word_of(keys[j], t) > word; j++)
            count++;
    }
    return count;
}

/* Whether the window has the words of these ranks, as far as there are any. */
static int has_ranks(const seqtopk_ladder *l, int64_t from, int64_t to) {
    from = from < 1 ? 1 : from;
    to = to > l->total ? l->total : to;
    return from > to || (l->is_settled && from > l->band[0].above && to <= l->band[0].above + l->count);
}

int32_t seqtopk_ladder_winners(seqtopk_ladder *l, const seqtopk_log *log, const uint64_t *words, int32_t n,
                               int64_t places, seqtopk_purse *purse) {
    int32_t winners = 0;
    if (!has_ranks(l, places - n + 1, places))
        settle(l, log, places, purse);
    if (!has_ranks(l, places - n + 1, places)) {
        while (winners < n && count_log(log, words[winners]) + winners < places)
            winners++;
        return winners;
    }
    /* Word j wins if it comes before the word of rank places - j of the past. */
    const uint64_t *window = window_of(l);
    const int64_t at = l->is_settled ? l->band[0].above + l->count - places : 0; /* of rank `places` */
    for (; winners < n; winners++) {
        const int64_t rank = places - winners;
        if (rank < 1 || (rank <= l->total && words[winners] < window[at + winners]))
            break;
    }
    return winners;
}

void seqtopk_ladder_add(seqtopk_ladder *l, const seqtopk_log *log, const uint64_t *words, int32_t n, int64_t places,
                        seqtopk_purse *purse) {
    l->total += n;
    if (!l->is_settled)
        return;
    for (int i = l->bands - 1; i >= 0; i--) {
        seqtopk_band *band = l->band + i;
        int32_t from = reaching(words, n, band->high);
        const int32_t to = from + reaching(words + from, n - from, band->low);
        band->above += from;
        for (; i > 0 && from < to; from++) {
            uint64_t *place = seqtopk_shelf_push(&band->words, purse);
            if (!place) { /* without memory the window does without rungs, until it has to be made anew */
                seqtopk_ladder_unsettle(l, l->total, purse);
                return;
            }
            *place = words[from];
        }
        for (; from < to; from++)
            insert_into_window(l, words[from]);
    }
    if (l->count > l->space - l->step)
        trim_window(l, places);
    if (l->quiet-- <= 0)
        look_after(l, log, places, purse);
}

/* ------------------------------------------------------------- taking back -- */

/* Takes words [n] of the last token, best first, out of a band. */
static void take_out(int i, seqtopk_band *band, uint64_t *window, int32_t *count, const uint64_t *words, int32_t n,
                     seqtopk_purse *purse) {
    const int32_t from = reaching(words, n, band->high), to = from + reaching(words + from, n - from, band->low);
    band->above -= from;
    if (i > 0 && to > from)
        seqtopk_shelf_cut(&band->words, band->words.size - (to - from), 0, purse);
    for (int32_t w = from; i == 0 && w < to; w++)
        take_from(window, count, words[w]);
}

void seqtopk_ladder_take_back(seqtopk_ladder *l, const seqtopk_log *log, const uint64_t *words, int32_t n,
                              seqtopk_purse *purse) {
    const int64_t token = log->tokens.size - 1;
    l->total -= n;
    l->quiet = 0;
    for (int i = 0; i < l->bands && l->is_settled; i++) {
        seqtopk_refill *refill = l->refill + i;
        if (!refill->is_active)
            continue;
        /* Of the token's words those that have been read. */
        int32_t from = 0, read = 0;
        if (refill->source == SEQTOPK_FROM_LOG) {
            read = refill->cursor > token ? n : 0;
            refill->cursor = refill->cursor > token ? token : refill->cursor;
        } else {
            const seqtopk_band *source = l->band + refill->source;
            from = reaching(words, n, source->high);
            const int32_t inside = reaching(words + from, n - from, source->low);
            const int64_t left = source->words.size - inside;
            read = refill->cursor > left ? (int32_t)(refill->cursor - left) : 0;
            refill->cursor = refill->cursor > left ? left : refill->cursor;
        }
        take_out(i, &refill->band, l->spare, &l->spare_count, words + from, read, purse);
    }
    for (int i = 0; i < l->bands && l->is_settled; i++)
        take_out(i, l->band + i, window_of(l), &l->count, words, n, purse);
}
