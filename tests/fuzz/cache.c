/* SPDX-License-Identifier: MIT */
/*
 * Bytes -> a plan, a cache and a program of operations on it. What each token is given, to the bit, must be what a route
 * over its sequence's tokens up to it gives it, computed anew by the reference; what fails must change nothing.
 */
#include "fuzz.h"
#include "source.h"

#include "src/kernels/registry.h"
#include "src/plan/ways.h"
#include "tests/random.h"

#include <seqtopk/seqtopk.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SEQUENCES = 4,
    LAYERS = 2,
    MOST_EXPERTS = 72,
    MOST_TOKENS = 160, /* of a sequence */
    MOST_ROWS = 12,    /* of a step */
    MOST_POOL = 4096,
    MOST_OPS = 400,
    PARTS = 3,
    CANARY = 0x5a5a5a5a
};

const size_t fuzz_longest = 1 << 14;

void fuzz_shape(uint8_t *data, size_t *size, size_t capacity, uint64_t random) {
    (void)data;
    (void)size;
    (void)capacity;
    (void)random;
}

/* ------------------------------------------------------------- the model -- */

/* A token of a sequence: a row of the pool, and how many experts it was given. */
typedef struct token {
    int32_t row, given;
} token;

typedef struct model {
    seqtopk_desc desc; /* online */
    seqtopk_plan *plan;
    seqtopk_plan *offline; /* of the reference, sequence scope */
    seqtopk_cache *cache;
    int32_t is_ledger, is_limited;
    int32_t counts_all; /* what is listed is what the cache counts: what competes */
    int32_t is_compact; /* logits are on its grid then, so that it gives what exact mode gives */
    seqtopk_nonfinite on_nonfinite;
    float bias[MOST_EXPERTS];
    int32_t has_bias;
    int64_t length[LAYERS][SEQUENCES];
    token tokens[LAYERS][SEQUENCES][MOST_TOKENS];
    int32_t pool;
    uint8_t is_masked[MOST_POOL], is_bad[MOST_POOL]; /* bad: it has a NaN or +inf */
    float logits[MOST_POOL * MOST_EXPERTS];          /* or half as many bytes of a shorter type */
} model;

static char context[320];
static model m;

static void fail(const char *what) {
    fprintf(stderr, "fuzz: %s: %s\n", what, context);
    abort();
}

static size_t row_bytes(void) { return (size_t)m.desc.experts * (m.desc.dtype == SEQTOPK_DTYPE_F32 ? 4 : 2); }
static char *pool_row(int32_t row) { return (char *)m.logits + (size_t)row * row_bytes(); }

/* A row of logits: plain, or with many ties, or with some excluded, or one that is no row at all. */
static int32_t take_row(source *s) {
    const uint32_t how = take(s, 1);
    const int32_t row = m.pool++;
    char *to = pool_row(row);
    m.is_bad[row] = 0;
    for (int32_t e = 0; e < m.desc.experts; e++) {
        const uint32_t bits = take(s, 1);
        float value = (float)(int8_t)bits / (how & 1 ? 16.0f : 1.0f) + (float)(how >> 4);
        if (m.is_compact)
            value = value < -30 ? -30 : value > 29.5f ? 29.5f : value;
        if (how % 8 == 2)
            value = (float)(bits & 3);
        if (how % 16 == 4 && bits % 3 == 0)
            value = -INFINITY;
        if (how == 8 && bits < 16)
            value = bits < 8 ? NAN : INFINITY;
        const int is_read = m.desc.shared_weight == 0 || e < m.desc.experts - m.desc.shared_experts;
        m.is_bad[row] |= is_read && (isnan(value) || value == INFINITY);
        random_store(to, (int)m.desc.dtype, (size_t)e, value);
    }
    m.is_masked[row] = how % 32 == 6;
    return row;
}

