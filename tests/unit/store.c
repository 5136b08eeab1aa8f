/* SPDX-License-Identifier: MIT */
/* Tuning files on disk: written whole or not at all, by many at once, where it is allowed, over nothing of value. */
#define _GNU_SOURCE
#include "tuning.h"

#include "src/tuning/machine.h"
#include "src/tuning/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    char root[64], path[128];
} folder;

static folder new_folder(void) {
    folder f;
    strcpy(f.root, "/tmp/seqtopk-unit-XXXXXX");
    cr_assert_not_null(mkdtemp(f.root));
    snprintf(f.path, sizeof f.path, "%s/a.tuning", f.root);
    return f;
}

static void remove_folder(const folder *f) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", f->root);
    cr_expect_eq(system(command), 0);
}

static void write_file(const char *path, const char *text, size_t size) {
    FILE *file = fopen(path, "wb");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(text, 1, size, file), size);
    cr_assert_eq(fclose(file), 0);
}

/* The file's whole content; the caller's to free. */
static char *content(const char *path, size_t *size) {
    char *text;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_assert_eq(seqtopk_store_read(path, &text, size, NULL, &error), SEQTOPK_OK, "%s", error.message);
    return text;
}

static int32_t files_in(const char *path) {
    DIR *directory = opendir(path);
    cr_assert_not_null(directory);
    int32_t files = 0;
    for (const struct dirent *entry; (entry = readdir(directory));)
        files += entry->d_name[0] != '.';
    closedir(directory);
    return files;
}

static void expect_saved(const seqtopk_tuning_file *w, const char *path) {
    size_t size;
    char *text = content(path, &size), *right = tuning_text(w);
    cr_expect(size == strlen(right) && memcmp(text, right, size) == 0);
    free(text);
    free(right);
}

Test(store, there_and_back) {
    const folder f = new_folder();
    seqtopk_tuning_file w = tuning_random(300, 4), back;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    umask(022);
    for (int twice = 0; twice < 2; twice++)
        cr_assert_eq(seqtopk_store_save(&w, f.path, &error), SEQTOPK_OK, "%s", error.message);
    expect_saved(&w, f.path);
    cr_expect_eq(files_in(f.root), 1);
    struct stat is;
    cr_assert_eq(stat(f.path, &is), 0);
    cr_expect_eq(is.st_mode & 07777, 0644);
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    cr_assert_eq(seqtopk_store_load(&back, f.path, &any, &error), SEQTOPK_OK, "%s", error.message);
    cr_expect_eq(back.size, w.size);
    seqtopk_tuning_file_free(&back);
    seqtopk_tuning_file_free(&w);
    remove_folder(&f);
}

Test(store, makes_two_directories) {
    const folder f = new_folder();
    char path[256];
    seqtopk_tuning_file w = tuning_small();
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    snprintf(path, sizeof path, "%s/.cache/seqtopk/a.tuning", f.root);
    cr_expect_eq(seqtopk_store_save(&w, path, &error), SEQTOPK_OK, "%s", error.message);
    expect_saved(&w, path);
    snprintf(path, sizeof path, "%s/one/two/three/a.tuning", f.root);
    cr_expect_eq(seqtopk_store_save(&w, path, &error), SEQTOPK_E_FILE);
    cr_expect_not_null(strstr(error.message, "/one/two/three"));
    cr_assert_eq(chdir(f.root), 0);
    cr_expect_eq(seqtopk_store_save(&w, "here.tuning", &error), SEQTOPK_OK, "%s", error.message);
    cr_expect_eq(seqtopk_store_merge(&w, "there/here.tuning", NULL, &error), SEQTOPK_OK, "%s", error.message);
    expect_saved(&w, "there/here.tuning");
    seqtopk_tuning_file_free(&w);
    remove_folder(&f);
}

