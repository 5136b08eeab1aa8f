/* SPDX-License-Identifier: MIT */
/* What public functions refuse, beside what the tests of each subject have: functions of the header, one after another. */
#include "../random.h"
#include "unit.h"

#include <math.h>

#define EXPECT_SAYS(u, status, expected, words)                                                                        \
    do {                                                                                                               \
        cr_expect_eq(status, expected, "%s", (u)->error.message);                                                      \
        cr_expect(strstr((u)->error.message, words), "%s", (u)->error.message);                                        \
    } while (0)

/* A cache of two layers and three sequences of the unit's router, which has four tokens of the first sequence. */
static seqtopk_cache *online(unit *u, seqtopk_cache_mode mode, int32_t rollback, int64_t max_bytes) {
    seqtopk_cache_desc desc = SEQTOPK_CACHE_DESC_INIT;
    seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT;
    seqtopk_cache *cache = NULL;
    u->desc.scope = SEQTOPK_SCOPE_ONLINE;
    u->desc.min_experts = 1;
    u->desc.max_experts = 4;
    u->out.capacity = UNIT_TOKENS * 4;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
    desc.layers = 2;
    desc.plan = u->plan;
    desc.sequences = 3;
    desc.mode = mode;
    desc.rollback = rollback;
    desc.max_bytes = max_bytes;
    cr_assert_eq(seqtopk_cache_create(&cache, &desc, &u->error), SEQTOPK_OK, "%s", u->error.message);
    for (; rows.layer < 2 && !max_bytes; rows.layer++)
        cr_assert_eq(seqtopk_cache_step(cache, &rows, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &u->error), SEQTOPK_OK,
                     "%s", u->error.message);
    return cache;
}

/* ------------------------------------------------------------- structs -- */

/* Where not even the error is known nothing else is looked at, and nothing is done. */
Test(refusals, an_error_of_no_size) {
    unit *u = unit_new();
    seqtopk_cache *cache = online(u, SEQTOPK_CACHE_EXACT, 0, 0), *no_cache = NULL;
    seqtopk_plan *plan = NULL;
    seqtopk_tuning *tuning = NULL;
    const seqtopk_cache_desc cache_desc = SEQTOPK_CACHE_DESC_INIT;
    const seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT;
    const seqtopk_exchange exchange = SEQTOPK_EXCHANGE_INIT;
    const seqtopk_parallel loan = SEQTOPK_PARALLEL_INIT;
    seqtopk_team team = SEQTOPK_TEAM_INIT;
    seqtopk_error e = SEQTOPK_ERROR_INIT;
    const int32_t parents[] = {0};
    char blob[8];
    team.size = 1;
    e.struct_size = 4;
#define REFUSED(...) cr_expect_eq(__VA_ARGS__, SEQTOPK_E_STRUCT, #__VA_ARGS__)
    REFUSED(seqtopk_plan_create(&plan, &u->desc, &e));
    REFUSED(seqtopk_desc_preset("olmoe", SEQTOPK_PARITY_VLLM, &u->desc, &e));
    REFUSED(seqtopk_route(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &e));
    REFUSED(seqtopk_route_part(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, 0, 0, 1, &e));
    REFUSED(seqtopk_route_parallel(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &loan, &e));
    REFUSED(seqtopk_route_team(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &team, NULL, &e));
    REFUSED(seqtopk_exchange_make(&exchange, 0, u->token_offsets, u->expert_ids, u->scratch, UNIT_SCRATCH, &e));
    REFUSED(seqtopk_cache_create(&no_cache, &cache_desc, &e));
    REFUSED(seqtopk_cache_step(cache, &rows, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &e));
    REFUSED(seqtopk_cache_step_part(cache, &rows, &u->in, &u->out, u->scratch, UNIT_SCRATCH, 0, 0, 1, &e));
    REFUSED(seqtopk_cache_step_parallel(cache, &rows, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &loan, &e));
    REFUSED(seqtopk_cache_truncate(cache, 0, 0, &e));
    REFUSED(seqtopk_cache_remove(cache, 0, 0, 1, &e));
    REFUSED(seqtopk_cache_copy(cache, 1, 0, -1, &e));
    REFUSED(seqtopk_cache_clear(cache, 0, &e));
    REFUSED(seqtopk_cache_keep(cache, 1, &e));
    REFUSED(seqtopk_cache_reorder(cache, parents, 1, &e));
    REFUSED(seqtopk_cache_save(cache, 0, 0, 1, blob, sizeof blob, &e));
    REFUSED(seqtopk_cache_load(cache, 0, blob, sizeof blob, &e));
    REFUSED(seqtopk_tuning_parse(&tuning, "", 0, &e));
    REFUSED(seqtopk_tuning_load(&tuning, "nowhere", &e));
#undef REFUSED
    cr_expect(!plan && !no_cache && !tuning);
    cr_expect_eq(seqtopk_cache_length(cache, 0, 0), UNIT_TOKENS);
    cr_expect_eq(seqtopk_cache_length(cache, 0, 1), 0);
    seqtopk_cache_destroy(cache);
    unit_free(u);
}

