/* SPDX-License-Identifier: MIT */
/* `seqtopk models`: the routers of published models, and where their numbers are from. */
#include "cli.h"
#include "desc.h"
#include "json.h"
#include "model.h"

#include "src/plan/presets.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct models_values {
    const char *name;
    int parity, json, markdown;
} models_values;

#define ROW(kind, name, argument, field, help)                                                                         \
    { SEQTOPK_OPTION_##kind, false, name, argument, offsetof(models_values, field), 0, 0, help }
static const seqtopk_option rows[] = {
    ROW(POSITIONAL, "NAME", NULL, name, "one model only, with its sources"),
    ROW(CHOICE, "parity", SEQTOPK_WORDS_PARITY, parity,
        "eps and floor as transformers, vLLM, llama.cpp have them (default: hf)"),
    ROW(FLAG, "json", NULL, json, "report one JSON object, sources and all"),
    ROW(FLAG, "markdown", NULL, markdown, "report the table of docs/models.md"),
};

static const seqtopk_options options = {
    "models",
    "Lists the routers of published models, which --model of route, info, bench and tune takes by name.",
    "  E, K      experts, and how many of them a token gets\n"
    "  bias      +: a selection bias is added to the scores; it is in the checkpoint, not here\n"
    "  groups    a token keeps so many of so many groups, each scored by its best or its two best experts\n"
    "  norm      what becomes of the scores of the selected; sum: divided by sum + eps, or floor if that is more\n"
    "  sources   how many say so: with 1 nobody was found yet who confirms the row\n"
    "  tuned     *: the shape is among those that `seqtopk tune` takes when none is named\n\n"
    "Examples:\n"
    "  seqtopk models\n"
    "  seqtopk models deepseek-v3 --parity llama.cpp\n"
    "  seqtopk models --json",
    rows,
    sizeof rows / sizeof *rows,
};

/* ----------------------------------------------------------------- words -- */

enum { CELL = 56 };

/* One model as the list has it, its desc, and what is printed of that: "-" is nothing. */
typedef struct entry {
    const seqtopk_preset_row *row;
    seqtopk_desc desc;
    char score[SEQTOPK_WORD], norm[SEQTOPK_WORD], group_score[SEQTOPK_WORD];
    char groups[CELL], eps[CELL], floor[CELL], scale[CELL], form[CELL];
} entry;

/* As it would be typed: 1e-20 and not 9.99999968e-21. */
static const char *number(float value, char text[CELL]) {
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, CELL, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value)
            break;
    }
    return text;
}

static double typed(float value) {
    char text[CELL];
    return strtod(number(value, text), NULL);
}

static void write_groups(entry *e) {
    const seqtopk_desc *d = &e->desc;
    if (d->groups > 1 && d->group_quota)
        snprintf(e->groups, CELL, "%" PRId32 " of each of %" PRId32, d->group_quota, d->groups);
    else if (d->groups > 1)
        snprintf(e->groups, CELL, "%" PRId32 " of %" PRId32 ", %s", d->group_top_k, d->groups, e->group_score);
}

/* What a router says beside score, groups and norm. */
static void write_form(const seqtopk_desc *d, char text[CELL]) {
    char value[CELL];
    if (d->key_from == SEQTOPK_KEY_FROM_LOGIT)
        snprintf(text, CELL, "key from the logit");
    if (d->logit_scale > 0)
        snprintf(text, CELL, "logits times %.20s", number(d->logit_scale, value));
    if (d->logit_softcap > 0)
        snprintf(text, CELL, "logits capped at %.20s", number(d->logit_softcap, value));
    if (d->null_experts)
        snprintf(text, CELL, "%" PRId32 " null experts", d->null_experts);
    if (d->shared_experts)
        snprintf(text, CELL, "%" PRId32 " shared experts", d->shared_experts);
    if (d->norm_jitter > 0)
        snprintf(text, CELL, "jitter %.20s", number(d->norm_jitter, value));
}

