/* SPDX-License-Identifier: MIT */
/* Kernels that read logits: lse, keys, weigh_logits and weigh_keys, collect_logits, collect_short, topk_logits. */
#include "check.h"
#include "guard.h"
#include "oracle.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MOST = 36 }; /* the largest of check_row_counts, and rows outside [first, last) */

/* x - shift - lse as the contract rounds it: once, what x - shift lost being given back first. */
static float log_probability_of(double x, float shift, float lse) {
    const double exact = x - (double)shift;
    const float centred = (float)exact;
    if (!isfinite(centred))
        return exact < 0 ? -FLT_MAX : FLT_MAX;
    const float rest = (float)((double)(float)(exact - (double)centred) - (double)lse);
    const double key = (double)centred + (double)rest;
    return key < -(double)FLT_MAX ? -FLT_MAX : (float)key;
}

static guard g_logits, g_mask, g_bias, g_shift, g_lse, g_out, g_ids, g_offsets, g_counts, g_words, g_keys, g_list_ids,
    g_list_keys;

typedef struct rows_case {
    seqtopk_rows rows;
    oracle_problem problem;
    int dtype, score;
    random_kind kind;
    int32_t experts;
    int64_t tokens, first, last, stride; /* stride in elements */
    float *shift, *lse;                  /* the reference's */
} rows_case;

static size_t element_of(int dtype) { return dtype == SEQTOPK_DTYPE_F32 ? 4 : 2; }

static void describe(const rows_case *c, const char *kernel, const char *more) {
    check_context("%s %s score %d kind %s E %d rows [%lld, %lld) of %lld stride %lld%s%s (seed %llu)", kernel, more,
                  c->score, random_kind_name(c->kind), (int)c->experts, (long long)c->first, (long long)c->last,
                  (long long)c->tokens, (long long)c->stride, c->rows.token_mask ? " mask" : "",
                  c->rows.bias ? " bias" : "", (unsigned long long)run.seed);
}

/* Logits in which everything that must not be looked at is NaN: padding, and rows that are masked. */
static void make_case(rows_case *c, int32_t experts, int32_t count, int turn) {
    static const int pads[] = {0, 1, 3, -1};
    random_state *r = &run.random;
    memset(c, 0, sizeof *c);
    c->dtype = turn % 3;
    c->kind = (random_kind)(turn % RANDOM_KINDS);
    c->experts = experts;
    c->first = random_below(r, 3);
    c->last = c->first + count;
    c->tokens = c->last + random_below(r, 2);
    const int pad = pads[random_below(r, 4)];
    c->stride = pad < 0 ? 0 : experts + pad;
    const size_t element = element_of(c->dtype), stored = c->stride ? (size_t)c->tokens : 1;
    const size_t cells = c->tokens ? (stored - 1) * (size_t)c->stride + (size_t)experts : 0;

    unsigned char *logits = check_place(&g_logits, cells, element);
    memset(logits, 0xff, cells * element);
    if (cells)
        random_logits(r, c->kind, c->dtype, logits, stored, (size_t)experts, (size_t)c->stride);
    uint8_t *mask = NULL;
    if (random_below(r, 3) == 0) {
        mask = check_place(&g_mask, (size_t)c->tokens, 1);
        for (int64_t t = 0; t < c->tokens; t++) {
            mask[t] = (uint8_t)(random_below(r, 4) ? 1 + random_below(r, 255) : 0);
            if (!mask[t] && c->stride)
                memset(logits + (size_t)(t * c->stride) * element, 0xff, (size_t)experts * element);
        }
        guard_freeze(&g_mask);
    }
    guard_freeze(&g_logits);
    float *bias = NULL;
    if (random_below(r, 2)) {
        bias = check_place(&g_bias, (size_t)experts, sizeof *bias);
        const int wild = random_below(r, 4) == 0;
        for (int32_t e = 0; e < experts; e++)
            bias[e] = random_below(r, 16) == 0 ? -INFINITY
                      : wild                   ? (random_below(r, 2) ? FLT_MAX : -FLT_MAX)
                                               : (float)(random_normal(r) * 0.1);
        guard_freeze(&g_bias);
    }
    c->rows = (seqtopk_rows){
        .logits = logits, .stride = c->stride * (int64_t)element, .token_mask = mask, .bias = bias, .experts = experts};
    c->shift = check_alloc((size_t)c->tokens, sizeof *c->shift);
    c->lse = check_alloc((size_t)c->tokens, sizeof *c->lse);
}

static void set_score(rows_case *c, int score) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    if (c->problem.x)
        oracle_free(&c->problem);
    desc.experts = c->experts;
    desc.top_k = 1;
    desc.score = (seqtopk_score)score;
    desc.dtype = (seqtopk_dtype)c->dtype;
    in.logits = c->rows.logits;
    in.tokens = c->tokens;
    in.row_stride = c->stride ? c->stride : SEQTOPK_STRIDE_BROADCAST;
    in.token_mask = c->rows.token_mask;
    in.bias = c->rows.bias;
    oracle_load(&c->problem, &desc, &in);
    c->score = c->rows.score = score;
}

