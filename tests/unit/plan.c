/* SPDX-License-Identifier: MIT */
/* Plans: sizes, introspection, forcing, immutability. */
#define _GNU_SOURCE
#include "unit.h"

#include <stdio.h>

Test(plan, status_strings) {
    for (int i = SEQTOPK_OK; i <= SEQTOPK_E_TEAM; i++) {
        const char *text = seqtopk_status_string((seqtopk_status)i);
        cr_assert_not_null(text);
        cr_expect(text[0] != 0 && strlen(text) < 80 && !strchr(text, '\n'), "%d: %s", i, text);
        for (int j = SEQTOPK_OK; j < i; j++)
            cr_expect_str_neq(text, seqtopk_status_string((seqtopk_status)j));
    }
    cr_expect_not_null(seqtopk_status_string((seqtopk_status)-1));
    cr_expect_not_null(seqtopk_status_string((seqtopk_status)1000));
}

/* Part of the ABI: never to change. */
Test(plan, status_values) {
    cr_expect_eq(SEQTOPK_OK, 0);
    cr_expect_eq(SEQTOPK_E_NULL, 1);
    cr_expect_eq(SEQTOPK_E_STRUCT, 2);
    cr_expect_eq(SEQTOPK_E_VALUE, 3);
    cr_expect_eq(SEQTOPK_E_SHAPE, 4);
    cr_expect_eq(SEQTOPK_E_OVERFLOW, 5);
    cr_expect_eq(SEQTOPK_E_CAPACITY, 6);
    cr_expect_eq(SEQTOPK_E_NONFINITE, 7);
    cr_expect_eq(SEQTOPK_E_UNSUPPORTED, 8);
    cr_expect_eq(SEQTOPK_E_ISA, 9);
    cr_expect_eq(SEQTOPK_E_KERNEL, 10);
    cr_expect_eq(SEQTOPK_E_MEMORY, 11);
    cr_expect_eq(SEQTOPK_E_FILE, 12);
    cr_expect_eq(SEQTOPK_E_TUNING, 13);
    cr_expect_eq(SEQTOPK_E_TEAM, 14);
}

Test(plan, version) {
    char text[32];
    const char *const whole = SEQTOPK_VERSION;
    snprintf(text, sizeof text, "%d.%d.%d", SEQTOPK_VERSION_MAJOR, SEQTOPK_VERSION_MINOR, SEQTOPK_VERSION_PATCH);
    cr_expect_str_eq(seqtopk_version(), SEQTOPK_VERSION);
    cr_assert_eq(strncmp(whole, text, strlen(text)), 0);
    cr_expect(whole[strlen(text)] == 0 || strncmp(whole + strlen(text), "-rc", 3) == 0, "%s", whole);
}

/* The header's bound on scratch. */
static size_t bound(const seqtopk_desc *desc, int64_t tokens, int64_t sequences, int32_t threads) {
    const int bounded = desc->min_experts > 0 || desc->max_experts > 0;
    return (size_t)((bounded ? 28 : 20) * tokens * desc->top_k + 26 * tokens + 896 * sequences +
                    ((240 << 10) + 204 * (int64_t)desc->experts) * threads + (80 << 10) + 8 * desc->experts);
}

