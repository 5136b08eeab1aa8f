/* SPDX-License-Identifier: MIT */
/* `seqtopk tune` itself: times, decides, writes the tuning file and the report. */
#define _POSIX_C_SOURCE 200809L
#include "desc.h"
#include "machine.h"
#include "model.h"
#include "options.h"
#include "progress.h"
#include "tune.h"
#include "whole.h"

#include "src/plan/presets.h"
#include "tune/decide.h"
#include "tune/emulated.h"
#include "tune/report.h"
#include "tune/timer.h"
#include "tune/tune.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct tune_values {
    const char *shapes, *model, *models, *output, *report;
    int scope, dtype, quick, dry_run;
    int64_t budget, threads;
} tune_values;

enum { BUDGET = 570, BUDGET_QUICK = 17, BUDGET_MOST = 86400 };

#define ROW(kind, name, argument, field, least, most, help)                                                            \
    { SEQTOPK_OPTION_##kind, false, name, argument, offsetof(tune_values, field), least, most, help }
static const seqtopk_option rows[] = {
    {.kind = SEQTOPK_OPTION_HEADING, .help = "What is tuned"},
    ROW(TEXT, "shapes", "LIST", shapes, 0, 0, "TxExK or ExK (every T), separated by commas: 8192x256x8,128x8"),
    ROW(TEXT, "model", "NAME", model, 0, 0, "the shape of a published model, see seqtopk models"),
    ROW(TEXT, "models", "NAMES", models, 0, 0, "the shapes of these models, separated by commas"),
    ROW(CHOICE, "scope", SEQTOPK_WORDS_SCOPE, scope, 0, 0, "one scope only (default: both)"),
    ROW(CHOICE, "dtype", SEQTOPK_WORDS_DTYPE, dtype, 0, 0, "one type of logits only (default: all)"),
    ROW(INT, "threads", "N", threads, 1, 1024, "calls on N threads; tune each number you use (default: 1)"),
    ROW(FLAG, "quick", NULL, quick, 0, 0, "a few common shapes and sizes of f32 and bf16, in under 20 seconds"),
    {.kind = SEQTOPK_OPTION_HEADING, .help = "How"},
    ROW(INT, "budget", "SECONDS", budget, 1, BUDGET_MOST, "no longer than this (default: 570; 17 with --quick)"),
    ROW(FLAG, "dry-run", NULL, dry_run, 0, 0, "say what would be timed and where it would go; time and write nothing"),
    {.kind = SEQTOPK_OPTION_HEADING, .help = "Where to"},
    ROW(TEXT, "output", "FILE", output, 0, 0, "the tuning file (default: this machine's, in your cache directory)"),
    ROW(TEXT, "report", "FILE.html", report, 0, 0, "a page of maps: which kernel wins where, and by how much"),
};

static const seqtopk_options options = {
    "tune",
    "Finds the fastest kernels of this machine for every shape. Run it once: from then on every plan of every program "
    "that\n"
    "links the library takes them. Results never change, to the bit. What is tuned joins what the file has already.",
    "Subcommands, each with --help:\n"
    "  tune show     what a tuning file decides, and by how much\n"
    "  tune verify   whether it still holds, by timing a sample again\n"
    "  tune merge    puts files together, of partial runs and of other machines\n"
    "  tune export   this machine's file, to ship or to keep\n"
    "  tune key      what this machine's file is known by\n\n"
    "Without --shapes, --model and --models: the shapes that `seqtopk models` marks with a *.\n\n"
    "Ctrl-C keeps what is decided so far, and exits with 1. SEQTOPK_TUNING=none in a program's environment ignores the "
    "file.\n\n"
    "Examples:\n"
    "  seqtopk tune --quick\n"
    "  seqtopk tune --models deepseek-v3,qwen3 --threads 4 --report tuning.html",
    rows,
    sizeof rows / sizeof *rows,
};

static volatile sig_atomic_t interrupted;
static void interrupt(int number) {
    (void)number;
    interrupted = 1;
}

/* A second signal ends the program as it would any other. */
static void catch_signals(void) {
    struct sigaction action = {0};
    action.sa_handler = interrupt;
    action.sa_flags = (int)SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

typedef struct run {
    const tune_values *values;
    double budget;
    char path[SEQTOPK_STORE_PATH];
    seqtopk_tune_grid grid;
    seqtopk_tune_topology topology;
    seqtopk_tune_noise noise;
    seqtopk_tune_summary summary;
    seqtopk_progress progress;
    seqtopk_tune_result *results;
    size_t count;
} run;

/* ---------------------------------------------------------------- events -- */

static bool on_stop(void *context) {
    (void)context;
    return interrupted != 0;
}

static void on_begin(void *context, const seqtopk_tune_point *point, const seqtopk_tune_progress *p) {
    run *r = context;
    char text[SEQTOPK_TUNE_POINT_TEXT], group[48];
    snprintf(group, sizeof group, "%" PRId32 " experts, %s", point->experts, seqtopk_tune_dtype_word(point->dtype));
    seqtopk_progress_show(&r->progress, p->done, p->points, p->seconds, p->left, group,
                          seqtopk_tune_point_text(point, text));
}

static void on_done(void *context, const seqtopk_tune_result *result) {
    run *r = context;
    r->results[r->count++] = *result;
}

static void on_wrong(void *context, const seqtopk_tune_point *point, const seqtopk_row *row, const char *list) {
    run *r = context;
    char text[SEQTOPK_TUNE_POINT_TEXT];
    seqtopk_progress_clear(&r->progress);
    seqtopk_cli_fail(0, "tune: %s gives other %s than the reference at %s; it is not chosen. Please report this",
                     row->name, list, seqtopk_tune_point_text(point, text));
}

/* ---------------------------------------------------------------- before -- */

static int prepare(run *r) {
    static const char *const forcing[] = {"SEQTOPK_ISA", "SEQTOPK_KERNEL", "SEQTOPK_WAY"};
    const tune_values *v = r->values;
    const char *emulator = seqtopk_tune_emulated();
    char message[SEQTOPK_TUNE_MESSAGE];
    for (size_t i = 0; i < sizeof forcing / sizeof *forcing; i++)
        if (getenv(forcing[i]) && *getenv(forcing[i]))
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "tune: %s is set, which leaves nothing to choose; unset it",
                                    forcing[i]);
    const char *models = v->models;
    if (v->model) {
        const int32_t index = seqtopk_cli_model_find("tune: --model", v->model);
        if (index < 0)
            return SEQTOPK_EXIT_USAGE;
        if (models)
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                    "tune: --model and --models say the same; name all in --models");
        models = seqtopk_presets[index].name;
    }
    const seqtopk_tune_request request = {v->shapes, models, v->quick != 0, v->scope, v->dtype, (int32_t)v->threads};
    if (!seqtopk_tune_grid_make(&request, &r->grid, message))
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "tune: %s", message);
    int status = seqtopk_cli_tune_target("tune", v->output, r->path);
    if (status == SEQTOPK_OPTIONS_RUN)
        status = seqtopk_cli_tune_writable("tune", r->path);
    if (status == SEQTOPK_OPTIONS_RUN)
        status = seqtopk_cli_tune_replaceable("tune", r->path);
    if (status == SEQTOPK_OPTIONS_RUN && v->report)
        status = seqtopk_cli_tune_writable("tune --report", v->report);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    if (emulator && !v->dry_run)
        return seqtopk_cli_fail(
            SEQTOPK_EXIT_FAILURE,
            "tune: this program is emulated by %s, whose timings say nothing about a processor; run "
            "it natively on the machine that is to be tuned",
            emulator);
    if (!seqtopk_tune_topology_read(&r->topology))
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune: hwloc cannot read this machine's topology");
    if (v->threads > r->topology.places)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "tune: --threads %" PRId64 " is more than the %d processors that "
                                "this process may use; take fewer",
                                v->threads, (int)r->topology.places);
    r->results = seqtopk_cli_alloc(r->grid.count + 1, sizeof *r->results);
    return r->results ? SEQTOPK_OPTIONS_RUN
                      : seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune: no memory for %zu points", r->grid.count);
}

