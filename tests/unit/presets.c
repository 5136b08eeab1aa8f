/* SPDX-License-Identifier: MIT */
/* The routers of published models, by name. */
#include "src/abi.h"
#include "unit.h"

#include <ctype.h>
#include <stdio.h>

static const seqtopk_parity parities[] = {SEQTOPK_PARITY_HUGGING_FACE, SEQTOPK_PARITY_VLLM, SEQTOPK_PARITY_LLAMA_CPP};
enum { PARITIES = sizeof parities / sizeof *parities };

static seqtopk_preset got(int32_t index) {
    seqtopk_preset preset = SEQTOPK_PRESET_INIT;
    cr_assert_eq(seqtopk_preset_get(index, &preset), SEQTOPK_OK);
    return preset;
}

static seqtopk_desc filled(const char *name, seqtopk_parity parity) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_assert_eq(seqtopk_desc_preset(name, parity, &desc, &error), SEQTOPK_OK, "%s: %s", name, error.message);
    cr_expect_eq(error.message[0], 0);
    return desc;
}

/* In upper case here, and in lower there. */
static const char *shouted(const char *name, char text[64]) {
    size_t i = 0;
    for (; name[i] && i < 63; i++)
        text[i] = (char)toupper((unsigned char)name[i]);
    text[i] = 0;
    return text;
}

/* No padding stands before `threads`. */
static int same_router(const seqtopk_desc *a, const seqtopk_desc *b) {
    const size_t more = offsetof(seqtopk_desc, min_p), end = SEQTOPK_END_OF(seqtopk_desc, norm_jitter);
    return memcmp((const char *)a + more, (const char *)b + more, end - more) == 0 &&
           memcmp(a, b, SEQTOPK_END_OF(seqtopk_desc, threads)) == 0 && a->isa == b->isa && a->kernel == b->kernel &&
           a->tuning == b->tuning && a->way == b->way;
}

/* Part of the ABI: never to change. */
Test(presets, parity_values) {
    cr_expect_eq(SEQTOPK_PARITY_HUGGING_FACE, 0);
    cr_expect_eq(SEQTOPK_PARITY_VLLM, 1);
    cr_expect_eq(SEQTOPK_PARITY_LLAMA_CPP, 2);
}

Test(presets, all_make_plans) {
    cr_expect_geq(seqtopk_preset_count(), 60);
    for (int32_t i = 0; i < seqtopk_preset_count(); i++)
        for (int p = 0; p < PARITIES; p++)
            for (int scope = SEQTOPK_SCOPE_SEQUENCE; scope <= SEQTOPK_SCOPE_TOKEN; scope++) {
                const seqtopk_preset preset = got(i);
                seqtopk_desc desc = filled(preset.name, parities[p]);
                seqtopk_error error = SEQTOPK_ERROR_INIT;
                seqtopk_plan *plan = NULL;
                desc.scope = (seqtopk_scope)scope;
                cr_expect_eq(seqtopk_plan_create(&plan, &desc, &error), SEQTOPK_OK, "%s: %s", preset.name,
                             error.message);
                seqtopk_plan_destroy(plan);
            }
}

Test(presets, texts) {
    for (int32_t i = 0; i < seqtopk_preset_count(); i++) {
        const seqtopk_preset preset = got(i);
        const char *texts[] = {preset.name,   preset.also,    preset.note,
                               preset.source, preset.numbers, preset.second_source};
        for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) {
            cr_assert_not_null(texts[t]);
            cr_expect(strlen(texts[t]) < 120 && !strpbrk(texts[t], "\n|"), "%s: %s", preset.name, texts[t]);
        }
        cr_expect(preset.name[0] && preset.source[0] && preset.numbers[0], "%s", preset.name);
        cr_expect_null(strstr(preset.numbers, "memory"), "%s", preset.name);
    }
}

/* No name is another's, whether in upper or lower case, and either finds its model. */
Test(presets, names) {
    char upper[64];
    for (int32_t i = 0; i < seqtopk_preset_count(); i++) {
        const seqtopk_preset preset = got(i);
        const seqtopk_desc desc = filled(preset.name, SEQTOPK_PARITY_HUGGING_FACE);
        seqtopk_desc other = filled(shouted(preset.name, upper), SEQTOPK_PARITY_HUGGING_FACE);
        cr_expect(same_router(&desc, &other), "%s", upper);
        if (preset.also[0]) {
            other = filled(shouted(preset.also, upper), SEQTOPK_PARITY_HUGGING_FACE);
            cr_expect(same_router(&desc, &other), "%s", upper);
        }
        for (const char *c = preset.name; *c; c++)
            cr_expect(islower((unsigned char)*c) || isdigit((unsigned char)*c) || *c == '-' || *c == '.', "%s",
                      preset.name);
        for (int32_t j = 0; j < seqtopk_preset_count(); j++) {
            const seqtopk_preset one = got(j);
            cr_expect(i == j || strcmp(preset.name, one.name), "%s stands twice", preset.name);
            cr_expect(strcmp(preset.name, one.also), "%s stands twice", preset.name);
            cr_expect(i == j || !preset.also[0] || strcmp(preset.also, one.also), "%s stands twice", preset.also);
        }
    }
}

