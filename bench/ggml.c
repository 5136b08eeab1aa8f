/* SPDX-License-Identifier: MIT */
/*
 * The ops of src/adapters/ggml beside those of ggml that they take the place of, one JSON object a line: microseconds of a layer, the
 * least of many runs of a graph that has `COPIES` of them.
 *
 *     bench-ggml [--seconds S]      for each line (default: 0.3)
 *
 *   route    softmax, argsort and what llama.cpp's graph does to the weights, beside TopK and SeqTopK here
 *   cold     routes of one token in a graph that reads 64 MiB before each, as decoding finds the caches: OLMoE's, without a norm, and
 *            Qwen3-MoE's, with one; the median, with what the graph itself takes, beside a node of no work
 *   combine  a multiplication and K - 1 additions, beside one op: rows of K, and ragged ones. Both have the same bits
 *
 * Selections and sums that differ are an error.
 */
#include "src/adapters/ggml/ggml_seqtopk.h"
#include "tests/random.h"

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COPIES = 8, TOP_K = 8, WIDTH = 2048 };

static double seconds = 0.3;
static ggml_backend_t cpu;

typedef struct bench {
    struct ggml_context *ctx;
    struct ggml_cgraph *graph;
    ggml_gallocr_t memory;
    struct ggml_tensor *result;
} bench;

static void need(int fine, const char *what) {
    if (!fine) {
        fprintf(stderr, "bench-ggml: %s\n", what);
        exit(1);
    }
}

static void open_bench(bench *b) {
    const struct ggml_init_params init = {ggml_tensor_overhead() * 512 + ggml_graph_overhead(), NULL, true};
    b->ctx = ggml_init(init);
    need(b->ctx != NULL, "ggml does not begin");
    b->graph = ggml_new_graph(b->ctx);
}

static struct ggml_tensor *input(const bench *b, int64_t ne0, int64_t ne1, int64_t ne2) {
    struct ggml_tensor *t = ggml_new_tensor_3d(b->ctx, GGML_TYPE_F32, ne0, ne1, ne2);
    ggml_set_input(t);
    ggml_set_output(t);
    return t;
}

/* What a copy ends with; that of the last one is kept. */
static void add(bench *b, struct ggml_tensor *result) {
    b->result = result;
    ggml_set_output(result->view_src ? result->view_src : result);
    ggml_build_forward_expand(b->graph, result);
}

static void take_memory(bench *b) {
    b->memory = ggml_gallocr_new(ggml_backend_cpu_buffer_type());
    need(ggml_gallocr_alloc_graph(b->memory, b->graph), "no memory for a graph");
}

static double now(void) {
    struct timespec at;
    timespec_get(&at, TIME_UTC);
    return 1e6 * (double)at.tv_sec + 1e-3 * (double)at.tv_nsec;
}

static double measure(const bench *b, int threads) {
    const double begin = now();
    double least = 1e30;
    ggml_backend_cpu_set_n_threads(cpu, threads);
    do {
        const double from = now();
        need(ggml_backend_graph_compute(cpu, b->graph) == GGML_STATUS_SUCCESS, "ggml does not compute");
        const double took = now() - from;
        least = took < least ? took : least;
    } while (now() - begin < 1e6 * seconds);
    return least / COPIES;
}

static void close_bench(bench *b) {
    ggml_gallocr_free(b->memory);
    ggml_free(b->ctx);
}

static void fill(const struct ggml_tensor *tensor, double scale) {
    random_state random;
    random_seed(&random, 5);
    for (int64_t i = 0; i < ggml_nelements(tensor); i++)
        ((float *)tensor->data)[i] = (float)(scale * random_normal(&random));
}

/* ------------------------------------------------------------------ route -- */

/* llama.cpp's build_moe_ffn. */
static struct ggml_tensor *stock_route(const bench *b, int is_normed, struct ggml_tensor *logits,
                                       struct ggml_tensor **weights) {
    struct ggml_context *ctx = b->ctx;
    const int64_t experts = logits->ne[0], tokens = logits->ne[1];
    struct ggml_tensor *probs = ggml_soft_max(ctx, logits);
    struct ggml_tensor *ids = ggml_argsort_top_k(ctx, probs, TOP_K);
    struct ggml_tensor *w = ggml_get_rows(ctx, ggml_reshape_3d(ctx, probs, 1, experts, tokens), ids);
    w = ggml_reshape_2d(ctx, w, TOP_K, tokens);
    if (is_normed)
        w = ggml_div(ctx, w, ggml_clamp(ctx, ggml_sum_rows(ctx, w), 6.103515625e-5f, INFINITY));
    *weights = ggml_reshape_3d(ctx, w, 1, TOP_K, tokens);
    return ids;
}

enum { STOCK, TOPK, SEQTOPK, NOTHING, ROUTES = NOTHING };
static const char *const route_names[] = {"stock", "topk", "seqtopk", "nothing"};

