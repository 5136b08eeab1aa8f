/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "npy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "elements are used as they stand in the file");

static const struct {
    const char *descr, *name;
    size_t size;
} dtypes[SEQTOPK_NPY_DTYPES] = {
    [SEQTOPK_NPY_F4] = {"<f4", "float32", 4}, [SEQTOPK_NPY_F2] = {"<f2", "float16", 2},
    [SEQTOPK_NPY_U2] = {"<u2", "uint16", 2},  [SEQTOPK_NPY_I4] = {"<i4", "int32", 4},
    [SEQTOPK_NPY_I8] = {"<i8", "int64", 8},   [SEQTOPK_NPY_U1] = {"|u1", "uint8", 1},
    [SEQTOPK_NPY_BOOL] = {"|b1", "bool", 1},
};

static const uint8_t magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

const char *seqtopk_npy_dtype_name(seqtopk_npy_dtype dtype) { return dtypes[dtype].name; }

const char *seqtopk_npy_shape_text(const seqtopk_npy *array, char text[SEQTOPK_NPY_SHAPE_TEXT]) {
    int at = snprintf(text, SEQTOPK_NPY_SHAPE_TEXT, "(");
    for (int i = 0; i < array->ndim && at < SEQTOPK_NPY_SHAPE_TEXT; i++)
        at += snprintf(text + at, (size_t)(SEQTOPK_NPY_SHAPE_TEXT - at), "%s%" PRId64, i ? ", " : "", array->shape[i]);
    if (at < SEQTOPK_NPY_SHAPE_TEXT)
        snprintf(text + at, (size_t)(SEQTOPK_NPY_SHAPE_TEXT - at), array->ndim == 1 ? ",)" : ")");
    return text;
}

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static bool
no(char message[SEQTOPK_NPY_MESSAGE], const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(message, SEQTOPK_NPY_MESSAGE, format, list);
    va_end(list);
    return false;
}

/* ------------------------------------------------ the header's dictionary -- */

/* A Python literal, read from left to right. It need not end with a NUL. */
typedef struct cursor {
    const char *at, *end;
} cursor;

static void skip_space(cursor *c) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
        c->at++;
}

static bool next_is(cursor *c, char wanted) {
    skip_space(c);
    return c->at < c->end && *c->at == wanted;
}

static bool take(cursor *c, char wanted) {
    bool is = next_is(c, wanted);
    c->at += is;
    return is;
}

static bool take_word(cursor *c, const char *word) {
    skip_space(c);
    size_t length = strlen(word);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length))
        return false;
    c->at += length;
    return true;
}

/* A quoted string without escapes, cut to what fits `text`: nothing that is known is longer. */
static bool take_string(cursor *c, char *text, size_t size) {
    skip_space(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"'))
        return false;
    char quote = *c->at++;
    size_t length = 0;
    for (; c->at < c->end && *c->at != quote; c->at++) {
        if (*c->at == '\\' || (unsigned char)*c->at < 0x20)
            return false;
        if (length + 1 < size)
            text[length++] = *c->at;
    }
    text[length] = 0;
    if (c->at == c->end)
        return false;
    c->at++;
    return true;
}

/* A size. Beyond int64 it returns true with `*overflow` set. */
static bool take_size(cursor *c, int64_t *value, bool *overflow) {
    skip_space(c);
    const char *first = c->at;
    uint64_t n = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        unsigned digit = (unsigned)(*c->at - '0');
        if (n > ((uint64_t)INT64_MAX - digit) / 10)
            *overflow = true;
        else
            n = n * 10 + digit;
    }
    *value = (int64_t)n;
    return c->at > first && (*first != '0' || c->at == first + 1);
}

