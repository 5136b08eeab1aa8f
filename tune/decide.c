/* SPDX-License-Identifier: MIT */
#include "tune/decide.h"

#include <math.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double seqtopk_tune_median(double *values, int32_t count) {
    if (count == 0)
        return 0;
    qsort(values, (size_t)count, sizeof *values, ascending);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* The standard deviation that a median absolute deviation stands for, were the noise normal. */
static double deviation(double *values, int32_t count, double median) {
    for (int32_t i = 0; i < count; i++)
        values[i] = fabs(values[i] - median);
    return 1.4826 * seqtopk_tune_median(values, count);
}

seqtopk_tune_stat seqtopk_tune_stat_of(const seqtopk_tune_rounds *rounds, int32_t contender) {
    double ns[SEQTOPK_TUNE_ROUNDS], ratios[SEQTOPK_TUNE_ROUNDS];
    seqtopk_tune_stat stat = {0};
    for (int32_t r = 0; r < rounds->rounds; r++) {
        if (rounds->ns[contender][r] <= 0 || rounds->ns[0][r] <= 0)
            continue;
        ns[stat.rounds] = rounds->ns[contender][r];
        ratios[stat.rounds++] = rounds->ns[contender][r] / rounds->ns[0][r];
    }
    if (stat.rounds == 0)
        return stat;
    stat.median = seqtopk_tune_median(ns, stat.rounds);
    stat.spread = deviation(ns, stat.rounds, stat.median) / stat.median;
    stat.ratio = seqtopk_tune_median(ratios, stat.rounds);
    /* A median's error is 1.2533 times a mean's. Few rounds do not know their own spread: a floor that falls with n. */
    const double floor = 0.02 / stat.rounds;
    stat.error = 1.2533 * deviation(ratios, stat.rounds, stat.ratio) / sqrt(stat.rounds);
    if (contender != 0)
        stat.error += floor * stat.ratio;
    return stat;
}

/* How many standard errors are noise. */
static const double ERRORS = 2.5;

bool seqtopk_tune_beats(const seqtopk_tune_stat *stat) {
    const double gain = 1 - stat->ratio;
    return gain > SEQTOPK_TUNE_CLEAR && gain > ERRORS * stat->error;
}

seqtopk_tune_verdict seqtopk_tune_decide(const seqtopk_tune_stat *stats, const int32_t *among, int32_t count) {
    seqtopk_tune_verdict v = {among[0], -1, 0, false};
    double best = INFINITY;
    for (int32_t i = 1; i < count; i++) {
        const seqtopk_tune_stat *stat = stats + among[i];
        if (stat->rounds == 0)
            continue;
        if (seqtopk_tune_beats(stat))
            best = stat->ratio < best ? stat->ratio : best;
        else if (1 - stat->ratio > SEQTOPK_TUNE_CLEAR)
            v.noisy = true;
    }
    for (int32_t i = count - 1; i > 0; i--)
        if (stats[among[i]].rounds && seqtopk_tune_beats(stats + among[i]) && stats[among[i]].ratio <= best * 1.01)
            v.chosen = among[i];
    v.noisy = v.noisy && v.chosen == among[0];
    for (int32_t i = 0; i < count; i++)
        if (among[i] != v.chosen && stats[among[i]].rounds &&
            (v.runner_up < 0 || stats[among[i]].ratio < stats[v.runner_up].ratio))
            v.runner_up = among[i];
    if (v.runner_up >= 0 && stats[v.chosen].ratio > 0)
        v.gap = stats[v.runner_up].ratio / stats[v.chosen].ratio - 1;
    return v;
}

bool seqtopk_tune_hopeless(const seqtopk_tune_stat *stats, const int32_t *group, int32_t count, int32_t c) {
    const seqtopk_tune_stat *s = stats + c, *best = stats;
    for (int32_t i = 1; i < count; i++)
        if (group[i] == group[c] && stats[i].rounds >= 2 && stats[i].ratio < best->ratio)
            best = stats + i;
    if (s->rounds < 2)
        return false;
    /* The best may look better than it is, too. */
    const double noise = ERRORS * (s->error + best->error);
    if (s->ratio > 1.5 * best->ratio + noise)
        return true;
    return s->rounds >= 5 && (s->ratio - noise > (1 + SEQTOPK_TUNE_CLEAR) * best->ratio ||
                              s->ratio - ERRORS * s->error > 1 - SEQTOPK_TUNE_CLEAR);
}

bool seqtopk_tune_settled(const seqtopk_tune_stat *stat) {
    return stat->rounds >= 7 && ERRORS * stat->error < SEQTOPK_TUNE_CLEAR / 2;
}