static void nothing_op(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    (void)dst, (void)ith, (void)nth, (void)userdata;
}

/* One of them: its ids, and its weights. */
static struct ggml_tensor *add_route(const bench *b, struct ggml_seqtopk *state, int what, int is_normed,
                                     seqtopk_order order, int threads, struct ggml_tensor *logits,
                                     struct ggml_tensor **weights) {
    struct ggml_seqtopk_params params = {
        .desc = SEQTOPK_DESC_INIT, .layout = GGML_SEQTOPK_PADDED_DISTINCT, .n_threads = threads};
    struct ggml_seqtopk_route route;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    if (what == NOTHING)
        return *weights = ggml_custom_4d(b->ctx, GGML_TYPE_F32, TOP_K, 1, 1, 1, &logits, 1, nothing_op, 1, NULL);
    if (what == STOCK)
        return stock_route(b, is_normed, logits, weights);
    params.desc.experts = (int32_t)logits->ne[0];
    params.desc.top_k = TOP_K;
    params.desc.norm = is_normed ? SEQTOPK_NORM_SUM : SEQTOPK_NORM_NONE;
    params.desc.norm_floor = is_normed ? 6.103515625e-5f : 0.0f;
    params.desc.order = what == TOPK ? order : SEQTOPK_ORDER_EXPERT;
    params.desc.scope = what == TOPK ? SEQTOPK_SCOPE_TOKEN : SEQTOPK_SCOPE_SEQUENCE;
    if (what == SEQTOPK) {
        params.layout = GGML_SEQTOPK_RAGGED;
        params.desc.min_experts = 1;
        params.desc.max_experts = TOP_K + 2;
    }
    need(!ggml_seqtopk_moe_route(b->ctx, state, logits, &params, &route, &error), error.message);
    *weights = route.weights;
    return route.ids;
}

static void print_route(const char *op, int32_t experts, int32_t tokens, int threads, const double *us, int many) {
    printf("{\"op\": \"%s\", \"experts\": %d, \"tokens\": %d, \"threads\": %d", op, experts, tokens, threads);
    for (int what = 0; what < many; what++)
        printf(", \"%s_us\": %.2f", route_names[what], us[what]);
    printf("}\n");
}

static void bench_route(struct ggml_seqtopk *state, int32_t experts, int32_t tokens, int threads) {
    double us[ROUTES];
    int32_t *stock = NULL;
    for (int what = 0; what < ROUTES; what++) {
        bench b;
        open_bench(&b);
        struct ggml_tensor *logits = input(&b, experts, tokens, 1), *ids = NULL, *weights;
        for (int i = 0; i < COPIES; i++) {
            ids = add_route(&b, state, what, 1, SEQTOPK_ORDER_RANK, threads, logits, &weights);
            add(&b, weights);
            add(&b, ids);
        }
        take_memory(&b);
        fill(logits, 1.5);
        us[what] = measure(&b, threads);
        if (what == STOCK) { /* argsort_top_k is a view of all experts */
            stock = malloc((size_t)tokens * TOP_K * sizeof *stock);
            need(stock != NULL, "no memory");
            for (int32_t t = 0; t < tokens; t++)
                memcpy(stock + t * TOP_K, (const char *)ids->data + (size_t)t * ids->nb[1], TOP_K * sizeof *stock);
        } else if (what == TOPK) {
            need(memcmp(stock, ids->data, (size_t)tokens * TOP_K * sizeof *stock) == 0,
                 "another selection than ggml's");
        }
        close_bench(&b);
    }
    free(stock);
    print_route("route", experts, tokens, threads, us, ROUTES);
}

/* ------------------------------------------------------------------- cold -- */

enum { FLUSHED = 64 << 20, MOST_COLD = 4000 };
static const volatile char *flushed;
static double cold_from, cold_us[NOTHING + 1][MOST_COLD];
static int cold_runs[NOTHING + 1];

static void begin_op(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    (void)dst, (void)ith, (void)nth, (void)userdata;
    for (size_t i = 0; i < FLUSHED; i += 64)
        (void)flushed[i];
    cold_from = now();
}

