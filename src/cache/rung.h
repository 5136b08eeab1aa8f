/* SPDX-License-Identifier: MIT */
/* A rung: the words of the past between two words, picked from the log or from a larger rung and kept up since. */
#ifndef SEQTOPK_SRC_CACHE_RUNG_H
#define SEQTOPK_SRC_CACHE_RUNG_H

#include "src/cache/log.h"
#include "src/cache/sample.h"

typedef struct seqtopk_rung {
    seqtopk_shelf words;    /* in [low, high), by token */
    seqtopk_sample *sample; /* of them */
    uint64_t low, high;
    int64_t above; /* words of the past from `high` on */
} seqtopk_rung;

/* An empty rung for what is in [low, high). Returns 0 if there is no memory. */
int seqtopk_rung_make(seqtopk_rung *rung, uint64_t low, uint64_t high, seqtopk_purse *purse);
void seqtopk_rung_drop(seqtopk_rung *rung, seqtopk_purse *purse);
/* Makes *to an equal of *from. Returns 0 if there is no memory. */
int seqtopk_rung_copy(seqtopk_rung *to, seqtopk_rung *from, seqtopk_purse *purse);

/* Of its sample. */
size_t seqtopk_rung_bytes(void);

/* Of words [n], best first, how many are not below `limit`. */
static inline int32_t seqtopk_reaching(const uint64_t *words, int32_t n, uint64_t limit) {
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++)
        count += words[i] >= limit;
    return count;
}

/* Words [n] that come next, all in [low, high). Returns 0 if there is no memory. */
int seqtopk_rung_push(seqtopk_rung *rung, const uint64_t *words, int64_t n, seqtopk_purse *purse);
/* Those of the last token, which go. */
void seqtopk_rung_take_back(seqtopk_rung *rung, const uint64_t *words, int32_t n, seqtopk_purse *purse);

/* ---------------------------------------------------------------- reading -- */

/* Where words are picked from. */
typedef struct seqtopk_source {
    const seqtopk_log *log;
    const seqtopk_rung *rung; /* NULL: the log itself */
} seqtopk_source;

static inline int64_t seqtopk_source_size(const seqtopk_source *source) {
    return source->rung ? source->rung->words.size : source->log->tokens.size;
}

/* Picks the words in [low, high) from a source, some at a time, in the order of their tokens. */
typedef struct seqtopk_reader {
    uint64_t low, high;
    int64_t cursor; /* what has been read: words of a rung, or tokens of the log */
    int64_t above;  /* words read that are from `high` on */
} seqtopk_reader;

/* Takes what was picked; returns 0 if it cannot. */
typedef int seqtopk_sink(void *to, const uint64_t *words, int64_t n);

/* Reads on for about `budget` words. Returns 0 if the sink refused. */
int seqtopk_read_on(seqtopk_reader *reader, const seqtopk_source *source, int64_t budget, seqtopk_sink *sink, void *to);

/*
 * The last token of the log goes, whose words are these [n], best first: before the source lets go of them, the reader does.
 * Returns how many of those from *from on it has read and must be forgotten, as far as they are in [low, high).
 */
int32_t seqtopk_read_back(seqtopk_reader *reader, const seqtopk_source *source, const uint64_t *words, int32_t n,
                          int32_t *from);

#endif
