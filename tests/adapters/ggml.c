/* SPDX-License-Identifier: MIT */
/* src/adapters/ggml in graphs that ggml's CPU backend computes, beside plain C. */
#include "layer.h"

#include "tests/random.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long passed, failed;
static char context[256];

__attribute__((format(printf, 2, 3))) static int that(int fine, const char *format, ...) {
    va_list args;
    if (fine) {
        passed++;
        return 1;
    }
    if (++failed > 20)
        exit(1);
    va_start(args, format);
    printf("FAILED %s: ", context);
    vprintf(format, args);
    printf("\n");
    va_end(args);
    return 0;
}

static seqtopk_desc desc_of(seqtopk_scope scope, int32_t experts, int32_t top_k) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.experts = experts;
    desc.top_k = top_k;
    desc.scope = scope;
    desc.norm = SEQTOPK_NORM_SUM;
    desc.norm_floor = 6.103515625e-5f;
    if (scope != SEQTOPK_SCOPE_TOKEN) {
        desc.min_experts = 1;
        desc.max_experts = top_k + 2;
    }
    return desc;
}

/* ---------------------------------------------------------------- a route -- */

static const int32_t *ids_of(const layer *l) { return l->route.ids->data; }
static const float *weights_of(const layer *l) { return l->route.weights->data; }

/* Where the pairs of a token are, and how many places it has. */
static int64_t first_of(const layer *l, int32_t t, int64_t *places) {
    if (!l->route.offsets) {
        *places = l->route.ids->ne[0];
        return t * *places;
    }
    const int32_t *offsets = l->route.offsets->data;
    *places = offsets[t + 1] - offsets[t];
    return offsets[t];
}

static void check_padding(const layer *l, int32_t t, int64_t first, int64_t places, const picks *p) {
    const int32_t *ids = ids_of(l);
    const int is_bad = isnan(((const float *)l->logits->data)[(int64_t)t * l->params.desc.experts]);
    for (int64_t i = first + p->counts[t]; i < first + places; i++) {
        int is_once = ids[i] >= 0 && ids[i] < l->params.desc.experts;
        for (int64_t k = first; k < first + places; k++)
            is_once &= k == i || ids[k] != ids[i];
        that(is_bad ? isnan(weights_of(l)[i]) : weights_of(l)[i] == 0, "token %d: padding has weight %g", t,
             (double)weights_of(l)[i]);
        that(l->params.layout != GGML_SEQTOPK_PADDED_MINUS_ONE ? is_once : ids[i] == -1, "token %d: padding is %d", t,
             ids[i]);
    }
}

/* ggml's repacked products have room for as many rows of an expert as ids have rows. */
static void check_room(const struct ggml_seqtopk_route *route, int32_t experts) {
    const int32_t *ids = route->ids->data;
    for (int32_t e = 0; e < experts; e++) {
        int64_t rows = 0;
        for (int64_t i = 0; i < ggml_nelements(route->ids); i++)
            rows += ids[i] == e;
        that(rows <= route->ids->ne[1], "expert %d has %d rows, ids [%d, %d]", e, (int)rows, (int)route->ids->ne[0],
             (int)route->ids->ne[1]);
    }
}

static void check_ragged(const layer *l) {
    const int32_t *offsets = l->route.offsets->data, *tokens = l->route.pair_tokens->data;
    const int64_t most = ggml_nelements(l->route.ids);
    that(offsets[0] == 0 && offsets[l->tokens] <= most, "offsets %d to %d", offsets[0], offsets[l->tokens]);
    for (int32_t t = 0; t < l->tokens; t++)
        for (int32_t i = offsets[t]; i < offsets[t + 1]; i++)
            that(tokens[i] == t, "pair %d is token %d's, not %d's", i, t, tokens[i]);
    for (int64_t i = offsets[l->tokens]; i < most; i++)
        that(weights_of(l)[i] == 0 && ids_of(l)[i] >= 0 && ids_of(l)[i] < l->params.desc.experts && tokens[i] >= 0 &&
                 tokens[i] < l->tokens,
             "the tail's pair %d is %d of %d, weight %g", (int)i, ids_of(l)[i], tokens[i], (double)weights_of(l)[i]);
    check_room(&l->route, l->params.desc.experts);
}

/* The route as plain C has it: ids exactly, weights within rounding. */
static void check_picks(const layer *l, const picks *p) {
    for (int32_t t = 0; t < l->tokens; t++) {
        int64_t places, first = first_of(l, t, &places);
        if (!that(l->route.offsets ? places == p->counts[t] : places >= p->counts[t], "token %d has %d places, not %d",
                  t, (int)places, p->counts[t]))
            return;
        for (int32_t k = 0; k < p->counts[t]; k++) {
            const int64_t at = (int64_t)t * l->params.desc.experts + k;
            const double w = p->weights[at];
            that(ids_of(l)[first + k] == p->ids[at], "token %d has expert %d, not %d", t, ids_of(l)[first + k],
                 p->ids[at]);
            that(fabs((double)weights_of(l)[first + k] - w) <= 4e-6 * fabs(w), "token %d: weight %.9g, not %.9g", t,
                 (double)weights_of(l)[first + k], w);
        }
        if (!l->route.offsets)
            check_padding(l, t, first, places, p);
    }
    if (l->route.offsets)
        check_ragged(l);
}

static void check_layer(layer *l, const picks *p) {
    double *y = calloc((size_t)l->tokens * LAYER_WIDTH, sizeof *y);
    const float *logits = l->logits->data, *given = l->y->data;
    layer_in_plain_c(l, p, y);
    for (int64_t i = 0; i < (int64_t)l->tokens * LAYER_WIDTH; i++) {
        const int is_bad = isnan(logits[i / LAYER_WIDTH * l->params.desc.experts]) && !l->route.offsets;
        if (!that(is_bad ? isnan(given[i]) : fabs((double)given[i] - y[i]) <= 1e-4 * (1 + fabs(y[i])),
                  "y[%d] is %g, not %g", (int)i, (double)given[i], y[i]))
            break;
    }
    free(y);
}

