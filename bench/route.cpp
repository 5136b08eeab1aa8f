/* SPDX-License-Identifier: MIT */
/*
 * A whole route, logits to token-major lists with weights, on one thread, beside
 *   read    all logits read once, and nothing done with them;
 *   floor   one `score` kernel alone: nothing that ranks by softmax over a sequence can take less;
 *   peers   the same lists by public selectors (peers.h).
 * Names are <scope>/<T>x<E>/k<K>/<what>; table.py makes a table of them.
 */
#include "peers.h"

#include <cstring>
#include <memory>

using namespace bench;

namespace {

/* 64 bytes at a time, four chains: memory is to be the limit, whatever the vectors are. */
#define READ_PASS(name, attribute)                                                                                     \
    attribute uint32_t name(const float *x, size_t n) {                                                                \
        typedef uint32_t Line __attribute__((vector_size(64), aligned(4), may_alias));                                 \
        const Line *line = reinterpret_cast<const Line *>(x);                                                          \
        Line a = {}, b = {}, c = {}, d = {};                                                                           \
        size_t i = 0, lines = n / 16;                                                                                  \
        for (; i + 4 <= lines; i += 4) {                                                                               \
            a ^= line[i];                                                                                              \
            b ^= line[i + 1];                                                                                          \
            c ^= line[i + 2];                                                                                          \
            d ^= line[i + 3];                                                                                          \
        }                                                                                                              \
        for (; i < lines; i++)                                                                                         \
            a ^= line[i];                                                                                              \
        a ^= b ^ c ^ d;                                                                                                \
        uint32_t sum = 0;                                                                                              \
        for (int l = 0; l < 16; l++)                                                                                   \
            sum ^= a[l];                                                                                               \
        for (i = lines * 16; i < n; i++) {                                                                             \
            uint32_t bits;                                                                                             \
            std::memcpy(&bits, x + i, sizeof(bits));                                                                   \
            sum ^= bits;                                                                                               \
        }                                                                                                              \
        return sum;                                                                                                    \
    }

READ_PASS(read_baseline, )
#ifdef __x86_64__
READ_PASS(read_avx2, __attribute__((target("avx2"))))
READ_PASS(read_avx512, __attribute__((target("avx512f"))))
#endif

auto *widest_read() {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f"))
        return read_avx512;
    if (__builtin_cpu_supports("avx2"))
        return read_avx2;
#endif
    return read_baseline;
}

void run_read(benchmark::State &state, Shape shape) {
    const float *x = logits(shape).data();
    auto *read = widest_read();
    size_t turn = 0;
    for (auto _ : state)
        benchmark::DoNotOptimize(read(x + turn++ % shape.turns() * shape.elements(), shape.elements()));
    count_work(state, shape);
}

void run_floor(benchmark::State &state, Shape shape, const seqtopk_row *row) {
    std::vector<float> shift(static_cast<size_t>(shape.tokens)), lse(shift);
    seqtopk_rows rows{};
    const float *x = logits(shape).data();
    rows.stride = static_cast<int64_t>(sizeof(float)) * shape.experts;
    rows.shift = shift.data();
    rows.lse = lse.data();
    rows.experts = shape.experts;
    rows.score = SEQTOPK_SCORE_SOFTMAX;
    rows.key = SEQTOPK_KEY_LOGPROB;
    auto *score = function_of<seqtopk_score_fn>(*row);
    size_t turn = 0;
    for (auto _ : state) {
        rows.logits = x + turn++ % shape.turns() * shape.elements();
        benchmark::DoNotOptimize(score(&rows, 0, shape.tokens));
        benchmark::ClobberMemory();
    }
    count_work(state, shape);
}

void run_route(benchmark::State &state, Shape shape, seqtopk_scope scope, bool bounded) {
    Router router(shape, scope, bounded);
    Lists lists(shape);
    size_t turn = 0;
    for (auto _ : state) {
        if (router.route(turn++, lists) != SEQTOPK_OK) {
            fail(state, "the route failed");
            break;
        }
        benchmark::ClobberMemory();
    }
    count_work(state, shape);
}

template <typename Route> void run_peer(benchmark::State &state, const Shape &shape, seqtopk_scope scope, Route route) {
    Peer peer(shape);
    Lists lists(shape), ours(shape);
    Router router(shape, scope, false);
    size_t turn = 0;
    for (; turn < shape.turns(); turn++) {
        route(peer, turn, lists);
        if (router.route(turn, ours) != SEQTOPK_OK || !same(lists, ours)) {
            fail(state, "this peer's lists are not the library's");
            return;
        }
    }
    for (auto _ : state) {
        route(peer, turn++, lists);
        benchmark::ClobberMemory();
    }
    count_work(state, shape);
}

struct NthPeer {
    const char *name;
    NthFn *nth;
};
const NthPeer nth_peers[] = {
    {"std_nth_element", nth_element},
    {"std_partial_sort", partial_sort},
    {"std_sort", sort},
#ifdef SEQTOPK_BENCH_VQSORT
    {"hwy_vqsort", vqsort},
#endif
};

struct TopPeer {
    const char *name;
    TopFn *top;
};
const TopPeer top_peers[] = {
    {"std_nth_element", top_nth_element},
    {"std_partial_sort", top_partial_sort},
    {"std_sort", top_argsort}, /* what llama.cpp's CPU backend does */
};

/* Small shapes end within microseconds; the wall clock is what a caller waits for. */
template <typename Run, typename... Args> void add(const std::string &name, Run run, Args... args) {
    benchmark::RegisterBenchmark(name.c_str(), run, args...)->UseRealTime()->Unit(benchmark::kMicrosecond);
}

void add_common(const std::string &prefix, const Shape &shape) {
    add(prefix + "read", run_read, shape);
    for (int32_t i = 0; i < seqtopk_registry_size; i++) {
        const seqtopk_row &row = seqtopk_registry[i];
        if (row.op == SEQTOPK_OP_score && row.dtype == SEQTOPK_ROW_f32 && seqtopk_isa_runs(row.isa))
            add(prefix + "floor:" + row.isa_name + "_" + row.algorithm, run_floor, shape, &row);
    }
}

void add_all() {
    for (const Shape &shape : shapes) {
        const std::string sequence = "sequence/" + shape.name() + "/", token = "token/" + shape.name() + "/";

        add_common(sequence, shape);
        add(sequence + "seqtopk", run_route, shape, SEQTOPK_SCOPE_SEQUENCE, false);
        add(sequence + "seqtopk:bounded", run_route, shape, SEQTOPK_SCOPE_SEQUENCE, true);
        for (const NthPeer &peer : nth_peers)
            add(sequence + "peer:" + peer.name, [shape, nth = peer.nth](benchmark::State &state) {
                run_peer(state, shape, SEQTOPK_SCOPE_SEQUENCE,
                         [nth](Peer &p, size_t t, Lists &l) { p.route_sequence(nth, t, l); });
            });

        add_common(token, shape);
        add(token + "seqtopk", run_route, shape, SEQTOPK_SCOPE_TOKEN, false);
        for (const TopPeer &peer : top_peers)
            add(token + "peer:" + peer.name, [shape, top = peer.top](benchmark::State &state) {
                run_peer(state, shape, SEQTOPK_SCOPE_TOKEN,
                         [top](Peer &p, size_t t, Lists &l) { p.route_tokens(top, t, l); });
            });
    }
}

} // namespace

int main(int argc, char **argv) { return run(&argc, argv, add_all); }
