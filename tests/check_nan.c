/* SPDX-License-Identifier: MIT */
/*
 * NaN, of every payload and sign, at every place. A kernel that reads logits must name the row, and a route must refuse
 * it; a kernel that reads keys, which never are NaN, need not make sense of one, but must return and stay in bounds.
 */
#include "bits.h"
#include "cases.h"
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { MOST_ROWS = 36, MOST_EXPERTS = 160 };

static uint32_t below(uint32_t n) { return random_below(&run.random, n); }

static void check_guards(void) { check_that(case_intact(), "wrote beside its memory"); }

/* ---------------------------------------------------- kernels of logits -- */

typedef struct nan_case {
    seqtopk_rows rows;
    int dtype;
    uint32_t pattern;
    int64_t tokens, bad; /* the row with NaNs */
    int32_t experts;
    const char *form;
} nan_case;

static void describe(const nan_case *c, const char *kernel) {
    check_context("%s score %d E %d T %lld NaN %#x in row %lld, %s (seed %llu)", kernel, (int)c->rows.score,
                  (int)c->experts, (long long)c->tokens, (unsigned)c->pattern, (long long)c->bad, c->form,
                  (unsigned long long)run.seed);
}

/* A row with one NaN, with NaNs in most places, with NaNs and then -inf, or with NaNs up to a rising end. */
static void make_nan_row(nan_case *c, void *logits, int64_t token, uint32_t form) {
    const size_t row = (size_t)token * (size_t)c->experts;
    const uint32_t experts = (uint32_t)c->experts, one = below(4) ? below(experts) : below(2) * (experts - 1);
    static const char *const names[] = {"one", "most", "then -inf", "then rising"};
    c->form = names[form];
    for (uint32_t e = 0; e < experts; e++) {
        if (form == 0 ? e == one : form == 1 ? e == one || below(8) : e < 14 + below(3) || e == 0)
            random_store_bits(logits, c->dtype, row + e, c->pattern);
        else if (form == 2)
            random_store(logits, c->dtype, row + e, -INFINITY);
        else if (form == 3)
            random_store(logits, c->dtype, row + e, (float)e * 0.125f);
    }
}

static void make_nan_case(nan_case *c, int dtype, uint32_t pattern, uint32_t form) {
    static const int32_t experts[] = {1, 2, 7, 15, 16, 17, 31, 33, 40, 64, 65, 100, 128, MOST_EXPERTS};
    static const int64_t tokens[] = {1, 2, 3, 4, 5, 16, 17, 35};
    memset(c, 0, sizeof *c);
    c->dtype = dtype;
    c->pattern = pattern;
    c->experts = experts[below(COUNT(experts))];
    c->tokens = tokens[below(COUNT(tokens))];
    c->bad = below((uint32_t)c->tokens);
    const size_t cells = (size_t)(c->tokens * c->experts), element = dtype == SEQTOPK_DTYPE_F32 ? 4 : 2;
    const random_kind kinds[] = {RANDOM_NORMAL, RANDOM_FEW, RANDOM_EXCLUDED, RANDOM_OFFSET};
    void *logits = case_memory(CASE_LOGITS, cells, element);
    random_logits(&run.random, kinds[below(COUNT(kinds))], dtype, logits, (size_t)c->tokens, (size_t)c->experts,
                  (size_t)c->experts);
    /* Bad rows after the first, of any form, are not the ones to be named. */
    if (below(2) && c->bad + 1 < c->tokens)
        make_nan_row(c, logits, c->bad + 1 + below((uint32_t)(c->tokens - c->bad - 1)), below(4));
    make_nan_row(c, logits, c->bad, form);
    case_freeze(CASE_LOGITS);
    c->rows = (seqtopk_rows){.logits = logits, .stride = c->experts * (int64_t)element, .experts = c->experts};
}

/* For rows that topk_scores leaves to its caller: which are none of the bad ones. */
static int64_t list_nothing(const void *context, int64_t token, int64_t at) {
    (void)context, (void)token;
    return at;
}

static void give_no_keys(const void *context, int64_t token, float *keys) {
    const op_case *c = context;
    (void)token;
    for (int32_t e = 0; e < c->experts; e++)
        keys[e] = -INFINITY;
}

