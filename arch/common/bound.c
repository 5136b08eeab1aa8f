/* SPDX-License-Identifier: MIT */
/*
 * bound_candidates: a token that has no more candidates than may stay is copied, its best raised. Of a few others each is compared
 * with all where registers are wide (DIRECT). The rest, up to 16 at a time, are sorted by one network across them, which gives
 * each token's max_experts-th key and its min_experts-th.
 */
#include SEQTOPK_VEC_H

#include "arch/common/columns.h"
#include "arch/common/name.h"
#include "arch/kernels.h"

/* Where a token's candidates stand, and where what stays of them goes: some places before, so that whole vectors are written and
 * none is read that was just written. */
typedef struct {
    const float *keys;
    const uint16_t *ids;
    int32_t n;
    float *to_keys, *to_order;
    uint16_t *to_ids;
} moved;

static inline void write_vector(moved *m, vec key, vec order, vec id, uint32_t stay) {
    const int count = count_bits(stay);
    vec_store(m->to_keys, vec_compress(key, stay));
    vec_store(m->to_order, vec_compress(order, stay));
    vec_store_u16(m->to_ids, vec_compress(id, stay));
    m->to_keys += count;
    m->to_order += count;
    m->to_ids += count;
}

/* ------------------------------------------------------------------ all stay -- */

/* The largest of keys [n] in every lane. */
static inline vec largest_of(const float *keys, int32_t n) {
    vec most = vec_set1(-INFINITY);
    for (int32_t i = 0; i < n; i += VEC_LANES)
        most = vec_max(most, vec_keep_first(vec_load(keys + i), n - i, -INFINITY));
    return largest_across(most, VEC_LANES);
}

/* All candidates stay, and the best is certain if `min`. Returns whether others are as good. */
static inline __attribute__((always_inline)) int copy_token(moved *m, int32_t n, int32_t min) {
    const vec certain = min ? largest_of(m->keys, n) : vec_set1(NAN);
    int best = 0;
    for (int32_t i = 0; i < n; i += VEC_LANES) {
        const vec key = vec_load(m->keys + i);
        const uint32_t equal = vec_mask_eq(key, certain) & first_lanes(n - i);
        vec_store(m->to_keys + i, key);
        vec_store(m->to_order + i, vec_raise(key, best ? 0 : equal & (0u - equal)));
        vec_store_u16(m->to_ids + i, vec_load_u16(m->ids + i));
        best += count_bits(equal);
    }
    m->to_keys += n;
    m->to_order += n;
    m->to_ids += n;
    return best > 1 && vec_mask_gt(certain, vec_set1(-INFINITY)) != 0;
}

/* ----------------------------------------------------------------- some stay -- */

/* Writes the first ones that `stay`, of which those that are `certain`, if `min`, are raised. Returns whether a bound has equal keys
 * on either side. */
static inline int write_first(moved *m, int32_t min, first_k stay, first_k certain) {
    const int is_tied = splits_equals(m->keys, m->n, stay) || (min && splits_equals(m->keys, m->n, certain));
    for (int32_t i = 0; i < m->n; i += VEC_LANES) {
        const uint32_t inside = first_lanes(m->n - i);
        const vec key = vec_load(m->keys + i), id = vec_load_u16(m->ids + i);
        const uint32_t in = take_first(key, inside, &stay), up = take_first(key, inside, &certain);
        write_vector(m, key, vec_raise(key, up), id, in);
    }
    return is_tied;
}

/* The same where the max-th key is known, and the min-th. */
static inline int write_by_last(moved *m, int32_t min, int32_t max, float last, float last_certain) {
    const first_k none = {INFINITY, 0};
    return write_first(m, min, first_of_row(m->keys, m->n, max, last),
                       min ? first_of_row(m->keys, m->n, min, last_certain) : none);
}

/* Of more candidates than a network takes. */
static __attribute__((noinline)) int write_many(moved *m, int32_t min, int32_t max) {
    const first_k all = {-INFINITY, 0}, none = {INFINITY, 0};
    return write_first(m, min, m->n > max ? first_of_many(m->keys, m->n, max) : all,
                       min ? first_of_many(m->keys, m->n, min) : none);
}

#ifdef VEC_JOIN
enum { DIRECT = 2 * VEC_LANES };

/* The smallest of the keys of a mask. */
static inline float smallest_of(const vec *keys, const uint32_t *masks, int vecs) {
    float least = INFINITY;
    for (int v = 0; v < vecs; v++)
        least = masks[v] ? fminf(least, -vec_largest_of(vec_sub(vec_set1(0.0f), keys[v]), masks[v])) : least;
    return least;
}

/* Up to DIRECT candidates, each compared with all: how many are above it says whether it stays, if no equal ones are both among the
 * first and not. */
