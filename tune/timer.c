/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "tune/timer.h"

#include "tune/decide.h"

#include <time.h>

double seqtopk_tune_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

int32_t seqtopk_tune_batch(double ns) {
    const double calls = SEQTOPK_TUNE_SAMPLE / (ns > 1 ? ns : 1);
    return calls > 1 ? (int32_t)calls + 1 : 1;
}

/* Dependent multiplications: no memory, no branch but the loop's, so that only the machine can make it slower. */
static uint64_t work(uint64_t x) {
    for (int i = 0; i < 100000; i++)
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return x;
}

seqtopk_tune_noise seqtopk_tune_noise_measure(void) {
    enum { PIECES = 64, LOOKS = 200 };
    double ns[PIECES];
    volatile uint64_t sink = 1;
    seqtopk_tune_noise noise;
    double start = seqtopk_tune_now();
    for (int i = 0; i < LOOKS; i++)
        noise.clock = (seqtopk_tune_now() - start) / (i + 1);
    sink = work(sink); /* the clock rate rises */
    for (int i = 0; i < PIECES; i++) {
        start = seqtopk_tune_now();
        sink = work(sink);
        ns[i] = seqtopk_tune_now() - start;
    }
    const double median = seqtopk_tune_median(ns, PIECES); /* sorts */
    noise.spread = ns[PIECES - 1 - PIECES / 10] / median - 1;
    return noise;
}
