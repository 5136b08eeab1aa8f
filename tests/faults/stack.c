/* SPDX-License-Identifier: MIT */
/*
 * How much stack calls take: each runs on a thread whose stack was painted, and what is not as it was painted counts.
 * stack [--print]: fails if a call takes more than include/seqtopk/seqtopk.h promises.
 */
#define _GNU_SOURCE
#include <seqtopk/seqtopk.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STACK = 1 << 20, PAINT = 0xa5, TOKENS = 700, MOST_EXPERTS = 2048, KIB = 1024 };

typedef struct work {
    seqtopk_desc desc;
    seqtopk_plan *plan;
    seqtopk_cache *cache;
    seqtopk_input in;
    seqtopk_output out;
    void *scratch;
    size_t size;
    seqtopk_status status;
} work;

static void in_turn(void *context, int32_t n, void (*task)(void *arg, int32_t i), void *arg) {
    (void)context;
    for (int32_t i = 0; i < n; i++)
        task(arg, i);
}

static void *nothing(void *argument) { return argument; }

static void *make_plan(void *argument) {
    work *w = argument;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    w->status = seqtopk_plan_create(&w->plan, &w->desc, &error);
    return NULL;
}

static void *route(void *argument) {
    work *w = argument;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    w->status = seqtopk_route(w->plan, &w->in, &w->out, w->scratch, w->size, &error);
    return NULL;
}

static void *route_parallel(void *argument) {
    work *w = argument;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_parallel loan = SEQTOPK_PARALLEL_INIT;
    loan.threads = 2;
    loan.parallel_for = in_turn;
    w->status = seqtopk_route_parallel(w->plan, &w->in, &w->out, w->scratch, w->size, &loan, &error);
    return NULL;
}

static void *step(void *argument) {
    work *w = argument;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    const seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT;
    w->status = seqtopk_cache_step(w->cache, &rows, &w->in, &w->out, w->scratch, w->size, &error);
    return NULL;
}

static void *tune(void *argument) {
    (void)seqtopk_tuning_machine();
    return argument;
}

/* Bytes of stack that `call` takes. */
static size_t measure(void *(*call)(void *), work *w) {
    static _Alignas(4096) unsigned char stack[STACK];
    pthread_attr_t attributes;
    pthread_t thread;
    size_t untouched = 0;
    memset(stack, PAINT, sizeof stack);
    if (pthread_attr_init(&attributes) || pthread_attr_setstack(&attributes, stack, sizeof stack) ||
        pthread_create(&thread, &attributes, call, w) || pthread_join(thread, NULL))
        exit(1);
    pthread_attr_destroy(&attributes);
    while (untouched < sizeof stack && stack[untouched] == PAINT)
        untouched++;
    return sizeof stack - untouched;
}

static size_t most[3]; /* plans and files, routes, steps of a cache */

static void note(int what, size_t bytes, size_t thread, const work *w) {
    if (w->status) {
        fprintf(stderr, "status %d: %s\n", (int)w->status, seqtopk_status_string(w->status));
        exit(1);
    }
    most[what] = bytes - thread > most[what] ? bytes - thread : most[what];
}

static void measure_desc(work *w, int64_t tokens, size_t thread) {
    static float logits[TOKENS * MOST_EXPERTS];
    static int32_t offsets[TOKENS + 1], ids[TOKENS * MOST_EXPERTS];
    static float weights[TOKENS * MOST_EXPERTS];
    for (size_t i = 0; i < (size_t)tokens * (size_t)w->desc.experts; i++)
        logits[i] = (float)((uint32_t)i * 2654435761u >> 16) / 8192;
    note(0, measure(make_plan, w), thread, w);
    w->in.logits = logits;
    w->in.tokens = tokens;
    w->out.token_offsets = offsets;
    w->out.expert_ids = ids;
    w->out.weights = weights;
    w->out.capacity = seqtopk_max_selected(w->plan, tokens);
    if (w->desc.scope == SEQTOPK_SCOPE_ONLINE) {
        seqtopk_cache_desc cache = SEQTOPK_CACHE_DESC_INIT;
        cache.layers = cache.sequences = 1;
        cache.plan = w->plan;
        if (seqtopk_cache_create(&w->cache, &cache, NULL))
            exit(1);
        w->size = seqtopk_cache_scratch_size(w->cache, tokens, 2);
    } else {
        w->size = seqtopk_scratch_size(w->plan, tokens, 1, 2);
    }
    w->scratch = malloc(w->size);
    if (!w->scratch)
        exit(1);
    if (w->cache) {
        for (int i = 0; i < 4; i++)
            note(2, measure(step, w), thread, w);
    } else {
        note(1, measure(route, w), thread, w);
        note(1, measure(route_parallel, w), thread, w);
    }
    seqtopk_cache_destroy(w->cache);
    seqtopk_plan_destroy(w->plan);
    free(w->scratch);
}

int main(int argc, char **argv) {
    static const int64_t tokens[] = {1, 9, TOKENS};
    static const int32_t experts[] = {16, 256, MOST_EXPERTS}, top_k[] = {1, 8, 100};
    static const size_t promised[] = {128 * KIB, 64 * KIB, 64 * KIB};
    static const char *const names[] = {"a plan, a tuning file", "a route", "a step of a cache"};
    static const seqtopk_desc desc = SEQTOPK_DESC_INIT;
    static const seqtopk_input in = SEQTOPK_INPUT_INIT;
    static const seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    work none = {.status = SEQTOPK_OK};
    const size_t thread = measure(nothing, &none);
    int wrong = 0;
    note(0, measure(tune, &none), thread, &none);
    for (int isa = 0; seqtopk_isa_name(isa); isa++)
        for (int i = 0; i < 3 * 3 * 3 * 3 * 4 && seqtopk_isa_usable(seqtopk_isa_name(isa)); i++) {
            work w = {.desc = desc, .in = in, .out = out};
            w.desc.isa = seqtopk_isa_name(isa);
            w.desc.experts = experts[i % 3];
            w.desc.top_k = top_k[i / 3 % 3] < w.desc.experts ? top_k[i / 3 % 3] : w.desc.experts;
            w.desc.scope = (seqtopk_scope)(i / 27 % 3);
            w.desc.score = (seqtopk_score)(i / 81 % 4);
            w.desc.max_experts = w.desc.scope == SEQTOPK_SCOPE_TOKEN ? 0 : w.desc.top_k + 2;
            if (i % 2 && w.desc.scope != SEQTOPK_SCOPE_ONLINE) {
                w.desc.groups = 4;
                w.desc.group_top_k = 3;
                w.desc.top_k = w.desc.top_k < w.desc.experts / 2 ? w.desc.top_k : w.desc.experts / 2;
            }
            if (i % 5 == 4 && w.desc.score != SEQTOPK_SCORE_LOGITS)
                w.desc.order = SEQTOPK_ORDER_RANK;
            if (i % 7 == 6)
                w.desc.logit_softcap = 30;
            measure_desc(&w, tokens[i / 9 % 3], thread);
        }
    for (int i = 0; i < 3; i++) {
        printf("%s: %zu bytes of stack, promised %zu\n", names[i], most[i], promised[i]);
        wrong |= most[i] > promised[i];
    }
    return argc > 1 && !strcmp(argv[1], "--print") ? 0 : wrong;
}
