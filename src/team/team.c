/* SPDX-License-Identifier: MIT */
/* Sequences that several ranks share, of which each routes its own tokens: see seqtopk_route_team. */
#include "src/team/team.h"
#include "src/abi.h"
#include "src/route/lend.h"
#include "src/status.h"

#include <stdint.h>

static seqtopk_status lost(seqtopk_error *error) {
    return seqtopk_fail(error, SEQTOPK_E_TEAM, -1,
                        "a collective of the team failed: a rank has ended, or the connection to it");
}

/* ------------------------------------------------------------------ sizes -- */

static size_t aligned(size_t size) { return (size + 63) & ~(size_t)63; }

/* The words of so many sequences: the head is there without any. */
static int64_t words_of(int64_t sequences) { return (sequences > 1 ? sequences : 1) * SEQTOPK_TEAM_WORDS; }

/* What is laid out behind the call's own scratch. */
static size_t lay_out(seqtopk_team_call *t, int64_t sequences, void *base) {
    const size_t words = (size_t)words_of(sequences);
    uintptr_t at = (uintptr_t)base;
    t->words = (int64_t *)at;
    at += aligned(words * sizeof *t->words);
    t->bases = (int32_t *)at;
    at += aligned(words * sizeof *t->bases);
    t->widths = (uint32_t *)at;
    at += aligned(words * sizeof *t->widths);
    t->brackets = (seqtopk_bracket *)at;
    at += aligned((size_t)sequences * sizeof *t->brackets);
    t->lows = (float *)at;
    at += aligned((size_t)sequences * sizeof *t->lows);
    return at - (uintptr_t)base;
}

int64_t seqtopk_team_max_selected(const seqtopk_plan *plan, int64_t tokens) {
    if (seqtopk_max_selected(plan, tokens) < 0 || plan->desc.scope == SEQTOPK_SCOPE_ONLINE)
        return -1;
    return seqtopk_shared_most(plan, tokens, 0);
}

size_t seqtopk_team_scratch_size(const seqtopk_plan *plan, int64_t tokens, int64_t sequences, int64_t capacity,
                                 int32_t threads) {
    seqtopk_team_call t;
    const size_t alone = seqtopk_scratch_size(plan, tokens, sequences, threads);
    if (alone == 0 || capacity < 0 || capacity > INT32_MAX || plan->desc.scope == SEQTOPK_SCOPE_ONLINE)
        return 0;
    sequences = sequences ? sequences : 1;
    const size_t shared =
        seqtopk_shared_scratch_size(plan, tokens, sequences, seqtopk_shared_most(plan, tokens, capacity), threads);
    return aligned(alone > shared ? alone : shared) + lay_out(&t, sequences, NULL);
}

/* ---------------------------------------------------------------- threads -- */

typedef struct {
    seqtopk_team_call *t;
    const seqtopk_input *input;
    const seqtopk_output *output;
    void *scratch;
    size_t size;
    int32_t step;
} job;

/* One part of one step, as seqtopk_route_part. */
static void work(void *arg, int32_t part) {
    const job *j = arg;
    seqtopk_call call;
    if (seqtopk_call_open_shared(&call, j->t->call.plan, j->input, j->output, j->scratch, j->size, part,
                                 j->t->call.parts, NULL))
        return; /* it was opened before, with the same arguments */
    call.lows = j->t->lows;
    if (j->step > 0)
        seqtopk_call_mask_dropped(&call);
    seqtopk_call_step(&call, j->step);
}

static seqtopk_status run_step(job *j, const seqtopk_parallel *loan, int32_t step, seqtopk_error *error) {
    j->step = step;
    if (j->t->call.parts > 1)
        return seqtopk_lend(loan, j->t->call.parts, work, j, error);
    seqtopk_call_step(&j->t->call, step);
    return SEQTOPK_OK;
}

/* ----------------------------------------------------------------- rounds -- */

/* What a rank tells with the words of a round. */
static void write_head(seqtopk_team_call *t, seqtopk_status status, int is_near) {
    seqtopk_team_write_head(t->words, &t->team, status, t->fingerprint);
    t->words[SEQTOPK_HEAD_NEAR] = is_near;
}

