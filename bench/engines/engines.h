/* SPDX-License-Identifier: MIT */
/* What bench/engines/run.py finds in its module. */
#ifndef SEQTOPK_BENCH_ENGINES_H
#define SEQTOPK_BENCH_ENGINES_H

#include <stdint.h>

#define ENGINES_BLOCK 32 /* tokens of a block, as SGLang's CPU kernels have it */

/* Forms of ours, to be added up. */
enum {
    ENGINES_TOKENS = 1,
    ENGINES_PADDED = 2,
    ENGINES_PADDED64 = 4,
    ENGINES_EXPERTS = 8,
    ENGINES_BLOCKS = 16,
    ENGINES_REST = 32,
    ENGINES_DENSE = 64
};

/* A router as its preset has it. */
typedef struct engines_router {
    int32_t experts, top_k, score, by_sum, groups, group_top_k, group_terms;
    float eps, scale;
} engines_router;

typedef struct engines_work engines_work; /* what the peers write to */

extern "C" {
struct engines_bench;
engines_bench *engines_open(const char *model, int64_t tokens, int order_by_rank);
void engines_close(engines_bench *b);
void engines_shape(const engines_bench *b, engines_router *router);
/* CPU time of a call in ns; below 0: it failed. */
double engines_ours(engines_bench *b, const float *logits, const float *bias, int forms, int calls);
double engines_llama(engines_bench *b, const float *logits, const float *bias, int calls);
double engines_sglang(engines_bench *b, const float *logits, const float *bias, int calls);
void engines_ids(const engines_bench *b, int whose, int32_t *ids, float *weights);
const char *engines_version(void);
}

engines_work *engines_work_new(const engines_router *router, int64_t tokens);
void engines_work_free(engines_work *work);
const int32_t *engines_work_ids(const engines_work *work);
const float *engines_work_weights(const engines_work *work);
void engines_llama_route(const engines_router *router, engines_work *work, const float *logits, const float *bias,
                         int64_t tokens);
void engines_sglang_route(const engines_router *router, engines_work *work, const float *logits, const float *bias,
                          int64_t tokens);

#endif
