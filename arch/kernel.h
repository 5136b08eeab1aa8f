/* SPDX-License-Identifier: MIT */
/*
 * The contracts of the kernels: a function type for each op of kernels.def, whose name says what it does and what it reads.
 *
 *     logits [T, E]
 *       | prepare   prepare_logits: scaled and capped, for routers that do so
 *       | collect   lse: the log-sum-exp of each row        keys, mask_groups: the keys of whole rows
 *       |           collect_logits, collect_scores, collect_short, collect_keys: the candidates down to a bound; bound_candidates
 *       |           topk_logits, topk_scores: the first K of each token; token scope needs no cut
 *     candidates
 *       | cut       select_keys: the k-th largest key        topk_row: the first k of one row
 *     cut
 *       | list      list_candidates
 *     ids and keys, by token
 *       | weigh     weigh_keys, weigh_logits
 *     ids and weights, by token
 *       | permute   histogram, offset_experts, scatter
 *     lists by expert
 *
 *     a token's keys, while decoding
 *       | cache     rank_keys, weigh_ranked, contest_ranked, pick_words, pick_keys: its place among those of its past
 *
 * Which of them a call goes through is its way (src/plan/ways.def). A kernel is a plain C function that allocates
 * nothing and keeps nothing between calls; an argument called `work` is scratch that the caller provides. kernels.def
 * lists all kernels; nothing else does.
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
 * shift, lse: [T], written for softmax by lse and by the ops that make keys or lists from logits alone. The row's
 * log-sum-exp is shift + lse, in two parts so that a large common offset costs no precision. Masked rows have both 0.
 */
typedef struct seqtopk_rows {
    const void *logits;
    int64_t stride;            /* bytes from row to row */
    const uint8_t *token_mask; /* [T] or NULL */
    const float *bias;         /* [E] or NULL: with KEY_SCORE, added to the score; -inf excludes */
    float *shift;
    float *lse;
    int32_t experts;
    int32_t
        ahead; /* bytes ahead that memory is asked for (size `ahead`), where rows are read in step; 0: the next rows */
    int32_t score; /* seqtopk_score */
    int32_t key;   /* seqtopk_key */
} seqtopk_rows;

/* Where a sequence is cut: the last candidate, in the order, that is selected. */
typedef struct seqtopk_cut {
    float key;
    int32_t expert;
    int64_t token;
} seqtopk_cut;

/* How winners' scores become weights: the desc's fields, defaults resolved. */
typedef struct seqtopk_weighing {
    int32_t norm; /* seqtopk_norm, never DEFAULT */
    float eps, floor, scale;
    /* A token that has a score below this, and whose scores add up to less than 1/2, is weighed by their logarithms: float32
     * keeps too little of the scores. -inf: never, as where there is eps or floor, which belong to plain scores. */
    float least;
} seqtopk_weighing;

/* Far enough above the subnormal numbers that a sum of such scores is still exact to the bound that weights promise. */
#define SEQTOPK_LEAST_SCORE 0x1p-100f
/* A probability is exp of its logarithm, of which float32 keeps the less the further it is from 0: at -32 it rounds by 1.9e-6. */
#define SEQTOPK_LEAST_PROBABILITY 0x1p-46f

/*
 * prepare_logits: rows [first, last) as float32 [last - first, E]: scale * x, or with a softcap above 0
 * softcap * tanh(scale * x / softcap), saturated at +-FLT_MAX; NaN and infinities stay what they are. Masked rows become 0.
 */
typedef void seqtopk_prepare_logits_fn(const seqtopk_rows *rows, int64_t first, int64_t last, float scale,
                                       float softcap, float *to);

/* lse: writes shift and lse of rows [first, last) for softmax, and looks at every logit whatever the score. Returns
 * the first unmasked row that has a NaN or +inf, or -1. */
typedef int64_t seqtopk_lse_fn(const seqtopk_rows *rows, int64_t first, int64_t last);

/*
 * keys: keys [last - first, E] of rows [first, last). Candidates have finite keys (overflow saturates to +-FLT_MAX);
 * what is excluded (logit -inf, bias -inf, masked row) has key -inf.
 */
