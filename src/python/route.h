/* SPDX-License-Identifier: MIT */
#ifndef SEQTOPK_PYTHON_ROUTE_H
#define SEQTOPK_PYTHON_ROUTE_H

#include "python.h"

extern const char seqtopk_py_route_doc[];
PyObject *seqtopk_py_route(PyObject *module, PyObject *const *args, Py_ssize_t n, PyObject *names);

/* Once. -1 with an exception set. */
int seqtopk_py_route_ready(void);

#endif
