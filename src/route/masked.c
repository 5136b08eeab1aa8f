/* SPDX-License-Identifier: MIT */
/*
 * Masked tokens stand together most often, where a batch was filled up. What goes through rows leaves such stretches out; a
 * few masked tokens between others are gone through with them.
 */
#include "src/route/call.h"

#include <string.h>

enum { STRETCH = 16 }; /* rows that kernels take at a time */

/* Where the masked tokens that begin at `first` end. */
static int64_t end_of_masked(const uint8_t *mask, int64_t first, int64_t last) {
    static const uint8_t none[STRETCH] = {0};
    int64_t t = first;
    while (t + STRETCH <= last && memcmp(mask + t, none, STRETCH) == 0)
        t += STRETCH;
    while (t < last && !mask[t])
        t++;
    return t;
}

int64_t seqtopk_stretch(const seqtopk_call *call, int64_t first, int64_t last, int *is_masked) {
    const uint8_t *mask = call->rows.token_mask, *next;
    *is_masked = 0;
    if (!mask)
        return last;
    for (int64_t t = first; (next = memchr(mask + t, 0, (size_t)(last - t))); t++) {
        const int64_t begin = next - mask, end = end_of_masked(mask, begin, last);
        if (begin == first) {
            *is_masked = 1;
            return end;
        }
        if (end - begin >= STRETCH || end == last)
            return begin;
        t = end; /* which is not masked */
    }
    return last;
}

void seqtopk_leave_out(const seqtopk_call *call, int64_t first, int64_t last) {
    memset(call->rows.shift + first, 0, (size_t)(last - first) * sizeof *call->rows.shift);
    memset(call->rows.lse + first, 0, (size_t)(last - first) * sizeof *call->rows.lse);
}

void seqtopk_list_none(const seqtopk_call *call, int32_t *offsets, int64_t first, int64_t last, int64_t at) {
    seqtopk_leave_out(call, first, last);
    for (int64_t t = first; t < last; t++)
        offsets[t] = (int32_t)at;
}
