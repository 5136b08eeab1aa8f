/* SPDX-License-Identifier: MIT */
/* The example that seqtopk.h begins with, which is cut out of it: that it compiles, and does what it says. */
#include <seqtopk/seqtopk.h>

seqtopk_status select_experts(const float *logits, int64_t tokens, int32_t *offsets, int32_t *ids, float *weights);

#include "example.h"

enum { T = 3, E = 128, K = 8 };

int main(void) {
    float logits[T * E] = {0}, weights[T * K], sum = 0;
    int32_t offsets[T + 1], ids[T * K];
    for (int i = 0; i < K; i++)
        logits[E + 5 * i] = 9; /* token 1 prefers every fifth expert; the others none, so that the first has the rest */
    if (select_experts(logits, T, offsets, ids, weights) != SEQTOPK_OK)
        return 1;
    for (int i = offsets[1]; i < offsets[2]; i++)
        sum += weights[i];
    if (offsets[0] != 0 || offsets[1] != 2 * K || offsets[2] != T * K || offsets[3] != T * K || sum < 0.999f ||
        sum > 1.001f)
        return 1;
    for (int i = 0; i < K; i++)
        if (ids[2 * K + i] != 5 * i)
            return 1;
    return select_experts(logits, -1, offsets, ids, weights) == SEQTOPK_E_VALUE ? 0 : 1;
}
