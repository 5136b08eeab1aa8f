/* SPDX-License-Identifier: MIT */
#include "ways.h"

#include <inttypes.h>
#include <stdio.h>

static const char *name_of(int32_t index) {
    seqtopk_way way = SEQTOPK_WAY_INIT;
    return seqtopk_way_get(index, &way) == SEQTOPK_OK ? way.name : "?";
}

/* ------------------------------------------------------------------ a plan -- */

void seqtopk_cli_ways_text(const seqtopk_plan *plan, int64_t tokens, int32_t is_biased) {
    seqtopk_way way = SEQTOPK_WAY_INIT;
    bool taken = false;
    printf("\nways for a sequence of %" PRId64 " tokens%s (*: taken)\n", tokens, is_biased ? " with a bias" : "");
    for (int32_t i = 0; seqtopk_way_get(i, &way) == SEQTOPK_OK; i++) {
        const char *why_not = seqtopk_plan_way_why_not(plan, i, tokens, is_biased);
        printf("  %c %-12s %s%s\n", !why_not && !taken ? '*' : ' ', way.name, why_not ? "not: " : "",
               why_not ? why_not : way.about);
        taken = taken || !why_not;
    }
}

void seqtopk_cli_ways_json(seqtopk_json *json, const seqtopk_plan *plan, int64_t tokens, int32_t is_biased) {
    seqtopk_way way = SEQTOPK_WAY_INIT;
    bool taken = false;
    seqtopk_json_begin(json, "ways", '[');
    for (int32_t i = 0; seqtopk_way_get(i, &way) == SEQTOPK_OK; i++) {
        const char *why_not = seqtopk_plan_way_why_not(plan, i, tokens, is_biased);
        seqtopk_json_begin(json, NULL, '{');
        seqtopk_json_text(json, "way", way.name);
        seqtopk_json_text(json, "about", way.about);
        seqtopk_json_text(json, "instead", name_of(way.instead));
        seqtopk_json_text(json, "why_not", why_not);
        seqtopk_json_bool(json, "taken", !why_not && !taken);
        seqtopk_json_end(json, '}');
        taken = taken || !why_not;
    }
    seqtopk_json_end(json, ']');
}

/* ------------------------------------------------------------------ a call -- */

/* Calls `tell` for each pair of a way and a fallback that occurs, with how many sequences it has. */
typedef void tell_fn(void *context, int32_t way, seqtopk_fallback fallback, int64_t sequences);

static void tell_all(const int32_t *ways, const int32_t *fallbacks, int64_t sequences, tell_fn *tell, void *context) {
    for (int32_t way = 0; way < seqtopk_way_count(); way++)
        for (int32_t why = SEQTOPK_FALLBACK_NONE; why <= SEQTOPK_FALLBACK_FEW; why++) {
            int64_t count = 0;
            for (int64_t s = 0; s < sequences; s++)
                count += ways[s] == way && fallbacks[s] == why;
            if (count)
                tell(context, way, (seqtopk_fallback)why, count);
        }
}

static void tell_text(void *context, int32_t way, seqtopk_fallback fallback, int64_t sequences) {
    const char **heading = context;
    printf("%-10s %s, %" PRId64 " sequence%s", *heading, name_of(way), sequences, sequences == 1 ? "" : "s");
    if (fallback != SEQTOPK_FALLBACK_NONE)
        printf("; fell back: %s", seqtopk_fallback_string(fallback));
    putchar('\n');
    *heading = "";
}

void seqtopk_cli_taken_text(const int32_t *ways, const int32_t *fallbacks, int64_t sequences) {
    const char *heading = "way";
    tell_all(ways, fallbacks, sequences, tell_text, &heading);
}

static void tell_json(void *context, int32_t way, seqtopk_fallback fallback, int64_t sequences) {
    seqtopk_json *json = context;
    seqtopk_json_begin(json, NULL, '{');
    seqtopk_json_text(json, "way", name_of(way));
    seqtopk_json_int(json, "sequences", sequences);
    seqtopk_json_text(json, "fell_back", fallback == SEQTOPK_FALLBACK_NONE ? NULL : seqtopk_fallback_string(fallback));
    seqtopk_json_end(json, '}');
}

void seqtopk_cli_taken_json(seqtopk_json *json, const int32_t *ways, const int32_t *fallbacks, int64_t sequences) {
    seqtopk_json_begin(json, "ways", '[');
    tell_all(ways, fallbacks, sequences, tell_json, json);
    seqtopk_json_end(json, ']');
}