static void free_case(rows_case *c) {
    oracle_free(&c->problem);
    free(c->shift);
    free(c->lse);
}

static void open_score_outputs(rows_case *c) {
    c->rows.shift = check_place(&g_shift, (size_t)c->tokens, sizeof(float));
    c->rows.lse = check_place(&g_lse, (size_t)c->tokens, sizeof(float));
}

static void check_normaliser(const rows_case *c, int64_t t) {
    const float shift = c->rows.shift[t], lse = c->rows.lse[t];
    /* Against the top first: shift is near it, and both may be huge. */
    const double top = c->problem.top[t], right = c->problem.rest[t], sum = ((double)shift - top) + lse;
    if (c->problem.masked[t])
        check_that(shift == 0 && lse == 0, "masked row %lld has %g + %g", (long long)t, (double)shift, (double)lse);
    else if (right != -INFINITY)
        check_that(fabs(sum - right) <= 1e-6 + 1.2e-7 * fabs((double)lse),
                   "row %lld: %.9g + %.9g, float64 says %.9g + %.9g", (long long)t, (double)shift, (double)lse, top,
                   right);
    else
        check_that(sum == -INFINITY, "empty row %lld has %g + %g", (long long)t, (double)shift, (double)lse);
}

static void check_score(rows_case *c) {
    const seqtopk_row *reference = check_reference(SEQTOPK_OP_lse, c->dtype);
    /* `shift` and `lse` belong to softmax; other scores must leave them alone. */
    const int softmax = c->score == SEQTOPK_SCORE_SOFTMAX;
    describe(c, reference->name, "");
    open_score_outputs(c);
    ((seqtopk_lse_fn *)reference->function)(&c->rows, 0, c->tokens);
    memcpy(c->shift, c->rows.shift, (size_t)c->tokens * sizeof(float));
    memcpy(c->lse, c->rows.lse, (size_t)c->tokens * sizeof(float));
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_lse, c->dtype));) {
        describe(c, row->name, "");
        open_score_outputs(c);
        const int64_t bad = ((seqtopk_lse_fn *)row->function)(&c->rows, c->first, c->last);
        const size_t first = (size_t)c->first, last = (size_t)c->last, end = (size_t)c->tokens;
        check_that(bad == -1, "found a bad row, %lld, where there is none", (long long)bad);
        check_that(guard_intact(&g_shift) && guard_intact(&g_lse), "wrote beside shift or lse");
        const size_t from = softmax ? first : last;
        check_that(check_is_rubbish(c->rows.shift, from * 4) && check_is_rubbish(c->rows.lse, from * 4) &&
                       check_is_rubbish(c->rows.shift + last, (end - last) * 4) &&
                       check_is_rubbish(c->rows.lse + last, (end - last) * 4),
                   "wrote rows that were not asked for");
        size_t where = 0;
        for (int64_t t = c->first; softmax && t < c->last; t++)
            check_normaliser(c, t);
        if (softmax) {
            check_that(check_same_bits(c->shift + first, c->rows.shift + first, last - first, &where),
                       "shift differs from the reference at row %zu", first + where);
            check_that(check_same_bits(c->lse + first, c->rows.lse + first, last - first, &where),
                       "lse differs from the reference at row %zu", first + where);
        }
    }
}

static void find_bad_rows_sweeping(rows_case *c, int64_t expected) {
    const size_t n = (size_t)(c->last - c->first) * (size_t)c->experts;
    const float *bias = c->rows.bias;
    c->rows.bias = NULL;
    c->rows.key = c->score == SEQTOPK_SCORE_SOFTMAX ? SEQTOPK_KEY_LOGPROB : SEQTOPK_KEY_LOGIT;
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_collect_logits, c->dtype));) {
        describe(c, row->name, "with bad rows");
        open_score_outputs(c);
        seqtopk_candidates catch = {.keys = check_place(&g_out, n + SEQTOPK_CANDIDATES_SLACK, 4),
                               .ids = check_place(&g_ids, n + SEQTOPK_CANDIDATES_SLACK, 2),
                               .counts = check_place(&g_counts, (size_t)c->tokens, 4),
                               .work = check_place(&g_words, SEQTOPK_COLLECT_WORK((size_t)c->experts), 8),
                               .capacity = (int64_t)n};
        const int64_t found = ((seqtopk_collect_logits_fn *)row->function)(&c->rows, c->first, c->last, -1, 1, &catch);
        check_that(catch.size < 0 || found == expected, "the first bad row is %lld, not %lld", (long long)expected,
                   (long long)found);
        check_that(guard_intact(&g_shift) && guard_intact(&g_lse) && guard_intact(&g_out) && guard_intact(&g_ids) &&
                       guard_intact(&g_counts) && guard_intact(&g_words),
                   "wrote beside its memory");
    }
    c->rows.bias = bias;
}