static entry entry_of(int32_t index, int parity) {
    entry e = {seqtopk_presets + index, SEQTOPK_DESC_INIT, "", "", "", "-", "-", "-", "", "-"};
    const seqtopk_desc *d = &e.desc;
    seqtopk_desc_preset(e.row->name, (seqtopk_parity)parity, &e.desc, NULL);
    seqtopk_options_word(SEQTOPK_WORDS_SCORE, (int)d->score, e.score);
    seqtopk_options_word(SEQTOPK_WORDS_NORM, (int)d->norm - SEQTOPK_NORM_NONE, e.norm);
    seqtopk_options_word(SEQTOPK_WORDS_GROUP_SCORE, (int)d->group_score, e.group_score);
    write_groups(&e);
    if (d->norm == SEQTOPK_NORM_SUM && d->norm_eps > 0)
        number(d->norm_eps, e.eps);
    if (d->norm == SEQTOPK_NORM_SUM && d->norm_floor > 0)
        number(d->norm_floor, e.floor);
    number(d->scale, e.scale);
    write_form(d, e.form);
    return e;
}

static const char *parity_text(int parity) {
    static const char *const texts[] = {"transformers 5.24", "vLLM", "llama.cpp"};
    return texts[parity];
}

/* ------------------------------------------------------------ for people -- */

static void print_table(int parity) {
    int width = 0;
    for (int32_t i = 0; i < seqtopk_presets_size; i++)
        width = (int)strlen(seqtopk_presets[i].name) > width ? (int)strlen(seqtopk_presets[i].name) : width;
    printf("%-*s %5s %3s  %-12s %-4s  %-12s %-7s  %-6s %-13s %-6s %-7s %s\n", width, "model", "E", "K", "score", "bias",
           "groups", "norm", "eps", "floor", "scale", "sources", "tuned");
    for (int32_t i = 0; i < seqtopk_presets_size; i++) {
        const entry e = entry_of(i, parity);
        printf("%-*s %5" PRId32 " %3" PRId32 "  %-12s %-4s  %-12s %-7s  %-6s %-13s %-6s %s%s\n", width, e.row->name,
               e.desc.experts, e.desc.top_k, e.score, e.row->is_biased ? "+" : "-", e.groups, e.norm, e.eps, e.floor,
               e.scale, *e.row->second_source ? "2" : "1", e.row->is_tuned ? "       *" : "");
    }
    printf("\n%" PRId32 " models; eps and floor as in %s. seqtopk models NAME shows the sources of one.\n",
           seqtopk_presets_size, parity_text(parity));
}

static void print_one(const entry *e, int parity) {
    const seqtopk_preset_row *row = e->row;
    printf("model      %s%s%s\n", row->name, *row->also ? ", or " : "", row->also);
    printf("experts    %" PRId32 ", K %" PRId32 "\n", e->desc.experts, e->desc.top_k);
    printf("score      %s%s\n", e->score, row->is_biased ? " + bias" : "");
    printf("groups     %s\n", e->groups);
    printf("norm       %s", e->norm);
    if (e->desc.norm == SEQTOPK_NORM_SUM)
        printf(", eps %s, floor %s%s, as in %s", e->eps, e->floor, e->desc.norm_skip_top1 ? ", not where K is 1" : "",
               parity_text(parity));
    putchar('\n');
    printf("scale      %s\n", e->scale);
    if (strcmp(e->form, "-") != 0)
        printf("form       %s\n", e->form);
    printf("source     %s\nnumbers    %s\n", row->source, row->numbers);
    printf("second     %s\n", *row->second_source ? row->second_source : "nobody was found yet who says so too");
    if (*row->note)
        printf("note       %s\n", row->note);
}

/* The cells are plain words: nothing in them means anything to Markdown. */
static void print_markdown(int parity) {
    puts("| model | E / K | score | groups | norm | eps | floor | scale | form | source | second source | note |\n"
         "|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (int32_t i = 0; i < seqtopk_presets_size; i++) {
        const entry e = entry_of(i, parity);
        const seqtopk_preset_row *row = e.row;
        printf("| %s%s%s | %" PRId32 " / %" PRId32 " | %s%s | %s | %s | %s | %s | %s | %s | %s%s%s | %s | %s |\n",
               row->name, *row->also ? ", " : "", row->also, e.desc.experts, e.desc.top_k, e.score,
               row->is_biased ? " + bias" : "", e.groups, e.norm, e.eps, e.floor, e.scale, e.form, row->source,
               strcmp(row->source, row->numbers) ? "; numbers: " : "",
               strcmp(row->source, row->numbers) ? row->numbers : "",
               *row->second_source ? row->second_source : "**none**", row->note);
    }
}

