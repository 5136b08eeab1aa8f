/* SPDX-License-Identifier: MIT */
/*
 * A sequence by its candidates. A few of its rows tell about where it will be cut; one sweep scores all rows and catches the
 * candidates down to a little below that; the cut is then found among those, exactly. The sample only decides how much is
 * caught: if that was too little or too much it is asked again, and in the end the sequence goes stage by stage instead.
 *
 * Where keys are more than a sweep can make of logits (bias, groups, many sure experts), the candidates are candidates from keys,
 * block by block; a sequence of one block is its own sample.
 */
#include "src/route/call.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
    MOST_SURE = 16, /* what a sweep can catch for certain */
    TURNS = 4,      /* of estimates */
    /* A row's 16 lane maxima bound it closely where a lane has more than an expert or two and not nearly all count. */
    WHOLE_EXPERTS = 40, /* at least */
    WHOLE_TOP_K = 12    /* at most */
};

int seqtopk_sweeps(const seqtopk_call *call) { return call->plan->desc.scope == SEQTOPK_SCOPE_SEQUENCE; }

/* Whether candidates are candidates from keys, not from logits. */
static int by_keys(const seqtopk_call *call) {
    const seqtopk_plan *plan = call->plan;
    return seqtopk_is_grouped(&plan->desc) || plan->sure > MOST_SURE || call->rows.key == SEQTOPK_KEY_SCORE;
}

static int is_one_block(const seqtopk_call *call, int64_t begin, int64_t end, int64_t first, int64_t last) {
    return begin == first && end == last && end - begin <= seqtopk_call_block(call);
}

/* What part `part` catches of sequence s, whose first such token is `first`. */
static seqtopk_candidates run_catch(const seqtopk_call *call, int64_t s, int32_t part, int64_t first, int64_t last) {
    const int64_t at = 2 * call->plan->desc.top_k * first + SEQTOPK_CANDIDATES_SLACK * (s + part);
    seqtopk_candidates run = call->candidates;
    run.keys += at;
    run.ids += at;
    /* Keys that were made for this tell already what is sure and what is lost. */
    run.order = by_keys(call) || call->runs[s + part].exact ? run.keys : run.order + at;
    run.work = call->work.words;
    run.capacity = 2 * call->plan->desc.top_k * (last - first);
    run.size = 0;
    return run;
}

/*
 * A key that the cut of the sequence [first, last) is likely to be above, by a sample of its rows; 0 if none can be had.
 * share: 1, or how much more or less the sample is to let in where it has misled before.
 */
static int estimate(const seqtopk_call *call, int64_t first, int64_t last, double share, float *low) {
    const int32_t experts = call->rows.experts;
    const int64_t tokens = last - first;
    int64_t n = call->kernels->sample(tokens);
    n = n > call->plan->work_rows ? call->plan->work_rows : n;
    n = n > tokens / 4 ? tokens / 4 : n;
    if (n < 1)
        return 0;
    float shift[SEQTOPK_SAMPLE_MOST], lse[SEQTOPK_SAMPLE_MOST];
    uint8_t mask[SEQTOPK_SAMPLE_MOST];
    const int64_t step = tokens / n, from = first + step / 2;
    seqtopk_rows rows = call->rows;
    rows.logits = (const char *)rows.logits + from * rows.stride;
    rows.stride *= step;
    rows.shift = shift;
    rows.lse = lse;
    rows.token_mask = NULL;
    int64_t routed = n;
    if (call->in.token_mask) {
        for (int64_t i = 0; i < n; i++)
            mask[i] = call->in.token_mask[from + i * step];
        rows.token_mask = mask;
        routed = seqtopk_unmasked(mask, 0, n);
    }
    if (call->kernels->lse(&rows, 0, n) >= 0)
        return 0;
    seqtopk_call sample = *call; /* candidates as the sequence's bounds leave them */
    sample.rows = rows;
    sample.in.token_mask = rows.token_mask;
    seqtopk_candidate_keys(&sample, 0, n, call->work.keys);
    const double expected = (double)routed * call->plan->desc.top_k;
    const double eligible = (double)routed * call->plan->most;
    double place = share * (expected + 3.0 * sqrt(expected) + 2.0);
    /* Bounds leave little beyond the budget, and make counts vary less. */
    if (share == 1.0 && place > expected + 0.6 * (eligible - expected))
        place = expected + 0.6 * (eligible - expected);
    if (place > eligible)
        place = eligible;
    if (place < 1.0)
        return 0;
    *low = call->kernels->select_keys(call->work.keys, n * experts, (int64_t)place, call->work.spare).key;
    return fabsf(*low) <= 1e30f;
}