Test(plan, scratch_size) {
    static const struct {
        int32_t experts, top_k, max;
        seqtopk_scope scope;
    } shapes[] = {{1, 1, 0, SEQTOPK_SCOPE_SEQUENCE},     {8, 2, 4, SEQTOPK_SCOPE_SEQUENCE},
                  {128, 8, 10, SEQTOPK_SCOPE_SEQUENCE},  {128, 8, 0, SEQTOPK_SCOPE_TOKEN},
                  {384, 8, 0, SEQTOPK_SCOPE_SEQUENCE},   {4096, 64, 0, SEQTOPK_SCOPE_SEQUENCE},
                  {65536, 1, 0, SEQTOPK_SCOPE_SEQUENCE}, {65536, 65536, 0, SEQTOPK_SCOPE_TOKEN}};
    static const int64_t tokens[] = {0, 1, 2, 17, 1000, 8192, 1000000};
    static const int64_t sequences[] = {0, 1, 2, 100, 10000};
    static const int32_t threads[] = {1, 2, 3, 64, 1024};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        seqtopk_desc desc = SEQTOPK_DESC_INIT;
        seqtopk_plan *plan = NULL;
        desc.experts = shapes[s].experts;
        desc.top_k = shapes[s].top_k;
        desc.max_experts = shapes[s].max;
        desc.scope = shapes[s].scope;
        cr_assert_eq(seqtopk_plan_create(&plan, &desc, NULL), SEQTOPK_OK);
        for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t++)
            for (size_t q = 0; q < sizeof sequences / sizeof *sequences; q++)
                for (size_t p = 0; p < sizeof threads / sizeof *threads; p++) {
                    if (seqtopk_max_selected(plan, tokens[t]) < 0)
                        continue;
                    const size_t size = seqtopk_scratch_size(plan, tokens[t], sequences[q], threads[p]);
                    const size_t most = bound(&desc, tokens[t], sequences[q] ? sequences[q] : 1, threads[p]);
                    cr_expect(size > 0 && size <= most, "E %d K %d T %lld S %lld threads %d: %zu, at most %zu",
                              (int)desc.experts, (int)desc.top_k, (long long)tokens[t], (long long)sequences[q],
                              (int)threads[p], size, most);
                    cr_expect(t == 0 || size >= seqtopk_scratch_size(plan, tokens[t - 1], sequences[q], threads[p]));
                    cr_expect(q == 0 || size >= seqtopk_scratch_size(plan, tokens[t], sequences[q - 1], threads[p]));
                    cr_expect(p == 0 || size >= seqtopk_scratch_size(plan, tokens[t], sequences[q], threads[p - 1]));
                }
        cr_expect_eq(seqtopk_scratch_size(plan, -1, 1, 1), 0);
        cr_expect_eq(seqtopk_scratch_size(plan, 1, -1, 1), 0);
        cr_expect_eq(seqtopk_scratch_size(plan, 1, 1, 0), 0);
        cr_expect_eq(seqtopk_scratch_size(plan, INT64_MAX, 1, 1), 0);
        seqtopk_plan_destroy(plan);
    }
    cr_expect_eq(seqtopk_scratch_size(NULL, 1, 1, 1), 0);
}

Test(plan, most_per_token) {
    unit *u = unit_new();
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_expect_eq(seqtopk_max_per_token(u->plan), UNIT_EXPERTS);
    u->desc.max_experts = 4;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_expect_eq(seqtopk_max_per_token(u->plan), 4);
    u->desc.max_experts = 100;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_expect_eq(seqtopk_max_per_token(u->plan), UNIT_EXPERTS);
    u->desc.max_experts = 0;
    u->desc.scope = SEQTOPK_SCOPE_TOKEN;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_expect_eq(seqtopk_max_per_token(u->plan), UNIT_TOP_K);
    unit_free(u);
}

Test(plan, kernels) {
    const int32_t count = seqtopk_kernel_count();
    seqtopk_kernel kernel = SEQTOPK_KERNEL_INIT;
    cr_assert(count > 0);
    for (int32_t i = 0; i < count; i++) {
        char name[128];
        cr_assert_eq(seqtopk_kernel_get(i, &kernel), SEQTOPK_OK);
        snprintf(name, sizeof name, "seqtopk_%s_%s__%s_%s", kernel.op, kernel.dtype, kernel.isa, kernel.algorithm);
        cr_expect_str_eq(kernel.name, name);
        cr_expect(kernel.revision >= 1);
        cr_expect(kernel.about && kernel.about[0]);
        cr_expect_eq(!kernel.usable, !seqtopk_isa_usable(kernel.isa), "%s", kernel.name);
        for (int32_t j = 0; j < i; j++) {
            seqtopk_kernel other = SEQTOPK_KERNEL_INIT;
            cr_assert_eq(seqtopk_kernel_get(j, &other), SEQTOPK_OK);
            cr_expect_str_neq(kernel.name, other.name);
        }
    }
    cr_expect_eq(seqtopk_kernel_get(count, &kernel), SEQTOPK_E_VALUE);
    cr_expect_eq(seqtopk_kernel_get(-1, &kernel), SEQTOPK_E_VALUE);
    cr_expect_eq(seqtopk_kernel_get(0, NULL), SEQTOPK_E_NULL);
    kernel.struct_size = 0;
    cr_expect_eq(seqtopk_kernel_get(0, &kernel), SEQTOPK_E_STRUCT);
}

