/* SPDX-License-Identifier: MIT */
/*
 * NaN, of every payload and sign, at every place. A kernel that reads logits must name the row, and a route must refuse
 * it; a kernel that reads keys, which never are NaN, need not make sense of one, but must return and stay in bounds.
 */
#include "bits.h"
#include "check.h"
#include "guard.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { MOST_ROWS = 36, MOST_EXPERTS = 160 };

static guard g_logits, g_shift, g_lse, g_keys, g_ids, g_counts, g_words, g_offsets, g_list_ids, g_list_keys, g_work;
static guard *const guards[] = {&g_logits, &g_shift,   &g_lse,      &g_keys,      &g_ids, &g_counts,
                                &g_words,  &g_offsets, &g_list_ids, &g_list_keys, &g_work};

static uint32_t below(uint32_t n) { return random_below(&run.random, n); }

static void check_guards(void) {
    int intact = 1;
    for (size_t i = 0; i < COUNT(guards); i++)
        intact &= guard_intact(guards[i]);
    check_that(intact, "wrote beside its memory");
}

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
    void *logits = check_place(&g_logits, cells, element);
    random_logits(&run.random, kinds[below(COUNT(kinds))], dtype, logits, (size_t)c->tokens, (size_t)c->experts,
                  (size_t)c->experts);
    /* Bad rows after the first, of any form, are not the ones to be named. */
    if (below(2) && c->bad + 1 < c->tokens)
        make_nan_row(c, logits, c->bad + 1 + below((uint32_t)(c->tokens - c->bad - 1)), below(4));
    make_nan_row(c, logits, c->bad, form);
    guard_freeze(&g_logits);
    c->rows = (seqtopk_rows){.logits = logits, .stride = c->experts * (int64_t)element, .experts = c->experts};
    c->rows.shift = check_place(&g_shift, (size_t)c->tokens, 4);
    c->rows.lse = check_place(&g_lse, (size_t)c->tokens, 4);
}

static seqtopk_candidates place_catch(size_t capacity, size_t counts, int32_t experts) {
    seqtopk_candidates c = {.keys = check_place(&g_keys, capacity + SEQTOPK_CANDIDATES_SLACK, 4),
                       .ids = check_place(&g_ids, capacity + SEQTOPK_CANDIDATES_SLACK, 2),
                       .counts = check_place(&g_counts, counts, 4),
                       .work = check_place(&g_words, SEQTOPK_COLLECT_WORK((size_t)experts), 8),
                       .capacity = (int64_t)capacity};
    c.order = c.keys;
    return c;
}

static seqtopk_lists place_lists(int64_t tokens, size_t pairs) {
    return (seqtopk_lists){.offsets = check_place(&g_offsets, (size_t)tokens + 1, 4),
                           .ids = check_place(&g_list_ids, pairs, 4),
                           .keys = check_place(&g_list_keys, pairs, 4)};
}

static void check_found(const nan_case *c, int64_t found, int64_t size) {
    check_that(size < 0 || found == c->bad, "the bad row is %lld, not %lld", (long long)c->bad, (long long)found);
    check_guards();
}

