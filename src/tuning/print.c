/* SPDX-License-Identifier: MIT */
/* Decisions to text. */
#include "src/tuning/ranges.h"
#include "src/tuning/text.h"

/* Counts what it is given, and keeps it if there is a place. */
typedef struct {
    char *text; /* or NULL */
    size_t size;
} sink;

static void put(sink *to, const char *text, size_t size) {
    if (to->text)
        memcpy(to->text + to->size, text, size);
    to->size += size;
}

static void put_word(sink *to, const char *word) { put(to, word, strlen(word)); }

static void put_number(sink *to, uint64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    put(to, digits + at, sizeof digits - at);
}

/* "[op dtype scope score" */
static void put_heading(sink *to, const seqtopk_measurement *tuned) {
    const seqtopk_row *row = seqtopk_registry + tuned->row;
    put_word(to, "[");
    put_word(to, row->op_name);
    put_word(to, " ");
    put_word(to, row->dtype_name);
    put_word(to, " ");
    put_word(to, seqtopk_tuning_scopes[tuned->shape.scope]);
    put_word(to, " ");
    put_word(to, seqtopk_tuning_scores[tuned->shape.score]);
}

/* "E K threads" */
static void put_numbers(sink *to, const seqtopk_tuning_shape *shape) {
    put_number(to, (uint64_t)shape->experts);
    put_word(to, " ");
    put_number(to, (uint64_t)shape->top_k);
    put_word(to, " ");
    put_number(to, (uint64_t)shape->threads);
}

static void put_row(sink *to, const seqtopk_row *row) {
    put_word(to, row->variant);
    put_word(to, "@");
    put_number(to, (uint64_t)row->revision);
}

static void put_decision(sink *to, const seqtopk_measurement *tuned) {
    put_number(to, (uint64_t)tuned->tokens);
    put_word(to, " ");
    put_row(to, seqtopk_registry + tuned->row);
    put_word(to, " ");
    put_number(to, (uint64_t)tuned->ps);
    put_word(to, " ");
    put_number(to, (uint64_t)tuned->spread);
    if (tuned->runner_up < 0) {
        put_word(to, " alone\n");
        return;
    }
    put_word(to, " ");
    put_word(to, seqtopk_registry[tuned->runner_up].variant);
    put_word(to, " ");
    put_number(to, (uint64_t)tuned->runner_up_ps);
    put_word(to, tuned->clear ? " clear\n" : " close\n");
}

/* Of all that was put so far. */
static void put_checksum(sink *to) {
    char digits[SEQTOPK_TUNING_DIGITS];
    const uint64_t checksum = to->text ? seqtopk_tuning_file_checksum(to->text, to->size) : 0;
    for (int i = 0; i < SEQTOPK_TUNING_DIGITS; i++)
        digits[i] = "0123456789abcdef"[checksum >> 4 * (SEQTOPK_TUNING_DIGITS - 1 - i) & 15];
    put(to, digits, sizeof digits);
    put_word(to, "\n");
}

/* The first decision after `i` that is of another shape. */
static int32_t next_shape(const seqtopk_tuning_file *file, int32_t i) {
    const seqtopk_tuning_shape *shape = &file->measurement[i].shape;
    while (++i < file->size && seqtopk_tuning_shape_compare(&file->measurement[i].shape, shape) == 0)
        continue;
    return i;
}

/* What plans read, and the line `measured`. */
static void put_choices(sink *to, const seqtopk_tuning_file *file) {
    const seqtopk_measurement *heading = NULL;
    for (int32_t i = 0, next; i < file->size; i = next) {
        const seqtopk_measurement *tuned = file->measurement + i;
        seqtopk_tuning_range range[SEQTOPK_TUNING_BUCKETS];
        next = next_shape(file, i);
        if (!heading || !seqtopk_ranges_same_heading(&heading->shape, &tuned->shape)) {
            heading = tuned;
            put_heading(to, tuned);
            put_word(to, "]\n");
        }
        put_numbers(to, &tuned->shape);
        put_word(to, ":");
        const int32_t ranges = seqtopk_ranges_of(tuned, next - i, range);
        for (int32_t r = 0; r < ranges; r++) {
            put_word(to, " ");
            put_number(to, (uint64_t)range[r].tokens);
            put_word(to, " ");
            if (range[r].row < 0)
                put_word(to, "-");
            else
                put_row(to, seqtopk_registry + range[r].row);
        }
        put_word(to, "\n");
    }
    put_word(to, "measured ");
    put_checksum(to);
}

static void put_all(sink *to, const seqtopk_tuning_file *file) {
    sink choices = {NULL, 0};
    put_choices(&choices, file);
    put_word(to, SEQTOPK_TUNING_MAGIC);
    put_number(to, SEQTOPK_TUNING_FORMAT);
    put_word(to, "\nlibrary ");
    put_word(to, file->library);
    put_word(to, "\nmachine ");
    put_word(to, file->machine);
    put_word(to, "\nchoices ");
    put_number(to, choices.size);
    put_word(to, "\n");
    put_choices(to, file);
    for (int32_t i = 0, next; i < file->size; i = next) {
        next = next_shape(file, i);
        put_heading(to, file->measurement + i);
        put_word(to, " ");
        put_numbers(to, &file->measurement[i].shape);
        put_word(to, "]\n");
        for (int32_t j = i; j < next; j++)
            put_decision(to, file->measurement + j);
    }
    put_word(to, "end ");
    put_number(to, (uint64_t)file->size);
    put_word(to, " ");
    put_checksum(to);
}

size_t seqtopk_tuning_file_encode(const seqtopk_tuning_file *file, char *text, size_t capacity) {
    sink counted = {NULL, 0};
    put_all(&counted, file);
    if (text && counted.size <= capacity) {
        sink written = {text, 0};
        put_all(&written, file);
    }
    return counted.size;
}
