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
    if (call->parts == 1) {
        for (int32_t e = 0; e < experts; e++) {
            cursors[e] = offsets[e] = at;
            at += call->histograms[e];
        }
        return;
    }
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

/* The experts that have pairs, to active [E]; returns how many. No branch, since whether one has is anybody's guess. */
static int32_t find_active(const seqtopk_call *call, const int32_t *restrict offsets, int32_t *restrict active) {
    const int32_t last = call->plan->dispatched - 1;
    int32_t n = 0;
    for (int32_t e = 0; e < last; e++) {
        active[n] = e;
        n += offsets[e + 1] > offsets[e];
    }
    active[n] = last;
    return n + (pairs_of(call, offsets, last) > 0);
}

/* What one part writes for all. */
static void tell_experts(const seqtopk_call *call, const int32_t *restrict offsets, const int32_t *active, int32_t n) {
    const seqtopk_output *out = &call->out;
    const int32_t last = call->plan->dispatched - 1, total = call->token_offsets[call->in.tokens];
    int64_t *restrict counts = out->expert_counts;
    if (out->expert_offsets) {
        memcpy(out->expert_offsets, offsets, ((size_t)last + 1) * sizeof *offsets);
        out->expert_offsets[last + 1] = total;
    }
    if (out->expert_ends) {
        memcpy(out->expert_ends, offsets + 1, (size_t)last * sizeof *offsets);
        out->expert_ends[last] = total;
    }
    for (int32_t e = 0; counts && e < last; e++)
        counts[e] += offsets[e + 1] - offsets[e];
    if (counts)
        counts[last] += total - offsets[last];
    if (out->active_experts)
        memcpy(out->active_experts, active, (size_t)n * sizeof *active);
    if (out->active_count)
        *out->active_count = n;
}

/* slots [n] = what: by copies of what is there already, which are made of the widest vectors. */
static void fill(int32_t *slots, int32_t n, int32_t what) {
    enum { FEW = 64 };
    int32_t at = 0;
    for (; at < n && at < FEW; at++)
        slots[at] = what;
    for (int32_t more; at < n; at += more) {
        more = n - at < at ? n - at : at;
        memcpy(slots + at, slots, (size_t)more * sizeof *slots);
    }
}

/* Where each expert's blocks begin. One part writes whose they are, and what fills up the last of each. */
static void find_blocks(const seqtopk_call *call, const int32_t *offsets, const int32_t *active, int32_t n,
                        int32_t *begins) {
    const seqtopk_output *out = &call->out;
    const int32_t size = out->block_size, tells = call->part == 0;
    const int32_t none =
        (int32_t)(seqtopk_wants_padded(call) ? call->in.tokens * (int64_t)out->padded_width : call->most);
    /* Where most of a block is filled up it is filled at once. */
    const int is_thin =
        call->parts == 1 && call->token_offsets[call->in.tokens] / 4 < call->plan->dispatched && size <= UINT8_MAX;
    int32_t *owners = tells ? out->block_experts : NULL, block = 0;
    for (int32_t i = 0; i < n; i++) {
        const int32_t e = active[i], pairs = pairs_of(call, offsets, e);
        const int32_t blocks = pairs <= size ? 1 : (pairs - 1) / size + 1; /* few pairs are the rule, divisions slow */
        begins[e] = block * size;
        for (int32_t j = pairs; tells && !is_thin && j < blocks * size; j++)
            out->block_slots[begins[e] + j] = none;
        for (int32_t j = 0; owners && j < blocks; j++)
            owners[block + j] = e;
        block += blocks;
    }
    if (is_thin)
        fill(out->block_slots, block * size, none);
    if (tells && out->block_total)
        *out->block_total = block * size;
}

/* Makes begins [E] what is to be added to a pair's place to have its slot. */
static void subtract(int32_t *restrict begins, const int32_t *restrict offsets, const int32_t *restrict active,
                     int32_t n) {
    for (int32_t i = 0; i < n; i++)
        begins[active[i]] -= offsets[active[i]];
}

