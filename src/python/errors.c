/* SPDX-License-Identifier: MIT */
#include "errors.h"

PyObject *seqtopk_py_raise(seqtopk_status status, const seqtopk_error *error) {
    if (status == SEQTOPK_E_MEMORY)
        return PyErr_NoMemory();
    /* Errors are rare: the module is looked up each time. */
    PyObject *module = PyImport_ImportModule("seqtopk.errors");
    if (!module)
        return NULL;
    PyObject *exception = PyObject_CallMethod(module, "of_library", "isLs", (int)status, seqtopk_status_string(status),
                                              (long long)error->token, error->message);
    Py_DECREF(module);
    if (exception) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return NULL;
}
