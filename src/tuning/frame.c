/* SPDX-License-Identifier: MIT */
/* The frame of a tuning file: header, checksums, where its parts are, and the words that both parts have. */
#include "src/status.h"
#include "src/tuning/scan.h"
#include "src/tuning/text.h"

/* ----------------------------------------------------------------- header -- */

static seqtopk_status read_magic(const char **at, const char *end, seqtopk_error *error) {
    const size_t length = strlen(SEQTOPK_TUNING_MAGIC);
    if ((size_t)(end - *at) < length || memcmp(*at, SEQTOPK_TUNING_MAGIC, length) != 0)
        return seqtopk_fail(error, SEQTOPK_E_TUNING, -1,
                            "it is no tuning file: it does not begin with \"" SEQTOPK_TUNING_MAGIC "\"");
    *at += length;
    const char *line = line_end(*at, end);
    if (line == end)
        return seqtopk_fail(error, SEQTOPK_E_TUNING, -1, "it is cut off in its first line");
    const int64_t format = take_number(at, 1000000);
    if (format > SEQTOPK_TUNING_FORMAT)
        return seqtopk_fail(error, SEQTOPK_E_TUNING, -1,
                            "it is of format %d; library %s reads format %d: use a newer library, or tune again",
                            (int)format, SEQTOPK_VERSION, SEQTOPK_TUNING_FORMAT);
    if (format == SEQTOPK_TUNING_FORMAT && line - *at == 1 && **at == '\r')
        return seqtopk_fail(error, SEQTOPK_E_TUNING, -1,
                            "its lines end in CR LF: it was changed on its way; copy it byte by byte");
    if (format != SEQTOPK_TUNING_FORMAT || *at != line)
        return seqtopk_fail(error, SEQTOPK_E_TUNING, -1, "its first line is damaged: tune again");
    ++*at;
    return SEQTOPK_OK;
}

/* "<word> <value>\n": the value, of printable ASCII. */
static int take_field(const char **text, const char *end, const char *word, char *value, size_t capacity) {
    const char *at = *text, *line = line_end(at, end);
    if (line == end || !take(&at, word) || at == line || (size_t)(line - at) >= capacity)
        return 0;
    for (const char *c = at; c < line; c++)
        if (*c < ' ' || *c > '~')
            return 0;
    memcpy(value, at, (size_t)(line - at));
    value[line - at] = 0;
    *text = line + 1;
    return 1;
}

/* ------------------------------------------------------------------- sums -- */

uint64_t seqtopk_tuning_file_checksum(const char *text, size_t size) {
    enum { LANES = 4, WORD = 8, BLOCK = LANES * WORD };
    const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15); /* 2^64 / the golden ratio: odd, and no pattern to it */
    uint64_t lane[LANES] = {1, 2, 3, 4}, sum = size;
    const unsigned char *bytes = (const unsigned char *)text;
    for (; size >= BLOCK; size -= BLOCK, bytes += BLOCK)
        for (int l = 0; l < LANES; l++) {
            uint64_t word = 0;
            for (int i = 0; i < WORD; i++)
                word |= (uint64_t)bytes[l * WORD + i] << 8 * i;
            lane[l] = (lane[l] ^ word) * factor;
            lane[l] ^= lane[l] >> 32;
        }
    for (; size > 0; size--)
        lane[size % LANES] = (lane[size % LANES] ^ *bytes++) * factor;
    for (int l = 0; l < LANES; l++) {
        sum = (sum ^ lane[l]) * factor;
        sum ^= sum >> 32;
    }
    return sum;
}

/* "<word><16 hexadecimal digits>\n" right before `end`, where `word` begins a line; its checksum is that of all before
 * the digits. Returns where the line begins, or NULL; *sound: whether the checksum is right. */
static const char *find_sum(const char *text, const char *end, const char *word, int *sound) {
    if (end - text < 2 + SEQTOPK_TUNING_DIGITS + (ptrdiff_t)strlen(word) || end[-1] != '\n')
        return NULL;
    const char *digits = end - 1 - SEQTOPK_TUNING_DIGITS, *begin = digits - strlen(word);
    if (begin[-1] != '\n' || memcmp(begin, word, strlen(word)) != 0)
        return NULL;
    uint64_t checksum = 0;
    for (const char *at = digits; at < end - 1; at++) {
        if (!is_digit(*at) && !(*at >= 'a' && *at <= 'f'))
            return NULL;
        checksum = checksum << 4 | (uint64_t)(is_digit(*at) ? *at - '0' : *at - 'a' + 10);
    }
    *sound = checksum == seqtopk_tuning_file_checksum(text, (size_t)(digits - text));
    return begin;
}

