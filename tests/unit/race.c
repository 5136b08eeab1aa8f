/* SPDX-License-Identifier: MIT */
/*
 * Threads that all begin at once, in a process that has not used the library before: its CPU, its tuning file and its first
 * plans are found by all of them together; then they share a plan, a cache and its sequences, and are lent to one route. What
 * each is given is what one thread alone is given; whether they race is ThreadSanitizer's to say.
 */
#define _GNU_SOURCE
#include "tuning.h"
#include "unit.h"

#include "src/tuning/store.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TOKENS = 1024, EXPERTS = 64, TOP_K = 4, MOST = 6, THREADS = 8, ROWS = 16, STEPS = 24, ROUNDS = 4 };

typedef struct listed {
    int32_t offsets[TOKENS + 1], ids[TOKENS * TOP_K];
} listed;

typedef struct shared {
    float logits[TOKENS * EXPERTS];
    seqtopk_plan *plan;   /* the first thread's */
    seqtopk_plan *online; /* its too, of the cache */
    seqtopk_cache *cache; /* a sequence for each thread */
    pthread_barrier_t barrier;
    listed by_own[THREADS], by_shared[THREADS], lent;
    int32_t stepped[THREADS]; /* a sum of what the cache gave */
    int tuned[THREADS];
} shared;

typedef struct one {
    shared *all;
    int id;
} one;

static seqtopk_plan *make_plan(seqtopk_scope scope) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan = NULL;
    desc.experts = EXPERTS;
    desc.top_k = TOP_K;
    desc.scope = scope;
    desc.max_experts = scope == SEQTOPK_SCOPE_ONLINE ? MOST : 0;
    cr_assert_eq(seqtopk_plan_create(&plan, &desc, &error), SEQTOPK_OK, "%s", error.message);
    return plan;
}

static void run_with(const seqtopk_parallel *lent, const seqtopk_plan *plan, const shared *all, listed *to) {
    const size_t size = seqtopk_scratch_size(plan, TOKENS, 1, THREADS);
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    void *scratch = malloc(size);
    cr_assert(scratch);
    in.logits = all->logits;
    in.tokens = TOKENS;
    out.token_offsets = to->offsets;
    out.expert_ids = to->ids;
    out.capacity = TOKENS * TOP_K;
    cr_assert_eq(lent ? seqtopk_route_parallel(plan, &in, &out, scratch, size, lent, &error)
                      : seqtopk_route(plan, &in, &out, scratch, size, &error),
                 SEQTOPK_OK, "%s", error.message);
    free(scratch);
}

/* A thread steps the sequence of its own, and none other. */
static int32_t step(const shared *all, int id) {
    const size_t size = seqtopk_cache_scratch_size(all->cache, ROWS, 1);
    int32_t sequences[ROWS], offsets[ROWS + 1], ids[ROWS * MOST], sum = 0;
    void *scratch = malloc(size);
    cr_assert(scratch);
    for (int i = 0; i < ROWS; i++)
        sequences[i] = id;
    for (int t = 0; t < STEPS; t++) {
        seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT;
        seqtopk_input in = SEQTOPK_INPUT_INIT;
        seqtopk_output out = SEQTOPK_OUTPUT_INIT;
        seqtopk_error error = SEQTOPK_ERROR_INIT;
        rows.sequences = sequences;
        in.logits = all->logits + (size_t)t * EXPERTS;
        in.tokens = ROWS;
        out.token_offsets = offsets;
        out.expert_ids = ids;
        out.capacity = ROWS * MOST;
        cr_assert_eq(seqtopk_cache_step(all->cache, &rows, &in, &out, scratch, size, &error), SEQTOPK_OK, "%s",
                     error.message);
        for (int32_t i = 0; i < offsets[ROWS]; i++)
            sum = (sum * 31 + ids[i]) % 1000003;
    }
    free(scratch);
    return sum;
}

