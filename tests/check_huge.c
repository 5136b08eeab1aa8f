/* SPDX-License-Identifier: MIT */
/*
 * More logits than 32 bits can count, in little memory: one row, read by more than 2^24 tokens. Every token then has the
 * same candidates, so that what is right can be said without an oracle: in sequence scope the budget goes to the best
 * expert of every token; in token scope as well.
 */
#include <seqtopk/seqtopk.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXPERTS = 257, BEST = 200, SECOND = 13, EXIT_SKIPPED = 77 };
#define TOKENS ((INT64_C(1) << 24) + 3)
#define MEMORY_NEEDED (INT64_C(3) << 29)

static int failed;

static void check(int fine, const char *what, int64_t token) {
    if (!fine && failed++ < 10)
        printf("FAILED: %s at token %" PRId64 "\n", what, token);
}

static int has_memory(void) {
    const long pages = sysconf(_SC_AVPHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages < 0 || (int64_t)pages * page >= MEMORY_NEEDED;
}

/* Two sequences, the second from token `split` on; the last token but one is masked. K = 1: each other one gets BEST. */
static int route(seqtopk_scope scope, int64_t split) {
    float row[EXPERTS];
    for (int e = 0; e < EXPERTS; e++)
        row[e] = (float)(e % 50) * 0.01f;
    row[BEST] = 3;
    row[SECOND] = 2;
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.experts = EXPERTS;
    desc.top_k = 1;
    desc.scope = scope;
    desc.score = SEQTOPK_SCORE_LOGITS;
    seqtopk_plan *plan = NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    if (seqtopk_plan_create(&plan, &desc, &error)) {
        printf("FAILED: %s\n", error.message);
        return 1;
    }
    const int32_t cu[] = {0, (int32_t)split, (int32_t)TOKENS};
    const size_t size = seqtopk_scratch_size(plan, TOKENS, 2, 1);
    int32_t *offsets = malloc((size_t)(TOKENS + 1) * sizeof *offsets), *ids = malloc((size_t)TOKENS * sizeof *ids);
    float *weights = malloc((size_t)TOKENS * sizeof *weights);
    uint8_t *mask = malloc((size_t)TOKENS);
    void *scratch = malloc(size);
    if (!offsets || !ids || !weights || !mask || !scratch || !size) {
        printf("no memory: skipped\n");
        return EXIT_SKIPPED;
    }
    memset(mask, 1, (size_t)TOKENS);
    mask[TOKENS - 2] = 0;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    in.logits = row;
    in.row_stride = SEQTOPK_STRIDE_BROADCAST;
    in.tokens = TOKENS;
    in.token_mask = mask;
    in.cu_seqlens = cu;
    in.sequences = 2;
    int64_t selected = -1;
    int32_t expert_offsets[EXPERTS + 1];
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    out.token_offsets = offsets;
    out.expert_ids = ids;
    out.weights = weights;
    out.capacity = TOKENS;
    out.expert_offsets = expert_offsets;
    out.selected = &selected;
    const seqtopk_status status = seqtopk_route(plan, &in, &out, scratch, size, &error);
    if (status)
        printf("%s\n", error.message);
    check(status == SEQTOPK_OK, "status", -1);
    check(selected == TOKENS - 1, "selected", -1);
    for (int64_t t = 0; !failed && t <= TOKENS; t++)
        check(offsets[t] == t - (t > TOKENS - 2), "offset", t);
    for (int64_t i = 0; !failed && i < TOKENS - 1; i++) {
        check(ids[i] == BEST, "expert", i);
        check(weights[i] == 1.0f, "weight", i);
    }
    for (int e = 0; !failed && e <= EXPERTS; e++)
        check(expert_offsets[e] == (e > BEST ? TOKENS - 1 : 0), "expert_offsets", e);
    free(offsets);
    free(ids);
    free(weights);
    free(mask);
    free(scratch);
    seqtopk_plan_destroy(plan);
    return failed > 0;
}

int main(void) {
    if (!has_memory()) {
        printf("not enough free memory: skipped\n");
        return EXIT_SKIPPED;
    }
    int worst = route(SEQTOPK_SCOPE_SEQUENCE, 1000);
    if (!worst)
        worst = route(SEQTOPK_SCOPE_TOKEN, TOKENS / 2);
    if (worst != EXIT_SKIPPED)
        printf("%s: %" PRId64 " logits\n", worst ? "failed" : "passed", TOKENS * EXPERTS);
    return worst;
}
