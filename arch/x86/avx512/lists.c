/* SPDX-License-Identifier: MIT */
/* scatter, from the template of arch/common. */
#define LISTS_ISA avx512
#include "arch/common/lists.h"
