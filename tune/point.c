/* SPDX-License-Identifier: MIT */
#include "tune/point.h"

#include "src/plan/plan.h"
#include "src/status.h"
#include "tune/timer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------- forms -- */

/* A kind of call. An op is decided by the first that reaches it. */
typedef struct form {
    seqtopk_score score;
    bool bounded, by_expert, biased;
    bool in_token_scope;
    double share; /* of a point's time */
} form;

static const form forms[SEQTOPK_TUNE_FORMS] = {
    {SEQTOPK_SCORE_SOFTMAX, false, false, false, true, 0.7},
    {SEQTOPK_SCORE_SOFTMAX, true, false, false, false, 0.1},
    {SEQTOPK_SCORE_SOFTMAX, false, true, false, true, 0.1},
    {SEQTOPK_SCORE_SIGMOID, false, false, true, true, 0.1},
};

static seqtopk_desc desc_of(const seqtopk_tune_point *point, const form *f) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.experts = point->experts;
    desc.top_k = point->top_k;
    desc.scope = point->scope;
    desc.dtype = point->dtype;
    desc.score = f->score;
    desc.norm = SEQTOPK_NORM_SUM;
    desc.tokens = point->tokens;
    desc.threads = point->threads;
    if (f->bounded) {
        desc.min_experts = 1;
        desc.max_experts = point->top_k + 2; /* the paper's */
    }
    return desc;
}

/* ------------------------------------------------------------------ call -- */

/* A contender: the base with one op's row changed. Number 0 is the base itself. */
typedef struct entry {
    seqtopk_op op;
    const seqtopk_row *row;
    seqtopk_plan *plan;
    double screen; /* ns of a first call; 0: not run */
} entry;

typedef struct session {
    seqtopk_tune_bench *bench;
    const seqtopk_tune_point *point;
    const form *form;
    seqtopk_desc desc;
    seqtopk_tune_config base, model; /* model: what would be taken without any decision */
    int32_t count, batch;
    entry entry[SEQTOPK_TUNE_CANDIDATES];
    bool out[SEQTOPK_TUNE_CANDIDATES];
    seqtopk_tune_stat stat[SEQTOPK_TUNE_CANDIDATES];
} session;

static bool stopped(seqtopk_tune_bench *bench) {
    const seqtopk_tune_events *e = bench->events;
    bench->stopped = bench->stopped || (e->stop && e->stop(e->context));
    return bench->stopped;
}

static seqtopk_status route(const session *s, const seqtopk_plan *plan, seqtopk_tune_team *team, int64_t turn,
                            seqtopk_tune_lists *lists, seqtopk_error *error) {
    seqtopk_tune_bench *b = s->bench;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    in.logits = seqtopk_tune_data_at(&b->data, s->point->tokens, turn);
    in.tokens = s->point->tokens;
    in.bias = s->form->biased ? b->data.bias : NULL;
    const seqtopk_output out = seqtopk_tune_lists_output(lists, s->form->by_expert);
    if (!team)
        return seqtopk_route(plan, &in, &out, b->scratch, b->scratch_size, error);
    const seqtopk_parallel loan = seqtopk_tune_team_loan(team);
    return seqtopk_route_parallel(plan, &in, &out, b->scratch, b->scratch_size, &loan, error);
}

static double sample(void *context, int32_t c, int32_t round, double *ns) {
    const session *s = context;
    if (stopped(s->bench))
        return -1;
    const double start = seqtopk_tune_now();
    for (int32_t i = 0; i < s->batch; i++)
        route(s, s->entry[c].plan, s->bench->team, (int64_t)round * s->batch + i, &s->bench->got, NULL);
    const double took = seqtopk_tune_now() - start;
    *ns = took / s->batch;
    return took;
}

/* ---------------------------------------------------------------- memory -- */

static float *last_of(const session *s, const seqtopk_row *row) {
    return s->bench->last + (s->form - forms) * seqtopk_registry_size + (row - seqtopk_registry);
}

static float *before_of(const session *s, const seqtopk_row *row) {
    return s->bench->before + (last_of(s, row) - s->bench->last);
}

/* Whether the two sizes before this one leave a row no hope at a size where trying it is dear: slower than `times` the
 * best at both, and not gaining. */
