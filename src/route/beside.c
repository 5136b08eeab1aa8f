/* SPDX-License-Identifier: MIT */
/*
 * Experts beside those that compete. Shared ones are given to every token: they enter its list behind the others. Null ones
 * compete and are weighed, but have no work: they leave the lists, and their weights are told apart. Either moves the lists of
 * all tokens, which one part does.
 */
#include "src/route/call.h"

#include <string.h>

static size_t element_of(const seqtopk_call *call) {
    const seqtopk_desc *desc = &call->plan->desc;
    return desc->dtype == SEQTOPK_DTYPE_F32 || seqtopk_prepares(desc) ? sizeof(float) : sizeof(uint16_t);
}

/* lse looks at every logit of a row, whatever the score: here at those of the last columns. */
static int64_t look_at_shared(const seqtopk_call *call, int64_t first, int64_t last) {
    seqtopk_rows rows = call->rows;
    rows.logits = (const char *)rows.logits + (size_t)rows.experts * element_of(call);
    rows.experts = call->plan->beside;
    rows.score = SEQTOPK_SCORE_LOGITS;
    return call->kernels->lse(&rows, first, last);
}

int64_t seqtopk_bad_shared(const seqtopk_call *call, int64_t first, int64_t last) {
    if (!seqtopk_scores_shared(call->plan) || !call->rows.logits)
        return -1;
    if (!call->is_raw)
        return look_at_shared(call, first, last);
    for (int64_t t = first, next; t < last; t = next) {
        next = seqtopk_block_end(t, last, seqtopk_prepared_at_once(call));
        const seqtopk_call some = seqtopk_prepare(call, t, next);
        const int64_t bad = look_at_shared(&some, 0, next - t);
        if (bad >= 0)
            return t + bad;
    }
    return -1;
}

static float weight_of(const seqtopk_call *call, int32_t expert) {
    const float factor = call->in.expert_factors ? call->in.expert_factors[expert] : 1.0f;
    return call->plan->desc.shared_weight * factor;
}

/* Whether a token gets a shared expert. */
static int gets(const seqtopk_call *call, int64_t token, int32_t expert) {
    if (call->in.token_mask && !call->in.token_mask[token])
        return 0;
    return !seqtopk_scores_shared(call->plan) || !seqtopk_call_is_excluded(call, token, expert);
}

int64_t seqtopk_count_shared(const seqtopk_call *call) {
    const int32_t experts = call->rows.experts, all = experts + call->plan->beside;
    int64_t n = 0;
    for (int64_t t = 0; t < call->in.tokens; t++)
        for (int32_t e = experts; e < all; e++)
            n += gets(call, t, e);
    return n;
}

/* Makes room behind each token's list, from the last token on, and puts the shared experts there. */
static void admit(const seqtopk_call *call) {
    const int64_t tokens = call->in.tokens;
    const int32_t experts = call->rows.experts, all = experts + call->plan->beside;
    int64_t end = call->token_offsets[tokens], at = end + seqtopk_count_shared(call);
    seqtopk_tell_end(call, at);
    for (int64_t t = tokens - 1; t >= 0; t--) {
        const int32_t from = call->token_offsets[t], n = (int32_t)(end - from);
        for (int32_t e = all - 1; e >= experts; e--)
            if (gets(call, t, e)) {
                at--;
                call->expert_ids[at] = e;
                call->list_weights[at] = weight_of(call, e);
            }
        at -= n;
        memmove(call->expert_ids + at, call->expert_ids + from, (size_t)n * sizeof *call->expert_ids);
        memmove(call->list_weights + at, call->list_weights + from, (size_t)n * sizeof *call->list_weights);
        call->token_offsets[t] = (int32_t)at;
        end = from;
    }
}

/* Closes the gaps that null experts leave. */
static void drop_null(const seqtopk_call *call) {
    const int weighs = seqtopk_wants_weights(call);
    int64_t at = 0;
    for (int64_t t = 0; t < call->in.tokens; t++) {
        const int32_t from = call->token_offsets[t], end = call->token_offsets[t + 1];
        float sum = 0.0f;
        call->token_offsets[t] = (int32_t)at;
        for (int32_t i = from; i < end; i++) {
            const float weight = weighs ? call->list_weights[i] : 0.0f;
            if (call->expert_ids[i] >= call->plan->dispatched) {
                sum += weight;
                continue;
            }
            call->expert_ids[at] = call->expert_ids[i];
            call->list_weights[at++] = weight;
        }
        if (call->out.null_weights)
            call->out.null_weights[seqtopk_place(call, t)] = sum;
    }
    seqtopk_tell_end(call, at);
}

void seqtopk_admit_shared(const seqtopk_call *call) {
    if (call->part == 0 && seqtopk_scores_shared(call->plan))
        admit(call);
}

void seqtopk_settle_lists(const seqtopk_call *call) {
    if (call->part > 0)
        return;
    if (call->plan->desc.null_experts)
        drop_null(call);
    else if (call->plan->beside && !seqtopk_scores_shared(call->plan))
        admit(call);
}
