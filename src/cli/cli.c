/* SPDX-License-Identifier: MIT */
#include "cli.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int seqtopk_cli_fail(int status, const char *format, ...) {
    char line[4096 + 512]; /* PATH_MAX and what is said about it */
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    fprintf(stderr, "seqtopk: %s\n", line);
    return status;
}

void *seqtopk_cli_alloc(unsigned long long count, unsigned long long item_size) {
    if (item_size && count > (SIZE_MAX - 1) / item_size)
        return NULL;
    size_t size = (size_t)(count * item_size);
    return malloc(size ? size : 1);
}
