/* SPDX-License-Identifier: MIT */
/*
 * The kernels that read keys: rank (the k-th largest, by compressing ever narrower brackets), and filter (winners out of
 * the candidates). For the ISA whose vec.h stands before this, with its name SELECT_ISA.
 */
#include "arch/common/few.h"
#include "arch/kernel.h"
#include "src/registry.h"

#define SELECT_NAME__(op, isa, algorithm) seqtopk_##op##_f32__##isa##_##algorithm
#define SELECT_NAME_(op, isa, algorithm) SELECT_NAME__(op, isa, algorithm)
#define SELECT_NAME(op, algorithm) SELECT_NAME_(op, SELECT_ISA, algorithm)

seqtopk_rank_fn seqtopk_rank_f32__ref_quickselect;
seqtopk_rank_fn SELECT_NAME(rank, compress);
seqtopk_filter_fn SELECT_NAME(filter, compress);

/* How many keys are above `most`, and how many at or above `least`. */
static inline void count_brackets(const float *keys, int64_t n, float least, float most, int64_t *above, int64_t *upto) {
    const vec low = vec_set1(least), high = vec_set1(most);
    int64_t over = 0, in = 0, i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) {
        const vec x = vec_load(keys + i);
        over += __builtin_popcount(vec_mask_gt(x, high));
        in += __builtin_popcount(vec_mask_ge(x, low));
    }
    for (; i < n; i++) {
        over += keys[i] > most;
        in += keys[i] >= least;
    }
    *above = over;
    *upto = in;
}

/* Moves the keys strictly between two to `to`, which may be where they are. */
static inline int64_t keep_between(const float *keys, int64_t n, float below, float over, float *to) {
    const vec low = vec_set1(below), high = vec_set1(over);
    int64_t kept = 0, i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) {
        const vec x = vec_load(keys + i);
        const uint32_t in = vec_mask_gt(x, low) & vec_mask_gt(high, x);
        vec_store(to + kept, vec_compress(x, in));
        kept += __builtin_popcount(in);
    }
    for (; i < n; i++) {
        const float x = keys[i];
        to[kept] = x;
        kept += x > below && x < over;
    }
    return kept;
}

/* The neighbours of a finite float. */
static inline float next_up(float x) { return nextafterf(x, INFINITY); }
static inline float next_down(float x) { return nextafterf(x, -INFINITY); }

seqtopk_place SELECT_NAME(rank, compress)(const float *keys, int64_t n, int64_t k, float *room) {
    const int64_t wanted = k;
    seqtopk_place place;
    for (int patience = 24; n > 2 * LANES && k <= n; patience--) {
        float sample[LANES];
        vec sorted[VECS];
        int64_t above, upto;
        if (patience == 0) /* input made to mislead the sample */
            return seqtopk_rank_f32__ref_quickselect(keys, n, k, room);
        for (int i = 0; i < LANES; i++)
            sample[i] = keys[(n * (2 * i + 1)) / (2 * LANES)];
        for (int v = 0; v < VECS; v++)
            sorted[v] = vec_load(sample + v * VEC_LANES);
        sort16(sorted);
        for (int v = 0; v < VECS; v++)
            vec_store(sample + v * VEC_LANES, sorted[v]);
        /* Where the key is to be expected in the sample, and two places to either side. */
        const int64_t at = (k - 1) * LANES / n;
        const float most = at < 2 ? FLT_MAX : sample[at - 2], least = at > LANES - 4 ? -FLT_MAX : sample[at + 3];
        count_brackets(keys, n, least, most, &above, &upto);
        if (least == most && k > above && k <= upto)
            return (seqtopk_place){most, wanted - k + above, upto - above};
        if (k <= above) {
            n = keep_between(keys, n, most, INFINITY, room);
        } else if (k > upto) {
            n = keep_between(keys, n, -INFINITY, least, room);
            k -= upto;
        } else {
            n = keep_between(keys, n, next_down(least), next_up(most), room);
            k -= above;
        }
        keys = room;
    }
    place = rank_few(keys, n, k);
    place.above += wanted - k;
    return place;
}

int64_t SELECT_NAME(filter, compress)(const seqtopk_catch *from, int64_t first, int64_t last, float key, int ties,
                                      const seqtopk_lists *to, int64_t at, int64_t end) {
    const vec cut = vec_set1(ties ? key : next_up(key));
    const float *keys = from->keys;
    const uint16_t *ids = from->ids;
    if (!to) {
        int64_t n = 0;
        for (int64_t t = first; t < last; t++)
            n += from->counts[t];
        for (int64_t i = 0; i < n; i += VEC_LANES)
            at += __builtin_popcount(vec_mask_ge(vec_load(keys + i), cut) & first_lanes(n - i));
        return at;
    }
    for (int64_t t = first; t < last; t++) {
        const int32_t n = from->counts[t];
        to->offsets[t] = (int32_t)at;
        for (int32_t i = 0; i < n; i += VEC_LANES) {
            const vec k = vec_load(keys + i);
            const uint32_t in = vec_mask_ge(k, cut) & first_lanes(n - i);
            const vec winners = vec_compress(k, in), experts = vec_compress(vec_load_u16(ids + i), in);
            const int taken = __builtin_popcount(in);
            if (end - at >= VEC_LANES) {
                vec_store(to->keys + at, winners);
                vec_store_bits(to->ids + at, experts);
            } else {
                float some_keys[VEC_LANES];
                int32_t some_ids[VEC_LANES];
                vec_store(some_keys, winners);
                vec_store_bits(some_ids, experts);
                memcpy(to->keys + at, some_keys, (size_t)taken * sizeof *some_keys);
                memcpy(to->ids + at, some_ids, (size_t)taken * sizeof *some_ids);
            }
            at += taken;
        }
        keys += n;
        ids += n;
    }
    return at;
}
