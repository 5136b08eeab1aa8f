/* SPDX-License-Identifier: MIT */
/* Programs that were compiled with an older header than the library's, or with a newer one. */
#include "src/abi.h"
#include "src/status.h"
#include "unit.h"

#include <stdio.h>

enum { ROOM = 8192, CANARY = 0xaa, GROWN = 64 };

/* A struct as a program has it, and canaries behind it. */
typedef union sized {
    uint32_t struct_size;
    max_align_t align;
    unsigned char bytes[ROOM];
} sized;

/* ----------------------------------------------------------------- calls -- */

/* A call that takes or fills one struct of a program; all else in it is good. */
typedef seqtopk_status call_fn(unit *u, void *theirs);

static seqtopk_status with_desc(unit *u, void *theirs) {
    seqtopk_plan *plan = NULL;
    const seqtopk_status status = seqtopk_plan_create(&plan, theirs, &u->error);
    seqtopk_plan_destroy(plan);
    return status;
}

static seqtopk_status with_input(unit *u, void *theirs) {
    return seqtopk_route(u->plan, theirs, &u->out, u->scratch, UNIT_SCRATCH, &u->error);
}

static seqtopk_status with_output(unit *u, void *theirs) {
    return seqtopk_route(u->plan, &u->in, theirs, u->scratch, UNIT_SCRATCH, &u->error);
}

static void in_turn(void *context, int32_t n, void (*task)(void *arg, int32_t i), void *arg) {
    (void)context;
    for (int32_t i = 0; i < n; i++)
        task(arg, i);
}

static seqtopk_status with_parallel(unit *u, void *theirs) {
    return seqtopk_route_parallel(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, theirs, &u->error);
}

static seqtopk_status with_team(unit *u, void *theirs) {
    return seqtopk_route_team(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, theirs, NULL, &u->error);
}

static seqtopk_status with_exchange(unit *u, void *theirs) {
    static const int32_t offsets[] = {0, 1}, ids[] = {0};
    return seqtopk_exchange_make(theirs, 1, offsets, ids, u->scratch, UNIT_SCRATCH, &u->error);
}

static seqtopk_status with_cache_desc(unit *u, void *theirs) {
    seqtopk_cache *cache;
    const seqtopk_status status = seqtopk_cache_create(&cache, theirs, &u->error);
    seqtopk_cache_destroy(cache);
    return status;
}

/* A cache of what `unit` has, but online. */
static seqtopk_cache *online(unit *u) {
    seqtopk_cache_desc desc = SEQTOPK_CACHE_DESC_INIT;
    seqtopk_cache *cache = NULL;
    desc.layers = desc.sequences = 1;
    desc.plan = u->plan;
    cr_assert_eq(seqtopk_cache_create(&cache, &desc, &u->error), SEQTOPK_OK, "%s", u->error.message);
    return cache;
}

static seqtopk_status with_cache_rows(unit *u, void *theirs) {
    seqtopk_cache *cache = online(u);
    u->out.capacity = UNIT_CELLS;
    const seqtopk_status status =
        seqtopk_cache_step(cache, theirs, &u->in, &u->out, u->scratch, UNIT_SCRATCH, &u->error);
    seqtopk_cache_destroy(cache);
    return status;
}

static seqtopk_status with_cache_stats(unit *u, void *theirs) {
    seqtopk_cache *cache = online(u);
    const seqtopk_status status = seqtopk_cache_get_stats(cache, -1, -1, theirs);
    seqtopk_cache_destroy(cache);
    return status;
}

static seqtopk_status with_failure(unit *u, void *theirs) {
    seqtopk_desc desc = u->desc;
    seqtopk_plan *plan;
    desc.experts = -1;
    return seqtopk_plan_create(&plan, &desc, theirs);
}

static seqtopk_status with_success(unit *u, void *theirs) {
    return seqtopk_route(u->plan, &u->in, &u->out, u->scratch, UNIT_SCRATCH, theirs);
}

static seqtopk_status with_kernel(unit *u, void *theirs) {
    (void)u;
    return seqtopk_kernel_get(1, theirs);
}

