/* SPDX-License-Identifier: MIT */
/* score, keys and weights, from the templates of arch/common. */
#include "vec.h"

#define ROWS_ISA neon
#include "arch/common/rows.h"