/* What tells a size or a number, and has no error to say more: of nothing, or of what cannot be. */
Test(refusals, queries) {
    unit *u = unit_new();
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    const int64_t too_many = (int64_t)INT32_MAX + 1;
    cr_expect_eq(seqtopk_max_selected(NULL, 1), -1);
    cr_expect_eq(seqtopk_max_selected(u->plan, -1), -1);
    cr_expect_eq(seqtopk_max_selected(u->plan, INT32_MAX), -1, "twice as many pairs as an int32 can index");
    cr_expect_eq(seqtopk_max_block_slots(NULL, 1, 16), -1);
    cr_expect_eq(seqtopk_max_block_slots(u->plan, -1, 16), -1);
    cr_expect_eq(seqtopk_max_block_slots(u->plan, 1, 0), -1);
    cr_expect_eq(seqtopk_max_block_slots(u->plan, INT32_MAX / 2, 1 << 30), -1);
    cr_expect_eq(seqtopk_max_per_token(NULL), 0);
    cr_expect_eq(seqtopk_max_width(NULL, 1), 0);
    cr_expect_eq(seqtopk_max_width(u->plan, -1), 0);
    cr_expect_eq(seqtopk_route_steps(NULL), 0);
    cr_expect_eq(seqtopk_scratch_size(NULL, 1, 1, 1), 0);
    cr_expect_eq(seqtopk_scratch_size(u->plan, -1, 1, 1), 0);
    cr_expect_eq(seqtopk_scratch_size(u->plan, too_many, 1, 1), 0);
    cr_expect_eq(seqtopk_scratch_size(u->plan, 1, -1, 1), 0);
    cr_expect_eq(seqtopk_scratch_size(u->plan, 1, 1, 0), 0);
    cr_expect_eq(seqtopk_team_max_selected(NULL, 1), -1);
    cr_expect_eq(seqtopk_team_max_selected(u->plan, -1), -1);
    cr_expect_eq(seqtopk_team_scratch_size(NULL, 1, 1, 0, 1), 0);
    cr_expect_eq(seqtopk_team_scratch_size(u->plan, 1, 1, -1, 1), 0);
    cr_expect_eq(seqtopk_team_scratch_size(u->plan, 1, 1, too_many, 1), 0);
    cr_expect_eq(seqtopk_team_scratch_size(u->plan, 1, 0, 0, 1), seqtopk_team_scratch_size(u->plan, 1, 1, 0, 1));
    cr_expect_eq(seqtopk_exchange_scratch_size(0, 1), 0);
    cr_expect_eq(seqtopk_exchange_scratch_size(1, 0), 0);
    cr_expect_eq(seqtopk_exchange_scratch_size(5, 2), 48);
    cr_expect_eq(seqtopk_cache_scratch_size(NULL, 1, 1), 0);
    cr_expect_eq(seqtopk_cache_parts(NULL), 0);
    cr_expect_eq(seqtopk_cache_length(NULL, 0, 0), -1);
    cr_expect_eq(seqtopk_cache_save_size(NULL, 0, 0, 1), 0);
    cr_expect_eq(seqtopk_plan_choice_count(NULL), 0);
    cr_expect_not_null(seqtopk_plan_way_why_not(NULL, 0, 1, 0));
    cr_expect_not_null(seqtopk_plan_way_why_not(u->plan, -1, 1, 0));
    cr_expect_not_null(seqtopk_plan_way_why_not(u->plan, 0, -1, 0));
    cr_expect_null(seqtopk_isa_name(-1));
    cr_expect_null(seqtopk_isa_features(NULL));
    cr_expect_eq(seqtopk_isa_usable(NULL), 0);
    seqtopk_cache *cache = online(u, SEQTOPK_CACHE_EXACT, 0, 0);
    cr_expect_eq(seqtopk_team_max_selected(u->plan, 1), -1, "online");
    cr_expect_eq(seqtopk_team_scratch_size(u->plan, 1, 1, 0, 1), 0, "online");
    cr_expect_eq(seqtopk_cache_scratch_size(cache, -1, 1), 0);
    cr_expect_eq(seqtopk_cache_scratch_size(cache, 1, 0), 0);
    cr_expect_eq(seqtopk_cache_length(cache, -1, 0), -1);
    cr_expect_eq(seqtopk_cache_length(cache, 0, 3), -1);
    cr_expect_eq(seqtopk_cache_save_size(cache, 0, -1, 1), 0);
    cr_expect_eq(seqtopk_cache_save_size(cache, 0, 2, 1), 0);
    seqtopk_cache_destroy(cache);
    unit_free(u);
}

/* A team of two whose other rank says the same as this one. */
typedef struct collectives {
    int calls, failing; /* from which call on they fail; 0: none does */
} collectives;

static int twice(void *context, int64_t *words, int64_t n) {
    collectives *c = context;
    for (int64_t i = 0; i < n; i++)
        words[i] *= 2;
    return ++c->calls == c->failing;
}

static int none_before(void *context, int64_t *words, int64_t n) {
    collectives *c = context;
    memset(words, 0, (size_t)n * sizeof *words);
    return ++c->calls == c->failing;
}

static seqtopk_status route_team(unit *u, const seqtopk_team *team, size_t scratch) {
    return seqtopk_route_team(u->plan, &u->in, &u->out, u->scratch, scratch, team, NULL, &u->error);
}

/* ---------------------------------------------------------- descriptions -- */

Test(refusals, descriptions) {
    unit *u = unit_new();
    const seqtopk_desc good = u->desc;
#define BAD(status, words, ...)                                                                                        \
    do {                                                                                                               \
        u->desc = good;                                                                                                \
        __VA_ARGS__;                                                                                                   \
        EXPECT_SAYS(u, unit_plan(u), status, words);                                                                   \
        cr_expect_null(u->plan);                                                                                       \
    } while (0)
    BAD(SEQTOPK_E_VALUE, "desc.threads is 1025", u->desc.threads = 1025);
    BAD(SEQTOPK_E_VALUE, "desc.norm_floor is inf", u->desc.norm_floor = INFINITY);
    BAD(SEQTOPK_E_VALUE, "desc.norm_jitter is inf", u->desc.norm_jitter = INFINITY);
    BAD(SEQTOPK_E_VALUE, "desc.norm_jitter is -1", u->desc.norm_jitter = -1);
    BAD(SEQTOPK_E_VALUE, "desc.shared_experts is -1", u->desc.shared_experts = -1);
    BAD(SEQTOPK_E_VALUE, "desc.shared_experts is 8", u->desc.shared_experts = 8);
    BAD(SEQTOPK_E_VALUE, "desc.null_experts is -1", u->desc.null_experts = -1);
    BAD(SEQTOPK_E_VALUE, "desc.null_experts is 8", u->desc.null_experts = 8);
    BAD(SEQTOPK_E_VALUE, "desc.max_experts is -1", u->desc.max_experts = -1);
    /* What prunes a token's experts, and bounds that are of sequence scope. */
    BAD(SEQTOPK_E_VALUE, "in token scope leave them 0", u->desc.scope = SEQTOPK_SCOPE_TOKEN, u->desc.max_experts = 3);
    BAD(SEQTOPK_E_VALUE, "in token scope leave them 0", u->desc.scope = SEQTOPK_SCOPE_TOKEN, u->desc.min_experts = 1);
    BAD(SEQTOPK_E_VALUE, "in token scope leave them 0", u->desc.scope = SEQTOPK_SCOPE_TOKEN, u->desc.min_p = 0.5f,
        u->desc.min_experts = 1, u->desc.max_experts = 3);
    BAD(SEQTOPK_E_VALUE, "desc.min_p is -1", u->desc.min_p = -1);
    BAD(SEQTOPK_E_VALUE, "desc.min_p is 2", u->desc.min_p = 2);
    BAD(SEQTOPK_E_VALUE, "top_p -1", u->desc.top_p = -1);
    BAD(SEQTOPK_E_VALUE, "top_p 2", u->desc.top_p = 2);
    BAD(SEQTOPK_E_VALUE, "nan", u->desc.top_p = NAN);
    BAD(SEQTOPK_E_UNSUPPORTED, "SPARSEMIXER", u->desc.norm = SEQTOPK_NORM_SPARSEMIXER, u->desc.groups = 2,
        u->desc.group_top_k = 1);
    BAD(SEQTOPK_E_UNSUPPORTED, "SPARSEMIXER", u->desc.norm = SEQTOPK_NORM_SPARSEMIXER, u->desc.shared_experts = 1);
#undef BAD
    u->desc = good;
    u->desc.norm = SEQTOPK_NORM_SPARSEMIXER;
    u->desc.shared_experts = 1;
    u->desc.shared_weight = 0.5f;
    cr_expect_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
    unit_free(u);
}

