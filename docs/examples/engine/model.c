/* SPDX-License-Identifier: MIT */
#include "model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A number of the configuration, which is a flat JSON object. */
static int32_t setting(const char *path, const char *config, const char *name) {
    char quoted[32];
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    const char *found = strstr(config, quoted);
    const long value = found ? strtol(found + strlen(quoted), NULL, 10) : 0;
    if (value < 1 || value > 65536)
        fail("%s: the configuration's %s is %ld, or missing: %s", path, name, value, config);
    return (int32_t)value;
}

/* nn.Linear keeps [out][in]; turned round, so that what is added up stands side by side. */
static float *linear(const npz *file, const char *name, int32_t in, int32_t out) {
    float *w = npz_floats(file, name, out, in, 0), *turned = take((size_t)in * (size_t)out, sizeof *turned);
    for (int32_t o = 0; o < out; o++)
        for (int32_t i = 0; i < in; i++)
            turned[(size_t)i * (size_t)out + (size_t)o] = w[(size_t)o * (size_t)in + (size_t)i];
    free(w);
    return turned;
}

static const char *named(char name[64], int32_t layer, const char *part) {
    snprintf(name, 64, "layers.%d.%s", layer, part);
    return name;
}

model model_load(const char *path) {
    npz file = npz_open(path);
    char *config = npz_text(&file, "config"), name[64];
    model m = {.experts = setting(path, config, "experts"),
               .k = setting(path, config, "k"),
               .width = setting(path, config, "width"),
               .hidden = setting(path, config, "hidden"),
               .layers = setting(path, config, "layers"),
               .heads = setting(path, config, "heads"),
               .length = setting(path, config, "length")};
    if (m.width % (2 * m.heads) != 0 || m.k > m.experts)
        fail("%s: %s is no model's configuration", path, config);
    free(config);
    m.bytes = npz_floats(&file, "bytes.weight", 256, m.width, 0);
    m.last = npz_floats(&file, "last.weight", m.width, 0, 0);
    m.head = linear(&file, "head.weight", m.width, 256);
    m.layer = take((size_t)m.layers, sizeof *m.layer);
    for (int32_t i = 0; i < m.layers; i++) {
        moe_layer *l = &m.layer[i];
        l->before_attention = npz_floats(&file, named(name, i, "before_attention.weight"), m.width, 0, 0);
        l->before_experts = npz_floats(&file, named(name, i, "before_experts.weight"), m.width, 0, 0);
        l->qkv = linear(&file, named(name, i, "qkv.weight"), m.width, 3 * m.width);
        l->out = linear(&file, named(name, i, "out.weight"), m.width, m.width);
        l->gate = linear(&file, named(name, i, "experts.gate.weight"), m.width, m.experts);
        l->up = npz_floats(&file, named(name, i, "experts.up"), m.experts, m.width, m.hidden);
        l->down = npz_floats(&file, named(name, i, "experts.down"), m.experts, m.hidden, m.width);
    }
    npz_close(&file);
    return m;
}

void model_free(model *m) {
    for (int32_t i = 0; i < m->layers; i++) {
        moe_layer *l = &m->layer[i];
        float *all[] = {l->before_attention, l->before_experts, l->qkv, l->out, l->gate, l->up, l->down};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++)
            free(all[j]);
    }
    free(m->layer);
    free(m->bytes);
    free(m->last);
    free(m->head);
}

void add_scaled(float *to, const float *from, float factor, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        to[i] += factor * from[i];
}

/* Four rows at a time, for which a row of weights is read once. */
void multiply(float *out, const float *x, const float *w, int64_t n, int32_t rows, int32_t columns) {
    for (int64_t i = 0; i < n; i += 4) {
        const int64_t some = n - i < 4 ? n - i : 4;
        float *to = out + i * columns;
        memset(to, 0, (size_t)(some * columns) * sizeof *to);
        for (int32_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < some; j++)
                add_scaled(to + j * columns, w + (int64_t)r * columns, x[(i + j) * rows + r], columns);
    }
}

