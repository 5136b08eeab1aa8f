/* SPDX-License-Identifier: MIT */
/*
 * What a microkernel is: the contracts of the stages. Data goes one way,
 *
 *     logits --score--> row lse --keys, groups--> keys --top, nth--> cut --emit--> ids --weights--> weights
 *         |                                         |                              \--count, scatter--> expert-major lists
 *         |                                         |--collect--> candidates
 *         |                                         \--choose--> ids, keys (token scope)
 *         |--sweep, whole--> row lse, candidates --trim, rank--> cut --filter--> ids, scores --weigh--> weights
 *         \--pick--> row lse, ids, scores (token scope)
 *
 * stage by stage above, neighbours in one pass below. Each is a plain C function. kernels.def lists all of them; nothing else does.
 */
#ifndef SEQTOPK_ARCH_KERNEL_H
#define SEQTOPK_ARCH_KERNEL_H

#include "arch/compiler.h"

#include <stddef.h>
#include <stdint.h>

/* What orders the candidates. */
typedef enum seqtopk_key {
    SEQTOPK_KEY_LOGIT,   /* x */
    SEQTOPK_KEY_LOGPROB, /* x - shift - lse, rounded once (log_probability, arch/common/lanes.h) */
    SEQTOPK_KEY_SCORE    /* s(x), + bias where there is one */
} seqtopk_key;

/* How many bytes ahead memory is asked for where nothing was tuned. */
enum { SEQTOPK_AHEAD = 4096 };

/*
 * Rows of logits and what is known of them. Rows are numbered by token over the whole batch.
 * shift, lse: [T], written by `score` for softmax; the row's log-sum-exp is shift + lse, in two parts so that a large
 * common offset costs no precision. Masked rows have both 0.
 */
typedef struct seqtopk_rows {
    const void *logits;
    int64_t stride;            /* bytes from row to row */
    const uint8_t *token_mask; /* [T] or NULL */
    const float *bias;         /* [E] or NULL: with KEY_SCORE, added to the score; -inf excludes */
    float *shift;
    float *lse;
    int32_t experts;
    int32_t ahead; /* bytes ahead that memory is asked for (size `ahead`), where rows are read in step; 0: the next rows */
    int32_t score; /* seqtopk_score */
    int32_t key;   /* seqtopk_key */
} seqtopk_rows;

/* The place in the order down to which a sequence's candidates are selected, the last selected one itself. */
typedef struct seqtopk_cut {
    float key;
    int32_t expert;
    int64_t token;
} seqtopk_cut;

/* How winners' scores become weights: the desc's fields, defaults resolved. */
typedef struct seqtopk_weighing {
    int32_t norm; /* seqtopk_norm, never DEFAULT */
    float eps, floor, scale;
} seqtopk_weighing;

/* score: shift and lse of rows [first, last), and a look at every logit: the first row with NaN or +inf, or -1. */
typedef int64_t seqtopk_lse_fn(const seqtopk_rows *rows, int64_t first, int64_t last);

/*
 * keys: keys [last - first, E] of rows [first, last). Candidates have finite keys (overflow saturates to +-FLT_MAX);
 * what is excluded (logit -inf, bias -inf, masked row) has key -inf.
 */
typedef void seqtopk_keys_fn(const seqtopk_rows *rows, int64_t first, int64_t last, float *keys);

/*
 * groups: loses a row's candidates outside its best groups: their keys become -inf. Experts [g * size, (g + 1) * size),
 * size = experts / groups, are group g. Its score is the sum, best first, of its best group_n of `scores`, clamped to
 * +-FLT_MAX; -inf, no score, if it has fewer candidates. The best group_top_k groups stay, of equals the lower; those
 * without a score, which can still hold candidates, fill what places are left, the lower first. scores, keys [E]: finite
 * or -inf; may be one row. work [2 * E] is the kernel's to use. 1 <= group_n <= size, 1 <= group_top_k <= groups.
 */
