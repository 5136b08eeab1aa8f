/* SPDX-License-Identifier: MIT */
#ifndef SEQTOPK_SRC_CACHE_CACHE_H
#define SEQTOPK_SRC_CACHE_CACHE_H

#include "src/cache/past.h"
#include "src/plan/plan.h"

typedef struct seqtopk_layer {
    const seqtopk_plan *plan;
    seqtopk_rules rules;
} seqtopk_layer;

struct seqtopk_cache {
    int32_t layers, sequences;
    int32_t adjusts; /* some layer's lists are changed after they are made (src/route/beside.c) */
    int64_t max_tokens;
    seqtopk_purse purse;
    seqtopk_layer *layer; /* [layers] */
    seqtopk_past *pasts;  /* [layers, sequences] */
};

static inline seqtopk_past *seqtopk_cache_past(const seqtopk_cache *cache, int32_t layer, int32_t sequence) {
    return cache->pasts + (int64_t)layer * cache->sequences + sequence;
}

/* Whether there is such a sequence; else says which there are. */
seqtopk_status seqtopk_cache_has(const seqtopk_cache *cache, int32_t sequence, seqtopk_error *error);

#endif
