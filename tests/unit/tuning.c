/* SPDX-License-Identifier: MIT */
/* Tuning files as a program meets them: loaded, found, looked up by plans, asked why. */
#define _GNU_SOURCE
#include "tuning.h"
#include "unit.h"

#include "src/tuning/machine.h"
#include "src/tuning/store.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOTS_6 "seqtopk_collect_logits_f32__ref_slots6"
#define SLOTS_10 "seqtopk_collect_logits_f32__ref_slots10"
#define BLOCK_4096 "block_logits4096"
#define BLOCK_2048 "block_logits2048"

/* ---------------------------------------------------------------- helpers -- */

/* A decision of this machine's: `row` at T tokens for E, K, one thread, softmax, sequence scope. */
static seqtopk_measurement decision(const char *row, int32_t tokens, int32_t experts, int32_t top_k) {
    seqtopk_measurement t = {
        .tokens = tokens, .row = tuning_row(row), .runner_up = -1, .clear = 1, .ps = 1000, .spread = 5};
    t.shape = (seqtopk_tuning_shape){.op = seqtopk_registry[t.row].op,
                                     .dtype = seqtopk_registry[t.row].dtype,
                                     .scope = SEQTOPK_SCOPE_SEQUENCE,
                                     .score = SEQTOPK_SCORE_SOFTMAX,
                                     .experts = experts,
                                     .top_k = top_k,
                                     .threads = 1};
    return t;
}

static seqtopk_tuning *parsed(const seqtopk_tuning_file *w) {
    char *text = tuning_text(w);
    seqtopk_tuning *tuning;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_assert_eq(seqtopk_tuning_parse(&tuning, text, strlen(text), &error), SEQTOPK_OK, "%s", error.message);
    memset(text, 0, strlen(text)); /* it was copied */
    free(text);
    return tuning;
}

static seqtopk_desc plain_desc(int32_t experts, int32_t top_k, const seqtopk_tuning *tuning) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.experts = experts;
    desc.top_k = top_k;
    desc.tuning = tuning;
    return desc;
}

static seqtopk_plan *plan_of(const seqtopk_desc *desc) {
    seqtopk_plan *plan;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_assert_eq(seqtopk_plan_create(&plan, desc, &error), SEQTOPK_OK, "%s", error.message);
    return plan;
}

/* The choice on an op that serves T tokens. */
static seqtopk_choice choice_at(const seqtopk_plan *plan, const char *op, int64_t tokens) {
    seqtopk_choice choice = SEQTOPK_CHOICE_INIT, found = SEQTOPK_CHOICE_INIT;
    for (int32_t i = 0; seqtopk_plan_choice(plan, i, &choice) == SEQTOPK_OK; i++)
        if (strcmp(choice.op, op) == 0 && choice.tokens_from <= tokens)
            found = choice;
    cr_assert_not_null(found.kernel, "no choice on %s", op);
    return found;
}

static int is_tuned(const seqtopk_plan *plan, const char *op, int64_t tokens) {
    const seqtopk_choice choice = choice_at(plan, op, tokens);
    const int tuned = strncmp(choice.why, "tuning", 6) == 0;
    cr_expect(tuned || strncmp(choice.why, "model: ", 7) == 0, "%s", choice.why);
    return tuned;
}

/* Whether a plan for `desc` takes its nth kernel at T = 4096 from the file. */
static int is_near(seqtopk_desc desc, const seqtopk_tuning *tuning) {
    desc.tuning = tuning;
    seqtopk_plan *plan = plan_of(&desc);
    const int tuned = is_tuned(plan, "block", 4096);
    seqtopk_plan_destroy(plan);
    return tuned;
}

/* ----------------------------------------------------------------- loading -- */

/* What a careless caller does with the two that are not its to free. */
static seqtopk_tuning *writable(const seqtopk_tuning *tuning) {
    seqtopk_tuning *same;
    memcpy(&same, &tuning, sizeof same);
    return same;
}

