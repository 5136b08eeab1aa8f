/* SPDX-License-Identifier: MIT */
/* The pasts of all layers and sequences of a model, and what becomes of sequences. */
#include "src/cache/cache.h"
#include "src/abi.h"
#include "src/status.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_LAYERS = 65536, MOST_PASTS = 1 << 24 };

/* ----------------------------------------------------------------- create -- */

static int is_mode(seqtopk_cache_mode mode) {
    switch (mode) {
    case SEQTOPK_CACHE_EXACT:
    case SEQTOPK_CACHE_COMPACT:
    case SEQTOPK_CACHE_THRESHOLD: return 1;
    }
    return 0;
}

static seqtopk_status check_desc(const seqtopk_cache_desc *d, seqtopk_error *error) {
    if (d->layers < 1 || d->layers > MOST_LAYERS)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "cache_desc.layers is %d; it must be 1 to %d", (int)d->layers,
                            MOST_LAYERS);
    if (d->sequences < 1 || d->sequences > MOST_PASTS / d->layers)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "cache_desc.sequences is %d; with %d layers it must be 1 to %d",
                            (int)d->sequences, (int)d->layers, MOST_PASTS / (int)d->layers);
    if (!is_mode(d->mode))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "cache_desc.mode is %d, which is no seqtopk_cache_mode",
                            (int)d->mode);
    if (d->max_tokens < 0 || d->max_tokens > INT32_MAX)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "cache_desc.max_tokens is %lld; it must be 0 (no limit) to 2^31-1",
                            (long long)d->max_tokens);
    if (d->max_bytes < 0)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "cache_desc.max_bytes is %lld; it must not be negative",
                            (long long)d->max_bytes);
    if (d->mode == SEQTOPK_CACHE_THRESHOLD && isnan(d->threshold))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "cache_desc.threshold is NaN");
    if (d->rollback < 0)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "cache_desc.rollback is %d; it must not be negative",
                            (int)d->rollback);
    for (int32_t l = 0; l < d->layers; l++) {
        const seqtopk_plan *plan = d->plans ? d->plans[l] : d->plan;
        if (!plan)
            return seqtopk_fail(error, SEQTOPK_E_NULL, -1,
                                d->plans ? "cache_desc.plans[%d] is NULL" : "cache_desc.plan is NULL (layer %d)",
                                (int)l);
        if (plan->desc.scope != SEQTOPK_SCOPE_ONLINE)
            return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                                "the plan of layer %d is not of online scope: set desc.scope to SEQTOPK_SCOPE_ONLINE",
                                (int)l);
        const int32_t width = plan->desc.max_experts - plan->desc.min_experts, fit = seqtopk_counts_depth(width);
        if (d->mode == SEQTOPK_CACHE_COMPACT && fit < (d->rollback > 1 ? d->rollback : 1))
            return seqtopk_fail(
                error, SEQTOPK_E_UNSUPPORTED, -1,
                "cache_desc.rollback: with %d keys of a token (max_experts - min_experts) %d tokens fit into "
                "64 KiB, and %d are wanted (layer %d)",
                (int)width, (int)fit, (int)(d->rollback > 1 ? d->rollback : 1), (int)l);
    }
    return SEQTOPK_OK;
}

static seqtopk_rules rules_of(const seqtopk_cache_desc *d, const seqtopk_plan *plan) {
    return (seqtopk_rules){.kernels = seqtopk_plan_kernels(plan, 1),
                           .top_k = plan->desc.top_k,
                           .min_experts = plan->desc.min_experts,
                           .max_experts = plan->desc.max_experts,
                           .is_ledger = d->is_ledger,
                           .is_compact = d->mode == SEQTOPK_CACHE_COMPACT,
                           .depth = d->rollback ? d->rollback
                                                : seqtopk_counts_depth(plan->desc.max_experts - plan->desc.min_experts),
                           .has_threshold = d->mode == SEQTOPK_CACHE_THRESHOLD,
                           .threshold = d->threshold};
}

