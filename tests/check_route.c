/* SPDX-License-Identifier: MIT */
/* Whole routes through the public API: the reference against the oracle, everything else against the reference's bits. */
#define _GNU_SOURCE
#include "check.h"
#include "guard.h"
#include "oracle.h"
#include "sheet.h"
#include "trap.h"

#include "src/plan/plan.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { MOST_CELLS = 140000, MOST_PARTS = 7 };

static guard g_logits, g_mask, g_bias, g_cu, g_scratch, g_ways, g_fallbacks;
static sheet base, trial;
enum { MOST_TOKENS = 2100 };
enum { MOST_RUNNERS = 3 };
enum { MOST_MARGINS = 400 };
/* What sheets do not have. */
static struct beside {
    float null_weights[MOST_TOKENS], margins[MOST_TOKENS];
    int32_t runners[MOST_TOKENS * MOST_RUNNERS];
    float sequence_margins[MOST_MARGINS];
} of_base, of_trial;

static uint32_t pick(uint32_t n) { return random_below(&run.random, n); }

/* One call: what to do, and on which data. The output's shape as well, for that is part of a call. */
typedef struct call {
    seqtopk_desc desc;
    seqtopk_input in;
    random_kind kind;
    int64_t pairs;
    int32_t width;
    seqtopk_padding padding;
    int32_t runners; /* that are asked for; 0: none */
    int aligned;     /* scratch at a round address */
} call;

static int32_t all_sequences(const call *c) { return c->in.cu_seqlens || c->in.token_seq ? c->in.sequences : 1; }

/* They cost as much as runners, and are asked for together. */
static int has_sequence_margins(const call *c) {
    return c->runners > 0 && c->desc.scope == SEQTOPK_SCOPE_SEQUENCE && !c->in.given_ids;
}

static void describe(const call *c, const char *what, const char *who) {
    const seqtopk_desc *d = &c->desc;
    check_context(
        "%s %s: T %lld E %d K %d scope %d score %d norm %d dtype %s min %d max %d groups %d/%d score %d n %d "
        "order %d stride %lld S %d%s%s kind %s quota %d key %d logits * %g cap %g null %d shared %d, %g (seed "
        "%llu)",
        what, who, (long long)c->in.tokens, (int)d->experts, (int)d->top_k, (int)d->scope, (int)d->score, (int)d->norm,
        check_dtype_name((int)d->dtype), (int)d->min_experts, (int)d->max_experts, (int)d->group_top_k, (int)d->groups,
        (int)d->group_score, (int)d->group_n, (int)d->order, (long long)c->in.row_stride,
        c->in.cu_seqlens ? (int)c->in.sequences : -1, c->in.token_mask ? " mask" : "", c->in.bias ? " bias" : "",
        random_kind_name(c->kind), (int)d->group_quota, (int)d->key_from, (double)d->logit_scale,
        (double)d->logit_softcap, (int)d->null_experts, (int)d->shared_experts, (double)d->shared_weight,
        (unsigned long long)run.seed);
}

/* ----------------------------------------------------------- making calls -- */

/* What is crossed with everything else; the rest of a call is random. */
typedef struct wish {
    int score, scope, bounds, grouping, bias, mask,
        ragged; /* ragged 2: many sequences, of which a mask leaves some nothing */
} wish;

/* Of E: which compete, how long a row of logits is, and which may be listed. */
static int32_t competing(const seqtopk_desc *d) { return d->experts - d->shared_experts; }
static int32_t columns(const seqtopk_desc *d) { return d->shared_weight != 0 ? competing(d) : d->experts; }
static int32_t dispatched(const seqtopk_desc *d) { return d->experts - d->null_experts; }

static void choose_shape(call *c, int grouped) {
    static const int32_t experts[] = {1,  2,  3,  7,  8,  13,  15,  16,  17,  31,  32,  33,   40,
                                      60, 64, 64, 67, 96, 127, 128, 160, 256, 384, 512, 1021, 2048};
    static const int64_t tokens[] = {0, 1, 2, 3, 5, 7, 16, 17, 31, 33, 64, 101, 257, 700};
    const int64_t most = run.quick ? 6000 : 24000;
    /* Half the calls are too large for the ways that are kept for small ones. */
    const int64_t least = pick(2) ? 0 : 4096;
    do {
        c->desc.experts = experts[pick(COUNT(experts))];
        c->in.tokens = tokens[pick(COUNT(tokens))];
    } while (c->in.tokens * c->desc.experts > most || c->in.tokens * c->desc.experts < least ||
             (grouped && c->desc.experts % 2));
    const int32_t few = c->desc.experts < 8 ? c->desc.experts : 8;
    c->desc.top_k = pick(8) == 0 ? c->desc.experts : 1 + (int32_t)pick((uint32_t)few);
    if (pick(6) == 0)
        c->desc.top_k = 1 + (int32_t)pick((uint32_t)c->desc.experts);
}

static void choose_groups(call *c, int grouping) {
    seqtopk_desc *d = &c->desc;
    do
        d->groups = 2 + (int32_t)pick(7);
    while (d->experts % d->groups);
    d->group_top_k = 1 + (int32_t)pick((uint32_t)d->groups);
    const int32_t size = d->experts / d->groups;
    d->group_score = grouping == 1 || size < 2 ? SEQTOPK_GROUP_MAX
                     : grouping == 2           ? SEQTOPK_GROUP_TOP2
                                               : SEQTOPK_GROUP_TOPN;
    if (d->group_score == SEQTOPK_GROUP_TOPN && (pick(2) || d->top_k / d->group_top_k > size))
        d->group_n = 1 + (int32_t)pick((uint32_t)size);
}

static void choose_bounds(seqtopk_desc *d, int bounds) {
    if (bounds & 1)
        d->min_experts = 1 + (int32_t)pick((uint32_t)d->top_k);
    if (bounds & 2) {
        const int32_t least = d->min_experts > 1 ? d->min_experts : 1;
        d->max_experts = pick(3) == 0 ? d->top_k + 2 : least + (int32_t)pick((uint32_t)(d->top_k + 3));
        if (d->max_experts < least)
            d->max_experts = least;
    }
}

static void choose_weights(seqtopk_desc *d) {
    d->norm = (seqtopk_norm)pick(4);
    if (d->norm == SEQTOPK_NORM_SUM) {
        d->norm_eps = pick(2) ? 1e-20f : 0;
        d->norm_floor = pick(2) ? 1e-12f : 0;
        d->norm_skip_top1 = (int32_t)pick(2);
    }
    d->scale = pick(2) ? 0 : 2.5f;
}

/* Any order of cuts, so that there are empty sequences and single tokens; the first cut of all is 0. */
static void make_sequences(call *c) {
    const int32_t sequences = 1 + (int32_t)pick(9);
    int32_t *cu = guard_place(&g_cu, ((size_t)sequences + 1) * sizeof *cu, GUARD_END, 0);
    cu[0] = 0;
    for (int32_t s = 1; s <= sequences; s++) {
        const uint32_t left = (uint32_t)(c->in.tokens - cu[s - 1]);
        cu[s] = cu[s - 1] + (int32_t)(s == sequences ? left : pick(3) == 0 ? 0 : pick(3) ? pick(left + 1) : left > 0);
    }
    guard_freeze(&g_cu);
    c->in.cu_seqlens = cu;
    c->in.sequences = sequences;
}

/* So many that most fit into one block of keys (4096), and some exactly, or are a token too long. */
static void make_short_sequences(call *c) {
    enum { MOST_SEQUENCES = 400, BLOCK = 4096 };
    const int64_t block = c->desc.experts < BLOCK ? BLOCK / c->desc.experts : 1, tokens = c->in.tokens;
    int32_t cu[MOST_SEQUENCES + 1] = {0}, sequences = 0;
    while (cu[sequences] < tokens) {
        const int64_t lengths[] = {0, 1, 2, 1 + pick(9), 1 + pick(40), block - 1, block, block + 1};
        const int64_t end = cu[sequences] + lengths[pick(COUNT(lengths))];
        sequences++;
        cu[sequences] = (int32_t)(end > tokens || sequences == MOST_SEQUENCES ? tokens : end);
    }
    c->in.cu_seqlens = memcpy(guard_place(&g_cu, ((size_t)sequences + 1) * sizeof *cu, GUARD_END, 0), cu,
                              ((size_t)sequences + 1) * sizeof *cu);
    guard_freeze(&g_cu);
    c->in.sequences = sequences;
}

