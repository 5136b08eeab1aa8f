/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "guard.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CANARY 0xa7
#define CANARY_LENGTH 256

static void must(int fine, const char *what) {
    if (!fine) {
        perror(what);
        exit(1);
    }
}

void guard_open(guard *g, size_t most) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    memset(g, 0, sizeof *g);
    g->page = page;
    g->room = (most + 2 * CANARY_LENGTH + page - 1) / page * page;
    g->map = mmap(NULL, g->room + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(g->map != MAP_FAILED, "mmap");
    must(mprotect(g->map + page, g->room, PROT_READ | PROT_WRITE) == 0, "mprotect");
}

void guard_close(guard *g) {
    munmap(g->map, g->room + 2 * g->page);
    memset(g, 0, sizeof *g);
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

void *guard_place(guard *g, size_t size, guard_side side, size_t off) {
    unsigned char *room = g->map + g->page;
    if (size + off > g->room) {
        fprintf(stderr, "guard: %zu bytes do not fit in %zu\n", size + off, g->room);
        exit(1);
    }
    must(mprotect(room, g->room, PROT_READ | PROT_WRITE) == 0, "mprotect");
    g->size = size;
    g->data = side == GUARD_BEGIN ? room + off : room + g->room - size - off;
    size_t before = smaller((size_t)(g->data - room), CANARY_LENGTH);
    size_t after = smaller((size_t)(room + g->room - g->data) - size, CANARY_LENGTH);
    memset(g->data - before, CANARY, before);
    memset(g->data, GUARD_RUBBISH, size);
    memset(g->data + size, CANARY, after);
    return g->data;
}

void guard_freeze(guard *g) { must(mprotect(g->map + g->page, g->room, PROT_READ) == 0, "mprotect"); }

int guard_intact(const guard *g) {
    static unsigned char canary[CANARY_LENGTH];
    const unsigned char *room = g->map + g->page;
    const size_t before = smaller((size_t)(g->data - room), CANARY_LENGTH);
    const size_t after = smaller((size_t)(room + g->room - g->data) - g->size, CANARY_LENGTH);
    memset(canary, CANARY, sizeof canary);
    return memcmp(g->data - before, canary, before) == 0 && memcmp(g->data + g->size, canary, after) == 0;
}