Test(tuning, arguments) {
    seqtopk_tuning *tuning = (seqtopk_tuning *)&tuning;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_expect_eq(seqtopk_tuning_parse(NULL, "", 0, &error), SEQTOPK_E_NULL);
    cr_expect_eq(seqtopk_tuning_load(NULL, "x", &error), SEQTOPK_E_NULL);
    cr_expect_eq(seqtopk_tuning_parse(&tuning, NULL, 0, &error), SEQTOPK_E_NULL);
    cr_expect_null(tuning);
    tuning = (seqtopk_tuning *)&tuning;
    cr_expect_eq(seqtopk_tuning_load(&tuning, NULL, &error), SEQTOPK_E_NULL);
    cr_expect_null(tuning);
    tuning = (seqtopk_tuning *)&tuning;
    cr_expect_eq(seqtopk_tuning_parse(&tuning, "", 0, &error), SEQTOPK_E_TUNING);
    cr_expect_null(tuning);
    cr_expect_eq(seqtopk_tuning_parse(&tuning, "", SIZE_MAX, &error), SEQTOPK_E_TUNING);
    cr_expect_eq(seqtopk_tuning_load(&tuning, "/nonexistent/x.tuning", &error), SEQTOPK_E_FILE);
    cr_expect_not_null(strstr(error.message, "/nonexistent/x.tuning"));
    error.struct_size = 1;
    cr_expect_eq(seqtopk_tuning_parse(&tuning, "", 0, &error), SEQTOPK_E_STRUCT);
    cr_expect_eq(seqtopk_tuning_load(&tuning, "x", &error), SEQTOPK_E_STRUCT);
    cr_expect_eq(seqtopk_tuning_parse(&tuning, "", 0, NULL), SEQTOPK_E_TUNING);
    seqtopk_tuning_free(NULL);
    seqtopk_tuning_free(writable(seqtopk_tuning_none()));
    seqtopk_tuning_free(writable(seqtopk_tuning_none()));

    seqtopk_tuning_info info = SEQTOPK_TUNING_INFO_INIT;
    cr_expect_eq(seqtopk_tuning_get_info(NULL, &info), SEQTOPK_E_NULL);
    cr_expect_eq(seqtopk_tuning_get_info(seqtopk_tuning_none(), NULL), SEQTOPK_E_NULL);
    cr_assert_eq(seqtopk_tuning_get_info(seqtopk_tuning_none(), &info), SEQTOPK_OK);
    cr_expect(info.shapes == 0 && info.dropped == 0 && !info.path && strcmp(info.reason, "") == 0);
    cr_expect_null(seqtopk_tuning_dropped(seqtopk_tuning_none(), 0, NULL));
    cr_expect_null(seqtopk_tuning_dropped(NULL, 0, NULL));
    info.struct_size = 4;
    cr_expect_eq(seqtopk_tuning_get_info(seqtopk_tuning_none(), &info), SEQTOPK_E_STRUCT);
}

Test(tuning, another_machine) {
    seqtopk_tuning_file w = tuning_small();
    char *text = tuning_text(&w);
    seqtopk_tuning *tuning;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_expect_eq(seqtopk_tuning_parse(&tuning, text, strlen(text), &error), SEQTOPK_E_TUNING);
    cr_expect_not_null(strstr(error.message, "library 0.0.1"));
    free(text);
    memcpy(w.library, SEQTOPK_VERSION, sizeof SEQTOPK_VERSION);
    text = tuning_text(&w);
    cr_expect_eq(seqtopk_tuning_parse(&tuning, text, strlen(text), &error), SEQTOPK_E_TUNING);
    cr_expect_not_null(strstr(error.message, "another machine"));
    free(text);
    seqtopk_tuning_file_free(&w);
}

Test(tuning, dropped_lines_can_be_asked_for) {
    char header[512], choices[1024];
    const int revision = (int)seqtopk_registry[tuning_row(SLOTS_6)].revision;
    snprintf(header, sizeof header, "seqtopk-tuning 1\nlibrary %s\nmachine %s\n", SEQTOPK_VERSION,
             seqtopk_machine_key());
    snprintf(choices, sizeof choices,
             "[collect_logits f32 sequence softmax]\n128 8 1: 1 ref_magic@1 2 ref_slots6@%d\nnonsense\n256 8 1: 1 "
             "ref_slots6@%d\n",
             revision, revision);
    char *text = tuning_forged(header, choices, "", 0, 2);
    seqtopk_tuning *tuning;
    cr_assert_eq(seqtopk_tuning_parse(&tuning, text, strlen(text), NULL), SEQTOPK_OK);
    seqtopk_tuning_info info = SEQTOPK_TUNING_INFO_INIT;
    cr_assert_eq(seqtopk_tuning_get_info(tuning, &info), SEQTOPK_OK);
    cr_expect(info.shapes == 2 && info.dropped == 2);
    int32_t line = 0;
    cr_expect_str_eq(seqtopk_tuning_dropped(tuning, 0, &line), seqtopk_tuning_reason_text(SEQTOPK_TUNING_UNKNOWN_ROW));
    cr_expect_eq(line, 6);
    cr_expect_str_eq(seqtopk_tuning_dropped(tuning, 1, &line), seqtopk_tuning_reason_text(SEQTOPK_TUNING_SYNTAX));
    cr_expect_eq(line, 7);
    cr_expect_null(seqtopk_tuning_dropped(tuning, 2, &line));
    cr_expect_null(seqtopk_tuning_dropped(tuning, -1, &line));
    seqtopk_tuning_free(tuning);
    free(text);
}

