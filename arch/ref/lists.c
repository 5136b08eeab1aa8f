/* SPDX-License-Identifier: MIT */
/* Lists in plain C: list_keys and list_candidates (token-major), histogram and scatter (expert-major), and candidates. */
#include "arch/kernels.h"

#include <seqtopk/seqtopk.h>

#include <math.h>

int32_t seqtopk_list_keys_f32__ref_scan(const float *keys, int32_t experts, int64_t token, const seqtopk_cut *cut,
                                        int32_t *ids) {
    /* Among equals of the cut's key, this row takes part up to this expert. */
    const int32_t ties = token < cut->token ? experts : token == cut->token ? cut->expert + 1 : 0;
    int32_t n = 0;
    for (int32_t e = 0; e < experts; e++) {
        const float key = keys[e];
        if (key > cut->key || (key == cut->key && e < ties) || key == INFINITY) {
            if (ids)
                ids[n] = e;
            n++;
        }
    }
    return n;
}

void seqtopk_collect_keys_f32__ref_scan(const float *keys, int32_t experts, int64_t first, int64_t last, float low,
                                        seqtopk_candidates *candidates) {
    int64_t size = candidates->size;
    for (int64_t t = first; t < last; t++, keys += experts) {
        const int64_t begin = size;
        for (int32_t e = 0; e < experts; e++) {
            if (!(keys[e] >= low))
                continue;
            if (size == candidates->capacity) {
                candidates->size = -1;
                return;
            }
            candidates->keys[size] = keys[e];
            candidates->ids[size++] = (uint16_t)e;
        }
        candidates->counts[t] = (int32_t)(size - begin);
    }
    candidates->size = size;
}

/* The arithmetic is in rows.c. */
static float score_of(int32_t score, float key) {
    static const seqtopk_weighing plain = {.norm = SEQTOPK_NORM_NONE, .scale = 1.0f};
    static const int32_t own[] = {0, 1};
    seqtopk_weigh_keys_f32__ref_lanes16(score, &plain, 0, 1, own, &key);
    return key;
}

int64_t seqtopk_list_candidates_f32__ref_scan(const seqtopk_candidates *from, int64_t first, int64_t last, float key,
                                              int ties, const seqtopk_lists *to, int64_t at, int64_t end) {
    int64_t i = 0;
    (void)end; /* for kernels that write more than they count */
    for (int64_t t = first; t < last; t++) {
        if (to)
            to->offsets[t] = (int32_t)at;
        for (const int64_t next = i + from->counts[t]; i < next; i++) {
            if (!(from->order[i] > key || (ties && from->order[i] == key)))
                continue;
            if (to) {
                to->ids[at] = from->ids[i];
                to->keys[at] = to->to_scores ? score_of(to->score, from->keys[i]) : from->keys[i];
            }
            at++;
        }
    }
    return at;
}

/* How many of keys [n] stand before the i-th in a token's order. */
static int32_t rank_of(const float *keys, int32_t n, int32_t i) {
    int32_t before = 0;
    for (int32_t j = 0; j < n; j++)
        before += keys[j] > keys[i] || (keys[j] == keys[i] && j < i);
    return before;
}

void seqtopk_bound_candidates_f32__ref_count(seqtopk_candidates *candidates, int64_t first, int64_t last,
                                             int32_t min_experts, int32_t max_experts) {
    int64_t from = 0, to = 0;
    for (int64_t t = first; t < last; t++) {
        const int32_t n = candidates->counts[t];
        int32_t kept = 0;
        for (int32_t i = 0; i < n; i++) /* ranks wait in `order` until all are known */
            candidates->order[from + i] = (float)rank_of(candidates->keys + from, n, i);
        for (int32_t i = 0; i < n; i++) {
            const float rank = candidates->order[from + i], key = candidates->keys[from + i];
            if (rank >= (float)max_experts)
                continue;
            candidates->keys[to + kept] = key;
            candidates->ids[to + kept] = candidates->ids[from + i];
            candidates->order[to + kept] = rank < (float)min_experts ? INFINITY : key;
            kept++;
        }
        candidates->counts[t] = kept;
        from += n;
        to += kept;
    }
    candidates->size = to;
}

void seqtopk_histogram_i32__ref_scan(const int32_t *ids, int64_t n, int32_t *histogram) {
    for (int64_t i = 0; i < n; i++)
        histogram[ids[i]]++;
}

void seqtopk_scatter_i32__ref_scan(const int32_t *offsets, const int32_t *ids, int64_t first, int64_t last,
                                   int32_t experts, int32_t *cursors, int32_t *work, int32_t *tokens, int32_t *slots) {
    (void)experts; /* for kernels that go over the experts */
    (void)work;
    for (int64_t t = first; t < last; t++)
        for (int32_t slot = offsets[t]; slot < offsets[t + 1]; slot++) {
            const int32_t place = cursors[ids[slot]]++;
            if (tokens)
                tokens[place] = (int32_t)t;
            if (slots)
                slots[place] = slot;
        }
}