/* Beside the number of ranks that are near: how many could lack space at all. */
enum { CAN_LACK = 1 << 16 };

static void clear_words(seqtopk_team_call *t, int64_t n) { memset(t->words, 0, (size_t)n * sizeof *t->words); }

/* From the sample of all ranks: brackets, and how far down to collect. */
static void begin_brackets(seqtopk_team_call *t) {
    const seqtopk_plan *plan = t->call.plan;
    for (int64_t s = 0; s < t->call.sequences; s++) {
        const int64_t *share = seqtopk_team_share(t, s), at = share - t->words;
        const int64_t live = share[SEQTOPK_SHARE_LIVE];
        seqtopk_bracket *b = t->brackets + s;
        b->bases = t->bases + at;
        b->widths = t->widths + at;
        t->lows[s] =
            seqtopk_bracket_begin(b, &t->grid, share + SEQTOPK_SHARE_COUNTS, SEQTOPK_TEAM_COUNTS, live,
                                  plan->desc.top_k, live * plan->max_experts, (double)share[SEQTOPK_SHARE_VARIANCE]);
    }
}

/* The first bad token that this rank's parts have met; -1: none. */
static int64_t bad_token(const seqtopk_call *call) {
    int64_t bad = -1;
    for (int32_t p = call->parts - 1; p >= 0; p--)
        bad = call->reports[p].bad_token >= 0 ? call->reports[p].bad_token : bad;
    return bad;
}

/* Whether this rank may be given more pairs than there is space for: all that it has collected, in the worst case. */
static int is_near(const seqtopk_team_call *t) {
    const seqtopk_call *call = &t->call;
    int64_t pairs = call->in.tokens * call->plan->beside, first, last;
    for (int64_t s = 0; s < call->sequences; s++) {
        seqtopk_call_sequence(call, s, &first, &last);
        if (call->sequence[s].way == SEQTOPK_WAY_staged) {
            pairs += (last - first) * call->plan->max_experts;
            continue;
        }
        for (int32_t part = 0; part < call->parts; part++)
            if (seqtopk_call_run(call, s, part, &first, &last))
                pairs += call->runs[s + part].size;
    }
    return pairs > call->most;
}

/* How many keys in each bracket lower ranks have, and this one; at sequences that want to know. */
static int scan_inside(seqtopk_team_call *t, uint32_t wanted) {
    int asked = 0;
    for (int64_t s = 0; s < t->call.sequences; s++) {
        seqtopk_bracket *b = t->brackets + s;
        t->words[s] = 0;
        if (!(wanted >> b->asked & 1))
            continue;
        t->words[s] = b->own = seqtopk_team_inside(t, s);
        asked = 1;
    }
    if (asked && seqtopk_team_scan(&t->team, t->words, t->call.sequences))
        return -1;
    for (int64_t s = 0; asked && s < t->call.sequences; s++)
        if (wanted >> t->brackets[s].asked & 1)
            t->brackets[s].before = t->words[s];
    return 0;
}

/* How many words the next round has, and where each sequence's are: no more than it asks for. */
static int64_t ask_all(seqtopk_team_call *t) {
    int64_t n = 0;
    for (int64_t s = 0; s < t->call.sequences; s++) {
        t->brackets[s].at = n;
        n += t->brackets[s].asked < SEQTOPK_ASK_TIES ? seqtopk_bracket_words(t->brackets + s) : 0;
    }
    return n;
}

static void count_all(seqtopk_team_call *t, int64_t n) {
    clear_words(t, n);
    for (int64_t s = 0; s < t->call.sequences; s++)
        if (t->brackets[s].asked < SEQTOPK_ASK_TIES)
            seqtopk_team_count(t, s);
}

