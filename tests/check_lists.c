/* SPDX-License-Identifier: MIT */
/* Kernels of the expert-major lists: count and scatter. */
#include "check.h"
#include "guard.h"

#include <stdlib.h>
#include <string.h>

static guard g_out, g_ids, g_offsets, g_work, g_tokens, g_slots;

/* Token-major lists, and what is made of the pairs of tokens [first, last). */
typedef struct lists {
    int32_t experts, tokens, first, last;
    int32_t *offsets, *ids; /* [tokens + 1], [offsets[tokens]] */
    size_t pairs;
    int32_t *histogram, *begins;               /* [experts] */
    int32_t *expected_tokens, *expected_slots; /* [pairs] */
} lists;

static void describe_lists(const seqtopk_row *row, const lists *l, int parts, int wanted) {
    check_context("%s E %d tokens [%d, %d) of %d pairs %zu parts %d wanted %d (seed %llu)", row->name, (int)l->experts,
                  (int)l->first, (int)l->last, (int)l->tokens, l->pairs, parts, wanted, (unsigned long long)run.seed);
}

/* A pair in `share` is there; few tokens are left out at either end if `whole`. */
static void make_lists(lists *l, int32_t experts, int32_t tokens, uint32_t share, int whole) {
    random_state *r = &run.random;
    int32_t at = (int32_t)random_below(r, 4);
    *l = (lists){.experts = experts, .tokens = tokens};
    l->offsets = check_alloc((size_t)tokens + 1, 4);
    l->ids = check_alloc((size_t)tokens * (size_t)experts + 3, 4);
    for (int32_t t = 0; t < tokens; t++) {
        l->offsets[t] = at;
        for (int32_t e = 0; e < experts; e++)
            if (random_below(r, share) == 0)
                l->ids[at++] = e;
    }
    l->offsets[tokens] = at;
    l->first = (int32_t)random_below(r, whole ? 3 : (uint32_t)tokens + 1);
    l->last = whole ? tokens - (int32_t)random_below(r, 3)
                    : l->first + (int32_t)random_below(r, (uint32_t)(tokens - l->first) + 1);
    l->pairs = (size_t)(l->offsets[l->last] - l->offsets[l->first]);
}

static void expect_lists(lists *l) {
    l->histogram = check_alloc((size_t)l->experts, 4);
    l->begins = check_alloc((size_t)l->experts, 4);
    l->expected_tokens = check_alloc(l->pairs, 4);
    l->expected_slots = check_alloc(l->pairs, 4);
    int32_t n = 0;
    for (int32_t e = 0; e < l->experts; e++) {
        l->begins[e] = n;
        for (int32_t t = l->first; t < l->last; t++)
            for (int32_t i = l->offsets[t]; i < l->offsets[t + 1]; i++)
                if (l->ids[i] == e) {
                    l->expected_tokens[n] = t;
                    l->expected_slots[n++] = i;
                }
        l->histogram[e] = n - l->begins[e];
    }
}

static void free_lists(lists *l) {
    free(l->offsets);
    free(l->ids);
    free(l->histogram);
    free(l->begins);
    free(l->expected_tokens);
    free(l->expected_slots);
}

static void check_count(const lists *l, const int32_t *ids) {
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_histogram, -1));) {
        describe_lists(row, l, 1, 0);
        int32_t *counts = check_place(&g_out, (size_t)l->experts, 4), right = 1;
        for (int32_t e = 0; e < l->experts; e++)
            counts[e] = 1000 + e;
        ((seqtopk_histogram_fn *)row->function)(ids + l->offsets[l->first], (int64_t)l->pairs, counts);
        for (int32_t e = 0; e < l->experts; e++)
            right &= counts[e] == 1000 + e + l->histogram[e];
        check_that(right && guard_intact(&g_out), "the histogram is wrong");
    }
}

