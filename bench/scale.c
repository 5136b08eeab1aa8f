/* SPDX-License-Identifier: MIT */
/*
 * Teams of simulated ranks: bench-scale [--ranks N] [--tokens N, of a rank] [--experts N]. The real seqtopk_route_team runs at
 * every rank, on a stack of its own, and is left where it waits for a collective until all have come there. Counted are
 * collectives and bytes, checked is that all ranks together have what one machine lists, and timed is the local pass, beside
 * gathering all keys and sorting them; what
 * so many ranks would take is then told by the model of docs/scale.md. Without --ranks: 64 to 4096, and a batch of 10^9 tokens.
 */
#define _GNU_SOURCE
#include "tests/random.h"

#include <seqtopk/seqtopk.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

enum { STACK = 512 * 1024, TOP_K = 8, MOST = 10 };

typedef struct simulated {
    ucontext_t context;
    int rank, has_ended;
    char *stack;
    float *logits;
    seqtopk_output out;
    seqtopk_status status;
    int64_t selected;
    int64_t *words, count; /* of the collective that it waits for */
    int is_scan;
} simulated;

static ucontext_t scheduler;
static simulated *ranks, *running;
static int size, experts;
static int64_t tokens, allreduces, exscans, words_given;
static const seqtopk_plan *plan;
static double local_seconds;