/* ------------------------------------------------------------- looking up -- */

/* By powers of two of T, no farther than two of them from what was measured. */
Test(tuning, buckets_of_tokens) {
    seqtopk_tuning_file w;
    seqtopk_tuning_file_init(&w);
    tuning_add(&w, decision(BLOCK_4096, 64, 64, 8));
    tuning_add(&w, decision(BLOCK_2048, 128, 64, 8));
    tuning_add(&w, decision(BLOCK_2048, 256, 64, 8));
    tuning_add(&w, decision(BLOCK_4096, 4096, 64, 8));
    seqtopk_tuning *tuning = parsed(&w);
    const seqtopk_desc desc = plain_desc(64, 8, tuning);
    seqtopk_plan *plan = plan_of(&desc);
    seqtopk_tuning_free(tuning); /* the plan does not need it */
    static const struct {
        int64_t tokens;
        const char *kernel, *why; /* NULL: the model's */
    } right[] = {
        {0, NULL, NULL},
        {15, NULL, NULL},
        {16, BLOCK_4096, "line 6"},
        {127, BLOCK_4096, "line 6"},
        {128, BLOCK_2048, "line 6"},
        {256, BLOCK_2048, "line 6"},
        {2047, BLOCK_2048, "line 6"}, /* 1024 is as far from 256 as from 4096: the lower */
        {2048, BLOCK_4096, "line 6"},
        {4096, BLOCK_4096, "line 6"},
        {32767, BLOCK_4096, "line 6"},
        {32768, NULL, NULL},
        {INT32_MAX, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        const seqtopk_choice choice = choice_at(plan, "block", right[i].tokens);
        cr_expect_eq(is_tuned(plan, "block", right[i].tokens), right[i].kernel != NULL, "%lld: %s",
                     (long long)right[i].tokens, choice.why);
        if (right[i].kernel) {
            char why[32];
            snprintf(why, sizeof why, "tuning %s", right[i].why);
            cr_expect_str_eq(choice.kernel, right[i].kernel, "%lld", (long long)right[i].tokens);
            cr_expect_str_eq(choice.why, why);
        }
    }
    /* What nothing was measured of is the model's. */
    cr_expect(!is_tuned(plan, "lse", 4096));
    seqtopk_plan_destroy(plan);
    seqtopk_tuning_file_free(&w);
}

/* In the file and out of it the model's own changes of mind stay where they are. */
Test(tuning, model_between_buckets) {
    seqtopk_tuning_file w;
    seqtopk_tuning_file_init(&w);
    tuning_add(&w, decision(SLOTS_10, 65536, 8, 1));
    seqtopk_tuning *tuning = parsed(&w);
    seqtopk_desc desc = plain_desc(8, 1, tuning);
    seqtopk_plan *tuned = plan_of(&desc);
    desc.tuning = seqtopk_tuning_none();
    seqtopk_plan *model = plan_of(&desc);
    for (int64_t tokens = 0; tokens < 16384; tokens += 1 + tokens / 100) {
        const seqtopk_choice a = choice_at(tuned, "collect_logits", tokens),
                             b = choice_at(model, "collect_logits", tokens);
        cr_expect_str_eq(a.kernel, b.kernel, "%lld", (long long)tokens);
        cr_expect_eq(a.tokens_from, b.tokens_from);
    }
    cr_expect(is_tuned(tuned, "collect_logits", 16384) && is_tuned(tuned, "collect_logits", 524287) &&
              !is_tuned(tuned, "collect_logits", 524288));
    for (int32_t i = 1; i < seqtopk_plan_choice_count(tuned); i++) {
        seqtopk_choice a = SEQTOPK_CHOICE_INIT, b = SEQTOPK_CHOICE_INIT;
        cr_assert(!seqtopk_plan_choice(tuned, i - 1, &a) && !seqtopk_plan_choice(tuned, i, &b));
        cr_expect(strcmp(a.op, b.op) != 0 ? b.tokens_from == 0 : a.tokens_from < b.tokens_from);
    }
    seqtopk_plan_destroy(tuned);
    seqtopk_plan_destroy(model);
    seqtopk_tuning_free(tuning);
    seqtopk_tuning_file_free(&w);
}

Test(tuning, nearest_shape) {
    seqtopk_tuning_file w;
    seqtopk_tuning_file_init(&w);
    tuning_add(&w, decision(BLOCK_4096, 4096, 128, 8));
    seqtopk_tuning *tuning = parsed(&w);
    seqtopk_desc d = plain_desc(128, 8, NULL);
    cr_expect(is_near(d, tuning));
    /* E and K: two octaves in all. */
    d = plain_desc(512, 8, NULL);
    cr_expect(is_near(d, tuning));
    d = plain_desc(520, 8, NULL);
    cr_expect(!is_near(d, tuning));
    d = plain_desc(32, 8, NULL);
    cr_expect(is_near(d, tuning));
    d = plain_desc(31, 8, NULL);
    cr_expect(!is_near(d, tuning));
    d = plain_desc(128, 32, NULL);
    cr_expect(is_near(d, tuning));
    d = plain_desc(128, 1, NULL);
    cr_expect(!is_near(d, tuning));
    d = plain_desc(256, 4, NULL);
    cr_expect(is_near(d, tuning));
    d = plain_desc(256, 3, NULL);
    cr_expect(!is_near(d, tuning));
    /* Threads count half; another scope is half an octave away, another score a quarter. */
    d = plain_desc(128, 8, NULL);
    d.threads = 16;
    cr_expect(is_near(d, tuning));
    d.threads = 17;
    cr_expect(!is_near(d, tuning));
    d.threads = 8;
    d.scope = SEQTOPK_SCOPE_TOKEN;
    cr_expect(is_near(d, tuning));
    d.score = SEQTOPK_SCORE_SIGMOID;
    cr_expect(!is_near(d, tuning));
    d.scope = SEQTOPK_SCOPE_SEQUENCE;
    cr_expect(is_near(d, tuning));
    /* A size is of no type of logits. */
    d = plain_desc(128, 8, NULL);
    d.dtype = SEQTOPK_DTYPE_F16;
    cr_expect(is_near(d, tuning));
    seqtopk_tuning_free(tuning);
    seqtopk_tuning_file_free(&w);
}

/* Of several the nearest, of equals the first, and not one whose lines are all dropped. */
Test(tuning, nearest_of_many) {
    seqtopk_tuning_file w;
    seqtopk_tuning_file_init(&w);
    tuning_add(&w, decision(SLOTS_6, 4096, 64, 8));
    tuning_add(&w, decision(SLOTS_10, 4096, 256, 8));
    seqtopk_tuning *tuning = parsed(&w);
    static const struct {
        int32_t experts;
        const char *kernel;
    } right[] = {{32, SLOTS_6}, {64, SLOTS_6}, {120, SLOTS_6}, {128, SLOTS_6}, {136, SLOTS_10}, {1000, SLOTS_10}};
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        const seqtopk_desc desc = plain_desc(right[i].experts, 8, tuning);
        seqtopk_plan *plan = plan_of(&desc);
        cr_expect(is_tuned(plan, "collect_logits", 4096));
        cr_expect_str_eq(choice_at(plan, "collect_logits", 4096).kernel, right[i].kernel, "%d", (int)right[i].experts);
        seqtopk_plan_destroy(plan);
    }
    seqtopk_tuning_free(tuning);
    seqtopk_tuning_file_free(&w);
}

