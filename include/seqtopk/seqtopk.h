/* SPDX-License-Identifier: MIT */
/*
 * seqtopk: CPU routing for Mixture-of-Experts models.
 *
 * A router gives every token a row of logits, one for each expert: `logits [T, E]`. Routing turns them into
 * short lists: which experts work on which token, and with what weight. This library scores the logits, selects
 * experts per token (TopK) or per sequence (SeqTopK, arXiv 2511.06494), renormalises the winners' weights and
 * writes the lists in the forms that expert matrix products read.
 *
 *     #include <seqtopk/seqtopk.h>
 *     #include <stdio.h>
 *     #include <stdlib.h>
 *
 *     // The experts of token t: ids[offsets[t]] to ids[offsets[t + 1] - 1]. Room for tokens * 8 ids and weights.
 *     seqtopk_status select_experts(const float *logits, int64_t tokens, int32_t *offsets, int32_t *ids,
 *                                   float *weights) {
 *         seqtopk_desc desc = SEQTOPK_DESC_INIT;
 *         desc.experts = 128;
 *         desc.top_k = 8;
 *         desc.norm = SEQTOPK_NORM_SUM;
 *
 *         seqtopk_input in = SEQTOPK_INPUT_INIT;
 *         in.logits = logits;
 *         in.tokens = tokens;
 *         seqtopk_output out = SEQTOPK_OUTPUT_INIT;
 *         out.token_offsets = offsets;
 *         out.expert_ids = ids;
 *         out.weights = weights;
 *         out.capacity = tokens * 8;
 *
 *         seqtopk_plan *plan;
 *         seqtopk_error error = SEQTOPK_ERROR_INIT;
 *         seqtopk_status status = seqtopk_plan_create(&plan, &desc, &error);
 *         if (status == SEQTOPK_OK) {
 *             size_t size = seqtopk_scratch_size(plan, tokens, 1, 1);
 *             void *scratch = malloc(size);
 *             status = seqtopk_route(plan, &in, &out, scratch, size, &error);
 *             free(scratch);
 *             seqtopk_plan_destroy(plan);
 *         }
 *         if (status != SEQTOPK_OK)
 *             fprintf(stderr, "%s\n", error.message);
 *         return status;
 *     }
 *
 * The words used below:
 *   T  tokens; E  experts; K  top_k, the budget of one token; S  sequences; N  selected (token, expert) pairs.
 *   candidate  a (token, expert) pair that may be selected.
 *   key        the float32 by which candidates are compared.
 *
 * THE ORDER. Candidates stand in one strict order: larger key first, then the lower token, then the lower expert;
 * -0 equals +0. Where the key is a log-probability (seqtopk_score), which is rounded and saturates, equal ones of one token
 * are told apart by its logits before that: a token alone is given in sequence scope what token scope gives it. Nothing else
 * takes part: the same input gives the same bits (ids, offsets, weights) for every
 * instruction set, kernel, number of threads and tuning file, and whatever else is in the batch. The one
 * precondition is the default floating-point environment (round to nearest, denormals honoured) while a route runs.
 *
 * MEMORY. All memory of a route is the caller's: inputs, outputs, scratch. A route neither allocates nor locks nor
 * prints. Pointers need the alignment of their element type and no more. Outputs must not overlap inputs or
 * scratch. A pointer that is NULL in an output means that this output is not wanted.
 *
 * THREADS. A plan never changes after it is made and may be used by any number of threads at once, each with
 * scratch of its own. The library starts no thread: a caller lends its own (see seqtopk_route_part, seqtopk_parallel).
 * It holds no lock that a fork could leave locked: a child may use what it has of its parent.
 *
 * STACK. A route and a step of a cache take at most 64 KiB, on each thread; making a plan, or loading a tuning file, 128 KiB.
 *
 * STRUCTS begin with `struct_size`, set by the *_INIT macros; in each of them zero (or NULL) means the default. New
 * fields come at their ends, and the size tells which ones the program knows, so that either side may be the newer:
 *   A newer library takes what a program's struct does not have as zero, and writes nothing beyond its end.
 *   An older library returns SEQTOPK_E_UNSUPPORTED where a field that it does not know is not zero; in a struct that
 *   it fills in, it leaves such a field as it was.
 */
#ifndef SEQTOPK_SEQTOPK_H
#define SEQTOPK_SEQTOPK_H

#include <stddef.h>
#include <stdint.h>

#include <seqtopk/version.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && !defined(_WIN32)
#define SEQTOPK_API __attribute__((visibility("default")))
#else
#define SEQTOPK_API
#endif

/* What the *_INIT macros are made of: the size, then zeros. */
/* clang-format off */
#ifdef __cplusplus
#define SEQTOPK_INIT_(type) ([] { type t{}; t.struct_size = sizeof(type); return t; }())
#else
#define SEQTOPK_INIT_(type) {.struct_size = sizeof(type)}
#endif
/* clang-format on */

/* ---------------------------------------------------------------- status -- */

/* What a call returns. The values are part of the ABI and never change. */
typedef enum seqtopk_status {
    SEQTOPK_OK = 0,
    SEQTOPK_E_NULL = 1,        /* a pointer that is needed is NULL */
    SEQTOPK_E_STRUCT = 2,      /* a struct_size that no version of this library has */
    SEQTOPK_E_VALUE = 3,       /* a field is outside its range */
    SEQTOPK_E_SHAPE = 4,       /* sizes that contradict each other (cu_seqlens, strides, groups) */
    SEQTOPK_E_OVERFLOW = 5,    /* more tokens or selected pairs than an int32 list can index */
    SEQTOPK_E_CAPACITY = 6,    /* the caller's output or scratch is too small */
    SEQTOPK_E_NONFINITE = 7,   /* NaN or +inf among the logits of an unmasked token, or NaN or +inf in the bias */
    SEQTOPK_E_UNSUPPORTED = 8, /* described here, but not in this version */
    SEQTOPK_E_ISA = 9,         /* a forced instruction set is unknown or cannot run on this machine */
    SEQTOPK_E_KERNEL = 10,     /* a forced kernel is unknown, cannot run here, or does not apply to this plan */
    SEQTOPK_E_MEMORY = 11,     /* seqtopk_plan_create found no memory */
    SEQTOPK_E_FILE = 12,       /* a file cannot be read or written */
    SEQTOPK_E_TUNING = 13,     /* a tuning file that is of no use here: damaged, another machine's, another version's */
    SEQTOPK_E_TEAM = 14        /* a collective of a team failed, or its ranks do not route the same thing */
} seqtopk_status;

/* A short lower-case phrase for a status; never NULL, static storage. */
SEQTOPK_API const char *seqtopk_status_string(seqtopk_status status);

/* Where to be told more than a status. Optional wherever it is taken; written on failure, cleared on success. */
typedef struct seqtopk_error {
    uint32_t struct_size;
    seqtopk_status status;
    int64_t token;     /* the first offending token of the batch, or -1 */
    char message[240]; /* what, where, and what to do; one line, always terminated */
} seqtopk_error;
/* clang-format off */
#define SEQTOPK_ERROR_INIT {sizeof(seqtopk_error), SEQTOPK_OK, -1, {0}}
/* clang-format on */

/* The version of the library that is linked, as SEQTOPK_VERSION. */
SEQTOPK_API const char *seqtopk_version(void);

/* ------------------------------------------------------------ what to do -- */

/* What the experts of a token compete with. */
typedef enum seqtopk_scope {
    SEQTOPK_SCOPE_SEQUENCE = 0, /* SeqTopK: the first T_s * K candidates of each sequence, T_s its unmasked tokens */
    SEQTOPK_SCOPE_TOKEN = 1,    /* TopK: the first K candidates of each token */
    SEQTOPK_SCOPE_ONLINE = 2    /* SeqTopK while decoding (the paper's Expert Cache): see "decoding" below */
} seqtopk_scope;

