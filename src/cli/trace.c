/* SPDX-License-Identifier: MIT */
#include "trace.h"
#include "cli.h"
#include "draw.h"
#include "json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ----------------------------------------------------------------- ranges -- */

/* The place of a token in its sequence, and the longest sequence. */
static int64_t place_of(const seqtopk_cli_trace *trace, int64_t token, int64_t *sequence) {
    const int32_t *cu_seqlens = trace->inputs->cu_seqlens;
    while (cu_seqlens && cu_seqlens[*sequence + 1] <= token)
        ++*sequence;
    return cu_seqlens ? token - cu_seqlens[*sequence] : token;
}

static int64_t longest(const seqtopk_cli_trace *trace) {
    int64_t most = 0, sequence = 0;
    for (int64_t t = 0; t < trace->inputs->tokens; t++) {
        const int64_t place = place_of(trace, t, &sequence);
        most = place >= most ? place + 1 : most;
    }
    return most;
}

static int ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Returns how many ns are in `work`. */
static int64_t gather(const seqtopk_cli_trace *trace, seqtopk_cli_range *range, float *work) {
    int64_t sequence = 0, n = 0, pairs = 0;
    range->tokens = 0;
    range->least = INT32_MAX;
    range->most = 0;
    for (int64_t t = 0; t < trace->inputs->tokens; t++) {
        const int64_t place = place_of(trace, t, &sequence);
        if (place < range->first || place > range->last)
            continue;
        work[n++] = trace->ns[t];
        if (trace->inputs->token_mask && !trace->inputs->token_mask[t])
            continue;
        const int32_t experts = trace->lists->token_offsets[t + 1] - trace->lists->token_offsets[t];
        range->tokens++;
        pairs += experts;
        range->least = experts < range->least ? experts : range->least;
        range->most = experts > range->most ? experts : range->most;
    }
    range->experts = range->tokens ? (double)pairs / (double)range->tokens : 0;
    range->least = range->tokens ? range->least : 0;
    return n;
}

int32_t seqtopk_cli_trace_ranges(const seqtopk_cli_trace *trace, float *work, seqtopk_cli_range *ranges) {
    const int64_t all = longest(trace), width = seqtopk_draw_bucket(all);
    int32_t count = 0;
    for (int64_t first = 0; first < all; first += width) {
        seqtopk_cli_range *range = ranges + count++;
        range->first = first;
        range->last = first + width < all ? first + width - 1 : all - 1;
        const int64_t n = gather(trace, range, work);
        qsort(work, (size_t)n, sizeof *work, ascending);
        range->median = n ? (double)work[n / 2] : 0;
        range->slowest = n ? (double)work[n - 1] : 0;
    }
    return count;
}

/* ------------------------------------------------------------- for people -- */

static void draw(const char *title, const seqtopk_cli_range *ranges, int32_t count, int of_time) {
    seqtopk_bar bars[SEQTOPK_CLI_RANGES] = {0};
    printf("\n%s\n", title);
    for (int32_t i = 0; i < count; i++) {
        const seqtopk_cli_range *r = ranges + i;
        snprintf(bars[i].label, sizeof bars[i].label, "%" PRId64 "-%" PRId64, r->first, r->last);
        snprintf(bars[i].number, sizeof bars[i].number, of_time ? "%.0f" : "%.2f", of_time ? r->median : r->experts);
        if (of_time)
            snprintf(bars[i].note, sizeof bars[i].note, "at most %.0f", r->slowest);
        else
            snprintf(bars[i].note, sizeof bars[i].note, "%" PRId32 " to %" PRId32, r->least, r->most);
        bars[i].value = of_time ? r->median : r->experts;
    }
    seqtopk_draw_bars(bars, (size_t)count);
}

