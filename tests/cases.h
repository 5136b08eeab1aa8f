/* SPDX-License-Identifier: MIT */
/*
 * How a kernel of each op is called, in one place for the conformance test and the benchmarks. An op_case holds arguments
 * by name: who makes one sets those that its op takes (call_<op> in cases.c), case_place() places what the op writes or
 * works in, each buffer between guards, and case_call() calls a kernel.
 */
#ifndef SEQTOPK_TESTS_CASES_H
#define SEQTOPK_TESTS_CASES_H

#include "guard.h"
#include "random.h"

#include "src/kernels/registry.h"

/* Guarded buffers by what they hold. A buffer lives until the next one of the same slot is placed. */
typedef enum case_slot {
    CASE_LOGITS,
    CASE_MASK,
    CASE_BIAS,
    CASE_SHIFT,
    CASE_LSE,
    CASE_KEYS,         /* read only: rows of keys, or an array */
    CASE_PAIR_OFFSETS, /* read only: lists of winners */
    CASE_PAIR_IDS,
    CASE_VALUES, /* floats that a kernel writes or rearranges */
    CASE_WORK,
    CASE_CANDIDATE_KEYS,
    CASE_CANDIDATE_ORDER,
    CASE_CANDIDATE_IDS,
    CASE_COUNTS,
    CASE_COLLECT_WORK,
    CASE_OFFSETS,
    CASE_IDS,
    CASE_LIST_KEYS,
    CASE_NUMBERS, /* integers that a kernel counts in or moves on */
    CASE_NUMBERS_WORK,
    CASE_EXPERT_TOKENS,
    CASE_EXPERT_SLOTS,
    CASE_EXPERT_BLOCKS,
    CASE_PAIR_PLACES,
    CASE_CURSORS,
    CASE_BEGINS,
    CASE_ENDS,
    CASE_ACTIVE,
    CASE_USAGE,
    CASE_WORDS, /* read only */
    CASE_LIMITS,
    CASE_PICKED,
    CASE_NOTE,
    CASE_SLOTS
} case_slot;

/* Where buffers lie: mostly hard against a trapping page, by chance; NULL: each on a cache line, and no two alike. */
extern random_state *case_random;

/* A fresh buffer full of rubbish; the second one begins as a copy. */
void *case_memory(case_slot slot, size_t count, size_t element);
void *case_copy(case_slot slot, const void *from, size_t count, size_t element);

void case_freeze(case_slot slot); /* until the slot's next buffer a write traps */
size_t case_size(case_slot slot); /* bytes of the present buffer */
int case_intact(void);            /* whether nothing was written beside any buffer */
void case_close(void);            /* gives all memory back */

typedef struct op_case {
    /* What is given. */
    seqtopk_rows rows; /* case_place() gives those ops that write shift and lse new ones */
    int64_t tokens, first, last;
    int32_t experts;
    const float *keys;   /* [last - first, E], or of select_keys [n] */
    const void *begin;   /* what memory that is changed in place holds before: keys, weights, histogram, cursors */
    int64_t n, k;        /* of select_keys; n also: how many pairs there are */
    int32_t top_k;       /* most of a row */
    int32_t min, max;    /* bounds of a token's candidates */
    const float *scores; /* of mask_groups, where NULL: the keys themselves; of contest_ranked */
    int32_t groups, group_n, group_top_k;
    float scale, softcap; /* of prepare_logits */
    float low;            /* of collect_short: what it found */
    int64_t budget;
    seqtopk_select_keys_fn *select;
    int64_t capacity;
    seqtopk_candidates caught; /* keys, ids, counts and size of the candidates that are there before */
    int64_t lead;              /* how many places behind the beginning of `candidates` those are */
    seqtopk_cut cut;
    int ties, counts_only;
    const int32_t *pair_offsets, *pair_ids; /* of the winners */
    seqtopk_weighing how;
    int64_t from, end; /* places in the lists */
    int wants_scores;  /* of topk_scores: lists.scores too */
    int64_t fit;       /* of topk_scores and collect_scores: for the keys of how many rows there is scratch */
    int64_t (*list_row)(const void *context, int64_t token, int64_t at); /* context: the case itself */
    void (*row_keys)(const void *context, int64_t token, float *keys);

    const uint64_t *words, *limits; /* keys of the past; limits[0], limits[1]: what is to be picked */
    seqtopk_contest contest;

    /* What is placed; case_begin() makes it as it was before the call. */
    float *values, *work;
    int32_t *numbers, *numbers_work, *ids;
    int is_in_place;                   /* offset_experts: its histogram is what numbers begin with, not pair_ids */
    seqtopk_offset_lists offset_lists; /* the caller's, but for offsets, which are numbers */
    seqtopk_scattered scattered;       /* the caller's, who may not want them */
    seqtopk_candidates candidates;
    seqtopk_lists lists;
    uint64_t *picked;
    float *note;

    /* What is returned. */
    int64_t returned; /* a bad row, a number of ids, the place after the last */
    int64_t at;       /* where lists ended; of what is picked, how many are above */
    seqtopk_kth kth;
} op_case;

/* Places all that `op` writes or works in, and begins. */
void case_place(op_case *c, seqtopk_op op);
void case_begin(op_case *c);

/* Lists of all tokens with places up to `end`. */
void case_place_lists(op_case *c);

/* Runs a kernel once: of ops on one row, once for each of rows [first, last). */
void case_call(op_case *c, const seqtopk_row *row);

#endif
