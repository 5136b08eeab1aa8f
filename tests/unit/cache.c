/* SPDX-License-Identifier: MIT */
/* What a cache refuses and says; its results are the business of tests/fuzz/cache.c and tests/check_decode.c. */
#include "unit.h"

#include <math.h>

typedef struct fixture {
    unit *u;
    seqtopk_cache_desc desc;
    seqtopk_cache *cache;
    seqtopk_cache_rows rows;
    int32_t sequences[UNIT_TOKENS];
    int64_t positions[UNIT_TOKENS];
} fixture;

/* Two layers and three sequences of the unit's router, online; bounds [1, 4]. */
static fixture *fixture_new(void) {
    const seqtopk_cache_desc desc = SEQTOPK_CACHE_DESC_INIT;
    const seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT;
    fixture *f = calloc(1, sizeof *f);
    cr_assert(f);
    f->u = unit_new();
    f->u->desc.scope = SEQTOPK_SCOPE_ONLINE;
    f->u->desc.min_experts = 1;
    f->u->desc.max_experts = 4;
    f->u->out.capacity = UNIT_TOKENS * 4;
    cr_assert_eq(unit_plan(f->u), SEQTOPK_OK, "%s", f->u->error.message);
    f->desc = desc;
    f->desc.layers = 2;
    f->desc.plan = f->u->plan;
    f->desc.sequences = 3;
    f->rows = rows;
    return f;
}

static seqtopk_status create(fixture *f) {
    seqtopk_cache_destroy(f->cache);
    return seqtopk_cache_create(&f->cache, &f->desc, &f->u->error);
}

static void fixture_free(fixture *f) {
    seqtopk_cache_destroy(f->cache);
    unit_free(f->u);
    free(f);
}

static seqtopk_status step(fixture *f) {
    return seqtopk_cache_step(f->cache, &f->rows, &f->u->in, &f->u->out, f->u->scratch, UNIT_SCRATCH, &f->u->error);
}

#define EXPECT_SAYS(f, status, expected, words)                                                                        \
    do {                                                                                                               \
        cr_expect_eq(status, expected, "%s", (f)->u->error.message);                                                   \
        cr_expect(strstr((f)->u->error.message, words), "%s", (f)->u->error.message);                                  \
    } while (0)

Test(cache, refuses_bad_descriptions) {
    fixture *f = fixture_new();
    const seqtopk_cache_desc good = f->desc;
#define BAD(change, expected, words)                                                                                   \
    do {                                                                                                               \
        f->desc = good;                                                                                                \
        change;                                                                                                        \
        f->cache = NULL;                                                                                               \
        EXPECT_SAYS(f, create(f), expected, words);                                                                    \
        cr_expect_null(f->cache);                                                                                      \
    } while (0)
    BAD(f->desc.layers = 0, SEQTOPK_E_VALUE, "cache_desc.layers");
    BAD(f->desc.sequences = 0, SEQTOPK_E_VALUE, "cache_desc.sequences");
    BAD(f->desc.sequences = 1 << 24, SEQTOPK_E_VALUE, "cache_desc.sequences");
    BAD(f->desc.plan = NULL, SEQTOPK_E_NULL, "cache_desc.plan");
    BAD(f->desc.mode = (seqtopk_cache_mode)9, SEQTOPK_E_VALUE, "cache_desc.mode");
    BAD(f->desc.max_tokens = -1, SEQTOPK_E_VALUE, "cache_desc.max_tokens");
    BAD(f->desc.max_bytes = -1, SEQTOPK_E_VALUE, "cache_desc.max_bytes");
    BAD((f->desc.mode = SEQTOPK_CACHE_THRESHOLD, f->desc.threshold = NAN), SEQTOPK_E_VALUE, "threshold");
#undef BAD
    f->desc = good;
    cr_expect_eq(seqtopk_cache_create(NULL, &f->desc, &f->u->error), SEQTOPK_E_NULL);
    f->u->desc.scope = SEQTOPK_SCOPE_SEQUENCE;
    cr_assert_eq(unit_plan(f->u), SEQTOPK_OK);
    f->desc.plan = f->u->plan;
    EXPECT_SAYS(f, create(f), SEQTOPK_E_VALUE, "SEQTOPK_SCOPE_ONLINE");
    fixture_free(f);
}

