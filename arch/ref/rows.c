/* SPDX-License-Identifier: MIT */
/* score, keys, weights and weigh, from the templates of arch/common. */
#include "vec.h"

#define ROWS_ISA ref
#include "arch/common/rows.c"