seqtopk_status seqtopk_cache_create(seqtopk_cache **cache, const seqtopk_cache_desc *desc, seqtopk_error *error) {
    seqtopk_cache_desc d;
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    if (!cache)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "cache is NULL: pass the address of a seqtopk_cache pointer");
    *cache = NULL;
    seqtopk_status status = seqtopk_take_struct(&d, sizeof d, SEQTOPK_FIRST_cache_desc, desc, "cache_desc", error);
    if (!status)
        status = check_desc(&d, error);
    if (status)
        return status;
    const int64_t pasts = (int64_t)d.layers * d.sequences;
    seqtopk_cache *made = malloc(sizeof *made);
    seqtopk_layer *layer = malloc((size_t)d.layers * sizeof *layer);
    seqtopk_past *past = malloc((size_t)pasts * sizeof *past);
    if (!made || !layer || !past) {
        free(made);
        free(layer);
        free(past);
        return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for a cache of %d layers and %d sequences",
                            (int)d.layers, (int)d.sequences);
    }
    *made = (seqtopk_cache){.layers = d.layers,
                            .sequences = d.sequences,
                            .max_tokens = d.max_tokens ? d.max_tokens : INT32_MAX,
                            .layer = layer,
                            .pasts = past};
    atomic_init(&made->purse.used, 0);
    for (int32_t l = 0; l < d.layers && d.mode == SEQTOPK_CACHE_COMPACT; l++) { /* so that no counter overflows */
        const seqtopk_desc *of = d.plans ? &d.plans[l]->desc : &d.plan->desc;
        const int64_t width = of->max_experts - of->min_experts, most = (int64_t)UINT32_MAX / (width > 0 ? width : 1);
        made->max_tokens = most < made->max_tokens ? most : made->max_tokens;
    }
    made->purse.most = d.max_bytes ? (size_t)d.max_bytes : SIZE_MAX;
    for (int32_t l = 0; l < d.layers; l++) {
        layer[l].plan = d.plans ? d.plans[l] : d.plan;
        layer[l].rules = rules_of(&d, layer[l].plan);
        made->adjusts |= layer[l].plan->adjusts;
        for (int32_t s = 0; s < d.sequences; s++)
            seqtopk_past_init(seqtopk_cache_past(made, l, s), &layer[l].rules);
    }
    *cache = made;
    return SEQTOPK_OK;
}

static void clear_sequence(seqtopk_cache *cache, int32_t sequence) {
    for (int32_t l = 0; l < cache->layers; l++)
        seqtopk_past_free(seqtopk_cache_past(cache, l, sequence), &cache->purse);
}

void seqtopk_cache_destroy(seqtopk_cache *cache) {
    if (!cache)
        return;
    for (int32_t s = 0; s < cache->sequences; s++)
        clear_sequence(cache, s);
    free(cache->layer);
    free(cache->pasts);
    free(cache);
}

/* ------------------------------------------------------------------- life -- */

seqtopk_status seqtopk_cache_has(const seqtopk_cache *cache, int32_t sequence, seqtopk_error *error) {
    if (!cache)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "cache is NULL");
    if (sequence < 0 || sequence >= cache->sequences)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "sequence %d: this cache has sequences 0 to %d", (int)sequence,
                            (int)cache->sequences - 1);
    return SEQTOPK_OK;
}

/* The same at the beginning of a call. */
static seqtopk_status begin(const seqtopk_cache *cache, int32_t sequence, seqtopk_error *error) {
    return seqtopk_error_clear(error) ? SEQTOPK_E_STRUCT : seqtopk_cache_has(cache, sequence, error);
}

static seqtopk_status no_memory(const seqtopk_cache *cache, seqtopk_error *error) {
    const size_t used = atomic_load_explicit(&cache->purse.used, memory_order_relaxed);
    return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for the cache, which has %zu bytes%s", used,
                        cache->purse.most < SIZE_MAX ? " (cache_desc.max_bytes is a limit)" : "");
}

int64_t seqtopk_cache_length(const seqtopk_cache *cache, int32_t layer, int32_t sequence) {
    if (seqtopk_cache_has(cache, sequence, NULL) || layer < 0 || layer >= cache->layers)
        return -1;
    return seqtopk_past_tokens(seqtopk_cache_past(cache, layer, sequence));
}

static int reaches(const seqtopk_past *past, int64_t tokens) {
    return tokens >= seqtopk_past_tokens(past) || seqtopk_past_reaches(past, tokens);
}

static seqtopk_status cannot_reach(const seqtopk_past *past, int32_t layer, int32_t sequence, int64_t tokens,
                                   seqtopk_error *error) {
    return seqtopk_fail(
        error, SEQTOPK_E_UNSUPPORTED, -1,
        "token %lld: of the %lld of sequence %d in layer %d, compact, only the last %d can be taken back "
        "(cache_desc.rollback)",
        (long long)tokens, (long long)seqtopk_past_tokens(past), (int)sequence, (int)layer, (int)past->counts->held);
}