/* NaN or +inf at any place of any unmasked row is found, and the first of them is named. */
static void check_bad_rows(rows_case *c) {
    const size_t element = element_of(c->dtype);
    if (c->first == c->last || !c->stride)
        return;
    const size_t size = g_logits.size;
    unsigned char *saved = check_alloc(size, 1), *copy = check_alloc(size, 1);
    memcpy(saved, g_logits.data, size);
    memcpy(copy, saved, size);
    const int bads = 1 + (int)random_below(&run.random, 2);
    int64_t expected = -1;
    for (int i = 0; i < bads; i++) {
        const int64_t t = c->first + random_below(&run.random, (uint32_t)(c->last - c->first));
        const uint32_t pick = random_below(&run.random, 4), e = pick == 0 ? 0
                                                                : pick == 1
                                                                    ? (uint32_t)c->experts - 1
                                                                    : random_below(&run.random, (uint32_t)c->experts);
        random_store(copy, c->dtype, (size_t)(t * c->stride) + e, random_below(&run.random, 2) ? NAN : INFINITY);
        if ((!c->rows.token_mask || c->rows.token_mask[t]) && (expected < 0 || t < expected))
            expected = t;
    }
    /* A maximum forgets a NaN at the next element: that of a lane of such a row is -inf. */
    if (random_below(&run.random, 2)) {
        const int64_t t = c->last - 1;
        for (int32_t e = 0; e < c->experts; e++)
            random_store(copy, c->dtype, (size_t)(t * c->stride) + (size_t)e, e < 16 ? NAN : -INFINITY);
        if ((!c->rows.token_mask || c->rows.token_mask[t]) && expected < 0)
            expected = t;
    }
    c->rows.logits = check_place_copy(&g_logits, copy, size / element, element);
    guard_freeze(&g_logits);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_lse, c->dtype));) {
        describe(c, row->name, "with bad rows");
        open_score_outputs(c);
        const int64_t found = ((seqtopk_lse_fn *)row->function)(&c->rows, c->first, c->last);
        check_that(found == expected, "the first bad row is %lld, not %lld", (long long)expected, (long long)found);
        check_that(guard_intact(&g_shift) && guard_intact(&g_lse), "wrote beside shift or lse");
    }
    find_bad_rows_sweeping(c, expected);
    c->rows.logits = check_place_copy(&g_logits, saved, size / element, element);
    guard_freeze(&g_logits);
    free(saved);
    free(copy);
}

/* Puts the reference's normalisers where the next kernels read them; NaN where they must not. */
static void give_normalisers(rows_case *c) {
    c->rows.shift = check_place_copy(&g_shift, c->shift, (size_t)c->tokens, sizeof(float));
    c->rows.lse = check_place_copy(&g_lse, c->lse, (size_t)c->tokens, sizeof(float));
    if (c->score != SEQTOPK_SCORE_SOFTMAX) {
        memset(c->rows.shift, 0xff, (size_t)c->tokens * sizeof(float));
        memset(c->rows.lse, 0xff, (size_t)c->tokens * sizeof(float));
    }
    guard_freeze(&g_shift);
    guard_freeze(&g_lse);
}

/* Whether a key is what the contract says, of a logit x. */
static void check_key(const rows_case *c, oracle_key kind, size_t i, float key, double right, double tolerance) {
    const double x = c->problem.x[i];
    const size_t t = i / (size_t)c->experts;
    if (right == -INFINITY) {
        check_that(key == -INFINITY, "cell %zu is excluded, its key is %.9g", i, (double)key);
        return;
    }
    check_that(isfinite(key), "cell %zu is a candidate, its key is %g", i, (double)key);
    if (kind == ORACLE_KEY_LOGPROB) {
        const float written = log_probability_of(x, c->shift[t], c->lse[t]);
        check_that(key == written, "cell %zu: key %.9g, x - shift - lse is %.9g", i, (double)key, (double)written);
    }
    check_that(fabs(key - right) <= tolerance, "cell %zu: x %.9g key %.9g, float64 says %.12g +- %.3g", i, x,
               (double)key, right, tolerance);
}

static void check_keys(rows_case *c, seqtopk_key key) {
    const size_t experts = (size_t)c->experts, n = (size_t)(c->last - c->first) * experts,
                 total = (size_t)c->tokens * experts;
    const size_t skip = (size_t)c->first * experts;
    double *right = check_alloc(total, sizeof *right), *tolerance = check_alloc(total, sizeof *tolerance);
    float *expected = check_alloc(n, sizeof *expected);
    const seqtopk_row *reference = check_reference(SEQTOPK_OP_keys, c->dtype);
    /* A route with a bias compares by scores, always: no other key meets one. */
    const float *bias = c->rows.bias;
    double *problem_bias = c->problem.bias;
    c->rows.key = (int32_t)key;
    if (key != SEQTOPK_KEY_SCORE) {
        c->rows.bias = NULL;
        c->problem.bias = NULL;
    }
    oracle_keys(&c->problem, (oracle_key)key, right, tolerance);
    give_normalisers(c);
    describe(c, reference->name, "");
    ((seqtopk_keys_fn *)reference->function)(&c->rows, c->first, c->last, expected);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_keys, c->dtype));) {
        describe(c, row->name, key == SEQTOPK_KEY_LOGIT ? "logit" : key == SEQTOPK_KEY_LOGPROB ? "logprob" : "score");
        float *keys = check_place(&g_out, n, sizeof *keys);
        ((seqtopk_keys_fn *)row->function)(&c->rows, c->first, c->last, keys);
        size_t where = 0;
        check_that(guard_intact(&g_out), "wrote beside keys");
        check_that(check_same_bits(expected, keys, n, &where), "differs from the reference at key %zu: %.9g, not %.9g",
                   where, where < n ? (double)keys[where] : 0, where < n ? (double)expected[where] : 0);
        for (size_t k = 0; k < n; k++)
            check_key(c, (oracle_key)key, skip + k, keys[k], right[skip + k], tolerance[skip + k]);
    }
    c->rows.bias = bias;
    c->problem.bias = problem_bias;
    free(right);
    free(tolerance);
    free(expected);
}