/*
 * The score s(x) of a logit x. The key is the score plus the selection bias, or, where there is no bias, anything
 * that orders the same: the log-probability for softmax in sequence scope, x itself everywhere else. Weights always
 * come from the unbiased score. A weight w is within a relative error of 1e-6 + 1.2e-7 * |log w| of float64,
 * with norm_eps or norm_floor of the softmax score of 1e-6 + 1.2e-7 * |log s| where that is more.
 */
typedef enum seqtopk_score {
    SEQTOPK_SCORE_SOFTMAX = 0,      /* exp(x - lse(row)): Mixtral, Qwen, OLMoE, DeepSeek-V2 */
    SEQTOPK_SCORE_SIGMOID = 1,      /* 1 / (1 + exp(-x)): DeepSeek-V3, Kimi K2, GLM-4.5, MiniMax-M2 */
    SEQTOPK_SCORE_SQRTSOFTPLUS = 2, /* sqrt(log(1 + exp(x))): DeepSeek-V4 */
    SEQTOPK_SCORE_LOGITS = 3        /* x: GPT-OSS, Granite */
} seqtopk_score;

/* What becomes of the winners' scores of one token, before they are multiplied by `scale`. */
typedef enum seqtopk_norm {
    SEQTOPK_NORM_DEFAULT = 0, /* SOFTMAX for SCORE_LOGITS, else NONE */
    SEQTOPK_NORM_NONE = 1,    /* the score itself */
    /* Divided by sum + norm_eps, or norm_floor if that is more; 0 where the divisor is 0. Without either the shares are exact
     * to the bound above even where scores are too small for a float32, whose logarithms are taken then. */
    SEQTOPK_NORM_SUM = 2,
    SEQTOPK_NORM_SOFTMAX = 3, /* softmax over the selected scores */
    /*
     * SCORE_LOGITS, without bias or groups (Phi-3.5-MoE at inference, where K is 2): the selected from the best on, each weighed
     * by a softmax over those of all experts, better ones that are selected left out, that are near enough to its own logit m:
     * (m - x) / max(|x|, m) <= 2 * norm_jitter. A weight is 1 where none is. Reads whole rows again.
     */
    SEQTOPK_NORM_SPARSEMIXER = 4
} seqtopk_norm;

/* What the key is made of: see seqtopk_score. */
typedef enum seqtopk_key_from {
    SEQTOPK_KEY_FROM_SCORE = 0, /* s(x) + bias */
    SEQTOPK_KEY_FROM_LOGIT =
        1 /* x + bias, while weights are s(x) (Kolibri-1; FlashInfer's TopKSigmoid). Group scores add those up */
} seqtopk_key_from;

/* How a group of experts is scored, from the scores (with bias) of its experts (DeepSeek-V2, V3; Megatron-LM). */
typedef enum seqtopk_group_score {
    SEQTOPK_GROUP_MAX = 0,  /* its best key (DeepSeek-V2) */
    SEQTOPK_GROUP_TOP2 = 1, /* the sum of its two best (DeepSeek-V3) */
    SEQTOPK_GROUP_TOPN = 2  /* the sum of its `group_n` best (Megatron-LM: n = K / group_top_k) */
} seqtopk_group_score;

typedef enum seqtopk_dtype {
    SEQTOPK_DTYPE_F32 = 0,
    SEQTOPK_DTYPE_BF16 = 1, /* the upper half of a float32, as uint16_t */
    SEQTOPK_DTYPE_F16 = 2   /* IEEE binary16, as uint16_t */
} seqtopk_dtype;

/* How the experts of one token are listed. Weights do not depend on it, to the bit. */
typedef enum seqtopk_order {
    SEQTOPK_ORDER_EXPERT = 0, /* experts ascend within a token */
    SEQTOPK_ORDER_RANK = 1,   /* best first, as torch.topk lists them */
    SEQTOPK_ORDER_GIVEN = 2   /* as seqtopk_input.given_ids has them; a call without those is refused */
} seqtopk_order;

/* What was measured on a machine: see "tuning files" below. */
typedef struct seqtopk_tuning seqtopk_tuning;

/*
 * One routing problem, but for the data. Start from SEQTOPK_DESC_INIT; only `experts` and `top_k` must be set.
 * seqtopk_desc_preset sets what is a published model's.
 */
typedef struct seqtopk_desc {
    uint32_t struct_size;
    int32_t experts; /* E, 1 to 65536; null and shared ones among them */
    int32_t top_k;   /* K, 1 to E: the experts a token gets, in sequence scope on average */
    seqtopk_scope scope;
    seqtopk_score score;
    seqtopk_norm norm;
    float norm_eps;         /* NORM_SUM: added to the sum (DeepSeek-V3: 1e-20); >= 0 */
    float norm_floor;       /* NORM_SUM: the least divisor (ERNIE 4.5: 1e-12); 0: none; >= 0 */
    float scale;            /* a last factor of every weight (routed_scaling_factor); 0 means 1 */
    int32_t norm_skip_top1; /* nonzero: with top_k == 1 NORM_SUM is skipped, as some models do */
    /*
     * Sequence and online scope (min_experts also with min_p and top_p). First every unmasked token gets its own best `min_experts` candidates; then the rest of
     * the budget goes down the order over candidates that are among their token's best `max_experts`. The budget
     * T_s * K is spent exactly, unless too few candidates are eligible.
     */
    int32_t min_experts; /* 0 to K (the paper: 1) */
    int32_t max_experts; /* 0: no bound; else at least 1 and min_experts; above E it means E (paper: K + 2) */
    /* Group-limited selection: a token keeps its best `group_top_k` of `groups` equal groups; ties: lower group. By keys, or
     * without a bias, where keys order as logits do, by those.
     * Groups with fewer candidates than their score adds up come after the others, among themselves by the sum of what
     * they have. */
    int32_t groups;      /* 0 or 1: none; else divides E */
    int32_t group_top_k; /* 1 to groups */
    seqtopk_group_score group_score;
    int32_t group_n;     /* GROUP_TOPN: 1 to E / groups; 0 means max(1, K / group_top_k) */
    seqtopk_dtype dtype; /* of the logits; arithmetic is float32 whatever they are */
    seqtopk_order order;
    int64_t tokens;  /* reserved, 0 to 2^31-1: no effect in this version, whose plans choose for every T */
    int32_t threads; /* of a typical call; 0: one. A hint for the choice of kernels, never a limit */
    /*
     * Forcing. `isa` is a name that seqtopk_isa_name lists ("ref", "avx2", ...): every stage takes its kernel of that
     * ISA, and the reference where the ISA has none; where neither has one, ways that need it do not serve. `kernel` is
     * one or more names from seqtopk_kernel_get, or of sizes (seqtopk_choice), comma-separated, each for its own stage.
     * What cannot run here is an error. Where these are NULL the environment's SEQTOPK_ISA and SEQTOPK_KERNEL are read
     * instead, but not in a program with more rights than its user. Read by seqtopk_plan_create only.
     */
    const char *isa;
    const char *kernel;
    /*
     * Which kernels are fast here, for the stages that are not forced. NULL: the machine's own file if there is one
     * (seqtopk_tuning_machine); seqtopk_tuning_none(): no file is looked for. Read by seqtopk_plan_create only.
     */
    const seqtopk_tuning *tuning;
    /*
     * Forces the way from logits to lists, by a name from seqtopk_way_get: an error if no call of this plan can go so, or,
     * when it is routed, if a call cannot. NULL: the environment's SEQTOPK_WAY, or the first that serves. Read by
     * seqtopk_plan_create only.
     */
    const char *way;
    /*
     * Token scope, no bias: of a token's first K experts only the best ones that matter, but at least one and min_experts.
     * 0: all. min_p (relative threshold): those whose score is not below min_p times the best one's; 0 to 1, not for
     * SCORE_LOGITS. top_p: the fewest whose probabilities add up to top_p; 0 to 1, SCORE_SOFTMAX only. With both, whichever
     * leaves fewer. K is the most that a token gets.
     */
    float min_p;
    float top_p;
    /*
     * The most experts that a token gets of one group, its best there, of the groups that it keeps (group_top_k 0: of all).
     * 0: no such bound; else 1 to E / groups, and groups times that not below top_k. With top_k / groups of each that is
     * InternS1-Pro's and Pangu Pro's router; in sequence scope it bounds a token's experts group by group.
     */
    int32_t group_quota;
    seqtopk_key_from key_from; /* not with min_p or top_p */
    /*
     * What the logits become before anything else, in float32: y = logit_scale * x, or with a softcap c, c * tanh(y / c),
     * saturated at +-FLT_MAX; -inf stays -inf. All that is said of logits holds for those then. A capped one is within
     * 4e-7 * |y| of float64. Grok: a softcap of 30; Muse Spark: a scale of 0.1768. Costs a pass over each block of rows.
     */
    float logit_scale;   /* 0: 1; else above 0 */
    float logit_softcap; /* 0: none; else above 0 */
    /*
     * The last `null_experts` of E compete and are weighed as others are, but there is no work in them (LongCat's pass on
     * their input, ZAYA's skips): they are left out of all lists, and seqtopk_output.null_weights has their weights. In
     * outputs E is the number of the others. 0 to E - 1; not with shared experts.
     */
    int32_t null_experts;
    /*
     * The last `shared_experts` of E do not compete: every unmasked token gets them, beside its top_k. With shared_weight 0
     * they are scored like the selected and take part in the norm (Inkling; not for SCORE_SOFTMAX), logits [T, E] have their
     * columns. Else shared_weight is their weight, norm and scale left out (fused shared experts), and logits are
     * [T, E - shared_experts]. bias, groups and given_ids are of those that compete; in lists shared ones come
     * last. A scored one with a logit of -inf is left out. 0 to E - 1.
     */
    int32_t shared_experts;
    float shared_weight;
    float norm_jitter; /* NORM_SPARSEMIXER: 0 means 0.01; >= 0 */
} seqtopk_desc;
#define SEQTOPK_DESC_INIT SEQTOPK_INIT_(seqtopk_desc)