Test(cache, plans_of_online_scope_are_not_routed) {
    fixture *f = fixture_new();
    EXPECT_SAYS(f, unit_route(f->u), SEQTOPK_E_UNSUPPORTED, "seqtopk_cache_step");
    fixture_free(f);
}

Test(cache, refuses_bad_rows_and_changes_nothing) {
    fixture *f = fixture_new();
    cr_assert_eq(create(f), SEQTOPK_OK, "%s", f->u->error.message);
    f->rows.layer = 2;
    EXPECT_SAYS(f, step(f), SEQTOPK_E_VALUE, "cache_rows.layer");
    f->rows.layer = 0;
    f->rows.take = (seqtopk_take)7;
    EXPECT_SAYS(f, step(f), SEQTOPK_E_VALUE, "cache_rows.take");
    f->rows.take = SEQTOPK_TAKE_CAUSAL;
    f->rows.sequences = f->sequences;
    f->sequences[2] = 3;
    EXPECT_SAYS(f, step(f), SEQTOPK_E_VALUE, "sequences 0 to 2");
    cr_expect_eq(f->u->error.token, 2);
    f->sequences[2] = 0;
    f->rows.positions = f->positions;
    for (int i = 0; i < UNIT_TOKENS; i++)
        f->positions[i] = i + (i == 3) * 2;
    EXPECT_SAYS(f, step(f), SEQTOPK_E_SHAPE, "2 are missing");
    cr_expect_eq(f->u->error.token, 3);
    f->positions[3] = 1;
    EXPECT_SAYS(f, step(f), SEQTOPK_E_SHAPE, "must follow one another");
    f->rows.positions = NULL;
    f->u->logits[9] = NAN;
    EXPECT_SAYS(f, step(f), SEQTOPK_E_NONFINITE, "");
    cr_expect_eq(f->u->error.token, 1);
    f->u->logits[9] = 0;
    const int32_t ids[UNIT_TOKENS] = {0};
    f->u->in.given_ids = ids;
    f->u->in.given_width = 1;
    EXPECT_SAYS(f, step(f), SEQTOPK_E_UNSUPPORTED, "given_ids");
    f->u->in.given_ids = NULL;
    cr_expect_eq(seqtopk_cache_step(f->cache, &f->rows, &f->u->in, &f->u->out, f->u->scratch, 64, &f->u->error),
                 SEQTOPK_E_CAPACITY);
    cr_expect_eq(seqtopk_cache_step(NULL, &f->rows, &f->u->in, &f->u->out, f->u->scratch, UNIT_SCRATCH, &f->u->error),
                 SEQTOPK_E_NULL);
    cr_expect_eq(seqtopk_cache_length(f->cache, 0, 0), 0, "nothing was taken in");
    cr_expect_eq(step(f), SEQTOPK_OK, "%s", f->u->error.message);
    cr_expect_eq(seqtopk_cache_length(f->cache, 0, 0), UNIT_TOKENS);
    cr_expect_eq(seqtopk_cache_length(f->cache, 1, 0), 0, "a layer is not another one");
    cr_expect_eq(seqtopk_cache_length(f->cache, 2, 0), -1);
    fixture_free(f);
}

Test(cache, limits) {
    fixture *f = fixture_new();
    f->desc.max_tokens = 6;
    cr_assert_eq(create(f), SEQTOPK_OK);
    cr_expect_eq(step(f), SEQTOPK_OK);
    EXPECT_SAYS(f, step(f), SEQTOPK_E_OVERFLOW, "max_tokens");
    f->desc.max_tokens = 0;
    f->desc.max_bytes = 100;
    cr_assert_eq(create(f), SEQTOPK_OK);
    EXPECT_SAYS(f, step(f), SEQTOPK_E_MEMORY, "max_bytes");
    cr_expect_eq(seqtopk_cache_length(f->cache, 0, 0), 0);
    fixture_free(f);
}

