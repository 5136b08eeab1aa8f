/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "whole.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool seqtopk_whole_open(seqtopk_whole *file, const char *path) {
    struct stat is;
    file->path = path;
    file->temporary[0] = 0;
    if (stat(path, &is) != 0 || S_ISREG(is.st_mode)) {
        const int size = snprintf(file->temporary, SEQTOPK_WHOLE_PATH, "%s.%ld", path, (long)getpid());
        if (size >= SEQTOPK_WHOLE_PATH) {
            errno = ENAMETOOLONG;
            return false;
        }
    }
    seqtopk_whole_hold();
    file->out = fopen(file->temporary[0] ? file->temporary : path, "w");
    if (!file->out) {
        const int reason = errno;
        seqtopk_whole_let_go();
        errno = reason;
    }
    return file->out != NULL;
}

bool seqtopk_whole_close(seqtopk_whole *file, bool good) {
    /* What is still in the buffer may not fit: after that no error is left to be found. */
    bool ok = fflush(file->out) == 0 && !ferror(file->out);
    int reason = ok ? 0 : errno;
    if (fclose(file->out) != 0 && ok) {
        ok = false;
        reason = errno;
    }
    if (!good && ok) {
        ok = false;
        reason = ENOMEM;
    }
    if (file->temporary[0]) {
        ok = ok && !seqtopk_whole_interrupted();
        if (ok && rename(file->temporary, file->path) != 0) {
            ok = false;
            reason = errno;
        }
        if (!ok)
            unlink(file->temporary);
    }
    seqtopk_whole_let_go();
    errno = reason ? reason : EIO;
    return ok;
}

/* --------------------------------------------------------------- signals -- */

static const int held[] = {SIGINT, SIGTERM, SIGHUP};
enum { HELD = sizeof held / sizeof *held };
static struct sigaction before[HELD];
static volatile sig_atomic_t caught;

static void note(int number) { caught = number; }

void seqtopk_whole_hold(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = note;
    action.sa_flags = (int)SA_RESTART;
    sigemptyset(&action.sa_mask);
    caught = 0;
    for (int i = 0; i < HELD; i++) {
        sigaction(held[i], NULL, &before[i]);
        if (before[i].sa_handler != SIG_IGN) /* as nohup has it */
            sigaction(held[i], &action, NULL);
    }
}

bool seqtopk_whole_interrupted(void) { return caught != 0; }

void seqtopk_whole_let_go(void) {
    for (int i = 0; i < HELD; i++)
        sigaction(held[i], &before[i], NULL);
    if (caught)
        raise(caught);
}
