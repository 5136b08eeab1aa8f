/* SPDX-License-Identifier: MIT */
#include "report.h"
#include "cli.h"
#include "desc.h"
#include "draw.h"
#include "ways.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------- a plan's decisions -- */

/* Whether choice `index` is the one that serves its stage at so many tokens. Those of a stage follow one another, by T. */
static bool serves(const seqtopk_plan *plan, int32_t index, int64_t tokens, seqtopk_choice *choice) {
    seqtopk_choice next = SEQTOPK_CHOICE_INIT;
    if (seqtopk_plan_choice(plan, index, choice) != SEQTOPK_OK)
        return false;
    const bool is_last = seqtopk_plan_choice(plan, index + 1, &next) != SEQTOPK_OK || strcmp(next.op, choice->op) != 0;
    return tokens < 0 || (choice->tokens_from <= tokens && (is_last || next.tokens_from > tokens));
}

void seqtopk_cli_choices_text(const seqtopk_plan *plan, int64_t tokens) {
    int width = 0;
    for (int32_t i = 0; i < seqtopk_plan_choice_count(plan); i++) {
        seqtopk_choice choice = SEQTOPK_CHOICE_INIT;
        if (serves(plan, i, tokens, &choice) && width < (int)strlen(choice.kernel))
            width = (int)strlen(choice.kernel);
    }
    for (int32_t i = 0; i < seqtopk_plan_choice_count(plan); i++) {
        seqtopk_choice choice = SEQTOPK_CHOICE_INIT;
        if (!serves(plan, i, tokens, &choice))
            continue;
        printf("  %-16s %-*s  %s", choice.op, width, choice.kernel, seqtopk_cli_why(choice.why));
        if (tokens < 0 && choice.tokens_from > 0)
            printf(" (from %" PRId64 " tokens)", choice.tokens_from);
        putchar('\n');
    }
}

void seqtopk_cli_choices_json(seqtopk_json *json, const seqtopk_plan *plan, int64_t tokens) {
    seqtopk_json_begin(json, "kernels", '[');
    for (int32_t i = 0; i < seqtopk_plan_choice_count(plan); i++) {
        seqtopk_choice choice = SEQTOPK_CHOICE_INIT;
        if (!serves(plan, i, tokens, &choice))
            continue;
        seqtopk_json_begin(json, NULL, '{');
        seqtopk_json_text(json, "op", choice.op);
        seqtopk_json_text(json, "kernel", choice.kernel);
        seqtopk_json_text(json, "why", seqtopk_cli_why(choice.why));
        seqtopk_json_int(json, "contenders", choice.contenders);
        seqtopk_json_int(json, "tokens_from", choice.tokens_from);
        seqtopk_json_end(json, '}');
    }
    seqtopk_json_end(json, ']');
}

/* ---------------------------------------------------------------- a router -- */

void seqtopk_cli_router_text(const seqtopk_desc *d, bool is_biased) {
    char scope[SEQTOPK_WORD], score[SEQTOPK_WORD], norm[SEQTOPK_WORD], by[SEQTOPK_WORD];
    printf("scope %s, score %s%s, norm %s, K %" PRId32, seqtopk_options_word(SEQTOPK_WORDS_SCOPE, (int)d->scope, scope),
           seqtopk_options_word(SEQTOPK_WORDS_SCORE, (int)d->score, score), is_biased ? " + bias" : "",
           seqtopk_options_word(SEQTOPK_WORDS_NORM, (int)d->norm - SEQTOPK_NORM_NONE, norm), d->top_k);
    if (d->min_experts)
        printf(", min %" PRId32, d->min_experts);
    if (d->max_experts)
        printf(", max %" PRId32, d->max_experts);
    if (d->groups > 1)
        printf(", %" PRId32 " of %" PRId32 " groups by %s", d->group_top_k, d->groups,
               seqtopk_options_word(SEQTOPK_WORDS_GROUP_SCORE, (int)d->group_score, by));
    if (d->group_quota)
        printf(", %" PRId32 " of a group at most", d->group_quota);
    if (d->key_from == SEQTOPK_KEY_FROM_LOGIT)
        printf(", keys from logits");
    if (d->logit_scale != 0 && d->logit_scale != 1)
        printf(", logits times %g", (double)d->logit_scale);
    if (d->logit_softcap > 0)
        printf(", capped at %g", (double)d->logit_softcap);
    if (d->min_p > 0)
        printf(", min-p %g", (double)d->min_p);
    if (d->top_p > 0)
        printf(", top-p %g", (double)d->top_p);
    if (d->null_experts)
        printf(", %" PRId32 " null experts", d->null_experts);
    if (d->shared_experts)
        printf(", %" PRId32 " shared experts", d->shared_experts);
}

