/* SPDX-License-Identifier: MIT */
/* Tuning files to test with. Independent of what any machine can run: only rows of the reference, unless told. */
#ifndef SEQTOPK_TESTS_TUNING_H
#define SEQTOPK_TESTS_TUNING_H

#include "src/tuning/file.h"
#include "src/tuning/text.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define tuning_sum seqtopk_tuning_file_checksum

static inline int32_t tuning_row(const char *name) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (strcmp(seqtopk_registry[i].name, name) == 0)
            return i;
    cr_assert_fail("there is no row %s", name);
    return -1;
}

/* The header of an empty one of library 0.0.1 on machine "test ref -". */
#define HEAD "seqtopk-tuning 1\nlibrary 0.0.1\nmachine test ref -\n"

/* Such an empty one. */
static inline seqtopk_tuning_file tuning_empty(void) {
    seqtopk_tuning_file w = {.library = "0.0.1", .machine = "test ref -"};
    return w;
}

static inline void tuning_add(seqtopk_tuning_file *w, seqtopk_measurement tuned) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_assert_eq(seqtopk_tuning_file_add(w, &tuned, &error), SEQTOPK_OK, "%s", error.message);
}

/* Four decisions under two headings, with the ends of the ranges. */
static inline seqtopk_tuning_file tuning_small(void) {
    seqtopk_tuning_file w = tuning_empty();
    const seqtopk_tuning_shape slots = {
        SEQTOPK_OP_collect_logits, SEQTOPK_ROW_f32, SEQTOPK_SCOPE_SEQUENCE, SEQTOPK_SCORE_SOFTMAX, 128, 8, 1};
    const seqtopk_tuning_shape block = {
        SEQTOPK_OP_block, SEQTOPK_ROW_i32, SEQTOPK_SCOPE_TOKEN, SEQTOPK_SCORE_SIGMOID, 64, 6, 2};
    const int32_t slots6 = tuning_row("seqtopk_collect_logits_f32__ref_slots6"),
                  slots10 = tuning_row("seqtopk_collect_logits_f32__ref_slots10");
    const int32_t small = tuning_row("block_logits2048"), large = tuning_row("block_logits4096");
    const int64_t most = SEQTOPK_TUNING_LARGEST_PS;
    tuning_add(&w, (seqtopk_measurement){slots, 1024, slots6, slots10, 10, 1, 0, 5000, 6000});
    tuning_add(&w, (seqtopk_measurement){slots, 2048, slots10, slots6, 0, 0, 0, 9000, 9001});
    tuning_add(&w, (seqtopk_measurement){block, 1, large, -1, SEQTOPK_TUNING_LARGEST_SPREAD, 1, 0, 1, 0});
    tuning_add(&w, (seqtopk_measurement){block, SEQTOPK_TUNING_LARGEST_TOKENS, small, large, 7, 0, 0, most, most});
    return w;
}

static inline int32_t tuning_below(uint64_t *state, int32_t n) {
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (int32_t)(*state >> 33) % n;
}

/* About `size` decisions of any rows. */
static inline seqtopk_tuning_file tuning_random(int32_t size, uint64_t seed) {
    seqtopk_tuning_file w = tuning_empty();
    uint64_t state = seed * 2 + 1;
    for (int tries = 0; w.size < size && tries < 100 * size; tries++) {
        static const int32_t experts[] = {8, 64, 128, 256}, top_k[] = {2, 6, 8};
        seqtopk_measurement t = {.row = tuning_below(&state, seqtopk_registry_size), .runner_up = -1, .clear = 1};
        t.shape.op = seqtopk_registry[t.row].op;
        t.shape.dtype = seqtopk_registry[t.row].dtype;
        t.shape.scope = tuning_below(&state, 2);
        t.shape.score = tuning_below(&state, 4);
        t.shape.experts = experts[tuning_below(&state, 4)];
        t.shape.top_k = top_k[tuning_below(&state, 3)];
        t.shape.threads = 1 + tuning_below(&state, 2);
        t.tokens = 1 << tuning_below(&state, SEQTOPK_TUNING_BUCKETS);
        t.ps = 1 + tuning_below(&state, 1 << 30);
        t.spread = tuning_below(&state, 1000);
        const int32_t other = tuning_below(&state, seqtopk_registry_size);
        if (other != t.row && seqtopk_registry[other].op == t.shape.op &&
            seqtopk_registry[other].dtype == t.shape.dtype) {
            t.runner_up = other;
            t.runner_up_ps = 1 + tuning_below(&state, 1 << 30);
            t.clear = tuning_below(&state, 2);
        }
        (void)seqtopk_tuning_file_add(&w, &t, NULL);
    }
    return w;
}

/* Its text, with a NUL; the caller's to free. */
static inline char *tuning_text(const seqtopk_tuning_file *w) {
    const size_t size = seqtopk_tuning_file_encode(w, NULL, 0);
    char *text = malloc(size + 1);
    cr_assert_not_null(text);
    cr_assert_eq(seqtopk_tuning_file_encode(w, text, size), size);
    text[size] = 0;
    return text;
}

/* What a forger does: any choices and lines, with checksums that are right. `header` is the first three lines. With a
 * NUL; the caller's to free. */
static inline char *tuning_forged(const char *header, const char *choices, const char *lines, size_t size,
                                  int32_t decisions) {
    enum { SUM = 17, WORD = sizeof "measured " - 1 };
    const size_t room = strlen(header) + strlen(choices) + size + 256;
    char *text = malloc(room);
    cr_assert_not_null(text);
    size_t at =
        (size_t)snprintf(text, room, "%schoices %zu\n%smeasured ", header, strlen(choices) + WORD + SUM, choices);
    at += (size_t)snprintf(text + at, room - at, "%016llx\n", (unsigned long long)tuning_sum(text, at));
    memcpy(text + at, lines, size);
    at += size;
    at += (size_t)snprintf(text + at, room - at, "end %d ", (int)decisions);
    snprintf(text + at, room - at, "%016llx\n", (unsigned long long)tuning_sum(text, at));
    return text;
}

#endif