static void mask_sequences(const call *c, uint8_t *mask) {
    for (int64_t s = 0; s < c->in.sequences; s++)
        if (pick(4) == 0)
            memset(mask + c->in.cu_seqlens[s], 0, (size_t)(c->in.cu_seqlens[s + 1] - c->in.cu_seqlens[s]));
}

static void make_data(call *c, const wish *w) {
    const seqtopk_desc *d = &c->desc;
    const size_t tokens = (size_t)c->in.tokens, experts = (size_t)columns(d), biased = (size_t)competing(d);
    const size_t element = d->dtype == SEQTOPK_DTYPE_F32 ? 4 : 2;
    static const int64_t pads[] = {0, 0, 1, 3, SEQTOPK_STRIDE_BROADCAST};
    const int64_t pad = pads[pick(COUNT(pads))];
    c->in.row_stride = pad > 0 ? columns(d) + pad : pad;
    const size_t stride = pad > 0 ? experts + (size_t)pad : pad < 0 ? 0 : experts;
    const size_t rows = pad < 0 ? tokens > 0 : tokens, cells = rows ? (rows - 1) * stride + experts : 0;
    unsigned char *logits =
        guard_place(&g_logits, cells * element, pick(4) ? GUARD_END : GUARD_BEGIN, pick(3) ? 0 : element * pick(16));
    memset(logits, 0xff, cells * element);
    random_logits(&run.random, c->kind, (int)d->dtype, logits, rows, experts, stride);
    if (w->ragged == 2)
        make_short_sequences(c);
    else if (w->ragged)
        make_sequences(c);
    if (w->mask) {
        uint8_t *mask = guard_place(&g_mask, tokens, GUARD_END, 0);
        const uint32_t share = 1 + pick(6);
        for (size_t t = 0; t < tokens; t++)
            mask[t] = (uint8_t)(pick(share + 1) ? 1 + pick(255) : 0);
        if (w->ragged == 2)
            mask_sequences(c, mask);
        for (size_t t = 0; t < tokens && pad >= 0; t++)
            if (!mask[t])
                memset(logits + t * stride * element, 0xff, experts * element);
        guard_freeze(&g_mask);
        c->in.token_mask = mask;
    }
    guard_freeze(&g_logits);
    c->in.logits = tokens ? logits : NULL;
    if (w->bias) {
        float *bias = guard_place(&g_bias, biased * sizeof *bias, GUARD_END, 0);
        const uint32_t excluded = pick(3) ? 0 : 6;
        for (size_t e = 0; e < biased; e++)
            bias[e] = excluded && pick(excluded) == 0 ? -INFINITY : (float)(random_normal(&run.random) * 0.2);
        guard_freeze(&g_bias);
        c->in.bias = bias;
    }
}

static int64_t longest_of(const call *c) {
    int64_t longest = c->in.cu_seqlens ? 0 : c->in.tokens;
    for (int32_t s = 0; c->in.cu_seqlens && s < c->in.sequences; s++) {
        const int64_t length = c->in.cu_seqlens[s + 1] - c->in.cu_seqlens[s];
        longest = length > longest ? length : longest;
    }
    return longest;
}

static void choose_padding(call *c, const seqtopk_plan *plan) {
    c->pairs = c->in.tokens * (c->desc.top_k + c->desc.shared_experts);
    c->width = seqtopk_max_per_token(plan);
    c->padding = (seqtopk_padding)pick(4);
    c->runners = pick(3) ? 0 : 1 + (int32_t)pick(MOST_RUNNERS);
    c->runners = c->runners < competing(&c->desc) ? c->runners : competing(&c->desc);
    if (pick(2))
        c->width = seqtopk_max_width(plan, longest_of(c));
    if (c->padding != SEQTOPK_PAD_DISTINCT || c->width < dispatched(&c->desc))
        c->width += (int32_t)pick(2);
}

static void make_call(call *c, const wish *w) {
    const seqtopk_desc desc = SEQTOPK_DESC_INIT;
    const seqtopk_input in = SEQTOPK_INPUT_INIT;
    memset(c, 0, sizeof *c);
    c->desc = desc;
    c->in = in;
    c->desc.score = (seqtopk_score)w->score;
    c->desc.scope = (seqtopk_scope)w->scope;
    c->desc.dtype = (seqtopk_dtype)pick(3);
    c->desc.order = pick(3) ? SEQTOPK_ORDER_EXPERT : SEQTOPK_ORDER_RANK;
    c->kind = (random_kind)pick(RANDOM_KINDS);
    c->aligned = (int)pick(2);
    choose_shape(c, w->grouping != 0);
    if (w->scope == SEQTOPK_SCOPE_SEQUENCE)
        choose_bounds(&c->desc, w->bounds);
    if (w->grouping)
        choose_groups(c, w->grouping);
    choose_weights(&c->desc);
    make_data(c, w);
}

/* ---------------------------------------------------------- running calls -- */

static void run_parts(int32_t n, void (*task)(void *, int32_t), void *arg) {
    int32_t order[MOST_PARTS + 1];
    for (int32_t i = 0; i < n; i++)
        order[i] = i;
    random_shuffle(&run.random, order, (size_t)n);
    for (int32_t i = 0; i < n; i++)
        task(arg, order[i]);
}

static void lend_one_by_one(void *context, int32_t n, void (*task)(void *arg, int32_t i), void *arg) {
    ++*(int *)context;
    run_parts(n, task, arg);
}

typedef struct lent {
    void (*task)(void *arg, int32_t i);
    void *arg;
    int32_t i;
} lent;

static void *run_lent(void *argument) {
    lent *l = argument;
    l->task(l->arg, l->i);
    return NULL;
}