/* What a router may say beside; most say nothing. */
static void take_form(source *s) {
    seqtopk_desc *d = &m.desc;
    const uint32_t form = take(s, 1) % 16;
    const int32_t few = 1 + (int32_t)take_below(s, 3);
    if (form == 1)
        d->key_from = SEQTOPK_KEY_FROM_LOGIT;
    if (form == 2 || form == 3)
        d->logit_softcap = 20;
    if (form == 3 || form == 4)
        d->logit_scale = 0.3f;
    if (form == 5 && d->groups > 1 && few * d->group_top_k >= d->top_k && few <= d->experts / d->groups)
        d->group_quota = few;
    if (form == 6 && few < d->experts)
        d->null_experts = few;
    if ((form == 7 || form == 8) && d->experts + few <= MOST_EXPERTS) {
        d->experts += few;
        d->shared_experts = few;
        d->shared_weight = form == 7 || d->score == SEQTOPK_SCORE_SOFTMAX ? 0.5f : 0;
    }
    if (form == 9 && d->groups <= 1 && !m.has_bias) {
        d->score = SEQTOPK_SCORE_LOGITS;
        d->norm = SEQTOPK_NORM_SPARSEMIXER;
    }
}

static void take_desc(source *s) {
    seqtopk_desc *d = &m.desc;
    d->experts = 1 + (int32_t)take_below(s, MOST_EXPERTS);
    d->top_k = 1 + (int32_t)take_below(s, d->experts < 9 ? (uint32_t)d->experts : 9);
    d->scope = SEQTOPK_SCOPE_ONLINE;
    d->score = (seqtopk_score)take_below(s, 4);
    d->norm = (seqtopk_norm)take_below(s, 4);
    d->dtype = (seqtopk_dtype)(take(s, 1) % 8 < 5 ? 0 : 1 + take_below(s, 2));
    d->order = (seqtopk_order)take_below(s, 2);
    if (take(s, 1) % 4) {
        d->min_experts = (int32_t)take_below(s, (uint32_t)d->top_k + 1);
        d->max_experts = d->min_experts + (int32_t)take_below(s, 12);
    }
    const int32_t groups = 1 + (int32_t)take_below(s, 4);
    if (take(s, 1) % 4 == 0 && groups > 1 && d->experts % groups == 0) {
        d->groups = groups;
        d->group_top_k = 1 + (int32_t)take_below(s, (uint32_t)groups);
        d->group_score = (seqtopk_group_score)take_below(s, 2);
    }
    m.has_bias = take(s, 1) % 4 == 0;
    for (int32_t e = 0; m.has_bias && e < d->experts; e++)
        m.bias[e] = (float)take(s, 1) / 256;
    m.on_nonfinite = (seqtopk_nonfinite)take_below(s, 3);
    take_form(s);
}

/* Returns 0 if there is no such plan. */
static int open_model(source *s) {
    const char *isas[16];
    uint32_t usable = 0;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    m.desc = (seqtopk_desc)SEQTOPK_DESC_INIT;
    m.plan = m.offline = NULL;
    m.cache = NULL;
    m.pool = 0;
    memset(m.length, 0, sizeof m.length);
    for (int32_t i = 0; seqtopk_isa_name(i) && usable < 16; i++)
        if (seqtopk_isa_usable(seqtopk_isa_name(i)))
            isas[usable++] = seqtopk_isa_name(i);
    take_desc(s);
    seqtopk_desc other = m.desc;
    m.desc.isa = isas[take_below(s, usable)];
    other.isa = "ref";
    other.scope = SEQTOPK_SCOPE_SEQUENCE;
    snprintf(context, sizeof context,
             "%s E %d K %d [%d, %d] score %d norm %d dtype %d order %d groups %d/%d%s key %d logits * %g cap %g quota "
             "%d null %d shared %d, %g",
             m.desc.isa, (int)m.desc.experts, (int)m.desc.top_k, (int)m.desc.min_experts, (int)m.desc.max_experts,
             (int)m.desc.score, (int)m.desc.norm, (int)m.desc.dtype, (int)m.desc.order, (int)m.desc.group_top_k,
             (int)m.desc.groups, m.has_bias ? " bias" : "", (int)m.desc.key_from, (double)m.desc.logit_scale,
             (double)m.desc.logit_softcap, (int)m.desc.group_quota, (int)m.desc.null_experts,
             (int)m.desc.shared_experts, (double)m.desc.shared_weight);
    const seqtopk_status status = seqtopk_plan_create(&m.plan, &m.desc, &error);
    if (seqtopk_plan_create(&m.offline, &other, &error) != status)
        fail("online and offline differ in what they refuse");
    if (status)
        return 0;
    seqtopk_cache_desc d = SEQTOPK_CACHE_DESC_INIT;
    d.layers = LAYERS;
    d.plan = m.plan;
    d.sequences = SEQUENCES;
    d.max_tokens = MOST_TOKENS;
    if (m.desc.score == SEQTOPK_SCORE_LOGITS && !m.has_bias && !seqtopk_prepares(&m.desc) && take(s, 1) % 2)
        d.mode = SEQTOPK_CACHE_COMPACT;
    m.counts_all = !m.desc.null_experts && !m.desc.shared_experts;
    m.is_ledger = d.is_ledger = take(s, 1) % 8 == 0 && m.counts_all;
    m.is_limited = take(s, 1) % 8 == 0;
    m.is_compact = d.mode == SEQTOPK_CACHE_COMPACT;
    d.max_bytes = m.is_limited ? 1 + (int64_t)take(s, 2) * 4 : 0;
    if (seqtopk_cache_create(&m.cache, &d, &error))
        fail(error.message);
    return 1;
}

