/* SPDX-License-Identifier: MIT */
/* What a seqtopk_desc may say, and what it is answered. */
#include "unit.h"

#include <criterion/parameterized.h>
#include <math.h>

/* One change to a good desc. Numbers, because parameters cross into another process, where pointers mean nothing. */
static const struct {
    const char *what;
    int32_t experts, top_k, scope, score, norm, min, max, groups, group_top_k, group_score, group_n, dtype, order,
        threads;
    float eps, floor, scale;
    int64_t tokens;
    seqtopk_status status;
} cases[] = {
#define GOOD .experts = 8, .top_k = 2
    {"a good one", GOOD, .status = SEQTOPK_OK},
    {"no experts", .experts = 0, .top_k = 1, .status = SEQTOPK_E_VALUE},
    {"negative experts", .experts = -8, .top_k = 1, .status = SEQTOPK_E_VALUE},
    {"most experts", .experts = 65536, .top_k = 1, .status = SEQTOPK_OK},
    {"too many experts", .experts = 65537, .top_k = 1, .status = SEQTOPK_E_VALUE},
    {"no top_k", .experts = 8, .top_k = 0, .status = SEQTOPK_E_VALUE},
    {"negative top_k", .experts = 8, .top_k = -1, .status = SEQTOPK_E_VALUE},
    {"all experts", .experts = 8, .top_k = 8, .status = SEQTOPK_OK},
    {"more than all experts", .experts = 8, .top_k = 9, .status = SEQTOPK_E_VALUE},
    {"one expert", .experts = 1, .top_k = 1, .status = SEQTOPK_OK},
    {"token scope", GOOD, .scope = SEQTOPK_SCOPE_TOKEN, .status = SEQTOPK_OK},
    {"online scope", GOOD, .scope = SEQTOPK_SCOPE_ONLINE, .status = SEQTOPK_OK},
    {"no such scope", GOOD, .scope = 3, .status = SEQTOPK_E_VALUE},
    {"negative scope", GOOD, .scope = -1, .status = SEQTOPK_E_VALUE},
    {"last score", GOOD, .score = SEQTOPK_SCORE_LOGITS, .status = SEQTOPK_OK},
    {"no such score", GOOD, .score = 4, .status = SEQTOPK_E_VALUE},
    {"negative score", GOOD, .score = -1, .status = SEQTOPK_E_VALUE},
    {"last norm", GOOD, .score = SEQTOPK_SCORE_LOGITS, .norm = SEQTOPK_NORM_SPARSEMIXER, .status = SEQTOPK_OK},
    {"no such norm", GOOD, .norm = 5, .status = SEQTOPK_E_VALUE},
    {"eps NaN", GOOD, .norm = SEQTOPK_NORM_SUM, .eps = NAN, .status = SEQTOPK_E_VALUE},
    {"eps negative", GOOD, .norm = SEQTOPK_NORM_SUM, .eps = -1e-20f, .status = SEQTOPK_E_VALUE},
    {"eps infinite", GOOD, .norm = SEQTOPK_NORM_SUM, .eps = INFINITY, .status = SEQTOPK_E_VALUE},
    {"eps of DeepSeek-V3", GOOD, .norm = SEQTOPK_NORM_SUM, .eps = 1e-20f, .status = SEQTOPK_OK},
    {"floor NaN", GOOD, .norm = SEQTOPK_NORM_SUM, .floor = NAN, .status = SEQTOPK_E_VALUE},
    {"floor negative", GOOD, .norm = SEQTOPK_NORM_SUM, .floor = -1, .status = SEQTOPK_E_VALUE},
    {"scale NaN", GOOD, .scale = NAN, .status = SEQTOPK_E_VALUE},
    {"scale infinite", GOOD, .scale = INFINITY, .status = SEQTOPK_E_VALUE},
    {"min of the paper", GOOD, .min = 1, .status = SEQTOPK_OK},
    {"min all of K", GOOD, .min = 2, .status = SEQTOPK_OK},
    {"min above K", GOOD, .min = 3, .status = SEQTOPK_E_VALUE},
    {"min negative", GOOD, .min = -1, .status = SEQTOPK_E_VALUE},
    {"max of the paper", GOOD, .min = 1, .max = 4, .status = SEQTOPK_OK},
    {"max 1", GOOD, .max = 1, .status = SEQTOPK_OK},
    {"max above E means E", GOOD, .max = 100, .status = SEQTOPK_OK},
    {"max below min", GOOD, .min = 2, .max = 1, .status = SEQTOPK_E_VALUE},
    {"max negative", GOOD, .max = -1, .status = SEQTOPK_E_VALUE},
    {"one group is none", GOOD, .groups = 1, .status = SEQTOPK_OK},
    {"groups", GOOD, .groups = 4, .group_top_k = 2, .status = SEQTOPK_OK},
    {"groups of DeepSeek-V3", GOOD, .groups = 4, .group_top_k = 2, .group_score = SEQTOPK_GROUP_TOP2,
     .status = SEQTOPK_OK},
    {"all groups", GOOD, .groups = 4, .group_top_k = 4, .status = SEQTOPK_OK},
    {"groups that do not divide E", GOOD, .groups = 3, .group_top_k = 1, .status = SEQTOPK_E_SHAPE},
    {"groups negative", GOOD, .groups = -2, .group_top_k = 1, .status = SEQTOPK_E_VALUE},
    {"groups kept none", GOOD, .groups = 4, .group_top_k = 0, .status = SEQTOPK_E_VALUE},
    {"groups kept too many", GOOD, .groups = 4, .group_top_k = 5, .status = SEQTOPK_E_VALUE},
    {"no such group score", GOOD, .groups = 4, .group_top_k = 2, .group_score = 3, .status = SEQTOPK_E_VALUE},
    {"group_n", GOOD, .groups = 4, .group_top_k = 2, .group_score = SEQTOPK_GROUP_TOPN, .group_n = 2,
     .status = SEQTOPK_OK},
    {"group_n too many", GOOD, .groups = 4, .group_top_k = 2, .group_score = SEQTOPK_GROUP_TOPN, .group_n = 3,
     .status = SEQTOPK_E_VALUE},
    {"group_n negative", GOOD, .groups = 4, .group_top_k = 2, .group_score = SEQTOPK_GROUP_TOPN, .group_n = -1,
     .status = SEQTOPK_E_VALUE},
    {"last dtype", GOOD, .dtype = SEQTOPK_DTYPE_F16, .status = SEQTOPK_OK},
    {"no such dtype", GOOD, .dtype = 3, .status = SEQTOPK_E_VALUE},
    {"ranked", GOOD, .order = SEQTOPK_ORDER_RANK, .status = SEQTOPK_OK},
    {"no such order", GOOD, .order = 3, .status = SEQTOPK_E_VALUE},
    {"negative tokens", GOOD, .tokens = -1, .status = SEQTOPK_E_VALUE},
    {"most tokens", GOOD, .tokens = INT32_MAX, .status = SEQTOPK_OK},
    {"too many tokens", GOOD, .tokens = INT64_C(1) << 31, .status = SEQTOPK_E_VALUE},
    {"negative threads", GOOD, .threads = -1, .status = SEQTOPK_E_VALUE},
#undef GOOD
};

