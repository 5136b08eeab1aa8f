/* SPDX-License-Identifier: MIT */
#include "cases.h"

#include <string.h>

/* ----------------------------------------------------------------- memory -- */

random_state *case_random;
static guard guards[CASE_SLOTS];

/* One buffer in four is elsewhere than against the page behind it, so that most steps too far trap at once. */
static void *place_somewhere(guard *g, size_t size, size_t element) {
    const size_t off = random_below(case_random, 4) ? 0 : element * (1 + random_below(case_random, 15));
    const guard_side side = random_below(case_random, 4) ? GUARD_END : GUARD_BEGIN;
    return guard_place(g, size, side, off);
}

void *case_memory(case_slot slot, size_t count, size_t element) {
    enum { SPARE = 1 << 15, LINES = 3 * 64 };
    guard *const g = guards + slot;
    const size_t size = count * element;
    if (g->room < size + SPARE) {
        if (g->map)
            guard_close(g);
        guard_open(g, 2 * size + SPARE);
    }
    return case_random ? place_somewhere(g, size, element) : guard_place(g, size, GUARD_BEGIN, (size_t)slot * LINES);
}

void *case_copy(case_slot slot, const void *from, size_t count, size_t element) {
    void *to = case_memory(slot, count, element);
    if (count)
        memcpy(to, from, count * element);
    return to;
}

void case_freeze(case_slot slot) { guard_freeze(guards + slot); }

size_t case_size(case_slot slot) { return guards[slot].size; }

int case_intact(void) {
    int intact = 1;
    for (int i = 0; i < CASE_SLOTS; i++)
        intact &= !guards[i].map || guard_intact(guards + i);
    return intact;
}

void case_close(void) {
    for (int i = 0; i < CASE_SLOTS; i++)
        if (guards[i].map)
            guard_close(guards + i);
}

/* ----------------------------------------------------- parts of the cases -- */

static size_t cells(const op_case *c) { return (size_t)(c->last - c->first) * (size_t)c->experts; }

static void place_normalisers(op_case *c) {
    c->rows.shift = case_memory(CASE_SHIFT, (size_t)c->tokens, sizeof(float));
    c->rows.lse = case_memory(CASE_LSE, (size_t)c->tokens, sizeof(float));
}

/* `counts` are as many as the op is given: no kernel may count on more. */
static void place_candidates(op_case *c, size_t counts) {
    const size_t places = (size_t)c->capacity + SEQTOPK_CANDIDATES_SLACK;
    c->candidates.capacity = c->capacity;
    c->candidates.keys = case_memory(CASE_CANDIDATE_KEYS, places, sizeof(float));
    c->candidates.ids = case_memory(CASE_CANDIDATE_IDS, places, sizeof(uint16_t));
    c->candidates.counts = case_memory(CASE_COUNTS, counts, sizeof(int32_t));
    c->candidates.work = case_memory(CASE_COLLECT_WORK, SEQTOPK_COLLECT_WORK((size_t)c->experts), sizeof(uint64_t));
}

/* Of kernels that go on with what others caught, which stands `lead` places behind the beginning. */
static void place_caught(op_case *c, int64_t lead) {
    const size_t places = (size_t)(c->caught.size + lead) + SEQTOPK_CANDIDATES_SLACK;
    c->lead = lead;
    c->candidates.capacity = c->caught.size + lead;
    c->candidates.keys = case_memory(CASE_CANDIDATE_KEYS, places, sizeof(float));
    c->candidates.ids = case_memory(CASE_CANDIDATE_IDS, places, sizeof(uint16_t));
    c->candidates.counts = case_memory(CASE_COUNTS, (size_t)c->tokens, sizeof(int32_t));
}

void case_place_lists(op_case *c) {
    c->lists.offsets = case_memory(CASE_OFFSETS, (size_t)c->tokens, sizeof(int32_t));
    c->lists.ids = case_memory(CASE_IDS, (size_t)c->end, sizeof(int32_t));
    c->lists.keys = case_memory(CASE_LIST_KEYS, (size_t)c->end, sizeof(float));
}

