/* SPDX-License-Identifier: MIT */
/* `seqtopk tune show`: what a tuning file decides, by how much, and how far another file agrees. */
#include "desc.h"
#include "json.h"
#include "options.h"
#include "tune.h"

#include "src/tuning/ranges.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct show_values {
    const char *file, *op, *against;
    int scope, dtype, json;
    int64_t experts;
} show_values;

#define ROW(kind, name, argument, field, least, most, help)                                                            \
    { SEQTOPK_OPTION_##kind, false, name, argument, offsetof(show_values, field), least, most, help }
static const seqtopk_option rows[] = {
    ROW(POSITIONAL, "FILE", NULL, file, 0, 0, "a tuning file of any machine (default: the one in force)"),
    ROW(TEXT, "op", "NAME", op, 0, 0, "one stage only: lse, collect_logits, select_keys, ..."),
    ROW(CHOICE, "scope", SEQTOPK_WORDS_SCOPE, scope, 0, 0, "one scope only"),
    ROW(CHOICE, "dtype", SEQTOPK_WORDS_DTYPE, dtype, 0, 0, "one type of logits only"),
    ROW(INT, "experts", "E", experts, 1, 65536, "one number of experts only"),
    ROW(TEXT, "against", "FILE", against, 0, 0, "how many decisions another file shares, of those that matter"),
    ROW(FLAG, "json", NULL, json, 0, 0, "report one JSON object"),
};
static const seqtopk_options options = {
    "tune show",
    "Shows what a tuning file decides: for each stage and shape the kernel for each range of T, and how much longer "
    "the\n"
    "next best kernel makes a call. A ~ stands where the noise was larger than that.",
    "A decision matters where the kernels differ by more than 5 %, by either file.\n\n"
    "Examples:\n"
    "  seqtopk tune show --op collect_logits\n"
    "  seqtopk tune show monday.tuning --against tuesday.tuning",
    rows,
    sizeof rows / sizeof *rows,
};

/* ---------------------------------------------------------------- filter -- */

static const char *dtype_word(const seqtopk_tuning_shape *s) {
    static const char *const words[] = {"f32", "bf16", "f16", "i32"};
    return words[s->dtype & 3];
}

static const char *op_word(seqtopk_op op) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (seqtopk_registry[i].op == op)
            return seqtopk_registry[i].op_name;
    return "?";
}

static bool wanted(const show_values *v, const seqtopk_tuning_shape *s) {
    return (!v->op || !strcmp(v->op, op_word(s->op))) && (v->scope < 0 || s->scope == v->scope) &&
           (v->dtype < 0 || s->dtype == v->dtype) && (!v->experts || s->experts == v->experts);
}

static int check_op(const char *op) {
    const char *names[SEQTOPK_OPS];
    for (int i = 0; i < SEQTOPK_OPS; i++) {
        names[i] = op_word((seqtopk_op)i);
        if (op && !strcmp(op, names[i]))
            return SEQTOPK_OPTIONS_RUN;
    }
    if (!op)
        return SEQTOPK_OPTIONS_RUN;
    const char *near = seqtopk_options_nearest(op, names, SEQTOPK_OPS);
    return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "tune show: --op %s: there is no such stage; did you mean %s?", op,
                            near ? near : "collect_logits");
}

/* ------------------------------------------------------------------ text -- */

static bool same_heading(const seqtopk_tuning_shape *a, const seqtopk_tuning_shape *b) {
    return seqtopk_ranges_same_heading(a, b) && a->threads == b->threads;
}

static void print_heading(const seqtopk_tuning_shape *s) {
    char scope[SEQTOPK_WORD], score[SEQTOPK_WORD];
    printf("\n%s %s, scope %s, score %s, %d thread%s\n", op_word(s->op), dtype_word(s),
           seqtopk_options_word(SEQTOPK_WORDS_SCOPE, s->scope, scope),
           seqtopk_options_word(SEQTOPK_WORDS_SCORE, s->score, score), (int)s->threads, s->threads == 1 ? "" : "s");
}

