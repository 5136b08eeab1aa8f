/* SPDX-License-Identifier: MIT */
/* Files that are there whole or not at all: written under another name, and that taken away if anything fails. */
#ifndef SEQTOPK_CLI_WHOLE_H
#define SEQTOPK_CLI_WHOLE_H

#include <stdbool.h>
#include <stdio.h>

/* Not PATH_MAX, which only POSIX's limits.h has: the struct is the same for whoever includes this. */
enum { SEQTOPK_WHOLE_PATH = 4096 };

typedef struct seqtopk_whole {
    FILE *out;
    const char *path;
    /* Empty: what stands at the path is no regular file (a pipe, a device) and is written to. */
    char temporary[SEQTOPK_WHOLE_PATH];
} seqtopk_whole;

/* false: `errno` says why. */
bool seqtopk_whole_open(seqtopk_whole *file, const char *path);

/* Gives the file its name, if what was printed is `good` and all of it there. Else nothing is left, what was there before stands, and `errno`
 * says why. */
bool seqtopk_whole_close(seqtopk_whole *file, bool good);

/*
 * Between the two, Ctrl-C and the like wait: what is begun is finished or taken away. seqtopk_whole_interrupted: one has
 * come. After seqtopk_whole_let_go it ends the program, as it would have.
 */
void seqtopk_whole_hold(void);
bool seqtopk_whole_interrupted(void);
void seqtopk_whole_let_go(void);

#endif
