/* SPDX-License-Identifier: MIT */
/* What is asked for becomes points. */
#include "tune/grid.h"

#include "src/plan/presets.h"
#include "tune/data.h"

#include <criterion/criterion.h>
#include <string.h>

static seqtopk_tune_grid made(seqtopk_tune_request request) {
    seqtopk_tune_grid grid;
    char message[SEQTOPK_TUNE_MESSAGE] = "";
    cr_assert(seqtopk_tune_grid_make(&request, &grid, message), "%s", message);
    return grid;
}

static void refused(const char *shapes, const char *models, const char *word) {
    const seqtopk_tune_request request = {.shapes = shapes, .models = models, .scope = -1, .dtype = -1};
    seqtopk_tune_grid grid;
    char message[SEQTOPK_TUNE_MESSAGE] = "";
    cr_assert_not(seqtopk_tune_grid_make(&request, &grid, message), "%s %s", shapes, models);
    cr_expect_not_null(strstr(message, word), "\"%s\" does not name %s", message, word);
    cr_expect_null(strchr(message, '\n'));
    cr_expect_null(grid.points);
}

Test(tune_grid, everything) {
    seqtopk_tune_grid grid = made((seqtopk_tune_request){.scope = -1, .dtype = -1});
    size_t shapes = 0;
    /* Every (E, K) of the marked presets once, by 18 T, 3 dtypes, 2 scopes. */
    for (int32_t m = 0; m < seqtopk_presets_size; m++) {
        size_t same = 0;
        for (int32_t n = 0; n < m; n++)
            same += seqtopk_presets[n].is_tuned && seqtopk_presets[n].experts == seqtopk_presets[m].experts &&
                    seqtopk_presets[n].top_k == seqtopk_presets[m].top_k;
        shapes += seqtopk_presets[m].is_tuned && same == 0;
    }
    cr_expect_eq(shapes, 24, "one more shape is one 24th more of tuning: is it worth that?");
    cr_expect_eq(grid.count, shapes * 18 * 3 * 2);
    for (size_t i = 1; i < grid.count; i++) {
        const seqtopk_tune_point *a = grid.points + i - 1, *b = grid.points + i;
        cr_expect_leq(a->experts, b->experts);
        cr_expect(a->experts != b->experts || a->dtype <= b->dtype);
        /* Within a column T rises. */
        if (a->experts == b->experts && a->dtype == b->dtype && a->scope == b->scope && a->top_k == b->top_k)
            cr_expect_lt(a->tokens, b->tokens);
        cr_expect_eq(b->tokens & (b->tokens - 1), 0);
        cr_expect_eq(b->threads, 1);
    }
    seqtopk_tune_grid_free(&grid);
}

Test(tune_grid, quick_is_small) {
    seqtopk_tune_grid grid = made((seqtopk_tune_request){.quick = true, .scope = -1, .dtype = -1});
    cr_expect_eq(grid.count, 5 * 4 * 2 * 2);
    seqtopk_tune_grid_free(&grid);
}

Test(tune_grid, one_scope_one_dtype) {
    seqtopk_tune_grid grid = made((seqtopk_tune_request){
        .shapes = "8192x256x8", .scope = SEQTOPK_SCOPE_TOKEN, .dtype = SEQTOPK_DTYPE_F16, .threads = 4});
    char text[SEQTOPK_TUNE_POINT_TEXT];
    cr_assert_eq(grid.count, 1);
    cr_expect_str_eq(seqtopk_tune_point_text(grid.points, text), "token f16 8192x256x8 4 threads");
    cr_expect_eq(seqtopk_tune_point_bytes(grid.points), 8192 * 256 * 2);
    seqtopk_tune_grid_free(&grid);
}

