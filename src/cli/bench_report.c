/* SPDX-License-Identifier: MIT */
#include "bench.h"
#include "cli.h"
#include "draw.h"
#include "json.h"
#include "machine.h"
#include "report.h"
#include "ways.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {"read", "floor", "route", "permuted", "reference"};
static const char *const keys[] = {"read_ns", "floor_ns", "route_ns", "route_permuted_ns", "reference_ns"};

static double elements_per_second(const seqtopk_bench_report *r, const seqtopk_measure *item) {
    return 1e9 * (double)r->desc->tokens * (double)r->desc->experts / item->median;
}

static double floors(const seqtopk_bench_report *r, const seqtopk_measure *item) {
    return item->median / r->items[SEQTOPK_BENCH_FLOOR].median;
}

/* In token scope a batch is one. */
static int64_t tokens_of_sequence(const seqtopk_bench_report *r) {
    return r->desc->scope == SEQTOPK_SCOPE_TOKEN ? r->desc->tokens : r->desc->tokens / r->values->sequences;
}

/* The floor's kernel, where it has one of the library's. */
static const char *floor_kernel(const seqtopk_bench_report *r) { return r->floor->lse ? r->score->name : NULL; }

/* ------------------------------------------------------------ for people -- */

/* 123.4 ns, 5.678 us: four digits. */
static void time_text(char *text, size_t size, double ns) {
    static const char *const units[] = {"ns", "us", "ms", "s"};
    int unit = 0;
    for (; ns >= 1000 && unit < 3; unit++)
        ns /= 1000;
    snprintf(text, size, "%.*f %-2s", ns < 10 ? 3 : ns < 100 ? 2 : 1, ns, units[unit]);
}

static void print_head(const seqtopk_bench_report *r) {
    const seqtopk_desc *d = r->desc;
    char dtype[SEQTOPK_WORD], note[SEQTOPK_NOTE];
    seqtopk_machine machine;
    seqtopk_machine_read(&machine);
    printf("seqtopk    %s\nprocessor  %s, %ld online\n", seqtopk_version(), machine.name, machine.processors);
    if (r->values->model)
        printf("model      %s\n", r->values->model);
    printf("shape      %" PRId64 " token%s, %" PRId32 " expert%s, %s", d->tokens, d->tokens == 1 ? "" : "s", d->experts,
           d->experts == 1 ? "" : "s", seqtopk_options_word(SEQTOPK_WORDS_DTYPE, (int)d->dtype, dtype));
    if (r->values->sequences > 1 && d->scope == SEQTOPK_SCOPE_SEQUENCE)
        printf("; %" PRId64 " sequences", r->values->sequences);
    printf("\nrouting    ");
    seqtopk_cli_router_text(d, r->values->biased);
    printf("\nlogits     random, seed %" PRId64 ", %.1f KiB; %s\n", r->values->seed, (double)r->bytes / 1024,
           r->values->cold ? "before every call 64 MB of other memory are read"
                           : "the same in every call, from caches where they fit");
    printf("measured   %" PRId32 " rounds in %.2f s; route on %" PRId32 " thread%s, the others on 1\n", r->rounds,
           r->seconds, d->threads, d->threads == 1 ? "" : "s");
    printf("floor      %s%s%s\n", r->floor->name, floor_kernel(r) ? ", by " : "",
           floor_kernel(r) ? floor_kernel(r) : "");
    for (int next = 0; seqtopk_cli_desc_note(r->options, r->given, d, &next, note);)
        printf("note       %s\n", note);
    if (!r->values->cold && !r->items[SEQTOPK_BENCH_REFERENCE].samples)
        printf("note       the reference would take too long; --seconds gives it more\n");
}

static void print_table(const seqtopk_bench_report *r) {
    printf("\n  %-9s %14s %11s %13s %8s %8s\n", "", "ns a call", "ns a token", "M elements/s", "spread", "floors");
    for (int i = 0; i < SEQTOPK_BENCH_ITEMS; i++) {
        const seqtopk_measure *item = &r->items[i];
        if (!item->samples)
            continue;
        printf("  %-9s %14.1f %11.2f %13.1f %6.1f %% %8.2f\n", names[i], item->median,
               item->median / (double)r->desc->tokens, elements_per_second(r, item) / 1e6,
               100 * seqtopk_measure_spread(item), floors(r, item));
    }
}

static void draw(const seqtopk_bench_report *r) {
    seqtopk_bar bars[SEQTOPK_BENCH_ITEMS];
    size_t count = 0;
    memset(bars, 0, sizeof bars);
    for (int i = 0; i < SEQTOPK_BENCH_ITEMS; i++) {
        if (!r->items[i].samples)
            continue;
        seqtopk_bar *bar = &bars[count++];
        snprintf(bar->label, sizeof bar->label, "%s", names[i]);
        time_text(bar->number, sizeof bar->number, r->items[i].median);
        bar->value = elements_per_second(r, &r->items[i]);
    }
    printf("\nspeed: time of a call, elements a second as a bar\n");
    seqtopk_draw_bars(bars, count);
}

