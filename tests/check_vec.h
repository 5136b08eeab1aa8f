/* SPDX-License-Identifier: MIT */
/* A vec.h as check_vec.c sees it: functions that call its primitives with what stands in memory. Not to be included
 * after a vec.h: check_vec.def has every primitive then, not only that instruction set's. */
#ifndef SEQTOPK_TESTS_CHECK_VEC_H
#define SEQTOPK_TESTS_CHECK_VEC_H

#include <stdint.h>

/* Sixteen floats are readable at each pointer, more where a primitive takes more. */
typedef struct check_vec_io {
    const float *a, *b, *c, *whole, *raw;
    int32_t choice[16]; /* `mask`, a lane for each bit: -1 or 0 */
    uint32_t mask;
    int lanes, n, lead;
    const void *from;
    void *to;
    float out[64];
    uint64_t bits;
} check_vec_io;

enum check_vec_names {
#define FLOATS(inputs, name, compared, given, call, want) CHECK_##name,
#define BITS(inputs, name, lanes, call, want) CHECK_##name,
#define LOAD(name, element, least, more, beyond, call) CHECK_##name,
#define STORE(name, type, least, call) CHECK_##name,
#define OTHER(name, call) CHECK_##name,
#include "check_vec.def"
#undef FLOATS
#undef BITS
#undef LOAD
#undef STORE
#undef OTHER
    CHECK_VEC_OPS
};

typedef struct check_vec_isa {
    const char *name;
    int lanes, score_vecs;
    void (*run[CHECK_VEC_OPS])(check_vec_io *io); /* NULL: this vec.h has no such primitive */
} check_vec_isa;

/* One for each row of isa.def. */
#define SEQTOPK_ISA(name, features) extern const check_vec_isa check_vec_##name;
#include "arch/isa.def"
#undef SEQTOPK_ISA

#endif
