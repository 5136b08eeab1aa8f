/* SPDX-License-Identifier: MIT */
/* The straight line from logits to lists, in steps that a team of threads can share. */
#include "src/route/call.h"
#include "src/status.h"

#include <math.h>
#include <string.h>

/* score: every row's log-sum-exp, and a look at every logit; where the call is swept, its candidates too. */
static void step_score(seqtopk_call *call) {
    int64_t first, last;
    seqtopk_call_share(call, call->part, &first, &last);
    seqtopk_slot *slot = call->slots + call->part;
    slot->pairs = slot->end = slot->picked = 0;
    slot->bad_token = seqtopk_picks(call)    ? seqtopk_pick_share(call)
                      : seqtopk_sweeps(call) ? seqtopk_sweep_share(call)
                                             : call->kernels->lse(&call->rows, first, last);
}

/* select: where each sequence is cut. A token's experts compete with nobody, so that in token scope nothing is cut. */
static void step_cut(seqtopk_call *call) {
    if (call->plan->desc.scope == SEQTOPK_SCOPE_TOKEN) {
        if (call->part == 0)
            call->sequence[0] = (seqtopk_sequence){{INFINITY, 0, -1}, 0, 0};
        return;
    }
    for (int64_t s = call->part; s < call->sequences; s += call->parts) {
        seqtopk_sequence *sequence = call->sequence + s;
        int64_t first, last;
        seqtopk_call_sequence(call, s, &first, &last);
        sequence->swept = seqtopk_sweeps(call) && seqtopk_find_swept_cut(call, s, sequence);
        if (!sequence->swept)
            sequence->cut = seqtopk_find_cut(call, first, last);
    }
}

/* Lists or counts, stage by stage, what of tokens [first, last) of a sequence is selected. */
static int64_t list_staged(seqtopk_call *call, int64_t s, int64_t first, int64_t last, int64_t at, int list) {
    const int64_t block = seqtopk_call_block(call);
    for (int64_t t = first, next; t < last; t = next) {
        next = last - t < block ? last : t + block;
        seqtopk_candidate_keys(call, t, next, call->work.keys);
        for (int64_t row = t; row < next; row++) {
            if (list)
                call->token_offsets[row] = (int32_t)at;
            at += call->kernels->list_keys(call->work.keys + (row - t) * call->rows.experts, call->rows.experts, row,
                                      &call->sequence[s].cut, list ? call->expert_ids + at : NULL);
        }
    }
    return at;
}

/* Does something with the tokens [first, last) that this part has of sequence s, and moves along the list. */
typedef int64_t run_fn(seqtopk_call *call, int64_t s, int64_t first, int64_t last, int64_t at, int list);

/* A part writes the offsets of its own tokens and no others, so that no two write one place. */
static int64_t for_own_runs(seqtopk_call *call, run_fn *run, int64_t at, int list) {
    int64_t first, last;
    seqtopk_call_share(call, call->part, &first, &last);
    for (int64_t s = 0; s < call->sequences; s++) {
        int64_t begin, end;
        seqtopk_call_sequence(call, s, &begin, &end);
        begin = begin > first ? begin : first;
        end = end < last ? end : last;
        if (begin < end)
            at = run(call, s, begin, end, at, list);
    }
    return at;
}

static int64_t list_run(seqtopk_call *call, int64_t s, int64_t first, int64_t last, int64_t at, int list) {
    return call->sequence[s].swept ? seqtopk_list_swept(call, s, first, last, at, list)
                                   : list_staged(call, s, first, last, at, list);
}

static int64_t weigh_run(seqtopk_call *call, int64_t s, int64_t first, int64_t last, int64_t at, int list) {
    (void)list;
    const int has_scores = seqtopk_picks(call) ? seqtopk_all_picked(call) && seqtopk_picks_logits(call)
                                               : call->sequence[s].swept && call->sequence[s].has_keys;
    seqtopk_weigh_tokens(call, first, last, has_scores);
    return at;
}

/* Where each part's pairs begin must be known before any part can write: a team counts first. */
static void step_count(seqtopk_call *call) {
    if (call->parts > 1 && !seqtopk_all_picked(call))
        call->slots[call->part].pairs = for_own_runs(call, list_run, 0, 0);
}

static void step_emit(seqtopk_call *call) {
    int64_t at = 0;
    if (seqtopk_all_picked(call)) {
        at = seqtopk_join_picked(call);
    } else {
        for (int32_t p = 0; p < call->part; p++)
            at += call->slots[p].pairs;
        call->slots[call->part].end = at + call->slots[call->part].pairs;
        at = for_own_runs(call, list_run, at, 1);
    }
    if (call->part == call->parts - 1) {
        call->token_offsets[call->in.tokens] = (int32_t)at;
        if (call->out.selected)
            *call->out.selected = at;
    }
}

static int wants_experts(const seqtopk_call *call) {
    return call->out.expert_offsets || call->out.expert_tokens || call->out.expert_slots;
}

/* Weights and rows of this part's tokens, and how many pairs each expert has of them. */
static void step_finish(seqtopk_call *call) {
    int64_t first, last;
    seqtopk_call_share(call, call->part, &first, &last);
    for_own_runs(call, weigh_run, 0, 0);
    seqtopk_finish_tokens(call, first, last);
    if (!wants_experts(call))
        return;
    int32_t *histogram = call->histograms + (int64_t)call->part * call->rows.experts;
    memset(histogram, 0, (size_t)call->rows.experts * sizeof *histogram);
    const int32_t from = call->token_offsets[first];
    call->kernels->histogram(call->expert_ids + from, call->token_offsets[last] - from, histogram);
}