static seqtopk_status with_preset(unit *u, void *theirs) {
    (void)u;
    return seqtopk_preset_get(1, theirs);
}

static seqtopk_status with_choice(unit *u, void *theirs) { return seqtopk_plan_choice(u->plan, 1, theirs); }

static seqtopk_status with_tuning_info(unit *u, void *theirs) {
    (void)u;
    return seqtopk_tuning_get_info(seqtopk_tuning_none(), theirs);
}

/* Whether a size is one that programs may have. */
static int is_size(size_t size, size_t first) { return size >= first && size <= 4096 && size % sizeof(void *) == 0; }

/* ------------------------------------------------------- structs taken in -- */

/* `fresh` as a program has it whose struct has so many bytes: what is new to the library is zero. */
static sized *taken(const void *fresh, size_t present, size_t size) {
    static sized s;
    memset(&s, CANARY, sizeof s);
    if (size > present)
        memset(s.bytes, 0, size < ROOM ? size : ROOM);
    memcpy(s.bytes, fresh, size < present ? size : present);
    s.struct_size = (uint32_t)size;
    return &s;
}

static seqtopk_scope scope_of(const char *name) {
    return strncmp(name, "cache", 5) == 0 ? SEQTOPK_SCOPE_ONLINE : SEQTOPK_SCOPE_SEQUENCE;
}

static void expect_taken(const char *name, call_fn *call, const void *fresh, size_t present, size_t first) {
    unit *u = unit_new();
    u->desc.scope = scope_of(name);
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    for (size_t size = 0; size <= present + GROWN; size++) {
        sized *s = taken(fresh, present, size);
        const sized before = *s;
        const seqtopk_status status = call(u, s);
        cr_expect_eq(status, is_size(size, first) ? SEQTOPK_OK : SEQTOPK_E_STRUCT, "%s of %zu bytes: %s", name, size,
                     u->error.message);
        cr_expect_eq(memcmp(s, &before, sizeof before), 0, "%s of %zu bytes was written to", name, size);
        for (size_t byte = present; byte < size && is_size(size, first); byte++) {
            char where[32];
            snprintf(where, sizeof where, "(byte %zu)", byte);
            s->bytes[byte] = 1;
            cr_expect_eq(call(u, s), SEQTOPK_E_UNSUPPORTED, "%s of %zu bytes, byte %zu", name, size, byte);
            cr_expect(strstr(u->error.message, name) && strstr(u->error.message, where), "%s", u->error.message);
            s->bytes[byte] = 0;
        }
    }
    cr_expect_eq(call(u, taken(fresh, present, 4096)), SEQTOPK_OK, "%s: %s", name, u->error.message);
    cr_expect_eq(call(u, taken(fresh, present, 4096 + sizeof(void *))), SEQTOPK_E_STRUCT, "%s", name);
    cr_expect_eq(call(u, taken(fresh, present, UINT32_MAX)), SEQTOPK_E_STRUCT, "%s", name);
    unit_free(u);
}

Test(abi, structs_taken) {
    unit *u = unit_new();
    seqtopk_parallel parallel = SEQTOPK_PARALLEL_INIT;
    parallel.threads = 2;
    parallel.parallel_for = in_turn;
#define EXPECT_TAKEN(name, fresh) expect_taken(#name, with_##name, fresh, sizeof(seqtopk_##name), SEQTOPK_FIRST_##name)
    EXPECT_TAKEN(desc, &u->desc);
    EXPECT_TAKEN(input, &u->in);
    EXPECT_TAKEN(output, &u->out);
    EXPECT_TAKEN(parallel, &parallel);
    const seqtopk_team team = {.struct_size = sizeof team, .size = 1};
    EXPECT_TAKEN(team, &team);
    static const int32_t places[] = {0};
    seqtopk_exchange exchange = SEQTOPK_EXCHANGE_INIT;
    exchange.experts = exchange.destinations = 1;
    exchange.places = places;
    EXPECT_TAKEN(exchange, &exchange);
    u->desc.scope = SEQTOPK_SCOPE_ONLINE;
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    const seqtopk_cache_rows rows = SEQTOPK_CACHE_ROWS_INIT;
    seqtopk_cache_desc cache = SEQTOPK_CACHE_DESC_INIT;
    cache.layers = cache.sequences = 1;
    cache.plan = u->plan;
    EXPECT_TAKEN(cache_desc, &cache);
    EXPECT_TAKEN(cache_rows, &rows);
#undef EXPECT_TAKEN
    unit_free(u);
}