/* "end <decisions> <checksum>\n" at the very end. */
static const char *find_end(const char *text, const char *end, int *sound) {
    enum { LONGEST = 4 + 10 + 1 };
    if (end - text <= 1 + SEQTOPK_TUNING_DIGITS || end[-1] != '\n')
        return NULL;
    const char *digits = end - 1 - SEQTOPK_TUNING_DIGITS;
    for (int before = 6; before <= LONGEST && digits - text > before; before++)
        if (digits[-before - 1] == '\n') {
            const char *at = digits - before;
            const int64_t number = take(&at, "end ") ? take_number(&at, INT32_MAX - 1) : -1;
            if (number < 0 || number >= INT32_MAX || *at != ' ' || at + 1 != digits)
                return NULL;
            char word[LONGEST + 1] = {0};
            memcpy(word, digits - before, (size_t)before);
            return find_sum(text, end, word, sound);
        }
    return NULL;
}

/* ---------------------------------------------------------------- opening -- */

/* Where two keys begin to differ: the word that it is in. */
static void differing_words(const char **a, const char **b) {
    const char *from_a = *a, *from_b = *b;
    for (; *from_a && *from_a == *from_b; from_a++, from_b++)
        if (*from_a == ' ') {
            *a = from_a + 1;
            *b = from_b + 1;
        }
}

static seqtopk_status check_origin(const seqtopk_tuning_parts *parts, const seqtopk_tuning_reader *reader,
                                   seqtopk_error *error) {
    if (reader->library && strcmp(reader->library, parts->library) != 0)
        return seqtopk_fail(error, SEQTOPK_E_TUNING, -1, "it was made by library %s, this is %s: tune again",
                            parts->library, reader->library);
    if (reader->machine && strcmp(reader->machine, parts->machine) != 0) {
        const char *theirs = parts->machine, *ours = reader->machine;
        differing_words(&theirs, &ours);
        return seqtopk_fail(error, SEQTOPK_E_TUNING, -1,
                            "it is of another machine, \"%.*s\" where this is \"%.*s\": tune here",
                            (int)strcspn(theirs, " "), theirs, (int)strcspn(ours, " "), ours);
    }
    return SEQTOPK_OK;
}

/* By the line "choices <bytes>", which begins at `at`: how many bytes of the text plans read; 0: it is not that line. */
static size_t read_extent(const char *text, const char *at, const char *end) {
    if (line_end(at, end) == end || !take(&at, "choices "))
        return 0;
    const int64_t bytes = take_number(&at, SEQTOPK_TUNING_LARGEST);
    return bytes < 0 || *at != '\n' ? 0 : (size_t)(at + 1 - text) + (size_t)bytes;
}

size_t seqtopk_tuning_file_start(const char *text, size_t size) {
    enum { BEFORE = 3 }; /* lines */
    const char *at = text, *end = text + size;
    for (int line = 0; line < BEFORE; line++) {
        at = line_end(at, end);
        if (at == end)
            return 0;
        at++;
    }
    return read_extent(text, at, end);
}

seqtopk_status seqtopk_tuning_file_open(seqtopk_tuning_parts *parts, const char *text, size_t size, int whole,
                                        const seqtopk_tuning_reader *reader, seqtopk_error *error) {
    memset(parts, 0, sizeof *parts);
    if (!text)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "the text of a tuning file is NULL");
    if (size > SEQTOPK_TUNING_LARGEST)
        return seqtopk_fail(error, SEQTOPK_E_TUNING, -1, "it has %zu bytes; no tuning file has more than %d", size,
                            SEQTOPK_TUNING_LARGEST);
    const char *at = text, *end = text + size;
    const seqtopk_status status = read_magic(&at, end, error);
    if (status)
        return status;
    if (!take_field(&at, end, "library ", parts->library, sizeof parts->library) ||
        !take_field(&at, end, "machine ", parts->machine, sizeof parts->machine))
        return seqtopk_fail(
            error, SEQTOPK_E_TUNING, -1,
            "line %d is not as it should be (library, then machine): it is damaged or cut off; tune again",
            *parts->library ? 3 : 2);
    const size_t start = read_extent(text, at, end);
    if (start == 0)
        return seqtopk_fail(
            error, SEQTOPK_E_TUNING, -1,
            "line 4 is not as it should be (choices, how many bytes): it is damaged or cut off; tune again");
    if (start > size)
        return seqtopk_fail(error, SEQTOPK_E_TUNING, -1, "it is cut off in its choices: tune again");
    const char *measured = text + start;
    int sound;
    parts->choices = line_end(at, end) + 1;
    parts->choices_line = 5;
    parts->choices_end = find_sum(text, measured, "measured ", &sound);
    if (!parts->choices_end || parts->choices_end < parts->choices)
        return seqtopk_fail(error, SEQTOPK_E_TUNING, -1,
                            "its choices do not end where line 4 says: it is damaged; tune again");
    if (!sound)
        return seqtopk_fail(error, SEQTOPK_E_TUNING, -1,
                            "the checksum of its choices is wrong: it is damaged, or was changed by hand; tune again");
    if (whole) {
        parts->decisions = measured;
        parts->decisions_end = find_end(text, end, &sound);
        if (!parts->decisions_end || parts->decisions_end < measured)
            return seqtopk_fail(error, SEQTOPK_E_TUNING, -1, "it has no end line: it was cut off; tune again");
        if (!sound)
            return seqtopk_fail(error, SEQTOPK_E_TUNING, -1,
                                "its checksum is wrong: it is damaged, or was changed by hand; tune again");
    }
    return check_origin(parts, reader, error);
}