static void check_logit_kernels(const nan_case *n, seqtopk_op op) {
    const int32_t few = 1 + (int32_t)below(16);
    op_case c = {.rows = n->rows, .tokens = n->tokens, .last = n->tokens, .experts = n->experts};
    const int by_token = op == SEQTOPK_OP_topk_logits || op == SEQTOPK_OP_topk_scores;
    const int scored = op == SEQTOPK_OP_topk_scores || op == SEQTOPK_OP_collect_scores;
    c.rows.key = !by_token && n->rows.score == SEQTOPK_SCORE_SOFTMAX ? SEQTOPK_KEY_LOGPROB : SEQTOPK_KEY_LOGIT;
    c.capacity = n->tokens * n->experts;
    c.top_k = few < n->experts ? few : n->experts;
    c.end = n->tokens * c.top_k;
    c.fit = 16;
    c.list_row = list_nothing;
    c.groups = c.group_top_k = n->experts % 4 ? 1 : 4;
    c.group_n = 1;
    c.row_keys = give_no_keys;
    if (scored && (below(2) || (op == SEQTOPK_OP_collect_scores && c.groups == 1))) {
        c.rows.bias = case_memory(CASE_BIAS, (size_t)n->experts, sizeof(float));
        random_logits(&run.random, RANDOM_NORMAL, SEQTOPK_DTYPE_F32, (void *)(uintptr_t)c.rows.bias, 1,
                      (size_t)n->experts, (size_t)n->experts);
        c.rows.key = SEQTOPK_KEY_SCORE;
        c.group_top_k = c.groups > 1 ? 2 : 1;
        c.group_n = n->experts > 4 ? 2 : 1;
    }
    c.budget = 1 + below(16 * (uint32_t)n->tokens);
    c.select = (seqtopk_select_keys_fn *)check_reference(SEQTOPK_OP_select_keys, SEQTOPK_DTYPE_F32)->function;
    for (const seqtopk_row *row = NULL; (row = check_next(row, op, n->dtype));) {
        c.low = (float)random_normal(&run.random) * 3;
        c.min = (int32_t)below(4);
        describe(n, row->name);
        case_place(&c, op);
        case_call(&c, row);
        check_that(c.candidates.size < 0 || c.returned == n->bad, "the bad row is %lld, not %lld", (long long)n->bad,
                   (long long)c.returned);
        check_guards();
    }
}

static void check_patterns(int dtype) {
    static const seqtopk_op ops[] = {SEQTOPK_OP_lse,         SEQTOPK_OP_collect_logits, SEQTOPK_OP_collect_short,
                                     SEQTOPK_OP_topk_logits, SEQTOPK_OP_topk_scores,    SEQTOPK_OP_collect_scores};
    const uint32_t all = RANDOM_NANS, random = run.quick ? 200 : 3000;
    for (uint32_t i = 0; i < all + random; i++) {
        nan_case c;
        if (run.quick && i < all && below(8))
            continue;
        make_nan_case(&c, dtype, random_nan(&run.random, dtype, i), i % 2 ? 0 : 1 + below(3));
        for (int score = SEQTOPK_SCORE_SOFTMAX; score <= SEQTOPK_SCORE_LOGITS; score++) {
            c.rows.score = score;
            for (size_t j = 0; j < COUNT(ops); j++)
                check_logit_kernels(&c, ops[j]);
        }
    }
}

/* ------------------------------------------------------ kernels of keys -- */

static void make_nan_keys(float *keys, size_t n) {
    const uint32_t share = 1 + below(20);
    random_logits(&run.random, (random_kind)below(RANDOM_KINDS), SEQTOPK_DTYPE_F32, keys, 1, n, n);
    for (size_t i = 0; i < n; i++)
        if (below(share) == 0)
            keys[i] = float_of(random_nan(&run.random, SEQTOPK_DTYPE_F32, RANDOM_NANS));
}

/* Calls a kernel in fresh memory. */
static void call_one(op_case *c, const seqtopk_row *row, const float *keys, size_t n) {
    check_context("%s n %zu k %lld E %d T %lld K %d (seed %llu)", row->name, n, (long long)c->k, (int)c->experts,
                  (long long)c->last, (int)c->top_k, (unsigned long long)run.seed);
    c->keys = case_copy(CASE_KEYS, keys, n, sizeof *keys);
    case_freeze(CASE_KEYS);
    case_place(c, row->op);
    case_call(c, row);
    check_that(row->op != SEQTOPK_OP_topk_row || (c->returned >= 0 && c->returned <= c->top_k), "%lld of %d",
               (long long)c->returned, (int)c->top_k);
    check_guards();
}

