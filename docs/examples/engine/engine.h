/* SPDX-License-Identifier: MIT */
/* A model, a router, the KV cache and the buffers of a forward. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "router.h"

typedef struct engine {
    const model *m;
    router router;
    past past;
    float *x, *normal, *wide, *logits, *hidden; /* of `most` rows */
    int32_t *counts;                            /* [layers][most]: experts of each row in the latest forward */
    int64_t most;
} engine;

engine engine_make(const model *m, router_kind kind, int64_t most, int32_t sequences);
void engine_free(engine *e);

/*
 * Rows whose sequences have all rows before theirs, in this call or in earlier ones -> logits [n][256] of the next bytes, which
 * are the engine's until the next call.
 */
const float *engine_forward(engine *e, const row_batch *rows);

#endif
