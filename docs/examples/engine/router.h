/* SPDX-License-Identifier: MIT */
/* Where the library comes in: logits of a batch to lists by expert, in each of four ways to share one budget. */
#ifndef ENGINE_ROUTER_H
#define ENGINE_ROUTER_H

#include "model.h"

typedef enum router_kind {
    ROUTER_TOPK,    /* K experts each */
    ROUTER_OFFLINE, /* SeqTopK: whole sequences, which have to come in one call */
    ROUTER_ONLINE,  /* SeqTopK: a token competes with those before it, through seqtopk_cache */
    ROUTER_PROMPT   /* the same, but rows that begin a sequence compete together: the paper's prefill */
} router_kind;

typedef struct router {
    router_kind kind;
    seqtopk_plan *plan;
    seqtopk_cache *cache; /* of the online kinds */
    seqtopk_output out;   /* of the latest call; its lists are the router's own */
    int32_t *counts;      /* [rows]: experts of each row in it */
    void *scratch;
    size_t scratch_size;
} router;

/* For at most `most` rows of `sequences` sequences in one call. Weights are a softmax, divided by the sum of the selected;
 * SeqTopK gives a token 1 to K + 2. */
router router_make(const model *m, router_kind kind, int64_t most, int32_t sequences);
void router_free(router *r);

/* Fills r->out and r->counts. logits [rows->n][experts] of layer `layer`. */
void router_route(router *r, int32_t layer, const row_batch *rows, int32_t sequences, const float *logits);

#endif