/* Lists of random winners: distinct, ascending, none of them at -inf. */
static int32_t make_lists(const rows_case *c, int32_t *offsets, int32_t *ids) {
    random_state *r = &run.random;
    int32_t at = (int32_t)random_below(r, 4);
    for (int32_t i = 0; i < at; i++)
        ids[i] = 0;
    for (int64_t t = 0; t < c->tokens; t++) {
        const uint32_t share = 1 + random_below(r, 12);
        offsets[t] = at;
        for (int32_t e = 0; e < c->experts && !c->problem.masked[t]; e++)
            if (c->problem.x[t * c->experts + e] != -INFINITY && random_below(r, share) == 0)
                ids[at++] = e;
    }
    offsets[c->tokens] = at;
    return at;
}

/*
 * weigh does what weights does, from keys that were kept instead of logits. That it must give the same bits is what lets a
 * route choose either.
 */
static void check_weigh(rows_case *c, const seqtopk_weighing *how, const int32_t *offsets, const int32_t *ids,
                        const float *expected) {
    const size_t n = (size_t)offsets[c->tokens], from = (size_t)offsets[c->first], to = (size_t)offsets[c->last];
    float *kept = check_alloc(n, 4);
    for (int64_t t = c->first; t < c->last; t++)
        for (int32_t i = offsets[t]; i < offsets[t + 1]; i++) {
            const float x = (float)c->problem.x[t * c->experts + ids[i]];
            kept[i] = c->score == SEQTOPK_SCORE_SOFTMAX ? log_probability_of(x, c->shift[t], c->lse[t]) : x;
        }
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_weigh_keys, -1));) {
        describe(c, row->name, "");
        float *weights = check_place(&g_out, n, 4);
        memcpy(weights + from, kept + from, (to - from) * 4);
        ((seqtopk_weigh_keys_fn *)row->function)(c->score, how, c->first, c->last, offsets, weights);
        size_t where = 0;
        check_that(guard_intact(&g_out) && check_is_rubbish(weights, from * 4) &&
                       check_is_rubbish(weights + to, (n - to) * 4),
                   "wrote weights that were not asked for");
        check_that(check_same_bits(expected + from, weights + from, to - from, &where),
                   "differs from weights at pair %zu", from + where);
    }
    free(kept);
}

static void check_weights(rows_case *c) {
    static const float epsilons[] = {0, 1e-20f, 1e-6f}, floors[] = {0, 1e-12f, 0.5f}, scales[] = {1, 2.5f, 16};
    random_state *r = &run.random;
    int32_t *offsets = check_alloc((size_t)c->tokens + 1, 4);
    int32_t *ids = check_alloc((size_t)c->tokens * (size_t)c->experts + 4, 4);
    const size_t n = (size_t)make_lists(c, offsets, ids);
    seqtopk_weighing how = {SEQTOPK_NORM_NONE + (int32_t)random_below(r, 3), epsilons[random_below(r, 3)],
                            floors[random_below(r, 3)], scales[random_below(r, 3)]};
    c->problem.desc.norm = (seqtopk_norm)how.norm;
    c->problem.desc.norm_eps = how.eps;
    c->problem.desc.norm_floor = how.floor;
    c->problem.desc.scale = how.scale;
    const size_t from = (size_t)offsets[c->first], to = (size_t)offsets[c->last];
    double *right = check_alloc(n, sizeof *right), *tolerance = check_alloc(n, sizeof *tolerance);
    oracle_weights(&c->problem, offsets, ids, right, tolerance);

    const int32_t *given_offsets = check_place_copy(&g_offsets, offsets, (size_t)c->tokens + 1, 4);
    const int32_t *given_ids = check_place_copy(&g_ids, ids, n, 4);
    guard_freeze(&g_offsets);
    guard_freeze(&g_ids);
    give_normalisers(c);
    float *expected = check_alloc(n, sizeof *expected);
    const seqtopk_row *reference = check_reference(SEQTOPK_OP_weigh_logits, c->dtype);
    describe(c, reference->name, "");
    ((seqtopk_weigh_logits_fn *)reference->function)(&c->rows, &how, c->first, c->last, given_offsets, given_ids, expected);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_weigh_logits, c->dtype));) {
        char more[96];
        snprintf(more, sizeof more, "norm %d eps %g floor %g scale %g", (int)how.norm, (double)how.eps,
                 (double)how.floor, (double)how.scale);
        describe(c, row->name, more);
        float *weights = check_place(&g_out, n, sizeof *weights);
        ((seqtopk_weigh_logits_fn *)row->function)(&c->rows, &how, c->first, c->last, given_offsets, given_ids, weights);
        size_t where = 0;
        check_that(guard_intact(&g_out) && check_is_rubbish(weights, from * 4) &&
                       check_is_rubbish(weights + to, (n - to) * 4),
                   "wrote weights that were not asked for");
        check_that(check_same_bits(expected + from, weights + from, to - from, &where),
                   "differs from the reference at pair %zu", from + where);
        for (size_t p = from; p < to; p++)
            check_that(tolerance[p] == INFINITY || fabs(weights[p] - right[p]) <= tolerance[p],
                       "pair %zu: weight %.9g, float64 says %.12g +- %.3g", p, (double)weights[p], right[p],
                       tolerance[p]);
    }
    if (c->score != SEQTOPK_SCORE_SQRTSOFTPLUS || how.norm != SEQTOPK_NORM_SOFTMAX) /* not what weigh is for */
        check_weigh(c, &how, offsets, ids, expected);
    free(offsets);
    free(ids);
    free(right);
    free(tolerance);
    free(expected);
}

