/* SPDX-License-Identifier: MIT */
/* Memory that fails when it is told to, and is counted: the linker puts it (--wrap) in the place of the C library's. */
#ifndef SEQTOPK_TESTS_FAULTS_MEMORY_H
#define SEQTOPK_TESTS_FAULTS_MEMORY_H

/* The nth request from now on fails, counted from 0, and all after it if `for_good`; -1: none more. */
void memory_fail(long nth, int for_good);

/* Whether one has failed since one was told to. */
int memory_failed(void);

/* Blocks that were taken and not given back. */
long memory_blocks(void);

/* Whether the process runs with more rights than its user has, as far as it can know. */
void memory_privileged(int privileged);

#endif