/* A run's candidates out of the logits; returns the first token with NaN or +inf, or -1. */
static int64_t catch_by_sweep(const seqtopk_call *call, int64_t first, int64_t last, seqtopk_run *run,
                              seqtopk_candidates *candidates) {
    const int64_t bad = call->kernels->collect_logits(&call->rows, first, last, run->low, call->plan->sure, candidates);
    if (bad < 0 && candidates->size > 0 && candidates->order != candidates->keys)
        call->kernels->bound_candidates(candidates, first, last, call->plan->sure, call->plan->most);
    run->size = candidates->size;
    return bad;
}

/* The candidates of a sequence that is one block, down to its cut. */
static void catch_one_block(const seqtopk_call *call, int64_t first, int64_t last, seqtopk_run *run,
                            seqtopk_candidates *candidates) {
    const int32_t experts = call->rows.experts;
    const int64_t budget = seqtopk_unmasked(call->in.token_mask, first, last) * call->plan->desc.top_k;
    if (budget < 1)
        return;
    seqtopk_candidate_keys(call, first, last, call->work.keys);
    run->place = call->kernels->select_keys(call->work.keys, (last - first) * experts, budget, call->work.spare);
    if (!(fabsf(run->place.key) <= FLT_MAX))
        return;
    run->low = run->place.key;
    call->kernels->collect_keys(call->work.keys, experts, first, last, run->low, candidates);
    run->size = candidates->size;
    run->exact = run->size >= 0;
}

/* A sequence of one block that has neither bounds nor keys of its own making; returns 0 if that is not the way. */
static int catch_whole(const seqtopk_call *call, int64_t first, int64_t last, seqtopk_run *run, seqtopk_candidates *candidates,
                       int64_t *bad) {
    const seqtopk_plan *plan = call->plan;
    const int64_t budget = seqtopk_unmasked(call->in.token_mask, first, last) * plan->desc.top_k;
    if (by_keys(call) || plan->sure > 0 || plan->most < plan->desc.experts || plan->desc.experts < WHOLE_EXPERTS ||
        plan->desc.top_k > WHOLE_TOP_K || budget < 1)
        return 0;
    *bad = call->kernels->collect_short(&call->rows, first, last, budget, call->kernels->select_keys, call->work.spare, &run->low,
                                candidates);
    run->size = *bad < 0 ? candidates->size : -1;
    candidates->size = 0; /* for who tries after this */
    return *bad >= 0 || run->size >= 0;
}

/*
 * A run's candidates out of keys that are made block by block. Rows from token *looked on are scored on the way, while they
 * are at hand. Returns the first bad token, or -1.
 */
static int64_t catch_by_keys(const seqtopk_call *call, int64_t first, int64_t last, seqtopk_run *run,
                             seqtopk_candidates *candidates, int64_t *looked) {
    const int64_t block = seqtopk_call_block(call);
    for (int64_t t = first, next; t < last && candidates->size >= 0; t = next) {
        next = last - t < block ? last : t + block;
        const int64_t bad = next > *looked ? call->kernels->lse(&call->rows, t, next) : -1;
        if (bad >= 0)
            return bad;
        *looked = next > *looked ? next : *looked;
        seqtopk_candidate_keys(call, t, next, call->work.keys);
        call->kernels->collect_keys(call->work.keys, call->rows.experts, t, next, run->low, candidates);
    }
    run->size = candidates->size;
    return -1;
}

/*
 * Down to an estimate. Where that lets in too much for the work that there is, or too little though this run is the whole
 * sequence, another one is made between what is known to be too little and too much: each costs as much again, and the
 * stages one by one cost much more.
 */
