/* SPDX-License-Identifier: MIT */
/* scatter, from the template of arch/common. */
#define LISTS_ISA neon
#define LISTS_LANES 4
#include "arch/common/lists.c"
