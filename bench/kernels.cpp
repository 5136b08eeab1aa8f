/* SPDX-License-Identifier: MIT */
/*
 * Every kernel of the registry that runs here, alone, on one thread, with what a route over f32 logits would hand it,
 * placed and called as in the conformance test (tests/cases.h).
 * Names are <op>/<T>x<E>/k<K>/<kernel>; beside them stands what the standard library has for the same work (peer:...).
 * Beside `rank`, after a sweep, stand its other uses: rank-all, rank-sample, rank-row. The floor of route.cpp is
 * `score` itself here. A row that is not in f32 is fed the same logits, converted.
 */
#include "peers.h"

extern "C" {
#include "arch/words.h"
#include "tests/cases.h"
}

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <stdexcept>

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

/* The keys of a turn's winners, and its candidates. */
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
            rows.ahead = SEQTOPK_AHEAD;
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

/* Times work(turn) alone, without prepare(turn) before it and fault(turn) after it, which says what is wrong or null. */
template <typename Prepare, typename Work, typename Fault>
void time(benchmark::State &state, const Stage &s, Prepare prepare, Work work, Fault fault) {
    using clock = std::chrono::steady_clock;
    size_t i = 0;
    for (auto _ : state) {
        const Turn &turn = s.turns[i++ % s.turns.size()];
        prepare(turn);
        const clock::time_point begin = clock::now();
        work(turn);
        benchmark::ClobberMemory();
        state.SetIterationTime(std::chrono::duration<double>(clock::now() - begin).count());
        if (const char *const why = fault(turn))
            fail(state, why);
    }
    count_work(state, s.shape);
}

/* For kernels that are given one: the last row that runs here. */
seqtopk_select_keys_fn *best_select() {
    seqtopk_select_keys_fn *found = nullptr;
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (seqtopk_registry[i].op == SEQTOPK_OP_select_keys && seqtopk_isa_runs(seqtopk_registry[i].isa) &&
            std::strcmp(seqtopk_registry[i].algorithm, "compress") == 0)
            found = function_of<seqtopk_select_keys_fn>(seqtopk_registry[i]);
    return found;
}

/* Whether an op writes its rows' shift and lse; they then are the case's own. */
bool writes_normalisers(seqtopk_op op) {
    return op == SEQTOPK_OP_lse || op == SEQTOPK_OP_collect_logits || op == SEQTOPK_OP_collect_short ||
           op == SEQTOPK_OP_topk_logits || op == SEQTOPK_OP_topk_scores || op == SEQTOPK_OP_collect_scores;
}

/* Whether a route hands an op its keys block by block, as it makes them. */
bool goes_by_blocks(seqtopk_op op) { return op == SEQTOPK_OP_collect_keys || op == SEQTOPK_OP_mask_groups; }

/* What a shape says, whatever the logits. */
op_case case_of(const Shape &shape, seqtopk_op op) {
    const int64_t budget = static_cast<int64_t>(shape.budget()), elements = static_cast<int64_t>(shape.elements());
    const bool token_scope = op == SEQTOPK_OP_topk_logits || op == SEQTOPK_OP_topk_scores;
    op_case c{};
    c.tokens = shape.tokens;
    c.last = goes_by_blocks(op) ? std::min<int64_t>(std::max(4096 / shape.experts, 1), shape.tokens) : shape.tokens;
    c.experts = shape.experts;
    c.n = c.k = c.budget = budget;
    c.top_k = shape.top_k;
    c.capacity = token_scope ? int64_t{16} * shape.experts : 2 * budget;
    c.end = token_scope ? budget : elements;
    if (op == SEQTOPK_OP_bound_candidates) { /* the bounds that the paper takes */
        c.min = 1;
        c.max = shape.top_k + 2;
    }
    c.ties = 1;
    /* Eight groups (four where eight do not divide the experts), half of them to stay, as DeepSeek-V3 has them. */
    c.groups = shape.experts % 8 ? 4 : 8;
    c.group_n = 2;
    c.group_top_k = c.groups / 2;
    c.how = {SEQTOPK_NORM_SUM, 0, 0, 1, -INFINITY};
    c.select = best_select();
    c.fit = 16;
    c.scale = 1;
    c.softcap = 30;
    c.row_keys = [](const void *, int64_t, float *) {};
    c.is_in_place = 1;
    c.list_row = [](const void *, int64_t, int64_t at) { return at; }; /* random rows need it seldom; the count tells */
    return c;
}

