/* SPDX-License-Identifier: MIT */
/*
 * The machine's key. On x86 all of it is asked of the CPU; a CPUID is a trap under a hypervisor, so there are few and
 * what it says is kept. On Arm the system describes the first core, so that big and little cores give the same key.
 */
#define _GNU_SOURCE
#include "src/tuning/machine.h"
#include "src/unload.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include "src/kernels/isa.h"
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#define STRINGIFY_(x) #x
#define STRINGIFY(x) STRINGIFY_(x)
#if defined(__clang__)
#define COMPILER "clang-" STRINGIFY(__clang_major__) "." STRINGIFY(__clang_minor__) "." STRINGIFY(__clang_patchlevel__)
#elif defined(__GNUC__)
#define COMPILER "gcc-" STRINGIFY(__GNUC__) "." STRINGIFY(__GNUC_MINOR__) "." STRINGIFY(__GNUC_PATCHLEVEL__)
#else
#define COMPILER "cc"
#endif

/* A key in the making. What does not fit is left out; what a key may not hold becomes '_'. */
typedef struct {
    char text[SEQTOPK_TUNING_MACHINE];
    size_t size;
} key;

static void add(key *k, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

static void add(key *k, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(k->text + k->size, sizeof k->text - k->size, format, arguments);
    va_end(arguments);
    if (size > 0 && k->size + (size_t)size < sizeof k->text)
        k->size += (size_t)size;
    else
        k->text[k->size] = 0;
}

#if defined(__x86_64__)

/* Part of the first word, which becomes part of a file's name. */
static void add_name(key *k, const char *name) {
    const size_t begin = k->size;
    add(k, "%.24s", name);
    for (char *c = k->text + begin; *c; c++)
        if (!((*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z')))
            *c = '_';
}

static void add_cpu(key *k) {
    const seqtopk_cpuid cpu = seqtopk_cpuid_get();
    char vendor[13] = {0};
    memcpy(vendor, cpu.zero + EBX, 4);
    memcpy(vendor + 4, cpu.zero + EDX, 4);
    memcpy(vendor + 8, cpu.zero + ECX, 4);
    add(k, "x86_64-");
    add_name(k, vendor);
    const uint32_t version = cpu.one[EAX], family = version >> 8 & 15, extended = version >> 20 & 255;
    add(k, "-%u-%u-%u", (unsigned)(family == 15 ? family + extended : family),
        (unsigned)((version >> 4 & 15) | (version >> 12 & 0xf0)), (unsigned)(version & 15));
}

/* Data caches in KiB, level by level. Where cores differ, chance decides which one is asked: then none. */
static void add_caches(key *k) {
    const seqtopk_cpuid cpu = seqtopk_cpuid_get();
    if (cpu.seven[EDX] >> 15 & 1) {
        add(k, "hybrid");
        return;
    }
    const size_t begin = k->size;
    const uint32_t leaves[] = {4, 0x8000001d}; /* Intel's, and AMD's of the same form */
    for (int l = 0; l < 2 && k->size == begin; l++) {
        if (l == 0 ? cpu.zero[EAX] < leaves[l] : (uint32_t)__get_cpuid_max(0x80000000, NULL) < leaves[l])
            continue;
        for (uint32_t i = 0; i < 8; i++) {
            uint32_t r[4];
            __cpuid_count(leaves[l], i, r[EAX], r[EBX], r[ECX], r[EDX]);
            if ((r[EAX] & 31) == 0)
                break;
            if ((r[EAX] & 31) == 2) /* instructions */
                continue;
            const uint64_t bytes = ((uint64_t)(r[EBX] >> 22) + 1) * ((r[EBX] >> 12 & 1023) + 1) *
                                   ((r[EBX] & 4095) + 1) * ((uint64_t)r[ECX] + 1);
            add(k, "%s%lluK", k->size == begin ? "" : "/", (unsigned long long)(bytes >> 10));
        }
    }
    if (k->size == begin)
        add(k, "-");
}

#elif defined(__aarch64__)

/* The first line of a file; 0: there is none. */
static int read_line(const char *path, char *line, int size) {
    FILE *file = fopen(path, "r");
    const int found = file && fgets(line, size, file);
    if (file)
        fclose(file);
    if (found)
        line[strcspn(line, "\n")] = 0;
    return found;
}

#define CPU0 "/sys/devices/system/cpu/cpu0/"

static void add_cpu(key *k) {
    char line[32] = "";
    add(k, "aarch64-");
    /* implementer, variant, architecture, part, revision */
    if (!read_line(CPU0 "regs/identification/midr_el1", line, sizeof line)) {
        add(k, "unknown-%lx-%lx", getauxval(AT_HWCAP), getauxval(AT_HWCAP2));
        return;
    }
    const unsigned long long midr = strtoull(line, NULL, 16);
    add(k, "%llx-%llx-%llu-%llu", midr >> 24 & 255, midr >> 4 & 4095, midr >> 20 & 15, midr & 15);
}

static void add_caches(key *k) {
    const size_t begin = k->size;
    for (int i = 0; i < 8; i++) {
        char path[96], line[32];
        snprintf(path, sizeof path, CPU0 "cache/index%d/type", i);
        if (!read_line(path, line, sizeof line))
            break;
        if (strcmp(line, "Instruction") == 0)
            continue;
        snprintf(path, sizeof path, CPU0 "cache/index%d/size", i);
        if (read_line(path, line, sizeof line) && strtoul(line, NULL, 10) > 0)
            add(k, "%s%luK", k->size == begin ? "" : "/", strtoul(line, NULL, 10));
    }
    if (k->size == begin)
        add(k, "-");
}

#else

static void add_cpu(key *k) { add(k, "unknown"); }
static void add_caches(key *k) { add(k, "-"); }

#endif

typedef struct {
    char key[SEQTOPK_TUNING_MACHINE], name[SEQTOPK_MACHINE_NAME];
} machine;

static void find_out(machine *m) {
    key k = {0};
    add_cpu(&k);
    const char *separator = " ";
    for (int32_t i = 1; seqtopk_isa_name(i); i++)
        if (seqtopk_isa_runs(i)) {
            add(&k, "%s%s", separator, seqtopk_isa_name(i));
            separator = ",";
        }
    add(&k, *separator == ' ' ? " ref " : " ");
    add_caches(&k);
    add(&k, " " COMPILER " seqtopk-" SEQTOPK_VERSION);
    memcpy(m->key, k.text, sizeof m->key);
    seqtopk_machine_name_of(m->key, m->name);
}

static _Atomic(machine *) known;

static const machine unknown = {"unknown", "unknown"};

/* Two threads may both find out; the second one takes what the first one stored. */
static const machine *this_machine(void) {
    machine *found = atomic_load_explicit(&known, memory_order_acquire);
    if (found)
        return found;
    machine *mine = malloc(sizeof *mine);
    if (!mine)
        return &unknown;
    find_out(mine);
    if (atomic_compare_exchange_strong_explicit(&known, &found, mine, memory_order_acq_rel, memory_order_acquire)) {
        seqtopk_unload_prepare();
        return mine;
    }
    free(mine);
    return found;
}

void seqtopk_machine_unload(void) { free(atomic_exchange(&known, NULL)); }

int seqtopk_machine_is_known(void) { return this_machine() != &unknown; }
const char *seqtopk_machine_key(void) { return this_machine()->key; }
const char *seqtopk_machine_name(void) { return this_machine()->name; }

void seqtopk_machine_name_of(const char *text, char name[SEQTOPK_MACHINE_NAME]) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (const char *c = text; *c; c++)
        hash = (hash ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    /* Of a key from a file, which may say anything: what cannot lead out of a directory. */
    size_t length = strcspn(text, " ");
    length = length < SEQTOPK_MACHINE_NAME - 18 ? length : SEQTOPK_MACHINE_NAME - 18;
    for (size_t i = 0; i < length; i++) {
        const char c = text[i];
        const int plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
        name[i] = plain ? c : '_';
    }
    snprintf(name + length, SEQTOPK_MACHINE_NAME - length, "-%016llx", (unsigned long long)hash);
}

seqtopk_tuning_reader seqtopk_tuning_reader_here(void) {
    seqtopk_tuning_reader reader = {SEQTOPK_VERSION, seqtopk_machine_key(), 0};
    for (int32_t i = 0; seqtopk_isa_name(i); i++)
        if (seqtopk_isa_runs(i))
            reader.isas |= 1u << i;
    return reader;
}

void seqtopk_tuning_file_init(seqtopk_tuning_file *file) {
    memset(file, 0, sizeof *file);
    memcpy(file->library, SEQTOPK_VERSION, sizeof SEQTOPK_VERSION);
    snprintf(file->machine, sizeof file->machine, "%s", seqtopk_machine_key());
}