static void lend_threads(void *context, int32_t n, void (*task)(void *arg, int32_t i), void *arg) {
    pthread_t threads[MOST_PARTS + 1];
    lent lents[MOST_PARTS + 1];
    ++*(int *)context;
    for (int32_t i = 0; i < n; i++) {
        lents[i] = (lent){task, arg, i};
        if (pthread_create(threads + i, NULL, run_lent, lents + i)) {
            fprintf(stderr, "check: no thread\n");
            exit(1);
        }
    }
    for (int32_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

/* How a call is entered. */
typedef enum entry { SERIAL, PARTS, LENT_ONE_BY_ONE, LENT_THREADS, ENTRIES } entry;

typedef struct team {
    const seqtopk_plan *plan;
    const call *c;
    const seqtopk_output *out;
    void *scratch;
    size_t size;
    int32_t step, parts;
    seqtopk_status last[MOST_PARTS + 1];
    seqtopk_error *error;
} team;

static void team_part(void *arg, int32_t part) {
    team *t = arg;
    t->last[part] =
        seqtopk_route_part(t->plan, &t->c->in, t->out, t->scratch, t->size, t->step, part, t->parts, t->error);
}

static seqtopk_status route_by_parts(team *t) {
    for (t->step = 0; t->step < seqtopk_route_steps(t->plan); t->step++)
        run_parts(t->parts, team_part, t);
    for (int32_t part = 1; part < t->parts; part++)
        check_that(t->last[part] == t->last[0], "part %d ends with status %d, part 0 with %d", (int)part,
                   (int)t->last[part], (int)t->last[0]);
    return t->last[0];
}

/* Routes into `out`, with scratch of exactly the promised size at the end of its page. */
static seqtopk_status route(const seqtopk_plan *plan, const call *c, const seqtopk_output *out, entry how,
                            int32_t parts, seqtopk_error *error) {
    const size_t size = seqtopk_scratch_size(plan, c->in.tokens, all_sequences(c), parts);
    if (!check_that(size > 0, "scratch size is 0"))
        return SEQTOPK_E_VALUE;
    void *scratch = guard_place(&g_scratch, size, c->aligned ? GUARD_BEGIN : GUARD_END, c->aligned ? 0 : pick(2) * 3);
    seqtopk_status status;
    if (how == SERIAL) {
        status = seqtopk_route(plan, &c->in, out, scratch, size, error);
    } else if (how == PARTS) {
        team t = {.plan = plan, .c = c, .out = out, .scratch = scratch, .size = size, .parts = parts, .error = error};
        status = route_by_parts(&t);
    } else {
        int lends = 0;
        seqtopk_parallel loan = SEQTOPK_PARALLEL_INIT;
        loan.threads = parts;
        loan.parallel_for = how == LENT_THREADS ? lend_threads : lend_one_by_one;
        loan.context = &lends;
        status = seqtopk_route_parallel(plan, &c->in, out, scratch, size, &loan, error);
        check_that(parts > 1 || lends == 0, "one thread was told to run in parallel");
    }
    check_that(guard_intact(&g_scratch), "wrote beside scratch");
    return status;
}

static seqtopk_plan *make_plan_of_way(const call *c, const char *isa, const char *kernel, const char *way) {
    seqtopk_desc desc = c->desc;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan = NULL;
    desc.isa = isa;
    desc.kernel = kernel;
    desc.way = way;
    const seqtopk_status status = seqtopk_plan_create(&plan, &desc, &error);
    check_that(status == SEQTOPK_OK && plan, "no plan: %s: %s", seqtopk_status_string(status), error.message);
    return plan;
}

static seqtopk_plan *make_plan(const call *c, const char *isa, const char *kernel) {
    return make_plan_of_way(c, isa, kernel, NULL);
}

static void place(sheet *s, const call *c, uint32_t wanted) {
    const int64_t stride = pick(2) ? 0 : c->width + (int64_t)pick(4);
    if (c->desc.score != SEQTOPK_SCORE_SOFTMAX)
        wanted &= ~sheet_lse_bit();
    sheet_place(s, c->in.tokens, dispatched(&c->desc), c->pairs, c->width, stride, c->padding, wanted, pick);
    struct beside *beside = s == &base ? &of_base : &of_trial;
    if (c->desc.null_experts)
        s->out.null_weights = beside->null_weights;
    if (c->runners > 0) {
        s->out.runners = c->runners;
        s->out.runner_ids = beside->runners;
        s->out.margins = beside->margins;
    }
    if (has_sequence_margins(c))
        s->out.sequence_margins = beside->sequence_margins;
}

/* The first output that differs in a bit. */
static const char *difference(const call *c) {
    if (c->desc.null_experts &&
        memcmp(of_base.null_weights, of_trial.null_weights, (size_t)c->in.tokens * sizeof *of_base.null_weights))
        return "null_weights";
    if (c->runners > 0 && memcmp(of_base.margins, of_trial.margins, (size_t)c->in.tokens * sizeof(float)))
        return "margins";
    if (memcmp(of_base.runners, of_trial.runners, (size_t)(c->in.tokens * c->runners) * sizeof(int32_t)))
        return "runner_ids";
    if (has_sequence_margins(c) && memcmp(of_base.sequence_margins, of_trial.sequence_margins,
                                          (size_t)all_sequences(c) * sizeof *of_base.sequence_margins))
        return "sequence_margins";
    return sheet_difference(&base, &trial);
}

/* ---------------------------------------- the reference against the oracle -- */

/* The library's own keys, from its reference kernels, for the oracle to select by. */
static void reference_keys(const call *c, const oracle_problem *problem, double *keys, double *scores) {
    const size_t tokens = (size_t)c->in.tokens, experts = (size_t)competing(&c->desc);
    const size_t element = c->desc.dtype == SEQTOPK_DTYPE_F32 ? 4 : 2;
    float *shift = check_alloc(tokens, 4), *lse = check_alloc(tokens, 4), *out = check_alloc(tokens * experts, 4);
    seqtopk_rows rows = {.logits = c->in.logits,
                         .stride = (int64_t)element * (c->in.row_stride < 0    ? 0
                                                       : c->in.row_stride == 0 ? columns(&c->desc)
                                                                               : c->in.row_stride),
                         .token_mask = c->in.token_mask,
                         .bias = c->in.bias,
                         .shift = shift,
                         .lse = lse,
                         .experts = competing(&c->desc),
                         .score = (int32_t)(c->desc.key_from ? SEQTOPK_SCORE_LOGITS : c->desc.score)};
    const int is_prepared = seqtopk_prepares(&c->desc);
    const int32_t dtype = (int32_t)(is_prepared ? SEQTOPK_DTYPE_F32 : c->desc.dtype);
    const seqtopk_row *score = check_reference(SEQTOPK_OP_lse, dtype), *key = check_reference(SEQTOPK_OP_keys, dtype);
    float *prepared = is_prepared ? check_alloc(tokens * experts, sizeof *prepared) : NULL;
    if (prepared) {
        const seqtopk_row *prepare = check_reference(SEQTOPK_OP_prepare_logits, (int32_t)c->desc.dtype);
        ((seqtopk_prepare_logits_fn *)prepare->function)(&rows, 0, c->in.tokens,
                                                         c->desc.logit_scale != 0 ? c->desc.logit_scale : 1,
                                                         c->desc.logit_softcap, prepared);
        rows.logits = prepared;
        rows.stride = (int64_t)(4 * experts);
    }
    ((seqtopk_lse_fn *)score->function)(&rows, 0, c->in.tokens);
    rows.key = (int32_t)oracle_key_of(problem);
    ((seqtopk_keys_fn *)key->function)(&rows, 0, c->in.tokens, out);
    for (size_t i = 0; i < tokens * experts; i++)
        keys[i] = out[i];
    rows.key = SEQTOPK_KEY_LOGIT;
    ((seqtopk_keys_fn *)key->function)(&rows, 0, c->in.tokens, out);
    for (size_t i = 0; problem->apart && i < tokens * experts; i++)
        problem->apart[i] = out[i];
    rows.key = SEQTOPK_KEY_SCORE;
    ((seqtopk_keys_fn *)key->function)(&rows, 0, c->in.tokens, out);
    for (size_t i = 0; i < tokens * experts; i++)
        scores[i] = out[i];
    free(shift);
    free(lse);
    free(out);
    free(prepared);
}

static void check_row_lse(const oracle_problem *problem, const float *row_lse) {
    for (int64_t t = 0; row_lse && t < problem->tokens; t++) {
        const double right = problem->top[t] + problem->rest[t], got = row_lse[t];
        const int fine = right == -INFINITY ? got == right
                                            : fabs(got - right) <= 2e-6 + 1.2e-7 * fabs(right) + 2 * problem->shaky[t];
        check_that(fine, "row_lse of token %lld is %.9g, float64 says %.9g", (long long)t, got, right);
    }
}

static void check_lists_of(const call *c, const oracle_problem *problem, const oracle_lists *right) {
    const seqtopk_output *out = &base.out;
    char why[256] = "";
    const size_t n = (size_t)right->selected;
    if (!check_that(*out->selected == right->selected, "%lld selected, the oracle selects %lld",
                    (long long)*out->selected, (long long)right->selected))
        return;
    if (!check_that(memcmp(out->token_offsets, right->offsets, ((size_t)c->in.tokens + 1) * 4) == 0,
                    "token_offsets differ from the oracle"))
        return;
    const int is_ranked = c->desc.order == SEQTOPK_ORDER_RANK;
    check_that(memcmp(out->expert_ids, is_ranked ? right->ranked : right->ids, n * 4) == 0,
               "expert_ids differ from the oracle");
    check_that(sheet_agrees(&base, why, sizeof why), "%s", why);
    for (int64_t t = 0; t < c->in.tokens; t++)
        for (int32_t i = right->offsets[t], j; i < right->offsets[t + 1]; i++) {
            for (j = right->offsets[t]; j + 1 < right->offsets[t + 1] && out->expert_ids[j] != right->ids[i]; j++)
                ;
            check_that(right->tolerance[i] == INFINITY ||
                           fabs(out->weights[j] - right->weights[i]) <= right->tolerance[i],
                       "pair %d: weight %.9g, float64 says %.12g +- %.3g", i, (double)out->weights[j],
                       right->weights[i], right->tolerance[i]);
        }
    for (int64_t t = 0; c->desc.null_experts && t < c->in.tokens; t++)
        check_that(right->null_tolerance[t] == INFINITY ||
                       fabs(of_base.null_weights[t] - right->null_weights[t]) <= right->null_tolerance[t],
                   "token %lld: null weight %.9g, float64 says %.12g", (long long)t, (double)of_base.null_weights[t],
                   right->null_weights[t]);
    check_row_lse(problem, out->row_lse);
}

static void check_against_oracle(const call *c, const oracle_problem *problem, const double *keys, const double *scores,
                                 const oracle_choice *right) {
    char why[256] = "";
    oracle_lists lists;
    check_that(oracle_within_band(problem, right->offsets, right->ascending, why, sizeof why), "float64: %s", why);
    if (c->runners > 0) {
        float *margins = check_alloc((size_t)c->in.tokens, sizeof *margins);
        int32_t *runners = check_alloc((size_t)(c->in.tokens * c->runners), sizeof *runners);
        oracle_runners(problem, keys, scores, right, c->runners, runners, margins);
        check_that(!memcmp(of_base.margins, margins, (size_t)c->in.tokens * sizeof *margins), "margins");
        check_that(!memcmp(of_base.runners, runners, (size_t)(c->in.tokens * c->runners) * sizeof *runners),
                   "runner_ids");
        free(margins);
        free(runners);
    }
    if (has_sequence_margins(c)) {
        float *margins = check_alloc((size_t)all_sequences(c), sizeof *margins);
        oracle_sequence_margins(problem, keys, scores, right, margins);
        for (int32_t s = 0; s < all_sequences(c); s++)
            check_that(memcmp(of_base.sequence_margins + s, margins + s, sizeof *margins) == 0,
                       "sequence %d: a margin of %.9g, not %.9g", (int)s, (double)of_base.sequence_margins[s],
                       (double)margins[s]);
        free(margins);
    }
    oracle_list(problem, right, &lists);
    check_lists_of(c, problem, &lists);
    oracle_lists_free(&lists);
}

/* Weights must not depend on the order of the list, to the bit. */
static void check_other_order(const call *c) {
    call other = *c;
    other.desc.order = c->desc.order == SEQTOPK_ORDER_RANK ? SEQTOPK_ORDER_EXPERT : SEQTOPK_ORDER_RANK;
    seqtopk_plan *plan = make_plan(&other, "ref", NULL);
    describe(&other, "ref", "the other order");
    place(&trial, &other, SHEET_ALL);
    const seqtopk_status status = route(plan, &other, &trial.out, SERIAL, 1, NULL);
    int same = status == SEQTOPK_OK && *trial.out.selected == *base.out.selected;
    for (int64_t t = 0; same && t < c->in.tokens; t++)
        for (int32_t i = base.out.token_offsets[t]; same && i < base.out.token_offsets[t + 1]; i++) {
            int found = 0;
            for (int32_t j = trial.out.token_offsets[t]; j < trial.out.token_offsets[t + 1]; j++)
                found |= trial.out.expert_ids[j] == base.out.expert_ids[i] &&
                         memcmp(trial.out.weights + j, base.out.weights + i, sizeof(float)) == 0;
            same &= found;
        }
    check_that(same, "another order of the list gives other weights");
    seqtopk_plan_destroy(plan);
}

/* ------------------------------------- everything else against the reference -- */

static int names_isa(const char *kernel, const char *isa) {
    char mark[64];
    snprintf(mark, sizeof mark, "__%s_", isa);
    return strstr(kernel, mark) != NULL;
}

/* Kernels that read logits are for one dtype of them; all others take float32 keys or ids. */
static int reads_logits(const seqtopk_row *row) { return seqtopk_op_reads_logits(row->op); }

static int serves_dtype(const seqtopk_row *row, const seqtopk_desc *desc) { return seqtopk_row_reads(row, desc); }

/* Whether `isa` has a kernel that could serve this stage of this plan. */
/* With every default in its place, as the predicates of kernels and ways want it. */
static const seqtopk_desc *resolved(const seqtopk_desc *desc) {
    static seqtopk_desc whole;
    check_that(seqtopk_desc_resolve(&whole, desc, NULL) == SEQTOPK_OK, "the desc is refused");
    return &whole;
}

static int isa_serves(const char *isa, const char *op, const seqtopk_desc *desc) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++) {
        const seqtopk_row *row = seqtopk_registry + i;
        if (strcmp(row->isa_name, isa) == 0 && strcmp(row->op_name, op) == 0 && serves_dtype(row, desc) &&
            row->applies(resolved(desc)))
            return 1;
    }
    return 0;
}

