/* SPDX-License-Identifier: MIT */
#include "src/team/bracket.h"

#include <math.h>

/* ------------------------------------------------------------------- grid -- */

seqtopk_grid seqtopk_grid_of(int32_t bins, int is_negative) {
    const uint32_t zero = UINT32_C(1) << 31, fine_from = UINT32_C(123) << 23, fine_to = UINT32_C(132) << 23;
    seqtopk_grid g = {.from = {SEQTOPK_WORD_LEAST, zero - fine_to, zero - fine_from, zero + fine_from, zero + fine_to,
                               SEQTOPK_WORD_CERTAIN}};
    for (int32_t fine = 12; fine <= 25; fine++) {
        for (int i = 0; i < SEQTOPK_GRID_SEGMENTS; i++) {
            g.shift[i] = is_negative && i > 2 ? 31 : i == 1 || i == 3 ? fine : fine + 6;
            const uint32_t span = g.from[i + 1] - g.from[i];
            g.base[i + 1] = g.base[i] + (int32_t)((span - 1) >> g.shift[i]) + 1;
        }
        g.bins = g.base[SEQTOPK_GRID_SEGMENTS] + 1;
        if (g.bins <= bins)
            break;
    }
    return g;
}

uint32_t seqtopk_grid_edge(const seqtopk_grid *g, int32_t bin) {
    int i = 0;
    while (i < SEQTOPK_GRID_SEGMENTS && bin >= g->base[i + 1])
        i++;
    return i == SEQTOPK_GRID_SEGMENTS ? SEQTOPK_WORD_CERTAIN
                                      : g->from[i] + ((uint32_t)(bin - g->base[i]) << g->shift[i]);
}

static uint32_t last_of(const seqtopk_grid *g, int32_t bin) {
    return bin == g->bins - 1 ? SEQTOPK_WORD_CERTAIN : seqtopk_grid_edge(g, bin + 1) - 1;
}

/* --------------------------------------------------------------- counters -- */

/* Several counters in a word where none can overflow; the uppermost bit of each is left, so that sums keep their sign. */
static int32_t bits_for(int64_t most) {
    int32_t bits = 64;
    while (bits > 4 && most < INT64_C(1) << (bits / 2 - 1))
        bits /= 2;
    return bits;
}

static int64_t counters_of(const seqtopk_bracket *b, int32_t words) { return (int64_t)words * (64 / b->bits); }

static inline void add_one(int64_t *words, uint32_t i, int32_t bits) {
    const uint32_t at = i * (uint32_t)bits; /* in bits: some 2,000 words of 64 */
    words[at / 64] += INT64_C(1) << at % 64;
}

static int64_t counter(const int64_t *words, int64_t i, int32_t bits) {
    const int64_t lanes = 64 / bits;
    const uint64_t word = (uint64_t)words[i / lanes] >> (i % lanes * bits);
    return (int64_t)(bits == 64 ? word : word & ((UINT64_C(1) << bits) - 1));
}

/* ----------------------------------------------------------------- sample -- */

/* Divides the bins of the grid that are in the bracket, the more the more of the sample they have. */
static void spread(seqtopk_bracket *b, const seqtopk_grid *grid, const int64_t *weights, int32_t words) {
    const int32_t n = b->last_bin - b->first_bin + 1;
    const double left = (double)(counters_of(b, words) - n);
    double all = 0.0;
    int32_t at = 0;
    for (int32_t i = 0; i < n; i++)
        all += (double)weights[b->first_bin + i];
    for (int32_t i = 0; i < n; i++) {
        const uint32_t span = last_of(grid, b->first_bin + i) - seqtopk_grid_edge(grid, b->first_bin + i);
        const double share = all > 0.0 ? (double)weights[b->first_bin + i] / all : 1.0 / n;
        const uint32_t counters = 1 + (uint32_t)(left * share);
        b->bases[i] = at;
        b->widths[i] = span / counters + 1;
        at += (int32_t)(span / b->widths[i]) + 1;
    }
}

