/* SPDX-License-Identifier: MIT */
/*
 * Long sequences token by token, against an oracle that knows nothing of windows: how many of the past's keys come before a
 * key is counted in a Fenwick tree over all keys that the trace will ever have, in their order. On the way tokens are taken
 * back and the sequence is copied. That ids and weights are right too is the fuzzer's part (tests/fuzz/cache.c).
 */
#include "check.h"

#include <seqtopk/seqtopk.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_READ = 16384 };
enum { SPARE_BYTES = 96 << 10 }; /* what an empty sequence has, and what is not full of the chunks of rungs */

typedef enum kind { RANDOM, RISING, FALLING, ALTERNATING, SWINGING, EQUAL, FEW, KINDS } kind;
static const char *const kind_names[] = {"random",   "rising",    "falling",   "alternating",
                                         "swinging", "all equal", "few values"};

typedef struct trace {
    int64_t rows; /* that will be taken, those that are taken back among them */
    int32_t experts, top_k, min, max, width;
    float *logits;  /* [rows, experts] */
    int64_t *place; /* [rows, width]: of each key that competes, in the order of all, from 1 */
    int32_t *tree;  /* [rows * width + 1] */
    int64_t *live;  /* [rows]: the rows of the present tokens */
    int64_t length;
    int64_t held; /* tokens that a compact cache can take back */
    int *late;    /* counts steps that read too much, where that is no failure */
} trace;

/* ------------------------------------------------------------------ trace -- */

static float base_of(kind how, int64_t row, int64_t rows) {
    const float at = (float)row / (float)rows;
    int log = 0;
    while (row >> log > 1)
        log++;
    switch (how) {
    case RISING: return 100 * at;
    case FALLING: return -100 * at;
    case ALTERNATING: return row & 1 ? 50.0f : -50.0f;
    case SWINGING: return (log & 1 ? 50.0f : -50.0f) * (1 + at);
    default: return 0;
    }
}

static int falling(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* A key of the trace: rows ascend as tokens do, so that of equals the lower row comes first. */
typedef struct entry {
    float key;
    int64_t number;
} entry;

static int in_order(const void *a, const void *b) {
    const entry *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key) - (x->key > y->key) : (x->number > y->number) - (x->number < y->number);
}

/* `grid`: logits are multiples of 2^-8 between -30 and 30, which a compact cache keeps as they are. */
static void make_trace(trace *t, kind how, int64_t rows, int32_t experts, int32_t top_k, int32_t min, int32_t max,
                       int grid) {
    *t = (trace){.rows = rows, .experts = experts, .top_k = top_k, .min = min, .max = max, .width = max - min};
    const size_t keys = (size_t)rows * (size_t)t->width;
    entry *all = check_alloc(keys, sizeof *all);
    float *row = check_alloc((size_t)experts, sizeof *row);
    t->logits = check_alloc((size_t)rows * (size_t)experts, sizeof *t->logits);
    t->place = check_alloc(keys, sizeof *t->place);
    t->tree = check_alloc(keys + 1, sizeof *t->tree);
    t->live = check_alloc((size_t)rows, sizeof *t->live);
    memset(t->tree, 0, (keys + 1) * sizeof *t->tree);
    for (int64_t r = 0; r < rows; r++) {
        float *to = t->logits + r * experts;
        for (int32_t e = 0; e < experts; e++)
            to[e] = how == EQUAL ? 1.0f
                    : how == FEW ? (float)random_below(&run.random, 5)
                                 : base_of(how, r, rows) + (float)random_normal(&run.random);
        for (int32_t e = 0; e < experts && grid; e++) {
            const float value = floorf(to[e] * 256) / 256;
            to[e] = value < -30 ? -30 : value >= 30 ? 30 - 1.0f / 256 : value;
        }
        memcpy(row, to, (size_t)experts * sizeof *row);
        qsort(row, (size_t)experts, sizeof *row, falling);
        for (int32_t j = 0; j < t->width; j++)
            all[r * t->width + j] = (entry){row[min + j], r * t->width + j};
    }
    qsort(all, keys, sizeof *all, in_order);
    for (size_t i = 0; i < keys; i++)
        t->place[all[i].number] = (int64_t)i + 1;
    free(all);
    free(row);
}

