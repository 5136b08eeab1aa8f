/* SPDX-License-Identifier: MIT */
#ifndef SEQTOPK_SRC_STATUS_H
#define SEQTOPK_SRC_STATUS_H

#include "arch/compiler.h"

#include <seqtopk/seqtopk.h>
#include <string.h>

/* Fills *error (may be NULL) with a status, the offending token or -1, and a formatted message; returns the status. */
seqtopk_status seqtopk_fail(seqtopk_error *error, seqtopk_status status, int64_t token, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 4, 5)))
#endif
    ;

/* Clears *error (may be NULL). Returns SEQTOPK_E_STRUCT if it is not one of ours, else SEQTOPK_OK. */
seqtopk_status seqtopk_error_clear(seqtopk_error *error);

/*
 * Structs of programs of other versions; `first_size` is the struct's SEQTOPK_FIRST_<name> in src/abi.h.
 *
 * Whether a struct has a size that some version gave it, or may come to.
 */
int seqtopk_struct_is_sized(const void *theirs, size_t first_size);

/* Takes a caller's struct into one of ours: copies what both know, leaves the rest zero. What a newer program sets and
 * this library does not know is an error, since to ignore it could be wrong. */
seqtopk_status seqtopk_take_other_struct(void *ours, size_t our_size, size_t first_size, const void *theirs,
                                         const char *name, seqtopk_error *error);

/* The same; programs of this version are served by one copy of a constant size. */
static inline seqtopk_status seqtopk_take_struct(void *ours, size_t our_size, size_t first_size, const void *theirs,
                                                 const char *name, seqtopk_error *error) {
    uint32_t size = 0;
    if (theirs)
        memcpy(&size, theirs, sizeof size);
    if (size != our_size)
        return seqtopk_take_other_struct(ours, our_size, first_size, theirs, name, error);
    memcpy(ours, theirs, our_size);
    return SEQTOPK_OK;
}

/* Fills a caller's struct, whose size was found good, from one of ours: what both know. Its struct_size stays, and so
 * does what this library does not know. */
void seqtopk_give_struct(void *theirs, const void *ours, size_t our_size);

#endif
