/* SPDX-License-Identifier: MIT */
/*
 * Arrays of others, looked at where they are: by DLPack's function table (torch), by the buffer protocol (NumPy and all
 * who have it), or by a DLPack capsule (JAX and all others).
 */
#ifndef SEQTOPK_PYTHON_ARRAY_H
#define SEQTOPK_PYTHON_ARRAY_H

#include "python.h"

typedef enum seqtopk_py_type {
    SEQTOPK_PY_F32,
    SEQTOPK_PY_BF16,
    SEQTOPK_PY_F16,
    SEQTOPK_PY_I32,
    SEQTOPK_PY_I64,
    SEQTOPK_PY_U8, /* and bool */
    SEQTOPK_PY_OTHER
} seqtopk_py_type;

typedef struct seqtopk_py_array {
    void *data;
    seqtopk_py_type type;
    int ndim;
    int64_t shape[2], strides[2]; /* strides in elements; of the first two dimensions */
    int is_torch;
    /* What is held until seqtopk_py_array_close. */
    Py_buffer view;
    PyObject *owner; /* a DLPack capsule, or an array that was made of the object */
    void *copy;      /* elements of another type, converted */
} seqtopk_py_array;

/* The table of DLPack functions that a type offers, or NULL. */
const struct dlpack_exchange *seqtopk_py_exchange_of(PyTypeObject *type);

/* `name` is the argument's, for messages. -1 with an exception set; *array is then closed. */
int seqtopk_py_array_open(seqtopk_py_array *array, PyObject *object, const char *name);
void seqtopk_py_array_close(seqtopk_py_array *array);

/* Opens a vector [length] (-1: any), or where `ndim` is 2 rows of which `length` is the number, one behind the other in memory
 * and of `type`; of integers those of another width are converted, and lists are taken. */
int seqtopk_py_array_open_as(seqtopk_py_array *array, PyObject *object, const char *name, seqtopk_py_type type,
                             int ndim, int64_t length);

/* Opens logits [T, E] of any float type, whose rows may be apart: *row_stride is what seqtopk_input wants. */
int seqtopk_py_array_open_logits(seqtopk_py_array *array, PyObject *object, int64_t *row_stride);

#endif
