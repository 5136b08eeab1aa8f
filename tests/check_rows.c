/* SPDX-License-Identifier: MIT */
/* Kernels that read logits, and weigh_keys, which does the same from keys. */
#include "cases.h"
#include "check.h"
#include "oracle.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Logits of [first, last) and some rows around; what lies between rows is NaN. */
static unsigned char *make_logits(rows_case *c) {
    const size_t element = element_of(c->dtype), stored = c->stride ? (size_t)c->tokens : 1;
    const size_t cells = c->tokens ? (stored - 1) * (size_t)c->stride + (size_t)c->experts : 0;
    unsigned char *logits = case_memory(CASE_LOGITS, cells, element);
    memset(logits, 0xff, cells * element);
    if (cells)
        random_logits(&run.random, c->kind, c->dtype, logits, stored, (size_t)c->experts, (size_t)c->stride);
    return logits;
}

/* One row in four is masked, its logits NaN. */
static uint8_t *make_mask(const rows_case *c, unsigned char *logits) {
    const size_t element = element_of(c->dtype);
    uint8_t *mask = case_memory(CASE_MASK, (size_t)c->tokens, 1);
    for (int64_t t = 0; t < c->tokens; t++) {
        mask[t] = (uint8_t)(random_below(&run.random, 4) ? 1 + random_below(&run.random, 255) : 0);
        if (!mask[t] && c->stride)
            memset(logits + (size_t)(t * c->stride) * element, 0xff, (size_t)c->experts * element);
    }
    case_freeze(CASE_MASK);
    return mask;
}

static float *make_bias(int32_t experts) {
    random_state *r = &run.random;
    float *bias = case_memory(CASE_BIAS, (size_t)experts, sizeof *bias);
    const int wild = random_below(r, 4) == 0;
    for (int32_t e = 0; e < experts; e++)
        bias[e] = random_below(r, 16) == 0 ? -INFINITY
                  : wild                   ? (random_below(r, 2) ? FLT_MAX : -FLT_MAX)
                                           : (float)(random_normal(r) * 0.1);
    case_freeze(CASE_BIAS);
    return bias;
}

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
    unsigned char *logits = make_logits(c);
    const uint8_t *mask = random_below(r, 3) == 0 ? make_mask(c, logits) : NULL;
    case_freeze(CASE_LOGITS);
    const float *bias = random_below(r, 2) ? make_bias(experts) : NULL;
    c->rows = (seqtopk_rows){.logits = logits,
                             .stride = c->stride * (int64_t)element_of(c->dtype),
                             .token_mask = mask,
                             .bias = bias,
                             .experts = experts};
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

/* What all ops are given. Only scores meet a bias: a route with one compares by them, always. */
static op_case case_of(const rows_case *c, seqtopk_key key) {
    op_case k = {.rows = c->rows, .tokens = c->tokens, .first = c->first, .last = c->last, .experts = c->experts};
    k.rows.key = (int32_t)key;
    if (key != SEQTOPK_KEY_SCORE)
        k.rows.bias = NULL;
    return k;
}

/* The key of the ops that collect. */
static seqtopk_key collected_key(const rows_case *c) {
    return c->score == SEQTOPK_SCORE_SOFTMAX ? SEQTOPK_KEY_LOGPROB : SEQTOPK_KEY_LOGIT;
}

/* Puts the reference's normalisers where the next kernels read them; NaN where they must not. */
static void give_normalisers(rows_case *c) {
    const size_t bytes = (size_t)c->tokens * sizeof(float);
    c->rows.shift = case_copy(CASE_SHIFT, c->shift, (size_t)c->tokens, sizeof(float));
    c->rows.lse = case_copy(CASE_LSE, c->lse, (size_t)c->tokens, sizeof(float));
    if (c->score != SEQTOPK_SCORE_SOFTMAX) {
        memset(c->rows.shift, 0xff, bytes);
        memset(c->rows.lse, 0xff, bytes);
    }
    case_freeze(CASE_SHIFT);
    case_freeze(CASE_LSE);
}

static float *reference_keys(rows_case *c, seqtopk_key key) {
    give_normalisers(c);
    op_case k = case_of(c, key);
    describe(c, "the reference's keys", "");
    k.values = check_alloc((size_t)(c->last - c->first) * (size_t)c->experts, sizeof *k.values);
    case_call(&k, check_reference(SEQTOPK_OP_keys, c->dtype));
    return k.values;
}

/* The normalisers of [first, last) against the reference's. */
static void check_normalisers(const rows_case *c, const seqtopk_rows *rows) {
    const size_t first = (size_t)c->first, n = (size_t)(c->last - c->first);
    size_t where = 0;
    check_that(check_same_bits(c->shift + first, rows->shift + first, n, &where),
               "shift differs from the reference at row %zu", first + where);
    check_that(check_same_bits(c->lse + first, rows->lse + first, n, &where),
               "lse differs from the reference at row %zu", first + where);
}

/* Whether n elements hold something in [first, last) alone. */
static int is_alone(const void *memory, size_t element, int64_t first, int64_t last, int64_t n) {
    return check_is_rubbish(memory, (size_t)first * element) &&
           check_is_rubbish((const char *)memory + (size_t)last * element, (size_t)(n - last) * element);
}

