/* SPDX-License-Identifier: MIT */
/* The outputs of selected experts: weights, order by rank, padded and dense rows. */
#include "src/route/call.h"

#include <math.h>
#include <string.h>

/* Lists the token's experts best first. Their weights, computed while experts ascended, move along. */
static void order_by_rank(const seqtopk_call *call, int64_t token) {
    const int32_t from = call->token_offsets[token];
    const int32_t n = call->token_offsets[token + 1] - from - seqtopk_shared_of(call, token);
    int32_t *ids = call->expert_ids + from;
    float *weights = call->list_weights + from, *keys = call->work.keys, *selected = call->work.spare;
    float *weight_of = call->work.values;
    if (n < 2)
        return;
    const int64_t row = seqtopk_row_of(call, token);
    seqtopk_rows_keys(call, row, row + 1, keys);
    for (int32_t e = 0; e < call->rows.experts; e++)
        selected[e] = -INFINITY;
    for (int32_t i = 0; i < n; i++) {
        selected[ids[i]] = keys[ids[i]];
        weight_of[ids[i]] = weights[i];
    }
    seqtopk_rank_row(call, row, selected, n, ids);
    for (int32_t i = 0; i < n; i++)
        weights[i] = weight_of[ids[i]];
}

static void write_dense(const seqtopk_call *call, int64_t token) {
    const int32_t experts = call->plan->dispatched;
    uint8_t *map = call->out.routing_map ? call->out.routing_map + token * experts : NULL;
    float *probs = call->out.routing_probs ? call->out.routing_probs + token * experts : NULL;
    if (map)
        memset(map, 0, (size_t)experts);
    if (probs)
        memset(probs, 0, (size_t)experts * sizeof *probs);
    for (int32_t slot = call->token_offsets[token]; slot < call->token_offsets[token + 1]; slot++) {
        if (map)
            map[call->expert_ids[slot]] = 1;
        if (probs)
            probs[call->expert_ids[slot]] = call->list_weights[slot];
    }
}

/* NaN in every weight of a row that was dropped. */
static void write_marks(const seqtopk_call *call, int64_t token) {
    const seqtopk_output *out = &call->out;
    float *padded = out->padded_weights;
    if (padded)
        padded += token * (out->padded_stride ? out->padded_stride : out->padded_width);
    for (int32_t i = 0; padded && i < out->padded_width; i++)
        padded[i] = NAN;
    for (int32_t e = 0; out->routing_probs && e < call->plan->dispatched; e++)
        out->routing_probs[token * call->plan->dispatched + e] = NAN;
    if (out->row_lse)
        out->row_lse[token] = NAN;
}

int seqtopk_wants_weights(const seqtopk_call *call) {
    const seqtopk_output *out = &call->out;
    return out->weights || out->padded_weights || out->routing_probs || out->null_weights;
}

/* Where a score's own roundings count, its logit is needed once more. */
static int needs_logits(const seqtopk_call *call) {
    return call->plan->desc.score == SEQTOPK_SCORE_SQRTSOFTPLUS && call->weighing.norm == SEQTOPK_NORM_SOFTMAX;
}

int seqtopk_weighs_scores(const seqtopk_call *call) { return seqtopk_wants_weights(call) && !needs_logits(call); }

seqtopk_lists seqtopk_lists_of(const seqtopk_call *call, int has_keys) {
    return (seqtopk_lists){.offsets = call->token_offsets,
                           .ids = call->expert_ids,
                           .keys = call->list_weights,
                           .to_scores = has_keys && seqtopk_weighs_scores(call),
                           .score = call->rows.score};
}

/* Whether what stands in the places of weights becomes weights without the logits. */
static int weigh_what_stands(const seqtopk_call *call, int64_t first, int64_t last, int has_scores) {
    const seqtopk_weighing *how = &call->weighing;
    const seqtopk_score score = call->plan->desc.score;
    const int by_logit = call->by_logit;
    const int has_keys = call->plan->desc.scope == SEQTOPK_SCOPE_ONLINE && !call->is_biased;
    if (needs_logits(call) || seqtopk_scores_shared(call->plan) || (by_logit && score == SEQTOPK_SCORE_SOFTMAX) ||
        !(has_keys || has_scores))
        return 0;
    if (has_keys || by_logit)
        return call->kernels->weigh_keys((int32_t)score, how, first, last, call->token_offsets, call->list_weights);
    return (how->norm == SEQTOPK_NORM_NONE && how->scale == 1.0f) ||
           call->kernels->weigh_keys(SEQTOPK_SCORE_LOGITS, how, first, last, call->token_offsets, call->list_weights);
}

