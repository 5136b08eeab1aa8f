/* SPDX-License-Identifier: MIT */
/* Rows of an all-to-all, against a plain account of them. */
#include "../random.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

enum { TOKENS = 40, EXPERTS = 12, MOST = TOKENS * EXPERTS, COPIES = 3 * EXPERTS, PLACES = 6, CASES = 2000 };

typedef struct lists {
    int32_t offsets[TOKENS + 1], ids[MOST], copy_offsets[EXPERTS + 1], places[COPIES];
    int32_t counts[PLACES], send_offsets[PLACES + 1], tokens[MOST], slot_copies[MOST], slot_rows[MOST],
        row_offsets[MOST + 1], row_slots[MOST], copy_counts[COPIES];
    int64_t rows;
    int32_t scratch[COPIES + 2 * PLACES + 3];
} lists;

static void draw(random_state *r, lists *l, seqtopk_exchange *x, int64_t tokens) {
    int32_t n = 0, copies = 0;
    x->experts = EXPERTS;
    x->destinations = 1 + (int32_t)random_below(r, PLACES);
    x->once = (int32_t)random_below(r, 2);
    x->turn = random_below(r, 100);
    for (int64_t t = 0; t <= tokens; t++) {
        l->offsets[t] = n;
        for (int32_t e = 0; t < tokens && e < EXPERTS; e++)
            if (random_below(r, 4) == 0)
                l->ids[n++] = e;
    }
    for (int32_t e = 0; e <= EXPERTS; e++) {
        l->copy_offsets[e] = copies;
        copies += 1 + (int32_t)random_below(r, 3);
    }
    x->copy_offsets = random_below(r, 3) ? l->copy_offsets : NULL;
    for (int32_t c = 0; c < COPIES; c++)
        l->places[c] = (int32_t)random_below(r, (uint32_t)x->destinations);
    x->places = l->places;
    x->send_counts = l->counts;
    x->send_offsets = l->send_offsets;
    x->send_tokens = l->tokens;
    x->slot_copies = l->slot_copies;
    x->slot_rows = l->slot_rows;
    x->row_offsets = l->row_offsets;
    x->row_slots = l->row_slots;
    x->copy_counts = l->copy_counts;
    x->rows = &l->rows;
}

/* One row after the other, each looked for among all pairs. */
static void check(const lists *l, const seqtopk_exchange *x, int64_t tokens) {
    const int32_t pairs = l->offsets[tokens], copies = x->copy_offsets ? l->copy_offsets[EXPERTS] : EXPERTS;
    int32_t row = 0;
    for (int32_t i = 0; i < pairs; i++) {
        const int32_t e = l->ids[i], first = x->copy_offsets ? l->copy_offsets[e] : e;
        const int32_t n = x->copy_offsets ? l->copy_offsets[e + 1] - first : 1;
        cr_assert_eq(l->slot_copies[i], first + (int32_t)((i + x->turn) % n));
    }
    for (int32_t d = 0; d < x->destinations; d++) {
        cr_assert_eq(l->send_offsets[d], row);
        for (int32_t c = 0; !x->once && c < copies; c++) {
            int32_t own = 0;
            for (int64_t t = 0; l->places[c] == d && t < tokens; t++)
                for (int32_t i = l->offsets[t]; i < l->offsets[t + 1]; i++)
                    if (l->slot_copies[i] == c) {
                        cr_assert(l->tokens[row] == t && l->slot_rows[i] == row && l->row_slots[row] == i &&
                                  l->row_offsets[row] == row);
                        row++;
                        own++;
                    }
            cr_assert(l->places[c] != d || l->copy_counts[c] == own);
        }
        for (int64_t t = 0; x->once && t < tokens; t++) {
            int32_t own = 0;
            for (int32_t i = l->offsets[t]; i < l->offsets[t + 1]; i++)
                if (l->places[l->slot_copies[i]] == d) {
                    cr_assert(l->slot_rows[i] == row && l->row_slots[l->row_offsets[row] + own] == i);
                    own++;
                }
            if (own) {
                cr_assert(l->tokens[row] == t && l->row_offsets[row + 1] - l->row_offsets[row] == own);
                row++;
            }
        }
        cr_assert_eq(l->counts[d], row - l->send_offsets[d]);
    }
    cr_assert(l->rows == row && l->send_offsets[x->destinations] == row && l->row_offsets[row] == pairs);
}

Test(exchange, rows) {
    static lists l;
    random_state r;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    random_seed(&r, 1);
    for (int i = 0; i < CASES; i++) {
        seqtopk_exchange x = SEQTOPK_EXCHANGE_INIT;
        const int64_t tokens = random_below(&r, TOKENS + 1);
        draw(&r, &l, &x, tokens);
        cr_assert_eq(seqtopk_exchange_make(&x, tokens, l.offsets, l.ids, l.scratch, sizeof l.scratch, &error),
                     SEQTOPK_OK, "%s", error.message);
        check(&l, &x, tokens);
    }
}

static void refused(lists *l, const seqtopk_exchange *x, int64_t tokens, seqtopk_status status, const char *what) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_expect_eq(seqtopk_exchange_make(x, tokens, l->offsets, l->ids, l->scratch, sizeof l->scratch, &error), status);
    cr_expect(strstr(error.message, what), "%s", error.message);
}

Test(exchange, bad_arguments) {
    static lists l;
    random_state r;
    seqtopk_exchange good = SEQTOPK_EXCHANGE_INIT, x;
    random_seed(&r, 2);
    draw(&r, &l, &good, TOKENS);
    good.copy_offsets = l.copy_offsets;
    x = good, x.places = NULL;
    refused(&l, &x, TOKENS, SEQTOPK_E_NULL, "places");
    x = good, x.destinations = 0;
    refused(&l, &x, TOKENS, SEQTOPK_E_VALUE, "destinations");
    x = good, x.turn = -1;
    refused(&l, &x, TOKENS, SEQTOPK_E_VALUE, "turn");
    x = good, x.once = 1, x.slot_rows = NULL;
    refused(&l, &x, TOKENS, SEQTOPK_E_NULL, "slot_rows");
    l.places[1] = good.destinations;
    refused(&l, &good, TOKENS, SEQTOPK_E_VALUE, "places[1]");
    l.places[1] = 0;
    l.copy_offsets[1] = 0;
    refused(&l, &good, TOKENS, SEQTOPK_E_SHAPE, "copy_offsets[1]");
    l.copy_offsets[1] = 1;
    l.ids[3] = EXPERTS;
    refused(&l, &good, TOKENS, SEQTOPK_E_VALUE, "expert_ids[3]");
    l.ids[3] = 0;
    refused(&l, &good, -1, SEQTOPK_E_VALUE, "tokens");
    l.offsets[2] = l.offsets[1] - 1;
    refused(&l, &good, TOKENS, SEQTOPK_E_SHAPE, "token_offsets[2]");
}
