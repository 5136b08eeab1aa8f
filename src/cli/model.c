/* SPDX-License-Identifier: MIT */
#include "model.h"
#include "cli.h"

#include "src/plan/presets.h"

#include <inttypes.h>
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

static size_t row_of(const seqtopk_options *options, const char *name) {
    size_t r = 0;
    while (!options->rows[r].name || strcmp(options->rows[r].name, name) != 0)
        r++;
    return r;
}

static size_t size_of(const seqtopk_option *row) {
    return row->kind == SEQTOPK_OPTION_TEXT ? sizeof(const char *) : sizeof(int32_t); /* float, int and enums as well */
}

/* Whoever names other groups says all about them. */
static void set_groups(const seqtopk_options *options, seqtopk_desc *desc, uint64_t *given) {
    static const char *const own[] = {"groups", "group-topk", "group-score"};
    if (seqtopk_options_given(options, *given, "groups")) {
        desc->groups = desc->group_top_k = desc->group_quota = 0;
        desc->group_score = SEQTOPK_GROUP_MAX;
    } else if (desc->groups > 1) {
        for (size_t i = 0; i < sizeof own / sizeof *own; i++)
            *given |= UINT64_C(1) << row_of(options, own[i]);
    }
    desc->group_n = 0; /* as K and the groups say */
}

/* What options set of `from` goes to `to`. */
static void keep_given(const seqtopk_options *options, uint64_t given, const seqtopk_desc *from, seqtopk_desc *to) {
    const size_t begin = options->rows[row_of(options, "scope")].offset - offsetof(seqtopk_desc, scope);
    for (size_t r = 0; r < options->count; r++) {
        const seqtopk_option *row = options->rows + r;
        if ((given >> r & 1) && row->offset >= begin && row->offset - begin < sizeof *to)
            memcpy((char *)to + (row->offset - begin), (const char *)from + (row->offset - begin), size_of(row));
    }
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
        if (*top_k < 1)
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                    "%s: --top-k is missing; give it or --model, or see seqtopk %s --help",
                                    options->command, options->command);
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
    const uint64_t options_given = *given;
    set_groups(options, &desc, given);
    keep_given(options, options_given, &cli->fields, &desc);
    cli->fields = desc;
    return SEQTOPK_OPTIONS_RUN;
}

int seqtopk_cli_model_shape(const seqtopk_options *options, uint64_t *given, seqtopk_cli_desc *cli, const char *shape,
                            int count, int64_t sizes[3], seqtopk_cli_model *model) {
    static const int64_t most[] = {INT32_MAX, 65536, 65536};
    const int64_t least[] = {count == 3 ? 0 : 1, 1, 1};
    const char *command = options->command;
    int64_t top_k = sizes[2];
    const bool whole = seqtopk_parse_shape(shape, count, least, most, sizes), tells_k = whole && count == 3;
    top_k = tells_k ? sizes[2] : top_k;
    if (!whole && !cli->model)
        return seqtopk_cli_fail(
            SEQTOPK_EXIT_USAGE, "%s: --shape needs %s, and '%s' is not; the tokens alone are enough with --model",
            command,
            count == 3 ? "TxExK, tokens x experts x top-k as in 8192x256x8" : "TxE, tokens x experts as in 8192x256",
            shape);
    const int status = seqtopk_cli_model_take(options, given, cli, &top_k, model);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    if (!whole && !seqtopk_parse_shape(shape, 1, least, most, sizes))
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --shape needs T, the tokens as in 8192, with --model, and '%s' is not", command,
                                shape);
    if (whole && model->name && sizes[1] != model->experts)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --shape %s has %" PRId64 " experts, and --model %s has %" PRId32
                                "; give the tokens alone, --shape %" PRId64 ", or leave --model out",
                                command, shape, sizes[1], model->name, model->experts, sizes[0]);
    if (!whole)
        sizes[1] = model->experts;
    if (!tells_k)
        sizes[2] = top_k;
    return SEQTOPK_OPTIONS_RUN;
}

int seqtopk_cli_model_load(const seqtopk_options *options, uint64_t *given, seqtopk_cli_desc *cli,
                           seqtopk_cli_sources *sources, int64_t top_k, seqtopk_cli_inputs *inputs, seqtopk_desc *desc,
                           seqtopk_cli_model *model) {
    int status = seqtopk_cli_model_take(options, given, cli, &top_k, model);
    sources->shared = cli->fields.shared_weight != 0 ? 0 : cli->fields.shared_experts;
    sources->beside = cli->fields.shared_experts - sources->shared;
    if (status == SEQTOPK_OPTIONS_RUN)
        status = seqtopk_cli_inputs_load(sources, cli->dtype, inputs);
    if (status == SEQTOPK_OPTIONS_RUN && model->name && inputs->experts != model->experts)
        status = seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                  "%s: --model %s has %" PRId32 " experts, and %s has %" PRId64
                                  "; name the model of the file, or give --top-k and what else it needs instead",
                                  options->command, model->name, model->experts, sources->logits, inputs->experts);
    if (status == SEQTOPK_OPTIONS_RUN)
        status = seqtopk_cli_desc_fill(options, *given, cli, inputs->experts, sources->logits, top_k, desc);
    desc->dtype = inputs->dtype;
    return status;
}
