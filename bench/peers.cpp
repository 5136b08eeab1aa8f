/* SPDX-License-Identifier: MIT */
#include "peers.h"

#include <algorithm>
#include <functional>
#include <numeric>

#ifdef __x86_64__
#include <immintrin.h>
#endif
#if defined(SEQTOPK_BENCH_VQSELECT) || defined(SEQTOPK_BENCH_VQSORT)
#include <hwy/contrib/sort/vqsort.h>
#endif
#ifdef SEQTOPK_BENCH_XSS
#include "peers_xss.h"
#endif

namespace bench {

/* ------------------------------------------------------------ selectors -- */

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

namespace {

#ifdef SEQTOPK_BENCH_VQSELECT
float vqselect(float *keys, size_t n, size_t k) {
    hwy::VQSelect(keys, n, k - 1, hwy::SortDescending());
    return keys[k - 1];
}
#endif

#if defined(SEQTOPK_BENCH_VQSELECT) || defined(SEQTOPK_BENCH_VQSORT)
float vqsort(float *keys, size_t n, size_t k) {
    static hwy::Sorter sorter;
    sorter(keys, n, hwy::SortDescending());
    return keys[k - 1];
}
#endif

/* THE ORDER within a row: larger first, then the lower id. */
struct Before {
    const float *row;
    bool operator()(int32_t a, int32_t b) const { return row[a] > row[b] || (row[a] == row[b] && a < b); }
};

std::vector<Named<NthFn>> list_nth_peers() {
    std::vector<Named<NthFn>> peers = {
        {"std_nth_element", nth_element}, {"std_partial_sort", partial_sort}, {"std_sort", sort}};
#ifdef SEQTOPK_BENCH_VQSELECT
    peers.push_back({"hwy_vqselect", vqselect});
#endif
#if defined(SEQTOPK_BENCH_VQSELECT) || defined(SEQTOPK_BENCH_VQSORT)
    peers.push_back({"hwy_vqsort", vqsort});
#endif
#ifdef SEQTOPK_BENCH_XSS
    if (seqtopk_isa_usable("avx512"))
        peers.push_back({"xss_qselect", xss_qselect});
#endif
    return peers;
}

std::vector<Named<PairsFn>> list_pairs_peers() {
    std::vector<Named<PairsFn>> peers;
#ifdef SEQTOPK_BENCH_XSS
    if (seqtopk_isa_usable("avx512"))
        peers.push_back({"xss_keyvalue_select", xss_keyvalue_select});
#endif
    return peers;
}

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

/* What llama.cpp's CPU backend does. */
void top_argsort(const float *row, int32_t n, int32_t, int32_t *ids) {
    std::iota(ids, ids + n, 0);
    std::sort(ids, ids + n, Before{row});
}

const std::vector<Named<NthFn>> nth_peers = list_nth_peers();
const std::vector<Named<PairsFn>> pairs_peers = list_pairs_peers();
const std::vector<Named<TopFn>> top_peers = {
    {"std_nth_element", top_nth_element}, {"std_partial_sort", top_partial_sort}, {"std_sort", top_argsort}};

/* ------------------------------------------------------------ the filter -- */

namespace {

/* Lists what is above `cut` and, in order, the first `ties` of what equals it: ids, and keys where weights will be. */
using FilterFn = void(const float *keys, const Shape &shape, float cut, size_t ties, Lists &lists);

void filter_plain(const float *keys, const Shape &shape, float cut, size_t ties, Lists &lists) {
    size_t n = 0;
    for (int64_t t = 0; t < shape.tokens; t++, keys += shape.experts) {
        for (int32_t e = 0; e < shape.experts; e++)
            if (keys[e] > cut || (keys[e] == cut && ties > 0 && ties-- > 0)) {
                lists.ids[n] = e;
                lists.weights[n++] = keys[e];
            }
        lists.offsets[static_cast<size_t>(t) + 1] = static_cast<int32_t>(n);
    }
}

#ifdef __x86_64__
/* The bits of `equal` beyond the first `ties` of them, which are then fewer. */
unsigned beyond(unsigned equal, size_t *ties) {
    while (equal && *ties) {
        equal &= equal - 1;
        --*ties;
    }
    return equal;
}

__attribute__((target("avx2"))) void filter_avx2(const float *keys, const Shape &shape, float cut, size_t ties,
                                                 Lists &lists) {
    const __m256 least = _mm256_set1_ps(cut);
    size_t n = 0;
    for (int64_t t = 0; t < shape.tokens; t++, keys += shape.experts) {
        for (int32_t e = 0; e < shape.experts; e += 8) {
            alignas(32) float last[8] = {};
            const int32_t left = shape.experts - e;
            if (left < 8)
                std::copy_n(keys + e, left, last);
            const __m256 x = left < 8 ? _mm256_load_ps(last) : _mm256_loadu_ps(keys + e);
            const unsigned valid = left < 8 ? (1u << left) - 1 : 0xff;
            unsigned taken = valid & static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(x, least, _CMP_GE_OQ)));
            if (!taken)
                continue;
            taken &=
                ~beyond(valid & static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(x, least, _CMP_EQ_OQ))), &ties);
            for (; taken; taken &= taken - 1) {
                const int32_t id = e + __builtin_ctz(taken);
                lists.ids[n] = id;
                lists.weights[n++] = keys[id];
            }
        }
        lists.offsets[static_cast<size_t>(t) + 1] = static_cast<int32_t>(n);
    }
}

