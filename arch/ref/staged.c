/* SPDX-License-Identifier: MIT */
/*
 * The sweep and the pick that decline, so that the stages follow one another instead: keys, nth or top, emit. To force them
 * is to force the staged way.
 */
#include "arch/kernel.h"

#define STAGED(dtype)                                                                                                  \
    seqtopk_sweep_fn seqtopk_sweep_##dtype##__ref_staged;                                                              \
    seqtopk_pick_fn seqtopk_pick_##dtype##__ref_staged;                                                                \
                                                                                                                       \
    int64_t seqtopk_sweep_##dtype##__ref_staged(const seqtopk_rows *rows, int64_t first, int64_t last, float low,      \
                                                int32_t sure, seqtopk_catch *caught) {                                 \
        (void)rows, (void)first, (void)last, (void)low, (void)sure;                                                    \
        caught->size = -1;                                                                                              \
        return -1;                                                                                                     \
    }                                                                                                                  \
                                                                                                                       \
    int64_t seqtopk_pick_##dtype##__ref_staged(const seqtopk_rows *rows, int64_t first, int64_t last, int32_t top_k,   \
                                               seqtopk_catch *room, const seqtopk_lists *to, int64_t *at,              \
                                               int64_t end) {                                                          \
        (void)rows, (void)first, (void)last, (void)top_k, (void)to, (void)at, (void)end;                               \
        room->size = -1;                                                                                               \
        return -1;                                                                                                     \
    }                                                                                                                  \
                                                                                                                       \
    seqtopk_whole_fn seqtopk_whole_##dtype##__ref_staged;                                                              \
                                                                                                                       \
    int64_t seqtopk_whole_##dtype##__ref_staged(const seqtopk_rows *rows, int64_t first, int64_t last, int64_t budget, \
                                                seqtopk_rank_fn *rank, float *room, float *low,                        \
                                                seqtopk_catch *caught) {                                               \
        (void)rows, (void)first, (void)last, (void)budget, (void)rank, (void)room, (void)low;                          \
        caught->size = -1;                                                                                             \
        return -1;                                                                                                     \
    }

seqtopk_choose_fn seqtopk_choose_f32__ref_staged;

void seqtopk_choose_f32__ref_staged(const float *keys, int32_t experts, int64_t first, int64_t last, int32_t top_k,
                                    seqtopk_catch *room, const seqtopk_lists *to, int64_t *at, int64_t end) {
    (void)keys, (void)experts, (void)first, (void)last, (void)top_k, (void)to, (void)at, (void)end;
    room->size = -1;
}

STAGED(f32)
STAGED(bf16)
STAGED(f16)
