/* SPDX-License-Identifier: MIT */
/*
 * Every kernel of the registry that runs here, alone, on one thread, with what a route over f32 logits would hand it.
 * Names are <op>/<T>x<E>/k<K>/<kernel>; beside them stands what the standard library has for the same work (peer:...).
 * Beside `rank`, after a sweep, stand its other uses: rank-all, rank-sample, rank-row. The floor of route.cpp is
 * `score` itself here. A row that is not in f32 is fed the same logits, converted.
 */
#include "peers.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <type_traits>

using namespace bench;

namespace {

/* One input of a shape, and what the stages before would have made of it. */
struct Turn {
    seqtopk_rows rows{};
    const float *keys;
    seqtopk_cut cut;
    Lists lists;
    std::vector<float> winners; /* the lists' keys */

    /* What a sweep catches that aims a quarter too low. */
    float low;
    std::vector<float> caught_keys;
    std::vector<uint16_t> caught_ids;
    std::vector<int32_t> counts;

    int64_t candidates() const { return static_cast<int64_t>(caught_keys.size()) - SEQTOPK_CANDIDATES_SLACK; }
};

/* Memory of a catch, for one benchmark. */
struct Catch {
    std::vector<float> keys, order;
    std::vector<uint16_t> ids;
    std::vector<int32_t> counts;
    std::vector<uint64_t> work;

    Catch(const Shape &shape, size_t capacity)
        : keys(capacity + SEQTOPK_CANDIDATES_SLACK), order(keys.size()), ids(keys.size()),
          counts(static_cast<size_t>(shape.tokens)), work(static_cast<size_t>(SEQTOPK_COLLECT_WORK(shape.experts))) {}

    /* Nothing candidates yet. */
    seqtopk_candidates open(bool own_order) {
        seqtopk_candidates c{};
        c.keys = keys.data();
        c.order = own_order ? order.data() : keys.data();
        c.ids = ids.data();
        c.counts = counts.data();
        c.work = work.data();
        c.capacity = static_cast<int64_t>(keys.size()) - SEQTOPK_CANDIDATES_SLACK;
        return c;
    }

    /* What a turn has candidates. */
    seqtopk_candidates fill(const Turn &turn, bool own_order) {
        std::copy(turn.caught_keys.begin(), turn.caught_keys.end(), keys.begin());
        std::copy(turn.caught_keys.begin(), turn.caught_keys.end(), order.begin());
        std::copy(turn.caught_ids.begin(), turn.caught_ids.end(), ids.begin());
        std::copy(turn.counts.begin(), turn.counts.end(), counts.begin());
        seqtopk_candidates c = open(own_order);
        c.size = turn.candidates();
        return c;
    }
};

/* The keys of a turn's winners, and its catch. */
void collect(Turn &turn, const Shape &shape) {
    const float *keys = turn.keys;
    for (size_t t = 0; t < static_cast<size_t>(shape.tokens); t++, keys += shape.experts) {
        for (int32_t i = turn.lists.offsets[t]; i < turn.lists.offsets[t + 1]; i++)
            turn.winners.push_back(keys[turn.lists.ids[static_cast<size_t>(i)]]);
        const size_t before = turn.caught_keys.size();
        for (int32_t e = 0; e < shape.experts; e++)
            if (keys[e] >= turn.low) {
                turn.caught_keys.push_back(keys[e]);
                turn.caught_ids.push_back(static_cast<uint16_t>(e));
            }
        turn.counts.push_back(static_cast<int32_t>(turn.caught_keys.size() - before));
    }
    turn.caught_keys.resize(turn.caught_keys.size() + SEQTOPK_CANDIDATES_SLACK);
    turn.caught_ids.resize(turn.caught_keys.size());
}

/*
 * All turns of a shape. Keys and lists are those of the f32 logits, whatever the dtype, so that every dtype is measured
 * on the same selection.
 */
class Stage {
public:
    const Shape shape;
    std::vector<Turn> turns;

