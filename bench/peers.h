/* SPDX-License-Identifier: MIT */
/*
 * Selection as it is put together from public parts. Scores, keys and weights come from this library's fastest kernels,
 * and a vector filter stands behind the selector, so that only the selection differs. Each peer gives this library's
 * lists to the bit, ties included; those that select keys with values break ties as they like.
 */
#ifndef SEQTOPK_BENCH_PEERS_H
#define SEQTOPK_BENCH_PEERS_H

#include "setup.h"

namespace bench {

/* The k-th largest of keys [n], which may be rearranged; the first k are the k largest. */
using NthFn = float(float *keys, size_t n, size_t k);
NthFn nth_element, partial_sort, sort;

/* Rearranges keys [n] with their values so that the k largest come first, those ordered by value. */
using PairsFn = void(float *keys, uint32_t *values, size_t n, size_t k);

/* The ids of the first k of a row [n], best first, into the front of ids [n]. */
using TopFn = void(const float *row, int32_t n, int32_t k, int32_t *ids);
TopFn top_nth_element, top_partial_sort, top_argsort;

template <typename Function> struct Named {
    const char *name;
    Function *function;
};
/* Those that were built in and that this machine can run. */
extern const std::vector<Named<NthFn>> nth_peers;
extern const std::vector<Named<PairsFn>> pairs_peers;
extern const std::vector<Named<TopFn>> top_peers;

/* Routing by a public selector; scratch is kept from call to call. */
class Peer {
public:
    explicit Peer(const Shape &shape);

    void route_sequence(NthFn *nth, size_t turn, Lists &lists);     /* keys, a copy for the selector, one filter */
    void route_sequence(PairsFn *pairs, size_t turn, Lists &lists); /* keys and their numbers, no filter */
    void route_tokens(TopFn *top, size_t turn, Lists &lists);       /* row by row, on the logits themselves */

private:
    void score(size_t turn);
    void make_keys(size_t turn);

    Shape shape_;
    std::vector<float> shift_, lse_, keys_, copy_;
    std::vector<uint32_t> numbers_;
    std::vector<int32_t> order_;
    seqtopk_rows rows_{};
    seqtopk_lse_fn *score_;
    seqtopk_keys_fn *make_keys_;
    seqtopk_weigh_logits_fn *weights_;
    seqtopk_weigh_keys_fn *weigh_;
};

} // namespace bench

#endif
