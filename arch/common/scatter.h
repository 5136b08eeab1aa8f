/* SPDX-License-Identifier: MIT */
/*
 * The expert-major lists: scatter, with few stores a pair. What bounds a counting sort is the stores that each go to another
 * cache line than the last, one a cycle at best, and a pair has many of them: its token, its slot, its place in blocks, and
 * the cursor moved on.
 * Here token and slot go as one number, 16 bits each, counted from where a block of pairs begins, to the token's place; what
 * lies ready is then widened in one go, to the blocks too. How many experts a token has cannot be foreseen, so that a loop over
 * them misjudges a branch for every token: instead whole lines of numbers are laid down for a token, the next token's over the
 * surplus, and pairs are taken from there without a look at tokens. The compiler's own vectors are all that is needed,
 * of as many int32 as vec.h has lanes. To be included after that.
 */
#ifndef SEQTOPK_ARCH_COMMON_SCATTER_H
#define SEQTOPK_ARCH_COMMON_SCATTER_H

#include "arch/common/lanes.h"
#include "arch/kernel.h"

#include <string.h>

#define LITTLE_ENDIAN_HERE (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)

/* What is wanted is known where a loop is called from, and must be known inside it. */
#define SCATTER_INLINE static inline __attribute__((always_inline))

enum {
    LINE = 16,           /* int32 in a cache line */
    NUMBERED = 2048,     /* pairs that are numbered at a time, and */
    TOKENS_AT_ONCE = 64, /* their tokens: few enough for the first-level cache */
    BLOCK = 65536,       /* pairs and tokens that 16 bits can tell apart */
    WORTH_PACKING = 8    /* pairs of an expert in a block, below which widening costs more than a store */
};
typedef uint32_t ints __attribute__((vector_size(4 * VEC_LANES), aligned(4), may_alias));

/* How pairs become numbers: by their tokens; by token and slot, counted from where the block begins; by their places in rows. */
typedef enum { BY_TOKEN, PACKED, BY_ROW } numbering_kind;
typedef struct {
    numbering_kind kind;
    int64_t token, width;
    int32_t slot;
} numbering;

SCATTER_INLINE uint32_t number_of(const numbering *by, int64_t token, int32_t slot) {
    return by->kind == PACKED   ? (uint32_t)(token - by->token) << 16 | (uint32_t)(slot - by->slot)
           : by->kind == BY_ROW ? (uint32_t)(token * by->width) + (uint32_t)(slot - by->slot)
                                : (uint32_t)token;
}

/* The numbers of a token's n pairs from `slot` on, in whole lines. */
SCATTER_INLINE void number_pairs(uint32_t *numbers, const numbering *by, int64_t token, int32_t slot, int32_t n) {
    static const uint32_t steps[LINE] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const uint32_t number = number_of(by, token, slot);
    int32_t i = 0;
    do {
        for (int32_t lane = 0; lane < LINE; lane += VEC_LANES) {
            ints numbered = (ints){0} + number;
            if (by->kind != BY_TOKEN)
                numbered += *(const ints *)(steps + lane) + (uint32_t)i;
            *(ints *)(numbers + i + lane) = numbered;
        }
        i += LINE;
    } while (__builtin_expect(i < n, 0));
}

/* Two neighbours in one load. */
SCATTER_INLINE uint64_t load_two(const void *p) {
    uint64_t two;
    memcpy(&two, p, sizeof two);
    return two;
}
SCATTER_INLINE uint32_t first_of(uint64_t two) { return (uint32_t)(two >> (LITTLE_ENDIAN_HERE ? 0 : 32)); }
SCATTER_INLINE uint32_t second_of(uint64_t two) { return (uint32_t)(two >> (LITTLE_ENDIAN_HERE ? 32 : 0)); }

/*
 * Pair `slot`, where it goes. The lists grow at all experts' cursors at once: what comes next there is asked for a line ahead, but in
 * scatter_few, for which all of the list is near.
 */