/* --------------------------------------------------------------------- sweep -- */

/* A bound that some candidates reach: a key, or below all of them, or above. */
static float some_bound(const float *keys, size_t n) {
    const float key = n ? keys[random_below(&run.random, (uint32_t)n)] : 0;
    const uint32_t pick = random_below(&run.random, 8);
    return pick == 0 || !(fabsf(key) <= 1e30f) ? -1e30f : pick == 1 ? 1e30f : key;
}

/* Whether what was candidates are candidates, each token's in order, with their keys, and none is missing. */
/* How many of a row's candidates stand before e. */
static int32_t stands_before(const float *row, int32_t experts, int32_t e) {
    int32_t before = 0;
    for (int32_t other = 0; other < experts; other++)
        before += row[other] > row[e] || (row[other] == row[e] && other < e);
    return before;
}

static void check_catch(const rows_case *c, const seqtopk_candidates *catch, const float *keys, float low, int32_t sure) {
    int64_t at = 0;
    for (int64_t t = c->first; t < c->last; t++) {
        const float *row = keys + (t - c->first) * c->experts;
        int32_t next = 0, missed = 0, wrong = 0;
        const int64_t end = at + catch->counts[t];
        if (!check_that(catch->counts[t] >= 0 && end <= catch->size, "token %lld: %d candidates", (long long)t,
                        (int)catch->counts[t]))
            return;
        for (int32_t e = 0; e < c->experts; e++) {
            if (at < end && catch->ids[at] == e) {
                wrong += row[e] == -INFINITY || memcmp(catch->keys + at, row + e, 4) != 0;
                at++;
                next = e + 1;
            } else {
                missed += row[e] != -INFINITY && (row[e] >= low || stands_before(row, c->experts, e) < sure);
            }
        }
        check_that(at == end, "token %lld: ids do not ascend below E (after %d)", (long long)t, (int)next);
        check_that(missed == 0 && wrong == 0, "token %lld: %d missed, %d with a wrong key", (long long)t, (int)missed,
                   (int)wrong);
        at = end;
    }
    check_that(at == catch->size, "tokens hold %lld, %lld were candidates", (long long)at, (long long)catch->size);
}

static void check_sweep(rows_case *c, seqtopk_key key) {
    const size_t n = (size_t)(c->last - c->first) * (size_t)c->experts;
    float *keys = check_alloc(n, 4);
    const float *bias = c->rows.bias;
    c->rows.key = (int32_t)key;
    c->rows.bias = NULL; /* no sweep with a bias */
    give_normalisers(c);
    describe(c, "the reference's keys", "");
    ((seqtopk_keys_fn *)check_reference(SEQTOPK_OP_keys, c->dtype)->function)(&c->rows, c->first, c->last, keys);
    const float low = some_bound(keys, n);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_collect_logits, c->dtype));) {
        const int ample = random_below(&run.random, 3) != 0;
        const size_t capacity = ample ? n : random_below(&run.random, (uint32_t)n + 1);
        const int32_t sure = (int32_t)(random_below(&run.random, 2) ? random_below(&run.random, 17) : 0);
        char more[96];
        snprintf(more, sizeof more, "low %.9g sure %d capacity %zu", (double)low, (int)sure, capacity);
        describe(c, row->name, more);
        open_score_outputs(c);
        seqtopk_candidates catch = {.keys = check_place(&g_out, capacity + SEQTOPK_CANDIDATES_SLACK, 4),
                               .ids = check_place(&g_ids, capacity + SEQTOPK_CANDIDATES_SLACK, 2),
                               .counts = check_place(&g_counts, (size_t)c->tokens, 4),
                               .work = check_place(&g_words, SEQTOPK_COLLECT_WORK((size_t)c->experts), 8),
                               .capacity = (int64_t)capacity};
        const int64_t bad = ((seqtopk_collect_logits_fn *)row->function)(&c->rows, c->first, c->last, low, sure, &catch);
        check_that(guard_intact(&g_shift) && guard_intact(&g_lse) && guard_intact(&g_out) && guard_intact(&g_ids) &&
                       guard_intact(&g_counts) && guard_intact(&g_words),
                   "wrote beside its memory");
        check_that(bad == -1, "found a bad row, %lld, where there is none", (long long)bad);
        if (catch.size < 0) {
            check_that(!ample, "found no space where there is space for all");
            continue;
        }
        size_t where = 0;
        const size_t first = (size_t)c->first, rows = (size_t)(c->last - c->first);
        if (key == SEQTOPK_KEY_LOGPROB)
            check_that(check_same_bits(c->shift + first, c->rows.shift + first, rows, &where) &&
                           check_same_bits(c->lse + first, c->rows.lse + first, rows, &where),
                       "shift or lse differs from that of score at row %zu", first + where);
        check_that(catch.size <= (int64_t)capacity, "candidates %lld", (long long)catch.size);
        check_that(check_is_rubbish(catch.counts, first * 4) &&
                       check_is_rubbish(catch.counts + c->last, (size_t)(c->tokens - c->last) * 4),
                   "wrote counts of other tokens");
        if (catch.size <= (int64_t)capacity)
            check_catch(c, &catch, keys, low, sure);
    }
    c->rows.bias = bias;
    free(keys);
}