/* --------------------------------------------------------------- a plan -- */

/* An immutable choice of kernels for one seqtopk_desc. */
typedef struct seqtopk_plan seqtopk_plan;

/*
 * Checks `desc`, reads the CPU's features, chooses kernels. On failure *plan is NULL and `error` (may be NULL) names
 * the field. Cost: microseconds; make a plan once per layer shape, not once per call.
 */
SEQTOPK_API seqtopk_status seqtopk_plan_create(seqtopk_plan **plan, const seqtopk_desc *desc, seqtopk_error *error);

/* Frees a plan. NULL is fine. No route may be using it. */
SEQTOPK_API void seqtopk_plan_destroy(seqtopk_plan *plan);

/* ------------------------------------------------------------- presets -- */

/*
 * The routers of published models, by name, so that nobody has to find out their numbers and type them. `seqtopk models`
 * shows the list.
 *
 *     seqtopk_desc desc = SEQTOPK_DESC_INIT;
 *     desc.scope = SEQTOPK_SCOPE_TOKEN;
 *     status = seqtopk_desc_preset("deepseek-v3", SEQTOPK_PARITY_HUGGING_FACE, &desc, &error);
 *
 * A preset is what stands in a desc and no more: the bias is in the checkpoint and goes to seqtopk_input.bias
 * (`is_biased` tells whose router has one), and what a model does beside (`note`) is the caller's. A checkpoint's own
 * configuration may differ from a preset of the same family; where it is at hand it is right.
 */

/* Whose weights are to be met. What guards the divisor of NORM_SUM belongs to the program that runs a model, not to the
 * model. */
typedef enum seqtopk_parity {
    SEQTOPK_PARITY_HUGGING_FACE = 0, /* transformers 5.24: the class's own eps or floor (1e-20 added, mostly) */
    SEQTOPK_PARITY_VLLM = 1,         /* no eps and no floor */
    SEQTOPK_PARITY_LLAMA_CPP = 2     /* a divisor of 2^-14 at least, and no eps */
} seqtopk_parity;

/* A row of the list. Strings are static and never NULL; "" where there is nothing to say. */
typedef struct seqtopk_preset {
    uint32_t struct_size;
    int32_t is_biased;         /* nonzero: the router adds a selection bias, which the caller has to bring */
    const char *name;          /* "deepseek-v3" */
    const char *also;          /* another name that is taken for it */
    const char *note;          /* what the model does that a desc does not say */
    const char *source;        /* where the computation was read: the class */
    const char *numbers;       /* where its E, K and other numbers are from */
    const char *second_source; /* who else says so, and of what (form, numbers); "": it rests on one source */
} seqtopk_preset;
#define SEQTOPK_PRESET_INIT SEQTOPK_INIT_(seqtopk_preset)

/* The presets, [0, count). seqtopk_preset_get returns SEQTOPK_E_VALUE beyond them. Any thread may call. */
SEQTOPK_API int32_t seqtopk_preset_count(void);
SEQTOPK_API seqtopk_status seqtopk_preset_get(int32_t index, seqtopk_preset *preset);

/*
 * Sets experts, top_k, score, norm, norm_eps, norm_floor, norm_jitter, scale, norm_skip_top1, groups, group_top_k,
 * group_score, group_n, group_quota, key_from, logit_scale, logit_softcap, null_experts, shared_experts and shared_weight of
 * a desc that began with SEQTOPK_DESC_INIT, and leaves all else (scope, bounds, min_p, top_p, dtype, order, forcing) as it
 * is; change afterwards what is to differ. In `name` upper and lower case are one. Any thread may call.
 * SEQTOPK_E_VALUE: there is no such preset, and `error` (may be NULL) names the nearest; or no such parity.
 * SEQTOPK_E_UNSUPPORTED: it sets a field that the program's seqtopk_desc ends before. On failure *desc stays as it was.
 */
SEQTOPK_API seqtopk_status seqtopk_desc_preset(const char *name, seqtopk_parity parity, seqtopk_desc *desc,
                                               seqtopk_error *error);

/* ------------------------------------------------------------- the data -- */

/* What becomes of an unmasked row that has a NaN or +inf among its logits. */
typedef enum seqtopk_nonfinite {
    SEQTOPK_NONFINITE_ERROR = 0, /* the call: SEQTOPK_E_NONFINITE, and seqtopk_error.token is the first such token */
    SEQTOPK_NONFINITE_DROP = 1,  /* the row alone, as if it were masked: it gets nothing and brings no budget */
    SEQTOPK_NONFINITE_MARK =
        2 /* the same, and its padded_weights, routing_probs and row_lse are NaN, to be seen downstream */
} seqtopk_nonfinite;

/* For row_stride: every token reads the first row. */
#define SEQTOPK_STRIDE_BROADCAST (-1)

