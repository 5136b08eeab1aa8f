/* SPDX-License-Identifier: MIT */
/* From the winners' scores to their weights, token by token. Included after lanes.h. */
#ifndef SEQTOPK_ARCH_COMMON_WEIGH_H
#define SEQTOPK_ARCH_COMMON_WEIGH_H

#include "arch/kernel.h"

#include <seqtopk/seqtopk.h>

/* Of n vectors at once, as exp_full_of. */
static inline __attribute__((always_inline)) void scores_of(const int32_t score, vec *x, const int n, vec shift,
                                                            vec lse) {
    switch ((seqtopk_score)score) {
    case SEQTOPK_SCORE_SOFTMAX:
        for (int i = 0; i < n; i++)
            x[i] = log_probability(x[i], shift, lse);
        exp_full_of(x, n);
        break;
    case SEQTOPK_SCORE_SIGMOID: sigmoid_of(x, n); break;
    case SEQTOPK_SCORE_SQRTSOFTPLUS:
        for (int i = 0; i < n; i++)
            x[i] = sqrtsoftplus(x[i]);
        break;
    case SEQTOPK_SCORE_LOGITS: break;
    }
}

/* The scores of keys that are x, for softmax the log-probability. */
static inline __attribute__((always_inline)) void scores_of_keys(int32_t score, vec *x, const int n) {
    if (score == SEQTOPK_SCORE_SOFTMAX)
        exp_full_of(x, n);
    else
        scores_of(score, x, n, x[0], x[0]);
}

/* Not to burden loops with the constants of scores that they seldom make. */
static __attribute__((noinline)) vec score_of_logit(int32_t score, vec x) {
    scores_of(score, &x, 1, x, x);
    return x;
}

/* The score of one vector's keys. */
static inline vec score_of_key(int32_t score, vec key) {
    return score == SEQTOPK_SCORE_SOFTMAX ? exp_full(key) : score_of_logit(score, key);
}

/* w [n] dealt out to 16 lanes, `absent` in the places beyond n. */
static inline void weigh_load16(const float *w, int32_t n, float absent, vec x[VECS]) {
    for (int v = 0; v < VECS; v++) {
        const int left = n - v * VEC_LANES;
        x[v] = left >= VEC_LANES ? vec_load(w + v * VEC_LANES)
               : left > 0        ? vec_keep_first(VEC_LOAD_FEW(w + v * VEC_LANES, left), left, absent)
                                 : vec_set1(absent);
    }
}

/* The sum of w [n], in runs as a row's. */
static inline float weigh_sum(const float *w, int32_t n) {
    vec x[VECS], sum[VECS], total[VECS];
    if (n <= 0)
        return 0.0f;
    weigh_load16(w, n, 0.0f, total);
    for (int32_t i = LANES; i < n && i < SUM_RUN * LANES; i += LANES) {
        weigh_load16(w + i, n - i, 0.0f, x);
        for (int v = 0; v < VECS; v++)
            total[v] = vec_add(total[v], x[v]);
    }
    for (int32_t run = SUM_RUN * LANES; run < n; run += SUM_RUN * LANES) {
        weigh_load16(w + run, n - run, 0.0f, sum);
        for (int32_t i = run + LANES; i < n && i < run + SUM_RUN * LANES; i += LANES) {
            weigh_load16(w + i, n - i, 0.0f, x);
            for (int v = 0; v < VECS; v++)
                sum[v] = vec_add(sum[v], x[v]);
        }
        for (int v = 0; v < VECS; v++)
            total[v] = vec_add(total[v], sum[v]);
    }
    return vec_sum16(total);
}

/* w [n] becomes exp(w - max(w)). */
static inline void weigh_exponentials(float *w, int32_t n) {
    float max = -INFINITY, part[LANES];
    for (int32_t i = 0; i < n; i++)
        max = w[i] > max ? w[i] : max;
    for (int32_t i = 0; i < n; i += LANES) {
        vec x[VECS];
        weigh_load16(w + i, n - i, max, x);
        for (int v = 0; v < VECS; v++)
            vec_store(part + v * VEC_LANES, exp_full(vec_sub(x[v], vec_set1(max))));
        memcpy(w + i, part, (size_t)(n - i < LANES ? n - i : LANES) * sizeof *w);
    }
}

/* The last operations on every weight: a division and the scale. */
static inline void weigh_divide(float *w, int32_t n, float divisor, const seqtopk_weighing *how) {
    const vec all = vec_set1(divisor), scale = vec_set1(how->scale);
    for (int32_t i = 0; i < n; i += VEC_LANES) {
        const int left = n - i < VEC_LANES ? (int)(n - i) : VEC_LANES;
        const vec x = vec_load_first(w + i, left);
        vec_store_first(w + i, vec_mul(divisor != 0.0f ? vec_div(x, all) : vec_set1(0.0f), scale), left);
    }
}