/* Rows beside -1 hold what a product that skips them leaves there: anything. */
static void check_holes(layer *l, int threads) {
    float *rows = l->down->data;
    const int64_t width = l->route.ids->ne[0];
    for (int64_t i = 0; i < width * l->tokens; i++)
        for (int32_t d = 0; d < LAYER_WIDTH; d++)
            rows[i * LAYER_WIDTH + d] = ids_of(l)[i] < 0 ? NAN : (float)(d + (int)(i % 5));
    layer_compute(l, threads);
    for (int32_t t = 0; t < l->tokens; t++)
        for (int32_t d = 0; d < LAYER_WIDTH; d++) {
            double sum = 0;
            for (int64_t i = t * width; i < (t + 1) * width; i++)
                sum += ids_of(l)[i] < 0 ? 0 : (double)weights_of(l)[i] * (d + (int)(i % 5));
            const double y = (double)((const float *)l->y->data)[t * LAYER_WIDTH + d];
            that(isnan(weights_of(l)[t * width]) ? isnan(y) : fabs(y - sum) <= 1e-5 * (1 + fabs(sum)),
                 "y of token %d is %g, not %g", t, y, sum);
        }
}

static void check_all(layer *l, int threads) {
    picks p;
    picks_make(&p, &l->params.desc, l->logits->data, l->bias ? l->bias->data : NULL,
               l->factors ? l->factors->data : NULL, l->seqs ? l->seqs->data : NULL, l->tokens);
    check_picks(l, &p);
    if (l->params.layout == GGML_SEQTOPK_PADDED_MINUS_ONE)
        check_holes(l, threads);
    else
        check_layer(l, &p);
    picks_free(&p);
}

/* ----------------------------------------------------------------- batches -- */

typedef enum pattern { ONE, TWO, MIXED, EACH, PATTERNS } pattern;
static const char *const pattern_names[PATTERNS] = {"one sequence", "two, one after the other", "three, mixed",
                                                    "tokens of different sequences"};

static void place(int32_t *seqs, pattern how, int32_t tokens) {
    for (int32_t t = 0; t < tokens; t++)
        seqs[t] = how == ONE ? 3 : how == TWO ? (t < tokens / 3 ? 5 : 2) : how == MIXED ? (t * 7 / 2) % 3 : t;
}

static const char *const layout_names[] = {"ragged", "distinct", "-1"};
static const char *const team_names[] = {"auto", "serial", "nodes", "barrier"};

/* y of the first combination that is computed: all others must have its bits. */
static float *first_y[PATTERNS];

static void check_bits(const layer *l, pattern how) {
    const size_t size = (size_t)l->tokens * LAYER_WIDTH * sizeof(float);
    if (!first_y[how]) {
        first_y[how] = malloc(size);
        memcpy(first_y[how], l->y->data, size);
    }
    that(memcmp(first_y[how], l->y->data, size) == 0, "other bits than serial and ragged");
}

/* One graph, computed with other sequences and other numbers of threads again and again. */
static void check_graph(struct ggml_seqtopk *state, struct ggml_seqtopk_params *params, int32_t tokens, int has) {
    layer l;
    layer_open(&l, state, params, tokens, has, 11);
    for (pattern how = has & LAYER_SEQS ? TWO : ONE; how < (has & LAYER_SEQS ? PATTERNS : TWO); how++)
        for (int threads = 1; threads <= 3; threads++) { /* 3: one looks on */
            snprintf(context, sizeof context, "%s, %s, scope %d, T %d, %d threads, %s", layout_names[params->layout],
                     team_names[params->team], (int)params->desc.scope, tokens, threads, pattern_names[how]);
            if (l.seqs)
                place(l.seqs->data, how, tokens);
            layer_compute(&l, threads);
            check_all(&l, threads);
            if (params->layout != GGML_SEQTOPK_PADDED_MINUS_ONE)
                check_bits(&l, how);
        }
    layer_close(&l);
}

static void check_shapes(struct ggml_seqtopk *state) {
    static const int32_t tokens[] = {1, 7, 512};
    for (int scope = SEQTOPK_SCOPE_SEQUENCE; scope <= SEQTOPK_SCOPE_TOKEN; scope++)
        for (int i = 0; i < 3; i++)
            for (int has = 0; has <= LAYER_SEQS; has += LAYER_SEQS) {
                for (int layout = GGML_SEQTOPK_RAGGED; layout <= GGML_SEQTOPK_PADDED_MINUS_ONE; layout++)
                    for (int team = GGML_SEQTOPK_TEAM_SERIAL; team <= GGML_SEQTOPK_TEAM_BARRIER; team++) {
                        struct ggml_seqtopk_params params = {.desc = desc_of((seqtopk_scope)scope, 64, 8),
                                                             .layout = (enum ggml_seqtopk_layout)layout,
                                                             .team = (enum ggml_seqtopk_team)team,
                                                             .n_threads = 2,
                                                             .n_seqs = 512};
                        check_graph(state, &params, tokens[i], has);
                    }
                for (int how = 0; how < PATTERNS; how++) {
                    free(first_y[how]);
                    first_y[how] = NULL;
                }
            }
}