Test(cache, a_threshold_selects_what_reaches_it) {
    fixture *f = fixture_new();
    f->desc.mode = SEQTOPK_CACHE_THRESHOLD;
    f->desc.threshold = 3.0f;
    cr_assert_eq(create(f), SEQTOPK_OK);
    cr_expect_eq(step(f), SEQTOPK_OK, "%s", f->u->error.message);
    for (int t = 0; t < UNIT_TOKENS; t++) {
        int reach = 0;
        for (int e = 0; e < UNIT_EXPERTS; e++)
            reach += f->u->logits[t * UNIT_EXPERTS + e] >= 3.0f;
        const int expected = reach < 1 ? 1 : reach > 4 ? 4 : reach;
        cr_expect_eq(f->u->token_offsets[t + 1] - f->u->token_offsets[t], expected, "token %d", t);
    }
    f->rows.take = SEQTOPK_TAKE_JOINT;
    EXPECT_SAYS(f, step(f), SEQTOPK_E_UNSUPPORTED, "SEQTOPK_TAKE_CAUSAL");
    fixture_free(f);
}

Test(cache, what_is_saved_is_checked_when_it_is_loaded) {
    fixture *f = fixture_new();
    cr_assert_eq(create(f), SEQTOPK_OK);
    for (f->rows.layer = 0; f->rows.layer < 2; f->rows.layer++)
        cr_assert_eq(step(f), SEQTOPK_OK, "%s", f->u->error.message);
    cr_expect_eq(seqtopk_cache_save_size(f->cache, 0, 1, 5), 0, "more than there is");
    const size_t size = seqtopk_cache_save_size(f->cache, 0, 0, 4);
    char *blob = malloc(size);
    cr_assert(blob && size > 0);
    EXPECT_SAYS(f, seqtopk_cache_save(f->cache, 0, 0, 4, blob, size - 1, &f->u->error), SEQTOPK_E_CAPACITY, "bytes");
    cr_assert_eq(seqtopk_cache_save(f->cache, 0, 0, 4, blob, size, &f->u->error), SEQTOPK_OK);
    EXPECT_SAYS(f, seqtopk_cache_load(f->cache, 1, blob, size - 1, &f->u->error), SEQTOPK_E_FILE, "torn");
    EXPECT_SAYS(f,
                seqtopk_cache_load(f->cache, 1, "not a blob, but long enough for one to be looked at, is it not?", 64,
                                   &f->u->error),
                SEQTOPK_E_FILE, "begins otherwise");
    EXPECT_SAYS(f, seqtopk_cache_load(f->cache, 0, blob, size, &f->u->error), SEQTOPK_E_SHAPE, "has 4");
    blob[size - 1] ^= 1;
    EXPECT_SAYS(f, seqtopk_cache_load(f->cache, 1, blob, size, &f->u->error), SEQTOPK_E_FILE, "checksum");
    blob[size - 1] ^= 1;
    cr_expect_eq(seqtopk_cache_load(f->cache, 1, blob, size, &f->u->error), SEQTOPK_OK, "%s", f->u->error.message);
    cr_expect_eq(seqtopk_cache_length(f->cache, 1, 1), 4);
    f->u->desc.max_experts = 3;
    seqtopk_plan *other;
    cr_assert_eq(seqtopk_plan_create(&other, &f->u->desc, &f->u->error), SEQTOPK_OK);
    f->desc.plan = other;
    cr_assert_eq(create(f), SEQTOPK_OK);
    EXPECT_SAYS(f, seqtopk_cache_load(f->cache, 1, blob, size, &f->u->error), SEQTOPK_E_SHAPE, "other experts");
    seqtopk_cache_destroy(f->cache);
    f->cache = NULL;
    seqtopk_plan_destroy(other);
    free(blob);
    fixture_free(f);
}

