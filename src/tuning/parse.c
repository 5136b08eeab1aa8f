/* SPDX-License-Identifier: MIT */
/* Text to decisions. */
#include "src/status.h"
#include "src/tuning/scan.h"
#include "src/tuning/text.h"

/* "[op dtype scope score E K threads]" */
static seqtopk_tuning_reason read_heading(const char *at, const char *end, int32_t *op_row,
                                          seqtopk_tuning_shape *shape) {
    at++;
    const seqtopk_tuning_reason reason = seqtopk_tuning_file_read_heading(&at, shape, op_row);
    if (reason == SEQTOPK_TUNING_SYNTAX || *at++ != ' ' || !seqtopk_tuning_file_read_numbers(&at, shape) ||
        *at++ != ']' || at != end)
        return SEQTOPK_TUNING_SYNTAX;
    return reason ? reason : seqtopk_tuning_numbers_check(shape);
}

/* "tokens row@revision ps spread alone" or "tokens row@revision ps spread runner-up ps clear|close" */
static seqtopk_tuning_reason read_decision(const char *at, const char *end, const seqtopk_tuning_reader *reader,
                                           seqtopk_measurement *tuned) {
    const int64_t tokens = take_number(&at, SEQTOPK_TUNING_LARGEST_TOKENS);
    if (tokens < 0 || *at++ != ' ')
        return SEQTOPK_TUNING_SYNTAX;
    int64_t revision, none;
    if (!seqtopk_tuning_file_read_row(&at, &tuned->shape, &tuned->row, &revision) || revision < 0 || *at++ != ' ')
        return SEQTOPK_TUNING_SYNTAX;
    tuned->ps = take_number(&at, SEQTOPK_TUNING_LARGEST_PS);
    if (tuned->ps < 0 || *at++ != ' ')
        return SEQTOPK_TUNING_SYNTAX;
    const int64_t spread = take_number(&at, SEQTOPK_TUNING_LARGEST_SPREAD);
    if (spread < 0 || *at++ != ' ')
        return SEQTOPK_TUNING_SYNTAX;
    const int alone = end - at == 5 && take(&at, "alone");
    tuned->runner_up = -1;
    tuned->runner_up_ps = 0;
    tuned->clear = 1;
    if (!alone) {
        if (!seqtopk_tuning_file_read_row(&at, &tuned->shape, &tuned->runner_up, &none) || none >= 0 || *at++ != ' ')
            return SEQTOPK_TUNING_SYNTAX;
        tuned->runner_up_ps = take_number(&at, SEQTOPK_TUNING_LARGEST_PS);
        if (tuned->runner_up_ps < 0 || *at++ != ' ')
            return SEQTOPK_TUNING_SYNTAX;
        tuned->clear = take(&at, "clear");
        if (!tuned->clear && !take(&at, "close"))
            return SEQTOPK_TUNING_SYNTAX;
    }
    if (at != end)
        return SEQTOPK_TUNING_SYNTAX;
    tuned->tokens = (int32_t)tokens;
    tuned->spread = (int32_t)spread;
    if (!alone && tuned->runner_up < 0) { /* it is gone; what it lost to still won */
        tuned->runner_up_ps = 0;
        tuned->clear = 1;
    }
    const seqtopk_tuning_reason reason = seqtopk_measurement_check(tuned);
    if (reason == SEQTOPK_TUNING_NUMBER || reason == SEQTOPK_TUNING_UNKNOWN_ROW)
        return reason;
    const seqtopk_tuning_reason unusable = seqtopk_tuning_file_usable(reader, tuned->row, revision);
    return unusable ? unusable : reason;
}

/* What the next line has to come after, and what it is read by. */
typedef struct {
    const seqtopk_tuning_reader *reader;
    seqtopk_tuning_shape shape;
    int32_t tokens, op_row;
    seqtopk_tuning_reason lost; /* of the last heading, if it was dropped: its decisions go with it */
} place;

/* Reads a line; a heading leaves tuned->tokens 0. */
static seqtopk_tuning_reason read_line(place *p, const char *at, const char *end, seqtopk_measurement *tuned) {
    seqtopk_tuning_reason reason;
    tuned->tokens = 0;
    if (*at == '[') {
        reason = read_heading(at, end, &p->op_row, &tuned->shape);
        if (!reason && seqtopk_tuning_shape_compare(&p->shape, &tuned->shape) >= 0)
            reason = SEQTOPK_TUNING_ORDER;
        p->lost = reason;
        p->tokens = 0;
        if (!reason)
            p->shape = tuned->shape;
        return reason;
    }
    tuned->shape = p->shape;
    reason = p->lost ? p->lost : read_decision(at, end, p->reader, tuned);
    if (!reason && tuned->tokens <= p->tokens)
        reason = SEQTOPK_TUNING_ORDER;
    if (!reason)
        p->tokens = tuned->tokens;
    return reason;
}

seqtopk_status seqtopk_tuning_file_parse(seqtopk_tuning_file *file, const char *text, size_t size,
                                         const seqtopk_tuning_reader *reader, seqtopk_error *error) {
    memset(file, 0, sizeof *file);
    seqtopk_tuning_parts parts;
    seqtopk_status status = seqtopk_tuning_file_open(&parts, text, size, 1, reader, error);
    if (status)
        return status;
    memcpy(file->library, parts.library, sizeof file->library);
    memcpy(file->machine, parts.machine, sizeof file->machine);
    place p = {.reader = reader, .lost = SEQTOPK_TUNING_SYNTAX}; /* until there is a heading */
    int32_t line = parts.choices_line;
    for (const char *at = parts.choices; at < parts.decisions; at = line_end(at, parts.decisions) + 1)
        line++;
    for (const char *at = parts.decisions, *end; at < parts.decisions_end; at = end + 1, line++) {
        seqtopk_measurement tuned = {.line = line};
        end = line_end(at, parts.decisions_end);
        const seqtopk_tuning_reason reason = read_line(&p, at, end, &tuned);
        if (reason) {
            if (file->notes < SEQTOPK_TUNING_NOTES)
                file->note[file->notes++] = (seqtopk_tuning_note){tuned.line, reason};
            file->dropped++;
        } else if (tuned.tokens) {
            status = seqtopk_tuning_file_add(file, &tuned, error);
            if (status) {
                seqtopk_tuning_file_free(file);
                return status;
            }
        }
    }
    return SEQTOPK_OK;
}