static bool parse_descr(cursor *c, seqtopk_npy *array, char *message) {
    char descr[24];
    if (next_is(c, '['))
        return no(message, "has a structured dtype; plain numbers are needed");
    if (!take_string(c, descr, sizeof descr))
        return no(message, "has a broken header: no string after 'descr'");
    if (descr[0] == '>')
        return no(message, "is big endian (%s); save it as little endian", descr);
    for (int i = 0; i < SEQTOPK_NPY_DTYPES; i++) {
        bool endless = dtypes[i].size == 1 && (descr[0] == '<' || descr[0] == '|');
        if (!strcmp(descr, dtypes[i].descr) || (endless && !strcmp(descr + 1, dtypes[i].descr + 1))) {
            array->dtype = (seqtopk_npy_dtype)i;
            return true;
        }
    }
    if (strchr(descr, 'O'))
        return no(message, "has object dtype; plain numbers are needed");
    return no(message, "has dtype '%s', which is not read here", descr);
}

static bool parse_shape(cursor *c, seqtopk_npy *array, char *message) {
    bool overflow = false, comma = false;
    if (!take(c, '('))
        return no(message, "has a broken header: no tuple after 'shape'");
    array->ndim = 0;
    while (!next_is(c, ')')) {
        if (array->ndim && !comma)
            return no(message, "has a broken header: a shape without commas");
        if (array->ndim == SEQTOPK_NPY_DIMS)
            return no(message, "has more than %d dimensions", SEQTOPK_NPY_DIMS);
        if (!take_size(c, &array->shape[array->ndim++], &overflow))
            return no(message, "has a broken header: a shape that is not of whole numbers");
        comma = take(c, ',');
    }
    take(c, ')');
    if (overflow)
        return no(message, "has a shape that overflows 64 bits");
    if (array->ndim == 1 && !comma)
        return no(message, "has a broken header: the shape is not a tuple");
    if (array->ndim == 0)
        return comma ? no(message, "has a broken header: a shape of one comma")
                     : no(message, "is 0-dimensional; an array is needed");
    return true;
}

static bool parse_order(cursor *c, char *message) {
    if (take_word(c, "False"))
        return true;
    if (take_word(c, "True"))
        return no(message, "is in Fortran order; save it in C order (numpy.ascontiguousarray)");
    return no(message, "has a broken header: 'fortran_order' is neither True nor False");
}

static bool parse_dictionary(cursor *c, seqtopk_npy *array, char *message) {
    enum { DESCR = 1, ORDER = 2, SHAPE = 4, ALL = 7 };
    int seen = 0;
    bool comma = true;
    if (!take(c, '{'))
        return no(message, "has a broken header: no dictionary");
    while (!next_is(c, '}')) {
        char key[16];
        if (!comma || !take_string(c, key, sizeof key) || !take(c, ':'))
            return no(message, "has a broken header: no key where one is due");
        int which = !strcmp(key, "descr")           ? DESCR
                    : !strcmp(key, "fortran_order") ? ORDER
                    : !strcmp(key, "shape")         ? SHAPE
                                                    : 0;
        if (!which || (seen & which))
            return no(message, "has a broken header: an unknown or repeated key '%s'", key);
        seen |= which;
        if (which == DESCR   ? !parse_descr(c, array, message)
            : which == ORDER ? !parse_order(c, message)
                             : !parse_shape(c, array, message))
            return false;
        comma = take(c, ',');
    }
    take(c, '}');
    skip_space(c);
    if (c->at != c->end)
        return no(message, "has a broken header: something behind the dictionary");
    if (seen != ALL)
        return no(message, "has a broken header: 'descr', 'fortran_order' or 'shape' is missing");
    return true;
}

static bool count_elements(seqtopk_npy *array, char *message) {
    char text[SEQTOPK_NPY_SHAPE_TEXT];
    uint64_t item = dtypes[array->dtype].size, most = (uint64_t)INT64_MAX / item, count = 1;
    if (most > (SIZE_MAX - SEQTOPK_NPY_HEADER_MOST - 12) / item)
        most = (SIZE_MAX - SEQTOPK_NPY_HEADER_MOST - 12) / item;
    for (int i = 0; i < array->ndim; i++)
        if (array->shape[i] == 0)
            count = 0;
    for (int i = 0; i < array->ndim && count; i++) {
        if ((uint64_t)array->shape[i] > most / count)
            return no(message, "has the shape %s, whose size overflows", seqtopk_npy_shape_text(array, text));
        count *= (uint64_t)array->shape[i];
    }
    array->count = (int64_t)count;
    array->data_size = (size_t)(count * item);
    return true;
}