static int is_size(const char *op) {
    for (int32_t i = seqtopk_registry_kernels; i < seqtopk_registry_size; i++)
        if (strcmp(seqtopk_registry[i].op_name, op) == 0)
            return 1;
    return 0;
}

/* Of token scope with a large K, which reaches the fewest. */
enum { FEWEST_OPS = 9 };

static void check_choices_of_isa(const seqtopk_plan *plan, const call *c, const char *isa) {
    seqtopk_choice choice = SEQTOPK_CHOICE_INIT;
    int ops = 0;
    for (int32_t i = 0; seqtopk_plan_choice(plan, i, &choice) == SEQTOPK_OK; i++) {
        if (is_size(choice.op))
            continue;
        ops++;
        check_that(names_isa(choice.kernel, isa_serves(isa, choice.op, &c->desc) ? isa : "ref"),
                   "forced to %s, the plan takes %s", isa, choice.kernel);
        check_that(choice.why && *choice.why, "%s was chosen for no reason", choice.kernel);
    }
    check_that(ops >= FEWEST_OPS, "the plan names %d kernels", ops);
}

/* Whether a plan can be forced to a row. */
static int serves(const seqtopk_row *row, const seqtopk_desc *desc) {
    const int reached = row->op >= SEQTOPK_KERNEL_OPS || (seqtopk_ways_reach(resolved(desc)) >> row->op & 1);
    return serves_dtype(row, desc) && row->applies(resolved(desc)) && reached;
}

static void check_choice_of_kernel(const seqtopk_plan *plan, const seqtopk_row *row) {
    seqtopk_choice choice = SEQTOPK_CHOICE_INIT;
    int found = 0;
    for (int32_t i = 0; seqtopk_plan_choice(plan, i, &choice) == SEQTOPK_OK; i++)
        if (strcmp(choice.op, row->op_name) == 0) {
            found++;
            check_that(strcmp(choice.kernel, row->name) == 0 && choice.tokens_from == 0, "forced %s, the plan takes %s",
                       row->name, choice.kernel);
        }
    check_that(found == 1, "the plan has %d choices for a forced stage", found);
}

/* Routes some outputs, or all, into fresh memory and compares with the reference. */
static void check_trial(const seqtopk_plan *plan, const call *c, const char *who, entry how, int32_t parts) {
    static const char *const entries[ENTRIES] = {"serial", "by parts", "lent one by one", "lent threads"};
    char what[64];
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    snprintf(what, sizeof what, "%s x%d", entries[how], (int)parts);
    describe(c, what, who);
    place(&trial, c, pick(2) ? SHEET_ALL : (uint32_t)random_u64(&run.random));
    const seqtopk_status status = route(plan, c, &trial.out, how, parts, &error);
    if (!check_that(status == SEQTOPK_OK, "status %s: %s", seqtopk_status_string(status), error.message))
        return;
    run.dispatched++;
    const char *spoilt = sheet_spoilt(&trial);
    check_that(!spoilt, "wrote beside %s", spoilt ? spoilt : "");
    const char *differs = difference(c);
    check_that(!differs, "%s differs from the reference", differs ? differs : "");
}

static int isa_wanted(const char *isa) { return seqtopk_isa_usable(isa) && (!run.isa || strcmp(run.isa, isa) == 0); }

static int64_t sequences_of(const call *c) {
    return c->in.cu_seqlens && c->desc.scope == SEQTOPK_SCOPE_SEQUENCE ? c->in.sequences : 1;
}

static int64_t length_of(const call *c, int64_t s) {
    return sequences_of(c) > 1 ? c->in.cu_seqlens[s + 1] - c->in.cu_seqlens[s] : c->in.tokens;
}

/* Whether a way serves every sequence of a call, on one thread. Of several sequences, one of a single token is not alone. */
static int way_serves(const seqtopk_plan *plan, const call *c, int32_t way) {
    int serves = 1;
    for (int64_t s = 0; s < sequences_of(c); s++) {
        const int64_t length = length_of(c, s), like = length == 1 && sequences_of(c) > 1 ? 2 : length;
        serves &= length == 0 || !seqtopk_plan_way_why_not(plan, way, like, c->in.bias != NULL);
    }
    return serves;
}

static void place_taken(const call *c) {
    trial.out.ways = guard_place(&g_ways, (size_t)sequences_of(c) * 4, GUARD_END, 0);
    trial.out.fallbacks = guard_place(&g_fallbacks, (size_t)sequences_of(c) * 4, GUARD_END, 0);
}

