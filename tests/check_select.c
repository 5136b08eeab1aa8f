/* SPDX-License-Identifier: MIT */
/* Kernels that read keys: nth, rank, top, emit, collect, filter, trim. */
#include "check.h"
#include "guard.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static guard g_out, g_ids, g_work, g_catch, g_counts, g_offsets, g_words;

/* Keys as selection sees them: also -inf for the excluded, +inf for what is selected in any case. */
static void make_keys(float *keys, size_t n, random_kind kind) {
    random_logits(&run.random, kind, SEQTOPK_DTYPE_F32, keys, 1, n, n);
    if (random_below(&run.random, 3) == 0)
        for (size_t i = 0; i < n; i++)
            if (random_below(&run.random, 5) == 0)
                keys[i] = random_below(&run.random, 3) ? -INFINITY : INFINITY;
}

/* Rises to the middle and falls again: the input that defeats a pivot from the middle or the ends. */
static void make_pipe(float *keys, size_t n) {
    for (size_t i = 0; i < n; i++)
        keys[i] = (float)(i < n / 2 ? i : n - i);
}

/* Where kernels can be led astray, beside the kinds of logits. */
typedef enum { BAD_PIPE, BAD_SAMPLE, BAD_BUCKET, BAD_RISING, BAD_COLUMNS, BAD_NUMBERS, BAD_SURE, BAD_KINDS } bad_kind;

static const char *const bad_names[BAD_KINDS] = {"pipe", "sample", "bucket", "rising", "columns", "numbers", "sure"};

/* Kernels sample 64 keys evenly, alone or by fours. Here these are the best of all, and so again in what is left. */
static int is_sampled(size_t i, size_t n) {
    enum { SAMPLE = 64 };
    const size_t one = i * SAMPLE / n, four = i * (SAMPLE / 4) / (n - 3);
    return i == n * (2 * one + 1) / (2 * SAMPLE) ||
           (four < SAMPLE / 4 && i - (n - 3) * (2 * four + 1) / (SAMPLE / 2) < 4); /* before it: a large difference */
}

static void mislead_samples(float *keys, size_t n) {
    size_t *left = check_alloc(n, sizeof *left), size = n;
    for (size_t i = 0; i < n; i++) {
        keys[i] = (float)random_normal(&run.random);
        left[i] = i;
    }
    for (int round = 0; round < 24 && size > 256; round++) {
        size_t kept = 0;
        for (size_t i = 0; i < size; i++)
            if (is_sampled(i, size))
                keys[left[i]] = (float)(99 - round);
            else
                left[kept++] = left[i];
        size = kept;
    }
    free(left);
}

static void make_bad_keys(float *keys, size_t n, bad_kind kind) {
    random_state *r = &run.random;
    make_pipe(keys, n);
    for (size_t i = 0; i < n; i++) {
        /* One digit holds all but the ends; each next digit too. */
        const uint32_t bucket = 0x40400000 + random_below(r, 1u << (i % 4 * 7 + 1));
        uint32_t number = (uint32_t)random_u64(r);
        switch (kind) {
        case BAD_BUCKET: memcpy(keys + i, &bucket, 4); break;
        case BAD_RISING: keys[i] = (float)i + (float)random_unit(r); break;
        case BAD_COLUMNS: keys[i] = i % 64 == 5 ? (float)random_unit(r) : -1 - (float)random_unit(r); break;
        case BAD_NUMBERS: /* any float there is, but NaN */
            if ((number & 0x7f800000) == 0x7f800000)
                number &= 0xff800000;
            memcpy(keys + i, &number, 4);
            break;
        case BAD_SURE:
            keys[i] = random_below(r, 3) ? (float)random_normal(r) : random_below(r, 2) ? INFINITY : -INFINITY;
            break;
        case BAD_PIPE:
        case BAD_SAMPLE: /* below */
        case BAD_KINDS: break;
        }
    }
    if (kind == BAD_SAMPLE)
        mislead_samples(keys, n);
    if (kind == BAD_BUCKET && n > 2) {
        keys[0] = -FLT_MAX;
        keys[n - 1] = FLT_MAX;
    }
}