typedef struct seqtopk_input {
    uint32_t struct_size;
    int32_t sequences;  /* S, with cu_seqlens or token_seq; ignored without */
    const void *logits; /* [tokens, E] of the plan's dtype; may be NULL when tokens == 0 */
    int64_t row_stride; /* elements from one row to the next: 0 means E; SEQTOPK_STRIDE_BROADCAST; or >= E */
    int64_t tokens;     /* T, 0 to 2^31-1; T * E may exceed 2^32 */
    const int32_t
        *cu_seqlens; /* [S + 1], from 0, never falling, to tokens; NULL: one sequence. Ignored by token scope */
    const uint8_t *token_mask; /* [T]: 0 = masked: gets nothing and brings no budget; NULL: none is masked */
    const float *bias;         /* [E]: selection bias, added to the score for the key only; -inf excludes an expert */

    /*
     * A selection that was made elsewhere: routing replay, DeepSeek-V4's hash-routed layers, an engine that has a top-k of its
     * own. These experts are listed and weighed instead of the best ones; bias, groups, bounds and budget do not count, masks
     * and -inf logits still exclude. NULL: none is given. An id below 0 is none; one that is E or more, or there twice in a
     * token: SEQTOPK_E_VALUE. In all at most T * K. `logits` may be NULL where only lists are wanted and no weights.
     */
    const int32_t *given_ids; /* [T, given_width], or with given_offsets [given_offsets[T]] */
    const int32_t
        *given_offsets;  /* [T + 1]: those of token t are [given_offsets[t], given_offsets[t + 1]); NULL: as wide */
    int32_t given_width; /* 1 to E; not read with given_offsets */
    /* So that in a server's batch one client's NaN costs that client's rows and no others (seqtopk_output.nonfinite tells). */
    seqtopk_nonfinite on_nonfinite;

    const float *
        expert_factors; /* [E], finite: what each expert's weights are multiplied by at the very end (Gemma 4, Pangu Pro) */

    /*
     * [T]: whose each token is, 0 to S - 1, in any order, in place of cu_seqlens: a batch as engines have it. Tokens of one sequence
     * are in its order; all outputs stay in the caller's. Where sequences do not follow one another in order, rows are copied
     * together as they are read. Ignored by token scope and with given_ids.
     */
    const int32_t *token_seq;
} seqtopk_input;
#define SEQTOPK_INPUT_INIT SEQTOPK_INIT_(seqtopk_input)

/*
 * A logit of -inf is never selected. NaN or +inf in an unmasked row: what on_nonfinite says; after SEQTOPK_E_NONFINITE the
 * outputs hold nothing of use. The logits of masked rows are not looked at.
 */

/* What stands in the places of a padded row [T, U] beyond the token's own experts. Weights there are 0. */
typedef enum seqtopk_padding {
    SEQTOPK_PAD_MINUS_ONE = 0, /* -1: ik_llama.cpp, KTransformers, Megatron-LM */
    SEQTOPK_PAD_EXPERTS = 1,   /* E */
    SEQTOPK_PAD_DISTINCT = 2,  /* the lowest experts that the token did not select; U <= E: llama.cpp, sglang, vLLM */
    SEQTOPK_PAD_FIRST = 3      /* its first listed expert again, whose weights are read in any case; 0 if it has none */
} seqtopk_padding;

/* Why a sequence did not go the way that was meant for it (seqtopk_plan_way_why_not) but a slower one. No bit depends on it. */
typedef enum seqtopk_fallback {
    SEQTOPK_FALLBACK_NONE = 0,   /* it did */
    SEQTOPK_FALLBACK_TIES = 1,   /* more candidates tied at a bound than there is space for */
    SEQTOPK_FALLBACK_SAMPLE = 2, /* sampled rows misled about where the sequence is cut, several times over */
    SEQTOPK_FALLBACK_FEW = 3     /* fewer candidates than the budget, or none at all: there is nothing to bound */
} seqtopk_fallback;

/* A short lower-case phrase; never NULL, static storage. */
SEQTOPK_API const char *seqtopk_fallback_string(seqtopk_fallback fallback);

/* Each group of outputs is independent of the others, and all of them come out of one call. */
typedef struct seqtopk_output {
    uint32_t struct_size;

    /* Token-major lists: the experts of token t are [token_offsets[t], token_offsets[t + 1]). */
    seqtopk_padding padding; /* for the padded lists below */
    int32_t *token_offsets;  /* [T + 1] */
    int32_t *expert_ids;     /* [capacity]; the first N are written */
    float *weights;          /* [capacity] */

    /* Expert-major lists: the tokens of expert e are [expert_offsets[e], expert_offsets[e + 1]), ascending. */
    int32_t *expert_offsets; /* [E + 1] */
    int32_t *expert_tokens;  /* [capacity] */
    int32_t *expert_slots;   /* [capacity]: index of the same pair in the token-major lists */

    int64_t capacity; /* elements in each [capacity] array; at least seqtopk_max_selected() */

    /* Padded rows: sglang, vLLM, llama.cpp (ids may be strided), KTransformers (64-bit ids). */
    int32_t *padded_ids;   /* [T, padded_width] */
    int64_t *padded_ids64; /* the same, 64-bit */
    float *padded_weights; /* [T, padded_width] */
    int64_t padded_stride; /* elements from row to row of all these; 0 means padded_width */
    int32_t
        padded_width; /* U: at least the most experts that one token can get: seqtopk_max_per_token, or of a batch whose
                            * longest sequence is known seqtopk_max_width */

    /*
     * Blocks of one expert's pairs each: moe_align_block_size of vLLM and SGLang. A slot is a pair's place in the flat padded
     * rows (token * padded_width + column), or, where no padded rows are asked for, in the token-major lists; what fills up
     * an expert's last block is T * padded_width, or T * K. An expert without pairs has no block.
     */
    int32_t block_size;     /* at least 1 */
    int32_t *block_slots;   /* sorted_token_ids [block_capacity]; the first block_total are written */
    int32_t *block_experts; /* expert_ids [block_capacity / block_size]: whose each block is; may be NULL */
    int32_t *block_total;   /* [1]: num_tokens_post_pad; may be NULL */

    /* Dense: Megatron-LM. */
    uint8_t *routing_map; /* [T, E]: 1 where selected */
    float *routing_probs; /* [T, E]: the weight, or 0 */

    float *row_lse;    /* [T]: log-sum-exp of each row, for SCORE_SOFTMAX; 0 for masked rows. Router losses use it */
    int64_t *selected; /* [1]: N, how many pairs were selected */

    /* Which way each sequence went (an index for seqtopk_way_get), and why it is not the one that was meant for it. */
    int32_t *ways;      /* [S], [1] without cu_seqlens and token_seq, and in token scope */
    int32_t *fallbacks; /* as many: seqtopk_fallback */
    int64_t *nonfinite; /* [2]: how many rows on_nonfinite has dropped, and the first of those tokens, or -1 */

    int64_t block_capacity; /* elements of block_slots: at least seqtopk_max_block_slots() */

    /* The same padded rows in fewer bytes, for what is sent or kept (routing replay). */
    int16_t *padded_ids16; /* [T, padded_width]; E up to 32768 */
    uint8_t *padded_ids8;  /* E up to 256, or 255 where E or -1, which is 255 then, is the padding */

    /* Ragged: T * K pairs gathered by token, one expert each, so that a graph whose shapes are fixed runs SeqTopK unpadded. */
    int32_t *pair_tokens; /* [capacity]: the token of each pair */
    int32_t
        fill_tail; /* nonzero: what is left of T * K pairs becomes the last pair's expert (0 of none), weight 0, token T - 1 */
    int32_t reserved; /* 0 */

    int32_t *pair_places;    /* [capacity]: where each pair is in the expert-major lists; the inverse of expert_slots */
    int32_t *expert_ends;    /* [E]: expert_offsets[e + 1]: the inclusive offsets of torch's grouped_mm */
    int64_t *expert_counts;  /* [E]: each expert's pairs, added to what stands there: usage statistics, imatrix */
    int32_t *active_experts; /* [E]: the experts that have pairs, ascending: whose weights are read */
    int32_t *active_count;   /* [1]: how many those are */

    /*
     * What a token nearly got: its best experts among those that compete for it (groups and quota count, -inf does not) but were
     * not given, best first; -1 where there are no more. And the margin: by how much the key of its last selected expert is above
     * that of the first that was not; +inf without either, below 0 where a given selection is not the best. In sequence scope a
     * token's own experts alone are compared. Each costs the keys of all rows once more.
     */
    int32_t *runner_ids; /* [T, runners] */
    float *margins;      /* [T] */
    int32_t runners;     /* 1 to E, with runner_ids */
    int32_t reserved_2;  /* 0 */

    /*
     * [T]: the sum of a token's weights of null experts, of which the desc has some. It is a sum of float32: raw logits without a
     * norm may add up to more than there is, and to infinity.
     */
    float *null_weights;

    /*
     * Sequence scope, no selection given: [S]. By how much the key of a sequence's last selected candidate, those of min_experts
     * left out, is above that of the first that was not selected and could have been; 0 where they tie, +inf without either.
     * Costs the keys of all rows once more.
     */
    float *sequence_margins;
} seqtopk_output;
#define SEQTOPK_OUTPUT_INIT SEQTOPK_INIT_(seqtopk_output)