/* Where this part's first pair of each expert goes, and where each expert's pairs begin. An expert's pairs stand in the
 * order of the parts, hence of the tokens. */
static void find_places(const seqtopk_call *call, int32_t *restrict cursors, int32_t *restrict offsets) {
    const int32_t experts = call->rows.experts;
    int32_t at = 0;
    memset(cursors, 0, (size_t)experts * sizeof *cursors);
    memcpy(offsets, call->histograms, (size_t)experts * sizeof *offsets);
    for (int32_t p = 1; p < call->parts; p++) {
        const int32_t *histogram = call->histograms + (int64_t)p * experts;
        if (p == call->part)
            memcpy(cursors, offsets, (size_t)experts * sizeof *cursors);
        for (int32_t e = 0; e < experts; e++)
            offsets[e] += histogram[e];
    }
    for (int32_t e = 0; e < experts; e++) {
        const int32_t pairs = offsets[e];
        offsets[e] = at;
        cursors[e] += at;
        at += pairs;
    }
}

/* permute: the expert-major lists. */
static void step_permute(seqtopk_call *call) {
    const int32_t experts = call->rows.experts;
    int32_t *cursors = call->work.ids, *work = call->work.group_ids;
    const int first_part = call->part == 0 && call->out.expert_offsets;
    int64_t first, last;
    if (!wants_experts(call))
        return;
    find_places(call, cursors, first_part ? call->out.expert_offsets : work);
    if (first_part)
        call->out.expert_offsets[experts] = call->token_offsets[call->in.tokens];
    seqtopk_call_share(call, call->part, &first, &last);
    if (call->out.expert_tokens || call->out.expert_slots)
        call->kernels->scatter(call->token_offsets, call->expert_ids, first, last, experts, cursors, work,
                               call->out.expert_tokens, call->out.expert_slots);
}

typedef void step_fn(seqtopk_call *call);
static step_fn *const steps[] = {step_score, step_cut, step_count, step_emit, step_finish, step_permute};
enum { STEPS = sizeof steps / sizeof *steps };

int32_t seqtopk_route_steps(const seqtopk_plan *plan) { return plan ? STEPS : 0; }

/* What the score step of all parts found, once it has ended. */
static seqtopk_status check_logits(const seqtopk_call *call, seqtopk_error *error) {
    for (int32_t p = 0; p < call->parts; p++) {
        const int64_t token = call->slots[p].bad_token;
        if (token >= 0)
            return seqtopk_fail(error, SEQTOPK_E_NONFINITE, token,
                                "token %lld has a NaN or +inf among its logits; mask the token or mend the router",
                                (long long)token);
    }
    return SEQTOPK_OK;
}

seqtopk_status seqtopk_route_part(const seqtopk_plan *plan, const seqtopk_input *input, const seqtopk_output *output,
                                  void *scratch, size_t scratch_size, int32_t step, int32_t part, int32_t parts,
                                  seqtopk_error *error) {
    seqtopk_call call;
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    if (step < 0 || step >= STEPS)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "step is %d; it must be 0 to %d", (int)step, STEPS - 1);
    seqtopk_status status = seqtopk_call_open(&call, plan, input, output, scratch, scratch_size, part, parts, error);
    if (!status && step > 0)
        status = check_logits(&call, error);
    if (!status)
        steps[step](&call);
    return status;
}

seqtopk_status seqtopk_route(const seqtopk_plan *plan, const seqtopk_input *input, const seqtopk_output *output,
                             void *scratch, size_t scratch_size, seqtopk_error *error) {
    seqtopk_call call;
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    seqtopk_status status = seqtopk_call_open(&call, plan, input, output, scratch, scratch_size, 0, 1, error);
    if (status)
        return status;
    step_score(&call);
    status = check_logits(&call, error);
    for (int step = 1; step < STEPS && !status; step++)
        steps[step](&call);
    return status;
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

/* Below this many logits a thread's waking costs more than its work. */
enum { LOGITS_PER_THREAD = 32768 };

seqtopk_status seqtopk_route_parallel(const seqtopk_plan *plan, const seqtopk_input *input,
                                      const seqtopk_output *output, void *scratch, size_t scratch_size,
                                      const seqtopk_parallel *parallel, seqtopk_error *error) {
    seqtopk_parallel loan;
    seqtopk_call call;
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    seqtopk_status status = seqtopk_take_struct(&loan, sizeof loan, parallel, "parallel", error);
    if (status)
        return status;
    if (!loan.parallel_for)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "parallel.parallel_for is NULL");
    if (loan.threads < 1 || loan.threads > SEQTOPK_MAX_PARTS)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "parallel.threads is %d; it must be 1 to %d", (int)loan.threads,
                            SEQTOPK_MAX_PARTS);
    status = seqtopk_call_open(&call, plan, input, output, scratch, scratch_size, 0, loan.threads, error);
    if (status)
        return status;
    const int64_t worthwhile = 1 + call.in.tokens * plan->desc.experts / LOGITS_PER_THREAD;
    const int32_t parts = worthwhile < loan.threads ? (int32_t)worthwhile : loan.threads;
    if (parts == 1)
        return seqtopk_route(plan, input, output, scratch, scratch_size, error);
    team t = {plan, input, output, scratch, scratch_size, 0, parts};
    status = seqtopk_call_open(&call, plan, input, output, scratch, scratch_size, 0, parts, error);
    for (; t.step < STEPS && !status; t.step++) {
        loan.parallel_for(loan.context, parts, team_task, &t);
        status = check_logits(&call, error);
    }
    return status;
}
