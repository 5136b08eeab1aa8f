/* SPDX-License-Identifier: MIT */
/*
 * A step of decoding: each row's candidates are listed as in token scope, up to max_experts of them, with their keys; the past
 * of its sequence decides how many stay. In steps that a team can share:
 *   check    positions, and memory for every row: from here on nothing fails but bad logits
 *   collect  each part the candidates of its rows
 *   decide   each part for its share of the sequences
 *   join     one part closes the gaps between the rows' lists
 *   finish, permute   as in a route
 */
#include "src/abi.h"
#include "src/cache/cache.h"
#include "src/route/lend.h"
#include "src/route/way.h"
#include "src/status.h"

#include "arch/words.h"

#include <stdlib.h>
#include <string.h>

/* Where lists are adjusted (src/route/beside.c) weigh and settle come before tell and permute. */
enum { STEPS = 6, ADJUSTING_STEPS = 8 };

/* What a step has beside a route, its scratch behind the route's. */
typedef struct seqtopk_cache_call {
    seqtopk_call route;
    seqtopk_cache *cache;
    seqtopk_cache_rows rows;
    const seqtopk_layer *layer;
    struct {
        seqtopk_status status;
        seqtopk_error error;
    } * checked;     /* what the first step found, for all parts */
    int32_t *stays;  /* [T]: how many of its candidates a token is given */
    float *scores;   /* [T * max_experts]: of the candidates, row by row */
    int32_t *ranks;  /* [max_experts] of this part */
    float *keys;     /* [max_experts]: a row's, best first */
    uint64_t *words; /* [max_experts] */
} seqtopk_cache_call;

/* ---------------------------------------------------------------- scratch -- */

static size_t rounded(size_t size) { return (size + 63) & ~(size_t)63; }

/* Lays out what stands behind the route's scratch; returns its size. */
static size_t lay_out(seqtopk_cache_call *c, int64_t tokens, int32_t max_experts, uintptr_t base, int32_t part,
                      int32_t parts) {
    size_t used = 0;
    c->checked = (void *)(base + used);
    used += rounded(sizeof *c->checked);
    c->stays = (int32_t *)(base + used);
    used += rounded((size_t)tokens * sizeof *c->stays);
    c->scores = (float *)(base + used);
    used += rounded(((size_t)tokens * (size_t)max_experts + SEQTOPK_CANDIDATES_SLACK) * sizeof *c->scores);
    const size_t ranks = rounded((size_t)max_experts * sizeof *c->ranks);
    const size_t keys = rounded((size_t)max_experts * sizeof *c->keys);
    const size_t words = rounded((size_t)max_experts * sizeof *c->words);
    const uintptr_t own = base + used + (size_t)part * (ranks + keys + words);
    c->ranks = (int32_t *)own;
    c->keys = (float *)(own + ranks);
    c->words = (uint64_t *)(own + ranks + keys);
    return used + (size_t)parts * (ranks + keys + words);
}

size_t seqtopk_cache_scratch_size(const seqtopk_cache *cache, int64_t tokens, int32_t threads) {
    size_t most = 0;
    if (!cache)
        return 0;
    for (int32_t l = 0; l < cache->layers; l++) {
        seqtopk_cache_call c;
        const seqtopk_plan *plan = cache->layer[l].plan;
        if (l > 0 && plan == cache->layer[l - 1].plan)
            continue;
        const size_t route = seqtopk_scratch_size(plan, tokens, 1, threads);
        if (!route)
            return 0;
        const size_t size = route + 64 + lay_out(&c, tokens, plan->max_experts, 0, 0, threads);
        most = size > most ? size : most;
    }
    return most;
}

/* ------------------------------------------------------------------- open -- */

static int is_take(seqtopk_take take) {
    switch (take) {
    case SEQTOPK_TAKE_CAUSAL:
    case SEQTOPK_TAKE_JOINT: return 1;
    }
    return 0;
}

static seqtopk_status check_rows(const seqtopk_cache *cache, const seqtopk_cache_rows *rows, seqtopk_error *error) {
    if (rows->layer < 0 || rows->layer >= cache->layers)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "cache_rows.layer is %d; this cache has layers 0 to %d",
                            (int)rows->layer, (int)cache->layers - 1);
    if (!is_take(rows->take))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "cache_rows.take is %d, which is no seqtopk_take",
                            (int)rows->take);
    if (rows->take == SEQTOPK_TAKE_JOINT &&
        (cache->layer[rows->layer].rules.is_ledger || cache->layer[rows->layer].rules.has_threshold))
        return seqtopk_fail(error, SEQTOPK_E_UNSUPPORTED, -1,
                            "cache_rows.take: with a ledger or a threshold tokens are taken one by one "
                            "(SEQTOPK_TAKE_CAUSAL)");
    return SEQTOPK_OK;
}