void normalise(float *out, const float *x, const float *scale, int64_t n, int32_t width) {
    for (int64_t i = 0; i < n; i++) {
        float sum = 0;
        for (int32_t j = 0; j < width; j++)
            sum += x[i * width + j] * x[i * width + j];
        const float factor = 1 / sqrtf(sum / (float)width + 0x1p-23f);
        for (int32_t j = 0; j < width; j++)
            out[i * width + j] = x[i * width + j] * factor * scale[j];
    }
}

past past_make(const model *m, int32_t sequences) {
    const size_t count = (size_t)m->layers * (size_t)sequences * (size_t)m->length * (size_t)m->width;
    return (past){take(count, sizeof(float)), take(count, sizeof(float)), sequences};
}

void past_free(past *p) {
    free(p->keys);
    free(p->values);
}

/* Rotary positions (arXiv 2104.09864): the first half of a head is turned against the second. */
static void rotate(float *x, int32_t width, int64_t position) {
    const int32_t half = width / 2;
    for (int32_t i = 0; i < half; i++) {
        const float angle = (float)position * powf(1000.0f, -(float)i / (float)half);
        const float c = cosf(angle), s = sinf(angle), a = x[i], b = x[i + half];
        x[i] = a * c - b * s;
        x[i + half] = a * s + b * c;
    }
}

/* Eight sums side by side, which a compiler may keep in one register. */
static float dot(const float *a, const float *b, int32_t n) {
    float sums[8] = {0}, sum = 0;
    int32_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int32_t j = 0; j < 8; j++)
            sums[j] += a[i + j] * b[i + j];
    for (; i < n; i++)
        sum += a[i] * b[i];
    for (int32_t j = 0; j < 8; j++)
        sum += sums[j];
    return sum;
}

/* One head of one row: out = the values before `length`, weighed by a softmax over query times key. */
static void attend_head(float *out, const float *query, const float *keys, const float *values, int64_t length,
                        int32_t width, int32_t stride, float *weights) {
    const float scale = 1 / sqrtf((float)width);
    float most = -INFINITY, sum = 0;
    for (int64_t t = 0; t < length; t++) {
        weights[t] = scale * dot(query, keys + t * stride, width);
        most = fmaxf(most, weights[t]);
    }
    for (int64_t t = 0; t < length; t++)
        sum += weights[t] = expf(weights[t] - most);
    memset(out, 0, (size_t)width * sizeof *out);
    for (int64_t t = 0; t < length; t++)
        add_scaled(out, values + t * stride, weights[t] / sum, width);
}

void attend(const model *m, past *p, int32_t layer, const row_batch *rows, float *qkv, float *out) {
    const int32_t width = m->width / m->heads;
    float weights[65536];
    for (int64_t r = 0; r < rows->n; r++) {
        float *query = qkv + r * 3 * m->width, *key = query + m->width, *value = key + m->width;
        for (int32_t h = 0; h < m->heads; h++) {
            rotate(query + h * width, width, rows->positions[r]);
            rotate(key + h * width, width, rows->positions[r]);
        }
        const int64_t sequence = (int64_t)layer * p->sequences + rows->sequences[r];
        const int64_t place = (sequence * m->length + rows->positions[r]) * m->width;
        memcpy(p->keys + place, key, (size_t)m->width * sizeof *key);
        memcpy(p->values + place, value, (size_t)m->width * sizeof *value);
    }
    for (int64_t r = 0; r < rows->n; r++) {
        const int64_t begin = ((int64_t)layer * p->sequences + rows->sequences[r]) * m->length * m->width;
        for (int32_t h = 0; h < m->heads; h++)
            attend_head(out + r * m->width + h * width, qkv + r * 3 * m->width + h * width, p->keys + begin + h * width,
                        p->values + begin + h * width, rows->positions[r] + 1, width, m->width, weights);
    }
}
