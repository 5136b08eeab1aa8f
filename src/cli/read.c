/* SPDX-License-Identifier: MIT */
#include "read.h"

#include <seqtopk/seqtopk.h>

#include <string.h>

/* 64 bytes a step in eight chains: memory is to be the limit, not an adder's latency. Whole numbers serve every dtype;
 * the bytes that are read, and how fast, are the same. */
#define READ(name, attribute)                                                                                          \
    attribute static uint32_t name(const void *data, size_t bytes) {                                                   \
        enum { CHAINS = 8, WORDS = 16 };                                                                               \
        typedef uint32_t line __attribute__((vector_size(4 * WORDS), aligned(4), may_alias));                          \
        const line *at = data;                                                                                         \
        const size_t lines = bytes / sizeof *at;                                                                       \
        line chain[CHAINS] = {{0}};                                                                                    \
        size_t i = 0;                                                                                                  \
        for (; i + CHAINS <= lines; i += CHAINS)                                                                       \
            for (int c = 0; c < CHAINS; c++)                                                                           \
                chain[c] += at[i + (size_t)c];                                                                         \
        for (; i < lines; i++)                                                                                         \
            chain[0] += at[i];                                                                                         \
        for (int c = 1; c < CHAINS; c++)                                                                               \
            chain[0] += chain[c];                                                                                      \
        uint32_t sum = 0, word;                                                                                        \
        for (int w = 0; w < WORDS; w++)                                                                                \
            sum += chain[0][w];                                                                                        \
        for (size_t b = lines * sizeof *at; b < bytes; b += sizeof word) {                                             \
            word = 0;                                                                                                  \
            memcpy(&word, (const char *)data + b, bytes - b < sizeof word ? bytes - b : sizeof word);                  \
            sum += word;                                                                                               \
        }                                                                                                              \
        return sum;                                                                                                    \
    }

/* What every machine of the architecture has: SSE2, NEON. */
READ(read_plain, )
#if SEQTOPK_WITH_AVX2
READ(read_avx2, __attribute__((target("avx2"))))
#endif
#if SEQTOPK_WITH_AVX512
READ(read_avx512, __attribute__((target("avx512f"))))
#endif

seqtopk_read_fn *seqtopk_cli_widest_read(const char **isa) {
#if SEQTOPK_WITH_AVX512
    if (seqtopk_isa_usable(*isa = "avx512"))
        return read_avx512;
#endif
#if SEQTOPK_WITH_AVX2
    if (seqtopk_isa_usable(*isa = "avx2"))
        return read_avx2;
#endif
    *isa = "baseline";
    return read_plain;
}
