/* SPDX-License-Identifier: MIT */
#include "sheet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How many elements an output has, and how many of them count. */
typedef enum extent {
    PER_TOKEN,
    PER_TOKEN_AND_ONE,
    PER_EXPERT,
    PER_EXPERT_AND_ONE,
    PER_PAIR,
    PADDED,
    DENSE,
    SINGLE,
    BLOCK_SLOTS,
    BLOCKS
} extent;

#define FIELD(name, extent, element)                                                                                   \
    { #name, offsetof(seqtopk_output, name), extent, element }
static const struct field {
    const char *name;
    size_t at;
    extent extent;
    size_t element;
} fields[SHEET_FIELDS] = {
    FIELD(token_offsets, PER_TOKEN_AND_ONE, 4),
    FIELD(expert_ids, PER_PAIR, 4),
    FIELD(weights, PER_PAIR, 4),
    FIELD(expert_offsets, PER_EXPERT_AND_ONE, 4),
    FIELD(expert_tokens, PER_PAIR, 4),
    FIELD(expert_slots, PER_PAIR, 4),
    FIELD(padded_ids, PADDED, 4),
    FIELD(padded_ids64, PADDED, 8),
    FIELD(padded_weights, PADDED, 4),
    FIELD(routing_map, DENSE, 1),
    FIELD(routing_probs, DENSE, 4),
    FIELD(row_lse, PER_TOKEN, 4),
    FIELD(selected, SINGLE, 8),
    FIELD(padded_ids16, PADDED, 2),
    FIELD(padded_ids8, PADDED, 1),
    FIELD(pair_tokens, PER_PAIR, 4),
    FIELD(pair_places, PER_PAIR, 4),
    FIELD(expert_ends, PER_EXPERT, 4),
    FIELD(expert_counts, PER_EXPERT, 8), /* added to the rubbish that stands there */
    FIELD(active_experts, PER_EXPERT, 4),
    FIELD(active_count, SINGLE, 4),
    FIELD(block_slots, BLOCK_SLOTS, 4),
    FIELD(block_experts, BLOCKS, 4),
    FIELD(block_total, SINGLE, 4),
};
#undef FIELD

static uint32_t bit_of(size_t offset) {
    uint32_t bit = 0;
    for (int i = 0; i < SHEET_FIELDS; i++)
        bit |= (uint32_t)(fields[i].at == offset) << i;
    return bit;
}

uint32_t sheet_lse_bit(void) {
    uint32_t bit = 0;
    for (int i = 0; i < SHEET_FIELDS; i++)
        if (fields[i].extent == PER_TOKEN)
            bit |= 1u << i;
    return bit;
}

/* Of every size some, the same for calls of the same shape. */
static int32_t block_size_of(size_t tokens, size_t experts) {
    static const int32_t sizes[] = {1, 4, 5, 16, 64};
    return sizes[(7 * tokens + experts) % (sizeof sizes / sizeof *sizes)];
}

static size_t block_slots_of(size_t tokens, size_t experts, size_t pairs) {
    const size_t size = (size_t)block_size_of(tokens, experts);
    return (pairs + (pairs < experts ? pairs : experts) * (size - 1)) / size * size;
}

static size_t cells_of(extent of, size_t tokens, size_t experts, size_t pairs, size_t padded) {
    switch (of) {
    case PER_TOKEN: return tokens;
    case PER_TOKEN_AND_ONE: return tokens + 1;
    case PER_EXPERT: return experts;
    case PER_EXPERT_AND_ONE: return experts + 1;
    case PER_PAIR: return pairs;
    case PADDED: return padded;
    case DENSE: return tokens * experts;
    case SINGLE: return 1;
    case BLOCK_SLOTS: return block_slots_of(tokens, experts, pairs);
    case BLOCKS: return block_slots_of(tokens, experts, pairs) / (size_t)block_size_of(tokens, experts);
    }
    return 0;
}

void sheet_open(sheet *s, int64_t tokens, int32_t experts, int64_t pairs, int64_t padded) {
    memset(s, 0, sizeof *s);
    for (int i = 0; i < SHEET_FIELDS; i++) {
        const int in_blocks = fields[i].extent == BLOCK_SLOTS || fields[i].extent == BLOCKS;
        const size_t cells =
            in_blocks ? (size_t)pairs + 64 * (size_t)experts /* whatever the blocks' size */
                      : cells_of(fields[i].extent, (size_t)tokens, (size_t)experts, (size_t)pairs, (size_t)padded);
        guard_open(s->memory + i, 128 + fields[i].element * cells);
    }
}

void sheet_close(sheet *s) {
    for (int i = 0; i < SHEET_FIELDS; i++)
        guard_close(s->memory + i);
}

void sheet_place(sheet *s, int64_t tokens, int32_t experts, int64_t pairs, int32_t width, int64_t stride,
                 seqtopk_padding padding, uint32_t wanted, uint32_t (*pick)(uint32_t n)) {
    const seqtopk_output fresh = SEQTOPK_OUTPUT_INIT;
    s->out = fresh;
    s->tokens = tokens;
    s->experts = experts;
    s->stride = stride ? stride : width;
    s->out.capacity = pairs;
    s->out.padding = padding;
    s->out.padded_width = width;
    s->out.padded_stride = stride;
    s->out.fill_tail = (int32_t)pick(2);
    s->out.block_size = block_size_of((size_t)tokens, (size_t)experts);
    s->out.block_capacity = (int64_t)block_slots_of((size_t)tokens, (size_t)experts, (size_t)pairs);
    if (experts > 255) /* no number would be left for the padding */
        wanted &= ~bit_of(offsetof(seqtopk_output, padded_ids8));
    if (!(wanted & bit_of(offsetof(seqtopk_output, block_slots))))
        wanted &= ~(bit_of(offsetof(seqtopk_output, block_experts)) | bit_of(offsetof(seqtopk_output, block_total)));
    const size_t padded = tokens ? (size_t)(tokens - 1) * (size_t)s->stride + (size_t)width : 0;
    for (int i = 0; i < SHEET_FIELDS; i++) {
        void *memory = NULL;
        if (wanted >> i & 1)
            memory = guard_place(s->memory + i,
                                 fields[i].element *
                                     cells_of(fields[i].extent, (size_t)tokens, (size_t)experts, (size_t)pairs, padded),
                                 pick(4) ? GUARD_END : GUARD_BEGIN, pick(3) ? 0 : fields[i].element * pick(16));
        memcpy((char *)&s->out + fields[i].at, &memory, sizeof memory);
    }
}

static void *field_of(const sheet *s, int i) {
    void *memory;
    memcpy(&memory, (const char *)&s->out + fields[i].at, sizeof memory);
    return memory;
}

const char *sheet_spoilt(const sheet *s) {
    for (int i = 0; i < SHEET_FIELDS; i++) {
        const unsigned char *memory = field_of(s, i);
        const size_t element = fields[i].element;
        if (!memory)
            continue;
        if (!guard_intact(s->memory + i))
            return fields[i].name;
        for (int64_t t = 0; fields[i].extent == PADDED && t + 1 < s->tokens; t++)
            for (size_t b = (size_t)(t * s->stride + s->out.padded_width) * element;
                 b < (size_t)((t + 1) * s->stride) * element; b++)
                if (memory[b] != GUARD_RUBBISH)
                    return fields[i].name;
    }
    return NULL;
}

/* What slots of blocks count. */
static int has_padded(const sheet *s) {
    const seqtopk_output *out = &s->out;
    return out->padded_ids || out->padded_ids64 || out->padded_ids16 || out->padded_ids8 || out->padded_weights;
}

const char *sheet_difference(const sheet *a, const sheet *b) {
    const int64_t selected = *a->out.selected;
    for (int i = 0; i < SHEET_FIELDS; i++) {
        const char *x = field_of(a, i), *y = field_of(b, i);
        const size_t element = fields[i].element;
        if (!x || !y || (fields[i].extent == BLOCK_SLOTS && has_padded(a) != has_padded(b)))
            continue;
        if (fields[i].extent != PADDED) {
            const size_t cells = fields[i].extent == BLOCK_SLOTS
                                     ? (size_t)*a->out.block_total
                                     : cells_of(fields[i].extent, (size_t)a->tokens, (size_t)a->experts,
                                                (size_t)(fields[i].extent == BLOCKS ? a->out.capacity : selected), 0);
            if (memcmp(x, y, cells * element))
                return fields[i].name;
            continue;
        }
        for (int64_t t = 0; t < a->tokens; t++)
            if (memcmp(x + (size_t)(t * a->stride) * element, y + (size_t)(t * b->stride) * element,
                       (size_t)a->out.padded_width * element))
                return fields[i].name;
    }
    return NULL;
}

/* ------------------------------------------------------------ agreement -- */

#define DISAGREE(...)                                                                                                  \
    do {                                                                                                               \
        snprintf(why, size, __VA_ARGS__);                                                                              \
        return 0;                                                                                                      \
    } while (0)

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static int has(const seqtopk_output *out, int64_t t, int32_t expert) {
    for (int32_t i = out->token_offsets[t]; i < out->token_offsets[t + 1]; i++)
        if (out->expert_ids[i] == expert)
            return 1;
    return 0;
}

static int expert_major_agrees(const sheet *s, char *why, size_t size) {
    const seqtopk_output *out = &s->out;
    if (out->expert_offsets[0] != 0 || out->expert_offsets[s->experts] != *out->selected)
        DISAGREE("expert_offsets goes from %d to %d", out->expert_offsets[0], out->expert_offsets[s->experts]);
    for (int32_t e = 0; e < s->experts; e++) {
        if (out->expert_offsets[e + 1] < out->expert_offsets[e])
            DISAGREE("expert_offsets falls at expert %d", e);
        for (int32_t i = out->expert_offsets[e]; i < out->expert_offsets[e + 1]; i++) {
            const int32_t t = out->expert_tokens[i], slot = out->expert_slots[i];
            if (t < 0 || t >= s->tokens || (i > out->expert_offsets[e] && t <= out->expert_tokens[i - 1]))
                DISAGREE("expert %d: tokens do not ascend", e);
            if (slot < out->token_offsets[t] || slot >= out->token_offsets[t + 1] || out->expert_ids[slot] != e)
                DISAGREE("expert %d: slot %d is not that of token %d", e, slot, t);
        }
    }
    return 1;
}

/* What stands in the next free place of a padded row. */
static int32_t filler(const sheet *s, int64_t t, int32_t *next) {
    if (s->out.padding == SEQTOPK_PAD_MINUS_ONE)
        return -1;
    if (s->out.padding == SEQTOPK_PAD_EXPERTS)
        return s->experts;
    if (s->out.padding == SEQTOPK_PAD_FIRST)
        return s->out.token_offsets[t] < s->out.token_offsets[t + 1] ? s->out.expert_ids[s->out.token_offsets[t]] : 0;
    while (has(&s->out, t, *next))
        ++*next;
    return (*next)++;
}

static int rows_agree(const sheet *s, int64_t t, char *why, size_t size) {
    const seqtopk_output *out = &s->out;
    const int32_t from = out->token_offsets[t], n = out->token_offsets[t + 1] - from;
    int32_t next = 0;
    for (int32_t u = 0; u < out->padded_width; u++) {
        const int64_t cell = t * s->stride + u;
        const int32_t id = u < n ? out->expert_ids[from + u] : filler(s, t, &next);
        const float weight = u < n ? out->weights[from + u] : 0.0f;
        if (out->padded_ids[cell] != id || out->padded_ids64[cell] != id)
            DISAGREE("token %lld place %d: padded ids %d and %lld, not %d", (long long)t, u, out->padded_ids[cell],
                     (long long)out->padded_ids64[cell], id);
        if (out->padded_ids16[cell] != id || (out->padded_ids8 && out->padded_ids8[cell] != (uint8_t)id))
            DISAGREE("token %lld place %d: padded ids of fewer bits", (long long)t, u);
        if (bits_of(out->padded_weights[cell]) != bits_of(weight))
            DISAGREE("token %lld place %d: padded weight", (long long)t, u);
    }
    int32_t chosen = 0;
    for (int32_t e = 0; e < s->experts; e++) {
        const int64_t cell = t * s->experts + e;
        chosen += out->routing_map[cell];
        if (out->routing_map[cell] > 1 || (!out->routing_map[cell] && bits_of(out->routing_probs[cell]) != 0))
            DISAGREE("token %lld expert %d: dense rows", (long long)t, e);
    }
    for (int32_t i = from; i < from + n; i++) {
        const int64_t cell = t * s->experts + out->expert_ids[i];
        if (!out->routing_map[cell] || bits_of(out->routing_probs[cell]) != bits_of(out->weights[i]))
            DISAGREE("token %lld expert %d: dense rows", (long long)t, out->expert_ids[i]);
    }
    if (chosen != n)
        DISAGREE("token %lld: routing_map has %d experts, not %d", (long long)t, chosen, n);
    return 1;
}

static int pairs_agree(const sheet *s, char *why, size_t size) {
    const seqtopk_output *out = &s->out;
    int32_t active = 0;
    for (int64_t t = 0; t < s->tokens; t++)
        for (int32_t i = out->token_offsets[t]; i < out->token_offsets[t + 1]; i++)
            if (out->pair_tokens[i] != t || out->expert_slots[out->pair_places[i]] != i)
                DISAGREE("pair %d: its token or place", i);
    for (int64_t i = *out->selected; out->fill_tail && i < out->capacity; i++)
        if (out->expert_ids[i] != (*out->selected ? out->expert_ids[*out->selected - 1] : 0) ||
            bits_of(out->weights[i]) != 0 || out->pair_tokens[i] != s->tokens - 1)
            DISAGREE("what fills up the lists at %lld", (long long)i);
    for (int32_t e = 0; e < s->experts; e++) {
        const int32_t pairs = out->expert_offsets[e + 1] - out->expert_offsets[e];
        int64_t before;
        memset(&before, GUARD_RUBBISH, sizeof before);
        if (out->expert_ends[e] != out->expert_offsets[e + 1] || out->expert_counts[e] - before != pairs)
            DISAGREE("expert %d: its end or count", e);
        if (pairs && out->active_experts[active++] != e)
            DISAGREE("expert %d is active", e);
    }
    if (*out->active_count != active)
        DISAGREE("%d active experts, not %d", *out->active_count, active);
    return 1;
}

/* Block by block: one expert's pairs in their order, then what is none. */
static int blocks_agree(const sheet *s, char *why, size_t size) {
    const seqtopk_output *out = &s->out;
    const int64_t width = out->padded_width;
    int32_t at = 0;
    for (int32_t e = 0; e < s->experts; e++) {
        const int32_t end = out->expert_offsets[e + 1];
        for (int32_t i = out->expert_offsets[e]; i < end || at % out->block_size; i++, at++) {
            if (out->block_experts[at / out->block_size] != e)
                DISAGREE("block %d is of expert %d, not %d", at / out->block_size,
                         out->block_experts[at / out->block_size], e);
            const int64_t t = i < end ? out->expert_tokens[i] : s->tokens;
            const int64_t column = i < end ? out->expert_slots[i] - out->token_offsets[t] : 0;
            if (out->block_slots[at] != t * width + column)
                DISAGREE("block slot %d is %d", at, out->block_slots[at]);
        }
    }
    if (*out->block_total != at)
        DISAGREE("the blocks have %d slots, not %d", *out->block_total, at);
    return 1;
}

int sheet_agrees(const sheet *s, char *why, size_t size) {
    const seqtopk_output *out = &s->out;
    if (out->token_offsets[0] != 0 || out->token_offsets[s->tokens] != *out->selected)
        DISAGREE("token_offsets goes from %d to %d, selected is %lld", out->token_offsets[0],
                 out->token_offsets[s->tokens], (long long)*out->selected);
    for (int64_t t = 0; t < s->tokens; t++)
        if (!rows_agree(s, t, why, size))
            return 0;
    return expert_major_agrees(s, why, size) && pairs_agree(s, why, size) && blocks_agree(s, why, size);
}
