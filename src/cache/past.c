/* SPDX-License-Identifier: MIT */
#include "src/cache/past.h"
#include "arch/contest.h"
#include "arch/words.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* So many tokens are taken back one by one; where more go, the ladder is made anew when it is asked next. */
enum { TAKEN_BACK = 64, WORDS = 64 };

static int32_t width_of(const seqtopk_rules *rules) {
    return rules->has_threshold ? 0 : rules->max_experts - rules->min_experts;
}

static seqtopk_token_note *note_of(const seqtopk_past *past, int64_t token) {
    int64_t count;
    return (seqtopk_token_note *)(uintptr_t)seqtopk_shelf_at(&past->log.tokens, token, &count);
}

void seqtopk_past_init(seqtopk_past *past, const seqtopk_rules *rules) {
    *past = (seqtopk_past){.log.width = width_of(rules), .log.kernels = rules->kernels, .next = -1};
    seqtopk_shelf_init(&past->log.tokens,
                       (int32_t)(sizeof(seqtopk_token_note) + (size_t)past->log.width * sizeof(float)));
}

void seqtopk_past_free(seqtopk_past *past, seqtopk_purse *purse) {
    seqtopk_shelf_free(&past->log.tokens, purse);
    seqtopk_ladder_drop(past->ladder, purse);
    past->ladder = NULL;
    if (past->counts)
        seqtopk_purse_give(purse, past->counts, seqtopk_counts_bytes(past->counts->width, past->counts->depth));
    past->counts = NULL;
    past->routed = past->sure = past->given = 0;
}

int seqtopk_past_reserve(seqtopk_past *past, const seqtopk_rules *rules, int64_t at, int64_t n, seqtopk_purse *purse) {
    if (rules->is_compact) {
        if (past->counts)
            return 1;
        past->counts = seqtopk_purse_take(purse, seqtopk_counts_bytes(past->log.width, rules->depth));
        if (past->counts)
            seqtopk_counts_init(past->counts, past->log.width, rules->depth);
        return past->counts != NULL;
    }
    const int32_t step = rules->top_k > past->log.width ? rules->top_k : past->log.width;
    if (!past->ladder && !rules->has_threshold && past->log.width > 0 &&
        !(past->ladder = seqtopk_ladder_make(step, purse)))
        return 0;
    return seqtopk_shelf_reserve(&past->log.tokens, at, n, purse);
}

static void make_words(const float *keys, int32_t n, int64_t token, uint64_t *words) {
    for (int32_t j = 0; j < n; j++)
        words[j] = seqtopk_word_of(keys[j], token);
}

static int32_t competing(const seqtopk_past *past, const seqtopk_token_note *note) {
    int32_t n = 0;
    while (n < past->log.width && seqtopk_note_keys(note)[n] > -INFINITY)
        n++;
    return n;
}

/* -------------------------------------------------------------- the next -- */

/* Behind a token's keys [n], which compete. */
static void end_keys(const seqtopk_past *past, float *keys, int32_t n) {
    for (int32_t j = n; j < past->log.width; j++)
        keys[j] = -INFINITY;
}

/* Writes a token to the end of the log; its keys [n] compete. */
static seqtopk_token_note *write_note(seqtopk_past *past, uint32_t sure, const float *keys, int32_t n,
                                      seqtopk_purse *purse) {
    seqtopk_token_note *note = seqtopk_shelf_push(&past->log.tokens, purse); /* reserved */
    float *own = (float *)(note + 1);
    note->sure = sure;
    note->given = 0;
    for (int32_t j = 0; j < n; j++) /* onto themselves where a log is routed again */
        own[j] = keys[j];
    end_keys(past, own, n);
    return note;
}

/* The next token brings its budget, and is sure of `sure` experts. Returns how many places others have. */
static int64_t bring_budget(seqtopk_past *past, const seqtopk_rules *rules, int32_t sure) {
    past->routed++;
    past->sure += sure;
    return seqtopk_past_places(past, rules);
}

static int32_t of_threshold(const seqtopk_rules *rules, const float *keys, int32_t n) {
    int32_t count = 0;
    while (count < n && keys[count] >= rules->threshold)
        count++;
    return count;
}