/* The most pairs that `tokens` tokens can be given: tokens * K, or with shared experts tokens * (K + shared_experts), online tokens * max_experts, since the budget of past tokens may be
 * spent on them. -1 if that exceeds an int32 list, or on bad arguments. */
SEQTOPK_API int64_t seqtopk_max_selected(const seqtopk_plan *plan, int64_t tokens);

/* The most slots that blocks of `block_size` can take: every pair, and for each expert that can have one all but one of a block.
 * A multiple of block_size; -1 where an int32 cannot index them, or on bad arguments. */
SEQTOPK_API int64_t seqtopk_max_block_slots(const seqtopk_plan *plan, int64_t tokens, int32_t block_size);

/* The most experts that one token can be given: K in token scope; in sequence scope max_experts, or E without; and the shared. */
SEQTOPK_API int32_t seqtopk_max_per_token(const seqtopk_plan *plan);

/* The same where no sequence of a batch is longer than `longest` tokens: in sequence scope K for each of them if that is less.
 * 0 on bad arguments. */
SEQTOPK_API int32_t seqtopk_max_width(const seqtopk_plan *plan, int64_t longest);

/*
 * Bytes of scratch that are enough for any call with at most so many tokens, sequences (1 without cu_seqlens and token_seq) and
 * threads, whatever outputs are asked for. At most 20 bytes for each of tokens * K (28 with bounds), 26 for each token, 896 for
 * each sequence, 240 KiB + 204 * E for each thread (with scaled or capped logits 288 KiB + 264 * E), and 80 KiB + 8 * E;
 * tokens * E never enters. Shared experts add to K. 0 on bad arguments.
 */
SEQTOPK_API size_t seqtopk_scratch_size(const seqtopk_plan *plan, int64_t tokens, int64_t sequences, int32_t threads);

/* -------------------------------------------------------------- routing -- */

/* Routes on the calling thread. Never stops halfway: it returns SEQTOPK_OK with every output whole, or an error. */
SEQTOPK_API seqtopk_status seqtopk_route(const seqtopk_plan *plan, const seqtopk_input *input,
                                         const seqtopk_output *output, void *scratch, size_t scratch_size,
                                         seqtopk_error *error);

/*
 * Routes in a team that has its own barrier (as ggml's custom operators have). A route is some steps; in each step, every
 * one of the `parts` threads calls once with its own `part`, with all other arguments equal, and nobody begins a step before
 * all have ended the last. The scratch is shared and sized for `parts` threads. An error is returned to every part from the
 * step after it on; a team goes through all steps in any case.
 *
 *     const int steps = seqtopk_route_steps_of(plan, &in, nth);
 *     for (int step = 0; step < steps; step++) {
 *         status = seqtopk_route_part(plan, &in, &out, scratch, size, step, ith, nth, NULL);
 *         barrier();
 *     }
 *
 * How many steps: seqtopk_route_steps_of says it of this call (0 on bad arguments), seqtopk_route_steps_for of any call of so
 * many tokens, with token_seq, which takes some more, or without; seqtopk_route_steps of any call. Steps beyond a call's own do
 * nothing. Where there is nothing to share, which is one token or one part, the first step of part 0 does all, and an error is
 * what that returned: the first two say 1 then, which spares a decode step the other barriers.
 */
SEQTOPK_API int32_t seqtopk_route_steps(const seqtopk_plan *plan);
SEQTOPK_API int32_t seqtopk_route_steps_for(const seqtopk_plan *plan, int64_t tokens, int32_t parts);
SEQTOPK_API int32_t seqtopk_route_steps_of(const seqtopk_plan *plan, const seqtopk_input *input, int32_t parts);
SEQTOPK_API seqtopk_status seqtopk_route_part(const seqtopk_plan *plan, const seqtopk_input *input,
                                              const seqtopk_output *output, void *scratch, size_t scratch_size,
                                              int32_t step, int32_t part, int32_t parts, seqtopk_error *error);

/* A loan of threads: OpenMP, at::parallel_for, pthreadpool, ONNX Runtime. */
typedef struct seqtopk_parallel {
    uint32_t struct_size;
    int32_t threads; /* the most that may run at once; 1 to 1024 */
    /* Calls task(arg, i) once for each i in [0, n), n <= threads, in any order, at once or one by one; returns when all
     * have ended. One that is run again does nothing. One that has not ended is SEQTOPK_E_VALUE, and a cache's step then is
     * half done: its sequences are to be cleared. A task that runs after the return reads memory that is gone. */
    void (*parallel_for)(void *context, int32_t n, void (*task)(void *arg, int32_t i), void *arg);
    void *context;
} seqtopk_parallel;
#define SEQTOPK_PARALLEL_INIT SEQTOPK_INIT_(seqtopk_parallel)

/* seqtopk_route on lent threads. Small work wakes no second thread. */
SEQTOPK_API seqtopk_status seqtopk_route_parallel(const seqtopk_plan *plan, const seqtopk_input *input,
                                                  const seqtopk_output *output, void *scratch, size_t scratch_size,
                                                  const seqtopk_parallel *parallel, seqtopk_error *error);

/* ----------------------------------------------------------------- teams -- */

/*
 * A loan of collectives: MPI, torch.distributed, or whatever connects the `size` ranks of a team, machines most often, that
 * share sequences. (seqtopk_mpi_team of libseqtopk_mpi makes one of an MPI_Comm.) Both return 0 when done, in place, and any
 * other number when they failed. All ranks call the same ones in the same order with the same n; a team is used by one
 * call at a time. With size 1 they are not called and may be NULL.
 */
typedef struct seqtopk_team {
    uint32_t struct_size;
    int32_t rank;                                                   /* 0 to size - 1: the order of tokens */
    int32_t size;                                                   /* 1 to 32768 */
    int32_t count_all;                                              /* 0, or 1: see COMMUNICATION */
    int (*allreduce_sum)(void *context, int64_t *words, int64_t n); /* words[i]: the sum of all ranks' words[i] */
    int (*exscan_sum)(void *context, int64_t *words, int64_t n);    /* the sum of those of lower ranks; 0 at rank 0 */
    void *context;
} seqtopk_team;
#define SEQTOPK_TEAM_INIT SEQTOPK_INIT_(seqtopk_team)

/*
 * Routes sequences that are longer than one machine. Each rank has a part of each sequence, in the order of ranks: of S
 * sequences in `input` (cu_seqlens; as many on all ranks, parts may be empty) its own tokens, and it gets for those exactly
 * what seqtopk_route gives them where all tokens are together, to the bit. Outputs, and the tokens and offsets in them, are of the
 * rank's own tokens alone. Plan, bias and on_nonfinite must be the same on all ranks; SEQTOPK_E_TEAM tells if they differ.
 *
 * COMMUNICATION never depends on T, E or K: an all-reduce has at most 14,336 bytes for each sequence. The keys of a few sampled
 * rows give a bracket around each sequence's cut (one all-reduce; with several sequences two, since the first tells whether
 * all have as many), each rank collects its candidates down to that, and counts of them narrow the bracket down to one key: one
 * or two more, and hardly ever three or four, where the sample misled. With team.count_all the keys of all rows are counted in
 * place of a sample: never more than two follow, as long as fewer than 2^31 candidates are in a 64th or so of the keys' octave
 * where the cut is; but the local pass takes several times as long. Ties across ranks, or few candidates that are far
 * apart, cost an exscan of a word a sequence.
 *
 * SPACE. A rank can get more pairs than its tokens bring: up to seqtopk_team_max_selected. output.capacity may be less;
 * where any rank then has too little, all of them return SEQTOPK_E_CAPACITY, which costs an all-reduce more to know if a rank
 * is near that. padded_width must be seqtopk_max_per_token. fill_tail fills up to capacity, and what fills blocks is
 * T * padded_width or the capacity.
 *
 * ERRORS are the same on all ranks, whoever made them, and all ranks are out of the call: a NaN's error.token is the first
 * in the batch of all ranks, sequence after sequence. SEQTOPK_E_TEAM: a collective failed, and the others may have returned
 * something else. SEQTOPK_E_UNSUPPORTED: token_seq, or a plan of online scope. In token scope, and with given_ids, tokens
 * do not compete: each rank routes its own.
 *
 * parallel: this rank's threads, as for seqtopk_route_parallel; NULL: the calling one, which calls all collectives.
 */
