/* SPDX-License-Identifier: MIT */
/*
 * The tuner: walks a grid, and at each point times whole routes in which one op after the other takes each kernel that
 * could serve it. What is timed has given the reference's lists, bit for bit, first.
 */
#ifndef SEQTOPK_TUNE_TUNE_H
#define SEQTOPK_TUNE_TUNE_H

#include "tune/contenders.h"
#include "tune/grid.h"
#include "tune/topology.h"

/* A decision: which kernel an op should take at a point. */
typedef struct seqtopk_tune_found {
    seqtopk_op op;
    seqtopk_score score;             /* of the calls that were timed */
    const seqtopk_row *row;          /* the winner */
    const seqtopk_row *runner_up;    /* the best of the others; NULL: none could be timed */
    const seqtopk_row *incumbent;    /* what would be taken without this decision */
    double ns, spread, runner_up_ns; /* of a whole call; spread as a share of ns */
    double gap; /* runner_up_ns over ns, less 1, round by round; of a kept incumbent it may be < 0 */
    bool noisy; /* another looked clearly better, and the noise was larger */
    bool clear; /* the gap is larger than the noise */
    int32_t contenders;
} seqtopk_tune_found;

typedef struct seqtopk_tune_result {
    seqtopk_tune_point point;
    int32_t count;
    seqtopk_tune_found found[SEQTOPK_OPS];
    double ns;           /* a call (softmax, lists by token) with the winners */
    double incumbent_ns; /* with what would have been taken; the two were timed side by side */
    double reference_ns; /* with the reference's kernels; timed once, and only where that is soon done; else 0 */
    double floor_ns;     /* the score kernel alone */
    double spread;       /* of ns */
} seqtopk_tune_result;

typedef struct seqtopk_tune_progress {
    size_t done, points;
    double seconds, left; /* left: a guess */
} seqtopk_tune_progress;

/* Any may be NULL. */
typedef struct seqtopk_tune_events {
    void *context;
    bool (*stop)(void *context); /* asked between calls: true ends the walk */
    void (*begin)(void *context, const seqtopk_tune_point *point, const seqtopk_tune_progress *progress);
    void (*done)(void *context, const seqtopk_tune_result *result);
    /* A kernel gave other lists than the reference: `list` names the first. It is not timed and never chosen. */
    void (*wrong)(void *context, const seqtopk_tune_point *point, const seqtopk_row *row, const char *list);
} seqtopk_tune_events;

typedef struct seqtopk_tune_options {
    double budget; /* seconds for the walk */
    const seqtopk_tune_topology *topology;
    const seqtopk_tuning *tuning; /* whose choices are the incumbents; NULL: the model's */
    bool outputs_only;            /* time routes with lists by token alone: no bounds, no bias, no lists by expert */
} seqtopk_tune_options;

typedef struct seqtopk_tune_summary {
    size_t points, done, too_large; /* too_large: whose logits would take more than a quarter of the memory */
    size_t decisions, changed, noisy, wrong;
    double seconds;
    bool stopped, over_budget;
} seqtopk_tune_summary;

/*
 * Walks the grid. Not SEQTOPK_OK: a point could not be run at all, and `error` tells why; what was done is done.
 */
seqtopk_status seqtopk_tune_walk(const seqtopk_tune_grid *grid, const seqtopk_tune_options *options,
                                 const seqtopk_tune_events *events, seqtopk_tune_summary *summary,
                                 seqtopk_error *error);

/* About how many seconds a walk needs to time every contender of every point well. */
double seqtopk_tune_estimate(const seqtopk_tune_grid *grid);

#endif