static void print_text(const seqtopk_bench_report *r) {
    print_head(r);
    print_table(r);
    draw(r);
    seqtopk_cli_ways_text(r->plan, tokens_of_sequence(r), r->values->biased);
    printf("\nkernels\n");
    seqtopk_cli_choices_text(r->plan, r->desc->tokens);
}

/* ---------------------------------------------------------- for programs -- */

static void json_machine(seqtopk_json *j) {
    seqtopk_machine machine;
    seqtopk_machine_read(&machine);
    seqtopk_json_text(j, "version", seqtopk_version());
    seqtopk_json_text(j, "processor", machine.name);
    seqtopk_json_int(j, "processors", machine.processors);
}

static void json_config(seqtopk_json *j, const seqtopk_bench_report *r) {
    const seqtopk_desc *d = r->desc;
    const int64_t shape[] = {d->tokens, d->experts};
    seqtopk_json_text(j, "isa", r->score->isa_name);
    seqtopk_json_text(j, "model", r->values->model);
    seqtopk_json_ints(j, "shape", shape, 2);
    seqtopk_json_int(j, "tokens", d->tokens);
    seqtopk_json_int(j, "experts", d->experts);
    seqtopk_json_int(j, "sequences", r->values->sequences);
    seqtopk_cli_router_json(j, r->plan, d, r->values->biased);
    seqtopk_json_bool(j, "cold", r->values->cold);
    seqtopk_json_int(j, "seed", r->values->seed);
    seqtopk_json_int(j, "threads", d->threads);
}

/* "read_ns" and so on at the top, where programs look first; what stands behind each below "measured". */
static void json_items(seqtopk_json *j, const seqtopk_bench_report *r) {
    for (int i = 0; i < SEQTOPK_BENCH_ITEMS; i++)
        if (r->items[i].samples)
            seqtopk_json_real(j, keys[i], r->items[i].median);
        else
            seqtopk_json_text(j, keys[i], NULL);
    seqtopk_json_begin(j, "measured", '[');
    for (int i = 0; i < SEQTOPK_BENCH_ITEMS; i++) {
        const seqtopk_measure *item = &r->items[i];
        if (!item->samples)
            continue;
        seqtopk_json_begin(j, NULL, '{');
        seqtopk_json_text(j, "name", names[i]);
        seqtopk_json_real(j, "median_ns", item->median);
        seqtopk_json_real(j, "quartile1_ns", item->low);
        seqtopk_json_real(j, "quartile3_ns", item->high);
        seqtopk_json_real(j, "spread", seqtopk_measure_spread(item));
        seqtopk_json_real(j, "ns_per_token", item->median / (double)r->desc->tokens);
        seqtopk_json_real(j, "elements_per_second", elements_per_second(r, item));
        seqtopk_json_real(j, "floors", floors(r, item));
        seqtopk_json_int(j, "samples", item->samples);
        seqtopk_json_int(j, "calls_per_sample", item->calls);
        seqtopk_json_int(j, "threads", i == SEQTOPK_BENCH_ROUTE || i == SEQTOPK_BENCH_PERMUTED ? r->desc->threads : 1);
        seqtopk_json_end(j, '}');
    }
    seqtopk_json_end(j, ']');
}

static void print_json(const seqtopk_bench_report *r) {
    seqtopk_json j = {stdout, false};
    char note[SEQTOPK_NOTE];
    seqtopk_json_begin(&j, NULL, '{');
    json_machine(&j);
    json_config(&j, r);
    json_items(&j, r);
    seqtopk_json_text(&j, "read_isa", r->read_isa);
    seqtopk_json_text(&j, "floor", r->floor->name);
    seqtopk_json_text(&j, "floor_kernel", floor_kernel(r));
    seqtopk_json_int(&j, "rounds", r->rounds);
    seqtopk_json_real(&j, "seconds", r->seconds);
    seqtopk_cli_ways_json(&j, r->plan, tokens_of_sequence(r), r->values->biased);
    seqtopk_cli_choices_json(&j, r->plan, r->desc->tokens);
    seqtopk_json_begin(&j, "notes", '[');
    for (int next = 0; seqtopk_cli_desc_note(r->options, r->given, r->desc, &next, note);)
        seqtopk_json_text(&j, NULL, note);
    seqtopk_json_end(&j, ']');
    seqtopk_json_end(&j, '}');
    putchar('\n');
}

int seqtopk_bench_print(const seqtopk_bench_report *report) {
    (report->values->json ? print_json : print_text)(report);
    return SEQTOPK_EXIT_OK;
}
