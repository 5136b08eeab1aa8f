/* SPDX-License-Identifier: MIT */
/*
 * Text to decisions. The text may be anything at all. Every line before the end line is known to end in '\n', and
 * nothing here reads on after a character that it did not expect: so nothing reads beyond the text.
 */
#include "src/status.h"
#include "src/wisdom_text.h"

#include <stdlib.h>

#define REFUSE(...) return seqtopk_fail(error, SEQTOPK_E_TUNING, -1, __VA_ARGS__)

/* ------------------------------------------------------------- characters -- */

static int take(const char **at, const char *word) {
    const size_t size = strlen(word);
    if (strncmp(*at, word, size) != 0)
        return 0;
    *at += size;
    return 1;
}

static int is_digit(char c) { return c >= '0' && c <= '9'; }

/* A number without sign or leading zero; -1: there is none, `most` + 1: it is larger than `most`. */
static int64_t take_number(const char **at, int64_t most) {
    enum { SAFE_DIGITS = 18 };
    const char *digit = *at;
    int64_t number = 0;
    if (!is_digit(*digit) || (*digit == '0' && is_digit(digit[1])))
        return -1;
    for (; is_digit(*digit); digit++)
        if (digit - *at < SAFE_DIGITS)
            number = 10 * number + (*digit - '0');
    const int is_large = number > most || digit - *at > SAFE_DIGITS;
    *at = digit;
    return is_large ? most + 1 : number;
}

/* Letters, digits, '_', '.' and '-': a bit for each character, 32 in a row. */
static int is_word_character(char c) {
    static const uint32_t words[8] = {0, 0x03ff6000, 0x87fffffe, 0x07fffffe};
    const unsigned char u = (unsigned char)c;
    return words[u >> 5] >> (u & 31) & 1;
}

/* A word; its length, 0: there is none. */
static size_t take_word(const char **at) {
    const char *begin = *at, *end = begin;
    while (is_word_character(*end))
        end++;
    *at = end;
    return (size_t)(end - begin);
}

static int is_word(const char *begin, size_t size, const char *word) {
    return strncmp(begin, word, size) == 0 && word[size] == 0;
}

static int32_t find_word(const char *begin, size_t size, const char *const *words, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        if (is_word(begin, size, words[i]))
            return i;
    return -1;
}

static const char *line_end(const char *at, const char *end) {
    const char *found = memchr(at, '\n', (size_t)(end - at));
    return found ? found : end;
}

/* ---------------------------------------------------------- header and end -- */

/* "end <decisions> <checksum>\n" at the very end of the text; answers where it begins, or NULL. */
static const char *find_end(const char *text, size_t size, int32_t *decisions, uint64_t *checksum,
                            const char **summed) {
    enum { LONGEST = 4 + 10 + 1 + SEQTOPK_WISDOM_DIGITS };
    if (size == 0 || text[size - 1] != '\n')
        return NULL;
    const char *last = text + size - 1, *begin = last;
    while (begin > text && begin[-1] != '\n' && last - begin <= LONGEST)
        begin--;
    const char *at = begin;
    if (begin == text || begin[-1] != '\n' || !take(&at, "end "))
        return NULL;
    const int64_t number = take_number(&at, INT32_MAX - 1);
    if (number < 0 || number >= INT32_MAX || *at != ' ' || last - ++at != SEQTOPK_WISDOM_DIGITS)
        return NULL;
    *decisions = (int32_t)number;
    *summed = at;
    *checksum = 0;
    for (; at < last; at++) {
        if (!is_digit(*at) && !(*at >= 'a' && *at <= 'f'))
            return NULL;
        *checksum = *checksum << 4 | (uint64_t)(is_digit(*at) ? *at - '0' : *at - 'a' + 10);
    }
    return begin;
}

/* "<word> <value>\n": the value, of printable ASCII. */
static int take_field(seqtopk_wisdom_cursor *cursor, const char *word, char *value, size_t capacity) {
    const char *at = cursor->at, *end = line_end(cursor->at, cursor->end);
    if (end == cursor->end || !take(&at, word) || at == end || (size_t)(end - at) >= capacity)
        return 0;
    for (const char *c = at; c < end; c++)
        if (*c < ' ' || *c > '~')
            return 0;
    memcpy(value, at, (size_t)(end - at));
    value[end - at] = 0;
    cursor->at = end + 1;
    cursor->line++;
    return 1;
}

/* Where two keys begin to differ: the word that it is in. */
static void differing_words(const char **a, const char **b) {
    const char *from_a = *a, *from_b = *b;
    for (; *from_a && *from_a == *from_b; from_a++, from_b++)
        if (*from_a == ' ') {
            *a = from_a + 1;
            *b = from_b + 1;
        }
}

