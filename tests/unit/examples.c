/* SPDX-License-Identifier: MIT */
/* The contract on examples small enough to be worked out by hand. */
#include "unit.h"

#include <math.h>

/* Three tokens, four experts. */
static const float example[] = {
    9, 8, 7, 0, /* token 0 has the three largest */
    6, 1, 1, 1, /* then token 1 has one */
    2, 3, 4, 5, /* and token 2 the next */
};

static unit *example_new(int32_t top_k) {
    unit *u = unit_new();
    memcpy(u->logits, example, sizeof example);
    u->desc.experts = 4;
    u->desc.top_k = top_k;
    u->in.tokens = 3;
    u->out.capacity = 3 * top_k;
    return u;
}

#define ROUTED(u) cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", (u)->error.message)

Test(examples, sequence_scope) {
    unit *u = example_new(2);
    ROUTED(u); /* 9 8 7 6 5 4 */
    cr_expect_eq(u->selected, 6);
    UNIT_EXPECT(u->token_offsets, 0, 3, 4, 6);
    UNIT_EXPECT(u->expert_ids, 0, 1, 2, 0, 2, 3);
    UNIT_EXPECT(u->expert_offsets, 0, 2, 3, 5, 6);
    UNIT_EXPECT(u->expert_tokens, 0, 1, 0, 0, 2, 2);
    UNIT_EXPECT(u->expert_slots, 0, 3, 1, 2, 4, 5);
    /* Weights: softmax over the selected logits of each token. */
    cr_expect_float_eq(u->weights[0], 0.66524096f, 1e-6);
    cr_expect_float_eq(u->weights[1], 0.24472847f, 1e-6);
    cr_expect_float_eq(u->weights[2], 0.09003057f, 1e-6);
    cr_expect_eq(u->weights[3], 1.0f);
    unit_free(u);
}

Test(examples, token_scope) {
    unit *u = example_new(2);
    u->desc.scope = SEQTOPK_SCOPE_TOKEN;
    ROUTED(u);
    UNIT_EXPECT(u->token_offsets, 0, 2, 4, 6);
    UNIT_EXPECT(u->expert_ids, 0, 1, 0, 1, 2, 3); /* of token 1's three ones, the lowest expert */
    unit_free(u);
}

Test(examples, rank_order) {
    unit *u = example_new(2);
    u->desc.order = SEQTOPK_ORDER_RANK;
    ROUTED(u);
    UNIT_EXPECT(u->expert_ids, 0, 1, 2, 0, 3, 2);
    cr_expect_float_eq(u->weights[4], 0.73105858f, 1e-6);
    cr_expect_float_eq(u->weights[5], 0.26894142f, 1e-6);
    unit_free(u);
}

Test(examples, bounds) {
    unit *u = example_new(2);
    u->desc.max_experts = 2;
    ROUTED(u); /* 9 8 | 6 and a 1, the lowest | 5 4 */
    UNIT_EXPECT(u->token_offsets, 0, 2, 4, 6);
    UNIT_EXPECT(u->expert_ids, 0, 1, 0, 1, 2, 3);
    u->desc.max_experts = 3;
    u->desc.min_experts = 2;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    ROUTED(u); /* every token's own two first: nothing is left for 7 */
    UNIT_EXPECT(u->token_offsets, 0, 2, 4, 6);
    u->desc.min_experts = 1;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    ROUTED(u); /* 9, 6, 5 first; then 8 7 4 */
    UNIT_EXPECT(u->token_offsets, 0, 3, 4, 6);
    unit_free(u);
}

/* A minimum that changes what a plain sequence would get. */
Test(examples, minimum) {
    unit *u = example_new(1);
    ROUTED(u); /* 9 8 7 */
    UNIT_EXPECT(u->token_offsets, 0, 3, 3, 3);
    u->desc.min_experts = 1;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    ROUTED(u); /* 9 6 5 */
    UNIT_EXPECT(u->token_offsets, 0, 1, 2, 3);
    UNIT_EXPECT(u->expert_ids, 0, 0, 3);
    unit_free(u);
}