static void print_machine(const run *r) {
    const seqtopk_tune_topology *t = &r->topology;
    printf("machine    %s\n", seqtopk_machine_key());
    printf("cores      %d, %d processors, %d NUMA node%s; L1 %" PRId64 " KiB, L2 %" PRId64 " KiB, L3 %" PRId64 " KiB\n",
           (int)t->cores, (int)t->processors, (int)t->nodes, t->nodes == 1 ? "" : "s", t->cache[0] >> 10,
           t->cache[1] >> 10, t->cache[2] >> 10);
    if (t->kinds > 1)
        printf(
            "           %d kinds of cores: the %d performance cores are timed, and programs on others use the same\n",
            (int)t->kinds, (int)t->cores_of_kind);
    printf("timed on   processor");
    for (int64_t i = 0; i < r->values->threads; i++)
        printf("%s%d", i ? "," : " ", (int)t->place[i]);
    if (r->values->threads > t->distinct)
        printf(" (more threads than cores: some share one)");
    putchar('\n');
}

static void print_noise(const run *r) {
    printf("noise      equal work varies by %.1f %%%s\n", 100 * r->noise.spread,
           r->noise.spread > SEQTOPK_TUNE_NOISY ? ": too much to decide close calls; stop other programs and tune again"
                                                : "");
}

