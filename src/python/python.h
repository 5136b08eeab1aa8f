/* SPDX-License-Identifier: MIT */
/*
 * What every file of the extension begins with. Python.h comes first, as it asks to.
 *
 * The whole API and not the limited one: an array is read fastest by the buffer protocol, which the limited API has from
 * 3.11 on only, and calls take their arguments by vectorcall, which it has from 3.12 on; Python 3.10 is to be served. So a
 * wheel is of one version of Python.
 *
 * What is global here is guarded by a lock of its own, in a Python without a GIL; where there is a GIL, by that, and the lock is
 * nothing. Nobody who has such a lock calls Python code, or waits.
 */
#ifndef SEQTOPK_PYTHON_PYTHON_H
#define SEQTOPK_PYTHON_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <seqtopk/seqtopk.h>

#ifdef Py_GIL_DISABLED
typedef PyMutex seqtopk_py_lock;
#define SEQTOPK_PY_LOCK(lock) PyMutex_Lock(lock)
#define SEQTOPK_PY_UNLOCK(lock) PyMutex_Unlock(lock)
#else
typedef char seqtopk_py_lock;
#define SEQTOPK_PY_LOCK(lock) ((void)(lock))
#define SEQTOPK_PY_UNLOCK(lock) ((void)(lock))
#endif

#endif