static seqtopk_status check_magic(const char **at, const char *end, seqtopk_error *error) {
    const size_t length = strlen(SEQTOPK_WISDOM_MAGIC);
    if ((size_t)(end - *at) < length || memcmp(*at, SEQTOPK_WISDOM_MAGIC, length) != 0)
        REFUSE("it is no tuning file: it does not begin with \"" SEQTOPK_WISDOM_MAGIC "\"");
    *at += length;
    const char *line = line_end(*at, end);
    if (line == end)
        REFUSE("it is cut off in its first line");
    const int64_t format = take_number(at, 1000000);
    if (format > SEQTOPK_WISDOM_FORMAT)
        REFUSE("it is of format %d; library %s reads format %d: use a newer library, or tune again", (int)format,
               SEQTOPK_VERSION, SEQTOPK_WISDOM_FORMAT);
    if (format == SEQTOPK_WISDOM_FORMAT && line - *at == 1 && **at == '\r')
        REFUSE("its lines end in CR LF: it was changed on its way; copy it byte by byte");
    if (format != SEQTOPK_WISDOM_FORMAT || *at != line)
        REFUSE("its first line is damaged: tune again");
    ++*at;
    return SEQTOPK_OK;
}

seqtopk_status seqtopk_wisdom_open(seqtopk_wisdom_cursor *cursor, const char *text, size_t size,
                                   const seqtopk_wisdom_reader *reader, seqtopk_error *error) {
    memset(cursor, 0, sizeof *cursor);
    if (!text)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "the text of a tuning file is NULL");
    if (size > SEQTOPK_WISDOM_LARGEST)
        REFUSE("it has %zu bytes; no tuning file has more than %d", size, SEQTOPK_WISDOM_LARGEST);
    cursor->at = text;
    seqtopk_status status = check_magic(&cursor->at, text + size, error);
    if (status)
        return status;
    uint64_t checksum;
    const char *summed;
    cursor->end = find_end(text, size, &cursor->decisions, &checksum, &summed);
    if (!cursor->end)
        REFUSE("it has no end line: it was cut off; tune again");
    if (checksum != seqtopk_wisdom_checksum(text, (size_t)(summed - text)))
        REFUSE("its checksum is wrong: it is damaged, or was changed by hand; tune again");
    cursor->line = 2;
    if (!take_field(cursor, "library ", cursor->library, sizeof cursor->library) ||
        !take_field(cursor, "machine ", cursor->machine, sizeof cursor->machine))
        REFUSE("line %d is not as it should be (library, then machine): tune again", (int)cursor->line);
    if (reader->library && strcmp(reader->library, cursor->library) != 0)
        REFUSE("it was made by library %s, this is %s: tune again", cursor->library, reader->library);
    if (reader->machine && strcmp(reader->machine, cursor->machine) != 0) {
        const char *theirs = cursor->machine, *ours = reader->machine;
        differing_words(&theirs, &ours);
        REFUSE("it is of another machine, \"%.*s\" where this is \"%.*s\": tune here", (int)strcspn(theirs, " "),
               theirs, (int)strcspn(ours, " "), ours);
    }
    cursor->reader = *reader;
    cursor->lost = SEQTOPK_WISDOM_SYNTAX; /* until there is a heading */
    return SEQTOPK_OK;
}

/* ------------------------------------------------------------------ lines -- */

/* A row of the op and dtype of a heading, `last` if it will do; -1: there is none. */
static int32_t find_op(const char *op, size_t op_size, const char *dtype, size_t dtype_size, int32_t last) {
    for (int32_t i = -1; i < seqtopk_registry_size; i++) {
        const seqtopk_row *row = seqtopk_registry + (i < 0 ? last : i);
        if (is_word(op, op_size, row->op_name) && is_word(dtype, dtype_size, row->dtype_name))
            return (int32_t)(row - seqtopk_registry);
    }
    return -1;
}

