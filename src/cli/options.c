/* SPDX-License-Identifier: MIT */
#include "options.h"
#include "cli.h"

#include "src/plan/presets.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------- numbers -- */

bool seqtopk_parse_int(const char *text, int64_t least, int64_t most, int64_t *value) {
    const char *digits = text + (*text == '-');
    if (!*digits || strspn(digits, "0123456789") != strlen(digits))
        return false;
    errno = 0;
    long long n = strtoll(text, NULL, 10);
    if (errno || n < least || n > most)
        return false;
    *value = n;
    return true;
}

bool seqtopk_parse_shape(const char *text, int count, const int64_t *least, const int64_t *most, int64_t *sizes) {
    for (int i = 0; i < count; i++) {
        char word[16];
        size_t n = strcspn(text, "x");
        if (n >= sizeof word)
            return false;
        memcpy(word, text, n);
        word[n] = 0;
        if (!seqtopk_parse_int(word, least[i], most[i], &sizes[i]) || (text[n] == 'x') != (i + 1 < count))
            return false;
        text += n + (i + 1 < count);
    }
    return true;
}

/* A plain decimal number: no hexadecimal, no "inf", nothing that float32 turns into 0 or infinity. */
static bool parse_float(const char *text, double least, double most, float *value) {
    if (!*text || strspn(text, "0123456789+-.eE") != strlen(text))
        return false;
    char *end;
    double d = strtod(text, &end);
    if (*end || end == text || !(d >= least && d <= most) || fabs(d) > FLT_MAX)
        return false;
    *value = (float)d;
    return *value != 0 || strcspn(text, "123456789") >= strcspn(text, "eE");
}

/* ----------------------------------------------------------------- words -- */

const char *seqtopk_options_word(const char *words, int place, char text[SEQTOPK_WORD]) {
    while (place-- > 0)
        words += strcspn(words, "|") + (words[strcspn(words, "|")] == '|');
    snprintf(text, SEQTOPK_WORD, "%.*s", (int)strcspn(words, "|"), words);
    return text;
}

/* The place of `word` in "max|top2|topn", or -1. */
static int place_of(const char *words, const char *word) {
    size_t length = strlen(word);
    for (int place = 0;; place++) {
        size_t n = strcspn(words, "|");
        if (n == length && !memcmp(words, word, n))
            return place;
        if (!words[n])
            return -1;
        words += n + 1;
    }
}

const char *seqtopk_options_nearest(const char *word, const char *const *names, size_t count) {
    const char *nearest = NULL;
    int least = 3;
    for (size_t i = 0; i < count; i++) {
        const int d = seqtopk_edits(word, names[i]);
        if (d < least && d < (int)strlen(names[i])) {
            least = d;
            nearest = names[i];
        }
    }
    return nearest;
}

/* ------------------------------------------------------------------ help -- */

static int left_column(const seqtopk_option *row, char *text, size_t size) {
    const char *dashes = row->kind == SEQTOPK_OPTION_POSITIONAL ? "" : "--";
    return snprintf(text, size, "%s%s%s%s", dashes, row->name, row->argument ? " " : "",
                    row->argument ? row->argument : "");
}

static void print_help(const seqtopk_options *options) {
    char left[96];
    int width = 6;
    printf("Usage: seqtopk %s", options->command);
    for (size_t i = 0; i < options->count; i++) {
        const seqtopk_option *row = &options->rows[i];
        if (row->kind == SEQTOPK_OPTION_HEADING)
            continue;
        int n = left_column(row, left, sizeof left);
        if (width < n)
            width = n;
        if (row->required || row->kind == SEQTOPK_OPTION_POSITIONAL)
            printf(row->required ? " %s" : " [%s]", left);
    }
    printf(" [OPTIONS]\n%s\n\n", options->about);
    for (size_t i = 0; i < options->count; i++) {
        const seqtopk_option *row = &options->rows[i];
        if (row->kind == SEQTOPK_OPTION_HEADING) {
            printf("%s%s:\n", i ? "\n" : "", row->help);
            continue;
        }
        left_column(row, left, sizeof left);
        printf("  %-*s  %s\n", width, left, row->help);
    }
    printf("  %-*s  %s\n", width, "--help", "show this help");
    if (options->after)
        printf("\n%s\n", options->after);
}

/* --------------------------------------------------------------- parsing -- */

typedef struct parser {
    const seqtopk_options *options;
    char *values;
    uint64_t given;
} parser;

static int wrong_number(const parser *p, const seqtopk_option *row, const char *text) {
    const char *kind = row->kind == SEQTOPK_OPTION_FLOAT ? "a number that float32 can hold" : "a whole number";
    char limits[80] = "";
    if (row->most < INT32_MAX)
        snprintf(limits, sizeof limits, " from %.9g to %.9g", row->least, row->most);
    else if (row->least > -FLT_MAX)
        snprintf(limits, sizeof limits, ", at least %.9g", row->least);
    return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --%s needs %s%s, and '%s' is not", p->options->command, row->name,
                            kind, limits, text);
}

