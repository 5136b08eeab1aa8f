/* SPDX-License-Identifier: MIT */
#include "src/route/call.h"
#include "src/abi.h"
#include "src/status.h"

#include <math.h>
#include <string.h>

static seqtopk_status check_sequences(const seqtopk_input *in, seqtopk_error *error) {
    if (in->sequences < 0)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "input.sequences is %d; it must not be negative",
                            (int)in->sequences);
    if (in->cu_seqlens[0] != 0)
        return seqtopk_fail(error, SEQTOPK_E_SHAPE, -1, "input.cu_seqlens[0] is %d; it must be 0",
                            (int)in->cu_seqlens[0]);
    for (int32_t s = 0; s < in->sequences; s++)
        if (in->cu_seqlens[s + 1] < in->cu_seqlens[s])
            return seqtopk_fail(error, SEQTOPK_E_SHAPE, -1, "input.cu_seqlens falls from %d to %d at sequence %d",
                                (int)in->cu_seqlens[s], (int)in->cu_seqlens[s + 1], (int)s);
    if (in->cu_seqlens[in->sequences] != in->tokens)
        return seqtopk_fail(error, SEQTOPK_E_SHAPE, -1,
                            "input.cu_seqlens[%d] is %d; the last must be the tokens of the batch (%lld)",
                            (int)in->sequences, (int)in->cu_seqlens[in->sequences], (long long)in->tokens);
    return SEQTOPK_OK;
}

/* Whether a bias is NaN or +inf: without an exit on the way, so that compilers make vectors of it. */
static int is_odd_bias(const float *bias, int32_t experts) {
    int32_t odd = 0;
    for (int32_t e = 0; e < experts; e++)
        odd |= -!(bias[e] < INFINITY);
    return odd;
}

static seqtopk_status check_bias(const float *bias, int32_t experts, seqtopk_error *error) {
    int32_t e = 0;
    if (!is_odd_bias(bias, experts))
        return SEQTOPK_OK;
    while (bias[e] < INFINITY)
        e++;
    return seqtopk_fail(error, SEQTOPK_E_NONFINITE, -1,
                        "input.bias[%d] is %g; it must be finite, or -inf to exclude the expert", (int)e,
                        (double)bias[e]);
}

static seqtopk_status check_factors(const float *factors, int32_t experts, seqtopk_error *error) {
    for (int32_t e = 0; e < experts; e++)
        if (!isfinite(factors[e]))
            return seqtopk_fail(error, SEQTOPK_E_NONFINITE, -1, "input.expert_factors[%d] is %g; it must be finite",
                                (int)e, (double)factors[e]);
    return SEQTOPK_OK;
}

static seqtopk_status check_given(const seqtopk_plan *plan, const seqtopk_input *in, seqtopk_error *error) {
    if (in->given_offsets) {
        for (int64_t t = 0; t < in->tokens; t++)
            if (in->given_offsets[t + 1] < in->given_offsets[t] || in->given_offsets[t] < 0)
                return seqtopk_fail(error, SEQTOPK_E_SHAPE, t,
                                    "input.given_offsets goes from %d to %d at token %lld; offsets never fall",
                                    (int)in->given_offsets[t], (int)in->given_offsets[t + 1], (long long)t);
        return SEQTOPK_OK;
    }
    if (in->given_width < 1 || in->given_width > plan->desc.experts)
        return seqtopk_fail(error, SEQTOPK_E_SHAPE, -1,
                            "input.given_width is %d; it must be 1 to %d, or input.given_offsets be set",
                            (int)in->given_width, (int)plan->desc.experts);
    return SEQTOPK_OK;
}

/* What needs no logits: the lists of a given selection without its weights. */
static int needs_logits(const seqtopk_plan *plan, const seqtopk_input *in, const seqtopk_output *out) {
    return !in->given_ids || out->weights || out->padded_weights || out->routing_probs || out->null_weights ||
           out->row_lse || plan->desc.order == SEQTOPK_ORDER_RANK;
}

static int is_nonfinite(seqtopk_nonfinite on_nonfinite) {
    switch (on_nonfinite) {
    case SEQTOPK_NONFINITE_ERROR:
    case SEQTOPK_NONFINITE_DROP:
    case SEQTOPK_NONFINITE_MARK: return 1;
    }
    return 0;
}

