/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mpi_measure.h"
#include "../random.h"

#include <mpi.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { EXPERTS = 128, TIMES = 21 };

static int64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* By the clock on the wall and by that of the core, both in ns. */
typedef struct moment {
    int64_t wall, core;
} moment;

static moment now(void) { return (moment){clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_THREAD_CPUTIME_ID)}; }

static void add_since(moment *sum, moment begin) {
    const moment end = now();
    sum->wall += end.wall - begin.wall;
    sum->core += end.core - begin.core;
}

/* A team whose collectives are timed. */
typedef struct watched {
    const seqtopk_team *team;
    long delay_us;
    int apart; /* late ranks are waited for beforehand, and that is not the exchange's time */
    moment late, exchange;
    int collectives;
} watched;

static int watch(watched *w, int (*collective)(void *context, int64_t *words, int64_t n), int64_t *words, int64_t n) {
    moment begin = now();
    if (w->apart) {
        MPI_Barrier(MPI_COMM_WORLD);
        add_since(&w->late, begin);
        begin = now();
    }
    const int status = collective(w->team->context, words, n);
    if (w->delay_us)
        usleep((useconds_t)w->delay_us);
    add_since(&w->exchange, begin);
    w->collectives++;
    return status;
}

static int watched_add(void *context, int64_t *words, int64_t n) {
    watched *w = context;
    return watch(w, w->team->allreduce_sum, words, n);
}

static int watched_scan(void *context, int64_t *words, int64_t n) {
    watched *w = context;
    return watch(w, w->team->exscan_sum, words, n);
}

static int by_size(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Of a rank's routes, in ns: on the wall all, waiting for late ranks, the exchange; on a core the same. */
enum { ALL, LATE, EXCHANGE, ON_CORE, FIGURES = 2 * ON_CORE };

static void print_figures(const char *who, const double *ns) {
    const double own = ns[ON_CORE + ALL] - ns[ON_CORE + LATE];
    printf("  %s: %.2f ms, of it %.2f waiting for late ranks, %.2f in collectives; on a core %.2f ms, of it %.3f in "
           "collectives: %.1f %%\n",
           who, ns[ALL] / 1e6, ns[LATE] / 1e6, ns[EXCHANGE] / 1e6, own / 1e6, ns[ON_CORE + EXCHANGE] / 1e6,
           100 * ns[ON_CORE + EXCHANGE] / own);
}

/* The medians of all ranks, at rank 0. */
static void tell(const seqtopk_team *team, const char *how, int64_t (*samples)[TIMES], int by_rank) {
    double own[FIGURES], mean[FIGURES] = {0}, *all = malloc(sizeof own * (size_t)team->size);
    char who[32];
    for (int f = 0; f < FIGURES; f++) {
        qsort(samples[f], TIMES, sizeof **samples, by_size);
        own[f] = (double)samples[f][TIMES / 2];
    }
    MPI_Gather(own, FIGURES, MPI_DOUBLE, all, FIGURES, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    for (int r = 0; r < team->size && team->rank == 0; r++) {
        for (int f = 0; f < FIGURES; f++)
            mean[f] += all[r * FIGURES + f] / team->size;
        snprintf(who, sizeof who, "rank %d", r);
        if (by_rank)
            print_figures(who, all + (size_t)r * FIGURES);
    }
    if (team->rank == 0)
        print_figures(how, mean);
    free(all);
}

int measure_route(const seqtopk_team *team, int64_t tokens, long delay_us, int by_rank) {
    static int64_t samples[2][FIGURES][TIMES], alone[2 * TIMES];
    random_state r;
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan;
    watched w = {.team = team, .delay_us = delay_us};
    seqtopk_team watching = *team;
    desc.experts = EXPERTS, desc.top_k = 8, desc.min_experts = 1, desc.max_experts = 10;
    if (seqtopk_plan_create(&plan, &desc, &error))
        return 1;
    float *logits = malloc((size_t)tokens * EXPERTS * sizeof *logits);
    random_seed(&r, 1 + (uint64_t)team->rank);
    random_logits(&r, RANDOM_NORMAL, SEQTOPK_DTYPE_F32, logits, (size_t)tokens, EXPERTS, EXPERTS);
    in.logits = logits, in.tokens = tokens;
    out.capacity = seqtopk_team_max_selected(plan, tokens);
    out.token_offsets = malloc(((size_t)tokens + 1) * sizeof(int32_t));
    out.expert_ids = malloc((size_t)out.capacity * sizeof(int32_t));
    out.weights = malloc((size_t)out.capacity * sizeof(float));
    const size_t size = seqtopk_team_scratch_size(plan, tokens, 1, out.capacity, 1);
    void *scratch = malloc(size);
    watching.context = &w, watching.allreduce_sum = watched_add, watching.exscan_sum = watched_scan;
    seqtopk_status status = SEQTOPK_OK;
    for (int i = 0; i < 2 * TIMES && !status; i++) {
        moment all = {0}, on_its_own = {0};
        MPI_Barrier(MPI_COMM_WORLD); /* all begin together */
        w.late = w.exchange = all;
        w.collectives = 0;
        w.apart = i % 2;
        const moment begin = now();
        status = seqtopk_route_team(plan, &in, &out, scratch, size, &watching, NULL, &error);
        add_since(&all, begin);
        const moment of[] = {all, w.late, w.exchange}, next = now();
        status = status ? status : seqtopk_route(plan, &in, &out, scratch, size, &error);
        add_since(&on_its_own, next);
        alone[i] = on_its_own.core;
        for (int f = 0; f < ON_CORE; f++) {
            samples[w.apart][f][i / 2] = of[f].wall;
            samples[w.apart][ON_CORE + f][i / 2] = of[f].core;
        }
    }
    if (team->rank == 0)
        printf("%d ranks x %lld tokens, delay %ld us, %d collectives\n", team->size, (long long)tokens, delay_us,
               w.collectives);
    tell(team, "as it is", samples[0], by_rank);
    tell(team, "all ranks wait first", samples[1], by_rank);
    qsort(alone, 2 * TIMES, sizeof *alone, by_size);
    if (team->rank == 0)
        printf("  without a team, rank 0's tokens alone: on a core %.2f ms\n", (double)alone[TIMES] / 1e6);
    free(logits);
    free(out.token_offsets);
    free(out.expert_ids);
    free(out.weights);
    free(scratch);
    seqtopk_plan_destroy(plan);
    return status != SEQTOPK_OK;
}
