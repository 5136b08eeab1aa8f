/* SPDX-License-Identifier: MIT */
/* The keywords about data and results that route() and Cache.step() share, and running either. */
#ifndef SEQTOPK_PYTHON_CALL_H
#define SEQTOPK_PYTHON_CALL_H

#include "array.h"
#include "lists.h"

#define SEQTOPK_PY_DATA_NAMES(X)                                                                                       \
    X(token_mask) X(bias) X(expert_factors) X(on_nonfinite) X(want) X(padding) X(width) X(block_size)

enum {
#define SEQTOPK_PY_PLACE(name) SEQTOPK_PY_DATA_##name,
    SEQTOPK_PY_DATA_NAMES(SEQTOPK_PY_PLACE)
#undef SEQTOPK_PY_PLACE
        SEQTOPK_PY_DATA_COUNT
};

/* What a call reads, held until it is closed. */
typedef struct seqtopk_py_call {
    seqtopk_py_array logits, mask, bias, factors;
    seqtopk_input input;
    seqtopk_output output;
    seqtopk_py_wish wish;
} seqtopk_py_call;

/* Opens the logits, which say what a plan is needed. -1 with an exception set, and nothing to close. */
int seqtopk_py_call_open(seqtopk_py_call *call, PyObject *logits);

/* Reads values [SEQTOPK_PY_DATA_COUNT]. -1 with an exception set; the call is to be closed. */
int seqtopk_py_call_read(seqtopk_py_call *call, PyObject *const *values);

void seqtopk_py_call_close(seqtopk_py_call *call);

/* Whether a call is long enough to let go of the GIL, or to wake other threads. */
int seqtopk_py_call_is_long(const seqtopk_py_call *call);

#endif
