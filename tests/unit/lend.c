/* SPDX-License-Identifier: MIT */
/* Loans of threads that keep what they say, and such as do not. */
#include "unit.h"

#include <math.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TOKENS = 4096, EXPERTS = 64, TOP_K = 4, PARTS = 4 };

typedef struct big {
    seqtopk_plan *plan;
    seqtopk_input in;
    seqtopk_output out;
    seqtopk_error error;
    int32_t offsets[TOKENS + 1], ids[TOKENS * TOP_K];
    float logits[TOKENS * EXPERTS], weights[TOKENS * TOP_K];
    char *scratch;
    size_t size;
} big;

static big *big_new(void) {
    const seqtopk_input in = SEQTOPK_INPUT_INIT;
    const seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    const seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    big *b = calloc(1, sizeof *b);
    cr_assert(b);
    b->in = in;
    b->out = out;
    b->error = error;
    desc.experts = EXPERTS;
    desc.top_k = TOP_K;
    cr_assert_eq(seqtopk_plan_create(&b->plan, &desc, &b->error), SEQTOPK_OK, "%s", b->error.message);
    for (int i = 0; i < TOKENS * EXPERTS; i++)
        b->logits[i] = (float)((uint32_t)i * 2654435761u >> 16) / 8192;
    b->in.logits = b->logits;
    b->in.tokens = TOKENS;
    b->out.token_offsets = b->offsets;
    b->out.expert_ids = b->ids;
    b->out.weights = b->weights;
    b->out.capacity = TOKENS * TOP_K;
    b->size = seqtopk_scratch_size(b->plan, TOKENS, 1, PARTS);
    b->scratch = malloc(b->size);
    cr_assert(b->scratch);
    return b;
}

static void big_free(big *b) {
    seqtopk_plan_destroy(b->plan);
    free(b->scratch);
    free(b);
}

typedef void task_fn(void *arg, int32_t i);

static void backwards(void *context, int32_t n, task_fn *task, void *arg) {
    ++*(int *)context;
    while (n-- > 0)
        task(arg, n);
}

static void twice(void *context, int32_t n, task_fn *task, void *arg) {
    backwards(context, n, task, arg);
    for (int32_t i = 0; i < n; i++)
        task(arg, i);
}

static void beside(void *context, int32_t n, task_fn *task, void *arg) {
    backwards(context, n, task, arg);
    task(arg, -1);
    task(arg, n);
    task(arg, INT32_MAX);
}

typedef struct one {
    task_fn *task;
    void *arg;
    int32_t i;
} one;

static void *run_one(void *argument) {
    const one *o = argument;
    o->task(o->arg, o->i);
    return NULL;
}

/* Each by two threads at once. */
static void twice_at_once(void *context, int32_t n, task_fn *task, void *arg) {
    pthread_t threads[2 * PARTS];
    one ones[2 * PARTS];
    ++*(int *)context;
    for (int32_t i = 0; i < 2 * n; i++) {
        ones[i] = (one){task, arg, i / 2};
        cr_assert_eq(pthread_create(threads + i, NULL, run_one, ones + i), 0);
    }
    for (int32_t i = 0; i < 2 * n; i++)
        pthread_join(threads[i], NULL);
}

static void all_but_one(void *context, int32_t n, task_fn *task, void *arg) { backwards(context, n - 1, task, arg); }

static void none(void *context, int32_t n, task_fn *task, void *arg) {
    (void)n;
    (void)task;
    (void)arg;
    ++*(int *)context;
}

static seqtopk_status lend(big *b, void (*loan)(void *, int32_t, task_fn *, void *)) {
    seqtopk_parallel parallel = SEQTOPK_PARALLEL_INIT;
    int lends = 0;
    parallel.threads = PARTS;
    parallel.parallel_for = loan;
    parallel.context = &lends;
    const seqtopk_status status =
        seqtopk_route_parallel(b->plan, &b->in, &b->out, b->scratch, b->size, &parallel, &b->error);
    cr_expect_gt(lends, 0, "there was work for more than one");
    return status;
}

Test(lend, in_any_order_and_more_than_once) {
    void (*const loans[])(void *, int32_t, task_fn *, void *) = {backwards, twice, beside, twice_at_once};
    static int32_t offsets[TOKENS + 1], ids[TOKENS * TOP_K];
    big *b = big_new();
    cr_assert_eq(seqtopk_route(b->plan, &b->in, &b->out, b->scratch, b->size, &b->error), SEQTOPK_OK);
    memcpy(offsets, b->offsets, sizeof offsets);
    memcpy(ids, b->ids, sizeof ids);
    for (size_t i = 0; i < sizeof loans / sizeof *loans; i++) {
        memset(b->ids, 0, sizeof b->ids);
        cr_expect_eq(lend(b, loans[i]), SEQTOPK_OK, "loan %zu: %s", i, b->error.message);
        cr_expect(!memcmp(offsets, b->offsets, sizeof offsets) && !memcmp(ids, b->ids, sizeof ids), "loan %zu", i);
    }
    big_free(b);
}