static void call_all(op_case *c, seqtopk_op op, const float *keys, size_t n) {
    for (const seqtopk_row *row = NULL; (row = check_next(row, op, -1));)
        call_one(c, row, keys, n);
}

/* One array of keys, NaNs among them, for kernels that look for the k-th or the first k. */
static void check_nan_array(size_t n, size_t k) {
    float *keys = check_alloc(n, 4);
    make_nan_keys(keys, n);
    op_case c = {.n = (int64_t)n, .k = (int64_t)k, .last = 1, .experts = (int32_t)n, .top_k = (int32_t)k};
    call_all(&c, SEQTOPK_OP_select_keys, keys, n);
    call_all(&c, SEQTOPK_OP_topk_row, keys, n);
    free(keys);
}

static int ids_in_range(const seqtopk_candidates *c, int32_t experts) {
    for (int64_t i = 0; i < c->size; i++)
        if (c->ids[i] >= experts)
            return 0;
    return 1;
}

static void *copy_of(const void *from, size_t bytes) {
    void *to = check_alloc(bytes, 1);
    return bytes ? memcpy(to, from, bytes) : to;
}

/* The kernels that go on with what one of collect_keys caught. */
static void call_on_caught(op_case c, const float *keys, size_t n) {
    const seqtopk_candidates found = c.candidates;
    c.caught = (seqtopk_candidates){.keys = copy_of(found.keys, (size_t)found.size * sizeof *found.keys),
                                    .ids = copy_of(found.ids, (size_t)found.size * sizeof *found.ids),
                                    .counts = copy_of(found.counts, (size_t)c.tokens * sizeof *found.counts),
                                    .size = found.size};
    c.max = 1 + (int32_t)below(16);
    c.min = (int32_t)below((uint32_t)c.max);
    c.end = found.size;
    c.ties = 1;
    call_all(&c, SEQTOPK_OP_bound_candidates, keys, n);
    call_all(&c, SEQTOPK_OP_list_candidates, keys, n);
    free(c.caught.keys);
    free(c.caught.ids);
    free(c.caught.counts);
}

/* Rows of keys, NaNs among them, for collect_keys, bound_candidates and list_candidates. */
static void check_nan_rows(int32_t experts, int64_t tokens) {
    const size_t cells = (size_t)(experts * tokens);
    const int32_t few = 1 + (int32_t)below(16);
    float *keys = check_alloc(cells, 4);
    make_nan_keys(keys, cells);
    op_case c = {.tokens = tokens, .last = tokens, .experts = experts, .capacity = (int64_t)cells};
    c.top_k = few < experts ? few : experts;
    c.end = tokens * c.top_k;
    c.begin = keys;
    c.groups = experts % 4 ? 1 : 4;
    c.group_n = experts / c.groups > 1 ? 2 : 1;
    c.group_top_k = 1;
    c.cut = (seqtopk_cut){below(2) ? NAN : 0.0f, experts, 1};
    call_all(&c, SEQTOPK_OP_mask_groups, keys, cells);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_collect_keys, -1));) {
        c.low = below(2) ? -1.0f : 1.0f;
        call_one(&c, row, keys, cells);
        check_that(c.candidates.size <= c.capacity && ids_in_range(&c.candidates, experts), "caught what is no expert");
        if (c.candidates.size >= 0)
            call_on_caught(c, keys, cells);
    }
    free(keys);
}

static void check_nan_keys(void) {
    const int turns = run.quick ? 60 : 1500;
    for (int i = 0; i < turns; i++) {
        const size_t n = 1 + (size_t)below(below(2) ? 70 : MOST_ROWS * MOST_EXPERTS);
        check_nan_array(n, 1 + (size_t)below((uint32_t)(below(2) ? (n < 16 ? n : 16) : n)));
        check_nan_rows(1 + (int32_t)below(MOST_EXPERTS), 1 + below(MOST_ROWS - 1));
    }
}

void check_nan(void) {
    for (int dtype = SEQTOPK_DTYPE_F32; dtype <= SEQTOPK_DTYPE_F16; dtype++)
        check_patterns(dtype);
    check_nan_keys();
}