static inline __attribute__((always_inline)) int write_vectors(moved *m, int32_t min, int32_t max, const int vecs) {
    _Alignas(64) float keys[DIRECT];
    vec key[DIRECT / VEC_LANES];
    uint32_t stay[DIRECT / VEC_LANES], certain[DIRECT / VEC_LANES];
    int32_t kept = 0, raised = 0;
    for (int v = 0; v < vecs; v++) {
        key[v] = vec_keep_first(vec_load(m->keys + v * VEC_LANES), m->n - v * VEC_LANES, -INFINITY);
        vec_store(keys + v * VEC_LANES, key[v]);
    }
    for (int v = 0; v < vecs; v++) {
        const vec above = vec_count_above(key[v], keys, vecs * VEC_LANES);
        stay[v] = vec_mask_ints_lt(above, max) & first_lanes(m->n - v * VEC_LANES);
        certain[v] = vec_mask_ints_lt(above, min) & first_lanes(m->n - v * VEC_LANES);
        kept += count_bits(stay[v]);
        raised += count_bits(certain[v]);
    }
    if (kept != (m->n < max ? m->n : max) || raised != (m->n < min ? m->n : min))
        return write_by_last(m, min, max, smallest_of(key, stay, vecs), smallest_of(key, certain, vecs));
    for (int v = 0; v < vecs; v++)
        write_vector(m, key[v], vec_raise(key[v], certain[v]), vec_load_u16(m->ids + v * VEC_LANES), stay[v]);
    return 0;
}

static inline int write_directly(moved *m, int32_t min, int32_t max) {
    return m->n <= VEC_LANES ? write_vectors(m, min, max, 1) : write_vectors(m, min, max, 2);
}
#else
enum { DIRECT = 0 }; /* none: nobody asks */
static inline int write_directly(moved *m, int32_t min, int32_t max) { return write_many(m, min, max); }
#endif

/* Tokens whose candidates a network sorts. */
typedef struct {
    _Alignas(64) float keys[LANES][COLUMN_MOST];
    float last[LANES], certain[LANES]; /* the max_experts-th key, the min_experts-th */
    int32_t n[LANES];
    int tokens;
} network;

static inline void add_token(network *w, const float *keys, int32_t n) {
    const int r = w->tokens++;
    w->n[r] = n;
    for (int32_t i = 0; i < n; i += LANES)
        memcpy(w->keys[r] + i, keys + i, LANES * sizeof *keys);
}

static void sort_tokens(network *w, int32_t min, int32_t max) {
    _Alignas(64) float lines[COLUMN_MOST][LANES];
    int32_t most = 1;
    for (int r = 0; r < w->tokens; r++)
        most = w->n[r] > most ? w->n[r] : most;
    const int size = size_of_rows(most);
    for (int r = 0; r < w->tokens; r++)
        for (int32_t i = w->n[r] / VEC_LANES * VEC_LANES; i < size; i += VEC_LANES)
            vec_store(w->keys[r] + i, vec_keep_first(vec_load(w->keys[r] + i), (int64_t)w->n[r] - i, -INFINITY));
    sort_rows(w->keys[0], COLUMN_MOST, size, lines);
    kth_of_runs(lines, size, max < size ? max : size, w->last);
    kth_of_runs(lines, size, min < 1 ? 1 : min, w->certain);
}

/* -------------------------------------------------------------------- kernel -- */

void KERNEL(bound_candidates, f32, columns)(const seqtopk_candidates *from, int64_t first, int64_t last,
                                            int32_t min_experts, int32_t max_experts, seqtopk_candidates *to) {
    enum { AT_ONCE = 128 };
    const int32_t most = min_experts < 2 ? max_experts : 0; /* of a token that needs no sorting */
    const int32_t *counts = from->counts;
    const float *keys = from->keys;
    moved m = {.keys = from->keys, .ids = from->ids, .to_keys = to->keys, .to_order = to->order, .to_ids = to->ids};
    network sorted;
    to->tied = 0;
    for (int64_t t = first, next; t < last;) {
        int row = 0;
        sorted.tokens = 0;
        for (next = t; next < last && next - t < AT_ONCE && sorted.tokens < LANES; next++) {
            const int32_t n = counts[next];
            if (n > most && n > DIRECT && n <= COLUMN_MOST)
                add_token(&sorted, keys, n);
            keys += n;
        }
        if (sorted.tokens)
            sort_tokens(&sorted, min_experts, max_experts);
        for (; t < next; t++) {
            const int32_t n = m.n = counts[t], kept = n < max_experts ? n : max_experts;
            int is_tied;
            if (n <= most) {
                is_tied = n <= VEC_LANES ? copy_token(&m, n < VEC_LANES ? n : VEC_LANES, min_experts)
                                         : copy_token(&m, n, min_experts); /* the first without a loop */
            } else if (n <= DIRECT) {
                is_tied = write_directly(&m, min_experts, max_experts);
            } else if (n <= COLUMN_MOST) {
                is_tied = write_by_last(&m, min_experts, max_experts, sorted.last[row], sorted.certain[row]);
                row++;
            } else {
                is_tied = write_many(&m, min_experts, max_experts);
            }
            to->counts[t] = is_tied ? kept | SEQTOPK_TIED_AT_BOUND : kept;
            to->tied += is_tied;
            m.keys += n;
            m.ids += n;
        }
    }
    to->size = m.to_keys - to->keys;
}