typedef void seqtopk_mask_groups_fn(const float *scores, float *keys, int32_t experts, int32_t groups, int32_t group_n,
                               int32_t group_top_k, float *work);

/* nth: rearranges keys [n] so that the first k are the k largest; returns the smallest of those. 1 <= k <= n; no NaN. */
typedef float seqtopk_nth_keys_fn(float *keys, size_t n, size_t k);

/* Where the k-th largest of many keys stands: its key, how many are above it, how many equal it. */
typedef struct seqtopk_kth {
    float key;
    int64_t above, equal;
} seqtopk_kth;

/* rank: the place of the k-th largest of keys [n]; work [n] is the kernel's to use and may be `keys` itself. 1 <= k <= n;
 * no NaN; -inf are answered as such, without counts. */
typedef seqtopk_kth seqtopk_select_keys_fn(const float *keys, int64_t n, int64_t k, float *work);

/* What a sweep catches: the candidates of successive tokens, one behind the other, ids ascending within a token. */
typedef struct seqtopk_candidates {
    float *keys;      /* [capacity + SEQTOPK_CANDIDATES_SLACK] */
    float *order;     /* as many: what places them; `keys` itself, or after `trim` +inf for those that are sure */
    uint16_t *ids;    /* as many */
    int32_t *counts;  /* [T] by token of the batch */
    uint64_t *work;   /* [SEQTOPK_COLLECT_WORK(E)] */
    int64_t capacity;
    int64_t size;     /* how many there are, or -1: there was no space for all */
} seqtopk_candidates;
/* Kernels write whole vectors and words: so much beyond the end may be overwritten. */
enum { SEQTOPK_CANDIDATES_SLACK = 64 };
#define SEQTOPK_COLLECT_WORK(experts) (64 * (((experts) + 63) / 64) + 64)

/*
 * sweep: scores rows [first, last) as `score` does and catches at least all candidates whose key is not below `low`, and
 * each row's first `sure` (0 to 16). rows->key is LOGPROB or LOGIT, without bias; |low| <= 1e30. Returns the first row with NaN or +inf, or -1; where
 * candidates->size ends as -1, rows may have been left out of that search.
 */
typedef int64_t seqtopk_collect_logits_fn(const seqtopk_rows *rows, int64_t first, int64_t last, float low, int32_t sure,
                                 seqtopk_candidates *candidates);

/*
 * whole: the sweep of a sequence that is its own sample: catches at least `budget` of the candidates of rows [first, last),
 * if there are so many, and all of those not below `*low`, which it finds. rows as sweep's; 1 <= budget <= 16 * rows.
 * rank is what it finds it with; work: [16 * (rows + 4)], the kernel's to use. Returns the first row with NaN or +inf, or -1.
 */
typedef int64_t seqtopk_collect_short_fn(const seqtopk_rows *rows, int64_t first, int64_t last, int64_t budget,
                                 seqtopk_select_keys_fn *select, float *work, float *low, seqtopk_candidates *candidates);

/*
 * collect: what sweep catches, of keys [last - first, E] that are there already: those not below `low` (finite), +inf among
 * them, -inf never. Goes on behind the candidates->size candidates that there are; that ends as -1 where there was no space.
 */
typedef void seqtopk_collect_keys_fn(const float *keys, int32_t experts, int64_t first, int64_t last, float low,
                                seqtopk_candidates *candidates);

/*
 * trim: bounds the candidates of tokens [first, last), `candidates` beginning at the first: of each token those after its first
 * `most` go (1 <= most), and order becomes +inf for its first `sure` (at most 16). Moves what stays together; candidates->size
 * becomes how many that is.
 */
typedef void seqtopk_bound_candidates_fn(seqtopk_candidates *candidates, int64_t first, int64_t last, int32_t sure, int32_t most);

/* Token-major lists in the making: keys stand where weights will, or with to_scores the scores (`score`) of such keys. */
typedef struct seqtopk_lists {
    int32_t *offsets, *ids;
    float *keys;
    int32_t to_scores, score;
} seqtopk_lists;