/* Rows of sequences that are mixed: every step is shared, and it is what one thread gives. */
Test(lend, mixed_sequences) {
    static int32_t offsets[TOKENS + 1], ids[TOKENS * TOP_K], of[TOKENS];
    static float weights[TOKENS * TOP_K];
    seqtopk_parallel parallel = SEQTOPK_PARALLEL_INIT;
    int lends = 0;
    big *b = big_new();
    for (uint32_t t = 0; t < TOKENS; t++)
        of[t] = (int32_t)((t * 2654435761u >> 16) % 5);
    b->in.token_seq = of;
    b->in.sequences = 5;
    free(b->scratch);
    b->size = seqtopk_scratch_size(b->plan, TOKENS, 5, PARTS);
    b->scratch = malloc(b->size);
    cr_assert_eq(seqtopk_route(b->plan, &b->in, &b->out, b->scratch, b->size, &b->error), SEQTOPK_OK);
    memcpy(offsets, b->offsets, sizeof offsets);
    memcpy(ids, b->ids, sizeof ids);
    memcpy(weights, b->weights, sizeof weights);
    memset(b->ids, 0, sizeof b->ids);
    memset(b->weights, 0, sizeof b->weights);
    parallel.threads = PARTS;
    parallel.parallel_for = backwards;
    parallel.context = &lends;
    cr_expect_eq(seqtopk_route_parallel(b->plan, &b->in, &b->out, b->scratch, b->size, &parallel, &b->error),
                 SEQTOPK_OK);
    cr_expect_eq(lends, seqtopk_route_steps_of(b->plan, &b->in, PARTS));
    cr_expect(!memcmp(offsets, b->offsets, sizeof offsets) && !memcmp(ids, b->ids, sizeof ids) &&
              !memcmp(weights, b->weights, sizeof weights));
    b->in.token_seq = NULL;
    cr_expect_lt(seqtopk_route_steps_of(b->plan, &b->in, PARTS), lends, "sorting is a step, and so is the way back");
    big_free(b);
}

Test(lend, tasks_that_have_not_ended) {
    big *b = big_new();
    cr_expect_eq(lend(b, all_but_one), SEQTOPK_E_VALUE);
    cr_expect_not_null(strstr(b->error.message, "3 of its 4 tasks"), "%s", b->error.message);
    cr_expect_eq(lend(b, none), SEQTOPK_E_VALUE);
    cr_expect_not_null(strstr(b->error.message, "0 of its 4 tasks"), "%s", b->error.message);
    cr_expect_eq(lend(b, backwards), SEQTOPK_OK, "the next is as good as ever");
    big_free(b);
}

