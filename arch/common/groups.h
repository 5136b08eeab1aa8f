/* SPDX-License-Identifier: MIT */
/*
 * A row's groups scored and chosen, group_n <= 2, at most GROUPS_MOST groups.
 *
 * A group's best two are folded out of its lanes as pairs (first, second), so that equals count twice. Groups are
 * folded together: two vectors of pairs become one, each group in half of its lanes, until every lane is a group.
 */
#ifndef SEQTOPK_ARCH_COMMON_GROUPS_H
#define SEQTOPK_ARCH_COMMON_GROUPS_H

#include "arch/common/lanes.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum { GROUPS_MOST = 64 };

/* Lane by lane the best two of some keys; with n = 1, here and below, the best alone. */
typedef struct {
    vec first, second;
} best_two;

ALWAYS_INLINE best_two better_two(best_two a, best_two b, const int n) {
    const vec first = vec_max(a.first, b.first);
    return (best_two){first, n == 1 ? first : vec_max(vec_min(a.first, b.first), vec_max(a.second, b.second))};
}

ALWAYS_INLINE best_two best_two_with(best_two a, vec x, const int n) {
    const vec first = vec_max(a.first, x);
    return (best_two){first, n == 1 ? first : vec_max(vec_min(a.first, x), a.second)};
}

ALWAYS_INLINE best_two best_two_of(const float *members, int32_t size, const int n) {
    const vec none = vec_set1(-INFINITY);
    int32_t i = VEC_LANES;
    if (size < VEC_LANES)
        return (best_two){vec_load_first(members, size), none};
    best_two best = {vec_load(members), none};
    if (size >= 2 * VEC_LANES) { /* two vectors are pairs as they are */
        const vec next = vec_load(members + i);
        best = (best_two){vec_max(best.first, next), n == 1 ? none : vec_min(best.first, next)};
        i += VEC_LANES;
    }
    for (; i + VEC_LANES <= size; i += VEC_LANES)
        best = best_two_with(best, vec_load(members + i), n);
    return i == size ? best : best_two_with(best, vec_load_first(members + i, size - i), n);
}

/* Of a and b, lanes whose numbers differ in the bit `stride` folded: of a where it is clear, of b where it is set. */
ALWAYS_INLINE best_two join_two(best_two a, best_two b, const int stride, const int n) {
    static const int32_t is_clear[4][LANES] = {
        {-1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0},
        {-1, -1, 0, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1, -1, 0, 0},
        {-1, -1, -1, -1, 0, 0, 0, 0, -1, -1, -1, -1, 0, 0, 0, 0},
        {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0},
    };
    const int32_t *mask = is_clear[stride == 1 ? 0 : stride == 2 ? 1 : stride == 4 ? 2 : 3];
    const best_two stay = {vec_blend(mask, a.first, b.first), vec_blend(mask, a.second, b.second)};
    const best_two move = {vec_blend(mask, b.first, a.first), vec_blend(mask, b.second, a.second)};
    return better_two(stay, (best_two){vec_across(move.first, stride), vec_across(move.second, stride)}, n);
}

/* The scores of `width` groups (a power of two, at most VEC_LANES), one a lane; where there are fewer, the first's. */
ALWAYS_INLINE vec group_scores_of(const float *members, int32_t size, int32_t groups, const int width, const int n) {
    const vec none = vec_set1(-INFINITY), least = vec_set1(-FLT_MAX), most = vec_set1(FLT_MAX);
    best_two best[VEC_LANES];
    for (int g = 0; g < width; g++)
        best[g] = best_two_of(members + (g < groups ? g * size : 0), size, n);
#pragma GCC unroll 4
    for (int stride = width / 2; stride; stride /= 2)
#pragma GCC unroll 8
        for (int g = 0; g < stride; g++)
            best[g] = join_two(best[g], best[g + stride], stride, n);
#pragma GCC unroll 4
    for (int stride = VEC_LANES / 2; stride >= width; stride /= 2)
        *best = better_two(*best, (best_two){vec_across(best->first, stride), vec_across(best->second, stride)}, n);
    const vec sum = vec_min(vec_max(vec_add(best->first, best->second), least), most);
    return n == 1 ? best->first : vec_if_lt(best->second, least, none, sum);
}

/* Groups before one in the order: those above it and, of its ties, the lower ones, if they are asked for. */
ALWAYS_INLINE int32_t groups_before(vec other, vec own, uint32_t inside, uint32_t lower, const int ties) {
    return count_bits((vec_mask_gt(other, own) & inside) | (ties ? vec_mask_eq(other, own) & lower : 0));
}