Test(plan, isas) {
    int32_t n = 0;
    cr_assert_str_eq(seqtopk_isa_name(0), "ref");
    cr_expect(seqtopk_isa_usable("ref"));
    cr_expect_str_eq(seqtopk_isa_features("ref"), "");
    for (; seqtopk_isa_name(n); n++)
        cr_expect_not_null(seqtopk_isa_features(seqtopk_isa_name(n)));
    cr_expect_null(seqtopk_isa_name(n));
    cr_expect_null(seqtopk_isa_name(-1));
    cr_expect_eq(seqtopk_isa_usable("sse17"), 0);
    cr_expect_null(seqtopk_isa_features("sse17"));
    cr_expect_eq(seqtopk_isa_usable(NULL), 0);
}

Test(plan, choices) {
    unit *u = unit_new();
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    const int32_t count = seqtopk_plan_choice_count(u->plan);
    seqtopk_choice choice = SEQTOPK_CHOICE_INIT;
    cr_assert(count > 0);
    for (int32_t i = 0; i < count; i++) {
        cr_assert_eq(seqtopk_plan_choice(u->plan, i, &choice), SEQTOPK_OK);
        cr_expect(choice.op && choice.kernel && choice.why && choice.why[0]);
        char start[64];
        snprintf(start, sizeof start, "%s%s_", strncmp(choice.kernel, "seqtopk_", 8) ? "" : "seqtopk_", choice.op);
        cr_expect_eq(strncmp(choice.kernel, start, strlen(start)), 0, "%s", choice.kernel);
        cr_expect(choice.contenders >= 1 && choice.tokens_from >= 0);
    }
    cr_expect_eq(seqtopk_plan_choice(u->plan, count, &choice), SEQTOPK_E_VALUE);
    cr_expect_eq(seqtopk_plan_choice(u->plan, -1, &choice), SEQTOPK_E_VALUE);
    cr_expect_eq(seqtopk_plan_choice(NULL, 0, &choice), SEQTOPK_E_NULL);
    cr_expect_eq(seqtopk_plan_choice(u->plan, 0, NULL), SEQTOPK_E_NULL);
    choice.struct_size = 1;
    cr_expect_eq(seqtopk_plan_choice(u->plan, 0, &choice), SEQTOPK_E_STRUCT);
    cr_expect_eq(seqtopk_plan_choice_count(NULL), 0);
    cr_expect_eq(seqtopk_route_steps(NULL), 0);
    unit_free(u);
}

/* --------------------------------------------------------------- forcing -- */

static void expect_reference(const seqtopk_plan *plan, const char *why) {
    seqtopk_choice choice = SEQTOPK_CHOICE_INIT;
    cr_assert_not_null(plan);
    for (int32_t i = 0; seqtopk_plan_choice(plan, i, &choice) == SEQTOPK_OK; i++) {
        if (strncmp(choice.kernel, "seqtopk_", 8) != 0)
            continue; /* a size */
        cr_expect_not_null(strstr(choice.kernel, "__ref_"), "%s", choice.kernel);
        cr_expect_not_null(strstr(choice.why, why), "\"%s\" does not say \"%s\"", choice.why, why);
    }
}

