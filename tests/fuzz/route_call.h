/* SPDX-License-Identifier: MIT */
/* A call to route, made of bytes: whatever they are, all memory that it names is there. */
#ifndef SEQTOPK_TESTS_FUZZ_ROUTE_CALL_H
#define SEQTOPK_TESTS_FUZZ_ROUTE_CALL_H

#include "source.h"

#include <seqtopk/seqtopk.h>

enum {
    FUZZ_TOKENS = 1000,
    FUZZ_EXPERTS = 300,
    FUZZ_CELLS = 12000, /* tokens * experts; larger would be slower and nothing else */
    FUZZ_RUNNERS = 8,
    FUZZ_SEQUENCES = 8,
    FUZZ_PARTS = 4
};

typedef struct fuzz_call {
    seqtopk_desc desc;
    seqtopk_input in;
    seqtopk_padding padding;
    int32_t wider, gap; /* of padded rows: beyond what a token can get, and from row to row */
    int32_t runners;
    int32_t cu[8], token_seq[FUZZ_TOKENS], given_offsets[FUZZ_TOKENS + 1];
    uint8_t mask[FUZZ_TOKENS];
    float bias[FUZZ_EXPERTS], factors[FUZZ_EXPERTS];
    void *logits;   /* of exactly the bytes that may be read */
    int32_t *given; /* the same */
} fuzz_call;

/* 0: no memory. fuzz_free_call in either case. */
int fuzz_take_call(source *s, fuzz_call *call);
void fuzz_free_call(fuzz_call *call);

/* What it is, in one line. */
void fuzz_call_text(const fuzz_call *call, char *text, size_t size);

/* How many experts outputs speak of; 0 where the desc is nonsense. */
int32_t fuzz_listed(const fuzz_call *call);

#endif
