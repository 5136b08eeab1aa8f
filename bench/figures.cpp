/* SPDX-License-Identifier: MIT */
/*
 * The figures of docs/measured.md, one JSON object a line; figures.py makes tables of them.
 *
 *     bench-figures [--seconds S] [SECTION ...]       S: for each group of figures that stand side by side (default: 1)
 *
 * Within a group samples are interleaved in rounds; a figure is the median of its samples. A route makes token-major
 * lists, on one thread and f32 softmax logits unless its name says otherwise; `floor` is one `score` kernel alone,
 * `read` the fastest pass over memory. Peers are those of peers.h, their lists compared with the library's before they
 * are timed.
 */
#include "peers.h"

#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>

extern "C" {
#include "src/cli/measure.h"
#include "src/cli/read.h"
#include "src/cli/threads.h"
}

using namespace bench;

namespace {

double seconds = 1;

const char *const dtype_names[] = {"f32", "bf16", "f16"};
const char *const score_names[] = {"softmax", "sigmoid", "sqrtsoftplus", "logits"};

/* Figures of one shape that are measured side by side. */
class Group {
public:
    Group(const char *section, const Shape &shape) : section_(section), shape_(shape) {}

    /* work(turn) is one call. */
    void add(const std::string &what, std::function<void(size_t)> work) {
        items_.push_back({what, std::move(work), 0});
    }

    void run() {
        std::vector<seqtopk_measure> measures(items_.size());
        for (size_t i = 0; i < items_.size(); i++) {
            measures[i].call = [](void *item) {
                Item *self = static_cast<Item *>(item);
                self->work(self->turn++);
            };
            measures[i].context = &items_[i];
            measures[i].share = 1.0 / static_cast<double>(items_.size());
        }
        seqtopk_measure_all(measures.data(), measures.size(), seconds, nullptr);
        for (size_t i = 0; i < items_.size(); i++)
            std::printf("{\"section\": \"%s\", \"tokens\": %lld, \"experts\": %d, \"top_k\": %d, \"what\": \"%s\", "
                        "\"ns\": %.9g, \"low\": %.9g, \"high\": %.9g, \"samples\": %d}\n",
                        section_, static_cast<long long>(shape_.tokens), shape_.experts, shape_.top_k,
                        items_[i].what.c_str(), measures[i].median, measures[i].low, measures[i].high,
                        measures[i].samples);
        std::fflush(stdout);
    }

private:
    struct Item {
        std::string what;
        std::function<void(size_t)> work;
        size_t turn;
    };
    const char *section_;
    Shape shape_;
    std::vector<Item> items_;
};

/* --------------------------------------------------------- what is measured -- */

volatile uint32_t sum; /* nobody reads it; it makes the read pass count */

void add_read(Group &group, const Shape &shape, int32_t dtype = SEQTOPK_DTYPE_F32) {
    const char *isa;
    seqtopk_read_fn *read = seqtopk_cli_widest_read(&isa);
    const size_t bytes = shape.elements() * (dtype == SEQTOPK_DTYPE_F32 ? 4 : 2);
    const char *x = static_cast<const char *>(logits_as(shape, dtype));
    group.add("read", [=](size_t turn) { sum = read(x + turn % shape.turns() * bytes, bytes); });
}

/* All usable score kernels: the fastest of them is the floor. */
void add_floors(Group &group, const Shape &shape) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++) {
        const seqtopk_row &row = seqtopk_registry[i];
        if (row.op != SEQTOPK_OP_lse || row.dtype != SEQTOPK_ROW_f32 || !seqtopk_isa_runs(row.isa) || row.isa == 0)
            continue;
        auto lse = std::make_shared<std::vector<float>>(2 * static_cast<size_t>(shape.tokens));
        seqtopk_rows rows{};
        rows.stride = static_cast<int64_t>(sizeof(float)) * shape.experts;
        rows.shift = lse->data();
        rows.lse = lse->data() + shape.tokens;
        rows.experts = shape.experts;
        rows.ahead = SEQTOPK_AHEAD;
        rows.score = SEQTOPK_SCORE_SOFTMAX;
        rows.key = SEQTOPK_KEY_LOGPROB;
        group.add(std::string("floor:") + row.name,
                  [=, x = logits(shape).data(), score = function_of<seqtopk_lse_fn>(row)](size_t turn) mutable {
                      rows.logits = x + turn % shape.turns() * shape.elements();
                      score(&rows, 0, lse ? shape.tokens : 0);
                  });
    }
}