SCATTER_INLINE void place_pair(const seqtopk_scattered *to, uint32_t expert, int32_t place, uint32_t number,
                               uint32_t in_rows, int32_t slot) {
    if (to->tokens) {
        to->tokens[place] = (int32_t)number;
        if (!to->is_whole)
            __builtin_prefetch(to->tokens + place + LINE, 1);
    }
    if (to->slots) {
        to->slots[place] = slot;
        __builtin_prefetch(to->slots + place + LINE, 1);
    }
    if (to->blocks)
        to->blocks[place + to->shifts[expert]] = to->width ? (int32_t)in_rows : slot;
    if (to->places)
        to->places[slot] = place;
}

SCATTER_INLINE void place_pairs(const seqtopk_scattered *to, int32_t *cursors, const int32_t *ids,
                                const uint32_t *numbers, const uint32_t *in_rows, int32_t slot, int32_t n) {
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint64_t experts = load_two(ids + i), more_experts = load_two(ids + i + 2);
        const uint64_t tells = load_two(numbers + i), tells_more = load_two(numbers + i + 2);
        const uint32_t a = first_of(experts), b = second_of(experts), c = first_of(more_experts),
                       d = second_of(more_experts);
        const int32_t at_a = cursors[a]++, at_b = cursors[b]++, at_c = cursors[c]++, at_d = cursors[d]++;
        place_pair(to, a, at_a, first_of(tells), in_rows[i], slot + i);
        place_pair(to, b, at_b, second_of(tells), in_rows[i + 1], slot + i + 1);
        place_pair(to, c, at_c, first_of(tells_more), in_rows[i + 2], slot + i + 2);
        place_pair(to, d, at_d, second_of(tells_more), in_rows[i + 3], slot + i + 3);
    }
    for (; i < n; i++)
        place_pair(to, (uint32_t)ids[i], cursors[ids[i]]++, numbers[i], in_rows[i], slot + i);
}

/* The pairs of tokens [first, last), as many as can be numbered at a time, or those of one token that has more. */
SCATTER_INLINE void place_tokens(const seqtopk_scattered *to, int32_t *cursors, const numbering *by,
                                 const int32_t *offsets, const int32_t *ids, int64_t first, int64_t last) {
    _Alignas(64) uint32_t numbers[NUMBERED + LINE], rows[NUMBERED + LINE];
    const int32_t begin = offsets[first], end = offsets[last];
    const int in_rows = to->blocks && to->width;
    numbering by_row = {BY_ROW, 0, to->width, 0};
    if (end - begin <= NUMBERED) {
        for (int64_t t = first; t < last; t++) {
            number_pairs(numbers + (offsets[t] - begin), by, t, offsets[t], offsets[t + 1] - offsets[t]);
            if (in_rows)
                number_pairs(rows + (offsets[t] - begin), &by_row, t, 0, offsets[t + 1] - offsets[t]);
        }
        place_pairs(to, cursors, ids + begin, numbers, in_rows ? rows : numbers, begin, end - begin);
        return;
    }
    by_row.slot = begin;
    for (int32_t slot = begin, n; slot < end; slot += n) {
        n = end - slot < NUMBERED ? end - slot : NUMBERED;
        number_pairs(numbers, by, first, slot, n);
        if (in_rows)
            number_pairs(rows, &by_row, first, slot, n);
        place_pairs(to, cursors, ids + slot, numbers, in_rows ? rows : numbers, slot, n);
    }
}

/* Where a stretch of tokens from `first` ends that place_tokens can take. */
static inline int64_t end_of_stretch(const int32_t *offsets, int64_t first, int64_t last) {
    int64_t n = last - first < TOKENS_AT_ONCE ? last - first : TOKENS_AT_ONCE;
    while (n > 1 && offsets[first + n] - offsets[first] > NUMBERED)
        n /= 2;
    return first + n;
}