static bool is_lost(const session *s, const seqtopk_row *row, double times) {
    const double last = *last_of(s, row), before = *before_of(s, row);
    return last > times && before > times && last > 0.8 * before;
}

static void remember(session *s) {
    for (int op = 0; op < SEQTOPK_OPS; op++) {
        double best = s->stat[0].median > 0 ? s->stat[0].median : s->entry[0].screen;
        for (int32_t c = 1; c < s->count; c++)
            if (s->entry[c].op == (seqtopk_op)op && s->stat[c].rounds && s->stat[c].median < best)
                best = s->stat[c].median;
        for (int32_t c = 1; c < s->count; c++) {
            const entry *e = s->entry + c;
            if (e->op != (seqtopk_op)op || e->screen == 0)
                continue;
            *before_of(s, e->row) = *last_of(s, e->row);
            *last_of(s, e->row) = (float)((s->stat[c].rounds ? s->stat[c].median : e->screen) / best);
        }
    }
}

static bool same_column(const seqtopk_tune_point *a, const seqtopk_tune_point *b) {
    return a->scope == b->scope && a->dtype == b->dtype && a->experts == b->experts && a->top_k == b->top_k &&
           a->threads == b->threads && a->tokens < b->tokens;
}

/* ----------------------------------------------------------------- entry -- */

static seqtopk_status add_entry(session *s, seqtopk_op op, const seqtopk_row *row, seqtopk_error *error) {
    seqtopk_tune_config config = s->base;
    entry *e = s->entry + s->count;
    if (s->count == SEQTOPK_TUNE_CANDIDATES)
        return SEQTOPK_OK;
    *e = (entry){.op = op, .row = row};
    if (row)
        config.row[op] = row;
    const seqtopk_status status = seqtopk_tune_config_plan(&config, &s->desc, &e->plan, error);
    s->count += status == SEQTOPK_OK;
    return status;
}

/* The model's own choice, where the base has decisions of f32: a group of its own, since it is to be compared, not
 * chosen. */
static seqtopk_status add_model(session *s, int32_t *at, seqtopk_error *error) {
    *at = 0;
    if (memcmp(&s->base, &s->model, sizeof s->base) == 0)
        return SEQTOPK_OK;
    entry *e = s->entry + s->count;
    *e = (entry){.op = SEQTOPK_OPS};
    const seqtopk_status status = seqtopk_tune_config_plan(&s->model, &s->desc, &e->plan, error);
    *at = status ? 0 : s->count++;
    return status;
}

static void free_entries(session *s) {
    for (int32_t c = 0; c < s->count; c++)
        seqtopk_plan_destroy(s->entry[c].plan);
    s->count = 0;
}

/* The rows that may take the op's place, but those that are lost; of these the best stays, to be the runner-up. */
static seqtopk_status add_op(session *s, seqtopk_op op, double times, int32_t *contenders, seqtopk_error *error) {
    const seqtopk_row *rows[SEQTOPK_TUNE_CANDIDATES], *best = NULL;
    seqtopk_status status = SEQTOPK_OK;
    const int32_t count = seqtopk_tune_contenders(&s->desc, op, rows, SEQTOPK_TUNE_CANDIDATES);
    *contenders = count;
    for (int32_t i = 0; i < count; i++)
        if (rows[i] != s->base.row[op] && (!best || *last_of(s, rows[i]) < *last_of(s, best)))
            best = rows[i];
    for (int32_t i = 0; i < count && !status; i++)
        if (rows[i] != s->base.row[op] && (rows[i] == best || !is_lost(s, rows[i], times)))
            status = add_entry(s, op, rows[i], error);
    return status;
}

/* The entry that came out slowest at fewer tokens: there is no time for all. */
static void drop_worst(session *s) {
    int32_t worst = s->count - 1; /* the model's, if there is one, comes first */
    for (int32_t c = 1; c < s->count; c++)
        if (s->entry[c].row && *last_of(s, s->entry[c].row) > *last_of(s, s->entry[worst].row))
            worst = c;
    seqtopk_plan_destroy(s->entry[worst].plan);
    memmove(s->entry + worst, s->entry + worst + 1, (size_t)(s->count - worst - 1) * sizeof *s->entry);
    s->count--;
}

/* ----------------------------------------------------------------- check -- */