Test(refusals, inputs_and_outputs) {
    unit *u = unit_new();
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    const seqtopk_input in = u->in;
    const seqtopk_output out = u->out;
    static const int32_t of[UNIT_TOKENS] = {0, 0, 1, 1}, lens[] = {0, 2, 4};
    static const int32_t given[UNIT_TOKENS * 2] = {0, 1, 0, 1, 0, 1, 0, 1};
    static float floats[UNIT_CELLS];
    static int32_t ints[UNIT_CELLS];
#define BAD(status, words, ...)                                                                                        \
    do {                                                                                                               \
        u->in = in;                                                                                                    \
        u->out = out;                                                                                                  \
        __VA_ARGS__;                                                                                                   \
        EXPECT_SAYS(u, unit_route(u), status, words);                                                                  \
    } while (0)
    BAD(SEQTOPK_E_VALUE, "input.sequences is -1", u->in.token_seq = of, u->in.sequences = -1);
    BAD(SEQTOPK_E_SHAPE, "leave one NULL", u->in.token_seq = of, u->in.cu_seqlens = lens, u->in.sequences = 2);
    BAD(SEQTOPK_E_VALUE, "output.runners is 0", u->out.runner_ids = ints);
    BAD(SEQTOPK_E_VALUE, "output.runners is 9", u->out.runner_ids = ints, u->out.runners = 9);
    BAD(SEQTOPK_E_UNSUPPORTED, "output.sequence_margins", u->out.sequence_margins = floats, u->in.given_ids = given,
        u->in.given_width = 2);
    BAD(SEQTOPK_E_UNSUPPORTED, "output.row_lse", u->out.row_lse = floats);
    BAD(SEQTOPK_E_UNSUPPORTED, "output.null_weights", u->out.null_weights = floats);
    BAD(SEQTOPK_E_OVERFLOW, "more than int32 can index", u->out.block_slots = ints, u->out.block_size = INT32_MAX);
    BAD(SEQTOPK_E_OVERFLOW, "more than int32 can index", u->in.tokens = 1 << 29, u->out.capacity = 1LL << 31,
        u->out.padded_ids = ints, u->out.padded_width = 8, u->out.block_slots = ints, u->out.block_size = 1);
    seqtopk_team alone = SEQTOPK_TEAM_INIT;
    alone.size = 1;
    u->in = in;
    u->out = out;
    u->out.sequence_margins = floats;
    EXPECT_SAYS(u, route_team(u, &alone, UNIT_SCRATCH), SEQTOPK_E_UNSUPPORTED, "output.sequence_margins");
    u->out = out;
#define PART(plan, step, part, parts)                                                                                  \
    seqtopk_route_part(plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, step, part, parts, &u->error)
    EXPECT_SAYS(u, PART(u->plan, 0, -1, 2), SEQTOPK_E_VALUE, "part -1 of 2");
    EXPECT_SAYS(u, PART(u->plan, 0, 2, 2), SEQTOPK_E_VALUE, "part 2 of 2");
    EXPECT_SAYS(u, PART(u->plan, 0, 0, 0), SEQTOPK_E_VALUE, "part 0 of 0");
    EXPECT_SAYS(u, PART(u->plan, 0, 0, 1025), SEQTOPK_E_VALUE, "part 0 of 1025");
    EXPECT_SAYS(u, PART(u->plan, -1, 0, 1), SEQTOPK_E_VALUE, "step");
    EXPECT_SAYS(u, PART(u->plan, 99, 0, 1), SEQTOPK_E_VALUE, "step");
    EXPECT_SAYS(u, PART(NULL, 0, 0, 1), SEQTOPK_E_NULL, "plan is NULL");
#undef PART
    /* The same in token scope, and what a NaN does to steps that follow. */
    u->desc.scope = SEQTOPK_SCOPE_TOKEN;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    BAD(SEQTOPK_E_UNSUPPORTED, "output.sequence_margins", u->out.sequence_margins = floats);
#undef BAD
    unit_free(u);
}

/* --------------------------------------------------------------- teams -- */