static void check_whole(rows_case *c, seqtopk_key key) {
    const size_t rows = (size_t)(c->last - c->first), n = rows * (size_t)c->experts;
    if (rows == 0)
        return;
    float *keys = check_alloc(n, 4);
    const float *bias = c->rows.bias;
    c->rows.key = (int32_t)key;
    c->rows.bias = NULL;
    give_normalisers(c);
    describe(c, "the reference's keys", "");
    ((seqtopk_keys_fn *)check_reference(SEQTOPK_OP_keys, c->dtype)->function)(&c->rows, c->first, c->last, keys);
    const int64_t budget = 1 + random_below(&run.random, 16 * (uint32_t)rows);
    seqtopk_select_keys_fn *rank = (seqtopk_select_keys_fn *)check_reference(SEQTOPK_OP_select_keys, SEQTOPK_DTYPE_F32)->function;
    int64_t candidates = 0;
    for (size_t i = 0; i < n; i++)
        candidates += keys[i] != -INFINITY;
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_collect_short, c->dtype));) {
        const size_t first = (size_t)c->first;
        size_t where = 0;
        float low = NAN;
        char more[64];
        snprintf(more, sizeof more, "budget %lld", (long long)budget);
        describe(c, row->name, more);
        open_score_outputs(c);
        seqtopk_candidates catch = {.keys = check_place(&g_out, n + SEQTOPK_CANDIDATES_SLACK, 4),
                               .ids = check_place(&g_ids, n + SEQTOPK_CANDIDATES_SLACK, 2),
                               .counts = check_place(&g_counts, (size_t)c->tokens, 4),
                               .work = check_place(&g_words, SEQTOPK_COLLECT_WORK((size_t)c->experts), 8),
                               .capacity = (int64_t)n};
        float *work = check_place(&g_keys, 16 * (rows + 4), 4);
        const int64_t bad =
            ((seqtopk_collect_short_fn *)row->function)(&c->rows, c->first, c->last, budget, rank, work, &low, &catch);
        check_that(guard_intact(&g_shift) && guard_intact(&g_lse) && guard_intact(&g_out) && guard_intact(&g_ids) &&
                       guard_intact(&g_counts) && guard_intact(&g_words) && guard_intact(&g_keys),
                   "wrote beside its memory");
        check_that(bad == -1, "found a bad row, %lld, where there is none", (long long)bad);
        if (catch.size < 0) {
            check_that(0, "found no space where there is space for all");
            continue;
        }
        check_that(catch.size >= (budget < candidates ? budget : candidates), "candidates %lld of %lld",
                   (long long)catch.size, (long long)candidates);
        if (key == SEQTOPK_KEY_LOGPROB)
            check_that(check_same_bits(c->shift + first, c->rows.shift + first, rows, &where) &&
                           check_same_bits(c->lse + first, c->rows.lse + first, rows, &where),
                       "shift or lse differs from that of score at row %zu", first + where);
        check_catch(c, &catch, keys, low, 0);
    }
    c->rows.bias = bias;
    free(keys);
}

/* --------------------------------------------------------------------- pick -- */

