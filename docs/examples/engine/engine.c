/* SPDX-License-Identifier: MIT */
#include "engine.h"

#include <stdlib.h>
#include <string.h>

engine engine_make(const model *m, router_kind kind, int64_t most, int32_t sequences) {
    engine e = {.m = m, .router = router_make(m, kind, most, sequences), .past = past_make(m, sequences), .most = most};
    const size_t n = (size_t)most, width = (size_t)m->width, experts = (size_t)m->experts, hidden = (size_t)m->hidden;
    e.x = take(n * width, sizeof(float));
    e.normal = take(n * width, sizeof(float));
    e.wide = take(n * 3 * width, sizeof(float));
    e.logits = take(n * (experts > 256 ? experts : 256), sizeof(float));
    e.hidden = take(n * hidden, sizeof(float));
    e.counts = take(n * (size_t)m->layers, sizeof(int32_t));
    return e;
}

void engine_free(engine *e) {
    float *all[] = {e->x, e->normal, e->wide, e->logits, e->hidden};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(e->counts);
    router_free(&e->router);
    past_free(&e->past);
}

/*
 * What the lists by expert are for: an expert's rows are gathered, multiplied at once, and added to their tokens by weight. Only
 * experts that have rows are looked at, which in a decode step are few.
 */
static void run_experts(engine *e, const moe_layer *l) {
    const model *m = e->m;
    const seqtopk_output *lists = &e->router.out;
    float *gathered = e->wide;
    for (int32_t a = 0; a < *lists->active_count; a++) {
        const int32_t expert = lists->active_experts[a], begin = lists->expert_offsets[expert];
        const int64_t n = lists->expert_offsets[expert + 1] - begin, weights = (int64_t)expert * m->width * m->hidden;
        for (int64_t i = 0; i < n; i++)
            memcpy(gathered + i * m->width, e->normal + (int64_t)lists->expert_tokens[begin + i] * m->width,
                   (size_t)m->width * sizeof(float));
        multiply(e->hidden, gathered, l->up + weights, n, m->width, m->hidden);
        for (int64_t i = 0; i < n * m->hidden; i++)
            e->hidden[i] = e->hidden[i] > 0 ? e->hidden[i] : 0;
        multiply(gathered, e->hidden, l->down + weights, n, m->hidden, m->width);
        for (int64_t i = 0; i < n; i++)
            add_scaled(e->x + (int64_t)lists->expert_tokens[begin + i] * m->width, gathered + i * m->width,
                       lists->weights[lists->expert_slots[begin + i]], m->width);
    }
}

const float *engine_forward(engine *e, const row_batch *rows) {
    const model *m = e->m;
    const int64_t n = rows->n;
    for (int64_t i = 0; i < n; i++)
        memcpy(e->x + i * m->width, m->bytes + (int64_t)rows->bytes[i] * m->width, (size_t)m->width * sizeof(float));
    for (int32_t i = 0; i < m->layers; i++) {
        const moe_layer *l = &m->layer[i];
        normalise(e->normal, e->x, l->before_attention, n, m->width);
        multiply(e->wide, e->normal, l->qkv, n, m->width, 3 * m->width);
        attend(m, &e->past, i, rows, e->wide, e->normal);
        multiply(e->wide, e->normal, l->out, n, m->width, m->width);
        add_scaled(e->x, e->wide, 1, n * m->width);

        normalise(e->normal, e->x, l->before_experts, n, m->width);
        multiply(e->logits, e->normal, l->gate, n, m->width, m->experts);
        router_route(&e->router, i, rows, e->past.sequences, e->logits);
        run_experts(e, l);
        memcpy(e->counts + i * n, e->router.counts, (size_t)n * sizeof *e->counts);
    }
    normalise(e->normal, e->x, m->last, n, m->width);
    multiply(e->logits, e->normal, m->head, n, m->width, 256);
    return e->logits;
}
