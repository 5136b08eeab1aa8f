/* SPDX-License-Identifier: MIT */
/*
 * The sweep and the pick that decline, so that the stages follow one another instead: keys, nth or top, emit. To force them
 * is to force the staged way.
 */
#include "arch/kernel.h"

#define STAGED(dtype)                                                                                                  \
    seqtopk_collect_logits_fn seqtopk_collect_logits_##dtype##__ref_staged;                                                              \
    seqtopk_topk_logits_fn seqtopk_topk_logits_##dtype##__ref_staged;                                                                \
                                                                                                                       \
    int64_t seqtopk_collect_logits_##dtype##__ref_staged(const seqtopk_rows *rows, int64_t first, int64_t last, float low,      \
                                                int32_t sure, seqtopk_candidates *candidates) {                                 \
        (void)rows, (void)first, (void)last, (void)low, (void)sure;                                                    \
        candidates->size = -1;                                                                                              \
        return -1;                                                                                                     \
    }                                                                                                                  \
                                                                                                                       \
    int64_t seqtopk_topk_logits_##dtype##__ref_staged(const seqtopk_rows *rows, int64_t first, int64_t last, int32_t top_k,   \
                                               seqtopk_candidates *work, const seqtopk_lists *to, int64_t *at,              \
                                               int64_t end) {                                                          \
        (void)rows, (void)first, (void)last, (void)top_k, (void)to, (void)at, (void)end;                               \
        work->size = -1;                                                                                               \
        return -1;                                                                                                     \
    }                                                                                                                  \
                                                                                                                       \
    seqtopk_collect_short_fn seqtopk_collect_short_##dtype##__ref_staged;                                                              \
                                                                                                                       \
    int64_t seqtopk_collect_short_##dtype##__ref_staged(const seqtopk_rows *rows, int64_t first, int64_t last, int64_t budget, \
                                                seqtopk_select_keys_fn *rank, float *work, float *low,                        \
                                                seqtopk_candidates *candidates) {                                               \
        (void)rows, (void)first, (void)last, (void)budget, (void)rank, (void)work, (void)low;                          \
        candidates->size = -1;                                                                                             \
        return -1;                                                                                                     \
    }

seqtopk_topk_keys_fn seqtopk_topk_keys_f32__ref_staged;

void seqtopk_topk_keys_f32__ref_staged(const float *keys, int32_t experts, int64_t first, int64_t last, int32_t top_k,
                                    seqtopk_candidates *work, const seqtopk_lists *to, int64_t *at, int64_t end) {
    (void)keys, (void)experts, (void)first, (void)last, (void)top_k, (void)to, (void)at, (void)end;
    work->size = -1;
}

STAGED(f32)
STAGED(bf16)
STAGED(f16)