/* What each token keeps: its first k by x, ids ascending, with keys (x - shift) - lse for softmax, else x. */
static int64_t pick_slowly(const rows_case *c, int32_t top_k, int32_t *offsets, int32_t *ids, float *keys, int64_t at) {
    unsigned char *taken = check_alloc((size_t)c->experts, 1);
    for (int64_t t = c->first; t < c->last; t++) {
        const double *x = c->problem.x + t * c->experts;
        memset(taken, 0, (size_t)c->experts);
        for (int32_t k = 0; k < top_k; k++) {
            int32_t best = -1;
            for (int32_t e = 0; e < c->experts; e++)
                if (!taken[e] && x[e] != -INFINITY && (best < 0 || x[e] > x[best]))
                    best = e;
            if (best >= 0)
                taken[best] = 1;
        }
        offsets[t] = (int32_t)at;
        for (int32_t e = 0; e < c->experts; e++) {
            if (!taken[e])
                continue;
            ids[at] = e;
            keys[at++] =
                c->score == SEQTOPK_SCORE_SOFTMAX ? log_probability_of(x[e], c->shift[t], c->lse[t]) : (float)x[e];
        }
    }
    free(taken);
    return at;
}

static void check_picked(const rows_case *c, const seqtopk_lists *to, const int32_t *offsets, const int32_t *ids,
                         const float *keys, int64_t from, int64_t at) {
    const size_t first = (size_t)c->first, last = (size_t)c->last;
    size_t where = 0;
    check_that(memcmp(to->offsets + first, offsets + first, (last - first) * 4) == 0, "offsets are wrong");
    check_that(check_is_rubbish(to->offsets, first * 4) &&
                   check_is_rubbish(to->offsets + last, ((size_t)c->tokens + 1 - last) * 4),
               "wrote offsets of other tokens");
    check_that(memcmp(to->ids + from, ids + from, (size_t)(at - from) * 4) == 0, "ids are wrong");
    /* -0 and +0 are one key. */
    for (int64_t i = from; i < at; i++)
        check_that(to->keys[i] == keys[i], "key %lld is %.9g, not %.9g", (long long)i, (double)to->keys[i],
                   (double)keys[i]);
    check_that(check_is_rubbish(to->ids, (size_t)from * 4) && check_is_rubbish(to->keys, (size_t)from * 4),
               "wrote before the first place");
    if (c->score == SEQTOPK_SCORE_SOFTMAX)
        check_that(check_same_bits(c->shift + first, c->rows.shift + first, last - first, &where) &&
                       check_same_bits(c->lse + first, c->rows.lse + first, last - first, &where),
                   "shift or lse differs from that of score at row %zu", first + where);
}

/* The same lists out of keys. */
static void check_choose(const rows_case *c, int32_t top_k, const int32_t *offsets, const int32_t *ids,
                         const float *keys, int64_t from, int64_t at) {
    const size_t cells = (size_t)(c->last - c->first) * (size_t)c->experts;
    float *given = check_alloc(cells + 1, 4);
    for (size_t i = 0; i < cells; i++)
        given[i] = (float)c->problem.x[c->first * c->experts + (int64_t)i];
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_topk_keys, -1));) {
        describe(c, row->name, "");
        seqtopk_candidates work = {.keys = check_place(&g_out, cells + SEQTOPK_CANDIDATES_SLACK, 4),
                              .ids = check_place(&g_ids, cells + SEQTOPK_CANDIDATES_SLACK, 2),
                              .counts = check_place(&g_counts, SEQTOPK_TOPK_COUNTS, 4),
                              .work = check_place(&g_words, SEQTOPK_COLLECT_WORK((size_t)c->experts), 8),
                              .capacity = (int64_t)cells};
        const seqtopk_lists to = {.offsets = check_place(&g_offsets, (size_t)c->tokens + 1, 4),
                                  .ids = check_place(&g_list_ids, (size_t)at, 4),
                                  .keys = check_place(&g_list_keys, (size_t)at, 4)};
        int64_t place = from;
        ((seqtopk_topk_keys_fn *)row->function)(check_place_copy(&g_keys, given, cells, 4), c->experts, c->first, c->last,
                                             top_k, &work, &to, &place, at);
        check_that(guard_intact(&g_out) && guard_intact(&g_ids) && guard_intact(&g_counts) && guard_intact(&g_words) &&
                       guard_intact(&g_offsets) && guard_intact(&g_list_ids) && guard_intact(&g_list_keys),
                   "wrote beside its memory");
        if (work.size < 0)
            check_that(0, "found no space where there is space for all");
        else if (check_that(place == at, "ended at %lld, not %lld", (long long)place, (long long)at))
            check_picked(c, &to, offsets, ids, keys, from, at);
    }
    free(given);
}