static void *take(size_t bytes) {
    void *p = calloc(bytes ? bytes : 1, 1);
    if (!p) {
        fprintf(stderr, "bench-scale: no memory for %d ranks\n", size);
        exit(1);
    }
    return p;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int wait_for(int64_t *words, int64_t n, int is_scan) {
    running->words = words;
    running->count = n;
    running->is_scan = is_scan;
    swapcontext(&running->context, &scheduler);
    return 0;
}

static int add(void *context, int64_t *words, int64_t n) {
    (void)context;
    return wait_for(words, n, 0);
}

static int scan(void *context, int64_t *words, int64_t n) {
    (void)context;
    return wait_for(words, n, 1);
}

static void route(void) {
    simulated *own = running;
    const seqtopk_team team = {
        .struct_size = sizeof team, .rank = own->rank, .size = size, .allreduce_sum = add, .exscan_sum = scan};
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    const size_t bytes = seqtopk_team_scratch_size(plan, tokens, 1, own->out.capacity, 1);
    void *scratch = take(bytes);
    in.logits = own->logits;
    in.tokens = tokens;
    own->status = seqtopk_route_team(plan, &in, &own->out, scratch, bytes, &team, NULL, NULL);
    free(scratch);
    own->has_ended = 1;
}

/* The collective that all ranks wait for. */
static void collect(void) {
    const int64_t n = ranks[0].count;
    int64_t *sums = take((size_t)n * sizeof *sums);
    for (int r = 0; r < size; r++) {
        if (ranks[r].count != n || ranks[r].is_scan != ranks[0].is_scan)
            abort();
        for (int64_t i = 0; i < n; i++) {
            const int64_t own = ranks[r].words[i];
            if (ranks[0].is_scan)
                ranks[r].words[i] = sums[i];
            sums[i] += own;
        }
    }
    for (int r = 0; !ranks[0].is_scan && r < size; r++)
        memcpy(ranks[r].words, sums, (size_t)n * sizeof *sums);
    free(sums);
    allreduces += !ranks[0].is_scan;
    exscans += ranks[0].is_scan;
    words_given += n;
}

static void start(simulated *own) {
    own->stack = take(STACK);
    getcontext(&own->context);
    own->context.uc_stack.ss_sp = own->stack;
    own->context.uc_stack.ss_size = STACK;
    own->context.uc_link = &scheduler;
    makecontext(&own->context, route, 0);
}

static void run_all(void) {
    allreduces = exscans = words_given = 0;
    const double begin = seconds();
    double apart = 0.0;
    for (int r = 0; r < size; r++)
        start(&ranks[r]);
    for (int ended = 0; !ended;) {
        ended = 1;
        for (int r = 0; r < size; r++) {
            running = &ranks[r];
            if (!running->has_ended)
                swapcontext(&scheduler, &running->context);
            ended &= running->has_ended;
        }
        if (ended)
            break;
        const double from = seconds();
        collect();
        apart += seconds() - from;
    }
    local_seconds = (seconds() - begin - apart) / size;
}

/* Whether all ranks together list what one machine does. */
static int is_same(const float *logits) {
    const int64_t all = tokens * size, most = seqtopk_max_selected(plan, all);
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    const size_t bytes = seqtopk_scratch_size(plan, all, 1, 1);
    void *scratch = take(bytes);
    int same;
    in.logits = logits, in.tokens = all;
    out.token_offsets = take(((size_t)all + 1) * sizeof(int32_t));
    out.expert_ids = take((size_t)most * sizeof(int32_t));
    out.weights = take((size_t)most * sizeof(float));
    out.capacity = most;
    same = seqtopk_route(plan, &in, &out, scratch, bytes, NULL) == SEQTOPK_OK;
    for (int r = 0; r < size && same; r++) {
        const int32_t from = out.token_offsets[r * tokens];
        const size_t n = (size_t)(out.token_offsets[(r + 1) * tokens] - from);
        same = ranks[r].status == SEQTOPK_OK && (size_t)ranks[r].selected == n &&
               memcmp(ranks[r].out.expert_ids, out.expert_ids + from, n * sizeof(int32_t)) == 0 &&
               memcmp(ranks[r].out.weights, out.weights + from, n * sizeof(float)) == 0;
        for (int64_t t = 0; t <= tokens && same; t++)
            same = ranks[r].out.token_offsets[t] == out.token_offsets[r * tokens + t] - from;
    }
    free(scratch);
    free(out.token_offsets);
    free(out.expert_ids);
    free(out.weights);
    return same;
}

/* ------------------------------------------------------- gathered and sorted -- */

static int descending(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* As Megatron-LM's pull request 6208 does on one device: every key of the sequence is sorted, which all ranks must have been sent
 * first. Ours of a token are those that come before the budget is spent, up to MOST each; the best of each comes first.
 * Returns the seconds that each rank takes to sort, and how many pairs are the team's too in *same. */
static double sort_all(const float *logits, int64_t *same, int64_t *bytes) {
    const int64_t all = tokens * size, n = all * experts;
    uint64_t *keys = take((size_t)n * sizeof *keys);
    uint8_t *taken = take((size_t)n), *each = take((size_t)all);
    const double begin = seconds();
    for (int64_t t = 0; t < all; t++) {
        const float *row = logits + t * experts;
        double sum = 0.0;
        int64_t best = 0;
        for (int64_t e = 0; e < experts; e++) {
            sum += exp((double)row[e]);
            best = row[e] > row[best] ? e : best;
        }
        for (int64_t e = 0; e < experts; e++) {
            const float key = e == best ? INFINITY : (float)(row[e] - log(sum));
            uint32_t word;
            memcpy(&word, &key, sizeof word);
            word ^= (UINT32_C(0) - (word >> 31)) | UINT32_C(1) << 31;
            keys[t * experts + e] = (uint64_t)word << 32 | (uint32_t) ~(uint32_t)(t * experts + e);
        }
    }
    qsort(keys, (size_t)n, sizeof *keys, descending);
    for (int64_t i = 0, left = all * TOP_K; i < n && left > 0; i++) {
        const uint32_t pair = ~(uint32_t)keys[i];
        if (each[pair / (uint32_t)experts] < MOST) {
            each[pair / (uint32_t)experts]++;
            taken[pair] = 1;
            left--;
        }
    }
    const double took = seconds() - begin;
    *same = 0;
    for (int r = 0; r < size; r++)
        for (int64_t t = 0; t < tokens; t++)
            for (int32_t i = ranks[r].out.token_offsets[t]; i < ranks[r].out.token_offsets[t + 1]; i++)
                *same += taken[(r * tokens + t) * experts + ranks[r].out.expert_ids[i]];
    *bytes = (n - n / size) * (int64_t)sizeof(float);
    free(keys);
    free(taken);
    free(each);
    return took;
}

/* Seconds of a team's route, and of gathering all scores first: alpha seconds a message, beta seconds a byte. */
static double team_seconds(double n, double local, double rounds, double alpha, double beta) {
    const double hops = n <= 16 ? 1.0 : ceil(log2(n)), copies = n <= 16 ? n - 1 : ceil(log2(n));
    return local + rounds * (hops * alpha + copies * 14336.0 * beta);
}
static double gather_seconds(double n, double all_tokens, double local, double alpha, double beta) {
    return local * n + ceil(log2(n)) * alpha + all_tokens * experts * 4.0 * (n - 1) / n * beta;
}

static void simulate(void) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_plan *made;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    random_state r;
    desc.experts = experts, desc.top_k = TOP_K, desc.min_experts = 1, desc.max_experts = MOST;
    if (seqtopk_plan_create(&made, &desc, &error)) {
        fprintf(stderr, "bench-scale: %s\n", error.message);
        exit(1);
    }
    plan = made;
    ranks = take((size_t)size * sizeof *ranks);
    float *logits = take((size_t)size * (size_t)tokens * (size_t)experts * sizeof *logits);
    random_seed(&r, 1);
    random_logits(&r, RANDOM_DRIFT, SEQTOPK_DTYPE_F32, logits, (size_t)size * (size_t)tokens, (size_t)experts,
                  (size_t)experts);
    for (int i = 0; i < size; i++) {
        simulated *own = &ranks[i];
        const size_t most = (size_t)seqtopk_team_max_selected(plan, tokens);
        own->rank = i;
        own->logits = logits + (size_t)i * (size_t)tokens * (size_t)experts;
        own->out = (seqtopk_output)SEQTOPK_OUTPUT_INIT;
        own->out.capacity = (int64_t)most;
        own->out.selected = &own->selected;
        own->out.token_offsets = take(((size_t)tokens + 1) * sizeof(int32_t));
        own->out.expert_ids = take(most * sizeof(int32_t));
        own->out.weights = take(most * sizeof(float));
    }
    run_all();
    const int same = is_same(logits);
    const double nanoseconds = local_seconds * 1e9 / (double)tokens;
    int64_t shared, bytes;
    const double sorted = sort_all(logits, &shared, &bytes), pairs = (double)(tokens * size) * TOP_K;
    printf("| %d | %lld | %lld | %lld | %lld | %s | %.0f | %lld | %.0f | %.4f %% |\n", size, (long long)(tokens * size),
           (long long)allreduces, (long long)exscans, (long long)(words_given * 8), same ? "yes" : "NO", nanoseconds,
           (long long)bytes, sorted * 1e9 / (double)tokens, 100 * (double)shared / pairs);
    for (int i = 0; i < size; i++) {
        free(ranks[i].stack);
        free(ranks[i].out.token_offsets);
        free(ranks[i].out.expert_ids);
        free(ranks[i].out.weights);
    }
    free(ranks);
    free(logits);
    seqtopk_plan_destroy(made);
    if (!same)
        exit(1);
}

static long number(int argc, char **argv, const char *name, long otherwise) {
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return strtol(argv[i + 1], NULL, 10);
    return otherwise;
}

int main(int argc, char **argv) {
    const long only = number(argc, argv, "--ranks", 0);
    experts = (int)number(argc, argv, "--experts", 64);
    printf(
        "| ranks | tokens | all-reduces | exscans | bytes a rank | as one machine | ns a token of its own | gathered "
        "and "
        "sorted: bytes a rank | ns a token of its own | pairs the same |\n|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|\n");
    for (size = only ? (int)only : 64; size <= (only ? only : 4096); size *= 4) {
        tokens = number(argc, argv, "--tokens", 65536 / size < 128 ? 128 : 65536 / size);
        simulate();
    }
    if (only)
        return 0;
    /* A rank of such a batch has so many tokens that its pass is memory's: 128 experts at 10 GB/s. */
    experts = 128;
    const double all = 1e9, alpha[] = {5e-6, 1e-3, 20e-3}, beta[] = {8e-11, 8e-10, 8e-9}, token = 128 * 4 / 10e9;
    printf("\n| ranks | local pass | a message, a byte | exchange | share | all scores gathered "
           "|\n|--:|--:|---|--:|--:|--:|\n");
    for (double n = 64; n <= 4096; n *= 4)
        for (int i = 0; i < 3; i++) {
            const double local = all / n * token, team = team_seconds(n, local, 3.0, alpha[i], beta[i]);
            printf("| %.0f | %.1f ms | %g ms, %.1f Gbit/s | %.2f ms | %.1f %% | %.0f s |\n", n, local * 1e3,
                   alpha[i] * 1e3, 8e-9 / beta[i], (team - local) * 1e3, 100 * (team - local) / team,
                   gather_seconds(n, all, local, alpha[i], beta[i]));
        }
    return 0;
}