/* ------------------------------------------------------------------ words -- */

/* A row of the op and dtype of a heading, `last` if it will do; -1: there is none. */
static int32_t find_op(const char *op, size_t op_size, const char *dtype, size_t dtype_size, int32_t last) {
    for (int32_t i = -1; i < seqtopk_registry_size; i++) {
        const seqtopk_row *row = seqtopk_registry + (i < 0 ? last : i);
        if (is_word(op, op_size, row->op_name) && is_word(dtype, dtype_size, row->dtype_name))
            return (int32_t)(row - seqtopk_registry);
    }
    return -1;
}

seqtopk_tuning_reason seqtopk_tuning_file_read_heading(const char **at, seqtopk_tuning_shape *shape, int32_t *op_row) {
    const char *words[4];
    size_t sizes[4];
    for (int i = 0; i < 4; i++) {
        *at += i > 0;
        words[i] = *at;
        sizes[i] = take_word(at);
        if (sizes[i] == 0 || (i < 3 && **at != ' '))
            return SEQTOPK_TUNING_SYNTAX;
    }
    const int32_t row = find_op(words[0], sizes[0], words[1], sizes[1], *op_row);
    if (row < 0)
        return SEQTOPK_TUNING_UNKNOWN_OP;
    *op_row = row;
    shape->op = seqtopk_registry[row].op;
    shape->dtype = seqtopk_registry[row].dtype;
    shape->scope = find_word(words[2], sizes[2], seqtopk_tuning_scopes, SEQTOPK_TUNING_SCOPES);
    shape->score = find_word(words[3], sizes[3], seqtopk_tuning_scores, SEQTOPK_TUNING_SCORES);
    return shape->scope < 0 || shape->score < 0 ? SEQTOPK_TUNING_SHAPE : SEQTOPK_TUNING_KEPT;
}

int seqtopk_tuning_file_read_numbers(const char **at, seqtopk_tuning_shape *shape) {
    int32_t *const numbers[] = {&shape->experts, &shape->top_k, &shape->threads};
    for (int i = 0; i < 3; i++) {
        if (i > 0 && *(*at)++ != ' ')
            return 0;
        const int64_t number = take_number(at, 1 << 20);
        if (number < 0)
            return 0;
        *numbers[i] = (int32_t)number;
    }
    return 1;
}

int seqtopk_tuning_file_read_row(const char **at, const seqtopk_tuning_shape *shape, int32_t *row, int64_t *revision) {
    const char *word = *at;
    const size_t size = take_word(at);
    *row = -1;
    *revision = -1;
    if (size == 0)
        return 0;
    if (**at == '@') {
        ++*at;
        *revision = take_number(at, INT32_MAX - 1);
        if (*revision < 0)
            return 0;
    }
    for (int32_t i = 0; i < seqtopk_registry_size && *row < 0; i++)
        if (seqtopk_registry[i].op == shape->op && seqtopk_registry[i].dtype == shape->dtype &&
            is_word(word, size, seqtopk_registry[i].variant))
            *row = i;
    return 1;
}

seqtopk_tuning_reason seqtopk_tuning_file_usable(const seqtopk_tuning_reader *reader, int32_t row, int64_t revision) {
    if (seqtopk_registry[row].revision != revision)
        return SEQTOPK_TUNING_REVISION;
    return reader->isas >> seqtopk_registry[row].isa & 1 ? SEQTOPK_TUNING_KEPT : SEQTOPK_TUNING_NOT_USABLE;
}
