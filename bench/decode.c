/* SPDX-License-Identifier: MIT */
/*
 * What SeqTopK costs while decoding, one JSON object a line; the shape is a layer of K = 8 with the paper's bounds [1, 10].
 *
 *     bench-decode [--tokens N] [--seconds S] [--fresh]
 *                                            N: the long past (default: 1000000); S: for each group (default: 1)
 *
 *   step     one token, after a past of 1000 tokens and of N, exact and compact, beside TopK of the same row; 64 sequences in
 *            one call
 *   layers   one token through the 16 layers of OLMoE
 *   chunk    512 tokens at once: behind a past, causally; a whole prompt, jointly; beside the offline route of as many
 *   life     a fork, and 8 tokens taken back
 *   worst    every step of N, on traces that try to make one slow; each step's time is its least of `repeats` runs, so that
 *            what interrupts a run does not count
 *   paper    the paper's way: of all m * E past scores the best m * K are found anew
 *
 * The process has had its memory before, as one that serves for long has: a token's 60 bytes on a fresh page are 24 ns of the
 * operating system where a page takes 1.6 us (measured on a virtual machine). --fresh leaves that in.
 */

#include "src/cli/measure.h"
#include "tests/random.h"

#include <seqtopk/seqtopk.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

enum {
    TOP_K = 8,
    MIN = 1,
    MAX = TOP_K + 2,
    SHORT = 1000,
    POOL = 4096,
    MANY = 64,
    CHUNK = 512,
    LAYERS = 16,
    PAPER = 32768
};

static int64_t tokens = 1000000;
static double seconds = 1;

static void *need(void *memory) {
    if (!memory) {
        fprintf(stderr, "bench-decode: no memory\n");
        exit(1);
    }
    return memory;
}

static void check(seqtopk_status status, const seqtopk_error *error) {
    if (status) {
        fprintf(stderr, "bench-decode: %s\n", error->message);
        exit(1);
    }
}

/* ------------------------------------------------------------------ a run -- */

typedef struct run {
    seqtopk_plan *plan;
    seqtopk_cache *cache;
    seqtopk_cache_rows rows;
    seqtopk_input in;
    seqtopk_output out;
    const float *pool; /* [POOL, experts] */
    int64_t at;        /* rows that were taken */
    int64_t count;     /* rows of a call */
    int32_t experts, layers;
    int64_t *positions;
    int32_t *sequences;
    void *scratch;
    size_t size;
    seqtopk_error error;
} run;

static seqtopk_plan *plan_of(int32_t experts, seqtopk_scope scope, seqtopk_score score) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan;
    desc.experts = experts;
    desc.top_k = TOP_K;
    desc.scope = scope;
    desc.score = score;
    desc.norm = SEQTOPK_NORM_SUM;
    if (scope != SEQTOPK_SCOPE_TOKEN) {
        desc.min_experts = MIN;
        desc.max_experts = MAX;
    }
    check(seqtopk_plan_create(&plan, &desc, &error), &error);
    return plan;
}

static void open_output(run *r, int64_t rows) {
    const seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    r->out = out;
    r->out.capacity = seqtopk_max_selected(r->plan, rows);
    r->out.token_offsets = need(malloc(((size_t)rows + 1) * sizeof(int32_t)));
    r->out.expert_ids = need(malloc((size_t)r->out.capacity * sizeof(int32_t)));
    r->out.weights = need(malloc((size_t)r->out.capacity * sizeof(float)));
}

static seqtopk_cache_mode mode = SEQTOPK_CACHE_EXACT; /* of the next run */

static run *run_new(const float *pool, int32_t experts, seqtopk_scope scope, seqtopk_score score, int32_t layers,
                    int64_t count) {
    const run fresh = {.in = SEQTOPK_INPUT_INIT, .rows = SEQTOPK_CACHE_ROWS_INIT, .error = SEQTOPK_ERROR_INIT};
    run *r = need(malloc(sizeof *r));
    *r = fresh;
    r->pool = pool;
    r->experts = experts;
    r->count = count;
    r->layers = layers;
    r->plan = plan_of(experts, scope, score);
    if (scope == SEQTOPK_SCOPE_ONLINE) {
        seqtopk_cache_desc desc = SEQTOPK_CACHE_DESC_INIT;
        desc.layers = layers;
        desc.plan = r->plan;
        desc.mode = mode;
        desc.sequences = MANY + 1;
        check(seqtopk_cache_create(&r->cache, &desc, &r->error), &r->error);
        r->size = seqtopk_cache_scratch_size(r->cache, count, 1);
    } else {
        r->size = seqtopk_scratch_size(r->plan, count, 1, 1);
    }
    r->scratch = need(malloc(r->size));
    r->positions = need(malloc((size_t)count * sizeof *r->positions));
    r->sequences = need(calloc((size_t)count, sizeof *r->sequences));
    r->rows.sequences = r->sequences;
    r->in.tokens = count;
    open_output(r, count);
    return r;
}