/* The reference's lists of turn 0. Where it takes long all processors make them, since any number of threads gives the
 * same; then *ns is 0, as it says nothing of calls like the others. */
static seqtopk_status run_reference(session *s, double *ns, seqtopk_error *error) {
    enum { SHORT = 1 << 18 }; /* logits */
    const bool is_short = s->point->tokens * s->point->experts <= SHORT;
    seqtopk_tune_config config;
    seqtopk_plan *plan;
    seqtopk_status status = seqtopk_tune_config_reference(&config, &s->desc, error);
    if (!status)
        status = seqtopk_tune_config_plan(&config, &s->desc, &plan, error);
    if (status)
        return status;
    seqtopk_tune_lists_spoil(&s->bench->expected);
    const double start = seqtopk_tune_now();
    status = route(s, plan, is_short ? s->bench->team : s->bench->all, 0, &s->bench->expected, error);
    *ns = is_short ? seqtopk_tune_now() - start : 0;
    seqtopk_plan_destroy(plan);
    return status;
}

/* A first call of an entry: its lists are the reference's, or it is out; and about how long it takes. */
static void screen(session *s, int32_t c) {
    enum { SHORT = 1000000 };
    seqtopk_tune_bench *b = s->bench;
    entry *e = s->entry + c;
    seqtopk_tune_lists_spoil(&b->got);
    const double start = seqtopk_tune_now();
    const seqtopk_status status = route(s, e->plan, b->team, 0, &b->got, NULL);
    e->screen = seqtopk_tune_now() - start;
    const char *list =
        status ? "status" : seqtopk_tune_lists_differ(&b->expected, &b->got, s->point->tokens, s->form->by_expert);
    if (list) {
        s->out[c] = true;
        e->screen = 0;
        b->wrong++;
        if (b->events->wrong)
            b->events->wrong(b->events->context, s->point, e->row ? e->row : s->base.row[SEQTOPK_OP_lse], list);
        return;
    }
    for (int i = 0; i < 3 && e->screen < (double)SHORT; i++) {
        const double again = seqtopk_tune_now();
        route(s, e->plan, b->team, i + 1, &b->got, NULL);
        const double took = seqtopk_tune_now() - again;
        e->screen = took < e->screen ? took : e->screen;
    }
}

/* All entries; those that take more than three times the fastest are not timed further. */
static void screen_all(session *s) {
    double least = INFINITY;
    for (int32_t c = 0; c < s->count && !stopped(s->bench); c++) {
        screen(s, c);
        if (s->entry[c].screen > 0 && s->entry[c].screen < least)
            least = s->entry[c].screen;
    }
    for (int32_t c = 1; c < s->count; c++)
        s->out[c] = s->out[c] || s->entry[c].screen == 0 || s->entry[c].screen > 3 * least;
    s->batch = seqtopk_tune_batch(least);
}

/* ---------------------------------------------------------------- decide -- */

static int32_t entries_of(const session *s, seqtopk_op op, int32_t *among) {
    int32_t count = 1;
    among[0] = 0;
    for (int32_t c = 1; c < s->count; c++)
        if (s->entry[c].op == op)
            among[count++] = c;
    return count;
}

static void find(const session *s, seqtopk_op op, int32_t contenders, seqtopk_tune_found *f) {
    int32_t among[SEQTOPK_TUNE_CANDIDATES];
    const int32_t count = entries_of(s, op, among);
    const seqtopk_tune_verdict v = seqtopk_tune_decide(s->stat, among, count);
    const seqtopk_tune_stat *won = s->stat + v.chosen;
    *f = (seqtopk_tune_found){
        .op = op,
        .score = s->form->score,
        .row = v.chosen ? s->entry[v.chosen].row : s->base.row[op],
        .incumbent = s->base.row[op],
        .ns = won->median,
        .spread = won->spread,
        .gap = v.gap,
        .noisy = v.noisy,
        .contenders = contenders,
    };
    if (v.runner_up >= 0) {
        const seqtopk_tune_stat *second = s->stat + v.runner_up;
        f->runner_up = v.runner_up ? s->entry[v.runner_up].row : s->base.row[op];
        f->runner_up_ns = second->median;
        f->clear = v.gap > SEQTOPK_TUNE_CLEAR && v.gap > 2.5 * (won->error + second->error);
        return;
    }
    /* None came as far as a race: the first calls tell. */
    for (int32_t i = 1; i < count; i++) {
        const entry *e = s->entry + among[i];
        if (e->screen > 0 && (!f->runner_up || e->screen < f->runner_up_ns)) {
            f->runner_up = e->row;
            f->runner_up_ns = e->screen;
        }
    }
    if (f->runner_up) {
        f->gap = f->runner_up_ns / s->entry[0].screen - 1;
        f->clear = true;
    }
}

