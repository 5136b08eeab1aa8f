/* SPDX-License-Identifier: MIT */
/*
 * Bytes -> a desc, an input, the outputs wanted. Whatever comes: a status, no crash, nothing written beside an output, and
 * the lists in themselves sound; and every instruction set and cut into parts returns the same.
 */
#include "fuzz.h"
#include "source.h"

#include "src/kernels/registry.h"

#include <seqtopk/seqtopk.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const size_t fuzz_longest = 1 << 15;

void fuzz_shape(uint8_t *data, size_t *size, size_t capacity, uint64_t random) {
    (void)capacity;
    (void)size;
    /* Half the inputs get plain logits, so that not all of them end at the first NaN. */
    if (random & 1)
        for (size_t i = 64; i + 3 < *size; i += 4)
            data[i + 3] = (uint8_t)((data[i + 3] & 0x80) | 0x3f);
}

/* A small number mostly, anything at times. */
static int32_t take_size(source *s, int32_t most) {
    const uint32_t how = take(s, 1);
    return how < 250 ? (int32_t)(take(s, 2) % ((uint32_t)most + 1)) : (int32_t)take(s, 4);
}

static char context[512]; /* what is being routed */

static void fail(const char *what) {
    fprintf(stderr, "fuzz: %s: %s\n", what, context);
    abort();
}

enum { MOST_TOKENS = 40, MOST_EXPERTS = 300, MOST_PAIRS = MOST_TOKENS * MOST_EXPERTS, CANARY = 0x5a5a5a5a, PARTS = 3 };

typedef struct lists {
    int32_t offsets[MOST_TOKENS + 2], ids[MOST_PAIRS + 1], expert_offsets[MOST_EXPERTS + 2], tokens[MOST_PAIRS + 1],
        slots[MOST_PAIRS + 1];
    uint32_t weights[MOST_PAIRS + 1], null_weights[MOST_TOKENS];
    int64_t selected;
} lists;

/* What a router may say beside: mostly one thing of them, and at times nonsense. */
static void take_form(source *s, seqtopk_desc *d) {
    const uint32_t form = take(s, 1);
    if (form % 8 == 0)
        d->key_from = (seqtopk_key_from)(take(s, 1) % 3);
    if (form % 8 == 1)
        d->logit_scale = take(s, 1) & 3 ? 0.25f : take_float(s);
    if (form % 8 == 1 || form % 8 == 2)
        d->logit_softcap = take(s, 1) & 3 ? 30.0f : take_float(s);
    if (form % 8 == 3)
        d->group_quota = take_size(s, 8);
    if (form % 8 == 4)
        d->null_experts = take_size(s, 16);
    if (form % 8 == 5) {
        d->shared_experts = take_size(s, 3);
        d->shared_weight = take(s, 1) & 1 ? 0.5f : take(s, 1) & 3 ? 0 : take_float(s);
    }
    if (form % 8 == 6 && take(s, 1) & 3) {
        d->score = SEQTOPK_SCORE_LOGITS;
        d->norm = SEQTOPK_NORM_SPARSEMIXER;
    }
    if (form % 8 == 6 && take(s, 1) & 1)
        d->norm_jitter = take_float(s);
    if (form % 8 == 7) {
        d->min_p = take_float(s);
        d->top_p = take(s, 1) & 1 ? take_float(s) : 0;
    }
}

static void take_desc(source *s, seqtopk_desc *d) {
    d->experts = take_size(s, MOST_EXPERTS);
    d->top_k = take_size(s, take(s, 1) & 1 ? 8 : MOST_EXPERTS);
    d->scope = (seqtopk_scope)(take(s, 1) % 8 == 7 ? take(s, 1) : take(s, 1) % 2);
    d->score = (seqtopk_score)(take(s, 1) % 5);
    d->norm = (seqtopk_norm)(take(s, 1) % 6);
    if (take(s, 1) & 1) {
        d->norm_eps = take_float(s);
        d->norm_floor = take_float(s);
        d->scale = take_float(s);
    }
    d->norm_skip_top1 = (int32_t)take(s, 1) & 1;
    if (take(s, 1) & 1 && d->scope == SEQTOPK_SCOPE_SEQUENCE) {
        d->min_experts = take_size(s, 8);
        d->max_experts = take_size(s, 16);
    }
    if (take(s, 1) & 1) {
        d->groups = take_size(s, 8);
        d->group_top_k = take_size(s, 8);
        d->group_score = (seqtopk_group_score)(take(s, 1) % 4);
        d->group_n = take_size(s, 4);
    }
    d->dtype = (seqtopk_dtype)(take(s, 1) % 4);
    d->order = (seqtopk_order)(take(s, 1) % 3);
    if (take(s, 1) & 1)
        take_form(s, d);
}