/* Decisions [from, to) of one shape: T in ranges that take one kernel. */
static void print_shape(const seqtopk_measurement *d, int32_t from, int32_t to) {
    char shape[24];
    snprintf(shape, sizeof shape, "%dx%d", (int)d[from].shape.experts, (int)d[from].shape.top_k);
    for (int32_t i = from, end; i < to; i = end) {
        double least = seqtopk_cli_tune_gap(d + i), most = least;
        bool clear = false;
        for (end = i; end < to && d[end].row == d[i].row; end++) {
            const double gap = seqtopk_cli_tune_gap(d + end);
            least = gap < least ? gap : least;
            most = gap > most ? gap : most;
            clear |= d[end].clear != 0;
        }
        const seqtopk_row *row = seqtopk_registry + d[i].row;
        char range[32], by[40] = "";
        if (end - i > 1)
            snprintf(range, sizeof range, "%d..%d", (int)d[i].tokens, (int)d[end - 1].tokens);
        else
            snprintf(range, sizeof range, "%d", (int)d[i].tokens);
        if (d[i].runner_up >= 0 && end - i > 1)
            snprintf(by, sizeof by, "%+.1f..%+.1f %%%s", 100 * least, 100 * most, clear ? "" : " ~");
        else if (d[i].runner_up >= 0)
            snprintf(by, sizeof by, "%+.1f %%%s", 100 * least, clear ? "" : " ~");
        printf("  %-8s T %-14s %-6s %-12s %s\n", i == from ? shape : "", range, row->isa_name, row->algorithm, by);
    }
}

static void print_text(const show_values *v, const seqtopk_tuning_file *w, const char *path) {
    int32_t clear = 0, shown = 0;
    for (int32_t i = 0; i < w->size; i++)
        clear += w->measurement[i].clear != 0 && w->measurement[i].runner_up >= 0;
    printf("file       %s\nmachine    %s%s\ndecisions  %d, of which %d by more than the noise\n", path, w->machine,
           strcmp(w->machine, seqtopk_machine_key()) ? " (not this one)" : "", (int)w->size, (int)clear);
    for (int32_t i = 0; i < w->notes; i++)
        printf("dropped    line %d: %s\n", (int)w->note[i].line, seqtopk_tuning_reason_text(w->note[i].reason));
    if (w->dropped > w->notes)
        printf("dropped    %d lines more\n", (int)(w->dropped - w->notes));
    const seqtopk_tuning_shape *heading = NULL;
    for (int32_t i = 0, end; i < w->size; i = end) {
        const seqtopk_tuning_shape *s = &w->measurement[i].shape;
        for (end = i; end < w->size && seqtopk_tuning_shape_compare(&w->measurement[end].shape, s) == 0; end++)
            ;
        if (!wanted(v, s))
            continue;
        if (!heading || !same_heading(heading, s))
            print_heading(s);
        heading = s;
        print_shape(w->measurement, i, end);
        shown++;
    }
    if (!shown && w->size)
        printf("\nnone of them is about that\n");
}

/* ------------------------------------------------------------------ json -- */

static void print_json(const show_values *v, const seqtopk_tuning_file *w, const char *path) {
    seqtopk_json json = {stdout, false};
    char word[SEQTOPK_WORD];
    seqtopk_json_begin(&json, NULL, '{');
    seqtopk_json_text(&json, "file", path);
    seqtopk_json_text(&json, "machine", w->machine);
    seqtopk_json_text(&json, "library", w->library);
    seqtopk_json_int(&json, "dropped", w->dropped);
    seqtopk_json_begin(&json, "decisions", '[');
    for (int32_t i = 0; i < w->size; i++) {
        const seqtopk_measurement *d = w->measurement + i;
        if (!wanted(v, &d->shape))
            continue;
        seqtopk_json_begin(&json, NULL, '{');
        seqtopk_json_text(&json, "op", op_word(d->shape.op));
        seqtopk_json_text(&json, "dtype", dtype_word(&d->shape));
        seqtopk_json_text(&json, "scope", seqtopk_options_word(SEQTOPK_WORDS_SCOPE, d->shape.scope, word));
        seqtopk_json_text(&json, "score", seqtopk_options_word(SEQTOPK_WORDS_SCORE, d->shape.score, word));
        seqtopk_json_int(&json, "tokens", d->tokens);
        seqtopk_json_int(&json, "experts", d->shape.experts);
        seqtopk_json_int(&json, "top_k", d->shape.top_k);
        seqtopk_json_int(&json, "threads", d->shape.threads);
        seqtopk_json_text(&json, "kernel", seqtopk_registry[d->row].name);
        seqtopk_json_real(&json, "ns", (double)d->ps / 1000);
        seqtopk_json_real(&json, "spread", d->spread / 1000.0);
        seqtopk_json_text(&json, "runner_up", d->runner_up >= 0 ? seqtopk_registry[d->runner_up].name : NULL);
        seqtopk_json_real(&json, "runner_up_ns", (double)d->runner_up_ps / 1000);
        seqtopk_json_bool(&json, "clear", d->clear != 0);
        seqtopk_json_end(&json, '}');
    }
    seqtopk_json_end(&json, ']');
    seqtopk_json_end(&json, '}');
    putchar('\n');
}

