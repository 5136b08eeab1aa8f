/* SPDX-License-Identifier: MIT */
/* What a call wants of the arrays that it is given: their type, shape and place in memory. */
#include "array.h"

#include <string.h>

static const char *const type_names[] = {"float32", "bfloat16", "float16", "int32", "int64", "uint8 or bool"};

static int64_t elements(const seqtopk_py_array *array) {
    return array->shape[0] * (array->ndim == 2 ? array->shape[1] : 1);
}

static int is_dense(const seqtopk_py_array *array) {
    int64_t width = array->ndim == 2 ? array->shape[1] : 1;
    return (array->shape[0] <= 1 || array->strides[0] == width) && (width <= 1 || array->strides[array->ndim - 1] == 1);
}

/* int64 as int32, checked. */
static int narrow(seqtopk_py_array *array, const char *name) {
    int64_t n = elements(array);
    const int64_t *from = array->data;
    int32_t *to = PyMem_Malloc((size_t)(n ? n : 1) * sizeof *to);
    if (!to) {
        PyErr_NoMemory();
        return -1;
    }
    array->copy = to;
    for (int64_t i = 0; i < n; i++) {
        if (from[i] < INT32_MIN || from[i] > INT32_MAX) {
            PyErr_Format(PyExc_ValueError, "%s[%lld] is %lld, which is no int32", name, (long long)i,
                         (long long)from[i]);
            return -1;
        }
        to[i] = (int32_t)from[i];
    }
    array->data = to;
    return 0;
}

/* int32 as int64. */
static int widen(seqtopk_py_array *array) {
    int64_t n = elements(array);
    const int32_t *from = array->data;
    int64_t *to = PyMem_Malloc((size_t)(n ? n : 1) * sizeof *to);
    if (!to) {
        PyErr_NoMemory();
        return -1;
    }
    array->copy = to;
    for (int64_t i = 0; i < n; i++)
        to[i] = from[i];
    array->data = to;
    return 0;
}

static int check_as(seqtopk_py_array *array, const char *name, seqtopk_py_type type, int ndim, int64_t length) {
    if (array->ndim != ndim) {
        PyErr_Format(PyExc_ValueError, "%s: %d dimensions are wanted, and it has %d", name, ndim, array->ndim);
        return -1;
    }
    if (length >= 0 && array->shape[0] != length) {
        PyErr_Format(PyExc_ValueError, "%s: its length must be %lld, and it is %lld", name, (long long)length,
                     (long long)array->shape[0]);
        return -1;
    }
    if (!is_dense(array)) {
        PyErr_Format(PyExc_ValueError, "%s: its elements are apart in memory: make it contiguous", name);
        return -1;
    }
    if (type == SEQTOPK_PY_I32 && array->type == SEQTOPK_PY_I64)
        return narrow(array, name);
    if (type == SEQTOPK_PY_I64 && array->type == SEQTOPK_PY_I32)
        return widen(array);
    if (array->type != type) {
        PyErr_Format(PyExc_TypeError, "%s: %s is wanted, and it is of another type", name, type_names[type]);
        return -1;
    }
    return 0;
}

int seqtopk_py_array_open_as(seqtopk_py_array *array, PyObject *object, const char *name, seqtopk_py_type type,
                             int ndim, int64_t length) {
    PyObject *made = NULL;
    if (PyList_Check(object) || PyTuple_Check(object)) {
        static const char *const dtypes[] = {"float32", NULL, NULL, "int32", "int64", "bool"};
        PyObject *numpy = PyImport_ImportModule("numpy");
        made = numpy ? PyObject_CallMethod(numpy, "array", "Os", object, dtypes[type]) : NULL;
        Py_XDECREF(numpy);
        if (!made) {
            memset(array, 0, sizeof *array);
            return -1;
        }
        object = made;
    }
    int status = seqtopk_py_array_open(array, object, name);
    if (status == 0 && check_as(array, name, type, ndim, length) < 0) {
        seqtopk_py_array_close(array);
        status = -1;
    }
    Py_XDECREF(made); /* the view holds it */
    return status;
}

static int check_logits(const seqtopk_py_array *array, int64_t *row_stride) {
    if (array->type > SEQTOPK_PY_F16) {
        PyErr_SetString(PyExc_TypeError,
                        "logits: float32, bfloat16 or float16 is wanted, and they are of another type");
        return -1;
    }
    if (array->ndim != 2) {
        PyErr_Format(PyExc_ValueError,
                     "logits: [tokens, experts] is wanted, and they have %d dimensions: reshape them, and tell "
                     "sequences by cu_seqlens",
                     array->ndim);
        return -1;
    }
    int64_t tokens = array->shape[0], experts = array->shape[1], stride = array->strides[0];
    if (experts < 1) {
        PyErr_SetString(PyExc_ValueError, "logits: there are no experts: [tokens, experts] is wanted");
        return -1;
    }
    if ((tokens > 0 && experts > 1 && array->strides[1] != 1) || (tokens > 1 && stride != 0 && stride < experts)) {
        PyErr_SetString(PyExc_ValueError, "logits: a row's elements must follow one another in memory (rows may be "
                                          "apart): make them contiguous");
        return -1;
    }
    *row_stride = tokens <= 1 ? 0 : stride == 0 ? SEQTOPK_STRIDE_BROADCAST : stride;
    return 0;
}

int seqtopk_py_array_open_logits(seqtopk_py_array *array, PyObject *object, int64_t *row_stride) {
    if (seqtopk_py_array_open(array, object, "logits") < 0)
        return -1;
    if (check_logits(array, row_stride) < 0) {
        seqtopk_py_array_close(array);
        return -1;
    }
    return 0;
}