seqtopk_status seqtopk_cache_truncate(seqtopk_cache *cache, int32_t sequence, int64_t tokens, seqtopk_error *error) {
    const seqtopk_status status = begin(cache, sequence, error);
    if (status)
        return status;
    if (tokens < 0)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "tokens is %lld; it must not be negative", (long long)tokens);
    for (int32_t l = 0; l < cache->layers; l++)
        if (!reaches(seqtopk_cache_past(cache, l, sequence), tokens))
            return cannot_reach(seqtopk_cache_past(cache, l, sequence), l, sequence, tokens, error);
    for (int32_t l = 0; l < cache->layers; l++) {
        seqtopk_past *past = seqtopk_cache_past(cache, l, sequence);
        if (tokens < seqtopk_past_tokens(past))
            seqtopk_past_truncate(past, tokens, 0, &cache->purse);
    }
    return SEQTOPK_OK;
}

seqtopk_status seqtopk_cache_remove(seqtopk_cache *cache, int32_t sequence, int64_t from, int64_t to,
                                    seqtopk_error *error) {
    const seqtopk_status status = begin(cache, sequence, error);
    if (status)
        return status;
    for (int32_t l = 0; l < cache->layers; l++) {
        const int64_t tokens = seqtopk_past_tokens(seqtopk_cache_past(cache, l, sequence));
        if (from < 0 || from > to || to > tokens)
            return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "tokens [%lld, %lld): layer %d of sequence %d has %lld",
                                (long long)from, (long long)to, (int)l, (int)sequence, (long long)tokens);
        if (cache->layer[l].rules.is_compact && from < to && to < tokens)
            return seqtopk_fail(
                error, SEQTOPK_E_UNSUPPORTED, -1,
                "tokens [%lld, %lld): a compact cache cannot forget tokens from the middle; make the cache "
                "exact",
                (long long)from, (long long)to);
        if (!reaches(seqtopk_cache_past(cache, l, sequence), from) && from < to)
            return cannot_reach(seqtopk_cache_past(cache, l, sequence), l, sequence, from, error);
    }
    /* All of the memory first, so that no layer is left behind the others. */
    for (int32_t l = 0; l < cache->layers; l++) {
        seqtopk_past *past = seqtopk_cache_past(cache, l, sequence);
        const int64_t tokens = seqtopk_past_tokens(past);
        if (to < tokens && from < to && !past->counts &&
            !seqtopk_past_reserve(past, &cache->layer[l].rules, from, tokens - from, &cache->purse))
            return no_memory(cache, error);
    }
    for (int32_t l = 0; l < cache->layers; l++)
        seqtopk_past_remove(seqtopk_cache_past(cache, l, sequence), &cache->layer[l].rules, from, to, &cache->purse);
    return SEQTOPK_OK;
}

/* Makes copies [layers] of a sequence's pasts. */
static seqtopk_status copy_pasts(seqtopk_cache *cache, int32_t from, int64_t tokens, seqtopk_past *copies,
                                 seqtopk_error *error) {
    for (int32_t l = 0; l < cache->layers && tokens >= 0; l++)
        if (!reaches(seqtopk_cache_past(cache, l, from), tokens))
            return cannot_reach(seqtopk_cache_past(cache, l, from), l, from, tokens, error);
    for (int32_t l = 0; l < cache->layers; l++) {
        seqtopk_past *past = seqtopk_cache_past(cache, l, from);
        const int64_t all = seqtopk_past_tokens(past);
        seqtopk_past_init(copies + l, &cache->layer[l].rules);
        if (seqtopk_past_copy(copies + l, past, tokens < 0 || tokens > all ? all : tokens, &cache->purse))
            continue;
        for (int32_t done = 0; done < l; done++)
            seqtopk_past_free(copies + done, &cache->purse);
        return no_memory(cache, error);
    }
    return SEQTOPK_OK;
}

static void take_pasts(seqtopk_cache *cache, int32_t sequence, const seqtopk_past *pasts) {
    clear_sequence(cache, sequence);
    for (int32_t l = 0; l < cache->layers; l++)
        *seqtopk_cache_past(cache, l, sequence) = pasts[l];
}

seqtopk_status seqtopk_cache_copy(seqtopk_cache *cache, int32_t to, int32_t from, int64_t tokens,
                                  seqtopk_error *error) {
    seqtopk_status status = begin(cache, from, error);
    if (!status)
        status = seqtopk_cache_has(cache, to, error);
    if (status)
        return status;
    if (to == from)
        return tokens < 0 ? SEQTOPK_OK : seqtopk_cache_truncate(cache, to, tokens, error);
    seqtopk_past *copies = malloc((size_t)cache->layers * sizeof *copies);
    if (!copies)
        return no_memory(cache, error);
    status = copy_pasts(cache, from, tokens, copies, error);
    if (!status)
        take_pasts(cache, to, copies);
    free(copies);
    return status;
}