static seqtopk_status check_input(const seqtopk_plan *plan, const seqtopk_input *in, seqtopk_error *error) {
    const int32_t experts = plan->desc.experts;
    if (in->tokens < 0 || in->tokens > INT32_MAX)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "input.tokens is %lld; it must be 0 to 2^31-1",
                            (long long)in->tokens);
    if (seqtopk_max_selected(plan, in->tokens) < 0)
        return seqtopk_fail(error, SEQTOPK_E_OVERFLOW, -1,
                            "%lld tokens of top_k %d are more pairs than int32 lists can index; route fewer tokens",
                            (long long)in->tokens, (int)plan->desc.top_k);
    if (in->row_stride < SEQTOPK_STRIDE_BROADCAST || (in->row_stride > 0 && in->row_stride < plan->columns))
        return seqtopk_fail(error, SEQTOPK_E_SHAPE, -1,
                            "input.row_stride is %lld; it must be 0 (experts), SEQTOPK_STRIDE_BROADCAST or >= %d",
                            (long long)in->row_stride, (int)plan->columns);
    if (in->row_stride > 0 && in->tokens && in->row_stride > PTRDIFF_MAX / 4 / in->tokens)
        return seqtopk_fail(error, SEQTOPK_E_OVERFLOW, -1,
                            "input.row_stride is %lld: so many rows reach beyond the address space",
                            (long long)in->row_stride);
    if (!is_nonfinite(in->on_nonfinite))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "input.on_nonfinite is %d, which is no seqtopk_nonfinite",
                            (int)in->on_nonfinite);
    seqtopk_status status = in->bias ? check_bias(in->bias, experts, error) : SEQTOPK_OK;
    if (!status && in->bias && seqtopk_prunes(&plan->desc))
        status =
            seqtopk_fail(error, SEQTOPK_E_UNSUPPORTED, -1,
                         "input.bias with desc.min_p or top_p: which of a token's experts is best is told by their "
                         "scores there, which a bias contradicts");
    if (!status && in->bias && plan->desc.norm == SEQTOPK_NORM_SPARSEMIXER)
        status = seqtopk_fail(error, SEQTOPK_E_UNSUPPORTED, -1,
                              "input.bias with SEQTOPK_NORM_SPARSEMIXER, which weighs the best logits: leave it NULL");
    if (!status && in->expert_factors)
        status = check_factors(in->expert_factors, experts + plan->beside, error);
    if (!status && in->given_ids)
        status = check_given(plan, in, error);
    if (!status && !in->given_ids && plan->desc.order == SEQTOPK_ORDER_GIVEN)
        status = seqtopk_fail(error, SEQTOPK_E_NULL, -1,
                              "input.given_ids is NULL, but desc.order is SEQTOPK_ORDER_GIVEN: give a selection");
    if (!status && in->cu_seqlens && in->token_seq && plan->desc.scope == SEQTOPK_SCOPE_SEQUENCE)
        status = seqtopk_fail(error, SEQTOPK_E_SHAPE, -1,
                              "input.cu_seqlens and token_seq both say where sequences are; leave one NULL");
    if (!status && in->token_seq && in->sequences < 0)
        status = seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "input.sequences is %d; it must not be negative",
                              (int)in->sequences);
    if (!status && in->cu_seqlens && plan->desc.scope == SEQTOPK_SCOPE_SEQUENCE)
        status = check_sequences(in, error);
    return status;
}

static int is_padding(seqtopk_padding padding) {
    switch (padding) {
    case SEQTOPK_PAD_MINUS_ONE:
    case SEQTOPK_PAD_EXPERTS:
    case SEQTOPK_PAD_DISTINCT:
    case SEQTOPK_PAD_FIRST: return 1;
    }
    return 0;
}

/* Whether every expert, and what pads, is a number that ids of `most` + 1 values can tell apart. */
static int are_ids_in(const seqtopk_plan *plan, seqtopk_padding padding, int32_t most, int is_signed) {
    const int one_more = padding == SEQTOPK_PAD_EXPERTS || (padding == SEQTOPK_PAD_MINUS_ONE && !is_signed);
    return plan->dispatched - !one_more <= most;
}

