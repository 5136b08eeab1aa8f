/* SPDX-License-Identifier: MIT */
/* Kernels of the expert-major lists: histogram and scatter. */
#include "cases.h"
#include "check.h"

#include <stdlib.h>
#include <string.h>

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

static void check_histogram(const lists *l, op_case c) {
    int32_t *before = check_alloc((size_t)l->experts, 4);
    for (int32_t e = 0; e < l->experts; e++)
        before[e] = 1000 + e;
    c.begin = before;
    c.pair_ids += l->offsets[l->first];
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_histogram, -1));) {
        int right = 1;
        describe_lists(row, l, 1, 0);
        case_place(&c, row->op);
        case_call(&c, row);
        for (int32_t e = 0; e < l->experts; e++)
            right &= c.numbers[e] == before[e] + l->histogram[e];
        check_that(right && case_intact(), "the histogram is wrong");
    }
    free(before);
}

/* The tokens of one part, whose pairs begin at `cursors`; these are moved on. */
static void scatter_part(const seqtopk_row *row, const lists *l, op_case *c, int32_t *cursors) {
    c->begin = cursors;
    case_place(c, row->op);
    case_call(c, row);
    for (int32_t i = l->offsets[c->first]; i < l->offsets[c->last]; i++)
        cursors[l->ids[i]]++;
    check_that(memcmp(c->numbers, cursors, (size_t)l->experts * 4) == 0,
               "the cursors did not move to the end of their experts");
    check_that(case_intact(), "wrote beside the cursors or the work");
}

static void check_scattered(const lists *l, int wanted, const int32_t *tokens, const int32_t *slots) {
    const size_t bytes = l->pairs * 4;
    check_that(wanted & 1 ? memcmp(tokens, l->expected_tokens, bytes) == 0 : check_is_rubbish(tokens, bytes),
               "the tokens are wrong");
    check_that(wanted & 2 ? memcmp(slots, l->expected_slots, bytes) == 0 : check_is_rubbish(slots, bytes),
               "the slots are wrong");
    check_that(case_intact(), "wrote beside a list");
}

/* Each of the two lists may be unwanted. */
static void check_scatter(const lists *l, op_case c) {
    int32_t *cursors = check_alloc((size_t)l->experts, 4);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_scatter, -1));)
        for (int wanted = 0; wanted < 4; wanted++) {
            const int parts = random_below(&run.random, 2) ? 1 : 3;
            int32_t *tokens = case_memory(CASE_EXPERT_TOKENS, l->pairs, 4);
            int32_t *slots = case_memory(CASE_EXPERT_SLOTS, l->pairs, 4);
            describe_lists(row, l, parts, wanted);
            c.expert_tokens = wanted & 1 ? tokens : NULL;
            c.expert_slots = wanted & 2 ? slots : NULL;
            memcpy(cursors, l->begins, (size_t)l->experts * 4);
            c.last = l->first;
            for (int part = 0; part < parts; part++) {
                c.first = c.last;
                c.last = part == parts - 1 ? l->last
                                           : c.first + random_below(&run.random, (uint32_t)(l->last - c.first) + 1);
                scatter_part(row, l, &c, cursors);
            }
            check_scattered(l, wanted, tokens, slots);
        }
    free(cursors);
}

static void check_lists_case(int32_t experts, int32_t tokens, uint32_t share, int whole) {
    lists l;
    make_lists(&l, experts, tokens, share, whole);
    expect_lists(&l);
    const op_case c = {.experts = experts,
                       .n = (int64_t)l.pairs,
                       .pair_offsets = case_copy(CASE_PAIR_OFFSETS, l.offsets, (size_t)tokens + 1, 4),
                       .pair_ids = case_copy(CASE_PAIR_IDS, l.ids, (size_t)l.offsets[tokens], 4)};
    case_freeze(CASE_PAIR_OFFSETS);
    case_freeze(CASE_PAIR_IDS);
    check_histogram(&l, c);
    check_scatter(&l, c);
    free_lists(&l);
}

void check_lists(void) {
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