ParameterizedTestParameters(desc, fields) {
    static size_t index[sizeof cases / sizeof *cases];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        index[i] = i;
    return cr_make_param_array(size_t, index, sizeof cases / sizeof *cases);
}

ParameterizedTest(size_t *index, desc, fields) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan = (seqtopk_plan *)&desc;
#define TAKE(from, to) desc.to = cases[*index].from
#define TAKE_ENUM(from, to, type) desc.to = (type)cases[*index].from
    TAKE(experts, experts);
    TAKE(top_k, top_k);
    TAKE_ENUM(scope, scope, seqtopk_scope);
    TAKE_ENUM(score, score, seqtopk_score);
    TAKE_ENUM(norm, norm, seqtopk_norm);
    TAKE(eps, norm_eps);
    TAKE(floor, norm_floor);
    TAKE(scale, scale);
    TAKE(min, min_experts);
    TAKE(max, max_experts);
    TAKE(groups, groups);
    TAKE(group_top_k, group_top_k);
    TAKE_ENUM(group_score, group_score, seqtopk_group_score);
    TAKE(group_n, group_n);
    TAKE_ENUM(dtype, dtype, seqtopk_dtype);
    TAKE_ENUM(order, order, seqtopk_order);
    TAKE(tokens, tokens);
    TAKE(threads, threads);
#undef TAKE
#undef TAKE_ENUM
    const seqtopk_status status = seqtopk_plan_create(&plan, &desc, &error);
    cr_expect_eq(status, cases[*index].status, "%s: %s: %s", cases[*index].what, seqtopk_status_string(status),
                 error.message);
    cr_expect_eq(error.status, status);
    cr_expect_eq(plan == NULL, status != SEQTOPK_OK, "%s: a failed plan is NULL", cases[*index].what);
    cr_expect_eq(error.message[0] == 0, status == SEQTOPK_OK, "%s: \"%s\"", cases[*index].what, error.message);
    cr_expect_null(strchr(error.message, '\n'));
    seqtopk_plan_destroy(plan);
}

Test(desc, pointers) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_plan *plan = (seqtopk_plan *)&desc;
    desc.experts = 8;
    desc.top_k = 2;
    cr_expect_eq(seqtopk_plan_create(NULL, &desc, NULL), SEQTOPK_E_NULL);
    cr_expect_eq(seqtopk_plan_create(&plan, NULL, NULL), SEQTOPK_E_NULL);
    cr_expect_null(plan);
    seqtopk_plan_destroy(NULL);
}

/* An error is cleared by success. */
Test(desc, error_is_cleared) {
    unit *u = unit_new();
    u->desc.experts = -1;
    cr_expect_eq(unit_plan(u), SEQTOPK_E_VALUE);
    cr_expect_neq(u->error.message[0], 0);
    u->desc.experts = UNIT_EXPERTS;
    cr_expect_eq(unit_plan(u), SEQTOPK_OK);
    cr_expect_eq(u->error.message[0], 0);
    cr_expect_eq(u->error.status, SEQTOPK_OK);
    cr_expect_eq(u->error.token, -1);
    unit_free(u);
}