static int falling(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static int by_bits(const void *a, const void *b) {
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static void check_nth_case(const float *keys, size_t n, size_t k, const char *kind) {
    float *sorted = check_alloc(n, 4), *before = check_alloc(n, 4), *after = check_alloc(n, 4);
    memcpy(sorted, keys, n * 4);
    qsort(sorted, n, 4, falling);
    memcpy(before, keys, n * 4);
    qsort(before, n, 4, by_bits);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_nth_keys, -1));) {
        check_context("%s n %zu k %zu kind %s (seed %llu)", row->name, n, k, kind, (unsigned long long)run.seed);
        float *work = check_place_copy(&g_out, keys, n, 4);
        const float answer = ((seqtopk_nth_keys_fn *)row->function)(work, n, k);
        int parted = 1;
        for (size_t j = 0; j < n; j++)
            parted &= j < k ? work[j] >= answer : work[j] <= answer;
        memcpy(after, work, n * 4);
        qsort(after, n, 4, by_bits);
        check_that(answer == sorted[k - 1], "answered %.9g, it is %.9g", (double)answer, (double)sorted[k - 1]);
        check_that(parted, "the first k are not the k largest");
        check_that(memcmp(before, after, n * 4) == 0, "the keys are not the same ones any more");
        check_that(guard_intact(&g_out), "wrote beside keys");
    }
    free(sorted);
    free(before);
    free(after);
}

static void check_nth(void) {
    static const size_t sizes[] = {1, 2, 3, 5, 8, 9, 10, 17, 63, 64, 65, 100, 127, 128, 129, 200, 257, 1000, 4099, 40000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const size_t n = sizes[i], ks[] = {1, 2, n / 8, n / 2, n - 1, n};
        if (run.quick && n > 5000)
            break;
        float *keys = check_alloc(n, sizeof *keys);
        for (int kind = 0; kind < RANDOM_KINDS + BAD_KINDS; kind++) {
            const char *name = kind < RANDOM_KINDS ? random_kind_name((random_kind)kind) : bad_names[kind - RANDOM_KINDS];
            if (kind < RANDOM_KINDS)
                make_keys(keys, n, (random_kind)kind);
            else
                make_bad_keys(keys, n, (bad_kind)(kind - RANDOM_KINDS));
            for (size_t j = 0; j < COUNT(ks); j++)
                if (ks[j] >= 1 && ks[j] <= n && (n < 2000 || random_below(&run.random, 3) == 0))
                    check_nth_case(keys, n, ks[j], name);
        }
        free(keys);
    }
}

/* The first k of a row, by looking for the best one k times. */
static int32_t top_slowly(const float *keys, int32_t n, int32_t k, int32_t *ids) {
    unsigned char *taken = check_alloc((size_t)n, 1);
    int32_t count = 0;
    for (; count < k; count++) {
        int32_t best = -1;
        for (int32_t e = 0; e < n; e++)
            if (!taken[e] && keys[e] != -INFINITY && (best < 0 || keys[e] > keys[best]))
                best = e;
        if (best < 0)
            break;
        taken[best] = 1;
        ids[count] = best;
    }
    free(taken);
    return count;
}

static void check_top_case(const float *keys, int32_t n, int32_t k, random_kind kind) {
    int32_t *expected = check_alloc((size_t)k, 4);
    const int32_t count = top_slowly(keys, n, k, expected);
    const float *given = check_place_copy(&g_out, keys, (size_t)n, 4);
    guard_freeze(&g_out);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_topk_row, -1));) {
        check_context("%s n %d k %d kind %s (seed %llu)", row->name, (int)n, (int)k, random_kind_name(kind),
                      (unsigned long long)run.seed);
        int32_t *ids = check_place(&g_ids, (size_t)k, 4);
        const int32_t answer = ((seqtopk_topk_row_fn *)row->function)(given, n, k, ids);
        check_that(answer == count, "answered %d ids, there are %d", (int)answer, (int)count);
        check_that(memcmp(ids, expected, (size_t)count * 4) == 0, "the ids are not the first %d, best first", (int)count);
        check_that(guard_intact(&g_ids), "wrote beside ids");
    }
    free(expected);
}

