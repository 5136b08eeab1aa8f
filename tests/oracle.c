/* SPDX-License-Identifier: MIT */
#include "oracle.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The contract's bound on a weight w is RELATIVE + PER_LOG * |log w|. */
#define RELATIVE 1e-6
#define PER_LOG 1.2e-7
#define HALF_ULP 5.97e-8
#define DENORMAL 1.5e-45

static void *must_alloc(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) {
        fprintf(stderr, "oracle: out of memory\n");
        exit(1);
    }
    return memory;
}

static double decode_f16(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double value;
    if (exponent == 31)
        value = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        value = ldexp(fraction, -24);
    else
        value = ldexp(1024 + fraction, exponent - 25);
    return bits >> 15 ? -value : value;
}

double oracle_decode(const void *values, int dtype, size_t index) {
    const unsigned char *at = (const unsigned char *)values + index * (dtype == SEQTOPK_DTYPE_F32 ? 4 : 2);
    if (dtype == SEQTOPK_DTYPE_F32) {
        float value;
        memcpy(&value, at, sizeof value);
        return value;
    }
    uint16_t half;
    memcpy(&half, at, sizeof half);
    if (dtype == SEQTOPK_DTYPE_F16)
        return decode_f16(half);
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

double oracle_lse(const double *row, int32_t experts, double *top) {
    double sum = 0;
    *top = -INFINITY;
    for (int32_t e = 0; e < experts; e++)
        *top = fmax(*top, row[e]);
    if (*top == -INFINITY) {
        *top = 0;
        return -INFINITY;
    }
    for (int32_t e = 0; e < experts; e++)
        sum += exp(row[e] - *top);
    return log(sum);
}

double oracle_score(int score, double x, double top, double rest) {
    switch ((seqtopk_score)score) {
    case SEQTOPK_SCORE_SOFTMAX: return exp(x - top - rest);
    case SEQTOPK_SCORE_SIGMOID: return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
    case SEQTOPK_SCORE_SQRTSOFTPLUS: return sqrt(x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)));
    case SEQTOPK_SCORE_LOGITS: return x;
    }
    return NAN;
}

static double saturate(double value) { return fmin(fmax(value, -(double)FLT_MAX), FLT_MAX); }

static double relative_bound(double w) { return RELATIVE + (w != 0 ? PER_LOG * fabs(log(fabs(w))) : 0); }

double oracle_score_tolerance(int score, double s) {
    return score == SEQTOPK_SCORE_LOGITS ? 0 : fabs(s) * relative_bound(s) + DENORMAL;
}

/* What a router makes of its logits before it scores them. */
static double prepared(const seqtopk_desc *desc, double x) {
    double scale = desc->logit_scale != 0 ? desc->logit_scale : 1, cap = desc->logit_softcap;
    return isinf(x) ? x : cap > 0 ? cap * tanh(scale * x / cap) : scale == 1 ? x : saturate(scale * x);
}

void oracle_load(oracle_problem *problem, const seqtopk_desc *desc, const seqtopk_input *input) {
    memset(problem, 0, sizeof *problem);
    problem->desc = *desc;
    if (desc->group_quota && !desc->group_top_k)
        problem->desc.group_top_k = desc->groups;
    problem->tokens = input->tokens;
    problem->experts = problem->desc.experts = desc->experts - desc->shared_experts;
    size_t tokens = (size_t)input->tokens, experts = (size_t)problem->experts;
    size_t scored = desc->shared_weight != 0 ? 0 : (size_t)desc->shared_experts;
    size_t stride = input->row_stride == SEQTOPK_STRIDE_BROADCAST ? 0
                    : input->row_stride == 0                      ? experts + scored
                                                                  : (size_t)input->row_stride;

    int ragged = input->cu_seqlens != NULL;
    problem->sequences = ragged ? input->sequences : 1;
    problem->cu = must_alloc((size_t)problem->sequences + 1, sizeof *problem->cu);
    if (ragged)
        memcpy(problem->cu, input->cu_seqlens, ((size_t)problem->sequences + 1) * sizeof *problem->cu);
    else
        problem->cu[1] = (int32_t)input->tokens;

    if (input->bias) {
        problem->bias = must_alloc(experts, sizeof *problem->bias);
        for (size_t e = 0; e < experts; e++)
            problem->bias[e] = input->bias[e];
    }
    problem->masked = must_alloc(tokens, 1);
    problem->x = must_alloc(tokens * experts, sizeof *problem->x);
    problem->top = must_alloc(tokens, sizeof *problem->top);
    problem->rest = must_alloc(tokens, sizeof *problem->rest);
    problem->shared = must_alloc(tokens * scored, sizeof *problem->shared);
    problem->shaky = must_alloc(tokens, sizeof *problem->shaky);
    const int is_prepared = desc->logit_softcap > 0 || (desc->logit_scale != 0 && desc->logit_scale != 1);
    for (size_t t = 0; t < tokens; t++) {
        problem->masked[t] = input->token_mask && !input->token_mask[t];
        for (size_t e = 0; e < experts; e++) {
            double *x = problem->x + t * experts + e;
            *x = problem->masked[t] ? -INFINITY
                                    : prepared(desc, oracle_decode(input->logits, (int)desc->dtype, t * stride + e));
            if (is_prepared && !isinf(*x))
                problem->shaky[t] =
                    fmax(problem->shaky[t], 4e-7 * fabs(*x) + 4e-45 * (1 + (double)desc->logit_softcap));
        }
        for (size_t i = 0; i < scored; i++)
            problem->shared[t * scored + i] =
                problem->masked[t]
                    ? -INFINITY
                    : prepared(desc, oracle_decode(input->logits, (int)desc->dtype, t * stride + experts + i));
        if (!problem->masked[t])
            problem->rest[t] = oracle_lse(problem->x + t * experts, problem->experts, problem->top + t);
    }
    if (oracle_key_of(problem) == ORACLE_KEY_LOGPROB) {
        problem->apart = must_alloc(tokens * experts, sizeof *problem->apart);
        memcpy(problem->apart, problem->x, tokens * experts * sizeof *problem->apart);
    }
}