/* A bias, factors, sigmoid scores, and logits that are not float32 or contiguous. */
static void check_inputs(struct ggml_seqtopk *state) {
    for (int layout = GGML_SEQTOPK_RAGGED; layout <= GGML_SEQTOPK_PADDED_DISTINCT; layout++)
        for (int has = LAYER_F16; has <= LAYER_BF16; has += LAYER_F16) {
            struct ggml_seqtopk_params params = {.desc = desc_of(SEQTOPK_SCOPE_SEQUENCE, 24, 3), .n_seqs = 6};
            layer l;
            params.desc.score = SEQTOPK_SCORE_SIGMOID;
            params.layout = (enum ggml_seqtopk_layout)layout;
            snprintf(context, sizeof context, "inputs, %s, %s", layout_names[layout],
                     has == LAYER_F16 ? "float16" : "bfloat16");
            layer_open(&l, state, &params, 40, has | LAYER_BIAS | LAYER_FACTORS | LAYER_SEQS, 12);
            place(l.seqs->data, MIXED, 40);
            layer_compute(&l, 2);
            float *logits = l.logits->data; /* as the route has seen them */
            for (int i = 0; i < 40 * 24; i++)
                logits[i] = has == LAYER_F16 ? ggml_fp16_to_fp32(ggml_fp32_to_fp16(logits[i]))
                                             : ggml_bf16_to_fp32(ggml_fp32_to_bf16(logits[i]));
            check_all(&l, 2);
            layer_close(&l);
        }
}

/* Decoding: one token of each sequence is TopK, in rows of K, ragged too; and a batch of no tokens. */
static void check_widths(struct ggml_seqtopk *state) {
    struct ggml_seqtopk_params params = {.desc = desc_of(SEQTOPK_SCOPE_SEQUENCE, 64, 8), .n_seqs = 8, .longest_seq = 1};
    layer l;
    for (int layout = GGML_SEQTOPK_RAGGED; layout <= GGML_SEQTOPK_PADDED_DISTINCT; layout++) {
        params.layout = (enum ggml_seqtopk_layout)layout;
        snprintf(context, sizeof context, "eight sequences decode, %s", layout_names[layout]);
        layer_open(&l, state, &params, 8, LAYER_SEQS, 13);
        place(l.seqs->data, EACH, 8);
        that(l.route.ids->ne[0] == 8, "rows have %d places, not K", (int)l.route.ids->ne[0]);
        that(!l.route.pair_tokens && !l.route.offsets, "tokens of different sequences are gathered");
        layer_compute(&l, 2);
        check_all(&l, 2);
        layer_close(&l);
    }
    params.desc.max_experts = 6; /* less than K, and so is the width */
    layer_open(&l, state, &params, 8, LAYER_SEQS, 13);
    place(l.seqs->data, EACH, 8);
    that(l.route.ids->ne[0] == 6, "rows have %d places, not max_experts", (int)l.route.ids->ne[0]);
    layer_compute(&l, 2);
    check_all(&l, 2);
    layer_close(&l);
    params.desc.max_experts = 10;
    params.longest_seq = 0;
    layer_open(&l, state, &params, 8, LAYER_SEQS, 13);
    that(l.route.ids->ne[0] == 10, "rows have %d places, not max_experts", (int)l.route.ids->ne[0]);
    layer_close(&l);
    snprintf(context, sizeof context, "no tokens");
    for (int layout = GGML_SEQTOPK_RAGGED; layout <= GGML_SEQTOPK_PADDED_DISTINCT; layout++) {
        params.layout = (enum ggml_seqtopk_layout)layout;
        layer_open(&l, state, &params, 0, LAYER_SEQS, 13);
        layer_compute(&l, 2);
        that(l.y->ne[1] == 0, "y has %d tokens", (int)l.y->ne[1]);
        layer_close(&l);
    }
}

/* The last two of 18 experts are every token's, beside its own of 16 logits. */
static void check_shared(struct ggml_seqtopk *state, enum ggml_seqtopk_layout layout) {
    enum { TOKENS = 20, K = 3 };
    struct ggml_seqtopk_params params = {.desc = desc_of(SEQTOPK_SCOPE_SEQUENCE, 18, K), .layout = layout};
    const struct ggml_init_params init = {ggml_tensor_overhead() * 64 + ggml_graph_overhead(), NULL, true};
    struct ggml_context *ctx = ggml_init(init);
    struct ggml_tensor *logits = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 16, TOKENS);
    layer l = {.params = params, .tokens = TOKENS};
    random_state random;
    snprintf(context, sizeof context, "shared experts, %s", layout_names[layout]);
    params.desc.shared_experts = 2;
    params.desc.shared_weight = 0.5f;
    ggml_set_input(logits);
    that(!ggml_seqtopk_moe_route(ctx, state, logits, &params, &l.route, NULL), "refused");
    that(l.route.ids->ne[0] == (l.route.offsets ? K + 2 : K + 4) && l.route.ids->ne[1] == TOKENS, "ids [%d, %d]",
         (int)l.route.ids->ne[0], (int)l.route.ids->ne[1]);
    struct ggml_cgraph *graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, l.route.ids);
    ggml_build_forward_expand(graph, l.route.weights);
    if (l.route.offsets)
        ggml_build_forward_expand(graph, l.route.offsets);
    ggml_gallocr_t memory = ggml_gallocr_new(ggml_backend_cpu_buffer_type());
    ggml_backend_t cpu = ggml_backend_cpu_init();
    that(ggml_gallocr_alloc_graph(memory, graph), "no memory");
    random_seed(&random, 19);
    for (int i = 0; i < TOKENS * 16; i++)
        ((float *)logits->data)[i] = (float)random_normal(&random);
    that(ggml_backend_graph_compute(cpu, graph) == GGML_STATUS_SUCCESS, "not computed");
    for (int32_t t = 0; t < TOKENS; t++) {
        int64_t places, first = first_of(&l, t, &places);
        int shared = 0;
        for (int64_t i = first; i < first + places; i++)
            shared += ids_of(&l)[i] >= 16 && weights_of(&l)[i] == 0.5f;
        that(shared == 2, "token %d has %d shared experts", t, shared);
    }
    ggml_gallocr_free(memory);
    ggml_backend_free(cpu);
    ggml_free(ctx);
}

