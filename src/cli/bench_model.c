/* SPDX-License-Identifier: MIT */
/* What `seqtopk bench` is to measure: --shape and --model. */
#include "bench.h"
#include "cli.h"
#include "model.h"

#include <inttypes.h>

int seqtopk_bench_shape(const seqtopk_options *options, seqtopk_bench_values *values, uint64_t *given,
                        int64_t shape[2]) {
    static const int64_t least[] = {1, 1}, most[] = {INT32_MAX, 65536};
    const bool both = seqtopk_parse_shape(values->shape, 2, least, most, shape);
    seqtopk_cli_model model;
    const int status = seqtopk_cli_model_take(options, given, &values->desc, &values->top_k, &model);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    values->model = model.name;
    values->biased |= model.is_biased;
    if (!model.name) {
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
    if (!both && !seqtopk_parse_shape(values->shape, 1, least, most, shape))
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "bench: --shape needs T, the tokens as in 8192, with --model, and '%s' is not",
                                values->shape);
    if (both && shape[1] != model.experts)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "bench: --shape %s has %" PRId64 " experts, and --model %s has %" PRId32
                                "; give the tokens alone, --shape %" PRId64 ", or leave --model out",
                                values->shape, shape[1], model.name, model.experts, shape[0]);
    shape[1] = model.experts;
    return SEQTOPK_OPTIONS_RUN;
}
