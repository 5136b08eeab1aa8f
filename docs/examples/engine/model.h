/* SPDX-License-Identifier: MIT */
/*
 * The language model of bytes of bench/quality: per layer attention and a Mixture of Experts. bench/quality/model.py is the
 * same in PyTorch. One thread, float32.
 */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include "npz.h"

#include <seqtopk/seqtopk.h>

typedef struct moe_layer {
    float *before_attention, *before_experts; /* [width] */
    float *qkv, *out, *gate;                  /* [in][out] */
    float *up, *down;                         /* [experts][in][out] */
} moe_layer;

typedef struct model {
    int32_t experts, k, width, hidden, layers, heads, length; /* length: of a sequence in training */
    float *bytes, *last, *head;                               /* [256][width], [width], [width][256] */
    moe_layer *layer;
} model;

/* Ends the program where the file is none of such a model's. */
model model_load(const char *path);
void model_free(model *m);

/* to [n] += factor * from [n]; they do not overlap. */
void add_scaled(float *to, const float *from, float factor, int64_t n);

/* out [n][columns] = x [n][rows] times w [rows][columns]. */
void multiply(float *out, const float *x, const float *w, int64_t n, int32_t rows, int32_t columns);

/* x / sqrt(mean(x^2) + eps) * scale, for n rows of `width`. */
void normalise(float *out, const float *x, const float *scale, int64_t n, int32_t width);

/* What rows of a batch are: the byte, whose it is, and its place there. */
typedef struct row_batch {
    int64_t n;
    const uint8_t *bytes;
    const int32_t *sequences;
    const int64_t *positions;
} row_batch;

/* Keys and values of all layers of `sequences` sequences of at most m->length tokens: [layer][sequence][position][width]. */
typedef struct past {
    float *keys, *values;
    int32_t sequences;
} past;

past past_make(const model *m, int32_t sequences);
void past_free(past *p);

/*
 * qkv [n][3 * width] of a layer: keys and values go into the past, and out [n][width] is what each row's query finds there,
 * at its own place and before.
 */
void attend(const model *m, past *p, int32_t layer, const row_batch *rows, float *qkv, float *out);

#endif
