/* SPDX-License-Identifier: MIT */
/*
 * What a graph computes is known when it is built, and whose tokens it computes only when it is run, perhaps often. So nothing of
 * a batch stands in a node: sequences and positions are tensors, plans are the state's, numbers are in op_params, and all that
 * threads share while they route is in the memory of the route's own tensor, which belongs to one context.
 */
#include "ggml_seqtopk.h"

#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

/* ------------------------------------------------------------------ state -- */

/* A plan, and what userdata points to. */
struct entry {
    struct entry *next;
    struct ggml_seqtopk *state;
    seqtopk_desc desc;
    seqtopk_plan *plan;
};

struct ggml_seqtopk {
    _Atomic(struct entry *) plans; /* the newest first; none leaves */
    atomic_flag is_told;           /* whether some op has taken it upon itself to tell the first failure */
    atomic_int status;             /* set when `error` is whole */
    atomic_llong failures, rows;
    seqtopk_error error;
};

static seqtopk_status refuse(seqtopk_error *error, seqtopk_status status, const char *format, ...) {
    if (error) {
        va_list args;
        va_start(args, format);
        error->status = status;
        error->token = -1;
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
    }
    return status;
}

struct ggml_seqtopk *ggml_seqtopk_new(void) {
    struct ggml_seqtopk *state = calloc(1, sizeof *state);
    if (state) {
        atomic_init(&state->plans, NULL);
        ggml_seqtopk_clear_status(state);
    }
    return state;
}

void ggml_seqtopk_free(struct ggml_seqtopk *state) {
    struct entry *entry = state ? atomic_load(&state->plans) : NULL;
    while (entry) {
        struct entry *next = entry->next;
        seqtopk_plan_destroy(entry->plan);
        free(entry);
        entry = next;
    }
    free(state);
}

seqtopk_status ggml_seqtopk_status(const struct ggml_seqtopk *state, struct ggml_seqtopk_report *report) {
    const seqtopk_error none = SEQTOPK_ERROR_INIT;
    const seqtopk_status status = (seqtopk_status)atomic_load(&state->status);
    if (report) {
        report->failures = atomic_load(&state->failures);
        report->rows = atomic_load(&state->rows);
        report->error = status ? state->error : none;
    }
    return status;
}

void ggml_seqtopk_clear_status(struct ggml_seqtopk *state) {
    atomic_store(&state->failures, 0);
    atomic_store(&state->rows, 0);
    atomic_store(&state->status, SEQTOPK_OK);
    atomic_flag_clear(&state->is_told);
}

static void tell(struct ggml_seqtopk *state, const seqtopk_error *error) {
    atomic_fetch_add(&state->failures, 1);
    if (atomic_flag_test_and_set(&state->is_told))
        return;
    state->error = *error;
    atomic_store(&state->status, error->status);
}

/* ------------------------------------------------------------------ plans -- */

/* A desc as it is compared: bytes between its fields are zero. */
static void copy_desc(seqtopk_desc *copy, const seqtopk_desc *desc) {
    const size_t hole = offsetof(seqtopk_desc, threads) + sizeof desc->threads;
    memset(copy, 0, sizeof *copy);
    memcpy(copy, desc, desc->struct_size < sizeof *copy ? desc->struct_size : sizeof *copy);
    memset((char *)copy + hole, 0, offsetof(seqtopk_desc, isa) - hole);
    if (!copy->tuning)
        copy->tuning = seqtopk_tuning_none();
}

/* The entry of a desc among those from `from` up to `to`. */
static struct entry *find(struct entry *from, const struct entry *to, const seqtopk_desc *desc) {
    while (from != to && memcmp(&from->desc, desc, sizeof *desc) != 0)
        from = from->next;
    return from != to ? from : NULL;
}

static struct entry *entry_of(struct ggml_seqtopk *state, const seqtopk_desc *desc, seqtopk_error *error) {
    seqtopk_desc key;
    struct entry *head = atomic_load(&state->plans), *entry;
    copy_desc(&key, desc);
    if ((entry = find(head, NULL, &key)))
        return entry;
    entry = calloc(1, sizeof *entry);
    if (!entry) {
        refuse(error, SEQTOPK_E_MEMORY, "no memory for a plan");
        return NULL;
    }
    memcpy(&entry->desc, &key, sizeof key);
    entry->state = state;
    if (seqtopk_plan_create(&entry->plan, &entry->desc, error)) {
        free(entry);
        return NULL;
    }
    entry->next = head;
    while (!atomic_compare_exchange_weak(&state->plans, &entry->next, entry)) {
        struct entry *other = find(entry->next, head, &key); /* that another thread was first with */
        if (other) {
            seqtopk_plan_destroy(entry->plan);
            free(entry);
            return other;
        }
        head = entry->next;
    }
    return entry;
}

const seqtopk_plan *ggml_seqtopk_plan(struct ggml_seqtopk *state, const seqtopk_desc *desc, seqtopk_error *error) {
    const struct entry *entry = NULL;
    if (state && desc)
        entry = entry_of(state, desc, error);
    else
        refuse(error, SEQTOPK_E_NULL, "%s is NULL", state ? "desc" : "state");
    return entry ? entry->plan : NULL;
}