/* --------------------------------------------------------------- against -- */

static const double MATTERS = 0.05;

/* By a file: which row, and how far the other one is behind, where both are known to it; 0 otherwise. */
static double cost_of_other(const seqtopk_measurement *d, int32_t other) {
    return d->runner_up == other ? seqtopk_cli_tune_gap(d) : 0;
}

static void compare(const show_values *v, const seqtopk_tuning_file *a, const seqtopk_tuning_file *b) {
    int32_t both = 0, same = 0, matter = 0, agree = 0, listed = 0;
    for (int32_t i = 0; i < a->size; i++) {
        const seqtopk_measurement *x = a->measurement + i, *y = seqtopk_tuning_file_find(b, &x->shape, x->tokens);
        if (!y || !wanted(v, &x->shape))
            continue;
        both++;
        same += x->row == y->row;
        if (seqtopk_cli_tune_gap(x) <= MATTERS && seqtopk_cli_tune_gap(y) <= MATTERS)
            continue;
        matter++;
        if (x->row == y->row) {
            agree++;
            continue;
        }
        if (listed++ < 20)
            printf("  %s %s %dx%dx%d, scope %d: %s (%+.1f %%), or %s (%+.1f %%)\n", op_word(x->shape.op),
                   dtype_word(&x->shape), (int)x->tokens, (int)x->shape.experts, (int)x->shape.top_k,
                   (int)x->shape.scope, seqtopk_registry[x->row].name, 100 * cost_of_other(x, y->row),
                   seqtopk_registry[y->row].name, 100 * cost_of_other(y, x->row));
    }
    if (listed > 20)
        printf("  and %d more\n", (int)listed - 20);
    printf("in both    %d decisions, %d the same\n", (int)both, (int)same);
    printf("matter     %d by more than 5 %%; %d of them the same (%.1f %%)\n", (int)matter, (int)agree,
           matter ? 100.0 * agree / matter : 100.0);
}

/* --------------------------------------------------------------- command -- */

int seqtopk_cli_tune_show(int argc, char **argv) {
    show_values values = {.scope = -1, .dtype = -1};
    seqtopk_tuning_file file, other;
    char used[SEQTOPK_STORE_PATH], used_other[SEQTOPK_STORE_PATH];
    uint64_t given;
    int status = seqtopk_options_parse(&options, argc, argv, &values, &given);
    if (status == SEQTOPK_OPTIONS_RUN)
        status = check_op(values.op);
    if (status == SEQTOPK_OPTIONS_RUN && values.against && values.json)
        status =
            seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "tune show: --against and --json do not go together; leave one out");
    if (status == SEQTOPK_OPTIONS_RUN)
        status = seqtopk_cli_tune_load("tune show", values.file, values.file != NULL, &file, used);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    if (values.against) {
        status = seqtopk_cli_tune_load("tune show", values.against, true, &other, used_other);
        if (status == SEQTOPK_OPTIONS_RUN) {
            compare(&values, &file, &other);
            seqtopk_tuning_file_free(&other);
        }
    } else if (values.json) {
        print_json(&values, &file, used);
    } else {
        print_text(&values, &file, used);
    }
    seqtopk_tuning_file_free(&file);
    return status == SEQTOPK_OPTIONS_RUN ? SEQTOPK_EXIT_OK : status;
}
