/* SPDX-License-Identifier: MIT */
/*
 * A digest of what many random routes return: status, first bad token and every element that an output is said to hold,
 * weights to the last bit. The library promises the same bits on every instruction set, machine, compiler, optimisation
 * and number of parts, so that one constant stands for all of them. It is changed by hand only, with the reason why
 * the bits had to change; a change that is meant to keep them leaves it alone.
 *
 * Of the library only the public header takes part, and no floating-point arithmetic that could round: logits and
 * biases are integers (of random.h: other random numbers are another digest) times powers of two. Every route has a
 * seed of its own and can be looked at alone:
 *
 *     diff <(digest --isa ref --route 77) <(digest --isa avx2 --route 77)
 *
 * Of NaN only 0x7fc00000 and its like in the shorter types take part.
 */
#define _GNU_SOURCE
#include "bits.h"
#include "random.h"

#include <seqtopk/seqtopk.h>

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* --quick is the first QUICK_ROUTES of the same routes: for the reference, emulators and sanitizers. */
enum { ROUTES = 120000, QUICK_ROUTES = 10000 };
#define DIGEST_OF_ALL UINT64_C(0xae6468c7004ea808)
#define DIGEST_OF_QUICK UINT64_C(0x8b67c0cd9a845b2f)

/* Of all routes that are to come: another seed is another digest. */
static const uint64_t seed = UINT64_C(0x5e971097d16e5700);

enum {
    EXIT_SKIPPED = 77,
    MOST_TOKENS = 6000,
    MOST_CELLS = 200000, /* tokens * experts, and tokens * top_k */
    MOST_EXPERTS = 4096,
    MOST_GAP = 7, /* between rows, and what a padded row is wider than it must be */
    MOST_PARTS = 7,
    MOST_SHIFT = 15, /* elements that logits are moved from a round address */
    RUBBISH = 0xa5
};
#define COUNT(array) (sizeof(array) / sizeof *(array))
#define NOT_A_NUMBER UINT32_C(0x7fc00000)
#define INFINITE UINT32_C(0x7f800000)
#define MINUS_INFINITE UINT32_C(0xff800000)

static random_state rng;

/* Never two draws in one expression, unless it says which comes first: compilers do not agree on it. */
static uint32_t pick(uint32_t n) { return random_below(&rng, n); }
static int32_t pick_int(int32_t least, int32_t most) { return least + (int32_t)pick((uint32_t)(most - least) + 1); }

static void *allocate(size_t size) {
    void *memory = malloc(size);
    if (!memory) {
        fprintf(stderr, "digest: out of memory\n");
        exit(1);
    }
    return memory;
}

/* ----------------------------------------------------------------- digest -- */

