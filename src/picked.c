/* SPDX-License-Identifier: MIT */
/*
 * Token scope at once: each part lists its tokens while it scores them, as if every token before had all its top_k; where
 * some had fewer candidates, the lists are moved together afterwards.
 */
#include "src/call.h"

#include <string.h>

int seqtopk_picks(const seqtopk_call *call) {
    const seqtopk_desc *desc = &call->plan->desc;
    const int grouped = desc->groups > 1 && desc->group_top_k < desc->groups;
    return desc->scope == SEQTOPK_SCOPE_TOKEN && !grouped && call->rows.key == SEQTOPK_KEY_LOGIT;
}

int64_t seqtopk_pick_share(const seqtopk_call *call) {
    const int32_t top_k = call->plan->desc.top_k;
    const seqtopk_lists to = seqtopk_lists_of(call, 1);
    seqtopk_slot *slot = call->slots + call->part;
    int32_t counts[16];
    seqtopk_catch room = {.keys = call->room.keys,
                          .ids = call->room.key_ids,
                          .counts = counts,
                          .room = call->room.words,
                          .capacity = call->block_rows * call->rows.experts};
    int64_t first, last;
    seqtopk_call_share(call, call->part, &first, &last);
    int64_t at = first * top_k;
    const int64_t bad = call->pick(&call->rows, first, last, top_k, &room, &to, &at, last * top_k);
    slot->picked = room.size >= 0;
    slot->pairs = at - first * top_k;
    return bad < 0 && !slot->picked ? call->score(&call->rows, first, last) : bad;
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
