/* SPDX-License-Identifier: MIT */
/*
 * The plan of the call before, for a call that says the same by the same objects, as constants of somebody's loop are: half of
 * what a token's call costs in Python is to read what its keywords say.
 */
#ifndef SEQTOPK_PYTHON_RECALL_H
#define SEQTOPK_PYTHON_RECALL_H

#include "describe.h"
#include "plans.h"

/* values [SEQTOPK_PY_DESC_COUNT], as seqtopk_py_describe has them. Held, or NULL without an exception: it is another. */
seqtopk_py_plan *seqtopk_py_recall(PyObject *const *values, int64_t experts, seqtopk_dtype dtype);
void seqtopk_py_remember(PyObject *const *values, int64_t experts, seqtopk_dtype dtype, seqtopk_py_plan *plan);

#endif
