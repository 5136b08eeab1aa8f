/* SPDX-License-Identifier: MIT */
/* A token's keys against the past of its sequence, one by one: what op contest_ranked does, for keys that are in order. */
#ifndef SEQTOPK_ARCH_CONTEST_H
#define SEQTOPK_ARCH_CONTEST_H

#include "arch/kernel.h"
#include "arch/words.h"

/* The keys that compete [n], best first. */
static inline void seqtopk_hold_contest(seqtopk_contest *c, const float *keys, int32_t n) {
    int32_t winners = c->uncontested - c->sure, above = 0, reach = 0;
    for (int32_t j = 0; j < n; j++) { /* how many it will be cannot be foreseen: no branch */
        const uint64_t word = seqtopk_word_of(keys[j], c->token);
        above += word >= c->high;
        reach += word >= c->low;
    }
    for (int32_t j = winners; j < c->most - c->sure; j++)
        winners += seqtopk_word_of(keys[j], c->token) >= c->cut[j];
    c->winners = winners;
    c->above = above;
    c->reach = reach;
}

#endif