static seqtopk_status open_step(seqtopk_cache_call *c, seqtopk_cache *cache, const seqtopk_cache_rows *rows,
                                const seqtopk_input *input, const seqtopk_output *output, void *scratch,
                                size_t scratch_size, int32_t part, int32_t parts, seqtopk_error *error) {
    if (!cache)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "cache is NULL");
    seqtopk_status status =
        seqtopk_take_struct(&c->rows, sizeof c->rows, SEQTOPK_FIRST_cache_rows, rows, "cache_rows", error);
    if (!status)
        status = check_rows(cache, &c->rows, error);
    if (status)
        return status;
    c->cache = cache;
    c->layer = cache->layer + c->rows.layer;
    const seqtopk_plan *plan = c->layer->plan;
    status = seqtopk_call_open(&c->route, plan, input, output, scratch, scratch_size, part, parts, error);
    if (status)
        return status;
    if (c->route.in.given_ids)
        return seqtopk_fail(error, SEQTOPK_E_UNSUPPORTED, -1,
                            "input.given_ids: a cache selects by itself; replay with seqtopk_route");
    const size_t own = lay_out(c, c->route.in.tokens, plan->max_experts, (uintptr_t)c->route.behind, part, parts);
    if (c->route.left < own)
        return seqtopk_fail(error, SEQTOPK_E_CAPACITY, -1,
                            "scratch has %zu bytes; this step needs %zu (seqtopk_cache_scratch_size)", scratch_size,
                            seqtopk_cache_scratch_size(cache, c->route.in.tokens, parts));
    return SEQTOPK_OK;
}

/* ------------------------------------------------------------------ check -- */

static int32_t sequence_of(const seqtopk_cache_call *c, int64_t row) {
    return c->rows.sequences ? c->rows.sequences[row] : 0;
}

static seqtopk_past *past_of(const seqtopk_cache_call *c, int64_t row) {
    return seqtopk_cache_past(c->cache, c->rows.layer, sequence_of(c, row));
}

/* Places a row in its sequence. */
static seqtopk_status place_row(const seqtopk_cache_call *c, int64_t row, seqtopk_error *error) {
    seqtopk_past *past = past_of(c, row);
    const int is_first = past->next < 0;
    const int64_t length = is_first ? seqtopk_past_tokens(past) : past->next;
    const int64_t position = c->rows.positions ? c->rows.positions[row] : length;
    if (position < 0 || position > length)
        return seqtopk_fail(error, SEQTOPK_E_SHAPE, row,
                            "row %lld has position %lld, but sequence %d has %lld tokens in layer %d: %lld are missing",
                            (long long)row, (long long)position, (int)sequence_of(c, row), (long long)length,
                            (int)c->rows.layer, (long long)(position - length));
    if (!is_first && position < length)
        return seqtopk_fail(error, SEQTOPK_E_SHAPE, row,
                            "row %lld has position %lld, but an earlier row of sequence %d leads to %lld: rows of one "
                            "sequence must follow one another",
                            (long long)row, (long long)position, (int)sequence_of(c, row), (long long)length);
    if (is_first && !seqtopk_past_reaches(past, position))
        return seqtopk_fail(
            error, SEQTOPK_E_UNSUPPORTED, row,
            "row %lld has position %lld: of sequence %d, compact, only the last %d tokens can be taken back "
            "(cache_desc.rollback)",
            (long long)row, (long long)position, (int)sequence_of(c, row), (int)past->counts->held);
    if (position >= c->cache->max_tokens)
        return seqtopk_fail(error, SEQTOPK_E_OVERFLOW, row,
                            "row %lld: sequence %d would have more than %lld tokens (cache_desc.max_tokens)",
                            (long long)row, (int)sequence_of(c, row), (long long)c->cache->max_tokens);
    if (is_first)
        past->start = position;
    past->next = position + 1;
    return SEQTOPK_OK;
}

