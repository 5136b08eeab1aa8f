/* SPDX-License-Identifier: MIT */
/* rank and filter, from the templates of arch/common. */
#include "vec.h"

#define SELECT_ISA neon
#include "arch/common/select.h"
