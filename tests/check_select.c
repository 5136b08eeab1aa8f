/* SPDX-License-Identifier: MIT */
/* Kernels that read keys: select_keys, topk_row, collect_keys, list_candidates, bound_candidates. */
#include "cases.h"
#include "check.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

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

/* ------------------------------------------------------------- the k-th -- */

static float *sorted_copy(const float *keys, size_t n, int (*order)(const void *, const void *)) {
    float *sorted = check_alloc(n, sizeof *sorted);
    memcpy(sorted, keys, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, order);
    return sorted;
}

static void check_select_case(const float *keys, size_t n, size_t k, const char *kind) {
    float *sorted = sorted_copy(keys, n, falling);
    seqtopk_kth right = {sorted[k - 1], 0, 0};
    for (size_t i = 0; i < n; i++) {
        right.above += keys[i] > right.key;
        right.equal += keys[i] == right.key;
    }
    free(sorted);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_select_keys, -1));)
        for (int in_place = 0; in_place < 2; in_place++) {
            op_case c = {.n = (int64_t)n, .k = (int64_t)k};
            check_context("%s n %zu k %zu kind %s%s (seed %llu)", row->name, n, k, kind, in_place ? " in place" : "",
                          (unsigned long long)run.seed);
            if (in_place) {
                c.begin = keys;
            } else {
                c.keys = case_copy(CASE_KEYS, keys, n, 4);
                case_freeze(CASE_KEYS);
            }
            case_place(&c, row->op);
            case_call(&c, row);
            check_that(c.kth.key == right.key, "returned %.9g, it is %.9g", (double)c.kth.key, (double)right.key);
            check_that(c.kth.key == -INFINITY || (c.kth.above == right.above && c.kth.equal == right.equal),
                       "%lld above and %lld equal, not %lld and %lld", (long long)c.kth.above, (long long)c.kth.equal,
                       (long long)right.above, (long long)right.equal);
            check_that(case_intact(), "wrote beside keys or work");
        }
}

static uint32_t one_select_in(size_t n) { return n < 300 ? 1 : n < 2000 ? 2 : 4; }

/* The k-th of arrays of many sizes and of every kind; of the longer ones some. */
static void check_select_keys(void) {
    static const size_t sizes[] = {1,   2,   3,   15,  16,  17,  31,  32,  33,  63,   64,   65,   79,   100,  127,
                                   128, 129, 191, 255, 256, 257, 383, 511, 640, 1000, 2049, 4099, 9000, 40000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const size_t n = sizes[i], ks[] = {1, 2, 8, 31, n / 32, n / 8, n / 4, n / 2, n - n / 8, n - n / 4, n - 1, n};
        if (run.quick && n > 5000)
            break;
        float *keys = check_alloc(n, sizeof *keys);
        for (int kind = 0; kind < (int)RANDOM_KINDS + (int)BAD_KINDS; kind++) {
            const int bad = kind - RANDOM_KINDS;
            if (bad < 0)
                make_keys(keys, n, (random_kind)kind);
            else
                make_bad_keys(keys, n, (bad_kind)bad);
            for (size_t j = 0; j < COUNT(ks); j++)
                if (ks[j] >= 1 && ks[j] <= n && random_below(&run.random, one_select_in(n)) == 0)
                    check_select_case(keys, n, ks[j], bad < 0 ? random_kind_name((random_kind)kind) : bad_names[bad]);
        }
        free(keys);
    }
}

/* --------------------------------------------------------------- of a row -- */

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
    op_case c = {.last = 1, .experts = n, .top_k = k, .keys = case_copy(CASE_KEYS, keys, (size_t)n, 4)};
    case_freeze(CASE_KEYS);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_topk_row, -1));) {
        check_context("%s n %d k %d kind %s (seed %llu)", row->name, (int)n, (int)k, random_kind_name(kind),
                      (unsigned long long)run.seed);
        case_place(&c, row->op);
        case_call(&c, row);
        check_that(c.returned == count, "returned %d ids, there are %d", (int)c.returned, (int)count);
        check_that(memcmp(c.ids, expected, (size_t)count * 4) == 0, "the ids are not the first %d, best first",
                   (int)count);
        check_that(case_intact(), "wrote beside ids");
    }
    free(expected);
}

