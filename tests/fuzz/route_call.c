/* SPDX-License-Identifier: MIT */
#include "route_call.h"

#include "tests/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A small number mostly, anything at times. */
static int32_t take_size(source *s, int32_t most) {
    const uint32_t how = take(s, 1);
    return how < 250 ? (int32_t)(take(s, 2) % ((uint32_t)most + 1)) : (int32_t)take(s, 4);
}

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

/* Random numbers seldom divide one another: of groups mostly a number that does. */
static void take_groups(source *s, seqtopk_desc *d) {
    static const int32_t usual[] = {2, 4, 8, 16, 3, 5};
    const uint32_t how = take(s, 1);
    if (how % 4 && d->experts > 0) {
        d->groups = usual[how / 4 % (sizeof usual / sizeof *usual)];
        d->experts = (d->experts + d->groups - 1) / d->groups * d->groups;
        if (d->experts > FUZZ_EXPERTS)
            d->experts -= d->groups;
        d->group_top_k = 1 + (int32_t)(take(s, 1) % (uint32_t)d->groups);
    } else {
        d->groups = take_size(s, 8);
        d->group_top_k = take_size(s, 8);
    }
    d->group_score = (seqtopk_group_score)(take(s, 1) % 4);
    d->group_n = take_size(s, 4);
}

static void take_desc(source *s, seqtopk_desc *d) {
    d->experts = take_size(s, take(s, 1) & 1 ? 64 : FUZZ_EXPERTS);
    d->top_k = take_size(s, take(s, 1) & 1 ? 8 : FUZZ_EXPERTS);
    if (d->top_k > d->experts && take(s, 1) % 16) /* of which nothing would be learnt */
        d->top_k = d->experts;
    d->scope = (seqtopk_scope)(take(s, 1) % 8 == 7 ? take(s, 1) : take(s, 1) % 2);
    d->score = (seqtopk_score)(take(s, 1) % 32 == 31 ? 4 : take(s, 1) % 4);
    d->norm = (seqtopk_norm)(take(s, 1) % 32 == 31 ? take(s, 1) % 6 : take(s, 1) % 4);
    if (take(s, 1) % 4 == 1) {
        d->norm_eps = take_float(s);
        d->norm_floor = take_float(s);
        d->scale = take_float(s);
    }
    d->norm_skip_top1 = (int32_t)take(s, 1) & 1;
    if (take(s, 1) & 1 && d->scope == SEQTOPK_SCOPE_SEQUENCE) {
        d->min_experts = take_size(s, 8);
        d->max_experts = take_size(s, 24);
    }
    if (take(s, 1) & 1)
        take_groups(s, d);
    d->dtype = (seqtopk_dtype)(take(s, 1) % 64 == 63 ? 3 : take(s, 1) % 3);
    d->order = (seqtopk_order)(take(s, 1) % 32 == 31 ? 2 : take(s, 1) % 2);
    if (take(s, 1) & 1)
        take_form(s, d);
    if (d->experts > FUZZ_EXPERTS) /* the library cannot know what is too large for the buffers here */
        d->experts = FUZZ_EXPERTS;
}

static int32_t between(int32_t value, int32_t least, int32_t most) {
    return value < least ? least : value > most ? most : value;
}

/* Finite, not negative, and mostly not out of this world. */
static float positive(float value, float most) {
    value = fabsf(value);
    return value <= most ? value : 0.25f;
}