void oracle_free(oracle_problem *problem) {
    free(problem->cu);
    free(problem->masked);
    free(problem->bias);
    free(problem->x);
    free(problem->top);
    free(problem->rest);
    free(problem->shaky);
    free(problem->shared);
    free(problem->apart);
}

oracle_key oracle_key_of(const oracle_problem *problem) {
    if (problem->bias)
        return ORACLE_KEY_SCORE;
    if (problem->desc.score == SEQTOPK_SCORE_SOFTMAX && problem->desc.scope == SEQTOPK_SCOPE_SEQUENCE &&
        problem->desc.key_from == SEQTOPK_KEY_FROM_SCORE)
        return ORACLE_KEY_LOGPROB;
    return ORACLE_KEY_LOGIT;
}

void oracle_keys(const oracle_problem *problem, oracle_key kind, double *keys, double *tolerance) {
    size_t experts = (size_t)problem->experts;
    const int by = (int)(problem->desc.key_from ? SEQTOPK_SCORE_LOGITS : problem->desc.score);
    for (size_t i = 0; i < (size_t)problem->tokens * experts; i++) {
        size_t t = i / experts, e = i % experts;
        double x = problem->x[i], b = problem->bias ? problem->bias[e] : 0, slack = 0;
        if (x == -INFINITY || b == -INFINITY) {
            keys[i] = -INFINITY;
        } else if (kind == ORACLE_KEY_LOGIT) {
            keys[i] = x;
        } else if (kind == ORACLE_KEY_LOGPROB) {
            keys[i] = saturate(x - problem->top[t] - problem->rest[t]);
            slack = RELATIVE + PER_LOG * fabs(keys[i]);
        } else {
            double s = oracle_score(by, x, problem->top[t], problem->rest[t]);
            keys[i] = saturate(s + b);
            slack = oracle_score_tolerance(by, s) + HALF_ULP * fabs(keys[i]) + DENORMAL;
        }
        if (tolerance)
            tolerance[i] = slack + 2 * problem->shaky[t];
    }
}

/* ------------------------------------------------------------------ groups -- */

static int32_t group_terms(const seqtopk_desc *desc) {
    if (desc->group_score == SEQTOPK_GROUP_MAX)
        return 1;
    if (desc->group_score == SEQTOPK_GROUP_TOP2)
        return 2;
    if (desc->group_n)
        return desc->group_n;
    int32_t n = desc->top_k / desc->group_top_k;
    return n > 1 ? n : 1;
}