/* "[op dtype scope score experts top_k threads]" */
static seqtopk_wisdom_reason read_heading(const char *at, const char *end, int32_t *op_row,
                                          seqtopk_tuned_shape *shape) {
    const char *words[4];
    size_t sizes[4];
    int64_t numbers[3];
    at++;
    for (int i = 0; i < 4; i++) {
        words[i] = at;
        sizes[i] = take_word(&at);
        if (sizes[i] == 0 || *at++ != ' ')
            return SEQTOPK_WISDOM_SYNTAX;
    }
    for (int i = 0; i < 3; i++) {
        numbers[i] = take_number(&at, 1 << 20);
        if (numbers[i] < 0 || *at++ != (i < 2 ? ' ' : ']'))
            return SEQTOPK_WISDOM_SYNTAX;
    }
    if (at != end)
        return SEQTOPK_WISDOM_SYNTAX;
    const int32_t row = find_op(words[0], sizes[0], words[1], sizes[1], *op_row);
    if (row < 0)
        return SEQTOPK_WISDOM_UNKNOWN_OP;
    *op_row = row;
    shape->op = seqtopk_registry[row].op;
    shape->dtype = seqtopk_registry[row].dtype;
    shape->scope = find_word(words[2], sizes[2], seqtopk_wisdom_scopes, SEQTOPK_WISDOM_SCOPES);
    shape->score = find_word(words[3], sizes[3], seqtopk_wisdom_scores, SEQTOPK_WISDOM_SCORES);
    shape->experts = (int32_t)numbers[0];
    shape->top_k = (int32_t)numbers[1];
    shape->threads = (int32_t)numbers[2];
    return seqtopk_tuned_numbers_check(shape);
}

/* From row `from` on, the next of the shape's op and dtype; at the end the registry's size. */
static int32_t next_row(int32_t from, const seqtopk_tuned_shape *shape) {
    while (from < seqtopk_registry_size &&
           (seqtopk_registry[from].op != shape->op || seqtopk_registry[from].dtype != shape->dtype))
        from++;
    return from;
}

/* The row of that variant; -1: there is none. */
static int32_t find_row(const char *word, size_t size, seqtopk_wisdom_cursor *cursor) {
    if (cursor->rows < 0) {
        cursor->rows = 0;
        for (int32_t i = next_row(0, &cursor->shape); i < seqtopk_registry_size && cursor->rows < SEQTOPK_WISDOM_ROWS;
             i = next_row(i + 1, &cursor->shape))
            cursor->row[cursor->rows++] = i;
    }
    for (int32_t i = 0; i < cursor->rows; i++)
        if (is_word(word, size, seqtopk_registry[cursor->row[i]].variant))
            return cursor->row[i];
    if (cursor->rows == SEQTOPK_WISDOM_ROWS)
        for (int32_t i = next_row(cursor->row[SEQTOPK_WISDOM_ROWS - 1] + 1, &cursor->shape); i < seqtopk_registry_size;
             i = next_row(i + 1, &cursor->shape))
            if (is_word(word, size, seqtopk_registry[i].variant))
                return i;
    return -1;
}

