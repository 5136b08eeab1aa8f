/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "src/tuning/store.h"
#include "src/environment.h"
#include "src/status.h"
#include "src/tuning/machine.h"
#include "src/tuning/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef SEQTOPK_TUNING_DIR
#define SEQTOPK_TUNING_DIR "" /* the build option tuning_dir */
#endif

/* ---------------------------------------------------------------- places -- */

static int is_none(const char *tuning) { return strcmp(tuning, "none") == 0 || strcmp(tuning, "off") == 0; }

static int join(char path[SEQTOPK_STORE_PATH], const char *directory, const char *below) {
    const int size = snprintf(path, SEQTOPK_STORE_PATH, "%s%s/%s.tuning", directory, below, seqtopk_machine_name());
    return size > 0 && size < SEQTOPK_STORE_PATH;
}

int seqtopk_store_place(int place, char path[SEQTOPK_STORE_PATH]) {
    const char *tuning = seqtopk_environment("SEQTOPK_TUNING");
    if (tuning) {
        if (place != 0 || is_none(tuning) || strlen(tuning) >= SEQTOPK_STORE_PATH)
            return 0;
        memcpy(path, tuning, strlen(tuning) + 1);
        return 1;
    }
    const char *cache = seqtopk_environment("XDG_CACHE_HOME"), *home = seqtopk_environment("HOME");
    switch (place) {
    case 1:
        if (cache && *cache == '/') /* what is not absolute is to be ignored, says the XDG specification */
            return join(path, cache, "/seqtopk");
        return home && *home == '/' && join(path, home, "/.cache/seqtopk");
    case 2: return join(path, "/etc", "/seqtopk");
    case 3: return *SEQTOPK_TUNING_DIR && join(path, SEQTOPK_TUNING_DIR, "");
    default: return 0;
    }
}

const char *seqtopk_store_why_no_place(void) {
    const char *tuning = seqtopk_environment("SEQTOPK_TUNING");
    if (!tuning)
        return "no place for a tuning file is known: set HOME, XDG_CACHE_HOME or SEQTOPK_TUNING to an absolute path";
    return is_none(tuning) ? "SEQTOPK_TUNING says that there is to be none"
                           : "SEQTOPK_TUNING is longer than any path can be";
}

seqtopk_status seqtopk_store_target(char path[SEQTOPK_STORE_PATH], seqtopk_error *error) {
    const char *tuning = seqtopk_environment("SEQTOPK_TUNING");
    if (seqtopk_store_place(tuning ? 0 : 1, path))
        return SEQTOPK_OK;
    return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "there is no file to write: %s", seqtopk_store_why_no_place());
}

seqtopk_status seqtopk_store_load(seqtopk_tuning_file *file, const char *path, const seqtopk_tuning_reader *reader,
                                  seqtopk_error *error) {
    char *text;
    size_t size;
    memset(file, 0, sizeof *file);
    seqtopk_status status = seqtopk_store_read(path, &text, &size, NULL, error);
    if (status)
        return status;
    seqtopk_error why = SEQTOPK_ERROR_INIT;
    status = seqtopk_tuning_file_parse(file, text, size, reader, &why);
    free(text);
    return status ? seqtopk_fail(error, status, -1, "%s: %s", path, why.message) : SEQTOPK_OK;
}

#if !defined(_WIN32)

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------- reading -- */

static const char *kind_of(mode_t mode) {
    return S_ISDIR(mode) ? "a directory" : S_ISFIFO(mode) ? "a pipe" : S_ISSOCK(mode) ? "a socket" : "a device";
}