static int store(parser *p, const seqtopk_option *row, const char *text) {
    char *slot = p->values + row->offset;
    uint64_t bit = UINT64_C(1) << (row - p->options->rows);
    if (p->given & bit)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --%s is given twice; leave one out", p->options->command,
                                row->name);
    p->given |= bit;
    int place;
    int64_t number;
    switch (row->kind) {
    case SEQTOPK_OPTION_HEADING: break;
    case SEQTOPK_OPTION_FLAG: *(int *)slot = 1; break;
    case SEQTOPK_OPTION_POSITIONAL:
    case SEQTOPK_OPTION_TEXT:
        if (!*text)
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: %s%s is empty; name something", p->options->command,
                                    row->kind == SEQTOPK_OPTION_TEXT ? "--" : "", row->name);
        *(const char **)slot = text;
        break;
    case SEQTOPK_OPTION_INT:
        if (!seqtopk_parse_int(text, (int64_t)row->least, (int64_t)row->most, (int64_t *)slot))
            return wrong_number(p, row, text);
        break;
    case SEQTOPK_OPTION_INT32:
        if (!seqtopk_parse_int(text, (int64_t)row->least, (int64_t)row->most, &number))
            return wrong_number(p, row, text);
        *(int32_t *)slot = (int32_t)number;
        break;
    case SEQTOPK_OPTION_FLOAT:
        if (!parse_float(text, row->least, row->most, (float *)slot))
            return wrong_number(p, row, text);
        break;
    case SEQTOPK_OPTION_CHOICE:
        place = place_of(row->argument, text);
        if (place < 0)
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --%s is one of %s, and '%s' is not", p->options->command,
                                    row->name, row->argument, text);
        *(int *)slot = (int)row->least + place;
        break;
    }
    return SEQTOPK_OPTIONS_RUN;
}

static int unknown(const parser *p, const char *name) {
    const char *names[64];
    size_t count = 0;
    for (size_t i = 0; i < p->options->count; i++)
        if (p->options->rows[i].kind > SEQTOPK_OPTION_POSITIONAL)
            names[count++] = p->options->rows[i].name;
    const char *near = seqtopk_options_nearest(name, names, count);
    if (near)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: unknown option --%s; did you mean --%s?", p->options->command,
                                name, near);
    return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: unknown option --%s; see seqtopk %s --help", p->options->command,
                            name, p->options->command);
}

/* argv[i] begins with "--". Moves `i` on if the value is the next word. */
static int parse_flag(parser *p, int argc, char **argv, int *i) {
    const char *name = argv[*i] + 2, *value = NULL;
    size_t length = strcspn(name, "=");
    const seqtopk_option *row = NULL;
    for (size_t r = 0; r < p->options->count && !row; r++) {
        const seqtopk_option *one = &p->options->rows[r];
        if (one->kind > SEQTOPK_OPTION_POSITIONAL && strlen(one->name) == length && !memcmp(one->name, name, length))
            row = one;
    }
    if (!row) {
        char text[64];
        snprintf(text, sizeof text, "%.*s", (int)(length < 60 ? length : 60), name);
        return unknown(p, text);
    }
    if (name[length] == '=')
        value = name + length + 1;
    if (row->kind == SEQTOPK_OPTION_FLAG) {
        if (value)
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --%s takes no value", p->options->command, row->name);
    } else if (!value) {
        if (*i + 1 >= argc || !strncmp(argv[*i + 1], "--", 2))
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --%s needs a value: --%s %s", p->options->command,
                                    row->name, row->name, row->argument);
        value = argv[++*i];
    }
    return store(p, row, value);
}

static int parse_positional(parser *p, const char *text) {
    for (size_t r = 0; r < p->options->count; r++) {
        const seqtopk_option *row = &p->options->rows[r];
        if (row->kind == SEQTOPK_OPTION_POSITIONAL && !(p->given >> r & 1))
            return store(p, row, text);
        const char **words = (const char **)(void *)(p->values + row->offset);
        for (int i = 1; row->kind == SEQTOPK_OPTION_POSITIONAL && i < (int)row->most && *text; i++)
            if (!words[i])
                return words[i] = text, SEQTOPK_OPTIONS_RUN;
    }
    return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: '%s' is one word too many; see seqtopk %s --help",
                            p->options->command, text, p->options->command);
}

int seqtopk_options_parse(const seqtopk_options *options, int argc, char **argv, void *values, uint64_t *given) {
    parser p = {options, values, 0};
    bool flags = true;
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            print_help(options);
            return SEQTOPK_EXIT_OK;
        }
    for (int i = 1; i < argc; i++) {
        int status;
        if (flags && !strcmp(argv[i], "--")) {
            flags = false;
            continue;
        }
        if (flags && !strncmp(argv[i], "--", 2))
            status = parse_flag(&p, argc, argv, &i);
        else if (flags && argv[i][0] == '-')
            status = seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: unknown option %s; see seqtopk %s --help",
                                      options->command, argv[i], options->command);
        else
            status = parse_positional(&p, argv[i]);
        if (status != SEQTOPK_OPTIONS_RUN)
            return status;
    }
    for (size_t r = 0; r < options->count; r++) {
        const seqtopk_option *row = &options->rows[r];
        if (row->required && !(p.given >> r & 1))
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: %s%s is missing; see seqtopk %s --help", options->command,
                                    row->kind == SEQTOPK_OPTION_POSITIONAL ? "" : "--", row->name, options->command);
    }
    *given = p.given;
    return SEQTOPK_OPTIONS_RUN;
}

bool seqtopk_options_given(const seqtopk_options *options, uint64_t given, const char *name) {
    for (size_t r = 0; r < options->count; r++)
        if (options->rows[r].name && !strcmp(options->rows[r].name, name))
            return given >> r & 1;
    return false;
}
