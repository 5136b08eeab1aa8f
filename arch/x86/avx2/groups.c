/* SPDX-License-Identifier: MIT */
/* groups, from the template of arch/common. */
#include "vec.h"

#define GROUPS_ISA avx2
#include "arch/common/groups.c"