Test(refusals, teams) {
    unit *u = unit_new();
    collectives c = {0};
    seqtopk_team good = SEQTOPK_TEAM_INIT, team;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    good.size = 2;
    good.allreduce_sum = twice;
    good.exscan_sum = none_before;
    good.context = &c;
    EXPECT_SAYS(u, route_team(u, NULL, UNIT_SCRATCH), SEQTOPK_E_NULL, "team is NULL");
    team = good, team.size = 0;
    EXPECT_SAYS(u, route_team(u, &team, UNIT_SCRATCH), SEQTOPK_E_VALUE, "team.rank is 0 of 0");
    team = good, team.size = 32769;
    EXPECT_SAYS(u, route_team(u, &team, UNIT_SCRATCH), SEQTOPK_E_VALUE, "team.rank is 0 of 32769");
    team = good, team.rank = -1;
    EXPECT_SAYS(u, route_team(u, &team, UNIT_SCRATCH), SEQTOPK_E_VALUE, "team.rank is -1");
    team = good, team.rank = 2;
    EXPECT_SAYS(u, route_team(u, &team, UNIT_SCRATCH), SEQTOPK_E_VALUE, "team.rank is 2 of 2");
    team = good, team.count_all = 2;
    EXPECT_SAYS(u, route_team(u, &team, UNIT_SCRATCH), SEQTOPK_E_VALUE, "team.count_all is 2");
    team = good, team.count_all = -1;
    EXPECT_SAYS(u, route_team(u, &team, UNIT_SCRATCH), SEQTOPK_E_VALUE, "team.count_all is -1");
    team = good, team.allreduce_sum = NULL;
    EXPECT_SAYS(u, route_team(u, &team, UNIT_SCRATCH), SEQTOPK_E_NULL, "allreduce_sum");
    team = good, team.exscan_sum = NULL;
    EXPECT_SAYS(u, route_team(u, &team, UNIT_SCRATCH), SEQTOPK_E_NULL, "exscan_sum");
    cr_expect_eq(c.calls, 0, "nobody else is asked what a rank alone can refuse without a team");

    /* From here on the others are told. */
    seqtopk_parallel loan = SEQTOPK_PARALLEL_INIT;
    EXPECT_SAYS(u, seqtopk_route_team(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &good, &loan, &u->error),
                SEQTOPK_E_NULL, "parallel.parallel_for is NULL");
    EXPECT_SAYS(u, route_team(u, &good, 64), SEQTOPK_E_CAPACITY, "scratch has 64 bytes");
    const size_t enough = seqtopk_team_scratch_size(u->plan, UNIT_TOKENS, 1, u->out.capacity, 1);
    cr_assert(enough <= UNIT_SCRATCH);
    int told = 0;
    for (size_t size = 64; size < enough; size += 64) {
        const seqtopk_status status = route_team(u, &good, size);
        cr_assert(status == SEQTOPK_OK || status == SEQTOPK_E_CAPACITY, "%zu bytes: %s", size, u->error.message);
        told += strstr(u->error.message, "seqtopk_team_scratch_size") != NULL;
    }
    cr_expect_gt(told, 0, "of space that a call has and its team has not");
    const int32_t of[UNIT_TOKENS] = {0, 1, 0, 1};
    u->in.token_seq = of;
    u->in.sequences = 2;
    EXPECT_SAYS(u, route_team(u, &good, UNIT_SCRATCH), SEQTOPK_E_UNSUPPORTED, "input.token_seq in a team");
    u->in.token_seq = NULL;
    u->in.sequences = 0;
    seqtopk_plan *plan = u->plan;
    u->plan = NULL;
    EXPECT_SAYS(u, route_team(u, &good, UNIT_SCRATCH), SEQTOPK_E_NULL, "plan is NULL");
    u->plan = plan;
    cr_expect_gt(c.calls, 0);
    seqtopk_cache *cache = online(u, SEQTOPK_CACHE_EXACT, 0, 0);
    EXPECT_SAYS(u, route_team(u, &good, UNIT_SCRATCH), SEQTOPK_E_UNSUPPORTED, "scope is online");
    seqtopk_cache_destroy(cache);
    unit_free(u);
}

/* Each collective of a call fails in turn: a rank says so and leaves the call. Of several sequences, of bad logits, of a
 * rank that has too little space, in token scope, and refused before it began. */
Test(refusals, collectives_that_fail) {
    static const int32_t two[] = {0, 2, UNIT_TOKENS};
    int most = 0;
    for (int kind = 0; kind < 7; kind++) {
        unit *u = unit_new();
        collectives c = {0};
        seqtopk_team team = SEQTOPK_TEAM_INIT;
        team.size = 2;
        team.allreduce_sum = twice;
        team.exscan_sum = none_before;
        team.context = &c;
        for (int i = 0; i < UNIT_TOKENS * UNIT_EXPERTS; i++)
            u->logits[i] = kind == 5 ? 1.0f : u->logits[i];
        u->desc.scope = kind == 3 ? SEQTOPK_SCOPE_TOKEN : SEQTOPK_SCOPE_SEQUENCE;
        u->in.cu_seqlens = kind == 1 || kind == 5 ? two : NULL;
        u->in.sequences = kind == 1 || kind == 5 ? 2 : 0;
        u->out.capacity = kind == 2 ? UNIT_TOKENS : UNIT_TOKENS * UNIT_EXPERTS / 2;
        if (kind == 4 || kind == 6)
            u->logits[UNIT_EXPERTS] = NAN;
        if (kind == 6)
            u->desc.scope = SEQTOPK_SCOPE_TOKEN;
        cr_assert_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
        (void)route_team(u, &team, UNIT_SCRATCH);
        const int calls = c.calls;
        cr_expect_gt(calls, 0);
        most = calls > most ? calls : most;
        for (c.failing = 1; c.failing <= calls; c.failing++) {
            c.calls = 0;
            EXPECT_SAYS(u, route_team(u, &team, UNIT_SCRATCH), SEQTOPK_E_TEAM, "failed");
            cr_expect_eq(c.calls, c.failing, "kind %d: nothing more is asked of a team that has failed", kind);
        }
        unit_free(u);
    }
    cr_expect_gt(most, 2);
}

/* ----------------------------------------------------------- exchanges -- */

