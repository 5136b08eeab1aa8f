/* SPDX-License-Identifier: MIT */
/*
 * offset_experts, 16 at a time. And histogram and scatter of at most 16 experts, whose cursors would be stored and loaded again by
 * every few pairs: sixty-four pairs' experts are bytes of one vector instead, a comparison tells which are one expert's, and a
 * compression lists those.
 */
#include "vec.h"

#include "arch/common/name.h"
#include "arch/common/scatter.h"
#include "arch/kernels.h"

enum { MOST_EXPERTS = 16, AT_ONCE = 64 };

static const _Alignas(64) int8_t steps[AT_ONCE] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                                   16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
                                                   32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47,
                                                   48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

/* How many of n are in the line of 16 that begins at `from`, as a mask. */
static inline __mmask16 line_mask(int32_t n, int32_t from) {
    return (__mmask16)_bzhi_u32(0xffff, (uint32_t)(n > from ? (n - from < LINE ? n - from : LINE) : 0));
}

/* ids [n], n <= 64, as bytes; those behind are 0. */
static inline __m512i bytes_of(const int32_t *ids, int32_t n) {
    __m128i lines[AT_ONCE / LINE];
    for (int32_t i = 0; i < AT_ONCE / LINE; i++)
        lines[i] = _mm512_cvtepi32_epi8(_mm512_maskz_loadu_epi32(line_mask(n, i * LINE), ids + i * LINE));
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(lines[0]), lines[1], 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(lines[2]), lines[3], 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

static inline __m512i line_of(__m512i bytes, int32_t line) {
    switch (line) {
    case 0: return _mm512_cvtepu8_epi32(_mm512_castsi512_si128(bytes));
    case 1: return _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(bytes, 1));
    case 2: return _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(bytes, 2));
    default: return _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(bytes, 3));
    }
}

/* Each lane and all below it added up. */
static inline __m512i sums_upto(__m512i x) {
    const __m512i none = _mm512_setzero_si512();
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, none, 15));
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, none, 14));
    x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, none, 12));
    return _mm512_add_epi32(x, _mm512_alignr_epi32(x, none, 8));
}

static inline void add_counts(int64_t *counts, __m256i n, __mmask8 are) {
    const __m512i sum = _mm512_add_epi64(_mm512_maskz_loadu_epi64(are, counts), _mm512_cvtepi32_epi64(n));
    _mm512_mask_storeu_epi64(counts, are, sum);
}

static inline void put_upto(int32_t *list, int32_t e, __mmask16 are, __m512i what) {
    if (list)
        _mm512_mask_storeu_epi32(list + e, are, what);
}

int32_t KERNEL(offset_experts, i32, lines)(const int32_t *histogram, int32_t experts, const seqtopk_offset_lists *to) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i last = _mm512_set1_epi32(LINE - 1);
    __m512i begin = _mm512_setzero_si512();
    int32_t n = 0;
    for (int32_t e = 0; e < experts; e += LINE) {
        const __mmask16 are = line_mask(experts, e);
        const __m512i pairs = _mm512_maskz_loadu_epi32(are, histogram + e), sums = sums_upto(pairs);
        const __mmask16 have = _mm512_test_epi32_mask(pairs, pairs);
        const __m512i ends = _mm512_add_epi32(begin, sums), offsets = _mm512_sub_epi32(ends, pairs);
        put_upto(to->offsets, e, are, offsets);
        put_upto(to->cursors, e, are, offsets);
        put_upto(to->begins, e, are, offsets);
        put_upto(to->ends, e, are, ends);
        begin = _mm512_add_epi32(begin, _mm512_permutexvar_epi32(last, sums));
        const int32_t more = (int32_t)_mm_popcnt_u32(have);
        put_upto(to->active, n, line_mask(more, 0),
                 _mm512_maskz_compress_epi32(have, _mm512_add_epi32(lanes, _mm512_set1_epi32(e))));
        n += more;
        if (to->counts) {
            add_counts(to->counts + e, _mm512_castsi512_si256(pairs), (__mmask8)are);
            add_counts(to->counts + e + LINE / 2, _mm512_extracti64x4_epi64(pairs, 1), (__mmask8)(are >> LINE / 2));
        }
    }
    return n;
}

void KERNEL(histogram, i32, masks)(const int32_t *ids, int64_t n, int32_t experts, int32_t *histogram) {
    for (int64_t i = 0; experts > MOST_EXPERTS && i < n; i++)
        histogram[ids[i]]++;
    for (int64_t i = 0; experts <= MOST_EXPERTS && i < n; i += AT_ONCE) {
        const int32_t some = n - i < AT_ONCE ? (int32_t)(n - i) : AT_ONCE;
        const __mmask64 are = _bzhi_u64(~UINT64_C(0), (uint32_t)some);
        const __m512i bytes = bytes_of(ids + i, some);
        for (int32_t e = 0; e < experts; e++)
            histogram[e] += (int32_t)_mm_popcnt_u64(_mm512_mask_cmpeq_epi8_mask(are, bytes, _mm512_set1_epi8((char)e)));
    }
}