static void read_all(seqtopk_team_call *t) {
    for (int64_t s = 0; s < t->call.sequences; s++) {
        seqtopk_bracket *b = t->brackets + s;
        const int64_t *share = seqtopk_team_share(t, s), *sums = t->words + b->at;
        const int was_staged = b->is_staged;
        if (b->asked == SEQTOPK_ASK_SPREAD) {
            b->budget = share[SEQTOPK_SHARE_LIVE] * t->call.plan->desc.top_k;
            sums = share + SEQTOPK_SHARE_COUNTS;
        }
        seqtopk_bracket_read(b, &t->grid, sums, SEQTOPK_TEAM_COUNTS, share[SEQTOPK_SHARE_ABOVE]);
        if (b->is_staged && !was_staged) {
            t->call.sequence[s].way = SEQTOPK_WAY_staged;
            t->call.sequence[s].fallback = SEQTOPK_FALLBACK_SAMPLE;
            t->is_near |= t->can_lack;
        }
    }
}

/* Narrows all brackets until they are one key each. `status`: of this rank so far; `bad`: its first bad token, or -1. */
static seqtopk_status find_cuts(seqtopk_team_call *t, seqtopk_status status, int64_t bad, seqtopk_error *error) {
    seqtopk_call *call = &t->call;
    clear_words(t, words_of(t->call.sequences));
    t->kept = (uint32_t *)(void *)call->reservoir;
    t->kept_most = 2 * call->most;
    t->kept_end = 0;
    if (!status && bad < 0) {
        for (int64_t s = 0; s < call->sequences; s++) {
            seqtopk_agree_on_way(call, s, call->sequence + s);
            if (t->brackets[s].is_staged)
                call->sequence[s].way = SEQTOPK_WAY_staged;
            if (t->brackets[s].asked == SEQTOPK_ASK_SPREAD)
                seqtopk_team_count(t, s);
        }
        const int can_lack = call->most < seqtopk_shared_most(call->plan, call->in.tokens, 0);
        write_head(t, SEQTOPK_OK, is_near(t) + can_lack * CAN_LACK);
    } else {
        write_head(t, status ? status : SEQTOPK_E_NONFINITE, 0);
    }
    if (seqtopk_team_add(&t->team, t->words, words_of(t->call.sequences)))
        return lost(error);
    if (t->words[SEQTOPK_HEAD_STATUS + SEQTOPK_E_NONFINITE])
        return seqtopk_team_agree_on_token(&t->team, call, t->words, status ? -1 : bad, error);
    status = seqtopk_team_read_head(t->words, &t->team, status, error);
    if (status)
        return status;
    t->is_near = t->words[SEQTOPK_HEAD_NEAR] % CAN_LACK > 0;
    t->can_lack = t->words[SEQTOPK_HEAD_NEAR] >= CAN_LACK;
    read_all(t);
    for (int64_t n; (n = ask_all(t)) > 0; read_all(t)) {
        if (scan_inside(t, 1u << SEQTOPK_ASK_KEYS))
            return lost(error);
        count_all(t, n);
        if (seqtopk_team_add(&t->team, t->words, n))
            return lost(error);
    }
    if (scan_inside(t, 1u << SEQTOPK_ASK_TIES))
        return lost(error);
    for (int64_t s = 0; s < call->sequences; s++) {
        seqtopk_sequence *sequence = call->sequence + s;
        if (t->brackets[s].asked == SEQTOPK_ASK_TIES)
            seqtopk_bracket_share(t->brackets + s);
        sequence->cut = seqtopk_team_cut(t, s);
        sequence->has_keys = sequence->way != SEQTOPK_WAY_staged && seqtopk_has_keys(call, sequence->way);
        seqtopk_tell_way(call, s);
    }
    return SEQTOPK_OK;
}