/* A step of a cache, of three sequences, in every order that loans may have: what one thread gives, and what is then kept. */
Test(lend, steps_of_a_cache) {
    void (*const loans[])(void *, int32_t, task_fn *, void *) = {backwards, twice, beside, twice_at_once};
    enum { WIDEST = TOP_K + 2, LOANS = sizeof loans / sizeof *loans };
    static int32_t of[TOKENS], offsets[2][TOKENS + 1], ids[2][TOKENS * WIDEST];
    static float weights[2][TOKENS * WIDEST];
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_cache_desc cache_desc = SEQTOPK_CACHE_DESC_INIT;
    seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT;
    seqtopk_parallel parallel = SEQTOPK_PARALLEL_INIT;
    seqtopk_cache *alone = NULL, *lent = NULL;
    seqtopk_plan *plan;
    int lends = 0;
    big *b = big_new();
    desc.experts = EXPERTS;
    desc.top_k = TOP_K;
    desc.scope = SEQTOPK_SCOPE_ONLINE;
    desc.min_experts = 1;
    desc.max_experts = WIDEST;
    cr_assert_eq(seqtopk_plan_create(&plan, &desc, &b->error), SEQTOPK_OK, "%s", b->error.message);
    cache_desc.layers = 1;
    cache_desc.sequences = 3;
    cache_desc.plan = plan;
    cr_assert_eq(seqtopk_cache_create(&alone, &cache_desc, &b->error), SEQTOPK_OK, "%s", b->error.message);
    cr_assert_eq(seqtopk_cache_create(&lent, &cache_desc, &b->error), SEQTOPK_OK, "%s", b->error.message);
    for (uint32_t t = 0; t < TOKENS; t++)
        of[t] = (int32_t)((t * 2654435761u >> 16) % 3);
    rows.sequences = of;
    b->out.capacity = TOKENS * WIDEST;
    free(b->scratch);
    b->size = seqtopk_cache_scratch_size(alone, TOKENS, PARTS);
    b->scratch = malloc(b->size);
    cr_assert(b->scratch);
    parallel.threads = PARTS;
    parallel.context = &lends;
    for (int i = 0; i < LOANS; i++) {
        for (int k = 0; k < 2; k++) {
            b->out.token_offsets = offsets[k];
            b->out.expert_ids = ids[k];
            b->out.weights = weights[k];
            parallel.parallel_for = loans[i];
            cr_assert_eq(k == 0 ? seqtopk_cache_step(alone, &rows, &b->in, &b->out, b->scratch, b->size, &b->error)
                                : seqtopk_cache_step_parallel(lent, &rows, &b->in, &b->out, b->scratch, b->size,
                                                              &parallel, &b->error),
                         SEQTOPK_OK, "loan %d: %s", i, b->error.message);
        }
        const size_t pairs = (size_t)offsets[0][TOKENS];
        cr_expect_eq(lends, (i + 1) * (seqtopk_cache_parts(lent) - 1), "the first step is the calling thread's");
        cr_expect(!memcmp(offsets[0], offsets[1], sizeof *offsets) && !memcmp(ids[0], ids[1], pairs * sizeof **ids) &&
                      !memcmp(weights[0], weights[1], pairs * sizeof **weights),
                  "loan %d", i);
    }
    const int64_t tokens = seqtopk_cache_length(lent, 0, 1);
    b->logits[(TOKENS - 1) * EXPERTS] = NAN;
    cr_expect_eq(seqtopk_cache_step_parallel(lent, &rows, &b->in, &b->out, b->scratch, b->size, &parallel, &b->error),
                 SEQTOPK_E_NONFINITE);
    cr_expect_eq(b->error.token, TOKENS - 1);
    rows.take = (seqtopk_take)7;
    cr_expect_eq(seqtopk_cache_step_parallel(lent, &rows, &b->in, &b->out, b->scratch, b->size, &parallel, &b->error),
                 SEQTOPK_E_VALUE);
    rows.take = SEQTOPK_TAKE_CAUSAL;
    of[TOKENS / 2] = 3;
    cr_expect_eq(seqtopk_cache_step_parallel(lent, &rows, &b->in, &b->out, b->scratch, b->size, &parallel, &b->error),
                 SEQTOPK_E_VALUE);
    cr_expect_eq(b->error.token, TOKENS / 2);
    cr_expect_eq(seqtopk_cache_length(lent, 0, 1), tokens, "what failed has changed nothing");
    seqtopk_cache_destroy(alone);
    seqtopk_cache_destroy(lent);
    seqtopk_plan_destroy(plan);
    big_free(b);
}

/* ---------------------------------------------------------------- forks -- */

static void *make_plans(void *ended) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.experts = EXPERTS;
    desc.top_k = TOP_K;
    while (!__atomic_load_n((int *)ended, __ATOMIC_RELAXED)) {
        seqtopk_plan *plan;
        if (seqtopk_plan_create(&plan, &desc, NULL))
            return ended;
        seqtopk_plan_destroy(plan);
    }
    return NULL;
}

/* Children of a process whose other threads are in the library: they have its plans, and make their own. */
Test(lend, children_of_threads) {
    enum { CHILDREN = 40 };
    int ended = 0;
    pthread_t threads[2];
    big *b = big_new();
    void *failed;
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(threads + i, NULL, make_plans, &ended), 0);
    for (int i = 0; i < CHILDREN; i++) {
        int status = 1;
        const pid_t child = fork();
        cr_assert_geq(child, 0);
        if (child == 0) {
            seqtopk_desc desc = SEQTOPK_DESC_INIT;
            seqtopk_plan *plan = NULL;
            desc.experts = EXPERTS;
            desc.top_k = TOP_K;
            alarm(60); /* not to hang */
            const int good = seqtopk_route(b->plan, &b->in, &b->out, b->scratch, b->size, NULL) == SEQTOPK_OK &&
                             seqtopk_plan_create(&plan, &desc, NULL) == SEQTOPK_OK;
            seqtopk_plan_destroy(plan);
            _exit(!good);
        }
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child %d", i);
    }
    __atomic_store_n(&ended, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], &failed);
        cr_expect_null(failed);
    }
    big_free(b);
}