SEQTOPK_API seqtopk_status seqtopk_route_team(const seqtopk_plan *plan, const seqtopk_input *input,
                                              const seqtopk_output *output, void *scratch, size_t scratch_size,
                                              const seqtopk_team *team, const seqtopk_parallel *parallel,
                                              seqtopk_error *error);

/* The most pairs that `tokens` tokens of a rank can get, whatever other ranks have: each as many as one token can. The most
 * that int32 lists can index if that is less; -1 on bad arguments. */
SEQTOPK_API int64_t seqtopk_team_max_selected(const seqtopk_plan *plan, int64_t tokens);

/*
 * Bytes of scratch that are enough for a rank's call with at most so many tokens, sequences and threads and that
 * output.capacity (0: seqtopk_team_max_selected): as seqtopk_scratch_size, but with capacity in place of tokens * K, and
 * 29 KB more for each sequence. 0 on bad arguments.
 */
SEQTOPK_API size_t seqtopk_team_scratch_size(const seqtopk_plan *plan, int64_t tokens, int64_t sequences,
                                             int64_t capacity, int32_t threads);

/* ------------------------------------------------------- expert parallel -- */

/*
 * Which rows a rank sends to whom where experts live on several ranks, from its lists by token: what MPI_Alltoallv and
 * torch.distributed.all_to_all_single take as counts, which token each row is, and where a pair's result comes back.
 *
 * An expert has one copy or several (redundant experts), each at a destination; a pair goes to copy
 * (slot + turn) mod n of its expert, a slot being its place in the lists. Destinations are ranks, or nodes: in a hierarchy
 * tokens go once to each node, with the expert ids that they have there (row_offsets, row_slots), and the rank that
 * receives them makes lists of those for an exchange among the ranks of its node.
 */
typedef struct seqtopk_exchange {
    uint32_t struct_size;
    int32_t experts;      /* E of the lists */
    int32_t destinations; /* R */
    int32_t once; /* 0: a row for each pair, ordered by destination, there by copy, then by slot. Nonzero: one for each
                           * token and destination, ordered by destination, then by token */
    const int32_t *
        copy_offsets; /* [E + 1]: the copies of expert e are [copy_offsets[e], copy_offsets[e + 1]); at least one. NULL:
                                  * one each */
    const int32_t *places; /* [copies]: the destination of each copy */
    int64_t turn;          /* 0 to 2^31-1: so that ranks do not all begin at the same copy */

    /* What is wanted, NULL if it is not. */
    int32_t *send_counts;  /* [R]: rows for each destination */
    int32_t *send_offsets; /* [R + 1]: where they begin */
    int32_t *send_tokens;  /* [rows]: whose row each is */
    int32_t *slot_copies;  /* [N]: the copy that each pair goes to */
    int32_t *slot_rows;    /* [N]: the row of each pair: where its result comes back */
    int32_t *row_offsets;  /* [rows + 1]: the pairs of each row, of row_slots */
    int32_t *row_slots;    /* [N]; where tokens go once, with row_offsets and slot_rows */
    int32_t *copy_counts;  /* [copies]: pairs of each copy: sent along, they tell a receiver whose rows are whose */
    int64_t *rows;         /* [1]: N at most */
} seqtopk_exchange;
#define SEQTOPK_EXCHANGE_INIT SEQTOPK_INIT_(seqtopk_exchange)

/*
 * Of lists by token, token_offsets [tokens + 1] and expert_ids [N], as a route writes them. Reads nothing else, and takes time
 * in proportion to N. SEQTOPK_E_VALUE, _SHAPE and _NULL name what is wrong.
 */
SEQTOPK_API seqtopk_status seqtopk_exchange_make(const seqtopk_exchange *exchange, int64_t tokens,
                                                 const int32_t *token_offsets, const int32_t *expert_ids, void *scratch,
                                                 size_t scratch_size, seqtopk_error *error);

/* Bytes of scratch for that: 4 for each copy, and 8 for each destination. 0 on bad arguments. */
SEQTOPK_API size_t seqtopk_exchange_scratch_size(int32_t copies, int32_t destinations);

/* ------------------------------------------------------------- decoding -- */

/*
 * SeqTopK while a sequence grows. Token m of a sequence gets exactly what a route over its tokens 1 to m, in sequence scope,
 * gives token m; what tokens before it got stays. (Offline, where all tokens are known, a token competes with later ones
 * too, so that the two differ in about one pair of a hundred.) For that a cache keeps, of each layer and sequence, the keys
 * that may still matter: those of a token's candidates of rank min_experts + 1 to max_experts, 4 bytes each and about as
 * much again. What a step costs does not grow with the past.
 *
 *     seqtopk_desc desc = SEQTOPK_DESC_INIT;            // one for each kind of layer
 *     desc.experts = 128, desc.top_k = 8;
 *     desc.scope = SEQTOPK_SCOPE_ONLINE;
 *     desc.min_experts = 1, desc.max_experts = 10;      // the paper's bounds: without, all E keys of a token are kept
 *     seqtopk_plan_create(&plan, &desc, &error);
 *
 *     seqtopk_cache_desc cache_desc = SEQTOPK_CACHE_DESC_INIT;
 *     cache_desc.layers = 48;
 *     cache_desc.plan = plan;
 *     cache_desc.sequences = 64;
 *     seqtopk_cache_create(&cache, &cache_desc, &error);
 *
 *     seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT; // in each layer, for a batch of tokens
 *     rows.layer = 7;
 *     rows.sequences = sequences;                        // [T]: whose each row is
 *     rows.positions = positions;                        // [T]
 *     seqtopk_cache_step(cache, &rows, &in, &out, scratch, size, &error);
 *
 * THREADS. A layer of a sequence is written by one thread at a time; different layers, and different sequences, may be
 * stepped at once. What is done with whole sequences (truncate, remove, copy, clear, reorder, save, load) goes through all
 * layers: no step of such a sequence may be under way, nor of any where `reorder` is.
 */
typedef struct seqtopk_cache seqtopk_cache;

/* How tokens of one sequence that come in one call are taken. */
typedef enum seqtopk_take {
    SEQTOPK_TAKE_CAUSAL =
        0, /* as if they came one by one: does not depend on where chunks or drafts end. For serving */
    SEQTOPK_TAKE_JOINT =
        1 /* they and all before compete for the budget of all: over a whole prompt this is SeqTopK offline */
} seqtopk_take;

/* What a cache keeps of the past. */
typedef enum seqtopk_cache_mode {
    SEQTOPK_CACHE_EXACT = 0, /* all that may matter */
    SEQTOPK_CACHE_THRESHOLD =
        1, /* nothing: what reaches `threshold` is selected, within the bounds (a trained threshold) */
    /*
     * Counts of keys over a grid of 15,360 bins: at most 64 KiB for each layer and sequence, however long. It is exact mode on
     * keys rounded down to the grid: steps of 2^-11 of log-probabilities from -7.5 on, of 2^-8 of logits from -30 to 30, ten
     * bits of the mantissa of scores with a bias from 2^-11 to 16. So a candidate in the cut's own bin may lose where exact mode
     * would have given it, some 0.03 % of pairs; seqtopk_cache_stats.doubtful counts those. The middle of a sequence cannot be
     * removed, and only the last `rollback` tokens can be taken back, or be taken jointly.
     */
    SEQTOPK_CACHE_COMPACT = 2
} seqtopk_cache_mode;