/* Packed numbers of a run of places become what they tell. */
static inline void widen(int32_t *tokens, int32_t *slots, int32_t n, const numbering *by) {
    const uint32_t token = (uint32_t)by->token, slot = (uint32_t)by->slot;
    int32_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) {
        const ints packed = *(const ints *)(tokens + i);
        *(ints *)(slots + i) = (packed & 0xffff) + slot;
        *(ints *)(tokens + i) = (packed >> 16) + token;
    }
    for (; i < n; i++) {
        const uint32_t packed = (uint32_t)tokens[i];
        slots[i] = (int32_t)((packed & 0xffff) + slot);
        tokens[i] = (int32_t)((packed >> 16) + token);
    }
}

/* blocks [n] = slots, by whole vectors, of which the last goes over what is there already. */
static inline void copy_slots(int32_t *restrict blocks, const int32_t *restrict slots, int32_t n) {
    for (int32_t i = 0; n >= VEC_LANES && i < n; i += VEC_LANES) {
        const int32_t at = i + VEC_LANES <= n ? i : n - VEC_LANES;
        *(ints *)(blocks + at) = *(const ints *)(slots + at);
    }
    for (int32_t i = 0; n < VEC_LANES && i < n; i++)
        blocks[i] = slots[i];
}

/* What an expert's run of places has in blocks. */
static void fill_blocks(const seqtopk_scattered *to, const int32_t *offsets, int32_t shift, int32_t from, int32_t end) {
    int32_t *blocks = to->blocks + shift;
    if (!to->width)
        copy_slots(blocks + from, to->slots + from, end - from);
    for (int32_t i = from; to->width && i < end; i++)
        blocks[i] = to->slots[i] - offsets[to->tokens[i]] + (int32_t)(to->tokens[i] * to->width);
}

/* All of a block's pairs, each expert's from where its cursor began. One run if nobody else's pairs are between. */
static void widen_block(const seqtopk_scattered *to, const int32_t *begins, const int32_t *cursors, int32_t experts,
                        int32_t pairs, const int32_t *offsets, const numbering *by) {
    const int32_t from = begins[0];
    const int in_one = cursors[experts - 1] - from == pairs;
    if (in_one)
        widen(to->tokens + from, to->slots + from, pairs, by);
    for (int32_t e = 0; e < experts && (!in_one || to->blocks); e++) {
        if (!in_one && e + 1 < experts) /* runs are too short for the CPU to see where they lead */
            for (int32_t i = begins[e + 1]; i < cursors[e + 1]; i += LINE)
                __builtin_prefetch(to->slots + i, 1);
        if (!in_one)
            widen(to->tokens + begins[e], to->slots + begins[e], cursors[e] - begins[e], by);
        if (to->blocks)
            fill_blocks(to, offsets, to->shifts[e], begins[e], cursors[e]);
    }
}

/* A token's number of experts cannot be foreseen (sequence scope): no branch depends on it but the rare one. */
SCATTER_INLINE void scatter_packed(const int32_t *offsets, const int32_t *ids, int64_t first, int64_t last,
                                   int32_t experts, int32_t *cursors, int32_t *begins, const seqtopk_scattered *to,
                                   int32_t *places) {
    const seqtopk_scattered packed = {.tokens = to->tokens, .places = places};
    numbering by = {PACKED, first, 0, offsets[first]};
    memcpy(begins, cursors, (size_t)experts * sizeof *begins);
    for (int32_t e = 0; e < experts; e++)
        __builtin_prefetch(to->tokens + cursors[e], 1);
    for (int64_t t = first, next; t < last; t = next) {
        next = end_of_stretch(offsets, t, last);
        if (offsets[next] - by.slot > BLOCK || next - by.token > BLOCK) {
            widen_block(to, begins, cursors, experts, offsets[t] - by.slot, offsets, &by);
            memcpy(begins, cursors, (size_t)experts * sizeof *begins);
            by.token = t;
            by.slot = offsets[t];
        }
        place_tokens(&packed, cursors, &by, offsets, ids, t, next);
    }
    widen_block(to, begins, cursors, experts, offsets[last] - by.slot, offsets, &by);
}

