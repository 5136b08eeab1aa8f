/* SPDX-License-Identifier: MIT */
/* DeepSeek-V4's first layers: a frozen table tells each token's experts by its id, and the router only weighs them. */
#include <seqtopk/seqtopk.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 10, TOKENS = 3 };

int main(void) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    desc.scope = SEQTOPK_SCOPE_TOKEN;
    if (seqtopk_desc_preset("deepseek-v4", SEQTOPK_PARITY_HUGGING_FACE, &desc, &error))
        return fprintf(stderr, "%s\n", error.message), 1;
    desc.order = SEQTOPK_ORDER_GIVEN; /* the table's own order */
    seqtopk_plan *plan;
    if (seqtopk_plan_create(&plan, &desc, &error))
        return fprintf(stderr, "%s\n", error.message), 1;
    const int32_t top_k = desc.top_k, experts = desc.experts;

    /* tid2eid [vocabulary, K], and the batch's rows of it. */
    int32_t *table = malloc(sizeof *table * VOCABULARY * (size_t)top_k);
    int32_t *given = malloc(sizeof *given * TOKENS * (size_t)top_k);
    float *logits = malloc(sizeof *logits * TOKENS * (size_t)experts);
    int32_t *ids = malloc(sizeof *ids * TOKENS * (size_t)top_k);
    float *weights = malloc(sizeof *weights * TOKENS * (size_t)top_k);
    const size_t size = seqtopk_scratch_size(plan, TOKENS, 1, 1);
    void *scratch = malloc(size);
    if (!table || !given || !logits || !ids || !weights || !scratch)
        return 1;
    for (int32_t i = 0; i < VOCABULARY * top_k; i++)
        table[i] = (i * 89 + 7) % experts;
    for (int32_t i = 0; i < TOKENS * experts; i++)
        logits[i] = (float)(i * 31 % 61) / 10.0f - 3.0f;
    static const int32_t token_ids[TOKENS] = {4, 1, 4};
    for (int32_t t = 0; t < TOKENS; t++)
        memcpy(given + t * top_k, table + token_ids[t] * top_k, (size_t)top_k * sizeof *given);

    seqtopk_input in = SEQTOPK_INPUT_INIT;
    in.logits = logits;
    in.tokens = TOKENS;
    in.given_ids = given;
    in.given_width = top_k;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    out.expert_ids = ids;
    out.weights = weights;
    out.capacity = seqtopk_max_selected(plan, TOKENS);
    if (seqtopk_route(plan, &in, &out, scratch, size, &error))
        return fprintf(stderr, "%s\n", error.message), 1;
    for (int32_t t = 0; t < TOKENS; t++) {
        printf("token id %d:", token_ids[t]);
        for (int32_t i = t * top_k; i < (t + 1) * top_k; i++)
            printf(" %d (%.3f)", ids[i], (double)weights[i]);
        printf("\n");
    }
    free(table);
    free(given);
    free(logits);
    free(ids);
    free(weights);
    free(scratch);
    seqtopk_plan_destroy(plan);
    return 0;
}