static void json_word(seqtopk_json *json, const char *key, const char *words, int place) {
    char text[SEQTOPK_WORD];
    seqtopk_json_text(json, key, seqtopk_options_word(words, place, text));
}

void seqtopk_cli_router_json(seqtopk_json *json, const seqtopk_plan *plan, const seqtopk_desc *d, bool is_biased) {
    const bool grouped = d->groups > 1;
    json_word(json, "dtype", SEQTOPK_WORDS_DTYPE, (int)d->dtype);
    json_word(json, "scope", SEQTOPK_WORDS_SCOPE, (int)d->scope);
    json_word(json, "score", SEQTOPK_WORDS_SCORE, (int)d->score);
    json_word(json, "norm", SEQTOPK_WORDS_NORM, (int)d->norm - SEQTOPK_NORM_NONE);
    seqtopk_json_bool(json, "bias", is_biased);
    seqtopk_json_int(json, "top_k", d->top_k);
    seqtopk_json_int(json, "min", d->min_experts);
    seqtopk_json_int(json, "max", seqtopk_max_per_token(plan));
    seqtopk_json_int(json, "groups", grouped ? d->groups : 1);
    seqtopk_json_int(json, "group_top_k", grouped ? d->group_top_k : 1);
    if (grouped)
        json_word(json, "group_score", SEQTOPK_WORDS_GROUP_SCORE, (int)d->group_score);
    else
        seqtopk_json_text(json, "group_score", NULL);
    seqtopk_json_int(json, "group_quota", d->group_quota);
    json_word(json, "key", SEQTOPK_WORDS_KEY, (int)d->key_from);
    seqtopk_json_real(json, "logit_scale", d->logit_scale != 0 ? (double)d->logit_scale : 1);
    seqtopk_json_real(json, "softcap", (double)d->logit_softcap);
    seqtopk_json_real(json, "min_p", (double)d->min_p);
    seqtopk_json_real(json, "top_p", (double)d->top_p);
    seqtopk_json_int(json, "null_experts", d->null_experts);
    seqtopk_json_int(json, "shared_experts", d->shared_experts);
}

/* ------------------------------------------------------------ statistics -- */

typedef struct statistics {
    int64_t *tokens_with;   /* [most + 1]: how many unmasked tokens have i experts */
    int64_t most;           /* experts of one token */
    int64_t *tokens_of;     /* [E] */
    int64_t busiest;        /* the most tokens of one expert */
    double mean, imbalance; /* of tokens_of; busiest / mean */
    int64_t routed, budget; /* tokens that were neither masked nor dropped, and what they bring */
} statistics;

static int64_t experts_of(const seqtopk_cli_lists *lists, int64_t t) {
    return (int64_t)lists->token_offsets[t + 1] - lists->token_offsets[t];
}

