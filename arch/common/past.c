/* SPDX-License-Identifier: MIT */
/* What a step of decoding does with the past: rank_keys, weigh_ranked, contest_ranked, pick_words, pick_keys. */
#include SEQTOPK_VEC_H

#include "arch/common/few.h"
#include "arch/common/name.h"
#include "arch/common/select.h"
#include "arch/common/weigh.h"
#include "arch/kernels.h"

#include "arch/contest.h"
#include "arch/words.h"

#include <math.h>

/* -------------------------------------------------------------- rank_keys -- */

/* Of so many keys, a multiple of VEC_LANES, behind which nothing is, against each other. Returns whether two of the first n are
 * equal. */
static inline __attribute__((always_inline)) int rank_upto(const float *keys, int32_t n, int32_t vectors,
                                                           int32_t *ranks) {
    static const int32_t numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    uint32_t alike = 0;
    for (int32_t v = 0; v < vectors; v++) {
        const lane_floats own = *(const lane_floats *)(keys + v * VEC_LANES);
        lane_ints rank = {0}, equal = {0}, at = *(const lane_ints *)(numbers + 0);
        at += v * VEC_LANES;
        for (int32_t i = 0; i < n; i++) {
            const lane_floats other = (lane_floats){0} + keys[i];
            const lane_ints same = other == own;
            rank -= (other > own) | (same & (at > i));
            equal -= same;
        }
        *(lane_ints *)(ranks + v * VEC_LANES) = rank;
        const lane_floats many = __builtin_convertvector(equal, lane_floats);
        alike |=
            vec_mask_gt(vec_load((const float *)(const void *)&many), vec_set1(1.0f)) & first_lanes(n - v * VEC_LANES);
    }
    return alike != 0;
}

int KERNEL(rank_keys, f32, pairs)(const float *keys, int32_t n, int32_t *ranks) {
    float all[SEQTOPK_MOST_RANKED];
    const int32_t vectors = (n + VEC_LANES - 1) / VEC_LANES;
    for (int32_t v = 0; v < vectors; v++) {
        const int32_t left = n - v * VEC_LANES;
        vec_store(all + v * VEC_LANES, vec_load_first(keys + v * VEC_LANES, left < VEC_LANES ? left : VEC_LANES));
    }
#ifdef VEC_JOIN
    if (n > 0 && n <= LANES) {
        const vec own = vec_keep_first(vec_load(all), n, -INFINITY);
        vec_store(all, own);
        const vec above = vec_count_above(own, all, LANES);
        if (vec_or_powers(above, first_lanes(n)) == first_lanes(n)) { /* no two alike */
            vec_store_bits(ranks, above);
            return 0;
        }
    }
#endif
    return rank_upto(all, n, vectors, ranks);
}

/* ----------------------------------------------------------- weigh_ranked -- */

/* A bit for each of ranks [n], n <= 16, that is below `stays`. */
static inline uint32_t ranked_below(const int32_t *ranks, int32_t n, int32_t stays) {
    uint32_t bits = 0;
    for (int v = 0; v < VECS; v++) {
        const lane_floats own = __builtin_convertvector(*(const lane_ints *)(ranks + v * VEC_LANES), lane_floats);
        bits |= vec_mask_gt(vec_set1((float)stays), vec_load((const float *)(const void *)&own)) << v * VEC_LANES;
    }
    return bits & ((1u << n) - 1);
}

/* The lanes of x [16] in `bits` move together to the front. Returns how many there are. */
static inline int keep16(vec x[VECS], uint32_t bits) {
    float kept[2 * LANES];
    int n = 0;
    if (VECS == 1) {
        x[0] = vec_compress(x[0], bits);
        return count_bits(bits);
    }
    for (int v = 0; ASKS_ALL_LANES && v < VECS; v++)
        vec_store(kept + v * VEC_LANES, vec_set1(0.0f));
    for (int v = 0; v < VECS; v++) {
        const uint32_t here = bits >> v * VEC_LANES & first_lanes(VEC_LANES);
        vec_store(kept + n, vec_compress(x[v], here));
        n += count_bits(here);
    }
    for (int v = 0; v < VECS; v++)
        x[v] = vec_load(kept + v * VEC_LANES);
    return n;
}

/* Lists those of n lanes that are in `bits`, weighed. How many they are cannot be foreseen: n places are written. */
static inline __attribute__((always_inline)) int weigh_those(uint32_t bits, int32_t n, const seqtopk_weighing *how,
                                                             const float *scores, const int32_t *ids, int32_t *kept_ids,
                                                             float *weights) {
    vec x[VECS], own_ids[VECS];
    for (int v = 0; v < VECS; v++) {
        x[v] = vec_load(scores + v * VEC_LANES);
        x[v] = ASKS_ALL_LANES ? vec_keep_first(x[v], n - v * VEC_LANES, 0.0f) : x[v];
        own_ids[v] = vec_load((const float *)(const void *)ids + v * VEC_LANES);
    }
    const int kept = keep16(x, bits);
    (void)keep16(own_ids, bits);
    weigh_store16((float *)(void *)kept_ids, n, own_ids);
    if (how->norm != SEQTOPK_NORM_NONE && any_below16(x, kept, how->least))
        return 0;
    weigh16(x, kept, n, how);
    weigh_store16(weights, n, x);
    return 1;
}

