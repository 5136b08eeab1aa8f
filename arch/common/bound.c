/* SPDX-License-Identifier: MIT */
/*
 * bound_candidates: a token that has no more candidates than may stay keeps its place, or moves up to where the one before ends,
 * and its best is raised. Of a few others each is compared with all where registers are wide (DIRECT). Of the rest, up to 16 at a
 * time, one network across them sorts the keys: that gives each token's max_experts-th key, and its min_experts-th. How many of
 * theirs stay is known before, so that nobody waits for them.
 */
#include SEQTOPK_VEC_H

#include "arch/common/columns.h"
#include "arch/common/name.h"
#include "arch/kernels.h"

/* Tokens whose candidates are to be sorted, and where those that stay of them belong. */
typedef struct {
    _Alignas(64) float keys[LANES][COLUMN_MOST];
    uint16_t ids[LANES][COLUMN_MOST];
    float last[LANES], certain[LANES]; /* the max_experts-th key, the min_experts-th */
    int32_t n[LANES];
    int64_t token[LANES], to[LANES];
    int tokens;
    int32_t min, max;
    int64_t unread; /* where candidates begin that may not be written over */
} batch;

/* Notes how many of a token's candidates are left. */
static inline void count_token(seqtopk_candidates *candidates, int64_t token, int32_t kept, int is_tied) {
    candidates->counts[token] = is_tied ? kept | SEQTOPK_TIED_AT_BOUND : kept;
    candidates->tied += is_tied;
}

/* Writes keys and ids of n candidates to place `to`; from place `unread` on nothing else: there are others' already, or still. */
static inline __attribute__((always_inline)) void write_few(const seqtopk_candidates *candidates, int64_t to, vec keys,
                                                            vec ids, int n, int64_t unread) {
    if (to + VEC_LANES <= unread) {
        vec_store(candidates->keys + to, keys);
        vec_store_u16(candidates->ids + to, ids);
        return;
    }
    int32_t some[VEC_LANES];
    vec_store_first(candidates->keys + to, keys, n);
    vec_store_bits(some, ids);
    for (int j = 0; j < n; j++)
        candidates->ids[to + j] = (uint16_t)some[j];
}

/* The largest of keys [n] in every lane. */
static inline vec largest_of(const float *keys, int32_t n) {
    vec most = vec_set1(-INFINITY);
    for (int32_t i = 0; i < n; i += VEC_LANES)
        most = vec_max(most, vec_keep_first(vec_load(keys + i), n - i, -INFINITY));
    for (int stride = VEC_LANES / 2; stride > 0; stride /= 2)
        most = vec_max(most, vec_across(most, stride));
    return most;
}

/* Moves n candidates, all of which stay, up to VEC_LANES of them, from place `from` to place `to`; of those at `certain` the
 * first is raised. Returns how many are. */
static inline __attribute__((always_inline)) int move_few(const seqtopk_candidates *candidates, int64_t from,
                                                          int64_t to, int32_t n, vec certain, int is_raised,
                                                          int64_t unread) {
    const vec key = vec_load(candidates->keys + from), id = vec_load_u16(candidates->ids + from);
    const uint32_t equal = vec_mask_eq(key, certain) & first_lanes(n);
    vec_store(candidates->order + to, vec_raise(key, is_raised ? 0 : equal & (0u - equal)));
    if (to != from) /* what the next token's load would wait for */
        write_few(candidates, to, key, id, n, unread);
    return count_bits(equal);
}

/* The same of a token's candidates, of which the best is certain if `min`. Returns whether others are as good. */
static inline __attribute__((always_inline)) int move_token(const seqtopk_candidates *candidates, int64_t from,
                                                            int64_t to, int32_t n, int32_t min) {
    const vec most = min ? largest_of(candidates->keys + from, n) : vec_set1(NAN);
    int best = 0;
    for (int32_t i = 0; i < n; i += VEC_LANES)
        best += move_few(candidates, from + i, to + i, n - i < VEC_LANES ? n - i : VEC_LANES, most, best, from + n);
    return best > 1 && vec_mask_gt(most, vec_set1(-INFINITY)) != 0;
}

