/* SPDX-License-Identifier: MIT */
/* `seqtopk tune verify`: a sample of what a tuning file decides, timed again beside all other contenders. */
#define _POSIX_C_SOURCE 200809L
#include "options.h"
#include "progress.h"
#include "tune.h"

#include "tune/decide.h"
#include "tune/emulated.h"
#include "tune/tune.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct verify_values {
    const char *file;
    int untuned;
    int64_t budget, sample;
} verify_values;

#define ROW(kind, name, argument, field, least, most, help)                                                            \
    { SEQTOPK_OPTION_##kind, false, name, argument, offsetof(verify_values, field), least, most, help }
static const seqtopk_option rows[] = {
    ROW(POSITIONAL, "FILE", NULL, file, 0, 0, "a tuning file of this machine (default: the one in force)"),
    ROW(INT, "sample", "N", sample, 1, 100000, "how many of its points are timed again (default: 48)"),
    ROW(INT, "budget", "SECONDS", budget, 1, 86400, "no longer than this (default: 30)"),
    ROW(FLAG, "untuned", NULL, untuned, 0, 0, "judge what plans take without any tuning file, at the same points"),
};
static const seqtopk_options options = {
    "tune verify",
    "Times a sample of a tuning file's points again: the kernels that a plan takes by the file beside every other "
    "kernel.\n"
    "Tells how often and how far the best of those is faster. Writes nothing. Exit status 0: at least 95 % of the "
    "points are\n"
    "within 5 % of the best; 1: they are not, or an error.",
    "Examples:\n"
    "  seqtopk tune verify\n"
    "  seqtopk tune verify --untuned --sample 200 --budget 120",
    rows,
    sizeof rows / sizeof *rows,
};

static const double GOOD = 0.05;

typedef struct verify {
    seqtopk_progress progress;
    double *miss;
    int32_t count;
    double worst;
    char worst_at[SEQTOPK_TUNE_POINT_TEXT], worst_by[160];
} verify;

/* ---------------------------------------------------------------- sample -- */

static int by_column(const void *a, const void *b) {
    const seqtopk_tune_point *x = a, *y = b;
    if (x->experts != y->experts)
        return x->experts < y->experts ? -1 : 1;
    if (x->dtype != y->dtype)
        return x->dtype < y->dtype ? -1 : 1;
    if (x->scope != y->scope)
        return x->scope < y->scope ? -1 : 1;
    if (x->top_k != y->top_k)
        return x->top_k < y->top_k ? -1 : 1;
    return (x->tokens > y->tokens) - (x->tokens < y->tokens);
}

/* The points of a file. Only rows of logits tell their dtype: those of sweep and pick, or, where neither is, of score.
 */
static size_t points_of(const seqtopk_tuning_file *w, int32_t threads, seqtopk_tune_point *points) {
    size_t count = 0;
    for (int32_t i = 0; i < w->size; i++) {
        const seqtopk_measurement *d = w->measurement + i;
        const seqtopk_op op = d->shape.op;
        if (d->shape.score != SEQTOPK_SCORE_SOFTMAX || d->shape.threads != threads ||
            (op != SEQTOPK_OP_collect_logits && op != SEQTOPK_OP_topk_logits && op != SEQTOPK_OP_lse &&
             op != SEQTOPK_OP_keys))
            continue;
        points[count++] = (seqtopk_tune_point){(seqtopk_scope)d->shape.scope,
                                               (seqtopk_dtype)d->shape.dtype,
                                               d->shape.experts,
                                               d->shape.top_k,
                                               d->tokens,
                                               threads};
    }
    qsort(points, count, sizeof *points, by_column);
    size_t distinct = 0;
    for (size_t i = 0; i < count; i++)
        if (i == 0 || by_column(points + i - 1, points + i) != 0)
            points[distinct++] = points[i];
    return distinct;
}

/* So many of them, spread over all by a step that meets every residue. */
static size_t thin(seqtopk_tune_point *points, size_t count, size_t sample) {
    if (count <= sample)
        return count;
    size_t kept = 0;
    for (size_t i = 0; i < sample; i++)
        points[kept++] = points[(size_t)(((double)i + 0.5) * (double)count / (double)sample)];
    return kept;
}

/* ---------------------------------------------------------------- events -- */

static void on_begin(void *context, const seqtopk_tune_point *point, const seqtopk_tune_progress *p) {
    verify *v = context;
    char text[SEQTOPK_TUNE_POINT_TEXT];
    seqtopk_progress_show(&v->progress, p->done, p->points, p->seconds, p->left, "timing again",
                          seqtopk_tune_point_text(point, text));
}

/* How much longer a call takes than with the best that was found: its winners together, or another single kernel that
 * was too close to be called a winner. */
static void on_done(void *context, const seqtopk_tune_result *r) {
    verify *v = context;
    double miss = r->ns > 0 ? r->incumbent_ns / r->ns - 1 : 0;
    const seqtopk_tune_found *by = NULL;
    for (int32_t i = 0; i < r->count; i++) {
        const seqtopk_tune_found *f = r->found + i;
        if (f->row != f->incumbent && (!by || f->ns < by->ns))
            by = f;
        if (f->row == f->incumbent && -f->gap > miss)
            miss = -f->gap;
    }
    miss = miss > 0 ? miss : 0;
    v->miss[v->count++] = miss;
    if (miss > v->worst) {
        v->worst = miss;
        seqtopk_tune_point_text(&r->point, v->worst_at);
        snprintf(v->worst_by, sizeof v->worst_by, "%s%s", by ? ", with " : "", by ? by->row->name : "");
    }
}

/* --------------------------------------------------------------- command -- */

static int report(verify *v, const seqtopk_tune_summary *s) {
    int32_t good = 0;
    for (int32_t i = 0; i < v->count; i++)
        good += v->miss[i] <= GOOD;
    const double median = seqtopk_tune_median(v->miss, v->count); /* sorts */
    const bool holds = v->count > 0 && good >= 0.95 * v->count;
    printf("timed      %zu of %zu points in %.1f s%s\n", s->done, s->points, s->seconds,
           s->over_budget ? "; the budget is spent" : "");
    if (v->count == 0)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune verify: no point could be timed; give it more of --budget");
    printf("within 5 %% of the best: %d of %d (%.1f %%)\n", (int)good, (int)v->count, 100.0 * good / v->count);
    printf("behind     %.1f %% in the median, %.1f %% at the 90th percentile, %.1f %% at most\n", 100 * median,
           100 * v->miss[(v->count - 1) * 9 / 10], 100 * v->worst);
    if (v->worst > 0)
        printf("worst      %s: %.1f %%%s\n", v->worst_at, 100 * v->worst, v->worst_by);
    printf("holds      %s\n", holds ? "yes" : "no: tune again");
    return holds ? SEQTOPK_EXIT_OK : SEQTOPK_EXIT_FAILURE;
}

static int run(const verify_values *values, const seqtopk_tuning_file *file, const char *path) {
    static seqtopk_tune_topology topology;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_tune_summary summary;
    verify v = {.progress = seqtopk_progress_new("tune verify"), .worst = 0};
    const size_t all = (size_t)file->size + 1;
    seqtopk_tune_grid grid = {seqtopk_cli_alloc(all, sizeof *grid.points), 0};
    v.miss = seqtopk_cli_alloc(all, sizeof *v.miss);
    int status = SEQTOPK_OPTIONS_RUN;
    if (!grid.points || !v.miss)
        status = seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune verify: no memory");
    else if (!seqtopk_tune_topology_read(&topology))
        status = seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune verify: hwloc cannot read this machine's topology");
    if (status == SEQTOPK_OPTIONS_RUN) {
        const int32_t threads = file->size ? file->measurement[0].shape.threads : 1;
        grid.count = thin(grid.points, points_of(file, threads, grid.points), (size_t)values->sample);
        if (grid.count == 0)
            status =
                seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune verify: %s decides nothing that could be timed", path);
        else if (threads > topology.places)
            status = seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                      "tune verify: %s is of calls on %d threads, and there are %d "
                                      "processors",
                                      path, (int)threads, (int)topology.places);
    }
    seqtopk_tuning *tuning = NULL;
    if (status == SEQTOPK_OPTIONS_RUN && !values->untuned && seqtopk_tuning_load(&tuning, path, &error) != SEQTOPK_OK)
        status = seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune verify: %s", error.message);
    if (status == SEQTOPK_OPTIONS_RUN) {
        const seqtopk_tune_events events = {&v, NULL, on_begin, on_done, NULL};
        const seqtopk_tune_options how = {(double)values->budget, &topology, tuning, true};
        printf("file       %s\n", path);
        printf("judged     %s\n", values->untuned ? "what plans take without it" : "what plans take by it");
        fflush(stdout);
        seqtopk_tune_pin(&topology, 0);
        if (seqtopk_tune_walk(&grid, &how, &events, &summary, &error) != SEQTOPK_OK)
            status = seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune verify: %s", error.message);
        seqtopk_progress_clear(&v.progress);
    }
    if (status == SEQTOPK_OPTIONS_RUN)
        status = report(&v, &summary);
    seqtopk_tuning_free(tuning);
    free(v.miss);
    seqtopk_tune_grid_free(&grid);
    return status;
}

int seqtopk_cli_tune_verify(int argc, char **argv) {
    verify_values values = {.budget = 30, .sample = 48};
    seqtopk_tuning_file file;
    char used[SEQTOPK_STORE_PATH];
    uint64_t given;
    int status = seqtopk_options_parse(&options, argc, argv, &values, &given);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    const char *emulator = seqtopk_tune_emulated();
    status = seqtopk_cli_tune_load("tune verify", values.file, false, &file, used);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    status = emulator ? seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                         "tune verify: this program is emulated by %s, whose timings "
                                         "say nothing about a processor; run it natively",
                                         emulator)
                      : run(&values, &file, used);
    seqtopk_tuning_file_free(&file);
    return status;
}
