/* SPDX-License-Identifier: MIT */
/* The largest shapes that the library takes. Inside, ids of experts are 16 bits. */
#ifndef SEQTOPK_SRC_KERNELS_LIMITS_H
#define SEQTOPK_SRC_KERNELS_LIMITS_H

enum { SEQTOPK_MAX_EXPERTS = 65536, SEQTOPK_MAX_PARTS = 1024 };

#endif