/* The bins of keys [n], in the places of words [n]. */
static const uint16_t *make_bins(int32_t key, const float *keys, int32_t n, uint64_t *words) {
    uint16_t *bins = (uint16_t *)(void *)words;
    for (int32_t j = 0; j < n; j++)
        bins[j] = seqtopk_bin_of(key, keys[j]);
    return bins;
}

static int32_t within_ledger(const seqtopk_past *past, const seqtopk_rules *rules, int32_t given) {
    const int64_t left = past->routed * rules->top_k - past->given;
    return rules->is_ledger && given > left ? (int32_t)left : given;
}

static int32_t route_compactly(seqtopk_past *past, const seqtopk_rules *rules, int32_t key, int32_t sure,
                               const float *keys, int32_t left, int64_t places, uint64_t *words) {
    const uint16_t *bins = make_bins(key, keys, left, words);
    const int32_t winners = seqtopk_counts_winners(past->counts, bins, left, places);
    const int32_t given = within_ledger(past, rules, sure + winners);
    *seqtopk_counts_add(past->counts, bins, left) = (seqtopk_token_note){(uint32_t)sure, (uint32_t)given};
    past->given += given;
    return given;
}

/* Whether the ladder can tell who of the next token's `n` keys are among the first `places`. */
static int has_cut(const seqtopk_past *past, int32_t n, int64_t places, seqtopk_purse *purse) {
    return seqtopk_ladder_has(past->ladder, places - n + 1, places) ||
           (seqtopk_ladder_settle(past->ladder, &past->log, places, purse) &&
            seqtopk_ladder_has(past->ladder, places - n + 1, places));
}

/* Decides about the next token, which has brought its budget and is sure of `sure` experts; `left` more compete for `places`,
 * with these keys. */
static int32_t route_next(seqtopk_past *past, const seqtopk_rules *rules, int32_t sure, const float *keys, int32_t left,
                          int64_t places, seqtopk_purse *purse) {
    seqtopk_contest contest = {.winners = 0};
    if (past->ladder && has_cut(past, left, places, purse)) {
        contest = seqtopk_ladder_contest(past->ladder, past->log.tokens.size, sure, left, places);
        seqtopk_hold_contest(&contest, keys, left);
    } else if (past->ladder) {
        contest.winners = seqtopk_ladder_count(&past->log, keys, left, places);
    } else if (rules->has_threshold) {
        contest.winners = of_threshold(rules, keys, left);
    }
    const int32_t given = within_ledger(past, rules, sure + contest.winners);
    past->given += given;
    seqtopk_token_note *note = write_note(past, (uint32_t)sure, keys, past->ladder ? left : 0, purse);
    note->given = (uint32_t)given;
    if (past->ladder)
        seqtopk_ladder_join(past->ladder, &past->log, seqtopk_note_keys(note), left, &contest, places, purse);
    return given;
}

static void enter_masked(seqtopk_past *past, const seqtopk_rules *rules, seqtopk_purse *purse) {
    static const seqtopk_contest none = {.winners = 0};
    if (past->counts) {
        *seqtopk_counts_add(past->counts, NULL, 0) = (seqtopk_token_note){SEQTOPK_NOTE_MASKED, 0};
        return;
    }
    (void)write_note(past, SEQTOPK_NOTE_MASKED, NULL, 0, purse);
    if (past->ladder)
        seqtopk_ladder_join(past->ladder, &past->log, NULL, 0, &none, seqtopk_past_places(past, rules), purse);
}

int32_t seqtopk_past_route(seqtopk_past *past, const seqtopk_rules *rules, int32_t key, const float *keys, int32_t n,
                           int is_masked, uint64_t *words, seqtopk_purse *purse) {
    const int32_t sure = n < rules->min_experts ? n : rules->min_experts;
    if (is_masked) {
        enter_masked(past, rules, purse);
        return 0;
    }
    const int64_t places = bring_budget(past, rules, sure);
    return past->counts ? route_compactly(past, rules, key, sure, keys + sure, n - sure, places, words)
                        : route_next(past, rules, sure, keys + sure, n - sure, places, purse);
}

