/* SPDX-License-Identifier: MIT */
/*
 * The steps of llama.cpp and of SGLang's CPU kernels from logits to what their expert products read, written anew: no graph,
 * no tensors, no threads around them, and vector exponentials by the compiler. So these are the least that those steps cost.
 */
#include "engines.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

struct engines_work {
    /* [tokens, E] */
    std::vector<float> probs, chosen_by;
    std::vector<int32_t> order;
    /* [tokens, K] */
    std::vector<int32_t> ids;
    std::vector<float> weights;
    /* mul_mat_id: [E], and [E, tokens]: (place among the token's experts, token) */
    std::vector<int64_t> row_counts;
    std::vector<std::pair<int32_t, int32_t>> rows;
    /* moe_align_block_size */
    std::vector<int32_t> counts, sorted_ids, block_experts;
    std::vector<std::pair<float, int32_t>> queue;
};

engines_work *engines_work_new(const engines_router *r, int64_t tokens) {
    auto *work = new engines_work;
    const size_t cells = (size_t)tokens * (size_t)r->experts, pairs = (size_t)tokens * (size_t)r->top_k;
    const size_t experts = (size_t)r->experts;
    work->probs.resize(cells);
    work->chosen_by.resize(cells);
    work->order.resize(cells);
    work->ids.resize(pairs);
    work->weights.resize(pairs);
    work->row_counts.resize(experts);
    work->rows.resize(cells);
    work->counts.resize(experts + 1);
    work->sorted_ids.resize(pairs + experts * (ENGINES_BLOCK - 1));
    work->block_experts.resize(work->sorted_ids.size() / ENGINES_BLOCK + 1);
    work->queue.resize(experts);
    return work;
}

void engines_work_free(engines_work *work) { delete work; }
const int32_t *engines_work_ids(const engines_work *work) { return work->ids.data(); }
const float *engines_work_weights(const engines_work *work) { return work->weights.data(); }

/* seqtopk_score */
enum { SOFTMAX = 0, SIGMOID = 1, LOGITS = 3 };

static void softmax(const float *x, int32_t n, float *to) {
    float most = x[0], sum = 0;
    for (int32_t i = 1; i < n; i++)
        most = x[i] > most ? x[i] : most;
    for (int32_t i = 0; i < n; i++) {
        to[i] = expf(x[i] - most);
        sum += to[i];
    }
    const float part = 1 / sum;
    for (int32_t i = 0; i < n; i++)
        to[i] *= part;
}

static void scores(const engines_router *r, const float *logits, float *to) {
    if (r->score == SOFTMAX)
        softmax(logits, r->experts, to);
    else if (r->score == SIGMOID)
        for (int32_t e = 0; e < r->experts; e++)
            to[e] = 1 / (1 + expf(-logits[e]));
    else
        memcpy(to, logits, (size_t)r->experts * sizeof *to);
}

static void normalise(const engines_router *r, float *w, float floor) {
    const int32_t n = r->top_k;
    if (r->score == LOGITS) {
        softmax(w, n, w);
    } else if (r->by_sum) {
        float sum = 0;
        for (int32_t i = 0; i < n; i++)
            sum += w[i];
        sum = sum > floor ? sum : floor;
        for (int32_t i = 0; i < n; i++)
            w[i] /= sum;
    }
    for (int32_t i = 0; i < n && r->scale != 1; i++)
        w[i] *= r->scale;
}

/* ------------------------------------------------------------- llama.cpp -- */

/* ggml_argsort: all of a row. */
static void argsort(const float *x, int32_t n, int32_t *order) {
    std::iota(order, order + n, 0);
    std::sort(order, order + n, [x](int32_t a, int32_t b) { return x[a] > x[b]; });
}

/* Of the groups that a row keeps not, all keys become -inf. */
static void keep_groups(const engines_router *r, float *keys, int32_t *order) {
    const int32_t size = r->experts / r->groups;
    float group[64];
    int32_t best[64];
    for (int32_t g = 0; g < r->groups; g++) {
        argsort(keys + g * size, size, order);
        group[g] = 0;
        for (int32_t i = 0; i < r->group_terms; i++)
            group[g] += keys[g * size + order[i]];
    }
    argsort(group, r->groups, best);
    for (int32_t i = r->group_top_k; i < r->groups; i++)
        for (int32_t e = 0; e < size; e++)
            keys[best[i] * size + e] = -std::numeric_limits<float>::max();
}