static void place_values(op_case *c, size_t n) { c->values = case_memory(CASE_VALUES, n, sizeof(float)); }

static void place_numbers(op_case *c) { c->numbers = case_memory(CASE_NUMBERS, (size_t)c->experts, sizeof(int32_t)); }

static void copy(void *to, const void *from, size_t bytes) {
    if (bytes && from && to)
        memcpy(to, from, bytes);
}

void case_begin(op_case *c) {
    const size_t caught = (size_t)c->caught.size;
    c->at = c->from;
    c->candidates.size = c->caught.size;
    copy(c->candidates.keys ? c->candidates.keys + c->lead : NULL, c->caught.keys, caught * sizeof *c->candidates.keys);
    copy(c->candidates.ids ? c->candidates.ids + c->lead : NULL, c->caught.ids, caught * sizeof *c->candidates.ids);
    copy(c->candidates.counts, c->caught.counts, (size_t)c->tokens * sizeof *c->candidates.counts);
    copy(c->values ? (void *)c->values : c->numbers, c->begin, case_size(c->values ? CASE_VALUES : CASE_NUMBERS));
}

/* ---------------------------------------------------------------- the ops -- */

static void place_lse(op_case *c) { place_normalisers(c); }

static void call_lse(op_case *c, seqtopk_lse_fn *kernel) { c->returned = kernel(&c->rows, c->first, c->last); }

static void place_prepare_logits(op_case *c) { place_values(c, cells(c)); }

static void call_prepare_logits(op_case *c, seqtopk_prepare_logits_fn *kernel) {
    kernel(&c->rows, c->first, c->last, c->scale, c->softcap, c->values);
}

static void place_keys(op_case *c) { place_values(c, cells(c)); }

static void call_keys(op_case *c, seqtopk_keys_fn *kernel) { kernel(&c->rows, c->first, c->last, c->values); }

static void place_mask_groups(op_case *c) {
    place_values(c, cells(c));
    c->work = case_memory(CASE_WORK, 2 * (size_t)c->experts, sizeof(float));
}

static void call_mask_groups(op_case *c, seqtopk_mask_groups_fn *kernel) {
    for (size_t i = 0; i < cells(c); i += (size_t)c->experts)
        kernel((c->scores ? c->scores : c->values) + i, c->values + i, c->experts, c->groups, c->group_n,
               c->group_top_k, c->work);
}

static void place_collect_logits(op_case *c) {
    place_normalisers(c);
    place_candidates(c, (size_t)c->tokens);
}

static void call_collect_logits(op_case *c, seqtopk_collect_logits_fn *kernel) {
    c->returned = kernel(&c->rows, c->first, c->last, c->low, c->min, &c->candidates);
}

static void place_collect_short(op_case *c) {
    place_normalisers(c);
    place_candidates(c, (size_t)c->tokens);
    c->work = case_memory(CASE_WORK, 16 * (size_t)(c->last - c->first + 4), sizeof(float));
}

static void call_collect_short(op_case *c, seqtopk_collect_short_fn *kernel) {
    c->returned = kernel(&c->rows, c->first, c->last, c->budget, c->select, c->work, &c->low, &c->candidates);
}

static void place_topk_logits(op_case *c) {
    place_normalisers(c);
    place_candidates(c, 0);
    case_place_lists(c);
}

static void call_topk_logits(op_case *c, seqtopk_topk_logits_fn *kernel) {
    c->returned = kernel(&c->rows, c->first, c->last, c->top_k, &c->candidates, &c->lists, &c->at, c->end);
}

static void place_scoring(op_case *c) {
    const size_t padded = ((size_t)c->experts + 15) / 16 * 16;
    place_normalisers(c);
    c->work = case_memory(CASE_WORK, (size_t)c->fit * padded, sizeof(float));
    c->values = case_memory(CASE_VALUES, padded, sizeof(float));
    c->numbers_work = case_memory(CASE_NUMBERS_WORK, (size_t)c->experts + 48, sizeof(uint16_t));
}