typedef struct seqtopk_cache_desc {
    uint32_t struct_size;
    int32_t layers;           /* 1 to 65536 */
    const seqtopk_plan *plan; /* of all layers, of online scope; stays the caller's and must outlive the cache */
    const seqtopk_plan *const *plans; /* [layers], where layers differ; NULL: `plan` */
    int32_t sequences;                /* the most sequences: their ids are 0 to sequences - 1; 1 to 2^24 / layers */
    seqtopk_cache_mode mode;
    int64_t max_tokens; /* of one sequence; 0: 2^31 - 1 */
    int64_t max_bytes;  /* of all of the cache; 0: no limit but memory */
    float threshold;    /* CACHE_THRESHOLD: a key (of softmax the logarithm of a probability) */
    int32_t
        is_ledger; /* nonzero: a sequence is never given more than top_k pairs for each token so far (a token bucket) */
    int32_t
        rollback; /* CACHE_COMPACT: 0: what fits, which is 74 tokens with 9 keys of a token. Else tokens go back at will */
    int32_t reserved; /* 0 */
} seqtopk_cache_desc;
#define SEQTOPK_CACHE_DESC_INIT SEQTOPK_INIT_(seqtopk_cache_desc)

/* SEQTOPK_E_VALUE and _NULL name the field; SEQTOPK_E_MEMORY. On failure *cache is NULL. */
SEQTOPK_API seqtopk_status seqtopk_cache_create(seqtopk_cache **cache, const seqtopk_cache_desc *desc,
                                                seqtopk_error *error);
/* NULL is fine. */
SEQTOPK_API void seqtopk_cache_destroy(seqtopk_cache *cache);

/* Whose the rows of a step are. */
typedef struct seqtopk_cache_rows {
    uint32_t struct_size;
    int32_t layer;
    const int32_t *sequences; /* [T], in any order; NULL: all are sequence 0's */
    /*
     * [T]: each token's place in its sequence, from 0. The sequence's length: it is appended. Less: the sequence is truncated
     * there first (drafts that were rejected). More: SEQTOPK_E_SHAPE, since tokens before it are missing. Further rows of the
     * same sequence must follow one another. NULL: each follows what there is.
     */
    const int64_t *positions;
    seqtopk_take take;
    int32_t reserved; /* 0 */
} seqtopk_cache_rows;
#define SEQTOPK_CACHE_ROWS_INIT SEQTOPK_INIT_(seqtopk_cache_rows)

/*
 * Routes input.tokens rows, of one layer, of any sequences, and takes them into the cache. Outputs are those of seqtopk_route;
 * a token may get max_experts, so that capacity is seqtopk_max_selected(plan, tokens), which online is tokens * max_experts.
 * Masked tokens take a place in their sequence, and no more. cu_seqlens is not read; given_ids are not supported. An error,
 * bad logits among them, changes nothing. Steps take memory when a sequence outgrows what it has: SEQTOPK_E_MEMORY.
 */
SEQTOPK_API seqtopk_status seqtopk_cache_step(seqtopk_cache *cache, const seqtopk_cache_rows *rows,
                                              const seqtopk_input *input, const seqtopk_output *output, void *scratch,
                                              size_t scratch_size, seqtopk_error *error);

/* Bytes of scratch for a step with at most so many rows and threads, in any layer. 0 on bad arguments. */
SEQTOPK_API size_t seqtopk_cache_scratch_size(const seqtopk_cache *cache, int64_t tokens, int32_t threads);

/* A step in a team, as seqtopk_route_part: seqtopk_cache_parts(cache) steps with a barrier after each. */
SEQTOPK_API int32_t seqtopk_cache_parts(const seqtopk_cache *cache);
SEQTOPK_API seqtopk_status seqtopk_cache_step_part(seqtopk_cache *cache, const seqtopk_cache_rows *rows,
                                                   const seqtopk_input *input, const seqtopk_output *output,
                                                   void *scratch, size_t scratch_size, int32_t step, int32_t part,
                                                   int32_t parts, seqtopk_error *error);

/* A step on lent threads. */
SEQTOPK_API seqtopk_status seqtopk_cache_step_parallel(seqtopk_cache *cache, const seqtopk_cache_rows *rows,
                                                       const seqtopk_input *input, const seqtopk_output *output,
                                                       void *scratch, size_t scratch_size,
                                                       const seqtopk_parallel *parallel, seqtopk_error *error);

/*
 * The life of a sequence, in all layers. Whatever was done, the next step's bits are those of a fresh run over the same
 * tokens. SEQTOPK_E_VALUE: there is no such sequence or place; SEQTOPK_E_MEMORY, and then nothing has changed.
 */

/* How many tokens layer `layer` has of a sequence; -1 on bad arguments. */
SEQTOPK_API int64_t seqtopk_cache_length(const seqtopk_cache *cache, int32_t layer, int32_t sequence);

/* Forgets tokens from `tokens` on. Layers that have fewer stay as they are. */
SEQTOPK_API seqtopk_status seqtopk_cache_truncate(seqtopk_cache *cache, int32_t sequence, int64_t tokens,
                                                  seqtopk_error *error);

/* Forgets tokens [from, to); those behind move up (context shift). */
SEQTOPK_API seqtopk_status seqtopk_cache_remove(seqtopk_cache *cache, int32_t sequence, int64_t from, int64_t to,
                                                seqtopk_error *error);

/* Makes sequence `to` one of the first `tokens` tokens of sequence `from` (-1: all). What both have is shared until one
 * writes: the cost does not depend on how much that is. */
SEQTOPK_API seqtopk_status seqtopk_cache_copy(seqtopk_cache *cache, int32_t to, int32_t from, int64_t tokens,
                                              seqtopk_error *error);

/* Forgets a sequence; -1: all. */
SEQTOPK_API seqtopk_status seqtopk_cache_clear(seqtopk_cache *cache, int32_t sequence, seqtopk_error *error);

/* Forgets all sequences but one. */
SEQTOPK_API seqtopk_status seqtopk_cache_keep(seqtopk_cache *cache, int32_t sequence, seqtopk_error *error);

/* Sequence i becomes what sequence parents[i] was, for i in [0, n): beam search, repeated or selected batches. A parent of -1
 * leaves i empty. */
SEQTOPK_API seqtopk_status seqtopk_cache_reorder(seqtopk_cache *cache, const int32_t *parents, int32_t n,
                                                 seqtopk_error *error);

/*
 * Tokens out and in without routing: a prefix that a paged cache has kept. All layers of tokens [from, to) of a sequence as
 * bytes, `size` of them told first by seqtopk_cache_save_size (0 on bad arguments); `load` appends them to a sequence, whose
 * length must be the `from` they were saved with. The blob is versioned and has a checksum: SEQTOPK_E_FILE, and the reason,
 * where it is torn or not one, SEQTOPK_E_SHAPE where it is of other layers, experts or bounds.
 */
SEQTOPK_API size_t seqtopk_cache_save_size(const seqtopk_cache *cache, int32_t sequence, int64_t from, int64_t to);
SEQTOPK_API seqtopk_status seqtopk_cache_save(const seqtopk_cache *cache, int32_t sequence, int64_t from, int64_t to,
                                              void *blob, size_t size, seqtopk_error *error);
SEQTOPK_API seqtopk_status seqtopk_cache_load(seqtopk_cache *cache, int32_t sequence, const void *blob, size_t size,
                                              seqtopk_error *error);

/* What a layer of a sequence has; layer -1: all layers, sequence -1: all sequences. */
typedef struct seqtopk_cache_stats {
    uint32_t struct_size;
    int32_t reserved;
    int64_t tokens;       /* masked ones among them */
    int64_t budget;       /* top_k for each unmasked token */
    int64_t pairs;        /* that were given */
    int64_t bytes;        /* of what belongs to it alone */
    int64_t shared_bytes; /* and of what it shares with copies */
    int64_t doubtful;     /* CACHE_COMPACT: candidates that lost in the cut's bin */
    int64_t most_read;    /* the largest step: keys of the past that it went through beside its own */
} seqtopk_cache_stats;
#define SEQTOPK_CACHE_STATS_INIT SEQTOPK_INIT_(seqtopk_cache_stats)

