/* SPDX-License-Identifier: MIT */
/*
 * Random logits such as a router makes: logit = sureness[token] * (liking[expert] + noise), noise normal, liking normal
 * at half its width, sureness even in [0.75, 1.75]. Some experts are liked by all tokens and some tokens are surer than
 * others, so that SeqTopK has something to move. No libm takes part: a seed gives the same bits on every machine.
 */
#ifndef SEQTOPK_CLI_LOGITS_H
#define SEQTOPK_CLI_LOGITS_H

#include <seqtopk/seqtopk.h>

typedef struct seqtopk_cli_logits {
    void *data; /* [tokens, experts] of the dtype, 64-byte aligned; NULL: there was no memory */
    size_t bytes;
    float *bias; /* [experts], in the range of sigmoid scores; NULL if not asked for */
} seqtopk_cli_logits;

/* Returns 0 for want of memory. seqtopk_cli_logits_free is due in either case. */
int seqtopk_cli_logits_make(seqtopk_cli_logits *logits, int64_t tokens, int64_t experts, seqtopk_dtype dtype,
                            int biased, uint64_t seed);

void seqtopk_cli_logits_free(seqtopk_cli_logits *logits);

#endif
