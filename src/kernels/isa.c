/* SPDX-License-Identifier: MIT */
/*
 * Which rows of isa.def this machine can run: the CPU has the features and the operating system keeps the registers.
 * Asked of the CPU once per process, since under a hypervisor each CPUID is a trap.
 */
#include "src/kernels/registry.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include "src/kernels/isa.h"
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

/* Whose fault it is that a feature cannot be used. */
typedef enum { NOTHING_LACKS, CPU_LACKS, SYSTEM_LACKS } lack;

#if defined(__x86_64__)

/* Bits of XCR0: what the operating system saves for a process. */
enum { XCR0_AVX = 0x06, XCR0_AVX512 = 0xe6 };

static const struct {
    const char *name;
    uint32_t leaf, reg, bit, xcr0;
} cpu_features[] = {
    {"fma", 1, ECX, 12, XCR0_AVX},
    {"f16c", 1, ECX, 29, XCR0_AVX},
    {"popcnt", 1, ECX, 23, 0},
    {"lzcnt", 0x80000001, ECX, 5, 0},
    {"bmi", 7, EBX, 3, 0},
    {"bmi2", 7, EBX, 8, 0},
    {"avx2", 7, EBX, 5, XCR0_AVX},
    {"avx512f", 7, EBX, 16, XCR0_AVX512},
    {"avx512dq", 7, EBX, 17, XCR0_AVX512},
    {"avx512cd", 7, EBX, 28, XCR0_AVX512},
    {"avx512bw", 7, EBX, 30, XCR0_AVX512},
    {"avx512vl", 7, EBX, 31, XCR0_AVX512},
    {"avx512vbmi", 7, ECX, 1, XCR0_AVX512},
    {"avx512vbmi2", 7, ECX, 6, XCR0_AVX512},
};

static void ask_leaf(uint32_t most, uint32_t leaf, uint32_t regs[4]) {
    if (leaf <= most)
        __cpuid_count(leaf, 0, regs[EAX], regs[EBX], regs[ECX], regs[EDX]);
}

static seqtopk_cpuid ask_cpu(void) {
    seqtopk_cpuid cpu = {.xcr0 = 0};
    ask_leaf(0, 0, cpu.zero);
    ask_leaf(cpu.zero[EAX], 1, cpu.one);
    ask_leaf(cpu.zero[EAX], 7, cpu.seven);
    ask_leaf((uint32_t)__get_cpuid_max(0x80000000, NULL), 0x80000001, cpu.extended);
    if (cpu.one[ECX] & 1u << 27) { /* OSXSAVE */
        uint32_t high;
        __asm__("xgetbv" : "=a"(cpu.xcr0), "=d"(high) : "c"(0));
    }
    return cpu;
}

seqtopk_cpuid seqtopk_cpuid_get(void) {
    enum { UNKNOWN, BEING_WRITTEN, KNOWN };
    static seqtopk_cpuid known;
    static _Atomic int state;
    if (atomic_load_explicit(&state, memory_order_acquire) == KNOWN)
        return known;
    const seqtopk_cpuid cpu = ask_cpu();
    int expected = UNKNOWN; /* one thread stores its result, others return theirs */
    if (atomic_compare_exchange_strong_explicit(&state, &expected, BEING_WRITTEN, memory_order_relaxed,
                                                memory_order_relaxed)) {
        known = cpu;
        atomic_store_explicit(&state, KNOWN, memory_order_release);
    }
    return cpu;
}

typedef seqtopk_cpuid cpu_bits;
static cpu_bits get_bits(void) { return seqtopk_cpuid_get(); }