static const char *kernel_of(const seqtopk_plan *plan, const char *op) {
    static seqtopk_choice choice = SEQTOPK_CHOICE_INIT;
    for (int32_t i = 0; seqtopk_plan_choice(plan, i, &choice) == SEQTOPK_OK; i++)
        if (strcmp(choice.op, op) == 0)
            return choice.kernel;
    return "none";
}

Test(plan, isa_by_desc) {
    unit *u = unit_new();
    u->desc.isa = "ref";
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    expect_reference(u->plan, "desc.isa");
    u->desc.isa = "sse17";
    cr_expect_eq(unit_plan(u), SEQTOPK_E_ISA);
    cr_expect_not_null(strstr(u->error.message, "sse17"));
    cr_expect_null(u->plan);
    unit_free(u);
}

Test(plan, isa_by_environment) {
    unit *u = unit_new();
    setenv("SEQTOPK_ISA", "ref", 1);
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    expect_reference(u->plan, "SEQTOPK_ISA");
    setenv("SEQTOPK_ISA", "sse17", 1);
    cr_expect_eq(unit_plan(u), SEQTOPK_E_ISA, "what cannot run is an error, never a silent fallback");
    cr_expect_not_null(strstr(u->error.message, "SEQTOPK_ISA"));
    /* The desc comes first. */
    u->desc.isa = "ref";
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    expect_reference(u->plan, "desc.isa");
    unsetenv("SEQTOPK_ISA");
    unit_free(u);
}

/* An instruction set of the build that this machine lacks. Where it has all of them there is nothing to refuse. */
Test(plan, isa_that_cannot_run) {
    unit *u = unit_new();
    for (int32_t i = 0; seqtopk_isa_name(i); i++) {
        u->desc.isa = seqtopk_isa_name(i);
        cr_expect_eq(unit_plan(u), seqtopk_isa_usable(u->desc.isa) ? SEQTOPK_OK : SEQTOPK_E_ISA, "%s", u->desc.isa);
    }
    seqtopk_kernel kernel = SEQTOPK_KERNEL_INIT;
    u->desc.isa = NULL;
    for (int32_t i = 0; seqtopk_kernel_get(i, &kernel) == SEQTOPK_OK; i++) {
        u->desc.kernel = kernel.name;
        const seqtopk_status status = unit_plan(u);
        cr_expect(kernel.usable ? status == SEQTOPK_OK || status == SEQTOPK_E_KERNEL : status == SEQTOPK_E_KERNEL, "%s",
                  kernel.name);
    }
    unit_free(u);
}

Test(plan, kernel_by_desc) {
    unit *u = unit_new();
    u->desc.kernel = "seqtopk_collect_logits_f32__ref_slots6,seqtopk_topk_row_f32__ref_lanes";
    cr_assert_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_str_eq(kernel_of(u->plan, "collect_logits"), "seqtopk_collect_logits_f32__ref_slots6");
    cr_expect_str_eq(kernel_of(u->plan, "topk_row"), "seqtopk_topk_row_f32__ref_lanes");
    u->desc.kernel = "seqtopk_collect_logits_f32__ref_slots10";
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_expect_str_eq(kernel_of(u->plan, "collect_logits"), "seqtopk_collect_logits_f32__ref_slots10");
    u->desc.kernel = "seqtopk_collect_logits_f32__ref_bogosort";
    cr_expect_eq(unit_plan(u), SEQTOPK_E_KERNEL);
    cr_expect_not_null(strstr(u->error.message, "bogosort"));
    u->desc.kernel = "seqtopk_collect_logits_f32__ref_slots6,seqtopk_collect_logits_f32__ref_slots10";
    cr_expect_eq(unit_plan(u), SEQTOPK_E_KERNEL, "two for one stage");
    u->desc.kernel = "seqtopk_lse_bf16__ref_lanes16";
    cr_expect_eq(unit_plan(u), SEQTOPK_E_KERNEL, "the logits are f32");
    u->desc.kernel = "seqtopk_collect_logits_f32__ref_slo";
    cr_expect_eq(unit_plan(u), SEQTOPK_E_KERNEL, "the beginning of a name is no name");
    unit_free(u);
}

