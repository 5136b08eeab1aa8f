/* SPDX-License-Identifier: MIT */
#include "memory.h"

#include <stddef.h>
#include <sys/auxv.h>

static long left = -1, blocks;
static int stays, failed, privileged;

void memory_fail(long nth, int for_good) {
    left = nth;
    stays = for_good;
    failed = failed && nth < 0;
}

int memory_failed(void) { return failed; }
long memory_blocks(void) { return blocks; }
void memory_privileged(int is) { privileged = is; }

static int fails(void) {
    if (left < 0 || left-- > 0)
        return 0;
    left = stays ? 0 : -1;
    failed = 1;
    return 1;
}

/* What the linker calls the real ones, and what it calls in their place. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
unsigned long __real_getauxval(unsigned long type);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);
unsigned long __wrap_getauxval(unsigned long type);

static void *counted(void *memory) {
    blocks += memory != NULL;
    return memory;
}

void *__wrap_malloc(size_t size) { return fails() ? NULL : counted(__real_malloc(size)); }
void *__wrap_calloc(size_t count, size_t size) { return fails() ? NULL : counted(__real_calloc(count, size)); }
void *__wrap_realloc(void *memory, size_t size) {
    if (fails())
        return NULL;
    void *larger = __real_realloc(memory, size);
    blocks += !memory && larger;
    return larger;
}
void __wrap_free(void *memory) {
    blocks -= memory != NULL;
    __real_free(memory);
}

unsigned long __wrap_getauxval(unsigned long type) {
    return type == AT_SECURE ? (unsigned long)privileged : __real_getauxval(type);
}
