/* SPDX-License-Identifier: MIT */
#include "npz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "engine: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

void *take(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        fail("no memory for %zu x %zu bytes", count, size);
    return memory;
}

uint8_t *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file)
        fail("%s cannot be opened", path);
    size_t room = 1 << 16;
    uint8_t *data = take(room, 1);
    *size = 0;
    for (size_t n; (n = fread(data + *size, 1, room - *size, file)) > 0;) {
        *size += n;
        if (*size == room) {
            data = realloc(data, room *= 2);
            if (!data)
                fail("no memory for %s", path);
        }
    }
    if (ferror(file))
        fail("%s cannot be read", path);
    fclose(file);
    return data;
}

/* A little-endian number of n bytes. */
static uint64_t number(const uint8_t *bytes, int n) {
    uint64_t value = 0;
    for (int i = n - 1; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

npz npz_open(const char *path) {
    npz file = {path, NULL, 0};
    file.data = read_file(path, &file.size);
    return file;
}

void npz_close(npz *file) { free(file->data); }

/* Where the zip archive's directory begins and how many members it has: said in its last record, before a comment. */
static size_t directory(const npz *file, int64_t *members) {
    for (size_t at = file->size < 22 ? 0 : file->size - 21; at-- > 0;)
        if (!memcmp(file->data + at, "PK\5\6", 4)) {
            *members = (int64_t)number(file->data + at + 10, 2);
            const size_t begin = number(file->data + at + 16, 4);
            if (begin <= at)
                return begin;
        }
    fail("%s is no .npz file, or is torn", file->path);
}

/* The bytes of member NAME.npy. */
static const uint8_t *member(const npz *file, const char *name, size_t *size) {
    int64_t members;
    size_t at = directory(file, &members);
    for (; members > 0 && file->size - at >= 46 && !memcmp(file->data + at, "PK\1\2", 4); members--) {
        const uint8_t *entry = file->data + at;
        const size_t length = number(entry + 28, 2),
                     next = at + 46 + length + number(entry + 30, 2) + number(entry + 32, 2);
        if (next > file->size)
            break;
        at = next;
        if (length != strlen(name) + 4 || memcmp(entry + 46, name, length - 4) ||
            memcmp(entry + 46 + length - 4, ".npy", 4))
            continue;
        if (number(entry + 10, 2) != 0)
            fail("%s: %s is compressed; numpy.savez writes what is not", file->path, name);
        *size = number(entry + 20, 4);
        const size_t head = number(entry + 42, 4);
        if (head > file->size || file->size - head < 30 || memcmp(file->data + head, "PK\3\4", 4))
            break;
        const size_t begin = head + 30 + number(file->data + head + 26, 2) + number(file->data + head + 28, 2);
        if (begin > file->size || file->size - begin < *size)
            break;
        return file->data + begin;
    }
    fail("%s has no array %s, or is torn", file->path, name);
}

typedef struct array {
    const uint8_t *data;
    char type; /* f, U */
    int width; /* the number behind the type */
    int dims;
    int64_t shape[3];
} array;

static array read_array(const npz *file, const char *name) {
    array a = {0};
    size_t size;
    const uint8_t *bytes = member(file, name, &size);
    char text[1024];
    if (size < 12 || memcmp(bytes, "\x93NUMPY", 6))
        fail("%s: %s is no .npy file", file->path, name);
    const size_t head = bytes[6] == 1 ? 10 : 12, length = number(bytes + 8, bytes[6] == 1 ? 2 : 4);
    if (length > size - head || length >= sizeof text)
        fail("%s: the header of %s is torn", file->path, name);
    memcpy(text, bytes + head, length);
    text[length] = 0;
    const char *descr = strstr(text, "'descr': '<"), *shape = strstr(text, "'shape': (");
    if (!descr || !shape || !strstr(text, "'fortran_order': False") ||
        sscanf(descr + 11, "%c%d", &a.type, &a.width) != 2)
        fail("%s: %s is of another kind than numpy.savez writes by row: %s", file->path, name, text);
    uint64_t count = 1;
    shape += 10;
    for (char *end; *shape >= '0' && *shape <= '9'; shape = end + strspn(end, ", ")) {
        if (a.dims == 3)
            fail("%s: %s has more than 3 dimensions", file->path, name);
        const long long n = strtoll(shape, &end, 10);
        a.shape[a.dims++] = n;
        if (n > 0 && count > size / (uint64_t)n)
            fail("%s: %s is torn", file->path, name);
        count *= (uint64_t)n;
    }
    const uint64_t each = a.type == 'U' ? 4 * (uint64_t)a.width : (uint64_t)a.width;
    if (a.width < 1 || each > size || count * each > size - head - length)
        fail("%s: %s is torn", file->path, name);
    a.data = bytes + head + length;
    return a;
}

static float half(uint64_t bits) {
    const uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
    float value;
    if (exponent == 0) {
        value = (float)fraction * 0x1p-24f;
        return sign ? -value : value;
    }
    const uint32_t word = sign | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13;
    memcpy(&value, &word, sizeof value);
    return value;
}

float *npz_floats(const npz *file, const char *name, int64_t d0, int64_t d1, int64_t d2) {
    const array a = read_array(file, name);
    const int64_t want[3] = {d0, d1, d2};
    const int dims = d2 ? 3 : d1 ? 2 : 1;
    if (a.dims != dims || memcmp(a.shape, want, (size_t)dims * sizeof *want))
        fail("%s: %s is %lld x %lld x %lld; by the configuration it is %lld x %lld x %lld", file->path, name,
             (long long)a.shape[0], (long long)a.shape[1], (long long)a.shape[2], (long long)d0, (long long)d1,
             (long long)d2);
    if (a.type != 'f' || (a.width != 2 && a.width != 4))
        fail("%s: %s is neither float16 nor float32", file->path, name);
    const size_t count = (size_t)d0 * (size_t)(d1 ? d1 : 1) * (size_t)(d2 ? d2 : 1);
    float *values = take(count, sizeof *values);
    for (size_t i = 0; i < count; i++) {
        const uint64_t bits = number(a.data + i * (size_t)a.width, a.width);
        const uint32_t word = (uint32_t)bits;
        if (a.width == 2)
            values[i] = half(bits);
        else
            memcpy(&values[i], &word, sizeof word);
    }
    return values;
}

char *npz_text(const npz *file, const char *name) {
    const array a = read_array(file, name);
    if (a.type != 'U' || a.dims != 0)
        fail("%s: %s is no text", file->path, name);
    char *text = take((size_t)a.width + 1, 1);
    for (int i = 0; i < a.width; i++)
        text[i] = number(a.data + 4 * (size_t)i, 4) < 128 ? (char)a.data[4 * (size_t)i] : '?';
    return text;
}
