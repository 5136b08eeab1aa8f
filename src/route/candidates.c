/* SPDX-License-Identifier: MIT */
/* The cut and list steps of the ways that collect candidates: the exact cut among them, and the lists of the
 * selected. */
#include "src/route/way.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Whether candidates were collected from keys after groups and bounds (seqtopk_candidate_keys), where the key of a
 * candidate that is selected in any case is +inf. */
static int is_of_keys(int32_t way) { return way == SEQTOPK_WAY_short_keys || way == SEQTOPK_WAY_sweep_keys; }

seqtopk_candidates seqtopk_run_candidates(const seqtopk_call *call, int64_t s, int32_t part, int64_t first,
                                          int64_t last) {
    const int64_t at = call->spread * first + SEQTOPK_RUN_SLACK * (s + part);
    seqtopk_candidates candidates = call->candidates;
    candidates.keys += at;
    candidates.ids += at;
    candidates.order = is_of_keys(call->runs[s + part].way) ? candidates.keys : candidates.order + at;
    candidates.work = call->work.words;
    candidates.capacity = call->spread * (last - first);
    candidates.size = 0;
    return candidates;
}

/* -------------------------------------------------------------------- cut -- */

/* What some part collected of a sequence, as the part that cuts the sequence reads it. */
typedef struct {
    const seqtopk_run *run;
    seqtopk_candidates candidates;
    int64_t first, last;
} run_view;

/* Iterates over the runs of a sequence, in the order of tokens: the run of the first part from *part on that has
 * one; *part becomes the part after it. Returns 0 after the last. */
static int next_run(const seqtopk_call *call, int64_t s, int32_t *part, run_view *view) {
    for (; *part < call->parts; ++*part) {
        if (!seqtopk_call_run(call, s, *part, &view->first, &view->last))
            continue;
        view->run = call->runs + s + *part;
        view->candidates = seqtopk_run_candidates(call, s, *part, view->first, view->last);
        ++*part;
        return 1;
    }
    return 0;
}

seqtopk_cut seqtopk_find_collected(const seqtopk_call *call, int64_t s, float key, int64_t n) {
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

/* The n-th candidate, whose key and counts are `kth`. A cut behind all tokens needs no search: all ties are
 * selected. */
static seqtopk_cut cut_at(const seqtopk_call *call, int64_t s, seqtopk_kth kth, int64_t n) {
    return kth.above + kth.equal == n ? (seqtopk_cut){kth.key, INT32_MAX - 1, INT64_MAX}
                                      : seqtopk_find_collected(call, s, kth.key, n - kth.above);
}

/* All keys of a sequence's runs: in place if there is one run, else a copy. */
static const float *gather_keys(const seqtopk_call *call, int64_t s, float *copy) {
    run_view view, other;
    int64_t at = 0;
    int32_t part = 0;
    if (next_run(call, s, &part, &view) && !next_run(call, s, &part, &other))
        return view.candidates.order;
    for (part = 0; next_run(call, s, &part, &view); at += view.run->size)
        memcpy(copy + at, view.candidates.order, (size_t)view.run->size * sizeof *copy);
    return copy;
}

/* Unless keys include a bias or are +inf for min_experts. */
int seqtopk_has_keys(const seqtopk_call *call, int32_t way) {
    return !call->is_keyed && !(is_of_keys(way) && call->plan->min_experts > 0);
}

static int falls_back(seqtopk_sequence *sequence, seqtopk_fallback why) {
    sequence->fallback = (int16_t)why;
    return 0;
}

int seqtopk_candidates_cut(const seqtopk_call *call, int64_t s, seqtopk_sequence *sequence) {
    int64_t begin, end, size = 0;
    run_view view;
    float low = -INFINITY;
    int is_cut = 0;
    seqtopk_kth kth = {0, 0, 0};
    seqtopk_call_sequence(call, s, &begin, &end);
    const int64_t budget = seqtopk_call_budget(call, begin, end);
    for (int32_t part = 0; next_run(call, s, &part, &view);) {
        low = view.run->low > low ? view.run->low : low; /* each part may have lowered its bound by itself */
        size += view.run->size;
        is_cut = view.run->is_cut != 0; /* is set only where one run is the whole sequence */
        kth = view.run->kth;
    }
    if (budget < 1 || size < budget)
        return falls_back(sequence, SEQTOPK_FALLBACK_FEW);
    sequence->has_keys = seqtopk_has_keys(call, sequence->way);
    if (!is_cut) {
        float *work = call->reservoir + 2 * call->plan->desc.top_k * begin;
        kth = call->kernels->select_keys(gather_keys(call, s, work), size, budget, work);
        if (!(kth.key >= low && kth.key <= FLT_MAX)) /* below `low` not all candidates were collected */
            return falls_back(sequence, SEQTOPK_FALLBACK_SAMPLE);
    }
    sequence->cut = cut_at(call, s, kth, budget);
    return 1;
}

/* ------------------------------------------------------------------- list -- */

static void skip_tokens(seqtopk_candidates *from, int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) {
        from->keys += from->counts[t];
        from->order += from->counts[t];
        from->ids += from->counts[t];
    }
}

