/* SPDX-License-Identifier: MIT */
/* What is tuned: points of a grid over scope, dtype, experts, top_k and tokens. Pure. */
#ifndef SEQTOPK_TUNE_GRID_H
#define SEQTOPK_TUNE_GRID_H

#include <seqtopk/seqtopk.h>

#include <stdbool.h>
#include <stddef.h>

typedef struct seqtopk_tune_point {
    seqtopk_scope scope;
    seqtopk_dtype dtype;
    int32_t experts, top_k;
    int64_t tokens;
    int32_t threads;
} seqtopk_tune_point;

/* By experts, then dtype, scope, top_k, tokens: neighbours share their logits, and sizes rise. */
typedef struct seqtopk_tune_grid {
    seqtopk_tune_point *points;
    size_t count;
} seqtopk_tune_grid;

/* What is asked for; zero, NULL and -1 mean everything. */
typedef struct seqtopk_tune_request {
    const char *shapes; /* "TxExK,..."; "ExK" means every T of the grid */
    const char *models; /* names of presets, separated by commas */
    bool quick;         /* few shapes, few T */
    int scope, dtype;   /* -1: all */
    int32_t threads;
} seqtopk_tune_request;

enum { SEQTOPK_TUNE_TOKENS_MOST = 131072, SEQTOPK_TUNE_MESSAGE = 256 };

/* Fills `grid`, or says in `message` which part of the request is wrong and how it should look. Everything is the shapes
 * of the presets that are marked for it in src/plan/presets.def. */
bool seqtopk_tune_grid_make(const seqtopk_tune_request *request, seqtopk_tune_grid *grid,
                            char message[SEQTOPK_TUNE_MESSAGE]);
void seqtopk_tune_grid_free(seqtopk_tune_grid *grid);

/* "sequence f32 8192x256x8", and "... 2 threads" where there is more than one; returns `text`. */
enum { SEQTOPK_TUNE_POINT_TEXT = 80 };
const char *seqtopk_tune_point_text(const seqtopk_tune_point *point, char text[SEQTOPK_TUNE_POINT_TEXT]);

const char *seqtopk_tune_scope_word(seqtopk_scope scope);
const char *seqtopk_tune_dtype_word(seqtopk_dtype dtype);

/* Bytes of a point's logits. */
int64_t seqtopk_tune_point_bytes(const seqtopk_tune_point *point);

#endif
