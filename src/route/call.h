/* SPDX-License-Identifier: MIT */
/* One call of route: its input and output taken in and checked, its kernels looked up, its scratch laid out. */
#ifndef SEQTOPK_SRC_ROUTE_CALL_H
#define SEQTOPK_SRC_ROUTE_CALL_H

#include "src/plan/plan.h"

/* What a part of the team tells the others. A cache line each, so that parts do not slow one another. */
typedef struct seqtopk_slot {
    int64_t bad_token; /* -1: none */
    int64_t pairs;     /* that it will list */
    int64_t end;       /* where its pairs end in the lists */
    int64_t picked;    /* nonzero: it listed its tokens while scoring them (picked.c) */
    char pad[32];
} seqtopk_slot;

/* What a part candidates of a sequence; the runs of tokens that both share come one after the other. */
typedef struct seqtopk_run {
    int64_t size;  /* candidates; -1: not swept, the sequence goes stage by stage */
    float low;     /* no candidate down to this key was missed */
    int32_t exact; /* the run is the whole sequence, and `place` where it is cut */
    seqtopk_kth place;
} seqtopk_run;

/* Where a sequence is cut. */
typedef struct seqtopk_sequence {
    seqtopk_cut cut;
    int32_t swept;    /* its winners are among what its runs candidates; else among all its keys */
    int32_t has_keys; /* what its runs candidates is of use for weights */
} seqtopk_sequence;

/* A part's own work. */
typedef struct seqtopk_work {
    float *keys;        /* [work_rows, E] */
    float *spare;       /* as many */
    uint16_t *key_ids;  /* as many */
    float *scores;      /* [E] */
    float *values;      /* [2 * E] */
    int32_t *ids;       /* [E] */
    int32_t *group_ids; /* [E] */
    uint64_t *words;    /* [SEQTOPK_COLLECT_WORK(E)] */
} seqtopk_work;

typedef struct seqtopk_call {
    const seqtopk_plan *plan;
    seqtopk_input in;
    seqtopk_output out;
    int64_t sequences;
    int32_t part, parts;

    seqtopk_rows rows;
    seqtopk_weighing weighing;
    const seqtopk_kernels *kernels;

    /* In scratch, shared by the parts. */
    seqtopk_slot *slots;                 /* [parts] */
    seqtopk_sequence *sequence;          /* [sequences] */
    seqtopk_run *runs;                   /* [sequences + parts] */
    seqtopk_candidates candidates;                /* of all runs; see seqtopk_run_catch */
    int32_t *histograms;                 /* [parts, E] */
    float *reservoir;                    /* [2 * T * K]; dead once the cuts are known, then: */
    int32_t *token_offsets, *expert_ids; /* the caller's, or in scratch if the caller wants none */
    float *list_weights;
    seqtopk_work work; /* of this part */
} seqtopk_call;

/*
 * Checks everything but the logits' values, then fills *call. Reads nothing beyond what the checked sizes allow.
 */
seqtopk_status seqtopk_call_open(seqtopk_call *call, const seqtopk_plan *plan, const seqtopk_input *input,
                                 const seqtopk_output *output, void *scratch, size_t scratch_size, int32_t part,
                                 int32_t parts, seqtopk_error *error);

/* How many rows at a time have their keys made. */
static inline int64_t seqtopk_call_block(const seqtopk_call *call) {
    const int64_t block = call->kernels->block(call->rows.experts), work = call->plan->work_rows;
    return block < work ? block : work;
}

/* The tokens of a part: [*first, *last). */
void seqtopk_call_share(const seqtopk_call *call, int32_t part, int64_t *first, int64_t *last);

/*
 * keys [last - first, E] as selection sees them: -inf for what is not eligible (excluded, in a lost group, behind the
 * token's first `most`), +inf for what is selected in any case (among the token's first `sure`).
 */
void seqtopk_candidate_keys(const seqtopk_call *call, int64_t first, int64_t last, float *keys);

/* The same before the bounds: -inf for what is excluded or in a lost group. */
void seqtopk_grouped_keys(const seqtopk_call *call, int64_t first, int64_t last, float *keys);

/* The tokens of sequence s: [*first, *last). */
void seqtopk_call_sequence(const seqtopk_call *call, int64_t s, int64_t *first, int64_t *last);

/* How many tokens of [first, last) are to be routed. */
int64_t seqtopk_unmasked(const uint8_t *mask, int64_t first, int64_t last);

/* Stage by stage: where the sequence of tokens [first, last) is cut. */
seqtopk_cut seqtopk_find_cut(const seqtopk_call *call, int64_t first, int64_t last);

/* Candidates first (swept.c): whether this call goes so at all, what this part catches, where a sequence is cut (0 if its
 * candidates do not tell), and its winners among tokens [first, last), listed from pair `at` on, or counted if !list. */
int seqtopk_sweeps(const seqtopk_call *call);
int64_t seqtopk_sweep_share(const seqtopk_call *call);
int seqtopk_find_swept_cut(const seqtopk_call *call, int64_t s, seqtopk_sequence *sequence);
int64_t seqtopk_list_swept(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, int64_t at, int list);

/* Token scope at once (picked.c): whether this call goes so, whether the lists then have keys that tell scores, this part's
 * tokens listed (returns the first bad one, or -1), whether all parts could, and their lists put together. */
int seqtopk_picks(const seqtopk_call *call);
int seqtopk_picks_logits(const seqtopk_call *call);
int64_t seqtopk_pick_share(const seqtopk_call *call);
int seqtopk_all_picked(const seqtopk_call *call);
int64_t seqtopk_join_picked(const seqtopk_call *call);

/* Where lists with keys (or, if that is wanted and does, scores) in the places of weights are written. */
seqtopk_lists seqtopk_lists_of(const seqtopk_call *call, int has_keys);

/* After ids and offsets: weights of tokens [first, last), from scores that stand in their places or from the logits. */
void seqtopk_weigh_tokens(const seqtopk_call *call, int64_t first, int64_t last, int has_scores);

/* After weights: order, padded and dense rows of tokens [first, last). */
void seqtopk_finish_tokens(const seqtopk_call *call, int64_t first, int64_t last);

#endif
