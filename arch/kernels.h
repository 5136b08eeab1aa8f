/* SPDX-License-Identifier: MIT */
/* The prototype of every kernel that kernels.def lists for this build. Each unit that defines one includes this. */
#ifndef SEQTOPK_ARCH_KERNELS_H
#define SEQTOPK_ARCH_KERNELS_H

#include "arch/kernel.h"

#define SEQTOPK_KERNEL(op, dtype, isa, algorithm, revision, applies, about)                                            \
    seqtopk_##op##_fn seqtopk_##op##_##dtype##__##isa##_##algorithm;
#include "arch/kernels.def"
#undef SEQTOPK_KERNEL

#endif