/* "tokens row@revision ps spread alone" or "tokens row@revision ps spread runner-up ps clear|close" */
static seqtopk_wisdom_reason read_decision(const char *at, const char *end, seqtopk_wisdom_cursor *cursor,
                                           seqtopk_tuned *tuned) {
    const int64_t tokens = take_number(&at, SEQTOPK_WISDOM_LARGEST_TOKENS);
    if (tokens < 0 || *at++ != ' ')
        return SEQTOPK_WISDOM_SYNTAX;
    const char *row = at, *runner_up;
    const size_t row_size = take_word(&at);
    if (row_size == 0 || *at++ != '@')
        return SEQTOPK_WISDOM_SYNTAX;
    const int64_t revision = take_number(&at, INT32_MAX - 1);
    if (revision < 0 || *at++ != ' ')
        return SEQTOPK_WISDOM_SYNTAX;
    tuned->ps = take_number(&at, SEQTOPK_WISDOM_LARGEST_PS);
    if (tuned->ps < 0 || *at++ != ' ')
        return SEQTOPK_WISDOM_SYNTAX;
    const int64_t spread = take_number(&at, SEQTOPK_WISDOM_LARGEST_SPREAD);
    if (spread < 0 || *at++ != ' ')
        return SEQTOPK_WISDOM_SYNTAX;
    runner_up = at;
    const size_t runner_up_size = take_word(&at);
    const int alone = is_word(runner_up, runner_up_size, "alone");
    tuned->runner_up_ps = 0;
    tuned->clear = 1;
    if (!alone) {
        if (runner_up_size == 0 || *at++ != ' ')
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
    tuned->row = find_row(row, row_size, cursor);
    tuned->runner_up = alone ? -1 : find_row(runner_up, runner_up_size, cursor);
    if (!alone && tuned->runner_up < 0) { /* it is gone; what it lost to still won */
        tuned->runner_up_ps = 0;
        tuned->clear = 1;
    }
    const seqtopk_wisdom_reason reason = seqtopk_tuned_check(tuned);
    if (reason == SEQTOPK_WISDOM_NUMBER || reason == SEQTOPK_WISDOM_UNKNOWN_ROW)
        return reason;
    if (seqtopk_registry[tuned->row].revision != revision)
        return SEQTOPK_WISDOM_REVISION;
    if (!(cursor->reader.isas >> seqtopk_registry[tuned->row].isa & 1))
        return SEQTOPK_WISDOM_NOT_USABLE;
    return reason;
}

seqtopk_wisdom_line seqtopk_wisdom_next(seqtopk_wisdom_cursor *cursor, seqtopk_tuned *tuned,
                                        seqtopk_wisdom_reason *reason) {
    if (cursor->at == cursor->end)
        return SEQTOPK_WISDOM_END;
    const char *at = cursor->at, *end = line_end(at, cursor->end);
    cursor->at = end + 1;
    tuned->line = cursor->line++;
    if (*at == '[') {
        *reason = read_heading(at, end, &cursor->op_row, &tuned->shape);
        if (!*reason && seqtopk_tuned_shape_compare(&cursor->shape, &tuned->shape) >= 0)
            *reason = SEQTOPK_WISDOM_ORDER;
        cursor->lost = *reason;
        cursor->tokens = 0;
        if (*reason)
            return SEQTOPK_WISDOM_DROPPED;
        cursor->shape = tuned->shape;
        cursor->rows = -1;
        return SEQTOPK_WISDOM_HEADING;
    }
    *reason = cursor->lost;
    if (!*reason) {
        tuned->shape = cursor->shape;
        *reason = read_decision(at, end, cursor, tuned);
    }
    if (!*reason && tuned->tokens <= cursor->tokens)
        *reason = SEQTOPK_WISDOM_ORDER;
    if (*reason)
        return SEQTOPK_WISDOM_DROPPED;
    cursor->tokens = tuned->tokens;
    return SEQTOPK_WISDOM_DECISION;
}

/* Bytes are counted in bytes, which the compiler can do for a vector of them at once. */
static int32_t count_lines(const char *at, const char *end) {
    enum { LANES = 32, MOST = 255 };
    int32_t lines = 0;
    while (end - at >= LANES) {
        uint8_t seen[LANES] = {0};
        for (int n = 0; n < MOST && end - at >= LANES; n++, at += LANES)
            for (int i = 0; i < LANES; i++)
                seen[i] = (uint8_t)(seen[i] + (at[i] == '\n'));
        for (int i = 0; i < LANES; i++)
            lines += seen[i];
    }
    for (; at < end; at++)
        lines += *at == '\n';
    return lines;
}

void seqtopk_wisdom_skip(seqtopk_wisdom_cursor *cursor) {
    const char *at = cursor->at;
    while (at < cursor->end) {
        const char *found = memchr(at, '[', (size_t)(cursor->end - at));
        at = found ? found : cursor->end;
        if (!found || found[-1] == '\n')
            break;
        at++;
    }
    cursor->line += count_lines(cursor->at, at);
    cursor->at = at;
}

seqtopk_status seqtopk_wisdom_parse(seqtopk_wisdom *wisdom, const char *text, size_t size,
                                    const seqtopk_wisdom_reader *reader, seqtopk_error *error) {
    memset(wisdom, 0, sizeof *wisdom);
    seqtopk_wisdom_cursor cursor;
    seqtopk_status status = seqtopk_wisdom_open(&cursor, text, size, reader, error);
    if (status)
        return status;
    memcpy(wisdom->library, cursor.library, sizeof wisdom->library);
    memcpy(wisdom->machine, cursor.machine, sizeof wisdom->machine);
    for (;;) {
        seqtopk_tuned tuned = {0};
        seqtopk_wisdom_reason reason = SEQTOPK_WISDOM_KEPT;
        switch (seqtopk_wisdom_next(&cursor, &tuned, &reason)) {
        case SEQTOPK_WISDOM_END: return SEQTOPK_OK;
        case SEQTOPK_WISDOM_HEADING: break;
        case SEQTOPK_WISDOM_DECISION:
            status = seqtopk_wisdom_add(wisdom, &tuned, error);
            if (status) {
                seqtopk_wisdom_free(wisdom);
                return status;
            }
            break;
        case SEQTOPK_WISDOM_DROPPED:
            if (wisdom->notes < SEQTOPK_WISDOM_NOTES)
                wisdom->note[wisdom->notes++] = (seqtopk_wisdom_note){tuned.line, reason};
            wisdom->dropped++;
            break;
        }
    }
}
