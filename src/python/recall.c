/* SPDX-License-Identifier: MIT */
#include "recall.h"

#include <string.h>

typedef struct memory {
    PyObject *values[SEQTOPK_PY_DESC_COUNT]; /* held, so that their addresses stay their own */
    int64_t experts;
    seqtopk_dtype dtype;
    seqtopk_py_plan *plan;
} memory;

static seqtopk_py_lock lock;
static memory latest;

seqtopk_py_plan *seqtopk_py_recall(PyObject *const *values, int64_t experts, seqtopk_dtype dtype) {
    seqtopk_py_plan *plan = NULL;
    SEQTOPK_PY_LOCK(&lock);
    if (latest.plan && latest.experts == experts && latest.dtype == dtype &&
        memcmp(latest.values, values, sizeof latest.values) == 0)
        plan = seqtopk_py_plan_hold(latest.plan);
    SEQTOPK_PY_UNLOCK(&lock);
    return plan;
}

/* What the same object will say again. One with an __index__ may say something else. */
static int is_constant(PyObject *value) {
    return !value || PyUnicode_CheckExact(value) || PyLong_CheckExact(value) || PyFloat_CheckExact(value) ||
           PyBool_Check(value);
}

void seqtopk_py_remember(PyObject *const *values, int64_t experts, seqtopk_dtype dtype, seqtopk_py_plan *plan) {
    memory m = {.experts = experts, .dtype = dtype};
    for (int i = 0; i < SEQTOPK_PY_DESC_COUNT; i++)
        if (!is_constant(values[i]))
            return;
    for (int i = 0; i < SEQTOPK_PY_DESC_COUNT; i++)
        m.values[i] = Py_XNewRef(values[i]);
    m.plan = seqtopk_py_plan_hold(plan);
    SEQTOPK_PY_LOCK(&lock);
    const memory old = latest;
    latest = m;
    SEQTOPK_PY_UNLOCK(&lock);
    for (int i = 0; i < SEQTOPK_PY_DESC_COUNT; i++)
        Py_XDECREF(old.values[i]);
    seqtopk_py_plan_drop(old.plan);
}