/* Most inputs are to be routed and not to be refused: what contradicts itself is mended. */
static void tame(seqtopk_desc *d) {
    d->experts = between(d->experts, 1, FUZZ_EXPERTS);
    if (d->groups > 1 && d->experts % d->groups)
        d->groups = d->group_top_k = d->group_quota = 0;
    if (d->groups <= 1)
        d->groups = d->group_top_k = d->group_quota = 0;
    d->scope = (seqtopk_scope)((unsigned)d->scope % 2);
    d->score = (seqtopk_score)((unsigned)d->score % 4);
    d->dtype = (seqtopk_dtype)((unsigned)d->dtype % 3);
    d->group_score = (seqtopk_group_score)((unsigned)d->group_score % 3);
    d->key_from = (seqtopk_key_from)((unsigned)d->key_from % 2);
    d->null_experts = d->shared_experts ? 0 : between(d->null_experts, 0, d->experts - 1);
    d->shared_experts = between(d->shared_experts, 0, d->experts - 1);
    if (d->shared_experts == 0 || d->score == SEQTOPK_SCORE_SOFTMAX)
        d->shared_weight = d->shared_experts ? 0.5f : 0;
    d->shared_weight = positive(d->shared_weight, 1e30f);
    if (d->groups && (d->shared_experts || d->null_experts))
        d->groups = d->group_top_k = d->group_quota = 0;
    const int32_t competing = d->experts - d->shared_experts, size = competing / (d->groups ? d->groups : 1);
    d->top_k = between(d->top_k, 1, competing);
    d->group_top_k = d->groups ? between(d->group_top_k, 1, d->groups) : 0;
    d->group_quota = between(d->group_quota, 0, size);
    if (d->group_quota)
        d->top_k = between(d->top_k, 1, d->group_top_k * d->group_quota);
    d->group_n = d->group_score == SEQTOPK_GROUP_TOPN ? between(d->group_n, 1, size) : 0;
    if (d->group_score == SEQTOPK_GROUP_TOP2 && size < 2)
        d->group_score = SEQTOPK_GROUP_MAX;
    d->min_experts = between(d->min_experts, 0, d->top_k);
    if (d->max_experts)
        d->max_experts = between(d->max_experts, d->min_experts > 1 ? d->min_experts : 1, FUZZ_EXPERTS);
    d->norm_eps = positive(d->norm_eps, 1e30f);
    d->norm_floor = positive(d->norm_floor, 1e30f);
    d->scale = d->scale == 0 ? 0 : positive(d->scale, 1e30f);
    d->norm_jitter = positive(d->norm_jitter, 1e30f);
    if (d->norm == SEQTOPK_NORM_SPARSEMIXER) {
        d->groups = d->group_top_k = d->group_quota = 0;
        d->score = SEQTOPK_SCORE_LOGITS;
    }
    d->min_p = positive(d->min_p, 1);
    d->top_p = positive(d->top_p, 1);
    if (d->min_p > 0 || d->top_p > 0) {
        d->scope = SEQTOPK_SCOPE_TOKEN;
        d->score = d->top_p > 0 || d->score == SEQTOPK_SCORE_LOGITS ? SEQTOPK_SCORE_SOFTMAX : d->score;
    }
    if (d->scope == SEQTOPK_SCOPE_TOKEN && d->min_p <= 0 && d->top_p <= 0)
        d->min_experts = d->max_experts = 0;
    d->logit_scale = d->logit_scale == 0 ? 0 : positive(d->logit_scale, 1e10f);
    d->logit_softcap = d->logit_softcap == 0 ? 0 : positive(d->logit_softcap, 1e10f);
}

/* Of a row of logits. */
static size_t columns(const seqtopk_desc *d) {
    const int32_t scored = d->shared_weight != 0 && d->shared_experts > 0 && d->shared_experts < d->experts
                               ? d->experts - d->shared_experts
                               : d->experts;
    return scored > 0 ? (size_t)scored : 0;
}

static int64_t take_tokens(source *s, const seqtopk_desc *d) {
    const uint32_t how = take(s, 1);
    const int64_t cells = how & 3 ? FUZZ_CELLS / 8 : FUZZ_CELLS, experts = d->experts > 0 ? d->experts : 1;
    const int64_t tokens = how < 128 ? take(s, 1) % 41 : how < 160 ? take(s, 1) % 3 : take(s, 2) % (FUZZ_TOKENS + 1);
    return tokens * experts > cells ? cells / experts : tokens;
}

static void take_sequences(source *s, fuzz_call *c) {
    seqtopk_input *in = &c->in;
    in->sequences = 1 + (int32_t)(take(s, 1) % 6);
    for (int32_t i = 1; i <= in->sequences; i++)
        c->cu[i] = (int32_t)(take(s, in->tokens > 250 ? 2 : 1) % (in->tokens + 2)) - 1;
    if (take(s, 1) & 15) { /* mostly rising, to T */
        for (int32_t i = 1; i <= in->sequences; i++)
            c->cu[i] = c->cu[i] < c->cu[i - 1] ? c->cu[i - 1] : c->cu[i];
        c->cu[in->sequences] = (int32_t)in->tokens;
    }
    in->cu_seqlens = c->cu;
}

/* Tokens of sequences in any order; at times beside cu_seqlens, or of no sequence. */
static void take_mixture(source *s, fuzz_call *c) {
    seqtopk_input *in = &c->in;
    in->token_seq = c->token_seq;
    if (take(s, 1) & 15)
        in->cu_seqlens = NULL;
    in->sequences = (int32_t)(take(s, 1) % 7);
    const uint32_t wrong = take(s, 1) % 16;
    for (int64_t i = 0; i < in->tokens; i++) {
        const int32_t any = (int32_t)(take(s, 1) % 8);
        c->token_seq[i] = in->sequences > 0 && (wrong || any < 7) ? any % in->sequences : any - 4;
    }
}