static bool gather(const seqtopk_cli_report *report, statistics *s) {
    const seqtopk_cli_lists *lists = report->lists;
    const uint8_t *mask = report->inputs->token_mask;
    memset(s, 0, sizeof *s);
    for (int64_t t = 0; t < lists->tokens; t++)
        if (s->most < experts_of(lists, t))
            s->most = experts_of(lists, t);
    s->tokens_with = calloc((size_t)s->most + 1, sizeof(int64_t));
    s->tokens_of = calloc((size_t)lists->experts, sizeof(int64_t));
    if (!s->tokens_with || !s->tokens_of)
        return false;
    for (int64_t t = 0; t < lists->tokens; t++)
        if (!mask || mask[t])
            s->tokens_with[experts_of(lists, t)]++;
    s->tokens_with[0] -= lists->dropped[0];
    for (int64_t e = 0; e < lists->experts; e++) {
        s->tokens_of[e] = (int64_t)lists->expert_offsets[e + 1] - lists->expert_offsets[e];
        if (s->busiest < s->tokens_of[e])
            s->busiest = s->tokens_of[e];
    }
    s->mean = (double)lists->selected / (double)lists->experts;
    s->imbalance = lists->selected ? (double)s->busiest / s->mean : 0;
    s->routed = report->inputs->unmasked - lists->dropped[0];
    s->budget = s->routed * report->desc->top_k;
    return true;
}

static void release(statistics *s) {
    free(s->tokens_with);
    free(s->tokens_of);
}

/* A remark on what was asked for, as seqtopk_cli_desc_note. */
static bool note_of(const seqtopk_cli_report *r, int *next, bool *told, char note[SEQTOPK_NOTE]) {
    if (!*told && r->model->is_biased && !r->inputs->bias.data) {
        *told = true;
        snprintf(note, SEQTOPK_NOTE, "the router of %s has a selection bias; give it with --bias", r->model->name);
        return true;
    }
    return seqtopk_cli_desc_note(r->options, r->given, r->desc, next, note);
}

/* ------------------------------------------------------------ for people -- */

static void range_label(char *text, size_t size, int64_t first, int64_t last) {
    if (first == last)
        snprintf(text, size, "%" PRId64, first);
    else
        snprintf(text, size, "%" PRId64 "-%" PRId64, first, last);
}

static void draw_tokens_with(const statistics *s) {
    seqtopk_bar bars[SEQTOPK_DRAW_ROWS];
    memset(bars, 0, sizeof bars);
    int64_t first = 0;
    while (first < s->most && s->tokens_with[first] == 0)
        first++;
    int64_t width = seqtopk_draw_bucket(s->most + 1 - first);
    size_t rows = 0;
    for (; first <= s->most; first += width, rows++) {
        int64_t last = first + width - 1 < s->most ? first + width - 1 : s->most, tokens = 0;
        for (int64_t i = first; i <= last; i++)
            tokens += s->tokens_with[i];
        range_label(bars[rows].label, sizeof bars[rows].label, first, last);
        snprintf(bars[rows].number, sizeof bars[rows].number, "%" PRId64, tokens);
        bars[rows].value = (double)tokens;
    }
    printf("\nexperts of a token: tokens\n");
    seqtopk_draw_bars(bars, rows);
}

static void draw_tokens_of(const statistics *s, int64_t experts) {
    seqtopk_bar bars[SEQTOPK_DRAW_ROWS];
    memset(bars, 0, sizeof bars);
    int64_t width = seqtopk_draw_bucket(experts);
    size_t rows = 0;
    for (int64_t first = 0; first < experts; first += width, rows++) {
        int64_t last = first + width - 1 < experts ? first + width - 1 : experts - 1;
        int64_t sum = 0, least = INT64_MAX, most = 0;
        for (int64_t e = first; e <= last; e++) {
            sum += s->tokens_of[e];
            least = s->tokens_of[e] < least ? s->tokens_of[e] : least;
            most = s->tokens_of[e] > most ? s->tokens_of[e] : most;
        }
        seqtopk_bar *bar = &bars[rows];
        bar->value = (double)sum / (double)(last - first + 1);
        range_label(bar->label, sizeof bar->label, first, last);
        if (width == 1) {
            snprintf(bar->number, sizeof bar->number, "%" PRId64, sum);
        } else {
            snprintf(bar->number, sizeof bar->number, "%.1f", bar->value);
            snprintf(bar->note, sizeof bar->note, "%" PRId64 "..%" PRId64, least, most);
        }
    }
    printf(width == 1 ? "\nexpert: tokens\n" : "\nexperts: tokens each, mean and least..most\n");
    seqtopk_draw_bars(bars, rows);
}

