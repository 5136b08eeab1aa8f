/* SPDX-License-Identifier: MIT */
/* One call of route: its input and output taken in and checked, its kernels looked up, its scratch laid out. */
#ifndef SEQTOPK_SRC_ROUTE_CALL_H
#define SEQTOPK_SRC_ROUTE_CALL_H

#include "src/plan/plan.h"

/* What a part writes for the others to read. A cache line each, so that parts do not slow one another. */
typedef struct seqtopk_report {
    int64_t bad_token; /* -1: none */
    int64_t bad_given; /* a token whose given experts are of no use; -1: none */
    int64_t dropped;   /* rows, for what is among their logits; and the first of those tokens, or -1 */
    int64_t first_dropped;
    int64_t pairs; /* that it will list */
    int64_t end;   /* where its pairs end in the lists */
    /* Of part 0, where it sorts a batch: whether its sequences were mixed, and the first token of none, or -1. Why the forced way
     * does not serve, whom, and that one's first token: without a reason `refused` is 0, or -1 where padded rows would have to be
     * as wide as `refused_token` says. */
    const char *why_not;
    int32_t refused, refused_token;
    int32_t is_mixed, no_sequence;
} seqtopk_report;

/* What a part collected of a sequence. Runs are numbered s + part: consecutive tokens, so no two have the same
 * number. */
typedef struct seqtopk_run {
    int64_t size;     /* candidates, or listed pairs in token scope; -1: the way could not serve it */
    float low;        /* all candidates with this key or a larger one are collected */
    int16_t way;      /* seqtopk_way_id */
    int16_t fallback; /* seqtopk_fallback: why it is not the way that the plan chose */
    int64_t is_cut;   /* nonzero: the run is the whole sequence, and kth is where it is cut */
    seqtopk_kth kth;
} seqtopk_run;

/* Where a sequence is cut. */
typedef struct seqtopk_sequence {
    seqtopk_cut cut;
    int16_t way, fallback;
    int32_t has_keys; /* scores follow from the collected keys: weights need not read the logits again */
} seqtopk_sequence;

/* Between the candidates of one run and of the next: what kernels write beyond the end, and how far behind those begin that
 * are to be bounded. */
enum { SEQTOPK_RUN_SLACK = SEQTOPK_CANDIDATES_SLACK + SEQTOPK_BOUND_LEAD };

/* Scratch of one part. */
typedef struct seqtopk_work {
    float *keys;        /* [work_rows, E] */
    float *spare;       /* as many */
    uint16_t *key_ids;  /* as many */
    float *scores;      /* [E] */
    float *values;      /* [2 * E] */
    int32_t *ids;       /* [E] */
    int32_t *group_ids; /* [E] */
    uint64_t *words;    /* [SEQTOPK_COLLECT_WORK(E)] */
    float *prepared;    /* [work_rows, columns], where rows are prepared */
    float *gathered;    /* [gathered_rows, columns], where they are not, but may be mixed */
} seqtopk_work;

typedef struct seqtopk_call {
    const seqtopk_plan *plan;
    seqtopk_input in;
    seqtopk_output out;
    int64_t sequences;
    int32_t part, parts;
    int32_t is_biased, is_keyed; /* see src/plan/ways.h */
    int32_t is_raw;              /* rows are the caller's, and prepare.c makes them ready for kernels */
    const int32_t *places;       /* [T]: which of the caller's rows each is; NULL: the same. See sorted.c */
    const int32_t *ranks; /* [T]: which row each of the caller's is, once lists are the caller's; NULL: the same */
    int64_t place_step;   /* of which every so many-th counts: of a sample */
    int64_t most;         /* pairs that lists have space for */
    int64_t spread;       /* places for candidates that each token has, on average */
    int32_t is_shared;    /* its sequences go on at other ranks of a team (team.c), and so do their budgets */
    const float *lows;    /* [sequences]: then the bounds down to which their candidates are collected */
    int32_t by_logit;     /* keys are logits, of which rows.score says so too; weights are scores all the same */
    const uint8_t
        *callers_mask; /* in.token_mask, sorted as rows are: in and rows may have the mask below in its place */

    seqtopk_rows rows;
    seqtopk_weighing weighing;
    const seqtopk_kernels *kernels;

    void *behind; /* of the scratch, what this call has no use for, on a cache line, */
    size_t left;  /* and so many bytes of it */

    /* In scratch, shared by the parts. */
    int32_t *order, *inverse, *starts; /* [T], [T], [S + 1]: where tokens of sequences are together (sorted.c) */
    int32_t *own_offsets;              /* [T + 1]: of the lists, if the caller wants none, or of rows that are mixed */
    uint8_t *sorted_mask;              /* [T] */
    uint8_t *mask;                     /* [T]: of the tokens that are left where bad rows are dropped; else NULL */
    seqtopk_report *reports;           /* [parts] */
    seqtopk_sequence *sequence;        /* [sequences] */
    seqtopk_run *runs;                 /* [sequences + parts] */
    seqtopk_candidates candidates;     /* of all runs: seqtopk_run_candidates */
    int32_t *histograms;               /* [parts, E] */
    float *reservoir;                  /* [2 * T * K], until the cuts are known; then in its place: */
    int32_t *token_offsets, *expert_ids; /* the caller's, or in scratch if the caller wants none */
    float *list_weights;
    float *list_scores; /* a step of a cache: where topk_scores lists keys also their scores go, or NULL */
    seqtopk_work work;  /* of this part */
} seqtopk_call;