/* Checks the rows, and takes the memory that they will need. */
static seqtopk_status check_step(const seqtopk_cache_call *c, seqtopk_error *error) {
    const int64_t tokens = c->route.in.tokens;
    seqtopk_status status = SEQTOPK_OK;
    int64_t known = 0;
    for (; known < tokens && !status; known++)
        if (!(status = seqtopk_cache_has(c->cache, sequence_of(c, known), error))) {
            past_of(c, known)->next = -1;
            past_of(c, known)->is_placed = 0;
        }
    if (status) {
        if (error)
            error->token = known - 1;
        return status;
    }
    for (int64_t row = 0; row < tokens && !status; row++)
        status = place_row(c, row, error);
    for (int64_t row = 0; row < tokens && !status; row++) {
        seqtopk_past *past = past_of(c, row);
        if (past->is_placed)
            continue;
        past->is_placed = 1;
        if (c->rows.take == SEQTOPK_TAKE_JOINT && c->layer->rules.is_compact &&
            past->next - past->start > c->layer->rules.depth) {
            status = seqtopk_fail(error, SEQTOPK_E_UNSUPPORTED, row,
                                  "%lld tokens of sequence %d jointly: compact, at most %d (cache_desc.rollback) are",
                                  (long long)(past->next - past->start), (int)sequence_of(c, row),
                                  (int)c->layer->rules.depth);
            break;
        }
        if (!seqtopk_past_reserve(past, &c->layer->rules, past->start, past->next - past->start, &c->cache->purse))
            status = seqtopk_fail(error, SEQTOPK_E_MEMORY, row,
                                  "no memory for %lld more tokens of sequence %d (cache_desc.max_bytes is a limit)",
                                  (long long)(past->next - past->start), (int)sequence_of(c, row));
    }
    return status;
}

/* ----------------------------------------------------------------- decide -- */

/* The best first. */
static void sort_words(uint64_t *words, int32_t n) { qsort(words, (size_t)n, sizeof *words, seqtopk_by_word); }

/* The rank of each of keys [n], of equals the earlier first: experts ascend. Returns whether two may be equal. work: [n]. */
static int rank_keys(const seqtopk_kernels *kernels, const float *keys, int32_t n, uint64_t *work, int32_t *ranks) {
    if (n <= SEQTOPK_MOST_RANKED)
        return kernels->rank_keys(keys, n, ranks);
    for (int32_t i = 0; i < n; i++)
        work[i] = seqtopk_word_of(keys[i], i);
    sort_words(work, n);
    for (int32_t i = 0; i < n; i++)
        ranks[seqtopk_token_of(work[i])] = i;
    return 1;
}

/* Equal keys [n] of a row's experts change places by their logits. work, sorted: [n]. */
static void rank_equals(const seqtopk_call *call, int64_t row, const int32_t *ids, const float *keys, int32_t n,
                        uint64_t *work, float *sorted, int32_t *ranks) {
    const float *logits = seqtopk_logits_of(call, row);
    for (int32_t i = 0; i < n; i++)
        sorted[ranks[i]] = keys[i];
    for (int32_t i = 0; i < n; i++)
        work[ranks[i]] = seqtopk_word_of(logits[ids[i]], i);
    for (int32_t i = 0, next; i < n; i = next) {
        for (next = i + 1; next < n && sorted[next] == sorted[i];)
            next++;
        if (next > i + 1)
            sort_words(work + i, next - i);
    }
    for (int32_t i = 0; i < n; i++)
        ranks[seqtopk_token_of(work[i])] = i;
}

/* The rank of each of a row's candidates [n]: by keys, equal ones by logits where those tell them apart, else the earlier first.
 * work, sorted: [n]. */
static void rank_row(const seqtopk_kernels *kernels, const seqtopk_call *call, int64_t row, const int32_t *ids,
                     const float *keys, int32_t n, uint64_t *work, float *sorted, int32_t *ranks) {
    if (rank_keys(kernels, keys, n, work, ranks) && seqtopk_tells_by_logit(call))
        rank_equals(call, row, ids, keys, n, work, sorted, ranks);
}

static int is_masked(const seqtopk_call *call, int64_t row) { return call->in.token_mask && !call->in.token_mask[row]; }