/* A selection made elsewhere, in memory of its exact size: rows, or lists whose offsets may fall. */
static void take_given(source *s, fuzz_call *c, uint32_t how) {
    seqtopk_input *in = &c->in;
    const int32_t width = (int32_t)(take(s, 1) % 6);
    int32_t n = (int32_t)in->tokens * width, *offsets = c->given_offsets;
    if (how & 1) {
        n = 0;
        for (int64_t t = 0; t <= in->tokens; t++, n += (int32_t)(take(s, 1) % 4))
            offsets[t] = n;
        n = offsets[in->tokens];
        in->given_offsets = offsets;
        if (how & 2 && in->tokens > 1) {
            offsets[1 + take(s, 2) % (uint32_t)(in->tokens - 1)] = (int32_t)take(s, 4);
            for (int64_t t = 0; t < in->tokens; t++) /* all that is read before an offset falls is there */
                if (offsets[t + 1] > n)
                    offsets[t + 1] = n;
        }
    }
    in->given_width = width;
    c->given = malloc((n ? (size_t)n : 1) * sizeof *c->given);
    const uint32_t wild = take(s, 1) % 8;
    const int32_t experts = fuzz_listed(c) > 0 ? fuzz_listed(c) : 1;
    for (int32_t i = 0; c->given && i < n; i++)
        c->given[i] = wild == 7 ? (int32_t)((take(s, 1) % 16 ? take(s, 1) % 32 : take(s, 4)) - 2)
                                : (int32_t)(wild + (uint32_t)i) % experts - (wild == 6 && i % 3 == 0);
    if (c->desc.order == SEQTOPK_ORDER_RANK && wild < 3)
        c->desc.order = SEQTOPK_ORDER_GIVEN;
    in->given_ids = c->given;
}

static void take_beside(source *s, fuzz_call *c) {
    if (take(s, 1) & 1)
        take_sequences(s, c);
    if (take(s, 1) % 4 == 1)
        take_mixture(s, c);
    if (take(s, 1) & 1) {
        const uint32_t pattern = take(s, 4);
        for (int64_t i = 0; i < c->in.tokens; i++)
            c->mask[i] = (uint8_t)((pattern >> i % 31 & 3) * 85);
        c->in.token_mask = c->mask;
    }
    if (take(s, 1) % 4 == 1) {
        const uint32_t pattern = take(s, 2), odd = take(s, 1);
        for (uint32_t e = 0; e < FUZZ_EXPERTS; e++)
            c->bias[e] = (float)(pattern * (e + 1) % 257) / 256;
        if (odd & 1)
            c->bias[odd] = take_float(s);
        c->in.bias = c->bias;
    }
    if (take(s, 1) % 8 == 1) {
        for (uint32_t e = 0; e < FUZZ_EXPERTS; e++)
            c->factors[e] = 0.5f + (float)(e % 3);
        c->factors[take(s, 1)] = take_float(s);
        c->in.expert_factors = c->factors;
    }
    const uint32_t extras = take(s, 1);
    c->in.on_nonfinite = (seqtopk_nonfinite)(extras % 32 == 31 ? take(s, 1) : extras % 3);
    if (extras / 8 % 8 == 1)
        take_given(s, c, extras / 64);
}

/* ----------------------------------------------------------------- logits -- */

/* The bytes that are left, over and over: as they are, or as numbers below 2. */
static void repeat(source *s, uint8_t *to, size_t bytes, size_t element, int is_plain) {
    const size_t round = s->size & ~(size_t)3 ? s->size & ~(size_t)3 : s->size;
    for (size_t i = 0; i < bytes; i++) {
        to[i] = round ? s->data[i % round] : 0;
        if (is_plain && i % element == element - 1)
            to[i] = (uint8_t)((to[i] & 0x80) | 0x3f);
    }
}

