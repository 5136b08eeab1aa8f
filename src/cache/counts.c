/* SPDX-License-Identifier: MIT */
#include "src/cache/counts.h"

#include "arch/kernel.h"
#include "arch/words.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------------- grid -- */

static uint16_t clamped(float bin) {
    return (uint16_t)(bin < 0 ? 0 : bin >= (float)SEQTOPK_BINS ? SEQTOPK_BINS - 1 : (int32_t)bin);
}

uint16_t seqtopk_bin_of(int32_t key, float value) {
    enum { LEAST_EXPONENT = 127 - 11, MANTISSA = 10 };
    if (key == SEQTOPK_KEY_LOGPROB) /* steps of 2^-11 down to a probability of exp(-7.5) */
        return clamped(floorf(value * 2048) + (float)SEQTOPK_BINS);
    if (key == SEQTOPK_KEY_LOGIT) /* steps of 2^-8 from -30 to 30 */
        return clamped(floorf(value * 256) + (float)(SEQTOPK_BINS / 2));
    /* Scores with a bias: ten bits of the mantissa, from 2^-11 to 16. */
    const int64_t bin = (int64_t)(seqtopk_digits_of(value) >> (23 - MANTISSA)) -
                        ((int64_t)(0x80000000u >> (23 - MANTISSA)) + (LEAST_EXPONENT << MANTISSA));
    return (uint16_t)(bin < 0 ? 0 : bin >= SEQTOPK_BINS ? SEQTOPK_BINS - 1 : bin);
}

/* ------------------------------------------------------------------ counts -- */

static size_t note_bytes(int32_t width) {
    return (sizeof(seqtopk_token_note) + (size_t)width * sizeof(uint16_t) + 3) & ~(size_t)3;
}

int32_t seqtopk_counts_depth(int32_t width) {
    return (int32_t)((SEQTOPK_COUNTS_BYTES - sizeof(seqtopk_counts)) / note_bytes(width));
}

size_t seqtopk_counts_bytes(int32_t width, int32_t depth) {
    return sizeof(seqtopk_counts) + (size_t)depth * note_bytes(width);
}

void seqtopk_counts_init(seqtopk_counts *counts, int32_t width, int32_t depth) {
    memset(counts, 0, seqtopk_counts_bytes(width, depth));
    counts->width = width;
    counts->depth = depth;
}

seqtopk_token_note *seqtopk_counts_note(const seqtopk_counts *counts, int64_t token) {
    char *notes = (char *)(uintptr_t)(counts + 1);
    return (seqtopk_token_note *)(void *)(notes + (size_t)(token % counts->depth) * note_bytes(counts->width));
}

/* How many keys are in bin b or above. */
static int64_t count_from(const seqtopk_counts *counts, int32_t b) {
    int64_t count = 0;
    int32_t i = b;
    for (; i % 32 && i < SEQTOPK_BINS; i++)
        count += counts->bin[i];
    for (i /= 32; i % 32 && i < SEQTOPK_BIN_BLOCKS; i++)
        count += counts->block[i];
    for (i /= 32; i < SEQTOPK_BIN_GROUPS; i++)
        count += counts->group[i];
    return count;
}

/* Where the first `places` keys end: in `bin`, above which are so many; inside: it is so, and not beyond all keys. */
typedef struct cut {
    int64_t places, above;
    int32_t bin, inside;
} cut;

/* From where it was last, since a token moves it by little. */
static cut find_cut(seqtopk_counts *counts, int64_t places) {
    enum { NEAR = 64 };
    int32_t bin = counts->hint >= 0 && counts->hint < SEQTOPK_BINS ? counts->hint : 0, left = NEAR;
    int64_t above = count_from(counts, bin + 1);
    for (; above >= places && bin < SEQTOPK_BINS - 1 && left > 0; left--)
        above -= counts->bin[++bin];
    for (; above + counts->bin[bin] < places && bin > 0 && left > 0; left--)
        above += counts->bin[bin--];
    if (left == 0)
        above = seqtopk_counts_cut(counts, places, &bin);
    counts->hint = bin;
    return (cut){places, above, bin, above < places && above + counts->bin[bin] >= places};
}