static void run_free(run *r) {
    seqtopk_cache_destroy(r->cache);
    seqtopk_plan_destroy(r->plan);
    free(r->out.token_offsets);
    free(r->out.expert_ids);
    free(r->out.weights);
    free(r->scratch);
    free(r->positions);
    free(r->sequences);
    free(r);
}

static const float *rows_of(run *r, int64_t count) {
    const int64_t at = r->at % (POOL - count + 1);
    r->at += count;
    return r->pool + at * r->experts;
}

/* The next rows, in every layer. */
static void step(void *context) {
    run *r = context;
    r->in.logits = rows_of(r, r->count);
    for (int32_t l = 0; l < r->layers; l++) {
        r->rows.layer = l;
        check(r->cache ? seqtopk_cache_step(r->cache, &r->rows, &r->in, &r->out, r->scratch, r->size, &r->error)
                       : seqtopk_route(r->plan, &r->in, &r->out, r->scratch, r->size, &r->error),
              &r->error);
    }
}

/* Brings every sequence of a call to a past of `past` tokens. */
static void fill(run *r, int64_t past) {
    const int64_t count = r->count;
    r->in.tokens = 1;
    for (int64_t row = 0; row < count; row++) {
        r->rows.sequences = r->sequences + row;
        if (row > 0 && r->sequences[row] == r->sequences[row - 1])
            continue;
        for (int64_t t = 0; t < past; t++) {
            r->in.logits = rows_of(r, 1);
            for (r->rows.layer = 0; r->rows.layer < r->layers; r->rows.layer++)
                check(seqtopk_cache_step(r->cache, &r->rows, &r->in, &r->out, r->scratch, r->size, &r->error),
                      &r->error);
        }
    }
    r->rows.sequences = r->sequences;
    r->in.tokens = count;
}

/* The same rows as single calls. */
static void step_singly(void *context) {
    run *r = context;
    const float *logits = rows_of(r, r->count);
    r->in.tokens = 1;
    for (int64_t row = 0; row < r->count; row++) {
        r->in.logits = logits + row * r->experts;
        r->rows.sequences = r->sequences + row;
        check(seqtopk_cache_step(r->cache, &r->rows, &r->in, &r->out, r->scratch, r->size, &r->error), &r->error);
    }
    r->in.tokens = r->count;
    r->rows.sequences = r->sequences;
}

/* ----------------------------------------------------------------- figures -- */

static float *make_pool(int32_t experts) {
    random_state random;
    float *pool = need(malloc((size_t)POOL * (size_t)experts * sizeof *pool));
    random_seed(&random, (uint64_t)experts);
    random_logits(&random, RANDOM_NORMAL, SEQTOPK_DTYPE_F32, pool, POOL, (size_t)experts, (size_t)experts);
    return pool;
}

enum { MOST = 16 };
typedef struct group {
    const char *section;
    int32_t experts;
    size_t count;
    const char *what[MOST];
    double each[MOST]; /* a call is so many of what is told */
    seqtopk_measure item[MOST];
} group;

static void add(group *g, const char *what, void (*call)(void *), void *context, double each) {
    memset(g->item + g->count, 0, sizeof *g->item);
    g->item[g->count].call = call;
    g->item[g->count].context = context;
    g->what[g->count] = what;
    g->each[g->count++] = each;
}

static void measure(group *g) {
    for (size_t i = 0; i < g->count; i++)
        g->item[i].share = 1.0 / (double)g->count;
    seqtopk_measure_all(g->item, g->count, seconds, NULL);
    for (size_t i = 0; i < g->count; i++)
        printf(
            "{\"section\": \"%s\", \"experts\": %d, \"what\": \"%s\", \"ns\": %.9g, \"low\": %.9g, \"high\": %.9g}\n",
            g->section, (int)g->experts, g->what[i], g->item[i].median / g->each[i], g->item[i].low / g->each[i],
            g->item[i].high / g->each[i]);
    fflush(stdout);
}

