/* SPDX-License-Identifier: MIT */
/* This library's side of bench/engines/run.py, as a module that Python loads: calls are timed here, where nothing is between them. */
#include "engines.h"

#include <seqtopk/seqtopk.h>

#include <cstdio>
#include <ctime>
#include <memory>
#include <vector>

static double cpu_ns() {
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

/* A model's router with room for a batch. */
struct engines_bench {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_plan *plan = nullptr;
    engines_router router{};
    int64_t tokens = 0;
    seqtopk_input in = SEQTOPK_INPUT_INIT;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    std::vector<char> scratch;
    std::vector<int32_t> offsets, ids, expert_offsets, expert_tokens, expert_slots, padded, pair_tokens, pair_places,
        ends, active, block_slots, block_experts;
    std::vector<int64_t> padded64, counts;
    std::vector<float> weights, padded_weights, probs;
    std::vector<uint8_t> map;
    int32_t active_count = 0, block_total = 0;
    std::unique_ptr<engines_work, void (*)(engines_work *)> work{nullptr, engines_work_free};
    ~engines_bench() { seqtopk_plan_destroy(plan); }
};

engines_bench *engines_open(const char *model, int64_t tokens, int order_by_rank) {
    auto b = std::make_unique<engines_bench>();
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_desc &desc = b->desc;
    desc.scope = SEQTOPK_SCOPE_TOKEN;
    desc.order = order_by_rank ? SEQTOPK_ORDER_RANK : SEQTOPK_ORDER_EXPERT;
    if (seqtopk_desc_preset(model, SEQTOPK_PARITY_HUGGING_FACE, &desc, &error) ||
        seqtopk_plan_create(&b->plan, &desc, &error)) {
        fprintf(stderr, "%s\n", error.message);
        return nullptr;
    }
    b->tokens = tokens;
    b->router = {desc.experts,
                 desc.top_k,
                 (int32_t)desc.score,
                 desc.norm == SEQTOPK_NORM_SUM,
                 desc.groups > 1 ? desc.groups : 1,
                 desc.groups > 1 ? desc.group_top_k : 1,
                 desc.group_score == SEQTOPK_GROUP_TOP2 ? 2 : 1,
                 desc.norm_eps,
                 desc.scale != 0 ? desc.scale : 1};
    const size_t pairs = (size_t)(tokens * desc.top_k), cells = (size_t)(tokens * desc.experts);
    const size_t experts = (size_t)desc.experts;
    const size_t slots = (size_t)seqtopk_max_block_slots(b->plan, tokens, ENGINES_BLOCK);
    b->scratch.resize(seqtopk_scratch_size(b->plan, tokens, 1, 1));
    for (auto *list : {&b->ids, &b->expert_tokens, &b->expert_slots, &b->padded, &b->pair_tokens, &b->pair_places})
        list->resize(pairs);
    for (auto *list : {&b->expert_offsets, &b->ends, &b->active})
        list->resize(experts + 1);
    b->offsets.resize((size_t)tokens + 1);
    b->block_slots.resize(slots);
    b->block_experts.resize(slots / ENGINES_BLOCK);
    b->padded64.resize(pairs);
    b->counts.resize(experts);
    b->weights.resize(pairs);
    b->padded_weights.resize(pairs);
    b->probs.resize(cells);
    b->map.resize(cells);
    b->work.reset(engines_work_new(&b->router, tokens));
    return b.release();
}

void engines_close(engines_bench *b) { delete b; }

void engines_shape(const engines_bench *b, engines_router *router) { *router = b->router; }

/* What is asked of the call. */
static void ask(engines_bench *b, const float *logits, const float *bias, int forms) {
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    b->in.logits = logits;
    b->in.tokens = b->tokens;
    b->in.bias = bias;
    out.capacity = (int64_t)b->ids.size();
    if (forms & ENGINES_TOKENS) {
        out.token_offsets = b->offsets.data();
        out.expert_ids = b->ids.data();
        out.weights = b->weights.data();
    }
    if (forms & (ENGINES_PADDED | ENGINES_PADDED64)) {
        out.padded_width = b->desc.top_k;
        out.padded_weights = b->padded_weights.data();
    }
    if (forms & ENGINES_PADDED)
        out.padded_ids = b->padded.data();
    if (forms & ENGINES_PADDED64)
        out.padded_ids64 = b->padded64.data();
    if (forms & ENGINES_EXPERTS) {
        out.expert_offsets = b->expert_offsets.data();
        out.expert_tokens = b->expert_tokens.data();
        out.expert_slots = b->expert_slots.data();
    }
    if (forms & ENGINES_BLOCKS) {
        out.block_size = ENGINES_BLOCK;
        out.block_capacity = (int64_t)b->block_slots.size();
        out.block_slots = b->block_slots.data();
        out.block_experts = b->block_experts.data();
        out.block_total = &b->block_total;
    }
    if (forms & ENGINES_REST) {
        out.pair_tokens = b->pair_tokens.data();
        out.pair_places = b->pair_places.data();
        out.expert_ends = b->ends.data();
        out.expert_counts = b->counts.data();
        out.active_experts = b->active.data();
        out.active_count = &b->active_count;
    }
    if (forms & ENGINES_DENSE) {
        out.routing_map = b->map.data();
        out.routing_probs = b->probs.data();
    }
    b->out = out;
}

double engines_ours(engines_bench *b, const float *logits, const float *bias, int forms, int calls) {
    ask(b, logits, bias, forms);
    const double start = cpu_ns();
    for (int i = 0; i < calls; i++)
        if (seqtopk_route(b->plan, &b->in, &b->out, b->scratch.data(), b->scratch.size(), nullptr))
            return -1;
    return (cpu_ns() - start) / calls;
}

double engines_llama(engines_bench *b, const float *logits, const float *bias, int calls) {
    const double start = cpu_ns();
    for (int i = 0; i < calls; i++)
        engines_llama_route(&b->router, b->work.get(), logits, bias, b->tokens);
    return (cpu_ns() - start) / calls;
}

double engines_sglang(engines_bench *b, const float *logits, const float *bias, int calls) {
    const double start = cpu_ns();
    for (int i = 0; i < calls; i++)
        engines_sglang_route(&b->router, b->work.get(), logits, bias, b->tokens);
    return (cpu_ns() - start) / calls;
}

/* [tokens, K] of the last call: of ours by `forms` with PADDED, of the peers what they selected. */
void engines_ids(const engines_bench *b, int whose, int32_t *ids, float *weights) {
    const int32_t *from = whose == 0 ? b->padded.data() : engines_work_ids(b->work.get());
    const float *w = whose == 0 ? b->padded_weights.data() : engines_work_weights(b->work.get());
    for (size_t i = 0; i < b->padded.size(); i++) {
        ids[i] = from[i];
        weights[i] = w[i];
    }
}

const char *engines_version() { return seqtopk_version(); }