static void free_trace(trace *t) {
    free(t->logits);
    free(t->place);
    free(t->tree);
    free(t->live);
}

static void count_in(trace *t, int64_t row, int32_t n) {
    for (int32_t j = 0; j < t->width; j++)
        for (int64_t i = t->place[row * t->width + j]; i <= t->rows * t->width; i += i & -i)
            t->tree[i] += n;
}

static int64_t counted_upto(const trace *t, int64_t place) {
    int64_t count = 0;
    for (int64_t i = place; i > 0; i -= i & -i)
        count += t->tree[i];
    return count;
}

/* The next token: how many experts it must be given. */
static int32_t expect_next(trace *t, int64_t row) {
    t->live[t->length++] = row;
    count_in(t, row, 1);
    const int64_t places = t->length * (t->top_k - t->min);
    int32_t given = t->min;
    while (given < t->max && counted_upto(t, t->place[row * t->width + given - t->min]) <= places)
        given++;
    return given;
}

static void take_back(trace *t, int64_t n) {
    for (; n > 0; n--)
        count_in(t, t->live[--t->length], -1);
}

/* -------------------------------------------------------------------- run -- */

typedef struct decoder {
    seqtopk_plan *plan;
    seqtopk_cache *cache;
    void *scratch;
    size_t size;
    seqtopk_error error;
    int32_t sequence;
} decoder;

static int open_decoder(decoder *d, const trace *t, const char *isa, const char *kernel, seqtopk_cache_mode mode) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_cache_desc cache = SEQTOPK_CACHE_DESC_INIT;
    *d = (decoder){.error = SEQTOPK_ERROR_INIT};
    desc.experts = t->experts;
    desc.top_k = t->top_k;
    desc.scope = SEQTOPK_SCOPE_ONLINE;
    desc.score = SEQTOPK_SCORE_LOGITS;
    desc.min_experts = t->min;
    desc.max_experts = t->max;
    desc.isa = isa;
    desc.kernel = kernel;
    desc.tuning = seqtopk_tuning_none();
    if (!check_that(seqtopk_plan_create(&d->plan, &desc, &d->error) == SEQTOPK_OK, "%s", d->error.message))
        return 0;
    cache.layers = 1;
    cache.sequences = 2;
    cache.plan = d->plan;
    cache.mode = mode;
    if (!check_that(seqtopk_cache_create(&d->cache, &cache, &d->error) == SEQTOPK_OK, "%s", d->error.message))
        return 0;
    d->size = seqtopk_cache_scratch_size(d->cache, 1, 1);
    d->scratch = check_alloc(d->size, 1);
    return 1;
}

static void close_decoder(decoder *d) {
    seqtopk_cache_destroy(d->cache);
    seqtopk_plan_destroy(d->plan);
    free(d->scratch);
}

/* Steps through one row; returns how many experts it is given, or -1. */
static int32_t step(decoder *d, const trace *t, int64_t row) {
    int32_t offsets[2], ids[64], way;
    float weights[64];
    const uint32_t asked = random_below(&run.random, 4);
    seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    rows.sequences = &d->sequence;
    in.logits = t->logits + row * t->experts;
    in.tokens = 1;
    out.token_offsets = offsets;
    out.expert_ids = ids;
    out.weights = asked & 1 ? weights : NULL;
    out.ways = asked == 3 ? &way : NULL; /* not the straight line of a row that asks for less */
    out.capacity = seqtopk_max_selected(d->plan, 1);
    return seqtopk_cache_step(d->cache, &rows, &in, &out, d->scratch, d->size, &d->error) ? -1 : offsets[1];
}

enum { HELD = 74 }; /* of a compact cache, at the least */

