/* SPDX-License-Identifier: MIT */
#include "src/cache/shelf.h"

#include <stdlib.h>
#include <string.h>

/*
 * A chunk is large enough that what stands round its elements does not count, and small enough that to copy one, after
 * sharing, takes a fraction of a microsecond. A page counts for its chunks: a shelf of a million tokens has some hundred.
 */
enum { CHUNK_BYTES = 8192, FIRST_BYTES = 512, PAGE_CHUNKS = 128 };

typedef struct chunk {
    atomic_int owners; /* pages */
    int32_t capacity;  /* elements: fewer than others while it is the first */
    int32_t bytes;     /* of all of it */
    _Alignas(8) char data[];
} chunk;

struct seqtopk_page {
    atomic_int owners; /* shelves */
    chunk *chunk[PAGE_CHUNKS];
};

/* ------------------------------------------------------------------ purse -- */

void *seqtopk_purse_take(seqtopk_purse *purse, size_t size) {
    const size_t before = atomic_fetch_add_explicit(&purse->used, size, memory_order_relaxed);
    void *memory = before <= purse->most && size <= purse->most - before ? malloc(size) : NULL;
    if (!memory)
        atomic_fetch_sub_explicit(&purse->used, size, memory_order_relaxed);
    return memory;
}

void seqtopk_purse_give(seqtopk_purse *purse, void *memory, size_t size) {
    if (memory)
        atomic_fetch_sub_explicit(&purse->used, size, memory_order_relaxed);
    free(memory);
}

/* -------------------------------------------------------- pages and chunks -- */

static int is_own(atomic_int *owners) { return atomic_load_explicit(owners, memory_order_acquire) == 1; }
static void add_owner(atomic_int *owners) { atomic_fetch_add_explicit(owners, 1, memory_order_relaxed); }
/* Whether it was the last. */
static int drop_owner(atomic_int *owners) { return atomic_fetch_sub_explicit(owners, 1, memory_order_acq_rel) == 1; }

static chunk *make_chunk(const seqtopk_shelf *shelf, int32_t capacity, seqtopk_purse *purse) {
    const size_t bytes = sizeof(chunk) + (size_t)capacity * (size_t)shelf->element + SEQTOPK_SHELF_SLACK;
    chunk *made = seqtopk_purse_take(purse, bytes);
    if (made) {
        atomic_init(&made->owners, 1);
        made->capacity = capacity;
        made->bytes = (int32_t)bytes;
    }
    return made;
}

static void drop_chunk(chunk *own, seqtopk_purse *purse) {
    if (own && drop_owner(&own->owners))
        seqtopk_purse_give(purse, own, (size_t)own->bytes);
}

static void drop_page(seqtopk_page *page, int32_t chunks, seqtopk_purse *purse) {
    if (!drop_owner(&page->owners))
        return;
    for (int32_t i = 0; i < chunks; i++)
        drop_chunk(page->chunk[i], purse);
    seqtopk_purse_give(purse, page, sizeof *page);
}

static int32_t pages_of(int32_t chunks) { return (chunks + PAGE_CHUNKS - 1) / PAGE_CHUNKS; }

/* How many chunks page p of a shelf has. */
static int32_t chunks_of_page(const seqtopk_shelf *shelf, int32_t p) {
    const int32_t left = shelf->chunks - p * PAGE_CHUNKS;
    return left < PAGE_CHUNKS ? left : PAGE_CHUNKS;
}

static chunk **chunk_of(const seqtopk_shelf *shelf, int32_t c) {
    return shelf->pages[c / PAGE_CHUNKS]->chunk + c % PAGE_CHUNKS;
}

/* Makes page p this shelf's own. */
static int own_page(seqtopk_shelf *shelf, int32_t p, seqtopk_purse *purse) {
    seqtopk_page *theirs = shelf->pages[p];
    if (is_own(&theirs->owners))
        return 1;
    seqtopk_page *own = seqtopk_purse_take(purse, sizeof *own);
    if (!own)
        return 0;
    atomic_init(&own->owners, 1);
    const int32_t n = chunks_of_page(shelf, p);
    for (int32_t i = 0; i < n; i++) {
        own->chunk[i] = theirs->chunk[i];
        add_owner(&own->chunk[i]->owners);
    }
    drop_page(theirs, n, purse);
    shelf->pages[p] = own;
    return 1;
}