/* The most experts that a token of this call can get. */
static int32_t widest(const seqtopk_plan *plan, const seqtopk_input *in) {
    int64_t longest = in->cu_seqlens ? 0 : in->tokens;
    for (int32_t s = 0; in->cu_seqlens && plan->desc.scope == SEQTOPK_SCOPE_SEQUENCE && s < in->sequences; s++) {
        const int64_t length = in->cu_seqlens[s + 1] - in->cu_seqlens[s];
        longest = length > longest ? length : longest;
    }
    return seqtopk_max_width(plan, longest);
}

static seqtopk_status too_narrow(const seqtopk_output *out, int32_t most, seqtopk_error *error) {
    return seqtopk_fail(error, SEQTOPK_E_CAPACITY, -1,
                        "output.padded_width is %d, but a token can get %d experts: widen it or set desc.max_experts",
                        (int)out->padded_width, (int)most);
}

seqtopk_status seqtopk_check_widths(const seqtopk_call *call, seqtopk_error *error) {
    if (!seqtopk_wants_padded(call) || call->out.padded_width >= seqtopk_max_per_token(call->plan))
        return SEQTOPK_OK;
    const int32_t most = widest(call->plan, &call->in);
    if (call->out.padded_width >= most)
        return SEQTOPK_OK;
    call->reports->refused = -1;
    call->reports->refused_token = most;
    return too_narrow(&call->out, most, error);
}

static seqtopk_status check_padded(const seqtopk_plan *plan, const seqtopk_input *in, const seqtopk_output *out,
                                   int is_shared, seqtopk_error *error) {
    const int32_t widest_ever = seqtopk_max_per_token(plan);
    /* How long the sequences of token_seq are is known once they are counted: seqtopk_check_widths. */
    const int is_counted = in->token_seq && plan->desc.scope == SEQTOPK_SCOPE_SEQUENCE && !in->given_ids;
    const int32_t most = out->padded_width >= widest_ever ? out->padded_width
                         : is_shared                      ? widest_ever
                         : is_counted                     ? 1
                                                          : widest(plan, in);
    if (!is_padding(out->padding))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "output.padding is %d, which is no seqtopk_padding",
                            (int)out->padding);
    if (out->padded_width < most)
        return too_narrow(out, most, error);
    if (out->padding == SEQTOPK_PAD_DISTINCT && out->padded_width > plan->dispatched)
        return seqtopk_fail(error, SEQTOPK_E_SHAPE, -1,
                            "output.padded_width is %d: there are not so many distinct experts (%d)",
                            (int)out->padded_width, (int)plan->dispatched);
    if (out->padded_stride && out->padded_stride < out->padded_width)
        return seqtopk_fail(error, SEQTOPK_E_SHAPE, -1, "output.padded_stride is %lld, less than padded_width (%d)",
                            (long long)out->padded_stride, (int)out->padded_width);
    if (out->padded_ids16 && !are_ids_in(plan, out->padding, INT16_MAX, 1))
        return seqtopk_fail(error, SEQTOPK_E_SHAPE, -1,
                            "output.padded_ids16 cannot hold %d experts and their padding: take padded_ids",
                            (int)plan->dispatched);
    if (out->padded_ids8 && !are_ids_in(plan, out->padding, UINT8_MAX, 0))
        return seqtopk_fail(error, SEQTOPK_E_SHAPE, -1,
                            "output.padded_ids8 cannot hold %d experts and their padding: take padded_ids16",
                            (int)plan->dispatched);
    return SEQTOPK_OK;
}

static int has_blocks(const seqtopk_output *out) {
    return ((uintptr_t)out->block_slots | (uintptr_t)out->block_experts | (uintptr_t)out->block_total) != 0;
}

static seqtopk_status check_blocks(const seqtopk_plan *plan, int64_t tokens, int64_t pairs, const seqtopk_output *out,
                                   int padded, seqtopk_error *error) {
    if (!out->block_slots)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1,
                            "output.block_slots is NULL; block_experts and block_total go with it");
    if (out->block_size < 1)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "output.block_size is %d; it must be at least 1",
                            (int)out->block_size);
    const int64_t most = seqtopk_block_slots_of(plan, pairs, out->block_size);
    if (most < 0 || (padded && tokens * out->padded_width > INT32_MAX))
        return seqtopk_fail(error, SEQTOPK_E_OVERFLOW, -1,
                            "output.block_slots: %lld tokens in blocks of %d are more than int32 can index",
                            (long long)tokens, (int)out->block_size);
    if (out->block_capacity < most)
        return seqtopk_fail(error, SEQTOPK_E_CAPACITY, -1,
                            "output.block_capacity is %lld; blocks of %d need %lld (seqtopk_max_block_slots)",
                            (long long)out->block_capacity, (int)out->block_size, (long long)most);
    return SEQTOPK_OK;
}