/* Whether the pairs of all ranks fit into what they have for them. */
static seqtopk_status check_space(seqtopk_team_call *t, seqtopk_error *error) {
    const seqtopk_call *call = &t->call;
    int64_t pairs = call->plan->beside ? seqtopk_count_shared(call) : 0;
    seqtopk_status status = SEQTOPK_OK;
    for (int64_t s = 0; s < call->sequences; s++) {
        const seqtopk_bracket *b = t->brackets + s;
        const int64_t inside = seqtopk_team_inside(t, s);
        pairs += seqtopk_team_above(t, s) + (b->quota < inside ? b->quota : inside);
    }
    if (pairs > call->most)
        status = seqtopk_fail(error, SEQTOPK_E_CAPACITY, -1,
                              "output.capacity is %lld, but this rank's tokens get %lld pairs "
                              "(seqtopk_team_max_selected is always enough)",
                              (long long)call->most, (long long)pairs);
    write_head(t, status, 0);
    return seqtopk_team_add(&t->team, t->words, SEQTOPK_TEAM_HEAD)
               ? lost(error)
               : seqtopk_team_read_head(t->words, &t->team, status, error);
}

/* ------------------------------------------------------------------- call -- */

/* Tokens that do not compete: routed, and then agreed on. */
static seqtopk_status route_apart(seqtopk_team_call *t, const job *j, const seqtopk_parallel *loan,
                                  seqtopk_error *error) {
    seqtopk_error own = SEQTOPK_ERROR_INIT;
    const seqtopk_plan *plan = t->call.plan;
    const seqtopk_status status =
        t->threads > 1 ? seqtopk_route_parallel(plan, j->input, j->output, j->scratch, j->size, loan, &own)
                       : seqtopk_route(plan, j->input, j->output, j->scratch, j->size, &own);
    if (status)
        seqtopk_fail(error, status, own.token, "%s", own.message);
    write_head(t, status, 0);
    if (seqtopk_team_add(&t->team, t->words, SEQTOPK_TEAM_HEAD))
        return lost(error);
    const int64_t bad = status == SEQTOPK_E_NONFINITE ? own.token : -1;
    return t->words[SEQTOPK_HEAD_STATUS + SEQTOPK_E_NONFINITE]
               ? seqtopk_team_agree_on_token(&t->team, &t->call, t->words, bad, error)
               : seqtopk_team_read_head(t->words, &t->team, status, error);
}

static seqtopk_status route_shared(seqtopk_team_call *t, job *j, const seqtopk_parallel *loan, seqtopk_error *error) {
    begin_brackets(t);
    t->call.lows = t->lows;
    seqtopk_status status = run_step(j, loan, 0, error);
    const int64_t bad = status ? -1 : bad_token(&t->call);
    seqtopk_call_mask_dropped(&t->call);
    status = find_cuts(t, status, bad, error);
    if (!status && t->is_near)
        status = check_space(t, error);
    for (int32_t step = 2; !status && step < seqtopk_call_steps(&t->call); step++)
        status = run_step(j, loan, step, error);
    return status;
}

/* Opens the call, with as many parts as are worth their while, and lays out the rest of the scratch. */
static seqtopk_status open_call(seqtopk_team_call *t, const seqtopk_plan *plan, const job *j, seqtopk_error *error) {
    if (plan && plan->desc.scope == SEQTOPK_SCOPE_ONLINE)
        return seqtopk_fail(error, SEQTOPK_E_UNSUPPORTED, -1,
                            "the plan's scope is online, where tokens compete with their past: teams route whole "
                            "sequences");
    seqtopk_status status =
        seqtopk_call_open_shared(&t->call, plan, j->input, j->output, j->scratch, j->size, 0, t->threads, error);
    if (status)
        return status;
    if (t->call.in.token_seq)
        return seqtopk_fail(error, SEQTOPK_E_UNSUPPORTED, -1,
                            "input.token_seq in a team: the tokens of each sequence must follow one another "
                            "(cu_seqlens)");
    const int64_t worthwhile = 1 + t->call.in.tokens * plan->desc.experts / t->call.kernels->share;
    t->threads = worthwhile < t->threads ? (int32_t)worthwhile : t->threads;
    status = seqtopk_call_open_shared(&t->call, plan, j->input, j->output, j->scratch, j->size, 0, t->threads, error);
    if (status)
        return status;
    /* Where it stands does not depend on the parts, since what is behind them may be as large as for all of them. */
    const size_t own = lay_out(t, t->call.sequences, t->call.behind);
    if (own > t->call.left)
        return seqtopk_fail(error, SEQTOPK_E_CAPACITY, -1,
                            "scratch has %zu bytes; this call needs %zu more (seqtopk_team_scratch_size)", j->size,
                            own - t->call.left);
    return SEQTOPK_OK;
}

