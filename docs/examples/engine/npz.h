/* SPDX-License-Identifier: MIT */
/*
 * Arrays out of an .npz file as numpy.savez writes it: a zip archive whose members are stored, not compressed, each an .npy
 * file. What is wrong with a file is said on stderr, and the program ends.
 */
#ifndef ENGINE_NPZ_H
#define ENGINE_NPZ_H

#include <stddef.h>
#include <stdint.h>

/* Prints a line, as printf does, and exits with 1. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* malloc that does not return NULL. */
void *take(size_t count, size_t size);

/* A whole file; *size is how long it is. The caller frees it. */
uint8_t *read_file(const char *path, size_t *size);

typedef struct npz {
    const char *path;
    uint8_t *data;
    size_t size;
} npz;

npz npz_open(const char *path);
void npz_close(npz *file);

/*
 * An array of float16 or float32 by its name, as float32, whose shape must be d0 x d1 x d2; trailing sizes of 0 are dimensions
 * that it has not. The caller frees it.
 */
float *npz_floats(const npz *file, const char *name, int64_t d0, int64_t d1, int64_t d2);

/* A text (an array of one string), in ASCII. The caller frees it. */
char *npz_text(const npz *file, const char *name);

#endif