typedef void seqtopk_keys_fn(const seqtopk_rows *rows, int64_t first, int64_t last, float *keys);

/*
 * mask_groups: sets to -inf the keys of one row [E] that are outside its best groups. Group g is the experts
 * [g * size, (g + 1) * size), size = experts / groups. Its score is the sum of its best group_n of `scores`, added best
 * first and clamped to +-FLT_MAX. Groups with fewer candidates than that come after all others, among themselves by the sum
 * of what they have, and those with none last. The first group_top_k groups are kept, of equals the lower group. scores, keys
 * [E]: finite or -inf; they may be the same array. work: [2 * E]. 1 <= group_n <= size, 1 <= group_top_k <= groups.
 */
typedef void seqtopk_mask_groups_fn(const float *scores, float *keys, int32_t experts, int32_t groups, int32_t group_n,
                                    int32_t group_top_k, float *work);

/* The k-th largest of many keys, how many keys are above it, and how many equal it. */
typedef struct seqtopk_kth {
    float key;
    int64_t above, equal;
} seqtopk_kth;

/* select_keys: the k-th largest of keys [n], with counts. work: [n]; it may be `keys` itself, which is then
 * overwritten. 1 <= k <= n; no NaN. Where the k-th largest is -inf, only its key is valid, not the counts. */
typedef seqtopk_kth seqtopk_select_keys_fn(const float *keys, int64_t n, int64_t k, float *work);

/*
 * Candidates of successive tokens, token by token, ids ascending within a token.
 * counts: how many candidates each token has, indexed by its number in the batch; topk_logits does without.
 */
typedef struct seqtopk_candidates {
    float *keys;     /* [capacity + SEQTOPK_CANDIDATES_SLACK] */
    float *order;    /* as many: their sort keys: `keys` itself, or what bound_candidates wrote */
    uint16_t *ids;   /* as many */
    int32_t *counts; /* [T] or NULL: see above */
    uint64_t *work;  /* [SEQTOPK_COLLECT_WORK(E)]: scratch of the kernel */
    int64_t capacity;
    int64_t size; /* how many there are; -1: they did not all fit */
    int64_t
        tied; /* bound_candidates: how many tokens have equal keys on both sides of a bound; their counts are marked */
} seqtopk_candidates;
/* Added to the count of a token that has. */
#define SEQTOPK_TIED_AT_BOUND (1 << 30)
/* Kernels write whole vectors and words: so many elements beyond the end may be overwritten. */
enum { SEQTOPK_CANDIDATES_SLACK = 64 };
#define SEQTOPK_COLLECT_WORK(experts) (64 * (((experts) + 63) / 64) + 64)

/* How kernels make the keys of rows that need a score before experts can be compared, and with what. */
typedef struct seqtopk_scoring {
    int32_t groups, group_n,
        group_top_k;    /* groups: 1 if there are none, at most 64; group_n: 1 or 2, without a bias 1 */
    int32_t lists_keys; /* topk_scores lists keys in the places of scores */
    /* Of a row alone it may do more, and sets *did_more to 1 where it does: with `weighing` list weights in the places of
     * scores; with `ranks` [16] write the ranks of the listed keys, for up to 16. NULL: not wanted. */
    const seqtopk_weighing *weighing;
    int32_t *ranks, *did_more;
    /* Scratch. */
    float *keys; /* [keys_size], at least E up to a multiple of 16 */
    int64_t keys_size;
    float *row;    /* [E up to a multiple of 16] */
    uint16_t *ids; /* [E + 48] */
    /* For rows that rough keys cannot decide: the exact keys [E] of a token, after groups; and a token listed by those
     * from pair `at` on, as a list is to be: returns the pair after it. */
    void (*row_keys)(const void *context, int64_t token, float *keys);
    int64_t (*list_row)(const void *context, int64_t token, int64_t at);
    const void *context;
} seqtopk_scoring;