/* Tokens back, few or many, or on with a copy. */
static void live_on(decoder *d, trace *t, int is_compact) {
    const uint32_t what = random_below(&run.random, 64);
    if (what == 0) {
        const int32_t other = 1 - d->sequence;
        check_that(seqtopk_cache_copy(d->cache, other, d->sequence, -1, &d->error) == SEQTOPK_OK, "%s",
                   d->error.message);
        if (random_below(&run.random, 2))
            check_that(seqtopk_cache_clear(d->cache, d->sequence, &d->error) == SEQTOPK_OK, "%s", d->error.message);
        d->sequence = other;
        return;
    }
    if (what > 4)
        return;
    const int64_t most = what == 1 ? 300 : 9, n = (int64_t)random_below(&run.random, (uint32_t)most),
                  most_back = is_compact && t->held < t->length ? t->held : t->length,
                  back = n < most_back ? n : most_back;
    t->held -= back;
    take_back(t, back);
    check_that(seqtopk_cache_truncate(d->cache, d->sequence, t->length, &d->error) == SEQTOPK_OK, "%s",
               d->error.message);
}

static void check_memory(const decoder *d, const trace *t, int is_compact) {
    seqtopk_cache_stats stats = SEQTOPK_CACHE_STATS_INIT;
    check_that(seqtopk_cache_get_stats(d->cache, 0, d->sequence, &stats) == SEQTOPK_OK, "no statistics");
    /* With few keys of a token what is noted of it beside them shows, and rungs that are being picked anew. */
    const int64_t each = 8 + (t->width < 9 ? 12 : 8) * t->width;
    const int64_t most = is_compact ? 64 << 10 : each * t->length + SPARE_BYTES, all = stats.bytes + stats.shared_bytes;
    check_that(all <= most, "%lld tokens take %lld bytes, more than %lld", (long long)t->length, (long long)all,
               (long long)most);
}

/* A compact cache that is not on the grid may give a token less, but counts where it might. */
static void check_doubts(const decoder *d, int64_t missing) {
    seqtopk_cache_stats stats = SEQTOPK_CACHE_STATS_INIT;
    check_that(seqtopk_cache_get_stats(d->cache, 0, d->sequence, &stats) == SEQTOPK_OK, "no statistics");
    check_that(missing <= stats.doubtful, "%lld pairs are missing, and %lld were doubtful", (long long)missing,
               (long long)stats.doubtful);
    check_that(stats.doubtful * 100 <= stats.pairs, "%lld of %lld pairs are doubtful", (long long)stats.doubtful,
               (long long)stats.pairs);
}

/* Without tokens taken back no step reads much of the past, whatever the keys do: nothing is made anew. */
static void check_largest_step(const decoder *d, const trace *t) {
    seqtopk_cache_stats stats = SEQTOPK_CACHE_STATS_INIT;
    const int32_t step = t->top_k > t->width ? t->top_k : t->width;
    check_that(seqtopk_cache_get_stats(d->cache, 0, d->sequence, &stats) == SEQTOPK_OK, "no statistics");
    const int is_late = stats.most_read > MOST_READ + 64 * step;
    if (t->late)
        *t->late += is_late;
    else
        check_that(!is_late, "a step read %lld keys of %lld", (long long)stats.most_read,
                   (long long)(t->length * t->width));
}

static void follow(trace *t, const char *isa, const char *kernel, int lives, seqtopk_cache_mode mode, int grid) {
    decoder d;
    const int is_compact = mode == SEQTOPK_CACHE_COMPACT;
    int64_t missing = 0;
    if (!open_decoder(&d, t, isa, kernel, mode))
        return;
    for (int64_t row = 0; row < t->rows; row++) {
        const int32_t given = step(&d, t, row), expected = expect_next(t, row);
        const int fine = is_compact && !grid ? given >= t->min && given <= expected : given == expected;
        if (!check_that(fine, "token %lld is given %d experts, not %d: %s", (long long)t->length - 1, (int)given,
                        (int)expected, d.error.message))
            break;
        missing += expected - given;
        t->held += t->held < HELD;
        if (lives)
            live_on(&d, t, is_compact);
        if (row % 1024 == 0)
            check_memory(&d, t, is_compact);
    }
    if (is_compact && !grid)
        check_doubts(&d, missing);
    if (!is_compact && !lives)
        check_largest_step(&d, t);
    close_decoder(&d);
}

