/* SPDX-License-Identifier: MIT */
#include "json.h"

#include <inttypes.h>
#include <math.h>

/* The bytes of the well-formed UTF-8 character at `s`, by the table of RFC 3629; 0 if there is none. */
static int utf8_length(const unsigned char *s) {
    if (s[0] < 0x80)
        return 1;
    int length = s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    unsigned least = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned most = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    for (int i = 1; i < length; i++) {
        if (s[i] < least || s[i] > most)
            return 0;
        least = 0x80;
        most = 0xbf;
    }
    return length;
}

static void quoted(FILE *out, const char *text) {
    fputc('"', out);
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        int length = utf8_length(s);
        if (length == 0)
            fputs("\\ufffd", out);
        else if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else if (*s < 0x20 || *s == 0x7f)
            fprintf(out, "\\u%04x", *s);
        else
            fwrite(s, 1, (size_t)length, out);
        s += length ? length : 1;
    }
    fputc('"', out);
}

static void before(seqtopk_json *json, const char *key) {
    if (json->comma)
        fputs(", ", json->out);
    json->comma = true;
    if (key) {
        quoted(json->out, key);
        fputs(": ", json->out);
    }
}

void seqtopk_json_begin(seqtopk_json *json, const char *key, char bracket) {
    before(json, key);
    fputc(bracket, json->out);
    json->comma = false;
}

void seqtopk_json_end(seqtopk_json *json, char bracket) {
    fputc(bracket, json->out);
    json->comma = true;
}

void seqtopk_json_text(seqtopk_json *json, const char *key, const char *text) {
    before(json, key);
    if (text)
        quoted(json->out, text);
    else
        fputs("null", json->out);
}

void seqtopk_json_int(seqtopk_json *json, const char *key, int64_t value) {
    before(json, key);
    fprintf(json->out, "%" PRId64, value);
}

void seqtopk_json_real(seqtopk_json *json, const char *key, double value) {
    before(json, key);
    if (isfinite(value))
        fprintf(json->out, "%.9g", value);
    else
        fputs("null", json->out);
}

void seqtopk_json_bool(seqtopk_json *json, const char *key, bool value) {
    before(json, key);
    fputs(value ? "true" : "false", json->out);
}

void seqtopk_json_ints(seqtopk_json *json, const char *key, const int64_t *values, int64_t count) {
    seqtopk_json_begin(json, key, '[');
    for (int64_t i = 0; i < count; i++)
        seqtopk_json_int(json, NULL, values[i]);
    seqtopk_json_end(json, ']');
}