/* ------------------------------------------------------------- what is where -- */

/* Sequences and positions are sources also where they are not read (TopK), so that they have memory to be written to. */
enum { HAS_BIAS = 1, HAS_FACTORS = 2, HAS_SEQS = 4, HAS_POS = 8, BY_SEQUENCE = 16 };

/* What a node knows beside its sources: in op_params, behind what ggml has there. */
struct node {
    int32_t step, threads, n_seqs, width, layer;
    uint8_t layout, team, has, unused;
    seqtopk_cache *cache;
};
enum { NODE_AT = 32, ALL_STEPS = -1 };
_Static_assert(NODE_AT + sizeof(struct node) <= GGML_MAX_OP_PARAMS, "op_params has no room for struct node");

/* What parts tell each other from step to step, and where the first two were found by the first part. */
struct head {
    int64_t nonfinite[2];
    int32_t sequences; /* runs of cu_seqlens */
    int32_t one[2];    /* token_offsets of a token alone */
    int32_t is_done;   /* by the first part alone */
    int32_t has_failed;
};

/* Places in the route's tensor, in bytes. Behind those that are 0 there is nothing. */
struct areas {
    size_t ids, weights, tokens, offsets, head;
    size_t counts;               /* each expert's pairs */
    size_t cu_seqlens, was_seen; /* of sequences */
    size_t positions;
    size_t scratch;
};

static size_t take(size_t *used, int64_t elements, size_t size) {
    const size_t at = *used;
    *used += ((size_t)elements * size + 63) & ~(size_t)63;
    return at;
}

static int is_ragged(const struct node *node) { return node->layout == GGML_SEQTOPK_RAGGED; }

/* Whether tokens of other sequences are no rivals: sequence scope with sequences. */
static int is_sorted(const struct node *node) { return node->has & BY_SEQUENCE; }

static int has_positions(const struct node *node) { return node->cache && node->has & HAS_POS; }

static int64_t places_of(const struct node *node, const seqtopk_plan *plan, int64_t tokens) {
    return is_ragged(node) ? seqtopk_max_selected(plan, tokens) : tokens * node->width;
}

static struct areas lay_out(const struct node *node, const struct entry *entry, const struct ggml_tensor *logits) {
    struct areas at = {0};
    const int64_t tokens = logits->ne[1], places = places_of(node, entry->plan, tokens);
    size_t used = 0;
    at.ids = take(&used, places, sizeof(int32_t));
    at.weights = take(&used, places, sizeof(float));
    at.tokens = take(&used, is_ragged(node) ? places : 0, sizeof(int32_t));
    at.offsets = take(&used, is_ragged(node) ? tokens + 1 : 0, sizeof(int32_t));
    at.head = take(&used, 1, sizeof(struct head));
    at.counts = take(&used, is_ragged(node) ? entry->desc.experts : 0, sizeof(int32_t));
    if (is_sorted(node)) {
        at.cu_seqlens = take(&used, tokens + 1, sizeof(int32_t));
        at.was_seen = take(&used, node->n_seqs, sizeof(int32_t));
    }
    at.positions = take(&used, has_positions(node) ? tokens : 0, sizeof(int64_t));
    at.scratch = used;
    return at;
}

/* One route by one part, as a node finds it. */
struct job {
    struct node node;
    const struct entry *entry;
    struct areas at;
    char *base;
    struct head *head;
    int64_t tokens, places;
    const int32_t *seqs, *pos;
    seqtopk_input in;
    seqtopk_output out;
    seqtopk_cache_rows rows;
    size_t scratch_size;
};

static int32_t *ints(const struct job *job, size_t at) { return (int32_t *)(void *)(job->base + at); }
static float *floats(const struct job *job, size_t at) { return (float *)(void *)(job->base + at); }

static void open_job(struct job *job, struct ggml_tensor *dst, const struct entry *entry) {
    const seqtopk_input in = SEQTOPK_INPUT_INIT;
    const seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    const seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT;
    struct node *node = &job->node;
    memcpy(node, (const char *)dst->op_params + NODE_AT, sizeof *node);
    struct ggml_tensor *const *src =
        dst->src + (node->step > 0); /* a later step's first source is the step before it */
    const struct ggml_tensor *logits = *src++;
    job->entry = entry;
    job->at = lay_out(node, entry, logits);
    job->base = dst->data;
    job->head = (struct head *)(void *)(job->base + job->at.head);
    job->tokens = logits->ne[1];
    job->places = places_of(node, entry->plan, job->tokens);
    job->scratch_size = ggml_nbytes(dst) - job->at.scratch;

    job->in = in;
    job->in.logits = logits->data;
    job->in.row_stride = (int64_t)(logits->nb[1] / logits->nb[0]);
    job->in.tokens = job->tokens;
    job->in.bias = node->has & HAS_BIAS ? (*src++)->data : NULL;
    job->in.expert_factors = node->has & HAS_FACTORS ? (*src++)->data : NULL;
    job->seqs = node->has & HAS_SEQS ? (*src++)->data : NULL;
    job->pos = has_positions(node) ? (*src++)->data : NULL;
    if (is_sorted(node)) /* how many is known once they are placed */
        job->in.cu_seqlens = ints(job, job->at.cu_seqlens);
    job->rows = rows;
    job->rows.layer = node->layer;
    job->rows.sequences = job->seqs;
    job->rows.positions = job->pos ? (const int64_t *)(const void *)(job->base + job->at.positions) : NULL;

    job->out = out;
    job->out.capacity = job->places; /* of no lists too: without it a token alone goes the long way */
    if (is_ragged(node)) {
        job->out.token_offsets = ints(job, job->at.offsets);
        job->out.expert_ids = ints(job, job->at.ids);
        job->out.weights = floats(job, job->at.weights);
    } else {
        job->out.padded_ids = ints(job, job->at.ids);
        job->out.padded_weights = floats(job, job->at.weights);
        job->out.padded_width = node->width;
        job->out.padding = node->layout == GGML_SEQTOPK_PADDED_DISTINCT ? SEQTOPK_PAD_DISTINCT : SEQTOPK_PAD_MINUS_ONE;
    }
}

