/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "ranks.h"
#include "cli.h"
#include "measure.h"
#include "options.h"
#include "progress.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* By its soname. */
#define TEXT_OF(number) #number
#define LIBRARY_OF(major) "libseqtopk_mpi.so." TEXT_OF(major)
#define LIBRARY LIBRARY_OF(SEQTOPK_VERSION_MAJOR)

/* Of src/adapters/mpi/seqtopk_mpi.h, which is loaded and not linked: without it the command works all the same. */
typedef seqtopk_status world_fn(seqtopk_team *team, seqtopk_error *error);
typedef void end_fn(seqtopk_team *team);
typedef seqtopk_status gather_fn(const seqtopk_team *team, const void *bytes, int64_t size, void **all, int64_t *sizes);

struct seqtopk_cli_ranks {
    void *library;
    end_fn *end;
    gather_fn *gather;
    seqtopk_team inner, team; /* team: inner, counted and timed */
    seqtopk_cli_rank own;
    int64_t *sizes;
    seqtopk_progress progress; /* of rank 0 */
    int64_t start;
};

static int64_t now(void) { return (int64_t)seqtopk_measure_now(); }

/* A collective of the team's own, which `count` counts. */
static int timed(seqtopk_cli_ranks *r, int (*collective)(void *context, int64_t *words, int64_t n), int64_t *count,
                 int64_t *words, int64_t n) {
    const int64_t begin = now();
    const int status = collective(r->inner.context, words, n);
    r->own.collective_ns += now() - begin;
    r->own.bytes += n * (int64_t)sizeof *words;
    ++*count;
    return status;
}

static int allreduce(void *context, int64_t *words, int64_t n) {
    seqtopk_cli_ranks *r = context;
    return timed(r, r->inner.allreduce_sum, &r->own.allreduces, words, n);
}

static int exscan(void *context, int64_t *words, int64_t n) {
    seqtopk_cli_ranks *r = context;
    return timed(r, r->inner.exscan_sum, &r->own.exscans, words, n);
}

/* ------------------------------------------------------------------- team -- */

/* A function's address is an object's here, as POSIX has it. */
static int find(void *library, const char *name, void *function) {
    void *address = dlsym(library, name);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

seqtopk_cli_ranks *seqtopk_cli_ranks_join(int32_t count_all) {
    world_fn *world;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_cli_ranks *r = calloc(1, sizeof *r);
    /* Its MPI finds plugins of its own by global symbols. */
    if (r && !(r->library = dlopen(LIBRARY, RTLD_NOW | RTLD_GLOBAL)))
        seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                         "--team mpi: %s; it is built with -Dmpi=enabled, and found by LD_LIBRARY_PATH", dlerror());
    else if (r &&
             (!find(r->library, "seqtopk_mpi_world", &world) || !find(r->library, "seqtopk_mpi_team_end", &r->end) ||
              !find(r->library, "seqtopk_mpi_gather", &r->gather)))
        seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "--team mpi: " LIBRARY " is of another version");
    else if (r && world(&r->inner, &error))
        seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "--team mpi: %s", error.message);
    else if (r && (r->sizes = calloc((size_t)r->inner.size, sizeof *r->sizes))) {
        r->team = r->inner;
        r->team.count_all = count_all;
        r->team.context = r;
        r->team.allreduce_sum = allreduce;
        r->team.exscan_sum = exscan;
        r->progress = seqtopk_progress_new("route");
        r->start = now();
        return r;
    }
    free(r);
    return NULL;
}

void seqtopk_cli_ranks_leave(seqtopk_cli_ranks *r) {
    if (!r)
        return;
    r->end(&r->inner);
    free(r->sizes);
    free(r); /* the library stays: what MPI has started may outlive its end */
}

int32_t seqtopk_cli_ranks_rank(const seqtopk_cli_ranks *r) { return r->team.rank; }
int32_t seqtopk_cli_ranks_size(const seqtopk_cli_ranks *r) { return r->team.size; }

/* The sum of what every rank has. */
static int64_t sum(const seqtopk_cli_ranks *r, int64_t value) {
    if (r->inner.size > 1 && r->inner.allreduce_sum(r->inner.context, &value, 1))
        return INT64_MAX;
    return value;
}

int seqtopk_cli_ranks_agree(seqtopk_cli_ranks *r, int status) {
    const int failures = sum(r, status == SEQTOPK_EXIT_FAILURE) > 0, usage = sum(r, status == SEQTOPK_EXIT_USAGE) > 0;
    return usage ? SEQTOPK_EXIT_USAGE : failures ? SEQTOPK_EXIT_FAILURE : status;
}

