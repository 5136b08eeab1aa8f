/* SPDX-License-Identifier: MIT */
/* Decisions on timings that are made up: noise, ties, incumbents, machines that slow down. */
#include "tune/race.h"

#include <criterion/criterion.h>
#include <math.h>

/* A machine: what each contender takes, how much that varies, and what happens to all of them in time. */
typedef struct machine {
    double ns[8];
    double noise;    /* a sample is longer by up to this share */
    double outlier;  /* one sample in ten is longer by this factor */
    double drift;    /* every round is longer than the last by this share */
    int32_t stop_at; /* samples after which the user stops it; 0: never */
    int32_t samples, taken[8];
    uint32_t state;
} machine;

static double uniform(machine *m) {
    m->state = m->state * 1664525u + 1013904223u;
    return (m->state >> 8) / 16777216.0;
}

static double sample(void *context, int32_t c, int32_t round, double *ns) {
    machine *m = context;
    if (m->stop_at && ++m->samples > m->stop_at)
        return -1;
    m->taken[c]++;
    *ns = m->ns[c] * (1 + m->noise * uniform(m)) * pow(1 + m->drift, round);
    if (m->outlier > 0 && uniform(m) < 0.1)
        *ns *= m->outlier;
    return *ns;
}

static seqtopk_tune_stat stats[SEQTOPK_TUNE_CANDIDATES];
static seqtopk_tune_rounds rounds;

static seqtopk_tune_verdict decide(machine *m, int32_t contenders, double budget) {
    static const int32_t among[] = {0, 1, 2, 3, 4, 5, 6, 7};
    const seqtopk_tune_race race = {contenders, NULL, NULL, 3, budget, sample, m};
    seqtopk_tune_race_run(&race, &rounds, stats);
    return seqtopk_tune_decide(stats, among, contenders);
}

Test(tune_decide, median) {
    double odd[] = {3, 1, 2}, even[] = {4, 1, 3, 2}, one[] = {7};
    cr_expect_eq(seqtopk_tune_median(odd, 3), 2);
    cr_expect_eq(seqtopk_tune_median(even, 4), 2.5);
    cr_expect_eq(seqtopk_tune_median(one, 1), 7);
    cr_expect_eq(seqtopk_tune_median(one, 0), 0);
}

Test(tune_decide, clear_winner) {
    machine m = {.ns = {1000, 900, 1500}, .noise = 0.02};
    const seqtopk_tune_verdict v = decide(&m, 3, 1e9);
    cr_expect_eq(v.chosen, 1);
    cr_expect_eq(v.runner_up, 0);
    cr_expect_not(v.noisy);
    cr_expect_float_eq(v.gap, 1 / 0.9 - 1, 0.03);
    cr_expect_lt(m.taken[2], m.taken[1]); /* the hopeless one was not timed to the end */
}

/* Two per cent are not worth a change, however sure they are. */
Test(tune_decide, incumbent_stays) {
    machine m = {.ns = {1000, 980}};
    const seqtopk_tune_verdict v = decide(&m, 2, 1e9);
    cr_expect_eq(v.chosen, 0);
    cr_expect_eq(v.runner_up, 1);
    cr_expect_not(v.noisy);
    cr_expect_lt(v.gap, 0);
}

Test(tune_decide, incumbent_wins) {
    machine m = {.ns = {1000, 1200, 1100}, .noise = 0.05};
    const seqtopk_tune_verdict v = decide(&m, 3, 1e9);
    cr_expect_eq(v.chosen, 0);
    cr_expect_eq(v.runner_up, 2);
    cr_expect_float_eq(v.gap, 0.1, 0.05);
}

/* A gain of 8 % among samples that vary by 60 %, and time for three rounds only. */
Test(tune_decide, too_noisy) {
    int noisy = 0;
    for (uint32_t seed = 0; seed < 50; seed++) {
        machine m = {.ns = {1000, 920}, .noise = 0.6, .state = seed};
        const seqtopk_tune_verdict v = decide(&m, 2, 1);
        cr_expect_eq(rounds.rounds, 3);
        noisy += v.noisy;
        cr_expect(!v.noisy || v.chosen == 0);
    }
    cr_expect_gt(noisy, 10);
}