#define EXPECT_ROUTER(name_, parity_, ...)                                                                             \
    do {                                                                                                               \
        const seqtopk_desc found_ = filled(name_, parity_);                                                            \
        const seqtopk_desc expected_ = {.struct_size = sizeof(seqtopk_desc), __VA_ARGS__};                             \
        cr_expect(same_router(&found_, &expected_), "%s", name_);                                                      \
    } while (0)

/* One of each kind, typed from its publication. */
Test(presets, some_by_hand) {
    EXPECT_ROUTER("deepseek-v3", SEQTOPK_PARITY_HUGGING_FACE, .experts = 256, .top_k = 8,
                  .score = SEQTOPK_SCORE_SIGMOID, .norm = SEQTOPK_NORM_SUM, .norm_eps = 1e-20f, .scale = 2.5f,
                  .groups = 8, .group_top_k = 4, .group_score = SEQTOPK_GROUP_TOP2);
    EXPECT_ROUTER("deepseek-v3", SEQTOPK_PARITY_VLLM, .experts = 256, .top_k = 8, .score = SEQTOPK_SCORE_SIGMOID,
                  .norm = SEQTOPK_NORM_SUM, .scale = 2.5f, .groups = 8, .group_top_k = 4,
                  .group_score = SEQTOPK_GROUP_TOP2);
    EXPECT_ROUTER("deepseek-v3", SEQTOPK_PARITY_LLAMA_CPP, .experts = 256, .top_k = 8, .score = SEQTOPK_SCORE_SIGMOID,
                  .norm = SEQTOPK_NORM_SUM, .norm_floor = 1.0f / 16384, .scale = 2.5f, .groups = 8, .group_top_k = 4,
                  .group_score = SEQTOPK_GROUP_TOP2);
    EXPECT_ROUTER("deepseek-v2", SEQTOPK_PARITY_HUGGING_FACE, .experts = 160, .top_k = 6, .norm = SEQTOPK_NORM_NONE,
                  .scale = 16, .groups = 8, .group_top_k = 3, .group_score = SEQTOPK_GROUP_MAX);
    EXPECT_ROUTER("deepseek-v4", SEQTOPK_PARITY_HUGGING_FACE, .experts = 256, .top_k = 6,
                  .score = SEQTOPK_SCORE_SQRTSOFTPLUS, .norm = SEQTOPK_NORM_SUM, .norm_eps = 1e-20f, .scale = 1.5f);
    EXPECT_ROUTER("ernie-4.5", SEQTOPK_PARITY_HUGGING_FACE, .experts = 64, .top_k = 6, .norm = SEQTOPK_NORM_SUM,
                  .norm_floor = 1e-12f, .scale = 1);
    EXPECT_ROUTER("ernie-4.5", SEQTOPK_PARITY_VLLM, .experts = 64, .top_k = 6, .norm = SEQTOPK_NORM_SUM, .scale = 1);
    EXPECT_ROUTER("lfm2-8b", SEQTOPK_PARITY_HUGGING_FACE, .experts = 32, .top_k = 4, .score = SEQTOPK_SCORE_SIGMOID,
                  .norm = SEQTOPK_NORM_SUM, .norm_eps = 1e-6f, .scale = 1);
    EXPECT_ROUTER("gpt-oss", SEQTOPK_PARITY_LLAMA_CPP, .experts = 128, .top_k = 4, .score = SEQTOPK_SCORE_LOGITS,
                  .norm = SEQTOPK_NORM_SOFTMAX, .scale = 1);
    EXPECT_ROUTER("hunyuan-large", SEQTOPK_PARITY_VLLM, .experts = 16, .top_k = 1, .norm = SEQTOPK_NORM_SUM, .scale = 1,
                  .norm_skip_top1 = 1);
}

