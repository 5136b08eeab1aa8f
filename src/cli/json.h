/* SPDX-License-Identifier: MIT */
/* Writes JSON, value by value. `key` is NULL in an array and for the outermost value. */
#ifndef SEQTOPK_CLI_JSON_H
#define SEQTOPK_CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct seqtopk_json {
    FILE *out;
    bool comma; /* before the next value */
} seqtopk_json;

void seqtopk_json_begin(seqtopk_json *json, const char *key, char bracket);    /* '{' or '[' */
void seqtopk_json_end(seqtopk_json *json, char bracket);                       /* '}' or ']' */
void seqtopk_json_text(seqtopk_json *json, const char *key, const char *text); /* NULL: null; bad UTF-8: U+FFFD */
void seqtopk_json_int(seqtopk_json *json, const char *key, int64_t value);
void seqtopk_json_real(seqtopk_json *json, const char *key, double value); /* not finite: null */
void seqtopk_json_bool(seqtopk_json *json, const char *key, bool value);
void seqtopk_json_ints(seqtopk_json *json, const char *key, const int64_t *values, int64_t count);

#endif
