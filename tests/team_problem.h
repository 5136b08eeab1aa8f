/* SPDX-License-Identifier: MIT */
/* Random problems for teams, split among ranks, and whether each rank gets what one machine gives its tokens. */
#ifndef SEQTOPK_TESTS_TEAM_PROBLEM_H
#define SEQTOPK_TESTS_TEAM_PROBLEM_H

#include "random.h"

#include <seqtopk/seqtopk.h>

enum { PROBLEM_SEQUENCES = 9, PROBLEM_RANKS = 16 };

typedef struct problem {
    seqtopk_desc desc;
    seqtopk_input in; /* of one machine */
    int32_t cu_seqlens[PROBLEM_SEQUENCES + 1];
    int32_t from[PROBLEM_RANKS + 1][PROBLEM_SEQUENCES]; /* [r][s]: where in sequence s rank r begins */
    int size;
    seqtopk_plan *plan;
    int is_tight;  /* capacities are those of one machine's */
    int threads;   /* of a rank */
    int count_all; /* of the team */
    size_t element;
    seqtopk_status status;
    int64_t bad;
    int32_t *offsets, *ids;
    float *weights;
    int odd;     /* a rank that routes another problem; -1: none does */
    int is_lost; /* a collective fails: every rank is to say so */
    int wrong[PROBLEM_RANKS];
    char told[256]; /* how to draw it again */
} problem;

/* The same for the same seed, everywhere. Returns what the plan says: SEQTOPK_OK, or there is nothing to route. */
seqtopk_status problem_draw(problem *p, uint64_t seed, int size, const char *isa);
void problem_release(problem *p);

/* Routes this rank's part in a team; wrong[rank] tells whether it is right. */
void problem_rank(problem *p, const seqtopk_team *team);

#endif