static void close_model(void) {
    seqtopk_cache_destroy(m.cache);
    seqtopk_plan_destroy(m.plan);
    seqtopk_plan_destroy(m.offline);
}

/* ------------------------------------------------------------- the oracle -- */

typedef struct lists {
    int32_t offsets[MOST_TOKENS + 2], ids[MOST_TOKENS * MOST_EXPERTS + 1];
    float weights[MOST_TOKENS * MOST_EXPERTS + 1];
    int64_t selected;
} lists;

static seqtopk_output output_of(lists *l, int64_t capacity) {
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    out.token_offsets = l->offsets;
    out.expert_ids = l->ids;
    out.weights = l->weights;
    out.capacity = capacity;
    out.selected = &l->selected;
    return out;
}

/* Routes these tokens anew. */
static void route_anew(const seqtopk_plan *plan, const token *tokens, int64_t n, lists *l) {
    static float logits[MOST_TOKENS * MOST_EXPERTS];
    static uint8_t mask[MOST_TOKENS];
    static char scratch[1 << 22];
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    for (int64_t t = 0; t < n; t++) {
        memcpy((char *)logits + (size_t)t * row_bytes(), pool_row(tokens[t].row), row_bytes());
        mask[t] = !m.is_masked[tokens[t].row];
    }
    in.logits = logits;
    in.row_stride = m.desc.experts;
    in.tokens = n;
    in.token_mask = mask;
    in.bias = m.has_bias ? m.bias : NULL;
    in.on_nonfinite = SEQTOPK_NONFINITE_DROP;
    const seqtopk_output out = output_of(l, MOST_TOKENS * MOST_EXPERTS);
    if (seqtopk_route(plan, &in, &out, scratch, sizeof scratch, &error))
        fail(error.message);
}

/* The best n of a token. */
static void route_alone(const token *one, int32_t n, lists *l) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_desc d = m.desc;
    seqtopk_plan *plan;
    d.isa = "ref";
    d.scope = SEQTOPK_SCOPE_TOKEN;
    d.top_k = n;
    d.min_experts = d.max_experts = 0;
    l->selected = 0;
    l->offsets[0] = l->offsets[1] = 0;
    if (n == 0)
        return;
    if (seqtopk_plan_create(&plan, &d, &error))
        fail(error.message);
    route_anew(plan, one, 1, l);
    seqtopk_plan_destroy(plan);
}

