/* SPDX-License-Identifier: MIT */
#include "bind.h"

#include <string.h>

int seqtopk_py_intern(const seqtopk_py_signature *signature) {
    for (int i = 0; i < signature->count; i++) {
        signature->interned[i] = PyUnicode_InternFromString(signature->names[i]);
        if (!signature->interned[i])
            return -1;
    }
    return 0;
}

static int find(const seqtopk_py_signature *signature, PyObject *name) {
    for (int i = 0; i < signature->count; i++)
        if (signature->interned[i] == name)
            return i;
    for (int i = 0; i < signature->count; i++)
        if (PyUnicode_Compare(signature->interned[i], name) == 0)
            return i;
    return -1;
}

int seqtopk_py_bind(const seqtopk_py_signature *signature, PyObject *const *args, Py_ssize_t n, PyObject *names,
                    PyObject **values) {
    if (n > signature->positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d arguments without their names, and got %zd",
                     signature->function, signature->positional, n);
        return -1;
    }
    memset(values, 0, (size_t)signature->count * sizeof *values);
    for (Py_ssize_t i = 0; i < n; i++)
        values[i] = args[i] == Py_None ? NULL : args[i];
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        int at = find(signature, name);
        if (at < 0 && !PyErr_Occurred())
            PyErr_Format(PyExc_TypeError, "%s() knows no argument '%U'", signature->function, name);
        else if (at >= 0 && at < n)
            PyErr_Format(PyExc_TypeError, "%s() got '%U' twice", signature->function, name);
        if (PyErr_Occurred())
            return -1;
        values[at] = args[n + i] == Py_None ? NULL : args[n + i];
    }
    return 0;
}

int seqtopk_py_int(PyObject *object, const char *name, int64_t low, int64_t high, int64_t *out) {
    PyObject *number = PyNumber_Index(object);
    if (!number) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%s: an integer is wanted, not %s", name, Py_TYPE(object)->tp_name);
        return -1;
    }
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    if (overflow || value < low || value > high) {
        PyErr_Format(PyExc_ValueError, "%s is %R; it must be %lld to %lld", name, object, (long long)low,
                     (long long)high);
        return -1;
    }
    *out = value;
    return 0;
}

int seqtopk_py_float(PyObject *object, const char *name, float *out) {
    double value = PyFloat_AsDouble(object);
    if (value == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%s: a number is wanted, not %s", name, Py_TYPE(object)->tp_name);
        return -1;
    }
    *out = (float)value;
    return 0;
}

int seqtopk_py_word(PyObject *object, const char *name, const char *const *words, int n, int *out) {
    if (PyUnicode_Check(object)) {
        for (int i = 0; i < n; i++)
            if (PyUnicode_CompareWithASCIIString(object, words[i]) == 0) {
                *out = i;
                return 0;
            }
    }
    char choices[256] = "";
    for (int i = 0; i < n; i++)
        snprintf(choices + strlen(choices), sizeof choices - strlen(choices), "%s'%s'", i ? ", " : "", words[i]);
    PyErr_Format(PyUnicode_Check(object) ? PyExc_ValueError : PyExc_TypeError, "%s is %R; it must be one of %s", name,
                 object, choices);
    return -1;
}
