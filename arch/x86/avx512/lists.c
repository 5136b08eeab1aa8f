/* SPDX-License-Identifier: MIT */
/* scatter, from the template of arch/common. */
#define LISTS_ISA avx512
#define LISTS_LANES 16
#include "arch/common/lists.c"
