/* SPDX-License-Identifier: MIT */
/*
 * Log-probabilities are rounded, and saturate: of one token, logits that differ may have equal ones. Its candidates are told
 * apart by the logits then, so that a token alone is given in sequence scope what it is given in token scope. Other keys need
 * none of this. How many candidates a token is given never depends on it, only which; hence it is asked only where a cut or a
 * bound has equal keys of one token on both sides.
 */
#include "src/route/call.h"

#include <math.h>
#include <string.h>

int seqtopk_tells_by_logit(const seqtopk_call *call) { return call->rows.key == SEQTOPK_KEY_LOGPROB; }

const float *seqtopk_logits_of(const seqtopk_call *call, int64_t token) {
    seqtopk_call own = *call;
    own.rows.key = SEQTOPK_KEY_LOGIT;
    seqtopk_rows_keys(&own, token, token + 1, own.work.scores);
    return own.work.scores;
}

/* Whether ids [n], the first by key, are so by logit as well: no two keys are alike, and none that was left out is like the last. */
static int is_certain(const float *keys, int32_t experts, const int32_t *ids, int32_t n) {
    int32_t alike = -1;
    for (int32_t i = 1; i < n; i++)
        alike += keys[ids[i - 1]] == keys[ids[i]];
    for (int32_t e = 0; e < experts; e++)
        alike += keys[e] == keys[ids[n - 1]];
    return alike == 0;
}

/* Inserts an id behind those of ids [from, size) that come before it by logit; it must have place. */
static void insert_by_logit(const float *logits, int32_t id, int32_t *ids, int32_t from, int32_t size) {
    int32_t at = size;
    for (; at > from && logits[ids[at - 1]] < logits[id]; at--)
        ids[at] = ids[at - 1];
    ids[at] = id;
}

int32_t seqtopk_rank_row(const seqtopk_call *call, int64_t token, const float *keys, int32_t k, int32_t *ids) {
    const int32_t experts = call->rows.experts, n = call->kernels->topk_row(keys, experts, k, ids);
    if (!seqtopk_tells_by_logit(call) || n < 1 || is_certain(keys, experts, ids, n))
        return n;
    const float *logits = seqtopk_logits_of(call, token), last = keys[ids[n - 1]];
    int32_t size = 0, run = 0; /* where those like the one in hand begin */
    for (; size < n && keys[ids[size]] > last; size++) {
        run = size > 0 && keys[ids[size - 1]] == keys[ids[size]] ? run : size;
        insert_by_logit(logits, ids[size], ids, run, size);
    }
    run = size;
    for (int32_t e = 0; e < experts; e++) /* of those like the last only some have place */
        if (keys[e] == last && (size < n || logits[ids[n - 1]] < logits[e])) {
            size -= size == n;
            insert_by_logit(logits, e, ids, run, size++);
        }
    return n;
}

/* A mark for each of a row's first n. */
static const uint8_t *mark_first(const seqtopk_call *call, int64_t token, const float *keys, int32_t n) {
    uint8_t *marks = (uint8_t *)call->work.key_ids;
    int32_t *ids = call->work.group_ids;
    const int32_t size = seqtopk_rank_row(call, token, keys, n, ids);
    memset(marks, 0, (size_t)call->rows.experts);
    for (int32_t i = 0; i < size; i++)
        marks[ids[i]] = 1;
    return marks;
}

int32_t seqtopk_list_of_row(const seqtopk_call *call, int64_t token, const float *row, int32_t n, int32_t *ids,
                            float *keys) {
    const uint8_t *marks = mark_first(call, token, row, n);
    int32_t at = 0;
    for (int32_t e = 0; e < call->rows.experts; e++)
        if (marks[e]) {
            if (keys)
                keys[at] = row[e];
            ids[at++] = e;
        }
    return at;
}

int32_t seqtopk_list_first(const seqtopk_call *call, int64_t token, int32_t n, int32_t *ids, float *keys) {
    float *row = call->work.spare;
    seqtopk_grouped_keys(call, token, token + 1, row);
    return seqtopk_list_of_row(call, token, row, n, ids, keys);
}

/* ------------------------------------------------------------------ bounds -- */

/* Whether logits of a type of 16 bits, which stand far apart, could have equal keys: no, unless they are next to nothing. */
static int may_be_alike(const seqtopk_call *call, int64_t token, const float *keys, int32_t n) {
    const float shift = call->rows.shift[token], lse = call->rows.lse[token];
    int may = call->plan->desc.dtype == SEQTOPK_DTYPE_F32 || call->work.prepared || !(fabsf(shift) < 1e30f);
    for (int32_t i = 0; i < n && !may; i++)
        may = fabsf(keys[i] + shift + lse) <= 0x1p-9f * (fabsf(keys[i]) + fabsf(shift) + fabsf(lse));
    return may;
}

/* Chooses a token's candidates [n] anew, and which of them are certain. */
static void choose(const seqtopk_call *call, seqtopk_candidates *candidates, int64_t at, int64_t token, int32_t n) {
    const int32_t min = call->plan->min_experts;
    float *keys = call->work.keys;
    int32_t *ids = call->work.ids;
    seqtopk_grouped_keys(call, token, token + 1, keys);
    const int32_t size = seqtopk_list_of_row(call, token, keys, n, ids, NULL);
    const int32_t *ranked = call->work.group_ids; /* where mark_first left them, best first */
    for (int32_t i = 0; i < size; i++) {
        float order = keys[ids[i]];
        for (int32_t r = 0; r < min && r < size; r++)
            order = ranked[r] == ids[i] ? INFINITY : order;
        candidates->ids[at + i] = (uint16_t)ids[i];
        candidates->keys[at + i] = keys[ids[i]];
        candidates->order[at + i] = order;
    }
}

void seqtopk_settle_bounds(const seqtopk_call *call, seqtopk_candidates *candidates, int64_t first, int64_t last) {
    int64_t at = 0;
    for (int64_t t = first; t < last && candidates->tied > 0; t++) {
        const int32_t n = candidates->counts[t] & ~SEQTOPK_TIED_AT_BOUND, is_tied = n != candidates->counts[t];
        candidates->counts[t] = n;
        candidates->tied -= is_tied;
        if (is_tied && seqtopk_tells_by_logit(call) && may_be_alike(call, t, candidates->keys + at, n))
            choose(call, candidates, at, t, n);
        at += n;
    }
}
