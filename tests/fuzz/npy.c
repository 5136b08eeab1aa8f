/* SPDX-License-Identifier: MIT */
/* The header of a NumPy file, which may come from anywhere. What is accepted must be what its sizes say. */
#include "fuzz.h"

#include "src/cli/npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const size_t fuzz_longest = 1 << 12;

/* Random bytes seldom begin like a NumPy file: most get a good beginning, or a good header with a few bytes changed. */
void fuzz_shape(uint8_t *data, size_t *size, size_t capacity, uint64_t random) {
    static const char good[] = "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (4, 8), }";
    if (random % 4 == 0)
        return;
    if (random % 4 == 1) {
        memcpy(data, good, *size < 10 ? *size : 10);
        return;
    }
    if (capacity < 10 + 0x76)
        return;
    memset(data, ' ', 10 + 0x76);
    memcpy(data, good, sizeof good - 1);
    data[10 + 0x76 - 1] = '\n';
    *size = 10 + 0x76 + (random >> 8) % 64;
    for (uint64_t changes = random >> 16 & 7; changes > 0; changes--) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        data[(random >> 33) % *size] = (uint8_t)(random >> 25);
    }
}

static void fail(const char *what) {
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    seqtopk_npy array;
    char message[SEQTOPK_NPY_MESSAGE], text[SEQTOPK_NPY_SHAPE_TEXT];
    memset(&array, 0xa5, sizeof array);
    memset(message, 'x', sizeof message);
    if (!seqtopk_npy_parse(data, size, &array, message)) {
        if (!memchr(message, 0, sizeof message) || !message[0] || strchr(message, '\n'))
            fail("a refusal is one line");
        return 0;
    }
    static const size_t sizes[SEQTOPK_NPY_DTYPES] = {4, 2, 2, 4, 8, 1, 1};
    if ((unsigned)array.dtype >= SEQTOPK_NPY_DTYPES || array.ndim < 1 || array.ndim > SEQTOPK_NPY_DIMS || array.data)
        fail("dtype, dimensions or data");
    int64_t count = 1;
    for (int i = 0; i < array.ndim; i++)
        count = array.shape[i] == 0 ? 0 : count; /* whatever the other dimensions are */
    for (int i = 0; i < array.ndim; i++)
        if (array.shape[i] < 0 || __builtin_mul_overflow(count, array.shape[i], &count))
            fail("a shape that overflows was accepted");
    if (count != array.count || array.data_size != (size_t)count * sizes[array.dtype] || array.data_offset > size)
        fail("sizes contradict each other");
    if (seqtopk_npy_shape_text(&array, text) != text || !memchr(text, 0, sizeof text))
        fail("the shape's text");
    return 0;
}