/* Makes chunk c this shelf's own, with space for `capacity` elements. */
static int own_chunk(seqtopk_shelf *shelf, int32_t c, int32_t capacity, seqtopk_purse *purse) {
    if (!own_page(shelf, c / PAGE_CHUNKS, purse))
        return 0;
    chunk **place = chunk_of(shelf, c), *theirs = *place;
    if (is_own(&theirs->owners) && theirs->capacity >= capacity)
        return 1;
    chunk *own = make_chunk(shelf, capacity > theirs->capacity ? capacity : theirs->capacity, purse);
    if (!own)
        return 0;
    memcpy(own->data, theirs->data, (size_t)theirs->capacity * (size_t)shelf->element);
    drop_chunk(theirs, purse);
    *place = own;
    return 1;
}

static int grow_table(seqtopk_shelf *shelf, seqtopk_purse *purse) {
    const int32_t table = shelf->table ? 2 * shelf->table : 1;
    seqtopk_page **pages = seqtopk_purse_take(purse, (size_t)table * sizeof(seqtopk_page *));
    if (!pages)
        return 0;
    if (shelf->table)
        memcpy(pages, shelf->pages, (size_t)shelf->table * sizeof(seqtopk_page *));
    seqtopk_purse_give(purse, shelf->pages, (size_t)shelf->table * sizeof(seqtopk_page *));
    shelf->pages = pages;
    shelf->table = table;
    return 1;
}

static int add_chunk(seqtopk_shelf *shelf, int32_t capacity, seqtopk_purse *purse) {
    const int32_t p = shelf->chunks / PAGE_CHUNKS, at = shelf->chunks % PAGE_CHUNKS;
    if (p == shelf->table && !grow_table(shelf, purse))
        return 0;
    if (at == 0) {
        if (!(shelf->pages[p] = seqtopk_purse_take(purse, sizeof **shelf->pages)))
            return 0;
        atomic_init(&shelf->pages[p]->owners, 1);
    } else if (!own_page(shelf, p, purse)) {
        return 0;
    }
    chunk *own = make_chunk(shelf, capacity, purse);
    if (!own) {
        if (at == 0)
            seqtopk_purse_give(purse, shelf->pages[p], sizeof **shelf->pages);
        return 0;
    }
    shelf->pages[p]->chunk[at] = own;
    shelf->chunks++;
    return 1;
}

/* ------------------------------------------------------------------ shelf -- */

void seqtopk_shelf_init(seqtopk_shelf *shelf, int32_t element) {
    *shelf = (seqtopk_shelf){.element = element, .per_chunk = element < CHUNK_BYTES ? CHUNK_BYTES / element : 1};
}

void seqtopk_shelf_free(seqtopk_shelf *shelf, seqtopk_purse *purse) {
    for (int32_t p = 0; p < pages_of(shelf->chunks); p++)
        drop_page(shelf->pages[p], chunks_of_page(shelf, p), purse);
    seqtopk_purse_give(purse, shelf->pages, (size_t)shelf->table * sizeof(seqtopk_page *));
    seqtopk_shelf_init(shelf, shelf->element);
}

/* Finds where the next element goes, if that is in a chunk of this shelf's own. */
static void find_room(seqtopk_shelf *shelf) {
    const int32_t c = (int32_t)(shelf->size / shelf->per_chunk), at = (int32_t)(shelf->size % shelf->per_chunk);
    shelf->room = 0;
    if (c >= shelf->chunks || !is_own(&shelf->pages[c / PAGE_CHUNKS]->owners))
        return;
    chunk *own = *chunk_of(shelf, c);
    if (!is_own(&own->owners))
        return;
    shelf->next = own->data + (size_t)at * (size_t)shelf->element;
    shelf->room = own->capacity - at;
}