static int falling(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* What a group is compared by: its best key, or a sum of its best scores, of all that count or of what it has. */
typedef struct {
    double sum; /* -inf of none */
    int is_whole;
} group_value;

static group_value value_of_group(const seqtopk_desc *desc, const double *keys, const double *scores, int32_t size,
                                  int single) {
    int32_t terms = group_terms(desc), candidates = 0;
    double *best = must_alloc((size_t)size, sizeof *best), total = -INFINITY;
    /* The best of one is its best, by key: a sum of one score would lose what float32 keeps apart in the key. */
    const double *source = terms == 1 ? keys : scores;
    for (int32_t i = 0; i < size; i++)
        if (keys[i] != -INFINITY)
            best[candidates++] = source[i];
    if (candidates > 0) {
        qsort(best, (size_t)candidates, sizeof *best, falling);
        total = best[0];
        for (int32_t i = 1; i < terms && i < candidates; i++)
            total = single ? (double)(float)(total + best[i]) : total + best[i];
        total = saturate(total);
    }
    free(best);
    return (group_value){total, candidates >= terms};
}

static int is_better_group(group_value a, group_value b) {
    return a.is_whole != b.is_whole ? a.is_whole : a.sum > b.sum;
}

/*
 * Marks in keep [groups] the groups of one row; returns the distance between the last kept and the first left out, and
 * through `size_of` how large the scores are that float32 would have to tell apart.
 */
static double keep_groups(const oracle_problem *problem, const double *keys, const double *scores, int single,
                          unsigned char *keep, double *size_of) {
    const seqtopk_desc *desc = &problem->desc;
    int32_t size = desc->experts / desc->groups;
    group_value *value = must_alloc((size_t)desc->groups, sizeof *value), last = {INFINITY, 1};
    double gap = INFINITY;
    for (int32_t g = 0; g < desc->groups; g++) {
        value[g] = value_of_group(desc, keys + g * size, scores ? scores + g * size : NULL, size, single);
        keep[g] = 0;
    }
    for (int32_t taken = 0; taken < desc->group_top_k; taken++) {
        int32_t best = -1;
        for (int32_t g = 0; g < desc->groups; g++)
            if (!keep[g] && (best < 0 || is_better_group(value[g], value[best])))
                best = g;
        keep[best] = 1;
        last = value[best];
    }
    for (int32_t g = 0; g < desc->groups; g++)
        if (!keep[g] && value[g].is_whole == last.is_whole && last.sum != -INFINITY)
            gap = fmin(gap, last.sum - value[g].sum);
    *size_of = 0;
    for (int32_t i = 0; scores && i < desc->experts; i++)
        if (keys[i] != -INFINITY)
            *size_of = fmax(*size_of, fabs(scores[i]));
    free(value);
    return gap;
}

/* Leaves of each group of one row its first `quota`, by the logits where there are some to tell it apart by; of equals the lower
 * expert. */
static void keep_quota(const seqtopk_desc *desc, double *keys, const double *apart) {
    int32_t size = desc->experts / desc->groups;
    for (int32_t g = 0; desc->group_quota && g < desc->groups; g++)
        for (int32_t left = size; left > desc->group_quota; left--) {
            int32_t worst = -1;
            for (int32_t e = g * size; e < (g + 1) * size; e++)
                if (!isnan(keys[e]) &&
                    (worst < 0 || (keys[e] == -INFINITY && keys[worst] > -INFINITY) ||
                     (apart && keys[e] > -INFINITY ? apart[e] <= apart[worst] && keys[worst] > -INFINITY
                                                   : keys[e] <= keys[worst])))
                    worst = e;
            keys[worst] = NAN; /* gone */
        }
    for (int32_t e = 0; desc->group_quota && e < desc->experts; e++)
        keys[e] = isnan(keys[e]) ? -INFINITY : keys[e];
}

/* --------------------------------------------------------------- selection -- */

typedef struct candidate {
    double key, apart;
    int32_t token, expert;
    int32_t rank; /* within its token, from 0 */
    int32_t taken;
} candidate;

static int in_order(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->key != y->key)
        return x->key > y->key ? -1 : 1;
    if (x->token != y->token)
        return x->token < y->token ? -1 : 1;
    if (x->apart != y->apart)
        return x->apart > y->apart ? -1 : 1;
    return (x->expert > y->expert) - (x->expert < y->expert);
}

static int by_token_and_rank(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->token != y->token)
        return x->token < y->token ? -1 : 1;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

