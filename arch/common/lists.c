/* SPDX-License-Identifier: MIT */
/*
 * The expert-major lists: scatter, with two stores a pair. What bounds a counting sort is the stores that each go to another
 * cache line than the last, one a cycle at best, and a pair has three of them: its token, its slot, and the cursor moved on.
 * Here token and slot go as one number, 16 bits each, counted from where a block of pairs begins, to the token's place; what
 * lies ready is then widened in one go. How many experts a token has cannot be foreseen, so that a loop over them
 * misjudges a branch for every token: instead whole lines of numbers are laid down for a token, the next token's over the
 * surplus, and pairs are taken from there without a look at tokens. The compiler's own vectors are all that is needed,
 * of as many int32 as vec.h has lanes.
 */
#include SEQTOPK_VEC_H

#include "arch/common/lanes.h"
#include "arch/common/name.h"
#include "arch/kernels.h"

#include <string.h>

#define LITTLE_ENDIAN_HERE (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)

/* What is wanted is known where a loop is called from, and must be known inside it. */
#define INLINE static inline __attribute__((always_inline))

enum {
    LINE = 16,           /* int32 in a cache line */
    NUMBERED = 2048,     /* pairs that are numbered at a time, and */
    TOKENS_AT_ONCE = 64, /* their tokens: few enough for the first-level cache */
    BLOCK = 65536,       /* pairs and tokens that 16 bits can tell apart */
    WORTH_PACKING = 8    /* pairs of an expert in a block, below which widening costs more than a store */
};
typedef uint32_t ints __attribute__((vector_size(4 * VEC_LANES), aligned(4), may_alias));

/* How tokens and slots become numbers: packed, both counted from where the block begins, or the token alone. */
typedef struct {
    int64_t token;
    int32_t slot, packed;
} numbering;

INLINE uint32_t number_of(const numbering *by, int64_t token, int32_t slot) {
    return by->packed ? (uint32_t)(token - by->token) << 16 | (uint32_t)(slot - by->slot) : (uint32_t)token;
}

/* The numbers of a token's n pairs from `slot` on, in whole lines. */
INLINE void number_pairs(uint32_t *numbers, const numbering *by, int64_t token, int32_t slot, int32_t n) {
    static const uint32_t steps[LINE] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const uint32_t number = number_of(by, token, slot);
    int32_t i = 0;
    do {
        for (int32_t lane = 0; lane < LINE; lane += VEC_LANES) {
            ints numbered = (ints){0} + number;
            if (by->packed)
                numbered += *(const ints *)(steps + lane) + (uint32_t)i;
            *(ints *)(numbers + i + lane) = numbered;
        }
        i += LINE;
    } while (__builtin_expect(i < n, 0));
}

/* Two neighbours in one load. */
INLINE uint64_t load_two(const void *p) {
    uint64_t two;
    memcpy(&two, p, sizeof two);
    return two;
}
INLINE uint32_t first_of(uint64_t two) { return (uint32_t)(two >> (LITTLE_ENDIAN_HERE ? 0 : 32)); }
INLINE uint32_t second_of(uint64_t two) { return (uint32_t)(two >> (LITTLE_ENDIAN_HERE ? 32 : 0)); }

/* Where pairs go; NULL: not wanted. */
typedef struct {
    int32_t *cursors, *numbers, *slots;
} places;

/* The lists grow at all experts' cursors at once: what comes next there is asked for a line ahead. */
INLINE void place_pair(const places *to, int32_t place, uint32_t number, int32_t slot) {
    if (to->numbers) {
        to->numbers[place] = (int32_t)number;
        __builtin_prefetch(to->numbers + place + LINE, 1);
    }
    if (to->slots) {
        to->slots[place] = slot;
        __builtin_prefetch(to->slots + place + LINE, 1);
    }
}

INLINE void place_pairs(const places *to, const int32_t *ids, const uint32_t *numbers, int32_t slot, int32_t n) {
    int32_t *cursors = to->cursors, i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint64_t experts = load_two(ids + i), more_experts = load_two(ids + i + 2);
        const uint64_t tells = load_two(numbers + i), tells_more = load_two(numbers + i + 2);
        const int32_t a = cursors[first_of(experts)]++, b = cursors[second_of(experts)]++;
        const int32_t c = cursors[first_of(more_experts)]++, d = cursors[second_of(more_experts)]++;
        place_pair(to, a, first_of(tells), slot + i);
        place_pair(to, b, second_of(tells), slot + i + 1);
        place_pair(to, c, first_of(tells_more), slot + i + 2);
        place_pair(to, d, second_of(tells_more), slot + i + 3);
    }
    for (; i < n; i++)
        place_pair(to, cursors[ids[i]]++, numbers[i], slot + i);
}

