/* SPDX-License-Identifier: MIT */
/*
 * From logits to lists, in steps that a team of threads can share: collect, cut, count, list, weigh, permute. Each
 * run of each sequence goes the way (src/plan/ways.def) that the plan chose for it; what a way does in a step is in
 * way.h.
 */
#include "src/abi.h"
#include "src/route/lend.h"
#include "src/route/way.h"
#include "src/status.h"

#include <string.h>

static const struct {
    seqtopk_collect_step *collect;
    seqtopk_cut_step *cut;
    seqtopk_list_step *list;
} ways[SEQTOPK_WAYS] = {
#define SEQTOPK_WAY(name, steps, instead, kernels, about)                                                              \
    {seqtopk_##name##_collect, seqtopk_##steps##_cut, seqtopk_##steps##_list},
#include "src/plan/ways.def"
#undef SEQTOPK_WAY
};

/* ---------------------------------------------------------------- collect -- */

/*
 * A run of tokens that do not compete, whose rows have to be prepared: block by block, each as a call of its own. Returns and
 * leaves in *run what the way would of the whole.
 */
static int64_t collect_blocks(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, seqtopk_run *run) {
    const int64_t begin = first * call->plan->pairs;
    int64_t at = begin;
    for (int64_t t = first, next; t < last; t = next) {
        next = seqtopk_block_end(t, last, seqtopk_prepared_at_once(call));
        seqtopk_call some = seqtopk_prepare(call, t, next);
        some.token_offsets += t;
        some.expert_ids += at;
        some.list_weights += at;
        const int64_t bad = ways[run->way].collect(&some, s, 0, next - t, run);
        if (bad >= 0)
            return t + bad;
        if (run->size < 0)
            return -1;
        for (int64_t row = t; row < next; row++)
            call->token_offsets[row] += (int32_t)at;
        at += run->size;
    }
    run->size = at - begin;
    return -1;
}

/* Collects one run by the way that the plan chose, or by the one that takes over where that cannot serve the data. */
static int64_t collect_run(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, int way) {
    seqtopk_run *run = call->runs + s + call->part;
    run->way = (int16_t)way;
    run->fallback = SEQTOPK_FALLBACK_NONE;
    run->is_cut = 0;
    for (;;) {
        const int by_blocks = call->is_raw && ways[run->way].cut == seqtopk_topk_cut;
        const int64_t bad =
            by_blocks ? collect_blocks(call, s, first, last, run) : ways[run->way].collect(call, s, first, last, run);
        if (bad < 0 && run->size > 0 && run->way != SEQTOPK_WAY_given && seqtopk_prunes(&call->plan->desc))
            seqtopk_prune(call, first, last, run);
        if (bad >= 0 || run->size >= 0)
            return bad;
        run->way = (int16_t)seqtopk_ways[run->way].instead;
    }
}

/* The lower token, -1 being none. */
static int64_t first_of(int64_t a, int64_t b) { return a < 0 || (b >= 0 && b < a) ? b : a; }

/* The first bad row of [first, last), or -1. */
static int64_t next_bad(const seqtopk_call *call, int64_t first, int64_t last) {
    const int64_t bad = first < last ? seqtopk_rows_lse(call, first, last) : -1;
    const int64_t other = first < last ? seqtopk_bad_shared(call, first, bad < 0 ? last : bad) : -1;
    return other < 0 ? bad : other;
}

/*
 * A run that turned out to have a bad row, the first of them `bad`: all of them are dropped, and what is left is collected anew.
 * A way that samples the whole sequence would see marks that other parts are just making: there the staged way serves.
 */
static int64_t collect_without_bad(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, int64_t bad,
                                   int way) {
    seqtopk_report *report = call->reports + call->part;
    seqtopk_call rest = *call;
    seqtopk_call_mask_dropped(&rest);
    for (; bad >= 0; bad = next_bad(&rest, bad + 1, last)) {
        report->first_dropped = first_of(report->first_dropped, seqtopk_place(call, bad));
        call->mask[bad] = 0;
        report->dropped++;
    }
    const int by_sequence = call->plan->desc.scope == SEQTOPK_SCOPE_SEQUENCE && way != SEQTOPK_WAY_given;
    return collect_run(&rest, s, first, last, by_sequence && call->parts > 1 ? SEQTOPK_WAY_staged : way);
}

/* Of this part's bad rows, the first of which is `bad`, the first in the caller's order. */
static int64_t first_bad_token(const seqtopk_call *call, int64_t bad) {
    int64_t first, last, token = -1;
    seqtopk_call_share(call, call->part, &first, &last);
    for (; bad >= 0; bad = next_bad(call, bad + 1, last))
        token = first_of(token, seqtopk_place(call, bad));
    return token;
}

/* The mask that rows are dropped from, for this part's tokens. */
static void begin_mask(const seqtopk_call *call) {
    int64_t first, last;
    seqtopk_call_share(call, call->part, &first, &last);
    for (int64_t t = first; t < last; t++)
        call->mask[t] = !call->callers_mask || call->callers_mask[t];
}

void seqtopk_step_collect(const seqtopk_call *call) {
    seqtopk_report *report = call->reports + call->part;
    report->bad_token = report->bad_given = -1;
    report->pairs = report->dropped = 0;
    report->first_dropped = -1;
    if (call->mask)
        begin_mask(call);
    for (int64_t s = 0; s < call->sequences && report->bad_token < 0; s++) {
        int64_t begin, end, first, last;
        if (!seqtopk_call_run(call, s, call->part, &first, &last))
            continue;
        seqtopk_call_sequence(call, s, &begin, &end);
        const seqtopk_length length = seqtopk_call_length(call, begin, end, first, last);
        int way = call->in.given_ids ? SEQTOPK_WAY_given : call->kernels->way[call->is_biased][length];
        if (call->places && way == SEQTOPK_WAY_short_logits) /* it reads the caller's rows */
            way = SEQTOPK_WAY_short_keys;
        report->bad_token = collect_run(call, s, first, last, way);
        const int64_t bad = report->bad_token;
        const int64_t other = seqtopk_bad_shared(call, first, bad < 0 ? last : bad);
        report->bad_token = other < 0 ? bad : other;
        if (report->bad_token >= 0 && call->mask)
            report->bad_token = collect_without_bad(call, s, first, last, report->bad_token, way);
    }
    if (call->places && report->bad_token >= 0)
        report->bad_token = first_bad_token(call, report->bad_token);
}

/* -------------------------------------------------------------------- cut -- */

void seqtopk_agree_on_way(const seqtopk_call *call, int64_t s, seqtopk_sequence *sequence) {
    sequence->way = -1;
    sequence->fallback = SEQTOPK_FALLBACK_NONE;
    for (int32_t part = 0; part < call->parts; part++) {
        int64_t first, last;
        if (!seqtopk_call_run(call, s, part, &first, &last))
            continue;
        const seqtopk_run *run = call->runs + s + part;
        sequence->fallback = run->fallback ? run->fallback : sequence->fallback;
        sequence->way = sequence->way < 0 || sequence->way == run->way ? run->way : SEQTOPK_WAY_staged;
    }
    if (sequence->way < 0) /* no tokens */
        sequence->way = SEQTOPK_WAY_staged;
}

void seqtopk_tell_way(const seqtopk_call *call, int64_t s) {
    if (call->out.ways)
        call->out.ways[s] = call->sequence[s].way;
    if (call->out.fallbacks)
        call->out.fallbacks[s] = call->sequence[s].fallback;
}

/* Finds where each sequence is cut. */
static void step_cut(const seqtopk_call *call) {
    for (int64_t s = call->part; s < call->sequences; s += call->parts) {
        seqtopk_sequence *sequence = call->sequence + s;
        seqtopk_agree_on_way(call, s, sequence);
        while (!ways[sequence->way].cut(call, s, sequence))
            sequence->way = SEQTOPK_WAY_staged;
        seqtopk_tell_way(call, s);
    }
}

/* ------------------------------------------------------------------- list -- */

/* Lists this part's tokens from pair `at` on, or counts their pairs. A part writes the offsets of its own tokens
 * only, so that no two parts write to the same place. */
static int64_t list_runs(const seqtopk_call *call, int64_t at, int list) {
    for (int64_t s = 0; s < call->sequences; s++) {
        int64_t first, last;
        if (seqtopk_call_run(call, s, call->part, &first, &last))
            at = ways[call->sequence[s].way].list(call, s, first, last, at, list);
    }
    return at;
}

/* Before any part can write, it must be known where each part's pairs begin: a team counts first. */
static void step_count(const seqtopk_call *call) {
    if (call->parts > 1)
        call->reports[call->part].pairs = list_runs(call, 0, 0);
}

static void tell_dropped(const seqtopk_call *call, int64_t *nonfinite) {
    nonfinite[0] = 0;
    nonfinite[1] = -1;
    for (int32_t p = 0; call->reports && p < call->parts; p++) { /* a token alone has none, and was not dropped */
        nonfinite[0] += call->reports[p].dropped;
        nonfinite[1] = first_of(nonfinite[1], call->reports[p].first_dropped);
    }
}

void seqtopk_tell_end(const seqtopk_call *call, int64_t pairs) {
    call->token_offsets[call->in.tokens] = (int32_t)pairs;
    if (call->out.selected)
        *call->out.selected = pairs;
    if (call->out.nonfinite)
        tell_dropped(call, call->out.nonfinite);
}

static void step_emit(const seqtopk_call *call) {
    int64_t at = 0;
    seqtopk_tell_sequence_margins(call);
    for (int32_t p = 0; p < call->part; p++)
        at += call->reports[p].pairs;
    call->reports[call->part].end = at + call->reports[call->part].pairs;
    at = list_runs(call, at, 1);
    if (call->part == call->parts - 1)
        seqtopk_tell_end(call, at);
}

/* ------------------------------------------------------ weigh and permute -- */

/* Weights of this part's tokens. */
void seqtopk_step_weigh(const seqtopk_call *call) {
    int64_t first, last;
    for (int64_t s = 0; s < call->sequences; s++)
        if (seqtopk_call_run(call, s, call->part, &first, &last))
            seqtopk_weigh_tokens(call, first, last, call->sequence[s].has_keys);
    seqtopk_call_share(call, call->part, &first, &last);
    if (call->in.expert_factors)
        seqtopk_apply_factors(call, first, last);
    if (call->out.runner_ids || call->out.margins)
        seqtopk_tell_runners(call, first, last);
}

/* Padded and dense rows of this part's tokens, and how many pairs of theirs each expert has. */
void seqtopk_step_tell(const seqtopk_call *call) {
    int64_t first, last;
    seqtopk_call_share(call, call->part, &first, &last);
    seqtopk_finish_tokens(call, first, last);
    if (call->out.pair_tokens)
        seqtopk_tell_pair_tokens(call, first, last);
    if (!seqtopk_wants_experts(call))
        return;
    int32_t *histogram = call->histograms + (int64_t)call->part * call->plan->dispatched;
    memset(histogram, 0, (size_t)call->plan->dispatched * sizeof *histogram);
    const int32_t from = call->token_offsets[first];
    call->kernels->histogram(call->expert_ids + from, call->token_offsets[last] - from, call->plan->dispatched,
                             histogram);
}

void seqtopk_step_finish(const seqtopk_call *call) {
    seqtopk_step_weigh(call);
    seqtopk_step_tell(call);
}

void seqtopk_step_permute(const seqtopk_call *call) {
    if (call->out.fill_tail && call->part == call->parts - 1)
        seqtopk_fill_tail(call);
    if (seqtopk_wants_experts(call))
        seqtopk_list_experts(call);
}

static void step_sort(const seqtopk_call *call) {
    seqtopk_call own = *call;
    if (call->part == 0)
        seqtopk_sort_tokens(&own, NULL);
}

/* After which lists may be counted. */
static void step_weigh_sorted(const seqtopk_call *call) {
    int64_t first, last;
    seqtopk_step_weigh(call);
    seqtopk_call_share(call, call->part, &first, &last);
    seqtopk_count_by_token(call, first, last);
}

static void step_settle_sorted(const seqtopk_call *call) {
    seqtopk_settle_lists(call);
    if (call->part == 0)
        seqtopk_count_by_token(call, 0, call->in.tokens);
}

static void step_tell_unsorted(const seqtopk_call *call) {
    seqtopk_call own = *call;
    seqtopk_see_unsorted(&own);
    seqtopk_step_tell(&own);
}

static void step_permute_unsorted(const seqtopk_call *call) {
    seqtopk_call own = *call;
    seqtopk_see_unsorted(&own);
    seqtopk_step_permute(&own);
}

typedef void step_fn(const seqtopk_call *call);
enum { MOST_STEPS = 11 };

/* Where lists are adjusted there is a step before they are weighed and one after; with token_seq there are some more. */
static const struct {
    int32_t count;
    step_fn *step[MOST_STEPS];
} steps[2][2] = {
    {{6, {seqtopk_step_collect, step_cut, step_count, step_emit, seqtopk_step_finish, seqtopk_step_permute}},
     {9,
      {step_sort, seqtopk_step_collect, step_cut, step_count, step_emit, step_weigh_sorted, seqtopk_unsort_lists,
       step_tell_unsorted, step_permute_unsorted}}},
    {{9,
      {seqtopk_step_collect, step_cut, step_count, step_emit, seqtopk_admit_shared, seqtopk_step_weigh,
       seqtopk_settle_lists, seqtopk_step_tell, seqtopk_step_permute}},
     {11,
      {step_sort, seqtopk_step_collect, step_cut, step_count, step_emit, seqtopk_admit_shared, seqtopk_step_weigh,
       step_settle_sorted, seqtopk_unsort_lists, step_tell_unsorted, step_permute_unsorted}}}};

int32_t seqtopk_call_steps(const seqtopk_call *call) {
    return steps[call->plan->adjusts != 0][call->in.token_seq != NULL].count;
}

void seqtopk_call_step(const seqtopk_call *call, int32_t step) {
    steps[call->plan->adjusts != 0][call->in.token_seq != NULL].step[step](call);
}

/* The same of a selection that was given, whose pairs are counted by then. */
static seqtopk_status check_given(const seqtopk_call *call, seqtopk_error *error) {
    const int64_t most = call->in.tokens * call->plan->pairs;
    int64_t pairs = 0;
    for (int32_t p = 0; p < call->parts; p++) {
        const int64_t token = call->reports[p].bad_given;
        if (token >= 0)
            return seqtopk_fail(error, SEQTOPK_E_VALUE, token,
                                "input.given_ids: token %lld has an expert twice, or one of %d or above, or more than "
                                "padded_width",
                                (long long)token, (int)call->rows.experts);
        pairs += call->reports[p].pairs;
    }
    if (pairs > most)
        return seqtopk_fail(error, SEQTOPK_E_CAPACITY, -1,
                            "input.given_ids selects %lld pairs, more than tokens * top_k (%lld): make the plan with a "
                            "larger top_k",
                            (long long)pairs, (long long)most);
    return SEQTOPK_OK;
}

/* The first bad token that any part found in the collect step, once that has ended. */
seqtopk_status seqtopk_check_logits(const seqtopk_call *call, seqtopk_error *error) {
    int64_t token = -1;
    for (int32_t p = 0; p < call->parts; p++)
        token = first_of(token, call->reports[p].bad_token);
    if (token >= 0)
        return seqtopk_fail(error, SEQTOPK_E_NONFINITE, token,
                            "token %lld has a NaN or +inf among its logits; mask the token or mend the router",
                            (long long)token);
    return call->in.given_ids ? check_given(call, error) : SEQTOPK_OK;
}

/* One thread that collected tokens which do not compete has listed them too: there is nothing to cut, count or join. */
static int are_listed(const seqtopk_call *call) {
    return call->sequences == 1 && call->in.tokens > 0 && ways[call->runs->way].cut == seqtopk_topk_cut;
}

static void end_lists(const seqtopk_call *call) {
    seqtopk_sequence *sequence = call->sequence;
    sequence->way = call->runs->way;
    sequence->fallback = call->runs->fallback;
    seqtopk_topk_cut(call, 0, sequence);
    seqtopk_tell_way(call, 0);
    seqtopk_tell_end(call, call->runs->size);
}

/* Online a token's experts depend on its past, which a plan does not have. */
static seqtopk_status open_call(seqtopk_call *call, const seqtopk_plan *plan, const seqtopk_input *input,
                                const seqtopk_output *output, void *scratch, size_t scratch_size, int32_t part,
                                int32_t parts, seqtopk_error *error) {
    if (plan && plan->desc.scope == SEQTOPK_SCOPE_ONLINE)
        return seqtopk_fail(error, SEQTOPK_E_UNSUPPORTED, -1,
                            "the plan's scope is online, where tokens compete with their past: seqtopk_cache_step "
                            "routes them");
    return seqtopk_call_open(call, plan, input, output, scratch, scratch_size, part, parts, error);
}

/* All steps of a call that was opened for one part. */
static seqtopk_status route_alone(seqtopk_call *call, seqtopk_error *error) {
    seqtopk_status status = SEQTOPK_OK;
    if (call->in.token_seq)
        status = seqtopk_sort_tokens(call, error);
    if (status)
        return status;
    seqtopk_step_collect(call);
    seqtopk_call_mask_dropped(call);
    status = seqtopk_check_logits(call, error);
    if (status)
        return status;
    if (are_listed(call)) {
        end_lists(call);
        seqtopk_tell_sequence_margins(call);
    } else {
        step_cut(call);
        step_emit(call);
    }
    if (!call->plan->adjusts && !call->places) {
        seqtopk_step_finish(call);
        seqtopk_step_permute(call);
        return SEQTOPK_OK;
    }
    seqtopk_admit_shared(call);
    seqtopk_step_weigh(call);
    step_settle_sorted(call);
    seqtopk_unsort_lists(call);
    seqtopk_see_unsorted(call);
    seqtopk_step_tell(call);
    seqtopk_step_permute(call);
    return SEQTOPK_OK;
}

seqtopk_status seqtopk_route(const seqtopk_plan *plan, const seqtopk_input *input, const seqtopk_output *output,
                             void *scratch, size_t scratch_size, seqtopk_error *error) {
    seqtopk_call call;
    int32_t weighed = 0;
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    if (plan && plan->desc.scope != SEQTOPK_SCOPE_ONLINE &&
        seqtopk_call_open_one(&call, plan, input, output, scratch, scratch_size)) {
        const int64_t experts =
            seqtopk_collect_one(&call, call.expert_ids, call.list_weights, plan->pairs, NULL, NULL, &weighed);
        if (experts >= 0) {
            seqtopk_finish_one(&call, (int32_t)experts, weighed);
            return SEQTOPK_OK;
        }
    }
    const seqtopk_status status = open_call(&call, plan, input, output, scratch, scratch_size, 0, 1, error);
    return status ? status : route_alone(&call, error);
}

/* One token is no work for two: the first part does all of it in the first step. */
static int is_for_one(int64_t tokens, int32_t parts) { return parts == 1 || tokens <= 1; }

int32_t seqtopk_route_steps(const seqtopk_plan *plan) {
    return !plan ? 0 : steps[plan->adjusts != 0][plan->desc.scope == SEQTOPK_SCOPE_SEQUENCE].count;
}

int32_t seqtopk_route_steps_for(const seqtopk_plan *plan, int64_t tokens, int32_t parts) {
    return !plan ? 0 : is_for_one(tokens, parts) ? 1 : seqtopk_route_steps(plan);
}

int32_t seqtopk_route_steps_of(const seqtopk_plan *plan, const seqtopk_input *input, int32_t parts) {
    seqtopk_input in;
    if (!plan || seqtopk_take_struct(&in, sizeof in, SEQTOPK_FIRST_input, input, "input", NULL))
        return 0;
    const int is_sorted = !in.token_seq || in.given_ids || plan->desc.scope != SEQTOPK_SCOPE_SEQUENCE;
    return is_for_one(in.tokens, parts) ? 1 : steps[plan->adjusts != 0][!is_sorted].count;
}

/* What is known of a call once so many of its steps are done. */
static seqtopk_status check_steps(const seqtopk_call *call, int32_t done, seqtopk_error *error) {
    const int32_t sorts = call->in.token_seq != NULL;
    const seqtopk_status status = sorts && done > 0 ? seqtopk_check_sorted(call, error) : SEQTOPK_OK;
    return status || done <= sorts ? status : seqtopk_check_logits(call, error);
}

/* The step of a team's part, and what those before have told. */
static seqtopk_status do_step(seqtopk_call *call, int32_t step, seqtopk_error *error) {
    const int32_t sorts = call->in.token_seq != NULL;
    const seqtopk_status status = check_steps(call, step, error);
    if (status || step >= seqtopk_call_steps(call))
        return status;
    if (sorts && step > 0)
        seqtopk_see_sorted(call);
    if (step > sorts)
        seqtopk_call_mask_dropped(call);
    seqtopk_call_step(call, step);
    return sorts && step == 0 && call->part == 0 ? seqtopk_check_sorted(call, error) : SEQTOPK_OK;
}

seqtopk_status seqtopk_route_part(const seqtopk_plan *plan, const seqtopk_input *input, const seqtopk_output *output,
                                  void *scratch, size_t scratch_size, int32_t step, int32_t part, int32_t parts,
                                  seqtopk_error *error) {
    seqtopk_call call;
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    const int32_t most = plan ? seqtopk_route_steps(plan) : MOST_STEPS;
    if (step < 0 || step >= most)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "step is %d; it must be 0 to %d", (int)step, (int)most - 1);
    seqtopk_status status = open_call(&call, plan, input, output, scratch, scratch_size, part, parts, error);
    if (status)
        return status;
    if (!is_for_one(call.in.tokens, parts))
        return do_step(&call, step, error);
    if (step == 0 && part > 0)
        return SEQTOPK_OK;
    if (parts > 1)
        status = open_call(&call, plan, input, output, scratch, scratch_size, 0, 1, error);
    return status      ? status
           : step == 0 ? route_alone(&call, error)
                       : check_steps(&call, seqtopk_call_steps(&call), error);
}

