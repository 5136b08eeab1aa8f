/* SPDX-License-Identifier: MIT */
#include "model.h"
#include "cli.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const seqtopk_cli_model models[] = {
#define SEQTOPK_MODEL(name, also, experts, top_k, score, biased, groups, kept, group_n, norm, eps, floor, scale,       \
                      source)                                                                                          \
    {name, also,  experts, top_k, SEQTOPK_SCORE_##score, biased, groups, kept, group_n, SEQTOPK_NORM_##norm,           \
     eps,  floor, scale,   source},
#include "src/plan/models.def"
#undef SEQTOPK_MODEL
};
enum { MODELS = sizeof models / sizeof *models };

static bool same(const char *a, const char *b) {
    for (; *a && tolower((unsigned char)*a) == tolower((unsigned char)*b); a++, b++)
        ;
    return !*a && !*b;
}

const seqtopk_cli_model *seqtopk_cli_model_find(const char *command, const char *name) {
    char known[64 * MODELS];
    size_t length = 0;
    for (size_t m = 0; m < MODELS; m++) {
        if (same(name, models[m].name) || same(name, models[m].also))
            return &models[m];
        length += (size_t)snprintf(known + length, sizeof known - length, " %s", models[m].name);
    }
    seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --model: there is no model '%.60s'; known:%s", command, name, known);
    return NULL;
}
