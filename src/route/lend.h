/* SPDX-License-Identifier: MIT */
/* Threads that a caller lends (seqtopk_parallel), and what becomes of a loan that does not do what it says. */
#ifndef SEQTOPK_SRC_ROUTE_LEND_H
#define SEQTOPK_SRC_ROUTE_LEND_H

#include <seqtopk/seqtopk.h>

/* Takes the caller's struct, checked. */
seqtopk_status seqtopk_take_loan(seqtopk_parallel *loan, const seqtopk_parallel *parallel, seqtopk_error *error);

/* Has task(arg, i) run for i in [0, parts), parts <= loan->threads: each once, even where the loan runs one again.
 * SEQTOPK_E_VALUE: it returned before all had ended; those that nobody had begun have been run here then. */
seqtopk_status seqtopk_lend(const seqtopk_parallel *loan, int32_t parts, void (*task)(void *arg, int32_t i), void *arg,
                            seqtopk_error *error);

#endif
