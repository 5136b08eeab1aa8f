/* SPDX-License-Identifier: MIT */
/* How much at a time: sizes that decide between ways through a route, and that the tuner can measure like kernels. */
#include "arch/kernel.h"

#include <stdint.h>

static int64_t between(int64_t least, int64_t n, int64_t most) { return n < least ? least : n > most ? most : n; }

#define SAMPLE(algorithm, share, most)                                                                                 \
    seqtopk_sample_fn seqtopk_sample_i32__ref_##algorithm;                                                             \
    int64_t seqtopk_sample_i32__ref_##algorithm(int64_t tokens) { return between(8, tokens / (share), most); }

SAMPLE(share32, 32, 64)
SAMPLE(share16, 16, SEQTOPK_SAMPLE_MOST)
SAMPLE(share64, 64, 64)

#define BLOCK(algorithm, logits)                                                                                       \
    seqtopk_block_fn seqtopk_block_i32__ref_##algorithm;                                                               \
    int64_t seqtopk_block_i32__ref_##algorithm(int32_t experts) { return between(1, (logits) / experts, logits); }

BLOCK(logits4096, 4096)
BLOCK(logits2048, 2048)
BLOCK(logits8192, 8192)
