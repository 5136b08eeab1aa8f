/* SPDX-License-Identifier: MIT */
/* NumPy files: a reader that believes nothing, and a writer of one-dimensional arrays. */
#ifndef SEQTOPK_CLI_NPY_H
#define SEQTOPK_CLI_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum seqtopk_npy_dtype {
    SEQTOPK_NPY_F4,
    SEQTOPK_NPY_F2,
    SEQTOPK_NPY_U2,
    SEQTOPK_NPY_I4,
    SEQTOPK_NPY_I8,
    SEQTOPK_NPY_U1,
    SEQTOPK_NPY_BOOL,
    SEQTOPK_NPY_DTYPES
} seqtopk_npy_dtype;

enum { SEQTOPK_NPY_DIMS = 8, SEQTOPK_NPY_HEADER_MOST = 65536, SEQTOPK_NPY_MESSAGE = 256 };

/* An array in C order, little endian, of at least one dimension. Sizes are checked: no product of them overflows. */
typedef struct seqtopk_npy {
    seqtopk_npy_dtype dtype;
    int ndim;
    int64_t shape[SEQTOPK_NPY_DIMS];
    int64_t count;      /* elements: the product of shape */
    size_t data_offset; /* of the first element in the file */
    size_t data_size;   /* bytes */
    void *data;         /* aligned for any type; seqtopk_npy_free gives it back */
} seqtopk_npy;

/*
 * Reads the header of a file that begins with bytes [size]; enough of them are SEQTOPK_NPY_HEADER_MOST + 12, or the
 * whole file. Pure: no allocation, and `array->data` stays NULL. On failure `message` says what is wrong.
 */
bool seqtopk_npy_parse(const uint8_t *bytes, size_t size, seqtopk_npy *array, char message[SEQTOPK_NPY_MESSAGE]);

/* Reads a whole file, which must hold exactly what its header says. On failure nothing needs freeing. */
bool seqtopk_npy_load(const char *path, seqtopk_npy *array, char message[SEQTOPK_NPY_MESSAGE]);

/* Reads the header alone of a file that can be read from any place, and compares its size; `data` stays NULL. */
bool seqtopk_npy_open(const char *path, seqtopk_npy *array, char message[SEQTOPK_NPY_MESSAGE]);

/* Reads bytes [size] of such a file's data from byte `from` on. */
bool seqtopk_npy_read_at(const char *path, const seqtopk_npy *array, size_t from, void *bytes, size_t size,
                         char message[SEQTOPK_NPY_MESSAGE]);

void seqtopk_npy_free(seqtopk_npy *array);

/* Creates `path`, which must not exist, with an array [count], down to the disk. On failure it is removed again. */
bool seqtopk_npy_write(const char *path, seqtopk_npy_dtype dtype, int64_t count, const void *data,
                       char message[SEQTOPK_NPY_MESSAGE]);

/* "float32", as NumPy calls it. */
const char *seqtopk_npy_dtype_name(seqtopk_npy_dtype dtype);

/* "(8, 512, 64)"; returns `text`. */
enum { SEQTOPK_NPY_SHAPE_TEXT = SEQTOPK_NPY_DIMS * 22 + 4 };
const char *seqtopk_npy_shape_text(const seqtopk_npy *array, char text[SEQTOPK_NPY_SHAPE_TEXT]);

#endif
