/* SPDX-License-Identifier: MIT */
/* A selection that was made elsewhere. */
#include "unit.h"

#include <math.h>

/* Two experts of each of three tokens, and none of the last. */
static const int32_t some_ids[UNIT_TOKENS * 3] = {5, -1, 2, 7, 0, -1, -1, 3, 6, -1, -1, -1};

static unit *given_new(void) {
    unit *u = unit_new();
    u->in.given_ids = some_ids;
    u->in.given_width = 3;
    return u;
}

/* Listed ascending, and weighed by their own logits. */
Test(given, rows) {
    unit *u = given_new();
    cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(u->selected, 6);
    UNIT_EXPECT(u->token_offsets, 0, 2, 4, 6, 6);
    UNIT_EXPECT(u->expert_ids, 2, 5, 0, 7, 3, 6);
    for (int t = 0; t < 3; t++) {
        const double a = exp((double)u->logits[t * UNIT_EXPERTS + u->expert_ids[2 * t]]);
        const double b = exp((double)u->logits[t * UNIT_EXPERTS + u->expert_ids[2 * t + 1]]);
        cr_expect_float_eq(u->weights[2 * t], a / (a + b), 1e-6);
    }
    unit_free(u);
}

Test(given, order) {
    unit *u = given_new();
    float ascending[6];
    cr_assert_eq(unit_route(u), SEQTOPK_OK);
    memcpy(ascending, u->weights, sizeof ascending);
    u->desc.order = SEQTOPK_ORDER_GIVEN;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
    cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    UNIT_EXPECT(u->expert_ids, 5, 2, 7, 0, 3, 6);
    for (int i = 0; i < 6; i++)
        cr_expect_eq(u->weights[i], ascending[i < 4 ? i ^ 1 : i]);
    u->in.given_ids = NULL;
    cr_expect_eq(unit_route(u), SEQTOPK_E_NULL);
    cr_expect_not_null(strstr(u->error.message, "given_ids"));
    unit_free(u);
}

Test(given, offsets) {
    static const int32_t ids[] = {9, 5, 2, 7, 0}, offsets[] = {1, 3, 3, 5, 5};
    unit *u = given_new();
    u->in.given_ids = ids;
    u->in.given_offsets = offsets;
    u->in.given_width = -77;
    cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    UNIT_EXPECT(u->token_offsets, 0, 2, 2, 4, 4);
    UNIT_EXPECT(u->expert_ids, 2, 5, 0, 7);
    static const int32_t falling[] = {0, 2, 1, 3, 3}, negative[] = {-1, 2, 2, 3, 3};
    u->in.given_offsets = falling;
    cr_expect(unit_route(u) == SEQTOPK_E_SHAPE && u->error.token == 1);
    u->in.given_offsets = negative;
    cr_expect(unit_route(u) == SEQTOPK_E_SHAPE && u->error.token == 0);
    unit_free(u);
}

/* The lists by expert alone need no logits. */
Test(given, without_logits) {
    unit *u = given_new();
    u->in.logits = NULL;
    cr_expect_eq(unit_route(u), SEQTOPK_E_NULL);
    u->out.weights = NULL;
    cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    UNIT_EXPECT(u->expert_offsets, 0, 1, 1, 2, 3, 3, 4, 5, 6);
    UNIT_EXPECT(u->expert_tokens, 1, 0, 2, 0, 2, 1);
    unit_free(u);
}

Test(given, refused) {
    int32_t ids[UNIT_TOKENS * 3];
    unit *u = given_new();
    u->in.given_ids = ids;
    memcpy(ids, some_ids, sizeof ids);
    ids[7] = UNIT_EXPERTS;
    cr_expect(unit_route(u) == SEQTOPK_E_VALUE && u->error.token == 2, "%s", u->error.message);
    ids[7] = 6; /* twice */
    cr_expect(unit_route(u) == SEQTOPK_E_VALUE && u->error.token == 2);
    memcpy(ids, some_ids, sizeof ids);
    ids[9] = 0, ids[10] = 1, ids[11] = 2; /* more than T * K */
    cr_expect_eq(unit_route(u), SEQTOPK_E_CAPACITY);
    cr_expect_not_null(strstr(u->error.message, "top_k"));
    u->in.given_width = 0;
    cr_expect_eq(unit_route(u), SEQTOPK_E_SHAPE);
    u->in.given_width = UNIT_EXPERTS + 1;
    cr_expect_eq(unit_route(u), SEQTOPK_E_SHAPE);
    unit_free(u);
}

/* What is excluded stays so, and NaN is no less bad. */
Test(given, masked_excluded_bad) {
    static const uint8_t mask[UNIT_TOKENS] = {1, 0, 1, 1};
    unit *u = given_new();
    u->in.token_mask = mask;
    u->logits[2] = -INFINITY;
    cr_assert_eq(unit_route(u), SEQTOPK_OK);
    UNIT_EXPECT(u->token_offsets, 0, 1, 1, 3, 3);
    UNIT_EXPECT(u->expert_ids, 5, 3, 6);
    cr_expect_eq(u->weights[0], 1.0f);
    u->logits[3 * UNIT_EXPERTS] = NAN;
    cr_expect(unit_route(u) == SEQTOPK_E_NONFINITE && u->error.token == 3);
    unit_free(u);
}
