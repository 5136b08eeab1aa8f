/* SPDX-License-Identifier: MIT */
/* What one rank does with its own tokens: samples rows, counts keys, finds its cut. */
#include "src/team/team.h"

#include <math.h>

/* ----------------------------------------------------------------- sample -- */

/* Few rows, since all ranks have some: one in 64, but a small part is looked at whole. */
enum { LEAST_ROWS = 16, MOST_ROWS = 32, ROWS_BY_ONE = 64, WHOLE = 64 };

/* Where to begin in a stratum: no regular step, which what repeats itself in a sequence could be in time with. */
static uint32_t scatter(uint32_t i) {
    i = (i ^ i >> 16) * 0x7feb352dU;
    i = (i ^ i >> 15) * 0x846ca68bU;
    return i ^ i >> 16;
}

/* The next row of a stratum that is not masked, from a place of its own on; -1: all are. */
static int64_t row_of(const uint8_t *mask, int64_t from, int64_t to, uint32_t seed) {
    const int64_t size = to - from, begin = size > 0 ? scatter(seed) % size : 0;
    for (int64_t i = 0; i < size; i++) {
        const int64_t row = from + (begin + i) % size;
        if (!mask || mask[row])
            return row;
    }
    return -1;
}

static int64_t sampled_rows(const seqtopk_call *call, int64_t tokens, int64_t live) {
    int64_t n = tokens / ROWS_BY_ONE;
    n = n < LEAST_ROWS ? LEAST_ROWS : n > MOST_ROWS ? MOST_ROWS : n;
    n = n > call->plan->work_rows ? call->plan->work_rows : n;
    return live <= WHOLE ? tokens : n;
}

static void count_row(const seqtopk_team_call *t, const float *keys, int64_t *counts) {
    for (int32_t e = 0; e < t->call.rows.experts; e++)
        if (keys[e] > -INFINITY)
            counts[seqtopk_grid_bin(&t->grid, seqtopk_key_word(keys[e]))]++;
}

/* The variance of how many keys a row has above the sample's own cut, keys [rows, E]: rows are drawn, not keys, and some may
 * have many. */
static double variance_of(const seqtopk_team_call *t, const float *keys, int64_t rows, const int64_t *counts) {
    const int32_t experts = t->call.rows.experts, top_k = t->call.plan->desc.top_k;
    int32_t bin = t->grid.bins - 1;
    double sum = 0.0, squares = 0.0;
    for (int64_t all = counts[bin]; bin > 0 && all < rows * top_k;)
        all += counts[--bin];
    const float cut = seqtopk_word_key(seqtopk_grid_edge(&t->grid, bin));
    for (int64_t i = 0; i < rows; i++, keys += experts) {
        int32_t n = 0;
        for (int32_t e = 0; e < experts; e++)
            n += keys[e] >= cut;
        sum += n;
        squares += (double)n * n;
    }
    const double mean = sum / (double)rows, variance = squares / (double)rows - mean * mean;
    return variance > top_k ? variance : top_k; /* what draws of keys would have */
}

void seqtopk_team_sample(const seqtopk_team_call *t, int64_t s) {
    const seqtopk_call *call = &t->call;
    const int32_t experts = call->rows.experts;
    int64_t *share = seqtopk_team_share(t, s), *counts = share + SEQTOPK_SHARE_COUNTS, first, last;
    seqtopk_call_sequence(call, s, &first, &last);
    int64_t live = seqtopk_unmasked(call->in.token_mask, first, last), sampled = 0;
    const int64_t rows = sampled_rows(call, last - first, live), kept = call->plan->work_rows;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t from = first + (last - first) * i / rows, to = first + (last - first) * (i + 1) / rows;
        const int64_t row = row_of(call->in.token_mask, from, to, (uint32_t)i);
        float *keys = call->work.keys + (sampled < kept ? sampled : 0) * experts;
        if (row < 0)
            continue;
        if (seqtopk_rows_lse(call, row, row + 1) >= 0) {
            live--; /* it will be dropped, or fail */
            continue;
        }
        seqtopk_candidate_keys(call, row, row + 1, keys);
        count_row(t, keys, counts);
        sampled++;
    }
    /* Of all rows nothing is estimated. */
    const double variance = sampled < live ? variance_of(t, call->work.keys, sampled, counts) : 0.0;
    const int64_t weight = sampled > 0 ? (SEQTOPK_SAMPLE_UNIT * live + sampled / 2) / sampled : SEQTOPK_SAMPLE_UNIT;
    for (int32_t i = 0; i < t->grid.bins; i++)
        counts[i] *= weight;
    share[SEQTOPK_SHARE_LIVE] = live;
    share[SEQTOPK_SHARE_VARIANCE] =
        (int64_t)(variance * (double)(live - sampled) * (double)weight / (double)SEQTOPK_SAMPLE_UNIT);
}

