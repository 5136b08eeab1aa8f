/* SPDX-License-Identifier: MIT */
/* A small call with everything in place, for tests that change one thing of it. */
#ifndef SEQTOPK_TESTS_UNIT_H
#define SEQTOPK_TESTS_UNIT_H

#include <seqtopk/seqtopk.h>

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { UNIT_TOKENS = 4, UNIT_EXPERTS = 8, UNIT_TOP_K = 2, UNIT_CELLS = 64, UNIT_SCRATCH = 1 << 20 };

typedef struct unit {
    seqtopk_desc desc;
    seqtopk_input in;
    seqtopk_output out;
    seqtopk_error error;
    seqtopk_plan *plan;
    float logits[UNIT_CELLS];
    int32_t token_offsets[UNIT_CELLS], expert_ids[UNIT_CELLS], expert_offsets[UNIT_CELLS], expert_tokens[UNIT_CELLS],
        expert_slots[UNIT_CELLS], padded_ids[UNIT_CELLS];
    float weights[UNIT_CELLS];
    int64_t selected;
    char *scratch;
} unit;

/* SCORE_LOGITS over 4 x 8 logits, K = 2, sequence scope; all token-major and expert-major lists. */
static inline unit *unit_new(void) {
    const seqtopk_desc desc = SEQTOPK_DESC_INIT;
    const seqtopk_input in = SEQTOPK_INPUT_INIT;
    const seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    const seqtopk_error error = SEQTOPK_ERROR_INIT;
    unit *u = calloc(1, sizeof *u);
    cr_assert(u);
    u->scratch = malloc(UNIT_SCRATCH);
    cr_assert(u->scratch);
    u->desc = desc;
    u->in = in;
    u->out = out;
    u->error = error;
    u->desc.experts = UNIT_EXPERTS;
    u->desc.top_k = UNIT_TOP_K;
    u->desc.score = SEQTOPK_SCORE_LOGITS;
    for (int i = 0; i < UNIT_CELLS; i++)
        u->logits[i] = (float)((i * 7) % 11) - 5.0f;
    u->in.logits = u->logits;
    u->in.tokens = UNIT_TOKENS;
    u->out.token_offsets = u->token_offsets;
    u->out.expert_ids = u->expert_ids;
    u->out.weights = u->weights;
    u->out.expert_offsets = u->expert_offsets;
    u->out.expert_tokens = u->expert_tokens;
    u->out.expert_slots = u->expert_slots;
    u->out.selected = &u->selected;
    u->out.capacity = UNIT_TOKENS * UNIT_TOP_K;
    return u;
}

static inline void unit_free(unit *u) {
    seqtopk_plan_destroy(u->plan);
    free(u->scratch);
    free(u);
}

static inline seqtopk_status unit_plan(unit *u) {
    seqtopk_plan_destroy(u->plan);
    u->plan = NULL;
    return seqtopk_plan_create(&u->plan, &u->desc, &u->error);
}

/* Makes the plan if there is none yet, and routes. */
static inline seqtopk_status unit_route(unit *u) {
    if (!u->plan && unit_plan(u))
        return u->error.status;
    return seqtopk_route(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &u->error);
}

/* An array of int32 against literals. */
#define UNIT_EXPECT(array, ...)                                                                                        \
    do {                                                                                                               \
        const int32_t expected_[] = {__VA_ARGS__};                                                                     \
        for (size_t i_ = 0; i_ < sizeof expected_ / sizeof *expected_; i_++)                                           \
            cr_expect_eq((array)[i_], expected_[i_], "%s[%zu] is %d, not %d", #array, i_, (int)(array)[i_],            \
                         (int)expected_[i_]);                                                                          \
    } while (0)

#endif