/* What only calls of some tokens are asked for: without it a token alone goes a shorter way. */
static void ask_for_more(struct job *job) {
    job->in.on_nonfinite = SEQTOPK_NONFINITE_MARK;
    job->out.nonfinite = job->head->nonfinite;
    if (is_ragged(&job->node)) {
        job->out.pair_tokens = ints(job, job->at.tokens);
        job->out.fill_tail = 1;
    }
}

/* ------------------------------------------------------------------ route -- */

/* All weights NaN, and ids that can be computed with. */
static void spoil(const struct job *job) {
    int32_t *ids = ints(job, job->at.ids);
    float *weights = floats(job, job->at.weights);
    const int64_t each = job->places / job->tokens;
    for (int64_t i = 0; i < job->places; i++) {
        ids[i] = (int32_t)(i % each);
        weights[i] = (float)NAN;
    }
    for (int64_t i = 0; is_ragged(&job->node) && i < job->places; i++)
        ints(job, job->at.tokens)[i] = (int32_t)(i / each);
    for (int64_t t = 0; is_ragged(&job->node) && t <= job->tokens; t++)
        ints(job, job->at.offsets)[t] = (int32_t)(t * each);
}

/* By the first part. Each of its later steps comes here again, since others may still have written in this one. */
static void fail(const struct job *job, const seqtopk_error *error) {
    if (!job->head->has_failed)
        tell(job->entry->state, error);
    job->head->has_failed = 1;
    spoil(job);
}

static seqtopk_status route(const struct job *job, seqtopk_error *error) {
    void *scratch = job->base + job->at.scratch;
    return job->node.cache
               ? seqtopk_cache_step(job->node.cache, &job->rows, &job->in, &job->out, scratch, job->scratch_size, error)
               : seqtopk_route(job->entry->plan, &job->in, &job->out, scratch, job->scratch_size, error);
}

/* A token alone, asked for no more than it has. */
static seqtopk_status route_one(struct job *job, seqtopk_error *error) {
    const seqtopk_status status = route(job, error);
    if (status == SEQTOPK_E_NONFINITE) {
        ask_for_more(job);
        return route(job, error);
    }
    if (status || !is_ragged(&job->node))
        return status;
    int32_t *ids = ints(job, job->at.ids);
    const int32_t selected = ints(job, job->at.offsets)[1];
    for (int64_t i = 0; i < job->places; i++)
        ints(job, job->at.tokens)[i] = 0;
    for (int64_t i = selected; i < job->places; i++) {
        ids[i] = selected > 0 ? ids[selected - 1] : 0;
        floats(job, job->at.weights)[i] = 0.0f;
    }
    return SEQTOPK_OK;
}

/* Pairs that belong to no token go to experts that have fewer than T: what ggml has room for. To those that are read anyway first. */
static void spread_tail(const struct job *job) {
    const int64_t given = ints(job, job->at.offsets)[job->tokens];
    int32_t *ids = ints(job, job->at.ids), *counts = ints(job, job->at.counts);
    const int32_t experts = job->entry->desc.experts;
    if (given == job->places || job->tokens == 1)
        return;
    memset(counts, 0, (size_t)experts * sizeof *counts);
    for (int64_t i = 0; i < given; i++)
        counts[ids[i]]++;
    int64_t i = given;
    for (int may_be_new = 0; may_be_new <= 1; may_be_new++)
        for (int32_t e = 0; e < experts && i < job->places; e++)
            for (int64_t n = counts[e]; n < job->tokens && (n > 0 || may_be_new) && i < job->places; n = ++counts[e])
                ids[i++] = e;
}

/* Finds runs of tokens of one sequence, and whether each sequence is one run: what all parts can share. */
static seqtopk_status place_sequences(const struct job *job, int *are_runs, seqtopk_error *error) {
    int32_t *cu = ints(job, job->at.cu_seqlens), *was_seen = ints(job, job->at.was_seen), runs = 0;
    const int32_t *seqs = job->seqs, n_seqs = job->node.n_seqs;
    memset(was_seen, 0, (size_t)n_seqs * sizeof *was_seen);
    for (int64_t t = 0; t < job->tokens; t++) {
        if (seqs[t] < 0 || seqs[t] >= n_seqs)
            return refuse(error, SEQTOPK_E_VALUE, "seqs[%lld] is %d; it must be 0 to params.n_seqs - 1 (%d)",
                          (long long)t, (int)seqs[t], (int)n_seqs - 1);
        if (t > 0 && seqs[t] == seqs[t - 1])
            continue;
        cu[runs++] = (int32_t)t;
        *are_runs &= !was_seen[seqs[t]];
        was_seen[seqs[t]] = 1;
    }
    cu[runs] = (int32_t)job->tokens;
    job->head->sequences = runs;
    return SEQTOPK_OK;
}