/* ------------------------------------------------------------------- keys -- */

typedef void visit_fn(void *to, const float *keys, int64_t n);

/* All keys that this rank has of a sequence, or has collected. */
static void visit(const seqtopk_call *call, int64_t s, visit_fn *take, void *to) {
    int64_t first, last;
    seqtopk_call_sequence(call, s, &first, &last);
    if (call->sequence[s].way == SEQTOPK_WAY_staged) {
        const int64_t block = seqtopk_call_block(call);
        for (int64_t row = first, next; row < last; row = next) {
            next = seqtopk_block_end(row, last, block);
            seqtopk_candidate_keys(call, row, next, call->work.keys);
            take(to, call->work.keys, (next - row) * call->rows.experts);
        }
        return;
    }
    for (int32_t part = 0; part < call->parts; part++)
        if (seqtopk_call_run(call, s, part, &first, &last))
            take(to, seqtopk_run_candidates(call, s, part, first, last).order, call->runs[s + part].size);
}

typedef struct {
    const seqtopk_bracket *bracket;
    const seqtopk_grid *grid;
    int64_t *words;
    int64_t inside, above; /* inside: the place of the next key where keys are put */
} counting;

static void count(void *to, const float *keys, int64_t n) {
    counting *c = to;
    c->inside += seqtopk_bracket_count(c->bracket, c->grid, keys, n, c->words, &c->above);
}

static void put(void *to, const float *keys, int64_t n) {
    counting *c = to;
    c->inside = seqtopk_bracket_put(c->bracket, keys, n, c->words, c->inside);
}

int64_t seqtopk_team_inside(const seqtopk_team_call *t, int64_t s, int64_t *above) {
    counting c = {t->brackets + s, &t->grid, NULL, 0, 0};
    visit(&t->call, s, count, &c);
    *above = c.above;
    return c.inside;
}

void seqtopk_team_count(const seqtopk_team_call *t, int64_t s) {
    const seqtopk_bracket *b = t->brackets + s;
    int64_t *share = seqtopk_team_share(t, s), first, last;
    counting c = {b, &t->grid, share + SEQTOPK_SHARE_COUNTS, 0, 0};
    if (b->asked == SEQTOPK_ASK_KEYS) {
        c.inside = b->before;
        visit(&t->call, s, put, &c);
        return;
    }
    visit(&t->call, s, count, &c);
    seqtopk_call_sequence(&t->call, s, &first, &last);
    share[SEQTOPK_SHARE_LIVE] = seqtopk_unmasked(t->call.in.token_mask, first, last);
    share[SEQTOPK_SHARE_ABOVE] = c.above;
}

/* -------------------------------------------------------------------- cut -- */

seqtopk_cut seqtopk_team_cut(const seqtopk_team_call *t, int64_t s) {
    const seqtopk_bracket *b = t->brackets + s;
    const float key = seqtopk_word_key(b->low);
    int64_t first, last;
    if (b->quota == INT64_MAX)
        return (seqtopk_cut){key, INT32_MAX - 1, INT64_MAX};
    if (b->quota == 0)
        return (seqtopk_cut){key, -1, -1};
    seqtopk_call_sequence(&t->call, s, &first, &last);
    return t->call.sequence[s].way == SEQTOPK_WAY_staged ? seqtopk_find_staged(&t->call, first, last, key, b->quota)
                                                         : seqtopk_find_collected(&t->call, s, key, b->quota);
}