static void figures_of_steps(const float *pool, int32_t experts) {
    static group g;
    g = (group){.section = "step", .experts = experts};
    run *topk = run_new(pool, experts, SEQTOPK_SCOPE_TOKEN, SEQTOPK_SCORE_SOFTMAX, 1, 1);
    run *near = run_new(pool, experts, SEQTOPK_SCOPE_ONLINE, SEQTOPK_SCORE_SOFTMAX, 1, 1);
    run *far = run_new(pool, experts, SEQTOPK_SCOPE_ONLINE, SEQTOPK_SCORE_SOFTMAX, 1, 1);
    run *many = run_new(pool, experts, SEQTOPK_SCOPE_ONLINE, SEQTOPK_SCORE_SOFTMAX, 1, MANY);
    mode = SEQTOPK_CACHE_COMPACT;
    run *compact[2] = {run_new(pool, experts, SEQTOPK_SCOPE_ONLINE, SEQTOPK_SCORE_SOFTMAX, 1, 1),
                       run_new(pool, experts, SEQTOPK_SCOPE_ONLINE, SEQTOPK_SCORE_SOFTMAX, 1, 1)};
    mode = SEQTOPK_CACHE_EXACT;
    for (int32_t s = 0; s < MANY; s++)
        many->sequences[s] = s;
    fill(compact[0], SHORT);
    fill(compact[1], tokens);
    fill(near, SHORT);
    fill(far, tokens);
    fill(many, SHORT);
    seqtopk_cache_stats stats = SEQTOPK_CACHE_STATS_INIT;
    check(seqtopk_cache_get_stats(far->cache, 0, 0, &stats), &far->error);
    add(&g, "topk", step, topk, 1);
    add(&g, "step at 1000", step, near, 1);
    add(&g, "step at N", step, far, 1);
    add(&g, "compact step at 1000", step, compact[0], 1);
    add(&g, "compact step at N", step, compact[1], 1);
    add(&g, "64 in one call", step, many, MANY);
    add(&g, "64 single calls", step_singly, many, MANY);
    measure(&g);
    printf("{\"section\": \"memory\", \"experts\": %d, \"tokens\": %lld, \"bytes_a_token\": %.4g}\n", (int)experts,
           (long long)stats.tokens, (double)stats.bytes / (double)stats.tokens);
    run_free(topk);
    run_free(near);
    run_free(far);
    run_free(compact[0]);
    run_free(compact[1]);
    run_free(many);
}

static void figures_of_layers(const float *pool, int32_t experts) {
    static group g;
    g = (group){.section = "layers", .experts = experts};
    run *all = run_new(pool, experts, SEQTOPK_SCOPE_ONLINE, SEQTOPK_SCORE_SOFTMAX, LAYERS, 1);
    run *topk = run_new(pool, experts, SEQTOPK_SCOPE_TOKEN, SEQTOPK_SCORE_SOFTMAX, LAYERS, 1);
    fill(all, SHORT);
    add(&g, "16 layers, topk", step, topk, 1);
    add(&g, "16 layers", step, all, 1);
    measure(&g);
    run_free(all);
    run_free(topk);
}

static void figures_of_chunks(const float *pool, int32_t experts) {
    static group g;
    g = (group){.section = "chunk", .experts = experts};
    run *causal = run_new(pool, experts, SEQTOPK_SCOPE_ONLINE, SEQTOPK_SCORE_SOFTMAX, 1, CHUNK);
    run *joint = run_new(pool, experts, SEQTOPK_SCOPE_ONLINE, SEQTOPK_SCORE_SOFTMAX, 1, CHUNK);
    run *offline = run_new(pool, experts, SEQTOPK_SCOPE_SEQUENCE, SEQTOPK_SCORE_SOFTMAX, 1, CHUNK);
    joint->rows.take = SEQTOPK_TAKE_JOINT;
    fill(causal, SHORT);
    joint->rows.positions = joint->positions; /* a prompt each time: the one before goes */
    for (int64_t i = 0; i < CHUNK; i++)
        joint->positions[i] = i;
    add(&g, "offline", step, offline, CHUNK);
    add(&g, "causal", step, causal, CHUNK);
    add(&g, "joint", step, joint, CHUNK);
    measure(&g);
    run_free(causal);
    run_free(joint);
    run_free(offline);
}

static void end_fork(run *r) { check(seqtopk_cache_clear(r->cache, 1, &r->error), &r->error); }