/* What the router's own fields are, typed from their publications. */
Test(presets, some_forms_by_hand) {
    EXPECT_ROUTER("grok-1", SEQTOPK_PARITY_VLLM, .experts = 8, .top_k = 2, .norm = SEQTOPK_NORM_SUM, .scale = 1,
                  .logit_softcap = 30);
    EXPECT_ROUTER("intern-s1-pro", SEQTOPK_PARITY_VLLM, .experts = 512, .top_k = 8, .norm = SEQTOPK_NORM_SUM,
                  .scale = 1, .groups = 8, .group_top_k = 8, .group_quota = 1);
    EXPECT_ROUTER("kolibri-1", SEQTOPK_PARITY_HUGGING_FACE, .experts = 384, .top_k = 6, .score = SEQTOPK_SCORE_SIGMOID,
                  .norm = SEQTOPK_NORM_NONE, .scale = 1, .key_from = SEQTOPK_KEY_FROM_LOGIT);
    EXPECT_ROUTER("inkling", SEQTOPK_PARITY_HUGGING_FACE, .experts = 258, .top_k = 6, .score = SEQTOPK_SCORE_SIGMOID,
                  .norm = SEQTOPK_NORM_SUM, .scale = 8, .shared_experts = 2);
    EXPECT_ROUTER("longcat", SEQTOPK_PARITY_HUGGING_FACE, .experts = 768, .top_k = 12, .norm = SEQTOPK_NORM_NONE,
                  .scale = 6, .null_experts = 256);
    EXPECT_ROUTER("phi-3.5-moe", SEQTOPK_PARITY_HUGGING_FACE, .experts = 16, .top_k = 2, .score = SEQTOPK_SCORE_LOGITS,
                  .norm = SEQTOPK_NORM_SPARSEMIXER, .scale = 1, .norm_jitter = 0.01f);
}

/* A program compiled before these fields is not handed a router that it cannot say. */
Test(presets, an_older_program_is_told) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    desc.struct_size = offsetof(seqtopk_desc, group_quota);
    cr_expect_eq(seqtopk_desc_preset("longcat", SEQTOPK_PARITY_VLLM, &desc, &error), SEQTOPK_E_UNSUPPORTED);
    cr_expect(strstr(error.message, "longcat"), "%s", error.message);
    cr_expect_eq(seqtopk_desc_preset("qwen3", SEQTOPK_PARITY_VLLM, &desc, &error), SEQTOPK_OK, "%s", error.message);
}

/* Which guard there is, for all. */
Test(presets, parity) {
    for (int32_t i = 0; i < seqtopk_preset_count(); i++) {
        const seqtopk_preset preset = got(i);
        seqtopk_desc desc[PARITIES];
        for (int p = 0; p < PARITIES; p++)
            desc[p] = filled(preset.name, parities[p]);
        const int summed = desc[0].norm == SEQTOPK_NORM_SUM;
        cr_expect(summed || (desc[0].norm_eps == 0 && desc[0].norm_floor == 0), "%s", preset.name);
        cr_expect(desc[1].norm_eps == 0 && desc[1].norm_floor == 0, "%s", preset.name);
        cr_expect(desc[2].norm_eps == 0 && desc[2].norm_floor == (summed ? 6.103515625e-5f : 0), "%s", preset.name);
        cr_expect(!desc[0].norm_skip_top1 && !desc[2].norm_skip_top1, "%s", preset.name);
        for (int p = 0; p < PARITIES; p++) {
            desc[p].norm_eps = desc[p].norm_floor = 0;
            desc[p].norm_skip_top1 = 0;
            cr_expect(same_router(desc, desc + p), "%s differs in more", preset.name);
        }
    }
}

/* All that is not the router's stays; all that is comes from the new one. */
Test(presets, what_is_set) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.scope = SEQTOPK_SCOPE_TOKEN;
    desc.dtype = SEQTOPK_DTYPE_BF16;
    desc.order = SEQTOPK_ORDER_RANK;
    desc.min_experts = 1;
    desc.max_experts = 3;
    desc.tokens = 7;
    desc.threads = 2;
    desc.isa = "ref";
    desc.kernel = "k";
    desc.way = "w";
    desc.tuning = seqtopk_tuning_none();
    seqtopk_desc expected = desc;
    desc.group_n = 5;
    cr_assert_eq(seqtopk_desc_preset("deepseek-v3", SEQTOPK_PARITY_HUGGING_FACE, &desc, NULL), SEQTOPK_OK);
    cr_assert_eq(seqtopk_desc_preset("qwen3", SEQTOPK_PARITY_VLLM, &desc, NULL), SEQTOPK_OK);
    expected.experts = 128;
    expected.top_k = 8;
    expected.norm = SEQTOPK_NORM_SUM;
    expected.scale = 1;
    cr_expect(same_router(&desc, &expected));
}

static void refused(const char *name, seqtopk_parity parity, seqtopk_status status, const char *word) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    const seqtopk_desc before = desc;
    cr_expect_eq(seqtopk_desc_preset(name, parity, &desc, &error), status, "%s", name ? name : "NULL");
    cr_expect_eq(error.status, status);
    cr_expect(strstr(error.message, word) && !strchr(error.message, '\n'), "%s not in: %s", word, error.message);
    cr_expect(strlen(error.message) < sizeof error.message - 1, "%s", error.message);
    cr_expect(same_router(&desc, &before));
    cr_expect_eq(seqtopk_desc_preset(name, parity, &desc, NULL), status);
}

