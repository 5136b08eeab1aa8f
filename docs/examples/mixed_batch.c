/* SPDX-License-Identifier: MIT */
/*
 * A server's batch: tokens of two requests in any order, SeqTopK for each request, and the blocks that a grouped product over
 * padded rows reads (moe_align_block_size), in rows no wider than the longest request can need.
 */
#include <seqtopk/seqtopk.h>

#include <stdio.h>
#include <stdlib.h>

enum { TOKENS = 5, EXPERTS = 8, TOP_K = 1, BLOCK = 2, REQUESTS = 2, LONGEST = 3 };

int main(void) {
    static const int32_t request[TOKENS] = {0, 1, 0, 1, 0};
    static const float logits[TOKENS * EXPERTS] = {
        4, 3, 0, 0, 0, 0, 0, 0, /* clear for none: it gets two */
        0, 0, 0, 9, 0, 0, 0, 0, /* clear for expert 3 */
        1, 1, 1, 1, 1, 1, 1, 1, /* clear for nothing, and nothing is left */
        0, 0, 0, 0, 8, 0, 0, 0, /* clear for expert 4 */
        0, 0, 0, 9, 0, 0, 0, 0,
    };

    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.experts = EXPERTS;
    desc.top_k = TOP_K;
    desc.norm = SEQTOPK_NORM_SUM;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan;
    if (seqtopk_plan_create(&plan, &desc, &error))
        return fprintf(stderr, "%s\n", error.message), 1;

    seqtopk_input in = SEQTOPK_INPUT_INIT;
    in.logits = logits;
    in.tokens = TOKENS;
    in.token_seq = request;
    in.sequences = REQUESTS;

    /* The width that a batch of mixed sequences is checked against is that of one as long as the batch. */
    const int32_t width = seqtopk_max_width(plan, TOKENS), enough = seqtopk_max_width(plan, LONGEST);
    int32_t total, *ids = malloc((size_t)(TOKENS * width) * sizeof *ids);
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    out.padded_ids = ids;
    out.padded_width = width;
    out.block_size = BLOCK;
    out.block_capacity = seqtopk_max_block_slots(plan, TOKENS, BLOCK);
    int32_t *slots = malloc((size_t)out.block_capacity * sizeof *slots);
    int32_t *experts = malloc((size_t)out.block_capacity / BLOCK * sizeof *experts);
    out.block_slots = slots;
    out.block_experts = experts;
    out.block_total = &total;

    const size_t size = seqtopk_scratch_size(plan, TOKENS, REQUESTS, 1);
    void *scratch = malloc(size);
    if (!ids || !slots || !experts || !scratch)
        return 1;
    if (seqtopk_route(plan, &in, &out, scratch, size, &error))
        return fprintf(stderr, "%s\n", error.message), 1;
    printf("%d columns, of which a request of %d tokens fills %d at most\n", width, LONGEST, enough);
    for (int32_t t = 0; t < TOKENS; t++) {
        printf("token %d of request %d:", t, request[t]);
        for (int32_t i = 0; i < enough; i++)
            printf(" %d", ids[t * width + i]);
        printf("\n");
    }
    for (int32_t block = 0; block < total / BLOCK; block++) {
        printf("block %d: expert %d, tokens", block, experts[block]);
        for (int32_t i = block * BLOCK; i < (block + 1) * BLOCK; i++)
            if (slots[i] < TOKENS * width)
                printf(" %d", slots[i] / width);
        printf("\n");
    }
    free(ids);
    free(slots);
    free(experts);
    free(scratch);
    seqtopk_plan_destroy(plan);
    return 0;
}