/* What token n - 1 of these is to have: its list is the first of *l. */
static void expect_last(token *tokens, int64_t n, lists *l) {
    int64_t left = 0;
    route_anew(m.offline, tokens, n, l);
    const int32_t from = l->offsets[n - 1], count = l->offsets[n] - from;
    memmove(l->ids, l->ids + from, (size_t)count * sizeof *l->ids);
    memmove(l->weights, l->weights + from, (size_t)count * sizeof *l->weights);
    tokens[n - 1].given = count;
    if (!m.is_ledger)
        return;
    for (int64_t t = 0; t < n; t++) {
        const int is_routed = !m.is_masked[tokens[t].row] && !m.is_bad[tokens[t].row];
        left += (is_routed ? m.desc.top_k : 0) - (t < n - 1 ? tokens[t].given : 0);
    }
    if (count > left) {
        tokens[n - 1].given = (int32_t)left;
        route_alone(tokens + n - 1, (int32_t)left, l);
    }
}

/* ------------------------------------------------------------------ steps -- */

typedef struct step {
    int32_t rows, layer;
    int32_t sequences[MOST_ROWS];
    int64_t positions[MOST_ROWS];
    token tokens[MOST_ROWS];
    int has_positions, is_joint, form;
    int64_t start[SEQUENCES], end[SEQUENCES]; /* of the rows of each sequence; start < 0: it has none */
} step;

static void in_turn(void *context_, int32_t n, void (*task)(void *arg, int32_t i), void *arg) {
    (void)context_;
    for (int32_t i = n; i-- > 0;)
        task(arg, i);
}

static seqtopk_status take_step(const step *st, const seqtopk_input *in, const seqtopk_output *out,
                                seqtopk_error *error) {
    seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT;
    rows.layer = st->layer;
    rows.sequences = st->sequences;
    rows.positions = st->has_positions ? st->positions : NULL;
    rows.take = st->is_joint ? SEQTOPK_TAKE_JOINT : SEQTOPK_TAKE_CAUSAL;
    const int32_t parts = st->form == 0 ? 1 : PARTS;
    const size_t size = seqtopk_cache_scratch_size(m.cache, st->rows, parts);
    char *scratch = malloc(size);
    if (!size || !scratch)
        fail("scratch");
    seqtopk_status status = SEQTOPK_OK;
    if (st->form == 0) {
        status = seqtopk_cache_step(m.cache, &rows, in, out, scratch, size, error);
    } else if (st->form == 1) {
        for (int32_t i = 0; i < seqtopk_cache_parts(m.cache); i++)
            for (int32_t part = parts; part-- > 0;)
                status = seqtopk_cache_step_part(m.cache, &rows, in, out, scratch, size, i, part, parts, error);
    } else {
        seqtopk_parallel loan = SEQTOPK_PARALLEL_INIT;
        loan.threads = parts;
        loan.parallel_for = in_turn;
        status = seqtopk_cache_step_parallel(m.cache, &rows, in, out, scratch, size, &loan, error);
    }
    free(scratch);
    if (status != error->status)
        fail("the status and the error differ");
    return status;
}

static void compare_row(const lists *got, int32_t row, const lists *wanted, int32_t count) {
    const int32_t from = got->offsets[row];
    if (got->offsets[row + 1] - from != count) {
        char text[64];
        snprintf(text, sizeof text, "row %d has %d experts, not %d", (int)row, (int)(got->offsets[row + 1] - from),
                 (int)count);
        fail(text);
    }
    if (memcmp(got->ids + from, wanted->ids, (size_t)count * sizeof *wanted->ids))
        fail("expert_ids");
    if (memcmp(got->weights + from, wanted->weights, (size_t)count * sizeof *wanted->weights))
        fail("weights");
}

/* Where the rows of a step stand, and what status it deserves. */
static seqtopk_status place_rows(step *st) {
    seqtopk_status status = SEQTOPK_OK;
    for (int32_t s = 0; s < SEQUENCES; s++)
        st->start[s] = st->end[s] = -1;
    for (int32_t i = 0; i < st->rows; i++) {
        const int32_t s = st->sequences[i];
        const int64_t next = st->end[s] < 0 ? m.length[st->layer][s] : st->end[s];
        const int64_t position = st->has_positions ? st->positions[i] : next;
        if (position < 0 || position > next || (st->end[s] >= 0 && position != next))
            return SEQTOPK_E_SHAPE;
        if (position >= MOST_TOKENS)
            return SEQTOPK_E_OVERFLOW;
        if (st->end[s] < 0)
            st->start[s] = position;
        st->end[s] = position + 1;
    }
    for (int32_t i = 0; i < st->rows; i++)
        if (m.is_bad[st->tokens[i].row] && !m.is_masked[st->tokens[i].row] && m.on_nonfinite == SEQTOPK_NONFINITE_ERROR)
            status = SEQTOPK_E_NONFINITE;
    return status;
}

