/* SPDX-License-Identifier: MIT */
/* What a call works with: scratch of its thread, threads of the module's own, and whether it lets go of the GIL. */
#ifndef SEQTOPK_PYTHON_WORK_H
#define SEQTOPK_PYTHON_WORK_H

#include "python.h"

/* So many logits and the GIL is let go: they take some ten microseconds, and to let it go and have it back may take as long. */
enum { SEQTOPK_PY_LONG_CALL = 32768 };

/* Once. -1 with an exception set. */
int seqtopk_py_work_ready(void);

/* At least `size` bytes, which stay the calling thread's until it ends or asks for more. NULL with an exception set. */
void *seqtopk_py_scratch(size_t size);

/* How many threads a call may use, the caller's one of them; 1 at first. */
int32_t seqtopk_py_threads(void);
void seqtopk_py_set_threads(int32_t threads);

/*
 * The module's threads, for one call at a time: 0 if there are none, or another call has them, and then one works alone.
 * Between the two the GIL may be let go.
 */
int seqtopk_py_borrow_threads(seqtopk_parallel *parallel);
void seqtopk_py_return_threads(void);

#endif
