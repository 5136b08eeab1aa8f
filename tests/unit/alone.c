/* SPDX-License-Identifier: MIT */
/* One token asked for no more than lists, of any form: the straight line must come to what the way of any call comes to. */
#include "unit.h"

#include "tests/random.h"

#include <math.h>
#include <stdio.h>

enum { MOST_EXPERTS = 2048, MOST_WIDTH = 96, MOST_BLOCK = 40, SPACE = 4 << 20, ROUNDS = 4000 };

/* What a call comes to, and where it is written, with a mark behind. */
typedef struct lists {
    seqtopk_status status;
    char message[sizeof((seqtopk_error *)0)->message];
    int64_t selected;
    int32_t offsets[2], ids[MOST_WIDTH], padded_ids[MOST_WIDTH];
    float weights[MOST_WIDTH], padded_weights[MOST_WIDTH];
    int64_t padded64[MOST_WIDTH], counts[MOST_EXPERTS];
    int16_t padded16[MOST_WIDTH];
    uint8_t padded8[MOST_WIDTH], map[MOST_EXPERTS];
    int32_t expert_offsets[MOST_EXPERTS + 1], expert_tokens[MOST_WIDTH], expert_slots[MOST_WIDTH];
    int32_t pair_tokens[MOST_WIDTH], pair_places[MOST_WIDTH], ends[MOST_EXPERTS], active[MOST_EXPERTS], active_count;
    int32_t block_slots[MOST_WIDTH * MOST_BLOCK], block_experts[MOST_WIDTH], block_total;
    float probs[MOST_EXPERTS], null_weights[1];
} lists;

typedef struct alone {
    random_state random;
    seqtopk_desc desc;
    seqtopk_plan *plan;
    const char *isas[8];
    uint32_t usable;
    float logits[MOST_EXPERTS], bias[MOST_EXPERTS];
    int has_bias, is_padded, has_lists;
    uint32_t forms; /* a bit for each of others */
    int32_t width, block_size;
    seqtopk_padding padding;
    char *scratch;
    size_t size;
} alone;

static int chance(alone *a, uint32_t one_in) { return random_below(&a->random, one_in) == 0; }

static void draw_desc(alone *a) {
    static const int32_t experts[] = {1, 2, 7, 8, 16, 17, 40, 60, 64, 72, 128, 160, 256, 257, 384, 512, 768, 896, 2048};
    const seqtopk_desc fresh = SEQTOPK_DESC_INIT;
    seqtopk_desc *d = &a->desc;
    *d = fresh;
    d->experts = experts[random_below(&a->random, sizeof experts / sizeof *experts)];
    d->top_k = 1 + (int32_t)random_below(&a->random, chance(a, 3) ? 64 : 24);
    d->top_k = d->top_k < d->experts ? d->top_k : d->experts;
    d->scope = chance(a, 3) ? SEQTOPK_SCOPE_SEQUENCE : SEQTOPK_SCOPE_TOKEN;
    d->score = (seqtopk_score)random_below(&a->random, 4);
    d->dtype = (seqtopk_dtype)random_below(&a->random, 3);
    d->norm = (seqtopk_norm)random_below(&a->random, 4);
    d->scale = chance(a, 2) ? 1.0f : 2.5f;
    if (d->norm == SEQTOPK_NORM_SUM && chance(a, 3))
        d->norm_eps = 1e-20f;
    if (d->experts % 8 == 0 && chance(a, 4)) {
        d->groups = chance(a, 2) ? 8 : 4;
        d->group_top_k = 1 + (int32_t)random_below(&a->random, (uint32_t)d->groups);
        d->group_score = chance(a, 2) ? SEQTOPK_GROUP_TOP2 : SEQTOPK_GROUP_MAX;
    }
    if (d->experts > 8 && chance(a, 5))
        d->null_experts = 1 + (int32_t)random_below(&a->random, (uint32_t)d->experts / 2);
    d->isa = a->isas[random_below(&a->random, a->usable)];
}

static void draw_values(alone *a) {
    const size_t experts = (size_t)a->desc.experts;
    random_logits(&a->random, chance(a, 2) ? RANDOM_NORMAL : (random_kind)random_below(&a->random, RANDOM_KINDS),
                  (int)a->desc.dtype, a->logits, 1, experts, experts);
    if (chance(a, 12))
        random_store(a->logits, (int)a->desc.dtype, random_below(&a->random, (uint32_t)experts),
                     chance(a, 2) ? INFINITY : NAN);
    a->has_bias = chance(a, 2);
    const int exclude = chance(a, 6), small = !chance(a, 4);
    for (size_t e = 0; e < experts; e++)
        a->bias[e] = exclude && chance(a, 3) ? -INFINITY : (float)random_normal(&a->random) * (small ? 0.1f : 1e3f);
    if (chance(a, 12))
        a->bias[random_below(&a->random, (uint32_t)experts)] = chance(a, 2) ? INFINITY : -NAN;
    a->is_padded = chance(a, 2);
    a->has_lists = !chance(a, 4);
    a->padding = (seqtopk_padding)random_below(&a->random, 4);
    a->forms = chance(a, 3) ? 0 : random_below(&a->random, 1 << 15);
    a->block_size = (int32_t)random_below(&a->random, MOST_BLOCK + 1);
    a->width = seqtopk_max_per_token(a->plan) + (int32_t)random_below(&a->random, 4);
}

