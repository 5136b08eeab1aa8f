/* SPDX-License-Identifier: MIT */
/*
 * A selection that was made elsewhere (routing replay, hash-routed layers, an engine's own top-k): checked, sorted and listed
 * as if it had been made here.
 */
#include "src/route/way.h"

#include <string.h>

/* The experts that the caller gave a token, in his order: *ids [n]; below 0 is none. */
static int32_t given_of(const seqtopk_call *call, int64_t t, const int32_t **ids) {
    const seqtopk_input *in = &call->in;
    if (in->given_offsets) {
        *ids = in->given_ids + in->given_offsets[t];
        return in->given_offsets[t + 1] - in->given_offsets[t];
    }
    *ids = in->given_ids + t * in->given_width;
    return in->given_width;
}

static int is_masked(const seqtopk_call *call, int64_t t) { return call->in.token_mask && !call->in.token_mask[t]; }

int seqtopk_call_is_excluded(const seqtopk_call *call, int64_t t, int32_t expert) {
    uint32_t whole;
    uint16_t half;
    if (!call->rows.logits)
        return 0;
    const char *row = (const char *)call->rows.logits + seqtopk_place(call, t) * call->rows.stride;
    switch (call->plan->desc.dtype) {
    case SEQTOPK_DTYPE_F32:
        memcpy(&whole, row + (size_t)expert * sizeof whole, sizeof whole);
        return whole == 0xff800000;
    case SEQTOPK_DTYPE_BF16: memcpy(&half, row + (size_t)expert * sizeof half, sizeof half); return half == 0xff80;
    case SEQTOPK_DTYPE_F16: memcpy(&half, row + (size_t)expert * sizeof half, sizeof half); return half == 0xfc00;
    }
    return 0;
}

/* A bit for each expert of a token, in this part's scratch. Returns how many there are; -1: one does not exist, or is there
 * twice. */
static int32_t mark_given(const seqtopk_call *call, int64_t t, uint64_t *marks) {
    const int32_t *ids, n = given_of(call, t, &ids);
    int32_t count = 0;
    memset(marks, 0, ((size_t)call->rows.experts + 63) / 64 * sizeof *marks);
    for (int32_t i = 0; i < n; i++) {
        const int32_t id = ids[i];
        if (id < 0)
            continue;
        if (id >= call->rows.experts || marks[id / 64] >> id % 64 & 1)
            return -1;
        if (seqtopk_call_is_excluded(call, t, id))
            continue;
        marks[id / 64] |= UINT64_C(1) << id % 64;
        count++;
    }
    return count;
}

int64_t seqtopk_given_collect(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, seqtopk_run *run) {
    seqtopk_report *report = call->reports + call->part;
    const int padded = seqtopk_wants_padded(call);
    (void)s;
    run->size = 0;
    const int64_t bad = call->rows.logits ? seqtopk_rows_lse(call, first, last) : -1;
    for (int64_t t = first; t < last && bad < 0 && report->bad_given < 0; t++) {
        const int32_t n = is_masked(call, t) ? 0 : mark_given(call, t, call->work.words);
        if (n < 0 || (padded && n + call->plan->beside > call->out.padded_width))
            report->bad_given = t;
        else
            run->size += n;
    }
    report->pairs += run->size;
    return bad;
}

/* Nothing competes. */
int seqtopk_given_cut(const seqtopk_call *call, int64_t s, seqtopk_sequence *sequence) {
    (void)call, (void)s;
    sequence->has_keys = 0;
    return 1;
}

static int64_t list_marks(const uint64_t *marks, int32_t experts, int32_t *ids, int64_t at) {
    for (int32_t word = 0; word < (experts + 63) / 64; word++)
        for (uint64_t left = marks[word]; left; left &= left - 1)
            ids[at++] = word * 64 + __builtin_ctzll(left);
    return at;
}

int64_t seqtopk_given_list(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, int64_t at, int list) {
    if (!list)
        return at + call->runs[s + call->part].size;
    for (int64_t t = first; t < last; t++) {
        call->token_offsets[t] = (int32_t)at;
        if (!is_masked(call, t) && mark_given(call, t, call->work.words) > 0)
            at = list_marks(call->work.words, call->rows.experts, call->expert_ids, at);
    }
    return at;
}

void seqtopk_order_as_given(const seqtopk_call *call, int64_t token) {
    const int32_t from = call->token_offsets[token];
    const int32_t n = call->token_offsets[token + 1] - from - seqtopk_shared_of(call, token);
    const int32_t dispatched = call->plan->dispatched;
    int32_t *ids = call->expert_ids + from, listed = 0;
    float *weights = call->list_weights + from, *weight_of = call->work.values;
    const int32_t *given, width = given_of(call, token, &given);
    if (n < 2)
        return;
    for (int32_t i = 0; i < n; i++)
        weight_of[ids[i]] = weights[i];
    for (int32_t i = 0; i < width; i++)
        if (given[i] >= 0 && given[i] < dispatched && !seqtopk_call_is_excluded(call, token, given[i])) {
            ids[listed] = given[i];
            weights[listed++] = weight_of[given[i]];
        }
}
