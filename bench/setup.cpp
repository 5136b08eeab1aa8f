/* SPDX-License-Identifier: MIT */
#include "setup.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>
#include <tuple>
#include <utility>

namespace bench {

const std::vector<Shape> shapes = {
    {32768, 256, 8}, {32768, 512, 10}, {32768, 128, 8}, {8192, 256, 8}, {4096, 256, 8}, {2048, 128, 8},
    {512, 128, 8},   {512, 64, 8},     {128, 64, 8},    {64, 60, 4},    {16, 256, 8},
};

std::string Shape::name() const {
    return std::to_string(tokens) + "x" + std::to_string(experts) + "/k" + std::to_string(top_k);
}

namespace {

/* splitmix64. The standard library's distributions differ between implementations. */
class Random {
public:
    explicit Random(uint64_t seed) : state_(seed) {}

    double uniform() {
        uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return (static_cast<double>((z ^ (z >> 31)) >> 11) + 0.5) * 0x1p-53;
    }

    double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform()); }

private:
    uint64_t state_;
};

} // namespace

const std::vector<float> &logits(const Shape &shape) {
    static std::map<std::pair<int64_t, int32_t>, std::vector<float>> made;
    std::vector<float> &x = made[{shape.tokens, shape.experts}];
    if (x.empty()) {
        Random random(static_cast<uint64_t>(shape.tokens) << 32 | static_cast<uint32_t>(shape.experts));
        std::vector<double> liking(static_cast<size_t>(shape.experts));
        for (double &l : liking)
            l = 0.5 * random.normal();
        x.reserve(shape.turns() * shape.elements());
        while (x.size() < shape.turns() * shape.elements()) {
            double sureness = 0.75 + random.uniform();
            for (double l : liking)
                x.push_back(static_cast<float>(sureness * (l + random.normal())));
        }
    }
    return x;
}

namespace {

uint16_t to_bf16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    return static_cast<uint16_t>(bits >> 16);
}

/* All logits of a benchmark are far inside the range of normal numbers, or become zero. */
uint16_t to_f16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    const uint32_t sign = bits >> 16 & 0x8000, exponent = bits >> 23 & 0xff, fraction = bits >> 13 & 0x3ff;
    return static_cast<uint16_t>(exponent < 113 ? sign : sign | (exponent - 112) << 10 | fraction);
}

} // namespace

const void *logits_as(const Shape &shape, int32_t dtype) {
    static std::map<std::tuple<int64_t, int32_t, int32_t>, std::vector<uint16_t>> made;
    const std::vector<float> &x = logits(shape);
    if (dtype == SEQTOPK_DTYPE_F32)
        return x.data();
    std::vector<uint16_t> &halves = made[{shape.tokens, shape.experts, dtype}];
    if (halves.empty()) {
        halves.resize(x.size());
        std::transform(x.begin(), x.end(), halves.begin(), dtype == SEQTOPK_DTYPE_BF16 ? to_bf16 : to_f16);
    }
    return halves.data();
}

seqtopk_desc desc_of(const Shape &shape, seqtopk_scope scope) {
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    desc.experts = shape.experts;
    desc.top_k = shape.top_k;
    desc.scope = scope;
    return desc;
}

namespace {

seqtopk_desc bounded_desc(const Shape &shape, seqtopk_scope scope, bool bounded) {
    seqtopk_desc desc = desc_of(shape, scope);
    if (bounded) {
        desc.min_experts = 1;
        desc.max_experts = shape.top_k + 2;
    }
    return desc;
}

} // namespace

Router::Router(const Shape &shape, seqtopk_scope scope, bool bounded)
    : Router(shape, bounded_desc(shape, scope, bounded), nullptr) {}

Router::Router(const Shape &shape, seqtopk_desc desc, const seqtopk_parallel *parallel)
    : shape_(shape), logits_(static_cast<const char *>(logits_as(shape, static_cast<int32_t>(desc.dtype)))),
      turn_bytes_(shape.elements() * (desc.dtype == SEQTOPK_DTYPE_F32 ? 4 : 2)), parallel_(parallel) {
    const int32_t threads = parallel ? parallel->threads : 1;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    desc.threads = threads;
    if (seqtopk_plan_create(&plan_, &desc, &error) != SEQTOPK_OK)
        throw std::runtime_error(error.message);
    input_.tokens = shape.tokens;
    scratch_.resize(seqtopk_scratch_size(plan_, shape.tokens, 1, threads));
}

seqtopk_status Router::route(size_t turn, Lists &lists, ExpertLists *by_expert) {
    input_.logits = logits_ + turn % shape_.turns() * turn_bytes_;
    seqtopk_output output = SEQTOPK_OUTPUT_INIT;
    output.token_offsets = lists.offsets.data();
    output.expert_ids = lists.ids.data();
    output.weights = lists.weights.data();
    output.capacity = static_cast<int64_t>(lists.ids.size());
    if (by_expert) {
        output.expert_offsets = by_expert->offsets.data();
        output.expert_tokens = by_expert->tokens.data();
        output.expert_slots = by_expert->slots.data();
    }
    if (parallel_)
        return seqtopk_route_parallel(plan_, &input_, &output, scratch_.data(), scratch_.size(), parallel_, nullptr);
    return seqtopk_route(plan_, &input_, &output, scratch_.data(), scratch_.size(), nullptr);
}

bool same(const Lists &a, const Lists &b) {
    return a.offsets == b.offsets && a.ids == b.ids &&
           std::memcmp(a.weights.data(), b.weights.data(), a.weights.size() * sizeof(float)) == 0;
}

const seqtopk_row &widest(seqtopk_op op) {
    const seqtopk_row *best = nullptr;
    for (int32_t i = 0; i < seqtopk_registry_size; i++) {
        const seqtopk_row &row = seqtopk_registry[i];
        bool serves = row.op == op && (row.dtype == SEQTOPK_ROW_f32 || row.dtype == SEQTOPK_ROW_i32);
        if (serves && seqtopk_isa_runs(row.isa) && (best == nullptr || row.isa > best->isa))
            best = &row;
    }
    if (best == nullptr)
        std::abort(); /* every op has a row of the reference */
    return *best;
}

namespace {
bool failed = false;
}

void fail(benchmark::State &state, const char *why) {
    failed = true;
    state.SkipWithError(why);
}

int run(int *argc, char **argv, void (*add_all)()) {
    benchmark::Initialize(argc, argv);
    if (benchmark::ReportUnrecognizedArguments(*argc, argv))
        return 2;
    add_all();
    bool ran = benchmark::RunSpecifiedBenchmarks() > 0;
    return ran && !failed ? 0 : 1;
}

void count_work(benchmark::State &state, const Shape &shape) {
    state.SetItemsProcessed(state.iterations() * shape.tokens);
    state.counters["tokens"] = static_cast<double>(shape.tokens);
    state.counters["elements"] = static_cast<double>(shape.elements());
}

} // namespace bench
