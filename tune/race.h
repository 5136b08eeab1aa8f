/* SPDX-License-Identifier: MIT */
/* Contenders timed side by side, in rounds, until more rounds would not change what is decided. Knows no clock. */
#ifndef SEQTOPK_TUNE_RACE_H
#define SEQTOPK_TUNE_RACE_H

#include "tune/decide.h"

typedef struct seqtopk_tune_race {
    int32_t contenders; /* 0 is the incumbent, and is timed in every round */
    const int32_t
        *group;      /* [contenders]: of which op each is: those of other ops do not compete; NULL: all are of one */
    const bool *out; /* [contenders]: not to be timed; NULL: all are */
    int32_t least;   /* rounds that are run whatever they cost; at least 1 */
    double budget;   /* ns for all rounds; four times as much where one looks better and the noise forbids to say so */
    /* Times contender c once: ns of a call into *ns. Returns ns that went by, or a negative number: stop. */
    double (*sample)(void *context, int32_t c, int32_t round, double *ns);
    void *context;
} seqtopk_tune_race;

/* Fills rounds and stats [contenders]. Returns false if a sample said stop; what was timed until then is there. */
bool seqtopk_tune_race_run(const seqtopk_tune_race *race, seqtopk_tune_rounds *rounds, seqtopk_tune_stat *stats);

#endif