/*
 * collect_logits: does what lse does for rows [first, last), and collects at least all candidates whose key is `low` or
 * more, and the first min_experts (0 to 16) of each row. rows->key is LOGPROB or LOGIT, without bias; |low| <= 1e30.
 * Overwrites *candidates from its beginning. Returns the first unmasked row that has a NaN or +inf, or -1; where
 * candidates->size ends as -1, later rows may not have been looked at.
 */
typedef int64_t seqtopk_collect_logits_fn(const seqtopk_rows *rows, int64_t first, int64_t last, float low,
                                          int32_t min_experts, seqtopk_candidates *candidates);

/*
 * collect_scores: the same with a bias (rows->key is SCORE) or groups. With one bound for all rows, s(x) + b[e] >= low is
 * x >= s^-1(low - b[e]): a comparison with a limit of each expert's, and no score but the candidates'.
 */
typedef int64_t seqtopk_collect_scores_fn(const seqtopk_rows *rows, int64_t first, int64_t last, float low,
                                          int32_t min_experts, const seqtopk_scoring *how,
                                          seqtopk_candidates *candidates);

/*
 * collect_short: as collect_logits for a whole sequence [first, last), whose bound it finds by itself: writes to *low a key
 * such that at least `budget` candidates reach it, if there are so many, and collects all candidates that do. `select`
 * finds it. rows: as for collect_logits. 1 <= budget <= 16 * rows. work: [16 * (rows + 4)].
 */
typedef int64_t seqtopk_collect_short_fn(const seqtopk_rows *rows, int64_t first, int64_t last, int64_t budget,
                                         seqtopk_select_keys_fn *select, float *work, float *low,
                                         seqtopk_candidates *candidates);

/* collect_keys: collects from keys [last - first, E], which are made already: those that are `low` (finite) or
 * more, +inf among them, -inf never. Appends to the candidates->size candidates that there are. */
typedef void seqtopk_collect_keys_fn(const float *keys, int32_t experts, int64_t first, int64_t last, float low,
                                     seqtopk_candidates *candidates);

/*
 * bound_candidates: applies the bounds on the experts of a token to the candidates of tokens [first, last), the
 * first token's at the beginning of *from. *to has the first max_experts (at least 1) of each token, its own `order` with +inf
 * for the first min_experts (at most 16), elsewhere with the key, and the same counts. The keys and ids
 * of *from begin SEQTOPK_BOUND_LEAD places or more behind those of *to, which may be written over them. Of equal keys the lower experts come first; where a bound has some on either side, the token's count is
 * marked, for whoever can tell them apart.
 */
typedef void seqtopk_bound_candidates_fn(const seqtopk_candidates *from, int64_t first, int64_t last,
                                         int32_t min_experts, int32_t max_experts, seqtopk_candidates *to);
enum { SEQTOPK_BOUND_LEAD = 16 };

/* Lists by token before weights are known: in the places of the weights stand the keys of the pairs, or, if
 * to_scores, the scores (seqtopk_score `score`) of those keys. */
typedef struct seqtopk_lists {
    int32_t *offsets, *ids;
    float *keys;
    int32_t to_scores, score;
    float *scores; /* topk_scores: [end + SEQTOPK_CANDIDATES_SLACK], the scores of the pairs; NULL: not wanted */
} seqtopk_lists;

/*
 * topk_logits: token scope in one pass. Does what lse does for rows [first, last), and lists the first top_k
 * candidates of each, ids ascending, with their keys: the logit, for softmax the log-probability. rows->key is LOGIT,
 * without bias; 1 <= top_k <= 16. Writes offsets[first .. last), and ids and keys from pair *at on, never at or beyond
 * `end`; adds the number of pairs to *at. `work` is scratch. Returns the first unmasked row that has a NaN or +inf, or
 * -1; where work->size ends as -1 (too many ties to fit), nothing that it wrote or returned is valid.
 */
typedef int64_t seqtopk_topk_logits_fn(const seqtopk_rows *rows, int64_t first, int64_t last, int32_t top_k,
                                       seqtopk_candidates *work, const seqtopk_lists *to, int64_t *at, int64_t end);

