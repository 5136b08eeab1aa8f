/* SPDX-License-Identifier: MIT */
/* The part of a tuning file that plans read: made of decisions, and read line by line. */
#include "src/tuning/ranges.h"
#include "src/tuning/scan.h"
#include "src/tuning/text.h"

/* ------------------------------------------------------------------ making -- */

enum { FARTHEST = 2 }; /* powers of two from a T that was measured */

/* The nearest bucket that was measured, the lower of two; -1: that is too far. */
static int nearest_bucket(uint32_t measured, int bucket) {
    for (int away = 0; away <= FARTHEST; away++) {
        if (bucket - away >= 0 && (measured >> (bucket - away) & 1))
            return bucket - away;
        if (bucket + away < SEQTOPK_TUNING_BUCKETS && (measured >> (bucket + away) & 1))
            return bucket + away;
    }
    return -1;
}

int seqtopk_ranges_same_heading(const seqtopk_tuning_shape *a, const seqtopk_tuning_shape *b) {
    return a->op == b->op && a->dtype == b->dtype && a->scope == b->scope && a->score == b->score;
}

int32_t seqtopk_ranges_of(const seqtopk_measurement *decision, int32_t size,
                          seqtopk_tuning_range range[SEQTOPK_TUNING_BUCKETS]) {
    int32_t row[SEQTOPK_TUNING_BUCKETS] = {0}, ranges = 0, last = -1;
    uint32_t measured = 0;
    for (int b = 0; b < SEQTOPK_TUNING_BUCKETS; b++)
        for (int32_t i = 0; i < size; i++)
            if (decision[i].tokens == 1 << b) {
                row[b] = decision[i].row;
                measured |= 1u << b;
            }
    for (int b = 0; b < SEQTOPK_TUNING_BUCKETS; b++) {
        const int from = nearest_bucket(measured, b);
        const int32_t serves = from < 0 ? -1 : row[from];
        if (serves != last)
            range[ranges++] = (seqtopk_tuning_range){1 << b, serves};
        last = serves;
    }
    return ranges;
}

/* ----------------------------------------------------------------- reading -- */

seqtopk_status seqtopk_ranges_open(seqtopk_ranges_cursor *cursor, const char *text, size_t size,
                                   const seqtopk_tuning_reader *reader, seqtopk_error *error) {
    seqtopk_tuning_parts parts;
    memset(cursor, 0, sizeof *cursor);
    const seqtopk_status status = seqtopk_tuning_file_open(&parts, text, size, 0, reader, error);
    if (status)
        return status;
    cursor->at = parts.choices;
    cursor->end = parts.choices_end;
    cursor->line = parts.choices_line - 1;
    cursor->lost = SEQTOPK_TUNING_SYNTAX; /* until there is a heading */
    cursor->shape.dtype = -1;             /* before any */
    return SEQTOPK_OK;
}

/* To a heading or a line of `shape`, which has to come after the last. */
static seqtopk_tuning_reason advance(seqtopk_ranges_cursor *cursor, const seqtopk_tuning_shape *shape) {
    if (seqtopk_tuning_shape_compare(&cursor->shape, shape) >= 0)
        return SEQTOPK_TUNING_ORDER;
    cursor->shape = *shape;
    return SEQTOPK_TUNING_KEPT;
}

/* "[op dtype scope score]" */
static seqtopk_tuning_reason read_heading(seqtopk_ranges_cursor *cursor, const char *at, const char *end) {
    seqtopk_tuning_shape shape = {.experts = 0};
    at++;
    const seqtopk_tuning_reason reason = seqtopk_tuning_file_read_heading(&at, &shape, &cursor->op_row);
    if (reason == SEQTOPK_TUNING_SYNTAX || *at++ != ']' || at != end)
        return SEQTOPK_TUNING_SYNTAX;
    return reason ? reason : advance(cursor, &shape);
}

/* "E K threads: ranges" */
static seqtopk_tuning_reason read_shape(seqtopk_ranges_cursor *cursor, const char *at) {
    seqtopk_tuning_shape shape = cursor->shape;
    if (!seqtopk_tuning_file_read_numbers(&at, &shape) || *at++ != ':')
        return SEQTOPK_TUNING_SYNTAX;
    const seqtopk_tuning_reason reason = seqtopk_tuning_numbers_check(&shape);
    return reason ? reason : advance(cursor, &shape);
}

seqtopk_ranges_line seqtopk_ranges_next(seqtopk_ranges_cursor *cursor, seqtopk_tuning_reason *reason) {
    while (cursor->at < cursor->end) {
        const char *at = cursor->at, *end = line_end(at, cursor->end);
        const int is_heading = *at == '[';
        cursor->begin = at;
        cursor->at = end + 1;
        cursor->line++;
        if (is_heading)
            *reason = cursor->lost = read_heading(cursor, at, end);
        else
            *reason = cursor->lost ? cursor->lost : read_shape(cursor, at);
        if (*reason)
            return SEQTOPK_RANGES_DROPPED;
        if (!is_heading)
            return SEQTOPK_RANGES_SHAPE;
    }
    return SEQTOPK_RANGES_END;
}

/* " T row@revision" or " T -"; 0: it is not that. */
static int read_range(const char **at, const seqtopk_tuning_shape *shape, const seqtopk_tuning_reader *reader,
                      seqtopk_tuning_range *range, seqtopk_tuning_reason *reason) {
    if (*(*at)++ != ' ')
        return 0;
    const int64_t tokens = take_number(at, SEQTOPK_TUNING_LARGEST_TOKENS);
    if (tokens < 1 || tokens > SEQTOPK_TUNING_LARGEST_TOKENS || (tokens & (tokens - 1)) || *(*at)++ != ' ')
        return 0;
    *range = (seqtopk_tuning_range){(int32_t)tokens, -1};
    *reason = SEQTOPK_TUNING_KEPT;
    if (take(at, "- ") || take(at, "-\n")) {
        --*at;
        return 1;
    }
    int64_t revision;
    if (!seqtopk_tuning_file_read_row(at, shape, &range->row, &revision) || revision < 0)
        return 0;
    *reason = seqtopk_tuning_row_check(shape, range->row);
    if (*reason != SEQTOPK_TUNING_UNKNOWN_ROW) {
        const seqtopk_tuning_reason unusable = seqtopk_tuning_file_usable(reader, range->row, revision);
        *reason = unusable ? unusable : *reason;
    }
    if (*reason)
        range->row = -1;
    return 1;
}

int32_t seqtopk_ranges_read(const char *at, seqtopk_tuning_shape *shape, const seqtopk_tuning_reader *reader,
                            seqtopk_tuning_range range[SEQTOPK_TUNING_BUCKETS], seqtopk_tuning_reason *reason) {
    int32_t ranges = 0, good = 0, last = 0;
    *reason = SEQTOPK_TUNING_KEPT;
    (void)seqtopk_tuning_file_read_numbers(&at, shape);
    at++; /* the colon */
    while (*at != '\n') {
        seqtopk_tuning_range next;
        seqtopk_tuning_reason why;
        if (!read_range(&at, shape, reader, &next, &why) || next.tokens <= last) {
            *reason = SEQTOPK_TUNING_SYNTAX;
            return 0;
        }
        last = next.tokens;
        *reason = *reason ? *reason : why;
        good += next.row >= 0;
        range[ranges++] = next;
    }
    return good ? ranges : 0;
}