/* The tokens [first, last) of one part, whose pairs begin at `cursors`; these are moved on. */
static void scatter_part(const seqtopk_row *row, const lists *l, const int32_t *offsets, const int32_t *ids,
                         int32_t first, int32_t last, int32_t *cursors, int32_t *tokens, int32_t *slots) {
    int32_t *moving = check_place_copy(&g_out, cursors, (size_t)l->experts, 4), right = 1;
    int32_t *work = check_place(&g_work, (size_t)l->experts, 4);
    ((seqtopk_scatter_fn *)row->function)(offsets, ids, first, last, l->experts, moving, work, tokens, slots);
    for (int32_t i = l->offsets[first]; i < l->offsets[last]; i++)
        cursors[l->ids[i]]++;
    for (int32_t e = 0; e < l->experts; e++)
        right &= moving[e] == cursors[e];
    check_that(right, "the cursors did not move to the end of their experts");
    check_that(guard_intact(&g_out) && guard_intact(&g_work), "wrote beside the cursors or the work");
}

/* Each of the two lists may be unwanted. */
static void check_scatter(const lists *l, const int32_t *offsets, const int32_t *ids) {
    int32_t *cursors = check_alloc((size_t)l->experts, 4);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_scatter, -1));)
        for (int wanted = 0; wanted < 4; wanted++) {
            const int parts = random_below(&run.random, 2) ? 1 : 3;
            describe_lists(row, l, parts, wanted);
            int32_t *tokens = check_place(&g_tokens, l->pairs, 4), *slots = check_place(&g_slots, l->pairs, 4);
            memcpy(cursors, l->begins, (size_t)l->experts * 4);
            for (int32_t part = 0, from = l->first, to; part < parts; part++, from = to) {
                to = part == parts - 1 ? l->last
                                       : from + (int32_t)random_below(&run.random, (uint32_t)(l->last - from) + 1);
                scatter_part(row, l, offsets, ids, from, to, cursors, wanted & 1 ? tokens : NULL,
                             wanted & 2 ? slots : NULL);
            }
            check_that(wanted & 1 ? memcmp(tokens, l->expected_tokens, l->pairs * 4) == 0
                                  : check_is_rubbish(tokens, l->pairs * 4),
                       "the tokens are wrong");
            check_that(wanted & 2 ? memcmp(slots, l->expected_slots, l->pairs * 4) == 0
                                  : check_is_rubbish(slots, l->pairs * 4),
                       "the slots are wrong");
            check_that(guard_intact(&g_tokens) && guard_intact(&g_slots), "wrote beside a list");
        }
    free(cursors);
}

static void check_lists_case(int32_t experts, int32_t tokens, uint32_t share, int whole) {
    lists l;
    make_lists(&l, experts, tokens, share, whole);
    expect_lists(&l);
    const int32_t *offsets = check_place_copy(&g_offsets, l.offsets, (size_t)tokens + 1, 4);
    const int32_t *ids = check_place_copy(&g_ids, l.ids, (size_t)l.offsets[tokens], 4);
    guard_freeze(&g_offsets);
    guard_freeze(&g_ids);
    check_count(&l, ids);
    check_scatter(&l, offsets, ids);
    free_lists(&l);
}

static void walk_lists(void) {
    for (size_t i = 0; i < CHECK_EXPERT_COUNTS; i++)
        for (size_t j = 0; j < CHECK_ROW_COUNTS; j++) {
            if (check_expert_counts[i] > 600 && check_row_counts[j] > 3)
                continue;
            check_lists_case(check_expert_counts[i], check_row_counts[j], 1, 0);
            check_lists_case(check_expert_counts[i], check_row_counts[j], 8, 0);
        }
    /* Long enough for kernels that go by lines, by blocks, or by what 16 bits can count. */
    for (int32_t tokens = 50; tokens < 900; tokens += 97)
        check_lists_case(1 + (int32_t)random_below(&run.random, 40), tokens, 5, 1);
    check_lists_case(2, 70000, 1, 1);
    check_lists_case(64, 70001, 64, 1);
    check_lists_case(40, 6000, 2, 1);
    check_lists_case(2500, 60, 1, 1);
}

void check_lists(void) {
    const size_t bytes = (size_t)150 * 1024 * sizeof(int32_t);
    guard *const all[] = {&g_out, &g_ids, &g_offsets, &g_work, &g_tokens, &g_slots};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        guard_open(all[i], bytes);
    walk_lists();
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        guard_close(all[i]);
}