/* What must hold of any lists, whatever was asked for. */
static void check_lists(const seqtopk_desc *d, int64_t tokens, const lists *l) {
    if (l->offsets[0] != 0 || l->offsets[tokens] != l->selected ||
        l->selected > tokens * (d->top_k + d->shared_experts))
        fail("token_offsets");
    for (int64_t t = 0; t < tokens; t++) {
        uint8_t seen[MOST_EXPERTS] = {0};
        if (l->offsets[t + 1] < l->offsets[t])
            fail("token_offsets fall");
        for (int32_t i = l->offsets[t]; i < l->offsets[t + 1]; i++)
            if (l->ids[i] < 0 || l->ids[i] >= d->experts || seen[l->ids[i]]++)
                fail("an id is out of range or there twice");
    }
    for (int32_t e = 0; e < d->experts - d->null_experts; e++)
        for (int32_t i = l->expert_offsets[e]; i < l->expert_offsets[e + 1]; i++)
            if (l->slots[i] < 0 || l->slots[i] >= l->selected || l->ids[l->slots[i]] != e ||
                (i > l->expert_offsets[e] && l->tokens[i] <= l->tokens[i - 1]))
                fail("expert-major lists");
}

static void check_canaries(const lists *l, int64_t tokens, int32_t experts, int64_t pairs) {
    const int32_t canary = CANARY;
    if (l->offsets[tokens + 1] != canary || l->expert_offsets[experts + 1] != canary || l->ids[pairs] != canary ||
        l->tokens[pairs] != canary || l->slots[pairs] != canary || l->weights[pairs] != (uint32_t)CANARY)
        fail("written beside an output");
}

