/* SPDX-License-Identifier: MIT */
#include "router.h"

#include <stdlib.h>

static void check(seqtopk_status status, const seqtopk_error *error) {
    if (status != SEQTOPK_OK)
        fail("%s", error->message);
}

router router_make(const model *m, router_kind kind, int64_t most, int32_t sequences) {
    router r = {.kind = kind, .out = SEQTOPK_OUTPUT_INIT};
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.experts = m->experts;
    desc.top_k = m->k;
    desc.norm = SEQTOPK_NORM_SUM;
    desc.scope = kind == ROUTER_TOPK      ? SEQTOPK_SCOPE_TOKEN
                 : kind == ROUTER_OFFLINE ? SEQTOPK_SCOPE_SEQUENCE
                                          : SEQTOPK_SCOPE_ONLINE;
    if (kind != ROUTER_TOPK) {
        desc.min_experts = 1;
        desc.max_experts = m->k + 2;
    }
    check(seqtopk_plan_create(&r.plan, &desc, &error), &error);
    if (desc.scope == SEQTOPK_SCOPE_ONLINE) {
        seqtopk_cache_desc cache = SEQTOPK_CACHE_DESC_INIT;
        cache.layers = m->layers;
        cache.sequences = sequences;
        cache.plan = r.plan;
        check(seqtopk_cache_create(&r.cache, &cache, &error), &error);
        r.scratch_size = seqtopk_cache_scratch_size(r.cache, most, 1);
    } else {
        r.scratch_size = seqtopk_scratch_size(r.plan, most, sequences, 1);
    }
    r.scratch = take(r.scratch_size, 1);
    r.out.capacity = seqtopk_max_selected(r.plan, most);
    const size_t pairs = (size_t)r.out.capacity, experts = (size_t)m->experts;
    r.out.token_offsets = take((size_t)most + 1, sizeof(int32_t));
    r.out.expert_ids = take(pairs, sizeof(int32_t));
    r.out.weights = take(pairs, sizeof(float));
    r.out.expert_offsets = take(experts + 1, sizeof(int32_t));
    r.out.expert_tokens = take(pairs, sizeof(int32_t));
    r.out.expert_slots = take(pairs, sizeof(int32_t));
    r.out.active_experts = take(experts, sizeof(int32_t));
    r.out.active_count = take(1, sizeof(int32_t));
    r.counts = take((size_t)most, sizeof(int32_t));
    return r;
}

void router_free(router *r) {
    void *all[] = {r->out.token_offsets,
                   r->out.expert_ids,
                   r->out.weights,
                   r->out.expert_offsets,
                   r->out.expert_tokens,
                   r->out.expert_slots,
                   r->out.active_experts,
                   r->out.active_count,
                   r->counts,
                   r->scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    seqtopk_cache_destroy(r->cache);
    seqtopk_plan_destroy(r->plan);
}

void router_route(router *r, int32_t layer, const row_batch *rows, int32_t sequences, const float *logits) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    in.logits = logits;
    in.tokens = rows->n;
    if (r->cache) {
        seqtopk_cache_rows of = SEQTOPK_CACHE_ROWS_INIT;
        of.layer = layer;
        of.sequences = rows->sequences;
        of.positions = rows->positions;
        if (r->kind == ROUTER_PROMPT && rows->n > 0 && rows->positions[0] == 0)
            of.take = SEQTOPK_TAKE_JOINT;
        check(seqtopk_cache_step(r->cache, &of, &in, &r->out, r->scratch, r->scratch_size, &error), &error);
    } else {
        in.token_seq = rows->sequences;
        in.sequences = sequences;
        check(seqtopk_route(r->plan, &in, &r->out, r->scratch, r->scratch_size, &error), &error);
    }
    for (int64_t i = 0; i < rows->n; i++)
        r->counts[i] = r->out.token_offsets[i + 1] - r->out.token_offsets[i];
}
