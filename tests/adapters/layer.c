/* SPDX-License-Identifier: MIT */
#include "layer.h"

#include "tests/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct ggml_tensor *input(layer *l, enum ggml_type type, int64_t ne0, int64_t ne1, int64_t ne2) {
    struct ggml_tensor *t = ggml_new_tensor_3d(l->ctx, type, ne0, ne1, ne2);
    ggml_set_input(t);
    ggml_set_output(t); /* nor is it written over: a graph is computed several times */
    return t;
}

static void fill(const struct ggml_tensor *tensor, random_state *random, double scale) {
    for (int64_t i = 0; tensor && i < ggml_nelements(tensor); i++)
        ((float *)tensor->data)[i] = (float)(scale * random_normal(random));
}

static void need(int fine, const char *what) {
    if (!fine) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

void layer_open(layer *l, struct ggml_seqtopk *state, const struct ggml_seqtopk_params *params, int32_t tokens, int has,
                uint64_t seed) {
    const struct ggml_init_params init = {ggml_tensor_overhead() * 64 + ggml_graph_overhead(), NULL, true};
    const int32_t experts = params->desc.experts;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    memset(l, 0, sizeof *l);
    l->ctx = ggml_init(init);
    l->cpu = ggml_backend_cpu_init();
    need(l->ctx && l->cpu, "ggml does not begin");
    l->params = *params;
    l->tokens = tokens;
    l->x = input(l, GGML_TYPE_F32, LAYER_WIDTH, tokens, 1);
    l->gate = input(l, GGML_TYPE_F32, LAYER_WIDTH, experts, 1);
    l->params.bias = l->bias = has & LAYER_BIAS ? input(l, GGML_TYPE_F32, experts, 1, 1) : NULL;
    l->params.factors = l->factors = has & LAYER_FACTORS ? input(l, GGML_TYPE_F32, experts, 1, 1) : NULL;
    l->params.seqs = l->seqs = has & LAYER_SEQS ? input(l, GGML_TYPE_I32, tokens, 1, 1) : NULL;
    l->params.pos = l->pos = has & LAYER_POS ? input(l, GGML_TYPE_I32, tokens, 1, 1) : NULL;

    struct ggml_tensor *logits = l->logits = ggml_mul_mat(l->ctx, l->gate, l->x);
    ggml_set_output(l->logits);
    if (has & (LAYER_F16 | LAYER_BF16)) /* in the rows of a wider one */
        logits = ggml_view_2d(
            l->ctx,
            ggml_cast(l->ctx, ggml_concat(l->ctx, logits, logits, 0), has & LAYER_F16 ? GGML_TYPE_F16 : GGML_TYPE_BF16),
            experts, tokens, (size_t)experts * 4, 0);
    need(!ggml_seqtopk_moe_route(l->ctx, state, logits, &l->params, &l->route, &error), error.message);
    ggml_set_output(l->route.ids->view_src);
    struct ggml_tensor *done;
    if (params->layout == GGML_SEQTOPK_PADDED_MINUS_ONE) {
        done = l->down = input(l, GGML_TYPE_F32, LAYER_WIDTH, l->route.ids->ne[0], tokens);
    } else {
        l->up = input(l, GGML_TYPE_F32, LAYER_WIDTH, LAYER_HIDDEN, experts);
        l->down = input(l, GGML_TYPE_F32, LAYER_HIDDEN, LAYER_WIDTH, experts);
        struct ggml_tensor *rows = ggml_seqtopk_moe_gather(l->ctx, l->x, &l->route);
        struct ggml_tensor *up = ggml_mul_mat_id(l->ctx, l->up, rows, l->route.ids);
        done = ggml_mul_mat_id(l->ctx, l->down, ggml_silu(l->ctx, up), l->route.ids);
    }
    l->y = ggml_seqtopk_moe_combine(l->ctx, done, &l->route);
    ggml_set_output(l->y);
    l->graph = ggml_new_graph(l->ctx);
    ggml_build_forward_expand(l->graph, l->route.ids);
    ggml_build_forward_expand(l->graph, l->y);
    l->memory = ggml_gallocr_new(ggml_backend_cpu_buffer_type());
    need(ggml_gallocr_alloc_graph(l->memory, l->graph), "no memory for a graph");

    random_state random;
    random_seed(&random, seed);
    fill(l->x, &random, 1);
    fill(l->gate, &random, 0.3);
    fill(l->up, &random, 0.2);
    fill(l->down, &random, 0.2);
    fill(l->bias, &random, 0.1);
    fill(l->factors, &random, 1);
}

void layer_close(layer *l) {
    ggml_gallocr_free(l->memory);
    ggml_backend_free(l->cpu);
    ggml_free(l->ctx);
}

void layer_compute(layer *l, int threads) {
    ggml_backend_cpu_set_n_threads(l->cpu, threads);
    need(ggml_backend_graph_compute(l->cpu, l->graph) == GGML_STATUS_SUCCESS, "ggml does not compute");
}

/* ----------------------------------------------------------------- plain C -- */

typedef struct candidate {
    double key;
    int32_t token, expert, rank, is_sure;
} candidate;

static int by_order(const void *a, const void *b) {
    const candidate *p = a, *q = b;
    if (p->is_sure != q->is_sure)
        return q->is_sure - p->is_sure;
    if (p->key != q->key)
        return p->key > q->key ? -1 : 1;
    return p->token != q->token ? p->token - q->token : p->expert - q->expert;
}

/* What softmax divides by, about the first logit. */
static double divisor_of(const float *row, int32_t n) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)row[i] - (double)row[0]);
    return sum;
}