/* One way to route, with all that it needs. */
struct Way {
    Router router;
    Lists lists;
    std::unique_ptr<ExpertLists> by_expert;

    Way(const Shape &shape, const seqtopk_desc &desc, const seqtopk_parallel *parallel, bool permuted)
        : router(shape, desc, parallel), lists(shape),
          by_expert(permuted ? std::make_unique<ExpertLists>(shape) : nullptr) {}

    void route(size_t turn) {
        if (router.route(turn, lists, by_expert.get()) != SEQTOPK_OK)
            throw std::runtime_error("a route failed");
    }
};

void add_route(Group &group, const std::string &what, const Shape &shape, const seqtopk_desc &desc,
               bool permuted = false, const seqtopk_parallel *parallel = nullptr) {
    auto way = std::make_shared<Way>(shape, desc, parallel, permuted);
    group.add(what, [way](size_t turn) { way->route(turn); });
}

void add_routes_by_isa(Group &group, const Shape &shape, seqtopk_scope scope) {
    seqtopk_desc desc = desc_of(shape, scope);
    for (int32_t i = 1; (desc.isa = seqtopk_isa_name(i)) != nullptr; i++)
        if (seqtopk_isa_usable(desc.isa))
            add_route(group, std::string("route:") + desc.isa, shape, desc);
}

/* A peer's lists must be the library's; where ties are broken otherwise, as many and as probable. */
template <typename Route>
void add_peer(Group &group, const char *name, const Shape &shape, seqtopk_scope scope, bool any_ties, Route route) {
    auto peer = std::make_shared<Peer>(shape);
    auto lists = std::make_shared<Lists>(shape);
    Way ours(shape, desc_of(shape, scope), nullptr, false);
    for (size_t turn = 0; turn < shape.turns(); turn++) {
        route(*peer, turn, *lists);
        ours.route(turn);
        if (any_ties ? lists->offsets.back() != ours.lists.offsets.back() : !same(*lists, ours.lists))
            throw std::runtime_error(std::string(name) + ": this peer's lists are not the library's");
    }
    group.add(std::string("peer:") + name, [=](size_t turn) { route(*peer, turn, *lists); });
}

/* ----------------------------------------------------------------- sections -- */

void sequence() {
    for (const Shape &shape : shapes) {
        Group group("sequence", shape);
        const seqtopk_desc desc = desc_of(shape, SEQTOPK_SCOPE_SEQUENCE);
        add_read(group, shape);
        add_floors(group, shape);
        add_route(group, "route", shape, desc);
        add_route(group, "permuted", shape, desc, true);
        add_routes_by_isa(group, shape, SEQTOPK_SCOPE_SEQUENCE);
        for (const auto &named : nth_peers)
            if (std::strstr(named.name, "sort") == nullptr) /* a selection is always faster */
                add_peer(group, named.name, shape, SEQTOPK_SCOPE_SEQUENCE, false,
                         [nth = named.function](Peer &p, size_t t, Lists &l) { p.route_sequence(nth, t, l); });
#if defined(SEQTOPK_BENCH_VQSORT)
        for (const auto &named : nth_peers)
            if (std::strcmp(named.name, "hwy_vqsort") == 0) /* all that this Highway has */
                add_peer(group, named.name, shape, SEQTOPK_SCOPE_SEQUENCE, false,
                         [nth = named.function](Peer &p, size_t t, Lists &l) { p.route_sequence(nth, t, l); });
#endif
        for (const auto &named : pairs_peers)
            add_peer(group, named.name, shape, SEQTOPK_SCOPE_SEQUENCE, true,
                     [pairs = named.function](Peer &p, size_t t, Lists &l) { p.route_sequence(pairs, t, l); });
        group.run();
    }
}

const std::vector<Shape> token_shapes = {{4096, 64, 8}, {4096, 128, 8}, {4096, 256, 8}, {1, 128, 8}};

