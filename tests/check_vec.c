/* SPDX-License-Identifier: MIT */
/*
 * Every primitive of every vec.h, lane by lane, against plain C: bit for bit, but that of an arithmetical NaN only that
 * it is one is asked. A wrong lane is named here; in a kernel's test it is a wrong route somewhere.
 */
#define _GNU_SOURCE
#include "check_vec.h"
#include "bits.h"
#include "guard.h"
#include "random.h"

#include <seqtopk/seqtopk.h>

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_SKIPPED = 77, WRONG_SHOWN = 3, LANES_MOST = 16, SUMS_MOST = 8 };
typedef enum compared { SAME_BITS, OR_NAN, NEAR } compared;
typedef enum beyond { ANYTHING, MINUS_INFINITY } beyond;
enum { FULL = LANES_MOST };

/* Bits of what has gone wrong before somewhere, or might. */
static const uint32_t specials[] = {
    0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x00400000, 0x007fffff, 0x807fffff,             /* 0, subnormal */
    0x00800000, 0x80800000, 0x00800001, 0x01000000, 0x33800000, 0x34000000,                         /* small */
    0x3f000000, 0xbf000000, 0x3f3504f2, 0x3f3504f3, 0x3f3504f4, 0x3f7fffff, 0x3f800000, 0xbf800000, /* about 1 */
    0x3f800001, 0x3fb504f2, 0x3fb504f3, 0x3fb504f4, 0x3fc00000, 0x40000000, 0x40490fdb, 0xc0400000, /* and sqrt(2) */
    0xc2ae0000, 0xc2ae0001, 0x42b00000, 0xc2d00000, 0xc3200000,                                     /* exp's limits */
    0x4affffff, 0x4b000000, 0x4b000001, 0xcb000000, 0x4b400000, 0x4b7fffff, 0x4b800001,             /* about 2^23 */
    0x7f7fffff, 0xff7fffff, 0x7f000000, 0x7f800000, 0xff800000,                                     /* large */
    0x7fc00000, 0xffc00000, 0x7fc12345, 0x7f800001, 0xffbfffff, 0xffffffff,                         /* NaN */
};
enum {
    SPECIALS = sizeof specials / sizeof *specials,
    TRIPLES = SPECIALS * SPECIALS * SPECIALS,
    RANDOM = 100000,
    INPUTS = TRIPLES + RANDOM,
    PATTERNS = 65536, /* fewer than INPUTS */
    ROOM = LANES_MOST * SUMS_MOST
};

/* Read from every place on, so that each lane sees each of them. */
static float a_of[INPUTS + ROOM], b_of[INPUTS + ROOM], c_of[INPUTS + ROOM], whole_of[INPUTS + ROOM];
static float raw_of[INPUTS + ROOM];
static uint16_t patterns[PATTERNS + LANES_MOST];

typedef struct op {
    const char *text;
    void (*check)(const struct op *o);
    int (*want)(const check_vec_io *io, int i, float *want); /* returns whether lane i matters */
    uint64_t (*want_bits)(const check_vec_io *io);
    float (*element)(size_t index);
    const void *elements;
    size_t size; /* of an element in memory */
    int least, more;
    compared compared;
    beyond beyond;
} op;

static struct {
    const check_vec_isa *isa;
    void (*call)(check_vec_io *io);
    int64_t wrong;
    int quick;
    random_state random;
    guard guard;
    char context[64]; /* printed when memory faults */
} now;

