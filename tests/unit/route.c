/* SPDX-License-Identifier: MIT */
/* What a call may say, and what it is answered. */
#include "unit.h"

#include "tests/bits.h"

#include <math.h>

Test(route, good) {
    unit *u = unit_new();
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(u->selected, UNIT_TOKENS * UNIT_TOP_K);
    cr_expect_eq(seqtopk_route(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, NULL), SEQTOPK_OK);
    unit_free(u);
}

Test(route, pointers) {
    unit *u = unit_new();
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_expect_eq(seqtopk_route(NULL, &u->in, &u->out, u->scratch, UNIT_SCRATCH, NULL), SEQTOPK_E_NULL);
    cr_expect_eq(seqtopk_route(u->plan, NULL, &u->out, u->scratch, UNIT_SCRATCH, NULL), SEQTOPK_E_NULL);
    cr_expect_eq(seqtopk_route(u->plan, &u->in, NULL, u->scratch, UNIT_SCRATCH, NULL), SEQTOPK_E_NULL);
    cr_expect_eq(seqtopk_route(u->plan, &u->in, &u->out, NULL, UNIT_SCRATCH, NULL), SEQTOPK_E_NULL);
    u->in.logits = NULL;
    cr_expect_eq(unit_route(u), SEQTOPK_E_NULL);
    u->in.tokens = 0;
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(u->selected, 0);
    cr_expect_eq(u->token_offsets[0], 0);
    UNIT_EXPECT(u->expert_offsets, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    unit_free(u);
}

Test(route, struct_sizes) {
    unit *u = unit_new();
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    u->in.struct_size = 0;
    cr_expect_eq(unit_route(u), SEQTOPK_E_STRUCT);
    u->in.struct_size = sizeof u->in - 1;
    cr_expect_eq(unit_route(u), SEQTOPK_E_STRUCT);
    u->in.struct_size = sizeof u->in;
    u->out.struct_size = 0;
    cr_expect_eq(unit_route(u), SEQTOPK_E_STRUCT);
    u->out.struct_size = 1 << 20;
    cr_expect_eq(unit_route(u), SEQTOPK_E_STRUCT);
    unit_free(u);
}

Test(route, tokens) {
    unit *u = unit_new();
    u->in.tokens = -1;
    cr_expect_eq(unit_route(u), SEQTOPK_E_VALUE);
    u->in.tokens = INT64_C(1) << 31;
    cr_expect_eq(unit_route(u), SEQTOPK_E_VALUE);
    /* T * K beyond an int32 list; nothing of so large an input is looked at. */
    u->in.tokens = (INT64_C(1) << 30) + 1;
    cr_expect_eq(unit_route(u), SEQTOPK_E_OVERFLOW);
    cr_expect_eq(seqtopk_max_selected(u->plan, u->in.tokens), -1);
    cr_expect_eq(seqtopk_max_selected(u->plan, 3), 3 * UNIT_TOP_K);
    cr_expect_eq(seqtopk_max_selected(u->plan, -1), -1);
    cr_expect_eq(seqtopk_max_selected(NULL, 3), -1);
    unit_free(u);
}

Test(route, strides) {
    unit *u = unit_new();
    u->in.row_stride = UNIT_EXPERTS - 1;
    cr_expect_eq(unit_route(u), SEQTOPK_E_SHAPE);
    u->in.row_stride = -2;
    cr_expect_eq(unit_route(u), SEQTOPK_E_SHAPE);
    u->in.row_stride = UNIT_EXPERTS + 1;
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    u->in.row_stride = SEQTOPK_STRIDE_BROADCAST;
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    u->in.row_stride = INT64_MAX;
    cr_expect_eq(unit_route(u), SEQTOPK_E_OVERFLOW);
    unit_free(u);
}

Test(route, sequences) {
    unit *u = unit_new();
    int32_t good[] = {0, 0, 3, 3, 4, 4}, late[] = {1, 4}, falling[] = {0, 3, 2, 4}, early[] = {0, 3}, beyond[] = {0, 5};
    u->in.cu_seqlens = good;
    u->in.sequences = 5;
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(u->selected, UNIT_TOKENS * UNIT_TOP_K);
    u->in.sequences = -1;
    cr_expect_eq(unit_route(u), SEQTOPK_E_VALUE);
    u->in.cu_seqlens = falling;
    u->in.sequences = 3;
    cr_expect_eq(unit_route(u), SEQTOPK_E_SHAPE);
    u->in.sequences = 1;
    u->in.cu_seqlens = late;
    cr_expect_eq(unit_route(u), SEQTOPK_E_SHAPE);
    u->in.cu_seqlens = early;
    cr_expect_eq(unit_route(u), SEQTOPK_E_SHAPE);
    u->in.cu_seqlens = beyond;
    cr_expect_eq(unit_route(u), SEQTOPK_E_SHAPE);
    u->in.cu_seqlens = good; /* {0, 0}: does not end at T */
    cr_expect_eq(unit_route(u), SEQTOPK_E_SHAPE);
    /* Token scope has no use for them and does not look. */
    u->in.cu_seqlens = falling;
    u->desc.scope = SEQTOPK_SCOPE_TOKEN;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    unit_free(u);
}

Test(route, capacity) {
    unit *u = unit_new();
    u->out.capacity--;
    cr_expect_eq(unit_route(u), SEQTOPK_E_CAPACITY);
    u->out.capacity = -1;
    cr_expect_eq(unit_route(u), SEQTOPK_E_CAPACITY);
    /* Without a list of pairs it does not matter. */
    u->out.expert_ids = u->out.expert_tokens = u->out.expert_slots = NULL;
    u->out.weights = NULL;
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    unit_free(u);
}

Test(route, scratch) {
    unit *u = unit_new();
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    const size_t size = seqtopk_scratch_size(u->plan, UNIT_TOKENS, 1, 1);
    cr_assert(size > 0 && size <= UNIT_SCRATCH);
    cr_expect_eq(seqtopk_route(u->plan, &u->in, &u->out, u->scratch, size, NULL), SEQTOPK_OK);
    cr_expect_eq(seqtopk_route(u->plan, &u->in, &u->out, u->scratch, 0, NULL), SEQTOPK_E_CAPACITY);
    cr_expect_eq(seqtopk_route(u->plan, &u->in, &u->out, u->scratch, 64, NULL), SEQTOPK_E_CAPACITY);
    /* Enough for one thread is not enough for 64. */
    cr_expect_eq(seqtopk_route_part(u->plan, &u->in, &u->out, u->scratch, size, 0, 0, 64, NULL), SEQTOPK_E_CAPACITY);
    unit_free(u);
}

Test(route, padded) {
    unit *u = unit_new();
    u->desc.max_experts = 4;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_expect_eq(seqtopk_max_per_token(u->plan), 4);
    u->out.padded_ids = u->padded_ids;
    u->out.padded_width = 3;
    cr_expect_eq(unit_route(u), SEQTOPK_E_CAPACITY);
    u->out.padded_width = 4;
    u->out.padded_stride = 3;
    cr_expect_eq(unit_route(u), SEQTOPK_E_SHAPE);
    u->out.padded_stride = 0;
    u->out.padding = (seqtopk_padding)4;
    cr_expect_eq(unit_route(u), SEQTOPK_E_VALUE);
    u->out.padding = SEQTOPK_PAD_DISTINCT;
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    u->out.padded_width = UNIT_EXPERTS + 1;
    cr_expect_eq(unit_route(u), SEQTOPK_E_SHAPE, "there are not so many distinct experts");
    u->out.padding = SEQTOPK_PAD_EXPERTS;
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    unit_free(u);
}

/* moe_align_block_size, of the padded rows or of the lists. */
Test(route, blocks) {
    static const int32_t given[UNIT_TOKENS * UNIT_TOP_K] = {1, 5, 5, 6, 1, 5, -1, -1};
    unit *u = unit_new();
    int32_t slots[24], experts[12], total = -1;
    u->in.given_ids = given;
    u->in.given_width = UNIT_TOP_K;
    u->out.block_experts = experts;
    cr_expect_eq(unit_route(u), SEQTOPK_E_NULL);
    u->out.block_slots = slots;
    u->out.block_total = &total;
    cr_expect_eq(unit_route(u), SEQTOPK_E_VALUE);
    u->out.block_size = 2;
    cr_expect_eq(unit_route(u), SEQTOPK_E_CAPACITY);
    u->out.block_capacity = seqtopk_max_block_slots(u->plan, UNIT_TOKENS, 2);
    cr_assert_eq(u->out.block_capacity, 16, "8 pairs, each of them perhaps alone in a block");
    cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(total, 8);
    UNIT_EXPECT(slots, 0, 4, 1, 2, 5, 8, 3, 8);
    UNIT_EXPECT(experts, 1, 5, 5, 6);
    u->desc.max_experts = 3;
    u->out.padded_ids = u->padded_ids;
    u->out.padded_width = 3;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    UNIT_EXPECT(slots, 0, 6, 1, 3, 7, 12, 4, 12);
    cr_expect_eq(seqtopk_max_block_slots(u->plan, UNIT_TOKENS, 0), -1);
    cr_expect_eq(seqtopk_max_block_slots(u->plan, -1, 2), -1);
    cr_expect_eq(seqtopk_max_block_slots(NULL, 1, 2), -1);
    cr_expect_eq(seqtopk_max_block_slots(u->plan, UNIT_TOKENS, INT32_MAX), -1);
    unit_free(u);
}

/* Ids of one or two bytes hold every expert and what pads, or are refused. */
Test(route, small_ids) {
    static const struct {
        int32_t experts;
        seqtopk_padding padding;
        int fits8, fits16;
    } cases[] = {{255, SEQTOPK_PAD_EXPERTS, 1, 1},     {256, SEQTOPK_PAD_EXPERTS, 0, 1},
                 {255, SEQTOPK_PAD_MINUS_ONE, 1, 1},   {256, SEQTOPK_PAD_MINUS_ONE, 0, 1},
                 {256, SEQTOPK_PAD_FIRST, 1, 1},       {257, SEQTOPK_PAD_DISTINCT, 0, 1},
                 {32768, SEQTOPK_PAD_MINUS_ONE, 0, 1}, {32768, SEQTOPK_PAD_EXPERTS, 0, 0},
                 {32767, SEQTOPK_PAD_EXPERTS, 0, 1},   {32769, SEQTOPK_PAD_DISTINCT, 0, 0}};
    enum { LARGE = 4 << 20 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t ids8[4];
        int16_t ids16[4];
        unit *u = unit_new();
        float *logits = calloc((size_t)cases[i].experts, sizeof *logits);
        char *scratch = malloc(LARGE);
        cr_assert(logits && scratch);
        u->desc.experts = cases[i].experts;
        u->desc.scope = SEQTOPK_SCOPE_TOKEN;
        u->in.logits = logits;
        u->in.tokens = 1;
        u->out.padding = cases[i].padding;
        u->out.padded_width = 4;
        u->out.padded_ids8 = ids8;
        u->out.expert_offsets = NULL; /* for fewer experts */
        cr_assert_eq(unit_plan(u), SEQTOPK_OK);
        cr_expect_eq(seqtopk_route(u->plan, &u->in, &u->out, scratch, LARGE, &u->error),
                     cases[i].fits8 ? SEQTOPK_OK : SEQTOPK_E_SHAPE, "case %zu: %s", i, u->error.message);
        u->out.padded_ids8 = NULL;
        u->out.padded_ids16 = ids16;
        cr_expect_eq(seqtopk_route(u->plan, &u->in, &u->out, scratch, LARGE, &u->error),
                     cases[i].fits16 ? SEQTOPK_OK : SEQTOPK_E_SHAPE, "case %zu: %s", i, u->error.message);
        free(logits);
        free(scratch);
        unit_free(u);
    }
}

Test(route, nonfinite_logits) {
    static const int places[] = {0, 7, 8, 19, 31};
    const float bad[] = {NAN, INFINITY, -NAN};
    for (size_t p = 0; p < sizeof places / sizeof *places; p++)
        for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
            unit *u = unit_new();
            u->logits[places[p]] = bad[b];
            u->logits[31] = bad[b]; /* a later one as well */
            cr_expect_eq(unit_route(u), SEQTOPK_E_NONFINITE);
            cr_expect_eq(u->error.token, places[p] / UNIT_EXPERTS);
            cr_expect_neq(u->error.message[0], 0);
            /* Masked, nobody looks. */
            uint8_t mask[UNIT_TOKENS] = {1, 1, 1, 0};
            mask[places[p] / UNIT_EXPERTS] = 0;
            u->in.token_mask = mask;
            cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
            cr_expect_eq(u->error.token, -1);
            unit_free(u);
        }
}

