/* SPDX-License-Identifier: MIT */
/* A program outside the tree: it sees the installed headers and library, and nothing else. C11 and C++17. */
#include <seqtopk/seqtopk.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TOKENS = 2, EXPERTS = 4, TOP_K = 2 };

int main(void) {
    /* A budget of four. The first token is sure of its first expert, log p = -0.41; its second, -1.41, stands behind
     * all of the second token's, -1.39, whose ties go to the lower expert. */
    static const float logits[TOKENS * EXPERTS] = {3, 2, 1, -9, 0, 0, 0, 0};
    static const int32_t want_offsets[TOKENS + 1] = {0, 1, 4}, want_ids[TOKENS * TOP_K] = {0, 0, 1, 2};
    static const float want_weights[TOKENS * TOP_K] = {1, 1 / 3.0f, 1 / 3.0f, 1 / 3.0f};
    int32_t offsets[TOKENS + 1], ids[TOKENS * TOP_K];
    float weights[TOKENS * TOP_K];
    static char scratch[1 << 20];

    if (strcmp(seqtopk_version(), SEQTOPK_VERSION) != 0) {
        fprintf(stderr, "library %s, header %s\n", seqtopk_version(), SEQTOPK_VERSION);
        return 1;
    }

    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.experts = EXPERTS;
    desc.top_k = TOP_K;
    desc.norm = SEQTOPK_NORM_SUM;

    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan;
    if (seqtopk_plan_create(&plan, &desc, &error) != SEQTOPK_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    in.logits = logits;
    in.tokens = TOKENS;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    out.token_offsets = offsets;
    out.expert_ids = ids;
    out.weights = weights;
    out.capacity = TOKENS * TOP_K;
    seqtopk_status status = seqtopk_route(plan, &in, &out, scratch, sizeof(scratch), &error);
    seqtopk_plan_destroy(plan);
    if (status != SEQTOPK_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    int same = memcmp(offsets, want_offsets, sizeof(offsets)) == 0 && memcmp(ids, want_ids, sizeof(ids)) == 0;
    for (int i = 0; same && i < TOKENS * TOP_K; i++)
        same = fabsf(weights[i] - want_weights[i]) < 1e-6f;
    if (!same) {
        fprintf(stderr, "not the lists that were expected\n");
        return 1;
    }
    return 0;
}
