/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct worker {
    seqtopk_cli_team *team;
    pthread_t thread;
    int32_t i;
    unsigned begun; /* the round before its first */
} worker;

struct seqtopk_cli_team {
    int32_t threads, started; /* workers[1 .. started] run; the caller is thread 0 */
    worker *workers;
    pthread_mutex_t mutex; /* for those who sleep */
    pthread_cond_t awake;
    atomic_uint round;
    atomic_int left; /* workers that have not ended this round */
    /* The work of this round; no task: go home. */
    void (*task)(void *arg, int32_t i);
    void *arg;
    int32_t n;
};

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void wait_for_round(seqtopk_cli_team *team, unsigned seen) {
    enum { POLLS = 2000 }; /* some ten to hundred microseconds */
    for (int i = 0; i < POLLS; i++) {
        if (atomic_load_explicit(&team->round, memory_order_acquire) != seen)
            return;
        pause_briefly();
    }
    pthread_mutex_lock(&team->mutex);
    while (atomic_load_explicit(&team->round, memory_order_acquire) == seen)
        pthread_cond_wait(&team->awake, &team->mutex);
    pthread_mutex_unlock(&team->mutex);
}

static void *work(void *argument) {
    worker *w = argument;
    seqtopk_cli_team *team = w->team;
    for (unsigned round = w->begun;; round++) {
        wait_for_round(team, round);
        void (*task)(void *arg, int32_t i) = team->task;
        if (task && w->i < team->n)
            task(team->arg, w->i);
        atomic_fetch_sub_explicit(&team->left, 1, memory_order_release);
        if (!task)
            return NULL;
    }
}

static void begin_round(seqtopk_cli_team *team) {
    atomic_store_explicit(&team->left, team->started, memory_order_relaxed);
    pthread_mutex_lock(&team->mutex);
    atomic_fetch_add_explicit(&team->round, 1, memory_order_release);
    pthread_cond_broadcast(&team->awake);
    pthread_mutex_unlock(&team->mutex);
}

/* The next round's work may only be written when every worker has looked at this one's, those without a part too. */
static void end_round(seqtopk_cli_team *team) {
    enum { POLLS = 2000 };
    for (int i = 0; atomic_load_explicit(&team->left, memory_order_acquire) > 0; i++)
        if (i < POLLS)
            pause_briefly();
        else
            sched_yield(); /* more threads than processors */
}

static void start(seqtopk_cli_team *team, int32_t workers) {
    while (team->started < workers) {
        worker *w = &team->workers[team->started + 1];
        *w = (worker){.team = team, .i = team->started + 1, .begun = atomic_load(&team->round)};
        if (pthread_create(&w->thread, NULL, work, w))
            return;
        team->started++;
    }
}

/* The parts of threads that cannot be started are done here: slower, and the same result. */
static void parallel_for(void *context, int32_t n, void (*task)(void *arg, int32_t i), void *arg) {
    seqtopk_cli_team *team = context;
    start(team, n - 1);
    team->task = task;
    team->arg = arg;
    team->n = n;
    begin_round(team);
    if (n > 0)
        task(arg, 0);
    for (int32_t i = team->started + 1; i < n; i++)
        task(arg, i);
    end_round(team);
}

seqtopk_cli_team *seqtopk_cli_team_make(int32_t threads) {
    seqtopk_cli_team *team = calloc(1, sizeof *team);
    if (!team)
        return NULL;
    team->threads = threads;
    team->workers = calloc((size_t)threads, sizeof *team->workers);
    if (!team->workers) {
        free(team);
        return NULL;
    }
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->awake, NULL);
    return team;
}

seqtopk_parallel seqtopk_cli_team_lend(seqtopk_cli_team *team) {
    seqtopk_parallel parallel = SEQTOPK_PARALLEL_INIT;
    parallel.threads = team->threads;
    parallel.parallel_for = parallel_for;
    parallel.context = team;
    return parallel;
}

void seqtopk_cli_team_end(seqtopk_cli_team *team) {
    if (!team)
        return;
    team->task = NULL;
    begin_round(team);
    for (int32_t i = 1; i <= team->started; i++)
        pthread_join(team->workers[i].thread, NULL);
    pthread_cond_destroy(&team->awake);
    pthread_mutex_destroy(&team->mutex);
    free(team->workers);
    free(team);
}