/* -------------------------------------------------------------------- rows -- */

/* A rank's part of the file. */
typedef struct part {
    seqtopk_input in;
    int32_t *cu_seqlens;
    void *logits;
    uint8_t *mask;
    int32_t *given;
} part;

static void part_free(part *p) {
    free(p->cu_seqlens);
    free(p->logits);
    free(p->mask);
    free(p->given);
}

static int64_t sequences_of(const seqtopk_cli_inputs *inputs) { return inputs->cu_seqlens ? inputs->sequences : 1; }

/* Where in sequence s rank r begins, counted from the file's first token. */
static int64_t begin_of(const seqtopk_cli_inputs *inputs, int64_t s, int64_t r, int64_t size) {
    const int64_t first = inputs->cu_seqlens ? inputs->cu_seqlens[s] : 0;
    const int64_t last = inputs->cu_seqlens ? inputs->cu_seqlens[s + 1] : inputs->tokens;
    return first + (last - first) * r / size;
}

/* How far rank 0 is, as an example: on a terminal, and in a log where it takes long. */
static void show(seqtopk_cli_ranks *r, size_t done, size_t points, const char *what) {
    const double gone = (double)(now() - r->start) / 1e9;
    if (r->team.rank == 0 && (r->progress.terminal || gone > 2))
        seqtopk_progress_show(&r->progress, done, points, gone,
                              done > 0 ? gone * (double)(points - done) / (double)done : 0, what, what);
}

/* Reads this rank's rows of all sequences, and no others, one after the other. */
static int read_rows(seqtopk_cli_ranks *r, const seqtopk_cli_inputs *inputs, const char *path, const part *p,
                     size_t row) {
    enum { PIECE = 1 << 26 };
    const size_t all = (size_t)p->in.tokens * row;
    char message[SEQTOPK_NPY_MESSAGE];
    for (int64_t s = 0; s < p->in.sequences; s++) {
        size_t of = (size_t)begin_of(inputs, s, r->team.rank, r->team.size) * row, at = (size_t)p->cu_seqlens[s] * row;
        const size_t end = (size_t)p->cu_seqlens[s + 1] * row;
        for (size_t some; at < end; at += some, of += some) {
            some = end - at < PIECE ? end - at : PIECE;
            if (!seqtopk_npy_read_at(path, &inputs->logits, of, (char *)p->logits + at, some, message)) {
                seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: %s", path, message);
                return 0;
            }
            show(r, at + some, all, "reading rows");
        }
    }
    return 1;
}

/* This rank's rows of all sequences together. */
static int take_part(seqtopk_cli_ranks *r, const seqtopk_cli_inputs *inputs, const char *path, part *p) {
    const int64_t rank = r->team.rank, size = r->team.size;
    const int64_t sequences = sequences_of(inputs);
    const size_t row = inputs->tokens ? inputs->logits.data_size / (size_t)inputs->tokens : 0;
    const size_t width = (size_t)inputs->given_width;
    int64_t tokens = 0;
    *p = (part){.in = seqtopk_cli_inputs_view(inputs)};
    if (!(p->cu_seqlens = seqtopk_cli_alloc((unsigned long long)sequences + 1, sizeof *p->cu_seqlens)))
        return 0;
    p->cu_seqlens[0] = 0;
    for (int64_t s = 0; s < sequences; s++) {
        tokens += begin_of(inputs, s, rank + 1, size) - begin_of(inputs, s, rank, size);
        p->cu_seqlens[s + 1] = (int32_t)tokens;
    }
    p->logits = seqtopk_cli_alloc((unsigned long long)tokens, row);
    p->mask = inputs->token_mask ? seqtopk_cli_alloc((unsigned long long)tokens, 1) : NULL;
    p->given = inputs->given ? seqtopk_cli_alloc((unsigned long long)tokens, width * sizeof(int32_t)) : NULL;
    if (!p->logits || (inputs->token_mask && !p->mask) || (inputs->given && !p->given))
        return 0;
    for (int64_t s = 0; s < sequences; s++) {
        const size_t of = (size_t)begin_of(inputs, s, rank, size), at = (size_t)p->cu_seqlens[s];
        const size_t n = (size_t)(p->cu_seqlens[s + 1] - p->cu_seqlens[s]);
        if (p->mask)
            memcpy(p->mask + at, inputs->token_mask + of, n);
        if (p->given)
            memcpy(p->given + at * width, inputs->given + of * width, n * width * sizeof(int32_t));
    }
    p->in.logits = p->logits;
    p->in.token_mask = p->mask;
    p->in.given_ids = p->given;
    p->in.cu_seqlens = p->cu_seqlens;
    p->in.sequences = (int32_t)sequences;
    p->in.tokens = tokens;
    return read_rows(r, inputs, path, p, row);
}

