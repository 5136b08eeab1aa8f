/* SPDX-License-Identifier: MIT */
/* Logits to time with: the same on every machine, as a router's are: some experts liked by all, some tokens surer. */
#ifndef SEQTOPK_TUNE_DATA_H
#define SEQTOPK_TUNE_DATA_H

#include <seqtopk/seqtopk.h>

#include <stdbool.h>

typedef struct seqtopk_tune_data {
    void *logits; /* [tokens, experts] */
    int64_t tokens;
    int32_t experts;
    seqtopk_dtype dtype;
    float *bias; /* [experts] */
} seqtopk_tune_data;

/* A small shape is timed on several inputs in turn, so many logits in all: over one input again and again a processor
 * learns every branch by heart. */
enum { SEQTOPK_TUNE_TURNS = 1 << 18 };

/* How many inputs of so many tokens are taken in turn. */
int64_t seqtopk_tune_turns(int64_t tokens, int32_t experts);

/* Makes `data` hold at least so many tokens, anew if need be. False: no memory, and `data` is empty. */
bool seqtopk_tune_data_need(seqtopk_tune_data *data, int64_t tokens, int32_t experts, seqtopk_dtype dtype);
void seqtopk_tune_data_free(seqtopk_tune_data *data);

/* The input of a turn, any number. */
const void *seqtopk_tune_data_at(const seqtopk_tune_data *data, int64_t tokens, int64_t turn);

/* A float as the bits of a bfloat16 and of a binary16, to the nearest; of normal numbers in range. */
uint16_t seqtopk_tune_bf16(float x);
uint16_t seqtopk_tune_f16(float x);

#endif
