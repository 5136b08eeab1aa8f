/* SPDX-License-Identifier: MIT */
#include "src/plan/ways.h"
#include "src/abi.h"
#include "src/status.h"

#include <string.h>

enum {
    /* Lane maxima and sorting networks are 16 wide: one pass over a row finds its best 16 candidates at most. Of 32 maxima the
     * 16th is as far as few rows have more than 32 elements: topk_logits takes .5 to .7 of topk_scores' time up to there. */
    MOST_CERTAIN = 16,
    /* For one of 2 * K lane maxima and more the registers and networks of topk_scores are made. */
    MOST_LISTED = 64,
    TOO_FEW_TO_SWEEP = 8,
    MOST_GROUPS = 64, /* a bit for each */
    /*
     * A row's 16 lane maxima bound it closely where a lane has more than an expert or two, and where not nearly all of
     * them count. Found on a Xeon with AVX-512; `seqtopk bench` with --way short_logits and --way short_keys compares.
     */
    LEAST_EXPERTS_OF_LANES = 40,
    MOST_TOP_K_OF_LANES = 12
};

int seqtopk_row_reads(const seqtopk_row *row, const seqtopk_desc *desc) {
    const int is_prepared = seqtopk_prepares(desc) && row->op != SEQTOPK_OP_prepare_logits;
    return !seqtopk_op_reads_logits(row->op) || row->dtype == (int32_t)(is_prepared ? SEQTOPK_DTYPE_F32 : desc->dtype);
}

int seqtopk_loses_groups(const seqtopk_desc *desc) { return desc->groups > 1 && desc->group_top_k < desc->groups; }

int seqtopk_is_grouped(const seqtopk_desc *desc) { return seqtopk_loses_groups(desc) || desc->group_quota > 0; }

int seqtopk_is_keyed(const seqtopk_ask *ask) {
    const int by_sequence = ask->desc->scope == SEQTOPK_SCOPE_SEQUENCE;
    return ask->is_biased || seqtopk_is_grouped(ask->desc) || (by_sequence && ask->min_experts > MOST_CERTAIN);
}

/* ------------------------------------------------------------- predicates -- */

static const char *not_in_token_scope(const seqtopk_ask *ask) {
    return ask->desc->scope == SEQTOPK_SCOPE_TOKEN || ask->desc->scope == SEQTOPK_SCOPE_ONLINE
               ? NULL
               : "it serves token scope";
}

/* How many experts of a token are listed, where that does not depend on the others. */
static int32_t listed(const seqtopk_ask *ask) {
    return ask->desc->scope == SEQTOPK_SCOPE_ONLINE ? ask->max_experts : ask->desc->top_k;
}

/* A token alone competes with no other in sequence scope either: it gets top_k experts, if it may have so many. */
static const char *not_by_token(const seqtopk_ask *ask) {
    return ask->length == SEQTOPK_LENGTH_ALONE && ask->desc->top_k <= ask->max_experts ? NULL : not_in_token_scope(ask);
}

static const char *not_in_sequence_scope(const seqtopk_ask *ask) {
    return ask->desc->scope == SEQTOPK_SCOPE_SEQUENCE ? NULL : "it serves sequence scope";
}

static const char *keyed(const seqtopk_ask *ask) {
    return ask->is_biased                  ? "a selection bias: keys must be made before experts can be compared"
           : seqtopk_is_grouped(ask->desc) ? "groups: keys must be made before groups can be compared"
           : seqtopk_is_keyed(ask)         ? "min_experts above 16: one pass makes no more certain"
                                           : NULL;
}

/* A call that has one goes that way whatever its description: see collect_run. */
static const char *given_why_not(const seqtopk_ask *ask) {
    (void)ask;
    return "no selection is given";
}

static const char *topk_logits_why_not(const seqtopk_ask *ask) {
    const char *why = not_in_token_scope(ask);
    if (!why && (seqtopk_prunes(ask->desc) || ask->desc->scope == SEQTOPK_SCOPE_ONLINE))
        why = "min_p, top_p or online: topk_scores serves it";
    if (!why && ask->length == SEQTOPK_LENGTH_ALONE)
        why = "a token alone: topk_scores serves it";
    if (!why)
        why = keyed(ask);
    return why ? why : ask->desc->top_k > MOST_CERTAIN ? "K above 16: lane maxima bound a row too loosely" : NULL;
}