static void check_normaliser(const rows_case *c, const seqtopk_rows *rows, int64_t t) {
    const float shift = rows->shift[t], lse = rows->lse[t];
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

/* `shift` and `lse` belong to softmax; other scores must leave them alone. */
static void check_lse(rows_case *c) {
    const seqtopk_row *reference = check_reference(SEQTOPK_OP_lse, c->dtype);
    const int softmax = c->score == SEQTOPK_SCORE_SOFTMAX;
    op_case k = case_of(c, SEQTOPK_KEY_SCORE);
    describe(c, reference->name, "");
    case_place(&k, SEQTOPK_OP_lse);
    k.first = 0;
    k.last = c->tokens;
    case_call(&k, reference);
    memcpy(c->shift, k.rows.shift, (size_t)c->tokens * sizeof(float));
    memcpy(c->lse, k.rows.lse, (size_t)c->tokens * sizeof(float));
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_lse, c->dtype));) {
        const int64_t first = softmax ? c->first : c->last;
        k = case_of(c, SEQTOPK_KEY_SCORE);
        describe(c, row->name, "");
        case_place(&k, SEQTOPK_OP_lse);
        case_call(&k, row);
        check_that(k.returned == -1, "found a bad row, %lld, where there is none", (long long)k.returned);
        check_that(case_intact(), "wrote beside its memory");
        check_that(is_alone(k.rows.shift, 4, first, c->last, c->tokens) &&
                       is_alone(k.rows.lse, 4, first, c->last, c->tokens),
                   "wrote rows that were not asked for");
        for (int64_t t = c->first; softmax && t < c->last; t++)
            check_normaliser(c, &k.rows, t);
        if (softmax)
            check_normalisers(c, &k.rows);
    }
}

/* NaN or +inf at some places; returns the first bad row that is not masked. */
static int64_t spoil(const rows_case *c, void *logits) {
    random_state *r = &run.random;
    const uint32_t experts = (uint32_t)c->experts, bads = 1 + random_below(r, 2);
    const uint8_t *mask = c->rows.token_mask;
    int64_t expected = -1;
    for (uint32_t i = 0; i < bads; i++) {
        const int64_t t = c->first + random_below(r, (uint32_t)(c->last - c->first));
        const uint32_t pick = random_below(r, 4), e = pick == 0   ? 0
                                                      : pick == 1 ? experts - 1
                                                                  : random_below(r, experts);
        random_store(logits, c->dtype, (size_t)(t * c->stride) + e, random_below(r, 2) ? NAN : INFINITY);
        if ((!mask || mask[t]) && (expected < 0 || t < expected))
            expected = t;
    }
    /* A maximum forgets a NaN at the next element: that of a lane of such a row is -inf. */
    if (random_below(r, 2)) {
        const int64_t t = c->last - 1;
        for (uint32_t e = 0; e < experts; e++)
            random_store(logits, c->dtype, (size_t)(t * c->stride) + e, e < 16 ? NAN : -INFINITY);
        if ((!mask || mask[t]) && expected < 0)
            expected = t;
    }
    return expected;
}

static void find_bad_rows(const rows_case *c, seqtopk_op op, int64_t expected) {
    for (const seqtopk_row *row = NULL; (row = check_next(row, op, c->dtype));) {
        op_case k = case_of(c, collected_key(c));
        k.capacity = (c->last - c->first) * c->experts;
        k.low = -1;
        k.min = 1;
        describe(c, row->name, "with bad rows");
        case_place(&k, op);
        case_call(&k, row);
        check_that(k.candidates.size < 0 || k.returned == expected, "the first bad row is %lld, not %lld",
                   (long long)expected, (long long)k.returned);
        check_that(case_intact(), "wrote beside its memory");
    }
}

