/* SPDX-License-Identifier: MIT */
/*
 * Plans by description, kept from call to call: making one takes microseconds, a call of one token less than one. The most
 * that are kept is fixed; the one that was used longest ago goes. A plan that somebody holds lives on until it is let go.
 * Any thread may ask, with the GIL or without one.
 */
#ifndef SEQTOPK_PYTHON_PLANS_H
#define SEQTOPK_PYTHON_PLANS_H

#include "python.h"

typedef struct seqtopk_py_plan {
    seqtopk_desc desc; /* zeroed before it was filled in: compared as bytes */
    seqtopk_plan *plan;
    int64_t holders;
    uint64_t used; /* when, in calls */
    int is_kept;
} seqtopk_py_plan;

/* Held: to be let go by seqtopk_py_plan_drop. NULL with an exception set. */
seqtopk_py_plan *seqtopk_py_plan_get(const seqtopk_desc *desc);
seqtopk_py_plan *seqtopk_py_plan_hold(seqtopk_py_plan *plan); /* once more */
void seqtopk_py_plan_drop(seqtopk_py_plan *plan);

#endif
