/* SPDX-License-Identifier: MIT */
/* Kernels of the expert-major lists: histogram, offset_experts and scatter. */
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
    int32_t *expected_blocks,
        *expected_rows;       /* [pairs + experts]: one place more for each expert; slots, or places in rows */
    int32_t *expected_places; /* [pairs], from the first pair on */
    int32_t *shifts;          /* [experts] */
    int64_t width;
} lists;

static void describe_lists(const seqtopk_row *row, const lists *l, int parts, int wanted) {
    check_context("%s E %d tokens [%d, %d) of %d pairs %zu parts %d wanted %d (seed %llu)", row->name, (int)l->experts,
                  (int)l->first, (int)l->last, (int)l->tokens, l->pairs, parts, wanted, (unsigned long long)run.seed);
}

/* Tokens of k experts each, from *at on, but for some at the end. */
static void list_even(lists *l, int32_t k, int32_t *at) {
    const int32_t odd = l->tokens - (int32_t)random_below(&run.random, (uint32_t)l->tokens / 4 + 1);
    for (int32_t t = 0; t < l->tokens; t++) {
        int32_t left = t < odd ? k : (int32_t)random_below(&run.random, (uint32_t)l->experts + 1);
        l->offsets[t] = *at;
        for (int32_t e = 0; e < l->experts; e++)
            if ((int32_t)random_below(&run.random, (uint32_t)(l->experts - e)) < left) {
                l->ids[(*at)++] = e;
                left--;
            }
    }
}

enum { EVEN = 1000 };