static int64_t catch_estimated(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, seqtopk_run *run) {
    int64_t begin, end, bad = -1, looked = first;
    double share = 1.0, too_little = 0.0, too_much = 0.0;
    seqtopk_call_sequence(call, s, &begin, &end);
    const int is_whole = first == begin && last == end;
    const int64_t budget = seqtopk_unmasked(call->in.token_mask, begin, end) * call->plan->desc.top_k;
    for (int turn = 0; turn < TURNS && estimate(call, begin, end, share, &run->low); turn++) {
        seqtopk_candidates candidates = run_catch(call, s, call->part, first, last);
        bad = by_keys(call) ? catch_by_keys(call, first, last, run, &candidates, &looked)
                            : catch_by_sweep(call, first, last, run, &candidates);
        if (bad >= 0 || (run->size >= 0 && !(is_whole && run->size < budget)))
            return bad;
        if (run->size < 0)
            too_much = share;
        else
            too_little = share;
        share = too_much == 0.0     ? 1.5 * share * (double)budget / (double)(run->size + 1)
                : too_little == 0.0 ? 0.5 * share
                                    : sqrt(too_little * too_much);
    }
    /* As yet nothing may have looked at all rows. */
    return run->size < 0 ? call->kernels->lse(&call->rows, first, last) : bad;
}

/* Catches the candidates of this part's tokens; returns the first with NaN or +inf, or -1. */
int64_t seqtopk_sweep_share(const seqtopk_call *call) {
    int64_t first, last;
    seqtopk_call_share(call, call->part, &first, &last);
    for (int64_t s = 0; s < call->sequences; s++) {
        int64_t begin, end, bad;
        seqtopk_call_sequence(call, s, &begin, &end);
        const int64_t from = begin > first ? begin : first, to = end < last ? end : last;
        seqtopk_run *run = call->runs + s + call->part;
        if (from >= to)
            continue;
        run->size = -1;
        run->exact = 0;
        seqtopk_candidates candidates = run_catch(call, s, call->part, from, to);
        const int one_block = is_one_block(call, begin, end, from, to);
        if (call->kernels->staged) {
            run->low = 0.0f;
            (void)catch_by_sweep(call, from, to, run, &candidates); /* declines */
            bad = call->kernels->lse(&call->rows, from, to);
        } else if (!one_block) {
            bad = catch_estimated(call, s, from, to, run);
        } else if (!catch_whole(call, from, to, run, &candidates, &bad)) {
            bad = call->kernels->lse(&call->rows, from, to);
            if (bad < 0)
                catch_one_block(call, from, to, run, &candidates);
        }
        if (bad >= 0)
            return bad;
    }
    return -1;
}

/* A run of a sequence, as the part that cuts it sees what another part candidates. */
typedef struct {
    const seqtopk_run *run;
    seqtopk_candidates candidates;
    int64_t first, last;
} run_view;

/* The run after *part, which moves on; 0 after the last. Runs come in the order of tokens. */
static int next_run(const seqtopk_call *call, int64_t s, int32_t *part, run_view *view) {
    int64_t begin, end;
    seqtopk_call_sequence(call, s, &begin, &end);
    for (; *part < call->parts; ++*part) {
        int64_t first, last;
        seqtopk_call_share(call, *part, &first, &last);
        view->first = begin > first ? begin : first;
        view->last = end < last ? end : last;
        if (view->first >= view->last)
            continue;
        view->run = call->runs + s + *part;
        view->candidates = run_catch(call, s, *part, view->first, view->last);
        ++*part;
        return 1;
    }
    return 0;
}

/* The place of the n-th candidate whose key is `key`, in the order of tokens and experts. */
static seqtopk_cut find_tie(const seqtopk_call *call, int64_t s, float key, int64_t n) {
    run_view view;
    for (int32_t part = 0; next_run(call, s, &part, &view);) {
        int64_t i = 0;
        for (int64_t t = view.first; t < view.last; t++)
            for (const int64_t next = i + view.candidates.counts[t]; i < next; i++)
                if (view.candidates.order[i] == key && --n == 0)
                    return (seqtopk_cut){key, view.candidates.ids[i], t};
    }
    return (seqtopk_cut){key, INT32_MAX - 1, INT64_MAX};
}

/* Where the n-th candidate stands, by what `place` says about its key. */
static seqtopk_cut cut_at(const seqtopk_call *call, int64_t s, seqtopk_kth place, int64_t n) {
    return place.above + place.equal == n ? (seqtopk_cut){place.key, INT32_MAX - 1, INT64_MAX}
                                          : find_tie(call, s, place.key, n - place.above);
}