static void print_grid(const run *r) {
    char clock[SEQTOPK_CLOCK], text[SEQTOPK_TUNE_POINT_TEXT];
    const double estimate = seqtopk_tune_estimate(&r->grid);
    int64_t bytes = 0;
    for (size_t i = 0; i < r->grid.count; i++)
        if (seqtopk_tune_point_bytes(r->grid.points + i) > bytes)
            bytes = seqtopk_tune_point_bytes(r->grid.points + i);
    printf("points     %zu, the largest with %.1f MiB of logits; about %s, at most %s\n", r->grid.count,
           (double)bytes / (1 << 20), seqtopk_clock_text(estimate < r->budget ? estimate : r->budget, clock),
           seqtopk_clock_text(r->budget, (char[SEQTOPK_CLOCK]){0}));
    for (size_t i = 0; i < r->grid.count && r->grid.count <= 24; i++)
        printf("           %s\n", seqtopk_tune_point_text(r->grid.points + i, text));
    printf("file       %s\n", r->path);
}

static void print_contenders(const run *r) {
    for (int op = 0; op < SEQTOPK_OPS; op++) {
        int32_t most = 0;
        const char *name = NULL;
        for (int32_t i = 0; i < seqtopk_registry_size; i++)
            if (seqtopk_registry[i].op == (seqtopk_op)op)
                name = seqtopk_registry[i].op_name;
        for (int scope = 0; scope < 2 && r->grid.count; scope++) {
            const seqtopk_row *found[128];
            seqtopk_desc desc = SEQTOPK_DESC_INIT;
            desc.experts = r->grid.points->experts;
            desc.top_k = r->grid.points->top_k;
            desc.scope = (seqtopk_scope)scope;
            const int32_t n = seqtopk_tune_contenders(&desc, (seqtopk_op)op, found, 128);
            most = n > most ? n : most;
        }
        printf("           %-8s %d contender%s\n", name, (int)most, most == 1 ? ", nothing to choose" : "s");
    }
}

/* ----------------------------------------------------------------- after -- */

static int32_t row_index(const seqtopk_row *row) { return row ? (int32_t)(row - seqtopk_registry) : -1; }

static int64_t picoseconds(double ns) {
    const double ps = ns * 1000 + 0.5;
    return ps < 1 ? 1 : ps > (double)SEQTOPK_TUNING_LARGEST_PS ? SEQTOPK_TUNING_LARGEST_PS : (int64_t)ps;
}

