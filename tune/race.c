/* SPDX-License-Identifier: MIT */
#include "tune/race.h"

#include <string.h>

/* A fixed sequence: the order within a round changes from round to round, so that no contender always follows the same.
 */
static uint32_t next_random(uint32_t *state) { return *state = *state * 1664525u + 1013904223u, *state >> 8; }

static void shuffle(int32_t *order, int32_t count, uint32_t *state) {
    for (int32_t i = count - 1; i > 0; i--) {
        const int32_t j = (int32_t)(next_random(state) % (uint32_t)(i + 1));
        const int32_t swapped = order[i];
        order[i] = order[j];
        order[j] = swapped;
    }
}

/* What the rounds tell so far. */
typedef struct state {
    int32_t group[SEQTOPK_TUNE_CANDIDATES];
    bool out[SEQTOPK_TUNE_CANDIDATES];
    bool settled; /* more rounds would change nothing that matters */
    bool unsure;  /* one looks better, but by less than the noise */
} state;

static bool is_alone(const state *st, int32_t contenders, int32_t c) {
    for (int32_t i = 1; i < contenders; i++)
        if (i != c && !st->out[i] && st->group[i] == st->group[c])
            return false;
    return true;
}

/* Leaves out who cannot win any more; whether those that remain are known well enough. */
static void settle(state *st, int32_t contenders, const seqtopk_tune_rounds *rounds, seqtopk_tune_stat *stats) {
    for (int32_t c = 0; c < contenders; c++)
        if (!st->out[c])
            stats[c] = seqtopk_tune_stat_of(rounds, c);
    for (int32_t c = 1; c < contenders; c++)
        st->out[c] = st->out[c] || seqtopk_tune_hopeless(stats, st->group, contenders, c);
    st->settled = rounds->rounds >= 5;
    st->unsure = false;
    for (int32_t c = 1; c < contenders; c++) {
        if (st->out[c])
            continue;
        const bool beats = seqtopk_tune_beats(stats + c);
        st->settled &= seqtopk_tune_settled(stats + c) || (beats && rounds->rounds >= 9 && is_alone(st, contenders, c));
        st->unsure |= !beats && stats[c].ratio < 1 - SEQTOPK_TUNE_CLEAR;
    }
}

bool seqtopk_tune_race_run(const seqtopk_tune_race *race, seqtopk_tune_rounds *rounds, seqtopk_tune_stat *stats) {
    int32_t order[SEQTOPK_TUNE_CANDIDATES];
    state st = {.settled = false};
    uint32_t random = 1;
    double spent = 0, longest = 0;
    memset(rounds, 0, sizeof *rounds);
    memset(stats, 0, (size_t)race->contenders * sizeof *stats);
    rounds->contenders = race->contenders;
    for (int32_t c = 1; c < race->contenders; c++) {
        st.group[c] = race->group ? race->group[c] : 0;
        st.out[c] = race->out && race->out[c];
    }
    for (int32_t r = 0; r < SEQTOPK_TUNE_ROUNDS; r++) {
        /* A round that would go over the budget is not begun. */
        if (r >= race->least && spent + longest > race->budget * (st.unsure ? 4 : 1))
            break;
        int32_t count = 0;
        for (int32_t c = 0; c < race->contenders; c++)
            if (!st.out[c])
                order[count++] = c;
        shuffle(order, count, &random);
        double round = 0;
        for (int32_t i = 0; i < count; i++) {
            const double took = race->sample(race->context, order[i], r, &rounds->ns[order[i]][r]);
            if (took < 0) {
                /* Half a round would compare with an incumbent that may be missing. */
                for (int32_t c = 0; c < race->contenders; c++)
                    rounds->ns[c][r] = 0;
                settle(&st, race->contenders, rounds, stats);
                return false;
            }
            round += took;
        }
        rounds->rounds = r + 1;
        spent += round;
        longest = round;
        settle(&st, race->contenders, rounds, stats);
        if (st.settled && rounds->rounds >= race->least)
            break;
    }
    return true;
}