/* The first words: all that can be wrong before rows are looked at, and the sample. */
static seqtopk_status meet(seqtopk_team_call *t, seqtopk_status status, seqtopk_error *error) {
    int64_t alone[SEQTOPK_TEAM_WORDS] = {0};
    seqtopk_call *call = &t->call;
    if (status) { /* a rank that has no scratch takes part all the same */
        seqtopk_team_write_head(alone, &t->team, status, 0);
        return seqtopk_team_add(&t->team, alone, SEQTOPK_TEAM_WORDS)
                   ? lost(error)
                   : seqtopk_team_read_head(alone, &t->team, status, error);
    }
    t->grid = seqtopk_grid_of(SEQTOPK_TEAM_COUNTS, call->rows.key == SEQTOPK_KEY_LOGPROB);
    t->fingerprint = seqtopk_team_fingerprint(call);
    clear_words(t, words_of(t->call.sequences));
    write_head(t, SEQTOPK_OK, 0);
    if (call->plan->desc.scope == SEQTOPK_SCOPE_SEQUENCE && !call->in.given_ids)
        for (int64_t s = 0; s < call->sequences; s++)
            seqtopk_team_sample(t, s);
    if (seqtopk_team_add(&t->team, t->words, SEQTOPK_TEAM_WORDS))
        return lost(error);
    status = seqtopk_team_read_head(t->words, &t->team, SEQTOPK_OK, error);
    const int64_t others = words_of(t->call.sequences) - SEQTOPK_TEAM_WORDS;
    if (!status && others > 0 && seqtopk_team_add(&t->team, t->words + SEQTOPK_TEAM_WORDS, others))
        return lost(error);
    return status;
}

static seqtopk_status check_team(const seqtopk_team *team, seqtopk_error *error) {
    if (team->size < 1 || team->size > SEQTOPK_TEAM_MOST_RANKS || team->rank < 0 || team->rank >= team->size)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "team.rank is %d of %d; it must be 0 to size - 1, size 1 to %d",
                            (int)team->rank, (int)team->size, SEQTOPK_TEAM_MOST_RANKS);
    if (team->count_all != 0 && team->count_all != 1)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "team.count_all is %d; it must be 0 or 1",
                            (int)team->count_all);
    if (team->size > 1 && (!team->allreduce_sum || !team->exscan_sum))
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "team.allreduce_sum or team.exscan_sum is NULL");
    return SEQTOPK_OK;
}

seqtopk_status seqtopk_route_team(const seqtopk_plan *plan, const seqtopk_input *input, const seqtopk_output *output,
                                  void *scratch, size_t scratch_size, const seqtopk_team *team,
                                  const seqtopk_parallel *parallel, seqtopk_error *error) {
    seqtopk_team_call t;
    seqtopk_parallel loan = SEQTOPK_PARALLEL_INIT;
    job j = {&t, input, output, scratch, scratch_size, 0};
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    /* Without a team nobody can be told. */
    seqtopk_status status = seqtopk_take_struct(&t.team, sizeof t.team, SEQTOPK_FIRST_team, team, "team", error);
    if (!status)
        status = check_team(&t.team, error);
    if (status)
        return status;
    t.is_near = 0;
    t.threads = 1;
    if (parallel) {
        status = seqtopk_take_loan(&loan, parallel, error);
        t.threads = loan.threads;
    }
    if (!status)
        status = open_call(&t, plan, &j, error);
    status = meet(&t, status, error);
    if (status)
        return status;
    return plan->desc.scope == SEQTOPK_SCOPE_SEQUENCE && !t.call.in.given_ids ? route_shared(&t, &j, &loan, error)
                                                                              : route_apart(&t, &j, &loan, error);
}
