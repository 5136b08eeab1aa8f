/* SPDX-License-Identifier: MIT */
/* unit [SUITE[/TEST]] ...: runs the tests whose names begin so, or all, each in a process that it ends. */
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77, SECONDS = 120 };

static plain_test *first;
static int failures; /* of the test that is running */

void plain_add(plain_test *test) {
    test->next = first;
    first = test;
}

int plain_check(int right, int fatal, const char *file, int line, const char *what, const char *format, ...) {
    va_list args;
    if (right)
        return 1;
    failures++;
    fprintf(stderr, "%s:%d: expected %s ", file, line, what);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    if (fatal)
        exit(1);
    return 0;
}

void plain_skip(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(failures > 0 ? 1 : SKIPPED);
}

/* An exit, and not an end at once, so that what is lost is told by a sanitizer that looks for it. */
static void run(const plain_test *test) {
    alarm(test->options.timeout > 0 ? (unsigned)test->options.timeout : SECONDS);
    test->run();
    exit(failures > 0);
}

static int is_wanted(const plain_test *test, int argc, char **argv) {
    char name[256];
    snprintf(name, sizeof name, "%s/%s", test->suite, test->name);
    for (int i = 1; i < argc; i++)
        if (strncmp(name, argv[i], strlen(argv[i])) == 0)
            return 1;
    return argc < 2;
}

int main(int argc, char **argv) {
    int passed = 0, failed = 0, skipped = 0;
    for (plain_test *test = first; test; test = test->next) {
        int status = 1;
        if (!is_wanted(test, argc, argv))
            continue;
        fflush(NULL);
        const pid_t child = fork();
        if (child == 0)
            run(test);
        if (child < 0 || waitpid(child, &status, 0) != child)
            perror("fork");
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            passed++;
        } else if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) {
            skipped++;
            fprintf(stderr, "%s/%s: skipped\n", test->suite, test->name);
        } else {
            failed++;
            fprintf(stderr, "%s/%s: failed, %s %d\n", test->suite, test->name,
                    WIFSIGNALED(status) ? "by signal" : "status",
                    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        }
    }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed > 0 || passed == 0;
}