static seqtopk_measurement tuned_of(const seqtopk_tune_point *p, const seqtopk_tune_found *f) {
    seqtopk_measurement tuned = {
        .shape = {f->op, f->row->dtype, (int32_t)p->scope, (int32_t)f->score, p->experts, p->top_k, p->threads},
        .tokens = (int32_t)p->tokens,
        .row = row_index(f->row),
        .runner_up = row_index(f->runner_up),
        .spread = (int32_t)(f->spread < 1000 ? 1000 * f->spread + 0.5 : (double)SEQTOPK_TUNING_LARGEST_SPREAD),
        .clear = f->clear || !f->runner_up,
        .ps = picoseconds(f->ns),
    };
    if (f->runner_up)
        tuned.runner_up_ps = picoseconds(f->runner_up_ns);
    return tuned;
}

/* Kernels of keys and ids serve every type of logits, so that several points may decide on one thing: the first of
 * those that decide clearly. */
static int collect(const run *r, seqtopk_tuning_file *file) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    for (size_t i = 0; i < r->count; i++)
        for (int32_t f = 0; f < r->results[i].count; f++) {
            const seqtopk_measurement tuned = tuned_of(&r->results[i].point, r->results[i].found + f);
            const seqtopk_measurement *there = seqtopk_tuning_file_find(file, &tuned.shape, tuned.tokens);
            if (there && (there->clear || !tuned.clear))
                continue;
            if (seqtopk_tuning_file_add(file, &tuned, &error) != SEQTOPK_OK)
                return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune: %s", error.message);
        }
    return SEQTOPK_OPTIONS_RUN;
}

/* Minutes of timing are not thrown away for a file that cannot be written any more: here, or where temporary files go. */
static int rescue(const seqtopk_tuning_file *file, const char *why) {
    const char *temporary = getenv("TMPDIR");
    const char *const places[] = {".", temporary && *temporary ? temporary : "/tmp"};
    char name[SEQTOPK_STORE_PATH];
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const int size = snprintf(name, sizeof name, "%s/%s.tuning", places[i], seqtopk_machine_name());
        if (size < (int)sizeof name && seqtopk_store_merge(file, name, NULL, NULL) == SEQTOPK_OK)
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                    "tune: %s; what was decided is in %s: `seqtopk tune merge` takes it", why, name);
    }
    return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune: %s; what was decided is lost", why);
}

static int write_file(const run *r) {
    seqtopk_tuning_file file, merged;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_tuning_file_init(&file);
    int status = collect(r, &file);
    if (status == SEQTOPK_OPTIONS_RUN && seqtopk_store_merge(&file, r->path, &merged, &error) != SEQTOPK_OK)
        status = rescue(&file, error.message);
    if (status == SEQTOPK_OPTIONS_RUN) {
        printf("written    %s, which has %d decisions now\n", r->path, (int)merged.size);
        seqtopk_tuning_file_free(&merged);
    }
    seqtopk_tuning_file_free(&file);
    return status;
}

static int write_report(const run *r) {
    seqtopk_machine machine;
    char when[32];
    const time_t now = time(NULL);
    struct tm date;
    strftime(when, sizeof when, "%Y-%m-%d", gmtime_r(&now, &date));
    seqtopk_machine_read(&machine);
    const seqtopk_tune_report report = {machine.name, seqtopk_machine_key(), seqtopk_version(), when, r->results,
                                        r->count,     r->summary.seconds,    r->noise.spread};
    seqtopk_whole file;
    bool ok = seqtopk_whole_open(&file, r->values->report);
    if (ok)
        ok = seqtopk_whole_close(&file, seqtopk_tune_report_write(&report, file.out));
    if (!ok)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune: --report %s: cannot be written: %s", r->values->report,
                                strerror(errno));
    printf("report     %s\n", r->values->report);
    return SEQTOPK_OPTIONS_RUN;
}