/* The winners of several ops together: better than the base, or else the best single change stays alone. */
static seqtopk_status confirm(session *s, double budget, seqtopk_tune_found *found, int32_t count, double *ns,
                              double *base_ns, double *spread, seqtopk_error *error) {
    int32_t changes = 0, best = -1;
    seqtopk_tune_config together = s->base;
    for (int32_t i = 0; i < count; i++)
        if (found[i].row != found[i].incumbent) {
            together.row[found[i].op] = found[i].row;
            changes++;
            if (best < 0 || found[i].ns < found[best].ns)
                best = i;
        }
    *base_ns = s->stat[0].median;
    *ns = best < 0 ? *base_ns : found[best].ns;
    *spread = best < 0 ? s->stat[0].spread : found[best].spread;
    if (changes < 2 || s->bench->stopped)
        return SEQTOPK_OK;
    seqtopk_plan *plan;
    seqtopk_status status = seqtopk_tune_config_plan(&together, &s->desc, &plan, error);
    if (status)
        return status;
    const double single = *ns / *base_ns;
    for (int32_t c = 1; c < s->count; c++)
        seqtopk_plan_destroy(s->entry[c].plan);
    s->entry[1] = (entry){.plan = plan};
    s->count = 2;
    const seqtopk_tune_race race = {.contenders = 2, .least = 3, .budget = budget, .sample = sample, .context = s};
    seqtopk_tune_race_run(&race, &s->bench->rounds, s->stat);
    if (s->stat[1].rounds && s->stat[1].ratio <= single * (1 + SEQTOPK_TUNE_CLEAR)) {
        *base_ns = s->stat[0].median;
        *ns = s->stat[1].median;
        *spread = s->stat[1].spread;
        return SEQTOPK_OK;
    }
    for (int32_t i = 0; i < count; i++)
        if (i != best && found[i].row != found[i].incumbent) {
            found[i].runner_up = found[i].row;
            found[i].row = found[i].incumbent;
            found[i].gap = 0;
            found[i].clear = false;
        }
    return SEQTOPK_OK;
}

/* ------------------------------------------------------------------ form -- */

/* What a point has so far. */
typedef struct state {
    const seqtopk_row *chosen[SEQTOPK_OPS]; /* for softmax */
    const seqtopk_row *score;               /* the incumbent, by which the floor is told */
    bool done[SEQTOPK_OPS];
    seqtopk_tune_result *result;
    const seqtopk_tune_result *shared; /* the same point with f32, or NULL */
} state;

/* About so many calls of every contender: one to check it, and three rounds. */
enum { CALLS = 4 };