/* NaN or +inf at any place of any unmasked row is found, and the first of them is named. */
static void check_bad_rows(rows_case *c) {
    const size_t size = case_size(CASE_LOGITS);
    if (c->first == c->last || !c->stride)
        return;
    unsigned char *saved = check_alloc(size, 1), *spoilt = check_alloc(size, 1);
    memcpy(saved, c->rows.logits, size);
    memcpy(spoilt, saved, size);
    const int64_t expected = spoil(c, spoilt);
    c->rows.logits = case_copy(CASE_LOGITS, spoilt, size / element_of(c->dtype), element_of(c->dtype));
    case_freeze(CASE_LOGITS);
    find_bad_rows(c, SEQTOPK_OP_lse, expected);
    find_bad_rows(c, SEQTOPK_OP_collect_logits, expected);
    c->rows.logits = case_copy(CASE_LOGITS, saved, size / element_of(c->dtype), element_of(c->dtype));
    case_freeze(CASE_LOGITS);
    free(saved);
    free(spoilt);
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

/* float64 keys of all rows and how far from them a key may be. */
static void expect_keys(rows_case *c, seqtopk_key key, double *right, double *tolerance) {
    double *const bias = c->problem.bias;
    if (key != SEQTOPK_KEY_SCORE)
        c->problem.bias = NULL;
    oracle_keys(&c->problem, (oracle_key)key, right, tolerance);
    c->problem.bias = bias;
}

static void check_keys(rows_case *c, seqtopk_key key) {
    static const char *const names[] = {"logit", "logprob", "score"};
    const size_t experts = (size_t)c->experts, skip = (size_t)c->first * experts, total = (size_t)c->tokens * experts,
                 n = (size_t)(c->last - c->first) * experts;
    double *right = check_alloc(total, sizeof *right), *tolerance = check_alloc(total, sizeof *tolerance);
    expect_keys(c, key, right, tolerance);
    float *expected = reference_keys(c, key);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_keys, c->dtype));) {
        op_case k = case_of(c, key);
        size_t where = 0;
        describe(c, row->name, names[key]);
        case_place(&k, SEQTOPK_OP_keys);
        case_call(&k, row);
        check_that(case_intact(), "wrote beside its memory");
        check_that(check_same_bits(expected, k.values, n, &where),
                   "differs from the reference at key %zu: %.9g, not %.9g", where,
                   where < n ? (double)k.values[where] : 0, where < n ? (double)expected[where] : 0);
        for (size_t i = 0; i < n; i++)
            check_key(c, (oracle_key)key, skip + i, k.values[i], right[skip + i], tolerance[skip + i]);
    }
    free(right);
    free(tolerance);
    free(expected);
}

/* -------------------------------------------------------------- prepared -- */

/* What a router makes of a logit, in float64, and how far from it float32 may be. */
static double expect_prepared(double x, float scale, float softcap, double *tolerance) {
    const double y = (double)scale * x, capped = softcap > 0 ? (double)softcap * tanh(y / (double)softcap) : y;
    const double right = isinf(x) ? x : fmin(fmax(capped, -(double)FLT_MAX), FLT_MAX);
    *tolerance = 4e-7 * fabs(right) + 4e-45 * (1 + (double)softcap);
    return right;
}

static void check_prepared_row(const rows_case *c, const op_case *k, int64_t t) {
    for (int32_t e = 0; e < c->experts; e++) {
        double tolerance, x = c->problem.x[t * c->experts + e];
        const double right =
            c->problem.masked[t] ? (tolerance = 0) : expect_prepared(x, k->scale, k->softcap, &tolerance);
        const double got = k->values[(t - c->first) * c->experts + e];
        check_that(got == right || fabs(got - right) <= tolerance, "row %lld, %.9g becomes %.9g, not %.9g",
                   (long long)t, x, got, right);
    }
}

/* What is no number stays what it is, so that a bad row is still seen as one. */
static void check_prepared_oddities(const rows_case *c, const seqtopk_row *row, op_case k) {
    const size_t n = (size_t)c->experts;
    unsigned char *logits = case_memory(CASE_LOGITS, n, element_of(c->dtype));
    unsigned char *odd = check_alloc(n, 1);
    for (size_t e = 0; e < n; e++) {
        odd[e] = (unsigned char)random_below(&run.random, 4);
        if (odd[e] == 1)
            random_store_bits(logits, c->dtype, e,
                              random_nan(&run.random, c->dtype, random_below(&run.random, 2 * RANDOM_NANS)));
        else
            random_store(logits, c->dtype, e, odd[e] == 2 ? INFINITY : odd[e] == 3 ? -INFINITY : 0.25f);
    }
    k.rows.logits = logits;
    k.rows.token_mask = NULL;
    k.first = 0;
    k.last = 1;
    case_place(&k, SEQTOPK_OP_prepare_logits);
    case_call(&k, row);
    for (size_t e = 0; e < n; e++)
        check_that(odd[e] == 1   ? isnan(k.values[e])
                   : odd[e] == 2 ? k.values[e] == INFINITY
                   : odd[e] == 3 ? k.values[e] == -INFINITY
                                 : isfinite(k.values[e]),
                   "expert %zu, oddity %d, becomes %g", e, odd[e], (double)k.values[e]);
    free(odd);
}

static void check_prepare(rows_case *c) {
    static const float scales[] = {1, 0.17677669f, 30, 1e-30f, 1e30f}, caps[] = {0, 0, 30, 50, 1, 1e-3f, 1e4f};
    const size_t n = (size_t)(c->last - c->first) * (size_t)c->experts;
    op_case k = case_of(c, SEQTOPK_KEY_LOGIT);
    k.scale = scales[random_below(&run.random, 5)];
    k.softcap = caps[random_below(&run.random, 7)];
    describe(c, "the reference prepares", "");
    float *expected = check_alloc(n, sizeof *expected);
    k.values = expected;
    case_call(&k, check_reference(SEQTOPK_OP_prepare_logits, c->dtype));
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_prepare_logits, c->dtype));) {
        size_t where = 0;
        describe(c, row->name, "");
        case_place(&k, SEQTOPK_OP_prepare_logits);
        case_call(&k, row);
        check_that(case_intact(), "wrote beside its memory");
        check_that(check_same_bits(expected, k.values, n, &where), "differs from the reference at %zu", where);
        for (int64_t t = c->first; t < c->last; t++)
            check_prepared_row(c, &k, t);
    }
    free(expected);
    /* Last, since it takes the memory of the logits. */
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_prepare_logits, c->dtype));)
        if (random_below(&run.random, 8) == 0)
            check_prepared_oddities(c, row, k);
}

