/* SPDX-License-Identifier: MIT */
/* filter, trim and top, from the templates of arch/common. */
#include "vec.h"

#define SELECT_ISA avx2
#include "arch/common/select.c"