/* Times one change at a time of every op that is reached and not decided, then all winners together. */
static seqtopk_status run_pass(session *s, state *st, double budget, bool *changed, seqtopk_error *error) {
    int32_t contenders[SEQTOPK_OPS] = {0};
    bool reached[SEQTOPK_OPS];
    const bool first = s->form == forms && st->result->ns == 0;
    const double started = seqtopk_tune_now();
    *changed = false;
    seqtopk_status status = add_entry(s, (seqtopk_op)0, NULL, error);
    if (status)
        return status;
    int32_t model = 0;
    if (first)
        status = add_model(s, &model, error);
    status = status ? status : route(s, s->entry[0].plan, NULL, 0, &s->bench->got, error);
    if (status)
        return status;
    seqtopk_tune_reached(&s->desc, s->bench->got.way, s->form->by_expert, s->point->threads, reached);
    /* What a look at every row would cost, by a guess of half a nanosecond a logit. */
    const double guess = 1000 + 0.5 * (double)s->point->tokens * s->point->experts / s->point->threads;
    const double times = guess * 60 < budget ? INFINITY : guess * 20 < budget ? 2 : 1.3;
    for (int op = 0; op < SEQTOPK_OPS && !status; op++)
        if (reached[op] && !st->done[op])
            status = add_op(s, (seqtopk_op)op, times, contenders + op, error);
    if (status || (s->count == 1 && !first))
        return status;

    /* The other forms have no more than their share: where they take long, what fewer tokens decided holds for more. */
    route(s, s->entry[0].plan, s->bench->team, 0, &s->bench->got, NULL); /* pages and caches */
    const double before = seqtopk_tune_now();
    route(s, s->entry[0].plan, s->bench->team, 0, &s->bench->got, NULL);
    const double call = seqtopk_tune_now() - before, reference = 25.0 * (double)s->point->tokens * s->point->experts;
    const double room = 2 * budget - reference / s->bench->options->topology->places;
    if (s->form != forms && CALLS * (s->count + 1) * call > room && call > SEQTOPK_TUNE_SAMPLE) {
        s->bench->too_long[s->form - forms] = true;
        return SEQTOPK_OK;
    }
    while (s->count > 1 + (model > 0) && CALLS * (s->count + 1) * call > room && call > SEQTOPK_TUNE_SAMPLE)
        drop_worst(s);
    double reference_ns;
    status = run_reference(s, &reference_ns, error);
    if (status)
        return status;
    screen_all(s);
    if (s->bench->stopped)
        return SEQTOPK_OK;
    const double left = budget - (seqtopk_tune_now() - started);
    int32_t group[SEQTOPK_TUNE_CANDIDATES];
    for (int32_t c = 0; c < s->count; c++)
        group[c] = (int32_t)s->entry[c].op;
    const seqtopk_tune_race race = {
        .contenders = s->count,
        .group = group,
        .out = s->out,
        .least = 3,
        .budget = 0.8 * left,
        .sample = sample,
        .context = s,
    };
    seqtopk_tune_race_run(&race, &s->bench->rounds, s->stat);
    if (s->bench->stopped)
        return SEQTOPK_OK;
    remember(s);

    seqtopk_tune_result *r = st->result;
    seqtopk_tune_found *found = r->found + r->count;
    int32_t count = 0;
    for (int op = 0; op < SEQTOPK_OPS; op++)
        if (contenders[op] > 1 && entries_of(s, (seqtopk_op)op, (int32_t[SEQTOPK_TUNE_CANDIDATES]){0}) > 1) {
            find(s, (seqtopk_op)op, contenders[op], found + count++);
            st->done[op] = true;
        }
    const double model_ratio = model && s->stat[model].rounds ? s->stat[model].ratio : 1;
    double ns, base_ns, spread;
    status = confirm(s, 0.2 * left, found, count, &ns, &base_ns, &spread, error);
    r->count += count;
    for (int32_t i = 0; i < count; i++) {
        *changed |= found[i].row != found[i].incumbent;
        s->base.row[found[i].op] = found[i].row;
    }
    if (s->form == forms) {
        r->ns = ns;
        r->spread = spread;
        if (first) {
            r->incumbent_ns = base_ns * model_ratio;
            r->reference_ns = reference_ns;
        }
    }
    return status;
}

static seqtopk_status run_form(seqtopk_tune_bench *b, const seqtopk_tune_point *point, const form *f, state *st,
                               double budget, seqtopk_error *error) {
    session *s = calloc(1, sizeof *s);
    if (!s)
        return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for the tuner's notes (%zu bytes)", sizeof *s);
    *s = (session){.bench = b, .point = point, .form = f, .desc = desc_of(point, f)};
    seqtopk_desc incumbent = s->desc;
    incumbent.tuning = b->options->tuning ? b->options->tuning : seqtopk_tuning_none();
    seqtopk_status status = seqtopk_tune_config_default(&s->base, &incumbent, point->tokens, error);
    if (f == forms)
        st->score = s->base.row[SEQTOPK_OP_lse];
    s->model = s->base;
    for (int32_t i = 0; st->shared && i < st->shared->count; i++) {
        const seqtopk_tune_found *found = st->shared->found + i;
        if (seqtopk_op_reads_logits(found->op) || found->noisy)
            continue;
        st->done[found->op] = true;
        if (found->score == f->score)
            s->base.row[found->op] = st->chosen[found->op] = found->row;
    }
    /* What an earlier form decided for the same score holds here too, as far as plans of this one reach the op. */
    for (int op = 0; op < SEQTOPK_OPS; op++)
        if (st->done[op] && f->score == forms[0].score && st->chosen[op] && s->base.row[op])
            s->base.row[op] = st->chosen[op];
    bool changed = true;
    /* Other winners may reach other ops: once more for those. */
    for (int pass = 0; pass < 2 && changed && !status && !b->stopped; pass++) {
        status = run_pass(s, st, pass ? budget / 3 : budget, &changed, error);
        free_entries(s);
        memset(s->out, 0, sizeof s->out);
        memset(s->stat, 0, sizeof s->stat);
    }
    for (int op = 0; op < SEQTOPK_OPS; op++)
        if (f->score == forms[0].score && s->base.row[op])
            st->chosen[op] = s->base.row[op];
    free(s);
    return status;
}

