/* SPDX-License-Identifier: MIT */
/* Kernels of the past while decoding: rank_keys, weigh_ranked, contest_ranked, pick_words, pick_keys. */
#include "cases.h"
#include "check.h"

#include "arch/words.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4096 };

static void describe(const seqtopk_row *row, int64_t n, int kind) {
    check_context("%s n=%lld kind=%d", row->name, (long long)n, kind);
}

/* Keys of a kind: any, few values, all equal, zeros of both signs, extremes. */
enum { KINDS = 5 };
static float key_of(int kind) {
    static const float extremes[] = {3.4e38f, -3.4e38f, 1e-45f, -1e-45f, 0.0f, -0.0f, 1.0f};
    switch (kind) {
    case 0: return (float)random_normal(&run.random);
    case 1: return (float)random_below(&run.random, 4);
    case 2: return 1.5f;
    case 3: return random_below(&run.random, 2) ? 0.0f : -0.0f;
    default: return extremes[random_below(&run.random, sizeof extremes / sizeof *extremes)];
    }
}

static uint64_t word_of(int kind, int64_t token) { return seqtopk_word_of(key_of(kind), token); }

/* -------------------------------------------------------------- rank_keys -- */

static void check_rank_keys(int32_t n, int kind) {
    float keys[SEQTOPK_MOST_RANKED];
    for (int32_t i = 0; i < n; i++)
        keys[i] = kind == 4 && random_below(&run.random, 8) == 0 ? -INFINITY : key_of(kind);
    op_case c = {.n = n, .keys = case_copy(CASE_KEYS, keys, (size_t)n, sizeof *keys)};
    case_freeze(CASE_KEYS);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_rank_keys, -1));) {
        int right = 1;
        describe(row, n, kind);
        case_place(&c, row->op);
        case_call(&c, row);
        int alike = 0;
        for (int32_t i = 0; i < n; i++) {
            int32_t rank = 0;
            for (int32_t j = 0; j < n; j++) {
                rank += keys[j] > keys[i] || (keys[j] == keys[i] && j < i);
                alike |= keys[j] == keys[i] && j < i;
            }
            right &= c.ids[i] == rank;
        }
        check_that(right && case_intact(), "the ranks are wrong");
        check_that(c.returned == alike, "returned %d", (int)c.returned);
    }
}

/* --------------------------------------------- weigh_ranked, contest_ranked -- */

/* One token's candidates [n]; beyond n anything may stand. */
typedef struct ranked {
    float keys[SEQTOPK_MOST_WEIGHED], scores[SEQTOPK_MOST_WEIGHED];
    int32_t ids[SEQTOPK_MOST_WEIGHED], ranks[SEQTOPK_MOST_WEIGHED];
} ranked;

static op_case ranked_case(int32_t n, int kind, ranked *r) {
    for (int32_t i = 0; i < SEQTOPK_MOST_WEIGHED; i++) {
        r->keys[i] = i < n && kind < 2 ? key_of(kind) - 3.0f : key_of(kind);
        r->scores[i] = kind < 2 ? key_of(kind) - 3.0f : key_of(kind);
        r->ids[i] = 3 * i + (int32_t)random_below(&run.random, 3);
        r->ranks[i] = (int32_t)random_below(&run.random, 1000);
    }
    for (int32_t i = 0; i < n; i++) {
        r->ranks[i] = 0;
        for (int32_t j = 0; j < n; j++)
            r->ranks[i] += r->keys[j] > r->keys[i] || (r->keys[j] == r->keys[i] && j < i);
    }
    op_case c = {.n = n,
                 .how = {.norm = (int32_t)(SEQTOPK_NORM_NONE + random_below(&run.random, 3)),
                         .scale = random_below(&run.random, 2) ? 1.0f : 2.5f,
                         .least = -INFINITY},
                 .keys = case_copy(CASE_KEYS, r->keys, (size_t)n, sizeof *r->keys),
                 .scores = case_copy(CASE_VALUES, r->scores, SEQTOPK_MOST_WEIGHED, sizeof *r->scores),
                 .pair_ids = case_copy(CASE_PAIR_IDS, r->ids, SEQTOPK_MOST_WEIGHED, sizeof *r->ids),
                 .pair_offsets = case_copy(CASE_PAIR_OFFSETS, r->ranks, SEQTOPK_MOST_WEIGHED, sizeof *r->ranks)};
    if (c.how.norm == SEQTOPK_NORM_SUM && random_below(&run.random, 2))
        c.how.least = random_below(&run.random, 2) ? SEQTOPK_LEAST_SCORE : 0.02f;
    case_freeze(CASE_KEYS);
    case_freeze(CASE_VALUES);
    case_freeze(CASE_PAIR_IDS);
    case_freeze(CASE_PAIR_OFFSETS);
    return c;
}

