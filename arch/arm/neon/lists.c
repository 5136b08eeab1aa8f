/* SPDX-License-Identifier: MIT */
/* scatter, from the template of arch/common. */
#define LISTS_ISA neon
#include "arch/common/lists.h"