int KERNEL(weigh_ranked, f32, lanes16)(const seqtopk_weighing *how, const float *scores, const int32_t *ids,
                                       const int32_t *ranks, int32_t n, int32_t stays, int32_t *kept_ids,
                                       float *weights) {
    return weigh_those(ranked_below(ranks, n, stays), n, how, scores, ids, kept_ids, weights);
}

/* --------------------------------------------------------- contest_ranked -- */

/* A bit for each of candidates [n] that stays; note: their keys that compete, best first. */
#ifndef VEC_CONTEST_BY_RANK
static inline uint32_t contest_bits(seqtopk_contest *c, const float *note, const int32_t *ranks, int32_t n) {
    seqtopk_hold_contest(c, note, n - c->sure);
    return ranked_below(ranks, n, c->sure + c->winners);
}
#endif

int KERNEL(contest_ranked, f32, lanes16)(seqtopk_contest *contest, const seqtopk_weighing *how, const float *keys,
                                         const float *scores, const int32_t *ids, const int32_t *ranks, int32_t n,
                                         float *note, int32_t *kept_ids, float *weights) {
    for (int32_t i = 0; i < n; i++)
        note[ranks[i] - contest->sure] = keys[i];
#ifdef VEC_CONTEST_BY_RANK
    const uint32_t bits = VEC_CONTEST_BY_RANK(contest, keys, ranks, n);
#else
    const uint32_t bits = contest_bits(contest, note, ranks, n);
#endif
    return weigh_those(bits, n, how, scores, ids, kept_ids, weights);
}

/* ------------------------------------------------------------- pick_words -- */

int64_t KERNEL(pick_words, u64, compress)(const uint64_t *words, int64_t n, uint64_t low, uint64_t high,
                                          uint64_t *picked, int64_t *above) {
    int64_t count = 0, beyond = 0, i = 0;
#ifdef VEC_PICK8
    for (; i + 8 <= n; i += 8)
        count += VEC_PICK8(words + i, low, high, picked + count, &beyond);
#endif
    for (; i < n; i++) {
        picked[count] = words[i];
        count += (words[i] >= low) & (words[i] < high);
        beyond += words[i] >= high;
    }
    *above += beyond;
    return count;
}

/* -------------------------------------------------------------- pick_keys -- */

/* A word as a limit on keys: a token's key reaches it if it is above `key`, or at it and the token is not after `token`. */
typedef struct limit {
    float key;
    int64_t token;
} limit;

static limit limit_of(uint64_t word) {
    const uint32_t digits = (uint32_t)(word >> 32), most = seqtopk_digits_of(INFINITY),
                   least = seqtopk_digits_of(-INFINITY);
    if (digits >= most || digits <= least) /* none reaches it, or all keys that there are */
        return (limit){digits >= most ? INFINITY : -INFINITY, digits >= most ? INT64_MAX : -1};
    return (limit){numbered(digits), seqtopk_token_of(word)};
}

/* What a key must be at least to reach a limit: of a token that is not after the limit's, and of one that is. */
static inline void least_keys(limit to, float least[2]) {
    least[0] = to.key;
    least[1] = to.token == INT64_MAX ? to.key : next_up(to.key);
}

#ifndef VEC_PICK_ROW
#define VEC_PICK_ROW pick_row
static inline int64_t pick_row(vec keys, uint32_t mask, int64_t token, uint64_t *picked) {
    float own[VEC_LANES];
    int64_t count = 0;
    vec_store(own, keys);
    for (; mask; mask &= mask - 1)
        picked[count++] = seqtopk_word_of(own[__builtin_ctz(mask)], token);
    return count;
}
#endif

int64_t KERNEL(pick_keys, f32, rows)(const float *keys, int64_t stride, int64_t rows, int32_t width, int64_t token,
                                     uint64_t low, uint64_t high, uint64_t *picked, int64_t *above) {
    const limit from = limit_of(high), to = limit_of(low);
    float least_over[2], least[2];
    int64_t count = 0, beyond = 0;
    least_keys(from, least_over);
    least_keys(to, least);
    for (int64_t r = 0; r < rows; r++, token++, keys = (const float *)((const char *)keys + stride)) {
        const vec high_key = vec_set1(least_over[token > from.token]), low_key = vec_set1(least[token > to.token]);
        for (int32_t i = 0; i < width; i += VEC_LANES) {
            const vec own = vec_load(keys + i);
            const uint32_t here = first_lanes(width - i < VEC_LANES ? width - i : VEC_LANES),
                           over = vec_mask_ge(own, high_key) & here, in = vec_mask_ge(own, low_key) & here & ~over;
            beyond += count_bits(over);
            count += VEC_PICK_ROW(own, in, token, picked + count);
        }
    }
    *above += beyond;
    return count;
}
