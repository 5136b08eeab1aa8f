/* SPDX-License-Identifier: MIT */
/*
 * Which rows of isa.def this machine can run: the CPU has the features and the operating system keeps the registers.
 * Asked of the CPU once per process, since under a hypervisor each CPUID is a trap.
 */
#include "src/registry.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

typedef struct {
    const char *name, *features;
} isa_row;

static const isa_row isa_rows[] = {
#define SEQTOPK_ISA(name, features) {#name, features},
#include "arch/isa.def"
#undef SEQTOPK_ISA
};
enum { ISA_COUNT = sizeof isa_rows / sizeof *isa_rows };

#if defined(__x86_64__)

enum { EAX, EBX, ECX, EDX };
/* Bits of XCR0: what the operating system saves for a process. */
enum { XCR0_AVX = 0x06, XCR0_AVX512 = 0xe6 };

static const struct {
    const char *name;
    uint32_t leaf, reg, bit, xcr0;
} cpu_features[] = {
    {"fma", 1, ECX, 12, XCR0_AVX},          {"f16c", 1, ECX, 29, XCR0_AVX},
    {"popcnt", 1, ECX, 23, 0},              {"lzcnt", 0x80000001, ECX, 5, 0},
    {"bmi", 7, EBX, 3, 0},                  {"bmi2", 7, EBX, 8, 0},
    {"avx2", 7, EBX, 5, XCR0_AVX},          {"avx512f", 7, EBX, 16, XCR0_AVX512},
    {"avx512dq", 7, EBX, 17, XCR0_AVX512},  {"avx512cd", 7, EBX, 28, XCR0_AVX512},
    {"avx512bw", 7, EBX, 30, XCR0_AVX512},  {"avx512vl", 7, EBX, 31, XCR0_AVX512},
    {"avx512vbmi", 7, ECX, 1, XCR0_AVX512}, {"avx512vbmi2", 7, ECX, 6, XCR0_AVX512},
};

static uint32_t xcr0(void) {
    uint32_t regs[4], low, high;
    if (!__get_cpuid(1, regs + EAX, regs + EBX, regs + ECX, regs + EDX) || !(regs[ECX] & 1u << 27)) /* OSXSAVE */
        return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int has_feature(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof cpu_features / sizeof *cpu_features; i++) {
        uint32_t regs[4];
        if (strlen(cpu_features[i].name) != length || memcmp(cpu_features[i].name, name, length) != 0)
            continue;
        return __get_cpuid_count(cpu_features[i].leaf, 0, regs + EAX, regs + EBX, regs + ECX, regs + EDX) &&
               (regs[cpu_features[i].reg] >> cpu_features[i].bit & 1) &&
               (xcr0() & cpu_features[i].xcr0) == cpu_features[i].xcr0;
    }
    return 0;
}

#elif defined(__aarch64__)

static int has_feature(const char *name, size_t length) {
    const unsigned long hwcap_asimd = 1ul << 1;
    return length == 5 && memcmp(name, "asimd", 5) == 0 && (getauxval(AT_HWCAP) & hwcap_asimd);
}

#else

static int has_feature(const char *name, size_t length) {
    (void)name;
    (void)length;
    return 0;
}

#endif

static int has_features(const char *list) {
    while (*list) {
        size_t length = strcspn(list, " ");
        if (!has_feature(list, length))
            return 0;
        list += length;
        list += *list == ' ';
    }
    return 1;
}

static uint32_t usable_isas(void) {
    /* Bit 31 says that the others are known. Two threads may both ask the CPU; they store the same. */
    static _Atomic uint32_t known;
    uint32_t bits = atomic_load_explicit(&known, memory_order_relaxed);
    if (bits)
        return bits;
    bits = 1u << 31;
    for (int i = 0; i < ISA_COUNT; i++)
        if (has_features(isa_rows[i].features))
            bits |= 1u << i;
    atomic_store_explicit(&known, bits, memory_order_relaxed);
    return bits;
}

int32_t seqtopk_isa_index(const char *name) {
    for (int32_t i = 0; name && i < ISA_COUNT; i++)
        if (strcmp(isa_rows[i].name, name) == 0)
            return i;
    return -1;
}

int seqtopk_isa_runs(int32_t isa) { return isa >= 0 && isa < ISA_COUNT && (usable_isas() >> isa & 1); }

const char *seqtopk_isa_name(int32_t index) { return index >= 0 && index < ISA_COUNT ? isa_rows[index].name : NULL; }

int32_t seqtopk_isa_usable(const char *isa) { return seqtopk_isa_runs(seqtopk_isa_index(isa)); }

const char *seqtopk_isa_features(const char *isa) {
    int32_t i = seqtopk_isa_index(isa);
    return i < 0 ? NULL : isa_rows[i].features;
}