/* What a step that went well has returned, row by row; the model takes it in. */
static void check_step(const step *st, const lists *got) {
    static lists wanted[2];
    int64_t at[SEQUENCES];
    memcpy(at, st->start, sizeof at);
    for (int32_t i = 0; i < st->rows; i++)
        m.tokens[st->layer][st->sequences[i]][at[st->sequences[i]]++] = st->tokens[i];
    memcpy(at, st->start, sizeof at);
    for (int32_t i = 0; i < st->rows; i++) {
        const int32_t s = st->sequences[i];
        token *tokens = m.tokens[st->layer][s];
        const int64_t own = at[s]++;
        if (st->is_joint) {
            route_anew(m.offline, tokens, st->end[s], wanted);
            const int32_t from = wanted->offsets[own], count = wanted->offsets[own + 1] - from;
            memmove(wanted->ids, wanted->ids + from, (size_t)count * sizeof *wanted->ids);
            memmove(wanted->weights, wanted->weights + from, (size_t)count * sizeof *wanted->weights);
            tokens[own].given = count;
        } else {
            expect_last(tokens, own + 1, wanted);
        }
        compare_row(got, i, wanted, tokens[own].given);
    }
    for (int32_t s = 0; s < SEQUENCES; s++)
        if (st->start[s] >= 0)
            m.length[st->layer][s] = st->end[s];
}

static void do_step(source *s) {
    static lists got;
    static float logits[MOST_ROWS * MOST_EXPERTS];
    step st = {.rows = (int32_t)take_below(s, MOST_ROWS + 1), .layer = (int32_t)take_below(s, LAYERS)};
    uint8_t mask[MOST_ROWS];
    int64_t next[SEQUENCES];
    int masked = 0;
    const uint32_t how = take(s, 1);
    if (how >> 6 == 3) /* one alone has a way of its own */
        st.rows = 1;
    st.has_positions = how & 1;
    st.is_joint = !m.is_ledger && how % 8 == 2;
    st.form = how % 16 < 8 ? 0 : (int)(how % 16 - 7) % 3;
    memcpy(next, m.length[st.layer], sizeof next);
    if (how % 16 == 1)
        for (int32_t q = 0; q < SEQUENCES; q++)
            next[q] -= (int64_t)take_below(s, (uint32_t)(next[q] < 20 ? next[q] : 20) + 1);
    for (int32_t i = 0; i < st.rows; i++) {
        st.sequences[i] = how & 64 ? (int32_t)take_below(s, SEQUENCES) : (int32_t)(how >> 4 & 3);
        st.positions[i] = next[st.sequences[i]]++ + (how % 64 == 33 && i == 3 ? (int64_t)take_below(s, 3) - 1 : 0);
        st.tokens[i] = (token){take_row(s), 0};
        memcpy((char *)logits + (size_t)i * row_bytes(), pool_row(st.tokens[i].row), row_bytes());
        mask[i] = !m.is_masked[st.tokens[i].row];
        masked += !mask[i];
    }
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    in.logits = logits;
    in.row_stride = m.desc.experts;
    in.tokens = st.rows;
    in.token_mask = masked || how & 4 ? mask : NULL;
    in.bias = m.has_bias ? m.bias : NULL;
    in.on_nonfinite = m.on_nonfinite;
    const int64_t capacity = seqtopk_max_selected(m.plan, st.rows);
    const seqtopk_output out = output_of(&got, capacity);
    const int32_t canary = CANARY;
    got.offsets[st.rows + 1] = got.ids[capacity] = canary;
    memcpy(got.weights + capacity, &canary, sizeof canary);
    const seqtopk_status deserved = place_rows(&st), status = take_step(&st, &in, &out, &error);
    if (got.offsets[st.rows + 1] != canary || got.ids[capacity] != canary ||
        memcmp(got.weights + capacity, &canary, sizeof canary))
        fail("written beside an output");
    if ((status == SEQTOPK_E_MEMORY && m.is_limited) || (status == SEQTOPK_E_UNSUPPORTED && m.is_compact))
        return;
    if (status != deserved)
        fail(status ? error.message : "a step that should have failed");
    if (status == SEQTOPK_OK)
        check_step(&st, &got);
}

