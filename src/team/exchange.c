/* SPDX-License-Identifier: MIT */
/* Which rows go where in an all-to-all: see seqtopk_exchange_make. */
#include "src/abi.h"
#include "src/status.h"

#include <stdint.h>
#include <string.h>

/* A call: the exchange, and what it works in. */
typedef struct job {
    seqtopk_exchange x;
    const int32_t *offsets, *ids;
    int64_t tokens, pairs;
    int32_t copies;
    int32_t *copy_at; /* [copies + 1]: where each copy's pairs, */
    int32_t *row_at;  /* [destinations + 1]: and each destination's rows begin */
    int32_t *seen;    /* [destinations]: the row that a token has there, where tokens go once */
} job;

static int32_t copies_of(const seqtopk_exchange *x) {
    return x->copy_offsets ? x->copy_offsets[x->experts] : x->experts;
}

static size_t work_size(int64_t copies, int64_t destinations) {
    return ((size_t)copies + 2 * (size_t)destinations + 3) * sizeof(int32_t);
}

size_t seqtopk_exchange_scratch_size(int32_t copies, int32_t destinations) {
    return copies < 1 || destinations < 1 ? 0 : work_size(copies, destinations);
}

/* The copy of its expert that a pair goes to. */
static int32_t copy_of(const job *j, int64_t slot) {
    const int32_t e = j->ids[slot];
    if (!j->x.copy_offsets)
        return e;
    const int32_t first = j->x.copy_offsets[e], n = j->x.copy_offsets[e + 1] - first;
    return n == 1 ? first : first + (int32_t)((uint64_t)(slot + j->x.turn) % (uint64_t)n);
}

static seqtopk_status check_copies(const seqtopk_exchange *x, seqtopk_error *error) {
    if (x->experts < 1 || x->destinations < 1)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "exchange.experts is %d, destinations %d; both must be 1 or more", (int)x->experts,
                            (int)x->destinations);
    if (!x->places)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "exchange.places is NULL");
    if (x->turn < 0 || x->turn > INT32_MAX)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "exchange.turn is %lld; it must be 0 to 2^31-1",
                            (long long)x->turn);
    for (int32_t e = 0; x->copy_offsets && e < x->experts; e++)
        if (x->copy_offsets[0] != 0 || x->copy_offsets[e + 1] <= x->copy_offsets[e])
            return seqtopk_fail(
                error, SEQTOPK_E_SHAPE, -1,
                "exchange.copy_offsets[%d] is %d after %d; they begin at 0, and every expert has a copy", (int)e + 1,
                (int)x->copy_offsets[e + 1], (int)x->copy_offsets[e]);
    for (int32_t c = 0, n = copies_of(x); c < n; c++)
        if (x->places[c] < 0 || x->places[c] >= x->destinations)
            return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "exchange.places[%d] is %d; it must be 0 to %d", (int)c,
                                (int)x->places[c], (int)x->destinations - 1);
    return SEQTOPK_OK;
}

static seqtopk_status check_lists(const job *j, seqtopk_error *error) {
    for (int64_t t = 0; t < j->tokens; t++)
        if (j->offsets[0] != 0 || j->offsets[t + 1] < j->offsets[t])
            return seqtopk_fail(error, SEQTOPK_E_SHAPE, t,
                                "token_offsets[%lld] is %d after %d; they begin at 0 and never fall", (long long)t + 1,
                                (int)j->offsets[t + 1], (int)j->offsets[t]);
    if (j->pairs > 0 && !j->ids)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "expert_ids is NULL");
    for (int64_t i = 0; i < j->pairs; i++)
        if (j->ids[i] < 0 || j->ids[i] >= j->x.experts)
            return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "expert_ids[%lld] is %d; it must be 0 to %d", (long long)i,
                                (int)j->ids[i], (int)j->x.experts - 1);
    return SEQTOPK_OK;
}

/* Counts, where each one's begin, and the sum of all. */
static int32_t accumulate(int32_t *counts, int32_t n) {
    int32_t at = 0;
    for (int32_t i = 0; i <= n; i++) {
        const int32_t own = i < n ? counts[i] : 0;
        counts[i] = at;
        at += own;
    }
    return at;
}

static void tell_counts(const job *j, int32_t rows) {
    const seqtopk_exchange *x = &j->x;
    if (x->send_offsets)
        memcpy(x->send_offsets, j->row_at, ((size_t)x->destinations + 1) * sizeof(int32_t));
    for (int32_t d = 0; x->send_counts && d < x->destinations; d++)
        x->send_counts[d] = j->row_at[d + 1] - j->row_at[d];
    if (x->rows)
        *x->rows = rows;
}

static void put(const job *j, int32_t row, int32_t place, int64_t slot) {
    if (j->x.slot_rows)
        j->x.slot_rows[slot] = row;
    if (j->x.row_slots)
        j->x.row_slots[place] = (int32_t)slot;
}

