/* SPDX-License-Identifier: MIT */
/*
 * seqtopk.Cache: SeqTopK while sequences grow. A lock lets one call at a time in, since a long step lets go of the GIL: what
 * the C API leaves to the caller, that two threads do not write to one layer, is not to be left to Python's.
 */
#ifndef SEQTOPK_PYTHON_CACHE_H
#define SEQTOPK_PYTHON_CACHE_H

#include "plans.h"
#include "python.h"

typedef struct seqtopk_py_cache {
    PyObject_HEAD seqtopk_cache *cache;
    seqtopk_py_plan *plan;
    PyThread_type_lock lock;
    int32_t layers, sequences;
} seqtopk_py_cache;

extern PyTypeObject seqtopk_py_cache_type;

/* Once. -1 with an exception set. */
int seqtopk_py_cache_ready(void);

/* Takes the lock, and lets go of the GIL where it has to wait. It is let go of by PyThread_release_lock. */
void seqtopk_py_cache_enter(seqtopk_py_cache *c);

/* cache_step.c */
extern const char seqtopk_py_step_doc[];
PyObject *seqtopk_py_step(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names);
int seqtopk_py_step_ready(void);

/* cache_life.c */
extern PyMethodDef seqtopk_py_cache_methods[];

#endif
