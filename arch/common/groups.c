/* SPDX-License-Identifier: MIT */
/* mask_groups: what is outside a row's best groups loses its keys. */
#include SEQTOPK_VEC_H

#include "arch/common/groups.h"
#include "arch/common/name.h"
#include "arch/kernels.h"

void KERNEL(mask_groups, f32, pairs)(const float *scores, float *keys, int32_t experts, int32_t groups, int32_t group_n,
                                     int32_t group_top_k, float *work) {
    (void)work; /* its row in kernels.def says: group_n <= 2, at most GROUPS_MOST groups */
    const int32_t size = experts / groups;
    uint64_t lost = group_n == 1 ? choose_groups(scores, size, groups, group_top_k, 1, NULL)
                                 : choose_groups(scores, size, groups, group_top_k, 2, NULL);
    for (; lost; lost &= lost - 1)
        lose(keys + (int64_t)vec_first_bit(lost) * size, size);
}