Test(refusals, exchanges) {
    unit *u = unit_new();
    seqtopk_exchange x = SEQTOPK_EXCHANGE_INIT;
    static const int32_t places[UNIT_EXPERTS] = {0, 0, 0, 0, 1, 1, 1, 1};
    cr_assert_eq(unit_route(u), SEQTOPK_OK);
    x.experts = UNIT_EXPERTS;
    x.destinations = 2;
    x.places = places;
    const size_t size = seqtopk_exchange_scratch_size(UNIT_EXPERTS, 2);
#define MAKE(exchange, tokens, offsets, ids, scratch, bytes)                                                           \
    seqtopk_exchange_make(exchange, tokens, offsets, ids, scratch, bytes, &u->error)
    EXPECT_SAYS(u, MAKE(NULL, 4, u->token_offsets, u->expert_ids, u->scratch, size), SEQTOPK_E_NULL, "exchange");
    EXPECT_SAYS(u, MAKE(&x, 4, NULL, u->expert_ids, u->scratch, size), SEQTOPK_E_NULL, "token_offsets is NULL");
    EXPECT_SAYS(u, MAKE(&x, 4, u->token_offsets, NULL, u->scratch, size), SEQTOPK_E_NULL, "expert_ids is NULL");
    EXPECT_SAYS(u, MAKE(&x, 4, u->token_offsets, u->expert_ids, NULL, size), SEQTOPK_E_NULL, "scratch is NULL");
    EXPECT_SAYS(u, MAKE(&x, 4, u->token_offsets, u->expert_ids, u->scratch, size - 1), SEQTOPK_E_CAPACITY, "bytes");
    EXPECT_SAYS(u, MAKE(&x, 1LL << 31, u->token_offsets, u->expert_ids, u->scratch, size), SEQTOPK_E_VALUE, "tokens");
    x.experts = 0;
    EXPECT_SAYS(u, MAKE(&x, 4, u->token_offsets, u->expert_ids, u->scratch, size), SEQTOPK_E_VALUE, "experts is 0");
    x.experts = UNIT_EXPERTS;
    x.turn = 1LL << 31;
    EXPECT_SAYS(u, MAKE(&x, 4, u->token_offsets, u->expert_ids, u->scratch, size), SEQTOPK_E_VALUE, "turn");
    x.turn = 0;
    static const int32_t late[UNIT_EXPERTS + 1] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    x.copy_offsets = late;
    EXPECT_SAYS(u, MAKE(&x, 4, u->token_offsets, u->expert_ids, u->scratch, UNIT_SCRATCH), SEQTOPK_E_SHAPE,
                "copy_offsets[1]");
    x.copy_offsets = NULL;
    static const int32_t below[UNIT_EXPERTS] = {0, -1};
    x.places = below;
    EXPECT_SAYS(u, MAKE(&x, 4, u->token_offsets, u->expert_ids, u->scratch, size), SEQTOPK_E_VALUE, "places[1]");
    x.places = places;
    x.once = 1;
    x.row_slots = u->padded_ids;
    x.slot_rows = u->expert_slots;
    EXPECT_SAYS(u, MAKE(&x, 4, u->token_offsets, u->expert_ids, u->scratch, size), SEQTOPK_E_NULL, "row_offsets");
    x.row_slots = NULL;
    cr_expect_eq(MAKE(&x, 4, u->token_offsets, u->expert_ids, u->scratch, size), SEQTOPK_OK, "without rows of pairs");
    x.once = 0;
    u->token_offsets[0] = 1;
    EXPECT_SAYS(u, MAKE(&x, 4, u->token_offsets, u->expert_ids, u->scratch, size), SEQTOPK_E_SHAPE, "token_offsets[1]");
    u->token_offsets[0] = 0;
    u->expert_ids[1] = -1;
    EXPECT_SAYS(u, MAKE(&x, 4, u->token_offsets, u->expert_ids, u->scratch, size), SEQTOPK_E_VALUE, "expert_ids[1]");
#undef MAKE
    unit_free(u);
}

/* -------------------------------------------------------------- caches -- */