SEQTOPK_API seqtopk_status seqtopk_cache_get_stats(const seqtopk_cache *cache, int32_t layer, int32_t sequence,
                                                   seqtopk_cache_stats *stats);

/* -------------------------------------------------------- introspection -- */

/* One compiled-in kernel. Strings are static. */
typedef struct seqtopk_kernel {
    uint32_t struct_size;
    int32_t revision; /* rises when a kernel's speed may have changed; tuning files name it */
    const char *name; /* seqtopk_<op>_<dtype>__<isa>_<algorithm> */
    const char *op;   /* the stage: "lse", "keys", "collect_logits", ... */
    const char *dtype;
    const char *isa;
    const char *algorithm;
    const char *about; /* one line: how it works and when it applies */
    int32_t usable;    /* nonzero if this machine can run it */
} seqtopk_kernel;
#define SEQTOPK_KERNEL_INIT SEQTOPK_INIT_(seqtopk_kernel)

/* The kernels compiled in, [0, count). seqtopk_kernel_get returns SEQTOPK_E_VALUE beyond them. */
SEQTOPK_API int32_t seqtopk_kernel_count(void);
SEQTOPK_API seqtopk_status seqtopk_kernel_get(int32_t index, seqtopk_kernel *kernel);

/* The instruction sets that the library knows for this architecture, "ref" first; NULL beyond the last. */
SEQTOPK_API const char *seqtopk_isa_name(int32_t index);
/* Nonzero if this CPU and operating system can run it. */
SEQTOPK_API int32_t seqtopk_isa_usable(const char *isa);
/* The CPU features that it needs, as one line ("avx512f avx512bw ..."); "" for ref; NULL for an unknown name. */
SEQTOPK_API const char *seqtopk_isa_features(const char *isa);

/*
 * A way from logits to lists: which kernels follow one another. Of the ways that serve a sequence (by scope, bias, groups,
 * bounds, K, E and length) the first is taken; the last, "staged", serves everything and is slow. All give the same bits.
 */
typedef struct seqtopk_way {
    uint32_t struct_size;
    int32_t instead; /* the way that takes over where the data turn out not to suit this one */
    const char *name;
    const char *about; /* one line. Both are static */
} seqtopk_way;
#define SEQTOPK_WAY_INIT SEQTOPK_INIT_(seqtopk_way)

/* The ways, [0, count), in the order of preference. seqtopk_way_get returns SEQTOPK_E_VALUE beyond them. */
SEQTOPK_API int32_t seqtopk_way_count(void);
SEQTOPK_API seqtopk_status seqtopk_way_get(int32_t index, seqtopk_way *way);

/*
 * Why a way does not serve a call of one sequence of so many tokens (in token scope: a batch) on one thread, with a selection
 * bias or without; NULL: it does. The first that does is the one that such a sequence is sent. Static storage.
 */
SEQTOPK_API const char *seqtopk_plan_way_why_not(const seqtopk_plan *plan, int32_t way, int64_t tokens,
                                                 int32_t is_biased);

/* One decision of a plan: which kernel serves a stage, for calls of at least `tokens_from` tokens, and why. */
typedef struct seqtopk_choice {
    uint32_t struct_size;
    int32_t contenders; /* kernels that could have served */
    const char *op;     /* the stage; or a size: how much at a time ("sample", "block", ...) */
    const char *kernel; /* its name, or the size's value as a name ("block_logits4096") */
    const char *why;    /* "forced by desc.isa", "tuning file PATH line 12", "model: ..."; lives as long as the plan */
    int64_t tokens_from;
} seqtopk_choice;
#define SEQTOPK_CHOICE_INIT SEQTOPK_INIT_(seqtopk_choice)

/* The decisions of a plan, [0, count). */
SEQTOPK_API int32_t seqtopk_plan_choice_count(const seqtopk_plan *plan);
SEQTOPK_API seqtopk_status seqtopk_plan_choice(const seqtopk_plan *plan, int32_t index, seqtopk_choice *choice);

/* -------------------------------------------------------- tuning files -- */

/*
 * Which kernel is fastest, for how many tokens, differs from machine to machine. A tuning file says what was measured
 * on one; `seqtopk tune` writes it. Without one a model chooses. A tuning file changes how long a route takes and
 * nothing else: not a bit of what comes out, and it never makes a kernel run that this machine cannot run or that does
 * not apply.
 *
 * Files are of one machine, library version and build. A file that is damaged or another machine's is ignored whole; a
 * line that cannot be used (its kernel is gone or has changed since) is ignored alone. seqtopk_tuning_get_info and
 * seqtopk_tuning_dropped tell the reasons.
 *
 * A plan takes, stage by stage, what was measured for the shape nearest to its own. Where none is near, and for T far
 * from those that were measured, the model chooses.
 */

/* Stands for no tuning at all. */
SEQTOPK_API const seqtopk_tuning *seqtopk_tuning_none(void);

/*
 * This machine's own. The first call, by seqtopk_plan_create most often, looks for the file: SEQTOPK_TUNING in the
 * environment if that is set (a path, or "none"); else $XDG_CACHE_HOME/seqtopk or ~/.cache/seqtopk, then /etc/seqtopk,
 * then the directory that the library was built with (option tuning_dir), in each for a file of this machine's name.
 * The first that can be used is, as long as the process lives. Never NULL; any thread may call. Where memory fails, there
 * is none for now and the next call looks again. A program that runs with more rights than its user (setuid) reads no
 * SEQTOPK_ variable and nothing of its user's.
 */
SEQTOPK_API const seqtopk_tuning *seqtopk_tuning_machine(void);

/*
 * Takes a file's text, which is copied, or reads a file. *tuning is the caller's to free; no plan needs it once made.
 * Any number of threads may use one. SEQTOPK_E_TUNING: of no use here, and why; SEQTOPK_E_FILE: cannot be read;
 * SEQTOPK_E_MEMORY. On failure *tuning is NULL.
 */
SEQTOPK_API seqtopk_status seqtopk_tuning_parse(seqtopk_tuning **tuning, const void *text, size_t size,
                                                seqtopk_error *error);
SEQTOPK_API seqtopk_status seqtopk_tuning_load(seqtopk_tuning **tuning, const char *path, seqtopk_error *error);

/* NULL is fine, and so are the two above, which stay. */
SEQTOPK_API void seqtopk_tuning_free(seqtopk_tuning *tuning);

typedef struct seqtopk_tuning_info {
    uint32_t struct_size;
    int32_t shapes;     /* that it has choices for which can be used here */
    int32_t dropped;    /* lines of choices that cannot, wholly or for some T */
    const char *path;   /* of the file; NULL: from no file */
    const char *reason; /* what seqtopk_tuning_machine found, a line for each place it looked at; else "" */
} seqtopk_tuning_info;
#define SEQTOPK_TUNING_INFO_INIT SEQTOPK_INIT_(seqtopk_tuning_info)

/* Reads the whole of the choices. Strings live as long as `tuning`. */
SEQTOPK_API seqtopk_status seqtopk_tuning_get_info(const seqtopk_tuning *tuning, seqtopk_tuning_info *info);

/* Why line *line was dropped, for index in [0, dropped); NULL beyond. Static. Reads the choices up to that line. */
SEQTOPK_API const char *seqtopk_tuning_dropped(const seqtopk_tuning *tuning, int32_t index, int32_t *line);

/* What a tuning file of this machine must say: CPU, usable instruction sets, caches, compiler and version. Static. Without
 * memory to keep it, "unknown" for now. */
SEQTOPK_API const char *seqtopk_machine_key(void);

#ifdef __cplusplus
}
#endif

#endif
