/* SPDX-License-Identifier: MIT */
/* Of tokens' candidates: list_candidates; of one row's keys: topk_row. */
#include SEQTOPK_VEC_H

#include "arch/common/name.h"
#include "arch/common/select.h"
#include "arch/kernels.h"

int64_t KERNEL(list_candidates, f32, compress)(const seqtopk_candidates *from, int64_t first, int64_t last, float key,
                                               int ties, const seqtopk_lists *to, int64_t at, int64_t end) {
    const vec cut = vec_set1(ties ? key : next_up(key));
    const float *keys = from->keys, *order = from->order;
    const uint16_t *ids = from->ids;
    if (!to) {
        int64_t n = 0;
        for (int64_t t = first; t < last; t++)
            n += from->counts[t];
        for (int64_t i = 0; i < n; i += VEC_LANES)
            at += count_bits(vec_mask_ge(vec_load(order + i), cut) & first_lanes(n - i));
        return at;
    }
    /* Candidates by whole vectors, whosever they are: where a token's begin, its offset is what was listed up to there. */
    enum { GROUP = 64 };
    const int32_t *counts = from->counts;
    const seqtopk_lists lists = *to;
    for (int64_t t = first; t < last;) {
        uint32_t masks[GROUP + 1], before[GROUP + 1];
        int64_t n = counts[t], next = t + 1;
        while (next < last && n + counts[next] <= GROUP * VEC_LANES)
            n += counts[next++];
        lists.offsets[t] = (int32_t)at;
        for (int64_t i = 0, group = 0; i < n; i += VEC_LANES, group += group < GROUP) {
            const uint32_t in = vec_mask_ge(vec_load(order + i), cut) & first_lanes(n - i);
            masks[group] = in;
            before[group] = (uint32_t)at;
            __builtin_prefetch(lists.keys + at + 8 * LANES, 1);
            __builtin_prefetch(lists.ids + at + 8 * LANES, 1);
            append(&lists, at, end, vec_compress(vec_load(keys + i), in), vec_compress(vec_load_u16(ids + i), in),
                   count_bits(in));
            at += count_bits(in);
        }
        keys += n;
        order += n;
        ids += n;
        if (n > GROUP * VEC_LANES) { /* of one token */
            t = next;
            continue;
        }
        masks[n / VEC_LANES] = n % VEC_LANES ? masks[n / VEC_LANES] : 0;
        before[n / VEC_LANES] = n % VEC_LANES ? before[n / VEC_LANES] : (uint32_t)at;
        for (uint32_t start = 0; t < next; start += (uint32_t)counts[t++])
            lists.offsets[t] =
                (int32_t)(before[start / VEC_LANES] +
                          (uint32_t)count_bits(masks[start / VEC_LANES] & ((1u << start % VEC_LANES) - 1)));
    }
    return at;
}

int32_t KERNEL(topk_row, f32, lanes)(const float *keys, int32_t n, int32_t k, int32_t *ids) {
    return topk_of_row(keys, n, k, ids);
}