/* Whether a list of all pairs is asked for, for which the caller says the capacity. */
static int has_pairs(const seqtopk_output *out) {
    return out->expert_ids || out->weights || out->expert_tokens || out->expert_slots || out->pair_tokens ||
           out->pair_places;
}

static seqtopk_status check_output(const seqtopk_plan *plan, const seqtopk_input *in, const seqtopk_call *call,
                                   seqtopk_error *error) {
    const seqtopk_output *out = &call->out;
    const int64_t most = call->most;
    const int padded = seqtopk_wants_padded(call);
    if (!in->logits && in->tokens && needs_logits(plan, in, out))
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "input.logits is NULL");
    if (has_pairs(out) && out->capacity < most)
        return seqtopk_fail(error, SEQTOPK_E_CAPACITY, -1, "output.capacity is %lld; %lld tokens of top_k %d need %lld",
                            (long long)out->capacity, (long long)in->tokens, (int)plan->desc.top_k, (long long)most);
    if (out->runner_ids && (out->runners < 1 || out->runners > plan->desc.experts))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "output.runners is %d; with runner_ids it must be 1 to the experts that compete (%d)",
                            (int)out->runners, (int)plan->desc.experts);
    if (out->sequence_margins && (plan->desc.scope != SEQTOPK_SCOPE_SEQUENCE || in->given_ids || call->is_shared))
        return seqtopk_fail(error, SEQTOPK_E_UNSUPPORTED, -1,
                            "output.sequence_margins is of sequence scope, without given_ids and ranks: leave it NULL");
    if (out->null_weights && !plan->desc.null_experts)
        return seqtopk_fail(error, SEQTOPK_E_UNSUPPORTED, -1,
                            "output.null_weights without desc.null_experts: no expert is null; leave it NULL");
    if (out->row_lse && plan->desc.score != SEQTOPK_SCORE_SOFTMAX)
        return seqtopk_fail(error, SEQTOPK_E_UNSUPPORTED, -1,
                            "output.row_lse is made for the softmax score only; leave it NULL");
    seqtopk_status status = padded ? check_padded(plan, in, out, call->is_shared, error) : SEQTOPK_OK;
    if (!status && has_blocks(out))
        status = check_blocks(plan, in->tokens, most, out, padded, error);
    return status;
}

/* A bump allocator over the scratch, which only counts where there is none. */
typedef struct {
    uintptr_t base;
    size_t used;
} arena;

/* Addresses are computed as integers: whether the scratch is large enough is checked at the end. */
static void *take(arena *a, int64_t count, size_t size) {
    void *p = (void *)(a->base + a->used);
    a->used += ((size_t)count * size + 63) & ~(size_t)63;
    return p;
}