/*
 * Few pairs an expert, all of the list: one run, whatever experts have of it. A pair's place in a block is one more store for it, and
 * less than a look at each expert.
 */
static void scatter_few(const int32_t *offsets, const int32_t *ids, int64_t first, int64_t last, int32_t *cursors,
                        const seqtopk_scattered *to) {
    const numbering by = {PACKED, first, 0, offsets[first]};
    const seqtopk_scattered packed = {to->tokens, NULL, to->blocks, to->shifts, to->places, 0, 1};
    const int32_t from = cursors[0];
    for (int64_t t = first, next; t < last; t = next) {
        next = end_of_stretch(offsets, t, last);
        place_tokens(&packed, cursors, &by, offsets, ids, t, next);
    }
    widen(to->tokens + from, to->slots + from, offsets[last] - offsets[first], &by);
}

SCATTER_INLINE void scatter_plain(const int32_t *offsets, const int32_t *ids, int64_t first, int64_t last,
                                  int32_t *cursors, const seqtopk_scattered *to) {
    const numbering by = {BY_TOKEN, 0, 0, 0};
    for (int64_t t = first, next; t < last; t = next) {
        next = end_of_stretch(offsets, t, last);
        place_tokens(to, cursors, &by, offsets, ids, t, next);
    }
}

/* Each combination that is asked for often has a loop of its own. */
static void scatter_each(const int32_t *offsets, const int32_t *ids, int64_t first, int64_t last, int32_t *cursors,
                         const seqtopk_scattered *to) {
    const seqtopk_scattered all = *to;
    const int in_rows = to->blocks && to->width;
    if (!to->blocks && !to->places && !to->slots)
        scatter_plain(offsets, ids, first, last, cursors, &(seqtopk_scattered){.tokens = all.tokens});
    else if (!to->blocks && !to->places && !to->tokens)
        scatter_plain(offsets, ids, first, last, cursors, &(seqtopk_scattered){.slots = all.slots});
    else if (!to->blocks && !to->places)
        scatter_plain(offsets, ids, first, last, cursors,
                      &(seqtopk_scattered){.tokens = all.tokens, .slots = all.slots});
    else if (!in_rows && !to->places && !to->slots && !to->tokens)
        scatter_plain(offsets, ids, first, last, cursors,
                      &(seqtopk_scattered){.blocks = all.blocks, .shifts = all.shifts});
    else if (!in_rows)
        scatter_plain(offsets, ids, first, last, cursors,
                      &(seqtopk_scattered){all.tokens, all.slots, all.blocks, all.shifts, all.places, 0, 0});
    else
        scatter_plain(offsets, ids, first, last, cursors, &all);
}

/* As op scatter. */
static void scatter_pairs(const int32_t *offsets, const int32_t *ids, int64_t first, int64_t last, int32_t experts,
                          int32_t *cursors, int32_t *work, const seqtopk_scattered *to) {
    const int32_t pairs = offsets[last] - offsets[first];
    const int is_dense = (pairs < BLOCK ? pairs : BLOCK) / WORTH_PACKING >= experts;
    const int is_small = pairs <= BLOCK && last - first <= BLOCK && to->is_whole && !(to->blocks && to->width);
    if (!to->tokens || !to->slots || (!is_dense && !is_small))
        scatter_each(offsets, ids, first, last, cursors, to);
    else if (!is_dense)
        scatter_few(offsets, ids, first, last, cursors, to);
    else if (to->places)
        scatter_packed(offsets, ids, first, last, experts, cursors, work, to, to->places);
    else
        scatter_packed(offsets, ids, first, last, experts, cursors, work, to, NULL);
}

#endif