/* Three of 16 experts may be had, of which each token takes all: the rest of the budget's pairs are no token's. */
static void check_tail(struct ggml_seqtopk *state, int threads) {
    enum { TOKENS = 40, EXPERTS = 16, CAN_BE_HAD = 3, K = 4 };
    const struct ggml_init_params init = {ggml_tensor_overhead() * 64 + ggml_graph_overhead(), NULL, true};
    struct ggml_context *ctx = ggml_init(init);
    struct ggml_tensor *logits = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, EXPERTS, TOKENS);
    const struct ggml_seqtopk_params params = {
        .desc = desc_of(SEQTOPK_SCOPE_SEQUENCE, EXPERTS, K), .team = GGML_SEQTOPK_TEAM_NODES, .n_threads = threads};
    struct ggml_seqtopk_route route;
    random_state random;
    snprintf(context, sizeof context, "a tail, %d threads", threads);
    that(!ggml_seqtopk_moe_route(ctx, state, logits, &params, &route, NULL), "refused");
    ggml_set_input(logits);
    ggml_set_output(route.ids->view_src);
    struct ggml_cgraph *graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, route.ids);
    ggml_build_forward_expand(graph, route.weights);
    ggml_build_forward_expand(graph, route.offsets);
    ggml_gallocr_t memory = ggml_gallocr_new(ggml_backend_cpu_buffer_type());
    ggml_backend_t cpu = ggml_backend_cpu_init();
    ggml_backend_cpu_set_n_threads(cpu, threads);
    that(ggml_gallocr_alloc_graph(memory, graph), "no memory");
    random_seed(&random, 20);
    for (int i = 0; i < TOKENS * EXPERTS; i++)
        ((float *)logits->data)[i] = i % EXPERTS < CAN_BE_HAD ? (float)random_normal(&random) : -INFINITY;
    that(ggml_backend_graph_compute(cpu, graph) == GGML_STATUS_SUCCESS, "not computed");
    const int32_t *offsets = route.offsets->data, *ids = route.ids->data;
    that(offsets[TOKENS] == TOKENS * CAN_BE_HAD, "%d pairs", offsets[TOKENS]);
    for (int32_t i = offsets[TOKENS]; i < TOKENS * K; i++)
        that(((float *)route.weights->data)[i] == 0 && ids[i] >= 0 && ids[i] < EXPERTS, "pair %d is %d, weight %g", i,
             ids[i], (double)((float *)route.weights->data)[i]);
    check_room(&route, EXPERTS);
    ggml_gallocr_free(memory);
    ggml_backend_free(cpu);
    ggml_free(ctx);
}

/* A last layer computes a few of the tokens, and routes all: docs/engines/llama.cpp.md. By a scheduler, as llama.cpp has it. */
static void check_cut(struct ggml_seqtopk *state) {
    enum { TOKENS = 30, KEPT = 4, EXPERTS = 16 };
    static const int32_t kept[KEPT] = {3, 11, 12, 29};
    const struct ggml_init_params init = {ggml_tensor_overhead() * 64 + ggml_graph_overhead(), NULL, true};
    struct ggml_context *ctx = ggml_init(init);
    struct ggml_tensor *logits = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, EXPERTS, TOKENS);
    struct ggml_tensor *out_ids = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, KEPT);
    const struct ggml_seqtopk_params params = {.desc = desc_of(SEQTOPK_SCOPE_SEQUENCE, EXPERTS, 3),
                                               .layout = GGML_SEQTOPK_PADDED_DISTINCT};
    struct ggml_seqtopk_route all, some = {0};
    random_state random;
    snprintf(context, sizeof context, "a few of the tokens");
    that(!ggml_seqtopk_moe_route(ctx, state, logits, &params, &all, NULL), "refused");
    const int64_t width = all.ids->ne[0];
    some.ids = ggml_get_rows(ctx, all.ids, out_ids);
    some.weights = ggml_get_rows(ctx, ggml_reshape_2d(ctx, all.weights, width, TOKENS), out_ids);
    some.weights = ggml_reshape_3d(ctx, some.weights, 1, width, KEPT);
    ggml_set_input(logits);
    ggml_set_input(out_ids);
    ggml_set_output(all.ids->view_src);
    ggml_set_output(some.ids);
    ggml_set_output(some.weights);
    struct ggml_cgraph *graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, some.ids);
    ggml_build_forward_expand(graph, some.weights);
    ggml_backend_t cpu = ggml_backend_cpu_init();
    ggml_backend_sched_t sched = ggml_backend_sched_new(&cpu, NULL, 1, GGML_DEFAULT_GRAPH_SIZE, false, false);
    that(ggml_backend_sched_alloc_graph(sched, graph), "no memory");
    random_seed(&random, 18);
    for (int i = 0; i < TOKENS * EXPERTS; i++)
        ((float *)logits->data)[i] = (float)random_normal(&random);
    memcpy(out_ids->data, kept, sizeof kept);
    that(ggml_backend_sched_graph_compute(sched, graph) == GGML_STATUS_SUCCESS, "not computed");
    for (int t = 0; t < KEPT; t++) {
        const size_t row = (size_t)width * 4, from = (size_t)kept[t] * row, to = (size_t)t * row;
        that(memcmp((char *)some.ids->data + to, (char *)all.ids->data + from, row) == 0 &&
                 memcmp((char *)some.weights->data + to, (char *)all.weights->data + from, row) == 0,
             "token %d", kept[t]);
    }
    ggml_backend_sched_free(sched);
    ggml_backend_free(cpu);
    ggml_free(ctx);
}