/*
 * The n candidates of a token, n <= DIRECT, of which each is compared with all: how many are above it says whether it stays, if no
 * equal ones are both among the first and not. Returns whether that is so, and all is done.
 */
#ifdef VEC_JOIN
enum { DIRECT = 2 * VEC_LANES };

static inline __attribute__((always_inline)) int bound_vectors(seqtopk_candidates *candidates, int64_t token,
                                                               int64_t from, int64_t to, int32_t n, int32_t min,
                                                               int32_t max, const int vecs) {
    _Alignas(64) float keys[DIRECT];
    vec key[DIRECT / VEC_LANES], id[DIRECT / VEC_LANES];
    uint32_t stay[DIRECT / VEC_LANES], certain[DIRECT / VEC_LANES];
    int32_t kept = 0, raised = 0;
    for (int v = 0; v < vecs; v++) {
        id[v] = vec_load_u16(candidates->ids + from + v * VEC_LANES);
        key[v] = vec_keep_first(vec_load(candidates->keys + from + v * VEC_LANES), n - v * VEC_LANES, -INFINITY);
        vec_store(keys + v * VEC_LANES, key[v]);
    }
    for (int v = 0; v < vecs; v++) {
        const vec above = vec_count_above(key[v], keys, vecs * VEC_LANES);
        stay[v] = vec_mask_ints_lt(above, max) & first_lanes(n - v * VEC_LANES);
        certain[v] = vec_mask_ints_lt(above, min) & first_lanes(n - v * VEC_LANES);
        kept += count_bits(stay[v]);
        raised += count_bits(certain[v]);
    }
    if (kept != (n < max ? n : max) || raised != (n < min ? n : min))
        return 0;
    for (int v = 0; v < vecs; v++) {
        const int32_t count = count_bits(stay[v]);
        vec_store(candidates->order + to, vec_compress(vec_raise(key[v], certain[v]), stay[v]));
        write_few(candidates, to, vec_compress(key[v], stay[v]), vec_compress(id[v], stay[v]), count, from + n);
        to += count;
    }
    count_token(candidates, token, kept, 0);
    return 1;
}

static inline int bound_directly(seqtopk_candidates *candidates, int64_t token, int64_t from, int64_t to, int32_t n,
                                 int32_t min, int32_t max) {
    return n <= VEC_LANES ? bound_vectors(candidates, token, from, to, n, min, max, 1)
                          : bound_vectors(candidates, token, from, to, n, min, max, 2);
}
#else
enum { DIRECT = -1 };
static inline int bound_directly(seqtopk_candidates *candidates, int64_t token, int64_t from, int64_t to, int32_t n,
                                 int32_t min, int32_t max) {
    (void)candidates, (void)token, (void)from, (void)to, (void)n, (void)min, (void)max;
    return 0;
}
#endif

/* Writes what stays of a token's n candidates from place `to` on; from place `unread` on nothing else is written: there are
 * others' already, or still. */
static inline void write_token(const seqtopk_candidates *candidates, int64_t to, const float *keys, const uint16_t *ids,
                               int32_t n, first_k stay, first_k certain, int64_t unread) {
    for (int32_t i = 0; i < n; i += VEC_LANES) {
        const uint32_t inside = first_lanes(n - i);
        const vec key = vec_load(keys + i), id = vec_load_u16(ids + i);
        const uint32_t in = take_first(key, inside, &stay), up = take_first(key, inside, &certain);
        const int count = count_bits(in);
        const vec order = vec_compress(vec_raise(key, up), in);
        if (to + VEC_LANES > unread)
            vec_store_first(candidates->order + to, order, count);
        else
            vec_store(candidates->order + to, order);
        write_few(candidates, to, vec_compress(key, in), vec_compress(id, in), count, unread);
        to += count;
    }
}

/* Copies a token's candidates, n <= COLUMN_MOST of them, from place `from` on, before others take their place. */
static inline void read_token(batch *b, const seqtopk_candidates *candidates, int64_t token, int64_t from, int64_t to,
                              int32_t n) {
    const int r = b->tokens++;
    b->n[r] = n;
    b->token[r] = token;
    b->to[r] = to;
    for (int32_t i = 0; i < n; i += LANES) {
        memcpy(b->keys[r] + i, candidates->keys + from + i, LANES * sizeof(float));
        memcpy(b->ids[r] + i, candidates->ids + from + i, LANES * sizeof(uint16_t));
    }
}