/* The first part alone: what the others need before they begin, or everything. */
static void begin(struct job *job, int32_t parts) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_status status = SEQTOPK_OK;
    int are_runs = 1;
    memset(job->head, 0, sizeof *job->head);
    for (int64_t t = 0; job->pos && t < job->tokens; t++)
        ((int64_t *)(void *)(job->base + job->at.positions))[t] = job->pos[t];
    if (is_sorted(&job->node)) {
        status = place_sequences(job, &are_runs, &error);
        job->in.sequences = job->head->sequences;
    }
    if (!status && parts > 1 && are_runs)
        return;
    if (!are_runs) {
        job->in.cu_seqlens = NULL;
        job->in.token_seq = job->seqs;
        job->in.sequences = job->node.n_seqs;
    }
    job->head->is_done = 1;
    if (!status && job->tokens == 1) {
        status = route_one(job, &error);
    } else if (!status) {
        ask_for_more(job);
        status = route(job, &error);
    }
    if (status)
        fail(job, &error);
}

/* A batch whose sequences are mixed does not come so far. */
static int32_t route_steps(const struct node *node, const seqtopk_plan *plan) {
    seqtopk_input some = SEQTOPK_INPUT_INIT;
    some.tokens = 2;
    return node->cache ? seqtopk_cache_parts(node->cache) : seqtopk_route_steps_of(plan, &some, 2);
}

/* The first step is begin, the last the count of what was dropped; between them are those of the library. */
static void do_step(struct job *job, int32_t step, int32_t part, int32_t parts) {
    const seqtopk_plan *plan = job->entry->plan;
    void *scratch = job->base + job->at.scratch;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_status status;
    if (step == 0) {
        if (part == 0)
            begin(job, parts);
    } else if (step > route_steps(&job->node, plan)) {
        if (part == 0 && is_ragged(&job->node))
            spread_tail(job);
        if (part == 0 && job->head->nonfinite[0])
            atomic_fetch_add(&job->entry->state->rows, job->head->nonfinite[0]);
    } else if (!job->head->is_done) {
        ask_for_more(job);
        if (is_sorted(&job->node))
            job->in.sequences = job->head->sequences;
        status = job->node.cache ? seqtopk_cache_step_part(job->node.cache, &job->rows, &job->in, &job->out, scratch,
                                                           job->scratch_size, step - 1, part, parts, &error)
                                 : seqtopk_route_part(plan, &job->in, &job->out, scratch, job->scratch_size, step - 1,
                                                      part, parts, &error);
        if (status && part == 0)
            fail(job, &error);
    }
}

#if defined(__GNUC__)
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE
#endif

/*
 * A token alone, whose list of pairs, which is shorter to make than a row, fills its row; 0: it does not, or there is more to it.
 * While decoding, the experts' weights drive all else out of the caches: what counts is how many lines are touched, so that this
 * stands by itself.
 */
static NOINLINE int route_row(struct ggml_tensor *dst, const struct node *node, const struct entry *entry) {
    const struct ggml_tensor *logits = dst->src[0];
    const struct areas at = lay_out(node, entry, logits);
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    char *base = dst->data;
    int32_t *offsets = ((struct head *)(void *)(base + at.head))->one;
    in.logits = logits->data;
    in.tokens = 1;
    in.bias = node->has & HAS_BIAS ? dst->src[1]->data : NULL;
    out.token_offsets = offsets;
    out.expert_ids = (int32_t *)(void *)(base + at.ids);
    out.weights = (float *)(void *)(base + at.weights);
    out.capacity = node->width;
    return !seqtopk_route(entry->plan, &in, &out, base + at.scratch, ggml_nbytes(dst) - at.scratch, NULL) &&
           offsets[1] == node->width;
}

static NOINLINE void route_all(struct ggml_tensor *dst, struct node node, int ith, int nth, void *userdata) {
    struct job job;
    int32_t parts = node.team == GGML_SEQTOPK_TEAM_SERIAL ? 1 : nth < node.threads ? nth : node.threads;
#ifdef _OPENMP
    /* Only if ggml's threads are a team of this OpenMP there is something to wait for. */
    const int is_team = node.team == GGML_SEQTOPK_TEAM_BARRIER && parts > 1 && omp_get_num_threads() == nth;
#else
    const int is_team = 0;
#endif
    if (node.team == GGML_SEQTOPK_TEAM_BARRIER && !is_team)
        parts = 1;
    if ((ith >= parts && !is_team) || dst->src[node.step > 0]->ne[1] == 0)
        return;
    open_job(&job, dst, userdata);
    if (node.step >= 0) {
        do_step(&job, node.step, ith, parts);
        return;
    }
    const int32_t last = route_steps(&node, job.entry->plan) + 1;
    if (!is_team) {
        do_step(&job, 0, 0, 1);
        do_step(&job, last, 0, 1);
        return;
    }
#ifdef _OPENMP
    for (int32_t step = 0; step <= last; step++) {
        if (ith < parts)
            do_step(&job, step, ith, parts);
#pragma omp barrier
    }
#endif
}

