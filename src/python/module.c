/* SPDX-License-Identifier: MIT */
/* seqtopk._core: what of the package is in C. */
#include "bind.h"
#include "cache.h"
#include "describe.h"
#include "lists.h"
#include "route.h"
#include "work.h"

static PyObject *set_num_threads(PyObject *module, PyObject *number) {
    (void)module;
    int64_t threads;
    if (seqtopk_py_int(number, "threads", 1, 1024, &threads) < 0)
        return NULL;
    seqtopk_py_set_threads((int32_t)threads);
    return Py_NewRef(Py_None);
}

static PyObject *get_num_threads(PyObject *module, PyObject *nothing) {
    (void)module;
    (void)nothing;
    return PyLong_FromLong(seqtopk_py_threads());
}

static PyObject *presets(PyObject *module, PyObject *nothing) {
    (void)module;
    (void)nothing;
    PyObject *names = PyList_New(0);
    for (int32_t i = 0; names && i < seqtopk_preset_count(); i++) {
        seqtopk_preset preset = SEQTOPK_PRESET_INIT;
        seqtopk_preset_get(i, &preset);
        PyObject *name = PyUnicode_FromString(preset.name);
        if (!name || PyList_Append(names, name) < 0)
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

static PyMethodDef functions[] = {
    {"route", (PyCFunction)(void (*)(void))seqtopk_py_route, METH_FASTCALL | METH_KEYWORDS, seqtopk_py_route_doc},
    {"describe", (PyCFunction)(void (*)(void))seqtopk_py_describe_call, METH_FASTCALL | METH_KEYWORDS,
     seqtopk_py_describe_doc},
    {"set_num_threads", set_num_threads, METH_O,
     "set_num_threads(threads, /)\n--\n\nHow many threads a call of 32768 logits or more may use: 1 (the default) to "
     "1024. "
     "They are the module's own,\nand one call's at a time: another that runs meanwhile works alone."},
    {"get_num_threads", get_num_threads, METH_NOARGS, "get_num_threads()\n--\n\nWhat set_num_threads was given."},
    {"presets", presets, METH_NOARGS, "presets()\n--\n\nThe names that `preset` takes: routers of published models."},
    {NULL, NULL, 0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_core", "Routing in C.", -1, functions, NULL, NULL, NULL, NULL};

static int fill(PyObject *module) {
    if (PyType_Ready(&seqtopk_py_routing_type) < 0 || PyType_Ready(&seqtopk_py_cache_type) < 0 ||
        seqtopk_py_work_ready() < 0 || seqtopk_py_route_ready() < 0 || seqtopk_py_describe_ready() < 0 ||
        seqtopk_py_cache_ready() < 0)
        return -1;
    if (PyModule_AddObjectRef(module, "Routing", (PyObject *)&seqtopk_py_routing_type) < 0 ||
        PyModule_AddObjectRef(module, "Cache", (PyObject *)&seqtopk_py_cache_type) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "__version__", seqtopk_version());
}

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void) {
    PyObject *module = PyModule_Create(&definition);
#ifdef Py_GIL_DISABLED
    if (module)
        PyUnstable_Module_SetGIL(module, Py_MOD_GIL_NOT_USED);
#endif
    if (module && fill(module) < 0)
        Py_CLEAR(module);
    return module;
}
