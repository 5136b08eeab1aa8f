/* SPDX-License-Identifier: MIT */
/* What both benchmarks share: shapes, logits, the library seen from C++, and a selection made with the reference. */
#ifndef SEQTOPK_BENCH_SETUP_H
#define SEQTOPK_BENCH_SETUP_H

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

extern "C" {
#include "src/kernels/registry.h"
}

namespace bench {

struct Shape {
    int64_t tokens;
    int32_t experts, top_k;

    size_t elements() const { return static_cast<size_t>(tokens) * static_cast<size_t>(experts); }
    size_t budget() const { return static_cast<size_t>(tokens) * static_cast<size_t>(top_k); }
    std::string name() const; /* "8192x256/k8" */

    /* How many inputs a benchmark takes in turn. Over one small input again and again a CPU learns every branch by heart. */
    size_t turns() const { return elements() < (size_t{1} << 18) ? (size_t{1} << 18) / elements() : 1; }
};

/* From a long prefill down to a decoding step. */
extern const std::vector<Shape> shapes;

/*
 * Logits [turns, T, E] of a shape, the same in every run and on every machine, made once. Some experts are liked by all
 * tokens and some tokens are surer than others, so that SeqTopK has something to move.
 */
const std::vector<float> &logits(const Shape &shape);

/* The same in a seqtopk_dtype, rounded towards zero. */
const void *logits_as(const Shape &shape, int32_t dtype);

/* The lists of one selection. */
struct Lists {
    std::vector<int32_t> offsets, ids;
    std::vector<float> weights;

    explicit Lists(const Shape &shape)
        : offsets(static_cast<size_t>(shape.tokens) + 1), ids(shape.budget()), weights(shape.budget()) {}
};

/* Lists per expert, of the same selection. */
struct ExpertLists {
    std::vector<int32_t> offsets, tokens, slots;

    explicit ExpertLists(const Shape &shape)
        : offsets(static_cast<size_t>(shape.experts) + 1), tokens(shape.budget()), slots(shape.budget()) {}
};

/* A plan and all that a route with it needs. */
class Router {
public:
    Router(const Shape &shape, seqtopk_scope scope, bool bounded);
    Router(const Shape &shape, seqtopk_desc desc, const seqtopk_parallel *parallel); /* parallel: or NULL */
    ~Router() { seqtopk_plan_destroy(plan_); }
    Router(const Router &) = delete;
    Router &operator=(const Router &) = delete;

    seqtopk_status route(size_t turn, Lists &lists, ExpertLists *by_expert = nullptr);

private:
    Shape shape_;
    seqtopk_plan *plan_ = nullptr;
    seqtopk_input input_ = SEQTOPK_INPUT_INIT;
    const char *logits_;
    size_t turn_bytes_;
    const seqtopk_parallel *parallel_;
    std::vector<char> scratch_;
};

/* Softmax over f32, and what the shape says. */
seqtopk_desc desc_of(const Shape &shape, seqtopk_scope scope);

/* Whether two selections are the same, to the bit. */
bool same(const Lists &a, const Lists &b);

/* The first row of the widest usable instruction set for an op over f32: what a default plan takes. */
const seqtopk_row &widest(seqtopk_op op);

/* The function of a row as what its op says it is. */
template <typename Function> Function *function_of(const seqtopk_row &row) {
    return reinterpret_cast<Function *>(row.function);
}

/* Ends a benchmark whose result is wrong, and makes the program's exit status 1. */
void fail(benchmark::State &state, const char *why);

/* The tail of both mains. */
int run(int *argc, char **argv, void (*add_all)());

/* Rates that the table reads: items are tokens, and `elements` are logits. */
void count_work(benchmark::State &state, const Shape &shape);

} // namespace bench

#endif