/* Every thread comes here, whatever n_tasks says. */
static void route_op(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    struct node node;
    memcpy(&node, (const char *)dst->op_params + NODE_AT, sizeof node);
    const int is_row = node.step == ALL_STEPS && dst->src[0]->ne[1] == 1 && !node.cache && !is_ragged(&node) &&
                       !is_sorted(&node) && !(node.has & HAS_FACTORS);
    if (!is_row || (ith == 0 && !route_row(dst, &node, userdata)))
        route_all(dst, node, ith, nth, userdata);
}

/* ------------------------------------------------------------------ build -- */

/* Only for errors, which have a place for a name. */
static seqtopk_status check_tensor(const struct ggml_tensor *tensor, const char *name, enum ggml_type type, int64_t ne0,
                                   seqtopk_error *error) {
    if (tensor && (tensor->type != type || ggml_nelements(tensor) != ne0 || !ggml_is_contiguous(tensor)))
        return refuse(error, SEQTOPK_E_SHAPE, "params.%s is %s of %lld; it must be contiguous %s of %lld", name,
                      ggml_type_name(tensor->type), (long long)ggml_nelements(tensor), ggml_type_name(type),
                      (long long)ne0);
    return SEQTOPK_OK;
}

static int dtype_of(enum ggml_type type) {
    return type == GGML_TYPE_F32    ? SEQTOPK_DTYPE_F32
           : type == GGML_TYPE_BF16 ? SEQTOPK_DTYPE_BF16
           : type == GGML_TYPE_F16  ? SEQTOPK_DTYPE_F16
                                    : -1;
}

/* Experts that are selected from: all but those that every token has. */
static int32_t competing(const seqtopk_desc *desc) { return desc->experts - desc->shared_experts; }

static seqtopk_status check_logits(const struct ggml_tensor *logits, const seqtopk_desc *desc, seqtopk_error *error) {
    if (dtype_of(logits->type) < 0)
        return refuse(error, SEQTOPK_E_VALUE, "logits are %s; they must be f32, bf16 or f16",
                      ggml_type_name(logits->type));
    const int32_t columns = desc->shared_weight != 0.0f ? competing(desc) : desc->experts;
    if (logits->ne[0] != columns || logits->ne[2] != 1 || logits->ne[3] != 1 || logits->ne[1] > INT32_MAX)
        return refuse(error, SEQTOPK_E_SHAPE,
                      "logits are [%lld, %lld, %lld]; they must be [%d, T], as params.desc.experts says",
                      (long long)logits->ne[0], (long long)logits->ne[1], (long long)logits->ne[2], (int)columns);
    if (logits->nb[0] != ggml_type_size(logits->type) || logits->nb[1] % logits->nb[0] != 0 ||
        logits->nb[1] < logits->nb[0] * (size_t)logits->ne[0])
        return refuse(error, SEQTOPK_E_SHAPE, "logits: the experts of a token must lie side by side (ggml_cont)");
    return SEQTOPK_OK;
}

static seqtopk_status check_params(const struct ggml_seqtopk_params *params, int64_t tokens, seqtopk_error *error) {
    if (params->layout < GGML_SEQTOPK_RAGGED || params->layout > GGML_SEQTOPK_PADDED_MINUS_ONE)
        return refuse(error, SEQTOPK_E_VALUE, "params.layout is %d, which is no ggml_seqtopk_layout",
                      (int)params->layout);
    if (params->team < GGML_SEQTOPK_TEAM_AUTO || params->team > GGML_SEQTOPK_TEAM_BARRIER)
        return refuse(error, SEQTOPK_E_VALUE, "params.team is %d, which is no ggml_seqtopk_team", (int)params->team);
    if (params->n_threads < 0 || params->n_threads > 1024)
        return refuse(error, SEQTOPK_E_VALUE, "params.n_threads is %d; it must be 0 to 1024", (int)params->n_threads);
    if (params->longest_seq < 0)
        return refuse(error, SEQTOPK_E_VALUE, "params.longest_seq is %d; it must not be negative",
                      (int)params->longest_seq);
    if (params->seqs && !params->cache && (params->n_seqs < 1 || params->n_seqs > 1 << 24))
        return refuse(error, SEQTOPK_E_VALUE, "params.n_seqs is %d; with params.seqs it must be 1 to %d",
                      (int)params->n_seqs, 1 << 24);
    if (params->desc.null_experts != 0)
        return refuse(error, SEQTOPK_E_UNSUPPORTED,
                      "params.desc.null_experts: what they weigh has no tensor in a graph; use seqtopk_route");
    if (params->desc.scope == SEQTOPK_SCOPE_ONLINE && !params->cache)
        return refuse(error, SEQTOPK_E_NULL, "params.cache is NULL, which scope online needs");
    if (params->desc.scope != SEQTOPK_SCOPE_ONLINE && (params->cache || params->pos))
        return refuse(error, SEQTOPK_E_VALUE, "params.%s: only scope online has one", params->cache ? "cache" : "pos");
    seqtopk_status status = check_tensor(params->bias, "bias", GGML_TYPE_F32, competing(&params->desc), error);
    if (!status)
        status = check_tensor(params->factors, "factors", GGML_TYPE_F32, params->desc.experts, error);
    if (!status)
        status = check_tensor(params->seqs, "seqs", GGML_TYPE_I32, tokens, error);
    return status ? status : check_tensor(params->pos, "pos", GGML_TYPE_I32, tokens, error);
}

