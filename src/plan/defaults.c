/* SPDX-License-Identifier: MIT */
/* The model, which chooses where no tuning file does: up to how many tokens each kernel is preferred, by shape. */
#include "src/plan/plan.h"

#include <string.h>

int64_t seqtopk_model_limit(const seqtopk_row *row, const seqtopk_desc *desc) {
    const double candidates = 1.25 * 64 * desc->top_k / desc->experts; /* candidates in 64 columns, about */
    if (row->op == SEQTOPK_OP_topk_logits && strcmp(row->algorithm, "columns") == 0)
        return desc->experts <= 16 && desc->top_k <= 4 ? INT64_MAX : -1;
    if (strcmp(row->algorithm, "slots6") == 0)
        return candidates <= 3.5 ? INT64_MAX : -1;
    if (strcmp(row->algorithm, "slots10") == 0)
        return candidates <= 7 ? INT64_MAX : -1;
    return INT64_MAX;
}