/* The places of this part's pairs, in the lists by expert and in blocks, which begin so far from those. */
static void place_pairs(const seqtopk_call *call, int32_t *restrict cursors, const int32_t *restrict begins) {
    const int32_t *restrict ids = call->expert_ids, *restrict token_offsets = call->token_offsets;
    int32_t *restrict places = call->out.pair_places, *restrict slots = call->out.block_slots;
    const int64_t width = seqtopk_wants_padded(call) ? call->out.padded_width : 0;
    int64_t first, last;
    seqtopk_call_share(call, call->part, &first, &last);
    for (int64_t t = first; t < last; t++) {
        const int32_t from = token_offsets[t], less = width ? from - (int32_t)(t * width) : 0;
        for (int32_t i = from; i < token_offsets[t + 1]; i++) {
            const int32_t e = ids[i], place = cursors[e]++;
            if (places)
                places[i] = place;
            if (slots)
                slots[begins[e] + place] = i - less;
        }
    }
}

void seqtopk_list_experts(const seqtopk_call *call) {
    const seqtopk_output *out = &call->out;
    int32_t *cursors = call->work.ids, *offsets = call->work.group_ids;
    int32_t *begins = (int32_t *)(void *)call->work.values, *active = begins + call->plan->dispatched, n = 0;
    int64_t first, last;
    find_places(call, cursors, offsets);
    if (out->active_experts || out->active_count || out->block_slots)
        n = find_active(call, offsets, active);
    if (call->part == 0)
        tell_experts(call, offsets, active, n);
    if (out->block_slots) {
        find_blocks(call, offsets, active, n, begins);
        subtract(begins, offsets, active, n);
    }
    if (out->pair_places || out->block_slots)
        place_pairs(call, cursors, begins);
    seqtopk_call_share(call, call->part, &first, &last);
    if (!out->expert_tokens && !out->expert_slots)
        return;
    if (out->pair_places || out->block_slots)
        find_places(call, cursors, offsets);
    call->kernels->scatter(call->token_offsets, call->expert_ids, first, last, call->plan->dispatched, cursors, offsets,
                           out->expert_tokens, out->expert_slots);
}

/* ---------------------------------------------------------- a token alone -- */

/* to [n]: from expert `from` on, how many of the token's experts [pairs] come before it. Written from each on as far as whole
 * vectors go, over which the next ones are written. */
static void count_before(const int32_t *ids, int32_t pairs, int32_t from, int32_t n, int32_t *to) {
    enum { AT_ONCE = 16 };
    int32_t e = 0;
    for (int32_t i = 0; i <= pairs; i++) {
        const int32_t end = i < pairs ? ids[i] + 1 - from : n;
        for (; e < end && e + AT_ONCE <= n; e += AT_ONCE)
            for (int32_t j = 0; j < AT_ONCE; j++)
                to[e + j] = i;
        for (; e < end; e++)
            to[e] = i;
        e = end > 0 ? end : 0;
    }
}

void seqtopk_list_experts_of_one(const seqtopk_call *call) {
    const seqtopk_output *out = &call->out;
    const int32_t experts = call->plan->dispatched, n = call->token_offsets[1];
    const int32_t *ids = call->expert_ids;
    if (out->expert_offsets)
        count_before(ids, n, 0, experts + 1, out->expert_offsets);
    if (out->expert_ends)
        count_before(ids, n, 1, experts, out->expert_ends);
    for (int32_t i = 0; i < n; i++) {
        if (out->expert_tokens)
            out->expert_tokens[i] = 0;
        if (out->expert_slots)
            out->expert_slots[i] = i;
        if (out->pair_places)
            out->pair_places[i] = i;
        if (out->expert_counts)
            out->expert_counts[ids[i]]++;
        if (out->active_experts)
            out->active_experts[i] = ids[i];
    }
    if (out->active_count)
        *out->active_count = n;
    if (!out->block_slots)
        return;
    const int32_t size = out->block_size;
    const int32_t none = seqtopk_wants_padded(call) ? out->padded_width : (int32_t)seqtopk_max_selected(call->plan, 1);
    for (int32_t i = 0; i < n; i++) {
        for (int32_t j = 0; j < size; j++)
            out->block_slots[i * size + j] = none;
        out->block_slots[i * size] = i;
        if (out->block_experts)
            out->block_experts[i] = ids[i];
    }
    if (out->block_total)
        *out->block_total = n * size;
}
