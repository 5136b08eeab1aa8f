/* SPDX-License-Identifier: MIT */
/* The routers of published models, by name. */
#include "src/plan/presets.h"
#include "src/abi.h"
#include "src/status.h"

#include <string.h>

const seqtopk_preset_row seqtopk_presets[] = {
#define SEQTOPK_PRESET_MORE(name, also, experts, top_k, score, biased, groups, kept, group_n, norm, eps, floor, scale, \
                            skip_top1, tuned, source, numbers, second_source, note, ...)                               \
    {name,   also,    experts,       top_k,     SEQTOPK_SCORE_##score,                                                 \
     biased, groups,  kept,          group_n,   SEQTOPK_NORM_##norm,                                                   \
     eps,    floor,   scale,         skip_top1, tuned,                                                                 \
     source, numbers, second_source, note,      {__VA_ARGS__}},
#define SEQTOPK_PRESET(...) SEQTOPK_PRESET_MORE(__VA_ARGS__, .logit_scale = 0)
#include "src/plan/presets.def"
#undef SEQTOPK_PRESET
#undef SEQTOPK_PRESET_MORE
};
const int32_t seqtopk_presets_size = sizeof seqtopk_presets / sizeof *seqtopk_presets;

/* ----------------------------------------------------------------- names -- */

/* Whatever the locale is. */
static char lower(char c) { return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c); }

static int same(const char *a, const char *b) {
    for (; *a && lower(*a) == lower(*b); a++, b++)
        ;
    return !*a && !*b;
}

int32_t seqtopk_preset_find(const char *name) {
    for (int32_t i = 0; *name && i < seqtopk_presets_size; i++)
        if (same(name, seqtopk_presets[i].name) || same(name, seqtopk_presets[i].also))
            return i;
    return -1;
}

enum { LONGEST = 64 };
static int length_of(const char *name) { return strlen(name) < LONGEST ? (int)strlen(name) : LONGEST; }

int seqtopk_edits(const char *word, const char *name) {
    int row[LONGEST + 1];
    const int m = length_of(word), n = length_of(name);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 0; i < m; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (lower(word[i]) != name[j - 1]);
            diagonal = row[j];
            best = best < row[j] + 1 ? best : row[j] + 1;
            row[j] = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
        }
    }
    return row[n];
}

/*
 * How unlike two names are: the edits from one to the other, less the letters that they begin with alike, since models
 * of a family do, and less those of a word that stands whole within the name ("k2" in kimi-k2).
 */
static int unlike(const char *word, const char *name) {
    const int m = length_of(word), n = length_of(name);
    int within = 0, alike = 0;
    while (alike < m && alike < n && lower(word[alike]) == name[alike])
        alike++;
    for (int from = 0; from + m <= n && !within; from++) {
        int i = 0;
        while (i < m && lower(word[i]) == name[from + i])
            i++;
        within = i == m ? m : 0;
    }
    return seqtopk_edits(word, name) - alike - within;
}

/* Goes through the degrees of likeness one by one, so that nothing has to be sorted or kept. */
const char *seqtopk_presets_nearest(const char *name, char text[SEQTOPK_PRESETS_NEAREST]) {
    size_t length = 0;
    int last = -3 * LONGEST;
    text[0] = 0;
    for (;;) {
        int next = 3 * LONGEST;
        for (int32_t i = 0; i < seqtopk_presets_size; i++) {
            const int likeness = unlike(name, seqtopk_presets[i].name);
            next = likeness > last && likeness < next ? likeness : next;
        }
        if (next == 3 * LONGEST)
            return text;
        for (int32_t i = 0; i < seqtopk_presets_size; i++) {
            const char *one = seqtopk_presets[i].name;
            const size_t size = strlen(one);
            if (unlike(name, one) != next)
                continue;
            if (length + size + 3 > SEQTOPK_PRESETS_NEAREST)
                return text;
            if (length)
                text[length++] = ',';
            text[length++] = ' ';
            memcpy(text + length, one, size + 1);
            length += size;
        }
        last = next;
    }
}

/* ------------------------------------------------------------ public calls -- */

int32_t seqtopk_preset_count(void) { return seqtopk_presets_size; }