static void wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void wrong(const char *format, ...) {
    if (now.wrong++ >= WRONG_SHOWN)
        return;
    va_list arguments;
    va_start(arguments, format);
    printf("FAILED: %s: ", now.context);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

static int same(float got, float want, compared how) {
    if (bits_of(got) == bits_of(want))
        return 1;
    if (how != SAME_BITS && isnan(got) && isnan(want))
        return 1;
    return how == NEAR && fabsf(got - want) <= 0x1p-19f * fabsf(want);
}

/* What lanes.h says in words. */
static int count_of(uint32_t mask) { return __builtin_popcount(mask); }

/* The number of the bit of `mask` that has `before` bits below it. */
static int lane_of(uint32_t mask, int before) {
    int lane = 0;
    for (; before > 0 || !(mask >> lane & 1); lane++)
        before -= (int)(mask >> lane & 1);
    return lane;
}

/* How many lanes of a, for a mask, come before those of b. */
static int joined(uint32_t mask) { return (int)(mask % 17); }

static uint32_t count_above(float x, const float *keys, int n) {
    uint32_t count = 0;
    for (int i = 0; i < n; i++)
        count += keys[i] > x;
    return count;
}

static float largest_of(const float *values, uint32_t mask) {
    float most = -INFINITY;
    for (int i = 0; i < LANES_MOST; i++)
        most = mask >> i & 1 && values[i] > most ? values[i] : most;
    return most;
}

/* Whether it is the one float: no NaN, which are not asked for, and not 0, of which there are two. */
static int has_largest(const float *values, uint32_t mask) {
    int has = mask != 0 && largest_of(values, mask) != 0.0f;
    for (int i = 0; i < LANES_MOST; i++)
        has &= !(mask >> i & 1) || !isnan(values[i]);
    return has;
}

/* In [sqrt(1/2), sqrt(2)), as floats. */
static float significand_of(float x) {
    int exponent;
    const float half = frexpf(x, &exponent);
    return half < sqrtf(0.5f) ? 2 * half : half;
}

/* The whole number that lanes.h takes out of an exponential's argument. */
static float exponent_of(float x) { return fmaf(x, 0x1.715476p+0f, 0x1.8p23f) - 0x1.8p23f; }

/* Whether neither step of a polynomial of three terms comes to a subnormal number. */
static int normal_steps(float x, const check_vec_io *io) {
    const float first = fmaf(io->b[0], x, io->c[0]), last = fmaf(first, x, io->b[1]);
    return fpclassify(first) != FP_SUBNORMAL && fpclassify(last) != FP_SUBNORMAL;
}

static float tree_sum(const float *values) {
    float sums[16];
    memcpy(sums, values, sizeof sums);
    for (int stride = 8; stride > 0; stride /= 2)
        for (int i = 0; i < stride; i++)
            sums[i] = sums[i] + sums[i + stride];
    return sums[0];
}

static int any_not_lt(const check_vec_io *io) {
    int any = 0;
    for (int i = 0; i < io->lanes; i++)
        any |= !(io->a[i] < io->b[i]);
    return any;
}

static float float_of_bf16(uint32_t bits) { return float_of(bits << 16); }

static float float_of_f16(uint32_t bits) {
    const int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
    const uint32_t sign = (bits & 0x8000) << 16;
    float size;
    if (exponent == 31) /* a NaN becomes a quiet one */
        return float_of(sign | (fraction ? 0x7fc00000 | (uint32_t)fraction << 13 : 0x7f800000));
    size = exponent ? ldexpf((float)(1024 + fraction), exponent - 25) : ldexpf((float)fraction, -24);
    return float_of(sign | bits_of(size));
}

static void run(check_vec_io *io) {
    io->lanes = now.isa->lanes;
    now.call(io);
}

/* The inputs that stand in place `at` of the table. */
static check_vec_io inputs_at(size_t at) {
    check_vec_io io;
    memset(&io, 0, sizeof io);
    io.a = a_of + at;
    io.b = b_of + at;
    io.c = c_of + at;
    io.whole = whole_of + at;
    io.raw = raw_of + at;
    return io;
}

static float reference_term(float x) {
    const float lanes[LANES_MOST] = {x};
    check_vec_io io = inputs_at(0);
    io.a = lanes;
    check_vec_ref.run[CHECK_exp_term](&io);
    return io.out[0];
}

/* One call, and whether its result is right. */
static void check_result(const op *o, check_vec_io *io) {
    run(io);
    if (o->want_bits) {
        const uint64_t want = o->want_bits(io);
        if (io->bits != want)
            wrong("a[0] %08x, b[0] %08x: bits %" PRIx64 ", not %" PRIx64, bits_of(io->a[0]), bits_of(io->b[0]),
                  io->bits, want);
        return;
    }
    for (int i = 0; i < io->lanes; i++) {
        float want;
        if (o->want(io, i, &want) && !same(io->out[i], want, o->compared))
            wrong("lane %d, a %08x, b %08x, c %08x, mask %x, n %d: %08x, not %08x", i, bits_of(io->a[i]),
                  bits_of(io->b[i]), bits_of(io->c[i]), io->mask, io->n, bits_of(io->out[i]), bits_of(want));
    }
}

static void check_sweep(const op *o) {
    for (size_t at = 0; at < INPUTS; at++) {
        check_vec_io io = inputs_at(at);
        check_result(o, &io);
    }
}

static void check_masks(const op *o) {
    for (uint32_t round = 0; round < 2 * PATTERNS; round++) {
        check_vec_io io = inputs_at(random_below(&now.random, INPUTS));
        io.mask = round & ((1u << now.isa->lanes) - 1);
        for (int i = 0; i < LANES_MOST; i++)
            io.choice[i] = -(int32_t)(io.mask >> i & 1);
        check_result(o, &io);
    }
}

static void check_counts(const op *o) {
    for (int n = 1; n <= now.isa->lanes; n++)
        for (size_t at = 0; at < INPUTS; at += 1 + random_below(&now.random, 8)) {
            check_vec_io io = inputs_at(at);
            io.n = n;
            check_result(o, &io);
        }
}

static void check_strides(const op *o) {
    for (int stride = 1; stride < now.isa->lanes; stride *= 2)
        for (size_t at = 0; at < INPUTS; at++) {
            check_vec_io io = inputs_at(at);
            io.n = stride;
            check_result(o, &io);
        }
}

/* Every pair in every lane, alone among lanes where a < b. */
static void check_alone(const op *o) {
    float a[LANES_MOST], b[LANES_MOST];
    check_vec_io io = inputs_at(0);
    io.a = a;
    io.b = b;
    for (int lane = 0; lane < now.isa->lanes; lane++)
        for (int pair = 0; pair < SPECIALS * SPECIALS; pair++) {
            for (int i = 0; i < LANES_MOST; i++) {
                a[i] = (float)i;
                b[i] = (float)(i + 1 + pair % 3);
            }
            a[lane] = float_of(specials[pair % SPECIALS]);
            b[lane] = float_of(specials[pair / SPECIALS]);
            check_result(o, &io);
        }
}

static float element_f32(size_t index) { return a_of[index]; }
static float element_bf16(size_t index) { return float_of_bf16(patterns[index]); }
static float element_f16(size_t index) { return float_of_f16(patterns[index]); }
static float element_u16(size_t index) { return float_of(patterns[index]); }

/* n elements against a trapping page, which stand there `lead` elements after what the load is told of. */
static void check_load_of(const op *o, guard_side side, int n) {
    const int lanes = now.isa->lanes, held = n < lanes ? n : lanes, lead = side == GUARD_END ? 3 : 0;
    const size_t rounds = held == lanes && side == GUARD_END ? PATTERNS : PATTERNS / 64;
    unsigned char *memory = guard_place(&now.guard, (size_t)(lead + held) * o->size, side, 0);
    for (size_t round = 0, at = 0; round < rounds; round++) {
        check_vec_io io = inputs_at(0);
        at = rounds == PATTERNS ? round : random_below(&now.random, PATTERNS);
        memcpy(memory + (size_t)lead * o->size, (const unsigned char *)o->elements + at * o->size,
               (size_t)held * o->size);
        io.from = memory;
        io.lead = lead;
        io.n = n;
        run(&io);
        for (int i = 0; i < (o->beyond == ANYTHING ? held : lanes); i++) {
            const float want = i < held ? o->element(at + (size_t)i) : -INFINITY;
            if (!same(io.out[i], want, SAME_BITS))
                wrong("%d elements, lane %d: %08x, not %08x", n, i, bits_of(io.out[i]), bits_of(want));
        }
    }
}

static int least_of(const op *o) { return o->least < now.isa->lanes ? o->least : now.isa->lanes; }

static void check_load(const op *o) {
    static const int larger[] = {17, 32, 255, 256, 257, 65536, INT32_MAX};
    for (guard_side side = GUARD_END; side <= GUARD_BEGIN; side++) {
        for (int n = least_of(o); n <= now.isa->lanes; n++)
            check_load_of(o, side, n);
        for (size_t i = 0; o->more && i < sizeof larger / sizeof *larger; i++)
            check_load_of(o, side, larger[i]);
    }
}

static void check_store(const op *o) {
    for (guard_side side = GUARD_END; side <= GUARD_BEGIN; side++)
        for (int n = least_of(o); n <= now.isa->lanes; n++)
            for (int round = 0; round < 256; round++) {
                check_vec_io io = inputs_at(random_below(&now.random, INPUTS));
                io.to = guard_place(&now.guard, (size_t)n * sizeof(float), side, 0);
                io.n = n;
                run(&io);
                if (!guard_intact(&now.guard))
                    wrong("more than %d elements were written", n);
                for (int i = 0; i < n; i++)
                    if (memcmp((const float *)io.to + i, io.a + i, sizeof(float)) != 0)
                        wrong("element %d of %d is wrong", i, n);
            }
}

static void check_vec_store_u16(const op *o) {
    (void)o;
    const int lanes = now.isa->lanes;
    for (guard_side side = GUARD_END; side <= GUARD_BEGIN; side++)
        for (size_t at = 0; at < INPUTS; at++) {
            check_vec_io io = inputs_at(at);
            const uint16_t *to = io.to = guard_place(&now.guard, (size_t)lanes * sizeof *to, side, 0);
            run(&io);
            if (!guard_intact(&now.guard))
                wrong("more than %d elements were written", lanes);
            for (int i = 0; i < lanes; i++)
                if (to[i] != (uint16_t)bits_of(io.a[i]))
                    wrong("lane %d: %04x, not %08x", i, to[i], bits_of(io.a[i]));
        }
}

static void check_vec_sums16(const op *o) {
    (void)o;
    for (size_t at = 0; at < INPUTS; at++) {
        check_vec_io io = inputs_at(at);
        io.n = 1 + (int)(at % SUMS_MOST);
        run(&io);
        for (int r = 0; r < io.n; r++)
            if (!same(io.out[r], tree_sum(io.a + 16 * r), OR_NAN))
                wrong("row %d of %d: %08x, not %08x", r, io.n, bits_of(io.out[r]), bits_of(tree_sum(io.a + 16 * r)));
    }
}

/* Parts of `width` lanes at places that rise, the first and the last against a trapping page. */
static check_vec_io parts_at(size_t at, int width, guard_side side) {
    enum { SIZE = 3 * LANES_MOST };
    check_vec_io io = inputs_at(at);
    const int parts = now.isa->lanes / width;
    io.n = width;
    for (int i = 0; i < parts; i++)
        io.choice[i] = i + 1 < parts
                           ? (i ? io.choice[i - 1] : 0) + (int32_t)random_below(&now.random, (uint32_t)width + 1)
                           : SIZE - width;
    if (parts == 1)
        io.choice[0] = side == GUARD_END ? SIZE - width : 0;
    io.from = io.to = guard_place(&now.guard, SIZE * sizeof(float), side, 0);
    for (int i = 0; i < SIZE; i++)
        ((float *)io.to)[i] = (float)i;
    return io;
}

static void check_VEC_LOAD_PARTS(const op *o) {
    (void)o;
    for (size_t at = 0; at < INPUTS; at++)
        for (int width = 4; width <= now.isa->lanes; width *= 2) {
            check_vec_io io = parts_at(at, width, at % 2 ? GUARD_END : GUARD_BEGIN);
            run(&io);
            for (int i = 0; i < now.isa->lanes; i++)
                if (io.out[i] != (float)(io.choice[i / width] + i % width))
                    wrong("parts of %d, lane %d: element %g, not %d", width, i, (double)io.out[i],
                          (int)io.choice[i / width] + i % width);
        }
}

static void check_VEC_STORE_PARTS(const op *o) {
    (void)o;
    for (size_t at = 0; at < INPUTS; at++)
        for (int width = 4; width <= now.isa->lanes; width *= 2) {
            check_vec_io io = parts_at(at, width, at % 2 ? GUARD_END : GUARD_BEGIN);
            float want[3 * LANES_MOST];
            memcpy(want, io.to, sizeof want);
            for (int i = 0; i < now.isa->lanes; i++)
                want[io.choice[i / width] + i % width] = io.a[i];
            run(&io);
            if (!guard_intact(&now.guard) || memcmp(io.to, want, sizeof want) != 0)
                wrong("parts of %d are stored wrong", width);
        }
}

static void check_first_bit_of(uint64_t bits) {
    check_vec_io io = inputs_at(0);
    uint64_t lowest = 0;
    while (lowest < 64 && !(bits >> lowest & 1))
        lowest++;
    io.bits = bits;
    run(&io);
    if (lowest < 64 ? io.bits != lowest : io.bits < 64)
        wrong("%" PRIx64 ": %" PRIu64 ", not %" PRIu64, bits, io.bits, lowest);
}

static void check_vec_first_bit(const op *o) {
    (void)o;
    check_first_bit_of(0);
    for (int low = 0; low < 64; low++)
        for (int high = low; high < 64; high++)
            check_first_bit_of(UINT64_C(1) << low | UINT64_C(1) << high);
    for (int round = 0; round < RANDOM; round++)
        check_first_bit_of(random_u64(&now.random) << random_below(&now.random, 64));
}

static void check_parts(const float *x, const float *e, int vecs) {
    check_vec_io io = inputs_at(0);
    io.a = x;
    io.b = e;
    io.n = vecs;
    run(&io);
    for (int i = 0; i < vecs * now.isa->lanes; i++)
        if (!same(io.out[i], x[i] / (1.0f + e[i]), SAME_BITS))
            wrong("%a / (1 + %a): %a, not %a", (double)x[i], (double)e[i], (double)io.out[i],
                  (double)(x[i] / (1.0f + e[i])));
}

/* Every e that 1 + e feels, and some of those that it does not. */
static void check_VEC_PARTS_OF_ONE(const op *o) {
    const uint32_t from = bits_of(0x1p-25f), to = bits_of(1.0f), near = to - 4096;
    float x[ROOM], e[ROOM];
    int vecs = 1;
    (void)o;
    for (uint32_t bits = 0; bits <= to; vecs = vecs % now.isa->score_vecs + 1) {
        for (int i = 0; i < vecs * now.isa->lanes; i++) {
            const uint32_t step = bits < from ? 4096 : now.quick && bits < near ? 256 : 1;
            e[i] = float_of(bits < to ? bits : to);
            x[i] = 1.0f;
            bits += step == 1 ? 1 : 1 + random_below(&now.random, step);
        }
        check_parts(x, e, vecs);
        check_parts(e, e, vecs);
    }
}

/* What check_vec.def says. */
#define LANE_OF(io, i)                                                                                                 \
    const float a = io->a[i], b = io->b[i], c = io->c[i], whole = io->whole[i], raw = io->raw[i];                      \
    const uint32_t mask = io->mask;                                                                                    \
    const int n = io->n;                                                                                               \
    (void)a, (void)b, (void)c, (void)whole, (void)raw, (void)mask, (void)n
#define FLOATS(inputs, name, compared, given, call, want)                                                              \
    static int want_##name(const check_vec_io *io, int i, float *result) {                                             \
        LANE_OF(io, i);                                                                                                \
        if (!(given))                                                                                                  \
            return 0;                                                                                                  \
        *result = (want);                                                                                              \
        return 1;                                                                                                      \
    }