Test(tuning, nearest_is_stale) {
    char header[512], choices[1024];
    snprintf(header, sizeof header, "seqtopk-tuning 1\nlibrary %s\nmachine %s\n", SEQTOPK_VERSION,
             seqtopk_machine_key());
    snprintf(choices, sizeof choices,
             "[collect_logits f32 sequence softmax]\n64 8 1: 4096 ref_slots6@%d\n128 8 1: 4096 ref_slots6@77\n",
             (int)seqtopk_registry[tuning_row(SLOTS_6)].revision);
    char *text = tuning_forged(header, choices, "", 0, 2);
    seqtopk_tuning *tuning;
    cr_assert_eq(seqtopk_tuning_parse(&tuning, text, strlen(text), NULL), SEQTOPK_OK);
    for (int again = 0; again < 2; again++) {
        const seqtopk_desc desc = plain_desc(128, 8, tuning);
        seqtopk_plan *plan = plan_of(&desc);
        cr_expect_str_eq(choice_at(plan, "collect_logits", 4096).why, "tuning line 6");
        seqtopk_plan_destroy(plan);
    }
    seqtopk_tuning_free(tuning);
    free(text);
}

/* A usable row of an op and dtype that is not the reference's; or NULL. */
static const seqtopk_row *usable_row(seqtopk_op op, int32_t dtype) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++) {
        const seqtopk_row *row = seqtopk_registry + i;
        if (row->op == op && row->dtype == dtype && strcmp(row->isa_name, "ref") != 0 &&
            seqtopk_isa_usable(row->isa_name))
            return row;
    }
    return NULL;
}

