/* SPDX-License-Identifier: MIT */
/* What an x86 CPU says of itself. Under a hypervisor each CPUID is a trap that takes some 10 us: each leaf is asked for
 * once per process. */
#ifndef SEQTOPK_SRC_KERNELS_ISA_H
#define SEQTOPK_SRC_KERNELS_ISA_H

#include "src/kernels/registry.h"

#include <stdint.h>

enum { EAX, EBX, ECX, EDX };

/* By leaf; one that the CPU does not have is all zero. */
typedef struct seqtopk_cpuid {
    uint32_t zero[4], one[4], seven[4], extended[4]; /* extended: 0x80000001 */
    uint32_t xcr0;                                   /* the registers that the operating system saves; 0: not said */
} seqtopk_cpuid;

seqtopk_cpuid seqtopk_cpuid_get(void);

/* Bit i: such a CPU, under such an operating system, can run isa.def's row i. Of any CPU, to be tried without having it. */
uint32_t seqtopk_isas_of(const seqtopk_cpuid *cpu);
void seqtopk_isa_missing_of(const seqtopk_cpuid *cpu, int32_t isa, char text[SEQTOPK_ISA_MISSING]);

#endif