static void end_op(struct ggml_tensor *dst, int ith, int nth, void *what) {
    const double took = now() - cold_from;
    int *runs = &cold_runs[*(const int *)what];
    (void)dst, (void)ith, (void)nth;
    if (*runs < MOST_COLD)
        cold_us[*(const int *)what][(*runs)++] = took;
}

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* All in turn, and medians: a cold call has no least that would mean anything. */
static void bench_cold(struct ggml_seqtopk *state, int32_t experts, int is_normed) {
    static int whats[] = {STOCK, TOPK, SEQTOPK, NOTHING};
    bench all[NOTHING + 1];
    double us[NOTHING + 1];
    for (int what = 0; what <= NOTHING; what++) {
        bench *b = &all[what];
        open_bench(b);
        struct ggml_tensor *logits = input(b, experts, 1, 1), *weights;
        for (int i = 0; i < COPIES; i++) {
            struct ggml_tensor *at_first = ggml_custom_inplace(b->ctx, logits, NULL, 0, begin_op, 1, NULL);
            struct ggml_tensor *ids = add_route(b, state, what, is_normed, SEQTOPK_ORDER_EXPERT, 1, at_first, &weights);
            add(b, ids);
            add(b, ggml_custom_4d(b->ctx, GGML_TYPE_F32, 1, 1, 1, 1, &weights, 1, end_op, 1, &whats[what]));
        }
        take_memory(b);
        fill(logits, 1.5);
        cold_runs[what] = 0;
    }
    ggml_backend_cpu_set_n_threads(cpu, 1);
    const double begin = now();
    do
        for (int what = 0; what <= NOTHING; what++)
            need(ggml_backend_graph_compute(cpu, all[what].graph) == GGML_STATUS_SUCCESS, "ggml does not compute");
    while (now() - begin < 1e6 * seconds * ROUTES);
    for (int what = 0; what <= NOTHING; what++) {
        qsort(cold_us[what], (size_t)cold_runs[what], sizeof **cold_us, compare_doubles);
        us[what] = cold_us[what][cold_runs[what] / 2];
        close_bench(&all[what]);
    }
    print_route("cold", experts, 1, 1, us, NOTHING + 1);
}

/* ---------------------------------------------------------------- combine -- */

static struct ggml_tensor *stock_combine(const bench *b, struct ggml_tensor *rows, struct ggml_tensor *weights) {
    struct ggml_tensor *all = ggml_mul(b->ctx, rows, weights), *y = NULL;
    for (size_t k = 0; k < TOP_K; k++) {
        struct ggml_tensor *one = ggml_view_2d(b->ctx, all, all->ne[0], all->ne[2], all->nb[2], k * all->nb[1]);
        y = y ? ggml_add(b->ctx, y, one) : one;
    }
    return y;
}

static void bench_combine(int32_t tokens, int threads) {
    static const char *const names[] = {"stock", "padded", "ragged"};
    const size_t size = (size_t)tokens * WIDTH * sizeof(float);
    double us[3];
    void *stock = malloc(size);
    need(stock != NULL, "no memory");
    for (int what = 0; what < 3; what++) {
        bench b;
        open_bench(&b);
        const int64_t width = what == 2 ? 1 : TOP_K, rows = what == 2 ? tokens * TOP_K : tokens;
        struct ggml_seqtopk_route route = {.weights = input(&b, 1, width, rows)};
        struct ggml_tensor *experts = input(&b, WIDTH, width, rows);
        if (what == 2) {
            route.offsets = ggml_new_tensor_1d(b.ctx, GGML_TYPE_I32, tokens + 1);
            ggml_set_input(route.offsets);
            ggml_set_output(route.offsets);
        }
        for (int i = 0; i < COPIES; i++)
            add(&b, what == 0 ? stock_combine(&b, experts, route.weights)
                              : ggml_seqtopk_moe_combine(b.ctx, experts, &route));
        take_memory(&b);
        fill(experts, 1);
        fill(route.weights, 1);
        for (int32_t t = 0; what == 2 && t <= tokens; t++)
            ((int32_t *)route.offsets->data)[t] = t * TOP_K;
        us[what] = measure(&b, threads);
        if (what == 0)
            memcpy(stock, b.result->data, size);
        else
            need(memcmp(stock, b.result->data, size) == 0, "another sum than ggml's");
        close_bench(&b);
    }
    free(stock);
    printf("{\"op\": \"combine\", \"width\": %d, \"tokens\": %d, \"threads\": %d", WIDTH, tokens, threads);
    for (int what = 0; what < 3; what++)
        printf(", \"%s_us\": %.2f", names[what], us[what]);
    printf("}\n");
}

int main(int argc, char **argv) {
    static const int32_t experts[] = {64, 128}, tokens[] = {1, 512};
    if (argc == 3 && strcmp(argv[1], "--seconds") == 0)
        seconds = strtod(argv[2], NULL);
    else
        need(argc == 1, "usage: bench-ggml [--seconds S]");
    struct ggml_seqtopk *state = ggml_seqtopk_new();
    cpu = ggml_backend_cpu_init();
    char *const memory = calloc(FLUSHED, 1);
    need(state && cpu && memory, "ggml does not begin");
    memset(memory, 1, FLUSHED);
    flushed = memory;
    bench_cold(state, 64, 0);
    bench_cold(state, 128, 1);
    for (int threads = 1; threads <= 2; threads++)
        for (int t = 0; t < 2; t++) {
            for (int e = 0; e < 2; e++)
                bench_route(state, experts[e], tokens[t], threads);
            bench_combine(tokens[t], threads);
        }
    ggml_backend_free(cpu);
    ggml_seqtopk_free(state);
    free(memory);
    return 0;
}
