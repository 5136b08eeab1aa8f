/* SPDX-License-Identifier: MIT */
/* Kernels of the expert-major lists: count and scatter. */
#include "check.h"
#include "guard.h"

#include <stdlib.h>
#include <string.h>

static guard g_out, g_ids, g_offsets, g_tokens, g_slots;

static void describe_lists(const seqtopk_row *row, int32_t experts, int32_t first, int32_t last, size_t pairs) {
    check_context("%s E %d tokens [%d, %d) pairs %zu (seed %llu)", row->name, (int)experts, (int)first, (int)last,
                  pairs, (unsigned long long)run.seed);
}

static void check_lists_case(int32_t experts, int32_t tokens, uint32_t share) {
    random_state *r = &run.random;
    int32_t *offsets = check_alloc((size_t)tokens + 1, 4);
    int32_t *ids = check_alloc((size_t)tokens * (size_t)experts + 3, 4), at = (int32_t)random_below(r, 4);
    for (int32_t t = 0; t < tokens; t++) {
        offsets[t] = at;
        for (int32_t e = 0; e < experts; e++)
            if (random_below(r, share) == 0)
                ids[at++] = e;
    }
    offsets[tokens] = at;
    const int32_t first = (int32_t)random_below(r, (uint32_t)tokens + 1);
    const int32_t last = first + (int32_t)random_below(r, (uint32_t)(tokens - first) + 1);
    const size_t pairs = (size_t)(offsets[last] - offsets[first]);

    int32_t *histogram = check_alloc((size_t)experts, 4), *cursors = check_alloc((size_t)experts, 4);
    int32_t *expected_tokens = check_alloc(pairs, 4), *expected_slots = check_alloc(pairs, 4);
    for (int32_t i = offsets[first]; i < offsets[last]; i++)
        histogram[ids[i]]++;
    for (int32_t e = 1; e < experts; e++)
        cursors[e] = cursors[e - 1] + histogram[e - 1];
    int32_t n = 0;
    for (int32_t e = 0; e < experts; e++)
        for (int32_t t = first; t < last; t++)
            for (int32_t i = offsets[t]; i < offsets[t + 1]; i++)
                if (ids[i] == e) {
                    expected_tokens[n] = t;
                    expected_slots[n++] = i;
                }

    const int32_t *given_offsets = check_place_copy(&g_offsets, offsets, (size_t)tokens + 1, 4);
    const int32_t *given_ids = check_place_copy(&g_ids, ids, (size_t)at, 4);
    guard_freeze(&g_offsets);
    guard_freeze(&g_ids);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_count, -1));) {
        describe_lists(row, experts, first, last, pairs);
        int32_t *counts = check_place(&g_out, (size_t)experts, 4), right = 1;
        for (int32_t e = 0; e < experts; e++)
            counts[e] = 1000 + e;
        ((seqtopk_count_fn *)row->function)(given_ids + offsets[first], (int64_t)pairs, counts);
        for (int32_t e = 0; e < experts; e++)
            right &= counts[e] == 1000 + e + histogram[e];
        check_that(right && guard_intact(&g_out), "the histogram is wrong");
    }
    /* Each of the two lists may be unwanted. */
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_scatter, -1));)
        for (int wanted = 0; wanted < 4; wanted++) {
            describe_lists(row, experts, first, last, pairs);
            int32_t *moving = check_place_copy(&g_out, cursors, (size_t)experts, 4), right = 1;
            int32_t *to_tokens = check_place(&g_tokens, pairs, 4), *to_slots = check_place(&g_slots, pairs, 4);
            ((seqtopk_scatter_fn *)row->function)(given_offsets, given_ids, first, last, moving,
                                                  wanted & 1 ? to_tokens : NULL, wanted & 2 ? to_slots : NULL);
            for (int32_t e = 0; e < experts; e++)
                right &= moving[e] == cursors[e] + histogram[e];
            check_that(right, "the cursors did not move to the end of their experts");
            check_that(wanted & 1 ? memcmp(to_tokens, expected_tokens, pairs * 4) == 0
                                  : check_is_rubbish(to_tokens, pairs * 4),
                       "the tokens are wrong");
            check_that(wanted & 2 ? memcmp(to_slots, expected_slots, pairs * 4) == 0
                                  : check_is_rubbish(to_slots, pairs * 4),
                       "the slots are wrong");
            check_that(guard_intact(&g_out) && guard_intact(&g_tokens) && guard_intact(&g_slots),
                       "wrote beside a list");
        }
    free(offsets);
    free(ids);
    free(histogram);
    free(cursors);
    free(expected_tokens);
    free(expected_slots);
}

static void walk_lists(void) {
    for (size_t i = 0; i < CHECK_EXPERT_COUNTS; i++)
        for (size_t j = 0; j < CHECK_ROW_COUNTS; j++) {
            if (check_expert_counts[i] > 600 && check_row_counts[j] > 3)
                continue;
            check_lists_case(check_expert_counts[i], check_row_counts[j], 1);
            check_lists_case(check_expert_counts[i], check_row_counts[j], 8);
        }
}

void check_lists(void) {
    const size_t cells = (size_t)CHECK_EXPERTS_MOST * 36 * sizeof(int32_t) + 256;
    guard *const all[] = {&g_out, &g_ids, &g_offsets, &g_tokens, &g_slots};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        guard_open(all[i], cells);
    walk_lists();
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        guard_close(all[i]);
}