static void check_logit_kernels(nan_case *c) {
    const size_t cells = (size_t)(c->tokens * c->experts);
    const int32_t few = 1 + (int32_t)below(16), top_k = few < c->experts ? few : c->experts;
    const int64_t pairs = c->tokens * top_k, budget = 1 + below(16 * (uint32_t)c->tokens);
    seqtopk_select_keys_fn *rank = (seqtopk_select_keys_fn *)check_reference(SEQTOPK_OP_select_keys, SEQTOPK_DTYPE_F32)->function;
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_lse, c->dtype));) {
        describe(c, row->name);
        check_found(c, ((seqtopk_lse_fn *)row->function)(&c->rows, 0, c->tokens), 0);
    }
    c->rows.key = c->rows.score == SEQTOPK_SCORE_SOFTMAX ? SEQTOPK_KEY_LOGPROB : SEQTOPK_KEY_LOGIT;
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_collect_logits, c->dtype));) {
        seqtopk_candidates candidates = place_catch(cells, (size_t)c->tokens, c->experts);
        describe(c, row->name);
        const float low = (float)random_normal(&run.random) * 3;
        const int64_t found =
            ((seqtopk_collect_logits_fn *)row->function)(&c->rows, 0, c->tokens, low, (int32_t)below(4), &candidates);
        check_found(c, found, candidates.size);
    }
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_collect_short, c->dtype));) {
        seqtopk_candidates candidates = place_catch(cells, (size_t)c->tokens, c->experts);
        float low, *work = check_place(&g_work, 16 * ((size_t)c->tokens + 4), 4);
        describe(c, row->name);
        const int64_t found =
            ((seqtopk_collect_short_fn *)row->function)(&c->rows, 0, c->tokens, budget, rank, work, &low, &candidates);
        check_found(c, found, candidates.size);
    }
    c->rows.key = SEQTOPK_KEY_LOGIT;
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_topk_logits, c->dtype));) {
        seqtopk_candidates work = place_catch(cells, SEQTOPK_TOPK_COUNTS, c->experts);
        const seqtopk_lists to = place_lists(c->tokens, (size_t)pairs);
        int64_t at = 0;
        describe(c, row->name);
        const int64_t found =
            ((seqtopk_topk_logits_fn *)row->function)(&c->rows, 0, c->tokens, top_k, &work, &to, &at, pairs);
        check_found(c, found, work.size);
    }
}

static void check_patterns(int dtype) {
    const uint32_t all = RANDOM_NANS, random = run.quick ? 200 : 3000;
    for (uint32_t i = 0; i < all + random; i++) {
        nan_case c;
        if (run.quick && i < all && below(8))
            continue;
        make_nan_case(&c, dtype, random_nan(&run.random, dtype, i), i % 2 ? 0 : 1 + below(3));
        for (int score = SEQTOPK_SCORE_SOFTMAX; score <= SEQTOPK_SCORE_LOGITS; score++) {
            c.rows.score = score;
            check_logit_kernels(&c);
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

/* One array of keys, NaNs among them, for kernels that look for the k-th or the first k. */
static void check_nan_array(size_t n, size_t k) {
    float *given = check_alloc(n, 4);
    make_nan_keys(given, n);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_select_keys, -1));) {
        const float *keys = check_place_copy(&g_keys, given, n, 4);
        check_context("%s n %zu k %zu (seed %llu)", row->name, n, k, (unsigned long long)run.seed);
        (void)((seqtopk_select_keys_fn *)row->function)(keys, (int64_t)n, (int64_t)k, check_place(&g_work, n, 4));
        check_guards();
    }
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_nth_keys, -1));) {
        float *keys = check_place_copy(&g_keys, given, n, 4);
        check_context("%s n %zu k %zu (seed %llu)", row->name, n, k, (unsigned long long)run.seed);
        (void)((seqtopk_nth_keys_fn *)row->function)(keys, n, k);
        check_guards();
    }
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_topk_row, -1));) {
        const float *keys = check_place_copy(&g_keys, given, n, 4);
        check_context("%s n %zu k %zu (seed %llu)", row->name, n, k, (unsigned long long)run.seed);
        const int32_t found =
            ((seqtopk_topk_row_fn *)row->function)(keys, (int32_t)n, (int32_t)k, check_place(&g_list_ids, k, 4));
        check_that(found >= 0 && found <= (int32_t)k, "%d of %zu", (int)found, k);
        check_guards();
    }
    free(given);
}

static int ids_in_range(const seqtopk_candidates *c, int32_t experts) {
    for (int64_t i = 0; i < c->size; i++)
        if (c->ids[i] >= experts)
            return 0;
    return 1;
}