static inline float weigh_divisor(float sum, const seqtopk_weighing *how) {
    if (how->norm == SEQTOPK_NORM_SUM) {
        sum += how->eps;
        if (how->floor > 0.0f && sum < how->floor)
            sum = how->floor;
    }
    return sum;
}

static inline void weigh_store16(float *w, int32_t n, const vec x[VECS]) {
    for (int v = 0; v < VECS; v++) {
        const int left = n - v * VEC_LANES;
        if (left > 0)
            VEC_STORE_FEW(w + v * VEC_LANES, x[v], left < VEC_LANES ? left : VEC_LANES);
    }
}

/* The scores x of one token's n winners, n <= most <= 16, become weights; what is in the lanes beyond does not count. */
static inline __attribute__((always_inline)) void weigh16(vec x[VECS], int32_t n, int32_t most,
                                                          const seqtopk_weighing *how) {
    const vec scale = vec_set1(how->scale);
    if (how->norm == SEQTOPK_NORM_SOFTMAX) {
        vec max = vec_set1(-INFINITY);
        for (int v = 0; v < VECS; v++)
            max = vec_max(max, vec_keep_first(x[v], n - v * VEC_LANES, -INFINITY));
        max = largest_across(max, VEC_LANES);
        for (int v = 0; v < VECS; v++)
            x[v] = exp_full(vec_sub(x[v], max)); /* beyond n: whatever, as it is cleared */
    }
    if (how->norm != SEQTOPK_NORM_NONE) {
        for (int v = 0; v < VECS; v++)
            x[v] = vec_keep_first(x[v], n - v * VEC_LANES, 0.0f);
        const float divisor = weigh_divisor(n > 0 ? vec_sum16(x) : 0.0f, how);
        for (int v = 0; v < VECS; v++)
            x[v] = divisor != 0.0f ? VEC_DIV_FIRST(x[v], vec_set1(divisor), most) : vec_set1(0.0f);
    }
    for (int v = 0; v < VECS; v++)
        x[v] = vec_mul(x[v], scale);
}

/* The scores w [n] of one token's winners become weights. */
static inline void weigh(float *w, int32_t n, const seqtopk_weighing *how) {
    if (how->norm == SEQTOPK_NORM_NONE) {
        for (int32_t i = 0; i < n && how->scale != 1.0f; i++)
            w[i] *= how->scale;
        return;
    }
    if (how->norm == SEQTOPK_NORM_SOFTMAX)
        weigh_exponentials(w, n);
    weigh_divide(w, n, weigh_divisor(weigh_sum(w, n), how), how);
}

/* Keys [end - i], or where the score is not softmax logits, become scores. Returns whether none is below `least`. */
static inline int weigh_scores(int32_t score, float *keys, int64_t i, int64_t end, float least) {
    vec lowest = vec_set1(INFINITY);
    for (; i + SCORE_VECS * VEC_LANES <= end && SCORE_VECS > 1; i += SCORE_VECS * VEC_LANES) {
        vec x[SCORE_VECS];
        for (int v = 0; v < SCORE_VECS; v++)
            x[v] = vec_load(keys + i + v * VEC_LANES);
        scores_of_keys(score, x, SCORE_VECS);
        for (int v = 0; v < SCORE_VECS; v++) {
            lowest = vec_min(lowest, x[v]);
            vec_store(keys + i + v * VEC_LANES, x[v]);
        }
    }
    for (; i + VEC_LANES <= end; i += VEC_LANES) {
        vec x = vec_load(keys + i);
        scores_of_keys(score, &x, 1);
        lowest = vec_min(lowest, x);
        vec_store(keys + i, x);
    }
    if (i < end) {
        float part[VEC_LANES] = {0};
        memcpy(part, keys + i, (size_t)(end - i) * sizeof *part);
        vec x = vec_load(part);
        scores_of_keys(score, &x, 1);
        lowest = vec_min(lowest, vec_keep_first(x, end - i, INFINITY));
        vec_store(part, x);
        memcpy(keys + i, part, (size_t)(end - i) * sizeof *part);
    }
    return vec_mask_gt(vec_set1(least), lowest) == 0;
}

/* Which lanes of tokens side by side have a score: a mask, or how many, from the first on, where a vector has one token. */
#ifdef VEC_LOAD_PARTS
static inline uint32_t weigh_lanes(int32_t n, int place) { return first_lanes(n) << place; }
static inline vec weigh_keep(vec x, uint32_t lanes, float absent) { return VEC_KEEP_LANES(x, lanes, absent); }
#else
static inline uint32_t weigh_lanes(int32_t n, int place) { return place ? 0 : (uint32_t)n; }
static inline vec weigh_keep(vec x, uint32_t lanes, float absent) { return vec_keep_first(x, lanes, absent); }
#endif

