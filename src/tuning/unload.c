/* SPDX-License-Identifier: MIT */
/*
 * dlclose frees what the library keeps for the process; exit does not, since other threads may still make plans then,
 * which look at it. A destructor is called by both. But exit calls what atexit registered first, and destructors after
 * all of that; dlclose calls the library's destructors first, and what it registered by atexit at the end of them. Where
 * that order is another one, or there is no destructor, nothing is freed and nothing is wrong.
 */
#include "src/unload.h"

#include <stdatomic.h>
#include <stdlib.h>

#if defined(__GNUC__)

enum { UNPREPARED, BEING_PREPARED, PREPARED, EXITING };
static _Atomic int state;

static void exiting(void) { atomic_store(&state, EXITING); }

void seqtopk_unload_prepare(void) {
    int expected = UNPREPARED;
    if (!atomic_compare_exchange_strong(&state, &expected, BEING_PREPARED) || atexit(exiting) != 0)
        return;
    expected = BEING_PREPARED; /* or EXITING by now */
    (void)atomic_compare_exchange_strong(&state, &expected, PREPARED);
}

static __attribute__((destructor)) void unload(void) {
    if (atomic_exchange(&state, EXITING) != PREPARED)
        return;
    seqtopk_tuning_unload();
    seqtopk_machine_unload();
}

#else

void seqtopk_unload_prepare(void) {}

#endif