/* Logits that take one thread as long as a team's nodes wait for each other. */
enum { WORTH_A_TEAM = 65536 };

/* What is asked, in the terms of a plan: tokens without rivals are TopK. */
static void settle(struct ggml_seqtopk_params *p, const struct ggml_tensor *logits) {
    seqtopk_desc *desc = &p->desc;
    desc->dtype = (seqtopk_dtype)dtype_of(logits->type);
    if (desc->top_k == competing(desc)) { /* a warm-up: no token of any sequence */
        desc->scope = SEQTOPK_SCOPE_TOKEN;
    } else if (desc->scope == SEQTOPK_SCOPE_SEQUENCE && (p->longest_seq == 1 || logits->ne[1] == 1)) {
        desc->scope = SEQTOPK_SCOPE_TOKEN;
        if (desc->max_experts > 0 && desc->max_experts < desc->top_k)
            desc->top_k = desc->max_experts;
    }
    if (desc->scope == SEQTOPK_SCOPE_TOKEN) {
        desc->min_experts = desc->max_experts = 0;
        p->cache = NULL;
        if (p->layout == GGML_SEQTOPK_RAGGED) /* rows of K have no padding */
            p->layout = GGML_SEQTOPK_PADDED_DISTINCT;
    }
    p->n_threads = p->n_threads > 0 ? p->n_threads : 1;
    if (p->team == GGML_SEQTOPK_TEAM_AUTO)
        p->team = p->n_threads == 1 || ggml_nelements(logits) < WORTH_A_TEAM ? GGML_SEQTOPK_TEAM_SERIAL
                                                                             : GGML_SEQTOPK_TEAM_NODES;
    if (p->team == GGML_SEQTOPK_TEAM_SERIAL)
        p->n_threads = 1;
}

static void set_node(struct ggml_tensor *tensor, const struct node *node) {
    const char none[sizeof *node] = {0};
    char *at = (char *)tensor->op_params + NODE_AT;
    GGML_ASSERT(memcmp(at, none, sizeof none) == 0 && "ggml's own custom parameters have grown: move NODE_AT");
    memcpy(at, node, sizeof *node);
}

static size_t scratch_size_of(const struct node *node, const seqtopk_plan *plan, int64_t tokens) {
    tokens = tokens > 1 ? tokens : 1; /* of none there is nothing to route, and still a tensor */
    const int64_t sequences = !is_sorted(node) ? 1 : node->n_seqs > tokens ? node->n_seqs : tokens;
    return node->cache ? seqtopk_cache_scratch_size(node->cache, tokens, node->threads)
                       : seqtopk_scratch_size(plan, tokens, sequences, node->threads);
}

/* The op's nodes; the last one has everything. */
static struct ggml_tensor *add_nodes(struct ggml_context *ctx, struct entry *entry, struct ggml_tensor *logits,
                                     const struct ggml_seqtopk_params *p, struct node *node, size_t size) {
    struct ggml_tensor *args[5] = {logits};
    int n = 1;
    struct ggml_tensor *const optional[] = {p->bias, p->factors, p->seqs, p->pos};
    for (int i = 0; i < 4; i++)
        if (optional[i])
            args[n++] = optional[i];
    const int in_nodes = p->team == GGML_SEQTOPK_TEAM_NODES;
    node->step = in_nodes ? 0 : ALL_STEPS;
    struct ggml_tensor *last = ggml_custom_4d(ctx, GGML_TYPE_I32, (int64_t)((size + 3) / 4), 1, 1, 1, args, n, route_op,
                                              GGML_N_TASKS_MAX, entry);
    set_node(last, node);
    for (node->step = 1; in_nodes && node->step <= route_steps(node, entry->plan) + 1; node->step++) {
        last = ggml_custom_inplace(ctx, last, args, n, route_op, GGML_N_TASKS_MAX, entry);
        set_node(last, node);
    }
    return last;
}

