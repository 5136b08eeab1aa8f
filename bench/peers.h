/* SPDX-License-Identifier: MIT */
/*
 * Selection as it is put together from public parts. Scores, keys and weights come from this library's fastest kernels,
 * so that only the selection differs, and each peer gives this library's lists to the bit, ties included.
 */
#ifndef SEQTOPK_BENCH_PEERS_H
#define SEQTOPK_BENCH_PEERS_H

#include "setup.h"

namespace bench {

/* The k-th largest of keys [n], which may be rearranged. */
using NthFn = float(float *keys, size_t n, size_t k);
float nth_element(float *keys, size_t n, size_t k);
float partial_sort(float *keys, size_t n, size_t k);
float sort(float *keys, size_t n, size_t k);
#ifdef SEQTOPK_BENCH_VQSORT
float vqsort(float *keys, size_t n, size_t k);
#endif

/* The ids of the first k of a row [n], best first, into the front of ids [n]. */
using TopFn = void(const float *row, int32_t n, int32_t k, int32_t *ids);
void top_nth_element(const float *row, int32_t n, int32_t k, int32_t *ids);
void top_partial_sort(const float *row, int32_t n, int32_t k, int32_t *ids);
void top_argsort(const float *row, int32_t n, int32_t k, int32_t *ids);

/* Routing by a public selector; scratch is kept from call to call. */
class Peer {
public:
    explicit Peer(const Shape &shape);

    void route_sequence(NthFn *nth, size_t turn, Lists &lists); /* keys, a copy for the selector, one filter */
    void route_tokens(TopFn *top, size_t turn, Lists &lists);   /* row by row, on the logits themselves */

private:
    void score(size_t turn);
    void weigh(Lists &lists);

    Shape shape_;
    std::vector<float> shift_, lse_, keys_, copy_;
    std::vector<int32_t> order_;
    seqtopk_rows rows_{};
    seqtopk_score_fn *score_;
    seqtopk_keys_fn *make_keys_;
    seqtopk_weights_fn *weights_;
};

} // namespace bench

#endif