/*
 * Checks everything but the logits' values, then fills *call. Reads nothing beyond what the checked sizes allow.
 */
seqtopk_status seqtopk_call_open(seqtopk_call *call, const seqtopk_plan *plan, const seqtopk_input *input,
                                 const seqtopk_output *output, void *scratch, size_t scratch_size, int32_t part,
                                 int32_t parts, seqtopk_error *error);

/* The same of a rank's share of sequences that others have too: of more pairs than its tokens bring, or of fewer. */
seqtopk_status seqtopk_call_open_shared(seqtopk_call *call, const seqtopk_plan *plan, const seqtopk_input *input,
                                        const seqtopk_output *output, void *scratch, size_t scratch_size, int32_t part,
                                        int32_t parts, seqtopk_error *error);

/* Bytes of scratch for that, with so many pairs at most; how many pairs that is where the output does not say. */
size_t seqtopk_shared_scratch_size(const seqtopk_plan *plan, int64_t tokens, int64_t sequences, int64_t most,
                                   int32_t parts);
int64_t seqtopk_shared_most(const seqtopk_plan *plan, int64_t tokens, int64_t capacity);

/*
 * The same for one token alone, asked for no more than lists of any form, which topk_scores serves: in fewer steps.
 * The kernel looks at its bias. Returns 0 if it is not such a call, or one that is to be told what is wrong with it: open it
 * as any other.
 */
int seqtopk_call_open_one(seqtopk_call *call, const seqtopk_plan *plan, const seqtopk_input *input,
                          const seqtopk_output *output, void *scratch, size_t scratch_size);

/*
 * Lists that token in ids and keys [end]; returns how many experts, or -1 if its logits are bad or ask for more work.
 * *did_more becomes 1 where also its weights are made, or, where `ranks` is not NULL, its keys' ranks (seqtopk_scoring).
 * scores: [end] as well, or NULL. Then what is left, once it is known how many of them it has.
 */
int64_t seqtopk_collect_one(const seqtopk_call *call, int32_t *ids, float *keys, int64_t end, int32_t *ranks,
                            float *scores, int32_t *did_more);
void seqtopk_finish_one(const seqtopk_call *call, int32_t experts, int32_t weighed);

/* Whether shared experts are scored and take part in the norm. */
static inline int seqtopk_scores_shared(const seqtopk_plan *plan) {
    return plan->beside > 0 && plan->desc.shared_weight == 0.0f;
}

/* From here on the rows that were dropped are masked ones. */
static inline void seqtopk_call_mask_dropped(seqtopk_call *call) {
    if (call->mask)
        call->in.token_mask = call->rows.token_mask = call->mask;
}

/* Whether a row was dropped for what is among its logits. */
static inline int seqtopk_call_is_dropped(const seqtopk_call *call, int64_t row) {
    return call->mask && !call->mask[row] && (!call->callers_mask || call->callers_mask[row]);
}

/* For how many rows at a time keys are made. */
static inline int64_t seqtopk_call_block(const seqtopk_call *call) { return call->kernels->block_rows; }

