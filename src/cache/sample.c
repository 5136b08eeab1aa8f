/* SPDX-License-Identifier: MIT */
#include "src/cache/sample.h"
#include "arch/words.h"

enum { FEW = 16 }; /* words that tell a place well enough: off by a quarter, mostly */

/* Every other one is as good a sample of twice as many words. */
static void thin_out(seqtopk_sample *sample) {
    for (int32_t i = 0; i < sample->most / 2; i++)
        sample->words[i] = sample->words[2 * i + 1];
    sample->count = sample->most / 2;
    sample->gap *= 2;
}

void seqtopk_sample_take(seqtopk_sample *sample, const uint64_t *words, int64_t n) {
    int64_t at = sample->wait;
    for (; at < n; at += sample->wait + 1) {
        if (sample->count == sample->most)
            thin_out(sample);
        sample->words[sample->count++] = words[at];
        /* Not every gap-th: the words of a token are in their order, and there may be just so many. */
        sample->seed = sample->seed * 1664525u + 1013904223u;
        sample->wait = (sample->seed >> 8) % (2 * sample->gap - 1);
    }
    sample->wait = (uint32_t)(at - n);
}

void seqtopk_sample_cut(seqtopk_sample *sample, int64_t tokens) {
    while (sample->count > 0 && seqtopk_token_of(sample->words[sample->count - 1]) >= tokens)
        sample->count--;
}

/* The nth smallest of values, from 0: most of them are turned away at one glance. */
static uint64_t nth_smallest(const uint64_t *values, int32_t n, int32_t nth) {
    uint64_t least[2 * FEW] = {0};
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++) {
        if (count > nth && values[i] >= least[nth])
            continue;
        int32_t at = count > nth ? nth : count++;
        for (; at > 0 && least[at - 1] > values[i]; at--)
            least[at] = least[at - 1];
        least[at] = values[i];
    }
    return least[nth];
}

uint64_t seqtopk_sample_nearest(const seqtopk_sample *sample, uint64_t about, int32_t nth, int upward, uint64_t end) {
    uint64_t far[SEQTOPK_SAMPLE + 1]; /* distances, so that both sides are the smallest of something */
    const int32_t stride = nth > FEW ? nth / FEW : 1;
    int32_t n = 0;
    nth /= stride;
    for (int32_t i = 0; i < sample->count; i += stride) {
        const uint64_t word = sample->words[i];
        far[n] = upward ? word - about : about - word;
        n += upward ? word > about : word < about;
    }
    if (n < nth)
        return end;
    const uint64_t distance = nth_smallest(far, n, nth - 1);
    return upward ? about + distance : about - distance;
}