static double score_of(const seqtopk_desc *desc, const float *row, int32_t e, double divisor) {
    return desc->score == SEQTOPK_SCORE_SIGMOID ? 1 / (1 + exp(-(double)row[e]))
                                                : exp((double)row[e] - (double)row[0]) / divisor;
}

static int is_finite(const float *row, int32_t n) {
    for (int32_t i = 0; i < n; i++)
        if (!isfinite(row[i]))
            return 0;
    return 1;
}

/* A token's candidates that may be selected; returns how many. */
static int32_t list_token(candidate *list, const seqtopk_desc *desc, const float *row, const float *bias, int32_t t) {
    const int32_t experts = desc->experts, most = desc->scope == SEQTOPK_SCOPE_TOKEN ? desc->top_k
                                                  : desc->max_experts                ? desc->max_experts
                                                                                     : experts;
    if (!is_finite(row, experts))
        return 0;
    const double divisor = divisor_of(row, experts);
    for (int32_t e = 0; e < experts; e++) {
        const candidate c = {score_of(desc, row, e, divisor) + (bias ? (double)bias[e] : 0), t, e, 0, 0};
        list[e] = c;
    }
    qsort(list, (size_t)experts, sizeof *list, by_order);
    for (int32_t i = 0; i < experts; i++) {
        list[i].rank = i;
        list[i].is_sure = i < desc->min_experts;
    }
    return most < experts ? most : experts;
}

/* Marks the first of `list` as selected, in `is_picked` [T, E]. */
static void spend(candidate *list, int32_t n, int32_t budget, int32_t experts, char *is_picked) {
    qsort(list, (size_t)n, sizeof *list, by_order);
    for (int32_t i = 0; i < n && i < budget; i++)
        is_picked[(int64_t)list[i].token * experts + list[i].expert] = 1;
}

static void weigh(picks *p, const seqtopk_desc *desc, const float *row, const float *factors, int32_t t) {
    double *weights = p->weights + (int64_t)t * desc->experts, sum = 0;
    const int32_t *ids = p->ids + (int64_t)t * desc->experts;
    const double divisor = divisor_of(row, desc->experts);
    for (int32_t i = 0; i < p->counts[t]; i++)
        sum += weights[i] = score_of(desc, row, ids[i], divisor);
    if (sum < (double)desc->norm_floor)
        sum = (double)desc->norm_floor;
    for (int32_t i = 0; i < p->counts[t]; i++)
        weights[i] *= (desc->norm == SEQTOPK_NORM_SUM ? 1 / sum : 1) * (factors ? (double)factors[ids[i]] : 1);
}

void picks_make(picks *p, const seqtopk_desc *desc, const float *logits, const float *bias, const float *factors,
                const int32_t *seqs, int32_t tokens) {
    const size_t cells = (size_t)tokens * (size_t)desc->experts;
    const int32_t experts = desc->experts;
    candidate *list = calloc(cells + (size_t)experts, sizeof *list);
    char *is_picked = calloc(cells, 1), *is_done = calloc((size_t)tokens, 1);
    p->counts = calloc((size_t)tokens, sizeof *p->counts);
    p->ids = calloc(cells, sizeof *p->ids);
    p->weights = calloc(cells, sizeof *p->weights);
    need(list && is_picked && is_done && p->counts && p->ids && p->weights, "no memory");
    for (int32_t first = 0; first < tokens; first++) {
        int32_t n = 0, budget = 0;
        if (is_done[first])
            continue;
        for (int32_t t = first; t < tokens; t++) {
            if (desc->scope == SEQTOPK_SCOPE_TOKEN ? t != first : seqs && seqs[t] != seqs[first])
                continue;
            const int32_t more = list_token(list + n, desc, logits + (int64_t)t * experts, bias, t);
            budget += more > 0 ? desc->top_k : 0;
            n += more;
            is_done[t] = 1;
        }
        spend(list, n, budget, experts, is_picked);
    }
    for (int32_t t = 0; t < tokens; t++) {
        for (int32_t e = 0; e < experts; e++)
            if (is_picked[(int64_t)t * experts + e])
                p->ids[(int64_t)t * experts + p->counts[t]++] = e;
        weigh(p, desc, logits + (int64_t)t * experts, factors, t);
    }
    free(list);
    free(is_picked);
    free(is_done);
}

void picks_free(picks *p) {
    free(p->counts);
    free(p->ids);
    free(p->weights);
}

static double dot(const float *a, const double *b, int32_t n) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

void layer_in_plain_c(const layer *l, const picks *p, double *y) {
    const float *x = l->x->data, *up = l->up->data, *down = l->down->data;
    const int32_t experts = l->params.desc.experts;
    for (int32_t t = 0; t < l->tokens; t++) {
        double in[LAYER_WIDTH], hidden[LAYER_HIDDEN], *out = y + (int64_t)t * LAYER_WIDTH;
        for (int32_t i = 0; i < LAYER_WIDTH; i++) {
            in[i] = (double)x[(int64_t)t * LAYER_WIDTH + i];
            out[i] = 0;
        }
        for (int32_t k = 0; k < p->counts[t]; k++) {
            const int64_t at = (int64_t)t * experts + k, expert = (int64_t)p->ids[at] * LAYER_WIDTH * LAYER_HIDDEN;
            for (int32_t h = 0; h < LAYER_HIDDEN; h++) {
                const double u = dot(up + expert + h * LAYER_WIDTH, in, LAYER_WIDTH);
                hidden[h] = u / (1 + exp(-u));
            }
            for (int32_t i = 0; i < LAYER_WIDTH; i++)
                out[i] += p->weights[at] * dot(down + expert + i * LAYER_HIDDEN, hidden, LAYER_HIDDEN);
        }
    }
}
