/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "tune/topology.h"

#include <hwloc.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

static int64_t cache_of(hwloc_topology_t topology, hwloc_obj_t core, unsigned level) {
    for (hwloc_obj_t up = core; up; up = up->parent)
        if (hwloc_obj_type_is_dcache(up->type) && up->attr->cache.depth == level)
            return (int64_t)up->attr->cache.size;
    (void)topology;
    return 0;
}

/* The processors of the kind of cores that hwloc ranks fastest; all of them where it knows no kinds. */
static hwloc_bitmap_t fastest(hwloc_topology_t topology, hwloc_const_bitmap_t allowed, int32_t *kinds) {
    hwloc_bitmap_t set = hwloc_bitmap_dup(allowed), kind = hwloc_bitmap_alloc();
    int best = -1, n = 0;
    *kinds = 1;
#if HWLOC_API_VERSION >= 0x00020400
    n = hwloc_cpukinds_get_nr(topology, 0);
    int met = 0;
    for (int i = 0; set && kind && i < n; i++) {
        int efficiency = -1; /* of hwloc: rises with speed */
        if (hwloc_cpukinds_get_info(topology, (unsigned)i, kind, &efficiency, NULL, NULL, 0) != 0)
            continue;
        hwloc_bitmap_and(kind, kind, allowed);
        if (hwloc_bitmap_iszero(kind))
            continue;
        met++;
        if (efficiency > best) {
            best = efficiency;
            hwloc_bitmap_copy(set, kind);
        }
    }
    *kinds = met > 1 ? met : 1;
#endif
    (void)best, (void)n, (void)topology;
    hwloc_bitmap_free(kind);
    return set;
}

static hwloc_obj_t core_at(hwloc_topology_t topology, int i) {
    return hwloc_get_obj_by_type(topology, HWLOC_OBJ_CORE, (unsigned)i);
}

/* The nth processor of an object within `set`, or -1. */
static int processor_of(hwloc_const_bitmap_t cpus, hwloc_const_bitmap_t set, int nth) {
    int cpu = -1;
    for (cpu = hwloc_bitmap_next(cpus, cpu); cpu >= 0; cpu = hwloc_bitmap_next(cpus, cpu))
        if (hwloc_bitmap_isset(set, (unsigned)cpu) && nth-- == 0)
            return cpu;
    return -1;
}

static void add_place(seqtopk_tune_topology *t, int cpu) {
    if (cpu >= 0 && t->places < SEQTOPK_TUNE_PLACES)
        t->place[t->places++] = cpu;
}

/* Cores in the system's order, but the first last: most interrupts go there. Within one node as far as they reach,
 * since hwloc numbers the cores of a node one after the other. */
static void find_places(hwloc_topology_t topology, hwloc_const_bitmap_t set, seqtopk_tune_topology *t) {
    const int cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
    for (int smt = 0; smt < 16; smt++) {
        const int32_t before = t->places;
        for (int i = 1; i <= cores; i++)
            add_place(t, processor_of(core_at(topology, i % cores)->cpuset, set, smt));
        if (smt == 0)
            t->distinct = t->cores_of_kind = t->places;
        if (t->places == before)
            break;
    }
    if (cores <= 0) { /* no cores are told: every processor is taken for one */
        for (int nth = 0; nth < SEQTOPK_TUNE_PLACES; nth++)
            add_place(t, processor_of(set, set, nth));
        t->distinct = t->cores_of_kind = t->places;
    }
}

static void read_loaded(hwloc_topology_t topology, seqtopk_tune_topology *t) {
    hwloc_bitmap_t allowed = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(topology));
    hwloc_bitmap_t bound = hwloc_bitmap_alloc();
    if (allowed && bound && hwloc_get_cpubind(topology, bound, HWLOC_CPUBIND_PROCESS) == 0 &&
        hwloc_bitmap_intersects(allowed, bound))
        hwloc_bitmap_and(allowed, allowed, bound); /* taskset and containers */
    hwloc_bitmap_t set = allowed ? fastest(topology, allowed, &t->kinds) : NULL;
    if (set) {
        t->processors = hwloc_bitmap_weight(allowed);
        t->nodes = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
        t->memory = (int64_t)hwloc_get_root_obj(topology)->total_memory;
        find_places(topology, set, t);
        const int cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
        for (int i = 0; i < cores; i++)
            t->cores += hwloc_bitmap_intersects(core_at(topology, i)->cpuset, allowed);
        hwloc_obj_t pu = t->places ? hwloc_get_pu_obj_by_os_index(topology, (unsigned)t->place[0]) : NULL;
        for (unsigned level = 1; level <= 3; level++)
            t->cache[level - 1] = cache_of(topology, pu, level);
    }
    hwloc_bitmap_free(set);
    hwloc_bitmap_free(bound);
    hwloc_bitmap_free(allowed);
}

bool seqtopk_tune_topology_read(seqtopk_tune_topology *t) {
    hwloc_topology_t topology;
    memset(t, 0, sizeof *t);
    /* Without /sys, as in a bare chroot, hwloc complains on stderr, and then finds the processors all the same. */
    setenv("HWLOC_HIDE_ERRORS", "2", 0);
    if (hwloc_topology_init(&topology) != 0)
        return false;
    if (hwloc_topology_load(topology) == 0)
        read_loaded(topology, t);
    hwloc_topology_destroy(topology);
    return t->places > 0;
}

bool seqtopk_tune_pin(const seqtopk_tune_topology *t, int32_t i) {
#ifdef __linux__
    cpu_set_t set;
    if (i < 0 || i >= t->places || t->place[i] >= CPU_SETSIZE)
        return false;
    CPU_ZERO(&set);
    CPU_SET((size_t)t->place[i], &set);
    return sched_setaffinity(0, sizeof set, &set) == 0; /* memory comes from the node that first writes it */
#else
    (void)t, (void)i;
    return false;
#endif
}