seqtopk_status ggml_seqtopk_moe_route(struct ggml_context *ctx, struct ggml_seqtopk *state, struct ggml_tensor *logits,
                                      const struct ggml_seqtopk_params *params, struct ggml_seqtopk_route *route,
                                      seqtopk_error *error) {
    const struct ggml_seqtopk_route none = {0};
    if (!ctx || !state || !logits || !params || !route)
        return refuse(error, SEQTOPK_E_NULL, "%s is NULL",
                      !ctx      ? "ctx"
                      : !state  ? "state"
                      : !logits ? "logits"
                      : !params ? "params"
                                : "route");
    *route = none;
    struct ggml_seqtopk_params p = *params;
    const int64_t tokens = logits->ne[1];
    seqtopk_status status = check_logits(logits, &p.desc, error);
    if (!status)
        status = check_params(&p, tokens, error);
    if (status)
        return status;
    settle(&p, logits);
    seqtopk_error why = SEQTOPK_ERROR_INIT;
    struct entry *entry = entry_of(state, &p.desc, &why);
    if (!entry)
        return refuse(error, why.status, "params.%s", why.message);
    struct node node = {.threads = p.n_threads,
                        .n_seqs = p.n_seqs,
                        .width = seqtopk_max_per_token(entry->plan),
                        .layer = p.layer,
                        .layout = (uint8_t)p.layout,
                        .team = (uint8_t)p.team,
                        .has = (uint8_t)((p.bias ? HAS_BIAS : 0) | (p.factors ? HAS_FACTORS : 0) |
                                         (p.seqs ? HAS_SEQS : 0) | (p.pos ? HAS_POS : 0) |
                                         (p.seqs && p.desc.scope == SEQTOPK_SCOPE_SEQUENCE ? BY_SEQUENCE : 0)),
                        .cache = p.cache};
    const size_t scratch = scratch_size_of(&node, entry->plan, tokens);
    const int64_t places = places_of(&node, entry->plan, tokens);
    if (!scratch || places < 0 || places > INT32_MAX)
        return refuse(error, SEQTOPK_E_OVERFLOW, "logits have %lld tokens: more pairs than an int32 list can index",
                      (long long)tokens);
    const struct areas at = lay_out(&node, entry, logits);
    struct ggml_tensor *all = add_nodes(ctx, entry, logits, &p, &node, at.scratch + scratch);

    /* A list in as many rows as there are tokens, so that ggml's threads share what they make of a row. Of a cache's token alone
     * one expert may be there twice, which rows of one place may have. */
    const int64_t width = !is_ragged(&node)           ? node.width
                          : node.cache && tokens == 1 ? 1
                                                      : seqtopk_max_selected(entry->plan, 1);
    const int64_t rows = is_ragged(&node) && width == 1 ? places : tokens;
    const size_t row = (size_t)width * sizeof(int32_t);
    route->ids = ggml_view_2d(ctx, all, width, rows, row, at.ids);
    route->weights = ggml_view_3d(ctx, all, 1, width, rows, sizeof(float), row, at.weights);
    route->weights->type = GGML_TYPE_F32; /* of the same size; ggml has no op that only says so */
    if (is_ragged(&node)) {
        route->pair_tokens = ggml_view_1d(ctx, all, places, at.tokens);
        route->offsets = ggml_view_1d(ctx, all, tokens + 1, at.offsets);
    }
    return SEQTOPK_OK;
}

struct ggml_tensor *ggml_seqtopk_moe_gather(struct ggml_context *ctx, struct ggml_tensor *x,
                                            const struct ggml_seqtopk_route *route) {
    if (!route->pair_tokens)
        return ggml_reshape_3d(ctx, x, x->ne[0], 1, x->ne[1]);
    struct ggml_tensor *rows = ggml_get_rows(ctx, x, route->pair_tokens);
    return ggml_reshape_3d(ctx, rows, rows->ne[0], route->ids->ne[0], route->ids->ne[1]);
}

/* ---------------------------------------------------------------- combine -- */

#if defined(__GNUC__)
#define ALWAYS_INLINE __attribute__((always_inline)) inline
#else
#define ALWAYS_INLINE inline
#endif

/* y += w[0] row[0] + ... one after the other. Compilers make vectors of it. */
static ALWAYS_INLINE void add_four(float *restrict y, const float *const row[4], const float w[4], int64_t n) {
    const float *a = row[0], *b = row[1], *c = row[2], *d = row[3];
    for (int64_t i = 0; i < n; i++)
        y[i] = y[i] + w[0] * a[i] + w[1] * b[i] + w[2] * c[i] + w[3] * d[i];
}

static ALWAYS_INLINE void add_one(float *restrict y, const float *row, float w, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        y[i] += w * row[i];
}

/* Some columns of a token: `count` rows and their weights, at strides of bytes. */
struct sum {
    float *y;
    int64_t columns, count;
    const char *rows, *weights;
    size_t row_stride, weight_stride;
};

static ALWAYS_INLINE void add_rows(const struct sum *s) {
    const float *row[4];
    float w[4];
    int pending = 0;
    memset(s->y, 0, (size_t)s->columns * sizeof *s->y);
    for (int64_t u = 0; u < s->count; u++) {
        memcpy(&w[pending], s->weights + (size_t)u * s->weight_stride, sizeof *w);
        if (w[pending] == 0.0f)
            continue;
        row[pending++] = (const float *)(const void *)(s->rows + (size_t)u * s->row_stride);
        if (pending == 4) {
            add_four(s->y, row, w, s->columns);
            pending = 0;
        }
    }
    for (int i = 0; i < pending; i++)
        add_one(s->y, row[i], w[i], s->columns);
}

static void add_rows_plain(const struct sum *s) { add_rows(s); }