seqtopk_status seqtopk_cache_clear(seqtopk_cache *cache, int32_t sequence, seqtopk_error *error) {
    const seqtopk_status status = begin(cache, sequence < 0 ? 0 : sequence, error);
    for (int32_t s = 0; !status && s < cache->sequences; s++)
        if (sequence < 0 || s == sequence)
            clear_sequence(cache, s);
    return status;
}

seqtopk_status seqtopk_cache_keep(seqtopk_cache *cache, int32_t sequence, seqtopk_error *error) {
    const seqtopk_status status = begin(cache, sequence, error);
    for (int32_t s = 0; !status && s < cache->sequences; s++)
        if (s != sequence)
            clear_sequence(cache, s);
    return status;
}

seqtopk_status seqtopk_cache_reorder(seqtopk_cache *cache, const int32_t *parents, int32_t n, seqtopk_error *error) {
    seqtopk_status status = begin(cache, 0, error);
    if (status)
        return status;
    if (!parents && n > 0)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "parents is NULL");
    if (n < 0 || n > cache->sequences)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "n is %d; it must be 0 to %d", (int)n, (int)cache->sequences);
    for (int32_t i = 0; i < n && !status; i++)
        status = parents[i] < 0 ? SEQTOPK_OK : seqtopk_cache_has(cache, parents[i], error);
    if (status || n == 0)
        return status;
    seqtopk_past *copies = malloc((size_t)n * (size_t)cache->layers * sizeof *copies);
    if (!copies)
        return no_memory(cache, error);
    int32_t made = 0;
    for (; made < n && !status; made++)
        if (parents[made] >= 0 && parents[made] != made)
            status = copy_pasts(cache, parents[made], -1, copies + (int64_t)made * cache->layers, error);
    for (int32_t i = 0; i < made; i++) {
        seqtopk_past *own = copies + (int64_t)i * cache->layers;
        if (parents[i] == i)
            continue;
        if (!status && parents[i] < 0)
            clear_sequence(cache, i);
        else if (!status)
            take_pasts(cache, i, own);
        else if (i < made - 1 && parents[i] >= 0) /* the last one failed */
            for (int32_t l = 0; l < cache->layers; l++)
                seqtopk_past_free(own + l, &cache->purse);
    }
    free(copies);
    return status;
}

/* ------------------------------------------------------------------ stats -- */

static void add_stats(const seqtopk_cache *cache, int32_t layer, int32_t sequence, seqtopk_cache_stats *stats) {
    const seqtopk_past *past = seqtopk_cache_past(cache, layer, sequence);
    stats->tokens += seqtopk_past_tokens(past);
    stats->budget += past->routed * cache->layer[layer].rules.top_k;
    stats->pairs += past->given;
    seqtopk_shelf_bytes(&past->log.tokens, &stats->bytes, &stats->shared_bytes);
    if (past->counts) {
        stats->bytes += (int64_t)seqtopk_counts_bytes(past->counts->width, past->counts->depth);
        stats->doubtful += past->counts->doubtful;
    }
    if (!past->ladder)
        return;
    stats->bytes += (int64_t)seqtopk_ladder_bytes(past->ladder);
    stats->most_read = past->ladder->most_read > stats->most_read ? past->ladder->most_read : stats->most_read;
    for (int32_t i = 0; i < past->ladder->rungs; i++) {
        const seqtopk_refill *refill = past->ladder->refill + i;
        seqtopk_shelf_bytes(&past->ladder->rung[i].words, &stats->bytes, &stats->shared_bytes);
        seqtopk_shelf_bytes(&refill->old, &stats->bytes, &stats->shared_bytes);
        if (refill->is_active)
            seqtopk_shelf_bytes(&refill->made.words, &stats->bytes, &stats->shared_bytes);
    }
}

seqtopk_status seqtopk_cache_get_stats(const seqtopk_cache *cache, int32_t layer, int32_t sequence,
                                       seqtopk_cache_stats *stats) {
    seqtopk_cache_stats sum = {0};
    if (!cache || !stats)
        return SEQTOPK_E_NULL;
    if (!seqtopk_struct_is_sized(stats, SEQTOPK_FIRST_cache_stats))
        return SEQTOPK_E_STRUCT;
    if (layer < -1 || layer >= cache->layers || sequence < -1 || sequence >= cache->sequences)
        return SEQTOPK_E_VALUE;
    for (int32_t l = layer < 0 ? 0 : layer; l < (layer < 0 ? cache->layers : layer + 1); l++)
        for (int32_t s = sequence < 0 ? 0 : sequence; s < (sequence < 0 ? cache->sequences : sequence + 1); s++)
            add_stats(cache, l, s, &sum);
    seqtopk_give_struct(stats, &sum, sizeof sum);
    return SEQTOPK_OK;
}
