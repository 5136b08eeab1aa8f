/* SPDX-License-Identifier: MIT */
/* Decisions in memory: what is a sound one, how they stand to each other, adding and merging. */
#include "src/kernels/limits.h"
#include "src/status.h"
#include "src/tuning/file.h"
#include "src/tuning/text.h"

#include <stdlib.h>

const char *seqtopk_tuning_reason_text(seqtopk_tuning_reason reason) {
    switch (reason) {
    case SEQTOPK_TUNING_KEPT: return "kept";
    case SEQTOPK_TUNING_SYNTAX: return "neither a heading nor a decision";
    case SEQTOPK_TUNING_UNKNOWN_OP: return "this library has no such stage, or none for such logits";
    case SEQTOPK_TUNING_SHAPE: return "there is no such scope, score or shape";
    case SEQTOPK_TUNING_NUMBER: return "a number is outside its range";
    case SEQTOPK_TUNING_UNKNOWN_ROW: return "this library has no such kernel";
    case SEQTOPK_TUNING_REVISION: return "the kernel is of another revision now";
    case SEQTOPK_TUNING_NOT_USABLE: return "this machine cannot run the kernel";
    case SEQTOPK_TUNING_ORDER: return "a duplicate, or out of order";
    case SEQTOPK_TUNING_REASONS: break;
    }
    return "unknown reason";
}

seqtopk_tuning_reader seqtopk_tuning_reader_any(void) { return (seqtopk_tuning_reader){NULL, NULL, UINT32_MAX}; }

/* ------------------------------------------------------------- one decision -- */

static int has_rows(seqtopk_op op, int32_t dtype) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (seqtopk_registry[i].op == op && seqtopk_registry[i].dtype == dtype)
            return 1;
    return 0;
}

seqtopk_tuning_reason seqtopk_tuning_shape_check(const seqtopk_tuning_shape *s) {
    return has_rows(s->op, s->dtype) ? seqtopk_tuning_numbers_check(s) : SEQTOPK_TUNING_UNKNOWN_OP;
}

seqtopk_tuning_reason seqtopk_tuning_numbers_check(const seqtopk_tuning_shape *s) {
    const int sound = s->scope >= 0 && s->scope < SEQTOPK_TUNING_SCOPES && s->score >= 0 &&
                      s->score < SEQTOPK_TUNING_SCORES && s->experts >= 1 && s->experts <= SEQTOPK_MAX_EXPERTS &&
                      s->top_k >= 1 && s->top_k <= s->experts && s->threads >= 1 && s->threads <= SEQTOPK_MAX_PARTS;
    return sound ? SEQTOPK_TUNING_KEPT : SEQTOPK_TUNING_SHAPE;
}

static int is_row_of(int32_t row, const seqtopk_tuning_shape *s) {
    return row >= 0 && row < seqtopk_registry_size && seqtopk_registry[row].op == s->op &&
           seqtopk_registry[row].dtype == s->dtype;
}

seqtopk_tuning_reason seqtopk_tuning_row_check(const seqtopk_tuning_shape *s, int32_t row) {
    return is_row_of(row, s) ? SEQTOPK_TUNING_KEPT : SEQTOPK_TUNING_UNKNOWN_ROW;
}

seqtopk_tuning_reason seqtopk_measurement_check(const seqtopk_measurement *t) {
    const int alone = t->runner_up == -1;
    if (t->tokens < 1 || t->tokens > SEQTOPK_TUNING_LARGEST_TOKENS || (t->tokens & (t->tokens - 1)) || t->spread < 0 ||
        t->spread > SEQTOPK_TUNING_LARGEST_SPREAD || t->ps < 1 || t->ps > SEQTOPK_TUNING_LARGEST_PS)
        return SEQTOPK_TUNING_NUMBER;
    if (alone ? t->runner_up_ps != 0 : t->runner_up_ps < 1 || t->runner_up_ps > SEQTOPK_TUNING_LARGEST_PS)
        return SEQTOPK_TUNING_NUMBER;
    if (t->clear < 0 || t->clear > 1 || (alone && !t->clear))
        return SEQTOPK_TUNING_NUMBER;
    if (!alone && (!is_row_of(t->runner_up, &t->shape) || t->runner_up == t->row))
        return SEQTOPK_TUNING_UNKNOWN_ROW;
    return seqtopk_tuning_row_check(&t->shape, t->row);
}

static int sign(int64_t difference) { return (difference > 0) - (difference < 0); }

