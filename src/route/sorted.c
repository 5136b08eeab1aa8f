/* SPDX-License-Identifier: MIT */
/*
 * Batches whose tokens stand in any order, with the sequence of each: they are routed as if sorted by sequence, stably, so that
 * all ways and their ties are those of a batch with cu_seqlens, and the lists are put back in the caller's order. Rows are not
 * moved but read by their places. Of a batch that is sorted already only cu_seqlens is made.
 */
#include "src/route/call.h"
#include "src/status.h"

#include <string.h>

seqtopk_status seqtopk_check_token_seq(const seqtopk_call *call, seqtopk_error *error) {
    const int32_t *of = call->in.token_seq;
    for (int64_t t = 0; of && t < call->in.tokens; t++)
        if (of[t] < 0 || of[t] >= call->sequences)
            return seqtopk_fail(error, SEQTOPK_E_VALUE, t,
                                "input.token_seq[%lld] is %d; it must be 0 to input.sequences - 1 (%lld)", (long long)t,
                                (int)of[t], (long long)call->sequences - 1);
    return SEQTOPK_OK;
}

void seqtopk_sort_tokens(seqtopk_call *call) {
    const int32_t *of = call->in.token_seq;
    const int64_t tokens = call->in.tokens, sequences = call->sequences;
    int32_t *next = call->starts;
    int is_sorted = 1;
    memset(next, 0, (size_t)(sequences + 1) * sizeof *next);
    for (int64_t t = 0; t < tokens; t++) {
        is_sorted &= t == 0 || of[t - 1] <= of[t];
        next[of[t] + 1]++;
    }
    for (int64_t s = 0; s < sequences; s++)
        next[s + 1] += next[s];
    call->in.cu_seqlens = call->starts;
    if (is_sorted)
        return;
    for (int64_t t = 0; t < tokens; t++)
        call->order[next[of[t]]++] = (int32_t)t;
    for (int64_t s = sequences; s > 0; s--) /* each has moved on to where the next begins */
        next[s] = next[s - 1];
    next[0] = 0;
    call->places = call->order;
    call->place_step = 1;
    call->is_raw = 1;
    if (call->callers_mask) {
        for (int64_t t = 0; t < tokens; t++)
            call->sorted_mask[t] = call->callers_mask[call->order[t]];
        call->callers_mask = call->in.token_mask = call->rows.token_mask = call->sorted_mask;
    }
}

/* Elements of 4 bytes, by token. */
static void unsort(const seqtopk_call *call, void *values) {
    uint32_t *sorted = values, *to = (uint32_t *)(void *)call->candidates.keys;
    for (int64_t t = 0; t < call->in.tokens; t++)
        to[call->places[t]] = sorted[t];
    memcpy(sorted, to, (size_t)call->in.tokens * sizeof *to);
}

/* Elements of 4 bytes, by pair. */
static void unsort_pairs(const seqtopk_call *call, const int32_t *begins, void *values) {
    uint32_t *sorted = values, *to = (uint32_t *)(void *)call->candidates.keys;
    const int32_t *offsets = call->token_offsets;
    for (int64_t t = 0; t < call->in.tokens; t++)
        memcpy(to + begins[call->places[t]], sorted + offsets[t], (size_t)(offsets[t + 1] - offsets[t]) * sizeof *to);
    memcpy(sorted, to, (size_t)offsets[call->in.tokens] * sizeof *to);
}

void seqtopk_unsort_tokens(seqtopk_call *call) {
    const int64_t tokens = call->in.tokens;
    int32_t *begins = call->candidates.counts, at = 0;
    if (!call->places)
        return;
    for (int64_t t = 0; t < tokens; t++)
        begins[call->places[t]] = call->token_offsets[t + 1] - call->token_offsets[t];
    for (int64_t t = 0; t < tokens; t++) {
        const int32_t n = begins[t];
        begins[t] = at;
        at += n;
    }
    unsort_pairs(call, begins, call->expert_ids);
    unsort_pairs(call, begins, call->list_weights);
    memcpy(call->token_offsets, begins, (size_t)tokens * sizeof *begins);
    unsort(call, call->rows.shift);
    unsort(call, call->rows.lse);
    for (int64_t t = 0; call->mask && t < tokens; t++) /* sorted_mask is read no more */
        call->sorted_mask[call->places[t]] = call->mask[t];
    if (call->mask)
        memcpy(call->mask, call->sorted_mask, (size_t)tokens);
    call->callers_mask = call->own_mask;
    call->in.token_mask = call->rows.token_mask = call->mask ? call->mask : call->own_mask;
    call->places = NULL;
    call->is_raw = call->work.prepared != NULL;
}
