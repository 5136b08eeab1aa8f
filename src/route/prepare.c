/* SPDX-License-Identifier: MIT */
/*
 * Rows that are not read as the caller has them, but scaled and capped, or together with others of their sequence: made ready
 * block by block in a part's scratch, and read there by the kernels that would else read the caller's.
 */
#include "src/route/call.h"

#include <string.h>

/* Copies rows that do not follow one another, or prepares them one by one. */
static void gather(const seqtopk_call *call, seqtopk_rows rows, int64_t first, int64_t last, char *to) {
    const seqtopk_desc *desc = &call->plan->desc;
    const size_t element = desc->dtype == SEQTOPK_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
    const size_t size = (size_t)rows.experts * (call->work.prepared ? sizeof(float) : element);
    const char *logits = rows.logits;
    for (int64_t t = first; t < last; t++, to += size) {
        rows.logits = logits + seqtopk_place(call, t) * rows.stride;
        if (rows.token_mask && !rows.token_mask[t]) {
            memset(to, 0, size);
        } else if (call->work.prepared) {
            seqtopk_rows one = rows;
            one.token_mask = NULL;
            call->kernels->prepare_logits(&one, 0, 1, desc->logit_scale, desc->logit_softcap, (float *)(void *)to);
        } else {
            memcpy(to, rows.logits, size);
        }
    }
}

seqtopk_call seqtopk_prepare(const seqtopk_call *call, int64_t first, int64_t last) {
    const seqtopk_desc *desc = &call->plan->desc;
    seqtopk_call some = *call;
    some.in.tokens = last - first;
    some.rows.shift += first;
    some.rows.lse += first;
    if (call->rows.token_mask)
        some.in.token_mask = some.rows.token_mask = call->rows.token_mask + first;
    seqtopk_rows whole = call->rows;
    float *to = call->work.prepared ? call->work.prepared : call->work.gathered;
    whole.experts = call->plan->columns;
    if (call->places)
        gather(call, whole, first, last, (char *)to);
    else
        call->kernels->prepare_logits(&whole, first, last, desc->logit_scale, desc->logit_softcap, to);
    some.rows.logits = to;
    some.rows.stride =
        (int64_t)whole.experts *
        (call->work.prepared || desc->dtype == SEQTOPK_DTYPE_F32 ? (int64_t)sizeof *to : (int64_t)sizeof(uint16_t));
    some.places = NULL;
    some.is_raw = 0;
    return some;
}

static int64_t lse_of_stretch(const seqtopk_call *call, int64_t first, int64_t last) {
    if (!call->is_raw)
        return call->kernels->lse(&call->rows, first, last);
    for (int64_t t = first, next; t < last; t = next) {
        next = seqtopk_block_end(t, last, seqtopk_prepared_at_once(call));
        const seqtopk_call some = seqtopk_prepare(call, t, next);
        const int64_t bad = call->kernels->lse(&some.rows, 0, next - t);
        if (bad >= 0)
            return t + bad;
    }
    return -1;
}

int64_t seqtopk_rows_lse(const seqtopk_call *call, int64_t first, int64_t last) {
    int is_masked;
    int64_t bad = -1;
    for (int64_t t = first, next; bad < 0 && t < last; t = next) {
        next = seqtopk_stretch(call, t, last, &is_masked);
        if (is_masked)
            seqtopk_leave_out(call, t, next);
        else
            bad = lse_of_stretch(call, t, next);
    }
    return bad;
}

void seqtopk_rows_keys(const seqtopk_call *call, int64_t first, int64_t last, float *keys) {
    if (!call->is_raw) {
        call->kernels->keys(&call->rows, first, last, keys);
        return;
    }
    for (int64_t t = first, next; t < last; t = next) {
        next = seqtopk_block_end(t, last, seqtopk_prepared_at_once(call));
        const seqtopk_call some = seqtopk_prepare(call, t, next);
        call->kernels->keys(&some.rows, 0, next - t, keys + (t - first) * call->rows.experts);
    }
}

void seqtopk_rows_weigh(const seqtopk_call *call, const seqtopk_weighing *how, int64_t first, int64_t last,
                        const int32_t *offsets, const int32_t *ids, float *weights) {
    if (!call->is_raw) {
        call->kernels->weigh_logits(&call->rows, how, first, last, offsets, ids, weights);
        return;
    }
    for (int64_t t = first, next; t < last; t = next) {
        next = seqtopk_block_end(t, last, seqtopk_prepared_at_once(call));
        const seqtopk_call some = seqtopk_prepare(call, t, next);
        call->kernels->weigh_logits(&some.rows, how, 0, next - t, offsets + t, ids, weights);
    }
}
