/* SPDX-License-Identifier: MIT */
/* What hwloc tells of this machine, and where to time. The only user of hwloc. */
#ifndef SEQTOPK_TUNE_TOPOLOGY_H
#define SEQTOPK_TUNE_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

enum { SEQTOPK_TUNE_PLACES = 1024 };

typedef struct seqtopk_tune_topology {
    int32_t processors, cores, nodes, kinds; /* that this process may use; kinds of cores, 1 where all are alike */
    int64_t cache[3];                        /* bytes of L1 (data), L2, L3 as one core sees them; 0: none */
    int64_t memory;                          /* bytes */
    int32_t cores_of_kind;                   /* of the fastest kind */
    int32_t places;                          /* for threads: one on each core first, then the others of each core */
    int32_t place[SEQTOPK_TUNE_PLACES];      /* processors as the system numbers them */
    int32_t distinct;                        /* the first so many places are on cores of their own */
} seqtopk_tune_topology;

/* Loads in some ms; on a large machine in some 100. False: hwloc could not. */
bool seqtopk_tune_topology_read(seqtopk_tune_topology *topology);

/* Keeps the calling thread on place `i`, and its new memory near. False: the system does not allow it. */
bool seqtopk_tune_pin(const seqtopk_tune_topology *topology, int32_t i);

#endif