/* Where a block of rows from `first` on ends, `last` at the latest. */
static inline int64_t seqtopk_block_end(int64_t first, int64_t last, int64_t block) {
    return last - first < block ? last : first + block;
}

/* The tokens of a part: [*first, *last). */
static inline void seqtopk_call_share(const seqtopk_call *call, int32_t part, int64_t *first, int64_t *last) {
    /* The divisions of a team are felt where there is one token. */
    *first = call->parts == 1 ? 0 : call->in.tokens * part / call->parts;
    *last = call->parts == 1 ? call->in.tokens : call->in.tokens * (part + 1) / call->parts;
}

/* The tokens of sequence s: [*first, *last). */
static inline void seqtopk_call_sequence(const seqtopk_call *call, int64_t s, int64_t *first, int64_t *last) {
    *first = call->in.cu_seqlens ? call->in.cu_seqlens[s] : 0;
    *last = call->in.cu_seqlens ? call->in.cu_seqlens[s + 1] : call->in.tokens;
}

/* The tokens of sequence s that a part has: [*first, *last); returns 0 if it has none. */
static inline int seqtopk_call_run(const seqtopk_call *call, int64_t s, int32_t part, int64_t *first, int64_t *last) {
    int64_t begin, end;
    seqtopk_call_sequence(call, s, &begin, &end);
    seqtopk_call_share(call, part, first, last);
    *first = begin > *first ? begin : *first;
    *last = end < *last ? end : *last;
    return *first < *last;
}

/*
 * keys [last - first, E] for selection: -inf for candidates that are not eligible (excluded, outside the token's best
 * groups, after its first max_experts), +inf for those that are selected in any case (its first min_experts).
 */
void seqtopk_candidate_keys(const seqtopk_call *call, int64_t first, int64_t last, float *keys);

/* The same before the bounds: -inf for candidates that are excluded or outside the token's best groups. */
void seqtopk_grouped_keys(const seqtopk_call *call, int64_t first, int64_t last, float *keys);

/*
 * ties.c: where equal keys of a token are told apart by its logits. Its logits, in scratch; as op topk_row, of keys [E] of its
 * own; the first n experts of such a row, ids ascending, and unless NULL their keys; the same of the token's grouped keys, in
 * work.spare. They use work.scores, key_ids and group_ids.
 */
int seqtopk_tells_by_logit(const seqtopk_call *call);
const float *seqtopk_logits_of(const seqtopk_call *call, int64_t token);
int32_t seqtopk_rank_row(const seqtopk_call *call, int64_t token, const float *keys, int32_t k, int32_t *ids);
int32_t seqtopk_list_of_row(const seqtopk_call *call, int64_t token, const float *row, int32_t n, int32_t *ids,
                            float *keys);
int32_t seqtopk_list_first(const seqtopk_call *call, int64_t token, int32_t n, int32_t *ids, float *keys);
/* After op bound_candidates: tokens with equal keys at a bound. */
void seqtopk_settle_bounds(const seqtopk_call *call, seqtopk_candidates *candidates, int64_t first, int64_t last);

/* How this call's keys are made, but for list_row; with this part's scratch. */
seqtopk_scoring seqtopk_scoring_of(const seqtopk_call *call);

/* How many tokens of [first, last) are unmasked. */
int64_t seqtopk_unmasked(const uint8_t *mask, int64_t first, int64_t last);

/* The length of a sequence [begin, end) of which a part has the run [first, last). */
static inline seqtopk_length seqtopk_call_length(const seqtopk_call *call, int64_t begin, int64_t end, int64_t first,
                                                 int64_t last) {
    if (call->is_shared)
        return SEQTOPK_LENGTH_LONG;
    if (call->in.tokens == 1 && call->sequences == 1 && call->parts == 1)
        return SEQTOPK_LENGTH_ALONE;
    return first == begin && last == end ? seqtopk_length_of(last - first, seqtopk_call_block(call))
                                         : SEQTOPK_LENGTH_LONG;
}

/* The budget of [first, last), in pairs: its unmasked tokens times K. */
static inline int64_t seqtopk_call_budget(const seqtopk_call *call, int64_t first, int64_t last) {
    return seqtopk_unmasked(call->in.token_mask, first, last) * call->plan->desc.top_k;
}

/*
 * prepare.c: the tokens [first, last) as a call of their own, numbered from 0, whose rows are ready for kernels, in this
 * part's scratch: until the next rows are prepared there. At most seqtopk_prepared_at_once of them.
 */
