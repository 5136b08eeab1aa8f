/* SPDX-License-Identifier: MIT */
/*
 * From timings to a choice. Contender 0 is the incumbent: what is chosen without tuning. It stays unless beaten by more
 * than 3 % and by more than the noise. Contenders are timed in rounds, every one once a round, and compared with the
 * incumbent round by round: what slows the whole machine slows both. Pure.
 */
#ifndef SEQTOPK_TUNE_DECIDE_H
#define SEQTOPK_TUNE_DECIDE_H

#include <stdbool.h>
#include <stdint.h>

enum { SEQTOPK_TUNE_ROUNDS = 64, SEQTOPK_TUNE_CANDIDATES = 96 };

/* A gain below this is not worth a change. */
#define SEQTOPK_TUNE_CLEAR 0.03

/* ns of a call, [contender][round]; 0 where it was not timed. */
typedef struct seqtopk_tune_rounds {
    int32_t contenders, rounds;
    double ns[SEQTOPK_TUNE_CANDIDATES][SEQTOPK_TUNE_ROUNDS];
} seqtopk_tune_rounds;

typedef struct seqtopk_tune_stat {
    double median; /* ns of a call */
    double spread; /* of its rounds, as a share of the median: 1.4826 median absolute deviations */
    double ratio;  /* median over the rounds of its time over the incumbent's */
    double error;  /* standard error of ratio */
    int32_t rounds;
} seqtopk_tune_stat;

typedef struct seqtopk_tune_verdict {
    int32_t chosen, runner_up; /* contenders; runner_up is -1 where there was one contender */
    double gap;                /* how much longer the runner-up takes, as a share of the chosen one's time */
    bool noisy;                /* another looked more than 3 % better, but no more than the noise */
} seqtopk_tune_verdict;

double seqtopk_tune_median(double *values, int32_t count); /* reorders them; 0 for none */

/* What the rounds so far say of a contender; all zero if it was never timed beside the incumbent. */
seqtopk_tune_stat seqtopk_tune_stat_of(const seqtopk_tune_rounds *rounds, int32_t contender);

/*
 * Decides between the contenders that `among` lists, the incumbent (0) first. stats [all contenders]; those without
 * rounds are left out. Of challengers within 1 % of one another the first in the list is taken, so that runs agree.
 */
seqtopk_tune_verdict seqtopk_tune_decide(const seqtopk_tune_stat *stats, const int32_t *among, int32_t count);

/* Whether it is better than the incumbent, by more than 3 % and by more than the noise. */
bool seqtopk_tune_beats(const seqtopk_tune_stat *stat);

/*
 * Whether more rounds cannot help challenger c: it is slower than the best of its group by far, or by more than the
 * noise; or it cannot be so much better than the incumbent that it would take its place. group [count]: who competes
 * with whom, the incumbent with all.
 */
bool seqtopk_tune_hopeless(const seqtopk_tune_stat *stats, const int32_t *group, int32_t count, int32_t c);

/* Whether c is known well enough: its noise cannot change a decision that matters. */
bool seqtopk_tune_settled(const seqtopk_tune_stat *stat);

#endif