/* A pair in `share` is there, or EVEN + k of each token; few tokens are left out at either end if `whole`. */
static void make_lists(lists *l, int32_t experts, int32_t tokens, uint32_t share, int whole) {
    random_state *r = &run.random;
    int32_t at = (int32_t)random_below(r, 4);
    *l = (lists){.experts = experts, .tokens = tokens};
    l->offsets = check_alloc((size_t)tokens + 1, 4);
    l->ids = check_alloc((size_t)tokens * (size_t)experts + 3, 4);
    if (share >= EVEN)
        list_even(l, (int32_t)share - EVEN, &at);
    for (int32_t t = 0; share < EVEN && t < tokens; t++) {
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
    l->expected_blocks = check_alloc(l->pairs + (size_t)l->experts, 4);
    l->expected_rows = check_alloc(l->pairs + (size_t)l->experts, 4);
    l->expected_places = check_alloc(l->pairs, 4);
    l->shifts = check_alloc((size_t)l->experts, 4);
    l->width = l->experts + (int32_t)random_below(&run.random, 3);
    memset(l->expected_blocks, GUARD_RUBBISH, (l->pairs + (size_t)l->experts) * 4);
    memset(l->expected_rows, GUARD_RUBBISH, (l->pairs + (size_t)l->experts) * 4);
    int32_t n = 0;
    for (int32_t e = 0; e < l->experts; e++) {
        l->begins[e] = n;
        l->shifts[e] = e;
        for (int32_t t = l->first; t < l->last; t++)
            for (int32_t i = l->offsets[t]; i < l->offsets[t + 1]; i++)
                if (l->ids[i] == e) {
                    l->expected_tokens[n] = t;
                    l->expected_slots[n] = i;
                    l->expected_blocks[n + e] = i;
                    l->expected_rows[n + e] = (int32_t)(t * l->width) + i - l->offsets[t];
                    l->expected_places[i - l->offsets[l->first]] = n++;
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
    free(l->expected_blocks);
    free(l->expected_rows);
    free(l->expected_places);
    free(l->shifts);
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

enum { CURSORS = 1, BEGINS = 2, ENDS = 4, ACTIVE = 8, COUNTS = 16, IN_PLACE = 32, TOLD = 64 };

static void check_list(int is_wanted, const int32_t *list, const int32_t *expected, size_t n, const char *what) {
    check_that(is_wanted ? memcmp(list, expected, n * 4) == 0 : check_is_rubbish(list, n * 4), "%s", what);
}

/* Each of the lists but offsets may be unwanted. */
static void check_offset_experts(const lists *l, op_case c) {
    const size_t experts = (size_t)l->experts;
    int32_t *ends = check_alloc(experts, 4), *active = check_alloc(experts, 4), n = 0;
    for (int32_t e = 0; e < l->experts; e++) {
        ends[e] = l->begins[e] + l->histogram[e];
        if (l->histogram[e] > 0)
            active[n++] = e;
    }
    c.begin = l->histogram;
    c.pair_ids = case_copy(CASE_KEYS, l->histogram, experts, 4);
    case_freeze(CASE_KEYS);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_offset_experts, -1));)
        for (int wanted = 0; wanted < TOLD; wanted += 1 + (int)random_below(&run.random, 5)) {
            int32_t *const list[] = {case_memory(CASE_CURSORS, experts, 4), case_memory(CASE_BEGINS, experts, 4),
                                     case_memory(CASE_ENDS, experts, 4), case_memory(CASE_ACTIVE, experts, 4)};
            int64_t *counts = case_memory(CASE_USAGE, experts, 8);
            int right = 1;
            for (int32_t e = 0; e < l->experts; e++)
                counts[e] = e + ((int64_t)1 << 40);
            c.is_in_place = (wanted & IN_PLACE) != 0;
            c.offset_lists = (seqtopk_offset_lists){.cursors = wanted & CURSORS ? list[0] : NULL,
                                                    .begins = wanted & BEGINS ? list[1] : NULL,
                                                    .ends = wanted & ENDS ? list[2] : NULL,
                                                    .active = wanted & ACTIVE ? list[3] : NULL,
                                                    .counts = wanted & COUNTS ? counts : NULL};
            describe_lists(row, l, 1, wanted);
            case_place(&c, row->op);
            case_call(&c, row);
            check_list(1, c.numbers, l->begins, experts, "the offsets are wrong");
            check_list(wanted & CURSORS, list[0], l->begins, experts, "the cursors are wrong");
            check_list(wanted & BEGINS, list[1], l->begins, experts, "the offsets that are told are wrong");
            check_list(wanted & ENDS, list[2], ends, experts, "the ends are wrong");
            check_list(wanted & ACTIVE, list[3], active, (size_t)n, "the active experts are wrong");
            for (int32_t e = 0; e < l->experts; e++)
                right &= counts[e] == e + ((int64_t)1 << 40) + (wanted & COUNTS ? l->histogram[e] : 0);
            check_that(right && c.returned == n, "the counts are wrong");
            check_that(case_intact(), "wrote beside the experts");
        }
    free(ends);
    free(active);
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

enum { TOKENS = 1, SLOTS = 2, BLOCKS = 4, PLACES = 8, ROWS = 16, WANTED = 32 };

/* Each of the lists may be unwanted. */
static void check_scatter(const lists *l, op_case c) {
    const size_t blocks_size = l->pairs + (size_t)l->experts;
    int32_t *cursors = check_alloc((size_t)l->experts, 4);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_scatter, -1));)
        for (int wanted = 0; wanted < WANTED; wanted++) {
            const int parts = random_below(&run.random, 2) ? 1 : 3;
            int32_t *tokens = case_memory(CASE_EXPERT_TOKENS, l->pairs, 4);
            int32_t *slots = case_memory(CASE_EXPERT_SLOTS, l->pairs, 4);
            int32_t *blocks = case_memory(CASE_EXPERT_BLOCKS, blocks_size, 4);
            int32_t *places = case_memory(CASE_PAIR_PLACES, l->pairs, 4);
            describe_lists(row, l, parts, wanted);
            c.scattered = (seqtopk_scattered){.tokens = wanted & TOKENS ? tokens : NULL,
                                              .slots = wanted & SLOTS ? slots : NULL,
                                              .blocks = wanted & BLOCKS ? blocks : NULL,
                                              .shifts = l->shifts,
                                              .places = wanted & PLACES ? places - l->offsets[l->first] : NULL,
                                              .width = wanted & ROWS ? l->width : 0,
                                              .is_whole = parts == 1};
            memcpy(cursors, l->begins, (size_t)l->experts * 4);
            c.last = l->first;
            for (int part = 0; part < parts; part++) {
                c.first = c.last;
                c.last = part == parts - 1 ? l->last
                                           : c.first + random_below(&run.random, (uint32_t)(l->last - c.first) + 1);
                scatter_part(row, l, &c, cursors);
            }
            check_list(wanted & TOKENS, tokens, l->expected_tokens, l->pairs, "the tokens are wrong");
            check_list(wanted & SLOTS, slots, l->expected_slots, l->pairs, "the slots are wrong");
            check_list(wanted & BLOCKS, blocks, wanted & ROWS ? l->expected_rows : l->expected_blocks, blocks_size,
                       "the blocks are wrong");
            check_list(wanted & PLACES, places, l->expected_places, l->pairs, "the places are wrong");
            check_that(case_intact(), "wrote beside a list");
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
    check_offset_experts(&l, c);
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
    for (int32_t k = 1; k <= 8; k++)
        for (int i = 0; i < 8; i++)
            check_lists_case(k + (int32_t)random_below(&run.random, 18), 5 + (int32_t)random_below(&run.random, 300),
                             EVEN + (uint32_t)k, (int)random_below(&run.random, 2));
    check_lists_case(2, 70000, 1, 1);
    check_lists_case(64, 70001, 64, 1);
    check_lists_case(40, 6000, 2, 1);
    check_lists_case(2500, 60, 1, 1);
}