static void fork_sequence(void *context) {
    run *r = context;
    check(seqtopk_cache_copy(r->cache, 1, 0, -1, &r->error), &r->error);
}

static void take_back(void *context) {
    run *r = context;
    const int64_t length = seqtopk_cache_length(r->cache, 0, 0);
    check(seqtopk_cache_truncate(r->cache, 0, length - 8, &r->error), &r->error);
}

/* Single calls, each after 16 steps, which are not timed. */
static void time_life(const char *what, int32_t experts, run *r, void (*call)(void *)) {
    enum { TIMES = 4001 };
    static double times[TIMES];
    for (int i = 0; i < TIMES; i++) {
        for (int s = 0; s < 16; s++)
            step(r);
        const double begin = seqtopk_measure_now();
        call(r);
        times[i] = seqtopk_measure_now() - begin;
        end_fork(r);
    }
    for (int i = 1; i < TIMES; i++) /* few, and mostly in order */
        for (int j = i; j > 0 && times[j] < times[j - 1]; j--) {
            const double t = times[j];
            times[j] = times[j - 1];
            times[j - 1] = t;
        }
    printf("{\"section\": \"life\", \"experts\": %d, \"what\": \"%s\", \"ns\": %.9g, \"low\": %.9g, \"high\": %.9g}\n",
           (int)experts, what, times[TIMES / 2], times[TIMES / 4], times[3 * TIMES / 4]);
}

static void figures_of_life(const float *pool, int32_t experts) {
    run *r = run_new(pool, experts, SEQTOPK_SCOPE_ONLINE, SEQTOPK_SCORE_SOFTMAX, 1, 1);
    fill(r, tokens);
    time_life("fork", experts, r, fork_sequence);
    time_life("8 tokens taken back", experts, r, take_back);
    run_free(r);
}

/* ------------------------------------------------------------------- worst -- */

typedef enum trace { RANDOM, RISING, FALLING, ALTERNATING, SWINGING, EQUAL, TRACES } trace;
static const char *const trace_names[] = {"random", "rising", "falling", "alternating", "swinging", "all equal"};

/* Token t of a trace. SWINGING: for as long as there was a past, all keys are above it, then all below, so that the cut goes
 * through all of it and the rungs about it have to be made anew as often as they can. */
static void trace_row(trace kind, int64_t t, const float *pool, int32_t experts, float *row) {
    const float *noise = pool + (size_t)((uint64_t)t * 2654435761u % POOL) * (size_t)experts;
    const float place = (float)((double)t / (double)tokens);
    int log = 0;
    while (t >> log > 1)
        log++;
    const float base = kind == RISING        ? 100 * place
                       : kind == FALLING     ? -100 * place
                       : kind == ALTERNATING ? (t & 1 ? 50.0f : -50.0f)
                       : kind == SWINGING    ? (log & 1 ? 50.0f : -50.0f) * (1 + place)
                                             : 0;
    for (int32_t e = 0; e < experts; e++)
        row[e] = kind == EQUAL ? 1.0f : base + noise[e] + (kind == RANDOM ? place / 64 : 0);
}

static int ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void figures_of_worst(const float *pool, int32_t experts, trace kind) {
    enum { REPEATS = 9 };
    float *row = need(malloc((size_t)experts * sizeof *row));
    float *least = need(malloc((size_t)tokens * sizeof *least));
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        run *r = run_new(pool, experts, SEQTOPK_SCOPE_ONLINE, SEQTOPK_SCORE_LOGITS, 1, 1);
        r->in.logits = row;
        for (int64_t t = 0; t < tokens; t++) {
            trace_row(kind, t, pool, experts, row);
            const double begin = seqtopk_measure_now();
            check(seqtopk_cache_step(r->cache, &r->rows, &r->in, &r->out, r->scratch, r->size, &r->error), &r->error);
            const float time = (float)(seqtopk_measure_now() - begin);
            least[t] = repeat == 0 || time < least[t] ? time : least[t];
        }
        run_free(r);
    }
    int64_t worst = 0;
    for (int64_t t = 0; t < tokens; t++)
        worst = least[t] > least[worst] ? t : worst;
    const double most = least[worst];
    qsort(least, (size_t)tokens, sizeof *least, ascending);
    printf(
        "{\"section\": \"worst\", \"experts\": %d, \"what\": \"%s\", \"tokens\": %lld, \"ns\": %.9g, \"p999\": %.9g, "
        "\"worst\": %.9g, \"at\": %lld, \"repeats\": %d}\n",
        (int)experts, trace_names[kind], (long long)tokens, least[tokens / 2], least[tokens - 1 - tokens / 1000], most,
        (long long)worst, REPEATS);
    fflush(stdout);
    free(row);
    free(least);
}

