/* SPDX-License-Identifier: MIT */
/*
 * Counts instructions by single steps, for instruction sets that no emulator at hand knows:
 * bench-step PROGRAM ARGUMENT... prints how many the program executes between its first SIGUSR1 and its second. Each
 * step takes two switches between processes, some 25 microseconds on a virtual machine.
 */
#define _DEFAULT_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *what) {
    fprintf(stderr, "bench-step: %s\n", what);
    return 1;
}

/* The step after which the program has not come to its second signal: something is wrong. */
enum { MOST_MILLIONS = 20 };

static int is_mark(int status) { return WIFSTOPPED(status) && WSTOPSIG(status) == SIGUSR1; }

int main(int argc, char **argv) {
    int status;
    unsigned long long count = 0;
    if (argc < 2)
        return fail("takes a program and its arguments");
    const pid_t child = fork();
    if (child < 0)
        return fail("cannot fork");
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        execv(argv[1], argv + 1);
        _exit(fail("cannot start the program"));
    }
    /* execv itself stops it once. */
    for (waitpid(child, &status, 0); WIFSTOPPED(status) && !is_mark(status); waitpid(child, &status, 0))
        ptrace(PTRACE_CONT, child, NULL, NULL);
    while (WIFSTOPPED(status) && count < MOST_MILLIONS * 1000000ull) {
        ptrace(PTRACE_SINGLESTEP, child, NULL, NULL);
        waitpid(child, &status, 0);
        count++;
        if (is_mark(status))
            break;
    }
    if (!is_mark(status)) {
        if (WIFSTOPPED(status))
            kill(child, SIGKILL);
        return fail("the program did not come from one SIGUSR1 to a second");
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    printf("%llu\n", count);
    return 0;
}
