/* SPDX-License-Identifier: MIT */
/* A target takes any bytes and must neither crash, nor write where it must not, nor answer two things to one question. */
#ifndef SEQTOPK_TESTS_FUZZ_H
#define SEQTOPK_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* libFuzzer's own name for it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* For the driver: where from and how long inputs of this target are worth while. */
extern const size_t fuzz_longest;
/* Makes n random bytes more like real input; may do nothing. */
void fuzz_shape(uint8_t *data, size_t *size, size_t capacity, uint64_t random);

#endif
