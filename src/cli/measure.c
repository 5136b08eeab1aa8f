/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

double seqtopk_measure_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* ns for so many calls. */
static double timed(const seqtopk_measure *item, int64_t calls) {
    double start = seqtopk_measure_now();
    for (int64_t i = 0; i < calls; i++)
        item->call(item->context);
    double ns = seqtopk_measure_now() - start;
    return ns > 0 ? ns : 1;
}

/* The call before it is not counted: it brings back what the other items drove out of the caches, and wakes threads. */
static void take_sample(seqtopk_measure *item) {
    const double warmable_ns = 10e6;
    if (item->spent < warmable_ns * (item->samples + 1))
        item->spent += timed(item, 1);
    double ns = timed(item, item->calls);
    item->spent += ns;
    item->sample[item->samples++] = ns / (double)item->calls;
}

/* One call to wake the caches and touch the pages, then as many as a sample needs. */
static void begin(seqtopk_measure *item) {
    const double sample_ns = 100e3, long_ns = 10e6; /* reading the clock twice costs about 50 ns */
    double ns = timed(item, 1);
    item->spent = ns;
    item->samples = 0;
    item->calls = 1;
    if (ns > long_ns) /* even cold */
        return;
    for (;; item->calls *= ns > sample_ns / 4 ? 2 : 4) {
        ns = timed(item, item->calls);
        item->spent += ns;
        if (ns > sample_ns || item->calls >= INT64_C(1) << 30)
            return;
    }
}

static bool goes_on(const seqtopk_measure *item, double budget) {
    enum { LEAST = 3 };
    const double own = item->share * budget;
    if (!item->call || item->samples == SEQTOPK_MEASURE_SAMPLES)
        return false;
    if (item->samples < LEAST)
        return item->samples == 0 || item->spent < own;
    return item->spent + item->spent / item->samples < own;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Between the two samples that are nearest to `part` of the way through. */
static double quantile(const seqtopk_measure *item, double part) {
    double place = part * (item->samples - 1);
    int32_t below = (int32_t)place;
    int32_t above = below + 1 < item->samples ? below + 1 : below;
    return item->sample[below] + (place - below) * (item->sample[above] - item->sample[below]);
}

static void conclude(seqtopk_measure *item) {
    qsort(item->sample, (size_t)item->samples, sizeof *item->sample, ascending);
    item->low = quantile(item, 0.25);
    item->median = quantile(item, 0.5);
    item->high = quantile(item, 0.75);
}

static void conclude_all(seqtopk_measure *items, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (items[i].call)
            conclude(&items[i]);
}

/* Ten times a second. `part` of the way; < 0: the line goes. */
static void show(const char *what, double part, double *shown) {
    double now = seqtopk_measure_now();
    if (part < 0 ? *shown == 0 : now - *shown < 0.1e9)
        return;
    if (part < 0)
        fputs("\r\033[K", stderr);
    else
        fprintf(stderr, "\r%s: %3.0f %%", what, 100 * (part < 1 ? part : 1));
    fflush(stderr);
    *shown = now;
}

int32_t seqtopk_measure_all(seqtopk_measure *items, size_t count, double seconds, const char *progress) {
    const double budget = seconds * 1e9, start = seqtopk_measure_now();
    const bool shows = progress && seconds > 1 && isatty(STDERR_FILENO);
    double shown = 0;
    int32_t rounds = 0;
    for (size_t i = 0; i < count; i++)
        if (items[i].call)
            begin(&items[i]);
    for (bool any = true; any; rounds += any) {
        any = false;
        for (size_t i = 0; i < count; i++) {
            seqtopk_measure *item = &items[(i + (size_t)rounds) % count];
            if (shows)
                show(progress, (seqtopk_measure_now() - start) / budget, &shown);
            if (!goes_on(item, budget))
                continue;
            take_sample(item);
            any = true;
        }
    }
    if (shows)
        show(progress, -1, &shown);
    conclude_all(items, count);
    return rounds;
}

/* The median of what two reads of the clock are apart. */
static double clock_cost(void) {
    seqtopk_measure clock = {0};
    for (clock.samples = 0; clock.samples < SEQTOPK_MEASURE_SAMPLES; clock.samples++) {
        const double start = seqtopk_measure_now();
        clock.sample[clock.samples] = seqtopk_measure_now() - start;
    }
    conclude(&clock);
    return clock.median;
}

int32_t seqtopk_measure_cold(seqtopk_measure *items, size_t count, double seconds, void (*evict)(void *context),
                             void *context, const char *progress) {
    const double budget = seconds * 1e9, start = seqtopk_measure_now(), clock = clock_cost();
    const bool shows = progress && seconds > 1 && isatty(STDERR_FILENO);
    double shown = 0;
    int32_t rounds = 0;
    for (size_t i = 0; i < count; i++) {
        items[i].samples = 0;
        items[i].calls = 1;
        if (items[i].call)
            items[i].call(items[i].context); /* touches the pages */
    }
    for (; rounds < SEQTOPK_MEASURE_SAMPLES; rounds++) {
        if (rounds >= SEQTOPK_MEASURE_COLD_LEAST && seqtopk_measure_now() - start > budget)
            break;
        if (shows)
            show(progress, (seqtopk_measure_now() - start) / budget, &shown);
        for (size_t i = 0; i < count; i++) {
            seqtopk_measure *item = &items[(i + (size_t)rounds) % count];
            if (!item->call)
                continue;
            evict(context);
            const double ns = timed(item, 1) - clock;
            item->sample[item->samples++] = ns > 1 ? ns : 1;
        }
    }
    if (shows)
        show(progress, -1, &shown);
    conclude_all(items, count);
    return rounds;
}

double seqtopk_measure_spread(const seqtopk_measure *item) {
    return item->median > 0 ? (item->high - item->low) / item->median : 0;
}