/* What a call says about its ways: that which is forced, or what took over and why. */
static void check_taken(const call *c, int32_t forced) {
    check_that(guard_intact(&g_ways) && guard_intact(&g_fallbacks), "wrote beside ways or fallbacks");
    for (int64_t s = 0; s < sequences_of(c); s++) {
        const int32_t way = trial.out.ways[s], why = trial.out.fallbacks[s];
        const int empty = length_of(c, s) == 0;
        check_that(way >= 0 && way < seqtopk_way_count() && why >= SEQTOPK_FALLBACK_NONE && why <= SEQTOPK_FALLBACK_FEW,
                   "sequence %lld went way %d for reason %d", (long long)s, (int)way, (int)why);
        check_that(empty || (way == forced) == (why == SEQTOPK_FALLBACK_NONE),
                   "sequence %lld: way %d, not %d, reason %d", (long long)s, (int)way, (int)forced, (int)why);
    }
}

/* Each way that may serve such calls, forced: it gives the reference's bits, and says that it was taken or why not; or it does
 * not serve this call, which is refused. */
static void check_ways(const call *c) {
    seqtopk_way way = SEQTOPK_WAY_INIT;
    for (int32_t w = 0; seqtopk_way_get(w, &way) == SEQTOPK_OK; w++) {
        seqtopk_error error = SEQTOPK_ERROR_INIT;
        if (seqtopk_ways_why_never(w, resolved(&c->desc)))
            continue;
        seqtopk_plan *plan = make_plan_of_way(c, run.isa, NULL, way.name);
        if (!plan)
            continue;
        describe(c, "way", way.name);
        place(&trial, c, SHEET_ALL);
        place_taken(c);
        const seqtopk_status status = route(plan, c, &trial.out, SERIAL, 1, &error);
        const int serves = way_serves(plan, c, w);
        check_that(status == (serves ? SEQTOPK_OK : SEQTOPK_E_KERNEL), "status %s: %s", seqtopk_status_string(status),
                   error.message);
        if (serves && status == SEQTOPK_OK) {
            const char *differs = difference(c);
            check_that(!differs, "%s differs from the reference", differs ? differs : "");
            check_taken(c, w);
        }
        seqtopk_plan_destroy(plan);
    }
}

static void check_everything_else(const call *c) {
    static const int32_t parts[] = {1, 2, 3, 7};
    const char *isa;
    for (int32_t i = 0; (isa = seqtopk_isa_name(i)); i++) {
        if (!isa_wanted(isa))
            continue;
        seqtopk_plan *plan = make_plan(c, isa, NULL);
        if (!plan)
            continue;
        describe(c, "plan", isa);
        check_choices_of_isa(plan, c, isa);
        check_trial(plan, c, isa, SERIAL, 1);
        for (size_t p = 0; p < COUNT(parts); p++)
            if (!run.quick || pick(3) == 0)
                check_trial(plan, c, isa, PARTS, parts[p]);
        check_trial(plan, c, isa, LENT_ONE_BY_ONE, parts[pick(COUNT(parts))]);
        if (pick(8) == 0)
            check_trial(plan, c, isa, LENT_THREADS, parts[pick(COUNT(parts))]);
        seqtopk_plan_destroy(plan);
    }
    for (int32_t i = 0; i < seqtopk_registry_size; i++) {
        const seqtopk_row *row = seqtopk_registry + i;
        if ((row->function && !check_wants(row)) || !serves(row, &c->desc))
            continue;
        seqtopk_plan *plan = make_plan(c, NULL, row->name);
        if (!plan)
            continue;
        describe(c, "plan", row->name);
        check_choice_of_kernel(plan, row);
        check_trial(plan, c, row->name, SERIAL, 1);
        seqtopk_plan_destroy(plan);
    }
    check_ways(c);
}

/* The base's selection as rows of `width`, with -1 between. */
static int32_t *rows_of_base(const call *c, int32_t width) {
    int32_t *rows = check_alloc((size_t)c->in.tokens * (size_t)width, sizeof *rows);
    for (int64_t t = 0; t < c->in.tokens; t++) {
        const int32_t from = base.out.token_offsets[t], n = base.out.token_offsets[t + 1] - from;
        for (int32_t i = 0, listed = 0; i < width; i++) {
            const int left = n - listed == width - i || (listed < n && pick(2));
            rows[t * width + i] = left ? base.out.expert_ids[from + listed++] : -1 - (int32_t)pick(3);
        }
    }
    return rows;
}

/* The base's own selection, given, is weighed and listed as it was, whoever does it. */
static void check_given(const call *c) {
    int32_t most = 1;
    for (int64_t t = 0; t < c->in.tokens; t++) {
        const int32_t n = base.out.token_offsets[t + 1] - base.out.token_offsets[t];
        most = n > most ? n : most;
    }
    const int32_t width = most + (int32_t)pick((uint32_t)(c->desc.experts - most + 1));
    const size_t pairs = (size_t)base.out.token_offsets[c->in.tokens];
    int32_t *rows = rows_of_base(c, width), *offsets = check_alloc((size_t)c->in.tokens + 1, sizeof *offsets);
    int32_t *ids = check_alloc(pairs, sizeof *ids);
    memcpy(offsets, base.out.token_offsets, ((size_t)c->in.tokens + 1) * sizeof *offsets);
    memcpy(ids, base.out.expert_ids, pairs * sizeof *ids);
    const char *isa;
    for (int32_t i = 0; (isa = seqtopk_isa_name(i)); i++) {
        call given = *c;
        const int ragged = (int)pick(2);
        given.in.given_ids = ragged ? ids : rows;
        given.in.given_offsets = ragged ? offsets : NULL;
        given.in.given_width = ragged ? 0 : width;
        seqtopk_plan *plan = isa_wanted(isa) ? make_plan(c, isa, NULL) : NULL;
        if (!plan)
            continue;
        check_trial(plan, &given, isa, SERIAL, 1);
        check_trial(plan, &given, isa, PARTS, 3);
        check_trial(plan, &given, isa, LENT_ONE_BY_ONE, 2);
        seqtopk_plan_destroy(plan);
    }
    free(rows);
    free(offsets);
    free(ids);
}

/* The tokens of a call's sequences mixed, each sequence in its order: which token of the call each is, and whose. */
static void mix_tokens(const call *c, int32_t *from, int32_t *of) {
    const int32_t sequences = c->in.sequences;
    int32_t *next = check_alloc((size_t)sequences, sizeof *next);
    memcpy(next, c->in.cu_seqlens, (size_t)sequences * sizeof *next);
    const int by_turns = (int)pick(2);
    for (int64_t t = 0, s = 0; t < c->in.tokens; t++) {
        do
            s = by_turns ? (s + 1) % sequences : pick((uint32_t)sequences);
        while (next[s] == c->in.cu_seqlens[s + 1]);
        of[t] = (int32_t)s;
        from[t] = next[s]++;
    }
    free(next);
}

/* Token t of the trial is what token from[t] of the base is, to the bit. */
static int is_mixed(const call *c, const int32_t *from) {
    const seqtopk_output *a = &base.out, *b = &trial.out;
    int same = *a->selected == *b->selected;
    for (int64_t t = 0; same && t < c->in.tokens; t++) {
        const int32_t i = a->token_offsets[from[t]], j = b->token_offsets[t], n = a->token_offsets[from[t] + 1] - i;
        same = b->token_offsets[t + 1] - j == n && memcmp(a->expert_ids + i, b->expert_ids + j, (size_t)n * 4) == 0 &&
               memcmp(a->weights + i, b->weights + j, (size_t)n * 4) == 0 &&
               (!a->row_lse || memcmp(a->row_lse + from[t], b->row_lse + t, 4) == 0) &&
               (c->runners == 0 || (memcmp(of_base.margins + from[t], of_trial.margins + t, 4) == 0 &&
                                    memcmp(of_base.runners + from[t] * c->runners, of_trial.runners + t * c->runners,
                                           (size_t)c->runners * 4) == 0)) &&
               (!c->desc.null_experts || memcmp(of_base.null_weights + from[t], of_trial.null_weights + t, 4) == 0);
    }
    return same && (!has_sequence_margins(c) ||
                    memcmp(of_base.sequence_margins, of_trial.sequence_margins, (size_t)all_sequences(c) * 4) == 0);
}

static void check_refused(const call *c, seqtopk_plan *plan, const char *who, int64_t first);
static void check_dropped(const call *c, const uint8_t *good);

