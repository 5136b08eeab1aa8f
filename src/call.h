/* SPDX-License-Identifier: MIT */
/* One call of route: its input and output taken in and checked, its kernels looked up, its scratch laid out. */
#ifndef SEQTOPK_SRC_CALL_H
#define SEQTOPK_SRC_CALL_H

#include "src/plan.h"

/* What a part of the team tells the others. A cache line each, so that parts do not slow one another. */
typedef struct seqtopk_slot {
    int64_t bad_token; /* -1: none */
    int64_t pairs;
    char pad[48];
} seqtopk_slot;

/* A part's own room. */
typedef struct seqtopk_room {
    float *keys;    /* [block_rows, E] */
    float *scores;  /* [E] */
    float *values;  /* [E] */
    int32_t *ids;   /* [E] */
    int32_t *group_ids; /* [E] */
} seqtopk_room;

typedef struct seqtopk_call {
    const seqtopk_plan *plan;
    seqtopk_input in;
    seqtopk_output out;
    int64_t sequences;
    int32_t part, parts;

    seqtopk_rows rows;
    seqtopk_weighing weighing;
    seqtopk_score_fn *score;
    seqtopk_keys_fn *keys;
    seqtopk_nth_fn *nth;
    seqtopk_top_fn *top;
    seqtopk_emit_fn *emit;
    seqtopk_weights_fn *weights;
    seqtopk_count_fn *count;
    seqtopk_scatter_fn *scatter;

    /* In scratch, shared by the parts. */
    seqtopk_slot *slots;   /* [parts] */
    seqtopk_cut *cuts;     /* [sequences] */
    int32_t *histograms;   /* [parts, E] */
    float *reservoir;      /* [2 * T * K]; dead once the cuts are known, then: */
    int32_t *token_offsets, *expert_ids; /* the caller's, or in scratch if the caller wants none */
    float *list_weights;
    seqtopk_room room; /* of this part */
    int64_t block_rows;
} seqtopk_call;

/*
 * Checks everything but the logits' values, then fills *call. Reads nothing beyond what the checked sizes allow.
 */
seqtopk_status seqtopk_call_open(seqtopk_call *call, const seqtopk_plan *plan, const seqtopk_input *input,
                                 const seqtopk_output *output, void *scratch, size_t scratch_size, int32_t part,
                                 int32_t parts, seqtopk_error *error);

/* The tokens of this part: [*first, *last). */
void seqtopk_call_share(const seqtopk_call *call, int64_t *first, int64_t *last);

/*
 * keys [last - first, E] as selection sees them: -inf for what is not eligible (excluded, in a lost group, behind the
 * token's first `most`), +inf for what is selected in any case (among the token's first `sure`).
 */
void seqtopk_candidate_keys(const seqtopk_call *call, int64_t first, int64_t last, float *keys);

/* Where the sequence of tokens [first, last) is cut. */
seqtopk_cut seqtopk_find_cut(const seqtopk_call *call, int64_t first, int64_t last);

/* After ids and offsets: weights, order, padded and dense rows of tokens [first, last). */
void seqtopk_finish_tokens(const seqtopk_call *call, int64_t first, int64_t last);

#endif
