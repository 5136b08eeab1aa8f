/* SPDX-License-Identifier: MIT */
/* Text to decisions. */
#include "src/status.h"
#include "src/wisdom_scan.h"
#include "src/wisdom_text.h"

/* "[op dtype scope score E K threads]" */
static seqtopk_wisdom_reason read_heading(const char *at, const char *end, int32_t *op_row,
                                          seqtopk_tuned_shape *shape) {
    at++;
    const seqtopk_wisdom_reason reason = seqtopk_wisdom_read_heading(&at, shape, op_row);
    if (reason == SEQTOPK_WISDOM_SYNTAX || *at++ != ' ' || !seqtopk_wisdom_read_numbers(&at, shape) || *at++ != ']' ||
        at != end)
        return SEQTOPK_WISDOM_SYNTAX;
    return reason ? reason : seqtopk_tuned_numbers_check(shape);
}

/* "tokens row@revision ps spread alone" or "tokens row@revision ps spread runner-up ps clear|close" */
static seqtopk_wisdom_reason read_decision(const char *at, const char *end, const seqtopk_wisdom_reader *reader,
                                           seqtopk_tuned *tuned) {
    const int64_t tokens = take_number(&at, SEQTOPK_WISDOM_LARGEST_TOKENS);
    if (tokens < 0 || *at++ != ' ')
        return SEQTOPK_WISDOM_SYNTAX;
    int64_t revision, none;
    if (!seqtopk_wisdom_read_row(&at, &tuned->shape, &tuned->row, &revision) || revision < 0 || *at++ != ' ')
        return SEQTOPK_WISDOM_SYNTAX;
    tuned->ps = take_number(&at, SEQTOPK_WISDOM_LARGEST_PS);
    if (tuned->ps < 0 || *at++ != ' ')
        return SEQTOPK_WISDOM_SYNTAX;
    const int64_t spread = take_number(&at, SEQTOPK_WISDOM_LARGEST_SPREAD);
    if (spread < 0 || *at++ != ' ')
        return SEQTOPK_WISDOM_SYNTAX;
    const int alone = end - at == 5 && take(&at, "alone");
    tuned->runner_up = -1;
    tuned->runner_up_ps = 0;
    tuned->clear = 1;
    if (!alone) {
        if (!seqtopk_wisdom_read_row(&at, &tuned->shape, &tuned->runner_up, &none) || none >= 0 || *at++ != ' ')
            return SEQTOPK_WISDOM_SYNTAX;
        tuned->runner_up_ps = take_number(&at, SEQTOPK_WISDOM_LARGEST_PS);
        if (tuned->runner_up_ps < 0 || *at++ != ' ')
            return SEQTOPK_WISDOM_SYNTAX;
        tuned->clear = take(&at, "clear");
        if (!tuned->clear && !take(&at, "close"))
            return SEQTOPK_WISDOM_SYNTAX;
    }
    if (at != end)
        return SEQTOPK_WISDOM_SYNTAX;
    tuned->tokens = (int32_t)tokens;
    tuned->spread = (int32_t)spread;
    if (!alone && tuned->runner_up < 0) { /* it is gone; what it lost to still won */
        tuned->runner_up_ps = 0;
        tuned->clear = 1;
    }
    const seqtopk_wisdom_reason reason = seqtopk_tuned_check(tuned);
    if (reason == SEQTOPK_WISDOM_NUMBER || reason == SEQTOPK_WISDOM_UNKNOWN_ROW)
        return reason;
    const seqtopk_wisdom_reason unusable = seqtopk_wisdom_usable(reader, tuned->row, revision);
    return unusable ? unusable : reason;
}

/* What the next line has to come after, and what it is read by. */
typedef struct {
    const seqtopk_wisdom_reader *reader;
    seqtopk_tuned_shape shape;
    int32_t tokens, op_row;
    seqtopk_wisdom_reason lost; /* of the last heading, if it was dropped: its decisions go with it */
} place;

/* Reads a line; a heading leaves tuned->tokens 0. */
static seqtopk_wisdom_reason read_line(place *p, const char *at, const char *end, seqtopk_tuned *tuned) {
    seqtopk_wisdom_reason reason;
    tuned->tokens = 0;
    if (*at == '[') {
        reason = read_heading(at, end, &p->op_row, &tuned->shape);
        if (!reason && seqtopk_tuned_shape_compare(&p->shape, &tuned->shape) >= 0)
            reason = SEQTOPK_WISDOM_ORDER;
        p->lost = reason;
        p->tokens = 0;
        if (!reason)
            p->shape = tuned->shape;
        return reason;
    }
    tuned->shape = p->shape;
    reason = p->lost ? p->lost : read_decision(at, end, p->reader, tuned);
    if (!reason && tuned->tokens <= p->tokens)
        reason = SEQTOPK_WISDOM_ORDER;
    if (!reason)
        p->tokens = tuned->tokens;
    return reason;
}

seqtopk_status seqtopk_wisdom_parse(seqtopk_wisdom *wisdom, const char *text, size_t size,
                                    const seqtopk_wisdom_reader *reader, seqtopk_error *error) {
    memset(wisdom, 0, sizeof *wisdom);
    seqtopk_wisdom_parts parts;
    seqtopk_status status = seqtopk_wisdom_open(&parts, text, size, 1, reader, error);
    if (status)
        return status;
    memcpy(wisdom->library, parts.library, sizeof wisdom->library);
    memcpy(wisdom->machine, parts.machine, sizeof wisdom->machine);
    place p = {.reader = reader, .lost = SEQTOPK_WISDOM_SYNTAX}; /* until there is a heading */
    int32_t line = parts.choices_line;
    for (const char *at = parts.choices; at < parts.decisions; at = line_end(at, parts.decisions) + 1)
        line++;
    for (const char *at = parts.decisions, *end; at < parts.decisions_end; at = end + 1) {
        seqtopk_tuned tuned = {.line = line++};
        end = line_end(at, parts.decisions_end);
        const seqtopk_wisdom_reason reason = read_line(&p, at, end, &tuned);
        if (reason) {
            if (wisdom->notes < SEQTOPK_WISDOM_NOTES)
                wisdom->note[wisdom->notes++] = (seqtopk_wisdom_note){tuned.line, reason};
            wisdom->dropped++;
        } else if (tuned.tokens) {
            status = seqtopk_wisdom_add(wisdom, &tuned, error);
            if (status) {
                seqtopk_wisdom_free(wisdom);
                return status;
            }
        }
    }
    return SEQTOPK_OK;
}