/* What is no regular file is neither read, which could hang or have no end, nor replaced. */
Test(store, no_regular_file) {
    alarm(20); /* not to hang */
    const folder f = new_folder();
    seqtopk_tuning_file w = tuning_small(), back;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    char fifo[128], directory[128], name[128], link[128];
    snprintf(fifo, sizeof fifo, "%s/fifo", f.root);
    snprintf(directory, sizeof directory, "%s/directory", f.root);
    snprintf(name, sizeof name, "%s/socket", f.root);
    snprintf(link, sizeof link, "%s/link", f.root);
    cr_assert_eq(mkfifo(fifo, 0666), 0);
    cr_assert_eq(mkdir(directory, 0777), 0);
    cr_assert_eq(symlink("/dev/null", link), 0);
    const int listening = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, name);
    cr_assert_eq(bind(listening, (struct sockaddr *)&address, sizeof address), 0);
    const char *const paths[] = {fifo, directory, name, link, "/dev/zero", "/dev/null", "/dev/full", "/dev/tty", "/"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char *text;
        size_t size;
        int missing = 1;
        cr_expect_eq(seqtopk_store_read(paths[i], &text, &size, &missing, &error), SEQTOPK_E_FILE, "%s", paths[i]);
        cr_expect(!text && !size && !missing && strstr(error.message, "a tuning file is a regular file"), "%s",
                  error.message);
        cr_expect_eq(seqtopk_store_load(&back, paths[i], &any, &error), SEQTOPK_E_FILE);
        cr_expect_eq(seqtopk_store_save(&w, paths[i], &error), SEQTOPK_E_FILE, "%s", paths[i]);
        cr_expect_eq(seqtopk_store_merge(&w, paths[i], NULL, &error), SEQTOPK_E_FILE, "%s", paths[i]);
    }
    struct stat is;
    cr_expect(stat("/dev/null", &is) == 0 && S_ISCHR(is.st_mode));
    cr_expect_eq(files_in(f.root), 4);
    char *text;
    size_t size;
    int missing = 1;
    cr_assert_eq(unlink(link), 0);
    cr_assert_eq(symlink(link, link), 0); /* to itself */
    cr_expect_eq(seqtopk_store_read(link, &text, &size, &missing, &error), SEQTOPK_E_FILE);
    cr_expect(!text && !missing && strstr(error.message, link), "%s", error.message);
    cr_expect_eq(seqtopk_store_save(&w, link, &error), SEQTOPK_E_FILE);
    cr_expect_eq(seqtopk_store_merge(&w, link, NULL, &error), SEQTOPK_E_FILE);
    cr_expect_eq(files_in(f.root), 4);
    close(listening);
    seqtopk_tuning_file_free(&w);
    remove_folder(&f);
}

Test(store, missing_and_sizes) {
    const folder f = new_folder();
    char *text;
    size_t size;
    int missing = 0;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_expect_eq(seqtopk_store_read(f.path, &text, &size, &missing, &error), SEQTOPK_E_FILE);
    cr_expect(missing && strstr(error.message, f.path));
    write_file(f.path, "", 0);
    cr_expect_eq(seqtopk_store_read(f.path, &text, &size, &missing, &error), SEQTOPK_OK);
    cr_expect(text && size == 0 && !missing);
    free(text);
    cr_assert_eq(truncate(f.path, SEQTOPK_TUNING_LARGEST), 0);
    cr_expect_eq(seqtopk_store_read(f.path, &text, &size, &missing, &error), SEQTOPK_OK);
    cr_expect_eq(size, SEQTOPK_TUNING_LARGEST);
    free(text);
    cr_assert_eq(truncate(f.path, (off_t)SEQTOPK_TUNING_LARGEST + 1), 0);
    cr_expect_eq(seqtopk_store_read(f.path, &text, &size, &missing, &error), SEQTOPK_E_TUNING);
    cr_assert_eq(truncate(f.path, (off_t)1 << 40), 0); /* a sparse one of a terabyte */
    cr_expect_eq(seqtopk_store_read(f.path, &text, &size, &missing, &error), SEQTOPK_E_TUNING);
    cr_expect_null(text);
    char longest[2 * SEQTOPK_STORE_PATH];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    seqtopk_tuning_file w = tuning_small();
    cr_expect_eq(seqtopk_store_read(longest, &text, &size, &missing, &error), SEQTOPK_E_FILE);
    cr_expect_eq(seqtopk_store_save(&w, longest, &error), SEQTOPK_E_FILE);
    cr_expect_eq(seqtopk_store_merge(&w, longest, NULL, &error), SEQTOPK_E_FILE);
    seqtopk_tuning_file_free(&w);
    remove_folder(&f);
}