/* Lays out the scratch at `base` and returns its size. */
static size_t lay_out(seqtopk_call *call, const seqtopk_plan *plan, int64_t tokens, int64_t sequences, uintptr_t base,
                      int32_t part, int32_t parts) {
    const int32_t experts = plan->desc.experts;
    const int32_t all = experts + plan->beside;
    const int64_t listed = call->most;
    arena a = {base, 0};
    call->reports = take(&a, parts, sizeof *call->reports);
    call->runs = take(&a, sequences + parts, sizeof *call->runs);
    call->sequence = take(&a, sequences, sizeof *call->sequence);
    if (plan->desc.scope == SEQTOPK_SCOPE_SEQUENCE) {
        /* Which are space for lists, too, once candidates are listed. */
        const int64_t places = tokens * (call->spread + 2 * plan->beside) + SEQTOPK_RUN_SLACK * (sequences + parts);
        call->candidates.keys = take(&a, places, sizeof *call->candidates.keys);
        call->candidates.ids = take(&a, places, sizeof *call->candidates.ids);
        /* `order` differs from `keys` only where there are bounds. */
        call->candidates.order = call->candidates.keys;
        if (plan->min_experts > 0 || plan->max_experts < experts)
            call->candidates.order = take(&a, places, sizeof *call->candidates.order);
        call->candidates.counts = take(&a, tokens, sizeof *call->candidates.counts);
        call->order = take(&a, tokens, sizeof *call->order);
        call->inverse = take(&a, tokens, sizeof *call->inverse);
        call->starts = take(&a, sequences + 1, sizeof *call->starts);
        call->sorted_mask = take(&a, tokens, sizeof *call->sorted_mask);
    }
    call->mask = take(&a, tokens, sizeof *call->mask);
    call->rows.shift = take(&a, tokens, sizeof(float));
    call->rows.lse = take(&a, tokens, sizeof(float));
    call->token_offsets = call->own_offsets = take(&a, tokens + 1, sizeof(int32_t));
    call->reservoir = take(&a, listed, 2 * sizeof(float));
    call->expert_ids = (int32_t *)(void *)call->reservoir;
    call->list_weights = (float *)((uintptr_t)call->reservoir + (size_t)listed * sizeof(float));
    call->histograms = take(&a, (int64_t)parts * all, sizeof(int32_t));
    for (int32_t p = 0; p < parts; p++) {
        seqtopk_work work;
        work.keys = take(&a, plan->work_rows * experts + SEQTOPK_CANDIDATES_SLACK, sizeof(float));
        work.spare = take(&a, plan->work_rows * experts + SEQTOPK_CANDIDATES_SLACK, sizeof(float));
        work.key_ids = take(&a, plan->work_rows * experts + SEQTOPK_CANDIDATES_SLACK, sizeof(uint16_t));
        work.scores = take(&a, all, sizeof(float));
        work.values = take(&a, 2 * (int64_t)all, sizeof(float));
        work.ids = take(&a, all, sizeof(int32_t));
        work.group_ids = take(&a, all, sizeof(int32_t));
        work.words = take(&a, SEQTOPK_COLLECT_WORK(experts), sizeof(uint64_t));
        const int prepares = seqtopk_prepares(&plan->desc);
        const int gathers = !prepares && plan->desc.scope == SEQTOPK_SCOPE_SEQUENCE;
        work.prepared = prepares ? take(&a, plan->work_rows * plan->columns, sizeof(float)) : NULL;
        work.gathered = gathers ? take(&a, seqtopk_gathered_rows(plan) * plan->columns, sizeof(float)) : NULL;
        if (p == part)
            call->work = work;
    }
    return a.used + 63; /* the base is aligned to a cache line */
}

/* Of a call whose budgets are its own tokens'. */
static void own_pairs(seqtopk_call *call, const seqtopk_plan *plan, int64_t tokens) {
    call->is_shared = 0;
    call->lows = NULL;
    call->most = tokens * (plan->pairs + plan->beside);
    call->spread = 2 * plan->pairs;
}

int64_t seqtopk_shared_most(const seqtopk_plan *plan, int64_t tokens, int64_t capacity) {
    const int64_t each = plan->max_experts + plan->beside;
    const int64_t most = tokens > INT32_MAX / each ? INT32_MAX : tokens * each;
    return capacity > 0 && capacity < most ? capacity : most;
}

/* Some more candidates are collected than pairs are listed, and bounds leave a token no more than max_experts. */
static void shared_pairs(seqtopk_call *call, const seqtopk_plan *plan, int64_t tokens, int64_t most) {
    const int64_t each = tokens > 0 ? (most + most / 4) / tokens + 1 : 0;
    call->is_shared = 1;
    call->lows = NULL;
    call->most = most;
    call->spread = each > plan->max_experts ? plan->max_experts : each;
    call->spread = call->spread > 2 * plan->pairs ? call->spread : 2 * plan->pairs;
}

size_t seqtopk_scratch_size(const seqtopk_plan *plan, int64_t tokens, int64_t sequences, int32_t threads) {
    seqtopk_call call;
    if (seqtopk_max_selected(plan, tokens) < 0 || sequences < 0 || sequences > INT32_MAX || threads < 1 ||
        threads > SEQTOPK_MAX_PARTS)
        return 0;
    own_pairs(&call, plan, tokens);
    return lay_out(&call, plan, tokens, sequences ? sequences : 1, 0, 0, threads);
}