/* NaNs that are not the default one of arithmetic: the low bits of their payload are set. */
static void refuse_payload(const float *x, int32_t experts, int32_t top_k, const char *isa) {
    unit *u = unit_new();
    uint8_t map[UNIT_CELLS];
    u->desc.experts = experts;
    u->desc.top_k = top_k;
    u->desc.score = SEQTOPK_SCORE_SOFTMAX;
    u->desc.norm = SEQTOPK_NORM_SUM;
    u->desc.isa = isa;
    u->in.logits = x;
    u->in.tokens = 1;
    u->out.routing_map = map;
    for (int scope = SEQTOPK_SCOPE_SEQUENCE; scope <= SEQTOPK_SCOPE_TOKEN; scope++) {
        u->desc.scope = (seqtopk_scope)scope;
        cr_assert_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
        cr_expect_eq(unit_route(u), SEQTOPK_E_NONFINITE, "%s, scope %d", isa, scope);
        cr_expect_eq(u->error.token, 0);
    }
    unit_free(u);
}

Test(route, nan_payloads, .timeout = 60) {
    const float negative[] = {float_of(0xffc00001), 0.0f};
    float signalling[16], many[17];
    for (int e = 0; e < 16; e++)
        signalling[e] = e == 4 ? float_of(0x7f800001) : (float[]){2, 0, 1, -1}[e % 4];
    const char *isa;
    for (int32_t i = 0; (isa = seqtopk_isa_name(i)); i++) {
        if (!seqtopk_isa_usable(isa))
            continue;
        refuse_payload(negative, 2, 1, isa);
        refuse_payload(signalling, 16, 8, isa);
        for (int nans = 14; nans <= 16; nans++) {
            for (int e = 0; e < 17; e++)
                many[e] = e < nans ? float_of(0x7fc00001) : 0.1f * (float)e;
            refuse_payload(many, 17, 4, isa);
        }
    }
}