static void print_text(const seqtopk_cli_trace *t, const seqtopk_cli_range *ranges, int32_t count) {
    char shape[SEQTOPK_NPY_SHAPE_TEXT];
    const seqtopk_cache_stats *s = &t->stats;
    printf("file       %s: %s\n", t->path, seqtopk_npy_shape_text(&t->inputs->logits, shape));
    if (t->model->name)
        printf("model      %s\n", t->model->name);
    printf("decoding   %s%s, K %" PRId32 ", %" PRId32 " to %" PRId32 " experts a token", t->mode,
           t->is_ledger ? " with a ledger" : "", t->desc->top_k, t->desc->min_experts, t->most);
    if (t->joint)
        printf(", the first %" PRId64 " tokens jointly", t->joint);
    printf("\nselected   %" PRId64 " of a budget of %" PRId64 " (%.3f a token)\n", s->pairs, s->budget,
           s->budget ? (double)s->pairs * t->desc->top_k / (double)s->budget : 0);
    printf(
        "distance   %.2f %% of the pairs are not offline SeqTopK's, %.2f %% not TopK's (offline from TopK: %.2f %%)\n",
        100 * t->from_offline, 100 * t->from_topk, 100 * t->offline_from_topk);
    printf("memory     %" PRId64 " bytes, %.1f a token\n", s->bytes,
           s->tokens ? (double)s->bytes / (double)s->tokens : 0);
    if (s->doubtful)
        printf("doubtful   %" PRId64 " candidates lost in the cut's bin (%.3f %% of the pairs)\n", s->doubtful,
               100 * (double)s->doubtful / (double)s->pairs);
    if (t->model->is_biased && !t->inputs->bias.data)
        printf("note       the router of %s has a selection bias; give it with --bias\n", t->model->name);
    if (count > 0) {
        draw("experts of a token, by its place", ranges, count, 0);
        draw("ns of a step, by its place", ranges, count, 1);
    }
    if (t->directory)
        printf("written    %s\n", t->directory);
    if (t->plot)
        printf("drawn      %s\n", t->plot);
}

/* ----------------------------------------------------------- for programs -- */

static void print_json(const seqtopk_cli_trace *t, const seqtopk_cli_range *ranges, int32_t count) {
    seqtopk_json j = {stdout, false};
    seqtopk_json_begin(&j, NULL, '{');
    seqtopk_json_text(&j, "version", seqtopk_version());
    seqtopk_json_text(&j, "file", t->path);
    seqtopk_json_text(&j, "model", t->model->name);
    seqtopk_json_int(&j, "tokens", t->inputs->tokens);
    seqtopk_json_int(&j, "experts", t->inputs->experts);
    seqtopk_json_int(&j, "sequences", t->inputs->sequences);
    seqtopk_json_int(&j, "top_k", t->desc->top_k);
    seqtopk_json_int(&j, "min", t->desc->min_experts);
    seqtopk_json_int(&j, "max", t->most);
    seqtopk_json_text(&j, "mode", t->mode);
    seqtopk_json_bool(&j, "ledger", t->is_ledger);
    seqtopk_json_int(&j, "joint", t->joint);
    seqtopk_json_int(&j, "budget", t->stats.budget);
    seqtopk_json_int(&j, "selected", t->stats.pairs);
    seqtopk_json_real(&j, "from_offline", t->from_offline);
    seqtopk_json_real(&j, "from_topk", t->from_topk);
    seqtopk_json_real(&j, "offline_from_topk", t->offline_from_topk);
    seqtopk_json_int(&j, "bytes", t->stats.bytes);
    seqtopk_json_int(&j, "doubtful", t->stats.doubtful);
    seqtopk_json_int(&j, "runs", t->runs);
    seqtopk_json_begin(&j, "ranges", '[');
    for (int32_t i = 0; i < count; i++) {
        seqtopk_json_begin(&j, NULL, '{');
        seqtopk_json_int(&j, "first", ranges[i].first);
        seqtopk_json_int(&j, "last", ranges[i].last);
        seqtopk_json_real(&j, "experts", ranges[i].experts);
        seqtopk_json_int(&j, "least", ranges[i].least);
        seqtopk_json_int(&j, "most", ranges[i].most);
        seqtopk_json_real(&j, "median_ns", ranges[i].median);
        seqtopk_json_real(&j, "slowest_ns", ranges[i].slowest);
        seqtopk_json_end(&j, '}');
    }
    seqtopk_json_end(&j, ']');
    seqtopk_json_text(&j, "out", t->directory);
    seqtopk_json_text(&j, "plot", t->plot);
    seqtopk_json_end(&j, '}');
    putchar('\n');
}

int seqtopk_cli_trace_print(const seqtopk_cli_trace *trace, int json) {
    seqtopk_cli_range ranges[SEQTOPK_CLI_RANGES];
    float *work = seqtopk_cli_alloc((unsigned long long)trace->inputs->tokens, sizeof *work);
    if (!work)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "no memory for the report");
    const int32_t count = seqtopk_cli_trace_ranges(trace, work, ranges);
    (json ? print_json : print_text)(trace, ranges, count);
    free(work);
    return SEQTOPK_EXIT_OK;
}
