/* SPDX-License-Identifier: MIT */
/* The options that say how to route: `route` and `info --shape` share them, and what they become in a seqtopk_desc. */
#ifndef SEQTOPK_CLI_DESC_H
#define SEQTOPK_CLI_DESC_H

#include "options.h"

#include <seqtopk/seqtopk.h>

#include <float.h>

typedef struct seqtopk_cli_desc {
    seqtopk_desc
        fields;        /* as options set them: seqtopk_cli_desc_fill makes the rest, and leaves out what does not act */
    int dtype;         /* -1 when not given */
    const char *model; /* NULL: none was named; model.h takes it */
    int parity;
} seqtopk_cli_desc;
#define SEQTOPK_CLI_DESC_INIT                                                                                          \
    { .fields = SEQTOPK_DESC_INIT, .dtype = -1 }

/* In the order of the enums of seqtopk.h. */
#define SEQTOPK_WORDS_SCOPE "sequence|token"
#define SEQTOPK_WORDS_SCORE "softmax|sigmoid|sqrtsoftplus|logits"
#define SEQTOPK_WORDS_NORM "none|sum|softmax|sparsemixer" /* from SEQTOPK_NORM_NONE */
#define SEQTOPK_WORDS_GROUP_SCORE "max|top2|topn"
#define SEQTOPK_WORDS_DTYPE "f32|bf16|f16"
#define SEQTOPK_WORDS_KEY "score|logit"
#define SEQTOPK_WORDS_ORDER "expert|rank|given"
#define SEQTOPK_WORDS_PARITY "hf|vllm|llama.cpp"