/* --------------------------------------------------------------- weights -- */

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

/* Lists and a way to weigh them; the oracle is told of it. */
static op_case make_weights_case(rows_case *c) {
    static const float epsilons[] = {0, 1e-20f, 1e-6f}, floors[] = {0, 1e-12f, 0.5f}, scales[] = {1, 2.5f, 16};
    random_state *r = &run.random;
    int32_t *offsets = check_alloc((size_t)c->tokens + 1, 4);
    int32_t *ids = check_alloc((size_t)c->tokens * (size_t)c->experts + 4, 4);
    const int32_t n = make_lists(c, offsets, ids);
    seqtopk_weighing how = {SEQTOPK_NORM_NONE + (int32_t)random_below(r, 3), epsilons[random_below(r, 3)],
                            floors[random_below(r, 3)], scales[random_below(r, 3)], -INFINITY};
    if (how.norm == SEQTOPK_NORM_SUM && how.eps == 0 && how.floor == 0 && c->score != SEQTOPK_SCORE_LOGITS)
        how.least = c->score == SEQTOPK_SCORE_SOFTMAX ? SEQTOPK_LEAST_PROBABILITY : SEQTOPK_LEAST_SCORE;
    const int32_t *given_offsets = case_copy(CASE_PAIR_OFFSETS, offsets, (size_t)c->tokens + 1, 4);
    const int32_t *given_ids = case_copy(CASE_PAIR_IDS, ids, (size_t)n, 4);
    case_freeze(CASE_PAIR_OFFSETS);
    case_freeze(CASE_PAIR_IDS);
    give_normalisers(c);
    op_case k = case_of(c, SEQTOPK_KEY_SCORE);
    k.how = how;
    k.n = n;
    k.pair_offsets = given_offsets;
    k.pair_ids = given_ids;
    c->problem.desc.norm = (seqtopk_norm)how.norm;
    c->problem.desc.norm_eps = how.eps;
    c->problem.desc.norm_floor = how.floor;
    c->problem.desc.scale = how.scale;
    free(offsets);
    free(ids);
    return k;
}

/* Whether a winner's score is below what is weighed as it is. */
static int has_tiny_score(const rows_case *c, const op_case *k) {
    int tiny = 0;
    for (int64_t t = c->first; t < c->last; t++)
        for (int32_t i = k->pair_offsets[t]; i < k->pair_offsets[t + 1]; i++)
            tiny |= oracle_score(c->score, c->problem.x[t * c->experts + k->pair_ids[i]], c->problem.top[t],
                                 c->problem.rest[t]) < 1.001 * (double)k->how.least;
    return tiny;
}

static void check_weights_of(const rows_case *c, op_case *k, const seqtopk_row *row, const float *expected) {
    const int32_t from = k->pair_offsets[c->first], to = k->pair_offsets[c->last];
    size_t where = 0;
    char more[96];
    snprintf(more, sizeof more, "norm %d eps %g floor %g scale %g", (int)k->how.norm, (double)k->how.eps,
             (double)k->how.floor, (double)k->how.scale);
    describe(c, row->name, more);
    case_place(k, row->op);
    case_call(k, row);
    check_that(case_intact() && is_alone(k->values, 4, from, to, k->n), "wrote weights that were not asked for");
    if (row->op == SEQTOPK_OP_weigh_keys && !k->returned) {
        check_that(has_tiny_score(c, k), "leaves to weigh_logits what has no tiny score");
        return;
    }
    check_that(check_same_bits(expected + from, k->values + from, (size_t)(to - from), &where),
               "differs from the reference of weigh_logits at pair %zu", (size_t)from + where);
}

/*
 * weigh_keys does what weigh_logits does, from keys that were kept instead of logits. That it must give the same bits is
 * what lets a route choose either.
 */
static void check_weigh_keys(const rows_case *c, op_case k, const float *expected) {
    float *kept = check_alloc((size_t)k.n, 4);
    memset(kept, GUARD_RUBBISH, (size_t)k.n * sizeof *kept);
    for (int64_t t = c->first; t < c->last; t++)
        for (int32_t i = k.pair_offsets[t]; i < k.pair_offsets[t + 1]; i++) {
            const float x = (float)c->problem.x[t * c->experts + k.pair_ids[i]];
            kept[i] = c->score == SEQTOPK_SCORE_SOFTMAX ? log_probability_of(x, c->shift[t], c->lse[t]) : x;
        }
    k.begin = kept;
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_weigh_keys, -1));)
        check_weights_of(c, &k, row, expected);
    free(kept);
}

