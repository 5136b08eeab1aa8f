/* SPDX-License-Identifier: MIT */
#include "plans.h"
#include "errors.h"

#include <string.h>

enum { KEPT = 64 };
static seqtopk_py_lock lock; /* guards all of these, and the counts of all plans */
static seqtopk_py_plan *kept[KEPT];
static int kept_count;
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
    return p;
}

/* With the lock. */
static seqtopk_py_plan *hold(seqtopk_py_plan *p) {
    p->used = ++calls;
    p->holders++;
    return p;
}

static seqtopk_py_plan *find(const seqtopk_desc *desc) {
    seqtopk_py_plan *found = NULL;
    SEQTOPK_PY_LOCK(&lock);
    for (int i = 0; i < kept_count && !found; i++)
        if (memcmp(&kept[i]->desc, desc, sizeof *desc) == 0)
            found = hold(kept[i]);
    SEQTOPK_PY_UNLOCK(&lock);
    return found;
}

/* Two threads may keep a plan each for one description: the later is not found, and goes as any that is not used. */
static seqtopk_py_plan *keep(seqtopk_py_plan *p) {
    SEQTOPK_PY_LOCK(&lock);
    p->is_kept = 1;
    kept[vacate()] = hold(p);
    SEQTOPK_PY_UNLOCK(&lock);
    return p;
}

seqtopk_py_plan *seqtopk_py_plan_get(const seqtopk_desc *desc) {
    seqtopk_py_plan *p = find(desc);
    if (!p && (p = make(desc)) != NULL)
        keep(p);
    return p;
}

seqtopk_py_plan *seqtopk_py_plan_hold(seqtopk_py_plan *p) {
    SEQTOPK_PY_LOCK(&lock);
    hold(p);
    SEQTOPK_PY_UNLOCK(&lock);
    return p;
}

void seqtopk_py_plan_drop(seqtopk_py_plan *p) {
    if (!p)
        return;
    SEQTOPK_PY_LOCK(&lock);
    const int is_last = --p->holders == 0 && !p->is_kept;
    SEQTOPK_PY_UNLOCK(&lock);
    if (is_last)
        destroy(p);
}