static seqtopk_scoring scoring_of(const op_case *c) {
    return (seqtopk_scoring){.groups = c->groups,
                             .group_n = c->group_n,
                             .group_top_k = c->group_top_k,
                             .keys = c->work,
                             .keys_size = (int64_t)case_size(CASE_WORK) / (int64_t)sizeof(float),
                             .row = c->values,
                             .ids = (uint16_t *)c->numbers_work,
                             .row_keys = c->row_keys,
                             .list_row = c->list_row,
                             .context = c};
}

static void place_topk_scores(op_case *c) {
    const size_t end = (size_t)c->end + SEQTOPK_CANDIDATES_SLACK;
    place_scoring(c);
    case_place_lists(c);
    c->lists.scores = c->wants_scores ? case_memory(CASE_NOTE, end, sizeof(float)) : NULL;
}

static void call_topk_scores(op_case *c, seqtopk_topk_scores_fn *kernel) {
    const seqtopk_scoring how = scoring_of(c);
    c->returned = kernel(&c->rows, c->first, c->last, c->top_k, &how, &c->lists, &c->at, c->end);
}

static void place_collect_scores(op_case *c) {
    place_scoring(c);
    place_candidates(c, (size_t)c->tokens);
}

static void call_collect_scores(op_case *c, seqtopk_collect_scores_fn *kernel) {
    const seqtopk_scoring how = scoring_of(c);
    c->returned = kernel(&c->rows, c->first, c->last, c->low, c->min, &how, &c->candidates);
}

static void place_collect_keys(op_case *c) { place_candidates(c, (size_t)c->tokens); }

static void call_collect_keys(op_case *c, seqtopk_collect_keys_fn *kernel) {
    kernel(c->keys, c->experts, c->first, c->last, c->low, &c->candidates);
}

/* Without `keys`, those that begin in the work: they are selected from in place. */
static void place_select_keys(op_case *c) { place_values(c, (size_t)c->n); }

static void call_select_keys(op_case *c, seqtopk_select_keys_fn *kernel) {
    c->kth = kernel(c->keys ? c->keys : c->values, c->n, c->k, c->values);
}

static void place_topk_row(op_case *c) {
    c->ids = case_memory(CASE_IDS, (size_t)((c->last - c->first) * c->top_k), sizeof(int32_t));
}

static void call_topk_row(op_case *c, seqtopk_topk_row_fn *kernel) {
    c->returned = 0;
    for (size_t i = 0; i < cells(c); i += (size_t)c->experts)
        c->returned += kernel(c->keys + i, c->experts, c->top_k, c->ids + c->returned);
}

static void place_bound_candidates(op_case *c) {
    place_caught(c, SEQTOPK_BOUND_LEAD);
    c->candidates.order = case_memory(
        CASE_CANDIDATE_ORDER, (size_t)c->caught.size + SEQTOPK_BOUND_LEAD + SEQTOPK_CANDIDATES_SLACK, sizeof(float));
}

static void call_bound_candidates(op_case *c, seqtopk_bound_candidates_fn *kernel) {
    seqtopk_candidates from = c->candidates;
    from.keys += c->lead;
    from.ids += c->lead;
    kernel(&from, c->first, c->last, c->min, c->max, &c->candidates);
}

static void place_list_candidates(op_case *c) {
    place_caught(c, 0);
    c->candidates.order = c->candidates.keys;
    case_place_lists(c);
}

static void call_list_candidates(op_case *c, seqtopk_list_candidates_fn *kernel) {
    c->returned = kernel(&c->candidates, c->first, c->last, c->cut.key, c->ties, c->counts_only ? NULL : &c->lists,
                         c->from, c->end);
}

static void place_weigh_logits(op_case *c) { place_values(c, (size_t)c->n); }

static void call_weigh_logits(op_case *c, seqtopk_weigh_logits_fn *kernel) {
    kernel(&c->rows, &c->how, c->first, c->last, c->pair_offsets, c->pair_ids, c->values);
}

static void place_weigh_keys(op_case *c) { place_values(c, (size_t)c->n); }

static void call_weigh_keys(op_case *c, seqtopk_weigh_keys_fn *kernel) {
    c->returned = kernel(c->rows.score, &c->how, c->first, c->last, c->pair_offsets, c->values);
}