static void check_weights(rows_case *c) {
    op_case k = make_weights_case(c), reference = k;
    const size_t n = (size_t)k.n;
    double *right = check_alloc(n, sizeof *right), *tolerance = check_alloc(n, sizeof *tolerance);
    oracle_weights(&c->problem, k.pair_offsets, k.pair_ids, right, tolerance);
    describe(c, "the reference's weights", "");
    reference.values = check_alloc(n, sizeof(float));
    case_call(&reference, check_reference(SEQTOPK_OP_weigh_logits, c->dtype));
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_weigh_logits, c->dtype));) {
        check_weights_of(c, &k, row, reference.values);
        for (int32_t p = k.pair_offsets[c->first]; p < k.pair_offsets[c->last]; p++)
            check_that(tolerance[p] == INFINITY || fabs(k.values[p] - right[p]) <= tolerance[p],
                       "pair %d: weight %.9g, float64 says %.12g +- %.3g", (int)p, (double)k.values[p], right[p],
                       tolerance[p]);
    }
    if (c->score != SEQTOPK_SCORE_SQRTSOFTPLUS || k.how.norm != SEQTOPK_NORM_SOFTMAX) /* not what weigh_keys is for */
        check_weigh_keys(c, k, reference.values);
    free(right);
    free(tolerance);
    free(reference.values);
}

/* ------------------------------------------------------------ candidates -- */

/* A bound that some candidates reach: a key, or below all of them, or above. */
static float some_bound(const float *keys, size_t n) {
    const float key = n ? keys[random_below(&run.random, (uint32_t)n)] : 0;
    const uint32_t pick = random_below(&run.random, 8);
    return pick == 0 || !(fabsf(key) <= 1e30f) ? -1e30f : pick == 1 ? 1e30f : key;
}

/* The first of a row that stands behind `after` in the order; -1: behind none. `experts`: there is no more. */
static int32_t next_in_order(const float *row, int32_t experts, int32_t after) {
    int32_t best = experts;
    for (int32_t e = 0; e < experts; e++)
        if (e != after && (after < 0 || row[e] < row[after] || (row[e] == row[after] && e > after)) &&
            (best == experts || row[e] > row[best]))
            best = e;
    return best;
}

/* The last of a row's first n candidates; -1: there are none. */
static int32_t nth_in_order(const float *row, int32_t experts, int32_t n) {
    int32_t last = -1;
    for (int32_t next; n > 0 && (next = next_in_order(row, experts, last)) < experts; n--)
        last = next;
    return last;
}

/* A row's candidates, from *at on: in order, with their keys, and none missing that reaches `low` or is of the first `min`. */
static int check_row(const op_case *k, const float *row, int64_t t, int64_t *at) {
    const seqtopk_candidates *found = &k->candidates;
    const int64_t end = *at + found->counts[t];
    const int32_t last = nth_in_order(row, k->experts, k->min);
    int32_t next = 0, missed = 0, wrong = 0;
    if (!check_that(found->counts[t] >= 0 && end <= found->size, "token %lld: %d candidates", (long long)t,
                    (int)found->counts[t]))
        return 0;
    for (int32_t e = 0; e < k->experts; e++) {
        if (*at < end && found->ids[*at] == e) {
            wrong += row[e] == -INFINITY || memcmp(found->keys + *at, row + e, 4) != 0;
            ++*at;
            next = e + 1;
        } else {
            const int is_first = last >= 0 && (row[e] > row[last] || (row[e] == row[last] && e <= last));
            missed += row[e] != -INFINITY && (row[e] >= k->low || is_first);
        }
    }
    check_that(*at == end, "token %lld: ids do not ascend below E (after %d)", (long long)t, (int)next);
    check_that(missed == 0 && wrong == 0, "token %lld: %d missed, %d with a wrong key", (long long)t, (int)missed,
               (int)wrong);
    *at = end;
    return 1;
}

/* What both ops that collect from logits must do; returns whether they had space. */
static int check_collected(const rows_case *c, const op_case *k, const float *keys, int ample) {
    int64_t at = 0;
    check_that(case_intact(), "wrote beside its memory");
    check_that(k->returned == -1, "found a bad row, %lld, where there is none", (long long)k->returned);
    if (k->candidates.size < 0) {
        check_that(!ample, "found no space where there is space for all");
        return 0;
    }
    if (k->rows.key == SEQTOPK_KEY_LOGPROB)
        check_normalisers(c, &k->rows);
    check_that(is_alone(k->candidates.counts, 4, c->first, c->last, c->tokens), "wrote counts of other tokens");
    if (!check_that(k->candidates.size <= k->capacity, "candidates %lld", (long long)k->candidates.size))
        return 0;
    for (int64_t t = c->first; t < c->last; t++, keys += c->experts)
        if (!check_row(k, keys, t, &at))
            return 0;
    check_that(at == k->candidates.size, "tokens hold %lld of %lld candidates", (long long)at,
               (long long)k->candidates.size);
    return 1;
}

