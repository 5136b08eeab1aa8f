/* SPDX-License-Identifier: MIT */
/* Words from all over a stream, about evenly spread, kept while it goes by: to guess where a rank is. No result depends on
 * which they are. */
#ifndef SEQTOPK_SRC_CACHE_SAMPLE_H
#define SEQTOPK_SRC_CACHE_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

typedef struct seqtopk_sample {
    int32_t count, most;
    uint32_t gap;  /* one of so many words is taken, a power of 2 */
    uint32_t wait; /* words that are let go until the next is taken */
    uint32_t seed;
    uint64_t words[]; /* [most], in the order of their tokens */
} seqtopk_sample;

/* Of at most so many words, an even number up to SEQTOPK_SAMPLE. */
enum { SEQTOPK_SAMPLE = 1024 };
static inline size_t seqtopk_sample_bytes(int32_t most) {
    return sizeof(seqtopk_sample) + (size_t)most * sizeof(uint64_t);
}

static inline void seqtopk_sample_clear(seqtopk_sample *sample, int32_t most) {
    *sample = (seqtopk_sample){.most = most, .gap = 1, .seed = 1};
}

/* Takes one of words [n] that were let go by: those about whose end `wait` ends. */
void seqtopk_sample_take(seqtopk_sample *sample, const uint64_t *words, int64_t n);
static inline void seqtopk_sample_pass(seqtopk_sample *sample, const uint64_t *words, int64_t n) {
    if (sample->wait >= n)
        sample->wait -= (uint32_t)n;
    else
        seqtopk_sample_take(sample, words, n);
}

/* Forgets words of tokens from `tokens` on. */
void seqtopk_sample_cut(seqtopk_sample *sample, int64_t tokens);

/*
 * The word beyond which, on one side of `about`, are `nth` words of the sample: 1 is the nearest. Returns `end` where there
 * are fewer.
 */
uint64_t seqtopk_sample_nearest(const seqtopk_sample *sample, uint64_t about, int32_t nth, int upward, uint64_t end);

#endif