static void place_histogram(op_case *c) { place_numbers(c); }

static void call_histogram(op_case *c, seqtopk_histogram_fn *kernel) {
    kernel(c->pair_ids, c->n, c->experts, c->numbers);
}

static void place_offset_experts(op_case *c) { place_numbers(c); }

static void call_offset_experts(op_case *c, seqtopk_offset_experts_fn *kernel) {
    seqtopk_offset_lists to = c->offset_lists;
    to.offsets = c->numbers;
    c->returned = kernel(c->is_in_place ? c->numbers : c->pair_ids, c->experts, &to);
}

static void place_scatter(op_case *c) {
    place_numbers(c);
    c->numbers_work = case_memory(CASE_NUMBERS_WORK, (size_t)c->experts, sizeof(int32_t));
}

static void call_scatter(op_case *c, seqtopk_scatter_fn *kernel) {
    kernel(c->pair_offsets, c->pair_ids, c->first, c->last, c->experts, c->numbers, c->numbers_work, &c->scattered);
}

static void place_rank_keys(op_case *c) {
    c->ids = case_memory(CASE_IDS, (size_t)(c->n + 15) / 16 * 16, sizeof(int32_t));
}

static void call_rank_keys(op_case *c, seqtopk_rank_keys_fn *kernel) {
    c->returned = kernel(c->keys, (int32_t)c->n, c->ids);
}

static void place_weigh_ranked(op_case *c) {
    c->ids = case_memory(CASE_IDS, (size_t)c->n, sizeof(int32_t));
    c->work = case_memory(CASE_WORK, (size_t)c->n, sizeof(float));
}

static void call_weigh_ranked(op_case *c, seqtopk_weigh_ranked_fn *kernel) {
    c->returned =
        kernel(&c->how, c->scores, c->pair_ids, c->pair_offsets, (int32_t)c->n, (int32_t)c->k, c->ids, c->work);
}

static void place_contest_ranked(op_case *c) {
    place_weigh_ranked(c);
    c->note = (float *)case_memory(CASE_NOTE, (size_t)c->n, sizeof(float)) + c->contest.sure;
}

static void call_contest_ranked(op_case *c, seqtopk_contest_ranked_fn *kernel) {
    c->returned = kernel(&c->contest, &c->how, c->keys, c->scores, c->pair_ids, c->pair_offsets, (int32_t)c->n, c->note,
                         c->ids, c->work);
}

static void place_pick_words(op_case *c) {
    c->picked = case_memory(CASE_PICKED, (size_t)c->n + SEQTOPK_PICKED_SLACK, sizeof(uint64_t));
}

static void call_pick_words(op_case *c, seqtopk_pick_words_fn *kernel) {
    c->returned = kernel(c->words, c->n, c->limits[0], c->limits[1], c->picked, &c->at);
}

static void place_pick_keys(op_case *c) {
    c->picked = case_memory(CASE_PICKED, cells(c) + SEQTOPK_PICKED_SLACK, sizeof(uint64_t));
}

static void call_pick_keys(op_case *c, seqtopk_pick_keys_fn *kernel) {
    c->returned = kernel(c->keys, c->rows.stride, c->last - c->first, c->experts, c->first, c->limits[0], c->limits[1],
                         c->picked, &c->at);
}

/* No default: an op without a case does not compile. */
void case_place(op_case *c, seqtopk_op op) {
    static void (*const places[])(op_case *) = {
#define SEQTOPK_OP(name, reads) place_##name,
#include "arch/kernels.def"
#undef SEQTOPK_OP
    };
    places[op](c);
    case_begin(c);
}

void case_call(op_case *c, const seqtopk_row *row) {
    switch ((int)row->op) {
#define SEQTOPK_OP(name, reads)                                                                                        \
    case SEQTOPK_OP_##name:                                                                                            \
        call_##name(c, (seqtopk_##name##_fn *)row->function);                                                          \
        break;
#include "arch/kernels.def"
#undef SEQTOPK_OP
    }
}
