/* SPDX-License-Identifier: MIT */
#include "work.h"

#include "src/cli/threads.h"

#include <pthread.h>
#include <stdlib.h>

/* -- scratch --------------------------------------------------------------------------------------------------------- */

typedef struct scratch {
    size_t size;
    void *data;
} scratch;

static pthread_key_t scratch_key; /* and not _Thread_local, of which nothing is told when a thread ends */

static void free_scratch(void *argument) {
    scratch *s = argument;
    free(s->data);
    free(s);
}

void *seqtopk_py_scratch(size_t size) {
    scratch *s = pthread_getspecific(scratch_key);
    if (s && s->size >= size)
        return s->data;
    if (!s) {
        s = calloc(1, sizeof *s);
        if (!s || pthread_setspecific(scratch_key, s) != 0) {
            free(s);
            return PyErr_NoMemory();
        }
    }
    free(s->data);
    s->size = size + size / 4; /* so that a batch that grows by a token does not ask each time */
    s->data = malloc(s->size);
    if (s->data)
        return s->data;
    s->size = 0;
    return PyErr_NoMemory();
}

/* -- threads --------------------------------------------------------------------------------------------------------- */

static seqtopk_py_lock team_lock; /* guards all of these */
static int32_t threads = 1;
static seqtopk_cli_team *team;
static int32_t team_threads;
static int is_lent;

/* A child has none of its parent's threads; what they were kept in is left behind. */
static void forget_team(void) {
    team_lock = (seqtopk_py_lock){0}; /* whoever had it is not there either */
    team = NULL;
    is_lent = 0;
}

int32_t seqtopk_py_threads(void) {
    SEQTOPK_PY_LOCK(&team_lock);
    const int32_t n = threads;
    SEQTOPK_PY_UNLOCK(&team_lock);
    return n;
}

void seqtopk_py_set_threads(int32_t n) {
    SEQTOPK_PY_LOCK(&team_lock);
    threads = n;
    SEQTOPK_PY_UNLOCK(&team_lock);
}

static int borrow(seqtopk_parallel *parallel) {
    if (threads == 1 || is_lent)
        return 0;
    if (team && team_threads != threads) {
        seqtopk_cli_team_end(team);
        team = NULL;
    }
    if (!team)
        team = seqtopk_cli_team_make(threads);
    if (!team)
        return 0;
    team_threads = threads;
    is_lent = 1;
    *parallel = seqtopk_cli_team_lend(team);
    return 1;
}

int seqtopk_py_borrow_threads(seqtopk_parallel *parallel) {
    SEQTOPK_PY_LOCK(&team_lock);
    const int is_shared = borrow(parallel);
    SEQTOPK_PY_UNLOCK(&team_lock);
    return is_shared;
}

void seqtopk_py_return_threads(void) {
    SEQTOPK_PY_LOCK(&team_lock);
    is_lent = 0;
    SEQTOPK_PY_UNLOCK(&team_lock);
}

int seqtopk_py_work_ready(void) {
    if (pthread_key_create(&scratch_key, free_scratch) == 0 && pthread_atfork(NULL, NULL, forget_team) == 0)
        return 0;
    PyErr_NoMemory();
    return -1;
}