float seqtopk_bracket_begin(seqtopk_bracket *b, const seqtopk_grid *grid, const int64_t *weights, int32_t words,
                            int64_t live, int32_t top_k, int64_t most, double variance) {
    const double unit = SEQTOPK_SAMPLE_UNIT, budget = (double)live * top_k;
    /* Four standard deviations, and what a row or two may bring in the smallest samples. */
    const double margin = variance > 0.0 ? 4.0 * sqrt(variance) + 2.0 * top_k : 0.0;
    double sum = 0.0;
    int32_t hint = 0;
    b->budget = live * top_k;
    b->above = 0;
    b->kept = -1;
    b->inside = b->most = most;
    b->is_staged = 0;
    b->asked = SEQTOPK_ASK_SPREAD;
    b->bits = bits_for(most);
    b->first_bin = 0;
    b->last_bin = -1;
    for (int32_t bin = grid->bins - 1; bin >= 0; bin--) {
        sum += (double)weights[bin];
        if (b->last_bin < 0 && sum >= (budget - margin) * unit && sum > 0.0)
            b->last_bin = bin;
        if (sum >= (budget + margin) * unit) {
            b->first_bin = bin;
            break;
        }
    }
    b->last_bin = b->last_bin < 0 ? 0 : b->last_bin;
    if (live == 0) { /* there is nothing to give, and nobody to give it to */
        b->low = b->high = SEQTOPK_WORD_CERTAIN;
        b->quota = INT64_MAX;
        b->asked = SEQTOPK_ASK_NOTHING;
        return 1e30f;
    }
    const uint32_t edge = seqtopk_grid_edge(grid, b->first_bin), least = seqtopk_key_word(-1e30f);
    float low = seqtopk_word_key(edge);
    low = low < -1e30f ? -1e30f : low > 1e30f ? 1e30f : low; /* what kernels take */
    b->is_staged = sum < budget * unit;                      /* there are too few */
    for (int32_t bin = b->first_bin; edge < least && bin <= seqtopk_grid_bin(grid, least, &hint); bin++)
        b->is_staged |= weights[bin] > 0;
    b->low = b->complete = b->is_staged || edge > least ? edge : least;
    b->first_bin = seqtopk_grid_bin(grid, b->low, &hint);
    b->last_bin = b->last_bin < b->first_bin ? b->first_bin : b->last_bin;
    spread(b, grid, weights, words);
    b->high = last_of(grid, b->last_bin);
    return low;
}

/* ------------------------------------------------------------- own counts -- */

/* Compared as floats, which compilers make vectors of. */
int32_t seqtopk_bracket_pick(const seqtopk_bracket *b, const float *keys, int32_t n, uint32_t *picked, int64_t *above) {
    const uint32_t minus_zero = (UINT32_C(1) << 31) - 1; /* no key's word, but a float that equals zero */
    const float low = seqtopk_word_key(b->low), high = seqtopk_word_key(b->high == minus_zero ? b->high - 1 : b->high);
    int32_t m = 0, more = 0;
    for (int32_t i = 0; i < n; i++)
        more += keys[i] > high;
    for (int32_t i = 0; i < n; i++) {
        memcpy(picked + m, keys + i, sizeof *picked);
        m += (keys[i] >= low) & (keys[i] <= high);
    }
    for (int32_t i = 0; i < m; i++) {
        float key;
        memcpy(&key, picked + i, sizeof key);
        picked[i] = seqtopk_key_word(key);
    }
    *above += more;
    return m;
}

int32_t seqtopk_bracket_pick_words(const seqtopk_bracket *b, const uint32_t *from, int32_t n, uint32_t *picked) {
    int32_t m = 0;
    for (int32_t i = 0; i < n; i++) {
        const uint32_t word = from[i];
        picked[m] = word;
        m += (word >= b->low) & (word <= b->high);
    }
    return m;
}

void seqtopk_bracket_count(const seqtopk_bracket *b, const seqtopk_grid *grid, const uint32_t *picked, int32_t n,
                           int64_t *words) {
    if (b->asked != SEQTOPK_ASK_SPREAD) {
        for (int32_t i = 0; i < n; i++)
            add_one(words, (picked[i] - b->low) / b->width, b->bits);
        return;
    }
    for (int32_t i = 0, hint = 0; i < n; i++) {
        const uint32_t word = picked[i];
        const int32_t bin = seqtopk_grid_bin(grid, word, &hint) - b->first_bin;
        const uint32_t in =
            hint == SEQTOPK_GRID_SEGMENTS ? 0 : (word - grid->from[hint]) & ((UINT32_C(1) << grid->shift[hint]) - 1);
        add_one(words, (uint32_t)b->bases[bin] + in / b->widths[bin], b->bits);
    }
}

/* ------------------------------------------------------------------- sums -- */

/* The bracket is one key, or all of it is selected: what is left to know? */
static int is_found(seqtopk_bracket *b) {
    if (b->inside == b->budget - b->above) {
        b->high = b->low; /* no key is between its least word and the last that is selected */
        b->quota = INT64_MAX;
        b->asked = SEQTOPK_ASK_NOTHING;
        return 1;
    }
    if (b->low != b->high)
        return 0;
    b->quota = INT64_MAX;
    b->asked = b->low == SEQTOPK_WORD_CERTAIN ? SEQTOPK_ASK_NOTHING : SEQTOPK_ASK_TIES;
    return 1;
}

/* How to look into the bracket, of which `inside` keys are known to be in it, or can be. */
static void ask(seqtopk_bracket *b, int32_t words) {
    const int64_t span = (int64_t)b->high - b->low;
    b->bits = bits_for(b->inside);
    b->width = (uint32_t)(span / counters_of(b, words)) + 1;
    b->asked = b->width > 1 && b->inside <= words ? SEQTOPK_ASK_KEYS : SEQTOPK_ASK_DIGITS;
}

