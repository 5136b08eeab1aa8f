/* SPDX-License-Identifier: MIT */
/* The part of a tuning file that plans read: made of decisions, and read line by line. */
#include "src/choices.h"
#include "src/wisdom_scan.h"
#include "src/wisdom_text.h"

/* ------------------------------------------------------------------ making -- */

enum { FARTHEST = 2 }; /* powers of two from a T that was measured */

/* The nearest bucket that was measured, the lower of two; -1: that is too far. */
static int nearest_bucket(uint32_t measured, int bucket) {
    for (int away = 0; away <= FARTHEST; away++) {
        if (bucket - away >= 0 && (measured >> (bucket - away) & 1))
            return bucket - away;
        if (bucket + away < SEQTOPK_WISDOM_BUCKETS && (measured >> (bucket + away) & 1))
            return bucket + away;
    }
    return -1;
}

int seqtopk_choices_same_heading(const seqtopk_tuned_shape *a, const seqtopk_tuned_shape *b) {
    return a->op == b->op && a->dtype == b->dtype && a->scope == b->scope && a->score == b->score;
}

int32_t seqtopk_choices_of(const seqtopk_tuned *decision, int32_t size,
                           seqtopk_tuned_range range[SEQTOPK_WISDOM_BUCKETS]) {
    int32_t row[SEQTOPK_WISDOM_BUCKETS], ranges = 0, last = -1;
    uint32_t measured = 0;
    for (int b = 0; b < SEQTOPK_WISDOM_BUCKETS; b++)
        for (int32_t i = 0; i < size; i++)
            if (decision[i].tokens == 1 << b) {
                row[b] = decision[i].row;
                measured |= 1u << b;
            }
    for (int b = 0; b < SEQTOPK_WISDOM_BUCKETS; b++) {
        const int from = nearest_bucket(measured, b);
        const int32_t serves = from < 0 ? -1 : row[from];
        if (serves != last)
            range[ranges++] = (seqtopk_tuned_range){1 << b, serves};
        last = serves;
    }
    return ranges;
}

/* ----------------------------------------------------------------- reading -- */

seqtopk_status seqtopk_choices_open(seqtopk_choices_cursor *cursor, const char *text, size_t size,
                                    const seqtopk_wisdom_reader *reader, seqtopk_error *error) {
    seqtopk_wisdom_parts parts;
    memset(cursor, 0, sizeof *cursor);
    const seqtopk_status status = seqtopk_wisdom_open(&parts, text, size, 0, reader, error);
    if (status)
        return status;
    cursor->at = parts.choices;
    cursor->end = parts.choices_end;
    cursor->line = parts.choices_line - 1;
    cursor->lost = SEQTOPK_WISDOM_SYNTAX; /* until there is a heading */
    cursor->shape.dtype = -1;             /* before any */
    return SEQTOPK_OK;
}

/* To a heading or a line of `shape`, which has to come after the last. */
static seqtopk_wisdom_reason advance(seqtopk_choices_cursor *cursor, const seqtopk_tuned_shape *shape) {
    if (seqtopk_tuned_shape_compare(&cursor->shape, shape) >= 0)
        return SEQTOPK_WISDOM_ORDER;
    cursor->shape = *shape;
    return SEQTOPK_WISDOM_KEPT;
}

/* "[op dtype scope score]" */
static seqtopk_wisdom_reason read_heading(seqtopk_choices_cursor *cursor, const char *at, const char *end) {
    seqtopk_tuned_shape shape = {.experts = 0};
    at++;
    const seqtopk_wisdom_reason reason = seqtopk_wisdom_read_heading(&at, &shape, &cursor->op_row);
    if (reason == SEQTOPK_WISDOM_SYNTAX || *at++ != ']' || at != end)
        return SEQTOPK_WISDOM_SYNTAX;
    return reason ? reason : advance(cursor, &shape);
}

/* "E K threads: ranges" */
static seqtopk_wisdom_reason read_shape(seqtopk_choices_cursor *cursor, const char *at) {
    seqtopk_tuned_shape shape = cursor->shape;
    if (!seqtopk_wisdom_read_numbers(&at, &shape) || *at++ != ':')
        return SEQTOPK_WISDOM_SYNTAX;
    const seqtopk_wisdom_reason reason = seqtopk_tuned_numbers_check(&shape);
    return reason ? reason : advance(cursor, &shape);
}

seqtopk_choices_line seqtopk_choices_next(seqtopk_choices_cursor *cursor, seqtopk_wisdom_reason *reason) {
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
            return SEQTOPK_CHOICES_DROPPED;
        if (!is_heading)
            return SEQTOPK_CHOICES_SHAPE;
    }
    return SEQTOPK_CHOICES_END;
}

/* " T row@revision" or " T -"; 0: it is not that. */
static int read_range(const char **at, const seqtopk_tuned_shape *shape, const seqtopk_wisdom_reader *reader,
                      seqtopk_tuned_range *range, seqtopk_wisdom_reason *reason) {
    if (*(*at)++ != ' ')
        return 0;
    const int64_t tokens = take_number(at, SEQTOPK_WISDOM_LARGEST_TOKENS);
    if (tokens < 1 || tokens > SEQTOPK_WISDOM_LARGEST_TOKENS || (tokens & (tokens - 1)) || *(*at)++ != ' ')
        return 0;
    *range = (seqtopk_tuned_range){(int32_t)tokens, -1};
    *reason = SEQTOPK_WISDOM_KEPT;
    if (take(at, "- ") || take(at, "-\n")) {
        --*at;
        return 1;
    }
    int64_t revision;
    if (!seqtopk_wisdom_read_row(at, shape, &range->row, &revision) || revision < 0)
        return 0;
    *reason = seqtopk_tuned_row_check(shape, range->row);
    if (*reason != SEQTOPK_WISDOM_UNKNOWN_ROW) {
        const seqtopk_wisdom_reason unusable = seqtopk_wisdom_usable(reader, range->row, revision);
        *reason = unusable ? unusable : *reason;
    }
    if (*reason)
        range->row = -1;
    return 1;
}

int32_t seqtopk_choices_read(const char *at, seqtopk_tuned_shape *shape, const seqtopk_wisdom_reader *reader,
                             seqtopk_tuned_range range[SEQTOPK_WISDOM_BUCKETS], seqtopk_wisdom_reason *reason) {
    int32_t ranges = 0, good = 0, last = 0;
    *reason = SEQTOPK_WISDOM_KEPT;
    (void)seqtopk_wisdom_read_numbers(&at, shape);
    at++; /* the colon */
    while (*at != '\n') {
        seqtopk_tuned_range next;
        seqtopk_wisdom_reason why;
        if (!read_range(&at, shape, reader, &next, &why) || next.tokens <= last) {
            *reason = SEQTOPK_WISDOM_SYNTAX;
            return 0;
        }
        last = next.tokens;
        *reason = *reason ? *reason : why;
        good += next.row >= 0;
        range[ranges++] = next;
    }
    return good ? ranges : 0;
}
