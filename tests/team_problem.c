/* SPDX-License-Identifier: MIT */
#include "team_problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *take(size_t size) {
    void *p = malloc(size ? size : 1);
    if (!p)
        abort();
    return p;
}

static void in_turn(void *context, int32_t n, void (*task)(void *arg, int32_t i), void *arg) {
    (void)context;
    for (int32_t i = n - 1; i >= 0; i--)
        task(arg, i);
}

/* ---------------------------------------------------------------- problems -- */

static uint32_t one_of(random_state *r, uint32_t n) { return random_below(r, n); }

static void draw_desc(random_state *r, seqtopk_desc *d) {
    static const int32_t sizes[] = {1, 2, 7, 8, 16, 17, 32, 40, 64, 96, 128, 256};
    *d = (seqtopk_desc)SEQTOPK_DESC_INIT;
    d->experts = sizes[one_of(r, sizeof sizes / sizeof *sizes)];
    d->top_k = 1 + (int32_t)one_of(r, (uint32_t)(d->experts < 10 ? d->experts : 10));
    d->scope = one_of(r, 16) ? SEQTOPK_SCOPE_SEQUENCE : SEQTOPK_SCOPE_TOKEN;
    d->score = (seqtopk_score)one_of(r, 4);
    d->norm = (seqtopk_norm)one_of(r, 4);
    if (d->norm == SEQTOPK_NORM_SUM && d->score == SEQTOPK_SCORE_LOGITS)
        d->norm = SEQTOPK_NORM_DEFAULT;
    d->dtype = (seqtopk_dtype)one_of(r, 3);
    d->order = (seqtopk_order)one_of(r, 2);
    if (d->scope == SEQTOPK_SCOPE_SEQUENCE && one_of(r, 2)) {
        d->min_experts = (int32_t)one_of(r, (uint32_t)(d->top_k < 3 ? d->top_k : 3) + 1);
        d->max_experts = one_of(r, 3) ? d->top_k + (int32_t)one_of(r, 4) : 0;
    }
    if (one_of(r, 4) == 0 && d->experts % 8 == 0) {
        d->groups = 8;
        d->group_top_k = 1 + (int32_t)one_of(r, 8);
        d->group_score = (seqtopk_group_score)one_of(r, d->experts >= 16 ? 2 : 1);
    }
    if (one_of(r, 8) == 0)
        d->logit_softcap = 5.0f;
    if (one_of(r, 8) == 0 && d->groups < 2 && d->experts > 8)
        d->null_experts = 1 + (int32_t)one_of(r, 3);
    else if (one_of(r, 8) == 0 && d->groups < 2 && d->experts > 16) {
        d->shared_experts = 1 + (int32_t)one_of(r, 2);
        d->shared_weight = 0.5f;
    }
}

static int32_t draw_length(random_state *r) {
    switch (one_of(r, 8)) {
    case 0: return 0;
    case 1: return 1;
    case 2:
    case 3: return (int32_t)one_of(r, 12);
    case 4: return 300 + (int32_t)one_of(r, 2000);
    default: return (int32_t)one_of(r, 200);
    }
}

/* Where each rank begins in a sequence. */
static void draw_split(random_state *r, problem *p, int s, int32_t length) {
    const uint32_t how = one_of(r, 5);
    const int32_t whole = (int32_t)one_of(r, (uint32_t)p->size);
    for (int i = 0; i <= p->size; i++) {
        int32_t at = (int32_t)((int64_t)length * i / p->size);
        if (how == 1) /* one rank has all */
            at = i <= whole ? 0 : length;
        if (how == 2) /* one token each, and the last has the rest */
            at = i < length ? i : length;
        if (how == 3)
            at = (int32_t)one_of(r, (uint32_t)length + 1);
        p->from[i][s] = i == p->size ? length : i == 0 ? 0 : at;
    }
    for (int i = 1; i < p->size; i++) /* in any order so far */
        for (int k = i; k > 1 && p->from[k][s] < p->from[k - 1][s]; k--) {
            const int32_t swap = p->from[k][s];
            p->from[k][s] = p->from[k - 1][s];
            p->from[k - 1][s] = swap;
        }
}

static int32_t columns_of(const seqtopk_desc *d) {
    return d->shared_experts && d->shared_weight != 0.0f ? d->experts - d->shared_experts : d->experts;
}

