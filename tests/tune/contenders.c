/* SPDX-License-Identifier: MIT */
/* Contenders follow from the registry; a walk over a small grid decides, and decides right. */
#include "tune/contenders.h"

#include "src/plan/plan.h"
#include "tune/timer.h"
#include "tune/tune.h"
#include "tune/verify.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static seqtopk_desc desc_of(int32_t experts, int32_t top_k, seqtopk_scope scope) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.experts = experts;
    desc.top_k = top_k;
    desc.scope = scope;
    return desc;
}

/* Every contender can be forced; every row that is none cannot, and there are words why. */
Test(tune_contenders, all_rows) {
    for (int scope = 0; scope < 2; scope++) {
        const seqtopk_desc desc = desc_of(64, 8, (seqtopk_scope)scope);
        for (int op = 0; op < SEQTOPK_OPS; op++) {
            const seqtopk_row *rows[64];
            const int32_t count = seqtopk_tune_contenders(&desc, (seqtopk_op)op, rows, 64);
            int32_t found = 0;
            for (int32_t i = 0; i < seqtopk_registry_size; i++) {
                const seqtopk_row *row = seqtopk_registry + i;
                char why[SEQTOPK_TUNE_WHY];
                if (row->op != (seqtopk_op)op)
                    continue;
                const char *reason = seqtopk_tune_why_not(&desc, row, why);
                cr_expect(reason == NULL || *reason);
                if (!seqtopk_isa_runs(row->isa))
                    cr_expect_not_null(reason);
                if (found < count && rows[found] == row) {
                    cr_expect_null(reason);
                    found++;
                } else {
                    cr_expect_not_null(reason, "%s", row->name);
                }
            }
            cr_expect_eq(found, count);
        }
    }
}

Test(tune_contenders, configs) {
    const seqtopk_desc desc = desc_of(64, 8, SEQTOPK_SCOPE_SEQUENCE);
    seqtopk_tune_config reference, wanted;
    seqtopk_plan *plan;
    cr_assert_eq(seqtopk_tune_config_reference(&reference, &desc, NULL), SEQTOPK_OK);
    for (int op = 0; op < SEQTOPK_OPS; op++)
        cr_expect(!reference.row[op] || reference.row[op]->isa == 0);
    cr_expect_not_null(reference.row[SEQTOPK_OP_lse]);
    cr_expect_null(reference.row[SEQTOPK_OP_collect_short]); /* AVX-512 alone has one */
    cr_assert_eq(seqtopk_tune_config_default(&wanted, &desc, 1024, NULL), SEQTOPK_OK);
    const seqtopk_row *rows[64];
    const int32_t count = seqtopk_tune_contenders(&desc, SEQTOPK_OP_topk_row, rows, 64);
    wanted.row[SEQTOPK_OP_topk_row] = rows[count - 1];
    cr_assert_eq(seqtopk_tune_config_plan(&wanted, &desc, &plan, NULL), SEQTOPK_OK);
    for (int op = 0; op < SEQTOPK_OPS; op++)
        cr_expect_eq(seqtopk_plan_row(plan, (seqtopk_op)op, 1), wanted.row[op]);
    seqtopk_plan_destroy(plan);
}

/* ----------------------------------------------------------------- reach -- */

Test(tune_contenders, reached) {
    const seqtopk_desc desc = desc_of(64, 8, SEQTOPK_SCOPE_SEQUENCE);
    bool swept[SEQTOPK_OPS], staged[SEQTOPK_OPS], listed[SEQTOPK_OPS];
    seqtopk_tune_reached(&desc, SEQTOPK_WAY_sweep_logits, false, 1, swept);
    seqtopk_tune_reached(&desc, SEQTOPK_WAY_staged, false, 1, staged);
    seqtopk_tune_reached(&desc, SEQTOPK_WAY_staged, true, 2, listed);
    cr_expect(swept[SEQTOPK_OP_collect_logits] && swept[SEQTOPK_OP_list_candidates] && swept[SEQTOPK_OP_sample]);
    cr_expect(staged[SEQTOPK_OP_lse] && staged[SEQTOPK_OP_keys]);
    cr_expect_not(staged[SEQTOPK_OP_list_candidates]);
    cr_expect_not(staged[SEQTOPK_OP_scatter]);
    cr_expect_not(staged[SEQTOPK_OP_share]);
    cr_expect(listed[SEQTOPK_OP_scatter] && listed[SEQTOPK_OP_histogram] && listed[SEQTOPK_OP_share]);
}

/* ---------------------------------------------------------------- verify -- */

