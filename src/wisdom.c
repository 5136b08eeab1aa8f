/* SPDX-License-Identifier: MIT */
/* Decisions in memory: what is a sound one, how they stand to each other, adding and merging. */
#include "src/wisdom.h"
#include "src/plan.h"
#include "src/status.h"
#include "src/wisdom_text.h"

#include <stdlib.h>

const char *seqtopk_wisdom_reason_text(seqtopk_wisdom_reason reason) {
    switch (reason) {
    case SEQTOPK_WISDOM_KEPT: return "kept";
    case SEQTOPK_WISDOM_SYNTAX: return "neither a heading nor a decision";
    case SEQTOPK_WISDOM_UNKNOWN_OP: return "this library has no such stage, or none for such logits";
    case SEQTOPK_WISDOM_SHAPE: return "there is no such scope, score or shape";
    case SEQTOPK_WISDOM_NUMBER: return "a number is outside its range";
    case SEQTOPK_WISDOM_UNKNOWN_ROW: return "this library has no such kernel";
    case SEQTOPK_WISDOM_REVISION: return "the kernel is of another revision now";
    case SEQTOPK_WISDOM_NOT_USABLE: return "this machine cannot run the kernel";
    case SEQTOPK_WISDOM_NOT_APPLIES: return "the kernel does not apply to such a shape";
    case SEQTOPK_WISDOM_ORDER: return "a duplicate, or out of order";
    case SEQTOPK_WISDOM_REASONS: break;
    }
    return "unknown reason";
}

seqtopk_wisdom_reader seqtopk_wisdom_reader_any(void) { return (seqtopk_wisdom_reader){NULL, NULL, UINT32_MAX}; }

/* ------------------------------------------------------------- one decision -- */

static int has_rows(seqtopk_op op, int32_t dtype) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (seqtopk_registry[i].op == op && seqtopk_registry[i].dtype == dtype)
            return 1;
    return 0;
}

seqtopk_wisdom_reason seqtopk_tuned_shape_check(const seqtopk_tuned_shape *s) {
    return has_rows(s->op, s->dtype) ? seqtopk_tuned_numbers_check(s) : SEQTOPK_WISDOM_UNKNOWN_OP;
}

seqtopk_wisdom_reason seqtopk_tuned_numbers_check(const seqtopk_tuned_shape *s) {
    const int sound = s->scope >= 0 && s->scope < SEQTOPK_WISDOM_SCOPES && s->score >= 0 &&
                      s->score < SEQTOPK_WISDOM_SCORES && s->experts >= 1 && s->experts <= SEQTOPK_MAX_EXPERTS &&
                      s->top_k >= 1 && s->top_k <= s->experts && s->threads >= 1 && s->threads <= SEQTOPK_MAX_PARTS;
    return sound ? SEQTOPK_WISDOM_KEPT : SEQTOPK_WISDOM_SHAPE;
}

/* Whether a row applies to the plainest problem of a shape. */
static int applies(const seqtopk_row *row, const seqtopk_tuned_shape *s) {
    const seqtopk_desc desc = {
        .struct_size = sizeof desc,
        .experts = s->experts,
        .top_k = s->top_k,
        .scope = (seqtopk_scope)s->scope,
        .score = (seqtopk_score)s->score,
        .max_experts = s->experts,
        .groups = 1,
        .group_top_k = 1,
        .dtype = s->dtype <= SEQTOPK_DTYPE_F16 ? (seqtopk_dtype)s->dtype : SEQTOPK_DTYPE_F32,
        .threads = s->threads,
    };
    return row->applies(&desc);
}

static int is_row_of(int32_t row, const seqtopk_tuned_shape *s) {
    return row >= 0 && row < seqtopk_registry_size && seqtopk_registry[row].op == s->op &&
           seqtopk_registry[row].dtype == s->dtype;
}

seqtopk_wisdom_reason seqtopk_tuned_row_check(const seqtopk_tuned_shape *s, int32_t row) {
    if (!is_row_of(row, s))
        return SEQTOPK_WISDOM_UNKNOWN_ROW;
    return applies(seqtopk_registry + row, s) ? SEQTOPK_WISDOM_KEPT : SEQTOPK_WISDOM_NOT_APPLIES;
}

seqtopk_wisdom_reason seqtopk_tuned_check(const seqtopk_tuned *t) {
    const int alone = t->runner_up == -1;
    if (t->tokens < 1 || t->tokens > SEQTOPK_WISDOM_LARGEST_TOKENS || (t->tokens & (t->tokens - 1)) || t->spread < 0 ||
        t->spread > SEQTOPK_WISDOM_LARGEST_SPREAD || t->ps < 1 || t->ps > SEQTOPK_WISDOM_LARGEST_PS)
        return SEQTOPK_WISDOM_NUMBER;
    if (alone ? t->runner_up_ps != 0 : t->runner_up_ps < 1 || t->runner_up_ps > SEQTOPK_WISDOM_LARGEST_PS)
        return SEQTOPK_WISDOM_NUMBER;
    if (t->clear < 0 || t->clear > 1 || (alone && !t->clear))
        return SEQTOPK_WISDOM_NUMBER;
    if (!alone && (!is_row_of(t->runner_up, &t->shape) || t->runner_up == t->row))
        return SEQTOPK_WISDOM_UNKNOWN_ROW;
    return seqtopk_tuned_row_check(&t->shape, t->row);
}

static int sign(int64_t difference) { return (difference > 0) - (difference < 0); }

