/* SPDX-License-Identifier: MIT */
/* The clock, and how steady this machine is. */
#ifndef SEQTOPK_TUNE_TIMER_H
#define SEQTOPK_TUNE_TIMER_H

#include <stdint.h>

/* ns of a clock that never goes back. */
double seqtopk_tune_now(void);

/* A sample of calls shorter than this, in ns, is made of several, so that the clock's own cost does not show. */
#define SEQTOPK_TUNE_SAMPLE 100e3

/* How many calls of so many ns make a sample. */
int32_t seqtopk_tune_batch(double ns);

typedef struct seqtopk_tune_noise {
    double clock;  /* ns that asking for the time takes */
    double spread; /* how much longer than the median the slowest tenth of equal pieces of work took, as a share */
} seqtopk_tune_noise;

/* Does the same small work again and again for some 30 ms. */
seqtopk_tune_noise seqtopk_tune_noise_measure(void);

/* Above this spread a machine is too busy to be tuned. */
#define SEQTOPK_TUNE_NOISY 0.15

#endif
