/* SPDX-License-Identifier: MIT */
/*
 * select_keys for few of many: a reservoir of keys that may be among the first k, whose cut turns most vectors away by one
 * comparison. Where it is full all but a little more than k of it go, which costs less for each key taken in than to
 * keep a heap in order. For the smallest k there is a cut to begin with: at least k keys reach the k-th largest of the
 * maxima of groups.
 */
#ifndef SEQTOPK_ARCH_COMMON_SELECT_HEAP_H
#define SEQTOPK_ARCH_COMMON_SELECT_HEAP_H

#include "arch/common/select_compress.h"
#include "arch/common/select_quickselect.h"

/* At least k keys are at or above `cut`: `size` above it, all of them in the reservoir, and `ties` that equal it. */
typedef struct {
    float *keys, cut;
    int64_t size, ties;
} reservoir;

/* Raises the cut. k <= size: a key of the reservoir becomes the new one, so that what equals it is in there too. */
static inline void raise_cut(reservoir *r, int64_t k) {
    float sorted[FEW];
    int64_t above, upto;
    const int64_t at = (k - 1) * FEW / r->size + 2 + (int64_t)(2 * sqrtf((float)(FEW * k) / (float)r->size));
    sort_sample(r->keys, r->size, sorted);
    r->cut = sorted[at < FEW ? at : FEW - 1];
    count_brackets(r->keys, r->size, r->cut, r->cut, &above, &upto);
    if (upto < k || above > r->size - r->size / 4) {
        const seqtopk_kth place = quickselect(r->keys, r->size, k);
        r->cut = place.key;
        above = place.above;
        upto = place.above + place.equal;
    }
    r->ties = upto - above;
    r->size = keep(KEEP_ABOVE, r->keys, r->size, r->cut, r->cut, r->keys, NULL);
}

static inline void take_in(reservoir *r, vec x, uint32_t inside, vec cut, const int whole) {
    const uint32_t above = vec_mask_gt(x, cut) & inside;
    const int count = count_bits(above);
    r->ties += count_bits(vec_mask_eq(x, cut) & inside);
    if (whole)
        vec_store(r->keys + r->size, vec_compress(x, above));
    else
        vec_store_first(r->keys + r->size, vec_compress(x, above), count);
    r->size += count;
}

/* The k-th largest of the maxima of as many groups as the network sorts, or -inf where there are too few to tell. */
static inline float least_maximum(const float *keys, int64_t n, int64_t k) {
    float maxima[FEW];
    vec most[FEW_VECS];
    if (k > FEW / 2 || n < 2 * FEW)
        return -INFINITY;
    for (int v = 0; v < FEW_VECS; v++)
        most[v] = vec_load(keys + v * VEC_LANES);
    for (int64_t i = FEW; i + FEW <= n; i += FEW)
        for (int v = 0; v < FEW_VECS; v++)
            most[v] = vec_max(most[v], vec_load(keys + i + v * VEC_LANES));
    sort_groups(most, FEW / LANES);
    for (int v = 0; v < FEW_VECS; v++)
        vec_store(maxima + v * VEC_LANES, most[v]);
    return maxima[k - 1];
}

static inline seqtopk_kth select_by_reservoir(const float *keys, int64_t n, int64_t k, float *work) {
    enum { BLOCK = 4, BLOCK_KEYS = BLOCK * VEC_LANES, LEAST = 4 * FEW };
    const int64_t full = k < LEAST / 4 ? LEAST : 4 * k;
    reservoir r = {work, least_maximum(keys, n, k), 0, 0};
    int64_t i = 0;
    for (; i + BLOCK_KEYS <= n; i += BLOCK_KEYS) {
        const vec cut = vec_set1(r.cut);
        vec x[BLOCK], most;
        for (int v = 0; v < BLOCK; v++)
            x[v] = vec_load(keys + i + v * VEC_LANES);
        most = x[0];
        for (int v = 1; v < BLOCK; v++)
            most = vec_max(most, x[v]);
        if (vec_mask_ge(most, cut) == 0)
            continue;
        for (int v = 0; v < BLOCK; v++) /* whole vectors: the reservoir is behind what was read */
            take_in(&r, x[v], first_lanes(VEC_LANES), cut, 1);
        if (r.size > full)
            raise_cut(&r, k);
    }
    for (; i < n; i += VEC_LANES)
        take_in(&r, load_first(keys + i, n - i), first_lanes(n - i), vec_set1(r.cut), 0);
    return r.size < k ? (seqtopk_kth){r.cut, r.size, r.ties} : select_by_compression(work, r.size, k, work);
}

#endif
