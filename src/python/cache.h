/* SPDX-License-Identifier: MIT */
#ifndef SEQTOPK_PYTHON_CACHE_H
#define SEQTOPK_PYTHON_CACHE_H

#include "python.h"

extern PyTypeObject seqtopk_py_cache_type;

/* Once. -1 with an exception set. */
int seqtopk_py_cache_ready(void);

#endif