static void check_collect_logits(rows_case *c) {
    random_state *r = &run.random;
    const size_t n = (size_t)(c->last - c->first) * (size_t)c->experts;
    float *keys = reference_keys(c, collected_key(c));
    const float low = some_bound(keys, n);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_collect_logits, c->dtype));) {
        const int ample = random_below(r, 3) != 0;
        char more[96];
        op_case k = case_of(c, collected_key(c));
        k.low = low;
        k.capacity = ample ? (int64_t)n : random_below(r, (uint32_t)n + 1);
        k.min = (int32_t)(random_below(r, 2) ? random_below(r, 17) : 0);
        snprintf(more, sizeof more, "low %.9g min %d capacity %lld", (double)low, (int)k.min, (long long)k.capacity);
        describe(c, row->name, more);
        case_place(&k, SEQTOPK_OP_collect_logits);
        case_call(&k, row);
        check_collected(c, &k, keys, ample);
    }
    free(keys);
}

/* Groups, as rough keys can decide them, or none. */
static void choose_groups_of(const rows_case *c, op_case *k) {
    static const int32_t counts[] = {2, 4, 8, 16, 64};
    k->groups = k->group_top_k = k->group_n = 1;
    const int32_t groups = counts[random_below(&run.random, 5)];
    if (c->experts % groups || c->experts == groups || random_below(&run.random, 2))
        return;
    k->groups = groups;
    k->group_n = k->rows.bias ? 1 + (int32_t)random_below(&run.random, 2) : 1;
    k->group_top_k = 1 + (int32_t)random_below(&run.random, (uint32_t)groups);
}

/* Keys after groups, by the reference; without a bias groups are told by their logits. */
static void mask_keys(rows_case *c, op_case k, float *keys) {
    if (k.groups == 1)
        return;
    float *logits = k.rows.key == SEQTOPK_KEY_LOGPROB ? reference_keys(c, SEQTOPK_KEY_LOGIT) : NULL;
    k.values = keys;
    k.scores = logits;
    k.work = check_alloc(2 * (size_t)c->experts, sizeof(float));
    describe(c, "the reference's groups", "");
    case_call(&k, check_reference(SEQTOPK_OP_mask_groups, SEQTOPK_DTYPE_F32));
    free(k.work);
    free(logits);
}

/* What collect_scores asks for where rough keys do not do. */
static const float *whole_keys;

static void give_row_keys(const void *context, int64_t token, float *keys) {
    const op_case *k = context;
    memcpy(keys, whole_keys + (token - k->first) * k->experts, (size_t)k->experts * sizeof *keys);
}

static void check_collect_scores_of(rows_case *c, const float *bias) {
    random_state *r = &run.random;
    const float *given = c->rows.bias;
    const size_t n = (size_t)(c->last - c->first) * (size_t)c->experts;
    c->rows.bias = bias;
    const seqtopk_key key = bias ? SEQTOPK_KEY_SCORE : collected_key(c);
    float *keys = reference_keys(c, key);
    op_case k = case_of(c, key);
    do {
        choose_groups_of(c, &k);
    } while (!bias && k.groups == 1 && c->experts % 2 == 0 && c->experts > 2);
    if (bias || k.groups > 1) {
        mask_keys(c, k, keys);
        whole_keys = keys;
        k.row_keys = give_row_keys;
        const float low = some_bound(keys, n);
        for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_collect_scores, c->dtype));) {
            const int ample = random_below(r, 3) != 0;
            char more[128];
            k.low = low;
            k.fit = 1 + random_below(r, 20);
            k.capacity = ample ? (int64_t)n : random_below(r, (uint32_t)n + 1);
            k.min = (int32_t)(random_below(r, 2) ? random_below(r, 17) : 0);
            snprintf(more, sizeof more, "low %.9g min %d capacity %lld groups %d keep %d by %d", (double)low,
                     (int)k.min, (long long)k.capacity, (int)k.groups, (int)k.group_top_k, (int)k.group_n);
            describe(c, row->name, more);
            case_place(&k, SEQTOPK_OP_collect_scores);
            case_call(&k, row);
            check_collected(c, &k, keys, ample);
        }
    }
    c->rows.bias = given;
    free(keys);
}

static void check_collect_scores(rows_case *c) {
    check_collect_scores_of(c, NULL);
    if (c->rows.bias)
        check_collect_scores_of(c, c->rows.bias);
}

static void check_collect_short(rows_case *c) {
    const int64_t rows = c->last - c->first, n = rows * c->experts;
    if (rows == 0)
        return;
    float *keys = reference_keys(c, collected_key(c));
    int64_t budget = 1 + random_below(&run.random, 16 * (uint32_t)rows), candidates = 0;
    for (int64_t i = 0; i < n; i++)
        candidates += keys[i] != -INFINITY;
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_collect_short, c->dtype));) {
        char more[64];
        op_case k = case_of(c, collected_key(c));
        k.low = NAN;
        k.capacity = n;
        k.budget = budget;
        k.select = (seqtopk_select_keys_fn *)check_reference(SEQTOPK_OP_select_keys, SEQTOPK_DTYPE_F32)->function;
        snprintf(more, sizeof more, "budget %lld", (long long)budget);
        describe(c, row->name, more);
        case_place(&k, SEQTOPK_OP_collect_short);
        case_call(&k, row);
        if (check_collected(c, &k, keys, 1))
            check_that(k.candidates.size >= (budget < candidates ? budget : candidates), "candidates %lld of %lld",
                       (long long)k.candidates.size, (long long)candidates);
    }
    free(keys);
}