static void *run_one(void *arg) {
    const one *own = arg;
    shared *all = own->all;
    pthread_barrier_wait(&all->barrier);
    seqtopk_plan *plan = make_plan(SEQTOPK_SCOPE_SEQUENCE);
    seqtopk_tuning_info info = SEQTOPK_TUNING_INFO_INIT;
    all->tuned[own->id] =
        seqtopk_tuning_get_info(seqtopk_tuning_machine(), &info) == SEQTOPK_OK && info.shapes > 0 && info.path;
    run_with(NULL, plan, all, all->by_own + own->id);
    if (own->id == 0) {
        seqtopk_cache_desc desc = SEQTOPK_CACHE_DESC_INIT;
        seqtopk_error error = SEQTOPK_ERROR_INIT;
        all->plan = plan;
        all->online = make_plan(SEQTOPK_SCOPE_ONLINE);
        desc.plan = all->online;
        desc.layers = 1;
        desc.sequences = THREADS;
        cr_assert_eq(seqtopk_cache_create(&all->cache, &desc, &error), SEQTOPK_OK, "%s", error.message);
    }
    pthread_barrier_wait(&all->barrier);
    run_with(NULL, all->plan, all, all->by_shared + own->id);
    all->stepped[own->id] = step(all, own->id);
    if (own->id != 0)
        seqtopk_plan_destroy(plan);
    return NULL;
}

typedef struct job {
    void (*task)(void *, int32_t);
    void *arg;
    int32_t i;
} job;

static void *run_job(void *arg) {
    const job *own = arg;
    own->task(own->arg, own->i);
    return NULL;
}

static void lend(void *context, int32_t n, void (*task)(void *, int32_t), void *arg) {
    pthread_t threads[THREADS];
    job jobs[THREADS];
    (void)context;
    cr_assert(n <= THREADS);
    for (int32_t i = 0; i < n; i++) {
        jobs[i] = (job){task, arg, i};
        cr_assert_eq(pthread_create(threads + i, NULL, run_job, jobs + i), 0);
    }
    for (int32_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

/* Returns how many of what threads were given is not right. */
static int run_process(void) {
    int wrong = 0;
    shared *all = calloc(1, sizeof *all);
    pthread_t threads[THREADS];
    one ones[THREADS];
    seqtopk_parallel lent = SEQTOPK_PARALLEL_INIT;
    cr_assert(all);
    for (int i = 0; i < TOKENS * EXPERTS; i++)
        all->logits[i] = (float)((uint32_t)i * 2654435761u >> 16) / 8192;
    pthread_barrier_init(&all->barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        ones[i] = (one){all, i};
        cr_assert_eq(pthread_create(threads + i, NULL, run_one, ones + i), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    lent.threads = THREADS;
    lent.parallel_for = lend;
    for (int i = 0; i < 10; i++)
        run_with(&lent, all->plan, all, &all->lent);
    for (int i = 0; i < THREADS; i++) {
        wrong += !all->tuned[i] || all->stepped[i] != all->stepped[0];
        wrong += memcmp(all->by_own + i, &all->lent, sizeof all->lent) != 0;
        wrong += memcmp(all->by_shared + i, &all->lent, sizeof all->lent) != 0;
    }
    seqtopk_cache_destroy(all->cache);
    seqtopk_plan_destroy(all->online);
    seqtopk_plan_destroy(all->plan);
    pthread_barrier_destroy(&all->barrier);
    free(all);
    return wrong;
}

Test(race, first_use_and_shared, .timeout = 300) {
    char path[] = "/tmp/seqtopk-race-XXXXXX";
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_tuning_file w;
    seqtopk_measurement tuned = {.tokens = 1024,
                                 .row = tuning_row("seqtopk_collect_logits_f32__ref_slots6"),
                                 .runner_up = -1,
                                 .clear = 1,
                                 .ps = 1000};
    const int file = mkstemp(path);
    cr_assert(file >= 0);
    close(file);
    setenv("SEQTOPK_TUNING", path, 1);
    for (int round = 0; round < ROUNDS; round++) {
        const pid_t child = fork();
        int status = 1;
        cr_assert(child >= 0);
        if (child == 0) { /* which is the first to use the library: the parent knows no more than names of kernels */
            seqtopk_tuning_file_init(&w);
            tuned.shape = (seqtopk_tuning_shape){SEQTOPK_OP_collect_logits,
                                                 SEQTOPK_ROW_f32,
                                                 SEQTOPK_SCOPE_SEQUENCE,
                                                 SEQTOPK_SCORE_SOFTMAX,
                                                 EXPERTS,
                                                 TOP_K,
                                                 1};
            tuning_add(&w, tuned);
            cr_assert_eq(seqtopk_store_save(&w, path, &error), SEQTOPK_OK, "%s", error.message);
            seqtopk_tuning_file_free(&w);
            exit(0);
        }
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert_eq(status, 0);
        const pid_t racing = fork();
        cr_assert(racing >= 0);
        if (racing == 0) {
            exit(run_process());
        }
        cr_assert_eq(waitpid(racing, &status, 0), racing);
        cr_expect_eq(status, 0, "round %d", round);
    }
    unlink(path);
}
