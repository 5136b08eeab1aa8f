/* SPDX-License-Identifier: MIT */
/* What a router may say beside score, groups and bias, on rows that can be reckoned by hand; and what is refused. */
#include "unit.h"

#include <math.h>

/* One row of 8 logits in token scope. */
static unit *one_row(const float *row) {
    unit *u = unit_new();
    u->desc.scope = SEQTOPK_SCOPE_TOKEN;
    u->in.tokens = 1;
    memcpy(u->logits, row, 8 * sizeof *row);
    u->out.capacity = 64;
    return u;
}

static void routes(unit *u) { cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message); }

static void expect_weights(const unit *u, int n, const double *right) {
    cr_assert_eq(u->selected, n);
    for (int i = 0; i < n; i++)
        cr_expect_float_eq((double)u->weights[i], right[i], 2e-6, "weight %d is %g, not %g", i, (double)u->weights[i],
                           right[i]);
}

Test(routers, quota) {
    static const float row[] = {9, 8, 7, 6, 1, 0, 2, 3};
    unit *u = one_row(row);
    u->desc.groups = 4;
    u->desc.group_quota = 1;
    u->desc.top_k = 4;
    routes(u);
    UNIT_EXPECT(u->expert_ids, 0, 2, 4, 7);
    u->desc.top_k = 3; /* the best of the best */
    unit_plan(u);
    routes(u);
    UNIT_EXPECT(u->expert_ids, 0, 2, 7);
    cr_expect_eq(u->selected, 3);
    u->desc.top_k = 2;
    u->desc.group_top_k = 2; /* and of the best groups alone */
    unit_plan(u);
    routes(u);
    UNIT_EXPECT(u->expert_ids, 0, 2);
    unit_free(u);
}

Test(routers, key_from_logit) {
    static const float row[] = {1, 2, 3, 4, 0, 0, 0, 0};
    static const float bias[] = {10, 0, 0, 0, 0, 0, 0, 0};
    const double right[] = {1 / (1 + exp(-1)), 1 / (1 + exp(-4))};
    unit *u = one_row(row);
    u->desc.score = SEQTOPK_SCORE_SIGMOID;
    u->desc.key_from = SEQTOPK_KEY_FROM_LOGIT;
    u->in.bias = bias;
    routes(u);
    UNIT_EXPECT(u->expert_ids, 0, 3);
    expect_weights(u, 2, right);
    unit_free(u);
}

/* Where sigmoids saturate keys from scores tie, and those from logits do not. */
Test(routers, keys_from_logits_do_not_saturate) {
    static const float row[] = {20, 21, 22, 23, 24, 25, 26, 27}, bias[8] = {0};
    unit *u = one_row(row);
    u->desc.score = SEQTOPK_SCORE_SIGMOID;
    u->in.bias = bias;
    routes(u);
    UNIT_EXPECT(u->expert_ids, 0, 1);
    u->desc.key_from = SEQTOPK_KEY_FROM_LOGIT;
    unit_plan(u);
    routes(u);
    UNIT_EXPECT(u->expert_ids, 6, 7);
    unit_free(u);
}

Test(routers, scaled_and_capped) {
    static const float row[] = {100, 3, 0, -3, -100, -INFINITY, 1, 2};
    unit *u = one_row(row);
    u->desc.top_k = 7;
    u->desc.norm = SEQTOPK_NORM_NONE;
    u->desc.logit_scale = 0.5f;
    u->desc.logit_softcap = 10;
    const double right[] = {10 * tanh(5),    10 * tanh(0.15), 0, 10 * tanh(-0.15), 10 * tanh(-5),
                            10 * tanh(0.05), 10 * tanh(0.1)};
    routes(u);
    UNIT_EXPECT(u->expert_ids, 0, 1, 2, 3, 4, 6, 7);
    expect_weights(u, 7, right);
    u->desc.logit_softcap = 0;
    u->desc.logit_scale = 3e38f; /* what overflows is the largest, and no infinity */
    unit_plan(u);
    routes(u);
    cr_expect_eq(u->weights[0], 0x1.fffffep127f);
    cr_expect_eq(u->weights[4], -0x1.fffffep127f);
    cr_expect_eq(u->selected, 7);
    u->logits[3] = NAN;
    cr_expect_eq(unit_route(u), SEQTOPK_E_NONFINITE);
    unit_free(u);
}