/* ------------------------------------------------------- structs filled in -- */

static sized *filled(unit *u, call_fn *call, size_t size, seqtopk_status *status) {
    static sized s[2];
    static int turn;
    sized *theirs = s + (turn ^= 1);
    memset(theirs, CANARY, sizeof *theirs);
    theirs->struct_size = (uint32_t)size;
    *status = call(u, theirs);
    return theirs;
}

static int is_untouched(const sized *s, size_t from) {
    for (size_t i = from; i < ROOM; i++)
        if (s->bytes[i] != CANARY)
            return 0;
    return 1;
}

/* `known`: the bytes that are fields; `good`: what the call returns. */
static void expect_filled(const char *name, call_fn *call, seqtopk_status good, size_t known, size_t present,
                          size_t first) {
    unit *u = unit_new();
    seqtopk_status status;
    u->desc.scope = scope_of(name);
    cr_assert_eq(unit_plan(u), SEQTOPK_OK);
    const sized whole = *filled(u, call, present, &status);
    cr_assert_eq(status, good, "%s", name);
    cr_assert(!is_untouched(&whole, sizeof(uint32_t)), "%s is filled in", name);
    for (size_t size = 0; size <= present + GROWN; size++) {
        const sized *s = filled(u, call, size, &status);
        const int fits = is_size(size, first);
        cr_expect_eq(status, fits ? good : SEQTOPK_E_STRUCT, "%s of %zu bytes", name, size);
        cr_expect_eq(s->struct_size, size, "%s of %zu bytes: its struct_size stays", name, size);
        cr_expect(is_untouched(s, !fits            ? sizeof(uint32_t)
                                  : size < present ? size
                                                   : present),
                  "%s of %zu bytes is written to where it must not be", name, size);
        if (fits)
            cr_expect_eq(memcmp(s->bytes + sizeof(uint32_t), whole.bytes + sizeof(uint32_t),
                                (size < known ? size : known) - sizeof(uint32_t)),
                         0, "%s of %zu bytes: what both know is filled in", name, size);
    }
    cr_expect(is_untouched(filled(u, call, 4096, &status), present) && status == good, "%s", name);
    filled(u, call, 4096 + sizeof(void *), &status);
    cr_expect_eq(status, SEQTOPK_E_STRUCT, "%s", name);
    filled(u, call, UINT32_MAX, &status);
    cr_expect_eq(status, SEQTOPK_E_STRUCT, "%s", name);
    unit_free(u);
}