/* A maximum below the budget leaves places empty, and the result says so. */
Test(examples, too_few_eligible) {
    unit *u = example_new(2);
    u->desc.max_experts = 1;
    ROUTED(u);
    cr_expect_eq(u->selected, 3);
    UNIT_EXPECT(u->token_offsets, 0, 1, 2, 3);
    UNIT_EXPECT(u->expert_ids, 0, 0, 3);
    unit_free(u);
}

Test(examples, ties) {
    unit *u = example_new(1);
    for (int i = 0; i < 12; i++)
        u->logits[i] = i % 2 ? 0.0f : -0.0f; /* -0 equals +0 */
    ROUTED(u);                               /* all equal: the lower token, then the lower expert */
    UNIT_EXPECT(u->token_offsets, 0, 3, 3, 3);
    UNIT_EXPECT(u->expert_ids, 0, 1, 2);
    u->desc.max_experts = 2;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    ROUTED(u);
    UNIT_EXPECT(u->token_offsets, 0, 2, 3, 3);
    UNIT_EXPECT(u->expert_ids, 0, 1, 0);
    unit_free(u);
}

Test(examples, mask) {
    unit *u = example_new(2);
    const uint8_t mask[] = {0, 1, 1};
    u->in.token_mask = mask;
    for (int e = 0; e < 4; e++)
        u->logits[e] = NAN; /* nobody looks */
    ROUTED(u);              /* a budget of 4: 6 5 4 3 */
    cr_expect_eq(u->selected, 4);
    UNIT_EXPECT(u->token_offsets, 0, 0, 1, 4);
    UNIT_EXPECT(u->expert_ids, 0, 1, 2, 3);
    const uint8_t all[] = {0, 0, 0};
    u->in.token_mask = all;
    ROUTED(u);
    cr_expect_eq(u->selected, 0);
    UNIT_EXPECT(u->token_offsets, 0, 0, 0, 0);
    UNIT_EXPECT(u->expert_offsets, 0, 0, 0, 0, 0);
    unit_free(u);
}

Test(examples, excluded_logits) {
    unit *u = example_new(2);
    for (int i = 1; i < 12; i++)
        u->logits[i] = -INFINITY;
    ROUTED(u); /* one candidate is left */
    cr_expect_eq(u->selected, 1);
    UNIT_EXPECT(u->token_offsets, 0, 1, 1, 1);
    UNIT_EXPECT(u->expert_ids, 0);
    cr_expect_eq(u->weights[0], 1.0f);
    unit_free(u);
}

Test(examples, ragged) {
    unit *u = example_new(2);
    const int32_t cu[] = {0, 0, 1, 1, 3, 3};
    u->in.cu_seqlens = cu;
    u->in.sequences = 5;
    ROUTED(u); /* token 0 alone: 9 8; tokens 1 and 2: 6 5 4 3; three empty sequences */
    UNIT_EXPECT(u->token_offsets, 0, 2, 3, 6);
    UNIT_EXPECT(u->expert_ids, 0, 1, 0, 1, 2, 3);
    unit_free(u);
}

/* A budget is not shared out: a sequence that cannot spend its own does not give it to another. */
Test(examples, sequences_do_not_compete) {
    unit *u = example_new(3);
    const int32_t cu[] = {0, 1, 3};
    u->in.cu_seqlens = cu;
    u->in.sequences = 2;
    u->logits[1] = u->logits[2] = -INFINITY; /* two candidates for three places */
    ROUTED(u);
    cr_expect_eq(u->selected, 2 + 6);
    UNIT_EXPECT(u->token_offsets, 0, 2, 4, 8);
    UNIT_EXPECT(u->expert_ids, 0, 3, 0, 1, 0, 1, 2, 3); /* of the three tied ones, the first */
    unit_free(u);
}

/* Softmax in sequence scope compares probabilities: an offset of a row changes nothing. */
Test(examples, softmax_is_by_row) {
    unit *u = example_new(1);
    static const float rows[] = {103, 100, 100, 100, /* 0.87 */
                                 2,   2,   -9,  -9,  /* 0.5, 0.5 */
                                 1,   1,   1,   1};  /* 0.25 each */
    memcpy(u->logits, rows, sizeof rows);
    u->desc.score = SEQTOPK_SCORE_SOFTMAX;
    ROUTED(u);
    UNIT_EXPECT(u->token_offsets, 0, 1, 3, 3);
    UNIT_EXPECT(u->expert_ids, 0, 0, 1);
    cr_expect_float_eq(u->weights[0], 0.87004851f, 1e-6);
    cr_expect_float_eq(u->weights[1], 0.49999165f, 1e-6);
    unit_free(u);
}