Test(routers, null_experts) {
    static const float row[] = {0, 1, 2, 5, 4, 3, 6, -1};
    float null = -1;
    unit *u = one_row(row);
    const double sum = exp(-3) + exp(-2) + exp(-1) + 1, right[] = {exp(-1) / sum, exp(-2) / sum};
    u->desc.top_k = 4;
    u->desc.null_experts = 3; /* 5, 6 and 7 */
    u->out.null_weights = &null;
    routes(u);
    UNIT_EXPECT(u->expert_ids, 3, 4);
    expect_weights(u, 2, right);
    cr_expect_float_eq((double)null, (exp(-3) + 1) / sum, 1e-6);
    UNIT_EXPECT(u->expert_offsets, 0, 0, 0, 0, 1, 2); /* of the five others */
    cr_expect_eq(seqtopk_max_per_token(u->plan), 4);
    u->desc.null_experts = 0;
    unit_plan(u);
    cr_expect_eq(unit_route(u), SEQTOPK_E_UNSUPPORTED);
    cr_expect(strstr(u->error.message, "null_weights"), "%s", u->error.message);
    unit_free(u);
}

Test(routers, shared_experts_in_the_norm) {
    static const float row[] = {0, 1, 2, 3, 4, 5, -2, -1};
    unit *u = one_row(row);
    double right[4], sum = 0;
    u->desc.score = SEQTOPK_SCORE_SIGMOID;
    u->desc.norm = SEQTOPK_NORM_SUM;
    u->desc.scale = 8;
    u->desc.shared_experts = 2;
    u->desc.order = SEQTOPK_ORDER_RANK;
    static const int ids[] = {5, 4, 6, 7};
    for (int i = 0; i < 4; i++)
        sum += right[i] = 1 / (1 + exp(-(double)row[ids[i]]));
    for (int i = 0; i < 4; i++)
        right[i] *= 8 / sum;
    routes(u);
    UNIT_EXPECT(u->expert_ids, 5, 4, 6, 7);
    expect_weights(u, 4, right);
    cr_expect_eq(seqtopk_max_selected(u->plan, 3), 12);
    u->logits[7] = NAN;
    cr_expect_eq(unit_route(u), SEQTOPK_E_NONFINITE, "logits of shared experts are looked at too");
    unit_free(u);
}

/* Logits have no columns of them. */
Test(routers, shared_experts_of_a_fixed_weight) {
    static const float row[] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const float factors[] = {1, 1, 1, 1, 1, 1, 1, 1, 2};
    const double right[] = {1 / (1 + exp(1)), 1 / (1 + exp(-1)), 0.8};
    unit *u = one_row(row);
    u->desc.experts = 9;
    u->desc.shared_experts = 1;
    u->desc.shared_weight = 0.4f;
    u->in.expert_factors = factors;
    routes(u);
    UNIT_EXPECT(u->expert_ids, 6, 7, 8);
    expect_weights(u, 3, right);
    unit_free(u);
}

Test(routers, sparsemixer) {
    static const float row[] = {1.0f, 0.999f, 0.5f, 0.985f, -1, 0, 0.975f, 0.2f};
    unit *u = one_row(row);
    /* Within 2 % of 1: itself, 0.999, 0.985; of 0.999 without the first: 0.999, 0.985. */
    const double right[] = {1 / (1 + exp(-0.001) + exp(-0.015)), 1 / (1 + exp(-0.014))};
    u->desc.norm = SEQTOPK_NORM_SPARSEMIXER;
    routes(u);
    UNIT_EXPECT(u->expert_ids, 0, 1);
    expect_weights(u, 2, right);
    float bias[8] = {0};
    u->in.bias = bias;
    cr_expect_eq(unit_route(u), SEQTOPK_E_UNSUPPORTED);
    unit_free(u);
}

Test(routers, runners_and_margins) {
    static const float row[] = {0, 1, 2, 5, 4, 3.5f, -INFINITY, -1};
    int32_t runners[7];
    float margin = 0;
    unit *u = one_row(row);
    u->out.runner_ids = runners;
    u->out.runners = 7;
    u->out.margins = &margin;
    routes(u);
    UNIT_EXPECT(runners, 5, 2, 1, 0, 7, -1, -1);
    cr_expect_eq(margin, 0.5f);
    static const int32_t given[] = {3, 0}; /* not the best */
    u->in.given_ids = given;
    u->in.given_width = 2;
    routes(u);
    UNIT_EXPECT(runners, 4, 5, 2);
    cr_expect_eq(margin, -4.0f);
    u->out.runners = 9;
    cr_expect_eq(unit_route(u), SEQTOPK_E_VALUE);
    cr_expect(strstr(u->error.message, "runners"), "%s", u->error.message);
    unit_free(u);
}

