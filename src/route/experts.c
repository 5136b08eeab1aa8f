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

/*
 * Adds up the parts' histograms, to totals, and those of the parts before this one, to cursors. An expert's pairs are listed part
 * after part, hence in the order of tokens.
 */
static void add_histograms(const seqtopk_call *call, int32_t *restrict cursors, int32_t *restrict totals) {
    const int32_t experts = call->plan->dispatched;
    const size_t size = (size_t)experts * sizeof *totals;
    memset(cursors, 0, size);
    memcpy(totals, call->histograms, size);
    for (int32_t p = 1; p < call->parts; p++) {
        const int32_t *histogram = call->histograms + (int64_t)p * experts;
        if (p == call->part)
            memcpy(cursors, totals, size);
        for (int32_t e = 0; e < experts; e++)
            totals[e] += histogram[e];
    }
}

/* The lists of experts, which one part writes for all. cursors: where this part's first pair of each goes. Returns how many have
 * any pairs. */
static int32_t list_offsets(const seqtopk_call *call, int32_t *cursors, int32_t *offsets, int32_t *active) {
    const seqtopk_output *out = &call->out;
    const int32_t experts = call->plan->dispatched;
    const int tells = call->part == 0, is_alone = call->parts == 1;
    const seqtopk_offset_lists to = {.offsets = offsets,
                                     .cursors = is_alone ? cursors : NULL,
                                     .begins = tells ? out->expert_offsets : NULL,
                                     .ends = tells ? out->expert_ends : NULL,
                                     .active = active,
                                     .counts = tells ? out->expert_counts : NULL};
    if (!is_alone)
        add_histograms(call, cursors, offsets);
    const int32_t n = call->kernels->offset_experts(is_alone ? call->histograms : offsets, experts, &to);
    for (int32_t e = 0; !is_alone && e < experts; e++)
        cursors[e] += offsets[e];
    if (to.begins)
        to.begins[experts] = call->token_offsets[call->in.tokens];
    if (tells && out->active_experts)
        memcpy(out->active_experts, active, (size_t)n * sizeof *active);
    if (tells && out->active_count)
        *out->active_count = n;
    return n;
}

/* slots [n] = what: by copies of what is there already, which are made of the widest vectors, a cache line each. */
static void fill(int32_t *slots, int32_t n, int32_t what) {
    enum { LINE = 16, FEW = 4 * LINE };
    const int32_t odd = (int32_t)(-((uintptr_t)slots / sizeof *slots) % LINE); /* before the first whole line */
    const int32_t few = n < odd + FEW ? n : odd + FEW;
    for (int32_t i = 0; i < few; i++)
        slots[i] = what;
    for (int32_t at = few, more; at < n; at += more) {
        more = n - at < at - odd ? n - at : at - odd;
        memcpy(slots + at, slots + odd, (size_t)more * sizeof *slots);
    }
}

/* Slots of blocks without a pair. */
static int32_t none_of(const seqtopk_call *call) {
    return (int32_t)(seqtopk_wants_padded(call) ? call->in.tokens * (int64_t)call->out.padded_width : call->most);
}

static int32_t pairs_of(const seqtopk_call *call, const int32_t *offsets, int32_t expert) {
    const int32_t end =
        expert + 1 < call->plan->dispatched ? offsets[expert + 1] : call->token_offsets[call->in.tokens];
    return end - offsets[expert];
}

/* Where experts' blocks begin, in slots, less where their pairs do: shifts [E]. No expert has more tokens than a block. */
static int32_t find_single_blocks(const seqtopk_call *call, const int32_t *restrict offsets,
                                  const int32_t *restrict active, int32_t n, int32_t *restrict shifts) {
    const int32_t size = call->out.block_size;
    for (int32_t i = 0; i < n; i++)
        shifts[active[i]] = i * size - offsets[active[i]];
    if (call->part == 0 && call->out.block_experts)
        memcpy(call->out.block_experts, active, (size_t)n * sizeof *active);
    return n;
}

/* The same of any number of pairs. One part writes whose blocks they are and, unless `is_filled`, what fills up the last of each. */
static int32_t find_all_blocks(const seqtopk_call *call, const int32_t *offsets, const int32_t *active, int32_t n,
                               int is_filled, int32_t *shifts) {
    const int32_t size = call->out.block_size, none = none_of(call);
    int32_t *const slots = call->out.block_slots, *const owners = call->out.block_experts, block = 0;
    for (int32_t i = 0; i < n; i++) {
        const int32_t e = active[i], pairs = pairs_of(call, offsets, e);
        const int32_t blocks = pairs <= size ? 1 : (pairs - 1) / size + 1; /* few pairs are the rule, divisions slow */
        shifts[e] = block * size - offsets[e];
        for (int32_t j = pairs; call->part == 0 && !is_filled && j < blocks * size; j++)
            slots[block * size + j] = none;
        for (int32_t j = 0; call->part == 0 && owners && j < blocks; j++)
            owners[block + j] = e;
        block += blocks;
    }
    return block;
}

static void find_blocks(const seqtopk_call *call, const int32_t *offsets, const int32_t *active, int32_t n,
                        int32_t *shifts) {
    const seqtopk_output *out = &call->out;
    const int is_alone = call->parts == 1, is_single = is_alone && call->in.tokens <= out->block_size;
    const int is_thin =
        call->token_offsets[call->in.tokens] / 4 < call->plan->dispatched && out->block_size <= UINT8_MAX;
    const int is_filled = is_single || (is_thin && is_alone); /* at once, where most of each is filled up */
    const int32_t blocks = is_single ? find_single_blocks(call, offsets, active, n, shifts)
                                     : find_all_blocks(call, offsets, active, n, is_filled, shifts);
    if (is_filled)
        fill(out->block_slots, blocks * out->block_size, none_of(call));
    if (call->part == 0 && out->block_total)
        *out->block_total = blocks * out->block_size;
}

void seqtopk_list_experts(const seqtopk_call *call) {
    const seqtopk_output *out = &call->out;
    int32_t *cursors = call->work.ids, *offsets = call->work.group_ids;
    int32_t *shifts = (int32_t *)(void *)call->work.values, *active = shifts + call->plan->dispatched;
    const int64_t width = seqtopk_wants_padded(call) ? out->padded_width : 0;
    /* Where all rows are full, a pair's index says also where it is in those. */
    const int is_full = call->token_offsets[call->in.tokens] == call->in.tokens * width;
    const seqtopk_scattered to = {.tokens = out->expert_tokens,
                                  .slots = out->expert_slots,
                                  .blocks = out->block_slots,
                                  .shifts = shifts,
                                  .places = out->pair_places,
                                  .width = is_full ? 0 : width,
                                  .is_whole = call->parts == 1};
    int64_t first, last;
    const int32_t n = list_offsets(call, cursors, offsets, active);
    if (out->block_slots)
        find_blocks(call, offsets, active, n, shifts);
    seqtopk_call_share(call, call->part, &first, &last);
    if (to.tokens || to.slots || to.blocks || to.places)
        call->kernels->scatter(call->token_offsets, call->expert_ids, first, last, call->plan->dispatched, cursors,
                               offsets, &to);
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