static int take_logits(source *s, fuzz_call *c) {
    const size_t experts = columns(&c->desc), tokens = (size_t)c->in.tokens;
    const uint32_t strides = take(s, 1) % 8;
    const size_t gap = strides >= 5 ? strides - 4 : 0, stride = strides == 0 ? 0 : experts + gap;
    c->in.row_stride = strides == 0 ? SEQTOPK_STRIDE_BROADCAST : gap ? (int64_t)stride : 0;
    if (strides == 7 && take(s, 1) % 16 == 0)
        c->in.row_stride = (int64_t)(take(s, 4) % 4096) - 4000; /* below E, or far below 0: refused */
    const size_t element = c->desc.dtype == SEQTOPK_DTYPE_F32 ? 4 : 2;
    const size_t rows = strides == 0 ? tokens > 0 : tokens, cells = rows ? (rows - 1) * stride + experts : 0;
    if (c->in.row_stride > (int64_t)stride)
        c->in.row_stride = (int64_t)stride;
    uint8_t *logits = c->logits = malloc(cells ? cells * element : 1);
    if (!logits)
        return 0;
    c->in.logits = logits;
    const uint32_t kind = take(s, 1), nans = take(s, 1);
    const uint32_t nan_at = take(s, 2), nan_kind = take(s, 2);
    random_state random;
    random_seed(&random, take(s, 2));
    if (kind % 4 < 2 || c->desc.dtype > SEQTOPK_DTYPE_F16) {
        repeat(s, logits, cells * element, element, kind & 1);
    } else {
        memset(logits, 0xff, cells * element); /* between rows NaNs that nobody may look at */
        random_logits(&random, (random_kind)(kind / 4 % RANDOM_KINDS), (int)c->desc.dtype, logits, rows, experts,
                      stride ? stride : experts);
    }
    for (uint32_t i = 0; nans % 8 == 1 && i <= nans / 64 && cells && c->desc.dtype <= SEQTOPK_DTYPE_F16; i++)
        random_store_bits(logits, (int)c->desc.dtype, (nan_at + i * 61) % cells,
                          random_nan(&random, (int)c->desc.dtype, nan_kind + i));
    return 1;
}

int fuzz_take_call(source *s, fuzz_call *c) {
    const seqtopk_desc desc = SEQTOPK_DESC_INIT;
    const seqtopk_input in = SEQTOPK_INPUT_INIT;
    c->desc = desc;
    c->in = in;
    c->logits = NULL;
    c->given = NULL;
    memset(c->cu, 0, sizeof c->cu);
    const uint32_t is_wild = take(s, 1) % 8 == 7;
    take_desc(s, &c->desc);
    if (!is_wild)
        tame(&c->desc);
    if (!is_wild && c->desc.order == SEQTOPK_ORDER_GIVEN) /* which no call but one of given lists may have */
        c->desc.order = SEQTOPK_ORDER_EXPERT;
    c->desc.tuning = seqtopk_tuning_none();
    c->in.tokens = take_tokens(s, &c->desc);
    take_beside(s, c);
    const uint32_t rows = take(s, 1);
    c->padding = (seqtopk_padding)(rows % 4);
    c->wider = rows / 4 % 4 == 3 ? (int32_t)(rows / 16 % 4) - 1 : 0;
    c->gap = (int32_t)(rows / 64);
    c->runners = (int32_t)(take(s, 1) % (4 * FUZZ_RUNNERS));
    if (c->runners > FUZZ_RUNNERS)
        c->runners = 0;
    return take_logits(s, c);
}

void fuzz_free_call(fuzz_call *c) {
    free(c->logits);
    free(c->given);
}

int32_t fuzz_listed(const fuzz_call *c) {
    const int32_t without = c->desc.null_experts > 0 ? c->desc.null_experts : 0;
    return c->desc.experts > without ? c->desc.experts - without : 0;
}

void fuzz_call_text(const fuzz_call *c, char *text, size_t size) {
    const seqtopk_desc *d = &c->desc;
    const seqtopk_input *in = &c->in;
    snprintf(
        text, size,
        "T %lld E %d K %d scope %d score %d norm %d eps %g floor %g scale %g min %d max %d groups %d/%d score %d n %d "
        "dtype %d order %d stride %lld S %d%s%s%s%s bad rows %d key %d logits * %g cap %g quota %d null %d shared "
        "%d, %g jitter %g min_p %g top_p %g padding %d",
        (long long)in->tokens, (int)d->experts, (int)d->top_k, (int)d->scope, (int)d->score, (int)d->norm,
        (double)d->norm_eps, (double)d->norm_floor, (double)d->scale, (int)d->min_experts, (int)d->max_experts,
        (int)d->group_top_k, (int)d->groups, (int)d->group_score, (int)d->group_n, (int)d->dtype, (int)d->order,
        (long long)in->row_stride, in->cu_seqlens || in->token_seq ? (int)in->sequences : -1,
        in->token_mask ? " mask" : "", in->bias ? " bias" : "", in->expert_factors ? " factors" : "",
        in->given_ids   ? " given"
        : in->token_seq ? " mixed"
                        : "",
        (int)in->on_nonfinite, (int)d->key_from, (double)d->logit_scale, (double)d->logit_softcap, (int)d->group_quota,
        (int)d->null_experts, (int)d->shared_experts, (double)d->shared_weight, (double)d->norm_jitter,
        (double)d->min_p, (double)d->top_p, (int)c->padding);
}