/* Two sequences whose tokens take turns. */
Test(routers, sequence_of_each_token) {
    static const int32_t of[] = {1, 0, 1, 0}, none[] = {1, 0, 2, 0};
    static const float rows[4][8] = {
        {9, 8, 7, 0, 0, 0, 0, 0}, {1, 0, 0, 0, 0, 0, 0, 0}, {6, 0, 0, 0, 0, 0, 0, 0}, {5, 4, 3, 0, 0, 0, 0, 0}};
    int32_t ways[2];
    unit *u = unit_new();
    memcpy(u->logits, rows, sizeof rows);
    u->in.token_seq = of;
    u->in.sequences = 2;
    u->out.ways = ways;
    routes(u);
    UNIT_EXPECT(u->token_offsets, 0, 3, 4, 5, 8);
    UNIT_EXPECT(u->expert_ids, 0, 1, 2, 0, 0, 0, 1, 2);
    UNIT_EXPECT(u->expert_tokens, 0, 1, 2, 3, 0, 3, 0, 3);
    u->in.token_seq = none;
    cr_expect_eq(unit_route(u), SEQTOPK_E_VALUE);
    cr_expect_eq(u->error.token, 2);
    cr_expect(strstr(u->error.message, "token_seq[2]"), "%s", u->error.message);
    static const int32_t cu[] = {0, 2, 4};
    u->in.token_seq = of;
    u->in.cu_seqlens = cu;
    cr_expect_eq(unit_route(u), SEQTOPK_E_SHAPE);
    u->in.cu_seqlens = NULL;
    u->logits[8] = u->logits[0] = NAN; /* tokens 1 and 0, of sequences 0 and 1 */
    cr_expect_eq(unit_route(u), SEQTOPK_E_NONFINITE);
    cr_expect_eq(u->error.token, 0, "the first in the caller's order");
    unit_free(u);
}

/* What part 0 finds out in the first step, every part is told in those that follow: teams keep the last status. */
Test(routers, a_team_is_told_that_a_way_does_not_serve_a_mixture) {
    static const int32_t of[] = {1, 0, 1, 0}, in_order[] = {0, 0, 1, 1};
    const int32_t *const both[] = {of, in_order};
    unit *u = unit_new();
    u->desc.way = "sweep_scores"; /* for a bias, and this call has none */
    cr_assert_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
    u->in.sequences = 2;
    for (int which = 0; which < 2; which++)
        for (int32_t parts = 1; parts <= 3; parts++)
            for (int32_t step = 0; step < seqtopk_route_steps(u->plan); step++)
                for (int32_t part = 0; part < parts; part++) {
                    u->in.token_seq = both[which];
                    const seqtopk_status status = seqtopk_route_part(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH,
                                                                     step, part, parts, &u->error);
                    cr_expect_eq(status, step == 0 && part > 0 ? SEQTOPK_OK : SEQTOPK_E_KERNEL, "step %d part %d of %d",
                                 (int)step, (int)part, (int)parts);
                    cr_expect_eq(u->error.token, status ? which == 0 : -1);
                }
    unit_free(u);
}

Test(routers, a_team_is_told_that_the_rows_of_a_mixture_are_too_narrow) {
    static const int32_t of[] = {1, 0, 1, 0};
    unit *u = unit_new();
    cr_assert_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
    u->in.sequences = 2;
    u->in.token_seq = of;
    u->out.padded_ids = u->padded_ids;
    for (u->out.padded_width = 3; u->out.padded_width <= 4;
         u->out.padded_width++) /* two tokens of a sequence get 4 at most */
        for (int32_t parts = 1; parts <= 3; parts++)
            for (int32_t step = 0; step < seqtopk_route_steps(u->plan); step++)
                for (int32_t part = 0; part < parts; part++) {
                    const seqtopk_status status = seqtopk_route_part(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH,
                                                                     step, part, parts, &u->error);
                    const int is_refused = u->out.padded_width < 4 && (step > 0 || part == 0);
                    cr_expect_eq(status, is_refused ? SEQTOPK_E_CAPACITY : SEQTOPK_OK, "width %d step %d part %d of %d",
                                 (int)u->out.padded_width, (int)step, (int)part, (int)parts);
                    cr_expect(!is_refused || strstr(u->error.message, "can get 4 experts"), "%s", u->error.message);
                }
    unit_free(u);
}