/* ----------------------------------------------------------------- floor -- */

/* The score kernel alone, over the same inputs: no route can take less that ranks by softmax. */
static double floor_of(seqtopk_tune_bench *b, const seqtopk_tune_point *p, const seqtopk_row *row) {
    enum { SAMPLES = 7 };
    double ns[SAMPLES], took = 0;
    int32_t n = 0, batch = 1;
    seqtopk_rows rows = {
        .stride = (int64_t)p->experts * (p->dtype == SEQTOPK_DTYPE_F32 ? 4 : 2),
        .shift = b->shift,
        .lse = b->lse,
        .experts = p->experts,
        .ahead = SEQTOPK_AHEAD,
        .score = SEQTOPK_SCORE_SOFTMAX,
        .key = SEQTOPK_KEY_LOGPROB,
    };
    seqtopk_lse_fn *const score = (seqtopk_lse_fn *)row->function;
    /* The first sample warms up, and tells how many calls one needs. */
    for (int i = -1; i < SAMPLES && (i < 3 || took < 50e6) && !stopped(b); i++) {
        const double start = seqtopk_tune_now();
        for (int32_t c = 0; c < batch; c++) {
            rows.logits = seqtopk_tune_data_at(&b->data, p->tokens, (int64_t)(i + 1) * batch + c);
            score(&rows, 0, p->tokens);
        }
        const double one = (seqtopk_tune_now() - start) / batch;
        took += one * batch;
        if (i < 0)
            batch = seqtopk_tune_batch(one);
        else
            ns[n++] = one;
    }
    return seqtopk_tune_median(ns, n);
}

/* ----------------------------------------------------------------- point -- */

bool seqtopk_tune_bench_new(seqtopk_tune_bench *b, const seqtopk_tune_options *options,
                            const seqtopk_tune_events *events, int32_t threads) {
    *b = (seqtopk_tune_bench){.options = options, .events = events};
    const size_t rows = (size_t)SEQTOPK_TUNE_FORMS * (size_t)seqtopk_registry_size;
    const int32_t all = options->topology->places < 64 ? options->topology->places : 64;
    b->last = calloc(rows, sizeof *b->last);
    b->before = calloc(rows, sizeof *b->before);
    bool ok = b->last && b->before;
    if (ok && threads > 1)
        ok = (b->team = seqtopk_tune_team_new(threads, options->topology)) != NULL;
    if (ok && all > 1)
        b->all = seqtopk_tune_team_new(all, options->topology); /* without, the reference takes longer */
    return ok;
}

static void free_rooms(seqtopk_tune_bench *b) {
    seqtopk_tune_lists_free(&b->expected);
    seqtopk_tune_lists_free(&b->got);
    free(b->scratch);
    free(b->shift);
    free(b->lse);
    b->scratch = NULL;
    b->shift = b->lse = NULL;
    b->rooms = 0;
}

void seqtopk_tune_bench_free(seqtopk_tune_bench *b) {
    free_rooms(b);
    seqtopk_tune_data_free(&b->data);
    seqtopk_tune_team_free(b->team);
    seqtopk_tune_team_free(b->all);
    free(b->last);
    free(b->before);
    free(b->kept);
}