/* Decides about the next token at once, and weighs. */
static int32_t route_weighed(seqtopk_past *past, const seqtopk_rules *rules, int32_t sure, const seqtopk_ranked *row,
                             int64_t places, seqtopk_purse *purse) {
    const int32_t left = row->n - sure;
    seqtopk_contest contest = seqtopk_ladder_contest(past->ladder, past->log.tokens.size, sure, left, places);
    seqtopk_token_note *note = seqtopk_shelf_push(&past->log.tokens, purse); /* reserved */
    float *own = (float *)(note + 1);
    *row->weighed = rules->kernels->contest_ranked(&contest, row->how, row->keys, row->scores, row->ids, row->ranks,
                                                   row->n, own, row->kept_ids, row->weights);
    end_keys(past, own, left);
    const int32_t given = sure + contest.winners;
    *note = (seqtopk_token_note){(uint32_t)sure, (uint32_t)given};
    past->given += given;
    seqtopk_ladder_join(past->ladder, &past->log, own, left, &contest, places, purse);
    return given;
}

int32_t seqtopk_past_route_ranked(seqtopk_past *past, const seqtopk_rules *rules, int32_t key,
                                  const seqtopk_ranked *row, seqtopk_purse *purse) {
    const int32_t n = row->n, sure = n < rules->min_experts ? n : rules->min_experts;
    float sorted[SEQTOPK_MOST_RANKED];
    uint64_t words[SEQTOPK_MOST_RANKED];
    const int64_t places = bring_budget(past, rules, sure);
    if (past->ladder && row->how && !rules->is_ledger && sure <= SEQTOPK_MOST_SURE &&
        has_cut(past, n - sure, places, purse))
        return route_weighed(past, rules, sure, row, places, purse);
    for (int32_t i = 0; i < n; i++)
        sorted[row->ranks[i]] = row->keys[i];
    const int32_t given = past->counts ? route_compactly(past, rules, key, sure, sorted + sure, n - sure, places, words)
                                       : route_next(past, rules, sure, sorted + sure, n - sure, places, purse);
    *row->weighed = row->how && rules->kernels->weigh_ranked(row->how, row->scores, row->ids, row->ranks, n, given,
                                                             row->kept_ids, row->weights);
    return given;
}

int32_t seqtopk_past_given(const seqtopk_past *past, int64_t token) {
    return (int32_t)(past->counts ? seqtopk_counts_note(past->counts, token) : note_of(past, token))->given;
}

/* Nobody has asked yet where the past is cut with n keys more. */
static void grow(seqtopk_past *past, int32_t n, seqtopk_purse *purse) {
    if (past->ladder && n > 0)
        seqtopk_ladder_unsettle(past->ladder, past->ladder->total + n, purse);
}

void seqtopk_past_append(seqtopk_past *past, const seqtopk_rules *rules, int32_t key, const float *keys, int32_t n,
                         int is_masked, uint64_t *words, seqtopk_purse *purse) {
    if (is_masked) {
        enter_masked(past, rules, purse);
        return;
    }
    const int32_t sure = n < rules->min_experts ? n : rules->min_experts, left = n - sure;
    (void)bring_budget(past, rules, sure);
    if (past->counts) {
        const uint16_t *bins = make_bins(key, keys + sure, left, words);
        *seqtopk_counts_add(past->counts, bins, left) = (seqtopk_token_note){(uint32_t)sure, 0};
        return;
    }
    (void)write_note(past, (uint32_t)sure, keys + sure, past->ladder ? left : 0, purse);
    grow(past, left, purse);
}

void seqtopk_past_restore(seqtopk_past *past, const void *bytes, seqtopk_purse *purse) {
    seqtopk_token_note *note = seqtopk_shelf_push(&past->log.tokens, purse); /* reserved */
    memcpy(note, bytes, (size_t)past->log.tokens.element);
    const int32_t n = competing(past, note);
    if (note->sure == SEQTOPK_NOTE_MASKED)
        return;
    past->routed++;
    past->sure += note->sure;
    past->given += note->given;
    grow(past, n, purse);
}

/* ---------------------------------------------------------------- jointly -- */

