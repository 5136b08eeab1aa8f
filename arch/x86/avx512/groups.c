/* SPDX-License-Identifier: MIT */
/* groups, from the template of arch/common. */
#include "vec.h"

#define GROUPS_ISA avx512
#include "arch/common/groups.c"