static void sort_batch(batch *b) {
    _Alignas(64) float lines[COLUMN_MOST][LANES];
    int32_t most = 1;
    for (int r = 0; r < b->tokens; r++)
        most = b->n[r] > most ? b->n[r] : most;
    const int size = size_of_rows(most);
    for (int r = 0; r < b->tokens; r++)
        for (int32_t i = b->n[r] / VEC_LANES * VEC_LANES; i < size; i += VEC_LANES)
            vec_store(b->keys[r] + i, vec_keep_first(vec_load(b->keys[r] + i), (int64_t)b->n[r] - i, -INFINITY));
    sort_rows(b->keys[0], COLUMN_MOST, size, lines);
    kth_of_runs(lines, size, b->max < size ? b->max : size, b->last);
    kth_of_runs(lines, size, b->min < 1 ? 1 : b->min, b->certain);
}

static void write_batch(batch *b, seqtopk_candidates *candidates) {
    const first_k none = {INFINITY, 0};
    if (b->tokens == 0)
        return;
    sort_batch(b);
    for (int r = 0; r < b->tokens; r++) {
        const int32_t n = b->n[r];
        const first_k stay = first_of_row(b->keys[r], n, b->max, b->last[r]);
        const first_k certain = b->min ? first_of_row(b->keys[r], n, b->min, b->certain[r]) : none;
        write_token(candidates, b->to[r], b->keys[r], b->ids[r], n, stay, certain, b->unread);
        count_token(candidates, b->token[r], n < b->max ? n : b->max,
                    splits_equals(b->keys[r], n, stay) || (b->min && splits_equals(b->keys[r], n, certain)));
    }
    b->tokens = 0;
}

/* A token with more candidates than a network takes. */
static void bound_many(const batch *b, seqtopk_candidates *candidates, int64_t token, int64_t from, int64_t to) {
    const int32_t n = candidates->counts[token];
    const float *keys = candidates->keys + from;
    const first_k all = {-INFINITY, 0}, none = {INFINITY, 0};
    const first_k stay = n > b->max ? first_of_many(keys, n, b->max) : all;
    const first_k certain = b->min ? first_of_many(keys, n, b->min) : none;
    const int is_tied = splits_equals(keys, n, stay) || (b->min && splits_equals(keys, n, certain));
    write_token(candidates, to, keys, candidates->ids + from, n, stay, certain, 0);
    count_token(candidates, token, n < b->max ? n : b->max, is_tied);
}

void KERNEL(bound_candidates, f32, columns)(seqtopk_candidates *candidates, int64_t first, int64_t last,
                                            int32_t min_experts, int32_t max_experts) {
    const seqtopk_candidates all = *candidates;
    const int32_t most = min_experts < 2 ? max_experts : 0; /* of a token that needs no sorting */
    batch b;
    int64_t from = 0, to = 0;
    b.min = min_experts;
    b.max = max_experts;
    b.tokens = 0;
    candidates->tied = 0;
    for (int64_t t = first; t < last; t++) {
        const int32_t n = all.counts[t];
        if (n <= most) {
            count_token(candidates, t, n,
                        n <= VEC_LANES ? move_token(&all, from, to, n < VEC_LANES ? n : VEC_LANES, min_experts)
                                       : move_token(&all, from, to, n, min_experts)); /* the first without a loop */
        } else if (n <= DIRECT && bound_directly(candidates, t, from, to, n, min_experts, max_experts)) {
            /* done */
        } else if (n <= COLUMN_MOST) {
            read_token(&b, candidates, t, from, to, n);
        } else {
            write_batch(&b, candidates); /* whose whole vectors would reach into this token's places */
            bound_many(&b, candidates, t, from, to);
        }
        from += n;
        to += n < max_experts ? n : max_experts;
        b.unread = most || DIRECT > 0 ? 0 : from;
        if (b.tokens == LANES)
            write_batch(&b, candidates);
    }
    write_batch(&b, candidates);
    candidates->size = to;
}
