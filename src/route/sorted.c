/* SPDX-License-Identifier: MIT */
/*
 * Batches whose tokens stand in any order, with the sequence of each: they are routed as if sorted by sequence, stably, so that
 * all ways and their ties are those of a batch with cu_seqlens, and the lists are put in the caller's order. Rows are not moved
 * but read by their places. One part sorts, in a step before all others; until lists are weighed they stand in scratch, and then
 * each part copies those of its share of the caller's tokens. Of a batch that is sorted already only cu_seqlens is made.
 */
#include "src/route/call.h"
#include "src/status.h"

#include <string.h>

/* The first token of no sequence, or -1. */
static int32_t find_stray(const seqtopk_call *call) {
    const int32_t *of = call->in.token_seq;
    for (int64_t t = 0; t < call->in.tokens; t++)
        if (of[t] < 0 || of[t] >= call->sequences)
            return (int32_t)t;
    return -1;
}

/* Where each sequence begins, if its tokens stand together; returns 0 if they do not stand so already. */
static int32_t count_sequences(const seqtopk_call *call, int32_t *starts) {
    const int32_t *of = call->in.token_seq;
    int32_t is_sorted = 1;
    memset(starts, 0, (size_t)(call->sequences + 1) * sizeof *starts);
    for (int64_t t = 0; t < call->in.tokens; t++) {
        is_sorted &= t == 0 || of[t - 1] <= of[t];
        starts[of[t] + 1]++;
    }
    for (int64_t s = 0; s < call->sequences; s++)
        starts[s + 1] += starts[s];
    return is_sorted;
}

static void sort(const seqtopk_call *call) {
    const int32_t *of = call->in.token_seq;
    int32_t *next = call->starts;
    for (int64_t t = 0; t < call->in.tokens; t++) {
        const int32_t row = next[of[t]]++;
        call->order[row] = (int32_t)t;
        call->inverse[t] = row;
    }
    for (int64_t s = call->sequences; s > 0; s--) /* each has moved on to where the next begins */
        next[s] = next[s - 1];
    next[0] = 0;
    for (int64_t row = 0; call->in.token_mask && row < call->in.tokens; row++)
        call->sorted_mask[row] = call->in.token_mask[call->order[row]];
}

seqtopk_status seqtopk_sort_tokens(seqtopk_call *call, seqtopk_error *error) {
    seqtopk_report *report = call->reports;
    report->why_not = NULL;
    report->refused = 0;
    report->no_sequence = find_stray(call);
    if (report->no_sequence >= 0)
        return seqtopk_check_sorted(call, error);
    report->is_mixed = !count_sequences(call, call->starts);
    if (report->is_mixed)
        sort(call);
    seqtopk_see_sorted(call);
    const seqtopk_status status = seqtopk_check_widths(call, error);
    return status ? status : seqtopk_check_way(call, error);
}

seqtopk_status seqtopk_check_sorted(const seqtopk_call *call, seqtopk_error *error) {
    const int32_t stray = call->reports->no_sequence;
    if (stray >= 0)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, stray,
                            "input.token_seq[%d] is %d; it must be 0 to input.sequences - 1 (%lld)", (int)stray,
                            (int)call->in.token_seq[stray], (long long)call->sequences - 1);
    return seqtopk_check_refused(call, error);
}

void seqtopk_see_sorted(seqtopk_call *call) {
    call->in.cu_seqlens = call->starts;
    if (!call->reports->is_mixed)
        return;
    call->places = call->order;
    call->place_step = 1;
    call->is_raw = 1;
    if (call->in.token_mask)
        call->callers_mask = call->in.token_mask = call->rows.token_mask = call->sorted_mask;
    call->token_offsets = call->own_offsets;
    call->expert_ids = (int32_t *)(void *)call->reservoir;
    call->list_weights = call->reservoir + call->most;
}

/* The places of candidates are free by then. */
void seqtopk_count_by_token(const seqtopk_call *call, int64_t first, int64_t last) {
    for (int64_t row = first; call->places && row < last; row++)
        call->candidates.counts[call->places[row]] = call->token_offsets[row + 1] - call->token_offsets[row];
}

void seqtopk_unsort_lists(const seqtopk_call *call) {
    const int32_t *counts = call->candidates.counts;
    const int weighs = seqtopk_wants_weights(call);
    seqtopk_call to = *call;
    int64_t first, last;
    int32_t at = 0;
    if (!call->places)
        return;
    seqtopk_see_unsorted(&to);
    seqtopk_call_share(call, call->part, &first, &last);
    for (int64_t t = 0; t < first; t++)
        at += counts[t];
    for (int64_t t = first; t < last; t++) {
        const int32_t from = call->token_offsets[call->inverse[t]], n = counts[t];
        to.token_offsets[t] = at;
        for (int32_t i = 0; i < n; i++)
            to.expert_ids[at + i] = call->expert_ids[from + i];
        for (int32_t i = 0; weighs && i < n; i++)
            to.list_weights[at + i] = call->list_weights[from + i];
        at += n;
    }
    if (call->part == call->parts - 1)
        to.token_offsets[call->in.tokens] = at;
}

/* Lists that the caller does not want stand where the candidates were. */
void seqtopk_see_unsorted(seqtopk_call *call) {
    const seqtopk_output *out = &call->out;
    const seqtopk_candidates *space = &call->candidates;
    if (!call->places)
        return;
    call->ranks = call->inverse;
    call->token_offsets = out->token_offsets ? out->token_offsets : (int32_t *)(void *)space->ids;
    call->expert_ids = out->expert_ids ? out->expert_ids : (int32_t *)(void *)space->keys;
    call->list_weights = out->weights ? out->weights : space->keys + call->most;
}