/* ------------------------------------------------------------------- paper -- */

static int descending(const void *a, const void *b) { return ascending(b, a); }

/* Of values [n] the nth largest, by quickselect: what the paper's top-(m * K) of m * E must do at least. */
static float nth_largest(float *values, int64_t n, int64_t nth) {
    int64_t from = 0, to = n;
    while (to - from > 32) {
        const float pivot = values[from + (to - from) / 2];
        int64_t i = from, j = to - 1;
        while (i <= j) {
            while (values[i] > pivot)
                i++;
            while (values[j] < pivot)
                j--;
            if (i <= j) {
                const float v = values[i];
                values[i++] = values[j];
                values[j--] = v;
            }
        }
        if (nth <= j)
            to = j + 1;
        else if (nth >= i)
            from = i;
        else
            return values[nth];
    }
    qsort(values + from, (size_t)(to - from), sizeof *values, descending);
    return values[nth];
}

static float found; /* nobody reads it; it makes the search count */

typedef struct past_scores {
    float *all, *copy;
    int64_t n, nth;
} past_scores;

static void search_anew(void *context) {
    past_scores *p = context;
    memcpy(p->copy, p->all, (size_t)p->n * sizeof *p->copy);
    found += nth_largest(p->copy, p->n, p->nth);
}

static void figures_of_paper(const float *pool, int32_t experts) {
    static group g;
    g = (group){.section = "paper", .experts = experts};
    past_scores p = {.n = (int64_t)PAPER * experts, .nth = (int64_t)PAPER * TOP_K - 1};
    p.all = need(malloc((size_t)p.n * sizeof *p.all));
    p.copy = need(malloc((size_t)p.n * sizeof *p.copy));
    for (int64_t i = 0; i < p.n; i++)
        p.all[i] = expf(pool[i % ((int64_t)POOL * experts)]);
    run *r = run_new(pool, experts, SEQTOPK_SCOPE_ONLINE, SEQTOPK_SCORE_SOFTMAX, 1, 1);
    fill(r, PAPER);
    add(&g, "the paper's way at 32768", search_anew, &p, 1);
    add(&g, "step at 32768", step, r, 1);
    measure(&g);
    run_free(r);
    free(p.all);
    free(p.copy);
}

/* Pages that this process keeps. */
static void warm_memory(void) {
#ifdef __GLIBC__
    enum { PIECE = 1 << 16 };
    const size_t pieces = 512 + (size_t)tokens * 8 * 72 / PIECE;
    char **piece = need(malloc(pieces * sizeof *piece));
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    for (size_t i = 0; i < pieces; i++)
        piece[i] = memset(need(malloc(PIECE)), 1, PIECE);
    for (size_t i = 0; i < pieces; i++)
        free(piece[i]);
    free(piece);
#endif
}

int main(int argc, char **argv) {
    static const int32_t experts[] = {64, 128, 256};
    int is_usage = 0, is_fresh = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--fresh") == 0)
            is_fresh = 1;
        else if (strcmp(argv[i], "--tokens") == 0)
            tokens = atoll(value), i++;
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = atof(value), i++;
        else
            is_usage = 1;
    }
    if (is_usage || tokens < SHORT || !(seconds > 0)) {
        fprintf(stderr,
                "Usage: bench-decode [--tokens N] [--seconds S] [--fresh]\n"
                "N: at least %d (default: 1000000)\n--fresh: on memory that the process has not had before\n",
                SHORT);
        return 2;
    }
    if (!is_fresh)
        warm_memory();
    for (size_t i = 0; i < sizeof experts / sizeof *experts; i++) {
        float *pool = make_pool(experts[i]);
        figures_of_steps(pool, experts[i]);
        figures_of_chunks(pool, experts[i]);
        figures_of_life(pool, experts[i]);
        if (experts[i] == 64)
            figures_of_layers(pool, experts[i]);
        if (experts[i] == 128)
            figures_of_paper(pool, experts[i]);
        for (int kind = 0; experts[i] == 64 && kind < TRACES; kind++)
            figures_of_worst(pool, experts[i], (trace)kind);
        free(pool);
    }
    return 0;
}