/* --------------------------------------------------------------- bad input -- */

static void check_bad_row(int32_t tokens, enum ggml_seqtopk_layout layout, int threads) {
    struct ggml_seqtopk *state = ggml_seqtopk_new();
    struct ggml_seqtopk_params params = {
        .desc = desc_of(SEQTOPK_SCOPE_SEQUENCE, 64, 8), .layout = layout, .n_threads = threads, .n_seqs = 6};
    struct ggml_seqtopk_report report;
    layer l;
    snprintf(context, sizeof context, "a bad row, %s, T %d, %d threads", layout_names[layout], tokens, threads);
    layer_open(&l, state, &params, tokens, LAYER_SEQS, 14);
    place(l.seqs->data, tokens % 2 ? TWO : MIXED, tokens);
    ((float *)l.x->data)[(int64_t)(tokens / 2) * LAYER_WIDTH] = NAN;
    layer_compute(&l, threads);
    check_all(&l, threads);
    that(ggml_seqtopk_status(state, &report) == SEQTOPK_OK && report.failures == 0 &&
             report.rows == (layout == GGML_SEQTOPK_PADDED_MINUS_ONE ? 2 : 1),
         "status %d, %d failures, %d rows", (int)ggml_seqtopk_status(state, NULL), (int)report.failures,
         (int)report.rows);
    layer_close(&l);
    ggml_seqtopk_free(state);
}

static void check_failure(enum ggml_seqtopk_layout layout, enum ggml_seqtopk_team team) {
    struct ggml_seqtopk *state = ggml_seqtopk_new();
    struct ggml_seqtopk_params params = {
        .desc = desc_of(SEQTOPK_SCOPE_SEQUENCE, 64, 8), .layout = layout, .team = team, .n_threads = 2, .n_seqs = 3};
    struct ggml_seqtopk_report report;
    layer l;
    snprintf(context, sizeof context, "a failure, %s, %s", layout_names[layout], team_names[team]);
    layer_open(&l, state, &params, 100, LAYER_SEQS, 15);
    place(l.seqs->data, MIXED, 100);
    ((int32_t *)l.seqs->data)[70] = 3;
    for (int time = 1; time <= 2; time++) { /* the second is another, and the first is told */
        layer_compute(&l, 2);
        ((int32_t *)l.seqs->data)[60] = -1;
        that(ggml_seqtopk_status(state, &report) == SEQTOPK_E_VALUE && report.failures == time &&
                 strstr(report.error.message, "seqs[70] is 3"),
             "status %d, %d failures: %s", (int)ggml_seqtopk_status(state, NULL), (int)report.failures,
             report.error.message);
    }
    for (int i = 0; i < 100 * LAYER_WIDTH; i++)
        if (!that(isnan(((const float *)l.y->data)[i]), "y[%d] is not NaN", i))
            break;
    place(l.seqs->data, MIXED, 100);
    layer_compute(&l, 2);
    check_all(&l, 2);
    that(ggml_seqtopk_status(state, NULL) == SEQTOPK_E_VALUE, "the status did not stick");
    ggml_seqtopk_clear_status(state);
    that(ggml_seqtopk_status(state, &report) == SEQTOPK_OK && report.failures == 0, "the status was not cleared");
    layer_close(&l);
    ggml_seqtopk_free(state);
}

/* A bias that is not finite fails in the library, in its own step: in each form of team. */
static void check_late_failure(enum ggml_seqtopk_team team) {
    struct ggml_seqtopk *state = ggml_seqtopk_new();
    struct ggml_seqtopk_params params = {.desc = desc_of(SEQTOPK_SCOPE_SEQUENCE, 64, 8), .team = team, .n_threads = 2};
    struct ggml_seqtopk_report report;
    layer l;
    snprintf(context, sizeof context, "a bad bias, %s", team_names[team]);
    layer_open(&l, state, &params, 100, LAYER_BIAS, 16);
    ((float *)l.bias->data)[9] = NAN;
    layer_compute(&l, 2);
    that(ggml_seqtopk_status(state, &report) == SEQTOPK_E_NONFINITE && report.failures == 1 &&
             strstr(report.error.message, "bias"),
         "status %d, %d failures: %s", (int)ggml_seqtopk_status(state, NULL), (int)report.failures,
         report.error.message);
    for (int i = 0; i < 100 * LAYER_WIDTH; i++)
        if (!that(isnan(((const float *)l.y->data)[i]), "y[%d] is not NaN", i))
            break;
    layer_close(&l);
    ggml_seqtopk_free(state);
}

static void check_refusals(struct ggml_seqtopk *state) {
    const struct ggml_init_params init = {ggml_tensor_overhead() * 64, NULL, true};
    struct ggml_context *ctx = ggml_init(init);
    struct ggml_tensor *logits = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 64, 5);
    struct ggml_tensor *short_one = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, 4);
    struct ggml_tensor *counts = ggml_new_tensor_2d(ctx, GGML_TYPE_I32, 64, 5);
    const struct ggml_seqtopk_params good = {.desc = desc_of(SEQTOPK_SCOPE_SEQUENCE, 64, 8)};
    struct ggml_seqtopk_params p;
    struct ggml_seqtopk_route route;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