/* ------------------------------------------------------------------ topk -- */

typedef struct topk_lists {
    int32_t *offsets, *ids;
    float *keys;
    int64_t from, at; /* places */
} topk_lists;

/* The first k of a row, marked; `apart` tells equal ones, unless it is NULL. */
static void mark_slowly(const double *x, const double *apart, int32_t experts, int32_t top_k, unsigned char *taken) {
    memset(taken, 0, (size_t)experts);
    for (int32_t k = 0; k < top_k; k++) {
        int32_t best = -1;
        for (int32_t e = 0; e < experts; e++)
            if (!taken[e] && x[e] != -INFINITY &&
                (best < 0 || x[e] > x[best] || (apart && x[e] == x[best] && apart[e] > apart[best])))
                best = e;
        if (best >= 0)
            taken[best] = 1;
    }
}

/* What each token keeps: its first k by x, ids ascending, with keys (x - shift) - lse for softmax, else x. */
static topk_lists expect_topk(const rows_case *c, int32_t top_k) {
    const size_t most = (size_t)(c->last - c->first) * (size_t)top_k + 16;
    unsigned char *taken = check_alloc((size_t)c->experts, 1);
    topk_lists l = {check_alloc((size_t)c->tokens, 4), check_alloc(most, 4), check_alloc(most, 4), 0, 0};
    l.from = l.at = random_below(&run.random, 9);
    for (int64_t t = c->first; t < c->last; t++) {
        const double *x = c->problem.x + t * c->experts;
        mark_slowly(x, NULL, c->experts, top_k, taken);
        l.offsets[t] = (int32_t)l.at;
        for (int32_t e = 0; e < c->experts; e++) {
            if (!taken[e])
                continue;
            l.ids[l.at] = e;
            l.keys[l.at++] =
                c->score == SEQTOPK_SCORE_SOFTMAX ? log_probability_of(x[e], c->shift[t], c->lse[t]) : (float)x[e];
        }
    }
    free(taken);
    return l;
}

static void check_topk_lists(const rows_case *c, const seqtopk_lists *to, const topk_lists *right) {
    const int64_t from = right->from, at = right->at;
    check_that(memcmp(to->offsets + c->first, right->offsets + c->first, (size_t)(c->last - c->first) * 4) == 0,
               "offsets are wrong");
    check_that(is_alone(to->offsets, 4, c->first, c->last, c->tokens), "wrote offsets of other tokens");
    check_that(memcmp(to->ids + from, right->ids + from, (size_t)(at - from) * 4) == 0, "ids are wrong");
    /* -0 and +0 are one key. */
    for (int64_t i = from; i < at; i++)
        check_that(to->keys[i] == right->keys[i], "key %lld is %.9g, not %.9g", (long long)i, (double)to->keys[i],
                   (double)right->keys[i]);
    check_that(check_is_rubbish(to->ids, (size_t)from * 4) && check_is_rubbish(to->keys, (size_t)from * 4),
               "wrote before the first place");
}

static void check_topk_row_of(const rows_case *c, op_case *k, const seqtopk_row *row, const topk_lists *right) {
    char more[96];
    snprintf(more, sizeof more, "top_k %d from %lld end %lld", (int)k->top_k, (long long)k->from, (long long)k->end);
    describe(c, row->name, more);
    case_place(k, row->op);
    case_call(k, row);
    check_that(case_intact(), "wrote beside its memory");
    if (!check_that(k->candidates.size >= 0, "found no space where there is space for all"))
        return;
    if (check_that(k->at == right->at, "ended at %lld, not %lld", (long long)k->at, (long long)right->at))
        check_topk_lists(c, &k->lists, right);
}

/* The token's pairs as they should be: what a kernel does with rows that it leaves to how->list_row. */
static const topk_lists *whole_rows;

static int64_t list_whole_row(const void *context, int64_t token, int64_t at) {
    const op_case *k = context;
    const int64_t from = whole_rows->offsets[token];
    const int64_t n = (token + 1 < k->last ? whole_rows->offsets[token + 1] : whole_rows->at) - from;
    memcpy(k->lists.ids + at, whole_rows->ids + from, (size_t)n * sizeof(int32_t));
    memcpy(k->lists.keys + at, whole_rows->keys + from, (size_t)n * sizeof(float));
    if (k->lists.scores)
        memcpy(k->lists.scores + at, whole_rows->keys + from, (size_t)n * sizeof(float));
    return at + n;
}

/* What each token keeps: its first k by keys [last - first, E], ids ascending, with scores. */
static topk_lists expect_topk_scores(const rows_case *c, seqtopk_key key, int32_t top_k, const float *keys,
                                     const float *scores) {
    const size_t most = (size_t)(c->last - c->first) * (size_t)top_k + 16;
    unsigned char *taken = check_alloc((size_t)c->experts, 1);
    double *x = check_alloc((size_t)c->experts, sizeof *x);
    topk_lists l = {check_alloc((size_t)c->tokens, 4), check_alloc(most, 4), check_alloc(most, 4), 0, 0};
    l.from = l.at = random_below(&run.random, 9);
    for (int64_t t = c->first; t < c->last; t++, keys += c->experts, scores += c->experts) {
        for (int32_t e = 0; e < c->experts; e++)
            x[e] = (double)keys[e];
        mark_slowly(x, key == SEQTOPK_KEY_LOGPROB ? c->problem.x + t * c->experts : NULL, c->experts, top_k, taken);
        l.offsets[t] = (int32_t)l.at;
        for (int32_t e = 0; e < c->experts; e++)
            if (taken[e]) {
                l.ids[l.at] = e;
                l.keys[l.at++] = scores[e];
            }
    }
    free(taken);
    free(x);
    return l;
}