/* The bias selects; the weight is that of the unbiased score. */
Test(examples, bias) {
    unit *u = example_new(1);
    const float bias[] = {0, 0, 0, 0.9f};
    u->desc.score = SEQTOPK_SCORE_SIGMOID;
    u->desc.scope = SEQTOPK_SCOPE_TOKEN;
    u->in.bias = bias;
    ROUTED(u);
    UNIT_EXPECT(u->expert_ids, 3, 3, 3); /* 0.5 + 0.9 beats sigmoid(9); and so on */
    cr_expect_float_eq(u->weights[0], 0.5f, 1e-6);
    cr_expect_float_eq(u->weights[1], 0.73105858f, 1e-6);
    unit_free(u);
}

/* DeepSeek-V3 in small: 8 experts in 4 groups, the 2 groups whose two best add up to most. */
Test(examples, groups_of_deepseek_v3) {
    unit *u = unit_new();
    static const float row[] = {5, -9, 2, 2, 1, 1, 2, 2};
    memcpy(u->logits, row, sizeof row);
    const float bias[UNIT_EXPERTS] = {0};
    u->in.tokens = 1;
    u->desc.score = SEQTOPK_SCORE_SIGMOID;
    u->desc.scope = SEQTOPK_SCOPE_TOKEN;
    u->desc.groups = 4;
    u->desc.group_top_k = 2;
    u->desc.group_score = SEQTOPK_GROUP_TOP2;
    u->desc.norm = SEQTOPK_NORM_SUM;
    u->desc.norm_eps = 1e-20f;
    u->desc.scale = 2.5f;
    u->desc.top_k = 3;
    u->in.bias = bias;
    ROUTED(u); /* the best expert's group adds up to less than two groups of 2, 2, and both of these are kept */
    UNIT_EXPECT(u->token_offsets, 0, 3);
    UNIT_EXPECT(u->expert_ids, 2, 3, 6);
    cr_expect_float_eq(u->weights[0], 2.5f / 3, 1e-6);
    /* By the best one, its group comes first; of the tied ones, the lower. */
    u->desc.group_score = SEQTOPK_GROUP_MAX;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    ROUTED(u);
    UNIT_EXPECT(u->expert_ids, 0, 2, 3);
    unit_free(u);
}

/* A group with fewer candidates than its score adds up comes last. */
Test(examples, groups_with_too_few) {
    unit *u = unit_new();
    static const float row[] = {9, -INFINITY, -3, -3, -4, -4, -INFINITY, -INFINITY};
    memcpy(u->logits, row, sizeof row);
    u->in.tokens = 1;
    u->desc.scope = SEQTOPK_SCOPE_TOKEN;
    u->desc.groups = 4;
    u->desc.group_top_k = 2;
    u->desc.group_score = SEQTOPK_GROUP_TOP2;
    u->desc.top_k = 4;
    ROUTED(u);
    UNIT_EXPECT(u->token_offsets, 0, 4);
    UNIT_EXPECT(u->expert_ids, 2, 3, 4, 5);
    u->desc.group_top_k = 3;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    ROUTED(u); /* a place is left for the lower one of those */
    UNIT_EXPECT(u->expert_ids, 0, 2, 3, 4);
    unit_free(u);
}