/* With as many rounds as there are, most runs find it. */
Test(tune_decide, noise_is_averaged) {
    int found = 0;
    for (uint32_t seed = 0; seed < 50; seed++) {
        machine m = {.ns = {1000, 850}, .noise = 0.2, .state = seed};
        found += decide(&m, 2, 1e9).chosen == 1;
    }
    cr_expect_gt(found, 45);
}

/* Equal contenders: the incumbent, but for a run in many whose noise deceives. */
Test(tune_decide, ties) {
    int changed = 0;
    for (uint32_t seed = 0; seed < 50; seed++) {
        machine m = {.ns = {1000, 1000, 1000, 1000}, .noise = 0.3, .state = seed};
        changed += decide(&m, 4, 1e9).chosen != 0;
    }
    cr_expect_leq(changed, 2);
}

/* Of two that beat the incumbent alike the first is taken. */
Test(tune_decide, tied_challengers) {
    for (uint32_t seed = 0; seed < 20; seed++) {
        machine m = {.ns = {1000, 800, 800}, .noise = 0.002, .state = seed};
        cr_expect_eq(decide(&m, 3, 1e9).chosen, 1);
    }
}

/* What slows all of them, or some samples, decides nothing. */
Test(tune_decide, drift_and_outliers) {
    int found = 0;
    for (uint32_t seed = 0; seed < 20; seed++) {
        machine m = {.ns = {1000, 1000, 900}, .noise = 0.03, .outlier = 5, .drift = 0.05, .state = seed};
        const int32_t chosen = decide(&m, 3, 1e12).chosen;
        cr_expect_neq(chosen, 1, "seed %u", seed);
        found += chosen == 2;
    }
    cr_expect_geq(found, 18);
}

Test(tune_decide, one_contender) {
    machine m = {.ns = {1000}};
    const seqtopk_tune_verdict v = decide(&m, 1, 1e9);
    cr_expect_eq(v.chosen, 0);
    cr_expect_eq(v.runner_up, -1);
    cr_expect_eq(v.gap, 0);
    cr_expect_leq(rounds.rounds, 7);
}

/* Budgets are kept, but for the rounds that there must be. */
Test(tune_race, budget) {
    machine m = {.ns = {1000, 1000, 1000}, .noise = 0.5};
    decide(&m, 3, 30000);
    cr_expect_leq(m.taken[0], 10);
    cr_expect_geq(m.taken[0], 5);
    machine dear = {.ns = {1e9, 1e9}};
    decide(&dear, 2, 1);
    cr_expect_eq(dear.taken[0], 3);
    cr_expect_eq(dear.taken[1], 3);
}

/* A great gain by one op does not hide a small one by another. */
Test(tune_race, groups) {
    static const int32_t group[] = {0, 1, 1, 2, 2}, first[] = {0, 1, 2}, second[] = {0, 3, 4};
    machine m = {.ns = {1000, 600, 1100, 900, 1000}, .noise = 0.02};
    const seqtopk_tune_race race = {5, group, NULL, 3, 1e9, sample, &m};
    cr_expect(seqtopk_tune_race_run(&race, &rounds, stats));
    cr_expect_eq(seqtopk_tune_decide(stats, first, 3).chosen, 1);
    cr_expect_eq(seqtopk_tune_decide(stats, second, 3).chosen, 3);
}

/* Contenders that are out are not timed, and are never chosen. */
Test(tune_race, out) {
    static const bool out[] = {false, true, false};
    static const int32_t among[] = {0, 1, 2};
    machine m = {.ns = {1000, 1, 900}};
    const seqtopk_tune_race race = {3, NULL, out, 3, 1e9, sample, &m};
    cr_expect(seqtopk_tune_race_run(&race, &rounds, stats));
    cr_expect_eq(m.taken[1], 0);
    cr_expect_eq(stats[1].rounds, 0);
    cr_expect_eq(seqtopk_tune_decide(stats, among, 3).chosen, 2);
}

/* Stopped within a round: that round counts for nobody. */
Test(tune_race, stopped) {
    machine m = {.ns = {1000, 900, 800}, .noise = 0.3, .stop_at = 14};
    const seqtopk_tune_race race = {3, NULL, NULL, 3, 1e9, sample, &m};
    cr_expect_not(seqtopk_tune_race_run(&race, &rounds, stats));
    cr_expect_eq(rounds.rounds, 4);
    for (int32_t c = 0; c < 3; c++)
        cr_expect_eq(stats[c].rounds, 4);
}
