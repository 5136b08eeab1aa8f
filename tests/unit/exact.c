/* SPDX-License-Identifier: MIT */
/* Where other routers go wrong: scores too small for a float32, groups with few candidates. */
#include "unit.h"

#include <math.h>

/* Routes one row of n logits by token. */
static void route_row(unit *u, const float *logits, int32_t n, int32_t top_k) {
    memcpy(u->logits, logits, (size_t)n * sizeof *logits);
    u->desc.experts = n;
    u->desc.top_k = top_k;
    u->desc.scope = SEQTOPK_SCOPE_TOKEN;
    u->in.tokens = 1;
    u->out.capacity = top_k;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
    cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
}

static void expect_weights(const unit *u, const double *weights, int32_t n) {
    cr_assert_eq(u->selected, n);
    for (int32_t i = 0; i < n; i++) {
        const double w = u->weights[i], bound = 1e-6 + 1.2e-7 * fabs(log(weights[i]));
        cr_expect(fabs(w - weights[i]) <= bound * weights[i], "weight %d is %.9g, not %.9g", (int)i, w, weights[i]);
    }
}

/* The shares of exp(-1) and 1. */
static const double larger = 0.7310585786300049, smaller = 0.2689414213699951;

static void on_every_isa(void (*test)(unit *u)) {
    const char *isa;
    for (int32_t i = 0; (isa = seqtopk_isa_name(i)); i++) {
        if (!seqtopk_isa_usable(isa))
            continue;
        unit *u = unit_new();
        u->desc.isa = isa;
        test(u);
        unit_free(u);
    }
}

static void small_scores(unit *u) {
    u->desc.norm = SEQTOPK_NORM_SUM;
    u->desc.score = SEQTOPK_SCORE_SIGMOID;
    route_row(u, (const float[]){-100, -101}, 2, 2);
    expect_weights(u, (const double[]){larger, smaller}, 2);
    float same[8];
    double eighths[8];
    for (int i = 0; i < 8; i++) {
        same[i] = -110;
        eighths[i] = 0.125;
    }
    route_row(u, same, 8, 8);
    expect_weights(u, eighths, 8);
    /* Nothing is too far down, and nothing too far apart. */
    route_row(u, (const float[]){-3e38f, -3e38f}, 2, 2);
    expect_weights(u, (const double[]){0.5, 0.5}, 2);
    route_row(u, (const float[]){-3e38f, -80}, 2, 2);
    cr_expect(u->weights[0] == 0 && u->weights[1] == 1);
    /* sqrt(softplus(x)) falls like exp(x / 2). */
    u->desc.score = SEQTOPK_SCORE_SQRTSOFTPLUS;
    route_row(u, (const float[]){-202, -200}, 2, 2);
    expect_weights(u, (const double[]){smaller, larger}, 2);
    /* Of large scores and small ones the large ones decide. */
    u->desc.score = SEQTOPK_SCORE_SIGMOID;
    route_row(u, (const float[]){-100, 0}, 2, 2);
    cr_expect(u->weights[0] < 1e-43f && u->weights[1] == 1);
}
Test(exact, small_scores) { on_every_isa(small_scores); }

/* The expert that has nearly all of the row is excluded: the others' probabilities are exp(-100) and less. */
static void dominant_expert_excluded(unit *u) {
    float bias[] = {-INFINITY, 0, 0, 0};
    u->desc.norm = SEQTOPK_NORM_SUM;
    u->desc.score = SEQTOPK_SCORE_SOFTMAX;
    u->in.bias = bias;
    route_row(u, (const float[]){100, 0, 1, -1}, 4, 2);
    cr_expect(u->expert_ids[0] == 1 && u->expert_ids[1] == 2);
    expect_weights(u, (const double[]){smaller, larger}, 2);
}
Test(exact, dominant_expert_excluded) { on_every_isa(dominant_expert_excluded); }

/* Probabilities far from 1 that are still whole float32 numbers: their logarithms are rounded by much. */
static void improbable_winners(unit *u) {
    static const float bias[] = {-INFINITY, 0, 0, 0};
    u->desc.norm = SEQTOPK_NORM_SUM;
    u->desc.score = SEQTOPK_SCORE_SOFTMAX;
    u->in.bias = bias;
    for (int i = 0; i < 1000; i++) {
        /* From exp(-1) to exp(-67), a few steps of float32 apart. */
        const float top = 88.3f, x[] = {top, top - 1 - 0.0661f * (float)i, top - 2.1f - 0.06607f * (float)i,
                                        top - 3.7f - 0.0653f * (float)i};
        double weights[3], sum = 0;
        for (int e = 0; e < 3; e++)
            sum += weights[e] = exp((double)x[e + 1] - (double)x[1]);
        for (int e = 0; e < 3; e++)
            weights[e] /= sum;
        route_row(u, x, 4, 3);
        expect_weights(u, weights, 3);
    }
}
Test(exact, improbable_winners) { on_every_isa(improbable_winners); }

/* The published formula holds where something is added to the sum, or it is clamped. */
static void eps_and_floor(unit *u) {
    u->desc.norm = SEQTOPK_NORM_SUM;
    u->desc.score = SEQTOPK_SCORE_SIGMOID;
    u->desc.norm_eps = 1e-20f;
    route_row(u, (const float[]){-100, -101}, 2, 2);
    cr_expect(u->weights[0] < 1e-23f && u->weights[1] < 1e-23f);
    u->desc.norm_eps = 0;
    u->desc.norm_floor = 1e-12f;
    route_row(u, (const float[]){-100, -101}, 2, 2);
    cr_expect(u->weights[0] < 1e-31f && u->weights[1] < 1e-31f);
}
Test(exact, eps_and_floor) { on_every_isa(eps_and_floor); }

/* Groups with fewer candidates than their score adds up: by what they have, after the others. */
static void groups_with_few_candidates(unit *u) {
    const float none = -INFINITY;
    u->desc.groups = 4;
    u->desc.group_top_k = 2;
    u->desc.group_score = SEQTOPK_GROUP_TOP2;
    route_row(u, (const float[]){none, none, 1, none, none, none, 2, none}, 8, 3);
    cr_assert_eq(u->selected, 2);
    cr_expect(u->expert_ids[0] == 2 && u->expert_ids[1] == 6);
    /* A whole group comes first, however bad it is. */
    route_row(u, (const float[]){3, none, -9, -9, none, none, 4, none}, 8, 3);
    cr_assert_eq(u->selected, 3);
    cr_expect(u->expert_ids[0] == 2 && u->expert_ids[1] == 3 && u->expert_ids[2] == 6);
}
Test(exact, groups_with_few_candidates) { on_every_isa(groups_with_few_candidates); }