static void check_top(void) {
    for (size_t i = 0; i < CHECK_EXPERT_COUNTS; i++) {
        const int32_t n = check_expert_counts[i], ks[] = {0, 1, 2, 4, 8, 22, n / 2, n};
        float *keys = check_alloc((size_t)n, sizeof *keys);
        for (int kind = 0; kind < RANDOM_KINDS; kind++) {
            make_keys(keys, (size_t)n, (random_kind)kind);
            for (size_t j = 0; j < COUNT(ks); j++)
                if (ks[j] <= n && (n < 1000 || ks[j] <= 22 || kind % (run.quick ? 16 : 4) == 0))
                    check_top_case(keys, n, ks[j], (random_kind)kind);
        }
        free(keys);
    }
}

static int emitted(float key, int32_t expert, int64_t token, const seqtopk_cut *cut) {
    if (key == INFINITY || key == -INFINITY)
        return key > 0;
    if (key != cut->key)
        return key > cut->key;
    return token != cut->token ? token < cut->token : expert <= cut->expert;
}

static void check_emit_case(const float *keys, int32_t n, int64_t token, const seqtopk_cut *cut, random_kind kind) {
    int32_t *expected = check_alloc((size_t)n, 4), count = 0;
    for (int32_t e = 0; e < n; e++)
        if (emitted(keys[e], e, token, cut))
            expected[count++] = e;
    const float *given = check_place_copy(&g_out, keys, (size_t)n, 4);
    guard_freeze(&g_out);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_list_keys, -1));) {
        check_context("%s E %d token %lld cut (%.9g, %lld, %d) kind %s (seed %llu)", row->name, (int)n, (long long)token,
                      (double)cut->key, (long long)cut->token, (int)cut->expert, random_kind_name(kind),
                      (unsigned long long)run.seed);
        seqtopk_list_keys_fn *emit = (seqtopk_list_keys_fn *)row->function;
        check_that(emit(given, n, token, cut, NULL) == count, "does not count %d", (int)count);
        int32_t *ids = check_place(&g_ids, (size_t)count, 4);
        check_that(emit(given, n, token, cut, ids) == count, "does not emit %d", (int)count);
        check_that(memcmp(ids, expected, (size_t)count * 4) == 0, "emits other ids");
        check_that(guard_intact(&g_ids), "wrote beside ids");
    }
    free(expected);
}

static void check_emit(void) {
    static const int64_t tokens[] = {0, 6, 7, 8, INT64_C(0x7ffffffe)};
    for (size_t i = 0; i < CHECK_EXPERT_COUNTS; i++) {
        const int32_t n = check_expert_counts[i];
        float *keys = check_alloc((size_t)n, sizeof *keys);
        for (int kind = 0; kind < RANDOM_KINDS; kind++) {
            make_keys(keys, (size_t)n, (random_kind)kind);
            for (size_t j = 0; j < COUNT(tokens); j++) {
                const int32_t e = (int32_t)random_below(&run.random, (uint32_t)n);
                const seqtopk_cut cuts[] = {
                    {isfinite(keys[e]) ? keys[e] : 0, e, 7},
                    {isfinite(keys[e]) ? -keys[e] : 0, n - 1, 7},
                    {-FLT_MAX, INT32_MAX - 1, INT64_MAX},
                    {INFINITY, 0, -1},
                };
                for (size_t k = 0; k < COUNT(cuts); k++)
                    check_emit_case(keys, n, tokens[j], cuts + k, (random_kind)kind);
            }
        }
        free(keys);
    }
}

/* ------------------------------------------------------------------- rank -- */