#define BITS(inputs, name, lanes, call, want)                                                                          \
    static uint64_t want_##name(const check_vec_io *io) {                                                              \
        uint64_t result = 0;                                                                                           \
        for (int i = 0; i < (lanes); i++) {                                                                            \
            LANE_OF(io, i);                                                                                            \
            result |= (uint64_t)((want) != 0) << i;                                                                    \
        }                                                                                                              \
        return result;                                                                                                 \
    }
#define LOAD(name, element, least, more, beyond, call)
#define STORE(name, type, least, call)
#define OTHER(name, call)
#include "check_vec.def"
#undef FLOATS
#undef BITS
#undef LOAD
#undef STORE
#undef OTHER

#define elements_f32 a_of
#define elements_bf16 patterns
#define elements_f16 patterns
#define elements_u16 patterns

static const op ops[CHECK_VEC_OPS] = {
#define FLOATS(inputs, name, how, given, call, lane)                                                                   \
    [CHECK_##name] = {.text = #name, .check = check_##inputs, .want = want_##name, .compared = how},
#define BITS(inputs, name, lanes, call, lane)                                                                          \
    [CHECK_##name] = {.text = #name, .check = check_##inputs, .want_bits = want_##name},
#define LOAD(name, of, from, larger, others, call)                                                                     \
    [CHECK_##name] = {#name,                                                                                           \
                      check_load,                                                                                      \
                      .element = element_##of,                                                                         \
                      .elements = elements_##of,                                                                       \
                      .size = sizeof *elements_##of,                                                                   \
                      .least = from,                                                                                   \
                      .more = larger,                                                                                  \
                      .beyond = others},
#define STORE(name, type, from, call) [CHECK_##name] = {.text = #name, .check = check_store, .least = from},
#define OTHER(name, call) [CHECK_##name] = {.text = #name, .check = check_##name},
#include "check_vec.def"
};

static void on_fault(int signal_number) {
    static const char text[] = "FAILED: memory fault or bad instruction in: ";
    ssize_t ignored = write(STDOUT_FILENO, text, sizeof text - 1);
    ignored = write(STDOUT_FILENO, now.context, strlen(now.context));
    ignored = write(STDOUT_FILENO, "\n", 1);
    (void)ignored;
    _exit(signal_number == SIGILL ? 4 : 3);
}

static void catch_faults(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_fault;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
}

/* Any bits, or a number not far from 1. */
static float random_float(void) {
    const uint64_t random = random_u64(&now.random);
    const uint32_t bits = (uint32_t)random;
    return float_of(random >> 32 & 1 ? bits : (bits & 0x83ffffff) + 0x3d800000);
}

static void make_inputs(void) {
    for (size_t i = 0; i < INPUTS + ROOM; i++) {
        const int listed = i < TRIPLES;
        a_of[i] = listed ? float_of(specials[i % SPECIALS]) : random_float();
        b_of[i] = listed ? float_of(specials[i / SPECIALS % SPECIALS]) : random_float();
        c_of[i] = listed ? float_of(specials[i / SPECIALS / SPECIALS]) : random_float();
        whole_of[i] = (float)random_below(&now.random, 601) - 300;
        raw_of[i] = float_of((uint32_t)(i % PATTERNS));
    }
    for (size_t i = 0; i < PATTERNS + LANES_MOST; i++)
        patterns[i] = (uint16_t)i;
}

static int passed, failed; /* primitives */

static void check_isa(const check_vec_isa *isa) {
    int right = 0, bad = 0, missing = 0;
    now.isa = isa;
    for (int i = 0; i < CHECK_VEC_OPS; i++) {
        now.call = isa->run[i];
        now.wrong = 0;
        snprintf(now.context, sizeof now.context, "%s: %s", isa->name, ops[i].text);
        if (!now.call) {
            missing++;
            continue;
        }
        ops[i].check(ops + i);
        if (now.wrong > WRONG_SHOWN)
            printf("FAILED: %s: %" PRId64 " times wrong\n", now.context, now.wrong);
        *(now.wrong ? &bad : &right) += 1;
    }
    printf("%s, %d lanes: %d primitives right, %d wrong, %d not there%s", isa->name, isa->lanes, right, bad, missing,
           missing ? ":" : "");
    for (int i = 0; i < CHECK_VEC_OPS; i++)
        if (!isa->run[i])
            printf(" %s", ops[i].text);
    printf("\n");
    passed += right;
    failed += bad;
}

static void help(FILE *to) {
    fputs("usage: check-vec [--isa NAME] [--seed N] [--quick] [--help]\n"
          "  --isa    only this instruction set; exit status 77 if it cannot run here\n"
          "  --seed   where random input begins; printed always (default: $SEQTOPK_TEST_SEED, or the time)\n"
          "  --quick  a sample where everything takes long: for emulators and sanitizers\n",
          to);
}

int main(int argc, char **argv) {
    static const check_vec_isa *const isas[] = {
#define SEQTOPK_ISA(name, features) &check_vec_##name,
#include "arch/isa.def"
#undef SEQTOPK_ISA
    };
    const char *only = NULL;
    uint64_t seed = random_first_seed();
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        char *end = "";
        if (strcmp(argv[i], "--help") == 0) {
            help(stdout);
            return 0;
        } else if (strcmp(argv[i], "--quick") == 0) {
            now.quick = 1;
        } else if (strcmp(argv[i], "--isa") == 0 && i + 1 < argc) {
            only = argv[++i];
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            seed = strtoull(argv[++i], &end, 0);
        } else {
            end = argv[i];
        }
        if (*end) {
            help(stderr);
            return 2;
        }
    }
    printf("seed %" PRIu64 "\n", seed);
    random_seed(&now.random, seed);
    make_inputs();
    guard_open(&now.guard, 4096);
    catch_faults();
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        if (seqtopk_isa_usable(isas[i]->name) && (!only || strcmp(only, isas[i]->name) == 0))
            check_isa(isas[i]);
        else if (!only)
            printf("%s cannot run here: skipped\n", isas[i]->name);
    if (only && passed + failed == 0)
        printf("%s cannot run here: skipped\n", only);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 ? 1 : passed > 0 ? 0 : EXIT_SKIPPED;
}