/* Lists the token of the cut: of the candidates with the cut's key, those up to the cut's expert, or as many by logit. */
static int64_t list_cut_token(const seqtopk_call *call, const seqtopk_candidates *from, const seqtopk_cut *cut,
                              const seqtopk_lists *to, int64_t at) {
    static const seqtopk_weighing plain = {.norm = SEQTOPK_NORM_NONE, .scale = 1.0f, .least = -INFINITY};
    const int64_t begin = at;
    int in = 0, out = 0; /* whether there are some at the cut's key */
    if (to)
        to->offsets[cut->token] = (int32_t)at;
    for (int32_t i = 0; i < from->counts[cut->token]; i++) {
        const int is_equal = from->order[i] == cut->key, stays = from->ids[i] <= cut->expert;
        in |= is_equal & stays;
        out |= is_equal & !stays;
        if (from->order[i] > cut->key || (is_equal && stays)) {
            if (to) {
                to->ids[at] = from->ids[i];
                to->keys[at] = from->keys[i];
            }
            at++;
        }
    }
    const int32_t own[] = {0, (int32_t)(at - begin)};
    if (to && in && out && seqtopk_tells_by_logit(call))
        seqtopk_list_first(call, cut->token, own[1], to->ids + begin, to->keys + begin);
    if (to && to->to_scores)
        call->kernels->weigh_keys(to->score, &plain, 0, 1, own, to->keys + begin);
    return at;
}

int64_t seqtopk_candidates_list(const seqtopk_call *call, int64_t s, int64_t first, int64_t last, int64_t at,
                                int list) {
    const seqtopk_cut *cut = &call->sequence[s].cut;
    const seqtopk_lists lists = seqtopk_lists_of(call, call->sequence[s].has_keys), *to = list ? &lists : NULL;
    seqtopk_candidates from = seqtopk_run_candidates(call, s, call->part, first, last);
    seqtopk_list_candidates_fn *const filter = call->kernels->list_candidates;
    /* Kernels must not write at or beyond this pair: the lists of the next part begin there. */
    const int64_t end = !list ? at : call->parts > 1 ? call->reports[call->part].end : call->most;
    if (cut->token < first || cut->token >= last)
        return filter(&from, first, last, cut->key, cut->token >= last, to, at, end);
    if (first < cut->token)
        at = filter(&from, first, cut->token, cut->key, 1, to, at, end);
    skip_tokens(&from, first, cut->token);
    at = list_cut_token(call, &from, cut, to, at);
    skip_tokens(&from, cut->token, cut->token + 1);
    return cut->token + 1 < last ? filter(&from, cut->token + 1, last, cut->key, 0, to, at, end) : at;
}
