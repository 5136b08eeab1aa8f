/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "ranks.h"

#include <stdlib.h>
#include <string.h>

/* Sums over ranks [0, upto); `kind` in the sign of the length tells collectives apart. */
static int add(rank *own, int64_t *words, int64_t n, int upto, int64_t kind) {
    ranks *all = own->all;
    int64_t *sums = calloc((size_t)n + 1, sizeof *sums);
    all->words[own->team.rank] = words;
    all->lengths[own->team.rank] = n * kind;
    pthread_barrier_wait(&all->barrier);
    int differs = 0;
    for (int r = 0; r < all->size; r++)
        differs |= all->lengths[r] != n * kind;
    for (int r = 0; !differs && r < upto; r++)
        for (int64_t i = 0; i < n; i++)
            sums[i] += all->words[r][i];
    if (differs && own->team.rank == 0)
        all->mismatch = 1;
    pthread_barrier_wait(&all->barrier);
    memcpy(words, sums, (size_t)n * sizeof *sums);
    free(sums);
    pthread_barrier_wait(&all->barrier);
    own->words += n;
    return differs || (all->failing && own->allreduces + own->exscans >= all->failing);
}

static int allreduce(void *context, int64_t *words, int64_t n) {
    rank *own = context;
    own->allreduces++;
    own->most_words = n > own->most_words ? n : own->most_words;
    return add(own, words, n, own->all->size, 1);
}

static int exscan(void *context, int64_t *words, int64_t n) {
    rank *own = context;
    own->exscans++;
    return add(own, words, n, own->team.rank, -1);
}

void ranks_open(ranks *all, int size) {
    memset(all, 0, sizeof *all);
    all->size = size;
    pthread_barrier_init(&all->barrier, NULL, (unsigned)size);
    for (int r = 0; r < size; r++)
        all->rank[r] = (rank){.all = all,
                              .team = {.struct_size = sizeof(seqtopk_team),
                                       .rank = r,
                                       .size = size,
                                       .allreduce_sum = allreduce,
                                       .exscan_sum = exscan,
                                       .context = &all->rank[r]}};
}

void ranks_close(ranks *all) { pthread_barrier_destroy(&all->barrier); }

typedef struct {
    void (*run)(void *context, rank *own);
    void *context;
    rank *own;
} start;

static void *begin(void *arg) {
    const start *s = arg;
    s->run(s->context, s->own);
    return NULL;
}

void ranks_run(ranks *all, void (*run)(void *context, rank *own), void *context) {
    pthread_t threads[RANKS_MOST];
    start starts[RANKS_MOST];
    for (int r = 1; r < all->size; r++) {
        starts[r] = (start){run, context, &all->rank[r]};
        if (pthread_create(&threads[r], NULL, begin, &starts[r]))
            abort(); /* the others would wait for ever */
    }
    run(context, &all->rank[0]);
    for (int r = 1; r < all->size; r++)
        pthread_join(threads[r], NULL);
}