static void check_topk_row(void) {
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

/* ---------------------------------------------------------- candidates -- */

enum { MOST_EXPERTS = 65536, COLLECT_TOKENS = 100, COLLECT_BEFORE = 40, COLLECT_CELLS = 36000 };
enum { COLLECT_LIMITS = RANDOM_KINDS, COLLECT_KINDS };

/* Keys next to which a bound or a sentinel of a kernel's own could be mistaken. */
static float some_limit(void) {
    static const float limits[] = {-FLT_MAX, FLT_MAX, -INFINITY, INFINITY, 0.0f,       -0.0f,   FLT_MIN,
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
    const float low = way == 0   ? FLT_MAX
                      : way == 1 ? some_limit()
                      : n        ? keys[random_below(&run.random, (uint32_t)n)]
                                 : 0;
    return way == 2 || !(fabsf(low) <= FLT_MAX) ? -FLT_MAX : low;
}

/* Tokens [first, last), in two calls if they part at `middle`; some candidates are there already. */
typedef struct collect_case {
    op_case c;
    int64_t middle;
    const char *kind;
    seqtopk_candidates right; /* with what was there before; counts are [COLLECT_TOKENS] */
} collect_case;

static void expect_collected(collect_case *k, const float *keys) {
    const op_case *c = &k->c;
    for (int64_t i = 0; i < c->caught.size; i++) {
        k->right.keys[i] = (float)i;
        k->right.ids[i] = (uint16_t)(i * 7919);
    }
    k->right.size = c->caught.size;
    for (int64_t t = c->first; t < c->last; t++, keys += c->experts)
        for (int32_t e = 0; e < c->experts; e++) {
            if (keys[e] < c->low || keys[e] == -INFINITY)
                continue;
            k->right.keys[k->right.size] = keys[e];
            k->right.ids[k->right.size++] = (uint16_t)e;
            k->right.counts[t]++;
        }
}

static collect_case make_collect_case(int32_t experts, int64_t count, int kind) {
    random_state *r = &run.random;
    const size_t cells = (size_t)experts * (size_t)count;
    collect_case k = {.kind = kind < RANDOM_KINDS ? random_kind_name((random_kind)kind) : "limits",
                      .c = {.tokens = COLLECT_TOKENS, .experts = experts, .first = random_below(r, 4)}};
    k.c.last = k.c.first + count;
    k.middle = k.c.first + (random_below(r, 2) ? count : random_below(r, (uint32_t)count + 1));
    float *keys = check_alloc(cells, 4);
    make_collect_keys(keys, cells, kind);
    k.c.low = some_low(keys, cells);
    k.right.keys = k.c.caught.keys = check_alloc(cells + COLLECT_BEFORE, 4);
    k.right.ids = k.c.caught.ids = check_alloc(cells + COLLECT_BEFORE, 2);
    k.right.counts = check_alloc(COLLECT_TOKENS, 4);
    k.c.caught.size = random_below(r, 2) ? random_below(r, COLLECT_BEFORE) : 0;
    expect_collected(&k, keys);
    k.c.keys = case_copy(CASE_KEYS, keys, cells, 4);
    case_freeze(CASE_KEYS);
    free(keys);
    return k;
}

static void collect_with(const seqtopk_row *row, const collect_case *k, int64_t capacity) {
    op_case c = k->c;
    const int64_t size = k->right.size, first = c.first, last = c.last;
    c.capacity = capacity;
    c.last = k->middle;
    case_place(&c, row->op);
    case_call(&c, row);
    if (k->middle < last && c.candidates.size >= 0) {
        c.keys += (k->middle - first) * c.experts;
        c.first = k->middle;
        c.last = last;
        case_call(&c, row);
    }
    check_that(case_intact(), "wrote beside its memory");
    check_that(check_is_rubbish(c.candidates.counts, (size_t)first * 4) &&
                   check_is_rubbish(c.candidates.counts + last, (size_t)(COLLECT_TOKENS - last) * 4),
               "wrote counts of other tokens");
    if (!check_that(c.candidates.size == (capacity < size ? -1 : size), "ended with %lld, not %lld of %lld",
                    (long long)c.candidates.size, (long long)size, (long long)capacity) ||
        capacity < size)
        return;
    check_that(memcmp(c.candidates.counts + first, k->right.counts + first, (size_t)(last - first) * 4) == 0,
               "counts are wrong");
    check_that(memcmp(c.candidates.keys, k->right.keys, (size_t)size * 4) == 0, "keys are wrong");
    check_that(memcmp(c.candidates.ids, k->right.ids, (size_t)size * 2) == 0, "ids are wrong");
}

static void check_collect_case(int32_t experts, int64_t count, int kind) {
    collect_case k = make_collect_case(experts, count, kind);
    const int64_t before = k.c.caught.size, size = k.right.size;
    const int64_t capacities[] = {size, size + 1 + random_below(&run.random, 100), size - 1,
                                  before + random_below(&run.random, (uint32_t)(size - before) + 1)};
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_collect_keys, -1));)
        for (size_t i = 0; i < COUNT(capacities); i++) {
            if (capacities[i] < before)
                continue;
            check_context("%s E %d tokens [%lld, %lld) from %lld low %.9g behind %lld capacity %lld of %lld kind %s "
                          "(seed %llu)",
                          row->name, (int)experts, (long long)k.c.first, (long long)k.c.last, (long long)k.middle,
                          (double)k.c.low, (long long)before, (long long)capacities[i], (long long)size, k.kind,
                          (unsigned long long)run.seed);
            collect_with(row, &k, capacities[i]);
        }
    free(k.right.keys);
    free(k.right.ids);
    free(k.right.counts);
}