/* The pairs of a row's candidates, before gaps are closed. */
static int32_t candidates_of(const seqtopk_cache_call *c, int64_t row, int32_t *from) {
    const seqtopk_call *call = &c->route;
    int64_t first = 0, last = call->in.tokens;
    int32_t part = 0; /* whose row it is */
    while (call->parts > 1 && (seqtopk_call_share(call, part, &first, &last), row >= last))
        part++;
    *from = call->token_offsets[row];
    const int64_t end =
        row + 1 < last ? call->token_offsets[row + 1] : first * call->plan->pairs + call->runs[part].size;
    return (int32_t)(end - *from);
}

/* Leaves of a row's list its first `stays`, experts ascending; in place, or somewhere else. */
static void leave_first(const int32_t *ids, const float *keys, int32_t n, const int32_t *ranks, int32_t stays,
                        int32_t *left_ids, float *left_keys) {
    int32_t at = 0;
    for (int32_t i = 0; i < n && at < stays; i++) { /* which it is cannot be foreseen: no branch */
        left_ids[at] = ids[i];
        left_keys[at] = keys[i];
        at += ranks[i] < stays;
    }
}

/* The same of the list of a step's row. */
static void leave_of_row(const seqtopk_cache_call *c, int64_t row, int32_t from, int32_t n) {
    int32_t *ids = c->route.expert_ids + from;
    float *keys = c->route.list_weights + from;
    leave_first(ids, keys, n, c->ranks, c->stays[row], ids, keys);
}

/* A row's keys [n], best first, in c->keys. */
static void sort_row(const seqtopk_cache_call *c, int64_t row, int32_t from, int32_t n) {
    const float *keys = c->route.list_weights + from;
    rank_row(c->layer->rules.kernels, &c->route, row, c->route.expert_ids + from, keys, n, c->words, c->keys, c->ranks);
    for (int32_t i = 0; i < n; i++)
        c->keys[c->ranks[i]] = keys[i];
}

/* Before its first row a sequence forgets the tokens from that row's position on: now the call cannot fail any more. */
static void take_back(const seqtopk_cache_call *c, seqtopk_past *past) {
    if (past->is_placed && past->start < seqtopk_past_tokens(past))
        seqtopk_past_truncate(past, past->start, past->next, &c->cache->purse);
    past->is_placed = 0;
}

/* A row's token enters the past, and the past decides about it at once; or, jointly, later. */
static void enter_row(const seqtopk_cache_call *c, int64_t row, seqtopk_past *past) {
    seqtopk_purse *purse = &c->cache->purse;
    int32_t from;
    const int32_t n = candidates_of(c, row, &from), masked = is_masked(&c->route, row);
    const int32_t key = c->route.by_logit ? SEQTOPK_KEY_LOGIT : c->route.rows.key;
    sort_row(c, row, from, n);
    if (c->rows.take == SEQTOPK_TAKE_JOINT) {
        seqtopk_past_append(past, &c->layer->rules, key, c->keys, n, masked, c->words, purse);
    } else {
        c->stays[row] = seqtopk_past_route(past, &c->layer->rules, key, c->keys, n, masked, c->words, purse);
        leave_of_row(c, row, from, n);
    }
}

/* The rows of a sequence, which end at `last`, jointly. */
static void decide_jointly(const seqtopk_cache_call *c, int64_t last) {
    seqtopk_past *past = past_of(c, last);
    seqtopk_past_route_jointly(past, &c->layer->rules, past->start);
    int64_t token = past->start;
    for (int64_t row = 0; row <= last; row++) {
        int32_t from;
        if (past_of(c, row) != past)
            continue;
        const int32_t n = candidates_of(c, row, &from);
        sort_row(c, row, from, n);
        c->stays[row] = seqtopk_past_given(past, token++);
        leave_of_row(c, row, from, n);
    }
}

/* Each part decides for the sequences whose number leaves its own: rows of a sequence are one part's, in their order. */
static void step_decide(const seqtopk_cache_call *c) {
    const int64_t tokens = c->route.in.tokens;
    for (int64_t row = 0; row < tokens; row++) {
        seqtopk_past *past = past_of(c, row);
        if (sequence_of(c, row) % c->route.parts != c->route.part)
            continue;
        take_back(c, past);
        enter_row(c, row, past);
        if (c->rows.take == SEQTOPK_TAKE_JOINT && seqtopk_past_tokens(past) == past->next)
            decide_jointly(c, row);
    }
}