/* What rough keys cannot decide. */
static const char *not_by_rough_keys(const seqtopk_ask *ask) {
    return !seqtopk_is_grouped(ask->desc)              ? NULL
           : ask->desc->group_quota > 0                ? "a quota of each group: it is taken from exact keys"
           : ask->desc->groups > MOST_GROUPS           ? "more than 64 groups"
           : ask->desc->group_n > 2                    ? "groups scored by more than their best two"
           : ask->desc->group_n > 1 && !ask->is_biased ? "no bias, but groups scored by sums: logits do not add up"
                                                       : NULL;
}

static const char *topk_scores_why_not(const seqtopk_ask *ask) {
    const char *why = not_by_token(ask);
    if (!why)
        why = not_by_rough_keys(ask);
    return why ? why : listed(ask) > MOST_LISTED ? "K above 64" : NULL;
}

static const char *topk_rows_why_not(const seqtopk_ask *ask) { return not_in_token_scope(ask); }

static const char *short_keys_why_not(const seqtopk_ask *ask) {
    const char *why = not_in_sequence_scope(ask);
    return why ? why
           : ask->length == SEQTOPK_LENGTH_LONG || ask->length == SEQTOPK_LENGTH_FEW
               ? "the sequence is longer than a block of keys, or shared by threads"
               : NULL;
}

static const char *short_logits_why_not(const seqtopk_ask *ask) {
    const char *why = short_keys_why_not(ask);
    if (!why)
        why = keyed(ask);
    if (why)
        return why;
    if (seqtopk_prepares(ask->desc))
        return "scaled or capped logits: it reads the caller's";
    if (ask->min_experts > 0 || ask->max_experts < ask->desc->experts)
        return "bounds on the experts of a token";
    return ask->desc->experts < LEAST_EXPERTS_OF_LANES ? "E below 40"
           : ask->desc->top_k > MOST_TOP_K_OF_LANES    ? "K above 12"
                                                       : NULL;
}

/* Whether a cut is to be made among each token's first max_experts. */
static const char *not_by_first(const seqtopk_ask *ask) {
    const char *why = not_in_sequence_scope(ask);
    return why                                       ? why
           : ask->max_experts >= ask->desc->experts  ? "no max_experts: a token may be given any number"
           : ask->max_experts > 2 * ask->desc->top_k ? "max_experts above 2 * K: there is no space for so many"
           : ask->max_experts > MOST_LISTED          ? "max_experts above 64"
           : ask->min_experts > MOST_CERTAIN         ? "min_experts above 16: one pass makes no more certain"
                                                     : NULL;
}

static const char too_long[] = "more than 64 tokens, or shared by threads: a sweep keeps fewer candidates";

/*
 * Where no sum of exponentials hides what a sweep costs beside, its fewer candidates are not worth its sample and bound unless
 * max_experts is far above K; nor are they of 8 experts, of which most are candidates anyhow. Of 4096 tokens, on a Zen 5, ns a
 * token by sweep_logits and so: logits of 72, 128 and 256 experts 44, 30, 62 and 39, 29, 46; Mixtral 18.6 and 15.7; but softmax
 * of 64 experts 30 and 34.
 */
static int are_first_few(const seqtopk_desc *desc, int32_t max_experts) {
    return desc->experts <= TOO_FEW_TO_SWEEP ||
           (desc->score != SEQTOPK_SCORE_SOFTMAX && desc->experts >= 64 && 2 * max_experts <= 3 * desc->top_k);
}

static const char *logits_cut_why_not(const seqtopk_ask *ask) {
    const char *why = not_by_first(ask);
    if (!why)
        why = keyed(ask);
    if (!why && ask->max_experts > MOST_CERTAIN)
        why = "max_experts above 16: topk_cut serves it";
    return why                                                                                 ? why
           : ask->length == SEQTOPK_LENGTH_LONG && !are_first_few(ask->desc, ask->max_experts) ? too_long
                                                                                               : NULL;
}

static const char *topk_cut_why_not(const seqtopk_ask *ask) {
    const char *why = not_by_first(ask);
    if (!why && ask->length == SEQTOPK_LENGTH_LONG)
        why = too_long;
    return why ? why : not_by_rough_keys(ask);
}

static const char *sweep_logits_why_not(const seqtopk_ask *ask) {
    const char *why = not_in_sequence_scope(ask);
    return why ? why : keyed(ask);
}