static void check_collect_keys(void) {
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

enum { MOST_TOKENS = 20 };

/* Candidates of some tokens of which some hold nothing, the others up to `most`. */
static op_case make_candidates(int32_t most, random_kind kind) {
    random_state *r = &run.random;
    op_case c = {.tokens = MOST_TOKENS, .first = random_below(r, 4), .caught = {.counts = check_alloc(MOST_TOKENS, 4)}};
    c.last = c.first + random_below(r, MOST_TOKENS - 4);
    for (int64_t t = c.first; t < c.last; t++)
        c.caught.size += c.caught.counts[t] = (int32_t)(random_below(r, 4) ? random_below(r, (uint32_t)most + 1) : 0);
    const size_t size = (size_t)c.caught.size;
    c.caught.keys = check_alloc(size, 4);
    c.caught.ids = check_alloc(size, 2);
    random_logits(r, kind, SEQTOPK_DTYPE_F32, c.caught.keys, 1, size, size);
    for (size_t i = 0; i < size; i++) {
        if (!isfinite(c.caught.keys[i]))
            c.caught.keys[i] = 0.5f;
        c.caught.ids[i] = (uint16_t)(i * 7919);
    }
    return c;
}

static void free_candidates(seqtopk_candidates *c) {
    free(c->keys);
    free(c->order);
    free(c->ids);
    free(c->counts);
}

static void describe_candidates(const op_case *c, const char *kernel, random_kind kind) {
    check_context("%s tokens [%lld, %lld) candidates %lld min %d max %d key %.9g ties %d at %lld kind %s (seed %llu)",
                  kernel, (long long)c->first, (long long)c->last, (long long)c->caught.size, (int)c->min, (int)c->max,
                  (double)c->cut.key, c->ties, (long long)c->from, random_kind_name(kind),
                  (unsigned long long)run.seed);
}

/* Places candidates that may not be written to; what lies beyond them is rubbish of a large key. */
static void place_frozen(op_case *c) {
    case_place(c, SEQTOPK_OP_list_candidates);
    for (int64_t i = 0; i < SEQTOPK_CANDIDATES_SLACK; i++) {
        c->candidates.keys[c->caught.size + i] = FLT_MAX;
        c->candidates.ids[c->caught.size + i] = 7919;
    }
    case_freeze(CASE_CANDIDATE_KEYS);
    case_freeze(CASE_CANDIDATE_IDS);
    case_freeze(CASE_COUNTS);
}

/* The winners behind `from`; returns the place after the last. */
static int64_t expect_list(const op_case *c, const seqtopk_lists *right) {
    int64_t at = c->from, i = 0;
    for (int64_t t = c->first; t < c->last; t++) {
        right->offsets[t] = (int32_t)at;
        for (const int64_t next = i + c->caught.counts[t]; i < next; i++)
            if (c->caught.keys[i] > c->cut.key || (c->ties && c->caught.keys[i] == c->cut.key)) {
                right->ids[at] = c->caught.ids[i];
                right->keys[at++] = c->caught.keys[i];
            }
    }
    return at;
}

/* Lists that already hold others before `from`, and whose end is the last winner's place or a little beyond. */
static void check_listed(const seqtopk_row *row, op_case *c, const seqtopk_lists *right, int64_t at, int64_t spare) {
    const size_t first = (size_t)c->first, last = (size_t)c->last, from = (size_t)c->from, n = (size_t)(at - c->from);
    for (c->counts_only = 1; c->counts_only >= 0; c->counts_only--) {
        c->end = c->counts_only ? at : at + spare;
        place_frozen(c);
        case_call(c, row);
        check_that(c->returned == at, "does not %s %lld", c->counts_only ? "count to" : "end at", (long long)at);
    }
    check_that(memcmp(c->lists.offsets + first, right->offsets + first, (last - first) * 4) == 0, "offsets are wrong");
    check_that(check_is_rubbish(c->lists.offsets, first * 4) &&
                   check_is_rubbish(c->lists.offsets + last, (MOST_TOKENS - last) * 4),
               "wrote offsets of other tokens");
    check_that(memcmp(c->lists.ids + from, right->ids + from, n * 4) == 0, "ids are wrong");
    check_that(memcmp(c->lists.keys + from, right->keys + from, n * 4) == 0, "keys are wrong");
    check_that(check_is_rubbish(c->lists.ids, from * 4) && check_is_rubbish(c->lists.keys, from * 4),
               "wrote before the first place");
    check_that(case_intact(), "wrote beside a list");
}

static void check_list_candidates_case(int32_t most, random_kind kind) {
    random_state *r = &run.random;
    op_case c = make_candidates(most, kind);
    c.from = random_below(r, 9);
    const int64_t spare = random_below(r, 3) ? 0 : random_below(r, 40);
    const size_t size = (size_t)c.caught.size, places = size + (size_t)c.from;
    const seqtopk_lists right = {
        .offsets = check_alloc(MOST_TOKENS, 4), .ids = check_alloc(places, 4), .keys = check_alloc(places, 4)};
    c.cut.key = size && random_below(r, 5) ? c.caught.keys[random_below(r, (uint32_t)size)] : -FLT_MAX;
    for (c.ties = 0; c.ties < 2; c.ties++) {
        const int64_t at = expect_list(&c, &right);
        for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_list_candidates, -1));) {
            describe_candidates(&c, row->name, kind);
            check_listed(row, &c, &right, at, spare);
        }
    }
    free(right.offsets);
    free(right.ids);
    free(right.keys);
    free_candidates(&c.caught);
}