#define SEQTOPK_ROW_(kind, type, field, flag, argument, least, most, help)                                             \
    { SEQTOPK_OPTION_##kind, false, flag, argument, offsetof(type, desc.field), least, most, help }

/* Rows of a command whose struct of values is `type`, with a seqtopk_cli_desc named desc. */
#define SEQTOPK_CLI_DESC_ROWS(type)                                                                                    \
    {.kind = SEQTOPK_OPTION_HEADING, .help = "Model"},                                                                 \
        SEQTOPK_ROW_(TEXT, type, model, "model", "NAME", 0, 0,                                                         \
                     "a published model's router (seqtopk models); other options override it"),                        \
        SEQTOPK_ROW_(CHOICE, type, parity, "parity", SEQTOPK_WORDS_PARITY, 0, 0,                                       \
                     "whose eps and floor: transformers', vLLM's, llama.cpp's (default: hf)"),                         \
        {.kind = SEQTOPK_OPTION_HEADING, .help = "Selection"},                                                         \
        SEQTOPK_ROW_(CHOICE, type, fields.scope, "scope", SEQTOPK_WORDS_SCOPE, 0, 0,                                   \
                     "what experts of a token compete with (default: sequence)"),                                      \
        SEQTOPK_ROW_(CHOICE, type, fields.score, "score", SEQTOPK_WORDS_SCORE, 0, 0,                                   \
                     "score of a logit (default: softmax)"),                                                           \
        SEQTOPK_ROW_(INT32, type, fields.min_experts, "min", "N", 0, 65536,                                            \
                     "least experts of a token; scope sequence, min-p, top-p (default: 0)"),                           \
        SEQTOPK_ROW_(INT32, type, fields.max_experts, "max", "N", 1, INT32_MAX,                                        \
                     "scope sequence: most experts of a token (default: all)"),                                        \
        SEQTOPK_ROW_(INT32, type, fields.groups, "groups", "G", 1, 65536, "experts stand in G equal groups"),          \
        SEQTOPK_ROW_(INT32, type, fields.group_top_k, "group-topk", "g", 1, 65536, "groups that a token keeps"),       \
        SEQTOPK_ROW_(CHOICE, type, fields.group_score, "group-score", SEQTOPK_WORDS_GROUP_SCORE, 0, 0,                 \
                     "score of a group: its best, its two or n best added up (default: max)"),                         \
        SEQTOPK_ROW_(INT32, type, fields.group_n, "group-n", "N", 1, 65536, "the n of topn (default: K / g)"),         \
        SEQTOPK_ROW_(INT32, type, fields.group_quota, "group-quota", "N", 1, 65536,                                    \
                     "most experts of a token in one group, of all groups without --group-topk"),                      \
        SEQTOPK_ROW_(CHOICE, type, fields.key_from, "key", SEQTOPK_WORDS_KEY, 0, 0,                                    \
                     "what is compared, and the bias added to (default: score)"),                                      \
        SEQTOPK_ROW_(FLOAT, type, fields.logit_scale, "logit-scale", "F", FLT_MIN, FLT_MAX,                            \
                     "logits are multiplied by this first (default: 1)"),                                              \
        SEQTOPK_ROW_(FLOAT, type, fields.logit_softcap, "softcap", "C", FLT_MIN, FLT_MAX,                              \
                     "logits become C tanh(x / C) first (default: they stay)"),                                        \
        SEQTOPK_ROW_(FLOAT, type, fields.min_p, "min-p", "P", 0, 1,                                                    \
                     "scope token: of the K those whose score is P times the best or more"),                           \
        SEQTOPK_ROW_(FLOAT, type, fields.top_p, "top-p", "P", 0, 1,                                                    \
                     "scope token, softmax: of the K the fewest that add up to P"),                                    \
        SEQTOPK_ROW_(INT32, type, fields.null_experts, "null-experts", "N", 0, 65535,                                  \
                     "the last N experts are weighed, and in no list"),                                                \
        SEQTOPK_ROW_(INT32, type, fields.shared_experts, "shared-experts", "N", 0, 65535,                              \
                     "every token's, beside its K: the last N experts of the file"),                                   \
        {.kind = SEQTOPK_OPTION_HEADING, .help = "Weights"},                                                           \
        SEQTOPK_ROW_(CHOICE, type, fields.norm, "norm", SEQTOPK_WORDS_NORM, SEQTOPK_NORM_NONE, 0,                      \
                     "what becomes of scores (default: none; score logits: softmax)"),                                 \
        SEQTOPK_ROW_(FLOAT, type, fields.norm_eps, "eps", "F", 0, FLT_MAX, "norm sum: added to the sum"),              \
        SEQTOPK_ROW_(FLOAT, type, fields.norm_floor, "floor", "F", 0, FLT_MAX, "norm sum: the least divisor"),         \
        SEQTOPK_ROW_(FLAG, type, fields.norm_skip_top1, "norm-skip-top1", NULL, 0, 0, "norm sum: not when K is 1"),    \
        SEQTOPK_ROW_(FLOAT, type, fields.scale, "scale", "F", -FLT_MAX, FLT_MAX,                                       \
                     "a last factor of every weight (default: 1)"),                                                    \
        SEQTOPK_ROW_(FLOAT, type, fields.shared_weight, "shared-weight", "F", -FLT_MAX, FLT_MAX,                       \
                     "of shared experts, which the file has no logits of then"),                                       \
        SEQTOPK_ROW_(FLOAT, type, fields.norm_jitter, "jitter", "F", 0, FLT_MAX,                                       \
                     "norm sparsemixer: how near is near (default: 0.01)"),                                            \
        {.kind = SEQTOPK_OPTION_HEADING, .help = "Kernels"},                                                           \
        SEQTOPK_ROW_(INT32, type, fields.threads, "threads", "N", 1, 1024,                                             \
                     "threads that may run at once (default: 1)"),                                                     \
        SEQTOPK_ROW_(TEXT, type, fields.isa, "isa", "NAME", 0, 0, "force an instruction set; see seqtopk info"),       \
        SEQTOPK_ROW_(TEXT, type, fields.kernel, "kernel", "NAMES", 0, 0, "force kernels, separated by commas"),        \
        SEQTOPK_ROW_(TEXT, type, fields.way, "way", "NAME", 0, 0,                                                      \
                     "force a way from logits to lists; see seqtopk info"),                                            \
        SEQTOPK_ROW_(CHOICE, type, dtype, "dtype", SEQTOPK_WORDS_DTYPE, 0, 0,                                          \
                     "type of the logits; bf16 is kept in a uint16 array"),                                            \
        SEQTOPK_ROW_(CHOICE, type, fields.order, "order", SEQTOPK_WORDS_ORDER, 0, 0,                                   \
                     "order of a token's experts in the lists (default: expert)")

/*
 * Fills `desc` for E experts, `experts_of` saying whose they are. Contradictions between options are printed, by
 * name; returns SEQTOPK_OPTIONS_RUN or the exit status.
 */
int seqtopk_cli_desc_fill(const seqtopk_options *options, uint64_t given, const seqtopk_cli_desc *cli, int64_t experts,
                          const char *experts_of, int64_t top_k, seqtopk_desc *desc);

/* An option that was given and that changes nothing here: a remark on it, into `note`; false when there is none left.
 * `next` begins at 0. */
enum { SEQTOPK_NOTE = 120 };
bool seqtopk_cli_desc_note(const seqtopk_options *options, uint64_t given, const seqtopk_desc *desc, int *next,
                           char note[SEQTOPK_NOTE]);

/* The reason of a choice as the command's user knows it: "forced by --isa" for "forced by desc.isa". */
const char *seqtopk_cli_why(const char *why);

/* seqtopk_plan_create, its error printed: a forced kernel that cannot run and a value out of range are the user's. */
int seqtopk_cli_plan(const char *command, const seqtopk_desc *desc, seqtopk_plan **plan);

#endif
