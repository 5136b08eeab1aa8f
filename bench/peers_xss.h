/* SPDX-License-Identifier: MIT */
/* x86-simd-sort, compiled with the flags of avx512, where -Dbench_x86_simd_sort names its sources. */
#ifndef SEQTOPK_BENCH_PEERS_XSS_H
#define SEQTOPK_BENCH_PEERS_XSS_H

#include <cstddef>
#include <cstdint>

namespace bench {

float xss_qselect(float *keys, size_t n, size_t k);                          /* NthFn */
void xss_keyvalue_select(float *keys, uint32_t *values, size_t n, size_t k); /* PairsFn */

} // namespace bench

#endif