/* +inf: no sequence left anything out. */
static float least_margin(const seqtopk_cli_lists *lists) {
    float least = INFINITY;
    for (int64_t s = 0; s < lists->sequences; s++)
        least = lists->sequence_margins[s] < least ? lists->sequence_margins[s] : least;
    return least;
}

static void print_text(const seqtopk_cli_report *r, const statistics *s) {
    const seqtopk_cli_inputs *in = r->inputs;
    const seqtopk_desc *d = r->desc;
    char shape[SEQTOPK_NPY_SHAPE_TEXT], dtype[SEQTOPK_WORD], note[SEQTOPK_NOTE];

    printf("file       %s: %s %s\n", r->path, seqtopk_npy_shape_text(&in->logits, shape),
           seqtopk_options_word(SEQTOPK_WORDS_DTYPE, (int)in->dtype, dtype));
    if (r->model->name)
        printf("model      %s\n", r->model->name);
    printf("tokens     %" PRId64 " in %" PRId64 " sequence%s", in->tokens, in->sequences,
           in->sequences == 1 ? "" : "s");
    if (in->token_mask)
        printf(", %" PRId64 " of them masked", in->tokens - in->unmasked);
    if (r->lists->dropped[0])
        printf("\ndropped    %" PRId64 " tokens with a NaN or +inf, the first is token %" PRId64, r->lists->dropped[0],
               r->lists->dropped[1]);
    printf("\nrouting    ");
    seqtopk_cli_router_text(d, in->bias.data != NULL);
    if (in->given)
        printf(", a given selection");
    printf("\nselected   %" PRId64 " of a budget of %" PRId64 " (%" PRId64 " tokens x %" PRId32 ")\n",
           r->lists->selected, s->budget, s->routed, d->top_k);
    if (r->lists->sequence_margins)
        printf("margin     %.9g at the nearest cut\n", (double)least_margin(r->lists));
    printf("time       %.1f us, %.1f ns a token (%s%" PRId32 ", %" PRId32 " thread%s)\n", r->median_ns / 1e3,
           in->tokens ? r->median_ns / (double)in->tokens : 0, r->repetitions == 1 ? "runs: " : "median of ",
           r->repetitions, r->threads, r->threads == 1 ? "" : "s");
    for (int32_t i = 0; i < r->ranks; i++)
        printf("rank %-5" PRId32 " %" PRId64 " tokens, %" PRId64 " pairs, %.1f us, %.1f of them in %" PRId64
               " all-reduces and %" PRId64 " exscans of %" PRId64 " bytes\n",
               i, r->told[i].tokens, r->told[i].pairs, (double)r->told[i].ns / 1e3,
               (double)r->told[i].collective_ns / 1e3, r->told[i].allreduces, r->told[i].exscans, r->told[i].bytes);
    if (r->ranks == 0)
        seqtopk_cli_taken_text(r->lists->ways, r->lists->fallbacks, r->lists->sequences);
    bool told = false;
    for (int next = 0; note_of(r, &next, &told, note);)
        printf("note       %s\n", note);
    printf("\nkernels\n");
    seqtopk_cli_choices_text(r->plan, in->tokens);

    if (s->routed)
        draw_tokens_with(s);
    if (r->lists->selected)
        draw_tokens_of(s, r->lists->experts);
    printf("\nimbalance  %.2f (busiest expert %" PRId64 ", mean %.1f)\n", s->imbalance, s->busiest, s->mean);
    printf("idle       %" PRId64 " tokens without an expert\n", s->tokens_with[0]);
    if (r->directory)
        printf("written    %s\n", r->directory);
}

/* ---------------------------------------------------------- for programs -- */

