/* SPDX-License-Identifier: MIT */
/* What every unit of the library asks of the compiler. */
#ifndef SEQTOPK_ARCH_COMPILER_H
#define SEQTOPK_ARCH_COMPILER_H

#include <float.h>

/*
 * With these a test for NaN is folded away, and a sum has another order. A program that uses the library may have them.
 * SEQTOPK_FAST_MATH: meson.build saw such a flag, of which not all compilers define a macro.
 */
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || defined(SEQTOPK_FAST_MATH) || \
    defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) || defined(__NO_SIGNED_ZEROS__)
#error "seqtopk cannot be built with -Ofast, -ffast-math, parts of it or -ffp-contract=fast: take it out of CFLAGS"
#endif

/* Sizes of scratch wrap in 32 bits, and a route would write beside what it was given. */
#if defined(__SIZEOF_POINTER__) && __SIZEOF_POINTER__ < 8
#error "seqtopk is for 64-bit programs, sizes of scratch wrap in 32 bits: build for a 64-bit processor"
/* 16: only _Float16 is rounded at once to less than float, and there is none here. */
#elif FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "seqtopk cannot be built where float is computed in double or more (FLT_EVAL_METHOD): add -msse2 -mfpmath=sse"
#endif

/*
 * Of a function that another, itself always_inline, is given as an argument: the call is direct once that other is
 * inlined and its argument known, which takes an optimiser. Without one gcc refuses to inline what a pointer calls.
 */
#if defined(__OPTIMIZE__)
#define INLINE_OPTIMISED __attribute__((always_inline))
#else
#define INLINE_OPTIMISED
#endif

#endif