/* What scatter, offset_experts and histogram begin with: where each expert's pairs go, how many it has, and no counts. */
const void *numbers_of(const Turn &turn, const Shape &shape, seqtopk_op op) {
    static std::vector<int32_t> numbers;
    numbers.assign(static_cast<size_t>(shape.experts), 0);
    if (op != SEQTOPK_OP_histogram)
        for (int32_t id : turn.lists.ids)
            numbers[static_cast<size_t>(id)]++;
    if (op == SEQTOPK_OP_scatter)
        std::exclusive_scan(numbers.begin(), numbers.end(), numbers.begin(), 0);
    return numbers.data();
}

/* What memory that a kernel changes holds before. */
const void *beginning_of(const Turn &turn, const Shape &shape, seqtopk_op op) {
    switch (static_cast<int>(op)) {
    case SEQTOPK_OP_weigh_keys: return turn.winners.data();
    case SEQTOPK_OP_histogram:
    case SEQTOPK_OP_offset_experts:
    case SEQTOPK_OP_scatter: return numbers_of(turn, shape, op);
    default: return nullptr;
    }
}

/* A turn's keys as a past of which a ninth is picked: as words, and as rows of the log, `PAST_WIDTH` keys of a token. */
enum { PAST_WIDTH = 9, PAST_STRIDE = PAST_WIDTH + 2 };
struct Past {
    std::vector<uint64_t> words;
    std::vector<float> rows;
    uint64_t limits[2];
    int32_t ids[SEQTOPK_MOST_WEIGHED], ranks[SEQTOPK_MOST_WEIGHED]; /* of a turn's first row */
    std::vector<uint64_t> cut;
};

const Past &past_of(const Turn &turn, const Shape &shape) {
    static Past past;
    const int32_t width = std::min<int32_t>(PAST_WIDTH, shape.experts);
    past.words.clear();
    past.rows.assign(static_cast<size_t>(shape.tokens) * PAST_STRIDE + SEQTOPK_KEYS_SLACK, -INFINITY);
    for (int64_t t = 0; t < shape.tokens; t++) {
        float *row = past.rows.data() + t * PAST_STRIDE;
        std::copy_n(turn.keys + t * shape.experts, width, row);
        std::sort(row, row + width, std::greater<float>());
        for (int32_t j = 0; j < width; j++)
            past.words.push_back(seqtopk_word_of(row[j], t));
    }
    std::vector<uint64_t> sorted = past.words;
    std::sort(sorted.begin(), sorted.end());
    for (size_t i = 0; i < 2; i++)
        past.limits[i] = sorted[sorted.size() * (4 + i) / 9];
    for (int32_t i = 0; i < SEQTOPK_MOST_WEIGHED; i++) {
        past.ids[i] = i;
        past.ranks[i] = 0;
        for (int32_t j = 0; j < std::min<int32_t>(shape.experts, SEQTOPK_MOST_WEIGHED); j++)
            past.ranks[i] +=
                i < shape.experts && (turn.keys[j] > turn.keys[i] || (turn.keys[j] == turn.keys[i] && j < i));
    }
    past.cut.assign(SEQTOPK_MOST_WEIGHED, past.limits[0]);
    return past;
}

void give_past(op_case &c, const Turn &turn, const Shape &shape, seqtopk_op op) {
    const bool is_ranked = op == SEQTOPK_OP_weigh_ranked || op == SEQTOPK_OP_contest_ranked;
    if (op != SEQTOPK_OP_rank_keys && !is_ranked && op != SEQTOPK_OP_pick_words && op != SEQTOPK_OP_pick_keys)
        return;
    const Past &past = past_of(turn, shape);
    c.words = past.words.data();
    c.limits = past.limits;
    c.n = op == SEQTOPK_OP_pick_words ? static_cast<int64_t>(past.words.size())
                                      : std::min<int64_t>(shape.top_k + 2, std::min(shape.experts, PAST_WIDTH + 1));
    if (is_ranked) {
        c.n = std::min<int64_t>(shape.experts, SEQTOPK_MOST_WEIGHED);
        c.k = std::min<int64_t>(shape.top_k, c.n);
        c.pair_ids = past.ids;
        c.pair_offsets = past.ranks;
        c.contest = {
            past.cut.data(), past.limits[1], past.limits[0], shape.tokens, 1, 1, static_cast<int32_t>(c.n), 0, 0, 0};
    }
    if (op != SEQTOPK_OP_pick_keys)
        return;
    c.keys = past.rows.data();
    c.rows.stride = PAST_STRIDE * static_cast<int64_t>(sizeof(float));
    c.experts = PAST_WIDTH;
}