#define BAD(change, of, expected, words)                                                                               \
    do {                                                                                                               \
        p = good;                                                                                                      \
        change;                                                                                                        \
        snprintf(context, sizeof context, "%s", #change);                                                              \
        that(ggml_seqtopk_moe_route(ctx, state, of, &p, &route, &error) == (expected) &&                               \
                 strstr(error.message, words) && !route.ids,                                                           \
             "status %d: %s", (int)error.status, error.message);                                                       \
    } while (0)
    BAD(route = (struct ggml_seqtopk_route){0}, NULL, SEQTOPK_E_NULL, "logits");
    BAD((void)0, counts, SEQTOPK_E_VALUE, "logits are i32");
    BAD((void)0, ggml_transpose(ctx, ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 5, 64)), SEQTOPK_E_SHAPE, "side by side");
    BAD(p.desc.experts = 63, logits, SEQTOPK_E_SHAPE, "must be [63, T], as params.desc.experts says");
    BAD((p.desc.shared_experts = 2, p.desc.shared_weight = 1.0f), logits, SEQTOPK_E_SHAPE, "must be [62, T]");
    BAD(p.desc.null_experts = 1, logits, SEQTOPK_E_UNSUPPORTED, "params.desc.null_experts");
    BAD(p.desc.top_k = 65, logits, SEQTOPK_E_VALUE, "params.desc.top_k");
    BAD(p.layout = (enum ggml_seqtopk_layout)3, logits, SEQTOPK_E_VALUE, "params.layout");
    BAD(p.team = (enum ggml_seqtopk_team)4, logits, SEQTOPK_E_VALUE, "params.team");
    BAD(p.n_threads = 1025, logits, SEQTOPK_E_VALUE, "params.n_threads");
    BAD(p.longest_seq = -1, logits, SEQTOPK_E_VALUE, "params.longest_seq");
    BAD((p.seqs = short_one, p.n_seqs = 2), logits, SEQTOPK_E_SHAPE,
        "params.seqs is i32 of 4; it must be contiguous i32 of 5");
    BAD(p.seqs = short_one, logits, SEQTOPK_E_VALUE, "params.n_seqs");
    BAD(p.bias = short_one, logits, SEQTOPK_E_SHAPE, "params.bias");
    BAD(p.factors = short_one, logits, SEQTOPK_E_SHAPE, "params.factors");
    BAD(p.pos = short_one, logits, SEQTOPK_E_VALUE, "params.pos");
    BAD(p.desc.scope = SEQTOPK_SCOPE_ONLINE, logits, SEQTOPK_E_NULL, "params.cache");
#undef BAD
    that(!ggml_seqtopk_plan(NULL, &good.desc, &error) && strstr(error.message, "state is NULL"), "%s", error.message);
    that(!ggml_seqtopk_plan(state, NULL, &error) && strstr(error.message, "desc is NULL"), "%s", error.message);
    ggml_free(ctx);
}

/* ------------------------------------------------------- one state, many threads -- */

enum { AT_ONCE = 4 };
typedef struct one_of {
    struct ggml_seqtopk *state;
    float y[24 * LAYER_WIDTH];
} one_of;

static void *build_and_compute(void *arg) {
    one_of *one = arg;
    for (int32_t top_k = 1; top_k <= 16; top_k++) {
        struct ggml_seqtopk_params params = {.desc = desc_of(SEQTOPK_SCOPE_SEQUENCE, 32, top_k)};
        layer l;
        layer_open(&l, one->state, &params, 24, 0, 17);
        layer_compute(&l, 1);
        memcpy(one->y, l.y->data, sizeof one->y);
        layer_close(&l);
    }
    return NULL;
}

static void check_threads(struct ggml_seqtopk *state) {
    static one_of ones[AT_ONCE];
    pthread_t threads[AT_ONCE];
    snprintf(context, sizeof context, "one state, %d threads", AT_ONCE);
    for (int i = 0; i < AT_ONCE; i++) {
        ones[i].state = state;
        that(pthread_create(&threads[i], NULL, build_and_compute, &ones[i]) == 0, "no thread");
    }
    for (int i = 0; i < AT_ONCE; i++) {
        pthread_join(threads[i], NULL);
        that(memcmp(ones[i].y, ones[0].y, sizeof ones[0].y) == 0, "thread %d has other bits", i);
    }
    const seqtopk_desc desc = desc_of(SEQTOPK_SCOPE_SEQUENCE, 32, 5);
    that(ggml_seqtopk_plan(state, &desc, NULL) == ggml_seqtopk_plan(state, &desc, NULL), "two plans of one desc");
}

/* ------------------------------------------------------------------- online -- */

enum { ONLINE_SEQS = 3, ONLINE_MOST = 256, ONLINE_EXPERTS = 64 };

/* What each sequence has: its logits, to route them all again. */
typedef struct past {
    float logits[ONLINE_MOST * ONLINE_EXPERTS];
    int32_t length;
} past;

static past pasts[ONLINE_SEQS];

/* What seqtopk_route over all of a sequence gives its last token. */
static int32_t last_of(const seqtopk_desc *online, const past *of, int32_t *ids, float *weights) {
    static int32_t offsets[ONLINE_MOST + 1], all_ids[ONLINE_MOST * 8];
    static float all_weights[ONLINE_MOST * 8];
    seqtopk_desc desc = *online;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan;
    desc.scope = SEQTOPK_SCOPE_SEQUENCE;
    in.logits = of->logits;
    in.tokens = of->length;
    in.on_nonfinite = SEQTOPK_NONFINITE_DROP;
    out.token_offsets = offsets;
    out.expert_ids = all_ids;
    out.weights = all_weights;
    out.capacity = ONLINE_MOST * 8;
    that(seqtopk_plan_create(&plan, &desc, &error) == SEQTOPK_OK, "%s", error.message);
    const size_t size = seqtopk_scratch_size(plan, of->length, 1, 1);
    void *scratch = malloc(size);
    that(seqtopk_route(plan, &in, &out, scratch, size, &error) == SEQTOPK_OK, "%s", error.message);
    const int32_t first = offsets[of->length - 1], n = offsets[of->length] - first;
    memcpy(ids, all_ids + first, (size_t)n * sizeof *ids);
    memcpy(weights, all_weights + first, (size_t)n * sizeof *weights);
    free(scratch);
    seqtopk_plan_destroy(plan);
    return n;
}