/* Rows of keys, NaNs among them, for collect_keys, topk_keys, bound_candidates and list_candidates. */
static void check_nan_rows(int32_t experts, int64_t tokens) {
    const size_t cells = (size_t)(experts * tokens);
    const int32_t few = 1 + (int32_t)below(16), top_k = few < experts ? few : experts;
    const int64_t pairs = tokens * top_k;
    float *given = check_alloc(cells, 4);
    make_nan_keys(given, cells);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_collect_keys, -1));) {
        seqtopk_candidates candidates = place_catch(cells, (size_t)tokens, experts);
        check_context("%s E %d T %d (seed %llu)", row->name, (int)experts, (int)tokens, (unsigned long long)run.seed);
        ((seqtopk_collect_keys_fn *)row->function)(check_place_copy(&g_logits, given, cells, 4), experts, 0, tokens,
                                              below(2) ? -1.0f : 1.0f, &candidates);
        check_that(candidates.size <= (int64_t)cells && ids_in_range(&candidates, experts), "candidates what is no expert");
        check_guards();
        if (candidates.size < 0)
            continue;
        candidates.order = check_place(&g_work, cells + SEQTOPK_CANDIDATES_SLACK, 4);
        for (const seqtopk_row *trim = NULL; (trim = check_next(trim, SEQTOPK_OP_bound_candidates, -1));) {
            check_context("%s E %d T %d (seed %llu)", trim->name, (int)experts, (int)tokens,
                          (unsigned long long)run.seed);
            ((seqtopk_bound_candidates_fn *)trim->function)(&candidates, 0, tokens, (int32_t)below((uint32_t)few), few);
            check_guards();
        }
        for (const seqtopk_row *filter = NULL; (filter = check_next(filter, SEQTOPK_OP_list_candidates, -1));) {
            const seqtopk_lists to = place_lists(tokens, (size_t)candidates.size);
            check_context("%s E %d T %d (seed %llu)", filter->name, (int)experts, (int)tokens,
                          (unsigned long long)run.seed);
            (void)((seqtopk_list_candidates_fn *)filter->function)(&candidates, 0, tokens, below(2) ? NAN : 0.0f, 1, &to, 0,
                                                          candidates.size);
            check_guards();
        }
    }
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_topk_keys, -1));) {
        seqtopk_candidates work = place_catch(cells, SEQTOPK_TOPK_COUNTS, experts);
        const seqtopk_lists to = place_lists(tokens, (size_t)pairs);
        int64_t at = 0;
        check_context("%s E %d T %d K %d (seed %llu)", row->name, (int)experts, (int)tokens, (int)top_k,
                      (unsigned long long)run.seed);
        ((seqtopk_topk_keys_fn *)row->function)(check_place_copy(&g_logits, given, cells, 4), experts, 0, tokens, top_k,
                                             &work, &to, &at, pairs);
        check_guards();
    }
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_mask_groups, -1));) {
        const int32_t groups = experts % 4 ? 1 : 4, group_n = experts / groups > 1 ? 2 : 1;
        float *keys = check_place_copy(&g_logits, given, (size_t)experts, 4);
        check_context("%s E %d (seed %llu)", row->name, (int)experts, (unsigned long long)run.seed);
        ((seqtopk_mask_groups_fn *)row->function)(keys, keys, experts, groups, group_n, 1,
                                             check_place(&g_work, 2 * (size_t)experts, 4));
        check_guards();
    }
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_list_keys, -1));) {
        const seqtopk_cut cut = {below(2) ? NAN : 0.0f, experts, 1};
        const float *keys = check_place_copy(&g_logits, given, (size_t)experts, 4);
        check_context("%s E %d (seed %llu)", row->name, (int)experts, (unsigned long long)run.seed);
        (void)((seqtopk_list_keys_fn *)row->function)(keys, experts, 0, &cut, check_place(&g_list_ids, (size_t)experts, 4));
        check_guards();
    }
    free(given);
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
    for (size_t i = 0; i < COUNT(guards); i++) {
        guard_open(guards[i], (MOST_EXPERTS * MOST_ROWS + SEQTOPK_CANDIDATES_SLACK) * sizeof(uint64_t) + 512);
        guard_place(guards[i], 0, GUARD_END, 0);
    }
    for (int dtype = SEQTOPK_DTYPE_F32; dtype <= SEQTOPK_DTYPE_F16; dtype++)
        check_patterns(dtype);
    check_nan_keys();
    for (size_t i = 0; i < COUNT(guards); i++)
        guard_close(guards[i]);
}