/* build_moe_ffn, operator by operator; then the grouping of rows by expert that begins each mul_mat_id, once. */
void engines_llama_route(const engines_router *r, engines_work *work, const float *logits, const float *bias,
                         int64_t tokens) {
    const int32_t experts = r->experts, top_k = r->top_k;
    float *probs = work->probs.data(), *by = probs;
    for (int64_t t = 0; t < tokens; t++)
        scores(r, logits + t * experts, probs + t * experts);
    if (bias) {
        by = work->chosen_by.data();
        for (int64_t t = 0; t < tokens; t++)
            for (int32_t e = 0; e < experts; e++)
                by[t * experts + e] = probs[t * experts + e] + bias[e];
    }
    for (int64_t t = 0; t < tokens && r->groups > 1; t++)
        keep_groups(r, by + t * experts, work->order.data());
    for (int64_t t = 0; t < tokens; t++)
        argsort(by + t * experts, experts, work->order.data() + t * experts);
    for (int64_t t = 0; t < tokens; t++)
        for (int32_t i = 0; i < top_k; i++) {
            const int32_t id = work->order[(size_t)(t * experts + i)];
            work->ids[(size_t)(t * top_k + i)] = id;
            work->weights[(size_t)(t * top_k + i)] = probs[t * experts + id];
        }
    for (int64_t t = 0; t < tokens; t++)
        normalise(r, work->weights.data() + t * top_k, 6.103515625e-5f);
    std::fill(work->row_counts.begin(), work->row_counts.end(), 0);
    for (int64_t t = 0; t < tokens; t++)
        for (int32_t i = 0; i < top_k; i++) {
            const int32_t id = work->ids[(size_t)(t * top_k + i)];
            work->rows[(size_t)(id * tokens + work->row_counts[(size_t)id]++)] = {i, (int32_t)t};
        }
}

/* ---------------------------------------------------------------- SGLang -- */

/* topk.cpp: pairs of a row that are still open, sorted as far as is needed. */
static void select(const engines_router *r, engines_work *work, const float *keys, const float *probs, int64_t t) {
    typedef std::pair<float, int32_t> entry;
    const auto before = [](const entry &a, const entry &b) { return a.first > b.first; };
    const int32_t size = r->experts / r->groups;
    entry groups[64];
    size_t n = 0;
    for (int32_t g = 0; g < r->groups; g++) {
        float most = -INFINITY, second = -INFINITY;
        for (int32_t e = g * size; e < (g + 1) * size && r->groups > 1; e++) {
            second = std::max(second, std::min(most, keys[e]));
            most = std::max(most, keys[e]);
        }
        groups[g] = {r->group_terms == 2 ? most + second : most, g};
    }
    if (r->groups > 1)
        std::partial_sort(groups, groups + r->group_top_k, groups + r->groups, before);
    for (int32_t i = 0; i < r->group_top_k; i++)
        for (int32_t e = groups[i].second * size; e < (groups[i].second + 1) * size; e++)
            work->queue[n++] = {keys[e], e};
    std::partial_sort(work->queue.begin(), work->queue.begin() + r->top_k, work->queue.begin() + (long)n, before);
    for (int32_t i = 0; i < r->top_k; i++) {
        const int32_t id = work->queue[(size_t)i].second;
        work->ids[(size_t)(t * r->top_k + i)] = id;
        work->weights[(size_t)(t * r->top_k + i)] = probs[id];
    }
}

/* moe_align_block_size: counts, where each expert's blocks begin, the places of pairs. */
static void align(const engines_router *r, engines_work *work, int32_t pairs) {
    int32_t total = 0;
    std::fill(work->counts.begin(), work->counts.end(), 0);
    for (int32_t i = 0; i < pairs; i++)
        work->counts[(size_t)work->ids[(size_t)i]]++;
    for (int32_t e = 0; e < r->experts; e++) {
        const int32_t n = work->counts[(size_t)e], blocks = (n + ENGINES_BLOCK - 1) / ENGINES_BLOCK;
        work->counts[(size_t)e] = total;
        for (int32_t i = 0; i < blocks; i++)
            work->block_experts[(size_t)(total / ENGINES_BLOCK + i)] = e;
        for (int32_t i = n; i < blocks * ENGINES_BLOCK; i++)
            work->sorted_ids[(size_t)(total + i)] = pairs;
        total += blocks * ENGINES_BLOCK;
    }
    for (int32_t i = 0; i < pairs; i++)
        work->sorted_ids[(size_t)work->counts[(size_t)work->ids[(size_t)i]]++] = i;
}

void engines_sglang_route(const engines_router *r, engines_work *work, const float *logits, const float *bias,
                          int64_t tokens) {
    for (int64_t t = 0; t < tokens; t++) {
        float *probs = work->probs.data(), *keys = bias ? work->chosen_by.data() : probs;
        scores(r, logits + t * r->experts, probs);
        for (int32_t e = 0; e < r->experts && bias; e++)
            keys[e] = probs[e] + bias[e];
        select(r, work, keys, probs, t);
        normalise(r, work->weights.data() + t * r->top_k, 0);
    }
    align(r, work, (int32_t)tokens * r->top_k);
}
