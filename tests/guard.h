/* SPDX-License-Identifier: MIT */
/* Memory in which a step too far is noticed: pages that trap on both sides, and canaries where a page cannot reach. */
#ifndef SEQTOPK_TESTS_GUARD_H
#define SEQTOPK_TESTS_GUARD_H

#include <stddef.h>

typedef enum guard_side {
    GUARD_END,  /* the last byte lies against the trapping page: aligned to the element and, mostly, to no more */
    GUARD_BEGIN /* the first byte does */
} guard_side;

typedef struct guard {
    unsigned char *map;  /* a trapping page, `room` bytes, a trapping page */
    unsigned char *data; /* what guard_place gave out */
    size_t room, size, page;
} guard;

/* Room for buffers of up to `most` bytes. Ends the program if there is none. */
void guard_open(guard *g, size_t most);
void guard_close(guard *g);

/* A writable buffer of `size` bytes full of rubbish, `off` bytes away from the trapping page; it replaces the last. */
void *guard_place(guard *g, size_t size, guard_side side, size_t off);

/* From here until the next guard_place a write traps. */
void guard_freeze(guard *g);

/* Whether nothing was written beside the buffer. */
int guard_intact(const guard *g);

/* The byte that fresh buffers are filled with. */
#define GUARD_RUBBISH 0xcb

#endif