static void draw(random_state *r, problem *p, int size) {
    memset(p, 0, sizeof *p);
    p->odd = -1;
    draw_desc(r, &p->desc);
    p->size = size;
    p->in = (seqtopk_input)SEQTOPK_INPUT_INIT;
    p->in.sequences =
        p->desc.scope == SEQTOPK_SCOPE_TOKEN ? 1 : 1 + (int32_t)one_of(r, one_of(r, 3) ? 2 : PROBLEM_SEQUENCES);
    for (int s = 0; s < p->in.sequences; s++) {
        const int32_t length = draw_length(r);
        p->cu_seqlens[s + 1] = p->cu_seqlens[s] + length;
        draw_split(r, p, s, length);
    }
    p->in.cu_seqlens = p->cu_seqlens;
    p->in.tokens = p->cu_seqlens[p->in.sequences];
    const size_t tokens = (size_t)p->in.tokens, columns = (size_t)columns_of(&p->desc);
    p->element = p->desc.dtype == SEQTOPK_DTYPE_F32 ? 4 : 2;
    void *logits = take(tokens * columns * p->element);
    random_logits(r, (random_kind)one_of(r, RANDOM_KINDS), (int)p->desc.dtype, logits, tokens, columns, columns);
    p->in.logits = logits;
    if (one_of(r, 3) == 0) {
        uint8_t *mask = take(tokens);
        const uint32_t rare = 1 + one_of(r, 8);
        for (size_t t = 0; t < tokens; t++)
            mask[t] = one_of(r, rare + 1) > 0;
        p->in.token_mask = mask;
    }
    if (one_of(r, 3) == 0) {
        float *bias = take(columns * sizeof *bias);
        for (size_t e = 0; e < columns; e++)
            bias[e] = (float)(0.3 * random_normal(r));
        p->in.bias = bias;
    }
    if (one_of(r, 8) == 0 && tokens)
        for (uint32_t i = 0, n = 1 + one_of(r, 3); i < n; i++)
            random_store_bits(logits, (int)p->desc.dtype,
                              (size_t)one_of(r, (uint32_t)tokens) * columns + one_of(r, (uint32_t)columns),
                              random_nan(r, (int)p->desc.dtype, one_of(r, RANDOM_NANS)));
    p->in.on_nonfinite = (seqtopk_nonfinite)one_of(r, 3);
    p->is_tight = one_of(r, 8) == 0;
    p->threads = one_of(r, 4) ? 1 : 3;
    p->count_all = one_of(r, 4) == 0;
}

void problem_release(problem *p) {
    free((void *)(uintptr_t)p->in.logits);
    free((void *)(uintptr_t)p->in.token_mask);
    free((void *)(uintptr_t)p->in.bias);
    free(p->offsets);
    free(p->ids);
    free(p->weights);
    seqtopk_plan_destroy(p->plan);
}

/* ------------------------------------------------------------ one machine -- */

static void route_alone(problem *p) {
    const int64_t most = seqtopk_max_selected(p->plan, p->in.tokens);
    const size_t size = seqtopk_scratch_size(p->plan, p->in.tokens, p->in.sequences, 1);
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    void *scratch = take(size);
    out.token_offsets = p->offsets = take((size_t)(p->in.tokens + 1) * sizeof(int32_t));
    out.expert_ids = p->ids = take((size_t)most * sizeof(int32_t));
    out.weights = p->weights = take((size_t)most * sizeof(float));
    out.capacity = most;
    p->status = seqtopk_route(p->plan, &p->in, &out, scratch, size, &error);
    p->bad = error.token;
    free(scratch);
}

seqtopk_status problem_draw(problem *p, uint64_t seed, int size, const char *isa) {
    random_state r;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    random_seed(&r, seed);
    draw(&r, p, size);
    p->desc.isa = isa;
    snprintf(p->told, sizeof p->told, "--cases 1 --seed %llu --ranks %d: E %d K %d score %d min %d max %d S %d T %lld",
             (unsigned long long)seed, size, (int)p->desc.experts, (int)p->desc.top_k, (int)p->desc.score,
             (int)p->desc.min_experts, (int)p->desc.max_experts, (int)p->in.sequences, (long long)p->in.tokens);
    if (!seqtopk_plan_create(&p->plan, &p->desc, &error))
        route_alone(p);
    return error.status;
}

/* ------------------------------------------------------------------- ranks -- */

/* Copies the rank's rows together. */
static void share(const problem *p, int r, seqtopk_input *in, int32_t *cu_seqlens) {
    const size_t row = (size_t)columns_of(&p->desc) * p->element;
    int64_t tokens = 0;
    cu_seqlens[0] = 0;
    for (int s = 0; s < p->in.sequences; s++) {
        tokens += p->from[r + 1][s] - p->from[r][s];
        cu_seqlens[s + 1] = (int32_t)tokens;
    }
    char *logits = take((size_t)tokens * row);
    uint8_t *mask = p->in.token_mask ? take((size_t)tokens) : NULL;
    *in = p->in;
    for (int s = 0; s < p->in.sequences; s++) {
        const size_t at = (size_t)cu_seqlens[s], n = (size_t)(cu_seqlens[s + 1] - cu_seqlens[s]);
        const size_t of = (size_t)(p->cu_seqlens[s] + p->from[r][s]);
        memcpy(logits + at * row, (const char *)p->in.logits + of * row, n * row);
        if (mask)
            memcpy(mask + at, p->in.token_mask + of, n);
    }
    in->logits = logits;
    in->token_mask = mask;
    in->tokens = tokens;
    in->cu_seqlens = cu_seqlens;
}

static int64_t pairs_of(const problem *p, int r) {
    int64_t pairs = 0;
    for (int s = 0; s < p->in.sequences; s++)
        pairs += p->offsets[p->cu_seqlens[s] + p->from[r + 1][s]] - p->offsets[p->cu_seqlens[s] + p->from[r][s]];
    return pairs;
}

