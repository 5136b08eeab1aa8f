/* SPDX-License-Identifier: MIT */
/*
 * What routing means, a second time: float64 scores, one full sort, no code in common with the library.
 *
 * Selection is judged twice. Exactly: oracle_select on the library's own float32 keys, which pins order, ties, bounds,
 * groups and budget to the bit. And arithmetically: oracle_within_band on float64 keys, where two candidates may only
 * change places if float32 could not tell them apart.
 */
#ifndef SEQTOPK_TESTS_ORACLE_H
#define SEQTOPK_TESTS_ORACLE_H

#include <seqtopk/seqtopk.h>

#include <stddef.h>
#include <stdint.h>

typedef enum oracle_key { ORACLE_KEY_LOGIT, ORACLE_KEY_LOGPROB, ORACLE_KEY_SCORE } oracle_key;

/* One call, decoded. Made by oracle_load, freed by oracle_free. */
typedef struct oracle_problem {
    seqtopk_desc desc; /* its experts: those that compete */
    int64_t tokens;
    int32_t experts;
    int32_t sequences;
    int32_t *cu;           /* [sequences + 1] */
    unsigned char *masked; /* [tokens] */
    double *bias;          /* [experts] or NULL */
    double *x;             /* [tokens, experts], scaled and capped; masked rows hold -inf */
    double *shaky;         /* [tokens]: how far a scaled or capped logit of the row may be from x in float32; else 0 */
    /* [tokens, experts]: what tells equal log-probabilities of one token apart: x, or, where the caller knows those, the logits that
     * float32 has after scale and cap. NULL where keys are others. */
    double *apart;
    double *shared;     /* [tokens, shared experts], where those are scored */
    double *top, *rest; /* [tokens]: log-sum-exp in two parts, for beside a top of 1e38 the rest would be lost */
} oracle_problem;

/* Selected pairs: the experts of token t are [offsets[t], offsets[t + 1]) of either list. */
typedef struct oracle_choice {
    int64_t selected;
    int32_t *offsets;
    int32_t *ascending; /* experts ascend within a token */
    int32_t *ranked;    /* best first */
} oracle_choice;

double oracle_decode(const void *values, int dtype, size_t index);
/* The log-sum-exp of a row is *top + the answer; both are 0 and -inf for a row without candidates. */
double oracle_lse(const double *row, int32_t experts, double *top);
double oracle_score(int score, double x, double top, double rest);

/* How far from float64 a float32 score may be: the contract's bound on weights, and the spacing of denormals. */
double oracle_score_tolerance(int score, double s);

void oracle_load(oracle_problem *problem, const seqtopk_desc *desc, const seqtopk_input *input);
void oracle_free(oracle_problem *problem);

/* The key that this call compares by. */
oracle_key oracle_key_of(const oracle_problem *problem);

/* float64 keys [tokens, experts] (-inf: no candidate) and, unless NULL, how far a float32 key may be from each. */
void oracle_keys(const oracle_problem *problem, oracle_key kind, double *keys, double *tolerance);

/*
 * The contract, literally, on any keys. `scores` (s + b, for group sums) may be NULL without groups. `single`: group
 * sums round to float32 after each addition, best first.
 */
void oracle_select(const oracle_problem *problem, const double *keys, const double *scores, int single,
                   oracle_choice *choice);
void oracle_choice_free(oracle_choice *choice);

/*
 * Whether (offsets, ids) is a selection by keys that differ from float64 by no more than their tolerance. On failure
 * `why` says what is wrong.
 */
int oracle_within_band(const oracle_problem *problem, const int32_t *offsets, const int32_t *ids, char *why,
                       size_t size);

/* What is listed of a choice: without its null experts, with the shared ones; float64 weights, and the error that each is
 * allowed. A token's weights follow `ids`; `ranked` has the same, best first, shared ones last. */
typedef struct oracle_lists {
    int64_t selected;
    int32_t *offsets, *ids, *ranked;
    double *weights, *tolerance;
    double *null_weights, *null_tolerance; /* [tokens] */
} oracle_lists;
void oracle_list(const oracle_problem *problem, const oracle_choice *choice, oracle_lists *lists);
/* What each token nearly got of a choice by these keys, which are float32: [tokens, runners], and by how much. */
void oracle_runners(const oracle_problem *problem, const double *keys, const double *scores,
                    const oracle_choice *choice, int32_t runners, int32_t *ids, float *margins);
/* The same of each sequence: [sequences]. */
void oracle_sequence_margins(const oracle_problem *problem, const double *keys, const double *scores,
                             const oracle_choice *choice, float *margins);
void oracle_lists_free(oracle_lists *lists);

/* float64 weights of the pairs, and the error that each is allowed. */
void oracle_weights(const oracle_problem *problem, const int32_t *offsets, const int32_t *ids, double *weights,
                    double *tolerance);

#endif