/* The lists have no gaps any more, and so many pairs. */
static void tell_lists(const seqtopk_call *call, int64_t pairs) {
    call->sequence->way = call->in.tokens > 0 ? call->runs->way : SEQTOPK_WAY_topk_rows;
    call->sequence->fallback = SEQTOPK_FALLBACK_NONE;
    call->sequence->has_keys = 0;
    seqtopk_tell_way(call, 0);
    seqtopk_tell_end(call, pairs);
    seqtopk_admit_shared(call);
}

/* Closes the gaps between the rows' lists, from the first on. */
static void step_join(seqtopk_cache_call *c) {
    const seqtopk_call *call = &c->route;
    int64_t at = 0;
    if (call->part > 0)
        return;
    for (int64_t row = 0; row < call->in.tokens; row++) {
        const int32_t from = call->token_offsets[row], n = c->stays[row];
        if (at < from) {
            memmove(call->expert_ids + at, call->expert_ids + from, (size_t)n * sizeof *call->expert_ids);
            memmove(call->list_weights + at, call->list_weights + from, (size_t)n * sizeof *call->list_weights);
        }
        call->token_offsets[row] = (int32_t)at;
        at += n;
    }
    tell_lists(call, at);
}

/* ------------------------------------------------------------- row by row -- */

/* Whether what stays of a row can take its place at once, weighed, if its scores are listed. */
static int goes_row_by_row(const seqtopk_cache_call *c) {
    const seqtopk_call *call = &c->route;
    return c->rows.take == SEQTOPK_TAKE_CAUSAL && !call->plan->adjusts && !call->by_logit &&
           call->plan->max_experts <= SEQTOPK_MOST_WEIGHED && call->plan->desc.norm != SEQTOPK_NORM_SPARSEMIXER &&
           !call->in.expert_factors && !call->out.runner_ids && !call->out.margins && seqtopk_weighs_scores(call);
}

/* Rows of many sequences: what the next ones' pasts have is far away, and in three places that lead to one another. (Inlined
 * always: gcc takes a function that only fetches for one that does nothing.) */
static inline __attribute__((always_inline)) void fetch_rows(const seqtopk_cache_call *c, int64_t row) {
    enum { SOON = 3 }; /* 2 and 4 are as good, measured on Sapphire Rapids: of 64 rows 15 % */
    if (row + SOON < c->route.in.tokens)
        seqtopk_past_fetch(past_of(c, row + SOON));
    if (row + 1 < c->route.in.tokens)
        seqtopk_past_fetch_cut(past_of(c, row + 1), &c->layer->rules);
}

static void decide_row_by_row(const seqtopk_cache_call *c) {
    const seqtopk_call *call = &c->route;
    const seqtopk_kernels *kernels = c->layer->rules.kernels;
    const int32_t tokens = (int32_t)call->in.tokens, space = tokens * call->plan->pairs;
    int32_t last_ids[SEQTOPK_MOST_WEIGHED], ranks[SEQTOPK_MOST_WEIGHED];
    int32_t at = 0;
    for (int32_t row = 0, from = 0, end; row < tokens; row++, from = end) {
        seqtopk_past *past = past_of(c, row);
        const float *keys = call->list_weights + from;
        const int32_t *ids = call->expert_ids + from;
        end = row + 1 < tokens ? call->token_offsets[row + 1] : (int32_t)call->runs->size;
        const int32_t n = end - from;
        fetch_rows(c, row);
        take_back(c, past);
        if (from + SEQTOPK_MOST_WEIGHED > space) /* whole vectors are read */
            ids = memcpy(last_ids, ids, (size_t)n * sizeof *ids);
        rank_row(kernels, call, row, ids, keys, n, c->words, c->keys, ranks);
        int weighed = 1;
        const seqtopk_ranked ranked = {keys,
                                       call->list_scores + from,
                                       ids,
                                       ranks,
                                       n,
                                       &call->weighing,
                                       call->expert_ids + at,
                                       call->list_weights + at,
                                       &weighed};
        const int32_t stays =
            is_masked(call, row)
                ? seqtopk_past_route(past, &c->layer->rules, call->rows.key, NULL, 0, 1, NULL, &c->cache->purse)
                : seqtopk_past_route_ranked(past, &c->layer->rules, call->rows.key, &ranked, &c->cache->purse);
        call->token_offsets[row] = at;
        at += stays;
        call->token_offsets[row + 1] = at;
        if (!weighed)
            seqtopk_rows_weigh(call, &call->weighing, row, row + 1, call->token_offsets, call->expert_ids,
                               call->list_weights);
    }
    tell_lists(call, at);
    seqtopk_step_tell(call);
    seqtopk_step_permute(call);
}