Test(plan, kernel_by_environment) {
    unit *u = unit_new();
    setenv("SEQTOPK_KERNEL", "seqtopk_collect_logits_f32__ref_slots10", 1);
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_expect_str_eq(kernel_of(u->plan, "collect_logits"), "seqtopk_collect_logits_f32__ref_slots10");
    u->desc.kernel = "seqtopk_collect_logits_f32__ref_slots6";
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_expect_str_eq(kernel_of(u->plan, "collect_logits"), "seqtopk_collect_logits_f32__ref_slots6");
    u->desc.kernel = NULL;
    setenv("SEQTOPK_KERNEL", "nonsense", 1);
    cr_expect_eq(unit_plan(u), SEQTOPK_E_KERNEL);
    unsetenv("SEQTOPK_KERNEL");
    unit_free(u);
}

/* ------------------------------------------------------------------ ways -- */

static int32_t way_named(const char *name) {
    seqtopk_way way = SEQTOPK_WAY_INIT;
    for (int32_t i = 0; seqtopk_way_get(i, &way) == SEQTOPK_OK; i++)
        if (strcmp(way.name, name) == 0)
            return i;
    return -1;
}

Test(plan, ways) {
    seqtopk_way way = SEQTOPK_WAY_INIT;
    const int32_t count = seqtopk_way_count();
    cr_assert(count > 0);
    for (int32_t i = 0; i < count; i++) {
        cr_assert_eq(seqtopk_way_get(i, &way), SEQTOPK_OK);
        cr_expect(way.name[0] && way.about[0] && way.instead >= 0 && way.instead < count);
        cr_expect(i == count - 1 || way.instead > i, "a way is followed by a later one");
    }
    cr_expect_str_eq(way.name, "staged");
    cr_expect_eq(seqtopk_way_get(count, &way), SEQTOPK_E_VALUE);
    cr_expect_eq(seqtopk_way_get(-1, &way), SEQTOPK_E_VALUE);
    cr_expect_eq(seqtopk_way_get(0, NULL), SEQTOPK_E_NULL);
    way.struct_size = 1;
    cr_expect_eq(seqtopk_way_get(0, &way), SEQTOPK_E_STRUCT);
    for (int32_t i = SEQTOPK_FALLBACK_NONE; i <= SEQTOPK_FALLBACK_FEW + 1; i++)
        cr_expect(seqtopk_fallback_string((seqtopk_fallback)i)[0]);
}

/* The last way serves everything; of each scope some ways never do, and say why. */
Test(plan, way_why_not) {
    unit *u = unit_new();
    for (int scope = SEQTOPK_SCOPE_SEQUENCE; scope <= SEQTOPK_SCOPE_TOKEN; scope++) {
        u->desc.scope = (seqtopk_scope)scope;
        cr_assert_eq(unit_plan(u), SEQTOPK_OK);
        for (int64_t tokens = 0; tokens < 100000; tokens += 1 + tokens)
            for (int biased = 0; biased < 2; biased++) {
                cr_expect_null(seqtopk_plan_way_why_not(u->plan, way_named("staged"), tokens, biased));
                const char *topk = seqtopk_plan_way_why_not(u->plan, way_named("topk_scores"), tokens, biased);
                cr_expect(scope == SEQTOPK_SCOPE_TOKEN || tokens == 1 || topk);
                cr_expect_not_null(seqtopk_plan_way_why_not(u->plan, way_named("topk_logits"), tokens, 1));
            }
        cr_expect_not_null(seqtopk_plan_way_why_not(u->plan, -1, 1, 0));
        cr_expect_not_null(seqtopk_plan_way_why_not(u->plan, seqtopk_way_count(), 1, 0));
        cr_expect_not_null(seqtopk_plan_way_why_not(NULL, 0, 1, 0));
    }
    unit_free(u);
}

