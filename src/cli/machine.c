/* SPDX-License-Identifier: MIT */
#define _DEFAULT_SOURCE
#include "machine.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------- processor -- */

/* The value in "key   : value", without space around it; NULL if the line has another key. */
static char *value_of(char *line, const char *key) {
    size_t n = strlen(key);
    if (strncmp(line, key, n))
        return NULL;
    line += n + strspn(line + n, " \t");
    if (*line++ != ':')
        return NULL;
    line += strspn(line, " \t");
    for (size_t end = strlen(line); end && isspace((unsigned char)line[end - 1]);)
        line[--end] = 0;
    return line;
}

/* x86 says "model name"; aarch64 numbers, and on some boards "model name", "Model" or
 * "Hardware". The best of these names stands. */
static void read_cpuinfo(seqtopk_machine *machine) {
    static const char *const names[] = {"model name", "Model", "Hardware", "cpu model"};
    size_t best = sizeof names / sizeof *names;
    char line[4096], implementer[32] = "", part[32] = "", *value;
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(machine->name, sizeof machine->name, "unknown");
    if (!file)
        return;
    while (fgets(line, sizeof line, file)) {
        for (size_t i = 0; i < best; i++)
            if ((value = value_of(line, names[i])) && *value) {
                best = i;
                snprintf(machine->name, sizeof machine->name, "%.*s", (int)sizeof machine->name - 1, value);
            }
        if ((value = value_of(line, "CPU implementer")))
            snprintf(implementer, sizeof implementer, "%.31s", value);
        if ((value = value_of(line, "CPU part")))
            snprintf(part, sizeof part, "%.31s", value);
    }
    fclose(file);
    if (best == sizeof names / sizeof *names && *implementer)
        snprintf(machine->name, sizeof machine->name, "ARM implementer %s, part %s", implementer, part);
}

/* ---------------------------------------------------------------- caches -- */

static bool read_line(int index, const char *name, char *text, size_t size) {
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, name);
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    bool ok = fgets(text, (int)size, file) != NULL;
    fclose(file);
    if (ok)
        text[strcspn(text, "\n")] = 0;
    return ok;
}

static void add_cache(seqtopk_machine *machine, int level, const char *type, long long bytes) {
    if (bytes <= 0 || machine->cache_count == SEQTOPK_CACHES)
        return;
    size_t i = machine->cache_count++;
    machine->caches[i].level = level;
    machine->caches[i].bytes = bytes;
    snprintf(machine->caches[i].type, sizeof machine->caches[i].type, "%s", type);
    for (char *c = machine->caches[i].type; *c; c++)
        *c = (char)tolower((unsigned char)*c);
}

/* /sys tells more (aarch64 too); a container may hide it, and then the C library knows some. */
static void read_caches(seqtopk_machine *machine) {
    char level[16], type[16], size[32];
    for (int i = 0; i < 16; i++) {
        if (!read_line(i, "level", level, sizeof level) || !read_line(i, "type", type, sizeof type) ||
            !read_line(i, "size", size, sizeof size))
            continue;
        char *unit;
        long long bytes = strtoll(size, &unit, 10);
        add_cache(machine, atoi(level), type, *unit == 'K' ? bytes << 10 : *unit == 'M' ? bytes << 20 : bytes);
    }
#ifdef _SC_LEVEL1_DCACHE_SIZE
    if (machine->cache_count == 0) {
        add_cache(machine, 1, "data", sysconf(_SC_LEVEL1_DCACHE_SIZE));
        add_cache(machine, 2, "unified", sysconf(_SC_LEVEL2_CACHE_SIZE));
        add_cache(machine, 3, "unified", sysconf(_SC_LEVEL3_CACHE_SIZE));
    }
#endif
}

void seqtopk_machine_read(seqtopk_machine *machine) {
    memset(machine, 0, sizeof *machine);
    read_cpuinfo(machine);
    read_caches(machine);
    machine->processors = sysconf(_SC_NPROCESSORS_ONLN);
#ifdef _SC_PHYS_PAGES
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0)
        machine->memory = (unsigned long long)pages * (unsigned long long)page;
#endif
}