static void check_rank_case(const float *keys, size_t n, size_t k, const char *kind) {
    float *sorted = check_alloc(n, 4);
    int64_t above = 0, equal = 0;
    memcpy(sorted, keys, n * 4);
    qsort(sorted, n, 4, falling);
    for (size_t i = 0; i < n; i++) {
        above += keys[i] > sorted[k - 1];
        equal += keys[i] == sorted[k - 1];
    }
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_select_keys, -1));)
        for (int in_place = 0; in_place < 2; in_place++) {
            check_context("%s n %zu k %zu kind %s%s (seed %llu)", row->name, n, k, kind, in_place ? " in place" : "",
                          (unsigned long long)run.seed);
            float *given = check_place_copy(&g_out, keys, n, 4);
            float *work = in_place ? given : check_place(&g_work, n, 4);
            if (!in_place)
                guard_freeze(&g_out);
            const seqtopk_kth place = ((seqtopk_select_keys_fn *)row->function)(given, (int64_t)n, (int64_t)k, work);
            check_that(place.key == sorted[k - 1], "answered %.9g, it is %.9g", (double)place.key, (double)sorted[k - 1]);
            check_that(place.key == -INFINITY || (place.above == above && place.equal == equal),
                       "%lld above and %lld equal, not %lld and %lld", (long long)above, (long long)equal,
                       (long long)place.above, (long long)place.equal);
            check_that(guard_intact(&g_out) && (in_place || guard_intact(&g_work)), "wrote beside keys or work");
        }
    free(sorted);
}

static void check_rank(void) {
    static const size_t sizes[] = {1,   2,   3,   15,  16,  17,  31,  32,  33,  63,   64,   65,   79,   100,  127,
                                   128, 129, 191, 255, 256, 257, 383, 511, 640, 1000, 2049, 4099, 9000, 40000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const size_t n = sizes[i], ks[] = {1, 2, 8, 31, n / 32, n / 8, n / 4, n / 2, n - n / 8, n - n / 4, n - 1, n};
        if (run.quick && n > 5000)
            break;
        float *keys = check_alloc(n, sizeof *keys);
        for (int kind = 0; kind < RANDOM_KINDS + BAD_KINDS; kind++) {
            const char *name = kind < RANDOM_KINDS ? random_kind_name((random_kind)kind) : bad_names[kind - RANDOM_KINDS];
            if (kind < RANDOM_KINDS)
                make_keys(keys, n, (random_kind)kind);
            else
                make_bad_keys(keys, n, (bad_kind)(kind - RANDOM_KINDS));
            for (size_t j = 0; j < COUNT(ks); j++)
                if (ks[j] >= 1 && ks[j] <= n && (n < 300 || random_below(&run.random, n < 2000 ? 2 : 4) == 0))
                    check_rank_case(keys, n, ks[j], name);
        }
        free(keys);
    }
}

/* ---------------------------------------------------------------- collect -- */

enum { MOST_EXPERTS = 65536, COLLECT_TOKENS = 100, COLLECT_BEFORE = 40, COLLECT_CELLS = 36000 };
enum { COLLECT_LIMITS = RANDOM_KINDS, COLLECT_KINDS };

/* Keys next to which a bound or a sentinel of a kernel's own could be mistaken. */
static float some_limit(void) {
    static const float limits[] = {-FLT_MAX, FLT_MAX, -INFINITY, INFINITY, 0.0f,       -0.0f,    FLT_MIN,
                                   -FLT_MIN, 1e-45f,  -1e-45f,   1.0f,     -1.000001f, 3.0e38f, -3.0e38f};
    return limits[random_below(&run.random, COUNT(limits))];
}

static void make_collect_keys(float *keys, size_t n, int kind) {
    if (kind < RANDOM_KINDS)
        make_keys(keys, n, (random_kind)kind);
    else
        for (size_t i = 0; i < n; i++)
            keys[i] = some_limit();
}

/* One of the keys, below all of them, above the finite ones, or a limit. */
static float some_low(const float *keys, size_t n) {
    const uint32_t way = random_below(&run.random, 8);
    const float low = way == 0 ? FLT_MAX : way == 1 ? some_limit() : n ? keys[random_below(&run.random, (uint32_t)n)] : 0;
    return way == 2 || !(fabsf(low) <= FLT_MAX) ? -FLT_MAX : low;
}