/* A bit for each group that has `kept` others before it. */
ALWAYS_INLINE uint64_t lost_groups(const float *score, int32_t groups, int32_t kept, const int ties) {
    uint64_t lost = 0;
    for (int32_t g = 0; g < groups; g++) {
        int32_t before = 0;
        for (int32_t i = 0; i < groups; i += VEC_LANES)
            before += groups_before(vec_load(score + i), vec_set1(score[g]), first_lanes(groups - i),
                                    g > i ? first_lanes(g - i) : 0, ties);
        lost |= (uint64_t)(before >= kept) << g;
    }
    return lost;
}

/* The same of few groups, whose scores are one vector. Ties are not asked for. */
ALWAYS_INLINE uint64_t lost_few(const float *score, int32_t groups, int32_t kept, const int width) {
    const vec all = vec_load(score);
    const uint32_t inside = first_lanes(groups);
    uint32_t lost = 0;
#pragma GCC unroll 16
    for (int g = 0; g < width; g++)
        lost |= (uint32_t)(groups_before(all, vec_set1(score[g]), inside, 0, 0) >= kept) << g;
    return lost & inside;
}

/* How far the least of the groups that stay is above the best of the lost ones, less some roundings. */
ALWAYS_INLINE float gap_of_groups(const float *score, int32_t groups, uint64_t lost) {
    const vec zero = vec_set1(0.0f);
    vec stay = vec_set1(INFINITY), gone = vec_set1(INFINITY);
    for (int32_t g = 0; g < groups; g += VEC_LANES) {
        const uint32_t here = (uint32_t)(lost >> g) & first_lanes(VEC_LANES);
        const vec own = vec_load(score + g);
        stay = vec_min(stay, vec_raise(own, here | ~first_lanes(groups - g)));
        gone = vec_min(gone, vec_raise(vec_sub(zero, own), ~here));
    }
    const float least = first_lane(smallest_across(stay, VEC_LANES)),
                most = first_lane(smallest_across(gone, VEC_LANES));
    return least + most - (fabsf(least) + fabsf(most)) * 0x1p-20f;
}

/* score [groups]: -inf where there are fewer than two candidates. How many groups have a score. */
ALWAYS_INLINE int32_t whole_groups(const float *score, int32_t groups) {
    int32_t whole = 0;
    for (int32_t g = 0; g < groups; g += VEC_LANES)
        whole += count_bits(vec_mask_ge(vec_load(score + g), vec_set1(-FLT_MAX)) & first_lanes(groups - g));
    return whole;
}

/* Where too few groups have two candidates, all of those stay, and of the others those whose one is best. */
static __attribute__((noinline)) uint64_t lost_of_single(const float *scores, int32_t size, int32_t groups,
                                                         int32_t kept, const float *score) {
    _Alignas(64) float best[GROUPS_MOST + VEC_LANES];
    for (int32_t g = 0; g < groups; g++) {
        best[g] = score[g] > -INFINITY ? INFINITY : -INFINITY;
        for (int32_t e = g * size; e < (g + 1) * size; e++)
            best[g] = scores[e] > best[g] ? scores[e] : best[g];
    }
    return lost_groups(best, groups, kept, 1);
}

/* The bits of the groups that are lost. *gap, where it is wanted: how far the least group that stays is above the best of those. */
ALWAYS_INLINE uint64_t choose_groups(const float *scores, int32_t size, int32_t groups, int32_t kept, const int n,
                                     float *gap) {
    _Alignas(64) float score[GROUPS_MOST];
    uint64_t lost;
    if (groups <= VEC_LANES / 2) {
        vec_store(score, group_scores_of(scores, size, groups, VEC_LANES / 2, n));
        lost = lost_few(score, groups, kept, VEC_LANES / 2);
    } else {
        for (int32_t g = 0; g < groups; g += VEC_LANES)
            vec_store(score + g, group_scores_of(scores + g * size, size, groups - g, VEC_LANES, n));
        lost = lost_groups(score, groups, kept, 0);
    }
    /* Ties are rare, and most of them stay or go together. */
    if (count_bits64(lost) != groups - kept)
        lost = n == 2 && whole_groups(score, groups) < kept ? lost_of_single(scores, size, groups, kept, score)
                                                            : lost_groups(score, groups, kept, 1);
    if (gap)
        *gap = gap_of_groups(score, groups, lost);
    return lost;
}

ALWAYS_INLINE void lose(float *keys, int32_t size) {
    const vec none = vec_set1(-INFINITY);
    if (size < VEC_LANES) {
        vec_store_first(keys, none, size);
        return;
    }
    for (int32_t i = 0; i < size - VEC_LANES; i += VEC_LANES)
        vec_store(keys + i, none);
    vec_store(keys + size - VEC_LANES, none);
}

#endif