Test(plan, way_forced) {
    unit *u = unit_new();
    int32_t way = -1, fallback = -1;
    u->out.ways = &way;
    u->out.fallbacks = &fallback;
    u->desc.way = "staged";
    cr_assert_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect(way == way_named("staged") && fallback == SEQTOPK_FALLBACK_NONE);
    u->desc.way = "scenic";
    cr_expect_eq(unit_plan(u), SEQTOPK_E_KERNEL);
    cr_expect_not_null(strstr(u->error.message, "scenic"));
    u->desc.way = "topk_scores";
    cr_assert_eq(unit_plan(u), SEQTOPK_OK, "it serves a token alone");
    cr_expect_eq(unit_route(u), SEQTOPK_E_KERNEL);
    cr_expect_not_null(strstr(u->error.message, "token scope"));
    u->desc.way = NULL;
    setenv("SEQTOPK_WAY", "short_keys", 1);
    cr_assert_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(way, way_named("short_keys"));
    unsetenv("SEQTOPK_WAY");
    /* What serves some calls of a plan is refused where it does not serve this one. */
    u->desc.scope = SEQTOPK_SCOPE_TOKEN;
    u->desc.way = "topk_rows";
    float bias[UNIT_EXPERTS] = {0};
    cr_assert_eq(unit_plan(u), SEQTOPK_OK, "%s", u->error.message);
    u->in.bias = bias;
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    u->in.bias = NULL;
    unit_free(u);
}

/* Too few candidates for the budget: a short sequence is not cut by its keys, and the call says why. */
Test(plan, way_fallback) {
    unit *u = unit_new();
    int32_t way = -1, fallback = -1;
    for (int i = 0; i < UNIT_CELLS; i++)
        u->logits[i] = i % UNIT_EXPERTS ? -1.0f / 0.0f : 1.0f;
    u->out.ways = &way;
    u->out.fallbacks = &fallback;
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_eq(u->selected, UNIT_TOKENS);
    cr_expect(way == way_named("staged") && fallback == SEQTOPK_FALLBACK_FEW);
    unit_free(u);
}

/* ---------------------------------------------------------- immutability -- */

/* A plan is of its desc when it was made: neither the desc nor the environment reach it later, nor do its routes. */
Test(plan, immutability) {
    unit *u = unit_new();
    char isa[8] = "ref", kernel[64] = "seqtopk_collect_logits_f32__ref_slots6";
    int32_t first[UNIT_CELLS];
    u->desc.isa = isa;
    u->desc.kernel = kernel;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_assert_eq(unit_route(u), SEQTOPK_OK);
    memcpy(first, u->expert_ids, sizeof first);
    const size_t size = seqtopk_scratch_size(u->plan, 100, 3, 2);
    memset(isa, 'x', sizeof isa - 1);
    memset(kernel, 'x', sizeof kernel - 1);
    memset(&u->desc, 0xff, sizeof u->desc);
    setenv("SEQTOPK_ISA", "sse17", 1);
    setenv("SEQTOPK_KERNEL", "nonsense", 1);
    /* A failed call in between leaves nothing behind either. */
    u->logits[0] = -u->logits[0] / 0.0f;
    u->in.row_stride = 1;
    cr_expect_eq(unit_route(u), SEQTOPK_E_SHAPE);
    u->in.row_stride = 0;
    u->logits[0] = -5.0f;
    cr_expect_eq(unit_route(u), SEQTOPK_OK, "%s", u->error.message);
    cr_expect_arr_eq(u->expert_ids, first, UNIT_TOKENS * UNIT_TOP_K * sizeof *first);
    cr_expect_str_eq(kernel_of(u->plan, "collect_logits"), "seqtopk_collect_logits_f32__ref_slots6");
    expect_reference(u->plan, "desc.");
    cr_expect_eq(seqtopk_scratch_size(u->plan, 100, 3, 2), size);
    unsetenv("SEQTOPK_ISA");
    unsetenv("SEQTOPK_KERNEL");
    unit_free(u);
}
