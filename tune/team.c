/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "tune/team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct member {
    seqtopk_tune_team *team;
    int32_t i;
    pthread_t thread;
} member;

struct seqtopk_tune_team {
    const seqtopk_tune_topology *topology;
    int32_t threads, started;
    /* A piece of work; written before `turn` rises, read after. */
    void (*task)(void *arg, int32_t i);
    void *arg;
    int32_t n;
    bool over;
    _Atomic uint32_t turn;
    _Atomic int32_t left; /* members that have not ended this turn */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    member members[];
};

/* So long a member looks for work before it sleeps: within a route the next step comes at once. */
enum { LOOKS = 20000, YIELD_EVERY = 256 };

static uint32_t next_turn(seqtopk_tune_team *team, uint32_t seen) {
    for (int i = 1; i <= LOOKS; i++) {
        const uint32_t turn = atomic_load_explicit(&team->turn, memory_order_acquire);
        if (turn != seen)
            return turn;
        if (i % YIELD_EVERY == 0)
            sched_yield();
    }
    pthread_mutex_lock(&team->lock);
    while (atomic_load_explicit(&team->turn, memory_order_acquire) == seen)
        pthread_cond_wait(&team->wake, &team->lock);
    pthread_mutex_unlock(&team->lock);
    return atomic_load_explicit(&team->turn, memory_order_acquire);
}

static void *serve(void *argument) {
    member *m = argument;
    seqtopk_tune_team *team = m->team;
    seqtopk_tune_pin(team->topology, m->i);
    for (uint32_t seen = 0;;) {
        seen = next_turn(team, seen);
        if (team->over)
            return NULL;
        if (m->i < team->n)
            team->task(team->arg, m->i);
        atomic_fetch_sub_explicit(&team->left, 1, memory_order_release);
    }
}

static void begin_turn(seqtopk_tune_team *team) {
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add_explicit(&team->turn, 1, memory_order_release);
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->lock);
}

static void parallel_for(void *context, int32_t n, void (*task)(void *arg, int32_t i), void *arg) {
    seqtopk_tune_team *team = context;
    team->task = task;
    team->arg = arg;
    team->n = n;
    atomic_store_explicit(&team->left, team->started, memory_order_relaxed);
    begin_turn(team);
    if (n > 0)
        task(arg, 0);
    for (int i = 1; atomic_load_explicit(&team->left, memory_order_acquire) > 0; i++)
        if (i % YIELD_EVERY == 0)
            sched_yield();
}

seqtopk_tune_team *seqtopk_tune_team_new(int32_t threads, const seqtopk_tune_topology *topology) {
    seqtopk_tune_team *team = calloc(1, sizeof *team + (size_t)threads * sizeof *team->members);
    if (!team)
        return NULL;
    team->topology = topology;
    team->threads = threads;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->wake, NULL);
    for (int32_t i = 1; i < threads; i++) {
        member *m = team->members + i;
        *m = (member){.team = team, .i = i};
        if (pthread_create(&m->thread, NULL, serve, m) != 0) {
            seqtopk_tune_team_free(team);
            return NULL;
        }
        team->started++;
    }
    return team;
}

void seqtopk_tune_team_free(seqtopk_tune_team *team) {
    if (!team)
        return;
    team->over = true;
    begin_turn(team);
    for (int32_t i = 1; i <= team->started; i++)
        pthread_join(team->members[i].thread, NULL);
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->lock);
    free(team);
}

seqtopk_parallel seqtopk_tune_team_loan(seqtopk_tune_team *team) {
    seqtopk_parallel loan = SEQTOPK_PARALLEL_INIT;
    loan.threads = team->threads;
    loan.parallel_for = parallel_for;
    loan.context = team;
    return loan;
}