Test(presets, refusals) {
    char longest[1000];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = 0;
    refused(NULL, SEQTOPK_PARITY_VLLM, SEQTOPK_E_NULL, "name");
    refused("", SEQTOPK_PARITY_VLLM, SEQTOPK_E_VALUE, "seqtopk_preset_get");
    refused(longest, SEQTOPK_PARITY_VLLM, SEQTOPK_E_VALUE, "seqtopk_preset_get");
    refused("deepseek-v3 ", SEQTOPK_PARITY_VLLM, SEQTOPK_E_VALUE, " deepseek-v3,");
    refused("deepseek_v3", SEQTOPK_PARITY_VLLM, SEQTOPK_E_VALUE, " deepseek-v3,");
    refused("DEEPSEEK-V33", SEQTOPK_PARITY_VLLM, SEQTOPK_E_VALUE, ": deepseek-v3,");
    refused("mixtrel", SEQTOPK_PARITY_VLLM, SEQTOPK_E_VALUE, ": mixtral,");
    refused("K2", SEQTOPK_PARITY_VLLM, SEQTOPK_E_VALUE, ": kimi-k2,");
    refused("\xff\x80%s", SEQTOPK_PARITY_VLLM, SEQTOPK_E_VALUE, "the nearest");
    refused("deepseek-v3", (seqtopk_parity)3, SEQTOPK_E_VALUE, "parity");
    refused("deepseek-v3", (seqtopk_parity)-1, SEQTOPK_E_VALUE, "parity");
}

Test(presets, pointers_and_indices) {
    seqtopk_preset preset = SEQTOPK_PRESET_INIT;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_expect_eq(seqtopk_preset_get(0, NULL), SEQTOPK_E_NULL);
    cr_expect_eq(seqtopk_preset_get(-1, &preset), SEQTOPK_E_VALUE);
    cr_expect_eq(seqtopk_preset_get(seqtopk_preset_count(), &preset), SEQTOPK_E_VALUE);
    preset.struct_size = 4;
    cr_expect_eq(seqtopk_preset_get(0, &preset), SEQTOPK_E_STRUCT);
    cr_expect_eq(seqtopk_desc_preset("qwen3", SEQTOPK_PARITY_VLLM, NULL, &error), SEQTOPK_E_NULL);
    cr_expect(strstr(error.message, "desc"));
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    error.struct_size = 1;
    cr_expect_eq(seqtopk_desc_preset("qwen3", SEQTOPK_PARITY_VLLM, &desc, &error), SEQTOPK_E_STRUCT);
}

/* A desc of a program with an older header, or with a newer one. */
Test(presets, sizes_of_desc) {
    enum { GROWN = 64, CANARY = 0x5a };
    union {
        seqtopk_desc desc;
        unsigned char bytes[sizeof(seqtopk_desc) + 2 * GROWN];
    } theirs;
    for (size_t size = 0; size <= sizeof(seqtopk_desc) + GROWN; size++) {
        seqtopk_error error = SEQTOPK_ERROR_INIT;
        const int fits = size >= SEQTOPK_FIRST_desc && size % sizeof(void *) == 0;
        memset(&theirs, 0, sizeof theirs);
        memset(theirs.bytes + size, CANARY, sizeof theirs - size);
        memcpy(theirs.bytes, &(uint32_t){(uint32_t)size}, sizeof(uint32_t));
        cr_expect_eq(seqtopk_desc_preset("qwen3", SEQTOPK_PARITY_VLLM, &theirs.desc, &error),
                     fits ? SEQTOPK_OK : SEQTOPK_E_STRUCT, "%zu bytes: %s", size, error.message);
        for (size_t i = size < sizeof(uint32_t) ? sizeof(uint32_t) : size; i < sizeof theirs; i++)
            cr_assert_eq(theirs.bytes[i], CANARY, "%zu bytes: byte %zu is written to", size, i);
        if (fits)
            cr_expect(theirs.desc.struct_size == size && theirs.desc.experts == 128, "%zu bytes", size);
        if (fits && size > sizeof(seqtopk_desc)) {
            theirs.bytes[size - 1] = 1;
            cr_expect_eq(seqtopk_desc_preset("mixtral", SEQTOPK_PARITY_VLLM, &theirs.desc, &error),
                         SEQTOPK_E_UNSUPPORTED);
            cr_expect_eq(theirs.desc.experts, 128, "it stays as it was");
        }
    }
}
