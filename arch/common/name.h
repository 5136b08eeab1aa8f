/* SPDX-License-Identifier: MIT */
/* Names of what is compiled once for each instruction set, SEQTOPK_ISA_NAME, and once for each dtype, ROWS_DTYPE. */
#ifndef SEQTOPK_ARCH_COMMON_NAME_H
#define SEQTOPK_ARCH_COMMON_NAME_H

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)

/* A kernel: for avx2 KERNEL(select_keys, f32, compress) is seqtopk_select_keys_f32__avx2_compress. */
#define KERNEL(op, dtype, algorithm) KERNEL_OF(op, dtype, SEQTOPK_ISA_NAME, algorithm)
#define KERNEL_OF(op, dtype, isa, algorithm) KERNEL_OF_(op, dtype, isa, algorithm)
#define KERNEL_OF_(op, dtype, isa, algorithm) seqtopk_##op##_##dtype##__##isa##_##algorithm

/* What is static, and there for each dtype: LOCAL(row) is row_bf16. */
#define LOCAL(name) PASTE(name##_, ROWS_DTYPE)

#endif
