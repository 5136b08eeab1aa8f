/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "trap.h"

#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__)
static const unsigned char breakpoint[] = {0xcc}; /* int3: the counter stands behind it */
#define COUNTER(context) ((context)->uc_mcontext.gregs[REG_RIP])
#define BEHIND 1
#elif defined(__aarch64__)
static const unsigned char breakpoint[] = {0x00, 0x00, 0x20, 0xd4}; /* brk #0: the counter stands on it */
#define COUNTER(context) ((context)->uc_mcontext.pc)
#define BEHIND 0
#endif

#ifdef BEHIND

static struct {
    unsigned char *code;
    unsigned char saved[sizeof breakpoint];
    volatile sig_atomic_t hit;
} traps[TRAPS_MOST];
static int armed;
static struct sigaction before;

static unsigned char *address_of(trap_function *function) {
    unsigned char *code;
    memcpy(&code, &function, sizeof code);
    return code;
}

static void put(unsigned char *code, const unsigned char *bytes) {
    memcpy(code, bytes, sizeof breakpoint);
    __builtin___clear_cache((char *)code, (char *)code + sizeof breakpoint);
}

static int make_pages(unsigned char *code, int protection) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)code & ~(page - 1);
    const uintptr_t last = ((uintptr_t)code + sizeof breakpoint - 1) & ~(page - 1);
    return mprotect((void *)first, last - first + page, protection);
}

static void on_trap(int signal_number, siginfo_t *info, void *context) {
    ucontext_t *state = context;
    const uintptr_t at = (uintptr_t)COUNTER(state) - BEHIND;
    (void)info;
    for (int i = 0; i < armed; i++)
        if ((uintptr_t)traps[i].code == at) {
            traps[i].hit = 1;
            put(traps[i].code, traps[i].saved);
#if BEHIND
            COUNTER(state) = (greg_t)at;
#endif
            return;
        }
    signal(signal_number, SIG_DFL);
}

int trap_arm(trap_function *const *functions, int n) {
    struct sigaction action;
    if (n > TRAPS_MOST)
        return 0;
    for (int i = 0; i < n; i++)
        if (make_pages(address_of(functions[i]), PROT_READ | PROT_WRITE | PROT_EXEC)) {
            while (i-- > 0)
                make_pages(address_of(functions[i]), PROT_READ | PROT_EXEC);
            return 0;
        }
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_trap;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGTRAP, &action, &before);
    for (armed = 0; armed < n; armed++) {
        traps[armed].code = address_of(functions[armed]);
        traps[armed].hit = 0;
        memcpy(traps[armed].saved, traps[armed].code, sizeof breakpoint);
        put(traps[armed].code, breakpoint);
    }
    return 1;
}

void trap_disarm(int *hit) {
    for (int i = 0; i < armed; i++) {
        put(traps[i].code, traps[i].saved);
        hit[i] = traps[i].hit;
    }
    for (int i = 0; i < armed; i++)
        make_pages(traps[i].code, PROT_READ | PROT_EXEC);
    armed = 0;
    sigaction(SIGTRAP, &before, NULL);
}

#else

int trap_arm(trap_function *const *functions, int n) {
    (void)functions;
    (void)n;
    return 0;
}

void trap_disarm(int *hit) { (void)hit; }

#endif
