/* SPDX-License-Identifier: MIT */
/* One point of the grid, timed and decided. */
#ifndef SEQTOPK_TUNE_POINT_H
#define SEQTOPK_TUNE_POINT_H

#include "tune/data.h"
#include "tune/race.h"
#include "tune/team.h"
#include "tune/tune.h"
#include "tune/verify.h"

/* Kinds of calls, so that every op is reached by one. */
enum { SEQTOPK_TUNE_FORMS = 4 };

/* What lasts from point to point. */
typedef struct seqtopk_tune_bench {
    const seqtopk_tune_options *options;
    const seqtopk_tune_events *events;
    seqtopk_tune_team *team, *all; /* as many threads as calls are to have; one for each processor. NULL: one thread */
    seqtopk_tune_data data;
    seqtopk_tune_lists expected, got;
    void *scratch;
    size_t scratch_size;
    float *shift, *lse; /* [tokens] for the floor */
    int64_t rooms;      /* tokens that these have room for */
    /* The last two ratios of every row to the best of its op, [form][row], at the sizes before this one. */
    float *last, *before;
    seqtopk_tune_point column;         /* whose they are, whatever its tokens */
    bool too_long[SEQTOPK_TUNE_FORMS]; /* a form that took too long at fewer tokens */
    seqtopk_tune_rounds rounds;
    /* The results of f32 with these experts. Kernels of keys and ids serve every type of logits: the other types take
     * over what was decided on them. */
    seqtopk_tune_result *kept;
    size_t kept_count, kept_room;
    size_t wrong;
    bool stopped;
} seqtopk_tune_bench;

bool seqtopk_tune_bench_new(seqtopk_tune_bench *bench, const seqtopk_tune_options *options,
                            const seqtopk_tune_events *events, int32_t threads);
void seqtopk_tune_bench_free(seqtopk_tune_bench *bench);

/* Times a point for about `budget` ns, more if three rounds need more. Stopped: bench->stopped, and *result has what
 * was decided before. */
seqtopk_status seqtopk_tune_point_run(seqtopk_tune_bench *bench, const seqtopk_tune_point *point, double budget,
                                      seqtopk_tune_result *result, seqtopk_error *error);

#endif
