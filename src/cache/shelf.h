/* SPDX-License-Identifier: MIT */
/*
 * A shelf: elements of one size in the order in which they were put there, in chunks that two shelves may share. To share
 * costs a count per page of chunks; who then writes into a chunk copies it first. Elements never move within a chunk, and
 * only the last ones are taken away again.
 *
 *     shelf -> pages -> chunks of elements
 */
#ifndef SEQTOPK_SRC_CACHE_SHELF_H
#define SEQTOPK_SRC_CACHE_SHELF_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* What all shelves of a cache may take together. Any thread may use one. */
typedef struct seqtopk_purse {
    atomic_size_t used; /* bytes */
    size_t most;
} seqtopk_purse;

void *seqtopk_purse_take(seqtopk_purse *purse, size_t size); /* NULL: no memory, or more than there may be */
void seqtopk_purse_give(seqtopk_purse *purse, void *memory, size_t size);

typedef struct seqtopk_page seqtopk_page;

typedef struct seqtopk_shelf {
    seqtopk_page **pages;
    int64_t size;   /* elements */
    char *next;     /* where the next element goes, if there is */
    int64_t room;   /* for so many, in memory that is this shelf's own */
    int32_t chunks; /* that are there, the last of them maybe empty */
    int32_t table;  /* pages that `pages` has space for */
    int32_t element, per_chunk;
} seqtopk_shelf;

/* An empty shelf for elements of so many bytes. */
void seqtopk_shelf_init(seqtopk_shelf *shelf, int32_t element);
void seqtopk_shelf_free(seqtopk_shelf *shelf, seqtopk_purse *purse);

/* So many bytes behind the last element may be read, whatever they are. */
enum { SEQTOPK_SHELF_SLACK = 64 };

/* Makes elements [at, at + n) writable, at <= size: space for them, in chunks of this shelf's own. Changes nothing that can
 * be seen. Returns 0 if there is no memory. */
int seqtopk_shelf_reserve(seqtopk_shelf *shelf, int64_t at, int64_t n, seqtopk_purse *purse);

/* Where the next elements go, and for how many there is room without a gap, at least one. Returns NULL if there is no
 * memory. They are there once `grow` has counted them. */
void *seqtopk_shelf_make_room(seqtopk_shelf *shelf, seqtopk_purse *purse);
static inline void *seqtopk_shelf_room(seqtopk_shelf *shelf, int64_t *room, seqtopk_purse *purse) {
    void *place = shelf->room > 0 ? shelf->next : seqtopk_shelf_make_room(shelf, purse);
    *room = shelf->room;
    return place;
}
static inline void seqtopk_shelf_grow(seqtopk_shelf *shelf, int64_t n) {
    shelf->next += n * shelf->element;
    shelf->room -= n;
    shelf->size += n;
}

/* A place for one more, which is counted at once. */
static inline void *seqtopk_shelf_push(seqtopk_shelf *shelf, seqtopk_purse *purse) {
    int64_t room;
    void *place = seqtopk_shelf_room(shelf, &room, purse);
    if (place)
        seqtopk_shelf_grow(shelf, 1);
    return place;
}

/* Takes away all elements from `size` on; keeps the space of elements below `keep`. */
void seqtopk_shelf_cut(seqtopk_shelf *shelf, int64_t size, int64_t keep, seqtopk_purse *purse);

/* Element i; and how many stand behind one another from there on, itself included. To be read only. */
const void *seqtopk_shelf_at(const seqtopk_shelf *shelf, int64_t i, int64_t *count);

/* Makes *to, which is empty, an equal of *from. Returns 0 if there is no memory. */
int seqtopk_shelf_share(seqtopk_shelf *to, seqtopk_shelf *from, seqtopk_purse *purse);

/* Bytes of the chunks that this shelf has to itself, and of those that it shares. */
void seqtopk_shelf_bytes(const seqtopk_shelf *shelf, int64_t *own, int64_t *shared);

#endif