/* For any one word a bijection of the digest, for any digest one of the word: no single difference gets lost. */
static uint64_t fold(uint64_t digest, uint64_t word) {
    digest = ((digest << 25 | digest >> 39) ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return digest ^ digest >> 32;
}

/* By value, not by byte order. */
static uint64_t element_at(const unsigned char *memory, size_t element, size_t index) {
    uint64_t eight;
    uint32_t four;
    uint16_t two;
    switch (element) {
    case 8: memcpy(&eight, memory + 8 * index, 8); return eight;
    case 4: memcpy(&four, memory + 4 * index, 4); return four;
    case 2: memcpy(&two, memory + 2 * index, 2); return two;
    default: return memory[index];
    }
}

/* Elements that are shorter share a word. */
static uint64_t fold_elements(uint64_t digest, const unsigned char *memory, size_t element, size_t count) {
    const size_t shared = 8 / element;
    for (size_t i = 0; i < count; i += shared) {
        uint64_t word = 0;
        for (size_t j = 0; j < shared && i + j < count; j++)
            word |= element_at(memory, element, i + j) << 8 * element * j;
        digest = fold(digest, word);
    }
    return digest;
}

/* ---------------------------------------------------------------- outputs -- */

/* How many elements an output has, and how many of them are written. */
typedef enum field_extent {
    PER_TOKEN,
    PER_TOKEN_AND_ONE,
    PER_EXPERT_AND_ONE,
    PER_PAIR,
    PADDED,
    DENSE,
    SINGLE
} field_extent;

/* Those that are spoken of below. */
enum { TOKEN_OFFSETS = 0, EXPERT_OFFSETS = 3, ROW_LSE = 11, SELECTED = 12 };

#define FIELD(name, extent, element)                                                                                   \
    { #name, offsetof(seqtopk_output, name), extent, element }
static const struct field {
    const char *name;
    size_t at;
    field_extent extent;
    size_t element;
} fields[] = {
    [TOKEN_OFFSETS] = FIELD(token_offsets, PER_TOKEN_AND_ONE, 4),
    FIELD(expert_ids, PER_PAIR, 4),
    FIELD(weights, PER_PAIR, 4),
    [EXPERT_OFFSETS] = FIELD(expert_offsets, PER_EXPERT_AND_ONE, 4),
    FIELD(expert_tokens, PER_PAIR, 4),
    FIELD(expert_slots, PER_PAIR, 4),
    FIELD(padded_ids, PADDED, 4),
    FIELD(padded_ids64, PADDED, 8),
    FIELD(padded_weights, PADDED, 4),
    FIELD(routing_map, DENSE, 1),
    FIELD(routing_probs, DENSE, 4),
    [ROW_LSE] = FIELD(row_lse, PER_TOKEN, 4),
    [SELECTED] = FIELD(selected, SINGLE, 8),
};
#undef FIELD

static unsigned char *output_memory[COUNT(fields)];

typedef enum route_way { WAY_WHOLE, WAY_PARTS, WAY_PARALLEL } route_way;

typedef struct job {
    int64_t index;
    seqtopk_desc desc;
    seqtopk_input in;
    seqtopk_output out;
    int kind;      /* of logits: a logit_kind */
    route_way way; /* which function routes */
    int32_t parts;
    uint32_t wanted;    /* bits: which of `fields` */
    int32_t spare_room; /* in the lists' capacity */
    size_t rows, stride;
    unsigned char *logits;
} job;

static size_t stride_of(const job *j) {
    return (size_t)(j->out.padded_stride ? j->out.padded_stride : j->out.padded_width);
}

static size_t cells_of(const job *j, field_extent extent, size_t pairs) {
    const size_t tokens = (size_t)j->in.tokens, experts = (size_t)j->desc.experts;
    switch (extent) {
    case PER_TOKEN: return tokens;
    case PER_TOKEN_AND_ONE: return tokens + 1;
    case PER_EXPERT_AND_ONE: return experts + 1;
    case PER_PAIR: return pairs;
    case PADDED: return tokens * stride_of(j);
    case DENSE: return tokens * experts;
    default: return 1;
    }
}

static void set_pointer(seqtopk_output *out, size_t i, void *memory) {
    memcpy((char *)out + fields[i].at, &memory, sizeof memory);
}

/* The places of all outputs that are wanted, full of what no route writes. */
static void place_outputs(job *j) {
    for (size_t i = 0; i < COUNT(fields); i++) {
        if (!(j->wanted >> i & 1))
            continue;
        set_pointer(&j->out, i, output_memory[i]);
        memset(output_memory[i], RUBBISH, fields[i].element * cells_of(j, fields[i].extent, (size_t)j->out.capacity));
    }
}

/* N. One of the three that tell is always wanted. */
static size_t selected_pairs(const job *j) {
    const int64_t n = j->out.selected        ? *j->out.selected
                      : j->out.token_offsets ? j->out.token_offsets[j->in.tokens]
                                             : j->out.expert_offsets[j->desc.experts];
    return n < 0 || n > j->out.capacity ? 0 : (size_t)n;
}

static uint64_t fold_field(uint64_t digest, const job *j, size_t i, size_t pairs) {
    const size_t element = fields[i].element;
    digest = fold(digest, i);
    if (fields[i].extent != PADDED)
        return fold_elements(digest, output_memory[i], element, cells_of(j, fields[i].extent, pairs));
    for (size_t t = 0; t < (size_t)j->in.tokens; t++)
        digest =
            fold_elements(digest, output_memory[i] + t * stride_of(j) * element, element, (size_t)j->out.padded_width);
    return digest;
}

static uint64_t fold_outputs(uint64_t digest, const job *j) {
    const size_t pairs = selected_pairs(j);
    for (size_t i = 0; i < COUNT(fields); i++)
        if (j->wanted >> i & 1)
            digest = fold_field(digest, j, i, pairs);
    return digest;
}

/* ------------------------------------------------------------------ shapes -- */

/* Nearly all routes are small, so that there can be many. */
static int32_t choose_cells(void) {
    const uint32_t n = pick(2048);
    return n == 0 ? MOST_CELLS : n < 10 ? 40000 : n < 200 ? 8000 : 1200;
}

static void choose_shape(job *j) {
    static const int32_t experts[] = {1,   2,   3,   4,   5,   7,   8,   11,  12,  13,  16,  17,  24,  29, 31,
                                      32,  33,  40,  48,  60,  61,  63,  64,  64,  64,  65,  67,  72,  96, 97,
                                      127, 128, 128, 129, 160, 192, 211, 251, 256, 256, 320, 384, 509, 512};
    static const int32_t many[] = {768, 1021, 1024, 2047, 2048, 2048, 3001};
    const int32_t cells = choose_cells();
    j->desc.experts = pick(80) == 0 ? many[pick(COUNT(many))] : experts[pick(COUNT(experts))];
    int32_t most = cells / j->desc.experts > 1 ? cells / j->desc.experts : 1;
    most = most < MOST_TOKENS ? most : MOST_TOKENS;
    const uint32_t n = pick(64);
    j->in.tokens = n == 0 ? 0 : n < 6 ? 1 : pick_int(cells == MOST_CELLS ? most / 2 + 1 : 1, most);
    const int32_t few = j->desc.experts < 8 ? j->desc.experts : 8;
    j->desc.top_k = pick(12) == 0  ? j->desc.experts
                    : pick(6) == 0 ? pick_int(1, j->desc.experts)
                    : pick(6) == 0 ? 1
                                   : pick_int(1, few);
}

static void choose_bounds(seqtopk_desc *d) {
    const uint32_t bounds = pick(4);
    if (bounds & 1)
        d->min_experts = pick(3) ? 1 : pick_int(1, d->top_k);
    if (bounds & 2) {
        const int32_t least = d->min_experts > 1 ? d->min_experts : 1;
        d->max_experts = pick(3) ? d->top_k + 2 : pick_int(least, d->top_k + 3);
    }
}

static void choose_groups(seqtopk_desc *d) {
    int32_t divisors[64], n = 0;
    for (int32_t g = 2; g <= 64 && g <= d->experts; g++)
        if (d->experts % g == 0)
            divisors[n++] = g;
    if (n == 0)
        return;
    d->groups = divisors[pick((uint32_t)n)];
    d->group_top_k = pick_int(1, d->groups);
    const int32_t size = d->experts / d->groups;
    d->group_score = (seqtopk_group_score)pick(size < 2 ? 1 : 3);
    if (d->group_score == SEQTOPK_GROUP_TOPN && (pick(2) || d->top_k / d->group_top_k > size))
        d->group_n = pick_int(1, size);
}

static void choose_weights(seqtopk_desc *d) {
    static const float eps[] = {0, 1e-20f, 0x1p-10f}, floors[] = {0, 1e-12f, 0x1p-14f, 2},
                       scales[] = {0, 1, 2.5f, 0.25f};
    d->norm = (seqtopk_norm)pick(4);
    d->norm_eps = eps[pick(COUNT(eps))];
    d->norm_floor = floors[pick(COUNT(floors))];
    d->norm_skip_top1 = (int32_t)pick(2);
    d->scale = scales[pick(COUNT(scales))];
}

static void choose_problem(job *j) {
    seqtopk_desc *d = &j->desc;
    choose_shape(j);
    d->score = (seqtopk_score)pick(4);
    d->scope = pick(3) ? SEQTOPK_SCOPE_SEQUENCE : SEQTOPK_SCOPE_TOKEN;
    d->dtype = (seqtopk_dtype)pick(3);
    d->order = (seqtopk_order)pick(2);
    if (d->scope == SEQTOPK_SCOPE_SEQUENCE)
        choose_bounds(d);
    if (pick(4) == 0)
        choose_groups(d);
    choose_weights(d);
    /* Hints, which must change nothing. */
    d->tokens = pick(2) ? 0 : pick(2) ? j->in.tokens : (int64_t)pick(100000);
    d->threads = pick(2) ? 0 : pick_int(1, 16);
}

/* -------------------------------------------------------------------- data -- */

typedef enum logit_kind {
    KIND_NORMAL,
    KIND_ROUNDED, /* normal, in steps of 1/8: ties now and then */
    KIND_FEW,     /* five values: ties everywhere */
    KIND_TWO,     /* the larger one rare */
    KIND_EQUAL,   /* one value */
    KIND_ZEROS,   /* +0 and -0 */
    KIND_DENORMAL,
    KIND_ANY,       /* any finite bits */
    KIND_OFFSET,    /* near 1000, or -1000 */
    KIND_EXTREME,   /* near +-88, where exp overflows and underflows */
    KIND_WIDE,      /* to +-500 */
    KIND_EXCLUDED,  /* every third logit is -inf */
    KIND_EMPTY,     /* whole rows of -inf among others */
    KIND_GIANT,     /* few rows far above all others */
    KIND_PREFERRED, /* few experts far ahead in every row */
    KIND_DRIFT,     /* rises along the batch */
    KIND_ASCENDING, /* along each row */
    KIND_DESCENDING,
    KINDS
} logit_kind;

static const char *const kind_names[KINDS] = {"normal",   "rounded", "few",       "two",     "equal",     "zeros",
                                              "denormal", "any",     "offset",    "extreme", "wide",      "excluded",
                                              "empty",    "giant",   "preferred", "drift",   "ascending", "descending"};

/* About normal, in steps of 2^-15, 18 bits with the sign. */
static int32_t normal_steps(void) {
    const uint64_t u = random_u64(&rng);
    return (int32_t)((u & 0xffff) + (u >> 16 & 0xffff) + (u >> 32 & 0xffff) + (u >> 48)) - 131070;
}

/* Exact: |steps| is below 2^24 everywhere here. */
static uint32_t steps_to_bits(int32_t steps) { return bits_of((float)steps * 0x1p-15f); }

/* Cuts off what a binary16 does not hold; beyond its largest is its largest. */
static uint32_t to_f16(uint32_t bits) {
    const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > INFINITE)
        return 0x7e00;
    if (size == INFINITE)
        return sign | 0x7c00;
    if (size >= 0x47800000) /* 65536 */
        return sign | 0x7bff;
    if (size >= 0x38800000) /* 2^-14, its least normal */
        return sign | (size - 0x38000000) >> 13;
    if (size < 0x33800000) /* 2^-24, its least */
        return sign;
    return sign | ((size & 0x7fffff) | 0x800000) >> (126 - (size >> 23));
}

/* In the logits' own type. */
static uint32_t encode(seqtopk_dtype dtype, uint32_t bits) {
    return dtype == SEQTOPK_DTYPE_F32 ? bits : dtype == SEQTOPK_DTYPE_BF16 ? bits >> 16 : to_f16(bits);
}

/* Any bits of the logits' own type that are finite; or denormal. */
static uint32_t raw(seqtopk_dtype dtype, int denormal) {
    static const uint32_t signs[] = {0x80000000, 0x8000, 0x8000}, exponents[] = {0x7f800000, 0x7f80, 0x7c00},
                          lowest[] = {0x800000, 0x80, 0x400}; /* bits of the exponent */
    const uint32_t exponent = exponents[dtype], all = signs[dtype] | (signs[dtype] - 1);
    const uint32_t bits = (uint32_t)(random_u64(&rng) >> 32) & all;
    if (denormal)
        return bits & ~exponent;
    return (bits & exponent) == exponent ? bits & ~lowest[dtype] : bits;
}

static size_t element_size(const job *j) { return j->desc.dtype == SEQTOPK_DTYPE_F32 ? 4 : 2; }

static void store(const job *j, size_t index, uint32_t encoded) {
    const uint16_t half = (uint16_t)encoded;
    if (j->desc.dtype == SEQTOPK_DTYPE_F32)
        memcpy(j->logits + 4 * index, &encoded, 4);
    else
        memcpy(j->logits + 2 * index, &half, 2);
}

/* What a route's logits have in common, and what a row's have. */
typedef struct pattern {
    int32_t base, row;
    uint32_t favour; /* an expert */
} pattern;

static uint32_t logit(const job *j, const pattern *p, uint32_t t, uint32_t e) {
    enum { ONE = 1 << 15 };
    static const int32_t few[] = {-ONE, -ONE / 4, 0, ONE / 2, ONE};
    const int32_t steps = normal_steps();
    switch ((logit_kind)j->kind) {
    case KIND_ROUNDED: return steps_to_bits(steps / 4096 * 4096);
    case KIND_FEW: return steps_to_bits(few[pick(COUNT(few))]);
    case KIND_TWO: return steps_to_bits(p->base + (pick(16) ? 0 : ONE));
    case KIND_EQUAL: return steps_to_bits(p->base);
    case KIND_ZEROS: return pick(2) << 31;
    case KIND_OFFSET: return bits_of((float)((p->base < 0 ? -16384000 : 16384000) + steps) * 0x1p-14f);
    case KIND_EXTREME: return steps_to_bits(steps + (steps & 1 ? 88 * ONE : -88 * ONE));
    case KIND_WIDE: return bits_of((float)steps * 0x1p-8f);
    case KIND_EXCLUDED: return pick(3) ? steps_to_bits(steps) : MINUS_INFINITE;
    case KIND_EMPTY: return p->row & 1 ? MINUS_INFINITE : steps_to_bits(steps);
    case KIND_GIANT: return steps_to_bits(steps + (p->row % 16 == 0 ? 60 * ONE : 0));
    case KIND_PREFERRED: return steps_to_bits(steps + (e - p->favour < 4 ? 20 * ONE : 0));
    case KIND_DRIFT: return steps_to_bits(steps + (int32_t)t * 1024);
    case KIND_ASCENDING: return steps_to_bits(p->base + (int32_t)e * 2048);
    case KIND_DESCENDING: return steps_to_bits(p->base - (int32_t)e * 2048);
    default: return steps_to_bits(steps);
    }
}

static void fill_rows(const job *j) {
    const uint32_t experts = (uint32_t)j->desc.experts;
    const int is_raw = j->kind == KIND_ANY || j->kind == KIND_DENORMAL;
    pattern p = {.base = normal_steps()};
    p.favour = pick(experts);
    for (size_t t = 0; t < j->rows; t++) {
        p.row = (int32_t)pick(1024);
        for (uint32_t e = 0; e < experts; e++)
            store(j, t * j->stride + e,
                  is_raw ? raw(j->desc.dtype, j->kind == KIND_DENORMAL)
                         : encode(j->desc.dtype, logit(j, &p, (uint32_t)t, e)));
    }
}

static void spoil(const job *j, size_t index) {
    store(j, index, encode(j->desc.dtype, pick(2) ? NOT_A_NUMBER : INFINITE));
}

static void spoil_some(const job *j) {
    for (uint32_t n = 1 + pick(3); n > 0; n--) {
        const size_t row = pick((uint32_t)j->rows);
        spoil(j, row * j->stride + pick((uint32_t)j->desc.experts));
    }
}

/* What must not be looked at would be an error: masked rows, and what lies between rows. */
static void spoil_unread(const job *j) {
    const size_t experts = (size_t)j->desc.experts;
    const uint8_t *mask = j->in.row_stride == SEQTOPK_STRIDE_BROADCAST ? NULL : j->in.token_mask;
    for (size_t t = 0; t < j->rows; t++) {
        const size_t begin = mask && !mask[t] ? 0 : experts;
        for (size_t e = begin; e < j->stride; e++)
            spoil(j, t * j->stride + e);
    }
}

static void make_mask(job *j) {
    static uint8_t mask[MOST_TOKENS];
    const uint32_t share = pick(8);
    for (int64_t t = 0; t < j->in.tokens; t++)
        mask[t] = (uint8_t)(pick(share + 1) ? 1 + pick(255) : 0);
    j->in.token_mask = mask;
}

static void make_bias(job *j) {
    static float bias[MOST_EXPERTS];
    const uint32_t excluded = pick(3) ? 0 : 1 + pick(8), coarse = pick(3) == 0;
    for (int32_t e = 0; e < j->desc.experts; e++) {
        const int32_t steps = coarse ? pick_int(-2, 2) * 8192 : normal_steps() / 8;
        bias[e] = float_of(excluded && pick(excluded) == 0 ? MINUS_INFINITE : steps_to_bits(steps));
    }
    if (pick(64) == 0) {
        const uint32_t bad = pick((uint32_t)j->desc.experts);
        bias[bad] = float_of(pick(2) ? NOT_A_NUMBER : INFINITE);
    }
    j->in.bias = bias;
}

/* Lengths of any size, or short ones; none at all is among them. */
static void make_sequences(job *j) {
    enum { MOST_SEQUENCES = 400 };
    static int32_t cu[MOST_SEQUENCES + 1];
    const int32_t tokens = (int32_t)j->in.tokens, longest = pick(2) ? tokens : 1 + (int32_t)pick(12);
    int32_t s = 0;
    cu[0] = 0;
    while (cu[s] < tokens || pick(8) == 0) {
        const int32_t left = tokens - cu[s], most = left < longest ? left : longest;
        cu[s + 1] = s + 1 == MOST_SEQUENCES ? tokens : cu[s] + (pick(6) ? pick_int(left > 0, most) : 0);
        if (++s == MOST_SEQUENCES)
            break;
    }
    j->in.cu_seqlens = cu;
    j->in.sequences = s;
}

static void make_data(job *j) {
    static unsigned char memory[4 * (MOST_CELLS + (MOST_TOKENS + 1) * MOST_GAP + MOST_SHIFT + MOST_EXPERTS)];
    const int32_t layout = (int32_t)pick(8), gap = layout == 7 ? pick_int(1, MOST_GAP) : 0;
    j->in.row_stride = layout < 5 ? 0 : layout == 6 ? SEQTOPK_STRIDE_BROADCAST : j->desc.experts + gap;
    j->stride = (size_t)(j->desc.experts + gap);
    j->rows = layout == 6 ? j->in.tokens > 0 : (size_t)j->in.tokens;
    j->logits = memory + element_size(j) * (pick(2) ? 0 : pick(MOST_SHIFT + 1));
    j->in.logits = j->in.tokens ? j->logits : NULL;
    j->kind = pick(3) ? (int)pick(KINDS) : KIND_NORMAL;
    fill_rows(j);
    if (pick(4) == 0)
        make_mask(j);
    if (pick(3) == 0)
        make_bias(j);
    if (pick(2))
        make_sequences(j);
    spoil_unread(j);
    if (j->rows && pick(32) == 0)
        spoil_some(j);
}

/* ------------------------------------------------------------------- calls -- */

/* All outputs, or any; row_lse is the softmax score's only. */
static void choose_outputs(job *j) {
    j->wanted = (pick(3) ? UINT32_C(0xffffffff) : (uint32_t)(random_u64(&rng) >> 32)) & ((1u << COUNT(fields)) - 1);
    if (!(j->wanted & (1u << TOKEN_OFFSETS | 1u << EXPERT_OFFSETS)))
        j->wanted |= 1u << SELECTED;
    if (j->desc.score != SEQTOPK_SCORE_SOFTMAX)
        j->wanted &= ~(1u << ROW_LSE);
    j->spare_room = pick(2) ? 0 : (int32_t)pick(16);
    j->out.padding = (seqtopk_padding)pick(3);
    j->out.padded_width = (int32_t)pick(3);  /* for now: beyond what must be */
    j->out.padded_stride = (int64_t)pick(5); /* beyond the width */
}

static void choose_way(job *j) {
    const int large =
        j->in.tokens * j->desc.experts >= 32768; /* smaller work is not shared by seqtopk_route_parallel */
    const uint32_t n = pick(large ? 3 : 8);
    j->way = n == 0 ? WAY_PARALLEL : n == 1 || n > 4 ? WAY_PARTS : WAY_WHOLE;
    j->parts = j->way == WAY_WHOLE ? 1 : pick_int(j->way == WAY_PARTS ? 1 : 2, MOST_PARTS);
}

/* Everything about a route that does not depend on the plan. */
static void make_job(job *j, int64_t index) {
    const seqtopk_desc desc = SEQTOPK_DESC_INIT;
    const seqtopk_input in = SEQTOPK_INPUT_INIT;
    const seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    memset(j, 0, sizeof *j);
    j->index = index;
    j->desc = desc;
    j->in = in;
    j->out = out;
    random_seed(&rng, seed + (uint64_t)index);
    choose_problem(j);
    choose_outputs(j);
    choose_way(j);
    make_data(j);
}

static void size_outputs(job *j, const seqtopk_plan *plan) {
    const int32_t most = seqtopk_max_per_token(plan), wider = most + j->out.padded_width;
    j->out.capacity = seqtopk_max_selected(plan, j->in.tokens) + j->spare_room;
    j->out.padded_width = j->out.padding == SEQTOPK_PAD_DISTINCT && wider > j->desc.experts ? most : wider;
    j->out.padded_stride = j->out.padded_stride ? j->out.padded_width + j->out.padded_stride - 1 : 0;
    if (j->out.capacity > MOST_CELLS + 16 || stride_of(j) > (size_t)j->desc.experts + MOST_GAP) {
        fprintf(stderr, "digest: route %" PRId64 " is larger than this program has room for\n", j->index);
        exit(1);
    }
}

/* All parts of a step must report the same; if they do not, that is what is folded. Of a single step the first part's report
 * counts, which did all of it. */
static seqtopk_status route_parts(const job *j, const seqtopk_plan *plan, void *scratch, size_t size,
                                  seqtopk_error *error) {
    const int32_t steps = seqtopk_route_steps_for(plan, j->in.tokens, j->parts);
    seqtopk_status status = SEQTOPK_OK;
    for (int32_t step = 0; step < steps; step++)
        for (int32_t part = 0; part < j->parts; part++) {
            seqtopk_error own = SEQTOPK_ERROR_INIT;
            const seqtopk_status now =
                seqtopk_route_part(plan, &j->in, &j->out, scratch, size, step, part, j->parts, &own);
            if (part > 0 && steps == 1)
                continue;
            if (part > 0 && (now != status || own.token != error->token)) {
                error->token = INT64_MIN;
                return now;
            }
            status = now;
            *error = own;
        }
    return status;
}

/* One by one and backwards, which is allowed. */
static void lend(void *context, int32_t n, void (*task)(void *arg, int32_t i), void *arg) {
    (void)context;
    for (int32_t i = n; i > 0; i--)
        task(arg, i - 1);
}

static seqtopk_status route_parallel(const job *j, const seqtopk_plan *plan, void *scratch, size_t size,
                                     seqtopk_error *error) {
    seqtopk_parallel parallel = SEQTOPK_PARALLEL_INIT;
    parallel.threads = j->parts;
    parallel.parallel_for = lend;
    return seqtopk_route_parallel(plan, &j->in, &j->out, scratch, size, &parallel, error);
}

/* Never cleared: what another route left there must not matter. */
static void *scratch_of(size_t size) {
    static unsigned char *memory;
    static size_t room;
    if (size > room) {
        free(memory);
        room = 2 * size;
        memory = allocate(room);
        memset(memory, RUBBISH, room);
    }
    return memory;
}

static seqtopk_status route(const job *j, const seqtopk_plan *plan, seqtopk_error *error) {
    const size_t size = seqtopk_scratch_size(plan, j->in.tokens, j->in.cu_seqlens ? j->in.sequences : 1, j->parts);
    void *scratch = scratch_of(size);
    switch (j->way) {
    case WAY_PARTS: return route_parts(j, plan, scratch, size, error);
    case WAY_PARALLEL: return route_parallel(j, plan, scratch, size, error);
    default: return seqtopk_route(plan, &j->in, &j->out, scratch, size, error);
    }
}

/* ------------------------------------------------------------------- print -- */

static void print_job(const job *j) {
    static const char *const ways[] = {"seqtopk_route", "seqtopk_route_part", "seqtopk_route_parallel"};
    const seqtopk_desc *d = &j->desc;
    printf("route %" PRId64 ": tokens %" PRId64 " experts %d top_k %d scope %d score %d dtype %d order %d\n", j->index,
           j->in.tokens, d->experts, d->top_k, (int)d->scope, (int)d->score, (int)d->dtype, (int)d->order);
    printf("norm %d eps %g floor %g scale %g skip_top1 %d min %d max %d groups %d of %d score %d n %d\n", (int)d->norm,
           (double)d->norm_eps, (double)d->norm_floor, (double)d->scale, d->norm_skip_top1, d->min_experts,
           d->max_experts, d->group_top_k, d->groups, (int)d->group_score, d->group_n);
    printf("hints: tokens %" PRId64 " threads %d; by %s, parts %d; logits %s, row_stride %" PRId64 "\n", d->tokens,
           d->threads, ways[j->way], j->parts, kind_names[j->kind], j->in.row_stride);
    printf("padding %d width %d stride %" PRId64 " capacity %" PRId64 "\n", (int)j->out.padding, j->out.padded_width,
           j->out.padded_stride, j->out.capacity);
}

static void print_elements(const char *name, const void *memory, size_t element, size_t count) {
    enum { IN_A_LINE = 16 };
    printf("%s [%zu]", name, count);
    for (size_t i = 0; i < count; i++)
        printf("%s%0*" PRIx64, i % IN_A_LINE ? " " : "\n  ", (int)(2 * element), element_at(memory, element, i));
    printf("\n");
}

static void print_inputs(const job *j) {
    for (size_t t = 0; t < j->rows; t++)
        print_elements("logits", j->logits + t * j->stride * element_size(j), element_size(j), (size_t)j->desc.experts);
    if (j->in.token_mask)
        print_elements("token_mask", j->in.token_mask, 1, (size_t)j->in.tokens);
    if (j->in.bias)
        print_elements("bias", j->in.bias, 4, (size_t)j->desc.experts);
    if (j->in.cu_seqlens)
        print_elements("cu_seqlens", j->in.cu_seqlens, 4, (size_t)j->in.sequences + 1);
}

static void print_outputs(const job *j) {
    const size_t pairs = selected_pairs(j);
    for (size_t i = 0; i < COUNT(fields); i++) {
        if (!(j->wanted >> i & 1))
            continue;
        if (fields[i].extent != PADDED) {
            print_elements(fields[i].name, output_memory[i], fields[i].element, cells_of(j, fields[i].extent, pairs));
            continue;
        }
        for (size_t t = 0; t < (size_t)j->in.tokens; t++)
            print_elements(fields[i].name, output_memory[i] + t * stride_of(j) * fields[i].element, fields[i].element,
                           (size_t)j->out.padded_width);
    }
}

/* -------------------------------------------------------------------- main -- */

static struct options {
    const char *isa;
    int quick;
    int32_t parts;        /* of every route; 0: any number */
    int64_t print, route; /* after so many; this one alone, -1: all */
} options = {NULL, 0, 0, 0, -1};

static uint64_t digest_of_route(int64_t index, int loud) {
    job j;
    seqtopk_plan *plan;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    make_job(&j, index);
    j.desc.isa = options.isa;
    j.desc.tuning = seqtopk_tuning_none();
    if (options.parts) {
        j.way = options.parts > 1 ? WAY_PARTS : WAY_WHOLE;
        j.parts = options.parts;
    }
    if (seqtopk_plan_create(&plan, &j.desc, &error)) {
        print_job(&j);
        printf("FAILED: no plan: %s\n", error.message);
        exit(1);
    }
    size_outputs(&j, plan);
    place_outputs(&j);
    error.token = index; /* must be cleared */
    const seqtopk_status status = route(&j, plan, &error);
    uint64_t digest = fold(fold(fold(0, (uint64_t)index), (uint64_t)status), (uint64_t)error.token);
    if (status == SEQTOPK_OK)
        digest = fold_outputs(digest, &j);
    if (loud) {
        print_job(&j);
        print_inputs(&j);
        printf("status %d token %" PRId64 "\n", (int)status, error.token);
        if (status == SEQTOPK_OK)
            print_outputs(&j);
    }
    seqtopk_plan_destroy(plan);
    return digest;
}

/* For whoever waits: nothing in a log, nothing where it is soon over. */
static void show_progress(int64_t done, int64_t routes, time_t begin) {
    static time_t last;
    const time_t now = time(NULL);
    if (now - begin < 5 || now == last || !isatty(STDERR_FILENO))
        return;
    last = now;
    fprintf(stderr, "\r%" PRId64 " of %" PRId64 " routes%s", done, routes, done == routes ? "\n" : "");
}

static uint64_t digest_of_routes(int64_t routes) {
    const time_t begin = time(NULL);
    uint64_t digest = 0;
    for (int64_t i = 0; i < routes; i++) {
        digest = fold(digest, digest_of_route(i, 0));
        if (options.print && (i + 1) % options.print == 0)
            printf("%" PRId64 " routes: %016" PRIx64 "\n", i + 1, digest);
        if ((i + 1) % 200 == 0)
            show_progress(i + 1, routes, begin);
    }
    return digest;
}

static void help(FILE *to) {
    fprintf(
        to,
        "usage: digest [--isa NAME] [--quick] [--parts N] [--print N] [--route I] [--help]\n"
        "  --isa    kernels of this instruction set; exit status 77 if it cannot run here (default: what plans "
        "choose)\n"
        "  --quick  the first %d routes of %d\n"
        "  --parts  every route in N parts, 1 to 64 (default: any number, by any function): the digest is the same\n"
        "  --print  the digest after every N routes too\n"
        "  --route  what goes into route I, from 0, and what comes out, and nothing else\n",
        QUICK_ROUTES, ROUTES);
}

static int read_number(const char *text, int64_t least, int64_t most, int64_t *number) {
    char *end;
    *number = strtoll(text, &end, 10);
    return *text && !*end && *number >= least && *number <= most;
}

static int read_options(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        int64_t parts;
        if (strcmp(option, "--help") == 0) {
            help(stdout);
            exit(0);
        } else if (strcmp(option, "--quick") == 0) {
            options.quick = 1;
            continue;
        } else if (strcmp(option, "--isa") == 0 && *value) {
            options.isa = value;
        } else if (strcmp(option, "--parts") == 0 && read_number(value, 1, 64, &parts)) {
            options.parts = (int32_t)parts;
        } else if (!(strcmp(option, "--print") == 0 && read_number(value, 1, ROUTES, &options.print)) &&
                   !(strcmp(option, "--route") == 0 && read_number(value, 0, ROUTES - 1, &options.route))) {
            return 0;
        }
        i++;
    }
    return 1;
}

