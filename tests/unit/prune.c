/* SPDX-License-Identifier: MIT */
/* min_p and top_p, against the definition in double precision. */
#include "unit.h"

#include <math.h>

enum { TOKENS = 37, EXPERTS = 24, TOP_K = 9 };

typedef struct batch {
    float logits[TOKENS * EXPERTS], weights[TOKENS * TOP_K];
    int32_t offsets[TOKENS + 1], ids[TOKENS * TOP_K], ways[1];
    int64_t selected;
} batch;

static double score_of(const seqtopk_desc *desc, const float *row, int32_t e) {
    double sum = 0;
    if (desc->score == SEQTOPK_SCORE_SIGMOID)
        return 1 / (1 + exp(-(double)row[e]));
    for (int32_t i = 0; i < EXPERTS; i++)
        sum += exp((double)row[i]);
    return exp((double)row[e]) / sum;
}

/* The experts that stay of one row, ascending; returns how many. */
static int32_t expect_row(const seqtopk_desc *desc, const float *row, int32_t *ids) {
    unsigned char taken[EXPERTS] = {0};
    double reached = 0, best = 0;
    int32_t n = 0;
    for (int32_t i = 0; i < desc->top_k; i++) {
        int32_t next = -1;
        for (int32_t e = 0; e < EXPERTS; e++)
            if (!taken[e] && row[e] > -INFINITY && (next < 0 || row[e] > row[next]))
                next = e;
        if (next < 0)
            break;
        const double score = score_of(desc, row, next);
        best = i == 0 ? score : best;
        if (i > 0 && i >= desc->min_experts &&
            (score < (double)desc->min_p * best || (desc->top_p > 0 && reached >= (double)desc->top_p)))
            break;
        taken[next] = 1;
        reached += score;
    }
    for (int32_t e = 0; e < EXPERTS; e++)
        if (taken[e])
            ids[n++] = e;
    return n;
}

static void expect_pruned(unit *u, batch *b) {
    for (int t = 0; t < TOKENS; t++) {
        int32_t ids[EXPERTS];
        const int32_t n = expect_row(&u->desc, b->logits + t * EXPERTS, ids), from = b->offsets[t];
        double sum = 0;
        cr_assert_eq(b->offsets[t + 1] - from, n, "token %d has %d experts, not %d", t, b->offsets[t + 1] - from, n);
        cr_assert_arr_eq(b->ids + from, ids, (size_t)n * sizeof *ids);
        for (int32_t i = 0; i < n; i++)
            sum += (double)b->weights[from + i];
        cr_assert(n == 0 || fabs(sum - 1) < 1e-5);
    }
}

static void route_all(unit *u, batch *b) {
    for (int i = 0; i < TOKENS * EXPERTS; i++)
        b->logits[i] = (float)((i * 7919 + i / EXPERTS * 104729) % 1009) / 150.0f - 3.0f;
    for (int e = 0; e < EXPERTS; e++)
        b->logits[5 * EXPERTS + e] = e % 8 == 3 ? 1.0f : -INFINITY;
    u->in.logits = b->logits;
    u->in.tokens = TOKENS;
    u->out.token_offsets = b->offsets;
    u->out.expert_ids = b->ids;
    u->out.weights = b->weights;
    u->out.expert_offsets = u->out.expert_tokens = u->out.expert_slots = NULL;
    u->out.capacity = TOKENS * TOP_K;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
    cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    expect_pruned(u, b);
    for (int32_t step = 0; step < seqtopk_route_steps(u->plan); step++)
        for (int32_t part = 3; part-- > 0;)
            cr_assert_eq(seqtopk_route_part(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, step, part, 3, NULL),
                         SEQTOPK_OK);
    expect_pruned(u, b);
}

Test(prune, as_defined) {
    static const struct {
        float min_p, top_p;
        int32_t min_experts;
    } cases[] = {{0.3f, 0, 0}, {0, 0.6f, 0}, {0.1f, 0.9f, 0}, {0.9f, 0.1f, 3}, {1, 0, 0}, {0, 1, 0}, {0.001f, 0, 9}};
    const char *isa;
    for (int32_t i = 0; (isa = seqtopk_isa_name(i)); i++)
        for (size_t c = 0; c < sizeof cases / sizeof *cases && seqtopk_isa_usable(isa); c++)
            for (int score = SEQTOPK_SCORE_SOFTMAX; score <= SEQTOPK_SCORE_SIGMOID; score++) {
                static batch b;
                unit *u = unit_new();
                u->desc.isa = isa;
                u->desc.experts = EXPERTS;
                u->desc.top_k = TOP_K;
                u->desc.scope = SEQTOPK_SCOPE_TOKEN;
                u->desc.score = (seqtopk_score)score;
                u->desc.norm = SEQTOPK_NORM_SUM;
                u->desc.min_p = cases[c].min_p;
                u->desc.top_p = score == SEQTOPK_SCORE_SOFTMAX ? cases[c].top_p : 0;
                u->desc.min_experts = u->desc.min_p > 0 || u->desc.top_p > 0 ? cases[c].min_experts : 0;
                route_all(u, &b);
                unit_free(u);
            }
}

Test(prune, refused) {
    unit *u = unit_new();
    float bias[UNIT_EXPERTS] = {0};
    u->desc.score = SEQTOPK_SCORE_SIGMOID;
    u->desc.min_p = 0.5f;
    cr_expect_eq(unit_plan(u), SEQTOPK_E_VALUE);
    cr_expect_not_null(strstr(u->error.message, "token scope"));
    u->desc.scope = SEQTOPK_SCOPE_TOKEN;
    cr_expect_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
    u->in.bias = bias;
    cr_expect_eq(unit_route(u), SEQTOPK_E_UNSUPPORTED);
    u->desc.top_p = 0.5f;
    cr_expect_eq(unit_plan(u), SEQTOPK_E_VALUE);
    u->desc.top_p = 0;
    u->desc.score = SEQTOPK_SCORE_LOGITS;
    cr_expect_eq(unit_plan(u), SEQTOPK_E_VALUE);
    u->desc.score = SEQTOPK_SCORE_SOFTMAX;
    u->desc.min_p = NAN;
    cr_expect_eq(unit_plan(u), SEQTOPK_E_VALUE);
    u->desc.min_p = 1.5f;
    cr_expect_eq(unit_plan(u), SEQTOPK_E_VALUE);
    unit_free(u);
}
