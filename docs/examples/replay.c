/* SPDX-License-Identifier: MIT */
/* Routing replay: what a rollout selected is kept in a byte for each expert, and a later pass over other logits is held to it. */
#include <seqtopk/seqtopk.h>

#include <stdio.h>
#include <stdlib.h>

enum { TOKENS = 4, EXPERTS = 16, TOP_K = 3, MOST = TOP_K + 2, PAIRS = TOKENS * TOP_K };

static void *must(void *memory) {
    if (!memory)
        exit(1);
    return memory;
}

static void must_route(const seqtopk_plan *plan, const seqtopk_input *in, const seqtopk_output *out) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    const size_t size = seqtopk_scratch_size(plan, TOKENS, 1, 1);
    void *scratch = must(malloc(size));
    if (seqtopk_route(plan, in, out, scratch, size, &error)) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    free(scratch);
}

int main(void) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT; /* SeqTopK, as the paper bounds it */
    desc.experts = EXPERTS;
    desc.top_k = TOP_K;
    desc.min_experts = 1;
    desc.max_experts = MOST;
    desc.norm = SEQTOPK_NORM_SUM;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan;
    if (seqtopk_plan_create(&plan, &desc, &error))
        return fprintf(stderr, "%s\n", error.message), 1;

    float logits[TOKENS * EXPERTS];
    for (int i = 0; i < TOKENS * EXPERTS; i++)
        logits[i] = (float)(i * 37 % 101) / 25.0f;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    in.logits = logits;
    in.tokens = TOKENS;

    /* The rollout: experts and where each token's begin are kept, the weights are not. */
    int32_t offsets[TOKENS + 1], ids[PAIRS];
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    out.token_offsets = offsets;
    out.expert_ids = ids;
    out.capacity = PAIRS;
    must_route(plan, &in, &out);

    /* The training step: the logits have moved a little, the experts stay. */
    for (int i = 0; i < TOKENS * EXPERTS; i++)
        logits[i] += (float)(i * 53 % 17) / 10.0f;
    int32_t now_offsets[TOKENS + 1], now_ids[PAIRS];
    float weights[PAIRS];
    in.given_ids = ids;
    in.given_offsets = offsets;
    out.token_offsets = now_offsets;
    out.expert_ids = now_ids;
    out.weights = weights;
    must_route(plan, &in, &out);
    for (int32_t t = 0; t < TOKENS; t++) {
        printf("token %d:", t);
        for (int32_t i = now_offsets[t]; i < now_offsets[t + 1]; i++)
            printf(" %d (%.3f)%s", now_ids[i], (double)weights[i], now_ids[i] == ids[i] ? "" : " CHANGED");
        printf("\n");
    }
    seqtopk_plan_destroy(plan);
    return 0;
}