/* Many beginnings: what is made for a past that grows is made for the first time there. */
static void check_decode_short(void) {
    for (int i = 0; i < (run.quick ? 60 : 600); i++) {
        const int32_t experts = 10 + (int32_t)random_below(&run.random, 8),
                      how = (int32_t)random_below(&run.random, KINDS);
        const int32_t top_k = 3 + (int32_t)random_below(&run.random, 6), min = (int32_t)random_below(&run.random, 3);
        trace t;
        check_context("decode %s E=%d K=%d [%d, 10], a beginning (seed %llu)", kind_names[how], (int)experts,
                      (int)top_k, (int)min, (unsigned long long)run.seed);
        make_trace(&t, (kind)how, 1500, experts, top_k, min, 10, 0);
        follow(&t, run.isa, NULL, random_below(&run.random, 4) == 0, SEQTOPK_CACHE_EXACT, 0);
        free_trace(&t);
    }
}

/* Cuts that move by many ranks with every token, where a rung more has just been begun: one trace in six once was late, and of
 * thousands one still is, where the cut leaves the window and all rungs in a few tokens. */
static void check_decode_moving(void) {
    static const struct moving {
        kind how;
        int32_t experts, top_k, min, max;
    } all[] = {{RISING, 12, 5, 4, 12}, {SWINGING, 12, 5, 4, 12}, {FALLING, 16, 8, 1, 10}};
    int late = 0;
    for (size_t m = 0; m < sizeof all / sizeof *all; m++)
        for (int i = 0; i < (run.quick ? 8 : 40); i++) {
            const struct moving *a = all + m;
            trace t;
            check_context("decode %s E=%d K=%d [%d, %d], a rung more (seed %llu)", kind_names[a->how], (int)a->experts,
                          (int)a->top_k, (int)a->min, (int)a->max, (unsigned long long)run.seed);
            make_trace(&t, a->how, 6000, a->experts, a->top_k, a->min, a->max, 0);
            t.late = &late;
            follow(&t, run.isa, NULL, 0, SEQTOPK_CACHE_EXACT, 0);
            free_trace(&t);
        }
    check_context("decode, a rung more (seed %llu)", (unsigned long long)run.seed);
    check_that(late <= 1, "steps of %d traces read much", late);
}

void check_decode(void) {
    static const int32_t shapes[][4] = {
        {16, 8, 1, 10}, {8, 2, 0, 4}, {24, 4, 2, 5}, {12, 5, 4, 12}, {6, 2, 1, 2}}; /* E, K, min, max */
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int how = 0; how < KINDS; how++) {
            const int32_t *shape = shapes[s];
            trace t;
            check_context("decode %s E=%d K=%d [%d, %d]%s%s (seed %llu)", kind_names[how], (int)shape[0], (int)shape[1],
                          (int)shape[2], (int)shape[3], run.isa ? " on " : "", run.isa ? run.isa : "",
                          (unsigned long long)run.seed);
            const int64_t rows = run.quick ? 6000 : 60000;
            make_trace(&t, (kind)how, rows, shape[0], shape[1], shape[2], shape[3], 0);
            follow(&t, run.isa, NULL, random_below(&run.random, 2) == 0, SEQTOPK_CACHE_EXACT, 0);
            free_trace(&t);
            make_trace(&t, (kind)how, rows / 4, shape[0], shape[1], shape[2], shape[3], 1);
            follow(&t, run.isa, NULL, 1, SEQTOPK_CACHE_COMPACT, 1);
            free_trace(&t);
            if (how != RANDOM)
                continue;
            make_trace(&t, (kind)how, rows, shape[0], shape[1], shape[2], shape[3], 0);
            follow(&t, run.isa, NULL, 0, SEQTOPK_CACHE_COMPACT, 0);
            free_trace(&t);
        }
    check_decode_short();
    check_decode_moving();
}

void check_decode_with(const char *kernel) {
    static const seqtopk_cache_mode modes[] = {SEQTOPK_CACHE_EXACT, SEQTOPK_CACHE_COMPACT};
    for (int is_compact = 0; is_compact < 2; is_compact++) {
        trace t;
        make_trace(&t, FALLING, 2000, 16, 8, 1, 10, is_compact);
        follow(&t, NULL, kernel, 0, modes[is_compact], is_compact);
        free_trace(&t);
    }
}