/* What of it stays, as `stay` says, weighed by the reference. */
typedef struct kept {
    int32_t count, ids[SEQTOPK_MOST_WEIGHED];
    float weights[SEQTOPK_MOST_WEIGHED];
    int is_sound;
} kept;

static kept keep_of(const op_case *c, const ranked *r, const int *stay) {
    kept k = {.count = 0};
    for (int32_t i = 0; i < c->n; i++)
        if (stay[i]) {
            k.ids[k.count] = r->ids[i];
            k.weights[k.count++] = r->scores[i];
        }
    const int32_t offsets[] = {0, k.count};
    seqtopk_weigh_keys_fn *weigh =
        (seqtopk_weigh_keys_fn *)check_reference(SEQTOPK_OP_weigh_keys, SEQTOPK_DTYPE_F32)->function;
    k.is_sound = weigh(SEQTOPK_SCORE_LOGITS, &c->how, 0, 1, offsets, k.weights);
    return k;
}

static void expect_kept(const op_case *c, const kept *k) {
    check_that(case_intact(), "wrote beside its memory");
    check_that(memcmp(c->ids, k->ids, (size_t)k->count * sizeof *k->ids) == 0, "the ids are wrong");
    if (check_that(c->returned == k->is_sound, "returned %d", (int)c->returned) && k->is_sound)
        for (int32_t i = 0; i < k->count; i++)
            check_that(c->work[i] == k->weights[i] || (isnan(c->work[i]) && isnan(k->weights[i])),
                       "weight %d is %.9g, not %.9g", (int)i, (double)c->work[i], (double)k->weights[i]);
}

static void check_weigh_ranked(int32_t n, int kind) {
    ranked r;
    int stay[SEQTOPK_MOST_WEIGHED];
    op_case c = ranked_case(n, kind, &r);
    c.k = random_below(&run.random, (uint32_t)n + 2);
    for (int32_t i = 0; i < n; i++)
        stay[i] = r.ranks[i] < c.k;
    const kept k = keep_of(&c, &r, stay);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_weigh_ranked, -1));) {
        describe(row, n, kind);
        case_place(&c, row->op);
        case_call(&c, row);
        expect_kept(&c, &k);
    }
}

/* A limit: a word that is there, or one beside it, or an end. */
static uint64_t limit_among(const uint64_t *words, int64_t n) {
    if (n == 0 || random_below(&run.random, 8) == 0)
        return random_below(&run.random, 2) ? SEQTOPK_WORD_MOST : SEQTOPK_WORD_LEAST;
    return words[random_below(&run.random, (uint32_t)n)] + random_below(&run.random, 3) - 1;
}

static int rising_words(const void *a, const void *b) { return seqtopk_by_word(b, a); }

/* Against a past of words of the same kind, of some tokens before and the token itself. */
static void check_contest_ranked(int32_t n, int kind) {
    enum { TOKEN = 50 };
    ranked r;
    uint64_t cut[SEQTOPK_MOST_WEIGHED], words[SEQTOPK_MOST_WEIGHED];
    float note[SEQTOPK_MOST_WEIGHED];
    int stay[SEQTOPK_MOST_WEIGHED];
    op_case c = ranked_case(n, kind, &r);
    seqtopk_contest *own = &c.contest;
    own->token = TOKEN;
    own->sure = (int32_t)random_below(&run.random, (uint32_t)(n < SEQTOPK_MOST_SURE ? n : SEQTOPK_MOST_SURE) + 1);
    own->most = own->sure + (int32_t)random_below(&run.random, (uint32_t)(n - own->sure) + 1);
    own->uncontested = random_below(&run.random, 2) || own->most == own->sure
                           ? own->sure
                           : own->sure + (int32_t)random_below(&run.random, (uint32_t)(own->most - own->sure) + 1);
    const int32_t contested = own->most - own->uncontested;
    for (int32_t i = 0; i < contested; i++)
        cut[i] = kind < 2 ? seqtopk_word_of(key_of(kind) - 3.0f, random_below(&run.random, TOKEN + 1))
                          : word_of(kind, random_below(&run.random, TOKEN + 1));
    qsort(cut, (size_t)contested, sizeof *cut, rising_words);
    /* Those that are not to be read are not there. */
    own->cut =
        (const uint64_t *)case_copy(CASE_WORDS, cut, (size_t)contested, sizeof *cut) - (own->uncontested - own->sure);
    case_freeze(CASE_WORDS);
    for (int32_t i = 0; i < n; i++)
        words[i] = seqtopk_word_of(r.keys[i], TOKEN);
    own->high = limit_among(words, n);
    own->low = limit_among(words, n);
    int32_t winners = 0, above = 0, reach = 0;
    for (int32_t i = 0; i < n; i++) {
        const int32_t rank = r.ranks[i];
        stay[i] = rank < own->uncontested || (rank < own->most && words[i] >= cut[rank - own->uncontested]);
        if (rank < own->sure)
            continue;
        note[rank - own->sure] = r.keys[i];
        winners += stay[i];
        above += words[i] >= own->high;
        reach += words[i] >= own->low;
    }
    const kept k = keep_of(&c, &r, stay);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_contest_ranked, -1));) {
        describe(row, n, kind);
        case_place(&c, row->op);
        case_call(&c, row);
        expect_kept(&c, &k);
        check_that(memcmp(c.note, note, (size_t)(n - own->sure) * sizeof *note) == 0, "the note is wrong");
        check_that(own->winners == winners && own->above == above && own->reach == reach,
                   "%d win, %d above, %d reach; not %d, %d, %d", (int)own->winners, (int)own->above, (int)own->reach,
                   (int)winners, (int)above, (int)reach);
    }
}