int64_t seqtopk_bracket_words(const seqtopk_bracket *b) {
    const int64_t bins = (int64_t)(b->high - b->low) / b->width + 1;
    return b->asked == SEQTOPK_ASK_KEYS ? b->inside : (bins * b->bits + 63) / 64;
}

/* Too few candidates down to what was collected: all others are looked at. */
static void look_below(seqtopk_bracket *b, int32_t words) {
    if (b->complete == SEQTOPK_WORD_LEAST) {
        b->low = b->high = SEQTOPK_WORD_LEAST; /* there are no more */
        b->quota = INT64_MAX;
        b->asked = SEQTOPK_ASK_NOTHING;
        return;
    }
    b->high = b->complete - 1;
    b->low = SEQTOPK_WORD_LEAST;
    b->complete = SEQTOPK_WORD_LEAST;
    b->is_staged = 1;
    b->inside = b->most;
    ask(b, words);
}

static void narrow(seqtopk_bracket *b, uint32_t low, uint32_t high, int64_t above, int64_t inside, int32_t words) {
    b->low = low > b->low ? low : b->low;
    b->high = high < b->high ? high : b->high;
    b->above = above;
    b->inside = inside;
    if (!is_found(b))
        ask(b, words);
}

static void read_spread(seqtopk_bracket *b, const seqtopk_grid *grid, const int64_t *sums, int32_t words,
                        int64_t above) {
    if (above >= b->budget) {
        b->low = b->high == SEQTOPK_WORD_CERTAIN ? b->high : b->high + 1;
        b->high = SEQTOPK_WORD_CERTAIN;
        narrow(b, b->low, b->high, 0, above, words);
        return;
    }
    for (int32_t i = b->last_bin - b->first_bin; i >= 0; i--) {
        const uint32_t from = seqtopk_grid_edge(grid, b->first_bin + i);
        const uint32_t span = last_of(grid, b->first_bin + i) - from;
        for (int64_t part = span / b->widths[i]; part >= 0; part--) {
            const int64_t inside = counter(sums, b->bases[i] + part, b->bits);
            if (above + inside >= b->budget) {
                const uint64_t low = from + (uint64_t)part * b->widths[i];
                const uint64_t high = low + b->widths[i] - 1, most = (uint64_t)from + span;
                narrow(b, (uint32_t)low, (uint32_t)(high < most ? high : most), above, inside, words);
                return;
            }
            above += inside;
        }
    }
    b->above = above;
    look_below(b, words);
}

static void read_digits(seqtopk_bracket *b, const int64_t *sums, int32_t words) {
    int64_t above = b->above;
    for (int64_t i = (b->high - b->low) / b->width; i >= 0; i--) {
        const int64_t inside = counter(sums, i, b->bits);
        if (above + inside >= b->budget) {
            const uint64_t low = b->low + (uint64_t)i * b->width, high = low + b->width - 1;
            narrow(b, (uint32_t)low, high < b->high ? (uint32_t)high : b->high, above, inside, words);
            return;
        }
        above += inside;
    }
    b->above = above;
    look_below(b, words);
}

/* The keys are all here, in the order of ranks: what is the cut's, and how many equal ones does each rank have? */
static void read_keys(seqtopk_bracket *b, const int64_t *sums) {
    const int64_t n = b->inside, wanted = b->budget - b->above;
    int64_t low = b->low, high = b->high, before = 0, own = 0;
    while (low < high) { /* the largest word that `wanted` of them reach */
        const int64_t middle = low + (high - low + 1) / 2;
        int64_t reach = 0;
        for (int64_t i = 0; i < n; i++)
            reach += sums[i] >= middle;
        if (reach >= wanted)
            low = middle;
        else
            high = middle - 1;
    }
    b->inside = 0;
    for (int64_t i = 0; i < n; i++) {
        b->above += sums[i] > low;
        b->inside += sums[i] == low;
        before += i < b->before && sums[i] == low;
        own += i >= b->before && i < b->before + b->own && sums[i] == low;
    }
    b->low = b->high = (uint32_t)low;
    b->before = before;
    b->own = own;
    b->asked = SEQTOPK_ASK_NOTHING;
    if (b->low != SEQTOPK_WORD_CERTAIN)
        seqtopk_bracket_share(b);
    else
        b->quota = INT64_MAX;
}

void seqtopk_bracket_read(seqtopk_bracket *b, const seqtopk_grid *grid, const int64_t *sums, int32_t words,
                          int64_t above) {
    if (b->asked == SEQTOPK_ASK_SPREAD)
        read_spread(b, grid, sums, words, above);
    else if (b->asked == SEQTOPK_ASK_DIGITS)
        read_digits(b, sums, words);
    else if (b->asked == SEQTOPK_ASK_KEYS)
        read_keys(b, sums);
}

void seqtopk_bracket_share(seqtopk_bracket *b) {
    const int64_t left = b->budget - b->above - b->before;
    b->quota = left < 0 ? 0 : left < b->own ? left : b->own;
    if (b->quota == b->own)
        b->quota = INT64_MAX;
    b->asked = SEQTOPK_ASK_NOTHING;
}
