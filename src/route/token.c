/* SPDX-License-Identifier: MIT */
/*
 * Token scope at once: each part lists its tokens while it scores them, as if every token before had all its top_k; where
 * some had fewer candidates, the lists are moved together afterwards.
 */
#include "src/route/call.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { MOST_PICKED = 16 /* experts of a token that a kernel can pick */ };

int seqtopk_picks(const seqtopk_call *call) { return call->plan->desc.scope == SEQTOPK_SCOPE_TOKEN; }

int seqtopk_picks_logits(const seqtopk_call *call) {
    const seqtopk_desc *desc = &call->plan->desc;
    return !seqtopk_is_grouped(desc) && call->rows.key == SEQTOPK_KEY_LOGIT && desc->top_k <= MOST_PICKED;
}

static seqtopk_candidates work_of(const seqtopk_call *call, int32_t *counts) {
    return (seqtopk_candidates){.keys = call->work.spare,
                           .ids = call->work.key_ids,
                           .counts = counts,
                           .work = call->work.words,
                           .capacity = call->plan->work_rows * call->rows.experts};
}

/* The token's first top_k by its keys [E], however many those are. Returns the place after them. */
static int64_t list_token(const seqtopk_call *call, const float *keys, int64_t at) {
    const int32_t experts = call->rows.experts, top_k = call->plan->desc.top_k;
    int32_t count;
    seqtopk_candidates few = work_of(call, &count);
    const seqtopk_kth place = call->kernels->select_keys(keys, experts, top_k, call->work.spare);
    int32_t ties = place.key > -INFINITY ? top_k - (int32_t)place.above : 0;
    call->kernels->collect_keys(keys, experts, 0, 1, place.key > -INFINITY ? place.key : -FLT_MAX, &few);
    for (int32_t i = 0; i < count; i++) {
        if (few.keys[i] == place.key && ties-- <= 0)
            continue;
        call->expert_ids[at] = few.ids[i];
        call->list_weights[at++] = few.keys[i];
    }
    return at;
}

/* Scores and lists tokens [first, last) from place *at on by keys that are made for it, block by block. Returns 0 if that
 * cannot be; *bad: the first bad token, or -1. */
static int pick_by_keys(const seqtopk_call *call, int64_t first, int64_t last, int64_t *at, int64_t *bad) {
    const int32_t top_k = call->plan->desc.top_k, experts = call->rows.experts;
    const seqtopk_lists to = seqtopk_lists_of(call, 0);
    int32_t counts[16];
    const int64_t block = seqtopk_call_block(call);
    for (int64_t t = first, next; t < last; t = next) {
        next = last - t < block ? last : t + block;
        *bad = call->kernels->lse(&call->rows, t, next);
        if (*bad >= 0)
            return 0;
        seqtopk_grouped_keys(call, t, next, call->work.keys);
        if (top_k <= MOST_PICKED) {
            seqtopk_candidates work = work_of(call, counts);
            call->kernels->topk_keys(call->work.keys, experts, t, next, top_k, &work, &to, at, last * top_k);
            if (work.size < 0)
                return 0;
            continue;
        }
        for (int64_t row = t; row < next; row++) {
            call->token_offsets[row] = (int32_t)*at;
            *at = list_token(call, call->work.keys + (row - t) * experts, *at);
        }
    }
    return 1;
}

int64_t seqtopk_pick_share(const seqtopk_call *call) {
    const int32_t top_k = call->plan->desc.top_k;
    const seqtopk_lists to = seqtopk_lists_of(call, 1);
    seqtopk_slot *slot = call->slots + call->part;
    int32_t counts[16];
    seqtopk_candidates work = work_of(call, counts);
    int64_t first, last, bad;
    seqtopk_call_share(call, call->part, &first, &last);
    int64_t at = first * top_k;
    if (call->kernels->staged || seqtopk_picks_logits(call)) {
        bad = call->kernels->topk_logits(&call->rows, first, last, top_k, &work, &to, &at, last * top_k);
        slot->picked = work.size >= 0;
    } else {
        bad = -1;
        slot->picked = pick_by_keys(call, first, last, &at, &bad);
    }
    bad = bad < 0 && !slot->picked ? call->kernels->lse(&call->rows, first, last) : bad;
    slot->pairs = at - first * top_k;
    return bad;
}

int seqtopk_all_picked(const seqtopk_call *call) {
    for (int32_t p = 0; p < call->parts; p++)
        if (!call->slots[p].picked)
            return 0;
    return 1;
}

int64_t seqtopk_join_picked(const seqtopk_call *call) {
    const int32_t top_k = call->plan->desc.top_k;
    int64_t at = 0;
    for (int32_t p = 0; p < call->parts; p++) {
        int64_t first, last;
        seqtopk_call_share(call, p, &first, &last);
        const int64_t from = first * top_k, pairs = call->slots[p].pairs;
        if (at < from && call->part == 0) { /* one part moves them all: they overlap */
            memmove(call->expert_ids + at, call->expert_ids + from, (size_t)pairs * sizeof *call->expert_ids);
            memmove(call->list_weights + at, call->list_weights + from, (size_t)pairs * sizeof *call->list_weights);
            for (int64_t t = first; t < last; t++)
                call->token_offsets[t] -= (int32_t)(from - at);
        }
        at += pairs;
    }
    return at;
}