/* Reads up to `size` bytes; returns how many there were, or -1. */
static int64_t read_all(int file, char *text, size_t size) {
    size_t have = 0;
    while (have < size) {
        const ssize_t got = read(file, text + have, size - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (int64_t)have;
}

/* Opens a file of no more than *size bytes; -1 and *status: there is none such. */
static int open_file(const char *path, size_t *size, int *missing, seqtopk_status *status, seqtopk_error *error) {
    struct stat is;
    int file = -1;
    *status = SEQTOPK_E_FILE;
    *missing = 0;
    /* Looked at before it is opened, since to open a device can do something; without waiting, should it become a
     * pipe. */
    if (stat(path, &is) != 0 ||
        (S_ISREG(is.st_mode) && (file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) < 0)) {
        *missing = errno == ENOENT || errno == ENOTDIR;
        seqtopk_fail(error, SEQTOPK_E_FILE, -1, "%s: %s", path, strerror(errno));
        return -1;
    }
    if (file >= 0 && fstat(file, &is) != 0)
        memset(&is, 0, sizeof is);
    if (!S_ISREG(is.st_mode))
        seqtopk_fail(error, SEQTOPK_E_FILE, -1, "%s is %s: a tuning file is a regular file", path, kind_of(is.st_mode));
    else if (is.st_size > SEQTOPK_TUNING_LARGEST)
        *status = seqtopk_fail(error, SEQTOPK_E_TUNING, -1, "%s has %lld bytes; no tuning file has more than %d", path,
                               (long long)is.st_size, SEQTOPK_TUNING_LARGEST);
    else
        *status = SEQTOPK_OK;
    *size = (size_t)is.st_size;
    if (*status && file >= 0)
        close(file);
    return *status ? -1 : file;
}

/* Reads on until `*text` has `size` bytes, or the file ends. */
static seqtopk_status read_up_to(int file, const char *path, char **text, size_t *have, size_t size,
                                 seqtopk_error *error) {
    char *larger = realloc(*text, size + 1);
    if (!larger)
        return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "%s: no memory for its %zu bytes", path, size);
    *text = larger;
    const int64_t got = read_all(file, larger + *have, size - *have);
    if (got < 0)
        return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "%s: cannot be read: %s", path, strerror(errno));
    *have += (size_t)got;
    return SEQTOPK_OK;
}

static seqtopk_status read_file(const char *path, int whole, char **text, size_t *size, int *missing,
                                seqtopk_error *error) {
    enum { USUAL_START = 48 << 10 }; /* bytes */
    seqtopk_status status;
    size_t all;
    int unknown;
    *text = NULL;
    *size = 0;
    const int file = open_file(path, &all, missing ? missing : &unknown, &status, error);
    if (file < 0)
        return status;
    status = read_up_to(file, path, text, size, whole || all < USUAL_START ? all : USUAL_START, error);
    if (!status && !whole) {
        const size_t start = seqtopk_tuning_file_start(*text, *size);
        if (start > *size && start <= all)
            status = read_up_to(file, path, text, size, start, error);
    }
    close(file);
    if (status) {
        free(*text);
        *text = NULL;
        *size = 0;
    }
    return status;
}

seqtopk_status seqtopk_store_read(const char *path, char **text, size_t *size, int *missing, seqtopk_error *error) {
    return read_file(path, 1, text, size, missing, error);
}

seqtopk_status seqtopk_store_read_start(const char *path, char **text, size_t *size, int *missing,
                                        seqtopk_error *error) {
    return read_file(path, 0, text, size, missing, error);
}

/* ---------------------------------------------------------------- writing -- */

/* The directory of a path, "." and "/" as they are meant. */
static void directory_of(char directory[SEQTOPK_STORE_PATH], const char *path) {
    const char *slash = strrchr(path, '/');
    const size_t size = slash ? (size_t)(slash - path) : 0;
    memcpy(directory, path, size);
    directory[size] = 0;
    if (size == 0)
        memcpy(directory, slash ? "/" : ".", 2);
}

static int make_directory(const char *directory, int levels) {
    if (mkdir(directory, 0777) == 0 || errno == EEXIST)
        return 1;
    if (errno != ENOENT || levels <= 1)
        return 0;
    char above[SEQTOPK_STORE_PATH];
    directory_of(above, directory);
    return make_directory(above, levels - 1) && (mkdir(directory, 0777) == 0 || errno == EEXIST);
}

