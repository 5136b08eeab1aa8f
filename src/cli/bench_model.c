/* SPDX-License-Identifier: MIT */
/* What `seqtopk bench --model` sets: all of a router that no option said otherwise. */
#include "bench.h"
#include "cli.h"
#include "model.h"

#include <inttypes.h>
#include <string.h>

static uint64_t bit_of(const seqtopk_options *options, const char *name) {
    uint64_t bit = 0;
    for (size_t r = 0; r < options->count; r++)
        if (options->rows[r].name && !strcmp(options->rows[r].name, name))
            bit = UINT64_C(1) << r;
    return bit;
}

/* Whoever names other groups says all about them. */
static void set_groups(const seqtopk_options *options, const seqtopk_cli_model *model, seqtopk_bench_values *values,
                       uint64_t *given) {
    seqtopk_cli_desc *d = &values->desc;
    if (model->groups < 2 || seqtopk_options_given(options, *given, "groups"))
        return;
    d->groups = model->groups;
    if (!seqtopk_options_given(options, *given, "group-topk"))
        d->group_top_k = model->group_top_k;
    if (!seqtopk_options_given(options, *given, "group-score"))
        d->group_score = model->group_n == 2 ? SEQTOPK_GROUP_TOP2 : SEQTOPK_GROUP_MAX;
    *given |= bit_of(options, "groups") | bit_of(options, "group-topk") | bit_of(options, "group-score");
}

int seqtopk_bench_shape(const seqtopk_options *options, seqtopk_bench_values *values, uint64_t *given,
                        int64_t shape[2]) {
    static const int64_t least[] = {1, 1}, most[] = {INT32_MAX, 65536};
    const bool both = seqtopk_parse_shape(values->shape, 2, least, most, shape);
    if (!values->model) {
        if (!both)
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                    "bench: --shape needs TxE, tokens x experts as in 8192x256, and '%s' is not; the "
                                    "tokens alone are enough with --model",
                                    values->shape);
        if (!seqtopk_options_given(options, *given, "top-k"))
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                    "bench: --top-k is missing; give it or --model, or see seqtopk bench --help");
        return SEQTOPK_OPTIONS_RUN;
    }
    const seqtopk_cli_model *model = seqtopk_cli_model_find("bench", values->model);
    if (!model)
        return SEQTOPK_EXIT_USAGE;
    if (!both && !seqtopk_parse_shape(values->shape, 1, least, most, shape))
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "bench: --shape needs T, the tokens as in 8192, with --model, and '%s' is not",
                                values->shape);
    if (both && shape[1] != model->experts)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "bench: --shape %s has %" PRId64 " experts, and --model %s has %" PRId32
                                "; give the tokens alone, --shape %" PRId64 ", or leave --model out",
                                values->shape, shape[1], model->name, model->experts, shape[0]);
    shape[1] = model->experts;
    values->model = model->name;
    values->biased |= model->biased;
    seqtopk_cli_desc *d = &values->desc;
    if (!seqtopk_options_given(options, *given, "top-k"))
        values->top_k = model->top_k;
    if (!seqtopk_options_given(options, *given, "score"))
        d->score = (int)model->score;
    if (!seqtopk_options_given(options, *given, "norm"))
        d->norm = (int)model->norm;
    if (!seqtopk_options_given(options, *given, "eps"))
        d->eps = model->eps;
    if (!seqtopk_options_given(options, *given, "floor"))
        d->floor = model->floor;
    if (!seqtopk_options_given(options, *given, "scale"))
        d->scale = model->scale;
    set_groups(options, model, values, given);
    return SEQTOPK_OPTIONS_RUN;
}