static lack what_lacks(const cpu_bits *cpu, const char *name, size_t length) {
    for (size_t i = 0; i < sizeof cpu_features / sizeof *cpu_features; i++) {
        if (strlen(cpu_features[i].name) != length || memcmp(cpu_features[i].name, name, length) != 0)
            continue;
        const uint32_t *regs = cpu_features[i].leaf == 1   ? cpu->one
                               : cpu_features[i].leaf == 7 ? cpu->seven
                                                           : cpu->extended;
        if (!(regs[cpu_features[i].reg] >> cpu_features[i].bit & 1))
            return CPU_LACKS;
        return (cpu->xcr0 & cpu_features[i].xcr0) == cpu_features[i].xcr0 ? NOTHING_LACKS : SYSTEM_LACKS;
    }
    return CPU_LACKS;
}

#elif defined(__aarch64__)

typedef struct {
    unsigned long hwcap;
} cpu_bits;

static cpu_bits get_bits(void) { return (cpu_bits){getauxval(AT_HWCAP)}; }

static lack what_lacks(const cpu_bits *cpu, const char *name, size_t length) {
    const unsigned long hwcap_asimd = 1ul << 1;
    return length == 5 && memcmp(name, "asimd", 5) == 0 && (cpu->hwcap & hwcap_asimd) ? NOTHING_LACKS : CPU_LACKS;
}

#else

typedef struct {
    int unknown;
} cpu_bits;

static cpu_bits get_bits(void) { return (cpu_bits){0}; }

static lack what_lacks(const cpu_bits *cpu, const char *name, size_t length) {
    (void)cpu;
    (void)name;
    (void)length;
    return CPU_LACKS;
}

#endif

/* The next of the words of a list, from where *at is on; 0: there is none. */
static size_t next_word(const char **at) {
    *at += strspn(*at, " ");
    return strcspn(*at, " ");
}

static int has_features(const cpu_bits *cpu, const char *list) {
    for (size_t length; (length = next_word(&list)) > 0; list += length)
        if (what_lacks(cpu, list, length) != NOTHING_LACKS)
            return 0;
    return 1;
}

/* Words that fit, one space between them. */
static void add_word(char *text, size_t size, const char *word, size_t length) {
    const size_t have = strlen(text), space = have > 0;
    if (have + space + length + 1 > size)
        return;
    memcpy(text + have, " ", space);
    memcpy(text + have + space, word, length);
    text[have + space + length] = 0;
}

static void missing_of(const cpu_bits *cpu, int32_t isa, char *text, size_t size) {
    static const char system[] = "the operating system's support";
    const char *list = isa_rows[isa].features;
    text[0] = 0;
    for (size_t length; (length = next_word(&list)) > 0; list += length)
        if (what_lacks(cpu, list, length) == CPU_LACKS)
            add_word(text, size, list, length);
    if (!*text && !has_features(cpu, isa_rows[isa].features))
        add_word(text, size, system, sizeof system - 1);
}

void seqtopk_isa_missing(int32_t isa, char text[SEQTOPK_ISA_MISSING]) {
    const cpu_bits cpu = get_bits();
    missing_of(&cpu, isa, text, SEQTOPK_ISA_MISSING);
}

static uint32_t isas_of(const cpu_bits *cpu) {
    uint32_t bits = 0;
    for (int i = 0; i < ISA_COUNT; i++)
        if (has_features(cpu, isa_rows[i].features))
            bits |= 1u << i;
    return bits;
}

#if defined(__x86_64__)
uint32_t seqtopk_isas_of(const seqtopk_cpuid *cpu) { return isas_of(cpu); }
void seqtopk_isa_missing_of(const seqtopk_cpuid *cpu, int32_t isa, char text[SEQTOPK_ISA_MISSING]) {
    missing_of(cpu, isa, text, SEQTOPK_ISA_MISSING);
}
#endif

static uint32_t usable_isas(void) {
    /* Bit 31 says that the others are known. Two threads may both ask the CPU; they store the same. */
    static _Atomic uint32_t known;
    uint32_t bits = atomic_load_explicit(&known, memory_order_relaxed);
    if (bits)
        return bits;
    const cpu_bits cpu = get_bits();
    bits = 1u << 31 | isas_of(&cpu);
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