/* ------------------------------------------------------------------- lists -- */

static int collect(const seqtopk_cli_ranks *r, const void *bytes, int64_t count, size_t size, void **all) {
    return r->gather(&r->inner, bytes, count * (int64_t)size, all, r->sizes) == SEQTOPK_OK;
}

/* Puts the ranks' lists in the file's order: of each sequence rank after rank. counts: of the pairs of each token. */
static void merge(const seqtopk_cli_inputs *inputs, int32_t size, const int32_t *counts, const int32_t *ids,
                  const float *weights, const float *nulls, int64_t *at_token, int64_t *at_pair, seqtopk_cli_lists *l) {
    int64_t token = 0, pair = 0, tokens = 0, pairs = 0;
    for (int32_t r = 0; r < size; r++) { /* where each rank's begin */
        at_token[r] = tokens;
        at_pair[r] = pairs;
        for (int64_t s = 0; s < sequences_of(inputs); s++)
            for (int64_t n = begin_of(inputs, s, r + 1, size) - begin_of(inputs, s, r, size); n > 0; n--)
                pairs += counts[tokens++];
    }
    for (int64_t s = 0; s < sequences_of(inputs); s++)
        for (int32_t r = 0; r < size; r++)
            for (int64_t n = begin_of(inputs, s, r + 1, size) - begin_of(inputs, s, r, size); n > 0; n--) {
                const int32_t of = counts[at_token[r]];
                l->token_offsets[token] = (int32_t)pair;
                if (nulls)
                    l->null_weights[token] = nulls[at_token[r]];
                memcpy(l->expert_ids + pair, ids + at_pair[r], (size_t)of * sizeof *ids);
                memcpy(l->weights + pair, weights + at_pair[r], (size_t)of * sizeof *weights);
                at_token[r]++;
                at_pair[r] += of;
                pair += of;
                token++;
            }
    l->token_offsets[token] = (int32_t)pair;
    l->selected = pair;
    seqtopk_cli_lists_permute(l);
}

/* At rank 0 the lists of all. */
static int gather_lists(seqtopk_cli_ranks *r, const seqtopk_cli_inputs *inputs, const part *p,
                        const seqtopk_output *out, seqtopk_cli_lists *l, seqtopk_cli_rank *told) {
    void *counts = NULL, *ids = NULL, *weights = NULL, *nulls = NULL, *ranks = NULL;
    const int64_t pairs = *out->selected;
    for (int64_t t = 0; t < p->in.tokens; t++)
        out->token_offsets[t] = out->token_offsets[t + 1] - out->token_offsets[t];
    r->own.tokens = p->in.tokens;
    r->own.pairs = pairs;
    int good = collect(r, out->token_offsets, p->in.tokens, sizeof(int32_t), &counts) &&
               collect(r, out->expert_ids, pairs, sizeof(int32_t), &ids) &&
               collect(r, out->weights, pairs, sizeof(float), &weights) &&
               (!out->null_weights || collect(r, out->null_weights, p->in.tokens, sizeof(float), &nulls)) &&
               collect(r, &r->own, 1, sizeof r->own, &ranks);
    int64_t *places = good && r->team.rank == 0 ? calloc((size_t)r->team.size, 2 * sizeof *places) : NULL;
    if (places) {
        memcpy(told, ranks, (size_t)r->team.size * sizeof *told);
        merge(inputs, r->team.size, counts, ids, weights, nulls, places, places + r->team.size, l);
    }
    good = good && (places || r->team.rank > 0);
    free(places);
    free(counts);
    free(ids);
    free(weights);
    free(nulls);
    free(ranks);
    return good;
}

/* ------------------------------------------------------------------- route -- */

/* Lists of a rank, and what it routes in. */
typedef struct space {
    seqtopk_output out;
    seqtopk_cli_lists lists;
    float *nulls;
    void *scratch;
    size_t size;
} space;

