/* SPDX-License-Identifier: MIT */
/* Rows of the same width for every token, for engines whose expert products take no lists. */
#include "src/route/call.h"

#include <string.h>

/* Writes `id` to column i of a padded row, in all the sizes that are wanted. */
static inline void put_id(const seqtopk_output *out, int64_t row, int32_t i, int32_t id) {
    if (out->padded_ids)
        out->padded_ids[row + i] = id;
    if (out->padded_ids64)
        out->padded_ids64[row + i] = id;
    if (out->padded_ids16)
        out->padded_ids16[row + i] = (int16_t)id;
    if (out->padded_ids8)
        out->padded_ids8[row + i] = (uint8_t)id;
}

/* From column n on the lowest experts that are not among ids [n]. */
static void pad_distinct(const seqtopk_call *call, const int32_t *ids, int32_t n, int64_t row) {
    unsigned char *taken = (unsigned char *)call->work.scores;
    memset(taken, 0, (size_t)call->plan->dispatched);
    for (int32_t i = 0; i < n; i++)
        taken[ids[i]] = 1;
    for (int32_t i = n, e = 0; i < call->out.padded_width; e++)
        if (!taken[e])
            put_id(&call->out, row, i++, e);
}

/* Writes ids [n] from place `at` on, in all the sizes that are wanted. */
static void put_ids(const seqtopk_output *out, int64_t at, const int32_t *ids, int64_t n) {
    if (out->padded_ids)
        memcpy(out->padded_ids + at, ids, (size_t)n * sizeof *ids);
    for (int64_t i = 0; out->padded_ids64 && i < n; i++)
        out->padded_ids64[at + i] = ids[i];
    for (int64_t i = 0; out->padded_ids16 && i < n; i++)
        out->padded_ids16[at + i] = (int16_t)ids[i];
    for (int64_t i = 0; out->padded_ids8 && i < n; i++)
        out->padded_ids8[at + i] = (uint8_t)ids[i];
}

/* The token's n experts, then padding. */
static void write_padded_ids(const seqtopk_call *call, const int32_t *ids, int32_t n, int64_t row) {
    const seqtopk_output *out = &call->out;
    int32_t pad = -1;
    put_ids(out, row, ids, n);
    switch (out->padding) {
    case SEQTOPK_PAD_DISTINCT: pad_distinct(call, ids, n, row); return;
    case SEQTOPK_PAD_MINUS_ONE: break;
    case SEQTOPK_PAD_EXPERTS: pad = call->plan->dispatched; break;
    case SEQTOPK_PAD_FIRST: pad = n > 0 ? ids[0] : 0; break;
    }
    for (int32_t i = n; i < out->padded_width; i++)
        put_id(out, row, i, pad);
}

int seqtopk_wants_padded(const seqtopk_call *call) {
    const seqtopk_output *out = &call->out;
    return ((uintptr_t)out->padded_ids | (uintptr_t)out->padded_ids64 | (uintptr_t)out->padded_ids16 |
            (uintptr_t)out->padded_ids8 | (uintptr_t)out->padded_weights) != 0;
}

void seqtopk_write_padded(const seqtopk_call *call, int64_t token) {
    const seqtopk_output *out = &call->out;
    const int32_t from = call->token_offsets[token], n = call->token_offsets[token + 1] - from;
    const int64_t row = token * (out->padded_stride ? out->padded_stride : out->padded_width);
    write_padded_ids(call, call->expert_ids + from, n, row);
    if (out->padded_weights) {
        memcpy(out->padded_weights + row, call->list_weights + from, (size_t)n * sizeof(float));
        memset(out->padded_weights + row + n, 0, (size_t)(out->padded_width - n) * sizeof(float));
    }
}

int seqtopk_write_full_rows(const seqtopk_call *call, int64_t first, int64_t last) {
    const seqtopk_output *out = &call->out;
    const int64_t width = out->padded_width, from = call->token_offsets[first], n = call->token_offsets[last] - from;
    if (n != (last - first) * width || (out->padded_stride && out->padded_stride != width))
        return 0;
    put_ids(out, first * width, call->expert_ids + from, n);
    if (out->padded_weights)
        memcpy(out->padded_weights + first * width, call->list_weights + from, (size_t)n * sizeof(float));
    return 1;
}
