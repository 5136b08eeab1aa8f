/* SPDX-License-Identifier: MIT */
/* What the operating system says of the processor. For people: nothing is decided by it. */
#ifndef SEQTOPK_CLI_MACHINE_H
#define SEQTOPK_CLI_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

enum { SEQTOPK_CACHES = 8 };

typedef struct seqtopk_machine {
    char name[128]; /* "unknown" where it is not told */
    long processors;
    unsigned long long memory; /* bytes; 0 where they are not told */
    size_t cache_count;
    struct {
        int level;
        char type[16]; /* "data", "instruction", "unified" */
        long long bytes;
    } caches[SEQTOPK_CACHES];
} seqtopk_machine;

void seqtopk_machine_read(seqtopk_machine *machine);

#endif