/* How many counts topk_logits and topk_keys are given. */
enum { SEQTOPK_TOPK_COUNTS = 16 };

/*
 * pick: token scope at once. Scores rows [first, last) as `score` does and lists the first top_k candidates of each, ids
 * ascending, with keys x, for softmax LOGPROB. rows->key is LOGIT, without bias; 1 <= top_k <= 16. Writes
 * offsets[first .. last), and ids and keys from place *at, never at or beyond `end`; moves *at. `work` is the kernel's to
 * use. Returns the first row with NaN or +inf, or -1; where work->size ends as -1 (no space for so many ties), it has
 * done nothing that counts.
 */
typedef int64_t seqtopk_topk_logits_fn(const seqtopk_rows *rows, int64_t first, int64_t last, int32_t top_k,
                                seqtopk_candidates *work, const seqtopk_lists *to, int64_t *at, int64_t end);

/* choose: what pick lists, of keys [last - first, E] of tokens [first, last) that are there already; -inf never. 1 <= top_k
 * <= 16. Where work->size ends as -1, it has done nothing that counts. */
typedef void seqtopk_topk_keys_fn(const float *keys, int32_t experts, int64_t first, int64_t last, int32_t top_k,
                               seqtopk_candidates *work, const seqtopk_lists *to, int64_t *at, int64_t end);

/*
 * filter: of the candidates of tokens [first, last), `from` beginning at the first, those whose order is above `key`, or
 * at it too if `ties`. Writes their offsets[first .. last), and ids and keys from place `at`, never at or beyond `end`; with `to` NULL
 * it writes nothing. Returns the place after the last.
 */
typedef int64_t seqtopk_list_candidates_fn(const seqtopk_candidates *from, int64_t first, int64_t last, float key, int ties,
                                  const seqtopk_lists *to, int64_t at, int64_t end);

/* weigh: the keys (LOGPROB or LOGIT) of the winners of tokens [first, last) become their weights, in place; scores do
 * as well, as keys whose score is LOGITS. Not for a softmax over sqrtsoftplus scores, whose roundings count: weights sees the logits. */
typedef void seqtopk_weigh_keys_fn(int32_t score, const seqtopk_weighing *how, int64_t first, int64_t last,
                              const int32_t *offsets, float *weights);

/* top: the ids of the first k of keys [n] in the order (larger key, then lower id), best first, those at -inf left out.
 * Returns how many: min(k, candidates). k >= 0. */
typedef int32_t seqtopk_topk_row_fn(const float *keys, int32_t n, int32_t k, int32_t *ids);

/* emit: the ids, ascending, of the row's candidates that are not behind `cut`; returns how many. +inf keys always are
 * selected, -inf never. ids may be NULL (count only), else has space for the answer. */
typedef int32_t seqtopk_list_keys_fn(const float *keys, int32_t experts, int64_t token, const seqtopk_cut *cut, int32_t *ids);

/* weights: of the pairs of tokens [first, last); the pairs of token t are [offsets[t], offsets[t + 1]), ids ascending. */
typedef void seqtopk_weigh_logits_fn(const seqtopk_rows *rows, const seqtopk_weighing *how, int64_t first, int64_t last,
                                const int32_t *offsets, const int32_t *ids, float *weights);

/* count: adds to histogram [E] the pairs of each expert. */
typedef void seqtopk_histogram_fn(const int32_t *ids, int64_t n, int32_t *histogram);

/* scatter: puts the pairs of tokens [first, last) at their experts' cursors [E], which ascend with the experts and move on.
 * work [E] is the kernel's to use. tokens, slots: or NULL. */
typedef void seqtopk_scatter_fn(const int32_t *offsets, const int32_t *ids, int64_t first, int64_t last,
                                int32_t experts, int32_t *cursors, int32_t *work, int32_t *tokens, int32_t *slots);

#endif