static int by_number(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static size_t gather(const oracle_problem *problem, const double *keys, const double *scores, int single, int64_t first,
                     int64_t last, candidate *into) {
    const seqtopk_desc *desc = &problem->desc;
    int32_t groups = desc->groups > 1 ? desc->groups : 0;
    unsigned char *keep = must_alloc((size_t)groups, 1);
    double unused;
    size_t count = 0;
    double *row = must_alloc((size_t)desc->experts, sizeof *row);
    for (int64_t t = first; t < last; t++) {
        const double *apart = problem->apart ? problem->apart + t * desc->experts : NULL;
        memcpy(row, keys + t * desc->experts, (size_t)desc->experts * sizeof *row);
        if (problem->masked[t])
            continue;
        if (groups) {
            keep_groups(problem, apart ? apart : row, scores ? scores + t * desc->experts : NULL, single, keep,
                        &unused);
            keep_quota(desc, row, apart);
        }
        for (int32_t e = 0; e < desc->experts; e++)
            if (row[e] != -INFINITY && (!groups || keep[e / (desc->experts / groups)]))
                into[count++] = (candidate){row[e], apart ? apart[e] : 0, (int32_t)t, e, 0, 0};
    }
    free(keep);
    free(row);
    return count;
}

static int64_t budget_of(const oracle_problem *problem, int64_t first, int64_t last) {
    int64_t budget = 0;
    for (int64_t t = first; t < last; t++)
        budget += problem->masked[t] ? 0 : problem->desc.top_k;
    return budget;
}

static int32_t most_of(const seqtopk_desc *desc) {
    if (desc->scope == SEQTOPK_SCOPE_TOKEN)
        return desc->top_k;
    return desc->max_experts && desc->max_experts < desc->experts ? desc->max_experts : desc->experts;
}

static void select_span(const oracle_problem *problem, candidate *all, size_t count, int64_t first, int64_t last) {
    int32_t least = problem->desc.scope == SEQTOPK_SCOPE_TOKEN ? 0 : problem->desc.min_experts;
    int32_t most = most_of(&problem->desc), *seen = must_alloc((size_t)(last - first), sizeof *seen);
    int64_t budget = budget_of(problem, first, last);
    qsort(all, count, sizeof *all, in_order);
    for (size_t i = 0; i < count; i++) {
        all[i].rank = seen[all[i].token - first]++;
        if (all[i].rank < least) {
            all[i].taken = 1;
            budget--;
        }
    }
    for (size_t i = 0; i < count && budget > 0; i++)
        if (!all[i].taken && all[i].rank < most) {
            all[i].taken = 1;
            budget--;
        }
    free(seen);
}

void oracle_select(const oracle_problem *problem, const double *keys, const double *scores, int single,
                   oracle_choice *choice) {
    size_t tokens = (size_t)problem->tokens, total = tokens * (size_t)problem->experts;
    candidate *all = must_alloc(total, sizeof *all);
    choice->offsets = must_alloc(tokens + 1, sizeof(int32_t));
    choice->ascending = must_alloc(total, sizeof(int32_t));
    choice->ranked = must_alloc(total, sizeof(int32_t));

    int by_token = problem->desc.scope == SEQTOPK_SCOPE_TOKEN;
    int64_t spans = by_token ? problem->tokens : problem->sequences;
    size_t n = 0;
    for (int64_t s = 0; s < spans; s++) {
        int64_t first = by_token ? s : problem->cu[s], last = by_token ? s + 1 : problem->cu[s + 1];
        size_t count = gather(problem, keys, scores, single, first, last, all);
        select_span(problem, all, count, first, last);
        qsort(all, count, sizeof *all, by_token_and_rank);
        for (size_t i = 0; i < count; i++)
            if (all[i].taken) {
                choice->ranked[n] = choice->ascending[n] = all[i].expert;
                choice->offsets[all[i].token + 1]++;
                n++;
            }
    }
    for (size_t t = 0; t < tokens; t++) {
        choice->offsets[t + 1] += choice->offsets[t];
        qsort(choice->ascending + choice->offsets[t], (size_t)(choice->offsets[t + 1] - choice->offsets[t]),
              sizeof(int32_t), by_number);
    }
    choice->selected = (int64_t)n;
    free(all);
}

void oracle_choice_free(oracle_choice *choice) {
    free(choice->offsets);
    free(choice->ascending);
    free(choice->ranked);
}

/* -------------------------------------------------------------------- band -- */

/*
 * A selection under bounds is right exactly if it spends the budget, every token has its best ones, and no token could
 * give up its worst for a better one of a token that may take more. That is checked here with a little slack, instead
 * of comparing with one particular answer: near-ties then need no case of their own.
 */
typedef struct band {
    const oracle_problem *problem;
    double *keys, *tolerance, *scores;
    unsigned char *chosen, *keep, *closed;
    char *why;
    size_t size;
} band;

typedef struct edge {
    double worst_in, best_out; /* worst_in at its most, best_out at its least */
    int64_t in, out;
} edge;

/*
 * What a quota leaves open and what it closes, in one row: an expert that was not selected counts no more where its group's
 * quota is full, but must not be better than the worst of those. How many candidates may be selected; -1: too many were.
 */
static int32_t group_within_quota(const band *b, const double *keys, const double *tolerance,
                                  const unsigned char *chosen, unsigned char *closed) {
    const seqtopk_desc *desc = &b->problem->desc;
    const int32_t size = desc->experts / desc->groups;
    int32_t may = 0;
    for (int32_t g = 0; g < desc->groups; g++) {
        int32_t taken = 0, candidates = 0;
        double worst_in = INFINITY, best_out = -INFINITY;
        for (int32_t e = g * size; e < (g + 1) * size; e++) {
            closed[e] = 0;
            if (keys[e] == -INFINITY || !b->keep[g])
                continue;
            candidates++;
            taken += chosen[e];
            if (chosen[e])
                worst_in = fmin(worst_in, keys[e] + tolerance[e]);
            else
                best_out = fmax(best_out, keys[e] - tolerance[e]);
        }
        if (taken > desc->group_quota || (taken == desc->group_quota && worst_in < best_out))
            return -1;
        for (int32_t e = g * size; e < (g + 1) * size && taken == desc->group_quota; e++)
            closed[e] = !chosen[e];
        may += candidates < desc->group_quota ? candidates : desc->group_quota;
    }
    return may;
}

static int token_within_band(const band *b, int64_t t, int64_t *eligible, edge *between) {
    const seqtopk_desc *desc = &b->problem->desc;
    const double *keys = b->keys + t * desc->experts, *tolerance = b->tolerance + t * desc->experts;
    const unsigned char *chosen = b->chosen + t * desc->experts;
    int32_t candidates = 0, taken = 0, most = most_of(desc);
    int32_t least = desc->scope == SEQTOPK_SCOPE_TOKEN ? 0 : desc->min_experts;
    double worst_in = INFINITY, best_out = -INFINITY, spread = 0;
    for (int32_t e = 0; e < desc->experts; e++)
        spread = fmax(spread, tolerance[e]);
    int grouped = desc->groups > 1;
    int32_t size = grouped ? desc->experts / desc->groups : desc->experts;
    /* Where float32 may rank two groups either way, believe the choice: any group that was drawn from was kept. */
    if (grouped) {
        const double terms = group_terms(desc);
        double large, gap = keep_groups(b->problem, keys, b->scores + t * desc->experts, 0, b->keep, &large);
        if (gap <= 2 * terms * (spread + (1 + terms) * HALF_ULP * large) + RELATIVE || terms * large > FLT_MAX) {
            int32_t drawn = 0;
            for (int32_t g = 0, any; g < desc->groups; g++, drawn += any) {
                any = 0;
                for (int32_t i = 0; i < size; i++)
                    any |= chosen[g * size + i];
            }
            if (drawn > desc->group_top_k) {
                snprintf(b->why, b->size, "token %lld draws from %d groups", (long long)t, drawn);
                return 0;
            }
            return -1;
        }
    }
    int32_t may = desc->experts;
    if (desc->group_quota && (may = group_within_quota(b, keys, tolerance, chosen, b->closed)) < 0) {
        snprintf(b->why, b->size, "token %lld has more of a group than its quota, or not its best", (long long)t);
        return 0;
    }
    most = most < may ? most : may;
    least = least < may ? least : may;
    for (int32_t e = 0; e < desc->experts; e++) {
        int may_be = keys[e] != -INFINITY && (!grouped || b->keep[e / size]);
        if (chosen[e] && !may_be) {
            snprintf(b->why, b->size, "token %lld expert %d is no candidate", (long long)t, e);
            return 0;
        }
        if (!may_be || (desc->group_quota && b->closed[e]))
            continue;
        candidates++;
        taken += chosen[e];
        if (chosen[e])
            worst_in = fmin(worst_in, keys[e] + tolerance[e]);
        else
            best_out = fmax(best_out, keys[e] - tolerance[e]);
    }
    if (worst_in < best_out) {
        snprintf(b->why, b->size, "token %lld: %.9g selected before %.9g", (long long)t, worst_in, best_out);
        return 0;
    }
    if (taken > most || taken < (least < candidates ? least : candidates)) {
        snprintf(b->why, b->size, "token %lld has %d experts of %d candidates", (long long)t, taken, candidates);
        return 0;
    }
    *eligible += candidates < most ? candidates : most;
    if (taken > least && worst_in < between->worst_in) {
        between->worst_in = worst_in;
        between->in = t;
    }
    if (taken < most && best_out > between->best_out) {
        between->best_out = best_out;
        between->out = t;
    }
    return 1;
}

static int span_within_band(const band *b, const int32_t *offsets, int64_t first, int64_t last) {
    edge between = {INFINITY, -INFINITY, -1, -1};
    int64_t eligible = 0, budget = budget_of(b->problem, first, last);
    int64_t taken = offsets[last] - offsets[first];
    int certain = 1;
    for (int64_t t = first; t < last; t++) {
        if (b->problem->masked[t]) {
            if (offsets[t + 1] != offsets[t]) {
                snprintf(b->why, b->size, "masked token %lld was given experts", (long long)t);
                return 0;
            }
            continue;
        }
        int right = token_within_band(b, t, &eligible, &between);
        if (right == 0)
            return 0;
        certain &= right > 0;
    }
    if (taken > budget || (certain && taken != (eligible < budget ? eligible : budget))) {
        snprintf(b->why, b->size, "tokens [%lld, %lld): %lld selected, budget %lld, eligible %lld", (long long)first,
                 (long long)last, (long long)taken, (long long)budget, (long long)eligible);
        return 0;
    }
    if (between.worst_in < between.best_out) {
        snprintf(b->why, b->size, "token %lld's %.9g selected before token %lld's %.9g", (long long)between.in,
                 between.worst_in, (long long)between.out, between.best_out);
        return 0;
    }
    return 1;
}

int oracle_within_band(const oracle_problem *problem, const int32_t *offsets, const int32_t *ids, char *why,
                       size_t size) {
    const seqtopk_desc *desc = &problem->desc;
    size_t tokens = (size_t)problem->tokens, experts = (size_t)problem->experts;
    band b = {.problem = problem, .why = why, .size = size};
    b.keys = must_alloc(tokens * experts, sizeof *b.keys);
    b.scores = must_alloc(tokens * experts, sizeof *b.scores);
    b.tolerance = must_alloc(tokens * experts, sizeof *b.tolerance);
    b.chosen = must_alloc(tokens * experts, 1);
    b.keep = must_alloc((size_t)(desc->groups > 1 ? desc->groups : 1), 1);
    b.closed = must_alloc(experts, 1);
    oracle_keys(problem, ORACLE_KEY_SCORE, b.scores, NULL);
    oracle_keys(problem, oracle_key_of(problem), b.keys, b.tolerance);

    int right = 1;
    for (size_t t = 0; t < tokens && right; t++)
        for (int32_t i = offsets[t]; i < offsets[t + 1] && right; i++) {
            right = ids[i] >= 0 && ids[i] < desc->experts && !b.chosen[t * experts + (size_t)ids[i]];
            if (right)
                b.chosen[t * experts + (size_t)ids[i]] = 1;
            else
                snprintf(why, size, "token %zu: id %d is out of range or there twice", t, ids[i]);
        }
    int by_token = desc->scope == SEQTOPK_SCOPE_TOKEN;
    int64_t spans = by_token ? problem->tokens : problem->sequences;
    for (int64_t s = 0; s < spans && right; s++)
        right = span_within_band(&b, offsets, by_token ? s : problem->cu[s], by_token ? s + 1 : problem->cu[s + 1]);

    free(b.keys);
    free(b.scores);
    free(b.tolerance);
    free(b.chosen);
    free(b.keep);
    free(b.closed);
    return right;
}

/* ----------------------------------------------------------------- weights -- */

static int norm_of(const seqtopk_desc *desc) {
    if (desc->norm == SEQTOPK_NORM_DEFAULT)
        return desc->score == SEQTOPK_SCORE_LOGITS ? SEQTOPK_NORM_SOFTMAX : SEQTOPK_NORM_NONE;
    if (desc->norm == SEQTOPK_NORM_SUM && desc->norm_skip_top1 && desc->top_k == 1)
        return SEQTOPK_NORM_NONE;
    return (int)desc->norm;
}

/* A logit of a token, of a shared expert as well. */
static double logit_of(const oracle_problem *problem, int64_t t, int32_t id) {
    return id < problem->experts ? problem->x[t * problem->experts + id]
                                 : problem->shared[t * problem->desc.shared_experts + id - problem->experts];
}

/* The logarithm of a score that may be too small for a double. */
static double log_score(int score, double x, double top, double rest) {
    switch ((seqtopk_score)score) {
    case SEQTOPK_SCORE_SOFTMAX: return x - top - rest;
    case SEQTOPK_SCORE_SIGMOID: return x >= 0 ? -log1p(exp(-x)) : x - log1p(exp(x));
    case SEQTOPK_SCORE_SQRTSOFTPLUS: return 0.5 * (x < -600 ? x : log(x > 0 ? x + log1p(exp(-x)) : log1p(exp(x))));
    case SEQTOPK_SCORE_LOGITS: break;
    }
    return NAN;
}

/* Divided by their sum, scores are exact to the bound however small they are, where nothing is added to it. */
static void weigh_by_logs(const oracle_problem *problem, int64_t t, const int32_t *ids, int32_t n, double scale,
                          double *w, double *slack) {
    double top = -INFINITY, sum = 0;
    for (int32_t i = 0; i < n; i++) {
        w[i] = log_score((int)problem->desc.score, logit_of(problem, t, ids[i]), problem->top[t], problem->rest[t]);
        top = fmax(top, w[i]);
    }
    for (int32_t i = 0; i < n; i++)
        sum += w[i] = exp(w[i] - top);
    for (int32_t i = 0; i < n; i++) {
        w[i] *= scale / sum;
        slack[i] = fabs(w[i]) * relative_bound(w[i]) + 2 * (fabs(scale) + 1) * DENORMAL;
    }
}

/* A softmax over what is near a winner, those before it left out. What rounding may put on either side has no right answer. */
static void weigh_sparsely(const oracle_problem *problem, int64_t t, const int32_t *ids, int32_t n, double *w,
                           double *slack) {
    const double *row = problem->x + t * problem->experts;
    const double scale = problem->desc.scale != 0 ? problem->desc.scale : 1;
    const double most = 2 * (problem->desc.norm_jitter != 0 ? (double)problem->desc.norm_jitter : (double)0.01f);
    unsigned char *gone = must_alloc((size_t)problem->experts, 1), *done = must_alloc((size_t)n, 1);
    for (int32_t turn = 0; turn < n; turn++) {
        int32_t best = -1, doubtful = 0;
        double sum = 0;
        for (int32_t i = 0; i < n; i++)
            if (!done[i] &&
                (best < 0 || row[ids[i]] > row[ids[best]] || (row[ids[i]] == row[ids[best]] && ids[i] < ids[best])))
                best = i;
        const double m = row[ids[best]];
        for (int32_t e = 0; e < problem->experts; e++) {
            const double factor = fmax(fabs(row[e]), m), far = factor == 0 ? 0 : (m - row[e]) / factor;
            if (gone[e] || row[e] == -INFINITY)
                continue;
            doubtful |= fabs(far - most) < 1e-6;
            sum += far > most ? 0 : exp(row[e] - m);
        }
        w[best] = scale / sum;
        slack[best] = doubtful ? INFINITY : fabs(w[best]) * relative_bound(1 / sum) + fabs(scale) * DENORMAL + DENORMAL;
        done[best] = gone[ids[best]] = 1;
    }
    free(gone);
    free(done);
}

static void weigh_token(const oracle_problem *problem, int64_t t, const int32_t *ids, int32_t n, double *w,
                        double *slack) {
    const seqtopk_desc *desc = &problem->desc;
    double scale = desc->scale != 0 ? desc->scale : 1, sum = 0, size = 0, top = -INFINITY;
    int norm = norm_of(desc);
    if (norm == SEQTOPK_NORM_SPARSEMIXER) {
        weigh_sparsely(problem, t, ids, n, w, slack);
        return;
    }
    if (norm == SEQTOPK_NORM_SUM && desc->norm_eps == 0 && desc->norm_floor == 0 &&
        desc->score != SEQTOPK_SCORE_LOGITS) {
        weigh_by_logs(problem, t, ids, n, scale, w, slack);
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        w[i] = oracle_score((int)desc->score, logit_of(problem, t, ids[i]), problem->top[t], problem->rest[t]);
        sum += w[i];
        size += fabs(w[i]);
        top = fmax(top, w[i]);
    }
    double divisor = 1, shaky = 0;
    if (norm == SEQTOPK_NORM_SUM) {
        divisor = sum + desc->norm_eps;
        /* Signed scores cancel; and where all of them are denormal, so is their sum. */
        double doubt = (size > fabs(sum) ? size * n * 2 * HALF_ULP : 0) + n * DENORMAL;
        if (desc->norm_floor > 0 && divisor < desc->norm_floor) {
            doubt = divisor + doubt < desc->norm_floor ? 0 : doubt;
            divisor = desc->norm_floor;
        }
        shaky = fabs(divisor) > doubt ? doubt / (fabs(divisor) - doubt) : size > 0 ? INFINITY : 0;
    } else if (norm == SEQTOPK_NORM_SOFTMAX) {
        for (int32_t i = 0; i < n; i++) {
            /* Scores carry an error of their own into the exponent. */
            slack[i] = desc->score == SEQTOPK_SCORE_LOGITS ? 0 : 2 * HALF_ULP * fabs(w[i]);
            w[i] = exp(w[i] - top);
        }
        divisor = 0;
        for (int32_t i = 0; i < n; i++)
            divisor += w[i];
    }
    for (int32_t i = 0; i < n; i++) {
        double more = norm == SEQTOPK_NORM_SOFTMAX ? slack[i] : 0;
        if (divisor == 0 || shaky == INFINITY) {
            w[i] = 0;
            slack[i] = shaky;
            continue;
        }
        /* The divisor takes nothing away of what a probability is off by. */
        const double of_score =
            norm == SEQTOPK_NORM_SUM && desc->score == SEQTOPK_SCORE_SOFTMAX ? relative_bound(w[i]) : 0;
        w[i] = w[i] / divisor * scale;
        slack[i] = fabs(w[i]) * (fmax(relative_bound(w[i]), of_score) + shaky + more) +
                   fabs(scale) * DENORMAL * (1 + 1 / fabs(divisor)) + DENORMAL;
        /* What float32 cannot hold, as a weight or on the way to it, has no right answer. */
        if (fabs(w[i]) > FLT_MAX || (norm == SEQTOPK_NORM_SUM && size > FLT_MAX))
            slack[i] = INFINITY;
    }
}

/* What roundings of the logits themselves add to that. */
static void add_shaky(const oracle_problem *problem, int64_t t, const int32_t *ids, int32_t n, const double *w,
                      double *slack) {
    const seqtopk_desc *desc = &problem->desc;
    const double scale = fabs(desc->scale != 0 ? desc->scale : 1), shaky = problem->shaky[t];
    double sum = desc->norm_eps;
    for (int32_t i = 0; i < n; i++)
        sum += logit_of(problem, t, ids[i]);
    for (int32_t i = 0; i < n && shaky > 0; i++) {
        slack[i] += 4 * shaky * fabs(w[i]);
        if (desc->score == SEQTOPK_SCORE_LOGITS && norm_of(desc) == SEQTOPK_NORM_NONE)
            slack[i] += scale * shaky;
        if (desc->score == SEQTOPK_SCORE_LOGITS && norm_of(desc) == SEQTOPK_NORM_SUM) /* they cancel */
            slack[i] =
                fabs(sum) > 4 * n * shaky ? slack[i] + 4 * n * shaky * (scale + fabs(w[i])) / fabs(sum) : INFINITY;
    }
}

void oracle_weights(const oracle_problem *problem, const int32_t *offsets, const int32_t *ids, double *weights,
                    double *tolerance) {
    for (int64_t t = 0; t < problem->tokens; t++) {
        const int32_t *own = ids + offsets[t], n = offsets[t + 1] - offsets[t];
        weigh_token(problem, t, own, n, weights + offsets[t], tolerance + offsets[t]);
        add_shaky(problem, t, own, n, weights + offsets[t], tolerance + offsets[t]);
    }
}

/* ------------------------------------------------- experts that do not compete -- */

static void keep_pair(oracle_lists *lists, int32_t id, double weight, double tolerance) {
    const size_t at = (size_t)lists->selected++;
    lists->ids[at] = id;
    lists->weights[at] = weight;
    lists->tolerance[at] = tolerance;
}

void oracle_list(const oracle_problem *problem, const oracle_choice *choice, oracle_lists *lists) {
    const seqtopk_desc *desc = &problem->desc;
    const int32_t shared = desc->shared_experts, null_from = desc->experts - desc->null_experts;
    const int is_scored = desc->shared_weight == 0;
    const size_t tokens = (size_t)problem->tokens, most = (size_t)choice->selected + tokens * (size_t)shared;
    double *w = must_alloc((size_t)(desc->experts + shared), sizeof *w);
    double *slack = must_alloc((size_t)(desc->experts + shared), sizeof *slack);
    int32_t *ids = must_alloc((size_t)(desc->experts + shared), sizeof *ids);
    int32_t *ranked = must_alloc((size_t)desc->experts, sizeof *ranked);
    *lists = (oracle_lists){.offsets = must_alloc(tokens + 1, sizeof *lists->offsets),
                            .ids = must_alloc(most, sizeof *lists->ids),
                            .ranked = must_alloc(most, sizeof *lists->ranked),
                            .weights = must_alloc(most, sizeof *lists->weights),
                            .tolerance = must_alloc(most, sizeof *lists->tolerance),
                            .null_weights = must_alloc(tokens, sizeof *lists->null_weights),
                            .null_tolerance = must_alloc(tokens, sizeof *lists->null_tolerance)};
    for (int64_t t = 0; t < problem->tokens; t++) {
        const int32_t from = choice->offsets[t], n = choice->offsets[t + 1] - from;
        int32_t own = 0;
        int64_t rank = lists->selected;
        memcpy(ids, choice->ascending + from, (size_t)n * sizeof *ids);
        memcpy(ranked, choice->ranked + from, (size_t)n * sizeof *ranked);
        for (int32_t i = 0; i < shared && !problem->masked[t]; i++)
            if (!is_scored || problem->shared[t * shared + i] != -INFINITY)
                ids[n + own++] = desc->experts + i;
        weigh_token(problem, t, ids, n + (is_scored ? own : 0), w, slack);
        add_shaky(problem, t, ids, n + (is_scored ? own : 0), w, slack);
        for (int32_t i = 0; i < own && !is_scored; i++) {
            w[n + i] = desc->shared_weight;
            slack[n + i] = 0;
        }
        double null_size = 0;
        for (int32_t i = 0; i < n + own; i++)
            if (ids[i] >= null_from && ids[i] < desc->experts) {
                lists->null_weights[t] += w[i];
                lists->null_tolerance[t] += slack[i] + HALF_ULP * fabs(lists->null_weights[t]) * 2;
                null_size += fabs(w[i]) + slack[i];
            } else {
                keep_pair(lists, ids[i], w[i], slack[i]);
            }
        if (null_size > FLT_MAX) /* float32 may overflow on the way to the sum */
            lists->null_tolerance[t] = INFINITY;
        for (int32_t i = 0; i < n; i++)
            if (ranked[i] < null_from)
                lists->ranked[rank++] = ranked[i];
        for (int32_t i = 0; i < own; i++)
            lists->ranked[rank++] = ids[n + i];
        lists->offsets[t + 1] = (int32_t)lists->selected;
    }
    free(w);
    free(slack);
    free(ids);
    free(ranked);
}

/* A row of keys as its token's candidates have them: -inf where groups, quota or a mask leave one out. */
static void row_of_candidates(const oracle_problem *problem, const double *keys, const double *scores, int64_t t,
                              unsigned char *keep, double *row) {
    const seqtopk_desc *desc = &problem->desc;
    const double *apart = problem->apart ? problem->apart + t * desc->experts : NULL;
    double unused;
    memcpy(row, keys + t * desc->experts, (size_t)desc->experts * sizeof *row);
    if (desc->groups > 1 && !problem->masked[t]) {
        keep_groups(problem, apart ? apart : row, scores + t * desc->experts, 1, keep, &unused);
        keep_quota(desc, row, apart);
    }
    for (int32_t e = 0; e < desc->experts; e++)
        if (problem->masked[t] || (desc->groups > 1 && !keep[e / (desc->experts / desc->groups)]))
            row[e] = -INFINITY;
}

/* The best of a row, or -1. */
static int32_t best_of_row(const oracle_problem *problem, int64_t t, const double *row) {
    const double *apart = problem->apart ? problem->apart + t * problem->desc.experts : NULL;
    int32_t best = -1;
    for (int32_t e = 0; e < problem->desc.experts; e++)
        if (row[e] != -INFINITY &&
            (best < 0 || row[e] > row[best] || (apart && row[e] == row[best] && apart[e] > apart[best])))
            best = e;
    return best;
}

void oracle_runners(const oracle_problem *problem, const double *keys, const double *scores,
                    const oracle_choice *choice, int32_t runners, int32_t *ids, float *margins) {
    const seqtopk_desc *desc = &problem->desc;
    double *row = must_alloc((size_t)desc->experts, sizeof *row);
    unsigned char *keep = must_alloc((size_t)(desc->groups > 1 ? desc->groups : 1), 1);
    for (int64_t t = 0; t < problem->tokens; t++) {
        double worst = INFINITY;
        row_of_candidates(problem, keys, scores, t, keep, row);
        for (int32_t i = choice->offsets[t]; i < choice->offsets[t + 1]; i++) {
            worst = fmin(worst, row[choice->ascending[i]]);
            row[choice->ascending[i]] = -INFINITY;
        }
        margins[t] = INFINITY;
        for (int32_t i = 0; i < runners; i++) {
            const int32_t best = best_of_row(problem, t, row);
            if (i == 0 && best >= 0 && worst < INFINITY)
                margins[t] = ((float)worst - (float)row[best]) + 0.0f;
            ids[t * runners + i] = best;
            if (best >= 0)
                row[best] = -INFINITY;
        }
    }
    free(row);
    free(keep);
}

void oracle_sequence_margins(const oracle_problem *problem, const double *keys, const double *scores,
                             const oracle_choice *choice, float *margins) {
    const seqtopk_desc *desc = &problem->desc;
    const int32_t most = most_of(desc);
    double *row = must_alloc((size_t)desc->experts, sizeof *row);
    unsigned char *keep = must_alloc((size_t)(desc->groups > 1 ? desc->groups : 1), 1);
    for (int32_t s = 0; s < problem->sequences; s++) {
        double worst = INFINITY, next = -INFINITY;
        for (int64_t t = problem->cu[s]; t < problem->cu[s + 1]; t++) {
            row_of_candidates(problem, keys, scores, t, keep, row);
            for (int32_t rank = 0, best; rank < most && (best = best_of_row(problem, t, row)) >= 0; rank++) {
                int is_selected = 0;
                for (int32_t i = choice->offsets[t]; i < choice->offsets[t + 1]; i++)
                    is_selected |= choice->ascending[i] == best;
                if (!is_selected)
                    next = fmax(next, row[best]);
                else if (rank >= desc->min_experts)
                    worst = fmin(worst, row[best]);
                row[best] = -INFINITY;
            }
        }
        margins[s] = worst < INFINITY && next > -INFINITY ? (float)worst - (float)next + 0.0f : INFINITY;
    }
    free(row);
    free(keep);
}

void oracle_lists_free(oracle_lists *lists) {
    free(lists->offsets);
    free(lists->ids);
    free(lists->ranked);
    free(lists->weights);
    free(lists->tolerance);
    free(lists->null_weights);
    free(lists->null_tolerance);
}
