/* SPDX-License-Identifier: MIT */
/* Published models by name, for options: src/plan/models.def. */
#ifndef SEQTOPK_CLI_MODEL_H
#define SEQTOPK_CLI_MODEL_H

#include <seqtopk/seqtopk.h>

typedef struct seqtopk_cli_model {
    const char *name, *also; /* also: another name that is accepted; "": none */
    int32_t experts, top_k;
    seqtopk_score score;
    int biased;
    int32_t groups, group_top_k, group_n; /* groups 1: none */
    seqtopk_norm norm;
    float eps, floor, scale;
    const char *source;
} seqtopk_cli_model;

/* Upper and lower case are one. On an unknown name NULL, after an error for `command` that lists the known ones. */
const seqtopk_cli_model *seqtopk_cli_model_find(const char *command, const char *name);

/* All names as help shows them. The tests hold this to the list. */
#define SEQTOPK_CLI_MODELS                                                                                             \
    "mixtral qwen2-moe qwen3 qwen3-next olmoe deepseek-v2 deepseek-v2-lite deepseek-v3 deepseek-v4 kimi-k2 kimi-k3\n"  \
    "  glm-4.5 glm-4.5-air minimax-m2 ling-3 nemotron-3-super ernie-4.5 longcat gpt-oss gpt-oss-20b granite-1b\n"      \
    "  granite-3b granite-4-h llama-4-scout llama-4-maverick jamba dbrx"

#endif