Test(cache, a_compact_one_says_what_it_cannot) {
    fixture *f = fixture_new();
    f->desc.mode = SEQTOPK_CACHE_COMPACT;
    f->desc.rollback = 2;
    cr_assert_eq(create(f), SEQTOPK_OK, "%s", f->u->error.message);
    for (f->rows.layer = 0; f->rows.layer < 2; f->rows.layer++)
        cr_assert_eq(step(f), SEQTOPK_OK, "%s", f->u->error.message);
    f->rows.layer = 0;
    EXPECT_SAYS(f, seqtopk_cache_truncate(f->cache, 0, 1, &f->u->error), SEQTOPK_E_UNSUPPORTED, "cache_desc.rollback");
    EXPECT_SAYS(f, seqtopk_cache_remove(f->cache, 0, 1, 2, &f->u->error), SEQTOPK_E_UNSUPPORTED, "from the middle");
    EXPECT_SAYS(f, seqtopk_cache_copy(f->cache, 1, 0, 1, &f->u->error), SEQTOPK_E_UNSUPPORTED, "cache_desc.rollback");
    f->rows.positions = f->positions;
    for (int i = 0; i < UNIT_TOKENS; i++)
        f->positions[i] = 1 + i;
    EXPECT_SAYS(f, step(f), SEQTOPK_E_UNSUPPORTED, "cache_desc.rollback");
    f->rows.positions = NULL;
    f->rows.take = SEQTOPK_TAKE_JOINT;
    EXPECT_SAYS(f, step(f), SEQTOPK_E_UNSUPPORTED, "jointly");
    cr_expect_eq(seqtopk_cache_length(f->cache, 0, 0), UNIT_TOKENS);
    cr_expect_eq(seqtopk_cache_save_size(f->cache, 0, 1, 4), 0);
    const size_t size = seqtopk_cache_save_size(f->cache, 0, 0, 4);
    char *blob = malloc(size);
    cr_assert(blob && size > 0);
    cr_assert_eq(seqtopk_cache_save(f->cache, 0, 0, 4, blob, size, &f->u->error), SEQTOPK_OK, "%s",
                 f->u->error.message);
    cr_expect_eq(seqtopk_cache_load(f->cache, 1, blob, size, &f->u->error), SEQTOPK_OK, "%s", f->u->error.message);
    cr_expect_eq(seqtopk_cache_truncate(f->cache, 1, 2, &f->u->error), SEQTOPK_OK, "%s", f->u->error.message);
    cr_expect_eq(seqtopk_cache_length(f->cache, 1, 1), 2);
    cr_expect_eq(seqtopk_cache_truncate(f->cache, 0, 0, &f->u->error), SEQTOPK_OK, "all of it may always go");
    f->desc.rollback = 1000;
    EXPECT_SAYS(f, create(f), SEQTOPK_E_UNSUPPORTED, "64 KiB");
    f->cache = NULL;
    free(blob);
    fixture_free(f);
}

Test(cache, statistics) {
    fixture *f = fixture_new();
    seqtopk_cache_stats stats = SEQTOPK_CACHE_STATS_INIT;
    cr_assert_eq(create(f), SEQTOPK_OK);
    cr_assert_eq(step(f), SEQTOPK_OK);
    const uint8_t mask[UNIT_TOKENS] = {1, 0, 1, 1};
    f->u->in.token_mask = mask;
    cr_assert_eq(step(f), SEQTOPK_OK);
    cr_assert_eq(seqtopk_cache_get_stats(f->cache, 0, 0, &stats), SEQTOPK_OK);
    cr_expect_eq(stats.tokens, 8);
    cr_expect_eq(stats.budget, 14, "a masked token brings nothing");
    cr_expect(stats.pairs >= 7 && stats.pairs <= 28 && stats.bytes > 0 && stats.shared_bytes == 0);
    cr_assert_eq(seqtopk_cache_copy(f->cache, 1, 0, -1, &f->u->error), SEQTOPK_OK);
    cr_assert_eq(seqtopk_cache_get_stats(f->cache, 0, 1, &stats), SEQTOPK_OK);
    cr_expect(stats.tokens == 8 && stats.shared_bytes > 0);
    cr_expect_eq(seqtopk_cache_get_stats(f->cache, 2, 0, &stats), SEQTOPK_E_VALUE);
    fixture_free(f);
}