void seqtopk_weigh_tokens(const seqtopk_call *call, int64_t first, int64_t last, int has_scores) {
    seqtopk_call own = *call;
    int is_masked;
    own.rows.score = (int32_t)call->plan->desc.score;
    /* Who selects by logits needs no normaliser. */
    if (call->by_logit && own.rows.score == SEQTOPK_SCORE_SOFTMAX && (seqtopk_wants_weights(call) || call->out.row_lse))
        seqtopk_rows_lse(&own, first, last);
    if (call->plan->desc.norm == SEQTOPK_NORM_SPARSEMIXER) {
        if (seqtopk_wants_weights(call))
            seqtopk_mix_sparsely(call, first, last);
        return;
    }
    for (int64_t t = first, next; seqtopk_wants_weights(call) && t < last; t = next) {
        next = seqtopk_stretch(call, t, last, &is_masked);
        if (!is_masked && !weigh_what_stands(call, t, next, has_scores))
            seqtopk_rows_weigh(&own, &call->weighing, t, next, call->token_offsets, call->expert_ids,
                               call->list_weights);
    }
}

void seqtopk_apply_factors(const seqtopk_call *call, int64_t first, int64_t last) {
    if (!seqtopk_wants_weights(call))
        return;
    for (int64_t i = call->token_offsets[first]; i < call->token_offsets[last]; i++)
        call->list_weights[i] *= call->in.expert_factors[call->expert_ids[i]];
}

void seqtopk_finish_tokens(const seqtopk_call *call, int64_t first, int64_t last) {
    const seqtopk_output *out = &call->out;
    const seqtopk_order order = call->plan->desc.order;
    for (int64_t t = first; order == SEQTOPK_ORDER_RANK && t < last; t++)
        order_by_rank(call, t);
    for (int64_t t = first; order == SEQTOPK_ORDER_GIVEN && t < last; t++)
        seqtopk_order_as_given(call, t);
    const int padded = seqtopk_wants_padded(call), marks = call->in.on_nonfinite == SEQTOPK_NONFINITE_MARK;
    if (padded)
        seqtopk_write_padded(call, first, last);
    for (int64_t t = first; t < last && (marks || out->routing_map || out->routing_probs || out->row_lse); t++) {
        if (out->routing_map || out->routing_probs)
            write_dense(call, t);
        const int64_t row = seqtopk_row_of(call, t);
        if (out->row_lse)
            out->row_lse[t] = call->rows.shift[row] + call->rows.lse[row];
        if (marks && seqtopk_call_is_dropped(call, row))
            write_marks(call, t);
    }
}

void seqtopk_finish_one(const seqtopk_call *call, int32_t experts, int32_t weighed) {
    seqtopk_tell_end(call, experts);
    if (!weighed) /* online keys stand in the places of weights, not scores */
        seqtopk_weigh_tokens(call, 0, 1, call->plan->desc.scope != SEQTOPK_SCOPE_ONLINE);
    if (call->plan->desc.null_experts)
        seqtopk_settle_lists(call);
    experts = call->token_offsets[1];
    if (seqtopk_wants_padded(call))
        seqtopk_write_padded(call, 0, 1);
    if (call->out.routing_map || call->out.routing_probs)
        write_dense(call, 0);
    if (call->out.pair_tokens)
        memset(call->out.pair_tokens, 0, (size_t)experts * sizeof *call->out.pair_tokens);
    if (seqtopk_wants_experts(call))
        seqtopk_list_experts_of_one(call);
}

/* Of tokens that have `each` pairs: for a constant, a loop of whole vectors. */
static inline __attribute__((always_inline)) void tell_even(int32_t *pairs, int64_t first, int64_t last, int32_t each) {
    for (int64_t t = first; t < last; t++)
        for (int32_t i = 0; i < each; i++)
            *pairs++ = (int32_t)t;
}

void seqtopk_tell_pair_tokens(const seqtopk_call *call, int64_t first, int64_t last) {
    const int32_t *const offsets = call->token_offsets, each = call->plan->pairs;
    int32_t *const pairs = call->out.pair_tokens + offsets[first];
    /* Tokens that do not compete have no more than that. */
    const int is_even = call->plan->desc.scope == SEQTOPK_SCOPE_TOKEN && !call->plan->adjusts && !call->in.given_ids &&
                        offsets[last] - offsets[first] == (last - first) * each;
    switch (is_even ? each : 0) {
    case 0: break;
    case 2: tell_even(pairs, first, last, 2); return;
    case 4: tell_even(pairs, first, last, 4); return;
    case 8: tell_even(pairs, first, last, 8); return;
    default: tell_even(pairs, first, last, each); return;
    }
    for (int64_t t = first; t < last; t++)
        for (int32_t i = offsets[t]; i < offsets[t + 1]; i++)
            call->out.pair_tokens[i] = (int32_t)t;
}

void seqtopk_fill_tail(const seqtopk_call *call) {
    const seqtopk_output *out = &call->out;
    const int64_t most = call->most;
    const int64_t selected = call->token_offsets[call->in.tokens];
    const int32_t again = selected > 0 ? call->expert_ids[selected - 1] : 0; /* whose weights are read in any case */
    for (int64_t i = selected; i < most; i++) {
        call->expert_ids[i] = again;
        call->list_weights[i] = 0.0f;
        if (out->pair_tokens)
            out->pair_tokens[i] = (int32_t)(call->in.tokens - 1);
    }
}