/* The candidates that were collected, or ought to be. */
typedef struct collected {
    float *keys;
    uint16_t *ids;
    int32_t counts[COLLECT_TOKENS];
    int64_t before, size; /* candidates that were there already, and all */
} collected;

/* Tokens [first, last), in two goes if they part at `middle`; where there are to be candidates already, some. */
static void collect_with(const seqtopk_row *row, const float *keys, int32_t experts, int64_t first, int64_t middle,
                         int64_t last, float low, int64_t capacity, const collected *right) {
    seqtopk_collect_keys_fn *collect = (seqtopk_collect_keys_fn *)row->function;
    const size_t places = (size_t)capacity + SEQTOPK_CANDIDATES_SLACK;
    seqtopk_candidates catch = {.keys = check_place(&g_work, places, 4),
                           .ids = check_place(&g_catch, places, 2),
                           .counts = check_place(&g_counts, COLLECT_TOKENS, 4),
                           .work = check_place(&g_words, SEQTOPK_COLLECT_WORK((size_t)experts), 8),
                           .capacity = capacity,
                           .size = right->before};
    memcpy(catch.keys, right->keys, (size_t)right->before * 4);
    memcpy(catch.ids, right->ids, (size_t)right->before * 2);
    collect(keys, experts, first, middle, low, &catch);
    if (middle < last && catch.size >= 0)
        collect(keys + (middle - first) * experts, experts, middle, last, low, &catch);
    check_that(guard_intact(&g_work) && guard_intact(&g_catch) && guard_intact(&g_counts) && guard_intact(&g_words),
               "wrote beside its memory");
    check_that(check_is_rubbish(catch.counts, (size_t)first * 4) &&
                   check_is_rubbish(catch.counts + last, (size_t)(COLLECT_TOKENS - last) * 4),
               "wrote counts of other tokens");
    if (capacity < right->size) {
        check_that(catch.size == -1, "ended with %lld where there is no space for %lld", (long long)catch.size,
                   (long long)right->size);
        return;
    }
    if (!check_that(catch.size == right->size, "ended with %lld, not %lld", (long long)catch.size, (long long)right->size))
        return;
    check_that(memcmp(catch.counts + first, right->counts + first, (size_t)(last - first) * 4) == 0, "counts are wrong");
    check_that(memcmp(catch.keys, right->keys, (size_t)right->size * 4) == 0, "keys are wrong");
    check_that(memcmp(catch.ids, right->ids, (size_t)right->size * 2) == 0, "ids are wrong");
}

static void check_collect_case(int32_t experts, int64_t count, int kind) {
    const int64_t first = random_below(&run.random, 4), last = first + count;
    const int64_t middle = first + (random_below(&run.random, 2) ? count : random_below(&run.random, (uint32_t)count + 1));
    const size_t cells = (size_t)experts * (size_t)count;
    float *keys = check_alloc(cells, 4);
    make_collect_keys(keys, cells, kind);
    const float low = some_low(keys, cells);
    collected right = {.keys = check_alloc(cells + COLLECT_BEFORE, 4), .ids = check_alloc(cells + COLLECT_BEFORE, 2)};
    right.size = right.before = random_below(&run.random, 2) ? random_below(&run.random, COLLECT_BEFORE) : 0;
    for (int64_t i = 0; i < right.before; i++) {
        right.keys[i] = (float)i;
        right.ids[i] = (uint16_t)(i * 7919);
    }
    for (int64_t t = first; t < last; t++)
        for (int32_t e = 0; e < experts; e++) {
            const float key = keys[(t - first) * experts + e];
            if (key < low || key == -INFINITY)
                continue;
            right.keys[right.size] = key;
            right.ids[right.size++] = (uint16_t)e;
            right.counts[t]++;
        }
    const int64_t own = right.size - right.before;
    const int64_t capacities[] = {right.size, right.size + 1 + random_below(&run.random, 100), right.size - 1,
                                  right.before + random_below(&run.random, (uint32_t)own + 1)};
    const float *given = check_place_copy(&g_out, keys, cells, 4);
    guard_freeze(&g_out);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_collect_keys, -1));)
        for (size_t i = 0; i < COUNT(capacities); i++) {
            if (capacities[i] < right.before)
                continue;
            check_context("%s E %d tokens [%lld, %lld) from %lld low %.9g behind %lld capacity %lld of %lld kind %s "
                          "(seed %llu)", row->name, (int)experts, (long long)first, (long long)last, (long long)middle,
                          (double)low, (long long)right.before, (long long)capacities[i], (long long)right.size,
                          kind < RANDOM_KINDS ? random_kind_name((random_kind)kind) : "limits",
                          (unsigned long long)run.seed);
            collect_with(row, given, experts, first, middle, last, low, capacities[i], &right);
        }
    free(keys);
    free(right.keys);
    free(right.ids);
}

