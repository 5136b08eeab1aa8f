/* SPDX-License-Identifier: MIT */
/* A layer of experts as a ggml graph of its own (gate, route, mul_mat_id, weights), and the same in plain C and float64. */
#ifndef SEQTOPK_TESTS_LAYER_H
#define SEQTOPK_TESTS_LAYER_H

#include "src/adapters/ggml/ggml_seqtopk.h"

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>

enum { LAYER_WIDTH = 32, LAYER_HIDDEN = 48 };

typedef struct layer {
    struct ggml_context *ctx;
    struct ggml_cgraph *graph;
    ggml_gallocr_t memory;
    ggml_backend_t cpu;
    struct ggml_tensor *x, *gate, *up, *down, *bias, *factors, *seqs, *pos; /* inputs */
    struct ggml_tensor *logits, *y;
    struct ggml_seqtopk_route route;
    struct ggml_seqtopk_params params;
    int32_t tokens;
} layer;

/* What a layer is to have beside what `params` says, whose tensors are made here. */
enum { LAYER_BIAS = 1, LAYER_FACTORS = 2, LAYER_SEQS = 4, LAYER_POS = 8, LAYER_F16 = 16, LAYER_BF16 = 32 };

/* Builds the graph, takes memory and fills weights and x with what `seed` gives; bias and factors too. Ends the program where the route
 * is refused. With PADDED_MINUS_ONE, which ggml's mul_mat_id does not take, `down` is an input [D, U, T] in place of it. */
void layer_open(layer *l, struct ggml_seqtopk *state, const struct ggml_seqtopk_params *params, int32_t tokens, int has,
                uint64_t seed);
void layer_close(layer *l);

/* Computes with so many threads. Ends the program where ggml fails. */
void layer_compute(layer *l, int threads);

/* What is selected, experts ascending within a token. */
typedef struct picks {
    int32_t *counts; /* [T] */
    int32_t *ids;    /* [T, E] */
    double *weights; /* [T, E] */
} picks;

void picks_free(picks *p);

/* Scores, selects and weighs logits [T, E] by sorting all of them: token or sequence scope, softmax or sigmoid, norms none and
 * sum, bias, factors and bounds. A row with a NaN has no part in it. seqs NULL: one sequence. */
void picks_make(picks *p, const seqtopk_desc *desc, const float *logits, const float *bias, const float *factors,
                const int32_t *seqs, int32_t tokens);

/* y [T, D] from x and the weights of the layer. */
void layer_in_plain_c(const layer *l, const picks *p, double *y);

#endif
