/* SPDX-License-Identifier: MIT */
#include "model.h"
#include "cli.h"

#include "src/plan/presets.h"

#include <stdio.h>
#include <string.h>

int32_t seqtopk_cli_model_find(const char *where, const char *name) {
    char nearest[SEQTOPK_PRESETS_NEAREST];
    const int32_t index = seqtopk_preset_find(name);
    if (index < 0)
        seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: there is no model '%.60s'; the nearest:%s; see seqtopk models", where,
                         name, seqtopk_presets_nearest(name, nearest));
    return index;
}

static uint64_t bit_of(const seqtopk_options *options, const char *name) {
    uint64_t bit = 0;
    for (size_t r = 0; r < options->count; r++)
        if (options->rows[r].name && !strcmp(options->rows[r].name, name))
            bit = UINT64_C(1) << r;
    return bit;
}

/* Whoever names other groups says all about them. */
static void set_groups(const seqtopk_options *options, const seqtopk_desc *desc, seqtopk_cli_desc *cli,
                       uint64_t *given) {
    if (desc->groups < 2 || seqtopk_options_given(options, *given, "groups"))
        return;
    cli->groups = desc->groups;
    if (!seqtopk_options_given(options, *given, "group-quota"))
        cli->group_quota = desc->group_quota;
    if (!seqtopk_options_given(options, *given, "group-topk"))
        cli->group_top_k = desc->group_top_k;
    if (!seqtopk_options_given(options, *given, "group-score"))
        cli->group_score = (int)desc->group_score;
    *given |= bit_of(options, "groups") | bit_of(options, "group-topk") | bit_of(options, "group-score");
}

int seqtopk_cli_model_take(const seqtopk_options *options, uint64_t *given, seqtopk_cli_desc *cli, int64_t *top_k,
                           seqtopk_cli_model *model) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_preset preset = SEQTOPK_PRESET_INIT;
    *model = (seqtopk_cli_model){NULL, 0, false};
    if (!cli->model) {
        if (seqtopk_options_given(options, *given, "parity"))
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                    "%s: --parity needs --model, whose weights it is about; without one give --eps and "
                                    "--floor",
                                    options->command);
        return SEQTOPK_OPTIONS_RUN;
    }
    char where[48];
    snprintf(where, sizeof where, "%s: --model", options->command);
    const int32_t index = seqtopk_cli_model_find(where, cli->model);
    if (index < 0)
        return SEQTOPK_EXIT_USAGE;
    if (seqtopk_desc_preset(cli->model, (seqtopk_parity)cli->parity, &desc, NULL) || seqtopk_preset_get(index, &preset))
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: --model %s cannot be read", options->command, cli->model);
    *model = (seqtopk_cli_model){preset.name, desc.experts, preset.is_biased != 0};
    if (!seqtopk_options_given(options, *given, "top-k"))
        *top_k = desc.top_k;
    if (!seqtopk_options_given(options, *given, "score"))
        cli->score = (int)desc.score;
    if (!seqtopk_options_given(options, *given, "norm"))
        cli->norm = (int)desc.norm;
    if (!seqtopk_options_given(options, *given, "eps"))
        cli->eps = desc.norm_eps;
    if (!seqtopk_options_given(options, *given, "floor"))
        cli->floor = desc.norm_floor;
    if (!seqtopk_options_given(options, *given, "scale"))
        cli->scale = desc.scale;
    if (!seqtopk_options_given(options, *given, "key"))
        cli->key_from = (int)desc.key_from;
    if (!seqtopk_options_given(options, *given, "logit-scale"))
        cli->logit_scale = desc.logit_scale;
    if (!seqtopk_options_given(options, *given, "softcap"))
        cli->softcap = desc.logit_softcap;
    if (!seqtopk_options_given(options, *given, "null-experts"))
        cli->null_experts = desc.null_experts;
    if (!seqtopk_options_given(options, *given, "shared-experts"))
        cli->shared_experts = desc.shared_experts;
    if (!seqtopk_options_given(options, *given, "shared-weight"))
        cli->shared_weight = desc.shared_weight;
    if (!seqtopk_options_given(options, *given, "jitter"))
        cli->jitter = desc.norm_jitter;
    cli->skip_top1 |= desc.norm_skip_top1;
    set_groups(options, &desc, cli, given);
    return SEQTOPK_OPTIONS_RUN;
}
