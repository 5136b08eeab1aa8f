/* SPDX-License-Identifier: MIT */
/* Rows of the same width for every token, for engines whose expert products take no lists. */
#include "src/route/call.h"

#include <string.h>

int seqtopk_wants_padded(const seqtopk_call *call) {
    const seqtopk_output *out = &call->out;
    return ((uintptr_t)out->padded_ids | (uintptr_t)out->padded_ids64 | (uintptr_t)out->padded_ids16 |
            (uintptr_t)out->padded_ids8 | (uintptr_t)out->padded_weights) != 0;
}

/* A mark for each of ids [n] among all experts, in scratch. */
static const uint8_t *mark(const seqtopk_call *call, const int32_t *ids, int32_t n) {
    uint8_t *taken = (uint8_t *)call->work.scores;
    memset(taken, 0, (size_t)call->plan->dispatched);
    for (int32_t i = 0; i < n; i++)
        taken[ids[i]] = 1;
    return taken;
}

/* What fills all places that are left in a token's row of ids [n], where that is one id. */
static int32_t filling(const seqtopk_call *call, const int32_t *ids, int32_t n) {
    switch (call->out.padding) {
    case SEQTOPK_PAD_DISTINCT:
    case SEQTOPK_PAD_MINUS_ONE: break;
    case SEQTOPK_PAD_EXPERTS: return call->plan->dispatched;
    case SEQTOPK_PAD_FIRST: return n > 0 ? ids[0] : 0;
    }
    return -1;
}

/* The rows of tokens [first, last), as ids of one type. */
#define WRITE_IDS(name, type)                                                                                          \
    static void name(const seqtopk_call *call, type *rows, int64_t first, int64_t last) {                              \
        const int32_t width = call->out.padded_width;                                                                  \
        const int64_t stride = call->out.padded_stride ? call->out.padded_stride : width;                              \
        for (int64_t t = first; t < last; t++) {                                                                       \
            const int32_t *ids = call->expert_ids + call->token_offsets[t];                                            \
            const int32_t n = call->token_offsets[t + 1] - call->token_offsets[t], pad = filling(call, ids, n);        \
            type *row = rows + t * stride;                                                                             \
            for (int32_t i = 0; i < n; i++)                                                                            \
                row[i] = (type)ids[i];                                                                                 \
            if (call->out.padding != SEQTOPK_PAD_DISTINCT) {                                                           \
                for (int32_t i = n; i < width; i++)                                                                    \
                    row[i] = (type)pad;                                                                                \
            } else if (n < width) {                                                                                    \
                const uint8_t *taken = n > 0 ? mark(call, ids, n) : NULL;                                              \
                for (int32_t i = n, e = 0; i < width; e++)                                                             \
                    if (!taken || !taken[e])                                                                           \
                        row[i++] = (type)e;                                                                            \
            }                                                                                                          \
        }                                                                                                              \
    }
WRITE_IDS(write_ids, int32_t)
WRITE_IDS(write_ids64, int64_t)
WRITE_IDS(write_ids16, int16_t)
WRITE_IDS(write_ids8, uint8_t)
#undef WRITE_IDS

static void write_weights(const seqtopk_call *call, float *rows, int64_t first, int64_t last) {
    const int32_t width = call->out.padded_width;
    const int64_t stride = call->out.padded_stride ? call->out.padded_stride : width;
    for (int64_t t = first; t < last; t++) {
        const float *weights = call->list_weights + call->token_offsets[t];
        const int32_t n = call->token_offsets[t + 1] - call->token_offsets[t];
        float *row = rows + t * stride;
        for (int32_t i = 0; i < n; i++)
            row[i] = weights[i];
        for (int32_t i = n; i < width; i++)
            row[i] = 0.0f;
    }
}

/* The same where each token fills its row and rows follow one another: the lists once more. */
static void copy_lists(const seqtopk_call *call, int64_t at, int64_t from, int64_t n) {
    const seqtopk_output *out = &call->out;
    const int32_t *ids = call->expert_ids + from;
    if (out->padded_ids)
        memcpy(out->padded_ids + at, ids, (size_t)n * sizeof *ids);
    for (int64_t i = 0; out->padded_ids64 && i < n; i++)
        out->padded_ids64[at + i] = ids[i];
    for (int64_t i = 0; out->padded_ids16 && i < n; i++)
        out->padded_ids16[at + i] = (int16_t)ids[i];
    for (int64_t i = 0; out->padded_ids8 && i < n; i++)
        out->padded_ids8[at + i] = (uint8_t)ids[i];
    if (out->padded_weights)
        memcpy(out->padded_weights + at, call->list_weights + from, (size_t)n * sizeof(float));
}

void seqtopk_write_padded(const seqtopk_call *call, int64_t first, int64_t last) {
    const seqtopk_output *out = &call->out;
    const int64_t width = out->padded_width, from = call->token_offsets[first], n = call->token_offsets[last] - from;
    if (n == (last - first) * width && (!out->padded_stride || out->padded_stride == width)) {
        copy_lists(call, first * width, from, n);
        return;
    }
    if (out->padded_ids)
        write_ids(call, out->padded_ids, first, last);
    if (out->padded_ids64)
        write_ids64(call, out->padded_ids64, first, last);
    if (out->padded_ids16)
        write_ids16(call, out->padded_ids16, first, last);
    if (out->padded_ids8)
        write_ids8(call, out->padded_ids8, first, last);
    if (out->padded_weights)
        write_weights(call, out->padded_weights, first, last);
}
