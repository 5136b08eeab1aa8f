/* SPDX-License-Identifier: MIT */
#include "peers.h"

#include <algorithm>
#include <functional>
#include <numeric>

#ifdef SEQTOPK_BENCH_VQSORT
#include <hwy/contrib/sort/vqsort.h>
#endif

namespace bench {

float nth_element(float *keys, size_t n, size_t k) {
    std::nth_element(keys, keys + (k - 1), keys + n, std::greater<>());
    return keys[k - 1];
}

float partial_sort(float *keys, size_t n, size_t k) {
    std::partial_sort(keys, keys + k, keys + n, std::greater<>());
    return keys[k - 1];
}

float sort(float *keys, size_t n, size_t k) {
    std::sort(keys, keys + n, std::greater<>());
    return keys[k - 1];
}

#ifdef SEQTOPK_BENCH_VQSORT
float vqsort(float *keys, size_t n, size_t k) {
    static hwy::Sorter sorter;
    sorter(keys, n, hwy::SortDescending());
    return keys[k - 1];
}
#endif

namespace {

/* THE ORDER within a row: larger first, then the lower id. */
struct Before {
    const float *row;
    bool operator()(int32_t a, int32_t b) const { return row[a] > row[b] || (row[a] == row[b] && a < b); }
};

} // namespace

void top_nth_element(const float *row, int32_t n, int32_t k, int32_t *ids) {
    std::iota(ids, ids + n, 0);
    std::nth_element(ids, ids + (k - 1), ids + n, Before{row});
    std::sort(ids, ids + k, Before{row});
}

void top_partial_sort(const float *row, int32_t n, int32_t k, int32_t *ids) {
    std::iota(ids, ids + n, 0);
    std::partial_sort(ids, ids + k, ids + n, Before{row});
}

void top_argsort(const float *row, int32_t n, int32_t, int32_t *ids) {
    std::iota(ids, ids + n, 0);
    std::sort(ids, ids + n, Before{row});
}

Peer::Peer(const Shape &shape)
    : shape_(shape), shift_(static_cast<size_t>(shape.tokens)), lse_(static_cast<size_t>(shape.tokens)),
      keys_(shape.elements()), copy_(shape.elements()), order_(static_cast<size_t>(shape.experts)),
      score_(function_of<seqtopk_score_fn>(widest(SEQTOPK_OP_score))),
      make_keys_(function_of<seqtopk_keys_fn>(widest(SEQTOPK_OP_keys))),
      weights_(function_of<seqtopk_weights_fn>(widest(SEQTOPK_OP_weights))) {
    rows_.stride = static_cast<int64_t>(sizeof(float)) * shape.experts;
    rows_.shift = shift_.data();
    rows_.lse = lse_.data();
    rows_.experts = shape.experts;
    rows_.score = SEQTOPK_SCORE_SOFTMAX;
    rows_.key = SEQTOPK_KEY_LOGPROB;
}

void Peer::score(size_t turn) {
    rows_.logits = logits(shape_).data() + turn % shape_.turns() * shape_.elements();
    score_(&rows_, 0, shape_.tokens);
}

void Peer::weigh(Lists &lists) {
    const seqtopk_weighing how = {SEQTOPK_NORM_NONE, 0, 0, 1};
    weights_(&rows_, &how, 0, shape_.tokens, lists.offsets.data(), lists.ids.data(), lists.weights.data());
}

void Peer::route_sequence(NthFn *nth, size_t turn, Lists &lists) {
    score(turn);
    make_keys_(&rows_, 0, shape_.tokens, keys_.data());
    std::copy(keys_.begin(), keys_.end(), copy_.begin());
    const size_t budget = shape_.budget();
    const float cut = nth(copy_.data(), copy_.size(), budget);
    /* All that are larger stand in the first `budget` places of the copy; the rest of the budget goes to ties, in order. */
    size_t ties =
        static_cast<size_t>(std::count(copy_.begin(), copy_.begin() + static_cast<std::ptrdiff_t>(budget), cut));

    const float *key = keys_.data();
    int32_t n = 0;
    for (int64_t t = 0; t < shape_.tokens; t++, key += shape_.experts) {
        for (int32_t e = 0; e < shape_.experts; e++)
            if (key[e] > cut || (key[e] == cut && ties > 0 && ties-- > 0))
                lists.ids[static_cast<size_t>(n++)] = e;
        lists.offsets[static_cast<size_t>(t) + 1] = n;
    }
    weigh(lists);
}

void Peer::route_tokens(TopFn *top, size_t turn, Lists &lists) {
    score(turn);
    const float *row = static_cast<const float *>(rows_.logits);
    int32_t *ids = lists.ids.data();
    for (int64_t t = 0; t < shape_.tokens; t++, row += shape_.experts, ids += shape_.top_k) {
        top(row, shape_.experts, shape_.top_k, order_.data());
        std::copy_n(order_.begin(), shape_.top_k, ids);
        std::sort(ids, ids + shape_.top_k);
        lists.offsets[static_cast<size_t>(t) + 1] = static_cast<int32_t>((t + 1) * shape_.top_k);
    }
    weigh(lists);
}

} // namespace bench