    Stage(const Shape &s, int32_t dtype)
        : shape(s), shift_(s.turns() * static_cast<size_t>(s.tokens)), lse_(shift_), keys_(s.turns() * s.elements()) {
        const std::vector<float> &x = logits(shape);
        const bool narrow = dtype == SEQTOPK_ROW_bf16 || dtype == SEQTOPK_ROW_f16;
        Router router(shape, SEQTOPK_SCOPE_SEQUENCE, false);
        std::vector<float> copy(shape.elements());
        for (size_t i = 0; i < shape.turns(); i++) {
            const size_t at = i * shape.elements();
            seqtopk_rows rows{};
            rows.logits = x.data() + at;
            rows.stride = static_cast<int64_t>(sizeof(float)) * shape.experts;
            rows.shift = shift_.data() + i * static_cast<size_t>(shape.tokens);
            rows.lse = lse_.data() + i * static_cast<size_t>(shape.tokens);
            rows.experts = shape.experts;
            rows.score = SEQTOPK_SCORE_SOFTMAX;
            rows.key = SEQTOPK_KEY_LOGPROB;
            float *keys = keys_.data() + at;
            function_of<seqtopk_lse_fn>(widest(SEQTOPK_OP_lse))(&rows, 0, shape.tokens);
            function_of<seqtopk_keys_fn>(widest(SEQTOPK_OP_keys))(&rows, 0, shape.tokens, keys);
            std::copy_n(keys, shape.elements(), copy.begin());
            const float last = nth_element(copy.data(), copy.size(), shape.budget());
            std::copy_n(keys, shape.elements(), copy.begin());
            const float low = nth_element(copy.data(), copy.size(), shape.budget() + shape.budget() / 4);
            if (narrow) {
                rows.logits = static_cast<const uint16_t *>(logits_as(shape, dtype)) + at;
                rows.stride /= 2;
            }
            /* This cut lets in all keys that equal the last one. */
            turns.push_back(
                {rows, keys, {last, shape.experts - 1, shape.tokens - 1}, Lists(shape), {}, low, {}, {}, {}});
            if (router.route(i, turns.back().lists) != SEQTOPK_OK)
                throw std::runtime_error("the route failed");
            collect(turns.back(), shape);
        }
    }

private:
    std::vector<float> shift_, lse_, keys_;
};

const Stage &stage(const Shape &shape, int32_t dtype) {
    if (dtype == SEQTOPK_ROW_i32)
        dtype = SEQTOPK_ROW_f32;
    static std::map<std::pair<std::string, int32_t>, std::unique_ptr<Stage>> made;
    std::unique_ptr<Stage> &s = made[{shape.name(), dtype}];
    if (!s)
        s = std::make_unique<Stage>(shape, dtype);
    return *s;
}

/* Times work(turn) alone, prepare(turn) before it left out. */
template <typename Prepare, typename Work>
void time(benchmark::State &state, const Stage &s, Prepare prepare, Work work) {
    using clock = std::chrono::steady_clock;
    size_t i = 0;
    for (auto _ : state) {
        const Turn &turn = s.turns[i++ % s.turns.size()];
        prepare(turn);
        const clock::time_point begin = clock::now();
        work(turn);
        benchmark::ClobberMemory();
        state.SetIterationTime(std::chrono::duration<double>(clock::now() - begin).count());
    }
    count_work(state, s.shape);
}

constexpr auto nothing = [](const Turn &) {};

void run_keys(benchmark::State &state, const Stage &s, seqtopk_keys_fn *make) {
    std::vector<float> keys(s.shape.elements());
    time(state, s, nothing, [&](const Turn &turn) { make(&turn.rows, 0, s.shape.tokens, keys.data()); });
}

/* For kernels that are given a rank: the last row that runs here. */
seqtopk_select_keys_fn *best_rank() {
    seqtopk_select_keys_fn *found = nullptr;
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (seqtopk_registry[i].op == SEQTOPK_OP_select_keys && seqtopk_isa_runs(seqtopk_registry[i].isa) &&
            std::strcmp(seqtopk_registry[i].algorithm, "compress") == 0)
            found = function_of<seqtopk_select_keys_fn>(seqtopk_registry[i]);
    return found;
}

/* Rows whose shift and lse may be written. */
struct OwnRows {
    std::vector<float> shift, lse;

