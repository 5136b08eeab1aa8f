/* SPDX-License-Identifier: MIT */
/* score, keys, sweep, weights and weigh, from the templates of arch/common. */
#include "vec.h"

#define ROWS_ISA neon
#define ROWS_SWEEP
#include "arch/common/rows.c"