/*
 * topk_scores: token scope with a bias, groups, or up to 64 experts of a token, and tokens alone. Lists as topk_logits does
 * the first top_k candidates of each row, by the keys that op keys makes (KEY_SCORE with a bias, else KEY_LOGIT, or of softmax
 * KEY_LOGPROB, of which equal ones are told apart by the logits) and mask_groups leaves (without a bias by the logits), with their
 * scores (the bias not added), or if how->lists_keys with those keys. Without a bias group_n is 1. For softmax it does what lse
 * does. Rows that it cannot decide it leaves to how->list_row. 1 <= top_k <= 64. Returns the first unmasked row that has a NaN or
 * +inf, or -1; of a row alone it looks at the bias too, for the caller, and returns the row if there is one.
 */
typedef int64_t seqtopk_topk_scores_fn(const seqtopk_rows *rows, int64_t first, int64_t last, int32_t top_k,
                                       const seqtopk_scoring *how, const seqtopk_lists *to, int64_t *at, int64_t end);

/*
 * list_candidates: lists those candidates of tokens [first, last), the first token's at the beginning of *from,
 * whose order is above `key`, or if `ties` also those at it. Writes offsets[first .. last), and ids and keys from pair
 * `at` on, never at or beyond `end`. With `to` NULL it only counts. Returns the index after the last pair.
 */
typedef int64_t seqtopk_list_candidates_fn(const seqtopk_candidates *from, int64_t first, int64_t last, float key,
                                           int ties, const seqtopk_lists *to, int64_t at, int64_t end);

/*
 * weigh_keys: turns the keys (LOGPROB or LOGIT) of the pairs of tokens [first, last) into their weights, in place.
 * Scores may stand there too: `score` is LOGITS then. Not for a softmax over sqrtsoftplus scores, where what their
 * rounding lost would show: weigh_logits reads the logits. So it must where 0 is returned: there is a score below how->least,
 * and nothing of use stands in the places. Else returns 1.
 */
typedef int seqtopk_weigh_keys_fn(int32_t score, const seqtopk_weighing *how, int64_t first, int64_t last,
                                  const int32_t *offsets, float *weights);

/* topk_row: writes the ids of the first k of keys [n] in the order (larger key, then lower id), best first, without
 * those at -inf. Returns how many it wrote. k >= 0. */
typedef int32_t seqtopk_topk_row_fn(const float *keys, int32_t n, int32_t k, int32_t *ids);

/* weigh_logits: writes the weights of the pairs of tokens [first, last) from their logits. The pairs of token t are
 * [offsets[t], offsets[t + 1]), ids ascending. */
typedef void seqtopk_weigh_logits_fn(const seqtopk_rows *rows, const seqtopk_weighing *how, int64_t first, int64_t last,
                                     const int32_t *offsets, const int32_t *ids, float *weights);

/* histogram: adds to histogram [experts] how many of ids [n] each expert has. */
typedef void seqtopk_histogram_fn(const int32_t *ids, int64_t n, int32_t experts, int32_t *histogram);

/* What offset_experts tells; each but offsets may be NULL. */
typedef struct seqtopk_offset_lists {
    int32_t *offsets; /* [experts], where each begins; the histogram may be in its place */
    int32_t *cursors; /* the same again */
    int32_t *begins;  /* and again */
    int32_t *ends;    /* [experts], where each ends */
    int32_t *active;  /* those that have any pairs: as many as are returned */
    int64_t *counts;  /* [experts], added to */
} seqtopk_offset_lists;

/* offset_experts: lists of experts, from how many pairs each has, histogram [experts]. Returns how many have any. */
typedef int32_t seqtopk_offset_experts_fn(const int32_t *histogram, int32_t experts, const seqtopk_offset_lists *to);

/* What scatter writes of a pair, by expert; each list may be NULL. */
typedef struct seqtopk_scattered {
    int32_t *tokens;       /* its token, */
    int32_t *slots;        /* its own index, */
    int32_t *blocks;       /* that once more, or where it is in rows [tokens, width]: so many places further as */
    const int32_t *shifts; /* [experts] say */
    int32_t *places;       /* and by its own index: where it went */
    int64_t width;         /* 0: no rows */
    int32_t is_whole;      /* nobody else's pairs are between these in lists by expert */
} seqtopk_scattered;

