/* SPDX-License-Identifier: MIT */
/* Logits that differ by less than a log-probability can tell: in sequence scope a token's experts are told apart by them. */
#include "unit.h"

#include <float.h>
#include <math.h>

enum { TOKENS = 6, EXPERTS = 20, TOP_K = 6, CELLS = TOKENS * EXPERTS };

/* Of the rows: far apart, so that log-probabilities saturate; below a rounding of them; some of both; as usual. */
static void fill(float *logits) {
    for (int e = 0; e < EXPERTS; e++) {
        const float some = (float)((e * 7) % EXPERTS);
        float *x = logits + e;
        x[0] = e % 4 == 1 ? -INFINITY : e % 4 == 2 ? -FLT_MAX : e == 7 ? FLT_MAX : some;
        x[EXPERTS] = e == 3 ? 5 : 1e-10f * some;
        x[2 * EXPERTS] = e == 19 ? 2e38f : e % 2 ? some * 1e30f : -some;
        x[3 * EXPERTS] = e == 0 ? 90 : e < 5 ? 1e-9f * some : 1e-7f * some;
        x[4 * EXPERTS] = -40 + 1e-6f * some; /* six places of those are equal */
        x[5 * EXPERTS] = some / 4 - 2;
    }
}

typedef struct {
    seqtopk_desc desc;
    seqtopk_input in;
    int32_t offsets[TOKENS + 1], ids[CELLS], runners[TOKENS * 4];
    float weights[CELLS];
} routed;

static void route(routed *r) {
    static _Thread_local char scratch[1 << 20];
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan;
    out.token_offsets = r->offsets;
    out.expert_ids = r->ids;
    out.weights = r->weights;
    out.capacity = CELLS;
    out.runner_ids = r->runners;
    out.runners = 4;
    cr_assert_eq(seqtopk_plan_create(&plan, &r->desc, &error), SEQTOPK_OK, "%s", error.message);
    cr_assert_eq(seqtopk_route(plan, &r->in, &out, scratch, sizeof scratch, &error), SEQTOPK_OK, "%s", error.message);
    seqtopk_plan_destroy(plan);
}

static void expect_alike(const routed *a, const routed *b, int64_t tokens, const char *what) {
    cr_expect(memcmp(a->offsets, b->offsets, (size_t)(tokens + 1) * 4) == 0, "%s %s: offsets", b->desc.isa, what);
    cr_expect(memcmp(a->ids, b->ids, (size_t)a->offsets[tokens] * 4) == 0, "%s %s: ids", b->desc.isa, what);
    cr_expect(memcmp(a->weights, b->weights, (size_t)a->offsets[tokens] * 4) == 0, "%s %s: weights", b->desc.isa, what);
    cr_expect(memcmp(a->runners, b->runners, (size_t)tokens * 16) == 0, "%s %s: runners", b->desc.isa, what);
}

/* Every way that bounds leave nothing to: all tokens together, each a sequence, and alone. */
static void compare(seqtopk_desc desc, const float *logits, const char *what) {
    static const int32_t each[] = {0, 1, 2, 3, 4, 5, 6};
    static const char *const ways[] = {NULL, "short_keys", "sweep_logits", "sweep_scores", "sweep_keys", "staged"};
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    in.logits = logits;
    in.tokens = TOKENS;
    routed by_token = {.desc = desc, .in = in};
    by_token.desc.scope = SEQTOPK_SCOPE_TOKEN;
    route(&by_token);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        routed together = {.desc = desc, .in = in};
        const int is_grouped = desc.groups > 1;
        if (w > 0 && ((w == 2 && is_grouped) || (w == 3 && (!is_grouped || desc.group_quota))))
            continue;
        together.desc.way = ways[w];
        together.desc.min_experts = together.desc.max_experts = TOP_K;
        route(&together);
        expect_alike(&by_token, &together, TOKENS, what);
        routed apart = {.desc = desc, .in = in};
        apart.desc.way = ways[w];
        apart.in.cu_seqlens = each;
        apart.in.sequences = TOKENS;
        route(&apart);
        expect_alike(&by_token, &apart, TOKENS, what);
    }
    for (int64_t t = 0; t < TOKENS; t++) {
        routed one = {.desc = desc, .in = in}, alone = {.desc = desc, .in = in};
        one.in.logits = alone.in.logits = logits + t * EXPERTS;
        one.in.tokens = alone.in.tokens = 1;
        one.desc.scope = SEQTOPK_SCOPE_TOKEN;
        route(&one);
        route(&alone);
        expect_alike(&one, &alone, 1, what);
    }
}