/* SEQTOPK_TUNING=thesis.txt seqtopk tune */
Test(store, replaces_tuning_files_only) {
    const folder f = new_folder();
    static const char thesis[] = "It was a dark and stormy night.\n";
    seqtopk_tuning_file w = tuning_small();
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    write_file(f.path, thesis, sizeof thesis - 1);
    cr_expect_eq(seqtopk_store_save(&w, f.path, &error), SEQTOPK_E_FILE);
    cr_expect_not_null(strstr(error.message, "no tuning file"));
    cr_expect_eq(seqtopk_store_merge(&w, f.path, NULL, &error), SEQTOPK_E_FILE);
    size_t size;
    char *text = content(f.path, &size);
    cr_expect(size == sizeof thesis - 1 && memcmp(text, thesis, size) == 0);
    free(text);
    cr_expect_eq(files_in(f.root), 1);
    /* An empty file, and a tuning file in whatever state. */
    write_file(f.path, "", 0);
    cr_expect_eq(seqtopk_store_save(&w, f.path, &error), SEQTOPK_OK, "%s", error.message);
    write_file(f.path, "seqtopk-tuning 9\n", 17);
    cr_expect_eq(seqtopk_store_merge(&w, f.path, NULL, &error), SEQTOPK_OK, "%s", error.message);
    expect_saved(&w, f.path);
    seqtopk_tuning_file_free(&w);
    remove_folder(&f);
}

/* /proc takes no files, not even the superuser's. */
Test(store, read_only) {
    seqtopk_tuning_file w = tuning_small();
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_expect_eq(seqtopk_store_save(&w, "/proc/seqtopk/a.tuning", &error), SEQTOPK_E_FILE);
    cr_expect_not_null(strstr(error.message, "/proc/seqtopk"));
    cr_expect_eq(seqtopk_store_save(&w, "/proc/a.tuning", &error), SEQTOPK_E_FILE);
    cr_expect_not_null(strstr(error.message, "/proc/a.tuning"));
    cr_expect_eq(seqtopk_store_merge(&w, "/proc/a.tuning", NULL, &error), SEQTOPK_E_FILE);
    cr_expect_not_null(strstr(error.message, "/proc/a.tuning"));
    const folder f = new_folder();
    if (geteuid() != 0) {
        cr_assert_eq(chmod(f.root, 0555), 0);
        cr_expect_eq(seqtopk_store_save(&w, f.path, &error), SEQTOPK_E_FILE);
        cr_expect_eq(seqtopk_store_merge(&w, f.path, NULL, &error), SEQTOPK_E_FILE);
        cr_assert_eq(chmod(f.root, 0755), 0);
    }
    cr_expect_eq(files_in(f.root), 0);
    seqtopk_tuning_file_free(&w);
    remove_folder(&f);
}

