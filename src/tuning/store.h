/* SPDX-License-Identifier: MIT */
/* Where tuning files are, and how they are read and written. The text is src/tuning/file.h's affair. */
#ifndef SEQTOPK_SRC_TUNING_STORE_H
#define SEQTOPK_SRC_TUNING_STORE_H

#include "src/tuning/file.h"

/*
 * The places of this machine's file, first come first:
 *   0  SEQTOPK_TUNING, if set: that file and no other place; "none" or "off": no file at all
 *   1  $XDG_CACHE_HOME/seqtopk/<name>.tuning, or ~/.cache/seqtopk/<name>.tuning
 *   2  /etc/seqtopk/<name>.tuning
 *   3  <the directory of the build option tuning_dir>/<name>.tuning
 * <name> is seqtopk_machine_name()'s.
 */
enum { SEQTOPK_STORE_PLACES = 4, SEQTOPK_STORE_PATH = 4096 };

/* The path of place `place`, or 0 if there is none such (a variable is not set, the path is too long). */
int seqtopk_store_place(int place, char path[SEQTOPK_STORE_PATH]);

/* Why there is none at all: what SEQTOPK_TUNING says, or that no directory is known. Static. */
const char *seqtopk_store_why_no_place(void);

/*
 * Where a tuner writes: place 0 if SEQTOPK_TUNING names a file, else place 1. SEQTOPK_E_FILE: there is none (no HOME,
 * or SEQTOPK_TUNING is "none"), and the message says what to set.
 */
seqtopk_status seqtopk_store_target(char path[SEQTOPK_STORE_PATH], seqtopk_error *error);

/*
 * Reads a whole file of at most SEQTOPK_TUNING_LARGEST bytes into memory that the caller frees. What is no regular file
 * is refused and not opened. SEQTOPK_E_FILE, with *missing (may be NULL) nonzero if there is no such file;
 * SEQTOPK_E_TUNING: too large; SEQTOPK_E_MEMORY.
 */
seqtopk_status seqtopk_store_read(const char *path, char **text, size_t *size, int *missing, seqtopk_error *error);

/* Reads only the beginning that plans read, if it is a tuning file: src/tuning/ranges.h. */
seqtopk_status seqtopk_store_read_start(const char *path, char **text, size_t *size, int *missing,
                                        seqtopk_error *error);

/* seqtopk_store_read, then seqtopk_tuning_file_parse; messages begin with the path. */
seqtopk_status seqtopk_store_load(seqtopk_tuning_file *file, const char *path, const seqtopk_tuning_reader *reader,
                                  seqtopk_error *error);

/* Whether what stands at `path` may be replaced: nothing, an empty file, or a tuning file. Never a device or somebody's
 * thesis. SEQTOPK_E_FILE: it may not, or cannot be looked at. */
seqtopk_status seqtopk_store_replaceable(const char *path, seqtopk_error *error);

/*
 * Writes the file whole or not at all: a temporary beside it, fsync, rename, fsync of the directory. Makes the
 * directory if only its last two parts are missing. SEQTOPK_E_FILE: read-only, no permission, disk full; the old file
 * stands.
 */
seqtopk_status seqtopk_store_save(const seqtopk_tuning_file *file, const char *path, seqtopk_error *error);

/*
 * Merges `newer` into the file, under a lock that other processes' calls wait for (<path>.lock, which goes with it): reads it,
 * seqtopk_tuning_file_merge, writes it. A file that cannot be read as one of newer's machine and library is replaced. After
 * SEQTOPK_OK *merged (may be NULL) is what was written, the caller's to free. SEQTOPK_E_FILE also if the lock is held
 * for longer than 30 seconds.
 */
seqtopk_status seqtopk_store_merge(const seqtopk_tuning_file *newer, const char *path, seqtopk_tuning_file *merged,
                                   seqtopk_error *error);

#endif
