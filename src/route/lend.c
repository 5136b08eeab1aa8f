/* SPDX-License-Identifier: MIT */
#include "src/route/lend.h"
#include "src/abi.h"
#include "src/kernels/limits.h"
#include "src/status.h"

#include <stdatomic.h>

seqtopk_status seqtopk_take_loan(seqtopk_parallel *loan, const seqtopk_parallel *parallel, seqtopk_error *error) {
    const seqtopk_status status =
        seqtopk_take_struct(loan, sizeof *loan, SEQTOPK_FIRST_parallel, parallel, "parallel", error);
    if (status)
        return status;
    if (!loan->parallel_for)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "parallel.parallel_for is NULL");
    if (loan->threads < 1 || loan->threads > SEQTOPK_MAX_PARTS)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "parallel.threads is %d; it must be 1 to %d",
                            (int)loan->threads, SEQTOPK_MAX_PARTS);
    return SEQTOPK_OK;
}

/* A step's parts: two runs of one at once would write the same places. */
typedef struct {
    void (*task)(void *arg, int32_t i);
    void *arg;
    int32_t parts;
    _Atomic int32_t ended;
    _Atomic unsigned char begun[SEQTOPK_MAX_PARTS];
} lending;

static void run_once(void *arg, int32_t i) {
    lending *l = arg;
    if (i < 0 || i >= l->parts || atomic_exchange_explicit(l->begun + i, 1, memory_order_relaxed))
        return;
    l->task(l->arg, i);
    atomic_fetch_add_explicit(&l->ended, 1, memory_order_release);
}

seqtopk_status seqtopk_lend(const seqtopk_parallel *loan, int32_t parts, void (*task)(void *arg, int32_t i), void *arg,
                            seqtopk_error *error) {
    lending l;
    l.task = task;
    l.arg = arg;
    l.parts = parts;
    atomic_init(&l.ended, 0);
    for (int32_t i = 0; i < parts; i++)
        atomic_init(l.begun + i, 0);
    loan->parallel_for(loan->context, parts, run_once, &l);
    const int32_t ended = atomic_load_explicit(&l.ended, memory_order_acquire);
    for (int32_t i = 0; i < parts && ended < parts; i++) /* so that what comes next finds something whole */
        run_once(&l, i);
    return ended == parts
               ? SEQTOPK_OK
               : seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                              "parallel.parallel_for returned when %d of its %d tasks had ended: it must run "
                              "each and wait for all",
                              (int)ended, (int)parts);
}