/* ------------------------------------------------------------------- life -- */

static int64_t shortest(int32_t sequence) {
    int64_t least = MOST_TOKENS;
    for (int32_t l = 0; l < LAYERS; l++)
        least = m.length[l][sequence] < least ? m.length[l][sequence] : least;
    return least;
}

static void model_copy(int32_t l, int32_t to, int32_t from, int64_t tokens) {
    const int64_t all = m.length[l][from];
    m.length[l][to] = tokens < 0 || tokens > all ? all : tokens;
    memmove(m.tokens[l][to], m.tokens[l][from], (size_t)m.length[l][to] * sizeof(token));
}

/* A ledger gives each token what those before it left: of the tokens from `from` on others are before. */
static void model_give_again(int32_t l, int32_t sequence, int64_t from) {
    static lists wanted;
    for (int64_t t = from; m.is_ledger && t < m.length[l][sequence]; t++)
        expect_last(m.tokens[l][sequence], t + 1, &wanted);
}

/* Whether it was done; without memory nothing is, nor what a compact cache cannot take back. */
static int is_done(seqtopk_status status, const seqtopk_error *error) {
    if (status == SEQTOPK_E_UNSUPPORTED && m.is_compact)
        return 0;
    if (status != SEQTOPK_OK && (status != SEQTOPK_E_MEMORY || !m.is_limited))
        fail(error->message);
    return status == SEQTOPK_OK;
}

static void do_remove(source *s, int32_t sequence) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    const int64_t least = shortest(sequence), from = take_below(s, (uint32_t)least + 1),
                  to = from + take_below(s, (uint32_t)(least - from) + 1);
    if (!is_done(seqtopk_cache_remove(m.cache, sequence, from, to, &error), &error))
        return;
    for (int32_t l = 0; l < LAYERS; l++) {
        token *tokens = m.tokens[l][sequence];
        memmove(tokens + from, tokens + to, (size_t)(m.length[l][sequence] - to) * sizeof *tokens);
        m.length[l][sequence] -= to - from;
        model_give_again(l, sequence, from);
    }
}

static void do_reorder(source *s) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    static token old[LAYERS][SEQUENCES][MOST_TOKENS];
    int64_t length[LAYERS][SEQUENCES];
    int32_t parents[SEQUENCES];
    const int32_t n = (int32_t)take_below(s, SEQUENCES + 1);
    for (int32_t i = 0; i < n; i++)
        parents[i] = (int32_t)take_below(s, SEQUENCES + 1) - 1;
    if (!is_done(seqtopk_cache_reorder(m.cache, parents, n, &error), &error))
        return;
    memcpy(old, m.tokens, sizeof old);
    memcpy(length, m.length, sizeof length);
    for (int32_t l = 0; l < LAYERS; l++)
        for (int32_t i = 0; i < n; i++) {
            m.length[l][i] = parents[i] < 0 ? 0 : length[l][parents[i]];
            if (parents[i] >= 0)
                memcpy(m.tokens[l][i], old[l][parents[i]], sizeof old[l][i]);
        }
}

