/* SPDX-License-Identifier: MIT */
#define _DEFAULT_SOURCE
#include "src/environment.h"

#include <stdlib.h>
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

static int is_privileged(void) {
#if defined(__linux__)
    return getauxval(AT_SECURE) != 0; /* secure_getenv asks the same, which not every C library has */
#elif defined(__unix__) || defined(__APPLE__)
    return getuid() != geteuid() || getgid() != getegid();
#else
    return 0;
#endif
}

const char *seqtopk_environment(const char *variable) {
    const char *value = is_privileged() ? NULL : getenv(variable);
    return value && *value ? value : NULL;
}
