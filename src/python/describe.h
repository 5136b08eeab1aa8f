/* SPDX-License-Identifier: MIT */
/* The keywords that say how to route, as a seqtopk_desc. */
#ifndef SEQTOPK_PYTHON_DESCRIBE_H
#define SEQTOPK_PYTHON_DESCRIBE_H

#include "python.h"

/* In the order of signatures: `k` may come without its name. */
#define SEQTOPK_PY_DESC_NAMES(X)                                                                                       \
    X(k)                                                                                                               \
    X(scope)                                                                                                           \
    X(score)                                                                                                           \
    X(norm)                                                                                                            \
    X(norm_eps)                                                                                                        \
    X(norm_floor)                                                                                                      \
    X(scale)                                                                                                           \
    X(norm_skip_top1)                                                                                                  \
    X(min)                                                                                                             \
    X(max)                                                                                                             \
    X(groups)                                                                                                          \
    X(group_top_k)                                                                                                     \
    X(group_score)                                                                                                     \
    X(group_n)                                                                                                         \
    X(order)                                                                                                           \
    X(min_p)                                                                                                           \
    X(top_p)                                                                                                           \
    X(preset)                                                                                                          \
    X(parity)

enum {
#define SEQTOPK_PY_PLACE(name) SEQTOPK_PY_##name,
    SEQTOPK_PY_DESC_NAMES(SEQTOPK_PY_PLACE)
#undef SEQTOPK_PY_PLACE
        SEQTOPK_PY_DESC_COUNT
};

/*
 * values [SEQTOPK_PY_DESC_COUNT], NULL: not given. `experts` is what the logits have, 0: the preset's. The bytes of two
 * descriptions of the same are the same. -1 with an exception set.
 */
int seqtopk_py_describe(PyObject *const *values, int64_t experts, seqtopk_desc *desc);

/* seqtopk._core.describe(experts, k, ...): what a description comes to, as a dict in the keywords' words, once it is found
 * to be one that can be routed. */
extern const char seqtopk_py_describe_doc[];
PyObject *seqtopk_py_describe_call(PyObject *module, PyObject *const *args, Py_ssize_t n, PyObject *names);

/* Once. -1 with an exception set. */
int seqtopk_py_describe_ready(void);

/* The types of logits by name, in the order of seqtopk_dtype. */
extern const char *const seqtopk_py_dtypes[3];

#endif