/* Whether of a token's candidates equal ones stand on both sides of a bound. */
static int is_tied(const seqtopk_candidates *all, int64_t at, int32_t n, int32_t bound) {
    for (int64_t i = at; i < at + n && bound > 0; i++) {
        int32_t above = 0, equal = 0;
        for (int64_t j = at; j < at + n; j++) {
            above += all->keys[j] > all->keys[i];
            equal += all->keys[j] == all->keys[i];
        }
        if (above < bound && above + equal > bound)
            return 1;
    }
    return 0;
}

/* What stays, by a count of what stands before. */
static seqtopk_candidates expect_bounded(const op_case *c) {
    const seqtopk_candidates *all = &c->caught;
    const size_t size = (size_t)all->size;
    seqtopk_candidates left = {.keys = check_alloc(size, 4),
                               .order = check_alloc(size, 4),
                               .ids = check_alloc(size, 2),
                               .counts = check_alloc(MOST_TOKENS, 4)};
    int64_t at = 0;
    for (int64_t t = c->first; t < c->last; at += all->counts[t++])
        for (int64_t i = at; i < at + all->counts[t]; i++) {
            int32_t before = 0;
            for (int64_t j = at; j < at + all->counts[t]; j++)
                before += all->keys[j] > all->keys[i] || (all->keys[j] == all->keys[i] && j < i);
            if (before >= c->max)
                continue;
            left.keys[left.size] = all->keys[i];
            left.order[left.size] = before < c->min ? INFINITY : all->keys[i];
            left.ids[left.size++] = all->ids[i];
            left.counts[t]++;
        }
    at = 0;
    for (int64_t t = c->first; t < c->last; at += all->counts[t++])
        if (is_tied(all, at, all->counts[t], c->max) || is_tied(all, at, all->counts[t], c->min)) {
            left.counts[t] |= SEQTOPK_TIED_AT_BOUND;
            left.tied++;
        }
    return left;
}