static void check_topk_scores_of(rows_case *c, const float *bias, seqtopk_key key) {
    static const int32_t top_ks[] = {1, 2, 3, 4, 6, 8, 9, 12, 16, 22, 33, 64};
    const float *given = c->rows.bias;
    const int32_t wish = top_ks[random_below(&run.random, 12)];
    c->rows.bias = NULL;
    float *scores = reference_keys(c, SEQTOPK_KEY_SCORE);
    c->rows.bias = bias;
    float *keys = reference_keys(c, key);
    op_case k = case_of(c, key);
    choose_groups_of(c, &k);
    mask_keys(c, k, keys);
    k.top_k = wish < c->experts ? wish : c->experts;
    topk_lists right = expect_topk_scores(c, key, k.top_k, keys, scores);
    whole_rows = &right;
    k.from = right.from;
    k.fit = 1 + random_below(&run.random, 20);
    k.list_row = list_whole_row;
    k.wants_scores = (int)random_below(&run.random, 2);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_topk_scores, c->dtype));) {
        k.end = right.at + (random_below(&run.random, 2) ? 0 : random_below(&run.random, 40));
        check_topk_row_of(c, &k, row, &right);
        check_that(k.returned == -1, "found a bad row, %lld, where there is none", (long long)k.returned);
        check_that(!k.lists.scores || memcmp(k.lists.scores + k.from, k.lists.keys + k.from,
                                             (size_t)(right.at - right.from) * sizeof(float)) == 0,
                   "listed scores are other ones");
        if (c->score == SEQTOPK_SCORE_SOFTMAX)
            check_normalisers(c, &k.rows);
    }
    c->rows.bias = given;
    free(keys);
    free(scores);
    free(right.offsets);
    free(right.ids);
    free(right.keys);
}

static void check_topk_scores(rows_case *c) {
    check_topk_scores_of(c, NULL, SEQTOPK_KEY_LOGIT);
    if (c->score == SEQTOPK_SCORE_SOFTMAX)
        check_topk_scores_of(c, NULL, SEQTOPK_KEY_LOGPROB);
    if (c->rows.bias)
        check_topk_scores_of(c, c->rows.bias, SEQTOPK_KEY_SCORE);
}

static void check_topk(rows_case *c) {
    static const int32_t top_ks[] = {1, 2, 4, 6, 8, 10, 16};
    const int32_t wish = top_ks[random_below(&run.random, 7)];
    op_case k = case_of(c, SEQTOPK_KEY_LOGIT);
    k.top_k = wish < c->experts ? wish : c->experts;
    topk_lists right = expect_topk(c, k.top_k);
    k.capacity = (c->last - c->first) * c->experts;
    k.from = right.from;
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_topk_logits, c->dtype));) {
        k.end = right.at + (random_below(&run.random, 2) ? 0 : random_below(&run.random, 40));
        check_topk_row_of(c, &k, row, &right);
        if (k.candidates.size < 0)
            continue;
        check_that(k.returned == -1, "found a bad row, %lld, where there is none", (long long)k.returned);
        check_that(!k.lists.scores || memcmp(k.lists.scores + k.from, k.lists.keys + k.from,
                                             (size_t)(right.at - right.from) * sizeof(float)) == 0,
                   "listed scores are other ones");
        if (c->score == SEQTOPK_SCORE_SOFTMAX)
            check_normalisers(c, &k.rows);
    }
    free(right.offsets);
    free(right.ids);
    free(right.keys);
}

static void check_rows_case(int32_t experts, int32_t count, int turn) {
    rows_case c;
    make_case(&c, experts, count, turn);
    for (int score = SEQTOPK_SCORE_SOFTMAX; score <= SEQTOPK_SCORE_LOGITS; score++) {
        set_score(&c, score);
        check_lse(&c);
        check_bad_rows(&c);
        if (score == SEQTOPK_SCORE_SOFTMAX)
            check_keys(&c, SEQTOPK_KEY_LOGPROB);
        check_collect_logits(&c);
        check_collect_scores(&c);
        check_collect_short(&c);
        check_topk(&c);
        check_topk_scores(&c);
        if (score == turn % 4)
            check_keys(&c, SEQTOPK_KEY_LOGIT);
        check_keys(&c, SEQTOPK_KEY_SCORE);
        check_weights(&c);
    }
    check_prepare(&c);
    free_case(&c);
}

/* Every E with every number of rows; as many kinds of logits to each as its size leaves time for, in turn. */
void check_rows(void) {
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