bool seqtopk_npy_parse(const uint8_t *bytes, size_t size, seqtopk_npy *array, char message[SEQTOPK_NPY_MESSAGE]) {
    memset(array, 0, sizeof *array);
    if (size == 0)
        return no(message, "is empty");
    if (memcmp(bytes, magic, size < sizeof magic ? size : sizeof magic))
        return no(message, "is not a NumPy (.npy) file");
    if (size < 10)
        return no(message, "is truncated in its header");
    if (bytes[6] < 1 || bytes[6] > 3 || bytes[7] != 0)
        return no(message, "has the unknown NumPy format version %d.%d", bytes[6], bytes[7]);
    size_t start = bytes[6] == 1 ? 10 : 12;
    if (size < start)
        return no(message, "is truncated in its header");
    uint32_t length = (uint32_t)(bytes[8] | bytes[9] << 8);
    if (start == 12)
        length |= (uint32_t)bytes[10] << 16 | (uint32_t)bytes[11] << 24;
    if (length > SEQTOPK_NPY_HEADER_MOST)
        return no(message, "has a header of %" PRIu32 " bytes, which is absurd", length);
    if (length > size - start)
        return no(message, "is truncated in its header");
    cursor c = {(const char *)bytes + start, (const char *)bytes + start + length};
    array->data_offset = start + length;
    return parse_dictionary(&c, array, message) && count_elements(array, message);
}

/* --------------------------------------------------------------- reading -- */

/* read() until `size` bytes or the end of the file; -1 is an error. */
static int64_t read_fully(int fd, uint8_t *bytes, size_t size) {
    size_t done = 0;
    while (done < size) {
        size_t piece = size - done < 1 << 30 ? size - done : 1 << 30;
        ssize_t got = read(fd, bytes + done, piece);
        if (got == 0)
            break;
        if (got > 0)
            done += (size_t)got;
        else if (errno != EINTR)
            return -1;
    }
    return (int64_t)done;
}

static bool truncated(const seqtopk_npy *array, uint64_t got, char *message) {
    return no(message, "is truncated: its header says %zu bytes of data, and %" PRIu64 " are there", array->data_size,
              got);
}

static bool goes_on(const seqtopk_npy *array, char *message) {
    return no(message, "goes on behind the %zu bytes of data that its header says", array->data_size);
}

enum { HEAD = SEQTOPK_NPY_HEADER_MOST + 12 };

/* The header, against the size of the file. *have: how many bytes of data stand in `head` behind it. */
static bool read_head(int fd, bool has_places, seqtopk_npy *array, uint8_t *head, size_t *have, char *message) {
    struct stat st;
    if (fstat(fd, &st))
        return no(message, "%s", strerror(errno));
    if (has_places && !S_ISREG(st.st_mode))
        return no(message, "is no file of which each rank can read its own rows");
    const int64_t got = read_fully(fd, head, HEAD);
    if (got < 0)
        return no(message, "%s", strerror(errno));
    if (!seqtopk_npy_parse(head, (size_t)got, array, message))
        return false;
    *have = (size_t)got - array->data_offset;
    const uint64_t size = S_ISREG(st.st_mode) && st.st_size >= got ? (uint64_t)st.st_size - array->data_offset
                          : *have > array->data_size               ? *have
                                                                   : array->data_size; /* not known yet */
    if (size < array->data_size)
        return truncated(array, size, message);
    return size == array->data_size || goes_on(array, message);
}

/*
 * Not by mmap: a file that shrinks meanwhile would be a SIGBUS, and its elements need not be aligned. The data are
 * allocated after the file's size has confirmed the header's, so that a forged shape costs nothing.
 */
