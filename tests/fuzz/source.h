/* SPDX-License-Identifier: MIT */
/* An input's bytes, one after the other; behind the last there are zeros. */
#ifndef SEQTOPK_TESTS_FUZZ_SOURCE_H
#define SEQTOPK_TESTS_FUZZ_SOURCE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct source {
    const uint8_t *data;
    size_t size;
} source;

static inline uint32_t take(source *s, size_t bytes) {
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        value = value << 8 | (s->size ? *s->data : 0);
        if (s->size) {
            s->data++;
            s->size--;
        }
    }
    return value;
}

static inline uint32_t take_below(source *s, uint32_t n) { return take(s, n > 256 ? 2 : 1) % n; }

static inline float take_float(source *s) {
    const uint32_t bits = take(s, 4);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