/* Bad rows of such a batch: the first in its own order is named, or they are dropped. */
static void check_mixed_nonfinite(const call *c, unsigned char *logits, const uint8_t *mask) {
    const char *isa;
    int64_t first = -1;
    uint8_t *good = check_alloc((size_t)c->in.tokens, 1);
    memcpy(good, mask, (size_t)c->in.tokens);
    for (int i = 0; i < 3; i++) {
        const int64_t t = pick((uint32_t)c->in.tokens);
        const size_t at = (size_t)(t * columns(&c->desc)) + pick((uint32_t)columns(&c->desc));
        random_store(logits, (int)c->desc.dtype, at, INFINITY);
        first = mask[t] && (first < 0 || t < first) ? t : first;
        good[t] = 0;
    }
    for (int32_t i = 0; (isa = seqtopk_isa_name(i)); i++)
        if (isa_wanted(isa))
            check_refused(c, make_plan(c, isa, NULL), isa, first);
    check_dropped(c, good);
    free(good);
}

/* A batch whose tokens stand in any order gets what it gets sorted by sequence, in its own order; one by one or by a team. */
static void check_mixed(const call *c) {
    const size_t tokens = (size_t)c->in.tokens, element = c->desc.dtype == SEQTOPK_DTYPE_F32 ? 4 : 2;
    const size_t row = (size_t)columns(&c->desc) * element;
    const size_t stride = c->in.row_stride > 0 ? (size_t)c->in.row_stride * element : row;
    int32_t *from = check_alloc(tokens, 4), *of = check_alloc(tokens, 4);
    unsigned char *logits = check_alloc(tokens * row, 1), *mask = check_alloc(tokens, 1);
    char why[256] = "";
    const char *isa;
    call mixed = *c;
    mix_tokens(c, from, of);
    for (size_t t = 0; t < tokens; t++) {
        memcpy(logits + t * row, (const unsigned char *)c->in.logits + (size_t)from[t] * stride, row);
        mask[t] = !c->in.token_mask || c->in.token_mask[from[t]];
    }
    mixed.in.logits = logits;
    mixed.in.row_stride = 0;
    mixed.in.token_mask = c->in.token_mask ? mask : NULL;
    mixed.in.cu_seqlens = NULL;
    mixed.in.token_seq = of;
    seqtopk_plan *wide = make_plan(c, "ref", NULL);
    mixed.width = seqtopk_max_width(wide, c->in.tokens);
    seqtopk_plan_destroy(wide);
    for (int32_t i = 0; (isa = seqtopk_isa_name(i)); i++) {
        seqtopk_plan *plan = isa_wanted(isa) ? make_plan(c, isa, NULL) : NULL;
        for (int how = SERIAL; plan && how <= LENT_THREADS; how++) {
            seqtopk_error error = SEQTOPK_ERROR_INIT;
            describe(&mixed, "mixed", isa);
            place(&trial, &mixed, SHEET_ALL);
            const seqtopk_status status = route(plan, &mixed, &trial.out, (entry)how, how == SERIAL ? 1 : 3, &error);
            check_that(status == SEQTOPK_OK, "status %s: %s", seqtopk_status_string(status), error.message);
            check_that(!sheet_spoilt(&trial), "wrote beside an output");
            check_that(is_mixed(c, from), "tokens in another order get something else");
            check_that(sheet_agrees(&trial, why, sizeof why), "%s", why);
        }
        seqtopk_plan_destroy(plan);
    }
    check_mixed_nonfinite(&mixed, logits, mask);
    free(from);
    free(of);
    free(logits);
    free(mask);
}

/* Every way in says that token `first` is the first bad one; -1: that none is. Takes the plan, which may be NULL. */
static void check_refused(const call *c, seqtopk_plan *plan, const char *who, int64_t first) {
    for (int how = SERIAL; plan && how < LENT_THREADS; how++) {
        seqtopk_error error = SEQTOPK_ERROR_INIT;
        describe(c, "with bad rows", who);
        place(&trial, c, SHEET_ALL);
        const seqtopk_status status = route(plan, c, &trial.out, (entry)how, how == SERIAL ? 1 : 3, &error);
        check_that(status == (first < 0 ? SEQTOPK_OK : SEQTOPK_E_NONFINITE), "status %d", (int)status);
        check_that(error.token == first && error.status == status, "names token %lld, the first is %lld",
                   (long long)error.token, (long long)first);
        check_that(!sheet_spoilt(&trial), "wrote beside an output");
    }
    seqtopk_plan_destroy(plan);
}

/* With the bad rows dropped the others get what they get beside masked ones, whoever does it. */
static void check_dropped(const call *c, const uint8_t *good) {
    call masked = *c, dropping = *c;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    masked.in.token_mask = good;
    dropping.in.on_nonfinite = SEQTOPK_NONFINITE_DROP;
    describe(c, "without bad rows", "ref");
    seqtopk_plan *plan = make_plan(c, "ref", NULL);
    if (!plan)
        return;
    place(&base, c, SHEET_ALL);
    const seqtopk_status status = route(plan, &masked, &base.out, SERIAL, 1, &error);
    check_that(status == SEQTOPK_OK, "status %s: %s", seqtopk_status_string(status), error.message);
    seqtopk_plan_destroy(plan);
    const char *isa;
    for (int32_t i = 0; (isa = seqtopk_isa_name(i)); i++) {
        plan = isa_wanted(isa) ? make_plan(c, isa, NULL) : NULL;
        if (!plan)
            continue;
        check_trial(plan, &dropping, isa, SERIAL, 1);
        check_trial(plan, &dropping, isa, PARTS, 2 + (int32_t)pick(6));
        check_trial(plan, &dropping, isa, LENT_THREADS, 3);
        seqtopk_plan_destroy(plan);
    }
}

/* NaN or +inf in an unmasked row: every way in, by every kernel that reads logits, says so and names the first such token. */
static void check_nonfinite(call *c) {
    const size_t size = g_logits.size;
    if (c->in.tokens == 0 || c->in.row_stride < 0)
        return;
    const int64_t stride = c->in.row_stride ? c->in.row_stride : columns(&c->desc);
    unsigned char *copy = check_alloc(size, 1);
    memcpy(copy, g_logits.data, size);
    int64_t first = -1;
    uint8_t *good = check_alloc((size_t)c->in.tokens, 1);
    for (int64_t t = 0; t < c->in.tokens; t++)
        good[t] = !c->in.token_mask || c->in.token_mask[t];
    for (int i = 0; i < 3; i++) {
        const int64_t t = pick((uint32_t)c->in.tokens);
        const size_t at = (size_t)(t * stride) + pick((uint32_t)columns(&c->desc));
        if (pick(3))
            random_store_bits(copy, (int)c->desc.dtype, at,
                              random_nan(&run.random, (int)c->desc.dtype, pick(2 * RANDOM_NANS)));
        else
            random_store(copy, (int)c->desc.dtype, at, INFINITY);
        if ((!c->in.token_mask || c->in.token_mask[t]) && (first < 0 || t < first))
            first = t;
        good[t] = 0;
    }
    unsigned char *logits = guard_place(&g_logits, size, GUARD_END, 0);
    memcpy(logits, copy, size);
    guard_freeze(&g_logits);
    c->in.logits = logits;
    free(copy);
    const char *isa;
    for (int32_t i = 0; (isa = seqtopk_isa_name(i)); i++)
        if (isa_wanted(isa))
            check_refused(c, make_plan(c, isa, NULL), isa, first);
    for (int32_t i = 0; i < seqtopk_registry_size; i++) {
        const seqtopk_row *row = seqtopk_registry + i;
        if (check_wants(row) && reads_logits(row) && serves(row, &c->desc))
            check_refused(c, make_plan(c, NULL, row->name), row->name, first);
    }
    check_dropped(c, good);
    free(good);
}

static void check_call(call *c) {
    describe(c, "plan", "ref");
    seqtopk_plan *plan = make_plan(c, "ref", NULL);
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    if (!plan)
        return;
    choose_padding(c, plan);
    check_that(seqtopk_max_selected(plan, c->in.tokens) == c->pairs, "max_selected is not T * K");
    place(&base, c, SHEET_ALL);
    const seqtopk_status status = route(plan, c, &base.out, SERIAL, 1, &error);
    seqtopk_plan_destroy(plan);
    if (!check_that(status == SEQTOPK_OK, "status %s: %s", seqtopk_status_string(status), error.message))
        return;
    check_that(!sheet_spoilt(&base), "wrote beside %s", sheet_spoilt(&base) ? sheet_spoilt(&base) : "");

    oracle_problem problem;
    oracle_choice right;
    const size_t cells = (size_t)c->in.tokens * (size_t)competing(&c->desc);
    double *keys = check_alloc(cells, sizeof *keys), *scores = check_alloc(cells, sizeof *scores);
    oracle_load(&problem, &c->desc, &c->in);
    reference_keys(c, &problem, keys, scores);
    oracle_select(&problem, keys, scores, 1, &right);
    const int64_t failed = run.failed;
    check_against_oracle(c, &problem, keys, scores, &right);
    oracle_choice_free(&right);
    oracle_free(&problem);
    free(keys);
    free(scores);
    if (run.failed != failed)
        return;
    if (pick(4) == 0)
        check_other_order(c);
    check_everything_else(c);
    if (!c->desc.null_experts && !c->desc.shared_experts && pick(2)) /* lists would have to be completed first */
        check_given(c);
    if (c->in.cu_seqlens && c->in.tokens > 0 && c->in.row_stride >= 0 && c->desc.scope == SEQTOPK_SCOPE_SEQUENCE &&
        pick(2))
        check_mixed(c);
    if (pick(4) == 0)
        check_nonfinite(c);
}

