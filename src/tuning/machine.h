/* SPDX-License-Identifier: MIT */
/* What a measurement holds for: this CPU, what the system lets it run, its caches, and this build of the library. */
#ifndef SEQTOPK_SRC_TUNING_MACHINE_H
#define SEQTOPK_SRC_TUNING_MACHINE_H

#include "src/tuning/file.h"

enum { SEQTOPK_MACHINE_NAME = 96 };

/*
 * The key, seqtopk_machine_key(): "<arch>-<vendor>-<family>-<model>-<stepping> <usable ISAs> <caches> <compiler>
 * seqtopk-<version>", printable ASCII, one space between words. Found out once per process, in microseconds.
 */

/* Whether there is memory to keep the key; without, it is "unknown" for now, and found out when it is asked for again. */
int seqtopk_machine_is_known(void);

/* The key's first word and a hash of all of it: what this machine's file is called. */
const char *seqtopk_machine_name(void);

/* The name of any key. */
void seqtopk_machine_name_of(const char *key, char name[SEQTOPK_MACHINE_NAME]);

#endif