size_t seqtopk_shared_scratch_size(const seqtopk_plan *plan, int64_t tokens, int64_t sequences, int64_t most,
                                   int32_t parts) {
    seqtopk_call call;
    shared_pairs(&call, plan, tokens, most);
    return lay_out(&call, plan, tokens, sequences, 0, 0, parts);
}

static size_t dtype_size(seqtopk_dtype dtype) {
    switch (dtype) {
    case SEQTOPK_DTYPE_F32: return 4;
    case SEQTOPK_DTYPE_BF16:
    case SEQTOPK_DTYPE_F16: return 2;
    }
    return 0;
}

/* What orders the candidates of this call. */
static seqtopk_key key_of(const seqtopk_desc *desc, const seqtopk_input *in) {
    if (in->bias)
        return SEQTOPK_KEY_SCORE;
    if (desc->score == SEQTOPK_SCORE_SOFTMAX && desc->scope != SEQTOPK_SCOPE_TOKEN &&
        desc->key_from == SEQTOPK_KEY_FROM_SCORE)
        return SEQTOPK_KEY_LOGPROB;
    return SEQTOPK_KEY_LOGIT;
}

static void describe_rows(seqtopk_call *call) {
    const seqtopk_desc *desc = &call->plan->desc;
    const seqtopk_input *in = &call->in;
    const int64_t elements = in->row_stride == SEQTOPK_STRIDE_BROADCAST ? 0
                             : in->row_stride == 0                      ? call->plan->columns
                                                                        : in->row_stride;
    call->rows.logits = in->logits;
    call->rows.stride = elements * (int64_t)dtype_size(desc->dtype);
    call->rows.token_mask = in->token_mask;
    call->rows.bias = in->bias;
    call->rows.experts = desc->experts;
    call->rows.ahead = (int32_t)call->kernels->ahead;
    call->is_raw = seqtopk_prepares(desc);
    call->by_logit = desc->key_from == SEQTOPK_KEY_FROM_LOGIT;
    /* To whoever selects, such a router scores by the logits; seqtopk_weigh_tokens knows better. */
    call->rows.score = (int32_t)(call->by_logit ? SEQTOPK_SCORE_LOGITS : desc->score);
    call->rows.key = (int32_t)key_of(desc, in);
    call->weighing = (seqtopk_weighing){(int32_t)desc->norm, desc->norm_eps, desc->norm_floor, desc->scale, -INFINITY};
    if (desc->norm == SEQTOPK_NORM_SUM && desc->norm_eps == 0.0f && desc->norm_floor == 0.0f &&
        desc->score != SEQTOPK_SCORE_LOGITS)
        call->weighing.least = desc->score == SEQTOPK_SCORE_SOFTMAX ? SEQTOPK_LEAST_PROBABILITY : SEQTOPK_LEAST_SCORE;
}

static seqtopk_status refuse_way(const seqtopk_call *call, const char *why_not, int64_t sequence, int64_t token,
                                 seqtopk_error *error) {
    return seqtopk_fail(error, SEQTOPK_E_KERNEL, token, "the forced way %s does not serve sequence %lld (%s)",
                        seqtopk_ways[call->plan->way].name, (long long)sequence, why_not);
}

seqtopk_status seqtopk_check_way(const seqtopk_call *call, seqtopk_error *error) {
    seqtopk_ask ask = seqtopk_plan_ask(call->plan);
    if (call->plan->way < 0 || call->in.given_ids)
        return SEQTOPK_OK;
    ask.is_biased = call->is_biased;
    for (int64_t s = 0; s < call->sequences; s++) {
        int64_t begin, end, first, last;
        seqtopk_call_sequence(call, s, &begin, &end);
        if (begin == end)
            continue;
        for (int32_t part = 0; part < call->parts; part++)
            if (seqtopk_call_run(call, s, part, &first, &last))
                ask.length = seqtopk_call_length(call, begin, end, first, last);
        const char *why_not = seqtopk_plan_why_not(call->plan, call->kernels, (seqtopk_way_id)call->plan->way, &ask);
        if (!why_not)
            continue;
        const int64_t token = seqtopk_place(call, begin);
        if (call->in.token_seq) { /* else every part finds it out for itself, at once */
            call->reports->why_not = why_not;
            call->reports->refused = (int32_t)s;
            call->reports->refused_token = (int32_t)token;
        }
        return refuse_way(call, why_not, s, token, error);
    }
    return SEQTOPK_OK;
}

