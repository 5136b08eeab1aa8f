/* SPDX-License-Identifier: MIT */
/* The list of presets as the library has it: src/plan/presets.def. */
#ifndef SEQTOPK_SRC_PLAN_PRESETS_H
#define SEQTOPK_SRC_PLAN_PRESETS_H

#include <seqtopk/seqtopk.h>

/* What few routers say: the fields of a desc, by their names. */
typedef struct seqtopk_preset_more {
    float logit_scale, logit_softcap;
    seqtopk_key_from key_from;
    int32_t group_quota, null_experts, shared_experts;
    float norm_jitter;
} seqtopk_preset_more;

/* presets.def says what the columns mean. */
typedef struct seqtopk_preset_row {
    const char *name, *also;
    int32_t experts, top_k;
    seqtopk_score score;
    int32_t is_biased;
    int32_t groups, group_top_k, group_n;
    seqtopk_norm norm;
    float eps, floor, scale;
    int32_t skip_top1, is_tuned;
    const char *source, *numbers, *second_source, *note;
    seqtopk_preset_more more;
} seqtopk_preset_row;

extern const seqtopk_preset_row seqtopk_presets[];
extern const int32_t seqtopk_presets_size;

/* The row of that name, or of that other name, in upper or lower case; -1: there is none. */
int32_t seqtopk_preset_find(const char *name);

/* How many letters are put in, left out or changed to make `name` of `word`, whose capitals count as small ones: of the first
 * 64 of each. */
int seqtopk_edits(const char *word, const char *name);

/* A few names, " a, b, c", those first that are most like `name`. Returns `text`. */
enum { SEQTOPK_PRESETS_NEAREST = 64 };
const char *seqtopk_presets_nearest(const char *name, char text[SEQTOPK_PRESETS_NEAREST]);

#endif