/* Rows of logits are of the plan's dtype. */
Test(tuning, rows_of_the_plans_dtype) {
    seqtopk_desc desc = plain_desc(128, 8, NULL);
    const seqtopk_row *row = usable_row(SEQTOPK_OP_lse, SEQTOPK_ROW_f32);
    if (!row)
        cr_skip_test("only the reference runs here");
    seqtopk_tuning_file w;
    seqtopk_tuning_file_init(&w);
    tuning_add(&w, decision(row->name, 4096, 128, 8));
    seqtopk_tuning *tuning = parsed(&w);
    desc.tuning = tuning;
    for (int dtype = SEQTOPK_DTYPE_F32; dtype <= SEQTOPK_DTYPE_F16; dtype++) {
        desc.dtype = (seqtopk_dtype)dtype;
        seqtopk_plan *plan = plan_of(&desc);
        cr_expect_eq(is_tuned(plan, row->op_name, 4096), dtype == SEQTOPK_DTYPE_F32);
        seqtopk_plan_destroy(plan);
    }
    seqtopk_tuning_free(tuning);
    seqtopk_tuning_file_free(&w);
}

/* Rows apply to the plan, whatever the file says: groups are no part of a tuned shape. */
Test(tuning, rows_apply_to_the_plan) {
    seqtopk_desc desc = plain_desc(256, 8, NULL), grouped;
    desc.scope = SEQTOPK_SCOPE_TOKEN;
    desc.groups = 8;
    desc.group_top_k = 2;
    grouped = desc;
    grouped.groups = 128; /* more than a vector kernel takes */
    const seqtopk_row *row = usable_row(SEQTOPK_OP_mask_groups, SEQTOPK_ROW_f32);
    if (!row)
        cr_skip_test("only the reference runs here");
    seqtopk_tuning_file w;
    seqtopk_tuning_file_init(&w);
    seqtopk_measurement t = decision(row->name, 4096, 256, 8);
    t.shape.scope = SEQTOPK_SCOPE_TOKEN;
    tuning_add(&w, t);
    seqtopk_tuning *tuning = parsed(&w);
    desc.tuning = grouped.tuning = tuning;
    seqtopk_plan *plan = plan_of(&desc);
    cr_expect(is_tuned(plan, row->op_name, 4096));
    seqtopk_plan_destroy(plan);
    plan = plan_of(&grouped);
    cr_expect(!is_tuned(plan, row->op_name, 4096));
    seqtopk_plan_destroy(plan);
    seqtopk_tuning_free(tuning);
    seqtopk_tuning_file_free(&w);
}

Test(tuning, forcing_wins) {
    seqtopk_tuning_file w;
    seqtopk_tuning_file_init(&w);
    tuning_add(&w, decision(SLOTS_6, 4096, 128, 8));
    tuning_add(&w, decision(BLOCK_4096, 4096, 128, 8));
    seqtopk_tuning *tuning = parsed(&w);
    seqtopk_desc desc = plain_desc(128, 8, tuning);
    desc.kernel = SLOTS_10;
    seqtopk_plan *plan = plan_of(&desc);
    cr_expect_str_eq(choice_at(plan, "collect_logits", 4096).kernel, SLOTS_10);
    cr_expect_str_eq(choice_at(plan, "collect_logits", 4096).why, "forced by desc.kernel");
    cr_expect(is_tuned(plan, "block", 4096)); /* the other stages are not forced */
    seqtopk_plan_destroy(plan);
    desc.kernel = NULL;
    desc.isa = "ref";
    plan = plan_of(&desc);
    cr_expect_str_eq(choice_at(plan, "collect_logits", 4096).kernel, "seqtopk_collect_logits_f32__ref_slots10");
    cr_expect_str_eq(choice_at(plan, "collect_logits", 4096).why, "forced by desc.isa");
    seqtopk_plan_destroy(plan);
    desc.isa = NULL;
    desc.tuning = seqtopk_tuning_none();
    plan = plan_of(&desc);
    cr_expect(!is_tuned(plan, "collect_logits", 4096));
    seqtopk_plan_destroy(plan);
    seqtopk_tuning_free(tuning);
    seqtopk_tuning_file_free(&w);
}

