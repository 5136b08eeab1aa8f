/* SPDX-License-Identifier: MIT */
/*
 * engine MODEL.npz TEXT [OUT]: bits per byte of a text, by each router. OUT: the figures of each byte, for whoever compares
 * them: for each router in turn float32 bits [bytes], then int32 experts [bytes][layers].
 *
 * The text is cut into sequences as long as those of training. A batch has all of them: whole where they are prefilled, a byte
 * of each where they are decoded.
 */
#include "engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct setting {
    const char *name;
    router_kind kind;
    int is_decoded; /* from the middle of a sequence on if the prompt is taken together, else from its beginning */
} setting;

static const setting ways[] = {{"TopK", ROUTER_TOPK, 0},
                               {"SeqTopK offline, prefilled", ROUTER_OFFLINE, 0},
                               {"SeqTopK online, prefilled", ROUTER_ONLINE, 0},
                               {"SeqTopK online, decoded", ROUTER_ONLINE, 1},
                               {"SeqTopK, half of it a prompt", ROUTER_PROMPT, 1}};

/* What was found of each predicted byte: sequences * length of them. */
typedef struct figures {
    float *bits;
    int32_t *experts; /* [bytes][layers] */
} figures;

/* Bytes [from, to) of all sequences in one forward. */
static void forward(engine *e, const uint8_t *text, int64_t from, int64_t to, figures *found) {
    const int32_t length = e->m->length, layers = e->m->layers;
    const int64_t each = to - from, n = each * e->past.sequences;
    uint8_t *bytes = take((size_t)n, 1);
    int32_t *sequences = take((size_t)n, sizeof *sequences);
    int64_t *positions = take((size_t)n, sizeof *positions);
    for (int64_t i = 0; i < n; i++) {
        sequences[i] = (int32_t)(i / each);
        positions[i] = from + i % each;
        bytes[i] = text[sequences[i] * length + positions[i]];
    }
    const row_batch rows = {n, bytes, sequences, positions};
    const float *logits = engine_forward(e, &rows);
    for (int64_t i = 0; i < n; i++) {
        const int64_t place = sequences[i] * length + positions[i];
        const float *row = logits + i * 256;
        float most = row[0];
        double sum = 0;
        for (int32_t b = 1; b < 256; b++)
            most = fmaxf(most, row[b]);
        for (int32_t b = 0; b < 256; b++)
            sum += exp((double)row[b] - most);
        found->bits[place] = (float)((log(sum) + most - row[text[place + 1]]) / log(2));
        for (int32_t l = 0; l < layers; l++)
            found->experts[place * layers + l] = e->counts[l * n + i];
    }
    free(bytes);
    free(sequences);
    free(positions);
}

static void run(const model *m, const setting *way, const uint8_t *text, int32_t sequences, FILE *out) {
    const int64_t bytes = (int64_t)sequences * m->length, pairs = bytes * m->layers;
    figures found = {take((size_t)bytes, sizeof(float)), take((size_t)pairs, sizeof(int32_t))};
    engine e = engine_make(m, way->kind, bytes, sequences);
    const int64_t prompt = !way->is_decoded ? m->length : way->kind == ROUTER_PROMPT ? m->length / 2 : 0;
    if (prompt)
        forward(&e, text, 0, prompt, &found);
    for (int64_t t = prompt; t < m->length; t++)
        forward(&e, text, t, t + 1, &found);
    double bits = 0, experts = 0;
    for (int64_t i = 0; i < bytes; i++)
        bits += found.bits[i];
    for (int64_t i = 0; i < pairs; i++)
        experts += found.experts[i];
    printf("%-30s %13.4f %16.3f\n", way->name, bits / (double)bytes, experts / (double)pairs);
    if (out && (fwrite(found.bits, sizeof(float), (size_t)bytes, out) != (size_t)bytes ||
                fwrite(found.experts, sizeof(int32_t), (size_t)pairs, out) != (size_t)pairs))
        fail("the figures cannot be written");
    engine_free(&e);
    free(found.bits);
    free(found.experts);
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 4)
        fail("wanted: engine MODEL.npz TEXT [OUT]");
    model m = model_load(argv[1]);
    size_t size;
    uint8_t *text = read_file(argv[2], &size);
    const size_t sequences = size ? (size - 1) / (size_t)m.length : 0;
    if (sequences < 1 || sequences > 4096)
        fail("%s has %zu bytes: wanted are %d to %d", argv[2], size, m.length + 1, 4096 * m.length);
    FILE *out = argc > 3 ? fopen(argv[3], "wb") : NULL;
    if (argc > 3 && !out)
        fail("%s cannot be written", argv[3]);
    printf("%zu bytes in %zu sequences; %d experts, K = %d\n", sequences * (size_t)m.length, sequences, m.experts, m.k);
    printf("%-30s %13s %16s\n", "router", "bits per byte", "experts a token");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        run(&m, &ways[i], text, (int32_t)sequences, out);
    if (out && fclose(out))
        fail("%s cannot be written", argv[3]);
    free(text);
    model_free(&m);
    return 0;
}
