/* SPDX-License-Identifier: MIT */
#include "plans.h"
#include "errors.h"

#include <string.h>

enum { KEPT = 64 };
static seqtopk_py_plan *kept[KEPT];
static int kept_count;
static seqtopk_py_plan *latest; /* most calls are like the one before */
static uint64_t calls;

static void destroy(seqtopk_py_plan *p) {
    seqtopk_plan_destroy(p->plan);
    PyMem_Free(p);
}

/* Makes room for one more. */
static int vacate(void) {
    if (kept_count < KEPT)
        return kept_count++;
    int oldest = 0;
    for (int i = 1; i < KEPT; i++)
        if (kept[i]->used < kept[oldest]->used)
            oldest = i;
    seqtopk_py_plan *p = kept[oldest];
    p->is_kept = 0;
    if (latest == p)
        latest = NULL;
    if (p->holders == 0)
        destroy(p);
    return oldest;
}

static seqtopk_py_plan *make(const seqtopk_desc *desc) {
    seqtopk_py_plan *p = PyMem_Calloc(1, sizeof *p);
    if (!p) {
        PyErr_NoMemory();
        return NULL;
    }
    p->desc = *desc;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_status status = seqtopk_plan_create(&p->plan, desc, &error);
    if (status != SEQTOPK_OK) {
        PyMem_Free(p);
        seqtopk_py_raise(status, &error);
        return NULL;
    }
    p->is_kept = 1;
    kept[vacate()] = p;
    return p;
}

static seqtopk_py_plan *find(const seqtopk_desc *desc) {
    if (latest && memcmp(&latest->desc, desc, sizeof *desc) == 0)
        return latest;
    for (int i = 0; i < kept_count; i++)
        if (memcmp(&kept[i]->desc, desc, sizeof *desc) == 0)
            return kept[i];
    return NULL;
}

seqtopk_py_plan *seqtopk_py_plan_get(const seqtopk_desc *desc) {
    seqtopk_py_plan *p = find(desc);
    if (!p)
        p = make(desc);
    if (!p)
        return NULL;
    latest = p;
    p->used = ++calls;
    p->holders++;
    return p;
}

void seqtopk_py_plan_drop(seqtopk_py_plan *p) {
    if (p && --p->holders == 0 && !p->is_kept)
        destroy(p);
}