/* scatter: writes each pair of tokens [first, last) to the index cursors[its expert], and adds 1 to that. cursors [experts]
 * ascend. work: [experts]. */
typedef void seqtopk_scatter_fn(const int32_t *offsets, const int32_t *ids, int64_t first, int64_t last,
                                int32_t experts, int32_t *cursors, int32_t *work, const seqtopk_scattered *to);

/* rank_keys: writes of each of keys [n] how many come before it: larger ones, and of equals the earlier. Returns whether two
 * are equal. ranks: [n up to a multiple of 16]. */
enum { SEQTOPK_MOST_RANKED = 64 }; /* n is at most that; no NaN */
typedef int seqtopk_rank_keys_fn(const float *keys, int32_t n, int32_t *ranks);

/*
 * weigh_ranked: of one token's candidates [n], ids ascending, writes the ids and weights of those whose rank is below `stays`, made
 * of their scores as weigh_keys does. scores, ids, ranks: [SEQTOPK_MOST_WEIGHED], of which n count. Returns 0 where weigh_keys
 * does: only the ids are of use then. n places are written.
 */
enum { SEQTOPK_MOST_WEIGHED = 16 };
typedef int seqtopk_weigh_ranked_fn(const seqtopk_weighing *how, const float *scores, const int32_t *ids,
                                    const int32_t *ranks, int32_t n, int32_t stays, int32_t *kept_ids, float *weights);

/*
 * Words: keys with their tokens as one number each (arch/words.h). A word reaches a limit that it is not below.
 *
 * How a token's candidates stand to the past of its sequence, which is sorted about the cut. Of rank r, from 0: stays where
 * r < sure; where r >= sure, competes, and wins if r < most, and r < uncontested or its word reaches cut[r - sure].
 */
typedef struct seqtopk_contest {
    const uint64_t *cut; /* [most - sure], ascending, of which those from `uncontested` on are read */
    uint64_t high, low;  /* the ends of what of the past is sorted */
    int64_t token;
    int32_t sure, uncontested, most;
    int32_t winners, above, reach; /* out: of those that compete, how many win, reach `high`, reach `low` */
} seqtopk_contest;

/*
 * contest_ranked: lists and weighs as weigh_ranked does what stays of a contest. sure <= SEQTOPK_MOST_SURE, and `uncontested` and `most` are from sure to n. keys: [n]. note: [n - sure], the keys that compete, best first; what
 * stands in `sure` places before it is lost.
 */
enum { SEQTOPK_MOST_SURE = 2 };
typedef int seqtopk_contest_ranked_fn(seqtopk_contest *contest, const seqtopk_weighing *how, const float *keys,
                                      const float *scores, const int32_t *ids, const int32_t *ranks, int32_t n,
                                      float *note, int32_t *kept_ids, float *weights);

/* pick_words: writes those of words [n] that reach `low` and not `high`, in their order, and adds to *above how many reach
 * `high`. Returns how many it wrote. picked: [n + SEQTOPK_PICKED_SLACK]. */
enum { SEQTOPK_PICKED_SLACK = 8 };
typedef int64_t seqtopk_pick_words_fn(const uint64_t *words, int64_t n, uint64_t low, uint64_t high, uint64_t *picked,
                                      int64_t *above);

/*
 * pick_keys: the same of the words of tokens [token, token + rows), whose keys are `width` each, best first, with -inf
 * behind the last, `stride` bytes apart. picked: [rows * width + SEQTOPK_PICKED_SLACK]. Up to SEQTOPK_KEYS_SLACK bytes behind a row may be read.
 */
enum { SEQTOPK_KEYS_SLACK = 64 };
typedef int64_t seqtopk_pick_keys_fn(const float *keys, int64_t stride, int64_t rows, int32_t width, int64_t token,
                                     uint64_t low, uint64_t high, uint64_t *picked, int64_t *above);

#endif