static seqtopk_status route(const seqtopk_desc *desc, const char *isa, int parts, const seqtopk_input *in, lists *l) {
    seqtopk_desc d = *desc;
    seqtopk_plan *plan = NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    d.isa = isa;
    snprintf(context, sizeof context,
             "%s x%d T %lld E %d K %d scope %d score %d norm %d eps %g floor %g scale %g min %d max %d groups %d/%d "
             "score %d "
             "n %d dtype %d order %d stride %lld S %d%s%s%s bad rows %d key %d logits * %g cap %g quota %d null %d "
             "shared %d, %g "
             "jitter %g min_p %g top_p %g",
             isa, parts, (long long)in->tokens, (int)d.experts, (int)d.top_k, (int)d.scope, (int)d.score, (int)d.norm,
             (double)d.norm_eps, (double)d.norm_floor, (double)d.scale, (int)d.min_experts, (int)d.max_experts,
             (int)d.group_top_k, (int)d.groups, (int)d.group_score, (int)d.group_n, (int)d.dtype, (int)d.order,
             (long long)in->row_stride, in->cu_seqlens || in->token_seq ? (int)in->sequences : -1,
             in->token_mask ? " mask" : "", in->bias ? " bias" : "",
             in->given_ids   ? " given"
             : in->token_seq ? " mixed"
                             : "",
             (int)in->on_nonfinite, (int)d.key_from, (double)d.logit_scale, (double)d.logit_softcap, (int)d.group_quota,
             (int)d.null_experts, (int)d.shared_experts, (double)d.shared_weight, (double)d.norm_jitter,
             (double)d.min_p, (double)d.top_p);
    memset(l, 0x5a, sizeof *l);
    seqtopk_status status = seqtopk_plan_create(&plan, &d, &error);
    if (status || seqtopk_max_selected(plan, in->tokens) < 0) {
        seqtopk_plan_destroy(plan);
        return status ? status : SEQTOPK_E_OVERFLOW;
    }
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    out.token_offsets = l->offsets;
    out.expert_ids = l->ids;
    out.weights = (float *)(void *)l->weights;
    out.expert_offsets = l->expert_offsets;
    out.expert_tokens = l->tokens;
    out.expert_slots = l->slots;
    out.capacity = seqtopk_max_selected(plan, in->tokens);
    out.selected = &l->selected;
    out.null_weights = d.null_experts > 0 ? (float *)(void *)l->null_weights : NULL;
    const size_t size =
        seqtopk_scratch_size(plan, in->tokens, in->cu_seqlens || in->token_seq ? in->sequences : 1, parts);
    uint8_t *scratch = malloc(size ? size : 1);
    if (!scratch)
        fail("no memory");
    if (parts == 1) {
        status = seqtopk_route(plan, in, &out, scratch, size, &error);
    } else {
        for (int32_t step = 0; step < seqtopk_route_steps(plan); step++)
            for (int32_t part = parts; part-- > 0;)
                status = seqtopk_route_part(plan, in, &out, scratch, size, step, part, parts, &error);
    }
    if (status != error.status || (status == SEQTOPK_OK) != (error.message[0] == 0))
        fail("the status and the error differ");
    free(scratch);
    check_canaries(l, in->tokens, d.experts, out.capacity);
    if (status == SEQTOPK_OK)
        check_lists(&d, in->tokens, l);
    seqtopk_plan_destroy(plan);
    return status;
}

/* The first list that differs, or NULL. */
static const char *difference(const seqtopk_desc *d, int64_t tokens, const lists *a, const lists *b) {
    const size_t n = (size_t)a->selected * sizeof(int32_t);
    if (a->selected != b->selected)
        return "selected";
    if (memcmp(a->offsets, b->offsets, (size_t)(tokens + 1) * sizeof(int32_t)))
        return "token_offsets";
    if (memcmp(a->expert_offsets, b->expert_offsets, ((size_t)d->experts + 1) * sizeof(int32_t)))
        return "expert_offsets";
    if (memcmp(a->ids, b->ids, n))
        return "expert_ids";
    if (memcmp(a->weights, b->weights, n))
        return "weights";
    if (memcmp(a->null_weights, b->null_weights, d->null_experts > 0 ? (size_t)tokens * sizeof(float) : 0))
        return "null_weights";
    if (memcmp(a->tokens, b->tokens, n) || memcmp(a->slots, b->slots, n))
        return "expert-major lists";
    return NULL;
}

