/* SPDX-License-Identifier: MIT */
#include "sheet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How many elements an output has, and how many of them count. */
typedef enum extent { PER_TOKEN, PER_TOKEN_AND_ONE, PER_EXPERT_AND_ONE, PER_PAIR, PADDED, DENSE, SINGLE } extent;

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
};
#undef FIELD

uint32_t sheet_lse_bit(void) {
    uint32_t bit = 0;
    for (int i = 0; i < SHEET_FIELDS; i++)
        if (fields[i].extent == PER_TOKEN)
            bit |= 1u << i;
    return bit;
}

static size_t cells_of(extent of, size_t tokens, size_t experts, size_t pairs, size_t padded) {
    switch (of) {
    case PER_TOKEN: return tokens;
    case PER_TOKEN_AND_ONE: return tokens + 1;
    case PER_EXPERT_AND_ONE: return experts + 1;
    case PER_PAIR: return pairs;
    case PADDED: return padded;
    case DENSE: return tokens * experts;
    case SINGLE: return 1;
    }
    return 0;
}

void sheet_open(sheet *s, int64_t tokens, int32_t experts, int64_t pairs, int64_t padded) {
    memset(s, 0, sizeof *s);
    for (int i = 0; i < SHEET_FIELDS; i++)
        guard_open(s->memory + i, 128 + fields[i].element * cells_of(fields[i].extent, (size_t)tokens, (size_t)experts,
                                                                     (size_t)pairs, (size_t)padded));
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

const char *sheet_difference(const sheet *a, const sheet *b) {
    const int64_t selected = *a->out.selected;
    for (int i = 0; i < SHEET_FIELDS; i++) {
        const char *x = field_of(a, i), *y = field_of(b, i);
        const size_t element = fields[i].element;
        if (!x || !y)
            continue;
        if (fields[i].extent != PADDED) {
            const size_t cells = cells_of(fields[i].extent, (size_t)a->tokens, (size_t)a->experts, (size_t)selected, 0);
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

int sheet_agrees(const sheet *s, char *why, size_t size) {
    const seqtopk_output *out = &s->out;
    if (out->token_offsets[0] != 0 || out->token_offsets[s->tokens] != *out->selected)
        DISAGREE("token_offsets goes from %d to %d, selected is %lld", out->token_offsets[0],
                 out->token_offsets[s->tokens], (long long)*out->selected);
    for (int64_t t = 0; t < s->tokens; t++)
        if (!rows_agree(s, t, why, size))
            return 0;
    return expert_major_agrees(s, why, size);
}
