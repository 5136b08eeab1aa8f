/* SPDX-License-Identifier: MIT */
/*
 * The primitives of one vec.h, compiled once for each instruction set with exactly its flags: SEQTOPK_ISA_NAME is its
 * name, SEQTOPK_VEC_H its vec.h. Nothing is judged here: what is right is plain C that was compiled without
 * those flags.
 */
#include "check_vec.h"

#include SEQTOPK_VEC_H

#include "arch/common/lanes.h"

enum { SUMS_MOST = 8 };

static void sums16(check_vec_io *io) {
    vec rows[SUMS_MOST][VECS];
    for (int r = 0; r < io->n; r++)
        for (int v = 0; v < VECS; v++)
            rows[r][v] = vec_load(io->a + r * LANES + v * VEC_LANES);
    vec_sums16(rows, io->n, io->out);
}

#ifdef VEC_PARTS_OF_ONE
static void parts_of_one_of(check_vec_io *io) {
    vec x[SCORE_VECS], e[SCORE_VECS];
    for (int v = 0; v < io->n; v++) {
        x[v] = vec_load(io->a + v * VEC_LANES);
        e[v] = vec_load(io->b + v * VEC_LANES);
    }
    VEC_PARTS_OF_ONE(x, e, io->n);
    for (int v = 0; v < io->n; v++)
        vec_store(io->out + v * VEC_LANES, x[v]);
}
#endif

#ifdef VEC_LOAD_PARTS
static void load_parts_of(check_vec_io *io) {
    const vec x = io->n == 4   ? VEC_LOAD_PARTS(io->from, io->choice, 4)
                  : io->n == 8 ? VEC_LOAD_PARTS(io->from, io->choice, 8)
                               : VEC_LOAD_PARTS(io->from, io->choice, VEC_LANES);
    vec_store(io->out, x);
}

static void store_parts_of(check_vec_io *io) {
    const vec x = vec_load(io->a);
    if (io->n == 4)
        VEC_STORE_PARTS(io->to, io->choice, x, 4);
    else if (io->n == 8)
        VEC_STORE_PARTS(io->to, io->choice, x, 8);
    else
        VEC_STORE_PARTS(io->to, io->choice, x, VEC_LANES);
}
#endif

#define RUN(run, ...)                                                                                                  \
    static void run(check_vec_io *io) {                                                                                \
        const vec b = vec_load(io->b), c = vec_load(io->c), whole = vec_load(io->whole), raw = vec_load(io->raw);      \
        vec a = vec_load(io->a), k = a, x[VECS];                                                                       \
        const uint32_t mask = io->mask;                                                                                \
        const int n = io->n, lead = io->lead;                                                                          \
        for (int v = 0; v < VECS; v++)                                                                                 \
            x[v] = vec_load(io->a + v * VEC_LANES);                                                                    \
        (void)b, (void)c, (void)whole, (void)raw, (void)k, (void)x, (void)mask, (void)n, (void)lead;                   \
        __VA_ARGS__;                                                                                                   \
    }

typedef float element_f32;
typedef uint16_t element_bf16, element_f16, element_u16;

#define FLOATS(inputs, name, compared, given, call, want) RUN(run_##name, vec_store(io->out, call))
#define BITS(inputs, name, lanes, call, want) RUN(run_##name, io->bits = (uint64_t)(call))
#define LOAD(name, element, least, more, beyond, call)                                                                 \
    RUN(run_##name, const element_##element *p = io->from; vec_store(io->out, call))
#define STORE(name, type, least, call) RUN(run_##name, type *p = io->to; call)
#define OTHER(name, call) RUN(run_##name, call)
#include "check_vec.def"
#undef FLOATS
#undef BITS
#undef LOAD
#undef STORE
#undef OTHER

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define STRING_(a) #a
#define STRING(a) STRING_(a)

const check_vec_isa PASTE(check_vec_, SEQTOPK_ISA_NAME) = {STRING(SEQTOPK_ISA_NAME),
                                                           VEC_LANES,
                                                           SCORE_VECS,
                                                           {
#define FLOATS(inputs, name, compared, given, call, want) [CHECK_##name] = run_##name,
#define BITS(inputs, name, lanes, call, want) [CHECK_##name] = run_##name,
#define LOAD(name, element, least, more, beyond, call) [CHECK_##name] = run_##name,
#define STORE(name, type, least, call) [CHECK_##name] = run_##name,
#define OTHER(name, call) [CHECK_##name] = run_##name,
#include "check_vec.def"
                                                           }};