Test(route, nonfinite_bias) {
    unit *u = unit_new();
    float bias[UNIT_EXPERTS] = {0};
    u->in.bias = bias;
    bias[5] = NAN;
    cr_expect_eq(unit_route(u), SEQTOPK_E_NONFINITE);
    bias[5] = INFINITY;
    cr_expect_eq(unit_route(u), SEQTOPK_E_NONFINITE);
    bias[5] = -INFINITY;
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(u->expert_offsets[5], u->expert_offsets[6], "a bias of -inf excludes the expert");
    unit_free(u);
}

Test(route, parts) {
    unit *u = unit_new();
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    const int32_t steps = seqtopk_route_steps(u->plan);
    cr_assert(steps > 0);
#define PART(step, part, parts)                                                                                        \
    seqtopk_route_part(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, step, part, parts, &u->error)
    cr_expect_eq(PART(-1, 0, 1), SEQTOPK_E_VALUE);
    cr_expect_eq(PART(steps, 0, 1), SEQTOPK_E_VALUE);
    cr_expect_eq(PART(0, -1, 1), SEQTOPK_E_VALUE);
    cr_expect_eq(PART(0, 1, 1), SEQTOPK_E_VALUE);
    cr_expect_eq(PART(0, 0, 0), SEQTOPK_E_VALUE);
    cr_expect_eq(PART(0, 0, -1), SEQTOPK_E_VALUE);
    for (int32_t step = 0; step < steps; step++)
        for (int32_t part = 2; part >= 0; part--)
            cr_expect_eq(PART(step, part, 3), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(u->selected, UNIT_TOKENS * UNIT_TOP_K);
    /* What one part finds, every part is told from the next step on. */
    u->logits[3 * UNIT_EXPERTS] = NAN;
    for (int32_t step = 0; step < steps; step++)
        for (int32_t part = 0; part < 3; part++) {
            const seqtopk_status status = PART(step, part, 3);
            if (step > 0) {
                cr_expect_eq(status, SEQTOPK_E_NONFINITE);
                cr_expect_eq(u->error.token, 3);
            }
        }
#undef PART
    unit_free(u);
}

static void in_turn(void *context, int32_t n, void (*task)(void *arg, int32_t i), void *arg) {
    *(int32_t *)context = n;
    for (int32_t i = n; i-- > 0;)
        task(arg, i);
}

Test(route, parallel) {
    unit *u = unit_new();
    int32_t most = 0;
    seqtopk_parallel loan = SEQTOPK_PARALLEL_INIT;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
#define LENT() seqtopk_route_parallel(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &loan, &u->error)
    loan.threads = 2;
    cr_expect_eq(LENT(), SEQTOPK_E_NULL);
    loan.parallel_for = in_turn;
    loan.context = &most;
    cr_expect_eq(LENT(), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(most, 0, "small work wakes no second thread");
    loan.threads = 0;
    cr_expect_eq(LENT(), SEQTOPK_E_VALUE);
    loan.threads = 1025;
    cr_expect_eq(LENT(), SEQTOPK_E_VALUE);
    loan.struct_size = 0;
    cr_expect_eq(LENT(), SEQTOPK_E_STRUCT);
#undef LENT
    cr_expect_eq(seqtopk_route_parallel(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, NULL, NULL),
                 SEQTOPK_E_NULL);
    unit_free(u);
}

/* Much work does use the threads that are lent, and no more of them. */
Test(route, large_work_is_shared) {
    enum { TOKENS = 4096, EXPERTS = 64 };
    unit *u = unit_new();
    int32_t most = 0;
    seqtopk_parallel loan = SEQTOPK_PARALLEL_INIT;
    loan.threads = 3;
    loan.parallel_for = in_turn;
    loan.context = &most;
    u->desc.experts = EXPERTS;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    float *logits = calloc((size_t)TOKENS * EXPERTS, sizeof *logits);
    const size_t size = seqtopk_scratch_size(u->plan, TOKENS, 1, 3);
    void *scratch = malloc(size);
    cr_assert(logits && scratch);
    const seqtopk_output fresh = SEQTOPK_OUTPUT_INIT;
    u->out = fresh;
    u->out.selected = &u->selected;
    u->in.logits = logits;
    u->in.tokens = TOKENS;
    cr_expect_eq(seqtopk_route_parallel(u->plan, &u->in, &u->out, scratch, size, &loan, &u->error), SEQTOPK_OK, "%s",
                 u->error.message);
    cr_expect(most > 1 && most <= 3, "%d", (int)most);
    cr_expect_eq(u->selected, TOKENS * UNIT_TOP_K);
    free(logits);
    free(scratch);
    unit_free(u);
}

/* Three sequences of two tokens: one whose budget ends among equals, one that is masked, one that its bound divides. */
Test(route, short_sequences) {
    static const char *const isas[] = {NULL, "ref"};
    static const uint8_t mask[] = {1, 1, 0, 0, 1, 1};
    static const int32_t cu[] = {0, 2, 4, 6};
    for (int turn = 0; turn < 4; turn++) {
        unit *u = unit_new();
        u->desc.isa = isas[turn & 1];
        u->desc.min_experts = turn / 2;
        for (int i = 0; i < 6 * UNIT_EXPERTS; i++)
            u->logits[i] = i < 4 * UNIT_EXPERTS ? 1.0f : 0.0f;
        u->logits[1 * UNIT_EXPERTS + 7] = 2.0f;
        u->logits[2 * UNIT_EXPERTS] = NAN; /* masked: nobody looks */
        for (int e = 1; e <= 7; e += 2)
            u->logits[4 * UNIT_EXPERTS + e] = 3.0f;
        u->logits[5 * UNIT_EXPERTS] = 1.0f;
        u->in.tokens = 6;
        u->in.token_mask = mask;
        u->in.cu_seqlens = cu;
        u->in.sequences = 3;
        u->out.capacity = 6 * UNIT_TOP_K;
        cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
        cr_expect_eq(u->selected, 8);
        if (u->desc.min_experts) {
            UNIT_EXPECT(u->token_offsets, 0, 3, 4, 4, 4, 7, 8);
            UNIT_EXPECT(u->expert_ids, 0, 1, 2, 7, 1, 3, 5, 0);
        } else {
            UNIT_EXPECT(u->token_offsets, 0, 3, 4, 4, 4, 8, 8);
            UNIT_EXPECT(u->expert_ids, 0, 1, 2, 7, 1, 3, 5, 7);
        }
        /* Of equals, as many parts of one. */
        for (int t = 0; t < 6; t++)
            for (int32_t i = u->token_offsets[t], n = u->token_offsets[t + 1] - i; i < u->token_offsets[t + 1]; i++)
                cr_expect_float_eq(u->weights[i], 1.0f / (float)n, 1e-6f);
        unit_free(u);
    }
}

/* A bias of -inf and lost groups leave fewer candidates than the budget pays for: all of them are selected. */
Test(route, fewer_candidates_than_budget) {
    static const int32_t cu[] = {0, 1, 4};
    float bias[UNIT_EXPERTS];
    for (int e = 0; e < UNIT_EXPERTS; e++)
        bias[e] = e == 1 || e == 5 ? 0.25f : -INFINITY;
    for (int sequences = 0; sequences <= 2; sequences += 2) {
        unit *u = unit_new();
        for (int t = 0; t < UNIT_TOKENS; t++) {
            u->logits[t * UNIT_EXPERTS + 1] = (float)(t & 1);
            u->logits[t * UNIT_EXPERTS + 5] = 0.5f;
        }
        u->desc.groups = 2;
        u->desc.group_top_k = 1;
        u->desc.group_score = SEQTOPK_GROUP_MAX;
        u->in.bias = bias;
        u->in.cu_seqlens = sequences ? cu : NULL;
        u->in.sequences = sequences;
        cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
        cr_expect_eq(u->selected, UNIT_TOKENS);
        UNIT_EXPECT(u->token_offsets, 0, 1, 2, 3, 4);
        UNIT_EXPECT(u->expert_ids, 5, 1, 5, 1);
        for (int t = 0; t < UNIT_TOKENS; t++)
            cr_expect_float_eq(u->weights[t], 1.0f, 1e-6f);
        unit_free(u);
    }
}

/* A last factor of each expert's weights, in every list that has them. */
Test(route, expert_factors) {
    float factors[UNIT_EXPERTS], plain[UNIT_CELLS], probs[UNIT_CELLS];
    unit *u = unit_new();
    u->out.routing_probs = probs;
    u->desc.order = SEQTOPK_ORDER_RANK;
    cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    memcpy(plain, u->weights, sizeof plain);
    for (int e = 0; e < UNIT_EXPERTS; e++)
        factors[e] = 0.5f + (float)e;
    u->in.expert_factors = factors;
    cr_assert_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    for (int t = 0; t < UNIT_TOKENS; t++)
        for (int32_t i = u->token_offsets[t]; i < u->token_offsets[t + 1]; i++) {
            cr_expect_eq(u->weights[i], plain[i] * factors[u->expert_ids[i]]);
            cr_expect_eq(probs[t * UNIT_EXPERTS + u->expert_ids[i]], u->weights[i]);
        }
    factors[3] = INFINITY;
    cr_expect_eq(unit_route(u), SEQTOPK_E_NONFINITE);
    cr_expect_not_null(strstr(u->error.message, "expert_factors[3]"));
    unit_free(u);
}

/* What fills up the lists is the last pair's expert once it is in order, whoever's that is and whoever comes first. */
Test(route, the_tail_of_a_team) {
    static const uint8_t mask[UNIT_TOKENS] = {1, 1, 0, 0};
    unit *u = unit_new();
    u->desc.order = SEQTOPK_ORDER_RANK;
    u->desc.max_experts = UNIT_EXPERTS;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    u->in.token_mask = mask;
    u->out.fill_tail = 1;
    for (int32_t step = 0; step < seqtopk_route_steps(u->plan); step++)
        for (int32_t part = 1; part >= 0; part--)
            cr_expect_eq(seqtopk_route_part(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, step, part, 2, NULL),
                         SEQTOPK_OK);
    const int32_t last = u->expert_ids[u->selected - 1];
    cr_assert(u->selected < u->out.capacity);
    cr_expect_neq(last, u->expert_ids[u->selected - 2]);
    for (int64_t i = u->selected; i < u->out.capacity; i++)
        cr_expect_eq(u->expert_ids[i], last);
    unit_free(u);
}

/* A rank's space is for what its tokens get: a scored shared expert that a logit excludes takes none. */
Test(route, excluded_shared_experts_take_no_space_of_a_rank) {
    seqtopk_team team = SEQTOPK_TEAM_INIT;
    unit *u = unit_new();
    team.size = 1;
    u->desc.shared_experts = 2;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
    for (int t = 0; t < UNIT_TOKENS; t++)
        u->logits[t * UNIT_EXPERTS + 6] = u->logits[t * UNIT_EXPERTS + 7] = -INFINITY;
    cr_expect_eq(u->out.capacity, UNIT_TOKENS * UNIT_TOP_K);
    cr_expect_eq(seqtopk_route_team(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &team, NULL, &u->error),
                 SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(u->selected, UNIT_TOKENS * UNIT_TOP_K);
    u->logits[7] = 0.0f;
    cr_expect_eq(seqtopk_route_team(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &team, NULL, &u->error),
                 SEQTOPK_E_CAPACITY);
    cr_expect(strstr(u->error.message, "get 9 pairs"), "%s", u->error.message);
    unit_free(u);
}

/* A token alone is routed in the first step, by the first part; what comes after says how that ended. */
Test(route, steps_for) {
    unit *u = unit_new();
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_expect_eq(seqtopk_route_steps_for(NULL, 1, 1), 0);
    cr_expect_eq(seqtopk_route_steps_for(u->plan, 1, 4), 1);
    cr_expect_eq(seqtopk_route_steps_for(u->plan, 1000, 1), 1);
    cr_expect_eq(seqtopk_route_steps_for(u->plan, 2, 2), seqtopk_route_steps(u->plan));
    static const int32_t of[UNIT_TOKENS] = {1, 0, 1, 0};
    cr_expect_eq(seqtopk_route_steps_of(NULL, &u->in, 2), 0);
    cr_expect_eq(seqtopk_route_steps_of(u->plan, NULL, 2), 0);
    cr_expect_eq(seqtopk_route_steps_of(u->plan, &u->in, 1), 1);
    const int32_t few = seqtopk_route_steps_of(u->plan, &u->in, 2);
    u->in.token_seq = of;
    cr_expect_eq(seqtopk_route_steps_of(u->plan, &u->in, 2), seqtopk_route_steps(u->plan));
    cr_expect_lt(few, seqtopk_route_steps(u->plan));
    u->in.token_seq = NULL;
    for (int bad = 0; bad < 2; bad++) {
        const seqtopk_status right = bad ? SEQTOPK_E_NONFINITE : SEQTOPK_OK;
        u->in.tokens = 1;
        u->logits[0] = bad ? NAN : 5;
        u->selected = -1;
        for (int part = 3; part >= 0; part--)
            cr_expect_eq(seqtopk_route_part(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, 0, part, 4, NULL),
                         part ? SEQTOPK_OK : right);
        cr_expect(bad || u->selected == UNIT_TOP_K);
        for (int step = 1; step < seqtopk_route_steps(u->plan); step++)
            cr_expect_eq(seqtopk_route_part(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, step, 2, 4, NULL),
                         right);
    }
    unit_free(u);
}