Test(routers, width_of_a_batch) {
    unit *u = unit_new(); /* E 8, K 2, no bounds */
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_expect_eq(seqtopk_max_width(u->plan, 0), 0);
    cr_expect_eq(seqtopk_max_width(u->plan, 1), 2);
    cr_expect_eq(seqtopk_max_width(u->plan, 3), 6);
    cr_expect_eq(seqtopk_max_width(u->plan, 4), 8);
    cr_expect_eq(seqtopk_max_width(u->plan, INT64_MAX), 8);
    cr_expect_eq(seqtopk_max_width(u->plan, -1), 0);
    cr_expect_eq(seqtopk_max_width(NULL, 1), 0);
    static const int32_t cu[] = {0, 1, 4};
    u->in.cu_seqlens = cu;
    u->in.sequences = 2;
    u->out.padded_ids = u->padded_ids;
    u->out.padded_width = 6;
    routes(u);
    u->out.padded_width = 5;
    cr_expect_eq(unit_route(u), SEQTOPK_E_CAPACITY);
    /* The same of token_seq, whose sequences are counted, whether they stand together or not. */
    static const int32_t together[] = {0, 1, 1, 1}, apart[] = {1, 0, 1, 1}, four[] = {1, 1, 1, 1};
    u->in.cu_seqlens = NULL;
    for (int i = 0; i < 2; i++) {
        u->in.token_seq = i ? apart : together;
        u->out.padded_width = 6;
        routes(u);
        u->out.padded_width = 5;
        cr_expect_eq(unit_route(u), SEQTOPK_E_CAPACITY);
        cr_expect(strstr(u->error.message, "can get 6"), "%s", u->error.message);
    }
    u->in.token_seq = four;
    u->out.padded_width = 6;
    cr_expect_eq(unit_route(u), SEQTOPK_E_CAPACITY);
    unit_free(u);
}

