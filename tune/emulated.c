/* SPDX-License-Identifier: MIT */
#define _DEFAULT_SOURCE
#include "tune/emulated.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* QEMU without a hypervisor names itself where a hypervisor does. */
static int by_tcg(void) {
    unsigned a, b, c, d;
    char name[13] = "";
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 31 & 1))
        return 0;
    __cpuid(0x40000000, a, b, c, d);
    memcpy(name, &b, 4);
    memcpy(name + 4, &c, 4);
    memcpy(name + 8, &d, 4);
    return strcmp(name, "TCGTCGTCGTCG") == 0;
}

static const char processor[] = "x86_64";
#elif defined(__aarch64__)
static int by_tcg(void) { return 0; }
static const char processor[] = "aarch64";
#else
static int by_tcg(void) { return 0; }
static const char processor[] = "";
#endif

static int link_of(const char *path, char text[PATH_MAX]) {
    const ssize_t n = readlink(path, text, PATH_MAX - 1);
    text[n < 0 ? 0 : n] = 0;
    return n > 0;
}

/* What the kernel itself runs on, where it tells. */
static int kernel_processor(char *text, size_t size) {
    FILE *file = fopen("/proc/sys/kernel/arch", "r");
    if (!file)
        return 0;
    const int told = fgets(text, (int)size, file) != NULL;
    fclose(file);
    if (told)
        text[strcspn(text, "\n")] = 0;
    return told;
}

const char *seqtopk_tune_emulated(void) {
    static char answer[PATH_MAX + 64];
    char told[PATH_MAX], is[PATH_MAX];
    if (by_tcg())
        return "QEMU (TCG)";
    /* An emulator of one process shows it its own program as /proc/self/exe. The other name of the same link is known
     * to few programs, and so the kernel returns it: with the emulator. */
    if (link_of("/proc/self/exe", told) && link_of("/proc/thread-self/exe", is) && strcmp(told, is) != 0) {
        snprintf(answer, sizeof answer, "%s", is);
        return answer;
    }
    if (*processor && kernel_processor(is, sizeof is) && strcmp(is, processor) != 0) {
        snprintf(answer, sizeof answer, "something on a processor of type %.40s", is);
        return answer;
    }
    return NULL;
}
