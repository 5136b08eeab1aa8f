/* SPDX-License-Identifier: MIT */
/*
 * The words of a tuning file, which may be anything at all. Every line is known to end in '\n', and nothing here reads
 * on after a character that it did not expect: so nothing reads beyond the text.
 */
#ifndef SEQTOPK_SRC_TUNING_SCAN_H
#define SEQTOPK_SRC_TUNING_SCAN_H

#include <stdint.h>
#include <string.h>

static inline int take(const char **at, const char *word) {
    const char *c = *at;
    for (; *word; word++) /* not strncmp, which may read on after what differs */
        if (*c++ != *word)
            return 0;
    *at = c;
    return 1;
}

static inline int is_digit(char c) { return c >= '0' && c <= '9'; }

/* A number without sign or leading zero; -1: there is none, `most` + 1: it is larger than `most`. */
static inline int64_t take_number(const char **at, int64_t most) {
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
static inline int is_word_character(char c) {
    static const uint32_t words[8] = {0, 0x03ff6000, 0x87fffffe, 0x07fffffe};
    const unsigned char u = (unsigned char)c;
    return words[u >> 5] >> (u & 31) & 1;
}

/* A word; its length, 0: there is none. */
static inline size_t take_word(const char **at) {
    const char *begin = *at, *end = begin;
    while (is_word_character(*end))
        end++;
    *at = end;
    return (size_t)(end - begin);
}

static inline int is_word(const char *begin, size_t size, const char *word) {
    return *begin == *word && strncmp(begin, word, size) == 0 && word[size] == 0;
}

static inline int32_t find_word(const char *begin, size_t size, const char *const *words, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        if (is_word(begin, size, words[i]))
            return i;
    return -1;
}

static inline const char *line_end(const char *at, const char *end) {
    const char *found = memchr(at, '\n', (size_t)(end - at));
    return found ? found : end;
}

#endif