Test(abi, structs_filled) {
#define EXPECT_FILLED(name, call, good, last)                                                                          \
    expect_filled(#name, call, good, SEQTOPK_END_OF(seqtopk_##name, last), sizeof(seqtopk_##name), SEQTOPK_FIRST_##name)
    EXPECT_FILLED(error, with_failure, SEQTOPK_E_VALUE, message);
    EXPECT_FILLED(error, with_success, SEQTOPK_OK, message);
    EXPECT_FILLED(preset, with_preset, SEQTOPK_OK, second_source);
    EXPECT_FILLED(kernel, with_kernel, SEQTOPK_OK, usable);
    EXPECT_FILLED(choice, with_choice, SEQTOPK_OK, tokens_from);
    EXPECT_FILLED(tuning_info, with_tuning_info, SEQTOPK_OK, reason);
    EXPECT_FILLED(cache_stats, with_cache_stats, SEQTOPK_OK, most_read);
#undef EXPECT_FILLED
}

/* ------------------------------------------------- a struct that grew twice -- */

typedef struct grown {
    uint32_t struct_size;
    int32_t first;
    int64_t second, third, fourth; /* each of a later version */
} grown;
enum { FIRST_GROWN = offsetof(grown, second) };

Test(abi, every_version_of_a_grown_struct) {
    for (size_t size = 0; size <= sizeof(grown) + GROWN; size++) {
        const grown all = {(uint32_t)size, 1, 2, 3, 4};
        grown ours;
        memset(&ours, CANARY, sizeof ours);
        const seqtopk_status status =
            seqtopk_take_struct(&ours, sizeof ours, FIRST_GROWN, taken(&all, sizeof all, size), "grown", NULL);
        cr_expect_eq(status, is_size(size, FIRST_GROWN) ? SEQTOPK_OK : SEQTOPK_E_STRUCT, "%zu bytes", size);
        if (status)
            continue;
        cr_expect_eq(ours.first, 1);
        cr_expect_eq(ours.second, size > offsetof(grown, second) ? 2 : 0, "%zu bytes", size);
        cr_expect_eq(ours.third, size > offsetof(grown, third) ? 3 : 0, "%zu bytes", size);
        cr_expect_eq(ours.fourth, size > offsetof(grown, fourth) ? 4 : 0, "%zu bytes", size);

        static sized s;
        memset(&s, CANARY, sizeof s);
        s.struct_size = (uint32_t)size;
        seqtopk_give_struct(&s, &all, sizeof all);
        const size_t both = size < sizeof all ? size : sizeof all;
        cr_expect_eq(memcmp(&s, &all, both), 0, "%zu bytes", size);
        cr_expect(is_untouched(&s, both), "%zu bytes", size);
    }
}

/* ---------------------------------------------------------------- offsets -- */

/* Where the fields of programs compiled so far are, with pointers of 8 bytes: never to change. */
Test(abi, fields_stay) {
    if (sizeof(void *) != 8)
        cr_skip("offsets are those of 64-bit programs");
#define STAYS(type, field, offset) cr_expect_eq(offsetof(seqtopk_##type, field), offset, #type "." #field)
    STAYS(error, status, 4);
    STAYS(error, token, 8);
    STAYS(error, message, 16);
    STAYS(desc, experts, 4);
    STAYS(desc, top_k, 8);
    STAYS(desc, scope, 12);
    STAYS(desc, score, 16);
    STAYS(desc, norm, 20);
    STAYS(desc, norm_eps, 24);
    STAYS(desc, norm_floor, 28);
    STAYS(desc, scale, 32);
    STAYS(desc, norm_skip_top1, 36);
    STAYS(desc, min_experts, 40);
    STAYS(desc, max_experts, 44);
    STAYS(desc, groups, 48);
    STAYS(desc, group_top_k, 52);
    STAYS(desc, group_score, 56);
    STAYS(desc, group_n, 60);
    STAYS(desc, dtype, 64);
    STAYS(desc, order, 68);
    STAYS(desc, tokens, 72);
    STAYS(desc, threads, 80);
    STAYS(desc, isa, 88);
    STAYS(desc, kernel, 96);
    STAYS(desc, tuning, 104);
    STAYS(desc, way, 112);
    STAYS(desc, min_p, 120);
    STAYS(desc, top_p, 124);
    STAYS(desc, group_quota, 128);
    STAYS(desc, key_from, 132);
    STAYS(desc, logit_scale, 136);
    STAYS(desc, logit_softcap, 140);
    STAYS(desc, null_experts, 144);
    STAYS(desc, shared_experts, 148);
    STAYS(desc, shared_weight, 152);
    STAYS(desc, norm_jitter, 156);
    STAYS(preset, is_biased, 4);
    STAYS(preset, name, 8);
    STAYS(preset, also, 16);
    STAYS(preset, note, 24);
    STAYS(preset, source, 32);
    STAYS(preset, numbers, 40);
    STAYS(preset, second_source, 48);
    STAYS(input, sequences, 4);
    STAYS(input, logits, 8);
    STAYS(input, row_stride, 16);
    STAYS(input, tokens, 24);
    STAYS(input, cu_seqlens, 32);
    STAYS(input, token_mask, 40);
    STAYS(input, bias, 48);
    STAYS(input, given_ids, 56);
    STAYS(input, given_offsets, 64);
    STAYS(input, given_width, 72);
    STAYS(input, on_nonfinite, 76);
    STAYS(input, expert_factors, 80);
    STAYS(input, token_seq, 88);
    STAYS(output, padding, 4);
    STAYS(output, token_offsets, 8);
    STAYS(output, expert_ids, 16);
    STAYS(output, weights, 24);
    STAYS(output, expert_offsets, 32);
    STAYS(output, expert_tokens, 40);
    STAYS(output, expert_slots, 48);
    STAYS(output, capacity, 56);
    STAYS(output, padded_ids, 64);
    STAYS(output, padded_ids64, 72);
    STAYS(output, padded_weights, 80);
    STAYS(output, padded_stride, 88);
    STAYS(output, padded_width, 96);
    STAYS(output, block_size, 100);
    STAYS(output, block_slots, 104);
    STAYS(output, block_experts, 112);
    STAYS(output, block_total, 120);
    STAYS(output, routing_map, 128);
    STAYS(output, routing_probs, 136);
    STAYS(output, row_lse, 144);
    STAYS(output, selected, 152);
    STAYS(output, ways, 160);
    STAYS(output, fallbacks, 168);
    STAYS(output, nonfinite, 176);
    STAYS(output, block_capacity, 184);
    STAYS(output, padded_ids16, 192);
    STAYS(output, padded_ids8, 200);
    STAYS(output, pair_tokens, 208);
    STAYS(output, fill_tail, 216);
    STAYS(output, pair_places, 224);
    STAYS(output, expert_ends, 232);
    STAYS(output, expert_counts, 240);
    STAYS(output, active_experts, 248);
    STAYS(output, active_count, 256);
    STAYS(output, runner_ids, 264);
    STAYS(output, margins, 272);
    STAYS(output, runners, 280);
    STAYS(output, null_weights, 288);
    STAYS(output, sequence_margins, 296);
    STAYS(cache_desc, layers, 4);
    STAYS(cache_desc, plan, 8);
    STAYS(cache_desc, plans, 16);
    STAYS(cache_desc, sequences, 24);
    STAYS(cache_desc, mode, 28);
    STAYS(cache_desc, max_tokens, 32);
    STAYS(cache_desc, max_bytes, 40);
    STAYS(cache_desc, threshold, 48);
    STAYS(cache_desc, is_ledger, 52);
    STAYS(cache_desc, rollback, 56);
    STAYS(cache_rows, layer, 4);
    STAYS(cache_rows, sequences, 8);
    STAYS(cache_rows, positions, 16);
    STAYS(cache_rows, take, 24);
    STAYS(cache_stats, tokens, 8);
    STAYS(cache_stats, budget, 16);
    STAYS(cache_stats, pairs, 24);
    STAYS(cache_stats, bytes, 32);
    STAYS(cache_stats, shared_bytes, 40);
    STAYS(cache_stats, doubtful, 48);
    STAYS(cache_stats, most_read, 56);
    STAYS(parallel, threads, 4);
    STAYS(parallel, parallel_for, 8);
    STAYS(parallel, context, 16);
    STAYS(kernel, revision, 4);
    STAYS(kernel, name, 8);
    STAYS(kernel, op, 16);
    STAYS(kernel, dtype, 24);
    STAYS(kernel, isa, 32);
    STAYS(kernel, algorithm, 40);
    STAYS(kernel, about, 48);
    STAYS(kernel, usable, 56);
    STAYS(way, instead, 4);
    STAYS(way, name, 8);
    STAYS(way, about, 16);
    STAYS(choice, contenders, 4);
    STAYS(choice, op, 8);
    STAYS(choice, kernel, 16);
    STAYS(choice, why, 24);
    STAYS(choice, tokens_from, 32);
    STAYS(tuning_info, shapes, 4);
    STAYS(tuning_info, dropped, 8);
    STAYS(tuning_info, path, 16);
    STAYS(tuning_info, reason, 24);
#undef STAYS
}

/* How large structs are now: who adds a field says so here, and in docs/changelog.md. */
Test(abi, sizes_are_known) {
    if (sizeof(void *) != 8)
        cr_skip("sizes are those of 64-bit programs");
#define SIZE(name, bytes)                                                                                              \
    cr_expect_eq(sizeof(seqtopk_##name), bytes, "seqtopk_" #name " has %zu", sizeof(seqtopk_##name))
    SIZE(error, 256);
    SIZE(desc, 160);
    SIZE(preset, 56);
    SIZE(input, 96);
    SIZE(output, 304);
    SIZE(parallel, 24);
    SIZE(team, 40);
    SIZE(cache_desc, 64);
    SIZE(cache_rows, 32);
    SIZE(cache_stats, 64);
    SIZE(kernel, 64);
    SIZE(way, 24);
    SIZE(choice, 40);
    SIZE(tuning_info, 32);
#undef SIZE
}

/* Numbers that programs have compiled in: never to change. */
Test(abi, numbers_stay) {
#define STAYS(name, value) cr_expect_eq((int)SEQTOPK_##name, value, #name)
    STAYS(OK, 0);
    STAYS(E_NULL, 1);
    STAYS(E_STRUCT, 2);
    STAYS(E_VALUE, 3);
    STAYS(E_SHAPE, 4);
    STAYS(E_OVERFLOW, 5);
    STAYS(E_CAPACITY, 6);
    STAYS(E_NONFINITE, 7);
    STAYS(E_UNSUPPORTED, 8);
    STAYS(E_ISA, 9);
    STAYS(E_KERNEL, 10);
    STAYS(E_MEMORY, 11);
    STAYS(E_FILE, 12);
    STAYS(E_TUNING, 13);
    STAYS(E_TEAM, 14);
    STAYS(SCOPE_SEQUENCE, 0);
    STAYS(SCOPE_TOKEN, 1);
    STAYS(SCOPE_ONLINE, 2);
    STAYS(SCORE_SOFTMAX, 0);
    STAYS(SCORE_SIGMOID, 1);
    STAYS(SCORE_SQRTSOFTPLUS, 2);
    STAYS(SCORE_LOGITS, 3);
    STAYS(NORM_DEFAULT, 0);
    STAYS(NORM_NONE, 1);
    STAYS(NORM_SUM, 2);
    STAYS(NORM_SOFTMAX, 3);
    STAYS(NORM_SPARSEMIXER, 4);
    STAYS(KEY_FROM_SCORE, 0);
    STAYS(KEY_FROM_LOGIT, 1);
    STAYS(GROUP_MAX, 0);
    STAYS(GROUP_TOP2, 1);
    STAYS(GROUP_TOPN, 2);
    STAYS(DTYPE_F32, 0);
    STAYS(DTYPE_BF16, 1);
    STAYS(DTYPE_F16, 2);
    STAYS(ORDER_EXPERT, 0);
    STAYS(ORDER_RANK, 1);
    STAYS(ORDER_GIVEN, 2);
    STAYS(NONFINITE_ERROR, 0);
    STAYS(NONFINITE_DROP, 1);
    STAYS(NONFINITE_MARK, 2);
    STAYS(STRIDE_BROADCAST, -1);
    STAYS(PAD_MINUS_ONE, 0);
    STAYS(PAD_EXPERTS, 1);
    STAYS(PAD_DISTINCT, 2);
    STAYS(PAD_FIRST, 3);
    STAYS(FALLBACK_NONE, 0);
    STAYS(FALLBACK_TIES, 1);
    STAYS(FALLBACK_SAMPLE, 2);
    STAYS(FALLBACK_FEW, 3);
    STAYS(TAKE_CAUSAL, 0);
    STAYS(TAKE_JOINT, 1);
    STAYS(CACHE_EXACT, 0);
    STAYS(CACHE_THRESHOLD, 1);
    STAYS(CACHE_COMPACT, 2);
    STAYS(PARITY_HUGGING_FACE, 0);
    STAYS(PARITY_VLLM, 1);
    STAYS(PARITY_LLAMA_CPP, 2);
#undef STAYS
}
