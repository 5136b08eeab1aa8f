/* SPDX-License-Identifier: MIT */
/* Whether this processor is one: timings of an emulator say nothing about it. */
#ifndef SEQTOPK_TUNE_EMULATED_H
#define SEQTOPK_TUNE_EMULATED_H

/* By whom this program is emulated (qemu-user, valgrind, QEMU's TCG, ...), in a few words; NULL: by nobody that shows.
 * A hypervisor that runs programs on the processor itself is none. The answer lives until the next call. */
const char *seqtopk_tune_emulated(void);

#endif