static int falling(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Of [first, last) tokens of 8 logits, each of which may have `most`: the budget-th best less the next. */
static float margin(const float *logits, int first, int last, int most, int budget) {
    float left[UNIT_CELLS];
    int n = 0;
    for (int t = first; t < last; t++) {
        float row[UNIT_EXPERTS];
        memcpy(row, logits + t * UNIT_EXPERTS, sizeof row);
        qsort(row, UNIT_EXPERTS, sizeof *row, falling);
        for (int i = 0; i < most; i++)
            left[n++] = row[i];
    }
    qsort(left, (size_t)n, sizeof *left, falling);
    return budget < n ? left[budget - 1] - left[budget] : INFINITY;
}

Test(routers, margins_of_sequences) {
    static const int32_t cu[] = {0, 3, 3, 4}, of[] = {0, 2, 0, 0}, at[] = {0, 2, 3, 1};
    for (int32_t most = 2; most <= 8; most += 2)
        for (int k = 0; k < 4; k++) {
            unit *u = unit_new();
            float margins[3] = {-1, -1, -1}, rows[UNIT_CELLS];
            const float *logits = u->logits;
            for (int i = 0; i < UNIT_CELLS; i++)
                u->logits[i] = (float)((i * 37 + k * 5) % 61) / (k == 3 ? 16.0f : 3.0f);
            if (k == 3) /* a tie at the cut of the first */
                u->logits[0] = u->logits[8] = u->logits[16] = u->logits[1] = u->logits[9] = u->logits[17] =
                    u->logits[2] = 9;
            memcpy(rows, u->logits, sizeof rows);
            u->desc.max_experts = most;
            u->in.cu_seqlens = cu;
            u->in.sequences = 3;
            u->out.sequence_margins = margins;
            if (k == 1) { /* the same tokens, mixed */
                for (int t = 0; t < UNIT_TOKENS; t++)
                    memcpy(u->logits + at[t] * UNIT_EXPERTS, rows + t * UNIT_EXPERTS, UNIT_EXPERTS * sizeof *rows);
                u->in.cu_seqlens = NULL;
                u->in.token_seq = of;
                logits = rows;
            }
            if (k == 2) { /* a team */
                cr_assert_eq(unit_plan(u), SEQTOPK_OK);
                for (int32_t step = 0; step < seqtopk_route_steps(u->plan); step++)
                    for (int32_t part = 0; part < 2; part++)
                        cr_assert_eq(
                            seqtopk_route_part(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, step, part, 2, NULL),
                            SEQTOPK_OK);
            } else {
                routes(u);
            }
            cr_expect_eq(margins[0], margin(logits, 0, 3, most, 6), "most %d, kind %d: %g", (int)most, k, margins[0]);
            cr_expect_eq(margins[1], INFINITY);
            cr_expect_eq(margins[2], margin(logits, 3, 4, most, 2), "most %d, kind %d: %g", (int)most, k, margins[2]);
            u->in.tokens = 1; /* a token alone goes another way */
            u->in.cu_seqlens = u->in.token_seq = NULL;
            routes(u);
            cr_expect_eq(margins[0], margin(u->logits, 0, 1, most, 2), "alone, most %d: %g", (int)most, margins[0]);
            u->desc.scope = SEQTOPK_SCOPE_TOKEN;
            u->desc.max_experts = 0;
            cr_assert_eq(unit_plan(u), SEQTOPK_OK);
            cr_expect_eq(unit_route(u), SEQTOPK_E_UNSUPPORTED);
            cr_expect(strstr(u->error.message, "sequence_margins"), "%s", u->error.message);
            unit_free(u);
        }
}

/* Each says what is wrong, by the field's name. */
Test(routers, refused) {
    static const struct {
        const char *names;
        seqtopk_desc desc;
        seqtopk_status status;
    } cases[] = {
#define E8K2 .experts = 8, .top_k = 2
        {"group_quota", {E8K2, .group_quota = 1}, SEQTOPK_E_VALUE},
        {"group_quota", {E8K2, .groups = 4, .group_quota = -1}, SEQTOPK_E_VALUE},
        {"group_quota", {E8K2, .groups = 4, .group_quota = 3}, SEQTOPK_E_VALUE},
        {"top_k is 5", {.experts = 8, .top_k = 5, .groups = 4, .group_quota = 1}, SEQTOPK_E_VALUE},
        {"key_from", {E8K2, .key_from = (seqtopk_key_from)2}, SEQTOPK_E_VALUE},
        {"key_from",
         {E8K2, .scope = SEQTOPK_SCOPE_TOKEN, .key_from = SEQTOPK_KEY_FROM_LOGIT, .min_p = 0.5f},
         SEQTOPK_E_VALUE},
        {"logit_scale", {E8K2, .logit_scale = -1}, SEQTOPK_E_VALUE},
        {"logit_scale", {E8K2, .logit_scale = NAN}, SEQTOPK_E_VALUE},
        {"logit_softcap", {E8K2, .logit_softcap = INFINITY}, SEQTOPK_E_VALUE},
        {"quotient", {E8K2, .logit_scale = 1e30f, .logit_softcap = 1e-30f}, SEQTOPK_E_VALUE},
        {"null_experts", {E8K2, .null_experts = 8}, SEQTOPK_E_VALUE},
        {"null_experts", {E8K2, .null_experts = -1}, SEQTOPK_E_VALUE},
        {"shared_experts", {E8K2, .score = SEQTOPK_SCORE_SIGMOID, .shared_experts = 8}, SEQTOPK_E_VALUE},
        {"compete", {E8K2, .score = SEQTOPK_SCORE_SIGMOID, .shared_experts = 7}, SEQTOPK_E_VALUE},
        {"SOFTMAX", {E8K2, .shared_experts = 1}, SEQTOPK_E_UNSUPPORTED},
        {"both", {E8K2, .shared_experts = 1, .shared_weight = 1, .null_experts = 1}, SEQTOPK_E_UNSUPPORTED},
        {"shared_weight", {E8K2, .shared_weight = 1}, SEQTOPK_E_VALUE},
        {"shared_weight", {E8K2, .shared_experts = 1, .shared_weight = NAN}, SEQTOPK_E_VALUE},
        {"SPARSEMIXER", {E8K2, .norm = SEQTOPK_NORM_SPARSEMIXER}, SEQTOPK_E_VALUE},
        {"SPARSEMIXER",
         {E8K2, .score = SEQTOPK_SCORE_LOGITS, .norm = SEQTOPK_NORM_SPARSEMIXER, .groups = 2, .group_top_k = 1},
         SEQTOPK_E_UNSUPPORTED},
        {"norm_jitter", {E8K2, .norm_jitter = -1}, SEQTOPK_E_VALUE},
#undef E8K2
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        seqtopk_desc desc = cases[i].desc;
        seqtopk_error error = SEQTOPK_ERROR_INIT;
        seqtopk_plan *plan;
        desc.struct_size = sizeof desc;
        cr_expect_eq(seqtopk_plan_create(&plan, &desc, &error), cases[i].status, "%zu: %s", i, error.message);
        cr_expect(strstr(error.message, cases[i].names), "%s: %s", cases[i].names, error.message);
        cr_expect_null(plan);
    }
}