static const char *sweep_scores_why_not(const seqtopk_ask *ask) {
    const char *why = not_in_sequence_scope(ask);
    if (!why)
        why = not_by_rough_keys(ask);
    return why                               ? why
           : ask->min_experts > MOST_CERTAIN ? "min_experts above 16: one pass makes no more certain"
           : !seqtopk_is_keyed(ask)          ? "neither bias nor groups: sweep_logits serves it"
                                             : NULL;
}

static const char *sweep_keys_why_not(const seqtopk_ask *ask) { return not_in_sequence_scope(ask); }

static const char *staged_why_not(const seqtopk_ask *ask) {
    return seqtopk_prunes(ask->desc) || ask->desc->scope == SEQTOPK_SCOPE_ONLINE
               ? "min_p, top_p or online: it lists too late for what has to be dropped"
               : NULL;
}

/* ------------------------------------------------------------------ table -- */

_Static_assert(SEQTOPK_KERNEL_OPS <= 32, "a bit for each");
#define NEEDS(op) (1u << SEQTOPK_OP_##op)

const seqtopk_way_row seqtopk_ways[SEQTOPK_WAYS] = {
#define SEQTOPK_WAY(name, steps, instead, kernels, about)                                                              \
    {#name, about, name##_why_not, SEQTOPK_WAY_##instead, kernels},
#include "src/plan/ways.def"
#undef SEQTOPK_WAY
};

/* The kinds of calls of a description: of every length, biased or not. */
enum { KINDS = 2 * SEQTOPK_LENGTHS };
static seqtopk_ask ask_of(const seqtopk_desc *desc, int kind) {
    return (seqtopk_ask){.desc = desc,
                         .min_experts = seqtopk_least_of_token(desc),
                         .max_experts = seqtopk_most_of_token(desc),
                         .is_biased = kind & 1,
                         .length = (seqtopk_length)(kind >> 1)};
}

const char *seqtopk_ways_why_never(int32_t way, const seqtopk_desc *desc) {
    const char *why = NULL;
    for (int kind = KINDS - 1; kind >= 0;
         kind--) { /* the reason for the plainest call, long and unbiased, is returned */
        const seqtopk_ask ask = ask_of(desc, kind);
        if (!(why = seqtopk_ways[way].why_not(&ask)))
            return NULL;
    }
    return why;
}

uint32_t seqtopk_ways_reach(const seqtopk_desc *desc) {
    /* Order by rank and the lists by expert may be asked of any way, and a selection may be given to any plan. */
    uint32_t reach = NEEDS(topk_row) | NEEDS(histogram) | NEEDS(offset_experts) | NEEDS(scatter) |
                     seqtopk_ways[SEQTOPK_WAY_given].kernels;
    for (int32_t way = 0; way < SEQTOPK_WAYS; way++)
        reach |= seqtopk_ways_why_never(way, desc) ? 0 : seqtopk_ways[way].kernels;
    if (desc->scope == SEQTOPK_SCOPE_ONLINE)
        reach |= NEEDS(rank_keys) | NEEDS(weigh_ranked) | NEEDS(contest_ranked) | NEEDS(pick_words) | NEEDS(pick_keys);
    if (seqtopk_prepares(desc))
        reach |= NEEDS(prepare_logits);
    return seqtopk_loses_groups(desc) ? reach | NEEDS(mask_groups) : reach;
}

int32_t seqtopk_way_index(const char *name) {
    for (int32_t i = 0; i < SEQTOPK_WAYS; i++)
        if (strcmp(seqtopk_ways[i].name, name) == 0)
            return i;
    return -1;
}

int32_t seqtopk_way_count(void) { return SEQTOPK_WAYS; }

seqtopk_status seqtopk_way_get(int32_t index, seqtopk_way *way) {
    if (!way)
        return SEQTOPK_E_NULL;
    if (!seqtopk_struct_is_sized(way, SEQTOPK_FIRST_way))
        return SEQTOPK_E_STRUCT;
    if (index < 0 || index >= SEQTOPK_WAYS)
        return SEQTOPK_E_VALUE;
    const seqtopk_way_row *row = seqtopk_ways + index;
    const seqtopk_way ours = {.instead = (int32_t)row->instead, .name = row->name, .about = row->about};
    seqtopk_give_struct(way, &ours, sizeof ours);
    return SEQTOPK_OK;
}