    explicit OwnRows(const Shape &shape) : shift(static_cast<size_t>(shape.tokens)), lse(shift) {}

    seqtopk_rows of(const Turn &turn) {
        seqtopk_rows rows = turn.rows;
        rows.shift = shift.data();
        rows.lse = lse.data();
        return rows;
    }
};

void run_score(benchmark::State &state, const Stage &s, seqtopk_lse_fn *score) {
    OwnRows own(s.shape);
    seqtopk_rows rows{};
    time(
        state, s, [&](const Turn &turn) { rows = own.of(turn); },
        [&](const Turn &) { benchmark::DoNotOptimize(score(&rows, 0, s.shape.tokens)); });
}

void run_sweep(benchmark::State &state, const Stage &s, seqtopk_collect_logits_fn *sweep) {
    OwnRows own(s.shape);
    Catch memory(s.shape, 2 * s.shape.budget());
    seqtopk_rows rows{};
    seqtopk_candidates candidates{};
    time(
        state, s,
        [&](const Turn &turn) {
            rows = own.of(turn);
            candidates = memory.open(false);
        },
        [&](const Turn &turn) {
            if (sweep(&rows, 0, s.shape.tokens, turn.low, 0, &candidates) >= 0 || candidates.size < 0)
                fail(state, "nothing candidates");
        });
}

/* Block by block, as a route makes keys. */
void run_collect(benchmark::State &state, const Stage &s, seqtopk_collect_keys_fn *kernel) {
    const int64_t rows = std::max(4096 / s.shape.experts, 1);
    Catch memory(s.shape, 2 * s.shape.budget());
    seqtopk_candidates candidates{};
    time(
        state, s, [&](const Turn &) { candidates = memory.open(false); },
        [&](const Turn &turn) {
            for (int64_t t = 0; t < s.shape.tokens; t += rows)
                kernel(turn.keys + t * s.shape.experts, s.shape.experts, t, std::min(t + rows, s.shape.tokens),
                       turn.low, &candidates);
            if (candidates.size != turn.candidates())
                fail(state, "not what there is to catch");
        });
}

/* To the bounds that the paper takes: 1 and K + 2. */
void run_trim(benchmark::State &state, const Stage &s, seqtopk_bound_candidates_fn *trim) {
    Catch memory(s.shape, s.shape.elements());
    seqtopk_candidates candidates{};
    time(
        state, s, [&](const Turn &turn) { candidates = memory.fill(turn, true); },
        [&](const Turn &) { trim(&candidates, 0, s.shape.tokens, 1, s.shape.top_k + 2); });
}

void run_pick(benchmark::State &state, const Stage &s, seqtopk_topk_logits_fn *pick) {
    OwnRows own(s.shape);
    Catch memory(s.shape, size_t{16} * static_cast<size_t>(s.shape.experts));
    std::vector<float> keys(s.shape.budget());
    std::vector<int32_t> offsets(static_cast<size_t>(s.shape.tokens) + 1), ids(keys.size());
    const seqtopk_lists lists = {offsets.data(), ids.data(), keys.data(), 0, 0};
    const int64_t end = static_cast<int64_t>(keys.size());
    seqtopk_rows rows{};
    seqtopk_candidates work{};
    time(
        state, s,
        [&](const Turn &turn) {
            rows = own.of(turn);
            rows.key = SEQTOPK_KEY_LOGIT;
            work = memory.open(false);
        },
        [&](const Turn &) {
            int64_t at = 0;
            if (pick(&rows, 0, s.shape.tokens, s.shape.top_k, &work, &lists, &at, end) >= 0 || work.size < 0 ||
                at != end)
                fail(state, "not all picked");
        });
}

void run_whole(benchmark::State &state, const Stage &s, seqtopk_collect_short_fn *whole) {
    OwnRows own(s.shape);
    Catch memory(s.shape, 2 * s.shape.budget());
    std::vector<float> keys(size_t{16} * (static_cast<size_t>(s.shape.tokens) + 4));
    seqtopk_rows rows{};
    seqtopk_candidates candidates{};
    time(
        state, s,
        [&](const Turn &turn) {
            rows = own.of(turn);
            candidates = memory.open(false);
        },
        [&](const Turn &) {
            float low;
            if (whole(&rows, 0, s.shape.tokens, static_cast<int64_t>(s.shape.budget()), best_rank(), keys.data(), &low,
                      &candidates) >= 0 ||
                candidates.size < 0)
                fail(state, "nothing candidates");
        });
}

void run_choose(benchmark::State &state, const Stage &s, seqtopk_topk_keys_fn *choose) {
    Catch memory(s.shape, size_t{16} * static_cast<size_t>(s.shape.experts));
    std::vector<float> keys(s.shape.budget());
    std::vector<int32_t> offsets(static_cast<size_t>(s.shape.tokens) + 1), ids(keys.size());
    const seqtopk_lists lists = {offsets.data(), ids.data(), keys.data(), 0, 0};
    const int64_t end = static_cast<int64_t>(keys.size());
    seqtopk_candidates work{};
    time(
        state, s, [&](const Turn &) { work = memory.open(false); },
        [&](const Turn &turn) {
            int64_t at = 0;
            choose(turn.keys, s.shape.experts, 0, s.shape.tokens, s.shape.top_k, &work, &lists, &at, end);
            if (work.size < 0 || at != end)
                fail(state, "not all chosen");
        });
}

void run_rank(benchmark::State &state, const Stage &s, seqtopk_select_keys_fn *rank) {
    std::vector<float> work(s.shape.elements());
    time(state, s, nothing, [&](const Turn &turn) {
        const int64_t k = static_cast<int64_t>(s.shape.budget());
        if (rank(turn.caught_keys.data(), turn.candidates(), k, work.data()).key != turn.cut.key)
            fail(state, "not the k-th largest key");
    });
}

/* All keys of a turn's first rows, in place as a sweep's sample is ranked or with work beside them. */
void run_rank_rows(benchmark::State &state, const Stage &s, seqtopk_select_keys_fn *rank, int64_t rows, bool in_place) {
    const size_t n = static_cast<size_t>(rows) * static_cast<size_t>(s.shape.experts);
    const size_t k = static_cast<size_t>(rows) * static_cast<size_t>(s.shape.top_k);
    std::vector<float> keys(n), work(n);
    float expected = 0;
    time(
        state, s,
        [&](const Turn &turn) {
            std::copy_n(turn.keys, n, keys.begin());
            expected = nth_element(keys.data(), n, k);
            std::copy_n(turn.keys, n, keys.begin());
        },
        [&](const Turn &) {
            float *const to = in_place ? keys.data() : work.data();
            if (rank(keys.data(), static_cast<int64_t>(n), static_cast<int64_t>(k), to).key != expected)
                fail(state, "not the k-th largest key");
        });
    count_work(state, {rows, s.shape.experts, s.shape.top_k});
}

void run_rank_peer(benchmark::State &state, const Stage &s, NthFn *nth) {
    std::vector<float> work(s.shape.elements());
    time(state, s, nothing, [&](const Turn &turn) {
        const size_t n = static_cast<size_t>(turn.candidates());
        std::copy_n(turn.caught_keys.data(), n, work.data());
        if (nth(work.data(), n, s.shape.budget()) != turn.cut.key)
            fail(state, "not the k-th largest key");
    });
}

void run_nth(benchmark::State &state, const Stage &s, NthFn *nth) {
    std::vector<float> keys(s.shape.elements());
    const size_t k = s.shape.budget();
    time(
        state, s, [&](const Turn &turn) { std::copy_n(turn.keys, keys.size(), keys.begin()); },
        [&](const Turn &turn) {
            if (nth(keys.data(), keys.size(), k) != turn.cut.key)
                fail(state, "not the k-th largest key");
        });
}

/* Row by row; `top` is a kernel or a peer. */
template <typename Top> void run_top(benchmark::State &state, const Stage &s, Top *top) {
    std::vector<int32_t> ids(static_cast<size_t>(s.shape.experts));
    time(state, s, nothing, [&](const Turn &turn) {
        const float *keys = turn.keys;
        for (int64_t t = 0; t < s.shape.tokens; t++, keys += s.shape.experts) {
            top(keys, s.shape.experts, s.shape.top_k, ids.data());
            benchmark::ClobberMemory();
        }
    });
}

/* Eight groups (four where eight do not divide the experts), half of them to stay, as DeepSeek-V3 has them. */
void run_groups(benchmark::State &state, const Stage &s, seqtopk_mask_groups_fn *limit) {
    const int32_t experts = s.shape.experts, groups = experts % 8 ? 4 : 8;
    std::vector<float> keys(static_cast<size_t>(experts)), work(2 * keys.size());
    time(state, s, nothing, [&](const Turn &turn) {
        const float *scores = turn.keys;
        for (int64_t t = 0; t < s.shape.tokens; t++, scores += experts) {
            limit(scores, keys.data(), experts, groups, 2, groups / 2, work.data());
            benchmark::ClobberMemory();
        }
    });
}

void run_emit(benchmark::State &state, const Stage &s, seqtopk_list_keys_fn *emit) {
    std::vector<int32_t> ids(s.shape.elements());
    time(state, s, nothing, [&](const Turn &turn) {
        const float *keys = turn.keys;
        size_t n = 0;
        for (int64_t t = 0; t < s.shape.tokens; t++, keys += s.shape.experts)
            n += static_cast<size_t>(emit(keys, s.shape.experts, t, &turn.cut, ids.data() + n));
        if (n < s.shape.budget())
            fail(state, "fewer than the budget");
    });
}

void run_filter(benchmark::State &state, const Stage &s, seqtopk_list_candidates_fn *filter) {
    Catch memory(s.shape, s.shape.elements());
    std::vector<int32_t> offsets(static_cast<size_t>(s.shape.tokens) + 1), ids(s.shape.elements());
    std::vector<float> keys(s.shape.elements());
    const seqtopk_lists lists = {offsets.data(), ids.data(), keys.data(), 0, 0};
    seqtopk_candidates candidates{};
    time(
        state, s, [&](const Turn &turn) { candidates = memory.fill(turn, false); },
        [&](const Turn &turn) {
            if (filter(&candidates, 0, s.shape.tokens, turn.cut.key, 1, &lists, 0, candidates.size) <
                static_cast<int64_t>(s.shape.budget()))
                fail(state, "fewer than the budget");
        });
}

void run_weigh(benchmark::State &state, const Stage &s, seqtopk_weigh_keys_fn *weigh) {
    const seqtopk_weighing how = {SEQTOPK_NORM_SUM, 0, 0, 1};
    std::vector<float> weights;
    time(
        state, s, [&](const Turn &turn) { weights = turn.winners; },
        [&](const Turn &turn) {
            weigh(SEQTOPK_SCORE_SOFTMAX, &how, 0, s.shape.tokens, turn.lists.offsets.data(), weights.data());
        });
}

void run_weights(benchmark::State &state, const Stage &s, seqtopk_weigh_logits_fn *weigh) {
    const seqtopk_weighing how = {SEQTOPK_NORM_SUM, 0, 0, 1};
    std::vector<float> weights(s.shape.budget());
    time(state, s, nothing, [&](const Turn &turn) {
        weigh(&turn.rows, &how, 0, s.shape.tokens, turn.lists.offsets.data(), turn.lists.ids.data(), weights.data());
    });
}

void run_count(benchmark::State &state, const Stage &s, seqtopk_histogram_fn *count) {
    std::vector<int32_t> histogram(static_cast<size_t>(s.shape.experts));
    time(
        state, s, [&](const Turn &) { std::fill(histogram.begin(), histogram.end(), 0); },
        [&](const Turn &turn) {
            count(turn.lists.ids.data(), static_cast<int64_t>(turn.lists.ids.size()), histogram.data());
        });
}

void run_scatter(benchmark::State &state, const Stage &s, seqtopk_scatter_fn *scatter) {
    std::vector<int32_t> cursors(static_cast<size_t>(s.shape.experts)), work(cursors), tokens(s.shape.budget()),
        slots(tokens);
    time(
        state, s,
        [&](const Turn &turn) {
            std::fill(cursors.begin(), cursors.end(), 0);
            for (int32_t id : turn.lists.ids)
                cursors[static_cast<size_t>(id)]++;
            std::exclusive_scan(cursors.begin(), cursors.end(), cursors.begin(), 0);
        },
        [&](const Turn &turn) {
            scatter(turn.lists.offsets.data(), turn.lists.ids.data(), 0, s.shape.tokens, s.shape.experts,
                    cursors.data(), work.data(), tokens.data(), slots.data());
        });
}

/* No default: an op without a benchmark is a warning here. */
void run_row(benchmark::State &state, Shape shape, const seqtopk_row *row) {
    const Stage &s = stage(shape, row->dtype);
    switch (row->op) {
    case SEQTOPK_OP_lse: run_score(state, s, function_of<seqtopk_lse_fn>(*row)); break;
    case SEQTOPK_OP_keys: run_keys(state, s, function_of<seqtopk_keys_fn>(*row)); break;
    case SEQTOPK_OP_collect_logits: run_sweep(state, s, function_of<seqtopk_collect_logits_fn>(*row)); break;
    case SEQTOPK_OP_collect_keys: run_collect(state, s, function_of<seqtopk_collect_keys_fn>(*row)); break;
    case SEQTOPK_OP_bound_candidates: run_trim(state, s, function_of<seqtopk_bound_candidates_fn>(*row)); break;
    case SEQTOPK_OP_collect_short: run_whole(state, s, function_of<seqtopk_collect_short_fn>(*row)); break;
    case SEQTOPK_OP_topk_keys: run_choose(state, s, function_of<seqtopk_topk_keys_fn>(*row)); break;
    case SEQTOPK_OP_topk_logits: run_pick(state, s, function_of<seqtopk_topk_logits_fn>(*row)); break;
    case SEQTOPK_OP_select_keys: run_rank(state, s, function_of<seqtopk_select_keys_fn>(*row)); break;
    case SEQTOPK_OP_nth_keys: run_nth(state, s, function_of<seqtopk_nth_keys_fn>(*row)); break;
    case SEQTOPK_OP_topk_row: run_top(state, s, function_of<seqtopk_topk_row_fn>(*row)); break;
    case SEQTOPK_OP_mask_groups: run_groups(state, s, function_of<seqtopk_mask_groups_fn>(*row)); break;
    case SEQTOPK_OP_list_keys: run_emit(state, s, function_of<seqtopk_list_keys_fn>(*row)); break;
    case SEQTOPK_OP_list_candidates: run_filter(state, s, function_of<seqtopk_list_candidates_fn>(*row)); break;
    case SEQTOPK_OP_weigh_logits: run_weights(state, s, function_of<seqtopk_weigh_logits_fn>(*row)); break;
    case SEQTOPK_OP_weigh_keys: run_weigh(state, s, function_of<seqtopk_weigh_keys_fn>(*row)); break;
    case SEQTOPK_OP_histogram: run_count(state, s, function_of<seqtopk_histogram_fn>(*row)); break;
    case SEQTOPK_OP_scatter: run_scatter(state, s, function_of<seqtopk_scatter_fn>(*row)); break;
    case SEQTOPK_OP_sample:
    case SEQTOPK_OP_block:
    case SEQTOPK_OP_ahead:
    case SEQTOPK_OP_share:
    case SEQTOPK_OPS: break; /* sizes */
    }
}

template <typename Run> void add(const std::string &name, Run run) {
    benchmark::RegisterBenchmark(name.c_str(), run)->UseManualTime()->Unit(benchmark::kMicrosecond);
}

/* rank beside its use after a sweep: of a short sequence at once, of a sample, of one row. */
void add_rank_rows(const Shape &shape, const seqtopk_row *row) {
    const auto add_rows = [&](const char *what, int64_t rows, bool in_place) {
        add(std::string("rank-") + what + "/" + shape.name() + "/" + row->name, [shape, row, rows,
                                                                                 in_place](benchmark::State &state) {
            run_rank_rows(state, stage(shape, row->dtype), function_of<seqtopk_select_keys_fn>(*row), rows, in_place);
        });
    };
    if (shape.elements() <= 16384)
        add_rows("all", shape.tokens, false);
    if (shape.tokens >= 512)
        add_rows("sample", 64, true);
    add_rows("row", 1, false);
}

void add_nth_peer(const Shape &shape, const char *name, NthFn *nth) {
    add("nth_keys/" + shape.name() + "/peer:" + name,
        [shape, nth](benchmark::State &state) { run_nth(state, stage(shape, SEQTOPK_ROW_f32), nth); });
    add("select_keys/" + shape.name() + "/peer:" + name,
        [shape, nth](benchmark::State &state) { run_rank_peer(state, stage(shape, SEQTOPK_ROW_f32), nth); });
}

void add_top_peer(const Shape &shape, const char *name, TopFn *top) {
    add("topk_row/" + shape.name() + "/peer:" + name,
        [shape, top](benchmark::State &state) { run_top(state, stage(shape, SEQTOPK_ROW_f32), top); });
}

void add_all() {
    static_assert(std::is_same<NthFn, seqtopk_nth_keys_fn>::value, "peers of nth are called as nth is");
    for (const Shape &shape : shapes) {
        seqtopk_desc desc = SEQTOPK_DESC_INIT;
        desc.experts = shape.experts;
        desc.top_k = shape.top_k;
        for (int32_t i = 0; i < seqtopk_registry_kernels; i++) {
            const seqtopk_row *row = &seqtopk_registry[i];
            desc.scope = row->op == SEQTOPK_OP_topk_row || row->op == SEQTOPK_OP_topk_logits ? SEQTOPK_SCOPE_TOKEN
                                                                                             : SEQTOPK_SCOPE_SEQUENCE;
            if (!seqtopk_isa_runs(row->isa) || !row->applies(&desc))
                continue;
            if (row->op == SEQTOPK_OP_select_keys)
                add_rank_rows(shape, row);
            add(std::string(row->op_name) + "/" + shape.name() + "/" + row->name,
                [shape, row](benchmark::State &state) { run_row(state, shape, row); });
        }
        for (const auto &peer : nth_peers)
            add_nth_peer(shape, peer.name, peer.function);
        for (const auto &peer : top_peers)
            add_top_peer(shape, peer.name, peer.function);
    }
}

} // namespace

int main(int argc, char **argv) { return run(&argc, argv, add_all); }