/* Tokens out of one sequence, and into another that has as many before them. */
static void do_save(source *s, int32_t sequence) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    const int32_t to = (int32_t)take_below(s, SEQUENCES);
    const int64_t least = shortest(sequence), from = to == sequence ? least : shortest(to);
    if (from > least)
        return;
    for (int32_t l = 0; l < LAYERS; l++)
        if (m.length[l][to] != from)
            return;
    const size_t size = seqtopk_cache_save_size(m.cache, sequence, from, least);
    if (!size && m.is_compact) /* all of a sequence, or nothing */
        return;
    char *blob = malloc(size ? size : 1);
    if (!size || !blob || seqtopk_cache_save(m.cache, sequence, from, least, blob, size, &error))
        fail("save");
    if (take(s, 1) % 4 == 0) { /* a torn or damaged one */
        const size_t at = take(s, 2) % size;
        blob[at] = (char)((uint8_t)blob[at] ^ (1 + take_below(s, 255)));
        if (!seqtopk_cache_load(m.cache, to, blob, size, &error) || !seqtopk_cache_load(m.cache, to, blob, at, &error))
            fail("a damaged blob was taken");
    } else if (is_done(seqtopk_cache_load(m.cache, to, blob, size, &error), &error)) {
        for (int32_t l = 0; l < LAYERS; l++) {
            memmove(m.tokens[l][to] + from, m.tokens[l][sequence] + from, (size_t)(least - from) * sizeof(token));
            m.length[l][to] = least;
            model_give_again(l, to, from);
        }
    }
    free(blob);
}

static void do_copy(source *s, int32_t from) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    const int32_t to = (int32_t)take_below(s, SEQUENCES);
    const int64_t tokens = (int64_t)take_below(s, MOST_TOKENS) - 1;
    if (is_done(seqtopk_cache_copy(m.cache, to, from, tokens, &error), &error))
        for (int32_t l = 0; l < LAYERS; l++)
            model_copy(l, to, from, tokens);
}

static void do_truncate(source *s, int32_t sequence) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    const int64_t back = take_below(s, take(s, 1) & 1 ? 12u : (uint32_t)MOST_TOKENS),
                  tokens = back < m.length[0][sequence] ? m.length[0][sequence] - back : 0;
    if (!is_done(seqtopk_cache_truncate(m.cache, sequence, tokens, &error), &error))
        return;
    for (int32_t l = 0; l < LAYERS; l++)
        m.length[l][sequence] = tokens < m.length[l][sequence] ? tokens : m.length[l][sequence];
}

static void do_clear(source *s, int32_t sequence) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    const uint32_t how = take(s, 1) % 8;
    const int32_t whose = how == 0 ? -1 : sequence;
    if (how == 1 ? seqtopk_cache_keep(m.cache, sequence, &error) : seqtopk_cache_clear(m.cache, whose, &error))
        fail(error.message);
    for (int32_t l = 0; l < LAYERS; l++)
        for (int32_t q = 0; q < SEQUENCES; q++)
            if (how == 0 || (how == 1) == (q != sequence))
                m.length[l][q] = 0;
}

static void check_state(void) {
    seqtopk_cache_stats stats = SEQTOPK_CACHE_STATS_INIT;
    for (int32_t l = 0; l < LAYERS; l++)
        for (int32_t q = 0; q < SEQUENCES; q++) {
            int64_t budget = 0, pairs = 0;
            for (int64_t t = 0; t < m.length[l][q]; t++) {
                const token *one = m.tokens[l][q] + t;
                budget += m.is_masked[one->row] || m.is_bad[one->row] ? 0 : m.desc.top_k;
                pairs += one->given;
            }
            if (seqtopk_cache_get_stats(m.cache, l, q, &stats) || stats.tokens != m.length[l][q] ||
                stats.tokens != seqtopk_cache_length(m.cache, l, q) || stats.budget != budget ||
                (m.counts_all && stats.pairs != pairs))
                fail("stats");
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    source s = {data, size};
    if (open_model(&s))
        for (int op = 0; op < MOST_OPS && s.size && m.pool < MOST_POOL - MOST_ROWS; op++) {
            const uint32_t what = take(&s, 1) % 32;
            const int32_t sequence = (int32_t)take_below(&s, SEQUENCES);
            switch (what) {
            case 0: do_remove(&s, sequence); break;
            case 1: do_reorder(&s); break;
            case 2: do_save(&s, sequence); break;
            case 3: do_copy(&s, sequence); break;
            case 4:
            case 5: do_truncate(&s, sequence); break;
            case 6: do_clear(&s, sequence); break;
            default: do_step(&s);
            }
            check_state();
        }
    close_model();
    return 0;
}