/* The word of rank `places` of all that compete, by its digits from the highest on: eight times through the log. */
static uint64_t word_of_rank(const seqtopk_past *past, int64_t places) {
    enum { DIGITS = 1 << 8 };
    uint64_t prefix = 0;
    int64_t left = places;
    for (int shift = 56; shift >= 0; shift -= 8) {
        int64_t count[DIGITS] = {0};
        for (int64_t t = 0; t < seqtopk_past_tokens(past); t++) {
            const float *keys = seqtopk_note_keys(note_of(past, t));
            for (int32_t j = 0; j < past->log.width && keys[j] > -INFINITY; j++) {
                const uint64_t word = seqtopk_word_of(keys[j], t);
                if (shift == 56 || word >> (shift + 8) == prefix)
                    count[word >> shift & (DIGITS - 1)]++;
            }
        }
        int digit = DIGITS - 1;
        for (; digit > 0 && count[digit] < left; digit--)
            left -= count[digit];
        prefix = prefix << 8 | (uint64_t)digit;
    }
    return prefix;
}

/* Of the keys in the cut's bin those of earlier tokens come first. */
static void route_jointly_and_compactly(seqtopk_past *past, const seqtopk_rules *rules, int64_t from) {
    seqtopk_counts *counts = past->counts;
    int32_t cut;
    int64_t ties = seqtopk_past_places(past, rules) -
                   seqtopk_counts_cut(counts, seqtopk_past_places(past, rules), &cut) - counts->bin[cut];
    for (int64_t t = from; t < counts->tokens; t++) /* the past's come first of all */
        for (int32_t j = 0; j < counts->width; j++)
            ties += seqtopk_note_bins(seqtopk_counts_note(counts, t))[j] == cut;
    for (int64_t t = from; t < counts->tokens; t++) {
        seqtopk_token_note *note = seqtopk_counts_note(counts, t);
        const uint16_t *bins = seqtopk_note_bins(note);
        int32_t winners = 0;
        while (winners < counts->width && bins[winners] < SEQTOPK_BINS &&
               (bins[winners] > cut || (bins[winners] == cut && ties-- > 0)))
            winners++;
        note->given = note->sure == SEQTOPK_NOTE_MASKED ? 0 : note->sure + (uint32_t)winners;
        past->given += note->given;
    }
}

void seqtopk_past_route_jointly(seqtopk_past *past, const seqtopk_rules *rules, int64_t from) {
    if (past->counts) {
        route_jointly_and_compactly(past, rules, from);
        return;
    }
    const int64_t places = seqtopk_past_places(past, rules), total = past->ladder ? past->ladder->total : 0;
    const uint64_t last = places >= total ? SEQTOPK_WORD_LEAST
                          : places < 1    ? SEQTOPK_WORD_MOST
                                          : word_of_rank(past, places);
    int64_t before = 0; /* of the equals of `last`, which are one token's, those that win */
    for (int64_t t = 0; last != SEQTOPK_WORD_LEAST && last != SEQTOPK_WORD_MOST && t < seqtopk_past_tokens(past); t++) {
        const float *keys = seqtopk_note_keys(note_of(past, t));
        for (int32_t j = 0; j < past->log.width && keys[j] > -INFINITY; j++)
            before += seqtopk_word_of(keys[j], t) > last;
    }
    for (int64_t t = from; t < seqtopk_past_tokens(past); t++) {
        seqtopk_token_note *note = note_of(past, t);
        const float *keys = seqtopk_note_keys(note);
        int64_t ties = places - before;
        int32_t winners = 0;
        for (; winners < past->log.width && keys[winners] > -INFINITY; winners++) {
            const uint64_t word = seqtopk_word_of(keys[winners], t);
            if (word < last || (word == last && ties-- <= 0))
                break;
        }
        const int is_masked = note->sure == SEQTOPK_NOTE_MASKED;
        note->given = is_masked ? 0 : note->sure + (uint32_t)winners;
        past->given += note->given;
    }
}

/* ------------------------------------------------------------------- life -- */

static void forget(seqtopk_past *past, const seqtopk_token_note *note) {
    if (note->sure == SEQTOPK_NOTE_MASKED)
        return;
    past->routed--;
    past->sure -= note->sure;
    past->given -= note->given;
}

static void truncate_counts(seqtopk_past *past, int64_t tokens) {
    if (tokens == 0) { /* all of them, known or not */
        seqtopk_counts_init(past->counts, past->counts->width, past->counts->depth);
        past->routed = past->sure = past->given = 0;
    }
    while (past->counts->tokens > tokens)
        forget(past, seqtopk_counts_take_back(past->counts));
}