Test(examples, padding) {
    unit *u = example_new(2);
    int64_t wide[UNIT_CELLS];
    float weights[UNIT_CELLS];
    u->out.padded_ids = u->padded_ids;
    u->out.padded_ids64 = wide;
    u->out.padded_weights = weights;
    u->out.padded_width = 4;
    u->out.padded_stride = 5;
    memset(u->padded_ids, 0x7f, sizeof u->padded_ids);
    const int32_t untouched = u->padded_ids[0];
    ROUTED(u);
    UNIT_EXPECT(u->padded_ids, 0, 1, 2, -1, untouched, 0, -1, -1, -1, untouched, 2, 3, -1, -1);
    u->out.padding = SEQTOPK_PAD_EXPERTS;
    ROUTED(u);
    UNIT_EXPECT(u->padded_ids, 0, 1, 2, 4, untouched, 0, 4, 4, 4, untouched, 2, 3, 4, 4);
    u->out.padding = SEQTOPK_PAD_DISTINCT;
    ROUTED(u);
    UNIT_EXPECT(u->padded_ids, 0, 1, 2, 3, untouched, 0, 1, 2, 3, untouched, 2, 3, 0, 1);
    UNIT_EXPECT(wide, 0, 1, 2, 3);
    cr_expect_eq(weights[3], 0.0f);
    cr_expect_eq(weights[5], 1.0f);
    cr_expect_eq(weights[6], 0.0f);
    unit_free(u);
}

Test(examples, dense) {
    unit *u = example_new(2);
    uint8_t map[12];
    float probs[12];
    u->out.routing_map = map;
    u->out.routing_probs = probs;
    ROUTED(u);
    UNIT_EXPECT(map, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1);
    cr_expect_eq(probs[3], 0.0f);
    cr_expect_eq(probs[4], 1.0f);
    cr_expect_eq(probs[0], u->weights[0]);
    unit_free(u);
}

Test(examples, row_lse) {
    unit *u = example_new(2);
    float lse[3];
    const uint8_t mask[] = {1, 0, 1};
    u->desc.score = SEQTOPK_SCORE_SOFTMAX;
    u->in.token_mask = mask;
    u->out.row_lse = lse;
    ROUTED(u);
    cr_expect_float_eq(lse[0], 9.40769f, 1e-5);
    cr_expect_eq(lse[1], 0.0f);
    cr_expect_float_eq(lse[2], 5.4401897f, 1e-5);
    unit_free(u);
}

Test(examples, norms) {
    unit *u = example_new(1);
    u->desc.scope = SEQTOPK_SCOPE_TOKEN;
    u->desc.score = SEQTOPK_SCORE_SIGMOID;
    ROUTED(u); /* none: the score itself */
    cr_expect_float_eq(u->weights[1], 0.99752738f, 1e-6);
    u->desc.norm = SEQTOPK_NORM_SUM;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    ROUTED(u);
    cr_expect_eq(u->weights[1], 1.0f);
    u->desc.norm_skip_top1 = 1;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    ROUTED(u);
    cr_expect_float_eq(u->weights[1], 0.99752738f, 1e-6);
    u->desc.norm_skip_top1 = 0;
    u->desc.norm_floor = 2;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    ROUTED(u);
    cr_expect_float_eq(u->weights[1], 0.49876369f, 1e-6);
    u->desc.norm_floor = 0;
    u->desc.norm = SEQTOPK_NORM_SOFTMAX;
    u->desc.scale = 3;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    ROUTED(u);
    cr_expect_eq(u->weights[1], 3.0f);
    unit_free(u);
}

/* 1, 2 and 3 in the other two dtypes. */
Test(examples, half_precision) {
    static const uint16_t f16[] = {0x3c00, 0x4000, 0x4200, 0xfc00}, bf16[] = {0x3f80, 0x4000, 0x4040, 0xff80};
    for (int i = 0; i < 2; i++) {
        unit *u = example_new(2);
        u->desc.dtype = i ? SEQTOPK_DTYPE_BF16 : SEQTOPK_DTYPE_F16;
        u->desc.norm = SEQTOPK_NORM_NONE;
        u->in.logits = i ? bf16 : f16;
        u->in.row_stride = SEQTOPK_STRIDE_BROADCAST;
        u->desc.top_k = 3;
        u->out.capacity = 9;
        ROUTED(u);
        UNIT_EXPECT(u->token_offsets, 0, 3, 6, 9);
        UNIT_EXPECT(u->expert_ids, 0, 1, 2, 0, 1, 2, 0, 1, 2);
        cr_expect_eq(u->weights[0], 1.0f);
        cr_expect_eq(u->weights[1], 2.0f);
        cr_expect_eq(u->weights[2], 3.0f);
        unit_free(u);
    }
}