int seqtopk_find_swept_cut(const seqtopk_call *call, int64_t s, seqtopk_sequence *sequence) {
    int64_t begin, end, candidates = 0;
    int32_t runs = 0;
    run_view view;
    const float *keys = NULL;
    float low = -INFINITY;
    seqtopk_call_sequence(call, s, &begin, &end);
    float *work = call->reservoir + 2 * call->plan->desc.top_k * begin;
    const int64_t budget = seqtopk_unmasked(call->in.token_mask, begin, end) * call->plan->desc.top_k;
    for (int32_t part = 0; next_run(call, s, &part, &view);) {
        if (view.run->size < 0)
            return 0;
        low = view.run->low > low ? view.run->low : low; /* parts may have come to different ones */
        candidates += view.run->size;
        keys = view.candidates.order;
        runs++;
    }
    if (budget < 1 || candidates < budget)
        return 0;
    /* Keys with a bias are not scores, and of those that are sure only +inf is known. */
    sequence->has_keys = !by_keys(call) && !(view.run->exact && call->plan->sure > 0);
    if (runs == 1 && view.run->exact) {
        sequence->cut = cut_at(call, s, view.run->place, budget);
        return 1;
    }
    if (runs > 1) {
        int64_t at = 0;
        for (int32_t part = 0; next_run(call, s, &part, &view); at += view.run->size)
            memcpy(work + at, view.candidates.order, (size_t)view.run->size * sizeof *work);
        keys = work;
    }
    const seqtopk_kth place = call->kernels->select_keys(keys, candidates, budget, work);
    if (!(place.key >= low && place.key <= FLT_MAX))
        return 0; /* candidates of such keys were not all candidates */
    sequence->cut = cut_at(call, s, place, budget);
    return 1;
}

static void skip_tokens(seqtopk_candidates *from, int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) {
        from->keys += from->counts[t];
        from->order += from->counts[t];
        from->ids += from->counts[t];
    }
}

/* The cut's own token: ties up to the cut's expert. */
static int64_t list_cut_token(const seqtopk_call *call, const seqtopk_candidates *from, const seqtopk_cut *cut,
                              const seqtopk_lists *to, int64_t at) {
    static const seqtopk_weighing plain = {.norm = SEQTOPK_NORM_NONE, .scale = 1.0f};
    const int64_t begin = at;
    if (to)
        to->offsets[cut->token] = (int32_t)at;
    for (int32_t i = 0; i < from->counts[cut->token]; i++)
        if (from->order[i] > cut->key || (from->order[i] == cut->key && from->ids[i] <= cut->expert)) {
            if (to) {
                to->ids[at] = from->ids[i];
                to->keys[at] = from->keys[i];
            }
            at++;
        }
    const int32_t own[] = {0, (int32_t)(at - begin)};
    if (to && to->to_scores)
        call->kernels->weigh_keys(to->score, &plain, 0, 1, own, to->keys + begin);
    return at;
}

int64_t seqtopk_list_swept(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, int64_t at, int list) {
    const seqtopk_cut *cut = &call->sequence[s].cut;
    const seqtopk_lists lists = seqtopk_lists_of(call, call->sequence[s].has_keys), *to = list ? &lists : NULL;
    seqtopk_candidates from = run_catch(call, s, call->part, first, last);
    /* Beyond these pairs stand another part's. */
    const int64_t end =
        call->parts > 1 ? call->slots[call->part].end : seqtopk_max_selected(call->plan, call->in.tokens);
    if (cut->token < first || cut->token >= last)
        return call->kernels->list_candidates(&from, first, last, cut->key, cut->token >= last, to, at, end);
    if (first < cut->token)
        at = call->kernels->list_candidates(&from, first, cut->token, cut->key, 1, to, at, end);
    skip_tokens(&from, first, cut->token);
    at = list_cut_token(call, &from, cut, to, at);
    skip_tokens(&from, cut->token, cut->token + 1);
    return cut->token + 1 < last ? call->kernels->list_candidates(&from, cut->token + 1, last, cut->key, 0, to, at, end) : at;
}