static void check_bound_candidates_case(int32_t widest, random_kind kind) {
    op_case c = make_candidates(widest, kind);
    c.max = 1 + (int32_t)random_below(&run.random, (uint32_t)(widest < 24 ? widest + 2 : 24));
    c.min = (int32_t)random_below(&run.random, (uint32_t)(c.max < 16 ? c.max : 16) + 1);
    seqtopk_candidates left = expect_bounded(&c);
    const size_t kept = (size_t)left.size;
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_bound_candidates, -1));) {
        describe_candidates(&c, row->name, kind);
        case_place(&c, row->op);
        case_call(&c, row);
        check_that(c.candidates.size == left.size, "%lld stay, not %lld", (long long)c.candidates.size,
                   (long long)left.size);
        check_that(memcmp(c.candidates.counts, left.counts, MOST_TOKENS * 4) == 0, "counts are wrong");
        check_that(c.candidates.tied == left.tied, "%lld are tied, not %lld", (long long)c.candidates.tied,
                   (long long)left.tied);
        check_that(memcmp(c.candidates.keys, left.keys, kept * 4) == 0, "keys are wrong");
        check_that(memcmp(c.candidates.order, left.order, kept * 4) == 0, "the order is wrong");
        check_that(memcmp(c.candidates.ids, left.ids, kept * 2) == 0, "ids are wrong");
        check_that(case_intact(), "wrote beside its memory");
    }
    free_candidates(&left);
    free_candidates(&c.caught);
}

static void check_candidates(const int32_t *widest, size_t count, void (*check_case)(int32_t, random_kind)) {
    for (size_t i = 0; i < count; i++)
        for (int turn = 0; turn < (run.quick ? 1 : 6) * RANDOM_KINDS; turn++)
            check_case(widest[i], (random_kind)(turn % RANDOM_KINDS));
}

void check_select(void) {
    static const int32_t listed[] = {1, 3, 8, 17, 40, 256}, bounded[] = {1, 3, 8, 12, 16, 17, 40};
    check_select_keys();
    check_topk_row();
    check_collect_keys();
    check_candidates(listed, COUNT(listed), check_list_candidates_case);
    check_candidates(bounded, COUNT(bounded), check_bound_candidates_case);
}