static bool read_data(int fd, seqtopk_npy *array, const uint8_t *begin, size_t have, char *message) {
    uint8_t more;
    array->data = malloc(array->data_size ? array->data_size : 1);
    if (!array->data)
        return no(message, "no memory for its %zu bytes", array->data_size);
    memcpy(array->data, begin, have);
    const int64_t got = read_fully(fd, (uint8_t *)array->data + have, array->data_size - have);
    if (got >= 0 && (size_t)got < array->data_size - have)
        return truncated(array, have + (uint64_t)got, message);
    const int64_t behind = got < 0 ? got : read_fully(fd, &more, 1);
    if (behind < 0)
        return no(message, "%s", strerror(errno));
    return behind == 0 || goes_on(array, message);
}

static bool open_array(const char *path, bool has_places, seqtopk_npy *array, char *message) {
    memset(array, 0, sizeof *array);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return no(message, "%s", strerror(errno));
    uint8_t *head = malloc(HEAD);
    size_t have = 0;
    bool ok = head ? read_head(fd, has_places, array, head, &have, message) : no(message, "no memory");
    if (ok && !has_places)
        ok = read_data(fd, array, head + array->data_offset, have, message);
    free(head);
    close(fd);
    if (!ok)
        seqtopk_npy_free(array);
    return ok;
}

bool seqtopk_npy_load(const char *path, seqtopk_npy *array, char message[SEQTOPK_NPY_MESSAGE]) {
    return open_array(path, false, array, message);
}

bool seqtopk_npy_open(const char *path, seqtopk_npy *array, char message[SEQTOPK_NPY_MESSAGE]) {
    return open_array(path, true, array, message);
}

bool seqtopk_npy_read_at(const char *path, const seqtopk_npy *array, size_t from, void *bytes, size_t size,
                         char message[SEQTOPK_NPY_MESSAGE]) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return no(message, "%s", strerror(errno));
    int64_t got = lseek(fd, (off_t)(array->data_offset + from), SEEK_SET);
    if (got >= 0)
        got = read_fully(fd, bytes, size);
    const int trouble = errno;
    close(fd);
    if (got < 0)
        return no(message, "%s", strerror(trouble));
    return (size_t)got == size || truncated(array, from + (uint64_t)got, message);
}

void seqtopk_npy_free(seqtopk_npy *array) {
    free(array->data);
    array->data = NULL;
}

/* --------------------------------------------------------------- writing -- */

static bool write_fully(int fd, const void *data, size_t size) {
    const uint8_t *bytes = data;
    while (size) {
        ssize_t put = write(fd, bytes, size < 1 << 30 ? size : 1 << 30);
        if (put < 0 && errno != EINTR)
            return false;
        if (put > 0) {
            bytes += put;
            size -= (size_t)put;
        }
    }
    return true;
}

bool seqtopk_npy_write(const char *path, seqtopk_npy_dtype dtype, int64_t count, const void *data,
                       char message[SEQTOPK_NPY_MESSAGE]) {
    enum { HEADER = 128, PREFIX = 10 }; /* data aligned to 64, as NumPy aligns it */
    uint8_t header[HEADER];
    char dictionary[HEADER - PREFIX];
    int length =
        snprintf(dictionary, sizeof dictionary, "{'descr': '%s', 'fortran_order': False, 'shape': (%" PRId64 ",), }",
                 dtypes[dtype].descr, count);
    memset(header, ' ', HEADER);
    memcpy(header, magic, sizeof magic);
    memcpy(header + sizeof magic, (const uint8_t[]){1, 0, HEADER - PREFIX, 0}, 4);
    memcpy(header + PREFIX, dictionary, (size_t)length);
    header[HEADER - 1] = '\n';

    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return no(message, "%s", strerror(errno));
    bool ok = write_fully(fd, header, HEADER) && write_fully(fd, data, (size_t)count * dtypes[dtype].size);
    ok = ok && (fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP); /* some file systems have no fsync */
    int trouble = errno;
    if (close(fd) && ok) {
        trouble = errno;
        ok = false;
    }
    if (!ok) {
        unlink(path);
        return no(message, "%s", strerror(trouble));
    }
    return true;
}
