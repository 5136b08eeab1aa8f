/* SPDX-License-Identifier: MIT */
/*
 * bound_candidates: up to 16 tokens at a time, whose candidates' keys are sorted by one network across them: that gives each
 * token's max_experts-th key, and its min_experts-th.
 */
#include SEQTOPK_VEC_H

#include "arch/common/columns.h"
#include "arch/common/name.h"
#include "arch/kernels.h"

typedef struct {
    _Alignas(64) float keys[LANES][COLUMN_MOST];
    uint16_t ids[LANES][COLUMN_MOST];
    float last[LANES], certain[LANES]; /* the max_experts-th key, the min_experts-th */
    int32_t n[LANES];
    int tokens;
    int32_t min, max;
    int64_t from, to; /* where their candidates were, and where they go */
    int64_t unread;   /* where those of later tokens begin */
} batch;

/* The largest of keys [n], n a multiple of 16. */
static inline float largest_of(const float *keys, int n) {
    vec most = vec_load(keys);
    for (int i = VEC_LANES; i < n; i += VEC_LANES)
        most = vec_max(most, vec_load(keys + i));
    return largest_lane(most);
}

/* Notes how many of a token's candidates are left. */
static inline void count_token(seqtopk_candidates *candidates, int64_t token, int32_t kept, int is_tied) {
    candidates->counts[token] = is_tied ? kept | SEQTOPK_TIED_AT_BOUND : kept;
    candidates->tied += is_tied;
}

/* Copies the candidates of tokens from `first` on, as long as there are no more of a token than a network takes. */
static void read_batch(batch *b, const seqtopk_candidates *candidates, int64_t first, int64_t last) {
    int64_t at = b->from;
    int32_t most = 1;
    b->tokens = 0;
    for (int64_t t = first; t < last && b->tokens < LANES && candidates->counts[t] <= COLUMN_MOST; t++) {
        const int32_t n = candidates->counts[t];
        most = n > most ? n : most;
        for (int32_t i = 0; i < n; i += LANES) {
            memcpy(b->keys[b->tokens] + i, candidates->keys + at + i, LANES * sizeof(float));
            memcpy(b->ids[b->tokens] + i, candidates->ids + at + i, LANES * sizeof(uint16_t));
        }
        b->n[b->tokens++] = n;
        at += n;
    }
    b->unread = at;
    const int size = size_of_rows(most);
    for (int r = 0; r < b->tokens; r++)
        for (int32_t i = b->n[r] / VEC_LANES * VEC_LANES; i < size; i += VEC_LANES)
            vec_store(b->keys[r] + i, vec_keep_first(vec_load(b->keys[r] + i), (int64_t)b->n[r] - i, -INFINITY));
    if (most <= b->max && b->min < 2) {
        for (int r = 0; r < b->tokens && b->min; r++)
            b->certain[r] = largest_of(b->keys[r], size);
    } else if (most > b->max || most > b->min) {
        _Alignas(64) float lines[COLUMN_MOST][LANES];
        sort_rows(b->keys[0], COLUMN_MOST, size, lines);
        kth_of_runs(lines, size, b->max < size ? b->max : size, b->last);
        kth_of_runs(lines, size, b->min < 1 ? 1 : b->min, b->certain);
    }
}

/* Writes what stays of a token's n candidates from place `to` on; returns how many. From place `unread` on no keys or ids
 * but those are written: there stand candidates that are still to be read. */
static inline int32_t write_token(seqtopk_candidates *candidates, int64_t to, const float *keys, const uint16_t *ids,
                                  int32_t n, first_k stay, first_k certain, int64_t unread) {
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i += VEC_LANES) {
        const uint32_t inside = first_lanes(n - i);
        const vec key = vec_load(keys + i), id = vec_load_u16(ids + i);
        const uint32_t in = take_first(key, inside, &stay), up = take_first(key, inside, &certain);
        const int count = count_bits(in);
        const int64_t at = to + kept;
        vec_store(candidates->order + at, vec_compress(vec_raise(key, up), in));
        if (at + VEC_LANES > unread) {
            int32_t some[VEC_LANES];
            vec_store_first(candidates->keys + at, vec_compress(key, in), count);
            vec_store_bits(some, vec_compress(id, in));
            for (int j = 0; j < count; j++)
                candidates->ids[at + j] = (uint16_t)some[j];
        } else {
            vec_store(candidates->keys + at, vec_compress(key, in));
            vec_store_u16(candidates->ids + at, vec_compress(id, in));
        }
        kept += count;
    }
    return kept;
}

static void write_batch(batch *b, seqtopk_candidates *candidates, int64_t first) {
    const first_k none = {INFINITY, 0};
    for (int r = 0; r < b->tokens; r++) {
        const int32_t n = b->n[r];
        const first_k stay = first_of_row(b->keys[r], n, b->max, b->last[r]);
        const first_k certain = b->min ? first_of_row(b->keys[r], n, b->min, b->certain[r]) : none;
        const int is_tied = splits_equals(b->keys[r], n, stay) || (b->min && splits_equals(b->keys[r], n, certain));
        const int32_t kept = write_token(candidates, b->to, b->keys[r], b->ids[r], n, stay, certain, b->unread);
        count_token(candidates, first + r, kept, is_tied);
        b->from += n;
        b->to += kept;
    }
}

/* A token with more candidates than a network takes. */
static void bound_many(batch *b, seqtopk_candidates *candidates, int64_t token) {
    const int32_t n = candidates->counts[token];
    const float *keys = candidates->keys + b->from;
    const first_k all = {-INFINITY, 0}, none = {INFINITY, 0};
    const first_k stay = n > b->max ? first_of_many(keys, n, b->max) : all;
    const first_k certain = b->min ? first_of_many(keys, n, b->min) : none;
    const int is_tied = splits_equals(keys, n, stay) || (b->min && splits_equals(keys, n, certain));
    const int32_t kept = write_token(candidates, b->to, keys, candidates->ids + b->from, n, stay, certain, 0);
    count_token(candidates, token, kept, is_tied);
    b->from += n;
    b->to += kept;
}

void KERNEL(bound_candidates, f32, columns)(seqtopk_candidates *candidates, int64_t first, int64_t last,
                                            int32_t min_experts, int32_t max_experts) {
    batch b;
    b.min = min_experts;
    b.max = max_experts;
    b.from = b.to = 0;
    candidates->tied = 0;
    for (int64_t t = first; t < last;) {
        read_batch(&b, candidates, t, last);
        write_batch(&b, candidates, t);
        t += b.tokens;
        if (b.tokens == 0)
            bound_many(&b, candidates, t++);
    }
    candidates->size = b.to;
}
