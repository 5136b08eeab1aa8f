/* SPDX-License-Identifier: MIT */
#include "tune/race.h"

#include <string.h>

/* A fixed sequence: the order within a round changes from round to round, so that no candidate always follows the same. */
static uint32_t next_random(uint32_t *state) { return *state = *state * 1664525u + 1013904223u, *state >> 8; }

static void shuffle(int32_t *order, int32_t count, uint32_t *state) {
    for (int32_t i = count - 1; i > 0; i--) {
        const int32_t j = (int32_t)(next_random(state) % (uint32_t)(i + 1));
        const int32_t swapped = order[i];
        order[i] = order[j];
        order[j] = swapped;
    }
}

/* Leaves out who cannot win any more; whether those that remain are known well enough. */
static bool settle(const seqtopk_tune_race *race, const seqtopk_tune_rounds *rounds, seqtopk_tune_stat *stats,
                   bool *out) {
    bool settled = true;
    for (int32_t c = 0; c < race->candidates; c++)
        if (!out[c] || c == 0)
            stats[c] = seqtopk_tune_stat_of(rounds, c);
    int32_t left = 0;
    for (int32_t c = 0; c < race->candidates; c++) {
        if (c && !out[c] && seqtopk_tune_hopeless(stats, race->candidates, c))
            out[c] = true;
        if (!out[c] && !(c == 0 && seqtopk_tune_hopeless(stats, race->candidates, 0))) {
            left++;
            settled &= c == 0 || seqtopk_tune_settled(stats + c);
        }
    }
    /* One alone has no rival whom noise could help; a few rounds tell how long it takes. */
    return left <= 1 ? rounds->rounds >= 5 : settled && rounds->rounds >= 7;
}

bool seqtopk_tune_race_run(const seqtopk_tune_race *race, seqtopk_tune_rounds *rounds, seqtopk_tune_stat *stats) {
    int32_t order[SEQTOPK_TUNE_CANDIDATES];
    bool out[SEQTOPK_TUNE_CANDIDATES] = {false};
    uint32_t state = 1;
    double spent = 0, longest = 0;
    memset(rounds, 0, sizeof *rounds);
    memset(stats, 0, (size_t)race->candidates * sizeof *stats);
    rounds->candidates = race->candidates;
    for (int32_t c = 0; c < race->candidates; c++)
        out[c] = c && race->out && race->out[c];
    for (int32_t r = 0; r < SEQTOPK_TUNE_ROUNDS; r++) {
        /* A round that would go over the budget is not begun. */
        if (r >= race->least && spent + longest > race->budget)
            break;
        int32_t count = 0;
        for (int32_t c = 0; c < race->candidates; c++)
            if (!out[c])
                order[count++] = c;
        shuffle(order, count, &state);
        double round = 0;
        for (int32_t i = 0; i < count; i++) {
            const double took = race->sample(race->context, order[i], r, &rounds->ns[order[i]][r]);
            if (took < 0) {
                /* Half a round would compare with an incumbent that may be missing. */
                for (int32_t c = 0; c < race->candidates; c++)
                    rounds->ns[c][r] = 0;
                settle(race, rounds, stats, out);
                return false;
            }
            round += took;
        }
        rounds->rounds = r + 1;
        spent += round;
        longest = round;
        if (settle(race, rounds, stats, out) && rounds->rounds >= race->least)
            break;
    }
    return true;
}