/* The pairs of tokens [first, last), as many as can be numbered at a time, or those of one token that has more. */
INLINE void place_tokens(const places *to, const numbering *by, const int32_t *offsets, const int32_t *ids,
                         int64_t first, int64_t last) {
    _Alignas(64) uint32_t numbers[NUMBERED + LINE];
    const int32_t begin = offsets[first], end = offsets[last];
    if (end - begin <= NUMBERED) {
        for (int64_t t = first; t < last; t++)
            number_pairs(numbers + (offsets[t] - begin), by, t, offsets[t], offsets[t + 1] - offsets[t]);
        place_pairs(to, ids + begin, numbers, begin, end - begin);
        return;
    }
    for (int32_t slot = begin, n; slot < end; slot += n) {
        n = end - slot < NUMBERED ? end - slot : NUMBERED;
        number_pairs(numbers, by, first, slot, n);
        place_pairs(to, ids + slot, numbers, slot, n);
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

/* All of a block's pairs, each expert's from where its cursor began. One run if nobody else's pairs are between. */
static void widen_block(const int32_t *begins, const int32_t *cursors, int32_t experts, int32_t pairs, int32_t *tokens,
                        int32_t *slots, const numbering *by) {
    const int32_t from = begins[0];
    if (cursors[experts - 1] - from == pairs) {
        widen(tokens + from, slots + from, pairs, by);
        return;
    }
    for (int32_t e = 0; e < experts; e++) {
        if (e + 1 < experts) /* runs are too short for the CPU to see where they lead */
            for (int32_t i = begins[e + 1]; i < cursors[e + 1]; i += LINE)
                __builtin_prefetch(slots + i, 1);
        widen(tokens + begins[e], slots + begins[e], cursors[e] - begins[e], by);
    }
}

/* A token's number of experts cannot be foreseen (sequence scope): no branch depends on it but the rare one. */
static void scatter_packed(const int32_t *offsets, const int32_t *ids, int64_t first, int64_t last, int32_t experts,
                           int32_t *cursors, int32_t *begins, int32_t *tokens, int32_t *slots) {
    const places to = {cursors, tokens, NULL};
    numbering by = {first, offsets[first], 1};
    memcpy(begins, cursors, (size_t)experts * sizeof *begins);
    for (int32_t e = 0; e < experts; e++)
        __builtin_prefetch(tokens + cursors[e], 1);
    for (int64_t t = first, next; t < last; t = next) {
        next = end_of_stretch(offsets, t, last);
        if (offsets[next] - by.slot > BLOCK || next - by.token > BLOCK) {
            widen_block(begins, cursors, experts, offsets[t] - by.slot, tokens, slots, &by);
            memcpy(begins, cursors, (size_t)experts * sizeof *begins);
            by.token = t;
            by.slot = offsets[t];
        }
        place_tokens(&to, &by, offsets, ids, t, next);
    }
    widen_block(begins, cursors, experts, offsets[last] - by.slot, tokens, slots, &by);
}

INLINE void scatter_plain(const int32_t *offsets, const int32_t *ids, int64_t first, int64_t last, const places *to) {
    const numbering by = {0, 0, 0};
    for (int64_t t = first, next; t < last; t = next) {
        next = end_of_stretch(offsets, t, last);
        place_tokens(to, &by, offsets, ids, t, next);
    }
}

void KERNEL(scatter, i32, packed)(const int32_t *offsets, const int32_t *ids, int64_t first, int64_t last,
                                  int32_t experts, int32_t *cursors, int32_t *work, int32_t *tokens, int32_t *slots) {
    const int32_t pairs = offsets[last] - offsets[first];
    if (!tokens)
        scatter_plain(offsets, ids, first, last, &(places){cursors, NULL, slots});
    else if (!slots)
        scatter_plain(offsets, ids, first, last, &(places){cursors, tokens, NULL});
    else if ((pairs < BLOCK ? pairs : BLOCK) / WORTH_PACKING >= experts)
        scatter_packed(offsets, ids, first, last, experts, cursors, work, tokens, slots);
    else
        scatter_plain(offsets, ids, first, last, &(places){cursors, tokens, slots});
}