static void open_memory(void) {
    for (size_t i = 0; i < COUNT(fields); i++)
        output_memory[i] = allocate(fields[i].element * (MOST_CELLS + (MOST_TOKENS + 1) * MOST_GAP + MOST_EXPERTS));
}

static int compare(uint64_t digest, uint64_t expected) {
    const char *isa = options.isa ? options.isa : "the plans' choice";
    if (digest == expected) {
        printf("%s: %016" PRIx64 "\n", isa, digest);
        return 0;
    }
    printf(
        "FAILED: %s: the digest is %016" PRIx64 ", not %016" PRIx64 "\n"
        "Compare `--print 1000` (then fewer) with that of another instruction set or of an earlier build to find the "
        "first route that differs, then `--route` of that one.\n",
        isa, digest, expected);
    return 1;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!read_options(argc, argv)) {
        help(stderr);
        return 2;
    }
    /* What is forced from outside would be tested instead of what this program says. */
    unsetenv("SEQTOPK_ISA");
    unsetenv("SEQTOPK_KERNEL");
    if (options.isa && !seqtopk_isa_usable(options.isa)) {
        printf("%s cannot run here: skipped\n", options.isa);
        return EXIT_SKIPPED;
    }
    open_memory();
    if (options.route >= 0) {
        printf("digest of the route %016" PRIx64 "\n", digest_of_route(options.route, 1));
        return 0;
    }
    if (options.quick)
        return compare(digest_of_routes(QUICK_ROUTES), DIGEST_OF_QUICK);
    return compare(digest_of_routes(ROUTES), DIGEST_OF_ALL);
}
