/* SPDX-License-Identifier: MIT */
#include "tune/data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* splitmix64 */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double uniform(uint64_t *state) { return ((double)(next_random(state) >> 11) + 0.5) * 0x1p-53; }

static double normal(uint64_t *state) {
    const double radius = sqrt(-2 * log(uniform(state)));
    return radius * cos(6.283185307179586 * uniform(state));
}

uint16_t seqtopk_tune_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint16_t seqtopk_tune_f16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude < 0x38800000) /* below the normal ones: 0 is near enough for logits */
        return (uint16_t)sign;
    return (uint16_t)(sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13));
}

int64_t seqtopk_tune_turns(int64_t tokens, int32_t experts) {
    const int64_t logits = tokens * experts;
    return logits > 0 && logits < SEQTOPK_TUNE_TURNS ? SEQTOPK_TUNE_TURNS / logits : 1;
}

static size_t item_size(seqtopk_dtype dtype) { return dtype == SEQTOPK_DTYPE_F32 ? 4 : 2; }

enum { TABLE = 1 << 14 };

static void fill(seqtopk_tune_data *data, float *liking, float *normals) {
    uint64_t state = (uint64_t)data->experts;
    for (int32_t e = 0; e < data->experts; e++) {
        liking[e] = (float)(0.5 * normal(&state));
        data->bias[e] = (float)(0.01 * normal(&state));
    }
    for (int i = 0; i < TABLE; i++)
        normals[i] = (float)normal(&state);
    for (int64_t t = 0; t < data->tokens; t++) {
        const float sureness = (float)(0.75 + uniform(&state));
        const int64_t row = t * data->experts;
        for (int32_t e = 0; e < data->experts; e++) {
            /* A drawn normal, moved a little by other bits so that few are equal. */
            const uint64_t r = next_random(&state);
            const float jitter = (float)(int32_t)(r >> 32) * 0x1p-38f;
            const float x = sureness * (liking[e] + normals[r & (TABLE - 1)] + jitter);
            if (data->dtype == SEQTOPK_DTYPE_F32)
                ((float *)data->logits)[row + e] = x;
            else
                ((uint16_t *)data->logits)[row + e] =
                    data->dtype == SEQTOPK_DTYPE_BF16 ? seqtopk_tune_bf16(x) : seqtopk_tune_f16(x);
        }
    }
}

bool seqtopk_tune_data_need(seqtopk_tune_data *data, int64_t tokens, int32_t experts, seqtopk_dtype dtype) {
    if (data->logits && data->experts == experts && data->dtype == dtype && data->tokens >= tokens)
        return true;
    seqtopk_tune_data_free(data);
    data->tokens = tokens;
    data->experts = experts;
    data->dtype = dtype;
    data->logits = malloc((size_t)tokens * (size_t)experts * item_size(dtype));
    data->bias = malloc((size_t)experts * sizeof *data->bias);
    float *liking = malloc((size_t)experts * sizeof *liking), *normals = malloc(TABLE * sizeof *normals);
    const bool ok = data->logits && data->bias && liking && normals;
    if (ok)
        fill(data, liking, normals);
    else
        seqtopk_tune_data_free(data);
    free(liking);
    free(normals);
    return ok;
}

void seqtopk_tune_data_free(seqtopk_tune_data *data) {
    free(data->logits);
    free(data->bias);
    *data = (seqtopk_tune_data){0};
}

const void *seqtopk_tune_data_at(const seqtopk_tune_data *data, int64_t tokens, int64_t turn) {
    /* No more than those, though there be data: logits come warm from the product that made them. */
    const int64_t fit = data->tokens / tokens, wanted = seqtopk_tune_turns(tokens, data->experts);
    const int64_t turns = fit < wanted ? fit : wanted;
    return (const char *)data->logits + (size_t)(turn % turns * tokens * data->experts) * item_size(data->dtype);
}
