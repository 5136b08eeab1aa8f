/* SPDX-License-Identifier: MIT */
/* score, keys and weights, from the templates of arch/common. */
#include "vec.h"

#define ROWS_ISA avx512
#include "arch/common/rows.h"
