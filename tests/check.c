/* SPDX-License-Identifier: MIT */
/*
 * Conformance: every row of the registry, alone by its contract and end to end through the public API, against the
 * reference bit for bit and against the oracle in float64. What cannot run on this machine is named and skipped.
 */
#define _GNU_SOURCE
#include "check.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { EXIT_SKIPPED = 77, FAILURES_SHOWN = 40, SHOWN_OF_A_CONTEXT = 3 };

check_run run;
static int64_t shown, shown_of_context;

/* Seconds since the context last changed; more than PATIENCE of them are a hang. */
static volatile sig_atomic_t idle;

void check_context(const char *format, ...) {
    va_list arguments;
    shown_of_context = 0;
    idle = 0;
    va_start(arguments, format);
    vsnprintf(run.context, sizeof run.context, format, arguments);
    va_end(arguments);
}

int check_that(int fine, const char *format, ...) {
    if (fine) {
        run.passed++;
        return 1;
    }
    run.failed++;
    if (shown < FAILURES_SHOWN && shown_of_context++ < SHOWN_OF_A_CONTEXT) {
        shown++;
        va_list arguments;
        va_start(arguments, format);
        printf("FAILED: %s: ", run.context);
        vprintf(format, arguments);
        printf("\n");
        va_end(arguments);
    }
    return 0;
}

void *check_alloc(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size ? size : 1);
    if (!memory) {
        fprintf(stderr, "check: out of memory\n");
        exit(1);
    }
    return memory;
}

int check_wants(const seqtopk_row *row) {
    return row->function && seqtopk_isa_runs(row->isa) && (!run.isa || strcmp(run.isa, row->isa_name) == 0) &&
           (!run.op || strcmp(run.op, row->op_name) == 0);
}

const seqtopk_row *check_reference(seqtopk_op op, int32_t dtype) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (seqtopk_registry[i].op == op && seqtopk_registry[i].dtype == dtype &&
            strcmp(seqtopk_registry[i].isa_name, "ref") == 0)
            return seqtopk_registry + i;
    printf("FAILED: op %d dtype %d has no reference\n", (int)op, (int)dtype);
    exit(1);
}

const char *check_dtype_name(int dtype) {
    return dtype == SEQTOPK_DTYPE_F32 ? "f32" : dtype == SEQTOPK_DTYPE_BF16 ? "bf16" : "f16";
}

/* A guard page was hit, or worse. Only what is safe in a handler: write and _exit. */
static void on_fault(int signal_number) {
    static const char text[] = "FAILED: memory fault or bad instruction in: ";
    ssize_t ignored = write(STDOUT_FILENO, text, sizeof text - 1);
    ignored = write(STDOUT_FILENO, run.context, strlen(run.context));
    ignored = write(STDOUT_FILENO, "\n", 1);
    (void)ignored;
    _exit(signal_number == SIGILL ? 4 : 3);
}

/* Once a second. A kernel that never returns is a failure, not a test that takes long. */
static void on_tick(int signal_number) {
    static const char text[] = "FAILED: does not return: ";
    enum { PATIENCE = 120 };
    (void)signal_number;
    if (++idle < PATIENCE)
        return;
    ssize_t ignored = write(STDOUT_FILENO, text, sizeof text - 1);
    ignored = write(STDOUT_FILENO, run.context, strlen(run.context));
    ignored = write(STDOUT_FILENO, "\n", 1);
    (void)ignored;
    _exit(5);
}

static void watch(void) {
    const struct itimerval second = {{1, 0}, {1, 0}};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_tick;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &second, NULL);
}

static void catch_faults(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_fault;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
}

static void list_rows(void) {
    for (int32_t i = 0; i < seqtopk_registry_kernels; i++)
        printf("%s revision %d %s: %s\n", seqtopk_registry[i].name, (int)seqtopk_registry[i].revision,
               seqtopk_isa_runs(seqtopk_registry[i].isa) ? "runs here" : "cannot run here", seqtopk_registry[i].about);
}

static void help(FILE *to) {
    fputs("usage: check [--isa NAME] [--op NAME] [--seed N] [--quick] [--list] [--help]\n"
          "  --isa    only kernels of this instruction set; exit status 77 if they cannot run here\n"
          "  --op     only kernels of this stage, alone\n"
          "  --seed   where random input begins; printed always (default: $SEQTOPK_TEST_SEED, or the time)\n"
          "  --quick  a sample: for emulators and sanitizers; the same with $SEQTOPK_TEST_QUICK\n"
          "  --list   the kernels compiled in\n",
          to);
}

static int is_isa(const char *name) {
    int known = 0;
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        known |= strcmp(seqtopk_registry[i].isa_name, name) == 0;
    return known;
}

static int is_op(const char *name) {
    int known = 0;
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        known |= strcmp(seqtopk_registry[i].op_name, name) == 0;
    return known;
}

static int read_options(int argc, char **argv) {
    run.seed = random_first_seed();
    run.quick = getenv("SEQTOPK_TEST_QUICK") != NULL;
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        char *end = NULL;
        if (strcmp(option, "--help") == 0) {
            help(stdout);
            exit(0);
        } else if (strcmp(option, "--list") == 0) {
            list_rows();
            exit(0);
        } else if (strcmp(option, "--quick") == 0) {
            run.quick = 1;
        } else if (strcmp(option, "--isa") == 0 && value) {
            run.isa = argv[++i];
        } else if (strcmp(option, "--op") == 0 && value && is_op(value)) {
            run.op = argv[++i];
        } else if (strcmp(option, "--seed") == 0 && value) {
            run.seed = strtoull(argv[++i], &end, 0);
            if (*end || !*value)
                return 0;
        } else {
            return 0;
        }
    }
    return 1;
}

/* Names what is left out, so that a machine that runs little does not look like one that runs all. */
static void report_skipped(void) {
    int skipped = 0;
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        skipped += !seqtopk_isa_runs(seqtopk_registry[i].isa);
    printf("%d kernels cannot run here and were skipped%s", skipped, skipped ? ":" : "");
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (!seqtopk_isa_runs(seqtopk_registry[i].isa))
            printf(" %s", seqtopk_registry[i].name);
    printf("\n");
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!read_options(argc, argv)) {
        help(stderr);
        return 2;
    }
    /* What is forced from outside would be tested instead of what this program says. */
    unsetenv("SEQTOPK_ISA");
    unsetenv("SEQTOPK_KERNEL");
    printf("seed %" PRIu64 "\n", run.seed);
    random_seed(&run.random, run.seed);
    if (run.isa && (!is_isa(run.isa) || !seqtopk_isa_runs(seqtopk_isa_index(run.isa)))) {
        printf("%s cannot run here: skipped\n0 passed, 0 failed\n", run.isa);
        return EXIT_SKIPPED;
    }
    catch_faults();
    watch();
    check_ops();
    if (!run.op) {
        check_routes();
        check_decode();
        check_dispatch();
        check_context("dispatch");
        check_that(run.dispatched > 0, "nothing went through a plan");
    }
    report_skipped();
    if (run.failed > shown)
        printf("%" PRId64 " more failures are not shown\n", run.failed - shown);
    printf("%" PRId64 " passed, %" PRId64 " failed\n", run.passed, run.failed);
    return run.failed > 0 || run.passed == 0;
}