/* Scratch for any plan of this shape: bounds and threads need the most. */
static size_t scratch_of(const seqtopk_tune_bench *b, const seqtopk_tune_point *p) {
    size_t most = 0;
    for (int f = 0; f < SEQTOPK_TUNE_FORMS; f++) {
        seqtopk_desc desc = desc_of(p, forms + f);
        seqtopk_plan *plan;
        desc.tuning = seqtopk_tuning_none();
        if ((forms[f].bounded && p->scope == SEQTOPK_SCOPE_TOKEN) || seqtopk_plan_create(&plan, &desc, NULL))
            continue;
        const int32_t all = b->options->topology->places < 64 ? b->options->topology->places : 64;
        const size_t size = seqtopk_scratch_size(plan, p->tokens, 1, all > p->threads ? all : p->threads);
        most = size > most ? size : most;
        seqtopk_plan_destroy(plan);
    }
    return most;
}

static bool make_rooms(seqtopk_tune_bench *b, const seqtopk_tune_point *p) {
    if (!same_column(&b->column, p) || b->rooms < p->tokens) {
        free_rooms(b);
        b->scratch_size = scratch_of(b, p);
        b->scratch = malloc(b->scratch_size + 1);
        b->shift = malloc((size_t)p->tokens * sizeof *b->shift);
        b->lse = malloc((size_t)p->tokens * sizeof *b->lse);
        b->rooms = p->tokens;
        if (!b->scratch || !b->shift || !b->lse ||
            !seqtopk_tune_lists_new(&b->expected, p->tokens, p->experts, p->top_k) ||
            !seqtopk_tune_lists_new(&b->got, p->tokens, p->experts, p->top_k))
            return false;
    }
    return true;
}

/* Without memory a point is not kept, and the other types decide for themselves. */
static void keep(seqtopk_tune_bench *b, const seqtopk_tune_result *result) {
    if (b->kept_count && b->kept[0].point.experts != result->point.experts)
        b->kept_count = 0;
    if (result->point.dtype != SEQTOPK_DTYPE_F32 || b->options->outputs_only)
        return;
    if (b->kept_count == b->kept_room) {
        const size_t room = b->kept_room ? 2 * b->kept_room : 64;
        seqtopk_tune_result *more = realloc(b->kept, room * sizeof *more);
        if (!more)
            return;
        b->kept = more;
        b->kept_room = room;
    }
    b->kept[b->kept_count++] = *result;
}

static const seqtopk_tune_result *kept(const seqtopk_tune_bench *b, const seqtopk_tune_point *p) {
    for (size_t i = 0; i < b->kept_count && p->dtype != SEQTOPK_DTYPE_F32; i++) {
        const seqtopk_tune_point *k = &b->kept[i].point;
        if (k->experts == p->experts && k->top_k == p->top_k && k->scope == p->scope && k->tokens == p->tokens)
            return b->kept + i;
    }
    return NULL;
}

seqtopk_status seqtopk_tune_point_run(seqtopk_tune_bench *b, const seqtopk_tune_point *p, double budget,
                                      seqtopk_tune_result *result, seqtopk_error *error) {
    state st = {.result = result, .shared = kept(b, p)};
    seqtopk_status status = SEQTOPK_OK;
    *result = (seqtopk_tune_result){.point = *p};
    const int64_t tokens = p->tokens * seqtopk_tune_turns(p->tokens, p->experts);
    if (!make_rooms(b, p) || !seqtopk_tune_data_need(&b->data, tokens, p->experts, p->dtype))
        return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for %lld tokens of %d experts: tune fewer tokens",
                            (long long)p->tokens, (int)p->experts);
    if (!same_column(&b->column, p)) {
        const size_t rows = (size_t)SEQTOPK_TUNE_FORMS * (size_t)seqtopk_registry_size;
        memset(b->last, 0, rows * sizeof *b->last);
        memset(b->before, 0, rows * sizeof *b->before);
        memset(b->too_long, 0, sizeof b->too_long);
    }
    b->column = *p;
    for (int f = 0; f < SEQTOPK_TUNE_FORMS && !status && !b->stopped; f++) {
        if ((p->scope == SEQTOPK_SCOPE_TOKEN && !forms[f].in_token_scope) || (f && b->options->outputs_only) ||
            b->too_long[f])
            continue;
        status = run_form(b, p, forms + f, &st, budget * forms[f].share, error);
        if (f == 0 && !status && !b->stopped)
            result->floor_ns = floor_of(b, p, st.score);
    }
    if (!status && !b->stopped)
        keep(b, result);
    return status;
}