static void check_pick(rows_case *c) {
    static const int32_t top_ks[] = {1, 2, 4, 6, 8, 10, 16};
    const int32_t wish = top_ks[random_below(&run.random, 7)], top_k = wish < c->experts ? wish : c->experts;
    const size_t rows = (size_t)(c->last - c->first), most = rows * (size_t)top_k + 16;
    const int64_t from = random_below(&run.random, 9);
    const float *bias = c->rows.bias;
    int32_t *offsets = check_alloc((size_t)c->tokens + 1, 4), *ids = check_alloc(most, 4);
    float *keys = check_alloc(most, 4);
    const int64_t at = pick_slowly(c, top_k, offsets, ids, keys, from);
    c->rows.bias = NULL; /* no picking with a bias */
    c->rows.key = SEQTOPK_KEY_LOGIT;
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_topk_logits, c->dtype));) {
        const size_t end = (size_t)at + (random_below(&run.random, 2) ? 0 : random_below(&run.random, 40));
        const size_t capacity = rows * (size_t)c->experts;
        char more[64];
        snprintf(more, sizeof more, "top_k %d from %lld end %zu", (int)top_k, (long long)from, end);
        describe(c, row->name, more);
        open_score_outputs(c);
        seqtopk_candidates work = {.keys = check_place(&g_out, capacity + SEQTOPK_CANDIDATES_SLACK, 4),
                              .ids = check_place(&g_ids, capacity + SEQTOPK_CANDIDATES_SLACK, 2),
                              .counts = check_place(&g_counts, SEQTOPK_TOPK_COUNTS, 4),
                              .work = check_place(&g_words, SEQTOPK_COLLECT_WORK((size_t)c->experts), 8),
                              .capacity = (int64_t)capacity};
        const seqtopk_lists to = {.offsets = check_place(&g_offsets, (size_t)c->tokens + 1, 4),
                                  .ids = check_place(&g_list_ids, end, 4),
                                  .keys = check_place(&g_list_keys, end, 4)};
        int64_t place = from;
        const int64_t bad =
            ((seqtopk_topk_logits_fn *)row->function)(&c->rows, c->first, c->last, top_k, &work, &to, &place, (int64_t)end);
        check_that(guard_intact(&g_shift) && guard_intact(&g_lse) && guard_intact(&g_out) && guard_intact(&g_ids) &&
                       guard_intact(&g_counts) && guard_intact(&g_words) && guard_intact(&g_offsets) &&
                       guard_intact(&g_list_ids) && guard_intact(&g_list_keys),
                   "wrote beside its memory");
        if (work.size < 0) {
            check_that(0, "found no space where there is space for all");
            continue;
        }
        check_that(bad == -1, "found a bad row, %lld, where there is none", (long long)bad);
        if (check_that(place == at, "ended at %lld, not %lld", (long long)place, (long long)at))
            check_picked(c, &to, offsets, ids, keys, from, at);
    }
    if (c->score == SEQTOPK_SCORE_LOGITS)
        check_choose(c, top_k, offsets, ids, keys, from, at);
    c->rows.bias = bias;
    free(offsets);
    free(ids);
    free(keys);
}

static void check_rows_case(int32_t experts, int32_t count, int turn) {
    rows_case c;
    make_case(&c, experts, count, turn);
    for (int score = SEQTOPK_SCORE_SOFTMAX; score <= SEQTOPK_SCORE_LOGITS; score++) {
        set_score(&c, score);
        check_score(&c);
        check_bad_rows(&c);
        if (score == SEQTOPK_SCORE_SOFTMAX)
            check_keys(&c, SEQTOPK_KEY_LOGPROB);
        check_sweep(&c, score == SEQTOPK_SCORE_SOFTMAX ? SEQTOPK_KEY_LOGPROB : SEQTOPK_KEY_LOGIT);
        check_whole(&c, score == SEQTOPK_SCORE_SOFTMAX ? SEQTOPK_KEY_LOGPROB : SEQTOPK_KEY_LOGIT);
        check_pick(&c);
        if (score == turn % 4)
            check_keys(&c, SEQTOPK_KEY_LOGIT);
        check_keys(&c, SEQTOPK_KEY_SCORE);
        check_weights(&c);
    }
    free_case(&c);
}

/* Every E with every number of rows; as many kinds of logits to each as its size leaves time for, in turn. */
static void check_rows_kernels(void) {
    int turn = (int)random_below(&run.random, 1000);
    for (size_t i = 0; i < CHECK_EXPERT_COUNTS; i++)
        for (size_t j = 0; j < CHECK_ROW_COUNTS; j++) {
            const int32_t cells = check_expert_counts[i] * (check_row_counts[j] + 1);
            const int afford = (run.quick ? 1500 : 24000) / cells;
            const int cases = check_row_counts[j] == 0 ? 1
                              : afford < 1             ? 1
                              : afford > RANDOM_KINDS  ? RANDOM_KINDS
                                                       : afford;
            if (run.quick && cells > 20000 && random_below(&run.random, 4))
                continue;
            for (int k = 0; k < cases; k++)
                check_rows_case(check_expert_counts[i], check_row_counts[j], turn++);
        }
}

void check_rows(void) {
    const size_t cells = (size_t)(CHECK_EXPERTS_MOST + 3) * ROWS_MOST * sizeof(float) + 512;
    guard *const all[] = {&g_logits, &g_bias,    &g_out,    &g_ids,   &g_keys,     &g_mask,     &g_shift,
                          &g_lse,    &g_offsets, &g_counts, &g_words, &g_list_ids, &g_list_keys};
    enum { GUARDS = sizeof all / sizeof *all, LARGE = 5 };
    for (int i = 0; i < GUARDS; i++)
        guard_open(all[i], i < LARGE ? cells : 8 * SEQTOPK_COLLECT_WORK(CHECK_EXPERTS_MOST) + 256);
    check_rows_kernels();
    for (int i = 0; i < GUARDS; i++)
        guard_close(all[i]);
}