/* A file of every row that there is, for every T: more choices than any plan has without, and the same bits. */
Test(tuning, results_do_not_change) {
    unit *u = unit_new();
    float weights[UNIT_CELLS];
    int32_t ids[UNIT_CELLS];
    u->desc.tuning = seqtopk_tuning_none();
    cr_assert_eq(unit_route(u), SEQTOPK_OK);
    memcpy(weights, u->weights, sizeof weights);
    memcpy(ids, u->expert_ids, sizeof ids);
    seqtopk_tuning_file w;
    seqtopk_tuning_file_init(&w);
    for (int b = 0; b < SEQTOPK_TUNING_BUCKETS; b++)
        for (int32_t i = 0, n = 0; i < seqtopk_registry_size; i++)
            if (seqtopk_isa_usable(seqtopk_registry[i].isa_name) && n++ % 3 == b % 3) {
                const seqtopk_measurement t = decision(seqtopk_registry[i].name, 1 << b, UNIT_EXPERTS, UNIT_TOP_K);
                (void)seqtopk_tuning_file_add(&w, &t, NULL);
            }
    seqtopk_tuning *tuning = parsed(&w);
    u->desc.tuning = tuning;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    cr_expect_gt(seqtopk_plan_choice_count(u->plan), 60);
    cr_assert_eq(unit_route(u), SEQTOPK_OK);
    cr_expect_arr_eq(u->weights, weights, UNIT_TOKENS * UNIT_TOP_K * sizeof *weights);
    cr_expect_arr_eq(u->expert_ids, ids, UNIT_TOKENS * UNIT_TOP_K * sizeof *ids);
    seqtopk_tuning_free(tuning);
    seqtopk_tuning_file_free(&w);
    unit_free(u);
}

/* ------------------------------------------------------------- many threads -- */

enum { THREADS = 8 };
static seqtopk_tuning *shared;

static void *plan_from_shared(void *arg) {
    char *whys = arg;
    for (int32_t experts = 8; experts <= 512; experts *= 2) {
        const seqtopk_desc desc = plain_desc(experts, 4, shared);
        seqtopk_plan *plan = plan_of(&desc);
        strcat(whys, choice_at(plan, "collect_logits", 4096).why);
        strcat(whys, choice_at(plan, "block", 64).why);
        seqtopk_plan_destroy(plan);
    }
    return NULL;
}