/* Whether the keys in bin b or above it, and n more, are fewer than the places: told by the cut, but for a few bins. */
static inline int has_place(const seqtopk_counts *counts, const cut *at, int32_t b, int32_t n) {
    if (at->inside && b <= at->bin)
        return 0;
    return (b > at->bin && at->above + n < at->places) || count_from(counts, b) + n < at->places;
}

int32_t seqtopk_counts_winners(seqtopk_counts *counts, const uint16_t *bins, int32_t n, int64_t places) {
    const cut at = find_cut(counts, places);
    int32_t winners = 0;
    while (winners < n && has_place(counts, &at, bins[winners], winners))
        winners++;
    for (int32_t j = winners; j < n && has_place(counts, &at, bins[j] + 1, j); j++)
        counts->doubtful++;
    return winners;
}

static void count(seqtopk_counts *counts, uint16_t bin, uint32_t n) {
    counts->bin[bin] += n;
    counts->block[bin / 32] += n;
    counts->group[bin / 1024] += n;
}

seqtopk_token_note *seqtopk_counts_add(seqtopk_counts *counts, const uint16_t *bins, int32_t n) {
    seqtopk_token_note *note = seqtopk_counts_note(counts, counts->tokens++);
    counts->held += counts->held < counts->depth;
    for (int32_t j = 0; j < counts->width; j++) {
        seqtopk_note_bins(note)[j] = j < n ? bins[j] : SEQTOPK_BINS;
        if (j < n)
            count(counts, bins[j], 1);
    }
    return note;
}

const seqtopk_token_note *seqtopk_counts_take_back(seqtopk_counts *counts) {
    seqtopk_token_note *note = seqtopk_counts_note(counts, --counts->tokens);
    counts->held--;
    for (int32_t j = 0; j < counts->width && seqtopk_note_bins(note)[j] < SEQTOPK_BINS; j++)
        count(counts, seqtopk_note_bins(note)[j], UINT32_MAX); /* less 1 */
    return note;
}

int64_t seqtopk_counts_cut(const seqtopk_counts *counts, int64_t places, int32_t *bin) {
    int64_t above = 0;
    int32_t group = SEQTOPK_BIN_GROUPS - 1;
    for (; group > 0 && above + counts->group[group] < places; group--)
        above += counts->group[group];
    int32_t block = group * 32 + 31;
    for (; block > group * 32 && above + counts->block[block] < places; block--)
        above += counts->block[block];
    for (*bin = block * 32 + 31; *bin > block * 32 && above + counts->bin[*bin] < places; --*bin)
        above += counts->bin[*bin];
    return above;
}

int seqtopk_counts_are_sound(const seqtopk_counts *counts) {
    int fine =
        counts->tokens >= 0 && counts->held >= 0 && counts->held <= counts->depth && counts->held <= counts->tokens;
    for (int32_t i = 0; i < SEQTOPK_BIN_BLOCKS && fine; i++) {
        uint32_t sum = 0;
        for (int32_t b = 0; b < 32; b++)
            sum += counts->bin[i * 32 + b];
        fine = sum == counts->block[i];
    }
    for (int32_t i = 0; i < SEQTOPK_BIN_GROUPS && fine; i++) {
        uint32_t sum = 0;
        for (int32_t b = 0; b < 32; b++)
            sum += counts->block[i * 32 + b];
        fine = sum == counts->group[i];
    }
    for (int64_t t = counts->tokens - counts->held; t < counts->tokens && fine; t++)
        for (int32_t j = 0; j < counts->width; j++)
            fine &= seqtopk_note_bins(seqtopk_counts_note(counts, t))[j] <= SEQTOPK_BINS;
    return fine;
}
