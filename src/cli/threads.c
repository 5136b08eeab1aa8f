/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "threads.h"

#include <pthread.h>
#include <stdbool.h>

enum { MOST = 1024 }; /* the most that seqtopk_parallel allows */

typedef struct part {
    void (*task)(void *arg, int32_t i);
    void *arg;
    int32_t i;
} part;

static void *run(void *argument) {
    part *p = argument;
    p->task(p->arg, p->i);
    return NULL;
}

/* What cannot be started is done here: slower, and the same result. */
static void parallel_for(void *context, int32_t n, void (*task)(void *arg, int32_t i), void *arg) {
    pthread_t threads[MOST];
    part parts[MOST];
    bool started[MOST];
    (void)context;
    for (int32_t i = 1; i < n; i++) {
        parts[i] = (part){task, arg, i};
        started[i] = !pthread_create(&threads[i], NULL, run, &parts[i]);
    }
    if (n > 0)
        task(arg, 0);
    for (int32_t i = 1; i < n; i++) {
        if (started[i])
            pthread_join(threads[i], NULL);
        else
            task(arg, i);
    }
}

seqtopk_parallel seqtopk_cli_threads(int32_t threads) {
    seqtopk_parallel parallel = SEQTOPK_PARALLEL_INIT;
    parallel.threads = threads;
    parallel.parallel_for = parallel_for;
    return parallel;
}
