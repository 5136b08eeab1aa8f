/* SPDX-License-Identifier: MIT */
/* Ranks of a team as threads of one process, which add up in memory. */
#ifndef SEQTOPK_TESTS_RANKS_H
#define SEQTOPK_TESTS_RANKS_H

#include <seqtopk/seqtopk.h>

#include <pthread.h>

enum { RANKS_MOST = 16 };

typedef struct ranks ranks;

/* One of them, for its thread alone. */
typedef struct rank {
    ranks *all;
    seqtopk_team team;
    int64_t allreduces, exscans, words; /* that it took part in */
    int64_t most_words;                 /* of one all-reduce */
} rank;

struct ranks {
    int size;
    pthread_barrier_t barrier;
    int64_t *words[RANKS_MOST];
    int64_t lengths[RANKS_MOST];
    rank rank[RANKS_MOST];
    int failing;  /* the collective that fails, counted from 1; 0: none does */
    int mismatch; /* set where ranks called different collectives, or with different lengths */
};

void ranks_open(ranks *all, int size);
void ranks_close(ranks *all);

/* Calls run(context, rank) at every rank at once, each on a thread. */
void ranks_run(ranks *all, void (*run)(void *context, rank *own), void *context);

#endif