/* Tokens that follow one another and have 1 << log2_k experts each: the first of them, and its first pair. */
typedef struct {
    int64_t token;
    int32_t slot, n, log2_k; /* n pairs */
} stretch;

/* Whether tokens have so many experts: their offsets go up by that. */
static inline int is_even(const int32_t *offsets, const stretch *s) {
    const int32_t tokens = (s->n >> s->log2_k) + 1;
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    uint32_t odd = 0;
    for (int32_t i = 0; i < tokens; i += LINE) {
        const __mmask16 are = line_mask(tokens, i);
        const __m512i told = _mm512_maskz_loadu_epi32(are, offsets + s->token + i);
        const __m512i even =
            _mm512_add_epi32(_mm512_set1_epi32(s->slot),
                             _mm512_slli_epi32(_mm512_add_epi32(lanes, _mm512_set1_epi32(i)), (uint32_t)s->log2_k));
        odd |= _mm512_mask_cmpneq_epi32_mask(are, told, even);
    }
    return odd == 0;
}

/* Pairs `at` of a stretch, as many as `are` says, to an expert's places from `place` on. */
static inline void put_line(const seqtopk_scattered *to, const stretch *s, __m512i at, __mmask16 are, int32_t place,
                            int32_t shift) {
    const __m512i slots = _mm512_add_epi32(at, _mm512_set1_epi32(s->slot));
    const __m512i tokens =
        _mm512_add_epi32(_mm512_srli_epi32(at, (uint32_t)s->log2_k), _mm512_set1_epi32((int32_t)s->token));
    if (to->tokens)
        _mm512_mask_storeu_epi32(to->tokens + place, are, tokens);
    if (to->slots)
        _mm512_mask_storeu_epi32(to->slots + place, are, slots);
    if (to->blocks && !to->width)
        _mm512_mask_storeu_epi32(to->blocks + place + shift, are, slots);
    if (to->blocks && to->width) {
        const __m512i in_token = _mm512_and_si512(at, _mm512_set1_epi32((1 << s->log2_k) - 1));
        const __m512i row = _mm512_mullo_epi32(tokens, _mm512_set1_epi32((int32_t)to->width));
        _mm512_mask_storeu_epi32(to->blocks + place + shift, are, _mm512_add_epi32(row, in_token));
    }
}

static inline void put_stretch(const seqtopk_scattered *to, const stretch *s, const int32_t *ids, int32_t experts,
                               int32_t *cursors) {
    const __m512i bytes = bytes_of(ids + s->slot, s->n), each = _mm512_load_si512(steps);
    const __m512i begins = _mm512_maskz_loadu_epi32(line_mask(experts, 0), cursors);
    const __mmask64 all = _bzhi_u64(~UINT64_C(0), (uint32_t)s->n);
    __m512i ranks = _mm512_setzero_si512();
    for (int32_t e = 0; e < experts; e++) {
        const __mmask64 are = _mm512_mask_cmpeq_epi8_mask(all, bytes, _mm512_set1_epi8((char)e));
        const int32_t n = (int32_t)_mm_popcnt_u64(are), shift = to->blocks ? to->shifts[e] : 0;
        const __m512i listed = _mm512_maskz_compress_epi8(are, each);
        put_line(to, s, line_of(listed, 0), line_mask(n, 0), cursors[e], shift);
        for (int32_t line = 1; line * LINE < n; line++)
            put_line(to, s, line_of(listed, line), line_mask(n, line * LINE), cursors[e] + line * LINE, shift);
        if (to->places)
            ranks = _mm512_mask_expand_epi8(ranks, are, each);
        cursors[e] += n;
    }
    for (int32_t line = 0; to->places && line * LINE < s->n; line++) {
        const __m512i begin = _mm512_permutexvar_epi32(line_of(bytes, line), begins);
        _mm512_mask_storeu_epi32(to->places + s->slot + line * LINE, line_mask(s->n, line * LINE),
                                 _mm512_add_epi32(begin, line_of(ranks, line)));
    }
}

void KERNEL(scatter, i32, masks)(const int32_t *offsets, const int32_t *ids, int64_t first, int64_t last,
                                 int32_t experts, int32_t *cursors, int32_t *work, const seqtopk_scattered *to) {
    const int32_t k = first < last ? offsets[first + 1] - offsets[first] : 0;
    int64_t t = first;
    if (experts <= MOST_EXPERTS && (k == 1 || k == 2 || k == 4)) {
        const int32_t log2_k = k / 2;
        for (; t < last; t += AT_ONCE >> log2_k) {
            const int64_t tokens = last - t < AT_ONCE >> log2_k ? last - t : AT_ONCE >> log2_k;
            const stretch s = {t, offsets[t], (int32_t)(tokens << log2_k), log2_k};
            if (!is_even(offsets, &s))
                break;
            put_stretch(to, &s, ids, experts, cursors);
        }
    }
    if (t < last) {
        seqtopk_scattered rest = *to;
        rest.is_whole = to->is_whole && t == first;
        scatter_pairs(offsets, ids, t, last, experts, cursors, work, &rest);
    }
}
