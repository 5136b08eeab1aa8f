/* SPDX-License-Identifier: MIT */
/* One client's NaN in a batch of several. */
#include "unit.h"

#include <math.h>

static void in_turn(void *context, int32_t n, void (*task)(void *arg, int32_t i), void *arg) {
    (void)context;
    for (int32_t i = n; i-- > 0;)
        task(arg, i);
}

/* The others get what they get without it, on one thread or several, and the caller is told. */
Test(dropped, others_are_routed) {
    static const int32_t cu[] = {0, 1, UNIT_TOKENS};
    for (int scope = SEQTOPK_SCOPE_SEQUENCE; scope <= SEQTOPK_SCOPE_TOKEN; scope++)
        for (int threads = 0; threads < 3; threads++) {
            static const uint8_t mask[UNIT_TOKENS] = {1, 0, 1, 0};
            int64_t nonfinite[2] = {-7, -7};
            int32_t offsets[UNIT_TOKENS + 1], ids[UNIT_TOKENS * UNIT_TOP_K];
            const seqtopk_parallel team = {sizeof team, threads, in_turn, NULL};
            unit *u = unit_new();
            u->desc.scope = (seqtopk_scope)scope;
            u->in.cu_seqlens = cu;
            u->in.sequences = 2;
            u->in.token_mask = mask;
            cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
            const int64_t selected = u->selected;
            memcpy(offsets, u->token_offsets, sizeof offsets);
            memcpy(ids, u->expert_ids, (size_t)selected * sizeof *ids);
            u->in.token_mask = NULL;
            u->logits[1 * UNIT_EXPERTS + 3] = NAN;
            u->logits[3 * UNIT_EXPERTS] = INFINITY;
            cr_expect_eq(unit_route(u), SEQTOPK_E_NONFINITE);
            u->in.on_nonfinite = SEQTOPK_NONFINITE_DROP;
            u->out.nonfinite = nonfinite;
            const seqtopk_status status =
                threads ? seqtopk_route_parallel(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &team, &u->error)
                        : unit_route(u);
            cr_assert_eq(status, SEQTOPK_OK, "%s", u->error.message);
            cr_expect(nonfinite[0] == 2 && nonfinite[1] == 1);
            cr_assert_eq(u->selected, selected);
            cr_expect_arr_eq(u->token_offsets, offsets, sizeof offsets);
            cr_expect_arr_eq(u->expert_ids, ids, (size_t)selected * sizeof *ids);
            unit_free(u);
        }
}

Test(dropped, marked) {
    int64_t nonfinite[2];
    float padded[UNIT_TOKENS * UNIT_EXPERTS], probs[UNIT_TOKENS * UNIT_EXPERTS], lse[UNIT_TOKENS];
    unit *u = unit_new();
    u->desc.score = SEQTOPK_SCORE_SOFTMAX;
    u->logits[2 * UNIT_EXPERTS + 1] = NAN;
    u->in.on_nonfinite = SEQTOPK_NONFINITE_MARK;
    u->out.padded_weights = padded;
    u->out.padded_width = UNIT_EXPERTS;
    u->out.routing_probs = probs;
    u->out.row_lse = lse;
    u->out.nonfinite = nonfinite;
    cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(u->token_offsets[2], u->token_offsets[3]);
    for (int t = 0; t < UNIT_TOKENS; t++) {
        cr_expect_eq(isnan(lse[t]) != 0, t == 2);
        for (int e = 0; e < UNIT_EXPERTS; e++) {
            cr_expect_eq(isnan(padded[t * UNIT_EXPERTS + e]) != 0, t == 2);
            cr_expect_eq(isnan(probs[t * UNIT_EXPERTS + e]) != 0, t == 2);
        }
    }
    u->logits[2 * UNIT_EXPERTS + 1] = 0;
    cr_assert_eq(unit_route(u), SEQTOPK_OK);
    cr_expect(nonfinite[0] == 0 && nonfinite[1] == -1 && !isnan(lse[2]));
    unit_free(u);
}

/* Of one token alone, nothing is left; and who asks how many were dropped is told, whatever shall happen to them. */
Test(dropped, all) {
    int64_t nonfinite[2];
    unit *u;
    for (int what = SEQTOPK_NONFINITE_ERROR; what <= SEQTOPK_NONFINITE_MARK; what++)
        for (int32_t null = 0; null < 2; null++) {
            u = unit_new();
            u->desc.null_experts = null;
            u->in.tokens = 1;
            u->in.on_nonfinite = (seqtopk_nonfinite)what;
            u->out.nonfinite = nonfinite;
            nonfinite[0] = nonfinite[1] = -7;
            cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
            cr_expect(nonfinite[0] == 0 && nonfinite[1] == -1 && u->selected > 0);
            unit_free(u);
        }
    u = unit_new();
    u->in.tokens = 1;
    u->out.nonfinite = nonfinite;
    u->logits[0] = NAN;
    u->in.on_nonfinite = SEQTOPK_NONFINITE_DROP;
    cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect(nonfinite[0] == 1 && nonfinite[1] == 0);
    cr_expect_eq(u->selected, 0);
    u->in.on_nonfinite = (seqtopk_nonfinite)3;
    cr_expect_eq(unit_route(u), SEQTOPK_E_VALUE);
    unit_free(u);
}
