/* SPDX-License-Identifier: MIT */
/* The library's errors as exceptions: seqtopk/errors.py has the classes and puts Python's names for the C API's. */
#ifndef SEQTOPK_PYTHON_ERRORS_H
#define SEQTOPK_PYTHON_ERRORS_H

#include "python.h"

/* Raises what `status` is in Python; returns NULL. */
PyObject *seqtopk_py_raise(seqtopk_status status, const seqtopk_error *error);

#endif