seqtopk_status seqtopk_store_replaceable(const char *path, seqtopk_error *error) {
    static const char magic[] = "seqtopk-tuning ";
    char begin[sizeof magic - 1];
    struct stat is;
    if (stat(path, &is) != 0)
        return errno == ENOENT ? SEQTOPK_OK : seqtopk_fail(error, SEQTOPK_E_FILE, -1, "%s: %s", path, strerror(errno));
    if (!S_ISREG(is.st_mode))
        return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "%s is %s: a tuning file is a regular file", path,
                            kind_of(is.st_mode));
    if (is.st_size == 0)
        return SEQTOPK_OK;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0)
        return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "%s: cannot be read before it is replaced: %s", path,
                            strerror(errno));
    const int64_t have = read_all(file, begin, sizeof begin);
    close(file);
    if (have != (int64_t)sizeof begin || memcmp(begin, magic, sizeof begin) != 0)
        return seqtopk_fail(error, SEQTOPK_E_FILE, -1,
                            "%s is no tuning file and will not be replaced: move it, or name another", path);
    return SEQTOPK_OK;
}

static int write_all(int file, const char *text, size_t size) {
    while (size > 0) {
        const ssize_t put = write(file, text, size);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return 0;
        text += put;
        size -= (size_t)put;
    }
    return 1;
}

/* On the disk, where the file system can tell at all. */
static int sync_file(int file) { return fsync(file) == 0 || errno == EINVAL || errno == ENOSYS || errno == EROFS; }

static seqtopk_status replace(const char *path, const char *directory, const char *text, size_t size,
                              seqtopk_error *error) {
    char temporary[SEQTOPK_STORE_PATH + 48];
    int file = -1;
    for (int i = 0; i < 100 && file < 0; i++) { /* another host may have the same process number */
        snprintf(temporary, sizeof temporary, "%s.%ld-%d.tmp", path, (long)getpid(), i);
        file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file < 0 && errno != EEXIST)
            break;
    }
    if (file < 0)
        return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "%s: nothing can be written in %s: %s", path, directory,
                            strerror(errno));
    int ok = write_all(file, text, size) && sync_file(file);
    int reason = errno;
    if (close(file) != 0 && ok) {
        ok = 0;
        reason = errno;
    }
    if (ok && rename(temporary, path) != 0) {
        ok = 0;
        reason = errno;
    }
    if (!ok) {
        unlink(temporary);
        return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "%s: cannot be written: %s; what was there before still is",
                            path, strerror(reason));
    }
    const int folder = open(directory, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    if (folder >= 0) {
        (void)sync_file(folder);
        close(folder);
    }
    return SEQTOPK_OK;
}

/* The directory of `path`, made if need be, where a tuning file may be written. */
static seqtopk_status make_way(const char *path, char directory[SEQTOPK_STORE_PATH], seqtopk_error *error) {
    if (strlen(path) >= SEQTOPK_STORE_PATH)
        return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "the path of a tuning file has %zu bytes; at most %d",
                            strlen(path), SEQTOPK_STORE_PATH - 1);
    directory_of(directory, path);
    if (!make_directory(directory, 2))
        return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "%s: the directory cannot be made: %s", directory,
                            strerror(errno));
    return seqtopk_store_replaceable(path, error);
}

seqtopk_status seqtopk_store_save(const seqtopk_tuning_file *file, const char *path, seqtopk_error *error) {
    char directory[SEQTOPK_STORE_PATH];
    seqtopk_status status = make_way(path, directory, error);
    if (status)
        return status;
    const size_t size = seqtopk_tuning_file_encode(file, NULL, 0);
    if (size > SEQTOPK_TUNING_LARGEST)
        return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "%s would have %zu bytes; no tuning file has more than %d", path,
                            size, SEQTOPK_TUNING_LARGEST);
    char *text = malloc(size);
    if (!text)
        return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "%s: no memory for its %zu bytes", path, size);
    seqtopk_tuning_file_encode(file, text, size);
    status = replace(path, directory, text, size, error);
    free(text);
    return status;
}

/* ---------------------------------------------------------------- merging -- */

#if defined(F_OFD_SETLK)
enum { TRY_LOCK = F_OFD_SETLK }; /* held by the open file, so that threads of one process exclude each other too */
#else
enum { TRY_LOCK = F_SETLK };
#endif
enum { LOCK_TRIES = 600, LOCK_PAUSE = 50000000 /* ns */ };