seqtopk_call seqtopk_prepare(const seqtopk_call *call, int64_t first, int64_t last);
static inline int64_t seqtopk_gathered_rows(const seqtopk_plan *plan) {
    const int64_t rows = 4096 / plan->columns;
    return rows < 1 ? 1 : rows < plan->work_rows ? rows : plan->work_rows;
}
static inline int64_t seqtopk_prepared_at_once(const seqtopk_call *call) {
    return call->work.prepared ? call->plan->work_rows : seqtopk_gathered_rows(call->plan);
}

/* Which of the caller's tokens a row is. */
static inline int64_t seqtopk_place(const seqtopk_call *call, int64_t row) {
    return call->places ? call->places[row * call->place_step] : row;
}

/* Which row a token of the lists is. */
static inline int64_t seqtopk_row_of(const seqtopk_call *call, int64_t token) {
    return call->ranks ? call->ranks[token] : token;
}

/*
 * sorted.c: from token_seq, the tokens of each sequence together, in their order: part 0 sorts, after which all parts see rows
 * so. Once lists are weighed and settled it is counted what each of the caller's tokens has, the part's share of the lists goes
 * to where the caller's order has it, and parts see those lists.
 */
seqtopk_status seqtopk_sort_tokens(seqtopk_call *call, seqtopk_error *error);
void seqtopk_see_sorted(seqtopk_call *call);
void seqtopk_count_by_token(const seqtopk_call *call, int64_t first, int64_t last);
void seqtopk_unsort_lists(const seqtopk_call *call);
void seqtopk_see_unsorted(seqtopk_call *call);
/* What part 0 found in the way of sorting, or of what was asked for once it is sorted: whoever asks afterwards. */
seqtopk_status seqtopk_check_sorted(const seqtopk_call *call, seqtopk_error *error);

/*
 * masked.c: where a stretch of tokens [first, last) that begins at `first` ends: of masked ones, which *is_masked tells, or of
 * others. Without a mask all are one. What kernels would write of masked rows; and the same with lists that have nothing.
 */
int64_t seqtopk_stretch(const seqtopk_call *call, int64_t first, int64_t last, int *is_masked);
void seqtopk_leave_out(const seqtopk_call *call, int64_t first, int64_t last);
void seqtopk_list_none(const seqtopk_call *call, int32_t *offsets, int64_t first, int64_t last, int64_t at);

/* The ops of that name on this call's rows; prepared first if need be. */
int64_t seqtopk_rows_lse(const seqtopk_call *call, int64_t first, int64_t last);
void seqtopk_rows_keys(const seqtopk_call *call, int64_t first, int64_t last, float *keys);
void seqtopk_rows_weigh(const seqtopk_call *call, const seqtopk_weighing *how, int64_t first, int64_t last,
                        const int32_t *offsets, const int32_t *ids, float *weights);

/* Whether the keys of listed experts may become scores: weights are asked for, and can be computed from those. */
int seqtopk_weighs_scores(const seqtopk_call *call);

/* The lists to write, with keys in the places of weights; with has_keys scores, if weights can be computed from
 * those. */
seqtopk_lists seqtopk_lists_of(const seqtopk_call *call, int has_keys);

/* After ids and offsets: weights of tokens [first, last), from the keys or scores in their places or from the
 * logits. */
void seqtopk_weigh_tokens(const seqtopk_call *call, int64_t first, int64_t last, int has_scores);

/* NORM_SPARSEMIXER: weights of tokens [first, last), from their whole rows. */
void seqtopk_mix_sparsely(const seqtopk_call *call, int64_t first, int64_t last);

/* min_p and top_p: drops what they leave out of a run's lists, and puts plain scores in the places of weights. */
void seqtopk_prune(const seqtopk_call *call, int64_t first, int64_t last, seqtopk_run *run);

/* After weights: the factor of each expert. */
void seqtopk_apply_factors(const seqtopk_call *call, int64_t first, int64_t last);

/* By how much what a sequence did not get missed it, once sequences are cut; each part its share of them. */
void seqtopk_tell_sequence_margins(const seqtopk_call *call);

/* What tokens [first, last) nearly got; before lists are settled. */
void seqtopk_tell_runners(const seqtopk_call *call, int64_t first, int64_t last);

