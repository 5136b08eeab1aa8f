/* SPDX-License-Identifier: MIT */
/*
 * The problems of check-team with ranks that are MPI processes: mpirun -n N check-mpi [--cases N] [--seed N].
 * --measure T [--delay US] [--by-rank 1] [--count-all 1]: see mpi_measure.h.
 * --fail R: rank R gives its call no scratch, and all must be told so. --die R: rank R ends itself in the midst of it.
 */
#define _GNU_SOURCE
#include "../team_problem.h"
#include "mpi_measure.h"

#include <mpi.h>
#define SEQTOPK_MPI_COMM
#include "src/adapters/mpi/seqtopk_mpi.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

int main(int argc, char **argv) {
    seqtopk_team team;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    MPI_Init(&argc, &argv);
    if (seqtopk_mpi_team(&team, MPI_COMM_WORLD, &error) || team.size > PROBLEM_RANKS) {
        fprintf(stderr, "check-mpi: %s\n", error.message);
        return 1;
    }
    team.count_all = number(argc, argv, "--count-all", 0) != 0;
    const long failing = number(argc, argv, "--fail", -1);
    const uint64_t seed = (uint64_t)number(argc, argv, "--seed", (long)(random_first_seed() >> 1));
    const long tokens = number(argc, argv, "--measure", 0), cases = number(argc, argv, "--cases", 100);
    const int bad = tokens > 0     ? measure_route(&team, tokens, number(argc, argv, "--delay", 0),
                                                   number(argc, argv, "--by-rank", 0) != 0)
                    : failing >= 0 ? check_failure(&team, (int)failing)
                                   : check_cases(&team, cases, seed, number(argc, argv, "--die", -1));
    seqtopk_mpi_team_end(&team);
    MPI_Finalize();
    return bad;
}
