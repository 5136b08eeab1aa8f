/* SPDX-License-Identifier: MIT */
/*
 * The problems of check-team with ranks that are MPI processes: mpirun -n N check-mpi [--cases N] [--seed N].
 * --measure T: one sequence of T tokens on each rank, 128 experts, K = 8, 1 to 10 each: what a route takes, and how much of that is
 * in collectives; --delay US: each of those ends so much later, as messages that are under way for so long would make it.
 * --fail R: rank R gives its call no scratch, and all must be told so. --die R: rank R ends itself in the midst of it.
 */
#define _GNU_SOURCE
#include "../team_problem.h"

#include <mpi.h>
#define SEQTOPK_MPI_COMM
#include "src/adapters/mpi/seqtopk_mpi.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long number(int argc, char **argv, const char *name, long otherwise) {
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return strtol(argv[i + 1], NULL, 10);
    return otherwise;
}

/* One rank cannot begin: the same status for all, and nobody waits. */
static int check_failure(const seqtopk_team *team, int failing) {
    static problem p;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    char few[64];
    uint64_t seed = 1;
    while (problem_draw(&p, seed++, team->size, NULL) || p.in.tokens < 2)
        problem_release(&p);
    const size_t size = seqtopk_team_scratch_size(p.plan, p.in.tokens, p.in.sequences, 0, 1);
    void *scratch = malloc(size);
    const int fails = team->rank == failing;
    p.in.on_nonfinite = SEQTOPK_NONFINITE_DROP;
    const seqtopk_status status =
        seqtopk_route_team(p.plan, &p.in, &out, fails ? few : scratch, fails ? sizeof few : size, team, NULL, &error);
    printf("rank %d: %s\n", team->rank, error.message);
    free(scratch);
    problem_release(&p);
    return status != SEQTOPK_E_CAPACITY;
}

static int check_cases(const seqtopk_team *team, long cases, uint64_t seed, long dying) {
    static problem p;
    for (long i = 0; i < cases; i++) {
        const seqtopk_status status = problem_draw(&p, seed + (uint64_t)i, team->size, NULL);
        if (dying == team->rank && i == cases / 2)
            raise(SIGKILL);
        if (!status)
            problem_rank(&p, team);
        int64_t wrong = status ? 0 : p.wrong[team->rank];
        problem_release(&p);
        if (team->size > 1 && team->allreduce_sum(team->context, &wrong, 1))
            return 1;
        if (wrong)
            return 1;
    }
    if (team->rank == 0)
        printf("%ld cases from seed %llu on %d processes: all the same\n", cases, (unsigned long long)seed, team->size);
    return 0;
}

/* ----------------------------------------------------------------- measure -- */

typedef struct watched {
    const seqtopk_team *team;
    long delay_us;
    int64_t ns, cpu_ns;
    int collectives;
} watched;

static int64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int watch(watched *w, int (*collective)(void *context, int64_t *words, int64_t n), int64_t *words, int64_t n) {
    const int64_t begin = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    const int status = collective(w->team->context, words, n);
    if (w->delay_us)
        usleep((useconds_t)w->delay_us);
    w->ns += clock_ns(CLOCK_MONOTONIC) - begin;
    w->cpu_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
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

/* The medians of what this rank takes in all, in collectives, and of its time on a core the same two; by rank 0. */
static int measure(const seqtopk_team *team, int64_t tokens, long delay_us) {
    enum { EXPERTS = 128, TIMES = 21 };
    static int64_t all[TIMES], apart[TIMES], cpu[TIMES], cpu_apart[TIMES];
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
    for (int i = 0; i < TIMES && !status; i++) {
        int64_t word = 0;
        if (team->size > 1)
            team->allreduce_sum(team->context, &word, 1); /* all begin together */
        w.ns = w.cpu_ns = w.collectives = 0;
        const int64_t begin = clock_ns(CLOCK_MONOTONIC), own = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        status = seqtopk_route_team(plan, &in, &out, scratch, size, &watching, NULL, &error);
        all[i] = clock_ns(CLOCK_MONOTONIC) - begin, apart[i] = w.ns;
        cpu[i] = clock_ns(CLOCK_THREAD_CPUTIME_ID) - own, cpu_apart[i] = w.cpu_ns;
    }
    int64_t *const of[] = {all, apart, cpu, cpu_apart};
    for (int i = 0; i < 4; i++)
        qsort(of[i], TIMES, sizeof **of, by_size);
    if (team->rank == 0)
        printf("%d ranks x %lld tokens, delay %ld us: %.0f us a route, %.0f of them in %d collectives; on a core %.0f "
               "and %.0f us\n",
               team->size, (long long)tokens, delay_us, (double)all[TIMES / 2] / 1e3, (double)apart[TIMES / 2] / 1e3,
               w.collectives, (double)cpu[TIMES / 2] / 1e3, (double)cpu_apart[TIMES / 2] / 1e3);
    free(logits);
    free(out.token_offsets);
    free(out.expert_ids);
    free(out.weights);
    free(scratch);
    seqtopk_plan_destroy(plan);
    return status != SEQTOPK_OK;
}

int main(int argc, char **argv) {
    seqtopk_team team;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    MPI_Init(&argc, &argv);
    if (seqtopk_mpi_team(&team, MPI_COMM_WORLD, &error) || team.size > PROBLEM_RANKS) {
        fprintf(stderr, "check-mpi: %s\n", error.message);
        return 1;
    }
    const long failing = number(argc, argv, "--fail", -1);
    const uint64_t seed = (uint64_t)number(argc, argv, "--seed", (long)(random_first_seed() >> 1));
    const long tokens = number(argc, argv, "--measure", 0), cases = number(argc, argv, "--cases", 100);
    const int bad = tokens > 0     ? measure(&team, tokens, number(argc, argv, "--delay", 0))
                    : failing >= 0 ? check_failure(&team, (int)failing)
                                   : check_cases(&team, cases, seed, number(argc, argv, "--die", -1));
    seqtopk_mpi_team_end(&team);
    MPI_Finalize();
    return bad;
}
