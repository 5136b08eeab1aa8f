/* SPDX-License-Identifier: MIT */
/*
 * Times several things side by side, in rounds: each round takes one sample of every item, beginning with another one
 * each time, so that a change of the machine's speed meets all of them. A sample is so many calls that reading the
 * clock does not show.
 */
#ifndef SEQTOPK_CLI_MEASURE_H
#define SEQTOPK_CLI_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SEQTOPK_MEASURE_SAMPLES = 1001 };

typedef struct seqtopk_measure {
    void (*call)(void *context); /* NULL: not measured */
    void *context;
    double share; /* of all the time: beyond it the item takes no more samples */

    /* What came out, in ns a call. */
    double median, low, high; /* low, high: the quartiles */
    int32_t samples;
    int64_t calls; /* in a sample */

    double spent;
    double sample[SEQTOPK_MEASURE_SAMPLES];
} seqtopk_measure;

/* Nanoseconds of a clock that only goes forward. */
double seqtopk_measure_now(void);

/*
 * Fills in what came out. Every item gets samples until its share is spent, at least one and mostly three or more; its
 * first call touches the pages and is not counted. With `progress`, a terminal at standard error is shown how far it is.
 * Returns the number of rounds.
 */
int32_t seqtopk_measure_all(seqtopk_measure *items, size_t count, double seconds, const char *progress);

/*
 * The same of single calls, each timed after `evict`, which is not: it is to drive out of the caches what the items use.
 * A sample is one call, without what reading the clock costs. Every item gets the same number of samples, as many as
 * there is time for, at least SEQTOPK_MEASURE_COLD_LEAST.
 */
enum { SEQTOPK_MEASURE_COLD_LEAST = 5 };
int32_t seqtopk_measure_cold(seqtopk_measure *items, size_t count, double seconds, void (*evict)(void *context),
                             void *context, const char *progress);

/* Quartiles' distance over the median. */
double seqtopk_measure_spread(const seqtopk_measure *item);

#endif
