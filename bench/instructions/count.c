/* SPDX-License-Identifier: MIT */
/*
 * Routes the same logits a given number of times and does nothing else: what a counter of instructions runs. Two counts
 * whose calls differ by one differ by one route, warm, to the instruction.
 *
 *     bench-count ISA SCOPE TOKENS EXPERTS TOP_K CALLS
 *
 * With CALLS = 0 there are two, and a SIGUSR1 before the second and one after it tell step.c where to count.
 */
#define _POSIX_C_SOURCE 200809L
#include "src/cli/logits.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what) {
    fprintf(stderr, "bench-count: %s\n", what);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 7)
        return fail("takes ISA sequence|token TOKENS EXPERTS TOP_K CALLS");
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.isa = argv[1];
    desc.kernel = "";
    desc.tuning = seqtopk_tuning_none();
    desc.scope = strcmp(argv[2], "token") ? SEQTOPK_SCOPE_SEQUENCE : SEQTOPK_SCOPE_TOKEN;
    desc.tokens = atoll(argv[3]);
    desc.experts = atoi(argv[4]);
    desc.top_k = atoi(argv[5]);
    const int calls = atoi(argv[6]);

    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan;
    if (seqtopk_plan_create(&plan, &desc, &error))
        return fail(error.message);
    const size_t n = (size_t)seqtopk_max_selected(plan, desc.tokens);
    const size_t size = seqtopk_scratch_size(plan, desc.tokens, 1, 1);
    seqtopk_cli_logits logits;
    if (!seqtopk_cli_logits_make(&logits, desc.tokens, desc.experts, SEQTOPK_DTYPE_F32, 0, 1))
        return fail("no memory for the logits");
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    in.logits = logits.data;
    in.tokens = desc.tokens;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    out.token_offsets = malloc(((size_t)desc.tokens + 1) * sizeof(int32_t));
    out.expert_ids = malloc(n * sizeof(int32_t));
    out.weights = malloc(n * sizeof(float));
    out.capacity = (int64_t)n;
    void *scratch = malloc(size);
    if (!out.token_offsets || !out.expert_ids || !out.weights || !scratch)
        return fail("no memory for the lists");

    for (int i = 0; i < (calls ? calls : 2); i++) {
        if (!calls && i == 1)
            raise(SIGUSR1);
        if (seqtopk_route(plan, &in, &out, scratch, size, &error))
            return fail(error.message);
        if (!calls && i == 1)
            raise(SIGUSR1);
    }
    free(scratch);
    free(out.token_offsets);
    free(out.expert_ids);
    free(out.weights);
    seqtopk_cli_logits_free(&logits);
    seqtopk_plan_destroy(plan);
    return 0;
}