/* A selection made elsewhere, in memory of its exact size: rows, or lists whose offsets may fall. */
static int32_t *take_given(source *s, seqtopk_input *in, int32_t *offsets, uint32_t how) {
    const int32_t width = (int32_t)(take(s, 1) % 6);
    int32_t n = (int32_t)in->tokens * width;
    if (how & 1) {
        n = 0;
        for (int64_t t = 0; t <= in->tokens; t++, n += (int32_t)(take(s, 1) % 4))
            offsets[t] = n;
        n = offsets[in->tokens];
        in->given_offsets = offsets;
        if (how & 2 && in->tokens > 1) {
            offsets[1 + take(s, 1) % (uint32_t)(in->tokens - 1)] = (int32_t)take(s, 4);
            for (int64_t t = 0; t < in->tokens; t++) /* all that is read before an offset falls is there */
                if (offsets[t + 1] > n)
                    offsets[t + 1] = n;
        }
    }
    in->given_width = width;
    int32_t *ids = malloc((n ? (size_t)n : 1) * sizeof *ids);
    for (int32_t i = 0; ids && i < n; i++)
        ids[i] = (int32_t)(take(s, 1) % 16 ? take(s, 1) % 32 : take(s, 4)) - 2;
    in->given_ids = ids;
    return ids;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lists first, other;
    source s = {data, size};
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    take_desc(&s, &desc);
    in.tokens = take(&s, 1) % (MOST_TOKENS + 1);
    in.row_stride = take(&s, 1) % 4 == 0 ? SEQTOPK_STRIDE_BROADCAST : 0;

    int32_t cu[8] = {0};
    uint8_t mask[MOST_TOKENS];
    float bias[MOST_EXPERTS];
    if (take(&s, 1) & 1) {
        in.sequences = 1 + (int32_t)(take(&s, 1) % 6);
        for (int32_t i = 1; i <= in.sequences; i++)
            cu[i] = (int32_t)(take(&s, 1) % (MOST_TOKENS + 2)) - 1;
        if (take(&s, 1) & 3) { /* mostly rising, to T */
            for (int32_t i = 1; i <= in.sequences; i++)
                cu[i] = cu[i] < cu[i - 1] ? cu[i - 1] : cu[i] > in.tokens ? (int32_t)in.tokens : cu[i];
            cu[in.sequences] = (int32_t)in.tokens;
        }
        in.cu_seqlens = cu;
    }
    int32_t token_seq[MOST_TOKENS];
    if (take(&s, 1) % 4 == 0) { /* in any order; at times beside cu_seqlens, or of no sequence */
        in.token_seq = token_seq;
        if (take(&s, 1) & 7)
            in.cu_seqlens = NULL;
        in.sequences = (int32_t)(take(&s, 1) % 7);
        for (int i = 0; i < MOST_TOKENS; i++) {
            const int32_t any = (int32_t)(take(&s, 1) % 8);
            token_seq[i] = in.sequences > 0 && any < 7 ? any % in.sequences : any - 4;
        }
    }
    if (take(&s, 1) & 1) {
        for (int i = 0; i < MOST_TOKENS; i++)
            mask[i] = (uint8_t)take(&s, 1) & 3;
        in.token_mask = mask;
    }
    if (take(&s, 1) % 4 == 0) {
        for (int e = 0; e < MOST_EXPERTS; e++)
            bias[e] = (float)take(&s, 1) / 256;
        bias[take(&s, 1)] = take_float(&s);
        in.bias = bias;
    }
    const uint32_t extras = take(&s, 1);
    in.on_nonfinite = (seqtopk_nonfinite)(extras % 8 == 7 ? take(&s, 1) : extras % 8 / 2);
    int32_t *given = NULL, given_offsets[MOST_TOKENS + 1];
    if (extras / 8 % 4 == 0)
        given = take_given(&s, &in, given_offsets, extras / 32);
    /* What the library cannot know to be too large for these buffers. */
    if (desc.experts > MOST_EXPERTS)
        desc.experts = MOST_EXPERTS;

    /* The logits: of their exact size, what bytes are left, over and over. */
    const size_t element = desc.dtype == SEQTOPK_DTYPE_F32 ? 4 : 2,
                 experts = desc.experts > 0 ? (size_t)desc.experts : 0;
    const size_t bytes = element * experts * (in.row_stride < 0 ? in.tokens > 0 : (size_t)in.tokens);
    uint8_t *logits = malloc(bytes ? bytes : 1);
    if (!logits)
        return 0;
    for (size_t i = 0; i < bytes; i++)
        logits[i] = s.size ? s.data[i % (s.size & ~(size_t)3 ? s.size & ~(size_t)3 : s.size)] : 0;
    in.logits = logits;

    const seqtopk_status status = route(&desc, "ref", 1, &in, &first);
    for (int32_t i = 0; seqtopk_isa_name(i); i++)
        for (int parts = 1; parts <= PARTS && seqtopk_isa_usable(seqtopk_isa_name(i)); parts += PARTS - 1) {
            if (route(&desc, seqtopk_isa_name(i), parts, &in, &other) != status)
                fail("the status depends on the instruction set or on threads");
            const char *differs = status == SEQTOPK_OK ? difference(&desc, in.tokens, &first, &other) : NULL;
            if (differs)
                fail(differs);
        }
    free(logits);
    free(given);
    return 0;
}