Test(tuning, threads) {
    static char whys[THREADS][2048];
    pthread_t thread[THREADS];
    seqtopk_tuning_file w = tuning_random(3000, 9);
    seqtopk_tuning_file ours;
    seqtopk_tuning_file_init(&ours);
    memcpy(w.library, ours.library, sizeof w.library);
    memcpy(w.machine, ours.machine, sizeof w.machine);
    shared = parsed(&w);
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(thread + i, NULL, plan_from_shared, whys[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    for (int i = 1; i < THREADS; i++)
        cr_expect_str_eq(whys[i], whys[0]);
    cr_expect_not_null(strstr(whys[0], "tuning line"));
    seqtopk_tuning_free(shared);
    seqtopk_tuning_file_free(&w);
}

static void *find_the_machines(void *arg) {
    *(const seqtopk_tuning **)arg = seqtopk_tuning_machine();
    return NULL;
}

Test(tuning, threads_find_one) {
    const seqtopk_tuning *found[THREADS];
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(thread + i, NULL, find_the_machines, found + i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < THREADS; i++)
        cr_expect(found[i] && found[i] == found[0]);
}

/* ---------------------------------------------------------- the machine's own -- */

/* Criterion gives every test a process of its own: the machine's file is looked for anew in each. */

static void save_with(const char *row, const char *path) {
    seqtopk_tuning_file w;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_tuning_file_init(&w);
    tuning_add(&w, decision(row, 4096, 128, 8));
    cr_assert_eq(seqtopk_store_save(&w, path, &error), SEQTOPK_OK, "%s", error.message);
    seqtopk_tuning_file_free(&w);
}

typedef struct {
    char root[64], xdg[256], home[256], file[256];
} places;

/* Names of files in a new temporary directory, and an environment that says so. */
static places new_places(void) {
    places p;
    strcpy(p.root, "/tmp/seqtopk-unit-XXXXXX");
    cr_assert_not_null(mkdtemp(p.root));
    snprintf(p.xdg, sizeof p.xdg, "%s/xdg/seqtopk/%s.tuning", p.root, seqtopk_machine_name());
    snprintf(p.home, sizeof p.home, "%s/home/.cache/seqtopk/%s.tuning", p.root, seqtopk_machine_name());
    snprintf(p.file, sizeof p.file, "%s/any.name", p.root);
    char directory[128];
    snprintf(directory, sizeof directory, "%s/xdg", p.root);
    mkdir(directory, 0777);
    setenv("XDG_CACHE_HOME", directory, 1);
    snprintf(directory, sizeof directory, "%s/home", p.root);
    mkdir(directory, 0777);
    setenv("HOME", directory, 1);
    unsetenv("SEQTOPK_TUNING");
    return p;
}

static void remove_places(const places *p) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", p->root);
    cr_expect_eq(system(command), 0);
}

/* The path that a default plan's nth kernel is from; "" if it is the model's. */
static const char *file_in_use(const char *kernel) {
    const seqtopk_desc desc = plain_desc(128, 8, NULL);
    seqtopk_plan *plan = plan_of(&desc);
    const seqtopk_choice choice = choice_at(plan, "collect_logits", 4096);
    static char path[4200];
    path[0] = 0;
    if (kernel) {
        cr_expect_str_eq(choice.kernel, kernel);
        const char *at = strstr(choice.why, " line 6");
        cr_assert(strncmp(choice.why, "tuning file ", 12) == 0 && at && at[7] == 0, "%s", choice.why);
        snprintf(path, sizeof path, "%.*s", (int)(at - choice.why - 12), choice.why + 12);
    } else {
        cr_expect_eq(strncmp(choice.why, "model: ", 7), 0, "%s", choice.why);
    }
    seqtopk_plan_destroy(plan);
    return path;
}

static const char *machine_reason(void) {
    seqtopk_tuning_info info = SEQTOPK_TUNING_INFO_INIT;
    cr_assert_eq(seqtopk_tuning_get_info(seqtopk_tuning_machine(), &info), SEQTOPK_OK);
    return info.reason;
}

Test(tuning, variable_comes_first) {
    const places p = new_places();
    save_with(SLOTS_6, p.file);
    save_with(SLOTS_10, p.xdg);
    setenv("SEQTOPK_TUNING", p.file, 1);
    cr_expect_str_eq(file_in_use(SLOTS_6), p.file);
    cr_expect_not_null(strstr(machine_reason(), "in use"));
    /* Read once: what happens to the file or the variable afterwards is nothing to this process. */
    save_with(SLOTS_10, p.file);
    setenv("SEQTOPK_TUNING", "none", 1);
    cr_expect_str_eq(file_in_use(SLOTS_6), p.file);
    seqtopk_tuning_free(writable(seqtopk_tuning_machine())); /* stays */
    cr_expect_str_eq(file_in_use(SLOTS_6), p.file);
    remove_places(&p);
}

Test(tuning, variable_stands_alone) {
    const places p = new_places();
    save_with(SLOTS_10, p.xdg);
    setenv("SEQTOPK_TUNING", p.file, 1); /* which is not there */
    file_in_use(NULL);
    cr_expect_not_null(strstr(machine_reason(), "any.name: there is none"), "%s", machine_reason());
    cr_expect_null(strchr(machine_reason(), '\n'));
    remove_places(&p);
}

Test(tuning, variable_says_none) {
    const places p = new_places();
    save_with(SLOTS_10, p.xdg);
    setenv("SEQTOPK_TUNING", "none", 1);
    file_in_use(NULL);
    cr_expect_not_null(strstr(machine_reason(), "none"));
    remove_places(&p);
}

Test(tuning, xdg_before_home) {
    const places p = new_places();
    save_with(SLOTS_6, p.xdg);
    save_with(SLOTS_10, p.home);
    cr_expect_str_eq(file_in_use(SLOTS_6), p.xdg);
    remove_places(&p);
}

Test(tuning, home_without_xdg) {
    const places p = new_places();
    save_with(SLOTS_6, p.home);
    unsetenv("XDG_CACHE_HOME");
    cr_expect_str_eq(file_in_use(SLOTS_6), p.home);
    remove_places(&p);
}

Test(tuning, relative_xdg_is_none) {
    const places p = new_places();
    save_with(SLOTS_6, p.home);
    setenv("XDG_CACHE_HOME", "relative/cache", 1);
    cr_expect_str_eq(file_in_use(SLOTS_6), p.home);
    remove_places(&p);
}

Test(tuning, no_place_at_all) {
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    unsetenv("SEQTOPK_TUNING");
    cr_expect(machine_reason()[0]); /* /etc may well have one */
    char path[SEQTOPK_STORE_PATH];
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_expect_eq(seqtopk_store_target(path, &error), SEQTOPK_E_FILE);
    cr_expect_not_null(strstr(error.message, "HOME"));
}

/* A file that is no good is passed over, and its reason kept. */
Test(tuning, damaged_is_passed_over) {
    const places p = new_places();
    save_with(SLOTS_6, p.xdg);
    /* Within the machine's line, the third: how long it is differs from machine to machine. */
    char text[4096] = {0};
    FILE *file = fopen(p.xdg, "r");
    cr_assert_not_null(file);
    cr_assert(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    const char *machine = strstr(text, "\nmachine ");
    cr_assert_not_null(machine);
    cr_assert_eq(truncate(p.xdg, machine - text + 12), 0);
    const char *reason = machine_reason();
    const size_t length = strlen(p.xdg);
    cr_expect(strncmp(reason, p.xdg, length) == 0 &&
                  strncmp(reason + length, ": line 3 is not as it should be", 31) == 0,
              "%s", reason);
    cr_expect_not_null(strstr(reason, "\n/etc/seqtopk/"));
    file_in_use(NULL);
    remove_places(&p);
}

Test(tuning, load_names_the_path) {
    const places p = new_places();
    seqtopk_tuning *tuning;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    save_with(SLOTS_6, p.file);
    cr_assert_eq(seqtopk_tuning_load(&tuning, p.file, &error), SEQTOPK_OK, "%s", error.message);
    seqtopk_tuning_info info = SEQTOPK_TUNING_INFO_INIT;
    cr_assert_eq(seqtopk_tuning_get_info(tuning, &info), SEQTOPK_OK);
    cr_expect(info.shapes == 1 && info.dropped == 0);
    cr_expect_str_eq(info.path, p.file);
    const seqtopk_desc desc = plain_desc(128, 8, tuning);
    seqtopk_plan *plan = plan_of(&desc);
    char why[300];
    snprintf(why, sizeof why, "tuning file %s line 6", p.file);
    cr_expect_str_eq(choice_at(plan, "collect_logits", 4096).why, why);
    seqtopk_plan_destroy(plan);
    seqtopk_tuning_free(tuning);
    cr_assert_eq(truncate(p.file, 50), 0);
    cr_expect_eq(seqtopk_tuning_load(&tuning, p.file, &error), SEQTOPK_E_TUNING);
    cr_expect_eq(strncmp(error.message, p.file, strlen(p.file)), 0, "%s", error.message);
    cr_expect_null(tuning);
    remove_places(&p);
}

/* Plans read a file's beginning, whether that is short or long; what is torn behind it is nothing to them. */
Test(tuning, choices_are_all_that_is_read) {
    const places p = new_places();
    static const int32_t sizes[] = {20, 5000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        seqtopk_tuning_file w = tuning_random(sizes[i], 3), ours;
        seqtopk_tuning_file_init(&ours);
        memcpy(w.library, ours.library, sizeof w.library);
        memcpy(w.machine, ours.machine, sizeof w.machine);
        seqtopk_error error = SEQTOPK_ERROR_INIT;
        cr_assert_eq(seqtopk_store_save(&w, p.file, &error), SEQTOPK_OK, "%s", error.message);
        char *text, *whole;
        size_t size, all;
        cr_assert_eq(seqtopk_store_read(p.file, &whole, &all, NULL, NULL), SEQTOPK_OK);
        const size_t start = seqtopk_tuning_file_start(whole, all);
        cr_expect_eq(start > 64 << 10, i == 1, "%zu bytes of choices", start);
        seqtopk_tuning *tuning;
        seqtopk_tuning_info before = SEQTOPK_TUNING_INFO_INIT, after = SEQTOPK_TUNING_INFO_INIT;
        cr_assert_eq(seqtopk_tuning_parse(&tuning, whole, all, &error), SEQTOPK_OK, "%s", error.message);
        cr_assert_eq(seqtopk_tuning_get_info(tuning, &before), SEQTOPK_OK);
        cr_expect_gt(before.shapes, 5);
        seqtopk_tuning_free(tuning);
        cr_assert_eq(truncate(p.file, (off_t)start), 0);
        cr_assert_eq(seqtopk_store_read_start(p.file, &text, &size, NULL, NULL), SEQTOPK_OK);
        cr_expect(size == start && memcmp(text, whole, start) == 0);
        cr_assert_eq(seqtopk_tuning_load(&tuning, p.file, &error), SEQTOPK_OK, "%s", error.message);
        cr_assert_eq(seqtopk_tuning_get_info(tuning, &after), SEQTOPK_OK);
        cr_expect(after.shapes == before.shapes && after.dropped == before.dropped);
        seqtopk_tuning_free(tuning);
        seqtopk_tuning_file none;
        const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
        cr_expect_eq(seqtopk_store_load(&none, p.file, &any, &error), SEQTOPK_E_TUNING);
        cr_assert_eq(truncate(p.file, (off_t)start - 1), 0);
        cr_expect_eq(seqtopk_tuning_load(&tuning, p.file, &error), SEQTOPK_E_TUNING);
        free(text);
        free(whole);
        seqtopk_tuning_file_free(&w);
    }
    remove_places(&p);
}
