/* SPDX-License-Identifier: MIT */
/* Masked tokens that stand together: their rows are not read, whichever way the others go, and get what others do not. */
#define _DEFAULT_SOURCE
#include "unit.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TOKENS = 256, EXPERTS = 64, MOST = 10, BEFORE = 64, AFTER = 128 };

typedef struct padded {
    int32_t offsets[TOKENS + 1], ids[TOKENS * MOST];
    float weights[TOKENS * MOST];
} padded;

/* Rows [BEFORE, AFTER) of logits can be read, and no others. */
static float *logits_new(void) {
    const size_t row = EXPERTS * sizeof(float), page = (size_t)sysconf(_SC_PAGESIZE);
    char *all = mmap(NULL, TOKENS * row, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(all != MAP_FAILED);
    cr_assert(BEFORE * row % page == 0 && AFTER * row % page == 0);
    float *logits = (float *)(void *)all;
    for (uint32_t i = 0; i < TOKENS * EXPERTS; i++)
        logits[i] = (float)((i * 2654435761u) >> 16) / 8192;
    cr_assert_eq(mprotect(all, BEFORE * row, PROT_NONE), 0);
    cr_assert_eq(mprotect(all + AFTER * row, (TOKENS - AFTER) * row, PROT_NONE), 0);
    return logits;
}

static void route(const seqtopk_desc *desc, const float *bias, const float *logits, const uint8_t *mask, int64_t tokens,
                  seqtopk_padding padding, padded *to) {
    const int32_t cu[] = {0, (int32_t)tokens};
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_plan *plan = NULL;
    cr_assert_eq(seqtopk_plan_create(&plan, desc, &error), SEQTOPK_OK, "%s", error.message);
    const size_t size = seqtopk_scratch_size(plan, tokens, 1, 1);
    void *scratch = malloc(size);
    in.logits = logits;
    in.tokens = tokens;
    in.cu_seqlens = cu;
    in.sequences = 1;
    in.token_mask = mask;
    in.bias = bias;
    out.token_offsets = to->offsets;
    out.padded_ids = to->ids;
    out.padded_weights = to->weights;
    out.padded_width = MOST;
    out.padding = padding;
    cr_expect_eq(seqtopk_route(plan, &in, &out, scratch, size, &error), SEQTOPK_OK, "%s", error.message);
    free(scratch);
    seqtopk_plan_destroy(plan);
}

/* What the unmasked get is what they get alone, and what the others get is padding. */
static void check(const seqtopk_desc *desc, const float *bias, const char *what) {
    static padded all, alone;
    const int64_t n = AFTER - BEFORE;
    float *logits = logits_new();
    uint8_t mask[TOKENS] = {0};
    memset(mask + BEFORE, 1, (size_t)n);
    for (int p = SEQTOPK_PAD_MINUS_ONE; p <= SEQTOPK_PAD_FIRST; p++) {
        route(desc, bias, logits, mask, TOKENS, (seqtopk_padding)p, &all);
        route(desc, bias, logits + BEFORE * EXPERTS, NULL, n, (seqtopk_padding)p, &alone);
        cr_expect(!memcmp(all.ids + BEFORE * MOST, alone.ids, (size_t)n * MOST * sizeof *all.ids), "%s, %d", what, p);
        cr_expect(!memcmp(all.weights + BEFORE * MOST, alone.weights, (size_t)n * MOST * sizeof *all.weights), "%s, %d",
                  what, p);
        cr_expect_eq(all.offsets[BEFORE], 0);
        cr_expect_eq(all.offsets[TOKENS], alone.offsets[n]);
        for (int t = 0; t < TOKENS; t++)
            for (int i = 0; i < MOST && !mask[t]; i++) {
                cr_expect_eq(all.ids[t * MOST + i], p == SEQTOPK_PAD_MINUS_ONE  ? -1
                                                    : p == SEQTOPK_PAD_EXPERTS  ? EXPERTS
                                                    : p == SEQTOPK_PAD_DISTINCT ? i
                                                                                : 0);
                cr_expect_eq(all.weights[t * MOST + i], 0);
            }
    }
    munmap(logits, TOKENS * EXPERTS * sizeof *logits);
}

Test(masked, rows_are_not_read) {
    static const char *const isas[] = {"ref", "avx2", "avx512", "neon"};
    float bias[EXPERTS];
    for (int e = 0; e < EXPERTS; e++)
        bias[e] = (float)(e % 7) / 16;
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        for (int32_t way = 0; way < seqtopk_way_count() && seqtopk_isa_usable(isas[i]) > 0; way++)
            for (int kind = 0; kind < 16; kind++) {
                seqtopk_desc desc = SEQTOPK_DESC_INIT;
                seqtopk_way named = SEQTOPK_WAY_INIT;
                seqtopk_plan *plan = NULL;
                seqtopk_way_get(way, &named);
                desc.experts = EXPERTS;
                desc.top_k = 8;
                desc.max_experts = kind & 1 ? 0 : MOST;
                desc.isa = isas[i];
                desc.scope = kind & 1 ? SEQTOPK_SCOPE_TOKEN : SEQTOPK_SCOPE_SEQUENCE;
                desc.score = kind & 2 ? SEQTOPK_SCORE_SIGMOID : SEQTOPK_SCORE_SOFTMAX;
                desc.norm = SEQTOPK_NORM_SUM;
                desc.logit_scale = kind & 8 ? 0.5f : 0;
                cr_assert_eq(seqtopk_plan_create(&plan, &desc, NULL), SEQTOPK_OK);
                const int serves = !seqtopk_plan_way_why_not(plan, way, TOKENS, kind & 4) &&
                                   !seqtopk_plan_way_why_not(plan, way, AFTER - BEFORE, kind & 4);
                seqtopk_plan_destroy(plan);
                desc.way = named.name;
                if (serves)
                    check(&desc, kind & 4 ? bias : NULL, named.name);
            }
}

/* Bad logits among masked rows, some of which stand alone, are nobody's. */
Test(masked, stretches_of_any_length) {
    enum { MANY = 100 };
    static float logits[MANY * EXPERTS], few[MANY * EXPERTS];
    static padded all, alone;
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.experts = EXPERTS;
    desc.top_k = 4;
    for (int length = 1; length <= 40; length++)
        for (int scope = 0; scope < 2; scope++) {
            uint8_t mask[MANY];
            int64_t n = 0;
            desc.scope = (seqtopk_scope)scope;
            desc.max_experts = desc.scope == SEQTOPK_SCOPE_TOKEN ? 0 : MOST;
            for (int t = 0; t < MANY; t++) {
                mask[t] = t / length % 2 == 0 ? 3 : 0;
                for (int e = 0; e < EXPERTS; e++)
                    logits[t * EXPERTS + e] =
                        mask[t] ? (float)((uint32_t)(t * EXPERTS + e) * 2654435761u >> 16) / 8192 : NAN;
                if (mask[t])
                    memcpy(few + n++ * EXPERTS, logits + t * EXPERTS, EXPERTS * sizeof *few);
            }
            route(&desc, NULL, logits, mask, MANY, SEQTOPK_PAD_FIRST, &all);
            route(&desc, NULL, few, NULL, n, SEQTOPK_PAD_FIRST, &alone);
            n = 0;
            for (int t = 0; t < MANY; t++)
                if (mask[t]) {
                    cr_expect(!memcmp(all.ids + t * MOST, alone.ids + n * MOST, MOST * sizeof *all.ids),
                              "length %d, token %d", length, t);
                    n++;
                }
        }
}
