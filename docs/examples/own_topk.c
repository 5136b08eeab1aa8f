/* SPDX-License-Identifier: MIT */
/* An engine that has a top-k of its own takes the grouping alone: which tokens each expert has, in blocks of four. */
#include <seqtopk/seqtopk.h>

#include <stdio.h>
#include <stdlib.h>

enum { TOKENS = 6, EXPERTS = 8, TOP_K = 2, BLOCK = 4 };

int main(void) {
    /* What the engine selected: TOP_K ids of each token, in its own order. */
    static const int32_t topk_ids[TOKENS * TOP_K] = {3, 0, 3, 7, 0, 3, 5, 3, 3, 0, 7, 3};

    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.experts = EXPERTS;
    desc.top_k = TOP_K;
    desc.scope = SEQTOPK_SCOPE_TOKEN;
    desc.order = SEQTOPK_ORDER_GIVEN; /* pairs are counted as they stand in topk_ids */
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan;
    if (seqtopk_plan_create(&plan, &desc, &error))
        return fprintf(stderr, "%s\n", error.message), 1;

    seqtopk_input in = SEQTOPK_INPUT_INIT; /* no logits: no weights are asked for */
    in.tokens = TOKENS;
    in.given_ids = topk_ids;
    in.given_width = TOP_K;

    /* moe_align_block_size: sorted_token_ids, expert_ids, num_tokens_post_pad. */
    int32_t total;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    out.block_size = BLOCK;
    out.block_capacity = seqtopk_max_block_slots(plan, TOKENS, BLOCK);
    int32_t *slots = malloc((size_t)out.block_capacity * sizeof *slots);
    int32_t *experts = malloc((size_t)out.block_capacity / BLOCK * sizeof *experts);
    out.block_slots = slots;
    out.block_experts = experts;
    out.block_total = &total;

    const size_t size = seqtopk_scratch_size(plan, TOKENS, 1, 1);
    void *scratch = malloc(size);
    if (!slots || !experts || !scratch)
        return 1;
    if (seqtopk_route(plan, &in, &out, scratch, size, &error))
        return fprintf(stderr, "%s\n", error.message), 1;
    for (int32_t block = 0; block < total / BLOCK; block++) {
        printf("block %d: expert %d, pairs", block, experts[block]);
        for (int32_t i = block * BLOCK; i < (block + 1) * BLOCK; i++)
            if (slots[i] < TOKENS * TOP_K)
                printf(" %d", slots[i]);
        printf("\n");
    }
    free(slots);
    free(experts);
    free(scratch);
    seqtopk_plan_destroy(plan);
    return 0;
}