int seqtopk_tuning_shape_compare(const seqtopk_tuning_shape *a, const seqtopk_tuning_shape *b) {
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

int seqtopk_measurement_compare(const seqtopk_measurement *a, const seqtopk_measurement *b) {
    const int by_shape = seqtopk_tuning_shape_compare(&a->shape, &b->shape);
    return by_shape ? by_shape : sign((int64_t)a->tokens - b->tokens);
}

/* ---------------------------------------------------------------- many -- */

void seqtopk_tuning_file_free(seqtopk_tuning_file *file) {
    free(file->measurement);
    file->measurement = NULL;
    file->size = file->capacity = file->dropped = file->notes = 0;
}

/* The first decision that is not before `tuned`. */
static int32_t place_of(const seqtopk_tuning_file *file, const seqtopk_measurement *tuned) {
    int32_t first = 0, last = file->size;
    if (last > 0 && seqtopk_measurement_compare(file->measurement + last - 1, tuned) < 0)
        return last;
    while (first < last) {
        const int32_t middle = first + (last - first) / 2;
        if (seqtopk_measurement_compare(file->measurement + middle, tuned) < 0)
            first = middle + 1;
        else
            last = middle;
    }
    return first;
}

static seqtopk_status no_memory(int64_t decisions, seqtopk_error *error) {
    return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for %lld tuned decisions", (long long)decisions);
}

seqtopk_status seqtopk_tuning_file_add(seqtopk_tuning_file *file, const seqtopk_measurement *tuned,
                                       seqtopk_error *error) {
    seqtopk_tuning_reason reason = seqtopk_tuning_shape_check(&tuned->shape);
    if (!reason)
        reason = seqtopk_measurement_check(tuned);
    if (reason)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "a decision for %d x %d, K %d cannot be kept: %s",
                            (int)tuned->tokens, (int)tuned->shape.experts, (int)tuned->shape.top_k,
                            seqtopk_tuning_reason_text(reason));
    const int32_t at = place_of(file, tuned);
    if (at < file->size && seqtopk_measurement_compare(file->measurement + at, tuned) == 0) {
        file->measurement[at] = *tuned;
        return SEQTOPK_OK;
    }
    if (file->size == file->capacity) {
        const int32_t capacity = file->capacity ? 2 * file->capacity : 64;
        seqtopk_measurement *larger = file->capacity > INT32_MAX / 2 / (int32_t)sizeof *larger
                                          ? NULL
                                          : realloc(file->measurement, (size_t)capacity * sizeof *larger);
        if (!larger)
            return no_memory(capacity, error);
        file->measurement = larger;
        file->capacity = capacity;
    }
    memmove(file->measurement + at + 1, file->measurement + at, (size_t)(file->size - at) * sizeof *file->measurement);
    file->measurement[at] = *tuned;
    file->size++;
    return SEQTOPK_OK;
}

const seqtopk_measurement *seqtopk_tuning_file_find(const seqtopk_tuning_file *file, const seqtopk_tuning_shape *shape,
                                                    int32_t tokens) {
    const seqtopk_measurement wanted = {.shape = *shape, .tokens = tokens};
    const int32_t at = place_of(file, &wanted);
    return at < file->size && seqtopk_measurement_compare(file->measurement + at, &wanted) == 0 ? file->measurement + at
                                                                                                : NULL;
}

seqtopk_status seqtopk_tuning_file_merge(seqtopk_tuning_file *file, const seqtopk_tuning_file *newer,
                                         seqtopk_error *error) {
    if (strcmp(file->machine, newer->machine) != 0 || strcmp(file->library, newer->library) != 0)
        return seqtopk_fail(error, SEQTOPK_E_TUNING, -1,
                            "tuning of two machines or library versions cannot be one file: keep a file for each");
    const int64_t most = (int64_t)file->size + newer->size;
    if (most == 0)
        return SEQTOPK_OK;
    seqtopk_measurement *all = most > INT32_MAX / (int64_t)sizeof *all ? NULL : malloc((size_t)most * sizeof *all);
    if (!all)
        return no_memory(most, error);
    int32_t size = 0;
    for (int32_t i = 0, j = 0; i < file->size || j < newer->size;) {
        /* One without decisions has no memory to point into. */
        const seqtopk_measurement *a = i < file->size ? file->measurement + i : NULL;
        const seqtopk_measurement *b = j < newer->size ? newer->measurement + j : NULL;
        const int order = !a ? 1 : !b ? -1 : seqtopk_measurement_compare(a, b);
        all[size++] = order < 0 || (order == 0 && a->clear && !b->clear) ? *a : *b;
        i += order <= 0;
        j += order >= 0;
    }
    free(file->measurement);
    file->measurement = all;
    file->size = size;
    file->capacity = (int32_t)most;
    return SEQTOPK_OK;
}
