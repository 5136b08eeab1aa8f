/* SPDX-License-Identifier: MIT */
/* The lists by expert: where each expert's pairs are, its blocks, and which experts there are. */
#include "src/route/call.h"

#include <string.h>

int seqtopk_wants_experts(const seqtopk_call *call) {
    const seqtopk_output *out = &call->out;
    return ((uintptr_t)out->expert_offsets | (uintptr_t)out->expert_tokens | (uintptr_t)out->expert_slots |
            (uintptr_t)out->expert_ends | (uintptr_t)out->expert_counts | (uintptr_t)out->active_experts |
            (uintptr_t)out->active_count | (uintptr_t)out->pair_places | (uintptr_t)out->block_slots) != 0;
}

/* cursors: where this part's first pair of each expert goes; offsets: where each expert's pairs begin. An expert's
 * pairs are listed part after part, hence in the order of tokens. */
static void find_places(const seqtopk_call *call, int32_t *restrict cursors, int32_t *restrict offsets) {
    const int32_t experts = call->plan->dispatched;
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

static int32_t pairs_of(const seqtopk_call *call, const int32_t *offsets, int32_t expert) {
    const int32_t end =
        expert + 1 < call->plan->dispatched ? offsets[expert + 1] : call->token_offsets[call->in.tokens];
    return end - offsets[expert];
}

/* What one part writes for all. */
static void tell_experts(const seqtopk_call *call, const int32_t *offsets) {
    const seqtopk_output *out = &call->out;
    const int32_t experts = call->plan->dispatched;
    int32_t active = 0;
    if (out->expert_offsets) {
        memcpy(out->expert_offsets, offsets, (size_t)experts * sizeof *offsets);
        out->expert_offsets[experts] = call->token_offsets[call->in.tokens];
    }
    if (!out->expert_ends && !out->expert_counts && !out->active_experts && !out->active_count)
        return;
    for (int32_t e = 0; e < experts; e++) {
        const int32_t pairs = pairs_of(call, offsets, e);
        if (out->expert_ends)
            out->expert_ends[e] = offsets[e] + pairs;
        if (out->expert_counts)
            out->expert_counts[e] += pairs;
        if (out->active_experts && pairs)
            out->active_experts[active] = e;
        active += pairs > 0;
    }
    if (out->active_count)
        *out->active_count = active;
}

/* Where each expert's blocks begin. One part writes whose they are, and what fills up the last of each. */
static void find_blocks(const seqtopk_call *call, const int32_t *offsets, int32_t *begins) {
    const seqtopk_output *out = &call->out;
    const int32_t size = out->block_size;
    const int64_t most = call->most;
    const int32_t none = (int32_t)(seqtopk_wants_padded(call) ? call->in.tokens * (int64_t)out->padded_width : most);
    int32_t at = 0;
    for (int32_t e = 0; e < call->plan->dispatched; e++) {
        const int32_t pairs = pairs_of(call, offsets, e), end = at + (pairs + size - 1) / size * size;
        begins[e] = at;
        for (int32_t i = at + pairs; call->part == 0 && i < end; i++)
            out->block_slots[i] = none;
        for (int32_t i = at; call->part == 0 && out->block_experts && i < end; i += size)
            out->block_experts[i / size] = e;
        at = end;
    }
    if (call->part == 0 && out->block_total)
        *out->block_total = at;
}

/* The places of this part's pairs, in the lists by expert and in blocks. */
static void place_pairs(const seqtopk_call *call, int32_t *cursors, const int32_t *offsets, const int32_t *begins) {
    const seqtopk_output *out = &call->out;
    const int padded = seqtopk_wants_padded(call);
    int64_t first, last;
    seqtopk_call_share(call, call->part, &first, &last);
    for (int64_t t = first; t < last; t++) {
        const int32_t from = call->token_offsets[t];
        for (int32_t i = from; i < call->token_offsets[t + 1]; i++) {
            const int32_t e = call->expert_ids[i], place = cursors[e]++;
            if (out->pair_places)
                out->pair_places[i] = place;
            if (out->block_slots)
                out->block_slots[begins[e] + place - offsets[e]] =
                    padded ? (int32_t)(t * out->padded_width) + (i - from) : i;
        }
    }
}

void seqtopk_list_experts(const seqtopk_call *call) {
    int32_t *cursors = call->work.ids, *offsets = call->work.group_ids;
    int32_t *begins = (int32_t *)(void *)call->work.values;
    int64_t first, last;
    find_places(call, cursors, offsets);
    if (call->part == 0)
        tell_experts(call, offsets);
    if (call->out.pair_places || call->out.block_slots) {
        if (call->out.block_slots)
            find_blocks(call, offsets, begins);
        place_pairs(call, cursors, offsets, begins);
        find_places(call, cursors, offsets);
    }
    seqtopk_call_share(call, call->part, &first, &last);
    if (call->out.expert_tokens || call->out.expert_slots)
        call->kernels->scatter(call->token_offsets, call->expert_ids, first, last, call->plan->dispatched, cursors,
                               offsets, call->out.expert_tokens, call->out.expert_slots);
}
