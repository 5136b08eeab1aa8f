/* SPDX-License-Identifier: MIT */
/*
 * Bytes -> a call, routed by the reference into all outputs, and twice more as the bytes say: by another instruction set,
 * forced kernels, a forced way, in parts, into fewer outputs. Whatever comes: a status, no crash, nothing written beside an
 * output, lists that agree with one another, and the same bits each time.
 */
#include "fuzz.h"
#include "route_call.h"

#include "src/kernels/registry.h"
#include "tests/sheet.h"

#include <stdio.h>
#include <stdlib.h>

const size_t fuzz_longest = 1 << 12;

void fuzz_shape(uint8_t *data, size_t *size, size_t capacity, uint64_t random) {
    (void)data;
    (void)size;
    (void)capacity;
    (void)random;
}

static char context[1024]; /* what is being routed */

static void fail(const char *what) {
    fprintf(stderr, "fuzz: %s: %s\n", what, context);
    abort();
}

/* What is not on a sheet. */
typedef struct beside {
    uint32_t null_weights[FUZZ_TOKENS], margins[FUZZ_TOKENS];
    int32_t runner_ids[FUZZ_TOKENS * FUZZ_RUNNERS];
    int64_t nonfinite[2];
    uint32_t sequence_margins[FUZZ_SEQUENCES];
} beside;

typedef struct result {
    sheet lists;
    beside rest;
    seqtopk_status status;
    int64_t token; /* that an error names */
} result;

/* How a call is routed. */
typedef struct manner {
    const char *isa, *kernel, *way;
    int32_t parts;
    uint32_t wanted;
} manner;

static source *picks; /* where the places of outputs in memory are from */
static uint32_t pick(uint32_t n) { return take(picks, 1) % n; }

static seqtopk_output place_outputs(const fuzz_call *c, const seqtopk_plan *plan, const manner *how, result *r) {
    const int32_t width = seqtopk_max_per_token(plan) + c->wider;
    uint32_t wanted = how->wanted;
    if (c->desc.score != SEQTOPK_SCORE_SOFTMAX)
        wanted &= ~sheet_lse_bit();
    sheet_place(&r->lists, c->in.tokens, fuzz_listed(c), seqtopk_max_selected(plan, c->in.tokens), width,
                c->gap ? width + c->gap : 0, c->padding, wanted, pick);
    memset(&r->rest, 0x5a, sizeof r->rest);
    seqtopk_output out = r->lists.out;
    out.nonfinite = r->rest.nonfinite;
    out.null_weights = c->desc.null_experts > 0 ? (float *)(void *)r->rest.null_weights : NULL;
    if (c->runners) {
        out.margins = (float *)(void *)r->rest.margins;
        out.runner_ids = r->rest.runner_ids;
        out.runners = c->runners;
        out.sequence_margins = c->desc.scope == SEQTOPK_SCOPE_SEQUENCE && !c->in.given_ids
                                   ? (float *)(void *)r->rest.sequence_margins
                                   : NULL;
    }
    return out;
}

static seqtopk_status run(const fuzz_call *c, const seqtopk_plan *plan, const seqtopk_output *out, int32_t parts,
                          seqtopk_error *error) {
    const int64_t sequences = c->in.cu_seqlens || c->in.token_seq ? c->in.sequences : 1;
    const size_t size = seqtopk_scratch_size(plan, c->in.tokens, sequences, parts);
    seqtopk_status status = SEQTOPK_OK;
    uint8_t *scratch = malloc(size ? size : 1);
    if (!scratch)
        fail("no memory");
    if (parts == 1)
        status = seqtopk_route(plan, &c->in, out, scratch, size, error);
    for (int32_t step = 0; parts > 1 && step < seqtopk_route_steps(plan); step++)
        for (int32_t part = parts; part-- > 0;)
            status = seqtopk_route_part(plan, &c->in, out, scratch, size, step, part, parts, error);
    free(scratch);
    return status;
}

/* 0: there is no such plan, *status says why. */
static int route(const fuzz_call *c, const manner *how, result *r) {
    const int at = snprintf(context, sizeof context, "%s %s %s x%d ", how->isa ? how->isa : "-",
                            how->kernel ? how->kernel : "-", how->way ? how->way : "-", (int)how->parts);
    fuzz_call_text(c, context + at, sizeof context - (size_t)at);
    seqtopk_desc desc = c->desc;
    desc.isa = how->isa;
    desc.kernel = how->kernel;
    desc.way = how->way;
    seqtopk_plan *plan = NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    r->status = seqtopk_plan_create(&plan, &desc, &error);
    if (r->status || seqtopk_max_selected(plan, c->in.tokens) < 0 || fuzz_listed(c) < 1) {
        seqtopk_plan_destroy(plan);
        return 0;
    }
    const seqtopk_output out = place_outputs(c, plan, how, r);
    r->status = run(c, plan, &out, how->parts, &error);
    r->token = error.token;
    if (r->status != error.status || (r->status == SEQTOPK_OK) != (error.message[0] == 0))
        fail("the status and the error differ");
    if (sheet_spoilt(&r->lists))
        fail(sheet_spoilt(&r->lists));
    seqtopk_plan_destroy(plan);
    return 1;
}