static int space_make(space *s, const seqtopk_plan *plan, const seqtopk_desc *desc, const part *p, int64_t capacity) {
    *s = (space){.out = SEQTOPK_OUTPUT_INIT};
    s->size = seqtopk_team_scratch_size(plan, p->in.tokens, p->in.sequences, capacity, desc->threads);
    s->scratch = seqtopk_cli_alloc(s->size, 1);
    s->nulls = desc->null_experts ? seqtopk_cli_alloc((unsigned long long)p->in.tokens, sizeof(float)) : NULL;
    const int good = seqtopk_cli_lists_make(&s->lists, p->in.tokens, 1, capacity) && s->scratch && s->size &&
                     (s->nulls || !desc->null_experts);
    s->out.token_offsets = s->lists.token_offsets;
    s->out.expert_ids = s->lists.expert_ids;
    s->out.weights = s->lists.weights;
    s->out.null_weights = s->nulls;
    s->out.selected = &s->lists.selected;
    s->out.capacity = capacity > 0 ? capacity : 1;
    return good;
}

static void space_free(space *s) {
    seqtopk_cli_lists_free(&s->lists);
    free(s->nulls);
    free(s->scratch);
}

static seqtopk_status route_once(seqtopk_cli_ranks *r, const seqtopk_plan *plan, const part *p, const space *s,
                                 const seqtopk_parallel *parallel, seqtopk_error *error) {
    r->own = (seqtopk_cli_rank){0};
    const int64_t begin = now();
    const seqtopk_status status =
        seqtopk_route_team(plan, &p->in, &s->out, s->scratch, s->size, &r->team, parallel, error);
    r->own.ns = now() - begin;
    return status;
}

/* Some tens of times in a tenth of a second: what is kept is the run that took this rank the shortest. */
static int32_t repeat(seqtopk_cli_ranks *r, const seqtopk_plan *plan, const part *p, const space *s,
                      const seqtopk_parallel *parallel) {
    enum { MOST = 101, BUDGET = 100000000 };
    const int64_t mean = sum(r, r->own.ns) / r->team.size + 1;
    const int32_t n = mean > BUDGET ? 0 : BUDGET / mean > MOST ? MOST : (int32_t)(BUDGET / mean);
    seqtopk_cli_rank best = r->own;
    for (int32_t i = 0; i < n; i++) {
        route_once(r, plan, p, s, parallel, NULL);
        best = i == 0 || r->own.ns < best.ns ? r->own : best;
        show(r, (size_t)i + 1, (size_t)n, "routing");
    }
    r->own = best;
    return n > 0 ? n : 1;
}

int seqtopk_cli_ranks_route(seqtopk_cli_ranks *r, const seqtopk_cli_inputs *inputs, const seqtopk_plan *plan,
                            const seqtopk_desc *desc, const char *path, const seqtopk_parallel *parallel,
                            seqtopk_cli_lists *lists, seqtopk_cli_rank *told, int32_t *repetitions) {
    part p;
    space s = {.nulls = NULL};
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_status status = SEQTOPK_E_CAPACITY;
    int good = take_part(r, inputs, path, &p);
    const int64_t most = good ? seqtopk_team_max_selected(plan, p.in.tokens) : 0;
    int64_t capacity = good ? 2 * seqtopk_max_selected(plan, p.in.tokens) : 0;
    for (int turn = 0; status == SEQTOPK_E_CAPACITY && turn < 2; turn++, capacity = most) { /* as all ranks do */
        space_free(&s);
        good = good && space_make(&s, plan, desc, &p, capacity < most ? capacity : most);
        if (sum(r, !good) > 0) {
            status = SEQTOPK_E_MEMORY; /* or a file that cannot be read, of which the rank has told */
            break;
        }
        status = route_once(r, plan, &p, &s, parallel, &error);
    }
    int exit_status = SEQTOPK_OPTIONS_RUN;
    if (status == SEQTOPK_OK) {
        *repetitions = repeat(r, plan, &p, &s, parallel);
        show(r, 0, 1, "gathering lists");
        status = gather_lists(r, inputs, &p, &s.out, lists, told) ? SEQTOPK_OK : SEQTOPK_E_MEMORY;
        status = sum(r, status != SEQTOPK_OK) ? SEQTOPK_E_MEMORY : SEQTOPK_OK;
    }
    seqtopk_progress_clear(&r->progress);
    if (status) {
        exit_status = SEQTOPK_EXIT_FAILURE;
        if (r->team.rank == 0 && status == SEQTOPK_E_NONFINITE && error.token >= 0)
            exit_status = seqtopk_cli_inputs_nonfinite(inputs, path, error.token);
        else if (r->team.rank == 0 || status == SEQTOPK_E_TEAM)
            seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: %s: %s", path, seqtopk_status_string(status), error.message);
    }
    space_free(&s);
    part_free(&p);
    return exit_status;
}
