/* SPDX-License-Identifier: MIT */
/* For libFuzzer: now and then an input begins anew in the shape that the target's driver gives random bytes. */
#include "fuzz.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t capacity);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed) {
    if (seed % 64 == 0)
        fuzz_shape(data, &size, capacity, seed / 64 * UINT64_C(0x9e3779b97f4a7c15));
    return LLVMFuzzerMutate(data, size, capacity);
}