/*
 * Tokens that stand side by side in a vector, `width` lanes each, a power of two: their scores become weights. Sums are those of
 * weigh16, whose other lanes are 0. is_whole: all lanes have one.
 */
static inline __attribute__((always_inline)) vec weigh_side_by_side(vec x, const int is_whole, uint32_t lanes,
                                                                    const int width, const seqtopk_weighing *how) {
    const vec zero = vec_set1(0.0f);
    if (how->norm == SEQTOPK_NORM_SOFTMAX)
        x = exp_full(vec_sub(x, largest_across(is_whole ? x : weigh_keep(x, lanes, -INFINITY), width)));
    if (!is_whole)
        x = weigh_keep(x, lanes, 0.0f);
    if (how->norm != SEQTOPK_NORM_NONE) {
        vec sum = x;
        for (int stride = width / 2; stride > 0; stride /= 2)
            sum = vec_add(sum, vec_across(sum, stride));
        if (how->norm == SEQTOPK_NORM_SUM) {
            const vec floor = vec_set1(how->floor);
            sum = vec_add(sum, vec_set1(how->eps));
            sum = how->floor > 0.0f ? vec_if_lt(sum, floor, floor, sum) : sum;
        }
        const vec size = vec_max(sum, vec_sub(zero, sum)); /* a NaN stays one */
        x = vec_if_lt(size, vec_set1(0x1p-149f), zero, vec_div(x, sum));
    }
    return vec_mul(x, vec_set1(how->scale));
}

/* Of tokens that have `width` experts each, from `first` on as far as whole vectors go. Returns the next token. */
static inline __attribute__((always_inline)) int64_t weigh_whole(const seqtopk_weighing *how, int64_t first,
                                                                 int64_t last, float *weights, const int width) {
    for (; (last - first) * width >= VEC_LANES; first += VEC_LANES / width, weights += VEC_LANES)
        vec_store(weights, weigh_side_by_side(vec_load(weights), 1, 0, width, how));
    return first;
}

/* The same where tokens do have as many each. */
static inline int64_t weigh_alike(const seqtopk_weighing *how, int64_t first, int64_t last, const int32_t *offsets,
                                  float *weights) {
    const int32_t n = offsets[first + 1] - offsets[first];
    int32_t others = offsets[last] - offsets[first] != (last - first) * n;
    if (others || (n != 2 && n != 4 && n != 8) || n > VEC_LANES)
        return first;
    for (int64_t t = first; t < last; t++)
        others |= (offsets[t + 1] - offsets[t]) ^ n;
    if (others)
        return first;
    weights += offsets[first];
    return n == 2   ? weigh_whole(how, first, last, weights, 2)
           : n == 4 ? weigh_whole(how, first, last, weights, 4)
                    : weigh_whole(how, first, last, weights, 8 < VEC_LANES ? 8 : VEC_LANES);
}

/* Tokens of at most `width` experts each, and the scores of all of them: they become *weights. Of either array a vector more than the
 * last token has is read and written; that one is another than the other, so that no load waits for a store beside it. */
static inline __attribute__((always_inline)) void weigh_few(const seqtopk_weighing *how, int64_t first, int64_t last,
                                                            const int32_t *offsets, const float *scores, float *weights,
                                                            const int width) {
    const int each = VEC_LANES / width;
    for (int64_t t = first; t < last; t += each) {
        int32_t at[VEC_LANES];
        uint32_t lanes = 0;
        for (int i = 0; i < each; i++) {
            const int64_t own = t + i < last ? t + i : last, next = t + i < last ? t + i + 1 : last;
            at[i] = offsets[own] - offsets[first];
            lanes |= weigh_lanes(offsets[next] - offsets[own], i * width);
        }
#ifdef VEC_LOAD_PARTS
        VEC_STORE_PARTS(weights, at, weigh_side_by_side(VEC_LOAD_PARTS(scores, at, width), 0, lanes, width, how),
                        width);
#else
        vec_store(weights + at[0], weigh_side_by_side(vec_load(scores + at[0]), 0, lanes, width, how));
#endif
    }
}

/* The same of tokens of at most 16, of which one has `most`. */
static inline void weigh_some(const seqtopk_weighing *how, int64_t first, int64_t last, const int32_t *offsets,
                              const float *scores, float *weights, int32_t most) {
#ifdef VEC_LOAD_PARTS
    if (most <= 4) {
        weigh_few(how, first, last, offsets, scores, weights, 4);
        return;
    }
    if (most <= 8) {
        weigh_few(how, first, last, offsets, scores, weights, 8);
        return;
    }
#endif
    if (most <= VEC_LANES) {
        weigh_few(how, first, last, offsets, scores, weights, VEC_LANES);
        return;
    }
    for (int64_t t = first; t < last; t++) {
        const int32_t at = offsets[t] - offsets[first], n = offsets[t + 1] - offsets[t];
        vec x[VECS];
        for (int v = 0; v < VECS; v++)
            x[v] = vec_load(scores + at + v * VEC_LANES);
        weigh16(x, n, n, how);
        for (int v = 0; v < VECS; v++)
            vec_store(weights + at + v * VEC_LANES, x[v]);
    }
}