/* Token t of a batch is the next of a sequence: what it got beside what a route of them all gives it. */
static void check_online_token(const layer *l, past *of, int32_t t, int is_bad) {
    int32_t ids[16];
    float weights[16];
    int64_t places, first = first_of(l, t, &places);
    if (!that(of->length < ONLINE_MOST, "more tokens than there is room for"))
        return;
    memcpy(of->logits + of->length++ * ONLINE_EXPERTS, (const float *)l->logits->data + t * ONLINE_EXPERTS,
           ONLINE_EXPERTS * sizeof(float));
    const int32_t n = last_of(&l->params.desc, of, ids, weights);
    that(l->route.offsets ? places == n : places == l->params.desc.max_experts, "token %d has %d places, not %d", t,
         (int)places, n);
    for (int32_t k = 0; k < n; k++)
        that(ids_of(l)[first + k] == ids[k] && weights_of(l)[first + k] == weights[k],
             "token %d: expert %d, weight %.9g, not %d, %.9g", of->length - 1, ids_of(l)[first + k],
             (double)weights_of(l)[first + k], ids[k], (double)weights[k]);
    for (int64_t k = first + n; !l->route.offsets && k < first + places; k++)
        that(is_bad ? isnan(weights_of(l)[k]) : weights_of(l)[k] == 0, "token %d: padding has weight %g", t,
             (double)weights_of(l)[k]);
}

/* A batch of `tokens`, which go to sequences as `seqs` says; each must get what a route of its prefix gives it. */
static void step(struct ggml_seqtopk *state, struct ggml_seqtopk_params *params, const int32_t *seqs, int32_t tokens,
                 int threads, int32_t bad, uint64_t seed) {
    layer l;
    for (params->layer = 0; params->layer < 2; params->layer++) { /* of a model that has the same layer twice */
        int32_t lengths[ONLINE_SEQS];
        layer_open(&l, state, params, tokens, LAYER_SEQS | LAYER_POS, seed);
        for (int s = 0; s < ONLINE_SEQS; s++)
            lengths[s] = pasts[s].length;
        for (int32_t t = 0; t < tokens; t++) {
            ((int32_t *)l.seqs->data)[t] = seqs[t];
            ((int32_t *)l.pos->data)[t] = lengths[seqs[t]]++;
        }
        if (bad >= 0)
            ((float *)l.x->data)[bad * LAYER_WIDTH] = NAN;
        layer_compute(&l, threads);
        if (params->layer == 0)
            layer_close(&l);
    }
    params->layer = 1;
    for (int32_t t = 0; t < tokens; t++)
        check_online_token(&l, &pasts[seqs[t]], t, t == bad);
    if (l.route.offsets)
        check_ragged(&l);
    layer_close(&l);
}

static void decode(struct ggml_seqtopk *state, struct ggml_seqtopk_params *params, int32_t times, int threads) {
    static const int32_t each[] = {2, 0, 1}, alone[] = {1};
    for (int32_t i = 0; i < times; i++) {
        step(state, params, each, 3, threads, -1, 100u + (uint64_t)i);
        step(state, params, alone, 1, threads, i == 2 ? 0 : -1, 200u + (uint64_t)i);
    }
}

static void forget(past *of, int32_t from, int32_t to) {
    const size_t row = ONLINE_EXPERTS;
    memmove(of->logits + (size_t)from * row, of->logits + (size_t)to * row,
            (size_t)(of->length - to) * row * sizeof(float));
    of->length -= to - from;
}

/* What llama.cpp says to its memory: drafts are rejected, the context is shifted, a prefix is shared, all but one end. */
static void check_life(struct ggml_seqtopk *state, struct ggml_seqtopk_params *params, int threads) {
    seqtopk_cache *cache = params->cache;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    that(!ggml_seqtopk_seq_rm(cache, 0, 20, -1, &error), "%s", error.message);
    forget(&pasts[0], 20, pasts[0].length);
    that(!ggml_seqtopk_seq_rm(cache, 1, 3, 10, &error), "%s", error.message);
    forget(&pasts[1], 3, 10);
    decode(state, params, 3, threads);
    that(!ggml_seqtopk_seq_cp(cache, 2, 0, 0, 12, &error), "%s", error.message);
    pasts[0] = pasts[2];
    forget(&pasts[0], 12, pasts[0].length);
    decode(state, params, 3, threads);
    that(!ggml_seqtopk_seq_rm(cache, -1, 9, -1, &error), "%s", error.message);
    for (int s = 0; s < ONLINE_SEQS; s++)
        forget(&pasts[s], 9, pasts[s].length);
    that(!ggml_seqtopk_seq_cp(cache, 1, 2, -1, -1, &error), "%s", error.message);
    pasts[2] = pasts[1];
    decode(state, params, 3, threads);
    that(!ggml_seqtopk_seq_keep(cache, 1, &error), "%s", error.message);
    pasts[0].length = pasts[2].length = 0;
    decode(state, params, 3, threads);
    that(ggml_seqtopk_seq_cp(cache, 1, 2, 4, -1, &error) == SEQTOPK_E_UNSUPPORTED && strstr(error.message, "p0 is 4"),
         "%s", error.message);
    that(ggml_seqtopk_seq_rm(NULL, -1, 0, -1, &error) == SEQTOPK_E_NULL, "%s", error.message);
    that(ggml_seqtopk_status(state, NULL) == SEQTOPK_OK, "status %d", (int)ggml_seqtopk_status(state, NULL));
}