/* What must hold of lists in themselves. Marked rows are NaN in padded and dense rows alone, and so agree with no list. */
static void check_alone(const fuzz_call *c, const result *r) {
    char why[256];
    if (c->in.on_nonfinite == SEQTOPK_NONFINITE_MARK && r->rest.nonfinite[0] > 0)
        return;
    if (!sheet_agrees(&r->lists, why, sizeof why))
        fail(why);
}

static void compare(const fuzz_call *c, const result *first, const result *other) {
    const char *differs = sheet_difference(&first->lists, &other->lists);
    const size_t tokens = (size_t)c->in.tokens;
    if (!differs && c->desc.null_experts > 0 &&
        memcmp(first->rest.null_weights, other->rest.null_weights, tokens * sizeof(float)))
        differs = "null_weights";
    if (!differs && c->runners &&
        (memcmp(first->rest.margins, other->rest.margins, tokens * sizeof(float)) ||
         memcmp(first->rest.runner_ids, other->rest.runner_ids, tokens * (size_t)c->runners * sizeof(int32_t))))
        differs = "margins or runners";
    if (!differs &&
        memcmp(first->rest.sequence_margins, other->rest.sequence_margins, sizeof first->rest.sequence_margins))
        differs = "sequence_margins";
    if (!differs && memcmp(first->rest.nonfinite, other->rest.nonfinite, sizeof first->rest.nonfinite))
        differs = "nonfinite";
    if (differs)
        fail(differs);
}

/* ------------------------------------------------------------------ manners -- */

/* A kernel that this machine runs, and its plans may refuse; or none. */
static const char *take_kernel(source *s) {
    const seqtopk_row *row = seqtopk_registry + take(s, 2) % (uint32_t)seqtopk_registry_size;
    return seqtopk_isa_runs(row->isa) ? row->name : NULL;
}

static manner take_manner(source *s) {
    manner how = {.parts = 1 + (int32_t)take_below(s, FUZZ_PARTS), .wanted = SHEET_ALL};
    const uint32_t what = take(s, 1);
    if (what & 1) {
        const char *name = seqtopk_isa_name((int32_t)(what / 16 % 4));
        how.isa = name && seqtopk_isa_usable(name) ? name : NULL;
    } else {
        how.kernel = take_kernel(s);
    }
    if (what % 16 == 2) {
        seqtopk_way way = SEQTOPK_WAY_INIT;
        (void)seqtopk_way_get((int32_t)take_below(s, (uint32_t)seqtopk_way_count()), &way);
        how.way = way.name;
    }
    if (what % 16 >= 8)
        how.wanted = take(s, 4);
    return how;
}

static void try_another(const fuzz_call *c, manner how, const result *first) {
    static result other;
    if (!other.lists.memory[0].map)
        sheet_open(&other.lists, FUZZ_TOKENS, FUZZ_EXPERTS, FUZZ_CELLS, FUZZ_CELLS + 8 * FUZZ_TOKENS);
    if (first->status)
        how.wanted = SHEET_ALL; /* of which one may be what is wrong */
    int made = route(c, &how, &other);
    if (!made && other.status == SEQTOPK_E_KERNEL) { /* what is forced does not apply */
        how.kernel = how.way = NULL;
        made = route(c, &how, &other);
    }
    if (how.way && other.status == SEQTOPK_E_KERNEL) /* to this call */
        return;
    if (!made || other.status != first->status || other.token != first->token)
        fail("another status");
    if (!first->status)
        compare(c, first, &other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static fuzz_call call;
    static result first;
    source s = {data, size};
    manner how[2], plain = {.isa = "ref", .parts = 1, .wanted = SHEET_ALL};
    for (int i = 0; i < 2; i++)
        how[i] = take_manner(&s);
    source places = {data, size};
    picks = &places;
    if (!first.lists.memory[0].map)
        sheet_open(&first.lists, FUZZ_TOKENS, FUZZ_EXPERTS, FUZZ_CELLS, FUZZ_CELLS + 8 * FUZZ_TOKENS);
    if (fuzz_take_call(&s, &call) && route(&call, &plain, &first)) {
        if (!first.status)
            check_alone(&call, &first);
        for (int i = 0; i < 2; i++)
            try_another(&call, how[i], &first);
    }
    fuzz_free_call(&call);
    return 0;
}