/* ------------------------------------------------------------------ walks -- */

/* Every score with every scope, bound, way of grouping, bias, mask and ragged batch. */
static void cross_everything(void) {
    const int rounds = run.quick ? 1 : 2;
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < 4 * 5 * 4 * 8; i++) {
            const int kind = i / 4 % 5; /* token scope, or sequence scope with one of four bounds */
            const wish w = {.score = i % 4,
                            .scope = kind == 4 ? SEQTOPK_SCOPE_TOKEN : SEQTOPK_SCOPE_SEQUENCE,
                            .bounds = kind,
                            .grouping = i / 20 % 4,
                            .bias = i / 80 & 1,
                            .mask = i / 160 & 1,
                            .ragged = i / 320 & 1};
            call c;
            if (run.quick && pick(3))
                continue;
            make_call(&c, &w);
            check_call(&c);
        }
}

/* A call of a given size, without groups. */
static void plain_call(call *c, int32_t experts, int32_t top_k, int64_t tokens, const wish *w) {
    const seqtopk_desc desc = SEQTOPK_DESC_INIT;
    const seqtopk_input in = SEQTOPK_INPUT_INIT;
    memset(c, 0, sizeof *c);
    c->desc = desc;
    c->in = in;
    c->desc.experts = experts;
    c->desc.top_k = top_k;
    c->desc.score = (seqtopk_score)w->score;
    c->desc.scope = (seqtopk_scope)w->scope;
    c->in.tokens = tokens;
    if (w->scope == SEQTOPK_SCOPE_SEQUENCE)
        choose_bounds(&c->desc, w->bounds);
    choose_weights(&c->desc);
}

/* More than 16 experts sure of a token: more than a sweep of logits can tell. */
static void make_many_sure(seqtopk_desc *d) {
    d->top_k = d->experts < 20 ? d->experts : 17 + (int32_t)pick(4);
    d->min_experts = d->top_k - (int32_t)(d->top_k > 17 ? pick((uint32_t)d->top_k - 16) : 0);
    d->max_experts = pick(2) ? 0 : d->min_experts + (int32_t)pick(6);
}

/*
 * Batches of many sequences: candidates whole from a block of keys, or cut in two by where a part ends. Ties at the cut are
 * the rule, budgets are more than there are candidates or less than is sure.
 */
static void short_sequences(void) {
    static const random_kind kinds[] = {RANDOM_NORMAL, RANDOM_FEW,      RANDOM_TWO,   RANDOM_EQUAL, RANDOM_ZEROS,
                                        RANDOM_EMPTY,  RANDOM_EXCLUDED, RANDOM_DRIFT, RANDOM_HUGE};
    static const int32_t experts[] = {1, 2, 8, 16, 24, 60, 64, 128, 256, 512, 1024, 2048};
    for (int i = 0; i < (run.quick ? 40 : 320); i++) {
        const int turn = i * 37; /* goes through all combinations, with few of them as well */
        const wish w = {.score = turn % 4,
                        .bounds = turn / 4 % 4,
                        .grouping = turn / 16 % 4,
                        .bias = turn / 64 & 1,
                        .mask = turn / 128 & 1,
                        .ragged = 2};
        call c;
        const int32_t n = experts[pick(COUNT(experts))], few = n < 10 ? n : 10;
        const int64_t most = (run.quick ? 10000 : 30000) / n;
        plain_call(&c, n, 1 + (int32_t)pick((uint32_t)few), 1 + pick((uint32_t)(most < 400 ? most : 400)), &w);
        if (w.bounds == 3 && pick(2))
            make_many_sure(&c.desc);
        if (w.grouping && n % 2 == 0)
            choose_groups(&c, w.grouping);
        c.desc.norm = (seqtopk_norm)(i / 3 % 4);
        c.desc.dtype = (seqtopk_dtype)(i % 3);
        c.kind = kinds[pick(COUNT(kinds))];
        c.aligned = (int)pick(2);
        make_data(&c, &w);
        check_call(&c);
    }
}

/*
 * 128 tokens of which eight at even steps, as a sample takes them, promise too much: what is sure of each token is candidates
 * all the same, so that there may be enough for the budget and yet not the right ones.
 */
static void misled_samples(void) {
    static const int32_t experts[] = {40, 64, 96, 256};
    for (int i = 0; i < (run.quick ? 12 : 48); i++) {
        const wish w = {.score = SEQTOPK_SCORE_SIGMOID + i % 3, .grouping = i % 8 == 7, .mask = i % 5 == 4};
        call c;
        plain_call(&c, experts[i % 4], 8 + (int32_t)pick(9), 128, &w);
        c.desc.min_experts = c.desc.top_k - (int32_t)(pick(4) > 0);
        c.desc.max_experts = pick(2) ? 0 : c.desc.top_k + (int32_t)pick(3);
        if (w.grouping)
            choose_groups(&c, w.grouping);
        c.kind = RANDOM_BEATS;
        make_data(&c, &w);
        check_call(&c);
    }
}

/* Batches large enough that a loan of threads is taken up. */
static void large_batches(void) {
    for (int i = 0; i < (run.quick ? 2 : 16); i++) {
        const wish w = {.score = i % 4,
                        .scope = i == 5 ? SEQTOPK_SCOPE_TOKEN : SEQTOPK_SCOPE_SEQUENCE,
                        .bounds = i < 4 || i > 10 ? i % 4 : 0,
                        .grouping = i > 8 && i < 13 ? 1 + i % 3 : 0,
                        .bias = i == 7 || i > 11,
                        .mask = i / 2 & 1,
                        .ragged = i % 3 == 2};
        call c;
        plain_call(&c, 64, 8, 2000 + i, &w);
        if (w.grouping)
            choose_groups(&c, w.grouping);
        if (i > 12)
            make_many_sure(&c.desc);
        c.desc.dtype = (seqtopk_dtype)(i % 3);
        c.kind = i % 5 == 4 ? (random_kind)pick(RANDOM_KINDS) : i % 2 ? RANDOM_FEW : RANDOM_NORMAL;
        make_data(&c, &w);
        check_call(&c);
    }
}

/* What a router may say beside score, groups and bias: each form of its own, in both scopes, with all that goes with it. */
typedef enum form { FORM_QUOTA, FORM_KEY, FORM_PREPARED, FORM_NULL, FORM_SHARED, FORM_SPARSEMIXER, FORMS } form;

/* Of a token's experts at most so many of a group, mostly just so many that K of them are there. */
static void choose_quota(seqtopk_desc *d) {
    const int32_t size = d->experts / d->groups, kept = d->group_top_k;
    d->group_quota = 1 + (int32_t)pick((uint32_t)size);
    if (kept * d->group_quota < d->top_k || pick(2))
        d->top_k = kept * d->group_quota;
    if (d->min_experts > d->top_k)
        d->min_experts = d->top_k;
    if (kept == d->groups && pick(2))
        d->group_top_k = 0;
}

static void choose_prepared(seqtopk_desc *d) {
    static const float scales[] = {0.17677669f, 0.5f, 2}, caps[] = {30, 5, 1};
    const uint32_t both = pick(3);
    d->logit_scale = both > 0 ? scales[pick(3)] : 0;
    d->logit_softcap = both < 2 ? caps[pick(3)] : 0;
    d->key_from = (seqtopk_key_from)(pick(4) == 0);
}

/* One to three more experts, with weights of their own or not. */
static void choose_shared(seqtopk_desc *d) {
    d->shared_experts = 1 + (int32_t)pick(3);
    d->experts += d->shared_experts;
    d->shared_weight = d->score == SEQTOPK_SCORE_SOFTMAX || pick(2) ? 0.4f : 0;
    if (pick(3) == 0)
        choose_prepared(d);
}

