/* SPDX-License-Identifier: MIT */
/* What is run on CPUs that are not at hand: by what they would say of themselves. */
#include "src/kernels/registry.h"

#include <criterion/criterion.h>
#include <string.h>

#if defined(__x86_64__)
#include "src/kernels/isa.h"

enum { SAVES_SSE = 0x03, SAVES_AVX = 0x07, SAVES_AVX512 = 0xe7 };

/* Independent of the library's table: as the manuals have it. */
static const struct {
    const char *name;
    uint32_t leaf, reg, bit;
} features[] = {
    {"popcnt", 1, ECX, 23},    {"fma", 1, ECX, 12},        {"f16c", 1, ECX, 29},     {"lzcnt", 2, ECX, 5},
    {"bmi", 7, EBX, 3},        {"bmi2", 7, EBX, 8},        {"avx2", 7, EBX, 5},      {"avx512f", 7, EBX, 16},
    {"avx512dq", 7, EBX, 17},  {"avx512cd", 7, EBX, 28},   {"avx512bw", 7, EBX, 30}, {"avx512vl", 7, EBX, 31},
    {"avx512vbmi", 7, ECX, 1}, {"avx512vbmi2", 7, ECX, 6},
};
enum { FEATURES = sizeof features / sizeof *features };

static void set(seqtopk_cpuid *cpu, int feature, int is_there) {
    uint32_t *regs = features[feature].leaf == 1 ? cpu->one : features[feature].leaf == 7 ? cpu->seven : cpu->extended;
    const uint32_t bit = 1u << features[feature].bit;
    regs[features[feature].reg] = is_there ? regs[features[feature].reg] | bit : regs[features[feature].reg] & ~bit;
}

/* A CPU with all features that a name begins like, and a system that saves so much. */
static seqtopk_cpuid cpu_with(int is_avx512, uint32_t saves) {
    seqtopk_cpuid cpu;
    memset(&cpu, 0, sizeof cpu);
    for (int i = 0; i < FEATURES; i++)
        set(&cpu, i, is_avx512 || strncmp(features[i].name, "avx512", 6) != 0);
    cpu.xcr0 = saves;
    return cpu;
}

static int runs(const seqtopk_cpuid *cpu, const char *isa) {
    const int32_t index = seqtopk_isa_index(isa);
    if (index < 0)
        cr_skip("%s is not in this build", isa);
    return seqtopk_isas_of(cpu) >> index & 1;
}

static int needs(const char *isa, const char *feature) {
    const size_t length = strlen(feature);
    for (const char *at = seqtopk_isa_features(isa); (at = strstr(at, feature)); at += length)
        if ((at == seqtopk_isa_features(isa) || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
            return 1;
    return 0;
}

Test(isa, whole_cpus) {
    const seqtopk_cpuid newest = cpu_with(1, SAVES_AVX512), haswell = cpu_with(0, SAVES_AVX512);
    seqtopk_cpuid nehalem = cpu_with(0, SAVES_SSE);
    memset(nehalem.seven, 0, sizeof nehalem.seven);
    cr_expect(runs(&newest, "ref") && runs(&newest, "avx2") && runs(&newest, "avx512"));
    cr_expect(runs(&haswell, "ref") && runs(&haswell, "avx2") && !runs(&haswell, "avx512"));
    cr_expect(runs(&nehalem, "ref") && !runs(&nehalem, "avx2") && !runs(&nehalem, "avx512"));
}

/* Each feature missing alone, from both sides: what needs it does not run, all else does. */
Test(isa, a_feature_is_missing) {
    static const char *const isas[] = {"avx2", "avx512"};
    for (int i = 0; i < FEATURES; i++) {
        seqtopk_cpuid cpu = cpu_with(1, SAVES_AVX512);
        set(&cpu, i, 0);
        cr_expect(runs(&cpu, "ref"));
        for (int j = 0; j < 2; j++)
            cr_expect_eq(runs(&cpu, isas[j]), !needs(isas[j], features[i].name), "%s without %s", isas[j],
                         features[i].name);
    }
    cr_expect(needs("avx512", "avx512f") && needs("avx512", "avx512vbmi2") && needs("avx2", "fma"));
}

static void expect_missing(const seqtopk_cpuid *cpu, const char *isa, const char *words) {
    char text[SEQTOPK_ISA_MISSING];
    if (seqtopk_isa_index(isa) < 0)
        cr_skip("%s is not in this build", isa);
    seqtopk_isa_missing_of(cpu, seqtopk_isa_index(isa), text);
    cr_expect_str_eq(text, words, "%s", isa);
}

Test(isa, what_is_missing_is_told) {
    seqtopk_cpuid cpu = cpu_with(1, SAVES_AVX512);
    expect_missing(&cpu, "ref", "");
    expect_missing(&cpu, "avx512", "");
    cpu.xcr0 = SAVES_AVX;
    expect_missing(&cpu, "avx512", "the operating system's support");
    expect_missing(&cpu, "avx2", "");
    set(&cpu, FEATURES - 1, 0);
    expect_missing(&cpu, "avx512", "avx512vbmi2");
    memset(&cpu, 0, sizeof cpu);
    expect_missing(&cpu, "avx2", seqtopk_isa_features("avx2"));
    expect_missing(&cpu, "avx512", seqtopk_isa_features("avx512"));
}

/* What there is: Skylake (no VBMI), Cannon Lake (no VBMI2), Knights Landing (neither BW, DQ nor VL). */
Test(isa, subsets_of_avx512) {
    static const char *const without[][5] = {{"avx512vbmi", "avx512vbmi2"},
                                             {"avx512vbmi2"},
                                             {"avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vbmi2"}};
    for (int c = 0; c < 3; c++) {
        seqtopk_cpuid cpu = cpu_with(1, SAVES_AVX512);
        for (int i = 0; i < FEATURES; i++)
            for (int j = 0; j < 5 && without[c][j]; j++)
                if (strcmp(features[i].name, without[c][j]) == 0)
                    set(&cpu, i, 0);
        cr_expect(runs(&cpu, "avx2") && !runs(&cpu, "avx512"), "CPU %d", c);
    }
}

/* A CPU that can, under a system or hypervisor that does not save its registers. */
Test(isa, registers_that_are_not_saved) {
    static const uint32_t less[] = {0xe5, 0xe3, 0xc7, 0xa7, 0x67, SAVES_AVX};
    for (size_t i = 0; i < sizeof less / sizeof *less; i++) {
        const seqtopk_cpuid cpu = cpu_with(1, less[i]);
        cr_expect(!runs(&cpu, "avx512"), "XCR0 %x", less[i]);
        cr_expect_eq(runs(&cpu, "avx2"), (less[i] & 6) == 6, "XCR0 %x", less[i]);
    }
    const seqtopk_cpuid sse = cpu_with(1, SAVES_SSE), none = cpu_with(1, 0);
    cr_expect(!runs(&sse, "avx2") && !runs(&none, "avx2") && runs(&none, "ref"));
}

#endif