/* ---------------------------------------------------------- a token alone -- */

/* One row that appends to its sequence, and asks for no more than lists and a padded row: the same in a straight line. Returns
 * 0, and has changed nothing, if it is not such a row, or one that is to be told what is wrong with it. */
static int step_one(seqtopk_cache *cache, const seqtopk_cache_rows *rows, const seqtopk_input *input,
                    const seqtopk_output *output, void *scratch, size_t scratch_size) {
    enum { SPACE = SEQTOPK_MOST_RANKED + 16 }; /* whole vectors are written */
    seqtopk_call call;
    float keys[SPACE];
    float scores[SPACE], sorted[SEQTOPK_MOST_RANKED];
    uint64_t words[SEQTOPK_MOST_RANKED];
    int32_t ids[SPACE], ranks[SEQTOPK_MOST_RANKED], has_ranks = 0;
    if (!cache || !rows || rows->struct_size != sizeof *rows || rows->layer < 0 || rows->layer >= cache->layers ||
        rows->take != SEQTOPK_TAKE_CAUSAL)
        return 0;
    const seqtopk_layer *layer = cache->layer + rows->layer;
    if (layer->plan->max_experts > SEQTOPK_MOST_RANKED ||
        !seqtopk_call_open_one(&call, layer->plan, input, output, scratch, scratch_size))
        return 0;
    const int32_t sequence = rows->sequences ? *rows->sequences : 0;
    if (sequence < 0 || sequence >= cache->sequences)
        return 0;
    seqtopk_past *past = seqtopk_cache_past(cache, rows->layer, sequence);
    const int64_t tokens = seqtopk_past_tokens(past);
    if ((rows->positions && *rows->positions != tokens) || tokens >= cache->max_tokens ||
        !seqtopk_past_reserve(past, &layer->rules, tokens, 1, &cache->purse))
        return 0;
    const int32_t n = (int32_t)seqtopk_collect_one(&call, ids, keys, SPACE, ranks, scores, &has_ranks);
    if (n < 0)
        return 0;
    if (!has_ranks)
        rank_row(layer->rules.kernels, &call, 0, ids, keys, n, words, sorted, ranks);
    const int weighs = n <= SEQTOPK_MOST_WEIGHED && seqtopk_weighs_scores(&call);
    int weighed;
    const seqtopk_ranked row = {
        keys, scores, ids, ranks, n, weighs ? &call.weighing : NULL, call.expert_ids, call.list_weights, &weighed};
    const int32_t stays = seqtopk_past_route_ranked(past, &layer->rules, call.rows.key, &row, &cache->purse);
    if (!weighed)
        leave_first(ids, keys, n, ranks, stays, call.expert_ids, call.list_weights);
    seqtopk_finish_one(&call, stays, weighed);
    return 1;
}

/* ------------------------------------------------------------------ steps -- */

/* One step of one part, of a step that was checked. */
static void do_step(seqtopk_cache_call *c, int32_t step) {
    switch (step) {
    case 1: seqtopk_step_collect(&c->route); return;
    case 2: step_decide(c); return;
    case 3: step_join(c); return;
    default: break;
    }
    if (!c->route.plan->adjusts) {
        if (step == 4)
            seqtopk_step_finish(&c->route);
        else if (step == 5)
            seqtopk_step_permute(&c->route);
        return;
    }
    switch (step) {
    case 4: seqtopk_step_weigh(&c->route); return;
    case 5: seqtopk_settle_lists(&c->route); return;
    case 6: seqtopk_step_tell(&c->route); return;
    case 7: seqtopk_step_permute(&c->route); return;
    default: return;
    }
}

seqtopk_status seqtopk_cache_step(seqtopk_cache *cache, const seqtopk_cache_rows *rows, const seqtopk_input *input,
                                  const seqtopk_output *output, void *scratch, size_t scratch_size,
                                  seqtopk_error *error) {
    seqtopk_cache_call c;
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    if (step_one(cache, rows, input, output, scratch, scratch_size))
        return SEQTOPK_OK;
    seqtopk_status status = open_step(&c, cache, rows, input, output, scratch, scratch_size, 0, 1, error);
    if (!status)
        status = check_step(&c, error);
    if (status)
        return status;
    c.route.list_scores = goes_row_by_row(&c) ? c.scores : NULL;
    seqtopk_step_collect(&c.route);
    seqtopk_call_mask_dropped(&c.route);
    status = seqtopk_check_logits(&c.route, error);
    if (!status && c.route.list_scores && c.route.in.tokens > 0 && c.route.runs->way == SEQTOPK_WAY_topk_scores) {
        decide_row_by_row(&c);
        return SEQTOPK_OK;
    }
    for (int32_t step = 2; step < (c.layer->plan->adjusts ? ADJUSTING_STEPS : STEPS) && !status; step++)
        do_step(&c, step);
    return status;
}