Test(refusals, life_of_a_sequence) {
    unit *u = unit_new();
    seqtopk_cache *cache = online(u, SEQTOPK_CACHE_EXACT, 0, 0);
    static const int32_t beyond[] = {0, 3}, own[] = {0, -1, -1};
    EXPECT_SAYS(u, seqtopk_cache_truncate(NULL, 0, 0, &u->error), SEQTOPK_E_NULL, "cache is NULL");
    EXPECT_SAYS(u, seqtopk_cache_truncate(cache, 3, 0, &u->error), SEQTOPK_E_VALUE, "sequences 0 to 2");
    EXPECT_SAYS(u, seqtopk_cache_truncate(cache, 0, -1, &u->error), SEQTOPK_E_VALUE, "tokens is -1");
    EXPECT_SAYS(u, seqtopk_cache_remove(cache, -1, 0, 1, &u->error), SEQTOPK_E_VALUE, "sequence -1");
    EXPECT_SAYS(u, seqtopk_cache_remove(cache, 0, -1, 1, &u->error), SEQTOPK_E_VALUE, "tokens [-1, 1)");
    EXPECT_SAYS(u, seqtopk_cache_remove(cache, 0, 2, 1, &u->error), SEQTOPK_E_VALUE, "tokens [2, 1)");
    EXPECT_SAYS(u, seqtopk_cache_remove(cache, 0, 2, 5, &u->error), SEQTOPK_E_VALUE, "has 4");
    EXPECT_SAYS(u, seqtopk_cache_copy(cache, 1, 3, -1, &u->error), SEQTOPK_E_VALUE, "sequence 3");
    EXPECT_SAYS(u, seqtopk_cache_copy(cache, 3, 1, -1, &u->error), SEQTOPK_E_VALUE, "sequence 3");
    EXPECT_SAYS(u, seqtopk_cache_clear(cache, 3, &u->error), SEQTOPK_E_VALUE, "sequence 3");
    EXPECT_SAYS(u, seqtopk_cache_keep(cache, -1, &u->error), SEQTOPK_E_VALUE, "sequence -1");
    EXPECT_SAYS(u, seqtopk_cache_reorder(NULL, own, 3, &u->error), SEQTOPK_E_NULL, "cache is NULL");
    EXPECT_SAYS(u, seqtopk_cache_reorder(cache, NULL, 1, &u->error), SEQTOPK_E_NULL, "parents is NULL");
    EXPECT_SAYS(u, seqtopk_cache_reorder(cache, own, -1, &u->error), SEQTOPK_E_VALUE, "n is -1");
    EXPECT_SAYS(u, seqtopk_cache_reorder(cache, own, 4, &u->error), SEQTOPK_E_VALUE, "n is 4");
    EXPECT_SAYS(u, seqtopk_cache_reorder(cache, beyond, 2, &u->error), SEQTOPK_E_VALUE, "sequence 3");
    EXPECT_SAYS(u, seqtopk_cache_save(cache, 3, 0, 1, u->scratch, UNIT_SCRATCH, &u->error), SEQTOPK_E_VALUE,
                "sequence 3");
    EXPECT_SAYS(u, seqtopk_cache_save(cache, 0, 0, 5, u->scratch, UNIT_SCRATCH, &u->error), SEQTOPK_E_VALUE, "[0, 5)");
    EXPECT_SAYS(u, seqtopk_cache_save(cache, 0, 0, 1, NULL, UNIT_SCRATCH, &u->error), SEQTOPK_E_NULL, "blob is NULL");
    EXPECT_SAYS(u, seqtopk_cache_load(cache, 3, u->scratch, 64, &u->error), SEQTOPK_E_VALUE, "sequence 3");
    EXPECT_SAYS(u, seqtopk_cache_load(cache, 1, NULL, 64, &u->error), SEQTOPK_E_NULL, "blob is NULL");
    for (int32_t l = 0; l < 2; l++)
        cr_expect_eq(seqtopk_cache_length(cache, l, 0), UNIT_TOKENS, "nothing has changed");
    cr_expect_eq(seqtopk_cache_reorder(cache, NULL, 0, &u->error), SEQTOPK_OK);
    cr_expect_eq(seqtopk_cache_reorder(cache, own, 3, &u->error), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(seqtopk_cache_length(cache, 1, 0), UNIT_TOKENS, "its own parent");
    cr_expect_eq(seqtopk_cache_copy(cache, 0, 0, -1, &u->error), SEQTOPK_OK);
    cr_expect_eq(seqtopk_cache_copy(cache, 0, 0, 2, &u->error), SEQTOPK_OK);
    cr_expect_eq(seqtopk_cache_length(cache, 1, 0), 2, "a copy onto itself cuts");
    seqtopk_cache_destroy(cache);
    unit_free(u);
}

/* Where numbers of a saved sequence stand, as src/cache/save.c writes them. */
enum {
    BLOB_VERSION = 8,
    BLOB_ORDER = 12,
    BLOB_LAYERS = 16,
    BLOB_FROM = 24,
    BLOB_TO = 32,
    BLOB_CHECKSUM = 40,
    BLOB_HEAD = 56
};
enum { BLOB_NOTES = BLOB_HEAD + 32 }; /* of the first layer, behind what it says of itself */

static uint64_t hash_of(uint64_t sum, const char *data, size_t size) {
    for (; size >= 8; size -= 8, data += 8) {
        uint64_t word;
        memcpy(&word, data, sizeof word);
        sum = (sum ^ word) * UINT64_C(0x100000001b3);
        sum ^= sum >> 32;
    }
    for (; size > 0; size--, data++)
        sum = (sum ^ (unsigned char)*data) * UINT64_C(0x100000001b3);
    return sum;
}

/* Makes a changed blob look whole. */
static void sign(char *blob, size_t size) {
    uint64_t sum = 0;
    memcpy(blob + BLOB_CHECKSUM, &sum, sizeof sum);
    sum = hash_of(hash_of(UINT64_C(0xcbf29ce484222325), blob, BLOB_HEAD), blob + BLOB_HEAD, size - BLOB_HEAD);
    memcpy(blob + BLOB_CHECKSUM, &sum, sizeof sum);
}

/* A blob with one number put in place of another, and a checksum that is right. */
static seqtopk_status load_forged(unit *u, seqtopk_cache *cache, const char *blob, size_t size, size_t at,
                                  const void *number, size_t bytes) {
    char *forged = malloc(size);
    cr_assert(forged);
    memcpy(forged, blob, size);
    memcpy(forged + at, number, bytes);
    sign(forged, size);
    const seqtopk_status status = seqtopk_cache_load(cache, 1, forged, size, &u->error);
    free(forged);
    return status;
}

Test(refusals, blobs) {
    unit *u = unit_new();
    seqtopk_cache *cache = online(u, SEQTOPK_CACHE_EXACT, 0, 0);
    const size_t size = seqtopk_cache_save_size(cache, 0, 0, 4);
    char *blob = malloc(size + 8);
    cr_assert(blob);
    cr_assert_eq(seqtopk_cache_save(cache, 0, 0, 4, blob, size, &u->error), SEQTOPK_OK);
    EXPECT_SAYS(u, seqtopk_cache_load(cache, 1, blob, 8, &u->error), SEQTOPK_E_FILE, "begins otherwise");
#define FORGED(at, type, number, status, words)                                                                        \
    do {                                                                                                               \
        const type number_ = number;                                                                                   \
        EXPECT_SAYS(u, load_forged(u, cache, blob, size, at, &number_, sizeof number_), status, words);                \
    } while (0)
    FORGED(BLOB_VERSION, uint32_t, 3, SEQTOPK_E_FILE, "version 3");
    FORGED(BLOB_ORDER, uint32_t, 0x04030201, SEQTOPK_E_FILE, "byte order");
    FORGED(BLOB_LAYERS, int32_t, 3, SEQTOPK_E_SHAPE, "3 layers");
    FORGED(BLOB_FROM, int64_t, -1, SEQTOPK_E_SHAPE, "[-1, 4)");
    FORGED(BLOB_FROM, int64_t, 5, SEQTOPK_E_SHAPE, "[5, 4)");
    FORGED(BLOB_TO, int64_t, INT64_MAX, SEQTOPK_E_SHAPE, "at most 2147483647");
    FORGED(BLOB_TO, int64_t, 5, SEQTOPK_E_FILE, "token 4 of layer 0");
    FORGED(BLOB_TO, int64_t, INT32_MAX, SEQTOPK_E_SHAPE, "other experts, budgets or bounds");
    FORGED(BLOB_HEAD, int32_t, 9, SEQTOPK_E_SHAPE, "other experts");
    FORGED(BLOB_NOTES, uint32_t, 2, SEQTOPK_E_FILE, "token 0 of layer 0 cannot be");
    FORGED(BLOB_NOTES + 4, uint32_t, 5, SEQTOPK_E_FILE, "token 0 of layer 0 cannot be");
    FORGED(BLOB_NOTES + 8, float, NAN, SEQTOPK_E_FILE, "token 0 of layer 0 has no keys");
    FORGED(BLOB_NOTES + 8, float, INFINITY, SEQTOPK_E_FILE, "has no keys");
    FORGED(BLOB_NOTES + 8, float, -100, SEQTOPK_E_FILE, "has no keys");
#undef FORGED
    /* Longer than its tokens, whole otherwise. */
    const uint64_t longer = size + 8;
    memset(blob + size, 0, 8);
    memcpy(blob + BLOB_CHECKSUM + 8, &longer, sizeof longer);
    sign(blob, size + 8);
    EXPECT_SAYS(u, seqtopk_cache_load(cache, 1, blob, size + 8, &u->error), SEQTOPK_E_FILE, "more bytes");
    for (int32_t l = 0; l < 2; l++)
        cr_expect_eq(seqtopk_cache_length(cache, l, 1), 0, "nothing of a bad blob is taken");
    memcpy(blob + BLOB_CHECKSUM + 8, &(uint64_t){size}, sizeof(uint64_t));
    sign(blob, size);
    cr_expect_eq(seqtopk_cache_load(cache, 1, blob, size, &u->error), SEQTOPK_OK, "%s", u->error.message);
    seqtopk_cache_destroy(cache);
    free(blob);
    unit_free(u);
}

/* Blobs that lie in many ways under right checksums: what is taken can be stepped on, cut and saved again, with ids that are. */
Test(refusals, blobs_that_lie, .timeout = 60) {
    enum { FORGERIES = 4000 };
    int taken = 0;
    random_state random;
    random_seed(&random, 7);
    for (int is_compact = 0; is_compact < 2; is_compact++) {
        unit *u = unit_new();
        seqtopk_cache *cache = online(u, is_compact ? SEQTOPK_CACHE_COMPACT : SEQTOPK_CACHE_EXACT, 0, 0);
        seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT;
        static const int32_t second[UNIT_TOKENS] = {1, 1, 1, 1};
        rows.sequences = second;
        const size_t size = seqtopk_cache_save_size(cache, 0, 0, 4);
        char *blob = malloc(size), *forged = malloc(size);
        cr_assert(blob && forged);
        cr_assert_eq(seqtopk_cache_save(cache, 0, 0, 4, blob, size, &u->error), SEQTOPK_OK, "%s", u->error.message);
        /* Compact, most of it is counts of empty bins: the head, what stands before them, and the notes at the end. */
        const size_t some = is_compact ? 256 : size;
        for (int i = 0; i < FORGERIES; i++) {
            static const uint32_t oddities[] = {0,           1,           2,           UINT32_MAX, INT32_MAX,
                                                0x80000000u, 0x7f800000u, 0xff800000u, 0x7fc00000u};
            memcpy(forged, blob, size);
            for (int changes = 1 + (int)random_below(&random, 3); changes > 0; changes--) {
                const size_t at =
                    4 * (random_below(&random, 2) || !is_compact ? random_below(&random, (uint32_t)some / 4)
                                                                 : random_below(&random, (uint32_t)size / 4));
                const uint32_t odd =
                    random_below(&random, 2) ? oddities[random_below(&random, 9)] : random_below(&random, UINT32_MAX);
                memcpy(forged + at, &odd, sizeof odd);
            }
            memcpy(forged, blob, 16); /* the magic, or nothing is looked at */
            memcpy(forged + BLOB_CHECKSUM + 8, &(uint64_t){size}, sizeof(uint64_t));
            sign(forged, size);
            cr_assert_eq(seqtopk_cache_clear(cache, 1, NULL), SEQTOPK_OK);
            const seqtopk_status status = seqtopk_cache_load(cache, 1, forged, size, &u->error);
            if (status) {
                cr_assert(status == SEQTOPK_E_FILE || status == SEQTOPK_E_SHAPE, "%s", u->error.message);
                continue;
            }
            taken++;
            for (rows.layer = 0; rows.layer < 2; rows.layer++) {
                cr_assert_eq(seqtopk_cache_step(cache, &rows, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &u->error),
                             SEQTOPK_OK, "%s", u->error.message);
                for (int j = 0; j < u->token_offsets[UNIT_TOKENS]; j++)
                    cr_assert(u->expert_ids[j] >= 0 && u->expert_ids[j] < UNIT_EXPERTS);
                for (int t = 0; t < UNIT_TOKENS; t++)
                    cr_assert(u->token_offsets[t + 1] - u->token_offsets[t] >= 1 &&
                              u->token_offsets[t + 1] - u->token_offsets[t] <= 4);
            }
            const int64_t length = seqtopk_cache_length(cache, 0, 1);
            const size_t again = seqtopk_cache_save_size(cache, 1, 0, length);
            cr_assert(again > 0 && again <= UNIT_SCRATCH);
            cr_assert_eq(seqtopk_cache_save(cache, 1, 0, length, u->scratch, again, &u->error), SEQTOPK_OK);
            cr_assert_eq(seqtopk_cache_truncate(cache, 1, length - 1, &u->error), SEQTOPK_OK, "%s", u->error.message);
        }
        seqtopk_cache_destroy(cache);
        free(blob);
        free(forged);
        unit_free(u);
    }
    cr_expect_gt(taken, 0);
}

Test(refusals, statistics) {
    unit *u = unit_new();
    seqtopk_cache *cache = online(u, SEQTOPK_CACHE_EXACT, 0, 0);
    seqtopk_cache_stats stats = SEQTOPK_CACHE_STATS_INIT, all = SEQTOPK_CACHE_STATS_INIT;
    cr_expect_eq(seqtopk_cache_get_stats(NULL, 0, 0, &stats), SEQTOPK_E_NULL);
    cr_expect_eq(seqtopk_cache_get_stats(cache, 0, 0, NULL), SEQTOPK_E_NULL);
    cr_expect_eq(seqtopk_cache_get_stats(cache, -2, 0, &stats), SEQTOPK_E_VALUE);
    cr_expect_eq(seqtopk_cache_get_stats(cache, 0, -2, &stats), SEQTOPK_E_VALUE);
    cr_expect_eq(seqtopk_cache_get_stats(cache, 0, 3, &stats), SEQTOPK_E_VALUE);
    cr_expect_eq(seqtopk_cache_get_stats(cache, 1, 0, &stats), SEQTOPK_OK);
    cr_expect_eq(seqtopk_cache_get_stats(cache, -1, -1, &all), SEQTOPK_OK);
    cr_expect(stats.tokens == UNIT_TOKENS && all.tokens == 2 * UNIT_TOKENS);
    stats.struct_size = 4;
    cr_expect_eq(seqtopk_cache_get_stats(cache, 0, 0, &stats), SEQTOPK_E_STRUCT);
    seqtopk_cache_destroy(cache);
    unit_free(u);
}

Test(refusals, steps_of_a_cache) {
    unit *u = unit_new();
    seqtopk_cache *cache = online(u, SEQTOPK_CACHE_EXACT, 0, 0);
    seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT;
    seqtopk_parallel loan = SEQTOPK_PARALLEL_INIT;
#define PART(cache, step, part, parts)                                                                                 \
    seqtopk_cache_step_part(cache, &rows, &u->in, &u->out, u->scratch, UNIT_SCRATCH, step, part, parts, &u->error)
    EXPECT_SAYS(u, PART(cache, -1, 0, 1), SEQTOPK_E_VALUE, "step is -1");
    EXPECT_SAYS(u, PART(cache, seqtopk_cache_parts(cache), 0, 1), SEQTOPK_E_VALUE, "step is 6");
    EXPECT_SAYS(u, PART(NULL, 0, 0, 1), SEQTOPK_E_NULL, "cache is NULL");
    EXPECT_SAYS(u, PART(cache, 0, 2, 2), SEQTOPK_E_VALUE, "part");
    rows.layer = -1;
    EXPECT_SAYS(u, PART(cache, 0, 0, 2), SEQTOPK_E_VALUE, "cache_rows.layer");
    rows.layer = 0;
    rows.take = SEQTOPK_TAKE_JOINT;
    for (int is_ledger = 0; is_ledger < 2; is_ledger++) {
        seqtopk_cache_desc desc = SEQTOPK_CACHE_DESC_INIT;
        seqtopk_cache *other = NULL;
        desc.layers = desc.sequences = 1;
        desc.plan = u->plan;
        desc.is_ledger = is_ledger;
        desc.mode = is_ledger ? SEQTOPK_CACHE_EXACT : SEQTOPK_CACHE_THRESHOLD;
        cr_assert_eq(seqtopk_cache_create(&other, &desc, &u->error), SEQTOPK_OK, "%s", u->error.message);
        EXPECT_SAYS(u, PART(other, 0, 0, 1), SEQTOPK_E_UNSUPPORTED, "ledger or a threshold");
        seqtopk_cache_destroy(other);
    }
    rows.take = SEQTOPK_TAKE_CAUSAL;
    /* What the first part finds, all are told from the next step on. */
    u->logits[3] = NAN;
    cr_expect_eq(PART(cache, 0, 1, 2), SEQTOPK_OK);
    cr_expect_eq(PART(cache, 0, 0, 2), SEQTOPK_OK, "rows are looked at in the next step");
    cr_expect_eq(PART(cache, 1, 1, 2), SEQTOPK_OK);
    cr_expect_eq(PART(cache, 1, 0, 2), SEQTOPK_OK);
    for (int32_t step = 2; step < seqtopk_cache_parts(cache); step++)
        for (int32_t part = 0; part < 2; part++) {
            EXPECT_SAYS(u, PART(cache, step, part, 2), SEQTOPK_E_NONFINITE, "");
            cr_expect_eq(u->error.token, 0);
        }
    u->logits[3] = 0;
    /* Space for a route, and not for what a cache keeps of it. */
    const size_t enough = seqtopk_cache_scratch_size(cache, UNIT_TOKENS, 1);
    int told = 0;
    cr_assert(enough <= UNIT_SCRATCH);
    for (size_t size = 64; size < enough; size += 64) {
        const seqtopk_status status = seqtopk_cache_step(cache, &rows, &u->in, &u->out, u->scratch, size, &u->error);
        cr_assert(status == SEQTOPK_OK || status == SEQTOPK_E_CAPACITY, "%zu bytes: %s", size, u->error.message);
        told += strstr(u->error.message, "seqtopk_cache_scratch_size") != NULL;
        cr_assert_eq(seqtopk_cache_truncate(cache, 0, UNIT_TOKENS, NULL), SEQTOPK_OK);
    }
    cr_expect_gt(told, 0);
    /* One token, which goes another way. */
    static const int32_t strangers[] = {-1, 3};
    u->in.tokens = 1;
    for (int i = 0; i < 2; i++) {
        rows.sequences = strangers + i;
        EXPECT_SAYS(u, seqtopk_cache_step(cache, &rows, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &u->error),
                    SEQTOPK_E_VALUE, "sequences 0 to 2");
    }
    rows.sequences = NULL;
    u->in.tokens = UNIT_TOKENS;
    static const int64_t positions[UNIT_TOKENS] = {9, 10, 11, 12};
    rows.positions = positions;
    EXPECT_SAYS(u, PART(cache, 0, 0, 2), SEQTOPK_E_SHAPE, "are missing");
    for (int32_t step = 1; step < seqtopk_cache_parts(cache); step++)
        EXPECT_SAYS(u, PART(cache, step, 1, 2), SEQTOPK_E_SHAPE, "are missing");
#undef PART
#define LENT(parallel)                                                                                                 \
    seqtopk_cache_step_parallel(cache, &rows, &u->in, &u->out, u->scratch, UNIT_SCRATCH, parallel, &u->error)
    EXPECT_SAYS(u, LENT(NULL), SEQTOPK_E_NULL, "parallel is NULL");
    EXPECT_SAYS(u, LENT(&loan), SEQTOPK_E_NULL, "parallel.parallel_for is NULL");
#undef LENT
    cr_expect_eq(seqtopk_cache_length(cache, 0, 0), UNIT_TOKENS);
    seqtopk_cache_destroy(cache);
    unit_free(u);
}

Test(refusals, descriptions_of_caches) {
    unit *u = unit_new();
    seqtopk_cache_desc desc = SEQTOPK_CACHE_DESC_INIT;
    seqtopk_cache *cache = online(u, SEQTOPK_CACHE_EXACT, 0, 0);
    const seqtopk_plan *plans[] = {u->plan, NULL};
    seqtopk_cache_destroy(cache);
    desc.layers = 2;
    desc.sequences = 1;
    desc.plans = plans;
    EXPECT_SAYS(u, seqtopk_cache_create(&cache, NULL, &u->error), SEQTOPK_E_NULL, "cache_desc is NULL");
    EXPECT_SAYS(u, seqtopk_cache_create(&cache, &desc, &u->error), SEQTOPK_E_NULL, "cache_desc.plans[1]");
    plans[1] = plans[0];
    desc.rollback = -1;
    EXPECT_SAYS(u, seqtopk_cache_create(&cache, &desc, &u->error), SEQTOPK_E_VALUE, "cache_desc.rollback");
    desc.rollback = 0;
    desc.layers = 65537;
    EXPECT_SAYS(u, seqtopk_cache_create(&cache, &desc, &u->error), SEQTOPK_E_VALUE, "cache_desc.layers");
    desc.layers = 2;
    desc.max_tokens = 1LL << 31;
    EXPECT_SAYS(u, seqtopk_cache_create(&cache, &desc, &u->error), SEQTOPK_E_VALUE, "cache_desc.max_tokens");
    desc.max_tokens = 0;
    cr_expect_eq(seqtopk_cache_create(&cache, &desc, &u->error), SEQTOPK_OK, "%s", u->error.message);
    seqtopk_cache_destroy(cache);
    unit_free(u);
}