/* A row for each pair: by destination, there by copy, and of a copy by slot. */
static void send_pairs(const job *j) {
    const seqtopk_exchange *x = &j->x;
    /* Copies in the order of destinations: where each one's pairs begin. */
    for (int32_t c = 0; c < j->copies; c++)
        j->row_at[x->places[c]] += j->copy_at[c];
    tell_counts(j, accumulate(j->row_at, x->destinations));
    for (int32_t c = 0; c < j->copies; c++) {
        const int32_t own = j->copy_at[c];
        if (x->copy_counts)
            x->copy_counts[c] = own;
        j->copy_at[c] = j->row_at[x->places[c]];
        j->row_at[x->places[c]] += own;
    }
    for (int64_t t = 0; t < j->tokens; t++)
        for (int64_t i = j->offsets[t]; i < j->offsets[t + 1]; i++) {
            const int32_t row = j->copy_at[copy_of(j, i)]++;
            put(j, row, row, i);
            if (x->send_tokens)
                x->send_tokens[row] = (int32_t)t;
            if (x->row_offsets)
                x->row_offsets[row] = row;
        }
    if (x->row_offsets)
        x->row_offsets[j->pairs] = (int32_t)j->pairs;
}

/* A row for each token and destination: by destination, and there by token. */
static void send_tokens(const job *j) {
    const seqtopk_exchange *x = &j->x;
    for (int32_t d = 0; d < x->destinations; d++)
        j->seen[d] = -1;
    for (int64_t t = 0; t < j->tokens; t++)
        for (int64_t i = j->offsets[t]; i < j->offsets[t + 1]; i++) {
            const int32_t d = x->places[copy_of(j, i)];
            j->row_at[d] += j->seen[d] != (int32_t)t;
            j->seen[d] = (int32_t)t;
        }
    const int32_t rows = accumulate(j->row_at, x->destinations);
    tell_counts(j, rows);
    for (int32_t c = 0; x->copy_counts && c < j->copies; c++)
        x->copy_counts[c] = j->copy_at[c];
    for (int32_t d = 0; d < x->destinations; d++)
        j->seen[d] = -1;
    for (int32_t row = 0; x->row_offsets && row <= rows; row++)
        x->row_offsets[row] = 0;
    for (int64_t t = 0; t < j->tokens; t++)
        for (int64_t i = j->offsets[t]; i < j->offsets[t + 1]; i++) {
            const int32_t d = x->places[copy_of(j, i)];
            j->row_at[d] += j->seen[d] != (int32_t)t;
            j->seen[d] = (int32_t)t;
            const int32_t row = j->row_at[d] - 1;
            if (x->send_tokens)
                x->send_tokens[row] = (int32_t)t;
            if (x->slot_rows)
                x->slot_rows[i] = row;
            if (x->row_offsets)
                x->row_offsets[row + 1]++;
        }
    if (!x->row_offsets)
        return;
    for (int32_t row = 0; row < rows; row++)
        x->row_offsets[row + 1] += x->row_offsets[row];
    /* Each row's pairs, in the order of slots: offsets move on, and back. */
    for (int64_t i = 0; x->row_slots && i < j->pairs; i++)
        x->row_slots[x->row_offsets[x->slot_rows[i]]++] = (int32_t)i;
    for (int32_t row = rows; x->row_slots && row > 0; row--)
        x->row_offsets[row] = x->row_offsets[row - 1];
    x->row_offsets[0] = 0;
}

seqtopk_status seqtopk_exchange_make(const seqtopk_exchange *exchange, int64_t tokens, const int32_t *token_offsets,
                                     const int32_t *expert_ids, void *scratch, size_t scratch_size,
                                     seqtopk_error *error) {
    job j = {.offsets = token_offsets, .ids = expert_ids, .tokens = tokens};
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    seqtopk_status status = seqtopk_take_struct(&j.x, sizeof j.x, SEQTOPK_FIRST_exchange, exchange, "exchange", error);
    if (!status)
        status = check_copies(&j.x, error);
    if (status)
        return status;
    if (!token_offsets || !scratch)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "%s is NULL", scratch ? "token_offsets" : "scratch");
    if (tokens < 0 || tokens > INT32_MAX)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "tokens is %lld; it must be 0 to 2^31-1", (long long)tokens);
    j.copies = copies_of(&j.x);
    j.pairs = token_offsets[tokens];
    if (scratch_size < work_size(j.copies, j.x.destinations))
        return seqtopk_fail(error, SEQTOPK_E_CAPACITY, -1,
                            "scratch has %zu bytes; this call needs %zu (seqtopk_exchange_scratch_size)", scratch_size,
                            work_size(j.copies, j.x.destinations));
    if (j.x.once && j.x.row_slots && (!j.x.slot_rows || !j.x.row_offsets))
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1,
                            "exchange.row_slots needs slot_rows and row_offsets, where tokens go once");
    status = check_lists(&j, error);
    if (status)
        return status;
    memset(scratch, 0, work_size(j.copies, j.x.destinations));
    j.copy_at = scratch;
    j.row_at = j.copy_at + j.copies + 1;
    j.seen = j.row_at + j.x.destinations + 1;
    for (int64_t i = 0; i < j.pairs; i++) {
        const int32_t copy = copy_of(&j, i);
        j.copy_at[copy]++;
        if (j.x.slot_copies)
            j.x.slot_copies[i] = copy;
    }
    (j.x.once ? send_tokens : send_pairs)(&j);
    return SEQTOPK_OK;
}