/* How much the winners gain over what would have been taken without tuning. */
static void print_gain(const run *r) {
    double *gain = seqtopk_cli_alloc(r->count, sizeof *gain);
    int32_t n = 0;
    for (size_t i = 0; gain && i < r->count; i++)
        if (r->results[i].ns > 0 && r->results[i].incumbent_ns > 0)
            gain[n++] = r->results[i].incumbent_ns / r->results[i].ns - 1;
    if (n) {
        const double median = seqtopk_tune_median(gain, n); /* sorts */
        printf("gain       untuned plans take %.1f %% longer in the median, %.1f %% at the 90th percentile, %.1f %% at "
               "most\n",
               100 * median, 100 * gain[(n - 1) * 9 / 10], 100 * gain[n - 1]);
    }
    free(gain);
}

static void print_summary(const run *r) {
    const seqtopk_tune_summary *s = &r->summary;
    printf("tuned      %zu of %zu points in %.1f s%s\n", s->done, s->points, s->seconds,
           s->stopped       ? ": interrupted"
           : s->over_budget ? ": the budget is spent; run it again with more of --budget, or with fewer shapes"
                            : "");
    printf("decided    %zu: %zu unlike the model, %zu too close for this noise and left to the model\n", s->decisions,
           s->changed, s->noisy);
    if (s->noisy * 10 > s->decisions)
        printf("           this machine is too noisy to decide those: stop other programs and tune again\n");
    if (s->too_large)
        printf("left out   %zu points, whose logits would take more than a quarter of the memory\n", s->too_large);
    if (s->wrong)
        printf("wrong      %zu times a kernel gave other lists than the reference; it is not chosen\n", s->wrong);
    print_gain(r);
}

/* --------------------------------------------------------------- command -- */

static int tune(run *r) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    const seqtopk_tune_events events = {r, on_stop, on_begin, on_done, on_wrong};
    const seqtopk_tune_options how = {.budget = r->budget, .topology = &r->topology};
    catch_signals();
    if (!seqtopk_tune_pin(&r->topology, 0))
        seqtopk_cli_fail(0, "tune: the system does not let this thread stay on one processor; timings vary more");
    r->noise = seqtopk_tune_noise_measure();
    print_noise(r);
    fflush(stdout);
    r->progress = seqtopk_progress_new("tune");
    const seqtopk_status status = seqtopk_tune_walk(&r->grid, &how, &events, &r->summary, &error);
    seqtopk_progress_clear(&r->progress);
    print_summary(r);
    /* Whatever ended it, what is decided is kept. */
    int wrote = r->count ? write_file(r) : SEQTOPK_OPTIONS_RUN;
    if (wrote == SEQTOPK_OPTIONS_RUN && r->values->report)
        wrote = write_report(r);
    if (status)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune: %s", error.message);
    if (wrote != SEQTOPK_OPTIONS_RUN)
        return wrote;
    if (r->summary.stopped)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune: interrupted after %zu of %zu points; %s", r->summary.done,
                                r->summary.points,
                                r->count ? "what was decided is kept, and the next run adds to it"
                                         : "nothing was decided yet, and the file is as it was");
    return r->summary.wrong ? SEQTOPK_EXIT_FAILURE : SEQTOPK_EXIT_OK;
}

int seqtopk_cli_tune_run(int argc, char **argv) {
    tune_values values = {.scope = -1, .dtype = -1, .threads = 1};
    uint64_t given;
    int status = seqtopk_options_parse(&options, argc, argv, &values, &given);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    run *r = calloc(1, sizeof *r);
    if (!r)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "tune: no memory");
    r->values = &values;
    r->budget = values.budget ? (double)values.budget : values.quick ? BUDGET_QUICK : BUDGET;
    status = prepare(r);
    if (status == SEQTOPK_OPTIONS_RUN) {
        print_machine(r);
        print_grid(r);
        if (values.dry_run) {
            print_contenders(r);
            status = SEQTOPK_EXIT_OK;
        } else {
            status = tune(r);
        }
    }
    seqtopk_tune_grid_free(&r->grid);
    free(r->results);
    free(r);
    return status;
}