static void ranks_json(seqtopk_json *j, const seqtopk_cli_report *r) {
    seqtopk_json_begin(j, "ranks", '[');
    for (int32_t i = 0; i < r->ranks; i++) {
        const seqtopk_cli_rank *told = r->told + i;
        seqtopk_json_begin(j, NULL, '{');
        seqtopk_json_int(j, "tokens", told->tokens);
        seqtopk_json_int(j, "pairs", told->pairs);
        seqtopk_json_int(j, "ns", told->ns);
        seqtopk_json_int(j, "collective_ns", told->collective_ns);
        seqtopk_json_int(j, "allreduces", told->allreduces);
        seqtopk_json_int(j, "exscans", told->exscans);
        seqtopk_json_int(j, "bytes", told->bytes);
        seqtopk_json_end(j, '}');
    }
    seqtopk_json_end(j, ']');
}

static void print_json(const seqtopk_cli_report *r, const statistics *s) {
    const seqtopk_cli_inputs *in = r->inputs;
    const seqtopk_desc *d = r->desc;
    seqtopk_json j = {stdout, false};
    char note[SEQTOPK_NOTE];

    seqtopk_json_begin(&j, NULL, '{');
    seqtopk_json_text(&j, "version", seqtopk_version());
    seqtopk_json_text(&j, "file", r->path);
    seqtopk_json_text(&j, "model", r->model->name);
    seqtopk_json_ints(&j, "shape", in->logits.shape, in->logits.ndim);
    seqtopk_json_int(&j, "tokens", in->tokens);
    seqtopk_json_int(&j, "experts", in->experts);
    seqtopk_json_int(&j, "sequences", in->sequences);
    seqtopk_json_int(&j, "masked", in->tokens - in->unmasked);
    seqtopk_json_int(&j, "dropped", r->lists->dropped[0]);
    seqtopk_cli_router_json(&j, r->plan, d, in->bias.data != NULL);
    seqtopk_json_bool(&j, "given", in->given != NULL);
    seqtopk_json_int(&j, "budget", s->budget);
    seqtopk_json_int(&j, "selected", r->lists->selected);
    if (r->lists->sequence_margins && least_margin(r->lists) < INFINITY)
        seqtopk_json_real(&j, "least_margin", (double)least_margin(r->lists));
    if (r->ranks == 0)
        seqtopk_cli_taken_json(&j, r->lists->ways, r->lists->fallbacks, r->lists->sequences);
    else
        ranks_json(&j, r);
    seqtopk_cli_choices_json(&j, r->plan, in->tokens);
    seqtopk_json_begin(&j, "time", '{');
    seqtopk_json_real(&j, "median_ns", r->median_ns);
    seqtopk_json_real(&j, "ns_per_token", in->tokens ? r->median_ns / (double)in->tokens : 0);
    seqtopk_json_int(&j, "repetitions", r->repetitions);
    seqtopk_json_int(&j, "threads", r->threads);
    seqtopk_json_end(&j, '}');
    seqtopk_json_ints(&j, "tokens_with_experts", s->tokens_with, s->most + 1);
    seqtopk_json_ints(&j, "tokens_per_expert", s->tokens_of, r->lists->experts);
    seqtopk_json_real(&j, "imbalance", s->imbalance);
    seqtopk_json_int(&j, "tokens_without_expert", s->tokens_with[0]);
    seqtopk_json_begin(&j, "notes", '[');
    bool told = false;
    for (int next = 0; note_of(r, &next, &told, note);)
        seqtopk_json_text(&j, NULL, note);
    seqtopk_json_end(&j, ']');
    seqtopk_json_text(&j, "out", r->directory);
    seqtopk_json_end(&j, '}');
    putchar('\n');
}

int seqtopk_cli_report_print(const seqtopk_cli_report *report, bool json) {
    statistics s;
    bool ok = gather(report, &s);
    if (ok)
        (json ? print_json : print_text)(report, &s);
    release(&s);
    return ok ? SEQTOPK_EXIT_OK : seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "no memory for the report");
}