__attribute__((target("avx512f"))) void filter_avx512(const float *keys, const Shape &shape, float cut, size_t ties,
                                                      Lists &lists) {
    const __m512 least = _mm512_set1_ps(cut);
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    size_t n = 0;
    for (int64_t t = 0; t < shape.tokens; t++, keys += shape.experts) {
        for (int32_t e = 0; e < shape.experts; e += 16) {
            const int32_t left = shape.experts - e;
            const __mmask16 valid = static_cast<__mmask16>(left < 16 ? (1u << left) - 1 : 0xffff);
            const __m512 x = _mm512_maskz_loadu_ps(valid, keys + e);
            unsigned taken = _mm512_mask_cmp_ps_mask(valid, x, least, _CMP_GE_OQ);
            if (!taken)
                continue;
            taken &= ~beyond(_mm512_mask_cmp_ps_mask(valid, x, least, _CMP_EQ_OQ), &ties);
            const __mmask16 mask = static_cast<__mmask16>(taken);
            const unsigned count = static_cast<unsigned>(__builtin_popcount(taken));
            const __mmask16 front = static_cast<__mmask16>((1u << count) - 1);
            const __m512i ids = _mm512_add_epi32(_mm512_set1_epi32(e), lanes);
            _mm512_mask_storeu_epi32(&lists.ids[n], front, _mm512_maskz_compress_epi32(mask, ids));
            _mm512_mask_storeu_ps(&lists.weights[n], front, _mm512_maskz_compress_ps(mask, x));
            n += count;
        }
        lists.offsets[static_cast<size_t>(t) + 1] = static_cast<int32_t>(n);
    }
}
#endif

FilterFn *widest_filter() {
#ifdef __x86_64__
    if (seqtopk_isa_usable("avx512"))
        return filter_avx512;
    if (seqtopk_isa_usable("avx2"))
        return filter_avx2;
#endif
    return filter_plain;
}

} // namespace

/* ----------------------------------------------------------- whole routes -- */

Peer::Peer(const Shape &shape)
    : shape_(shape), shift_(static_cast<size_t>(shape.tokens)), lse_(static_cast<size_t>(shape.tokens)),
      keys_(shape.elements()), copy_(shape.elements()), order_(static_cast<size_t>(shape.experts)),
      score_(function_of<seqtopk_lse_fn>(widest(SEQTOPK_OP_lse))),
      make_keys_(function_of<seqtopk_keys_fn>(widest(SEQTOPK_OP_keys))),
      weights_(function_of<seqtopk_weigh_logits_fn>(widest(SEQTOPK_OP_weigh_logits))),
      weigh_(function_of<seqtopk_weigh_keys_fn>(widest(SEQTOPK_OP_weigh_keys))) {
    rows_.stride = static_cast<int64_t>(sizeof(float)) * shape.experts;
    rows_.shift = shift_.data();
    rows_.lse = lse_.data();
    rows_.experts = shape.experts;
    rows_.score = SEQTOPK_SCORE_SOFTMAX;
    rows_.key = SEQTOPK_KEY_LOGPROB;
}

namespace {
constexpr seqtopk_weighing as_they_are = {SEQTOPK_NORM_NONE, 0, 0, 1};
}

void Peer::score(size_t turn) {
    rows_.logits = logits(shape_).data() + turn % shape_.turns() * shape_.elements();
    score_(&rows_, 0, shape_.tokens);
}

/* Keys and their copy, block by block, while logits and keys are in the first caches. */
void Peer::make_keys(size_t turn) {
    const int64_t block = std::max<int64_t>(1, 4096 / shape_.experts);
    rows_.logits = logits(shape_).data() + turn % shape_.turns() * shape_.elements();
    for (int64_t t = 0; t < shape_.tokens; t += block) {
        const int64_t end = std::min(t + block, shape_.tokens);
        const int64_t at = t * shape_.experts, size = (end - t) * shape_.experts;
        score_(&rows_, t, end);
        make_keys_(&rows_, t, end, keys_.data() + at);
        std::copy_n(keys_.data() + at, size, copy_.data() + at);
    }
}

void Peer::route_sequence(NthFn *nth, size_t turn, Lists &lists) {
    static FilterFn *const filter = widest_filter();
    make_keys(turn);
    const size_t budget = shape_.budget();
    const float cut = nth(copy_.data(), copy_.size(), budget);
    /* All that are larger stand in the first `budget` places of the copy; the rest of the budget goes to ties. */
    const auto ties = std::count(copy_.begin(), copy_.begin() + static_cast<std::ptrdiff_t>(budget), cut);
    filter(keys_.data(), shape_, cut, static_cast<size_t>(ties), lists);
    weigh_(SEQTOPK_SCORE_SOFTMAX, &as_they_are, 0, shape_.tokens, lists.offsets.data(), lists.weights.data());
}

void Peer::route_sequence(PairsFn *pairs, size_t turn, Lists &lists) {
    make_keys(turn);
    numbers_.resize(copy_.size());
    std::iota(numbers_.begin(), numbers_.end(), 0u);
    const size_t budget = shape_.budget();
    pairs(copy_.data(), numbers_.data(), copy_.size(), budget);
    const uint32_t experts = static_cast<uint32_t>(shape_.experts);
    size_t n = 0;
    for (size_t t = 0; t < static_cast<size_t>(shape_.tokens); t++) {
        const uint32_t first = static_cast<uint32_t>(t) * experts;
        for (; n < budget && numbers_[n] - first < experts; n++) {
            lists.ids[n] = static_cast<int32_t>(numbers_[n] - first);
            lists.weights[n] = keys_[numbers_[n]];
        }
        lists.offsets[t + 1] = static_cast<int32_t>(n);
    }
    weigh_(SEQTOPK_SCORE_SOFTMAX, &as_they_are, 0, shape_.tokens, lists.offsets.data(), lists.weights.data());
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
    weights_(&rows_, &as_they_are, 0, shape_.tokens, lists.offsets.data(), lists.ids.data(), lists.weights.data());
}

} // namespace bench