int seqtopk_tuned_shape_compare(const seqtopk_tuned_shape *a, const seqtopk_tuned_shape *b) {
    if (a->op != b->op)
        return sign((int64_t)a->op - (int64_t)b->op);
    if (a->dtype != b->dtype)
        return sign((int64_t)a->dtype - b->dtype);
    if (a->scope != b->scope)
        return sign((int64_t)a->scope - b->scope);
    if (a->score != b->score)
        return sign((int64_t)a->score - b->score);
    if (a->experts != b->experts)
        return sign((int64_t)a->experts - b->experts);
    if (a->top_k != b->top_k)
        return sign((int64_t)a->top_k - b->top_k);
    return sign((int64_t)a->threads - b->threads);
}

int seqtopk_tuned_compare(const seqtopk_tuned *a, const seqtopk_tuned *b) {
    const int by_shape = seqtopk_tuned_shape_compare(&a->shape, &b->shape);
    return by_shape ? by_shape : sign((int64_t)a->tokens - b->tokens);
}

/* ---------------------------------------------------------------- many -- */

void seqtopk_wisdom_free(seqtopk_wisdom *wisdom) {
    free(wisdom->decision);
    wisdom->decision = NULL;
    wisdom->size = wisdom->capacity = wisdom->dropped = wisdom->notes = 0;
}

/* The first decision that is not before `tuned`. */
static int32_t place_of(const seqtopk_wisdom *wisdom, const seqtopk_tuned *tuned) {
    int32_t first = 0, last = wisdom->size;
    if (last > 0 && seqtopk_tuned_compare(wisdom->decision + last - 1, tuned) < 0)
        return last;
    while (first < last) {
        const int32_t middle = first + (last - first) / 2;
        if (seqtopk_tuned_compare(wisdom->decision + middle, tuned) < 0)
            first = middle + 1;
        else
            last = middle;
    }
    return first;
}

static seqtopk_status no_memory(int64_t decisions, seqtopk_error *error) {
    return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for %lld tuned decisions", (long long)decisions);
}

seqtopk_status seqtopk_wisdom_add(seqtopk_wisdom *wisdom, const seqtopk_tuned *tuned, seqtopk_error *error) {
    seqtopk_wisdom_reason reason = seqtopk_tuned_shape_check(&tuned->shape);
    if (!reason)
        reason = seqtopk_tuned_check(tuned);
    if (reason)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "a decision for %d x %d, K %d cannot be kept: %s",
                            (int)tuned->tokens, (int)tuned->shape.experts, (int)tuned->shape.top_k,
                            seqtopk_wisdom_reason_text(reason));
    const int32_t at = place_of(wisdom, tuned);
    if (at < wisdom->size && seqtopk_tuned_compare(wisdom->decision + at, tuned) == 0) {
        wisdom->decision[at] = *tuned;
        return SEQTOPK_OK;
    }
    if (wisdom->size == wisdom->capacity) {
        const int32_t capacity = wisdom->capacity ? 2 * wisdom->capacity : 64;
        seqtopk_tuned *larger = wisdom->capacity > INT32_MAX / 2 / (int32_t)sizeof *larger
                                    ? NULL
                                    : realloc(wisdom->decision, (size_t)capacity * sizeof *larger);
        if (!larger)
            return no_memory(capacity, error);
        wisdom->decision = larger;
        wisdom->capacity = capacity;
    }
    memmove(wisdom->decision + at + 1, wisdom->decision + at, (size_t)(wisdom->size - at) * sizeof *wisdom->decision);
    wisdom->decision[at] = *tuned;
    wisdom->size++;
    return SEQTOPK_OK;
}

const seqtopk_tuned *seqtopk_wisdom_find(const seqtopk_wisdom *wisdom, const seqtopk_tuned_shape *shape,
                                         int32_t tokens) {
    const seqtopk_tuned wanted = {.shape = *shape, .tokens = tokens};
    const int32_t at = place_of(wisdom, &wanted);
    return at < wisdom->size && seqtopk_tuned_compare(wisdom->decision + at, &wanted) == 0 ? wisdom->decision + at
                                                                                           : NULL;
}

seqtopk_status seqtopk_wisdom_merge(seqtopk_wisdom *wisdom, const seqtopk_wisdom *newer, seqtopk_error *error) {
    if (strcmp(wisdom->machine, newer->machine) != 0 || strcmp(wisdom->library, newer->library) != 0)
        return seqtopk_fail(error, SEQTOPK_E_TUNING, -1,
                            "tuning of two machines or library versions cannot be one file: keep a file for each");
    const int64_t most = (int64_t)wisdom->size + newer->size;
    if (most == 0)
        return SEQTOPK_OK;
    seqtopk_tuned *all = most > INT32_MAX / (int64_t)sizeof *all ? NULL : malloc((size_t)most * sizeof *all);
    if (!all)
        return no_memory(most, error);
    int32_t size = 0;
    for (int32_t i = 0, j = 0; i < wisdom->size || j < newer->size;) {
        /* One without decisions has no memory to point into. */
        const seqtopk_tuned *a = i < wisdom->size ? wisdom->decision + i : NULL;
        const seqtopk_tuned *b = j < newer->size ? newer->decision + j : NULL;
        const int order = !a ? 1 : !b ? -1 : seqtopk_tuned_compare(a, b);
        all[size++] = order < 0 || (order == 0 && a->clear && !b->clear) ? *a : *b;
        i += order <= 0;
        j += order >= 0;
    }
    free(wisdom->decision);
    wisdom->decision = all;
    wisdom->size = size;
    wisdom->capacity = (int32_t)most;
    return SEQTOPK_OK;
}
