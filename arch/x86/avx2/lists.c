/* SPDX-License-Identifier: MIT */
/* scatter, from the template of arch/common. */
#define LISTS_ISA avx2
#define LISTS_LANES 8
#include "arch/common/lists.c"
