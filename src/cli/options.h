/* SPDX-License-Identifier: MIT */
/* One table a command: it is what is parsed and what --help shows, so that the two cannot differ. */
#ifndef SEQTOPK_CLI_OPTIONS_H
#define SEQTOPK_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum seqtopk_option_kind {
    SEQTOPK_OPTION_HEADING,    /* no option: `help` is a heading */
    SEQTOPK_OPTION_POSITIONAL, /* const char *: a word without a flag, in the order of the table;
                                  with `most` above 1 an array of so many, for as many words */
    SEQTOPK_OPTION_FLAG,       /* int: 1 when given */
    SEQTOPK_OPTION_INT,        /* int64_t within [least, most] */
    SEQTOPK_OPTION_INT32,      /* the same as int32_t */
    SEQTOPK_OPTION_FLOAT,      /* float, finite, within [least, most] */
    SEQTOPK_OPTION_TEXT,       /* const char * */
    SEQTOPK_OPTION_CHOICE      /* int or an enum: `least` + the place of the word in `argument` ("max|top2|topn") */
} seqtopk_option_kind;

typedef struct seqtopk_option {
    seqtopk_option_kind kind;
    bool required;
    const char *name;     /* without the dashes; positional: as usage shows it */
    const char *argument; /* as help shows it */
    size_t offset;        /* of the value in the command's struct of values */
    double least, most;
    const char *help;
} seqtopk_option;

/* A command's line of words. At most 64 rows. */
typedef struct seqtopk_options {
    const char *command;
    const char *about; /* for help */
    const char *after; /* text below the options: examples; or NULL */
    const seqtopk_option *rows;
    size_t count;
} seqtopk_options;

/* Not an exit status: the command is to run. */
enum { SEQTOPK_OPTIONS_RUN = -1 };

/*
 * Parses argv[1..] into the struct at `values`, which the caller has set to the defaults; `given` gets a bit for each
 * row that was given. Returns SEQTOPK_OPTIONS_RUN, or the status to exit with: after --help, or after an error that it
 * has printed.
 */
int seqtopk_options_parse(const seqtopk_options *options, int argc, char **argv, void *values, uint64_t *given);

/* Whether the option of that name was given. */
bool seqtopk_options_given(const seqtopk_options *options, uint64_t given, const char *name);

/* The whole of `text` as a decimal number within [least, most]; nothing else around it. */
bool seqtopk_parse_int(const char *text, int64_t least, int64_t most, int64_t *value);

/* "8192x256": `count` numbers with an x between, each within its limits; nothing else around them. */
bool seqtopk_parse_shape(const char *text, int count, const int64_t *least, const int64_t *most, int64_t *sizes);

/* The word at `place` of "max|top2|topn"; returns `text`. */
enum { SEQTOPK_WORD = 24 };
const char *seqtopk_options_word(const char *words, int place, char text[SEQTOPK_WORD]);

/* The name that was probably meant, or NULL. */
const char *seqtopk_options_nearest(const char *word, const char *const *names, size_t count);

#endif