void token() {
    for (const Shape &shape : token_shapes) {
        Group group("token", shape);
        const seqtopk_desc desc = desc_of(shape, SEQTOPK_SCOPE_TOKEN);
        add_read(group, shape);
        add_floors(group, shape);
        add_route(group, "route", shape, desc);
        add_route(group, "permuted", shape, desc, true);
        add_routes_by_isa(group, shape, SEQTOPK_SCOPE_TOKEN);
        for (const auto &named : top_peers)
            add_peer(group, named.name, shape, SEQTOPK_SCOPE_TOKEN, false,
                     [top = named.function](Peer &p, size_t t, Lists &l) { p.route_tokens(top, t, l); });
        group.run();
    }
}

void length() {
    for (const Shape &shape : {Shape{32768, 128, 8}, Shape{262144, 128, 8}}) {
        Group group("length", shape);
        add_read(group, shape);
        add_floors(group, shape);
        add_route(group, "route", shape, desc_of(shape, SEQTOPK_SCOPE_SEQUENCE));
        group.run();
    }
}

/* Scores that need no exponential before selection. */
void scores() {
    for (const Shape &shape : {Shape{32768, 256, 8}, Shape{8192, 256, 8}, Shape{2048, 128, 8}, Shape{512, 64, 8}}) {
        Group group("scores", shape);
        add_read(group, shape);
        for (seqtopk_scope scope : {SEQTOPK_SCOPE_SEQUENCE, SEQTOPK_SCOPE_TOKEN})
            for (int score = 0; score < 4; score++) {
                seqtopk_desc desc = desc_of(shape, scope);
                desc.score = static_cast<seqtopk_score>(score);
                add_route(group,
                          std::string(scope == SEQTOPK_SCOPE_TOKEN ? "token:" : "sequence:") + score_names[score],
                          shape, desc);
            }
        group.run();
    }
}

void dtypes() {
    for (const Shape &shape : {Shape{32768, 256, 8}, Shape{8192, 256, 8}, Shape{2048, 128, 8}, Shape{512, 64, 8}}) {
        Group group("dtypes", shape);
        for (seqtopk_scope scope : {SEQTOPK_SCOPE_SEQUENCE, SEQTOPK_SCOPE_TOKEN})
            for (int dtype = 0; dtype < 3; dtype++) {
                seqtopk_desc desc = desc_of(shape, scope);
                desc.dtype = static_cast<seqtopk_dtype>(dtype);
                add_route(group,
                          std::string(scope == SEQTOPK_SCOPE_TOKEN ? "token:" : "sequence:") + dtype_names[dtype],
                          shape, desc);
            }
        group.run();
    }
}

void threads() {
    const std::unique_ptr<seqtopk_cli_team, void (*)(seqtopk_cli_team *)> team(seqtopk_cli_team_make(2),
                                                                               seqtopk_cli_team_end);
    if (!team)
        throw std::runtime_error("no memory for a team of threads");
    const seqtopk_parallel two = seqtopk_cli_team_lend(team.get());
    for (const Shape &shape : {Shape{32768, 256, 8}, Shape{8192, 256, 8}, Shape{2048, 128, 8}}) {
        for (bool permuted : {false, true}) {
            Group group(permuted ? "threads, by expert" : "threads", shape);
            const seqtopk_desc desc = desc_of(shape, SEQTOPK_SCOPE_SEQUENCE);
            add_route(group, "1", shape, desc, permuted);
            add_route(group, "2", shape, desc, permuted, &two);
            group.run();
        }
    }
}

const struct {
    const char *name;
    void (*run)();
} sections[] = {{"sequence", sequence}, {"token", token},   {"length", length},
                {"scores", scores},     {"dtypes", dtypes}, {"threads", threads}};

int run(int argc, char **argv) {
    bool all = true;
    for (int i = 1; i < argc; i++) {
        if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
            seconds = std::atof(argv[++i]);
            continue;
        }
        bool known = false;
        for (const auto &section : sections)
            if (std::strcmp(argv[i], section.name) == 0) {
                section.run();
                known = true;
            }
        if (!known) {
            std::fprintf(stderr, "bench-figures: there is no section '%s'; take", argv[i]);
            for (const auto &section : sections)
                std::fprintf(stderr, " %s", section.name);
            std::fprintf(stderr, "\n");
            return 2;
        }
        all = false;
    }
    if (all)
        for (const auto &section : sections)
            section.run();
    return 0;
}

} // namespace

int main(int argc, char **argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "bench-figures: %s\n", error.what());
        return 1;
    }
}