/* A prefix that is missing is an error that changes nothing, and a warm-up is no token at all. */
static void check_untouched(struct ggml_seqtopk *state, const struct ggml_seqtopk_params *params, int threads) {
    struct ggml_seqtopk_params p = *params;
    struct ggml_seqtopk_report report;
    const int64_t length = seqtopk_cache_length(p.cache, 1, 1);
    layer l;
    layer_open(&l, state, &p, 2, LAYER_SEQS | LAYER_POS, 30);
    for (int i = 0; i < 2; i++) {
        ((int32_t *)l.seqs->data)[i] = 1;
        ((int32_t *)l.pos->data)[i] = (int32_t)length + 5 + i;
    }
    layer_compute(&l, threads);
    that(ggml_seqtopk_status(state, &report) == SEQTOPK_E_SHAPE && report.failures == 1 &&
             strstr(report.error.message, "5 are missing"),
         "%s", report.error.message);
    layer_close(&l);
    ggml_seqtopk_clear_status(state);

    p.desc.top_k = p.desc.experts;
    layer_open(&l, state, &p, 2, LAYER_SEQS | LAYER_POS, 31);
    layer_compute(&l, threads);
    const int64_t width = l.route.offsets ? ONLINE_EXPERTS : l.route.ids->ne[0];
    that(width == ONLINE_EXPERTS, "a warm-up has %d places", (int)width);
    for (int i = 0; i < 2 * ONLINE_EXPERTS; i++)
        that(ids_of(&l)[i] == i % ONLINE_EXPERTS && weights_of(&l)[i] > 0, "a warm-up has expert %d", ids_of(&l)[i]);
    that(ggml_seqtopk_status(state, NULL) == SEQTOPK_OK, "status %d", (int)ggml_seqtopk_status(state, NULL));
    that(seqtopk_cache_length(p.cache, 1, 1) == length, "the cache has changed");
    layer_close(&l);
}

static void check_online(enum ggml_seqtopk_layout layout, enum ggml_seqtopk_team team, int threads) {
    struct ggml_seqtopk *state = ggml_seqtopk_new();
    struct ggml_seqtopk_params params = {
        .desc = desc_of(SEQTOPK_SCOPE_ONLINE, ONLINE_EXPERTS, 4), .layout = layout, .team = team, .n_threads = threads};
    seqtopk_cache_desc cache_desc = SEQTOPK_CACHE_DESC_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    struct ggml_seqtopk_report report;
    int32_t seqs[70];
    snprintf(context, sizeof context, "online, %s, %s, %d threads", layout_names[layout], team_names[team], threads);
    for (int s = 0; s < ONLINE_SEQS; s++)
        pasts[s].length = 0;
    cache_desc.layers = 2;
    cache_desc.sequences = ONLINE_SEQS;
    params.desc.dtype = SEQTOPK_DTYPE_F32;
    cache_desc.plan = ggml_seqtopk_plan(state, &params.desc, &error);
    that(seqtopk_cache_create(&params.cache, &cache_desc, &error) == SEQTOPK_OK, "%s", error.message);
    for (int t = 0; t < 70; t++)
        seqs[t] = (t * 7 / 2) % 3;
    step(state, &params, seqs, 70, threads, 41, 21);
    decode(state, &params, 4, threads);
    that(ggml_seqtopk_status(state, &report) == SEQTOPK_OK && report.rows == 4, "status %d, %d rows: %s",
         (int)ggml_seqtopk_status(state, NULL), (int)report.rows, report.error.message);
    check_life(state, &params, threads);
    check_untouched(state, &params, threads);
    seqtopk_cache_destroy(params.cache);
    ggml_seqtopk_free(state);
}

int main(void) {
    struct ggml_seqtopk *state = ggml_seqtopk_new();
    check_shapes(state);
    check_inputs(state);
    check_widths(state);
    check_cut(state);
    check_tail(state, 1);
    check_tail(state, 2);
    check_shared(state, GGML_SEQTOPK_RAGGED);
    check_shared(state, GGML_SEQTOPK_PADDED_DISTINCT);
    check_threads(state);
    check_refusals(state);
    for (int layout = GGML_SEQTOPK_RAGGED; layout <= GGML_SEQTOPK_PADDED_MINUS_ONE; layout++) {
        check_failure((enum ggml_seqtopk_layout)layout, GGML_SEQTOPK_TEAM_SERIAL);
        check_failure((enum ggml_seqtopk_layout)layout, GGML_SEQTOPK_TEAM_NODES);
        for (int threads = 1; threads <= 2; threads++) {
            check_bad_row(1, (enum ggml_seqtopk_layout)layout, threads);
            check_bad_row(101, (enum ggml_seqtopk_layout)layout, threads);
            check_bad_row(200, (enum ggml_seqtopk_layout)layout, threads);
        }
    }
    for (int team = GGML_SEQTOPK_TEAM_SERIAL; team <= GGML_SEQTOPK_TEAM_BARRIER; team++)
        check_late_failure((enum ggml_seqtopk_team)team);
    for (int layout = GGML_SEQTOPK_RAGGED; layout <= GGML_SEQTOPK_PADDED_DISTINCT; layout++)
        for (int team = GGML_SEQTOPK_TEAM_SERIAL; team <= GGML_SEQTOPK_TEAM_BARRIER; team++)
            check_online((enum ggml_seqtopk_layout)layout, (enum ggml_seqtopk_team)team, 2);
    ggml_seqtopk_free(state);
    printf("%ld passed, %ld failed\n", passed, failed);
    return failed > 0;
}