/* What a turn says. */
void give(op_case &c, const Turn &turn, const Shape &shape, seqtopk_op op) {
    const seqtopk_rows own = c.rows;
    c.rows = turn.rows;
    if (writes_normalisers(op)) {
        c.rows.shift = own.shift;
        c.rows.lse = own.lse;
    }
    c.rows.key = op == SEQTOPK_OP_topk_logits || op == SEQTOPK_OP_topk_scores ? SEQTOPK_KEY_LOGIT : SEQTOPK_KEY_LOGPROB;
    c.keys = c.scores = turn.keys;
    if (op == SEQTOPK_OP_select_keys) {
        c.keys = turn.caught_keys.data();
        c.n = turn.candidates();
    }
    if (op == SEQTOPK_OP_bound_candidates || op == SEQTOPK_OP_list_candidates) {
        c.caught.keys = const_cast<float *>(turn.caught_keys.data()); /* to be copied */
        c.caught.ids = const_cast<uint16_t *>(turn.caught_ids.data());
        c.caught.counts = const_cast<int32_t *>(turn.counts.data());
        c.caught.size = turn.candidates();
    }
    c.begin = beginning_of(turn, shape, op);
    c.low = turn.low;
    c.cut = turn.cut;
    c.pair_offsets = turn.lists.offsets.data();
    c.pair_ids = turn.lists.ids.data();
    give_past(c, turn, shape, op);
}

/* What is wrong with a result, or null. The conformance test looks closely. */
const char *fault_of(const op_case &c, const Turn &turn, seqtopk_op op) {
    switch (static_cast<int>(op)) {
    case SEQTOPK_OP_collect_logits:
    case SEQTOPK_OP_collect_scores:
    case SEQTOPK_OP_collect_short: return c.returned >= 0 || c.candidates.size < 0 ? "nothing collected" : nullptr;
    case SEQTOPK_OP_collect_keys: return c.candidates.size != turn.candidates() ? "not what there is" : nullptr;
    case SEQTOPK_OP_topk_logits: /* returns a bad row */
        if (c.returned >= 0)
            return "a bad row";
        return c.candidates.size < 0 || c.at != c.end ? "not all listed" : nullptr;
    case SEQTOPK_OP_topk_scores: return c.returned >= 0 || c.at != c.end ? "not all listed" : nullptr;
    case SEQTOPK_OP_select_keys: return c.kth.key != turn.cut.key ? "not the k-th largest key" : nullptr;
    case SEQTOPK_OP_list_candidates: return c.returned < c.budget ? "fewer than the budget" : nullptr;
    default: return nullptr;
    }
}

void call_by_blocks(op_case &c, const seqtopk_row *row) {
    const int64_t rows = c.last;
    for (c.first = 0; c.first < c.tokens; c.first = c.last) {
        c.last = std::min(c.first + rows, c.tokens);
        case_call(&c, row);
        c.keys += rows * c.experts;
        c.scores += rows * c.experts;
    }
    c.first = 0;
    c.last = rows;
}

void run_row(benchmark::State &state, const Shape &shape, const seqtopk_row *row) {
    const Stage &s = stage(shape, row->dtype);
    const auto holds_less = [](const Turn &a, const Turn &b) { return a.candidates() < b.candidates(); };
    op_case c = case_of(shape, row->op);
    if (row->op == SEQTOPK_OP_scatter) {
        c.scattered.tokens = static_cast<int32_t *>(case_memory(CASE_EXPERT_TOKENS, shape.budget(), sizeof(int32_t)));
        c.scattered.slots = static_cast<int32_t *>(case_memory(CASE_EXPERT_SLOTS, shape.budget(), sizeof(int32_t)));
    }
    /* Placed once, for the turn that needs most. */
    give(c, *std::max_element(s.turns.begin(), s.turns.end(), holds_less), shape, row->op);
    case_place(&c, row->op);
    time(
        state, s,
        [&](const Turn &turn) {
            give(c, turn, shape, row->op);
            case_begin(&c);
        },
        [&](const Turn &) { goes_by_blocks(row->op) ? call_by_blocks(c, row) : case_call(&c, row); },
        [&](const Turn &turn) { return fault_of(c, turn, row->op); });
    if (!case_intact())
        fail(state, "wrote beside its memory");
}

