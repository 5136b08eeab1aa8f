/* SPDX-License-Identifier: MIT */
/* The model, which chooses where no tuning file does: for which shapes each kernel is preferred to those after it. */
#include "src/plan/plan.h"

#include <string.h>

int seqtopk_model_suits(const seqtopk_row *row, const seqtopk_desc *desc) {
    const int32_t columns = desc->experts < 64 ? desc->experts : 64;
    const double candidates = 1.25 * columns * desc->top_k / desc->experts; /* in a word of columns, about */
    if (row->op == SEQTOPK_OP_topk_logits && strcmp(row->algorithm, "columns") == 0)
        return desc->experts <= 16 && desc->top_k <= 4;
    if (strcmp(row->algorithm, "slots6") == 0)
        return candidates <= 3.5;
    if (strcmp(row->algorithm, "slots10") == 0)
        return candidates <= 7;
    return 1;
}