/* ---------------------------------------------------------------- picking -- */

static void expect_picked(const op_case *c, const uint64_t *words, int64_t n) {
    int64_t count = 0, above = 0;
    int right = 1;
    for (int64_t i = 0; i < n; i++) {
        above += words[i] >= c->limits[1];
        if (words[i] < c->limits[0] || words[i] >= c->limits[1])
            continue;
        right &= count < c->returned && c->picked[count] == words[i];
        count++;
    }
    check_that(right && count == c->returned, "not the words that it should have picked");
    check_that(c->at == above, "%lld above, not %lld", (long long)c->at, (long long)above);
    check_that(case_intact(), "wrote beside what it picked");
}

/* Two limits, the lower first. */
static const uint64_t *place_limits(const uint64_t *words, int64_t n) {
    uint64_t limits[2] = {limit_among(words, n), limit_among(words, n)};
    if (limits[0] > limits[1]) {
        const uint64_t limit = limits[0];
        limits[0] = limits[1];
        limits[1] = limit;
    }
    return case_copy(CASE_LIMITS, limits, 2, sizeof *limits);
}

static void check_pick_words(int64_t n, int kind) {
    static uint64_t words[MOST];
    for (int64_t i = 0; i < n; i++)
        words[i] = word_of(kind, i / 9);
    op_case c = {.n = n, .words = case_copy(CASE_WORDS, words, (size_t)n, sizeof *words)};
    c.limits = place_limits(words, n);
    case_freeze(CASE_WORDS);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_pick_words, -1));) {
        describe(row, n, kind);
        case_place(&c, row->op);
        case_call(&c, row);
        expect_picked(&c, words, n);
    }
}

static int falling(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Rows of keys as the log has them: best first, and -inf behind the last, which some rows have early. */
static void check_pick_keys(int64_t rows, int32_t width, int kind) {
    static float keys[MOST + SEQTOPK_KEYS_SLACK];
    static uint64_t words[MOST];
    const int64_t first = random_below(&run.random, 100), stride = width + 2;
    int64_t n = 0;
    for (int64_t r = 0; r < rows; r++) {
        float *row = keys + r * stride;
        const int32_t has =
            random_below(&run.random, 4) ? width : (int32_t)random_below(&run.random, (uint32_t)width + 1);
        for (int32_t i = 0; i < width; i++)
            row[i] = i < has ? key_of(kind) : -INFINITY;
        row[width] = row[width + 1] = NAN; /* the next token's note */
        qsort(row, (size_t)width, sizeof *row, falling);
        for (int32_t i = 0; i < has; i++)
            words[n++] = seqtopk_word_of(row[i], first + r);
    }
    const size_t floats = (size_t)(rows * stride) + SEQTOPK_KEYS_SLACK / sizeof(float);
    op_case c = {.first = first,
                 .last = first + rows,
                 .experts = width,
                 .rows.stride = stride * (int64_t)sizeof(float),
                 .keys = case_copy(CASE_KEYS, keys, floats, sizeof *keys)};
    c.limits = place_limits(words, n);
    case_freeze(CASE_KEYS);
    for (const seqtopk_row *row = NULL; (row = check_next(row, SEQTOPK_OP_pick_keys, -1));) {
        describe(row, rows * 1000 + width, kind);
        case_place(&c, row->op);
        case_call(&c, row);
        expect_picked(&c, words, n);
    }
}

void check_cache(void) {
    for (int round = 0; round < (run.quick ? 4 : 40); round++)
        for (int kind = 0; kind < KINDS; kind++) {
            for (int32_t n = 0; n <= SEQTOPK_MOST_RANKED; n++) {
                check_rank_keys(n, kind);
                check_weigh_ranked(n % (SEQTOPK_MOST_WEIGHED + 1), kind);
                check_contest_ranked(n % (SEQTOPK_MOST_WEIGHED + 1), kind);
            }
            for (int64_t n = 0; n < 40; n++)
                check_pick_words(n, kind);
            check_pick_words(MOST - random_below(&run.random, 9), kind);
            for (int32_t width = 1; width <= 40; width++)
                check_pick_keys(random_below(&run.random, 30), width, kind);
        }
}
