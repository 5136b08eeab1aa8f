/* SPDX-License-Identifier: MIT */
/*
 * Scores of very many floats: every instruction set against the reference, bit for bit. Where arithmetic takes another way
 * on one of them (a quotient without a division, a scale in one instruction), a single float can tell, so that every one is
 * tried where it is likeliest: where results are subnormal, and where 1 + e rounds to the last float below 2. Of the
 * others one in STEP, or with --every each.
 */
#include "bits.h"

#include "src/kernels/registry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXPERTS = 4096, STEP = 61, QUICK = 40 };

static int64_t compared, failed;

static seqtopk_keys_fn *keys_of(int32_t isa) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (seqtopk_registry[i].op == SEQTOPK_OP_keys && seqtopk_registry[i].dtype == SEQTOPK_ROW_f32 &&
            seqtopk_registry[i].isa == isa)
            return (seqtopk_keys_fn *)seqtopk_registry[i].function;
    return NULL;
}

/* The scores of x [EXPERTS], by every instruction set that runs here. */
static void compare(const float *x, int32_t score) {
    static float right[EXPERTS], keys[EXPERTS];
    float zero = 0;
    seqtopk_rows rows = {.logits = x,
                         .stride = sizeof right,
                         .experts = EXPERTS,
                         .score = score,
                         .key = SEQTOPK_KEY_SCORE,
                         .shift = &zero,
                         .lse = &zero};
    keys_of(0)(&rows, 0, 1, right);
    for (int32_t isa = 1; seqtopk_isa_name(isa); isa++) {
        if (!seqtopk_isa_runs(isa) || !keys_of(isa))
            continue;
        keys_of(isa)(&rows, 0, 1, keys);
        compared += EXPERTS;
        for (int e = 0; e < EXPERTS && memcmp(keys, right, sizeof right) != 0; e++)
            if (bits_of(keys[e]) != bits_of(right[e]) && failed++ < 10)
                printf("FAILED: %s: the score (%d) of %a is %a, of the reference %a\n", seqtopk_isa_name(isa),
                       (int)score, (double)x[e], (double)keys[e], (double)right[e]);
    }
}

/* The floats from `least` to `most`, both positive, and if `both` their negatives; one in `step` of them. */
static void try_range(float least, float most, int both, uint32_t step) {
    static float x[EXPERTS];
    for (uint32_t bits = bits_of(least), last = bits_of(most); bits <= last;) {
        for (int e = 0; e < EXPERTS; e++, bits = bits <= last ? bits + step : bits)
            x[e] = float_of(bits <= last ? bits : last);
        for (int sign = both ? 0 : 1; sign < 2; sign++) {
            for (int e = 0; e < EXPERTS && sign; e++)
                x[e] = -x[e];
            compare(x, SEQTOPK_SCORE_SIGMOID);
            compare(x, SEQTOPK_SCORE_SQRTSOFTPLUS);
            if (sign || most <= 88) /* larger is no log-probability */
                compare(x, SEQTOPK_SCORE_SOFTMAX);
        }
    }
}

int main(int argc, char **argv) {
    const int every = argc == 2 && strcmp(argv[1], "--every") == 0,
              quick = argc == 2 && strcmp(argv[1], "--quick") == 0;
    if (argc > 2 || (argc == 2 && !every && !quick)) {
        fprintf(stderr, "Usage: check-scores [--quick | --every]\n");
        return 2;
    }
    const uint32_t dense = quick ? QUICK : 1, thin = every ? 1 : quick ? QUICK * STEP : STEP;
    try_range(64, 110, 0, dense);
    try_range(0x1p-25f, 0x1p-22f, 1, dense);
    try_range(0, 88, 1, thin);
    try_range(88, 3e38f, 1, thin * STEP);
    int32_t skipped = 0;
    for (int32_t isa = 1; seqtopk_isa_name(isa); isa++)
        skipped += !seqtopk_isa_runs(isa);
    if (compared == 0)
        printf("only the reference runs here: skipped\n");
    else
        printf("%" PRId64 " passed, %" PRId64 " failed, %d skipped\n", compared - failed, failed, (int)skipped);
    return failed ? 1 : compared ? 0 : 77;
}
