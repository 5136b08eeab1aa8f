/* SPDX-License-Identifier: MIT */
/* What one rank does with its own tokens: samples rows, counts keys, finds its cut. */
#include "src/team/team.h"

#include <math.h>

/* ----------------------------------------------------------------- sample -- */

/* Few rows, since all ranks have some: one in 64, but a small part is looked at whole. */
enum { LEAST_ROWS = 16, MOST_ROWS = 128, ROWS_BY_ONE = 64, WHOLE = 64 };

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

static int64_t sampled_rows(const seqtopk_team_call *t, int64_t tokens, int64_t live) {
    const seqtopk_call *call = &t->call;
    int64_t n = tokens / ROWS_BY_ONE;
    n = n < LEAST_ROWS ? LEAST_ROWS : n > MOST_ROWS ? MOST_ROWS : n;
    n = n > call->plan->work_rows ? call->plan->work_rows : n;
    return live <= WHOLE || t->team.count_all ? tokens : n;
}

static void count_row(const seqtopk_team_call *t, const float *keys, int64_t *counts) {
    int32_t hint = 0;
    for (int32_t e = 0; e < t->call.rows.experts; e++)
        if (keys[e] > -INFINITY)
            counts[seqtopk_grid_bin(&t->grid, seqtopk_key_word(keys[e]), &hint)]++;
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
    const int64_t rows = sampled_rows(t, last - first, live), kept = call->plan->work_rows;
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

/* What is done with the keys in a bracket. */
typedef struct {
    const seqtopk_bracket *bracket;
    const seqtopk_grid *grid;
    int64_t *words;        /* NULL: they are only counted */
    uint32_t *kept;        /* [room]: where they are kept, or NULL */
    int64_t room;          /* what is left of it */
    int64_t inside, above; /* inside: the place of the next key where keys are put */
} counting;

static void use(counting *c, const uint32_t *picked, int32_t n) {
    if (c->words && c->bracket->asked == SEQTOPK_ASK_KEYS)
        for (int32_t i = 0; i < n; i++)
            c->words[c->inside + i] = picked[i];
    else if (c->words)
        seqtopk_bracket_count(c->bracket, c->grid, picked, n, c->words);
    c->inside += n;
}

enum { CHUNK = 1024 };

static void use_keys(void *to, const float *keys, int64_t n) {
    counting *c = to;
    uint32_t picked[CHUNK];
    for (int64_t at = 0; at < n; at += CHUNK) {
        const int32_t some = n - at < CHUNK ? (int32_t)(n - at) : CHUNK;
        if (c->room < some)
            c->kept = NULL;
        uint32_t *in = picked;
        if (c->kept)
            in = c->kept + c->inside;
        const int32_t m = seqtopk_bracket_pick(c->bracket, keys + at, some, in, &c->above);
        c->room -= m;
        use(c, in, m);
    }
}

/* The words that are kept of a wider bracket. */
static void use_kept(counting *c, const uint32_t *kept, int64_t n) {
    uint32_t picked[CHUNK];
    for (int64_t at = 0; at < n; at += CHUNK) {
        const int32_t some = n - at < CHUNK ? (int32_t)(n - at) : CHUNK;
        use(c, picked, seqtopk_bracket_pick_words(c->bracket, kept + at, some, picked));
    }
}

static void use_all(const seqtopk_team_call *t, int64_t s, counting *c) {
    const seqtopk_bracket *b = t->brackets + s;
    if (b->kept >= 0 && b->low >= b->kept_low && b->high <= b->kept_high)
        use_kept(c, t->kept + b->kept_at, b->kept);
    else
        visit(&t->call, s, use_keys, c);
}

int64_t seqtopk_team_inside(const seqtopk_team_call *t, int64_t s) {
    counting c = {.bracket = t->brackets + s};
    use_all(t, s, &c);
    return c.inside;
}

int64_t seqtopk_team_above(const seqtopk_team_call *t, int64_t s) {
    counting c = {.bracket = t->brackets + s};
    visit(&t->call, s, use_keys, &c);
    return c.above;
}

void seqtopk_team_count(seqtopk_team_call *t, int64_t s) {
    seqtopk_bracket *b = t->brackets + s;
    int64_t *share = seqtopk_team_share(t, s), first, last;
    counting c = {.bracket = b, .grid = &t->grid, .words = share + SEQTOPK_SHARE_COUNTS};
    if (b->asked != SEQTOPK_ASK_SPREAD) {
        c.words = t->words + b->at;
        c.inside = b->asked == SEQTOPK_ASK_KEYS ? b->before : 0;
        use_all(t, s, &c);
        return;
    }
    /* The first time: what is in the bracket is kept, since all that is asked later is most often of those. */
    c.kept = t->kept + t->kept_end;
    c.room = t->kept_most - t->kept_end;
    visit(&t->call, s, use_keys, &c);
    b->kept = c.kept && t->call.sequence[s].way != SEQTOPK_WAY_staged ? c.inside : -1;
    b->kept_at = t->kept_end;
    b->kept_low = b->low;
    b->kept_high = b->high;
    t->kept_end += b->kept > 0 ? b->kept : 0;
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
