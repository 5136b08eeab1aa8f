/* SPDX-License-Identifier: MIT */
/* rank and nth, from the templates of arch/common. */
#include "vec.h"

#define RANK_ISA avx512
#include "arch/common/rank.c"