void seqtopk_past_truncate(seqtopk_past *past, int64_t tokens, int64_t keep, seqtopk_purse *purse) {
    seqtopk_shelf *log = &past->log.tokens;
    if (past->counts) {
        truncate_counts(past, tokens);
        return;
    }
    const int is_deep = log->size - tokens > TAKEN_BACK || past->log.width > WORDS;
    int64_t total = past->ladder ? past->ladder->total : 0;
    uint64_t words[WORDS];
    while (log->size > tokens) {
        const seqtopk_token_note *note = note_of(past, log->size - 1);
        const int32_t n = competing(past, note);
        forget(past, note);
        if (is_deep) {
            total -= n;
        } else if (past->ladder) {
            make_words(seqtopk_note_keys(note), n, log->size - 1, words);
            seqtopk_ladder_take_back(past->ladder, &past->log, words, n, purse);
        }
        if (is_deep) {
            log->size--;
            log->room = 0;
        } else {
            seqtopk_shelf_cut(log, log->size - 1, keep > log->size ? keep : log->size, purse);
        }
    }
    seqtopk_shelf_cut(log, tokens, keep, purse);
    if (is_deep && past->ladder)
        seqtopk_ladder_unsettle(past->ladder, total, purse);
}

void seqtopk_past_route_again(seqtopk_past *past, const seqtopk_rules *rules, int64_t from, seqtopk_purse *purse) {
    const int64_t tokens = seqtopk_past_tokens(past);
    seqtopk_past_truncate(past, from, tokens, purse);
    for (int64_t t = from; t < tokens; t++) {
        const seqtopk_token_note *note = note_of(past, t); /* the next one's place, as it was written */
        const float *keys = seqtopk_note_keys(note);
        const int32_t n = competing(past, note);
        if (note->sure == SEQTOPK_NOTE_MASKED)
            enter_masked(past, rules, purse);
        else
            route_next(past, rules, (int32_t)note->sure, keys, n, bring_budget(past, rules, (int32_t)note->sure),
                       purse);
    }
}

/* Tokens from `to` on move up to `from`, in space that is there. */
static void close_gap(seqtopk_past *past, int64_t from, int64_t to, seqtopk_purse *purse) {
    const int64_t tokens = seqtopk_past_tokens(past);
    int64_t total = past->ladder ? past->ladder->total : 0;
    for (int64_t t = from; t < to; t++) {
        forget(past, note_of(past, t));
        total -= competing(past, note_of(past, t));
    }
    for (int64_t t = to; t < tokens; t++)
        memcpy(note_of(past, t - (to - from)), note_of(past, t), (size_t)past->log.tokens.element);
    seqtopk_shelf_cut(&past->log.tokens, tokens - (to - from), 0, purse);
    if (past->ladder)
        seqtopk_ladder_unsettle(past->ladder, total, purse);
}

void seqtopk_past_remove(seqtopk_past *past, const seqtopk_rules *rules, int64_t from, int64_t to,
                         seqtopk_purse *purse) {
    if (to == seqtopk_past_tokens(past)) {
        seqtopk_past_truncate(past, from, 0, purse);
        return;
    }
    if (from == to)
        return;
    close_gap(past, from, to, purse);
    if (rules->is_ledger)
        seqtopk_past_route_again(past, rules, from, purse);
}

int seqtopk_past_copy(seqtopk_past *to, seqtopk_past *from, int64_t tokens, seqtopk_purse *purse) {
    to->routed = from->routed;
    to->sure = from->sure;
    to->given = from->given;
    if (from->counts) {
        const size_t bytes = seqtopk_counts_bytes(from->counts->width, from->counts->depth);
        if (!(to->counts = seqtopk_purse_take(purse, bytes)))
            return 0;
        memcpy(to->counts, from->counts, bytes);
    }
    if (!seqtopk_shelf_share(&to->log.tokens, &from->log.tokens, purse))
        return 0;
    if (from->ladder && !(to->ladder = seqtopk_ladder_copy(from->ladder, purse))) {
        seqtopk_past_free(to, purse);
        return 0;
    }
    seqtopk_past_truncate(to, tokens, 0, purse);
    return 1;
}