seqtopk_status seqtopk_check_refused(const seqtopk_call *call, seqtopk_error *error) {
    const seqtopk_report *r = call->reports;
    if (r->refused < 0)
        return too_narrow(&call->out, r->refused_token, error);
    return r->why_not ? refuse_way(call, r->why_not, r->refused, r->refused_token, error) : SEQTOPK_OK;
}

static uintptr_t base_of(void *scratch) { return ((uintptr_t)scratch + 63) & ~(uintptr_t)63; }

/* What follows once all is checked, and the scratch, of which `needed` bytes are laid out. */
static inline __attribute__((always_inline)) void settle(seqtopk_call *call, void *scratch, size_t scratch_size,
                                                         size_t needed) {
    call->behind = (void *)(base_of(scratch) + (needed & ~(size_t)63));
    call->left = scratch_size > (uintptr_t)call->behind - (uintptr_t)scratch
                     ? scratch_size - (size_t)((uintptr_t)call->behind - (uintptr_t)scratch)
                     : 0;
    call->list_scores = NULL;
    if (call->out.token_offsets)
        call->token_offsets = call->out.token_offsets;
    if (call->out.expert_ids)
        call->expert_ids = call->out.expert_ids;
    if (call->out.weights)
        call->list_weights = call->out.weights;
    describe_rows(call);
    call->callers_mask = call->in.token_mask;
    if (call->in.on_nonfinite == SEQTOPK_NONFINITE_ERROR)
        call->mask = NULL;
    call->is_biased = call->in.bias != NULL;
    call->is_keyed = call->is_biased || call->plan->is_keyed;
}

static seqtopk_status open_call(seqtopk_call *call, const seqtopk_plan *plan, const seqtopk_input *input,
                                const seqtopk_output *output, void *scratch, size_t scratch_size, int is_shared,
                                int32_t part, int32_t parts, seqtopk_error *error) {
    if (!plan)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "plan is NULL");
    if (parts < 1 || parts > SEQTOPK_MAX_PARTS || part < 0 || part >= parts)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "part %d of %d: parts must be 1 to %d, and part below it",
                            (int)part, (int)parts, SEQTOPK_MAX_PARTS);
    seqtopk_status status = seqtopk_take_struct(&call->in, sizeof call->in, SEQTOPK_FIRST_input, input, "input", error);
    if (!status)
        status = seqtopk_take_struct(&call->out, sizeof call->out, SEQTOPK_FIRST_output, output, "output", error);
    if (!status)
        status = check_input(plan, &call->in, error);
    if (!status && is_shared)
        shared_pairs(call, plan, call->in.tokens, seqtopk_shared_most(plan, call->in.tokens, call->out.capacity));
    else if (!status)
        own_pairs(call, plan, call->in.tokens);
    if (!status)
        status = check_output(plan, &call->in, call, error);
    if (status)
        return status;
    if (plan->desc.scope != SEQTOPK_SCOPE_SEQUENCE)
        call->in.cu_seqlens = NULL;
    if (plan->desc.scope != SEQTOPK_SCOPE_SEQUENCE || call->in.given_ids)
        call->in.token_seq = NULL;
    call->plan = plan;
    call->places = call->ranks = NULL;
    call->sequences = call->in.cu_seqlens || call->in.token_seq ? call->in.sequences : 1;
    call->part = part;
    call->parts = parts;
    const uintptr_t base = base_of(scratch);
    const size_t needed = lay_out(call, plan, call->in.tokens, call->sequences, base, part, parts);
    if (!scratch)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1,
                            "scratch is NULL; this call needs %zu bytes (seqtopk_scratch_size)", needed);
    if (scratch_size < needed)
        return seqtopk_fail(error, SEQTOPK_E_CAPACITY, -1,
                            "scratch has %zu bytes; this call needs %zu (seqtopk_scratch_size)", scratch_size, needed);
    call->kernels = seqtopk_plan_kernels(plan, call->in.tokens);
    settle(call, scratch, scratch_size, needed);
    return call->in.token_seq ? SEQTOPK_OK : seqtopk_check_way(call, error);
}

seqtopk_status seqtopk_call_open(seqtopk_call *call, const seqtopk_plan *plan, const seqtopk_input *input,
                                 const seqtopk_output *output, void *scratch, size_t scratch_size, int32_t part,
                                 int32_t parts, seqtopk_error *error) {
    return open_call(call, plan, input, output, scratch, scratch_size, 0, part, parts, error);
}

