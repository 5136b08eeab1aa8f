/* SPDX-License-Identifier: MIT */
#ifndef SEQTOPK_SRC_STATUS_H
#define SEQTOPK_SRC_STATUS_H

#include <seqtopk/seqtopk.h>

/* Fills *error (may be NULL) with a status, the offending token or -1, and a formatted message; returns the status. */
seqtopk_status seqtopk_fail(seqtopk_error *error, seqtopk_status status, int64_t token, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 4, 5)))
#endif
    ;

/* Clears *error (may be NULL). Returns SEQTOPK_E_STRUCT if it is not one of ours, else SEQTOPK_OK. */
seqtopk_status seqtopk_error_clear(seqtopk_error *error);

/*
 * Takes a caller's sized struct into one of ours: copies what both know, leaves the rest zero. What a newer program
 * sets and this library does not know is an error, since to ignore it could be wrong.
 */
seqtopk_status seqtopk_take_struct(void *ours, size_t our_size, const void *theirs, const char *name,
                                   seqtopk_error *error);

/* The same for a struct that had `first_size` bytes in the first version. */
seqtopk_status seqtopk_take_grown_struct(void *ours, size_t our_size, size_t first_size, const void *theirs,
                                         const char *name, seqtopk_error *error);

#endif
