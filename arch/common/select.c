/* SPDX-License-Identifier: MIT */
/*
 * select_keys by compression: a sorted sample tells between which two values the key is likely to be; one pass compresses what
 * is there, and counts what is above; and again, until the network of select.h can sort the rest. For the smallest k there is
 * a bound that is certain.
 */
#include SEQTOPK_VEC_H

#include "arch/common/select.h"
#include "arch/common/name.h"
#include "arch/kernels.h"

/* A guess: the keys to keep. */
typedef struct {
    float least, most;
    int what; /* KEEP_FROM, KEEP_INSIDE or KEEP_UPTO */
} guess;

/*
 * Two standard deviations of the sample's place to either side: where that is wrong, what was dropped is wanted after
 * all. Short arrays take less, so that what is left is sorted at once. A bound that would drop little is not worth the
 * comparison.
 */
static inline guess guess_from(const float sorted[FEW], int64_t n, int64_t k) {
    enum { WORTH = 10 };
    const float share = (float)k / (float)n;
    const int64_t at = (k - 1) * FEW / n, narrow = FEW * (FEW / 2) / n;
    int64_t wide = 2 + (int64_t)(2 * sqrtf((float)FEW * share * (1 - share)));
    if (n < 16 * FEW && wide > narrow)
        wide = narrow < 2 ? 2 : narrow;
    const int64_t before = at - wide, after = FEW - 1 - (at + wide);
    guess g = {after >= 0 ? sorted[at + wide] : -INFINITY, before >= 0 ? sorted[before] : INFINITY, KEEP_INSIDE};
    if (before < WORTH && before <= after) {
        g.what = KEEP_FROM;
        g.most = INFINITY;
    } else if (after < WORTH) {
        g.what = KEEP_UPTO;
        g.least = -INFINITY;
    }
    return g;
}

static inline int64_t keep_guessed(const float *keys, int64_t n, guess g, float *to, int64_t *above) {
    int64_t kept;
    *above = 0;
    if (g.what == KEEP_INSIDE)
        return keep(KEEP_INSIDE, keys, n, g.least, g.most, to, above);
    if (g.what == KEEP_FROM)
        return keep(KEEP_FROM, keys, n, g.least, g.most, to, NULL);
    kept = keep(KEEP_UPTO, keys, n, g.least, g.most, to, NULL);
    *above = n - kept;
    return kept;
}

/* The same without moving anything. */
static inline int64_t count_guessed(const float *keys, int64_t n, guess g, int64_t *above) {
    int64_t upto = n;
    *above = 0;
    if (g.what == KEEP_INSIDE)
        count_brackets(keys, n, g.least, g.most, above, &upto);
    else if (g.what == KEEP_FROM)
        upto = count_above(keys, n, g.least, 1);
    else
        *above = count_above(keys, n, g.most, 0);
    return upto - *above;
}

/* The keys above a guess, or below it. */
static __attribute__((noinline)) void keep_other(int above, const float *keys, int64_t n, guess g, float *to) {
    if (above)
        keep(KEEP_ABOVE, keys, n, g.least, g.most, to, NULL);
    else
        keep(KEEP_BELOW, keys, n, g.least, g.most, to, NULL);
}

/* A value that at least k keys reach: the k-th largest of the maxima of as many groups as the network sorts; -inf where
 * there are too few to tell. */
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

/* The keys from `least` on, which most blocks have none of. */
static inline int64_t keep_few(const float *keys, int64_t n, float least, float *to) {
    enum { BLOCK = 4, BLOCK_KEYS = BLOCK * VEC_LANES };
    int64_t kept = 0, i = 0;
    for (; i + BLOCK_KEYS <= n; i += BLOCK_KEYS) {
        vec most = vec_load(keys + i);
        for (int v = 1; v < BLOCK; v++)
            most = vec_max(most, vec_load(keys + i + v * VEC_LANES));
        if (vec_mask_ge(most, vec_set1(least)))
            kept += keep(KEEP_FROM, keys + i, BLOCK_KEYS, least, least, to + kept, NULL);
    }
    return kept + keep(KEEP_FROM, keys + i, n - i, least, least, to + kept, NULL);
}

seqtopk_kth KERNEL(select_keys, f32, compress)(const float *keys, int64_t n, int64_t k, float *work) {
    enum { PATIENCE = 8 }; /* rounds that leave more than half; three-way ones among them */
    const int64_t wanted = k, size = n;
    between where = anywhere();
    int bad = 0;
    const float bound = least_maximum(keys, n, k);
    if (bound > -INFINITY) {
        n = keep_few(keys, n, bound, work);
        keys = work;
        if (n == k) { /* the best are of a group each: it is the least of them */
            const int64_t above = count_above(keys, n, bound, 0);
            return (seqtopk_kth){bound, above, n - above};
        }
    }
    for (int round = 0; n > FEW && round < ROUNDS; round++) {
        float sorted[FEW];
        guess g;
        if (bad > PATIENCE) {
            g = (guess){middle(where), middle(where), KEEP_INSIDE};
        } else {
            sort_sample(keys, n, sorted);
            g = guess_from(sorted, n, k);
            /* Many equal keys: one value, against those on both of its sides. */
            if (bad & 1)
                g = (guess){sorted[(k - 1) * FEW / n], sorted[(k - 1) * FEW / n], KEEP_INSIDE};
        }
        /* What a guess drops may be wanted after all; so it must not be overwritten, or be counted before. */
        float *to = keys != work ? work : 2 * n <= size ? work + n : NULL;
        int64_t above, kept;
        if (to) {
            kept = keep_guessed(keys, n, g, to, &above);
        } else {
            kept = count_guessed(keys, n, g, &above);
            to = work;
            if (k > above && k <= above + kept && g.least < g.most)
                keep_guessed(keys, n, g, to, &above);
        }
        const int64_t before = n;
        if (k <= above) {
            keep_other(1, keys, n, g, to);
            rise(&where, g.most);
            n = above;
        } else if (k > above + kept) {
            keep_other(0, keys, n, g, to);
            fall(&where, g.least);
            n -= above + kept;
            k -= above + kept;
        } else if (g.least == g.most) {
            return (seqtopk_kth){g.most, wanted - k + above, kept};
        } else {
            k -= above;
            n = kept;
        }
        bad += n > before / 2;
        keys = to;
    }
    seqtopk_kth place = select_few64(keys, n, k);
    place.above += wanted - k;
    return place;
}