/* A shelf's only chunk grows by doubling, so that short sequences take little; the others have their full size at once. */
static int32_t capacity_for(const seqtopk_shelf *shelf, int32_t c, int64_t end) {
    int64_t capacity = FIRST_BYTES / shelf->element;
    if (c > 0 || end > shelf->per_chunk)
        return shelf->per_chunk;
    for (capacity = capacity < 1 ? 1 : capacity; capacity < end;)
        capacity *= 2;
    return capacity < shelf->per_chunk ? (int32_t)capacity : shelf->per_chunk;
}

int seqtopk_shelf_reserve(seqtopk_shelf *shelf, int64_t at, int64_t n, seqtopk_purse *purse) {
    if (n <= shelf->room && at == shelf->size)
        return 1;
    if (n <= 0)
        return 1;
    const int64_t end = at + n;
    if (end / shelf->per_chunk >= INT32_MAX - 1)
        return 0;
    for (int32_t c = (int32_t)(at / shelf->per_chunk); c <= (int32_t)((end - 1) / shelf->per_chunk); c++) {
        const int32_t capacity = capacity_for(shelf, c, end);
        if (!(c < shelf->chunks ? own_chunk(shelf, c, capacity, purse) : add_chunk(shelf, capacity, purse)))
            return 0;
    }
    find_room(shelf);
    return 1;
}

void *seqtopk_shelf_make_room(seqtopk_shelf *shelf, seqtopk_purse *purse) {
    return seqtopk_shelf_reserve(shelf, shelf->size, 1, purse) && shelf->room > 0 ? shelf->next : NULL;
}

void seqtopk_shelf_cut(seqtopk_shelf *shelf, int64_t size, int64_t keep, seqtopk_purse *purse) {
    const int64_t kept = keep > size ? keep : size;
    const int32_t chunks = (int32_t)((kept + shelf->per_chunk - 1) / shelf->per_chunk);
    shelf->size = size;
    while (shelf->chunks > chunks) {
        const int32_t c = shelf->chunks - 1, p = c / PAGE_CHUNKS;
        if (c % PAGE_CHUNKS == 0) {
            drop_page(shelf->pages[p], 1, purse);
        } else if (is_own(&shelf->pages[p]->owners)) {
            drop_chunk(*chunk_of(shelf, c), purse);
        } else if (own_page(shelf, p, purse)) {
            continue;
        } else { /* no memory for a page of this shelf's own: what is too much stays, unused */
            break;
        }
        shelf->chunks--;
    }
    find_room(shelf);
}

const void *seqtopk_shelf_at(const seqtopk_shelf *shelf, int64_t i, int64_t *count) {
    const int32_t c = (int32_t)(i / shelf->per_chunk), at = (int32_t)(i % shelf->per_chunk);
    const int64_t left = shelf->size - i, here = shelf->per_chunk - at;
    *count = left < here ? left : here;
    return (*chunk_of(shelf, c))->data + (size_t)at * (size_t)shelf->element;
}

int seqtopk_shelf_share(seqtopk_shelf *to, seqtopk_shelf *from, seqtopk_purse *purse) {
    const int32_t pages = pages_of(from->chunks);
    seqtopk_shelf_init(to, from->element);
    if (pages == 0)
        return 1;
    to->pages = seqtopk_purse_take(purse, (size_t)pages * sizeof(seqtopk_page *));
    if (!to->pages)
        return 0;
    for (int32_t p = 0; p < pages; p++) {
        to->pages[p] = from->pages[p];
        add_owner(&to->pages[p]->owners);
    }
    to->table = pages;
    to->chunks = from->chunks;
    to->size = from->size;
    from->room = 0; /* its tail is not its own any more */
    return 1;
}

void seqtopk_shelf_bytes(const seqtopk_shelf *shelf, int64_t *own, int64_t *shared) {
    *own += (int64_t)shelf->table * (int64_t)sizeof(seqtopk_page *);
    for (int32_t c = 0; c < shelf->chunks; c++) {
        seqtopk_page *page = shelf->pages[c / PAGE_CHUNKS];
        chunk *one = page->chunk[c % PAGE_CHUNKS];
        const int is_mine = is_own(&page->owners) && is_own(&one->owners);
        *(is_mine ? own : shared) += one->bytes + (c % PAGE_CHUNKS == 0 ? (int64_t)sizeof *page : 0);
    }
}
