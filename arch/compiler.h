/* SPDX-License-Identifier: MIT */
/* What every unit of the library asks of the compiler. */
#ifndef SEQTOPK_ARCH_COMPILER_H
#define SEQTOPK_ARCH_COMPILER_H

/*
 * Of a function that another, itself always_inline, is given as an argument: the call is direct once that other is inlined
 * and its argument known, which takes an optimiser. Without one gcc refuses to inline what is called by a pointer.
 */
#if defined(__OPTIMIZE__)
#define INLINE_OPTIMISED __attribute__((always_inline))
#else
#define INLINE_OPTIMISED
#endif

#endif
