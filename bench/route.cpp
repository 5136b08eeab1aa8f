/* SPDX-License-Identifier: MIT */
/*
 * A whole route, logits to token-major lists with weights, on one thread, beside
 *   read    all logits read once, and nothing done with them;
 *   floor   one `score` kernel alone: nothing that ranks by softmax over a sequence can take less;
 *   peers   the same lists by public selectors (peers.h).
 * Names are <scope>/<T>x<E>/k<K>/<what>; table.py makes a table of them.
 */
#include "peers.h"

extern "C" {
#include "src/cli/read.h"
}

using namespace bench;

namespace {

void run_read(benchmark::State &state, Shape shape) {
    const float *x = logits(shape).data();
    const char *isa;
    seqtopk_read_fn *read = seqtopk_cli_widest_read(&isa);
    size_t turn = 0;
    for (auto _ : state)
        benchmark::DoNotOptimize(read(x + turn++ % shape.turns() * shape.elements(), 4 * shape.elements()));
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
    rows.ahead = SEQTOPK_AHEAD;
    rows.score = SEQTOPK_SCORE_SOFTMAX;
    rows.key = SEQTOPK_KEY_LOGPROB;
    auto *score = function_of<seqtopk_lse_fn>(*row);
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

/* Small shapes end within microseconds; the wall clock is what a caller waits for. */
template <typename Run, typename... Args> void add(const std::string &name, Run run, Args... args) {
    benchmark::RegisterBenchmark(name.c_str(), run, args...)->UseRealTime()->Unit(benchmark::kMicrosecond);
}

void add_common(const std::string &prefix, const Shape &shape) {
    add(prefix + "read", run_read, shape);
    for (int32_t i = 0; i < seqtopk_registry_size; i++) {
        const seqtopk_row &row = seqtopk_registry[i];
        if (row.op == SEQTOPK_OP_lse && row.dtype == SEQTOPK_ROW_f32 && seqtopk_isa_runs(row.isa))
            add(prefix + "floor:" + row.isa_name + "_" + row.algorithm, run_floor, shape, &row);
    }
}

void add_all() {
    for (const Shape &shape : shapes) {
        const std::string sequence = "sequence/" + shape.name() + "/", token = "token/" + shape.name() + "/";

        add_common(sequence, shape);
        add(sequence + "seqtopk", run_route, shape, SEQTOPK_SCOPE_SEQUENCE, false);
        add(sequence + "seqtopk:bounded", run_route, shape, SEQTOPK_SCOPE_SEQUENCE, true);
        for (const auto &peer : nth_peers)
            add(sequence + "peer:" + peer.name, [shape, nth = peer.function](benchmark::State &state) {
                run_peer(state, shape, SEQTOPK_SCOPE_SEQUENCE,
                         [nth](Peer &p, size_t t, Lists &l) { p.route_sequence(nth, t, l); });
            });

        add_common(token, shape);
        add(token + "seqtopk", run_route, shape, SEQTOPK_SCOPE_TOKEN, false);
        for (const auto &peer : top_peers)
            add(token + "peer:" + peer.name, [shape, top = peer.function](benchmark::State &state) {
                run_peer(state, shape, SEQTOPK_SCOPE_TOKEN,
                         [top](Peer &p, size_t t, Lists &l) { p.route_tokens(top, t, l); });
            });
    }
}

} // namespace

int main(int argc, char **argv) { return run(&argc, argv, add_all); }