/*
 * beside.c: experts beside those that compete. Bad logits among the columns of shared ones: the first such token of
 * [first, last), or -1. Then what one part does to all lists: shared experts that take part in the norm enter before lists
 * are weighed; afterwards those of a fixed weight do, and null ones leave.
 */
int64_t seqtopk_bad_shared(const seqtopk_call *call, int64_t first, int64_t last);
/* How many pairs of shared experts all tokens have: none where a scored one's logit is -inf. */
int64_t seqtopk_count_shared(const seqtopk_call *call);
void seqtopk_admit_shared(const seqtopk_call *call);
void seqtopk_settle_lists(const seqtopk_call *call);

/* Whether any weight is asked for. */
int seqtopk_wants_weights(const seqtopk_call *call);

/* Whether a logit of the caller's row is -inf: such an expert is never selected, not even where it is given or shared. */
int seqtopk_call_is_excluded(const seqtopk_call *call, int64_t token, int32_t expert);

/* How many shared experts a token has: they stay behind the others in every order. */
static inline int32_t seqtopk_shared_of(const seqtopk_call *call, int64_t token) {
    int32_t n = 0;
    for (int32_t i = call->token_offsets[token + 1]; call->plan->beside && i > call->token_offsets[token]; i--)
        n += call->expert_ids[i - 1] >= call->rows.experts;
    return n;
}

/* Lists a token's experts, and their weights, in the order that they were given in. */
void seqtopk_order_as_given(const seqtopk_call *call, int64_t token);

/* After weights: order, padded and dense rows of tokens [first, last). */
void seqtopk_finish_tokens(const seqtopk_call *call, int64_t first, int64_t last);

/* Padded rows, with ids of any size: whether there are any, and those of tokens [first, last). */
int seqtopk_wants_padded(const seqtopk_call *call);
void seqtopk_write_padded(const seqtopk_call *call, int64_t first, int64_t last);

/* The tokens of the pairs of tokens [first, last). And once all lists are in order, what fills them up. */
void seqtopk_tell_pair_tokens(const seqtopk_call *call, int64_t first, int64_t last);
void seqtopk_fill_tail(const seqtopk_call *call);

/* Lists by expert: whether there are any, and this part's share of them, once each part's histogram is made. */
int seqtopk_wants_experts(const seqtopk_call *call);
void seqtopk_list_experts(const seqtopk_call *call);
/* The same of one token alone, whose experts ascend. */
void seqtopk_list_experts_of_one(const seqtopk_call *call);

/* Padded rows must be wide enough for the longest sequence: asked again where token_seq has told them apart. */
seqtopk_status seqtopk_check_widths(const seqtopk_call *call, seqtopk_error *error);

/* A forced way must serve every sequence of the call. */
seqtopk_status seqtopk_check_way(const seqtopk_call *call, seqtopk_error *error);
/* Both of a batch that part 0 has sorted, whoever asks afterwards. */
seqtopk_status seqtopk_check_refused(const seqtopk_call *call, seqtopk_error *error);

/* What a route does in a step (route.c), of which the decoding of src/cache has some in common. Finish is weigh and tell. */
void seqtopk_step_collect(const seqtopk_call *call);
void seqtopk_step_weigh(const seqtopk_call *call);
void seqtopk_step_tell(const seqtopk_call *call);
void seqtopk_step_finish(const seqtopk_call *call);
void seqtopk_step_permute(const seqtopk_call *call);

/* The steps of a call, each of which all parts take. Without token_seq the first two are collect and cut. */
int32_t seqtopk_call_steps(const seqtopk_call *call);
void seqtopk_call_step(const seqtopk_call *call, int32_t step);

/* The way of all of a sequence's runs, and why; the staged way if they went different ones. */
void seqtopk_agree_on_way(const seqtopk_call *call, int64_t s, seqtopk_sequence *sequence);

/* After the collect step: SEQTOPK_E_NONFINITE if a part has met a bad row. */
seqtopk_status seqtopk_check_logits(const seqtopk_call *call, seqtopk_error *error);

/* Tells the way of sequence s; and, with the last offset, how many pairs there are. */
void seqtopk_tell_way(const seqtopk_call *call, int64_t s);
void seqtopk_tell_end(const seqtopk_call *call, int64_t pairs);

#endif