/* ---------------------------------------------------------- for programs -- */

static void json_one(seqtopk_json *json, const entry *e) {
    char word[SEQTOPK_WORD];
    const seqtopk_preset_row *row = e->row;
    seqtopk_json_begin(json, NULL, '{');
    seqtopk_json_text(json, "name", row->name);
    seqtopk_json_text(json, "also", *row->also ? row->also : NULL);
    seqtopk_json_int(json, "experts", e->desc.experts);
    seqtopk_json_int(json, "top_k", e->desc.top_k);
    seqtopk_json_text(json, "score", e->score);
    seqtopk_json_bool(json, "bias", row->is_biased);
    seqtopk_json_int(json, "groups", e->desc.groups > 1 ? e->desc.groups : 1);
    seqtopk_json_int(json, "group_top_k", e->desc.groups > 1 ? e->desc.group_top_k : 1);
    seqtopk_json_text(json, "group_score", e->desc.groups > 1 ? e->group_score : NULL);
    seqtopk_json_text(json, "norm", e->norm);
    seqtopk_json_real(json, "eps", typed(e->desc.norm_eps));
    seqtopk_json_real(json, "floor", typed(e->desc.norm_floor));
    seqtopk_json_bool(json, "norm_skip_top1", e->desc.norm_skip_top1);
    seqtopk_json_real(json, "scale", typed(e->desc.scale));
    seqtopk_json_int(json, "group_quota", e->desc.group_quota);
    seqtopk_json_text(json, "key", seqtopk_options_word(SEQTOPK_WORDS_KEY, (int)e->desc.key_from, word));
    seqtopk_json_real(json, "logit_scale", e->desc.logit_scale > 0 ? typed(e->desc.logit_scale) : 1);
    seqtopk_json_real(json, "softcap", typed(e->desc.logit_softcap));
    seqtopk_json_int(json, "null_experts", e->desc.null_experts);
    seqtopk_json_int(json, "shared_experts", e->desc.shared_experts);
    seqtopk_json_real(json, "jitter", typed(e->desc.norm_jitter));
    seqtopk_json_bool(json, "tuned", row->is_tuned);
    seqtopk_json_text(json, "source", row->source);
    seqtopk_json_text(json, "numbers", row->numbers);
    seqtopk_json_text(json, "second_source", *row->second_source ? row->second_source : NULL);
    seqtopk_json_text(json, "note", *row->note ? row->note : NULL);
    seqtopk_json_end(json, '}');
}

/* `only`: an index, or -1 for all. */
static void print_json(int parity, int32_t only) {
    seqtopk_json json = {stdout, false};
    char word[SEQTOPK_WORD];
    seqtopk_json_begin(&json, NULL, '{');
    seqtopk_json_text(&json, "version", seqtopk_version());
    seqtopk_json_text(&json, "parity", seqtopk_options_word(SEQTOPK_WORDS_PARITY, parity, word));
    seqtopk_json_begin(&json, "models", '[');
    for (int32_t i = 0; i < seqtopk_presets_size; i++) {
        const entry e = entry_of(i, parity);
        if (only < 0 || i == only)
            json_one(&json, &e);
    }
    seqtopk_json_end(&json, ']');
    seqtopk_json_end(&json, '}');
    putchar('\n');
}

/* --------------------------------------------------------------- command -- */

int seqtopk_cli_models(int argc, char **argv) {
    models_values values = {NULL, SEQTOPK_PARITY_HUGGING_FACE, 0, 0};
    uint64_t given;
    int32_t only = -1;
    int status = seqtopk_options_parse(&options, argc, argv, &values, &given);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    if (values.markdown && (values.json || values.name))
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "models: --markdown is of the whole table; leave %s out",
                                values.json ? "--json" : "NAME");
    if (values.name && (only = seqtopk_cli_model_find("models", values.name)) < 0)
        return SEQTOPK_EXIT_USAGE;
    if (values.json) {
        print_json(values.parity, only);
    } else if (values.markdown) {
        print_markdown(values.parity);
    } else if (only >= 0) {
        const entry e = entry_of(only, values.parity);
        print_one(&e, values.parity);
    } else {
        print_table(values.parity);
    }
    return SEQTOPK_EXIT_OK;
}