seqtopk_status seqtopk_call_open_shared(seqtopk_call *call, const seqtopk_plan *plan, const seqtopk_input *input,
                                        const seqtopk_output *output, void *scratch, size_t scratch_size, int32_t part,
                                        int32_t parts, seqtopk_error *error) {
    return open_call(call, plan, input, output, scratch, scratch_size, 1, part, parts, error);
}

/* ---------------------------------------------------------- a token alone -- */

/* Whether nothing is asked of the token but to be weighed and listed, in whatever form. */
static int is_plain(const seqtopk_input *in, const seqtopk_output *out) {
    const uintptr_t asked = (uintptr_t)in->token_mask | (uintptr_t)in->given_ids | (uintptr_t)in->expert_factors |
                            (uintptr_t)in->cu_seqlens | (uintptr_t)in->token_seq | (uintptr_t)out->row_lse |
                            (uintptr_t)out->ways | (uintptr_t)out->fallbacks | (uintptr_t)out->runner_ids |
                            (uintptr_t)out->margins | (uintptr_t)out->sequence_margins;
    return asked == 0 && out->fill_tail == 0 && is_nonfinite(in->on_nonfinite);
}

/* Few cache lines, since between two calls of a decode step they are forgotten: what collect_one and finish_one read and write. */
static inline size_t lay_out_one(seqtopk_call *call, const seqtopk_plan *plan, uintptr_t base) {
    const int64_t experts = plan->desc.experts, lists = plan->pairs + SEQTOPK_CANDIDATES_SLACK;
    arena a = {base, 0};
    call->rows.shift = take(&a, 16, sizeof(float));
    call->rows.lse = call->rows.shift + 1;
    call->token_offsets = (int32_t *)(call->rows.shift + 2);
    call->expert_ids = take(&a, lists, sizeof(int32_t));
    call->list_weights = take(&a, lists, sizeof(float));
    call->work.words = take(&a, (experts + SEQTOPK_CANDIDATES_SLACK) / 4 + 1, sizeof(uint64_t)); /* ids of 16 bits */
    call->work.spare = take(&a, experts + SEQTOPK_CANDIDATES_SLACK, sizeof(float));
    call->work.keys = call->work.scores = call->work.spare;
    return a.used + 63;
}

int seqtopk_call_open_one(seqtopk_call *call, const seqtopk_plan *plan, const seqtopk_input *input,
                          const seqtopk_output *output, void *scratch, size_t scratch_size) {
    if (!plan || !input || !output || !scratch || input->struct_size != sizeof *input ||
        output->struct_size != sizeof *output || input->tokens != 1)
        return 0;
    call->in = *input;
    call->out = *output;
    call->plan = plan;
    call->kernels = seqtopk_plan_kernels(plan, 1);
    call->sequences = call->parts = 1;
    call->part = 0;
    call->places = call->ranks = NULL;
    call->reports = NULL;
    own_pairs(call, plan, 1);
    const seqtopk_input *in = &call->in;
    const int is_biased = in->bias != NULL;
    if (!plan->is_plain || !is_plain(in, &call->out) || !in->logits ||
        (call->out.null_weights && !plan->desc.null_experts) ||
        call->kernels->way[is_biased][SEQTOPK_LENGTH_ALONE] != SEQTOPK_WAY_topk_scores ||
        (call->out.capacity < plan->pairs && has_pairs(&call->out)) || in->row_stride < 0 ||
        (in->row_stride > 0 && in->row_stride < plan->desc.experts) ||
        (seqtopk_wants_padded(call) && check_padded(plan, in, &call->out, 0, NULL)) ||
        (has_blocks(&call->out) && check_blocks(plan, 1, plan->pairs, &call->out, seqtopk_wants_padded(call), NULL)))
        return 0;
    const size_t needed = lay_out_one(call, plan, base_of(scratch));
    if (scratch_size < needed)
        return 0;
    settle(call, scratch, scratch_size, needed);
    return 1;
}

int64_t seqtopk_unmasked(const uint8_t *mask, int64_t first, int64_t last) {
    int64_t n = last - first;
    for (int64_t t = first; mask && t < last; t++)
        n -= !mask[t];
    return n;
}