/* No room for all of it: the old file stands, and nothing is left beside it. */
Test(store, disk_full) {
    const folder f = new_folder();
    seqtopk_tuning_file old = tuning_small(), w = tuning_random(500, 6);
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_assert_eq(seqtopk_store_save(&old, f.path, &error), SEQTOPK_OK);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = 4096;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    const seqtopk_status saved = seqtopk_store_save(&w, f.path, &error);
    seqtopk_error merge_error = SEQTOPK_ERROR_INIT;
    seqtopk_tuning_file merged;
    const seqtopk_status merging = seqtopk_store_merge(&w, f.path, &merged, &merge_error);
    limit.rlim_cur = before;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_expect_eq(saved, SEQTOPK_E_FILE);
    cr_expect_eq(merging, SEQTOPK_E_FILE);
    cr_expect_null(merged.measurement);
    cr_expect_not_null(strstr(error.message, "what was there before still is"), "%s", error.message);
    expect_saved(&old, f.path);
    cr_expect_eq(files_in(f.root), 1);
    seqtopk_tuning_file_free(&w);
    seqtopk_tuning_file_free(&old);
    remove_folder(&f);
}

Test(store, merges) {
    const folder f = new_folder();
    seqtopk_tuning_file a = tuning_random(100, 1), b = tuning_random(100, 2), merged, both = tuning_empty();
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_assert_eq(seqtopk_store_merge(&a, f.path, &merged, &error), SEQTOPK_OK, "%s", error.message);
    expect_saved(&a, f.path);
    expect_saved(&merged, f.path);
    seqtopk_tuning_file_free(&merged);
    cr_assert_eq(seqtopk_store_merge(&b, f.path, &merged, &error), SEQTOPK_OK, "%s", error.message);
    cr_assert_eq(seqtopk_tuning_file_merge(&both, &a, NULL), SEQTOPK_OK);
    cr_assert_eq(seqtopk_tuning_file_merge(&both, &b, NULL), SEQTOPK_OK);
    expect_saved(&merged, f.path);
    expect_saved(&both, f.path);
    seqtopk_tuning_file_free(&merged);
    /* What is of another library, or damaged, is of use to nobody: it goes. */
    strcpy(b.library, "0.0.2");
    cr_assert_eq(seqtopk_store_merge(&b, f.path, NULL, &error), SEQTOPK_OK, "%s", error.message);
    expect_saved(&b, f.path);
    cr_assert_eq(truncate(f.path, 1000), 0);
    cr_assert_eq(seqtopk_store_merge(&a, f.path, NULL, &error), SEQTOPK_OK, "%s", error.message);
    expect_saved(&a, f.path);
    seqtopk_tuning_file_free(&a);
    seqtopk_tuning_file_free(&b);
    seqtopk_tuning_file_free(&both);
    remove_folder(&f);
}

enum { WRITERS = 6, ROUNDS = 12 };

/* Each process brings decisions that no other has, one at a time; none is lost, and readers never see half a file. */
static void bring(const char *path, int writer) {
    for (int round = 0; round < ROUNDS; round++) {
        seqtopk_tuning_file w = tuning_small(), one = tuning_empty();
        seqtopk_measurement t = w.measurement[0];
        t.shape.threads = 1 + writer;
        t.tokens = 1 << round;
        if (seqtopk_tuning_file_add(&one, &t, NULL) || seqtopk_store_merge(&one, path, NULL, NULL))
            _exit(1);
        seqtopk_tuning_file_free(&w);
        seqtopk_tuning_file_free(&one);
    }
    _exit(0);
}

Test(store, concurrent_writers) {
    alarm(120);
    const folder f = new_folder();
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_tuning_file w;
    for (int i = 0; i < WRITERS; i++) {
        const pid_t child = fork();
        cr_assert_geq(child, 0);
        if (child == 0)
            bring(f.path, i);
    }
    int left = WRITERS, reads = 0;
    while (left > 0) {
        int status;
        const pid_t ended = waitpid(-1, &status, WNOHANG);
        if (ended > 0) {
            cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            left--;
        }
        if (access(f.path, F_OK) == 0) {
            cr_assert_eq(seqtopk_store_load(&w, f.path, &any, &error), SEQTOPK_OK, "%s", error.message);
            cr_expect_eq(w.dropped, 0);
            seqtopk_tuning_file_free(&w);
            reads++;
        }
        usleep(1000);
    }
    cr_assert_eq(seqtopk_store_load(&w, f.path, &any, &error), SEQTOPK_OK, "%s", error.message);
    cr_expect_eq(w.size, WRITERS * ROUNDS, "%d of %d", (int)w.size, WRITERS * ROUNDS);
    cr_expect_gt(reads, 0);
    cr_expect_eq(files_in(f.root), 1);
    seqtopk_tuning_file_free(&w);
    remove_folder(&f);
}