/* Each token is the first of its sequence in a cache. */
static void compare_online(seqtopk_desc desc, const float *logits, int32_t at_once, int weigh) {
    static _Thread_local char scratch[1 << 20];
    seqtopk_cache_desc cache_desc = SEQTOPK_CACHE_DESC_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_cache *cache;
    seqtopk_plan *plan;
    routed by_token = {.desc = desc, .in = SEQTOPK_INPUT_INIT};
    by_token.in.logits = logits;
    by_token.in.tokens = TOKENS;
    by_token.desc.scope = SEQTOPK_SCOPE_TOKEN;
    route(&by_token);
    desc.scope = SEQTOPK_SCOPE_ONLINE;
    desc.max_experts = TOP_K + 2;
    cr_assert_eq(seqtopk_plan_create(&plan, &desc, &error), SEQTOPK_OK, "%s", error.message);
    cache_desc.layers = 1;
    cache_desc.plan = plan;
    cache_desc.sequences = TOKENS;
    cr_assert_eq(seqtopk_cache_create(&cache, &cache_desc, &error), SEQTOPK_OK, "%s", error.message);
    for (int32_t t = 0; t < TOKENS; t += at_once) {
        const int32_t sequences[] = {t, t + 1, t + 2};
        int32_t offsets[TOKENS + 1], ids[CELLS];
        float weights[CELLS];
        seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT;
        seqtopk_input in = by_token.in;
        seqtopk_output out = SEQTOPK_OUTPUT_INIT;
        rows.sequences = sequences;
        in.logits = logits + t * EXPERTS;
        in.tokens = at_once;
        out.token_offsets = offsets;
        out.expert_ids = ids;
        out.weights = weigh ? weights : NULL;
        out.capacity = CELLS;
        cr_assert_eq(seqtopk_cache_step(cache, &rows, &in, &out, scratch, sizeof scratch, &error), SEQTOPK_OK, "%s",
                     error.message);
        cr_expect(memcmp(ids, by_token.ids + by_token.offsets[t], (size_t)offsets[at_once] * 4) == 0,
                  "%s: token %d of %d online%s", desc.isa, (int)t, (int)at_once, weigh ? ", weighed" : "");
        cr_expect_eq(offsets[at_once], by_token.offsets[t + at_once] - by_token.offsets[t]);
    }
    seqtopk_cache_destroy(cache);
    seqtopk_plan_destroy(plan);
}

static void compare_orders(seqtopk_desc desc, const float *logits) {
    compare(desc, logits, "experts ascend");
    desc.order = SEQTOPK_ORDER_RANK;
    compare(desc, logits, "by rank");
}

static void compare_all(const char *isa) {
    float logits[CELLS];
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    fill(logits);
    desc.isa = isa;
    desc.experts = EXPERTS;
    desc.top_k = TOP_K;
    compare_orders(desc, logits);
    for (int weigh = 0; weigh < 2; weigh++) { /* rows that are weighed go by ways of their own */
        compare_online(desc, logits, 1, weigh);
        compare_online(desc, logits, 3, weigh);
    }
    desc.logit_softcap = 30; /* rows are prepared */
    compare_orders(desc, logits);
    desc.logit_softcap = 0;
    desc.groups = 5;
    desc.group_top_k = 2;
    compare_orders(desc, logits);
    compare_online(desc, logits, 1, 0);
    desc.group_top_k = 0;
    desc.group_quota = 2;
    compare_orders(desc, logits);
}

Test(alike, one_token_in_both_scopes) {
    const char *isa;
    for (int32_t i = 0; (isa = seqtopk_isa_name(i)); i++)
        if (seqtopk_isa_usable(isa))
            compare_all(isa);
}