static void choose_form(call *c, form f) {
    switch (f) {
    case FORM_QUOTA: choose_quota(&c->desc); break;
    case FORM_KEY: c->desc.key_from = SEQTOPK_KEY_FROM_LOGIT; break;
    case FORM_NULL: c->desc.null_experts = (int32_t)pick((uint32_t)c->desc.experts); break;
    case FORM_SHARED: choose_shared(&c->desc); break;
    case FORM_SPARSEMIXER:
        c->desc.score = SEQTOPK_SCORE_LOGITS;
        c->desc.norm = SEQTOPK_NORM_SPARSEMIXER;
        c->desc.norm_jitter = pick(2) ? 0 : 0.2f;
        break;
    case FORM_PREPARED: choose_prepared(&c->desc); break;
    case FORMS: break;
    }
}

static void router_forms(void) {
    static const int32_t experts[] = {2, 6, 8, 16, 34, 64, 64, 96, 128, 256, 512};
    for (int i = 0; i < (run.quick ? 24 : 96) * FORMS; i++) {
        const form f = (form)(i % FORMS);
        const int turn = i / FORMS;
        const wish w = {.score = turn % 4,
                        .scope = turn % 3 == 2 ? SEQTOPK_SCOPE_TOKEN : SEQTOPK_SCOPE_SEQUENCE,
                        .bounds = turn / 4 % 4,
                        .grouping = f == FORM_QUOTA                          ? 1 + turn / 2 % 3
                                    : turn % 7 == 3 && f != FORM_SPARSEMIXER ? 1 + turn / 7 % 3
                                                                             : 0,
                        .bias = turn / 8 & 1 && f != FORM_SPARSEMIXER,
                        .mask = turn % 5 == 4,
                        .ragged = turn % 4 == 3 ? 2 : turn % 4 == 1};
        call c;
        const int32_t n = experts[pick(COUNT(experts))], few = n < 10 ? n : 10;
        const int64_t most = (run.quick ? 8000 : 24000) / n;
        plain_call(&c, n, 1 + (int32_t)pick((uint32_t)few), 1 + pick((uint32_t)(most < 400 ? most : 400)), &w);
        if (w.grouping && n % 2 == 0)
            choose_groups(&c, w.grouping);
        choose_form(&c, f);
        c.desc.dtype = (seqtopk_dtype)pick(3);
        c.desc.order = pick(3) ? SEQTOPK_ORDER_EXPERT : SEQTOPK_ORDER_RANK;
        c.kind = pick(3) ? RANDOM_NORMAL : (random_kind)pick(RANDOM_KINDS);
        c.aligned = (int)pick(2);
        make_data(&c, &w);
        check_call(&c);
    }
}

static void open_memory(void) {
    guard_open(&g_logits, (MOST_CELLS + 4 * 2100) * 4 + 1024);
    guard_open(&g_mask, 4096);
    guard_open(&g_bias, 16384);
    guard_open(&g_cu, 4096);
    guard_open(&g_ways, 4096);
    guard_open(&g_fallbacks, 4096);
    guard_open(&g_scratch, 8 << 20);
    sheet_open(&base, MOST_TOKENS, 2048, MOST_CELLS, 2 * MOST_CELLS);
    sheet_open(&trial, MOST_TOKENS, 2048, MOST_CELLS, 2 * MOST_CELLS);
}

static void close_memory(void) {
    guard *const all[] = {&g_logits, &g_mask, &g_bias, &g_cu, &g_scratch, &g_ways, &g_fallbacks};
    for (size_t i = 0; i < COUNT(all); i++)
        guard_close(all[i]);
    sheet_close(&base);
    sheet_close(&trial);
}

void check_routes(void) {
    open_memory();
    cross_everything();
    short_sequences();
    misled_samples();
    large_batches();
    router_forms();
    close_memory();
}

/* --------------------------------------------------------------- dispatch -- */

/* Runs one call with breakpoints on all kernels of a stage; notes in `entered` which were reached. */
static int note_visits(const call *c, const seqtopk_row *forced, trap_function *const *kernels, int n, int *entered) {
    int hit[TRAPS_MOST];
    seqtopk_plan *plan = make_plan(c, NULL, forced->name);
    if (!plan)
        return 0;
    place(&trial, c, SHEET_ALL);
    if (!trap_arm(kernels, n)) {
        seqtopk_plan_destroy(plan);
        return 0;
    }
    const seqtopk_status status = route(plan, c, &trial.out, SERIAL, 1, NULL);
    trap_disarm(hit);
    for (int i = 0; i < n; i++)
        entered[i] |= hit[i];
    seqtopk_plan_destroy(plan);
    return check_that(status == SEQTOPK_OK, "status %d", (int)status);
}

/*
 * Shapes that between them take every stage: the bounds of a sequence in turn, tokens on their own, and the same with a
 * bias, for which no stage is fused with another; then short sequences. In groups only for the stage that limits them.
 */
static void visit_shapes(const seqtopk_row *forced, trap_function *const *kernels, int n, int *entered) {
    if (forced->op >= SEQTOPK_OP_rank_keys && forced->op <= SEQTOPK_OP_pick_keys) { /* while decoding */
        if (trap_arm(kernels, n)) {
            check_decode_with(forced->name);
            trap_disarm(entered);
        }
        return;
    }
    for (int i = 0; i < 14; i++) {
        const wish w = {.scope = i % 5 == 4 ? SEQTOPK_SCOPE_TOKEN : SEQTOPK_SCOPE_SEQUENCE,
                        .bounds = i < 10 ? i % 5 : 0,
                        .bias = (i >= 5 && i < 10) || i >= 12};
        call c;
        const int is_of_few = strcmp(forced->algorithm, "masks") == 0;
        plain_call(&c, is_of_few ? 16 : 64, 2 + (int32_t)pick(3), i < 10 ? 300 : 40, &w);
        if (forced->op == SEQTOPK_OP_mask_groups) { /* as few count as the kernels have ways of their own for */
            c.desc.groups = 8;
            c.desc.group_top_k = 4;
            c.desc.group_score = w.bias ? SEQTOPK_GROUP_TOP2 : SEQTOPK_GROUP_MAX;
        }
        if (forced->op == SEQTOPK_OP_prepare_logits)
            c.desc.logit_softcap = 30;
        c.desc.dtype = reads_logits(forced) ? (seqtopk_dtype)forced->dtype : (seqtopk_dtype)pick(3);
        do
            make_data(&c, &w);
        while (c.in.row_stride < 0); /* rows that are all alike tie, and ties take other ways */
        if (!serves(forced, &c.desc))
            continue;
        seqtopk_plan *plan = make_plan(&c, "ref", NULL);
        choose_padding(&c, plan);
        seqtopk_plan_destroy(plan);
        describe(&c, "dispatch", forced->name);
        note_visits(&c, forced, kernels, n, entered);
    }
}

/* The reference's sweep and pick decline, so that where it is alone much of it has nothing to do. */
static int only_reference_runs(void) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (seqtopk_registry[i].isa > 0 && seqtopk_isa_runs(seqtopk_registry[i].isa))
            return 0;
    return 1;
}

void check_dispatch(void) {
    int possible = 1;
    if (only_reference_runs()) {
        printf("only the reference runs here: no kernel can stand in for another\n");
        return;
    }
    open_memory();
    for (int32_t i = 0; i < seqtopk_registry_size && possible; i++) {
        const seqtopk_row *forced = seqtopk_registry + i;
        trap_function *kernels[TRAPS_MOST];
        int entered[TRAPS_MOST] = {0}, n = 0, self = 0;
        if (!check_wants(forced))
            continue;
        for (int32_t j = 0; j < seqtopk_registry_size && n < TRAPS_MOST; j++)
            if (seqtopk_registry[j].op == forced->op) {
                self = i == j ? n : self;
                kernels[n++] = seqtopk_registry[j].function;
            }
        possible = trap_arm(kernels, n);
        if (!possible)
            break;
        trap_disarm(entered);
        memset(entered, 0, sizeof entered);
        visit_shapes(forced, kernels, n, entered);
        check_context("dispatch %s (seed %llu)", forced->name, (unsigned long long)run.seed);
        for (int j = 0; j < n; j++)
            check_that(entered[j] == (j == self),
                       j == self ? "was forced and never ran" : "another kernel of its stage ran");
    }
    if (!possible)
        printf("code cannot be changed here: that forced kernels ran is known from their plans alone\n");
    close_memory();
}