/* A tuner that was killed at any moment leaves nothing that stops the next. */
Test(store, killed_writer) {
    const folder f = new_folder();
    char name[160];
    seqtopk_tuning_file w = tuning_small();
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    snprintf(name, sizeof name, "%s.lock", f.path);
    write_file(name, "", 0);
    for (int i = 0; i < 3; i++) { /* of the same process number */
        snprintf(name, sizeof name, "%s.%ld-%d.tmp", f.path, (long)getpid(), i);
        write_file(name, "half", 4);
    }
    cr_expect_eq(seqtopk_store_merge(&w, f.path, NULL, &error), SEQTOPK_OK, "%s", error.message);
    expect_saved(&w, f.path);
    cr_expect_eq(files_in(f.root), 4, "the lock is gone, and nothing else");
    seqtopk_tuning_file_free(&w);
    remove_folder(&f);
}

Test(store, places) {
    char path[SEQTOPK_STORE_PATH], right[512];
    setenv("XDG_CACHE_HOME", "/x", 1);
    setenv("HOME", "/h", 1);
    unsetenv("SEQTOPK_TUNING");
    cr_expect(!seqtopk_store_place(0, path) && !seqtopk_store_place(-1, path) &&
              !seqtopk_store_place(SEQTOPK_STORE_PLACES, path));
    cr_expect(seqtopk_store_place(1, path));
    snprintf(right, sizeof right, "/x/seqtopk/%s.tuning", seqtopk_machine_name());
    cr_expect_str_eq(path, right);
    cr_expect_eq(seqtopk_store_target(path, NULL), SEQTOPK_OK);
    cr_expect_str_eq(path, right);
    cr_expect(seqtopk_store_place(2, path));
    snprintf(right, sizeof right, "/etc/seqtopk/%s.tuning", seqtopk_machine_name());
    cr_expect_str_eq(path, right);
    setenv("XDG_CACHE_HOME", "", 1);
    cr_expect(seqtopk_store_place(1, path));
    snprintf(right, sizeof right, "/h/.cache/seqtopk/%s.tuning", seqtopk_machine_name());
    cr_expect_str_eq(path, right);
    setenv("SEQTOPK_TUNING", "/t/file", 1);
    cr_expect(seqtopk_store_place(0, path) && strcmp(path, "/t/file") == 0);
    cr_expect(!seqtopk_store_place(1, path) && !seqtopk_store_place(2, path) && !seqtopk_store_place(3, path));
    cr_expect(seqtopk_store_target(path, NULL) == SEQTOPK_OK && strcmp(path, "/t/file") == 0);
    static const char *const none[] = {"none", "off"};
    for (int i = 0; i < 2; i++) {
        setenv("SEQTOPK_TUNING", none[i], 1);
        for (int place = 0; place < SEQTOPK_STORE_PLACES; place++)
            cr_expect(!seqtopk_store_place(place, path));
        cr_expect_eq(seqtopk_store_target(path, NULL), SEQTOPK_E_FILE);
    }
    char longest[2 * SEQTOPK_STORE_PATH];
    memset(longest, 'a', sizeof longest - 1);
    longest[0] = '/';
    longest[sizeof longest - 1] = 0;
    setenv("SEQTOPK_TUNING", longest, 1);
    cr_expect(!seqtopk_store_place(0, path));
    unsetenv("SEQTOPK_TUNING");
    setenv("XDG_CACHE_HOME", longest, 1);
    cr_expect(!seqtopk_store_place(1, path));
    cr_expect_eq(seqtopk_store_target(path, NULL), SEQTOPK_E_FILE);
}
