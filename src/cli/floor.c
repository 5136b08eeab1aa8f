/* SPDX-License-Identifier: MIT */
#include "floor.h"
#include "cli.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Passes by instruction set and dtype. */
enum { DTYPES = 3 };
static const struct {
    const char *isa;
    seqtopk_floor_fn *of[DTYPES];
} passes[] = {
#define SEQTOPK_ISA(isa, features)                                                                                     \
    {#isa, {seqtopk_floor_f32__##isa##_rows, seqtopk_floor_bf16__##isa##_rows, seqtopk_floor_f16__##isa##_rows}},
#include "arch/isa.def"
#undef SEQTOPK_ISA
};

static bool is_grouped(const seqtopk_desc *desc) { return desc->groups > 1; }

/* A sum of more than two is not made: the floor is a little low there. */
static bool adds_two(const seqtopk_desc *desc) {
    return is_grouped(desc) && desc->group_score != SEQTOPK_GROUP_MAX &&
           !(desc->group_score == SEQTOPK_GROUP_TOPN && desc->group_n == 1);
}

static void name_it(seqtopk_floor *floor, const seqtopk_desc *desc, const char *isa) {
    const bool softmax = desc->score == SEQTOPK_SCORE_SOFTMAX;
    const char *made = floor->lse                            ? "the row's log-sum-exp"
                       : !floor->rows.bias                   ? ""
                       : softmax                             ? "p + b"
                       : desc->score == SEQTOPK_SCORE_LOGITS ? "x + b"
                                                             : "s(x) + b";
    const char *kept = !floor->other       ? ""
                       : !is_grouped(desc) ? "the row's maximum"
                       : adds_two(desc)    ? "every group's two best added up"
                                           : "every group's best";
    snprintf(floor->name, sizeof floor->name, "%s%s%s, %s", made, *made && *kept ? " and " : "", kept, isa);
}

int seqtopk_floor_make(seqtopk_floor *floor, const seqtopk_desc *desc, int64_t tokens, const void *logits,
                       const float *bias, seqtopk_lse_fn *lse, const char *isa) {
    const unsigned long long t = (unsigned long long)tokens;
    const bool by_lse = desc->score == SEQTOPK_SCORE_SOFTMAX && !bias;
    const int32_t groups = is_grouped(desc) ? desc->groups : 1;
    *floor = (seqtopk_floor){.lse = by_lse ? lse : NULL, .tokens = tokens};
    floor->rows = (seqtopk_floor_rows){
        .logits = logits,
        .bias = bias,
        .experts = desc->experts,
        .groups = groups,
        .two = adds_two(desc),
        .score = (int32_t)desc->score,
        .ahead = SEQTOPK_AHEAD,
    };
    floor->lse_rows = (seqtopk_rows){
        .logits = logits,
        .stride = (desc->dtype == SEQTOPK_DTYPE_F32 ? 4 : 2) * (int64_t)desc->experts,
        .experts = desc->experts,
        .ahead = SEQTOPK_AHEAD,
        .score = (int32_t)desc->score,
        .key = SEQTOPK_KEY_LOGPROB,
    };
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++)
        if (!strcmp(passes[i].isa, isa) && (!by_lse || groups > 1))
            floor->other = passes[i].of[desc->dtype];
    name_it(floor, desc, isa);
    if (by_lse) {
        floor->lse_rows.shift = seqtopk_cli_alloc(t, sizeof(float));
        floor->lse_rows.lse = seqtopk_cli_alloc(t, sizeof(float));
        if (!floor->lse_rows.shift || !floor->lse_rows.lse)
            return 0;
    }
    if (floor->other) {
        floor->rows.best = seqtopk_cli_alloc(t * (unsigned long long)groups, sizeof(float));
        floor->rows.work = seqtopk_cli_alloc(SEQTOPK_FLOOR_WORK(desc->experts), sizeof(float));
        if (!floor->rows.best || !floor->rows.work)
            return 0;
    }
    return 1;
}

void seqtopk_floor_free(seqtopk_floor *floor) {
    free(floor->lse_rows.shift);
    free(floor->lse_rows.lse);
    free(floor->rows.best);
    free(floor->rows.work);
}

void seqtopk_floor_call(void *context) {
    enum { BLOCK = 16 }; /* rows that are still in the nearest cache when both are needed */
    const seqtopk_floor *floor = context;
    if (!floor->other) {
        floor->lse(&floor->lse_rows, 0, floor->tokens);
    } else if (!floor->lse) {
        floor->other(&floor->rows, 0, floor->tokens);
    } else {
        for (int64_t t = 0; t < floor->tokens; t += BLOCK) {
            const int64_t end = floor->tokens - t < BLOCK ? floor->tokens : t + BLOCK;
            floor->lse(&floor->lse_rows, t, end);
            floor->other(&floor->rows, t, end);
        }
    }
}