static void ask_for_forms(const alone *a, lists *to, seqtopk_output *out) {
    const uint32_t forms = a->forms;
    if (a->is_padded) {
        out->padded_ids64 = forms & 1 ? to->padded64 : NULL;
        out->padded_ids16 = forms & 2 ? to->padded16 : NULL;
        out->padded_ids8 = forms & 4 ? to->padded8 : NULL;
    }
    out->expert_offsets = forms & 8 ? to->expert_offsets : NULL;
    out->expert_tokens = forms & 16 ? to->expert_tokens : NULL;
    out->expert_slots = forms & 16 ? to->expert_slots : NULL;
    out->pair_tokens = forms & 32 ? to->pair_tokens : NULL;
    out->pair_places = forms & 64 ? to->pair_places : NULL;
    out->expert_ends = forms & 128 ? to->ends : NULL;
    out->expert_counts = forms & 256 ? to->counts : NULL;
    out->active_experts = forms & 512 ? to->active : NULL;
    out->active_count = forms & 512 ? &to->active_count : NULL;
    out->routing_map = forms & 1024 ? to->map : NULL;
    out->routing_probs = forms & 2048 ? to->probs : NULL;
    out->block_slots = forms & 4096 ? to->block_slots : NULL;
    out->block_experts = forms & 8192 ? to->block_experts : NULL;
    out->block_total = forms & 8192 ? &to->block_total : NULL;
    out->null_weights = a->desc.null_experts && forms & 16384 ? to->null_weights : NULL;
    out->block_size = a->block_size;
    out->block_capacity = MOST_WIDTH * MOST_BLOCK;
}

/* slowly: with an output more, which no straight line has. */
static void route(alone *a, int slowly, lists *to) {
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    int32_t way;
    memset(to, 0x5a, sizeof *to);
    in.logits = a->logits;
    in.tokens = 1;
    in.bias = a->has_bias ? a->bias : NULL;
    out.token_offsets = to->offsets;
    out.expert_ids = a->has_lists ? to->ids : NULL;
    out.weights = a->has_lists ? to->weights : NULL;
    out.selected = &to->selected;
    out.capacity = a->has_lists ? seqtopk_max_selected(a->plan, 1) : 0;
    if (a->is_padded) {
        out.padded_ids = to->padded_ids;
        out.padded_weights = to->padded_weights;
        out.padded_width = a->width;
        out.padding = a->padding;
    }
    ask_for_forms(a, to, &out);
    out.ways = slowly ? &way : NULL;
    memset(a->scratch, 0x5a, a->size);
    to->status = seqtopk_route(a->plan, &in, &out, a->scratch, a->size, &error);
    memset(to->message, 0, sizeof to->message);
    snprintf(to->message, sizeof to->message, "%s", error.message);
}

Test(alone, as_any_call, .timeout = 300) {
    alone *a = calloc(1, sizeof *a);
    lists *quick = malloc(sizeof *quick), *slow = malloc(sizeof *slow);
    const char *isa;
    cr_assert(a && quick && slow && (a->scratch = malloc(SPACE)));
    random_seed(&a->random, 2026);
    for (int32_t i = 0; (isa = seqtopk_isa_name(i)) && a->usable < 8; i++)
        if (seqtopk_isa_usable(isa))
            a->isas[a->usable++] = isa;
    int good = 0, bad = 0;
    for (int round = 0; round < ROUNDS; round++) {
        seqtopk_error error = SEQTOPK_ERROR_INIT;
        draw_desc(a);
        if (seqtopk_plan_create(&a->plan, &a->desc, &error))
            continue; /* a norm that does not go with the score, and the like */
        a->size = seqtopk_scratch_size(a->plan, 1, 1, 1);
        cr_assert(a->size <= SPACE);
        draw_values(a);
        if (a->width <= MOST_WIDTH || !a->is_padded) {
            route(a, 0, quick);
            route(a, 1, slow);
            const int same = quick->status || slow->status
                                 ? quick->status == slow->status && !strcmp(quick->message, slow->message)
                                 : memcmp(quick, slow, sizeof *quick) == 0;
            cr_expect(same, "round %d, forms %x, %s: E %d K %d score %d norm %d dtype %d groups %d: %d (%s), %d (%s)",
                      round, a->forms, a->desc.isa, (int)a->desc.experts, (int)a->desc.top_k, (int)a->desc.score,
                      (int)a->desc.norm, (int)a->desc.dtype, (int)a->desc.groups, (int)quick->status, quick->message,
                      (int)slow->status, slow->message);
            good += quick->status == SEQTOPK_OK;
            bad += quick->status != SEQTOPK_OK;
        }
        seqtopk_plan_destroy(a->plan);
    }
    cr_expect(good > ROUNDS / 2 && bad > ROUNDS / 40, "%d good calls, %d bad ones", good, bad);
    free(a->scratch);
    free(a);
    free(quick);
    free(slow);
}