static void check_collect(void) {
    /* As many as fill none, one or several of a kernel's blocks of rows. */
    static const int64_t counts[] = {0, 1, 2, 4, 5, 15, 16, 17, 31, 33, 48, 64, 81};
    static const int32_t experts[] = {MOST_EXPERTS - 1, MOST_EXPERTS, 61, 63, 65, 191, 192, 193, 513, 2047, 2049};
    for (size_t i = 0; i < COUNT(experts) + CHECK_EXPERT_COUNTS; i++) {
        const int32_t n = i < COUNT(experts) ? experts[i] : check_expert_counts[i - COUNT(experts)];
        for (size_t j = 0; j < COUNT(counts); j++) {
            const int64_t cells = n * counts[j];
            if (cells > COLLECT_CELLS && counts[j] > 1)
                continue;
            const int afford = (run.quick ? 4000 : 60000) / ((int)cells + 1);
            const int cases = afford < 1 ? 1 : afford > COLLECT_KINDS ? COLLECT_KINDS : afford;
            const int turn = (int)random_below(&run.random, COLLECT_KINDS);
            for (int k = 0; k < cases; k++)
                check_collect_case(n, counts[j], (turn + k) % COLLECT_KINDS);
        }
    }
}

/* ----------------------------------------------------------------- filter -- */

enum { FILTER_TOKENS = 20 };

/*
 * A catch of tokens [first, last) of which some hold nothing; what lies beyond it is rubbish of a large key. Winners go
 * to lists that already hold others before `at`, and whose end is the last winner's place or a little beyond.
 */
