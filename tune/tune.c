/* SPDX-License-Identifier: MIT */
#include "tune/tune.h"

#include "tune/point.h"
#include "tune/timer.h"

#include "src/status.h"

/* ns that timing a point well takes, about: a dozen contenders, each for six calls or forty samples, and the reference.
 */
static double cost_of(const seqtopk_tune_point *p) {
    const double logits = (double)p->tokens * p->experts, call = 1000 + 0.6 * logits / p->threads;
    const double timed = 6 * call > 40 * SEQTOPK_TUNE_SAMPLE ? 6 * call : 40 * SEQTOPK_TUNE_SAMPLE;
    /* The other types take over what f32 decided on keys and ids. */
    return (p->dtype == SEQTOPK_DTYPE_F32 ? 1 : 0.6) * (12 * timed + 30 * logits);
}

double seqtopk_tune_estimate(const seqtopk_tune_grid *grid) {
    double ns = 0;
    for (size_t i = 0; i < grid->count; i++)
        ns += cost_of(grid->points + i);
    return ns / 1e9;
}

/* The longest run of logits that points from `i` on will want of the same kind. */
static int64_t tokens_ahead(const seqtopk_tune_grid *grid, size_t i, int64_t most_bytes) {
    const seqtopk_tune_point *first = grid->points + i;
    int64_t most = 0;
    for (; i < grid->count; i++) {
        const seqtopk_tune_point *p = grid->points + i;
        if (p->experts != first->experts || p->dtype != first->dtype)
            break;
        const int64_t tokens = p->tokens * seqtopk_tune_turns(p->tokens, p->experts);
        if (seqtopk_tune_point_bytes(p) <= most_bytes && tokens > most)
            most = tokens;
    }
    return most;
}

static void count_result(seqtopk_tune_summary *summary, const seqtopk_tune_result *result) {
    for (int32_t i = 0; i < result->count; i++) {
        summary->decisions++;
        summary->changed += result->found[i].row != result->found[i].incumbent;
        summary->noisy += result->found[i].noisy;
    }
}

seqtopk_status seqtopk_tune_walk(const seqtopk_tune_grid *grid, const seqtopk_tune_options *options,
                                 const seqtopk_tune_events *events, seqtopk_tune_summary *summary,
                                 seqtopk_error *error) {
    static const seqtopk_tune_events none = {0};
    seqtopk_tune_bench bench;
    seqtopk_status status = SEQTOPK_OK;
    events = events ? events : &none;
    *summary = (seqtopk_tune_summary){.points = grid->count};
    if (grid->count == 0)
        return SEQTOPK_OK;
    const int64_t most_bytes = options->topology->memory > 0 ? options->topology->memory / 4 : INT64_MAX;
    const double started = seqtopk_tune_now();
    double ahead = 1e9 * seqtopk_tune_estimate(grid), behind = 0;
    if (!seqtopk_tune_bench_new(&bench, options, events, grid->points[0].threads)) {
        seqtopk_tune_bench_free(&bench);
        return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "%d threads cannot be started: tune with fewer",
                            (int)grid->points[0].threads);
    }
    for (size_t i = 0; i < grid->count && !status; i++) {
        const seqtopk_tune_point *p = grid->points + i;
        const double spent = seqtopk_tune_now() - started, left = options->budget * 1e9 - spent, cost = cost_of(p);
        /* What lies ahead goes as what lies behind went. */
        const double pace = behind > 0.02 * ahead ? ahead * spent / behind : ahead;
        const seqtopk_tune_progress before = {i, grid->count, spent / 1e9, (pace < left ? pace : left) / 1e9};
        if (left <= 0) {
            summary->over_budget = true;
            break;
        }
        if (seqtopk_tune_point_bytes(p) > most_bytes) {
            summary->too_large++;
            ahead -= cost;
            continue;
        }
        if (events->begin)
            events->begin(events->context, p, &before);
        seqtopk_tune_result result;
        if (bench.data.experts != p->experts || bench.data.dtype != p->dtype)
            seqtopk_tune_data_need(&bench.data, tokens_ahead(grid, i, most_bytes), p->experts, p->dtype);
        status = seqtopk_tune_point_run(&bench, p, left * cost / ahead, &result, error);
        ahead -= cost;
        behind += cost;
        if (status || bench.stopped)
            break;
        summary->done++;
        count_result(summary, &result);
        if (events->done)
            events->done(events->context, &result);
    }
    summary->wrong = bench.wrong;
    summary->stopped = bench.stopped;
    summary->seconds = (seqtopk_tune_now() - started) / 1e9;
    seqtopk_tune_bench_free(&bench);
    return status;
}