/* Whether the name still is the open file's: who held the lock before may have taken the name away. */
static int is_still(const char *name, int file) {
    struct stat open_one, named;
    return fstat(file, &open_one) == 0 && stat(name, &named) == 0 && open_one.st_dev == named.st_dev &&
           open_one.st_ino == named.st_ino;
}

/* The file that is locked; -1: it is held for too long, or cannot be made. The lock goes with its process. */
static int lock_beside(const char *name, seqtopk_error *error) {
    for (int i = 0; i < LOCK_TRIES; i++) {
        struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        const int file = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
        if (file < 0) {
            seqtopk_fail(error, SEQTOPK_E_FILE, -1, "%s: cannot be made: %s", name, strerror(errno));
            return -1;
        }
        /* A file system without locks: then the last of two tuners wins, and its file is whole all the same. */
        if (fcntl(file, TRY_LOCK, &whole) == 0 || (errno != EAGAIN && errno != EACCES && errno != EINTR)) {
            if (is_still(name, file))
                return file;
            close(file); /* and at once again */
            continue;
        }
        close(file);
        nanosleep(&(struct timespec){0, LOCK_PAUSE}, NULL);
    }
    seqtopk_fail(error, SEQTOPK_E_FILE, -1, "%s: another process has held it for 30 seconds: wait for its end", name);
    return -1;
}

/* The name goes first, so that nobody locks what has none any more and believes to be alone. */
static void unlock(const char *name, int file) {
    unlink(name);
    close(file);
}

static seqtopk_status merge_locked(const seqtopk_tuning_file *newer, const char *path, seqtopk_tuning_file *all,
                                   seqtopk_error *error) {
    const seqtopk_tuning_reader reader = {newer->library, newer->machine, UINT32_MAX};
    char *text;
    size_t size;
    int missing;
    seqtopk_status status = seqtopk_store_read(path, &text, &size, &missing, error);
    if (status && !missing)
        return status;
    /* Damaged, or of another machine or library: of no use to anybody any more. */
    if (missing || seqtopk_tuning_file_parse(all, text, size, &reader, NULL)) {
        memset(all, 0, sizeof *all);
        memcpy(all->library, newer->library, sizeof all->library);
        memcpy(all->machine, newer->machine, sizeof all->machine);
    }
    free(text);
    status = seqtopk_tuning_file_merge(all, newer, error);
    return status ? status : seqtopk_store_save(all, path, error);
}

seqtopk_status seqtopk_store_merge(const seqtopk_tuning_file *newer, const char *path, seqtopk_tuning_file *merged,
                                   seqtopk_error *error) {
    char directory[SEQTOPK_STORE_PATH], name[SEQTOPK_STORE_PATH + 8];
    seqtopk_tuning_file all = {0};
    if (merged)
        memset(merged, 0, sizeof *merged);
    seqtopk_status status = make_way(path, directory, error);
    if (status)
        return status;
    snprintf(name, sizeof name, "%s.lock", path);
    const int lock = lock_beside(name, error);
    if (lock < 0)
        return SEQTOPK_E_FILE;
    status = merge_locked(newer, path, &all, error);
    unlock(name, lock);
    if (status || !merged)
        seqtopk_tuning_file_free(&all);
    else
        *merged = all;
    return status;
}

#else

seqtopk_status seqtopk_store_replaceable(const char *path, seqtopk_error *error) {
    return seqtopk_fail(error, SEQTOPK_E_FILE, -1, "%s: tuning files are not written on this system", path);
}

seqtopk_status seqtopk_store_read(const char *path, char **text, size_t *size, int *missing, seqtopk_error *error) {
    *text = NULL;
    *size = 0;
    if (missing)
        *missing = 1;
    return seqtopk_fail(error, SEQTOPK_E_FILE, -1,
                        "%s: tuning files are not read on this system; use seqtopk_tuning_parse", path);
}

seqtopk_status seqtopk_store_save(const seqtopk_tuning_file *file, const char *path, seqtopk_error *error) {
    (void)file;
    return seqtopk_store_replaceable(path, error);
}

seqtopk_status seqtopk_store_merge(const seqtopk_tuning_file *newer, const char *path, seqtopk_tuning_file *merged,
                                   seqtopk_error *error) {
    (void)merged;
    return seqtopk_store_save(newer, path, error);
}

#endif