static void check_filter_case(int32_t most, random_kind kind) {
    const int64_t first = random_below(&run.random, 4), last = first + random_below(&run.random, FILTER_TOKENS - 4);
    const int64_t at = random_below(&run.random, 9), spare = random_below(&run.random, 3) ? 0 : random_below(&run.random, 40);
    int32_t counts[FILTER_TOKENS] = {0};
    int64_t size = 0;
    for (int64_t t = first; t < last; t++)
        size += counts[t] = (int32_t)(random_below(&run.random, 4) ? random_below(&run.random, (uint32_t)most + 1) : 0);
    const size_t cells = (size_t)size + SEQTOPK_CANDIDATES_SLACK;
    float *keys = check_alloc(cells, 4);
    random_logits(&run.random, kind, SEQTOPK_DTYPE_F32, keys, 1, (size_t)size, (size_t)size);
    for (int64_t i = 0; i < size; i++)
        if (!isfinite(keys[i]))
            keys[i] = 0.5f;
    for (size_t i = (size_t)size; i < cells; i++)
        keys[i] = FLT_MAX;
    const float key = size && random_below(&run.random, 5) ? keys[random_below(&run.random, (uint32_t)size)] : -FLT_MAX;
    float *given_keys = check_place_copy(&g_out, keys, cells, 4);
    uint16_t *given_ids = check_place(&g_catch, cells, 2);
    for (size_t i = 0; i < cells; i++)
        given_ids[i] = (uint16_t)(i * 7919);
    int32_t *given_counts = check_place_copy(&g_counts, counts, FILTER_TOKENS, 4);
    guard_freeze(&g_out);
    guard_freeze(&g_catch);
    guard_freeze(&g_counts);
    /* A filter begins at its first token; counts are numbered by token all the same. */
    const seqtopk_candidates from = {.keys = given_keys, .order = given_keys, .ids = given_ids, .counts = given_counts, .capacity = size, .size = size};
    for (int ties = 0; ties < 2; ties++) {
        int32_t offsets[FILTER_TOKENS] = {0}, *ids = check_alloc(cells, 4);
        float *winners = check_alloc(cells, 4);
        int64_t n = 0, i = 0;
        for (int64_t t = first; t < last; t++) {
            offsets[t] = (int32_t)(at + n);
            for (const int64_t next = i + counts[t]; i < next; i++)
                if (keys[i] > key || (ties && keys[i] == key)) {
                    ids[n] = given_ids[i];
                    winners[n++] = keys[i];
                }
        }
        for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_list_candidates, -1));) {
            check_context("%s tokens [%lld, %lld) candidates %lld key %.9g ties %d at %lld kind %s (seed %llu)", row->name,
                          (long long)first, (long long)last, (long long)size, (double)key, ties, (long long)at,
                          random_kind_name(kind), (unsigned long long)run.seed);
            seqtopk_list_candidates_fn *filter = (seqtopk_list_candidates_fn *)row->function;
            const size_t end = (size_t)(at + n + spare);
            seqtopk_lists to = {.offsets = check_place(&g_offsets, FILTER_TOKENS, 4),
                                .ids = check_place(&g_ids, end, 4),
                                .keys = check_place(&g_work, end, 4)};
            check_that(filter(&from, first, last, key, ties, NULL, at, at + n) == at + n, "does not count %lld", (long long)n);
            check_that(filter(&from, first, last, key, ties, &to, at, (int64_t)end) == at + n, "does not end at %lld",
                       (long long)(at + n));
            check_that(memcmp(to.offsets + first, offsets + first, (size_t)(last - first) * 4) == 0, "offsets are wrong");
            check_that(check_is_rubbish(to.offsets, (size_t)first * 4) &&
                           check_is_rubbish(to.offsets + last, (size_t)(FILTER_TOKENS - last) * 4),
                       "wrote offsets of other tokens");
            check_that(memcmp(to.ids + at, ids, (size_t)n * 4) == 0, "ids are wrong");
            check_that(memcmp(to.keys + at, winners, (size_t)n * 4) == 0, "keys are wrong");
            check_that(check_is_rubbish(to.ids, (size_t)at * 4) && check_is_rubbish(to.keys, (size_t)at * 4),
                       "wrote before the first place");
            check_that(guard_intact(&g_ids) && guard_intact(&g_work) && guard_intact(&g_offsets), "wrote beside a list");
        }
        free(ids);
        free(winners);
    }
    free(keys);
}

/* ------------------------------------------------------------------- trim -- */