/* All keys of a turn's first rows, in place as a sample is selected from or with work beside them. */
void run_select_rows(benchmark::State &state, const Stage &s, const seqtopk_row *row, int64_t rows, bool in_place) {
    const size_t n = static_cast<size_t>(rows) * static_cast<size_t>(s.shape.experts);
    op_case c{};
    c.n = static_cast<int64_t>(n);
    c.k = rows * s.shape.top_k;
    case_place(&c, row->op);
    std::vector<float> copy(n);
    float expected = 0;
    time(
        state, s,
        [&](const Turn &turn) {
            std::copy_n(turn.keys, n, copy.begin());
            expected = nth_element(copy.data(), n, static_cast<size_t>(c.k));
            std::copy_n(turn.keys, n, copy.begin());
            c.keys = in_place ? nullptr : copy.data();
            c.begin = in_place ? copy.data() : nullptr;
            case_begin(&c);
        },
        [&](const Turn &) { case_call(&c, row); },
        [&](const Turn &) { return c.kth.key != expected ? "not the k-th largest key" : nullptr; });
    count_work(state, {rows, s.shape.experts, s.shape.top_k});
}

/* Of the candidates, as select_keys: of a copy. */
void run_nth_peer(benchmark::State &state, const Stage &s, NthFn *nth) {
    std::vector<float> work(s.shape.elements());
    float found = 0;
    time(
        state, s, [](const Turn &) {},
        [&](const Turn &turn) {
            const auto n = static_cast<size_t>(turn.candidates());
            std::copy_n(turn.caught_keys.data(), n, work.data());
            found = nth(work.data(), n, s.shape.budget());
        },
        [&](const Turn &turn) { return found != turn.cut.key ? "not the k-th largest key" : nullptr; });
}

/* Row by row. */
void run_top_peer(benchmark::State &state, const Stage &s, TopFn *top) {
    std::vector<int32_t> ids(static_cast<size_t>(s.shape.experts));
    time(
        state, s, [](const Turn &) {},
        [&](const Turn &turn) {
            const float *keys = turn.keys;
            for (int64_t t = 0; t < s.shape.tokens; t++, keys += s.shape.experts) {
                top(keys, s.shape.experts, s.shape.top_k, ids.data());
                benchmark::ClobberMemory();
            }
        },
        [](const Turn &) { return nullptr; });
}

template <typename Run> void add(const std::string &name, Run run) {
    benchmark::RegisterBenchmark(name.c_str(), run)->UseManualTime()->Unit(benchmark::kMicrosecond);
}

/* rank beside its use after a sweep: of a short sequence at once, of a sample, of one row. */
void add_select_rows(const Shape &shape, const seqtopk_row *row) {
    const auto add_rows = [&](const char *what, int64_t rows, bool in_place) {
        add(std::string("rank-") + what + "/" + shape.name() + "/" + row->name,
            [shape, row, rows, in_place](benchmark::State &state) {
                run_select_rows(state, stage(shape, row->dtype), row, rows, in_place);
            });
    };
    if (shape.elements() <= 16384)
        add_rows("all", shape.tokens, false);
    if (shape.tokens >= 512)
        add_rows("sample", 64, true);
    add_rows("row", 1, false);
}

void add_nth_peer(const Shape &shape, const char *name, NthFn *nth) {
    add("select_keys/" + shape.name() + "/peer:" + name,
        [shape, nth](benchmark::State &state) { run_nth_peer(state, stage(shape, SEQTOPK_ROW_f32), nth); });
}

void add_top_peer(const Shape &shape, const char *name, TopFn *top) {
    add("topk_row/" + shape.name() + "/peer:" + name,
        [shape, top](benchmark::State &state) { run_top_peer(state, stage(shape, SEQTOPK_ROW_f32), top); });
}

void add_all() {
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
                add_select_rows(shape, row);
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
