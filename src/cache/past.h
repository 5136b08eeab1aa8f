/* SPDX-License-Identifier: MIT */
/* The past of one sequence in one layer: what its next token competes with. */
#ifndef SEQTOPK_SRC_CACHE_PAST_H
#define SEQTOPK_SRC_CACHE_PAST_H

#include "src/cache/counts.h"
#include "src/cache/ladder.h"

/* What a layer's tokens are given by. */
typedef struct seqtopk_rules {
    const seqtopk_kernels *kernels; /* of calls of one token */
    int32_t top_k, min_experts, max_experts;
    int32_t is_ledger;     /* never more pairs than top_k for each token so far */
    int32_t is_compact;    /* counts are kept instead of keys, */
    int32_t depth;         /* and of so many of the last tokens where theirs are */
    int32_t has_threshold; /* what reaches `threshold` is given, whatever the past; nothing is kept */
    float threshold;
} seqtopk_rules;

typedef struct seqtopk_past {
    seqtopk_log log;
    seqtopk_ladder *ladder;
    seqtopk_counts *counts; /* instead of log and ladder */
    int64_t routed;         /* tokens that brought a budget */
    int64_t sure;           /* pairs that tokens got whatever the others had */
    int64_t given;          /* pairs in all */
    /* Of the rows of the call that is under way: the positions of the first and behind the last, -1: it has none so far, and
     * whether the tokens from the first one on are still to be forgotten. */
    int64_t start, next;
    int32_t is_placed;
} seqtopk_past;

void seqtopk_past_init(seqtopk_past *past, const seqtopk_rules *rules);
void seqtopk_past_free(seqtopk_past *past, seqtopk_purse *purse);

static inline int64_t seqtopk_past_tokens(const seqtopk_past *past) {
    return past->counts ? past->counts->tokens : past->log.tokens.size;
}

/* The places of all tokens so far that others than those who are sure have. */
static inline int64_t seqtopk_past_places(const seqtopk_past *past, const seqtopk_rules *rules) {
    return past->routed * rules->top_k - past->sure;
}

/* Brings nearer what the next token meets: where it is written, and the ladder. */
static inline __attribute__((always_inline)) void seqtopk_past_fetch(const seqtopk_past *past) {
    if (!past->ladder)
        return;
    __builtin_prefetch(past->log.tokens.next, 1);
    __builtin_prefetch(past->log.tokens.next + past->log.tokens.element, 1);
    seqtopk_ladder_fetch(past->ladder);
}

/* Then, where the ladder is near: the words at its cut. */
static inline __attribute__((always_inline)) void seqtopk_past_fetch_cut(const seqtopk_past *past,
                                                                         const seqtopk_rules *rules) {
    if (past->ladder)
        seqtopk_ladder_fetch_cut(past->ladder, seqtopk_past_places(past, rules) + rules->top_k);
}

/* Makes sure that tokens [at, at + n) can be written without more memory. Changes nothing. Returns 0 if it cannot. */
int seqtopk_past_reserve(seqtopk_past *past, const seqtopk_rules *rules, int64_t at, int64_t n, seqtopk_purse *purse);

/* Whether all tokens from `tokens` on can be forgotten: of a compact past only the last ones. */
static inline int seqtopk_past_reaches(const seqtopk_past *past, int64_t tokens) {
    return !past->counts || tokens == 0 || past->counts->tokens - tokens <= past->counts->held;
}

/* Forgets all tokens from `tokens` on; keeps the space up to token `keep`. */
void seqtopk_past_truncate(seqtopk_past *past, int64_t tokens, int64_t keep, seqtopk_purse *purse);

/* Forgets tokens [from, to); those behind move up, in space that was reserved from `from` on. */
void seqtopk_past_remove(seqtopk_past *past, const seqtopk_rules *rules, int64_t from, int64_t to,
                         seqtopk_purse *purse);

/* Decides about tokens from `from` on once more, for which there is space: what a ledger gives a token depends on what it
 * gave those before, and these are others now. */
void seqtopk_past_route_again(seqtopk_past *past, const seqtopk_rules *rules, int64_t from, seqtopk_purse *purse);

/* Makes *to, which has none, a past of the first `tokens` tokens of *from. Returns 0 if there is no memory. */
int seqtopk_past_copy(seqtopk_past *to, seqtopk_past *from, int64_t tokens, seqtopk_purse *purse);

/*
 * The next token, for which there is space: its eligible candidates' keys [n], n <= max_experts, best first; is_masked: it
 * gets nothing and brings nothing. key: what keys are (seqtopk_key). words: scratch [max_experts]. Returns how many of its
 * candidates, from the best on, it is given.
 */
int32_t seqtopk_past_route(seqtopk_past *past, const seqtopk_rules *rules, int32_t key, const float *keys, int32_t n,
                           int is_masked, uint64_t *words, seqtopk_purse *purse);

/* A token's candidates [n], ids ascending, with the rank of each; n up to SEQTOPK_MOST_RANKED. Where there is a `how`, n is at
 * most SEQTOPK_MOST_WEIGHED, of which but for keys places beyond n are read, and what the token is given is listed and weighed as ops
 * weigh_ranked and contest_ranked do. */
typedef struct seqtopk_ranked {
    const float *keys, *scores;
    const int32_t *ids, *ranks;
    int32_t n;
    const seqtopk_weighing *how;
    int32_t *kept_ids;
    float *weights;
    int *weighed; /* out: whether `weights` are of use; if not, `kept_ids` are where there is a `how` */
} seqtopk_ranked;

/* The same of such a row. */
int32_t seqtopk_past_route_ranked(seqtopk_past *past, const seqtopk_rules *rules, int32_t key,
                                  const seqtopk_ranked *row, seqtopk_purse *purse);

/* The same, but that the past does not decide yet. */
void seqtopk_past_append(seqtopk_past *past, const seqtopk_rules *rules, int32_t key, const float *keys, int32_t n,
                         int is_masked, uint64_t *words, seqtopk_purse *purse);

/* The tokens from `from` on, which were appended, compete together with all before them. */
void seqtopk_past_route_jointly(seqtopk_past *past, const seqtopk_rules *rules, int64_t from);

/* How many experts a token was given. */
int32_t seqtopk_past_given(const seqtopk_past *past, int64_t token);

/* The next token, of a past that was saved: the bytes of its note and keys. */
void seqtopk_past_restore(seqtopk_past *past, const void *bytes, seqtopk_purse *purse);

#endif