/* Engines compile for the oldest CPU. Without fused multiply-adds, so that there are the same bits. */
#if defined(__GNUC__) && defined(__x86_64__) && !defined(__AVX2__)
__attribute__((target("avx2"))) static void add_rows_avx2(const struct sum *s) { add_rows(s); }
#define ADD_ROWS (__builtin_cpu_supports("avx2") ? add_rows_avx2 : add_rows_plain)
#else
#define ADD_ROWS add_rows_plain
#endif

/* Tokens are shared by the threads, or, where those are few, columns, in whole lines of a cache. */
static void combine_op(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    (void)userdata;
    const struct ggml_tensor *experts = dst->src[0], *weights = dst->src[1], *offsets = dst->src[2];
    const int64_t width = dst->ne[0], tokens = dst->ne[1];
    const int by_token = tokens >= 4 * (int64_t)nth;
    const int64_t lines = (width + 15) / 16;
    const int64_t first = by_token ? tokens * ith / nth : 0, last = by_token ? tokens * (ith + 1) / nth : tokens;
    const int64_t from = by_token ? 0 : lines * ith / nth * 16;
    const int64_t end = by_token || ith + 1 == nth ? width : lines * (ith + 1) / nth * 16;
    void (*const sum)(const struct sum *) = ADD_ROWS;
    for (int64_t t = first; t < last && from < end; t++) {
        const int32_t *range = offsets ? (const int32_t *)offsets->data + t : NULL;
        const size_t skipped = (size_t)from * sizeof(float);
        const size_t at = range ? (size_t)range[0] * experts->nb[1] : (size_t)t * experts->nb[2];
        const size_t weights_at = range ? (size_t)range[0] * weights->nb[1] : (size_t)t * weights->nb[2];
        const struct sum s = {.y = (float *)(void *)((char *)dst->data + (size_t)t * dst->nb[1] + skipped),
                              .columns = end - from,
                              .count = range ? range[1] - range[0] : experts->ne[1],
                              .rows = (const char *)experts->data + at + skipped,
                              .row_stride = experts->nb[1],
                              .weights = (const char *)weights->data + weights_at,
                              .weight_stride = weights->nb[1]};
        sum(&s);
    }
}

struct ggml_tensor *ggml_seqtopk_moe_combine(struct ggml_context *ctx, struct ggml_tensor *experts,
                                             const struct ggml_seqtopk_route *route) {
    struct ggml_tensor *args[] = {experts, route->weights, route->offsets};
    GGML_ASSERT(experts->type == GGML_TYPE_F32 && experts->nb[0] == sizeof(float));
    GGML_ASSERT(route->weights->type == GGML_TYPE_F32 && route->weights->ne[0] == 1);
    GGML_ASSERT(route->weights->ne[1] == experts->ne[1] && route->weights->ne[2] == experts->ne[2]);
    GGML_ASSERT(!route->offsets || ggml_is_contiguous(experts));
    const int64_t tokens = route->offsets ? route->offsets->ne[0] - 1 : experts->ne[2];
    return ggml_custom_4d(ctx, GGML_TYPE_F32, experts->ne[0], tokens, 1, 1, args, route->offsets ? 3 : 2, combine_op,
                          GGML_N_TASKS_MAX, NULL);
}

/* --------------------------------------------------------- a cache's sequences -- */

/* The tokens of a sequence in the layer that has most; -1: no such sequence. */
static int64_t longest_of(const seqtopk_cache *cache, int32_t seq) {
    int64_t most = -1, length;
    for (int32_t layer = 0; (length = seqtopk_cache_length(cache, layer, seq)) >= 0; layer++)
        most = length > most ? length : most;
    return most;
}

seqtopk_status ggml_seqtopk_seq_rm(seqtopk_cache *cache, int32_t seq, int32_t p0, int32_t p1, seqtopk_error *error) {
    seqtopk_status status = SEQTOPK_OK;
    p0 = p0 < 0 ? 0 : p0;
    if (seq < 0) {
        int32_t s = 0;
        do
            status = ggml_seqtopk_seq_rm(cache, s++, p0, p1, error);
        while (!status && longest_of(cache, s) >= 0);
        return status;
    }
    const int64_t longest = longest_of(cache, seq);
    if (p1 < 0 || p1 >= longest)
        return seqtopk_cache_truncate(cache, seq, p0, error);
    return p0 < p1 ? seqtopk_cache_remove(cache, seq, p0, p1, error) : SEQTOPK_OK;
}

seqtopk_status ggml_seqtopk_seq_cp(seqtopk_cache *cache, int32_t from, int32_t to, int32_t p0, int32_t p1,
                                   seqtopk_error *error) {
    if (p0 > 0)
        return refuse(error, SEQTOPK_E_UNSUPPORTED,
                      "p0 is %d: a router's state has no meaning without what came before; copy from 0", (int)p0);
    if (to == from) /* llama.cpp: nothing to do */
        return SEQTOPK_OK;
    return seqtopk_cache_copy(cache, to, from, p1 < 0 || p1 >= longest_of(cache, from) ? -1 : p1, error);
}

seqtopk_status ggml_seqtopk_seq_keep(seqtopk_cache *cache, int32_t seq, seqtopk_error *error) {
    return seqtopk_cache_keep(cache, seq, error);
}