/* The same for all layers: a team has one number of barriers. */
int32_t seqtopk_cache_parts(const seqtopk_cache *cache) {
    return !cache ? 0 : cache->adjusts ? ADJUSTING_STEPS : STEPS;
}

seqtopk_status seqtopk_cache_step_part(seqtopk_cache *cache, const seqtopk_cache_rows *rows, const seqtopk_input *input,
                                       const seqtopk_output *output, void *scratch, size_t scratch_size, int32_t step,
                                       int32_t part, int32_t parts, seqtopk_error *error) {
    seqtopk_cache_call c;
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    const int32_t most = cache ? seqtopk_cache_parts(cache) : STEPS;
    if (step < 0 || step >= most)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "step is %d; it must be 0 to %d", (int)step, (int)most - 1);
    seqtopk_status status = open_step(&c, cache, rows, input, output, scratch, scratch_size, part, parts, error);
    if (status)
        return status;
    if (step == 0) { /* the first part looks at all rows; the others are told from the next step on */
        if (part > 0)
            return SEQTOPK_OK;
        c.checked->error = (seqtopk_error)SEQTOPK_ERROR_INIT;
        return c.checked->status = check_step(&c, &c.checked->error)
                                       ? seqtopk_fail(error, c.checked->error.status, c.checked->error.token, "%s",
                                                      c.checked->error.message)
                                       : SEQTOPK_OK;
    }
    if (c.checked->status)
        return seqtopk_fail(error, c.checked->status, c.checked->error.token, "%s", c.checked->error.message);
    if (step > 1) {
        seqtopk_call_mask_dropped(&c.route);
        status = seqtopk_check_logits(&c.route, error);
    }
    if (!status)
        do_step(&c, step);
    return status;
}

typedef struct {
    seqtopk_cache *cache;
    const seqtopk_cache_rows *rows;
    const seqtopk_input *input;
    const seqtopk_output *output;
    void *scratch;
    size_t scratch_size;
    int32_t step, parts;
} team;

static void team_task(void *arg, int32_t part) {
    const team *t = arg;
    seqtopk_cache_step_part(t->cache, t->rows, t->input, t->output, t->scratch, t->scratch_size, t->step, part,
                            t->parts, NULL);
}

seqtopk_status seqtopk_cache_step_parallel(seqtopk_cache *cache, const seqtopk_cache_rows *rows,
                                           const seqtopk_input *input, const seqtopk_output *output, void *scratch,
                                           size_t scratch_size, const seqtopk_parallel *parallel,
                                           seqtopk_error *error) {
    seqtopk_cache_call c;
    seqtopk_parallel loan;
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    seqtopk_status status = seqtopk_take_loan(&loan, parallel, error);
    if (!status)
        status = open_step(&c, cache, rows, input, output, scratch, scratch_size, 0, loan.threads, error);
    if (status)
        return status;
    const int64_t worthwhile = 1 + c.route.in.tokens * c.route.rows.experts / c.route.kernels->share;
    const int32_t parts = worthwhile < loan.threads ? (int32_t)worthwhile : loan.threads;
    if (parts == 1)
        return seqtopk_cache_step(cache, rows, input, output, scratch, scratch_size, error);
    team t = {cache, rows, input, output, scratch, scratch_size, 0, parts};
    status = seqtopk_cache_step_part(cache, rows, input, output, scratch, scratch_size, 0, 0, parts, error);
    if (!status)
        status = open_step(&c, cache, rows, input, output, scratch, scratch_size, 0, parts, error);
    for (t.step = 1; t.step < seqtopk_cache_parts(cache) && !status; t.step++) {
        status = seqtopk_lend(&loan, parts, team_task, &t, error);
        if (!status && t.step == 1)
            status = seqtopk_check_logits(&c.route, error);
    }
    return status;
}