/* Keys of the winners of tokens [first, last), or where the score is not softmax their logits, become weights: op
 * weigh_keys. */
static inline int weigh_tokens(int32_t score, const seqtopk_weighing *how, int64_t first, int64_t last,
                               const int32_t *offsets, float *weights) {
    enum { MANY = 256 };
    float scores[MANY + LANES], made[MANY + LANES];
    const int are_sound = weigh_scores(score, weights, offsets[first], offsets[last], how->least);
    if (first == last || (how->norm == SEQTOPK_NORM_NONE && how->scale == 1.0f))
        return 1;
    if (!are_sound)
        return 0;
    first = weigh_alike(how, first, last, offsets, weights);
    for (int64_t next; first < last; first = next) {
        float *own = weights + offsets[first];
        int32_t most = 0;
        for (next = first; next < last && offsets[next + 1] - offsets[first] <= MANY; next++) {
            const int32_t n = offsets[next + 1] - offsets[next];
            if (n > LANES)
                break;
            most = n > most ? n : most;
        }
        if (next > first) {
            const size_t bytes = (size_t)(offsets[next] - offsets[first]) * sizeof *own;
            memcpy(scores, own, bytes);
            weigh_some(how, first, next, offsets, scores, made, most);
            memcpy(own, made, bytes);
        } else {
            next = first + 1;
            weigh(own, offsets[next] - offsets[first], how);
        }
    }
    return 1;
}

/* The logits w [n] of one token become scores. */
static inline void scores_of_token(int32_t score, float *w, int32_t n, vec shift, vec lse) {
    float part[LANES];
    for (int32_t i = 0; i < n; i += LANES) {
        vec x[VECS];
        weigh_load16(w + i, n - i, 0.0f, x);
        scores_of(score, x, VECS, shift, lse);
        for (int v = 0; v < VECS; v++)
            vec_store(part + v * VEC_LANES, x[v]);
        memcpy(w + i, part, (size_t)(n - i < LANES ? n - i : LANES) * sizeof *w);
    }
}

/* Whether one of x [n], n <= 16, is below `least`. */
static inline int any_below16(const vec x[VECS], int32_t n, float least) {
    uint32_t below = 0;
    for (int v = 0; v < VECS; v++)
        below |= vec_mask_gt(vec_set1(least), x[v]) << v * VEC_LANES;
    return (below & ((1u << n) - 1)) != 0;
}

/* Whether the scores w [n] of one token are weighed by their logarithms. */
static inline int weigh_needs_logs(const float *w, int32_t n, const seqtopk_weighing *how) {
    int32_t below = 0;
    for (int32_t i = 0; i < n; i++)
        below |= w[i] < how->least;
    return below && weigh_sum(w, n) < 0.5f;
}

/* What log s(x) = unit * (x - less) has less than the logit x, but for what is the same in the whole row. s(x) < 1/2. */
static inline vec log_score_less(int32_t score, vec x) {
    const vec zero = vec_set1(0.0f);
    if (score == SEQTOPK_SCORE_SOFTMAX)
        return zero;
    const vec e = exp_full(vec_min(x, zero));
    return score == SEQTOPK_SCORE_SIGMOID ? log1p_unit(e) : vec_sub(zero, log_near_one(log1p_over(e)));
}

/* The logits w [n] of one token's winners become weights that add up to the scale, however small their scores are. */
static inline void weigh_by_logs(int32_t score, float *w, int32_t n, const seqtopk_weighing *how) {
    const vec unit = vec_set1(score == SEQTOPK_SCORE_SQRTSOFTPLUS ? 0.5f : 1.0f);
    float best = -INFINITY, part[LANES];
    for (int32_t i = 0; i < n; i++)
        best = w[i] > best ? w[i] : best;
    const vec max = vec_set1(best), max_less = log_score_less(score, max);
    for (int32_t i = 0; i < n; i += LANES) {
        vec x[VECS];
        weigh_load16(w + i, n - i, best, x);
        for (int v = 0; v < VECS; v++) {
            const vec below = vec_sub(vec_sub(x[v], max), vec_sub(log_score_less(score, x[v]), max_less));
            vec_store(part + v * VEC_LANES, exp_full(vec_min(vec_mul(unit, below), vec_set1(0.0f))));
        }
        memcpy(w + i, part, (size_t)(n - i < LANES ? n - i : LANES) * sizeof *w);
    }
    weigh_divide(w, n, weigh_sum(w, n), how);
}

#endif
