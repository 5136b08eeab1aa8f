/* SPDX-License-Identifier: MIT */
/* Kernels of mask_groups. */
#include "cases.h"
#include "check.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Beside the kinds of logits: numbers where sums go wrong, and groups with fewer candidates than count. */
enum { GROUPS_LIMITS = RANDOM_KINDS, GROUPS_SCARCE, GROUPS_NONE, GROUPS_KINDS };

static const char *kind_name(int kind) {
    return kind < RANDOM_KINDS ? random_kind_name((random_kind)kind)
                               : (const char *[]){"limits", "scarce", "none"}[kind - RANDOM_KINDS];
}

static void make_scores(float *scores, size_t n, int kind) {
    static const float limits[] = {-FLT_MAX, FLT_MAX, -INFINITY, 0.0f,    -0.0f,    FLT_MIN, -FLT_MIN,
                                   1e-45f,   -1e-45f, 1.0f,      3.0e38f, -3.0e38f, 2.0e38f, -2.0e38f};
    if (kind < RANDOM_KINDS)
        random_logits(&run.random, (random_kind)kind, SEQTOPK_DTYPE_F32, scores, 1, n, n);
    for (size_t i = 0; i < n && kind >= RANDOM_KINDS; i++)
        if (kind == GROUPS_LIMITS)
            scores[i] = limits[random_below(&run.random, COUNT(limits))];
        else if (kind == GROUPS_SCARCE && random_below(&run.random, 12) == 0)
            scores[i] = (float)random_below(&run.random, 3);
        else
            scores[i] = -INFINITY;
}

/* A group's first n candidates, taken one by one: how many there are, and their sum. */
typedef struct {
    int32_t count;
    float sum; /* -inf of none */
} slow_score;

static slow_score score_slowly(const float *scores, int32_t size, int32_t n) {
    unsigned char *taken = check_alloc((size_t)size, 1);
    slow_score group = {0, -INFINITY};
    for (; group.count < n; group.count++) {
        int32_t best = -1;
        for (int32_t e = 0; e < size; e++)
            if (!taken[e] && scores[e] != -INFINITY && (best < 0 || scores[e] > scores[best]))
                best = e;
        if (best < 0)
            break;
        taken[best] = 1;
        group.sum = group.count ? group.sum + scores[best] : scores[best];
    }
    free(taken);
    if (group.count)
        group.sum = fmaxf(fminf(group.sum, FLT_MAX), -FLT_MAX);
    return group;
}

static int is_before(slow_score a, slow_score b, int32_t n) {
    return (a.count == n) != (b.count == n) ? a.count == n : a.sum > b.sum;
}

/* Groups with n candidates or more in their order, then the others in theirs: stays[g] tells which are among the first k. */
static void choose_slowly(const slow_score *group, int32_t groups, int32_t n, int32_t k, unsigned char *stays) {
    for (int32_t g = 0; g < groups; g++) {
        int32_t before = 0;
        for (int32_t other = 0; other < groups; other++)
            before += is_before(group[other], group[g], n) || (other < g && !is_before(group[g], group[other], n));
        stays[g] = before < k;
    }
}

/* The keys that are left of `keys` by the groups of `scores`. */
static float *expect_masked(const op_case *c, const float *scores, const float *keys) {
    const int32_t size = c->experts / c->groups;
    slow_score *group = check_alloc((size_t)c->groups, sizeof *group);
    float *expected = check_alloc((size_t)c->experts, 4);
    unsigned char *stays = check_alloc((size_t)c->groups, 1);
    for (int32_t g = 0; g < c->groups; g++)
        group[g] = score_slowly(scores + g * size, size, c->group_n);
    choose_slowly(group, c->groups, c->group_n, c->group_top_k, stays);
    for (int32_t e = 0; e < c->experts; e++)
        expected[e] = stays[e / size] ? keys[e] : -INFINITY;
    free(group);
    free(stays);
    return expected;
}

/* `scores` are the keys themselves, or a row of its own. */
static void check_groups_case(op_case c, const float *scores, const float *keys, int kind) {
    float *expected = expect_masked(&c, scores, keys);
    c.begin = keys;
    const seqtopk_desc desc = {.groups = c.groups,
                               .group_n = c.group_n}; /* all that decides whether a kernel applies */
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_mask_groups, -1));) {
        size_t where;
        if (!row->applies(&desc))
            continue;
        check_context("%s E %d groups %d n %d k %d kind %s, scores %s (seed %llu)", row->name, (int)c.experts,
                      (int)c.groups, (int)c.group_n, (int)c.group_top_k, kind_name(kind),
                      scores == keys ? "are keys" : "of their own", (unsigned long long)run.seed);
        if (scores != keys) {
            c.scores = case_copy(CASE_KEYS, scores, (size_t)c.experts, 4);
            case_freeze(CASE_KEYS);
        }
        case_place(&c, row->op);
        case_call(&c, row);
        const int right = check_same_bits(c.values, expected, (size_t)c.experts, &where);
        where = right ? 0 : where;
        check_that(right, "the key of expert %zu is %.9g, not %.9g", where, (double)c.values[where],
                   (double)expected[where]);
        check_that(case_intact(), "wrote beside the keys or the work");
    }
    free(expected);
}

/* Of few and of many groups to stay; not all of them where there are many groups. */
static void check_groups_of(int32_t size, int32_t groups, int32_t n, int kind) {
    const size_t experts = (size_t)size * (size_t)groups;
    const int32_t some = 1 + (int32_t)random_below(&run.random, (uint32_t)groups);
    const int32_t ks[] = {1, 2, groups / 2, groups - 1, groups, some};
    float *scores = check_alloc(experts, 4), *keys = check_alloc(experts, 4);
    make_scores(scores, experts, kind);
    make_scores(keys, experts, (int)random_below(&run.random, GROUPS_KINDS));
    for (size_t i = 0; i < COUNT(ks); i++)
        if (ks[i] >= 1 && ks[i] <= groups && (groups < 20 || random_below(&run.random, 3) == 0))
            check_groups_case(
                (op_case){.last = 1, .experts = size * groups, .groups = groups, .group_n = n, .group_top_k = ks[i]},
                scores, random_below(&run.random, 2) ? scores : keys, kind);
    free(scores);
    free(keys);
}

void check_groups(void) {
    static const int32_t sizes[] = {1, 2, 3, 4, 5, 8, 15, 16, 17, 20, 32, 33, 64, 129};
    static const int32_t counts[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 100, 129};
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (size_t j = 0; j < COUNT(counts); j++)
            for (int32_t n = 1; n <= sizes[i]; n = n == 4 && sizes[i] > 4 ? sizes[i] : n + 1)
                for (int kind = 0; kind < GROUPS_KINDS; kind++)
                    if (random_below(&run.random, run.quick ? 8 : 1 + (uint32_t)(sizes[i] * counts[j]) / 1000) == 0)
                        check_groups_of(sizes[i], counts[j], n, kind);
}