seqtopk_status seqtopk_preset_get(int32_t index, seqtopk_preset *preset) {
    if (!preset)
        return SEQTOPK_E_NULL;
    if (!seqtopk_struct_is_sized(preset, SEQTOPK_FIRST_preset))
        return SEQTOPK_E_STRUCT;
    if (index < 0 || index >= seqtopk_presets_size)
        return SEQTOPK_E_VALUE;
    const seqtopk_preset_row *row = seqtopk_presets + index;
    const seqtopk_preset ours = {
        .is_biased = row->is_biased,
        .name = row->name,
        .also = row->also,
        .note = row->note,
        .source = row->source,
        .numbers = row->numbers,
        .second_source = row->second_source,
    };
    seqtopk_give_struct(preset, &ours, sizeof ours);
    return SEQTOPK_OK;
}

/* llama.cpp, build_moe_ffn: the sum is clamped there for every model that normalises. */
static const float LLAMA_CPP_FLOOR = 6.103515625e-5f; /* 2^-14 */

static void set_norm(const seqtopk_preset_row *row, seqtopk_parity parity, seqtopk_desc *desc) {
    const int summed = row->norm == SEQTOPK_NORM_SUM;
    desc->norm = row->norm;
    desc->norm_eps = 0.0f;
    desc->norm_floor = 0.0f;
    desc->norm_skip_top1 = 0;
    switch (parity) {
    case SEQTOPK_PARITY_HUGGING_FACE:
        desc->norm_eps = row->eps;
        desc->norm_floor = row->floor;
        break;
    case SEQTOPK_PARITY_VLLM: desc->norm_skip_top1 = row->skip_top1; break;
    case SEQTOPK_PARITY_LLAMA_CPP: desc->norm_floor = summed ? LLAMA_CPP_FLOOR : 0.0f; break;
    }
}

static void set_groups(const seqtopk_preset_row *row, seqtopk_desc *desc) {
    const int grouped = row->groups > 1;
    desc->groups = grouped ? row->groups : 0;
    desc->group_top_k = grouped ? row->group_top_k : 0;
    desc->group_score = row->group_n == 2 ? SEQTOPK_GROUP_TOP2 : SEQTOPK_GROUP_MAX;
    desc->group_n = 0;
}

static void set_more(const seqtopk_preset_more *more, seqtopk_desc *desc) {
    desc->logit_scale = more->logit_scale;
    desc->logit_softcap = more->logit_softcap;
    desc->key_from = more->key_from;
    desc->group_quota = more->group_quota;
    desc->null_experts = more->null_experts;
    desc->shared_experts = more->shared_experts;
    desc->shared_weight = 0.0f;
    desc->norm_jitter = more->norm_jitter;
}

/* A program whose struct ends before what the router says would route otherwise without a word. */
static int is_known(const seqtopk_desc *theirs, const seqtopk_preset_row *row) {
    static const seqtopk_preset_more none;
    return memcmp(&row->more, &none, sizeof none) == 0 ||
           theirs->struct_size >= SEQTOPK_END_OF(seqtopk_desc, norm_jitter);
}

static int is_parity(seqtopk_parity parity) {
    switch (parity) {
    case SEQTOPK_PARITY_HUGGING_FACE:
    case SEQTOPK_PARITY_VLLM:
    case SEQTOPK_PARITY_LLAMA_CPP: return 1;
    }
    return 0;
}

seqtopk_status seqtopk_desc_preset(const char *name, seqtopk_parity parity, seqtopk_desc *desc, seqtopk_error *error) {
    seqtopk_desc ours;
    char nearest[SEQTOPK_PRESETS_NEAREST];
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    if (!name)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "name is NULL: pass one that seqtopk_preset_get lists");
    seqtopk_status status = seqtopk_take_struct(&ours, sizeof ours, SEQTOPK_FIRST_desc, desc, "desc", error);
    if (status)
        return status;
    if (!is_parity(parity))
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1, "parity is %d, which is no seqtopk_parity", (int)parity);
    const int32_t index = seqtopk_preset_find(name);
    if (index < 0)
        return seqtopk_fail(error, SEQTOPK_E_VALUE, -1,
                            "there is no preset '%.60s'; the nearest:%s; seqtopk_preset_get lists all", name,
                            seqtopk_presets_nearest(name, nearest));
    const seqtopk_preset_row *row = seqtopk_presets + index;
    if (!is_known(desc, row))
        return seqtopk_fail(
            error, SEQTOPK_E_UNSUPPORTED, -1,
            "preset '%s' sets fields of seqtopk_desc that this program was compiled without: compile it "
            "with this library's header",
            row->name);
    ours.experts = row->experts;
    ours.top_k = row->top_k;
    ours.score = row->score;
    ours.scale = row->scale;
    set_norm(row, parity, &ours);
    set_groups(row, &ours);
    set_more(&row->more, &ours);
    seqtopk_give_struct(desc, &ours, sizeof ours);
    return SEQTOPK_OK;
}
