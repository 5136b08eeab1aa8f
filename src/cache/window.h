/* SPDX-License-Identifier: MIT */
/* The window: the words about the cut, sorted. When the cut nears one of its ends it is extended there, by what is picked from
 * a source beforehand. */
#ifndef SEQTOPK_SRC_CACHE_WINDOW_H
#define SEQTOPK_SRC_CACHE_WINDOW_H

#include "src/cache/rung.h"

typedef struct seqtopk_window {
    uint64_t *sorted; /* [space], of which [first, first + count) are words, ascending */
    uint64_t low, high;
    int64_t above; /* words of the past from `high` on */
    int32_t first, count, target, space;
    /* The extension that is being picked, [reader.low, reader.high). */
    int32_t is_extending; /* 1: upward, -1: downward, 0: there is none */
    int32_t source;       /* its number in the ladder */
    uint64_t *extension;  /* [target], ascending */
    int32_t extension_count;
    seqtopk_reader reader;
} seqtopk_window;

/* Of about `target` words; that of a past that has none yet. Returns 0 if there is no memory. */
int seqtopk_window_make(seqtopk_window *window, int32_t target, seqtopk_purse *purse);
void seqtopk_window_free(seqtopk_window *window, seqtopk_purse *purse);
size_t seqtopk_window_bytes(const seqtopk_window *window);
/* As *from, of the same target, but without an extension. */
void seqtopk_window_copy(seqtopk_window *to, const seqtopk_window *from);

static inline uint64_t *seqtopk_window_words(const seqtopk_window *window) { return window->sorted + window->first; }

/* Words [n] that come to it, n <= SEQTOPK_INSERTED, best first, all in [low, high); then it may have grown too large. */
enum { SEQTOPK_INSERTED = 16 };
void seqtopk_window_insert(seqtopk_window *window, const uint64_t *words, int32_t n);
/* Lets go of what is far from the cut, which is at `rank`, if there is too much. */
void seqtopk_window_trim(seqtopk_window *window, int64_t rank);
/* The last token's words [n], best first, go again. */
void seqtopk_window_take_back(seqtopk_window *window, const uint64_t *words, int32_t n);
/* The same of the extension, before its source lets go of them. */
void seqtopk_window_forget(seqtopk_window *window, const seqtopk_source *source, const uint64_t *words, int32_t n);

/* Begins to pick what follows on one side, up to `end`. */
void seqtopk_window_extend(seqtopk_window *window, int is_upward, uint64_t end, int32_t source);
/* Reads on for about `budget` words; joins the extension once all is read, or gives it up where there is more than
 * fits. */
void seqtopk_window_read_on(seqtopk_window *window, const seqtopk_source *source, int64_t budget, int64_t rank);

/* Makes the window of words [n], best first, which are the past's in [low, high): those about index `at`. */
void seqtopk_window_fill(seqtopk_window *window, const uint64_t *words, int64_t n, uint64_t low, uint64_t high,
                         int64_t above, int64_t at);

#endif
