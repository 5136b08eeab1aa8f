/* SPDX-License-Identifier: MIT */
/* The arguments of a call, by place and by name, put into a row of values. */
#ifndef SEQTOPK_PYTHON_BIND_H
#define SEQTOPK_PYTHON_BIND_H

#include "python.h"

typedef struct seqtopk_py_signature {
    const char *function;     /* for messages */
    const char *const *names; /* [count]; the first `positional` may come without their name */
    int count, positional;
    PyObject **interned; /* [count], filled by seqtopk_py_intern: a name that a call gives is mostly the same object */
} seqtopk_py_signature;

/* Once for each signature. -1 with an exception set for want of memory. */
int seqtopk_py_intern(const seqtopk_py_signature *signature);

/* Sets values [count] to borrowed references, NULL where an argument is missing or None. -1 with an exception set, which
 * names the argument that is not known or comes twice. */
int seqtopk_py_bind(const seqtopk_py_signature *signature, PyObject *const *args, Py_ssize_t n, PyObject *names,
                    PyObject **values);

/* What an argument is in C. `name` is for messages. -1 with an exception set. */
int seqtopk_py_int(PyObject *object, const char *name, int64_t low, int64_t high, int64_t *out);
int seqtopk_py_float(PyObject *object, const char *name, float *out);
/* The index of a word in words [n], which are its choices. */
int seqtopk_py_word(PyObject *object, const char *name, const char *const *words, int n, int *out);

#endif