typedef struct {
    const seqtopk_plan *plan;
    const seqtopk_input *input;
    const seqtopk_output *output;
    void *scratch;
    size_t scratch_size;
    int32_t step, parts;
} team;

static void team_task(void *arg, int32_t part) {
    const team *t = arg;
    seqtopk_route_part(t->plan, t->input, t->output, t->scratch, t->scratch_size, t->step, part, t->parts, NULL);
}

seqtopk_status seqtopk_route_parallel(const seqtopk_plan *plan, const seqtopk_input *input,
                                      const seqtopk_output *output, void *scratch, size_t scratch_size,
                                      const seqtopk_parallel *parallel, seqtopk_error *error) {
    seqtopk_parallel loan;
    seqtopk_call call;
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    seqtopk_status status = seqtopk_take_loan(&loan, parallel, error);
    if (status)
        return status;
    status = open_call(&call, plan, input, output, scratch, scratch_size, 0, loan.threads, error);
    if (status)
        return status;
    const int64_t worthwhile = 1 + call.in.tokens * plan->desc.experts / call.kernels->share;
    const int32_t parts = worthwhile < loan.threads ? (int32_t)worthwhile : loan.threads;
    if (parts == 1)
        return seqtopk_route(plan, input, output, scratch, scratch_size, error);
    team t = {plan, input, output, scratch, scratch_size, 0, parts};
    status = open_call(&call, plan, input, output, scratch, scratch_size, 0, parts, error);
    for (; t.step < seqtopk_call_steps(&call) && !status; t.step++) {
        status = seqtopk_lend(&loan, parts, team_task, &t, error);
        if (!status)
            status = check_steps(&call, t.step + 1, error);
    }
    return status;
}
