/* SPDX-License-Identifier: MIT */
#include "tune/verify.h"

#include <stdlib.h>
#include <string.h>

bool seqtopk_tune_lists_new(seqtopk_tune_lists *l, int64_t tokens, int32_t experts, int32_t top_k) {
    const size_t pairs = (size_t)tokens * (size_t)top_k;
    *l = (seqtopk_tune_lists){.tokens = tokens, .capacity = (int64_t)pairs, .experts = experts};
    l->token_offsets = malloc(((size_t)tokens + 1) * sizeof *l->token_offsets);
    l->expert_ids = malloc(pairs * sizeof *l->expert_ids);
    l->weights = malloc(pairs * sizeof *l->weights);
    l->expert_offsets = malloc(((size_t)experts + 1) * sizeof *l->expert_offsets);
    l->expert_tokens = malloc(pairs * sizeof *l->expert_tokens);
    l->expert_slots = malloc(pairs * sizeof *l->expert_slots);
    return l->token_offsets && l->expert_ids && l->weights && l->expert_offsets && l->expert_tokens && l->expert_slots;
}

void seqtopk_tune_lists_free(seqtopk_tune_lists *l) {
    free(l->token_offsets);
    free(l->expert_ids);
    free(l->weights);
    free(l->expert_offsets);
    free(l->expert_tokens);
    free(l->expert_slots);
    *l = (seqtopk_tune_lists){0};
}

seqtopk_output seqtopk_tune_lists_output(seqtopk_tune_lists *l, bool by_expert) {
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    out.token_offsets = l->token_offsets;
    out.expert_ids = l->expert_ids;
    out.weights = l->weights;
    out.capacity = l->capacity;
    out.selected = &l->selected;
    out.ways = &l->way;
    if (by_expert) {
        out.expert_offsets = l->expert_offsets;
        out.expert_tokens = l->expert_tokens;
        out.expert_slots = l->expert_slots;
    }
    return out;
}

const char *seqtopk_tune_lists_differ(const seqtopk_tune_lists *a, const seqtopk_tune_lists *b, int64_t tokens,
                                      bool by_expert) {
    const size_t n = (size_t)a->selected;
    if (a->selected != b->selected)
        return "selected";
    if (memcmp(a->token_offsets, b->token_offsets, ((size_t)tokens + 1) * sizeof *a->token_offsets) != 0)
        return "token_offsets";
    if (memcmp(a->expert_ids, b->expert_ids, n * sizeof *a->expert_ids) != 0)
        return "expert_ids";
    if (memcmp(a->weights, b->weights, n * sizeof *a->weights) != 0)
        return "weights";
    if (!by_expert)
        return NULL;
    if (memcmp(a->expert_offsets, b->expert_offsets, ((size_t)a->experts + 1) * sizeof *a->expert_offsets) != 0)
        return "expert_offsets";
    if (memcmp(a->expert_tokens, b->expert_tokens, n * sizeof *a->expert_tokens) != 0)
        return "expert_tokens";
    return memcmp(a->expert_slots, b->expert_slots, n * sizeof *a->expert_slots) != 0 ? "expert_slots" : NULL;
}

void seqtopk_tune_lists_spoil(seqtopk_tune_lists *l) {
    const size_t pairs = (size_t)l->capacity;
    memset(l->token_offsets, 0xa5, ((size_t)l->tokens + 1) * sizeof *l->token_offsets);
    memset(l->expert_ids, 0xa5, pairs * sizeof *l->expert_ids);
    memset(l->weights, 0xa5, pairs * sizeof *l->weights);
    memset(l->expert_offsets, 0xa5, ((size_t)l->experts + 1) * sizeof *l->expert_offsets);
    memset(l->expert_tokens, 0xa5, pairs * sizeof *l->expert_tokens);
    memset(l->expert_slots, 0xa5, pairs * sizeof *l->expert_slots);
    l->selected = -1;
}