/* Every row against ref's by bits, and ref's against a count of what stands before. */
static void check_trim_case(int32_t widest, random_kind kind) {
    const int64_t first = random_below(&run.random, 3), last = first + random_below(&run.random, FILTER_TOKENS - 3);
    const int32_t most = 1 + (int32_t)random_below(&run.random, (uint32_t)(widest < 24 ? widest + 2 : 24));
    const int32_t sure = (int32_t)random_below(&run.random, (uint32_t)(most < 16 ? most : 16) + 1);
    int32_t counts[FILTER_TOKENS] = {0};
    int64_t size = 0, kept = 0, at = 0;
    for (int64_t t = first; t < last; t++)
        size += counts[t] = (int32_t)(random_below(&run.random, 4) ? random_below(&run.random, (uint32_t)widest + 1) : 0);
    const size_t cells = (size_t)size + SEQTOPK_CANDIDATES_SLACK;
    float *keys = check_alloc(cells, 4), *left = check_alloc(cells, 4), *order = check_alloc(cells, 4);
    uint16_t *ids = check_alloc(cells, 2), *left_ids = check_alloc(cells, 2);
    int32_t left_counts[FILTER_TOKENS] = {0};
    random_logits(&run.random, kind, SEQTOPK_DTYPE_F32, keys, 1, (size_t)size, (size_t)size);
    for (int64_t i = 0; i < size; i++) {
        if (!isfinite(keys[i]))
            keys[i] = 0.5f;
        ids[i] = (uint16_t)(i * 7919);
    }
    for (int64_t t = first; t < last; at += counts[t++])
        for (int64_t i = at; i < at + counts[t]; i++) {
            int32_t before = 0;
            for (int64_t j = at; j < at + counts[t]; j++)
                before += keys[j] > keys[i] || (keys[j] == keys[i] && j < i);
            if (before >= most)
                continue;
            left[kept] = keys[i];
            order[kept] = before < sure ? INFINITY : keys[i];
            left_ids[kept++] = ids[i];
            left_counts[t]++;
        }
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_bound_candidates, -1));) {
        check_context("%s tokens [%lld, %lld) candidates %lld sure %d most %d kind %s (seed %llu)", row->name, (long long)first,
                      (long long)last, (long long)size, (int)sure, (int)most, random_kind_name(kind),
                      (unsigned long long)run.seed);
        seqtopk_candidates catch = {.keys = check_place_copy(&g_out, keys, cells, 4),
                               .order = check_place(&g_work, cells, 4),
                               .ids = check_place_copy(&g_catch, ids, cells, 2),
                               .counts = check_place_copy(&g_counts, counts, FILTER_TOKENS, 4),
                               .capacity = size,
                               .size = size};
        ((seqtopk_bound_candidates_fn *)row->function)(&catch, first, last, sure, most);
        check_that(catch.size == kept, "%lld stay, not %lld", (long long)catch.size, (long long)kept);
        check_that(memcmp(catch.counts, left_counts, sizeof left_counts) == 0, "counts are wrong");
        check_that(memcmp(catch.keys, left, (size_t)kept * 4) == 0, "keys are wrong");
        check_that(memcmp(catch.order, order, (size_t)kept * 4) == 0, "the order is wrong");
        check_that(memcmp(catch.ids, left_ids, (size_t)kept * 2) == 0, "ids are wrong");
        check_that(guard_intact(&g_out) && guard_intact(&g_work) && guard_intact(&g_catch) && guard_intact(&g_counts),
                   "wrote beside its memory");
    }
    free(keys);
    free(left);
    free(order);
    free(ids);
    free(left_ids);
}

static void check_trim(void) {
    static const int32_t widest[] = {1, 3, 8, 12, 16, 17, 40};
    for (size_t i = 0; i < COUNT(widest); i++)
        for (int turn = 0; turn < (run.quick ? 1 : 6) * RANDOM_KINDS; turn++)
            check_trim_case(widest[i], (random_kind)(turn % RANDOM_KINDS));
}

static void check_filter(void) {
    static const int32_t most[] = {1, 3, 8, 17, 40, 256};
    for (size_t i = 0; i < COUNT(most); i++)
        for (int turn = 0; turn < (run.quick ? 1 : 6) * RANDOM_KINDS; turn++)
            check_filter_case(most[i], (random_kind)(turn % RANDOM_KINDS));
}

void check_select(void) {
    guard *const all[] = {&g_out, &g_ids, &g_work, &g_catch, &g_counts, &g_offsets, &g_words};
    for (size_t i = 0; i < COUNT(all); i++)
        guard_open(all[i], 8 * SEQTOPK_COLLECT_WORK(MOST_EXPERTS) + 256);
    check_nth();
    check_rank();
    check_top();
    check_emit();
    check_collect();
    check_filter();
    check_trim();
    for (size_t i = 0; i < COUNT(all); i++)
        guard_close(all[i]);
}