static int is_same_list(const problem *p, const seqtopk_output *out, int64_t own, int64_t whole) {
    const int32_t from = out->token_offsets[own], n = out->token_offsets[own + 1] - from;
    const int32_t of = p->offsets[whole];
    return n == p->offsets[whole + 1] - of &&
           memcmp(out->expert_ids + from, p->ids + of, (size_t)n * sizeof(int32_t)) == 0 &&
           memcmp(out->weights + from, p->weights + of, (size_t)n * sizeof(float)) == 0;
}

/* The lists by expert are those by token. */
static int is_permuted(const seqtopk_output *out, int32_t experts, int64_t pairs) {
    for (int32_t e = 0; e < experts; e++)
        for (int32_t i = out->expert_offsets[e]; i < out->expert_offsets[e + 1]; i++) {
            const int32_t slot = out->expert_slots[i], t = out->expert_tokens[i];
            if (slot < 0 || slot >= pairs || out->expert_ids[slot] != e || slot < out->token_offsets[t] ||
                slot >= out->token_offsets[t + 1])
                return 0;
        }
    return out->expert_offsets[experts] == pairs;
}

static int fails(const problem *p, int r, const char *what, const char *message) {
    fprintf(stderr, "check-team: rank %d: %s (%s): %s\n", r, what, message, p->told);
    return 1;
}

static int compare(const problem *p, int r, const seqtopk_input *in, const seqtopk_output *out, seqtopk_status status,
                   const seqtopk_error *error) {
    const int64_t most = out->capacity;
    const int32_t experts = p->desc.experts - p->desc.null_experts;
    if (p->is_lost || p->odd >= 0)
        return status == SEQTOPK_E_TEAM ? 0 : fails(p, r, "no SEQTOPK_E_TEAM", error->message);
    if (p->status)
        return status == p->status && error->token == p->bad ? 0 : fails(p, r, "another error", error->message);
    int is_short = 0;
    /* Null experts take space until they are dropped. */
    for (int i = 0; p->is_tight && i < p->size; i++) {
        int64_t tokens = 0;
        for (int s = 0; s < p->in.sequences; s++)
            tokens += p->from[i + 1][s] - p->from[i][s];
        is_short |= pairs_of(p, i) > seqtopk_max_selected(p->plan, tokens);
    }
    if (status == SEQTOPK_E_CAPACITY && p->is_tight && (is_short || p->desc.null_experts))
        return 0;
    if (status || is_short)
        return fails(p, r, "a status", error->message);
    for (int s = 0; s < p->in.sequences; s++)
        for (int32_t t = in->cu_seqlens[s]; t < in->cu_seqlens[s + 1]; t++)
            if (!is_same_list(p, out, t, p->cu_seqlens[s] + p->from[r][s] + t - in->cu_seqlens[s]))
                return fails(p, r, "another list", "");
    if (*out->selected != pairs_of(p, r) || *out->selected > most || !is_permuted(out, experts, *out->selected))
        return fails(p, r, "lists by expert", "");
    return 0;
}

void problem_rank(problem *p, const seqtopk_team *team) {
    const int r = team->rank;
    int32_t cu_seqlens[PROBLEM_SEQUENCES + 1];
    int64_t selected = -1;
    seqtopk_input in;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_parallel parallel = SEQTOPK_PARALLEL_INIT;
    share(p, r, &in, cu_seqlens);
    if (r == p->odd)
        in.on_nonfinite = (seqtopk_nonfinite)((in.on_nonfinite + 1) % 3);
    parallel.threads = p->threads;
    parallel.parallel_for = in_turn;
    out.capacity =
        p->is_tight ? seqtopk_max_selected(p->plan, in.tokens) : seqtopk_team_max_selected(p->plan, in.tokens);
    seqtopk_team own = *team;
    own.count_all = p->count_all;
    const size_t size = seqtopk_team_scratch_size(p->plan, in.tokens, in.sequences, out.capacity, p->threads);
    void *scratch = take(size);
    const size_t pairs = (size_t)out.capacity;
    out.token_offsets = take((size_t)(in.tokens + 1) * sizeof(int32_t));
    out.expert_ids = take(pairs * sizeof(int32_t));
    out.weights = take(pairs * sizeof(float));
    out.expert_offsets = take((size_t)(p->desc.experts + 1) * sizeof(int32_t));
    out.expert_tokens = take(pairs * sizeof(int32_t));
    out.expert_slots = take(pairs * sizeof(int32_t));
    out.selected = &selected;
    if (out.capacity == 0)
        out.capacity = 1;
    const seqtopk_status status =
        seqtopk_route_team(p->plan, &in, &out, scratch, size, &own, p->threads > 1 ? &parallel : NULL, &error);
    p->wrong[r] = compare(p, r, &in, &out, status, &error);
    free(out.token_offsets);
    free(out.expert_ids);
    free(out.weights);
    free(out.expert_offsets);
    free(out.expert_tokens);
    free(out.expert_slots);
    free(scratch);
    free((void *)(uintptr_t)in.logits);
    free((void *)(uintptr_t)in.token_mask);
}