/* Quick takes a dtype that it would leave out, if that one is asked for. */
Test(tune_grid, quick_f16) {
    seqtopk_tune_grid grid = made((seqtopk_tune_request){.quick = true, .scope = -1, .dtype = SEQTOPK_DTYPE_F16});
    cr_expect_eq(grid.count, 5 * 4 * 2);
    seqtopk_tune_grid_free(&grid);
}

Test(tune_grid, shapes_and_sizes) {
    /* All 18 sizes of 8x2, among which 64 is asked for again, and one size of 16x2. */
    seqtopk_tune_grid grid = made((seqtopk_tune_request){.shapes = "64x8x2,8x2,1x16x2,8x2", .scope = 0, .dtype = 0});
    cr_expect_eq(grid.count, 19);
    cr_expect_eq(grid.points[18].experts, 16);
    seqtopk_tune_grid_free(&grid);
    grid = made((seqtopk_tune_request){.models = "mixtral,MIXTRAL", .scope = 0, .dtype = 0});
    cr_expect_eq(grid.count, 18);
    cr_expect_eq(grid.points[0].top_k, 2);
    seqtopk_tune_grid_free(&grid);
    /* One that the default grid has not. */
    grid = made((seqtopk_tune_request){.models = "Step-3", .scope = 0, .dtype = 0});
    cr_expect_eq(grid.count, 18);
    cr_expect_eq(grid.points[0].experts, 48);
    seqtopk_tune_grid_free(&grid);
}

Test(tune_grid, refusals) {
    static const char *const bad[] = {
        "",        "x",    "8",    "8x",       "8x9",  "0x8x2",           "3x8x2",
        "8x8x8x8", "8X2",  "8x2,", "8x2,,8x2", ",8x2", "65537x1",         "-1x8x2",
        " 8x2",    "8x2x", "8 x2", "8x0",      "0x0",  "99999999999x8x2", "1073741824x64x8"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(bad[i], NULL, "--shapes");
    refused(NULL, "", "--models");
    refused(NULL, "Mixtral,", "--models");
    refused(NULL, "Mixtrel", "mixtral");
    refused(NULL, "nosuch", "nosuch");
    refused(NULL, "a-name-that-is-longer-than-any-name-of-a-model-can-be", "seqtopk models");
}

Test(tune_data, conversions) {
    cr_expect_eq(seqtopk_tune_bf16(1.0f), 0x3f80);
    cr_expect_eq(seqtopk_tune_bf16(-2.5f), 0xc020);
    cr_expect_eq(seqtopk_tune_bf16(1.00390625f), 0x3f80); /* halfway: to even */
    cr_expect_eq(seqtopk_tune_bf16(1.01171875f), 0x3f82);
    cr_expect_eq(seqtopk_tune_f16(1.0f), 0x3c00);
    cr_expect_eq(seqtopk_tune_f16(-2.5f), 0xc100);
    cr_expect_eq(seqtopk_tune_f16(0.0f), 0);
    cr_expect_eq(seqtopk_tune_f16(1.00048828125f), 0x3c00); /* halfway: to even */
    cr_expect_eq(seqtopk_tune_f16(1e-9f), 0);
}

/* The same logits whatever was asked for before. */
Test(tune_data, prefixes) {
    seqtopk_tune_data few = {0}, many = {0};
    cr_assert(seqtopk_tune_data_need(&few, 10, 8, SEQTOPK_DTYPE_F32));
    cr_assert(seqtopk_tune_data_need(&many, 100, 8, SEQTOPK_DTYPE_F32));
    cr_expect_arr_eq(few.logits, many.logits, 10 * 8 * sizeof(float));
    const void *before = many.logits;
    cr_assert(seqtopk_tune_data_need(&many, 50, 8, SEQTOPK_DTYPE_F32));
    cr_expect_eq(many.logits, before);
    cr_expect_eq(seqtopk_tune_data_at(&many, 30, 3), many.logits); /* three windows, and round again */
    seqtopk_tune_data_free(&few);
    seqtopk_tune_data_free(&many);
}
