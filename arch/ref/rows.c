/* SPDX-License-Identifier: MIT */
/* score, keys, weights and weigh, from the templates of arch/common. */
#include "vec.h"

#define ROWS_ISA ref
#include "arch/common/rows.h"

float seqtopk_ref_score(int32_t score, float key);
float seqtopk_ref_score(int32_t score, float key) { return score_of_key(score, key); }
