/* SPDX-License-Identifier: MIT */
/*
 * The sweep that catches nothing, so that the stages follow one another instead: keys, nth, emit. To force it is to force
 * the staged way.
 */
#include "arch/kernel.h"

seqtopk_sweep_fn seqtopk_sweep_f32__ref_staged, seqtopk_sweep_bf16__ref_staged, seqtopk_sweep_f16__ref_staged;

static int64_t decline(seqtopk_catch *catch) {
    catch->size = -1;
    return -1;
}

int64_t seqtopk_sweep_f32__ref_staged(const seqtopk_rows *rows, int64_t first, int64_t last, float low,
                                      seqtopk_catch *catch) {
    (void)rows, (void)first, (void)last, (void)low;
    return decline(catch);
}

int64_t seqtopk_sweep_bf16__ref_staged(const seqtopk_rows *rows, int64_t first, int64_t last, float low,
                                       seqtopk_catch *catch) {
    (void)rows, (void)first, (void)last, (void)low;
    return decline(catch);
}

int64_t seqtopk_sweep_f16__ref_staged(const seqtopk_rows *rows, int64_t first, int64_t last, float low,
                                      seqtopk_catch *catch) {
    (void)rows, (void)first, (void)last, (void)low;
    return decline(catch);
}