Test(tune_verify, differences) {
    seqtopk_tune_lists a, b;
    cr_assert(seqtopk_tune_lists_new(&a, 4, 8, 2) && seqtopk_tune_lists_new(&b, 4, 8, 2));
    seqtopk_tune_lists_spoil(&a);
    seqtopk_tune_lists_spoil(&b);
    a.selected = b.selected = 8;
    cr_expect_null(seqtopk_tune_lists_differ(&a, &b, 4, true));
    b.weights[7] = 1.0f;
    cr_expect_str_eq(seqtopk_tune_lists_differ(&a, &b, 4, false), "weights");
    b.weights[7] = a.weights[7];
    b.expert_slots[0] = 0;
    cr_expect_null(seqtopk_tune_lists_differ(&a, &b, 4, false));
    cr_expect_str_eq(seqtopk_tune_lists_differ(&a, &b, 4, true), "expert_slots");
    b.selected = 7;
    cr_expect_str_eq(seqtopk_tune_lists_differ(&a, &b, 4, true), "selected");
    seqtopk_tune_lists_free(&a);
    seqtopk_tune_lists_free(&b);
}

/* ------------------------------------------------------------------ walk -- */

typedef struct seen {
    size_t begun, done;
    int32_t decisions;
    size_t stop_after;
} seen;

static void on_begin(void *context, const seqtopk_tune_point *point, const seqtopk_tune_progress *progress) {
    (void)point;
    cr_expect_eq(progress->points, 8);
    ((seen *)context)->begun++;
}

static void on_done(void *context, const seqtopk_tune_result *result) {
    seen *s = context;
    s->done++;
    s->decisions += result->count;
    cr_expect_gt(result->ns, 0);
    cr_expect_gt(result->incumbent_ns, 0);
    cr_expect_gt(result->floor_ns, 0);
    for (int32_t f = 0; f < result->count; f++) {
        const seqtopk_tune_found *found = result->found + f;
        cr_expect_eq(found->row->op, found->op);
        cr_expect_eq(found->incumbent->op, found->op);
        cr_expect_geq(found->contenders, 2);
        cr_expect_neq(found->runner_up, found->row);
        cr_expect_gt(found->ns, 0);
        for (int32_t g = 0; g < f; g++) /* an op is decided once */
            cr_expect_neq(result->found[g].op, found->op);
    }
}

static void on_wrong(void *context, const seqtopk_tune_point *point, const seqtopk_row *row, const char *list) {
    (void)context, (void)point;
    cr_expect_fail("%s: %s", row->name, list);
}

static bool on_stop(void *context) {
    const seen *s = context;
    return s->stop_after && s->done >= s->stop_after;
}

static seqtopk_tune_summary walk(seen *s, int32_t threads) {
    static seqtopk_tune_topology topology;
    const seqtopk_tune_request request = {
        .shapes = "1x8x2,64x8x2,1x64x8,64x64x8", .scope = -1, .dtype = SEQTOPK_DTYPE_BF16, .threads = threads};
    const seqtopk_tune_events events = {s, on_stop, on_begin, on_done, on_wrong};
    const seqtopk_tune_options options = {.budget = 1, .topology = &topology};
    seqtopk_tune_grid grid;
    seqtopk_tune_summary summary;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    char message[SEQTOPK_TUNE_MESSAGE];
    cr_assert(seqtopk_tune_topology_read(&topology));
    cr_assert(seqtopk_tune_grid_make(&request, &grid, message), "%s", message);
    cr_assert_eq(seqtopk_tune_walk(&grid, &options, &events, &summary, &error), SEQTOPK_OK, "%s", error.message);
    seqtopk_tune_grid_free(&grid);
    return summary;
}

Test(tune_walk, small) {
    seen s = {0};
    const seqtopk_tune_summary summary = walk(&s, 1);
    cr_expect_eq(summary.points, 8);
    cr_expect_eq(summary.wrong, 0);
    cr_expect_eq(summary.done, s.done);
    cr_expect(summary.done == 8 || summary.over_budget);
    cr_expect_eq((int32_t)summary.decisions, s.decisions);
}

Test(tune_walk, threads) {
    seen s = {0};
    const seqtopk_tune_summary summary = walk(&s, 2);
    cr_expect_eq(summary.wrong, 0);
    cr_expect_eq(summary.done, s.done);
}

Test(tune_walk, stopped) {
    seen s = {.stop_after = 3};
    const seqtopk_tune_summary summary = walk(&s, 1);
    cr_expect(summary.stopped || summary.over_budget);
    cr_expect_leq(s.done, 3);
    cr_expect_eq(summary.done, s.done);
}
