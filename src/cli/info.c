/* SPDX-License-Identifier: MIT */
/* `seqtopk info`: this machine, the kernels compiled in, and the plan for a shape. */
#include "cli.h"
#include "desc.h"
#include "json.h"
#include "machine.h"
#include "model.h"
#include "options.h"
#include "report.h"
#include "ways.h"

#include "src/plan/plan.h"
#include "src/tuning/ranges.h"
#include "src/tuning/store.h"

#include <fenv.h>
#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct info_values {
    seqtopk_cli_desc desc;
    const char *shape;
    int json;
} info_values;

static const seqtopk_option rows[] = {
    {SEQTOPK_OPTION_TEXT, false, "shape", "TxExK", offsetof(info_values, shape), 0, 0,
     "show the plan for T tokens, E experts, K: 8192x256x8; with --model: T"},
    {SEQTOPK_OPTION_FLAG, false, "json", NULL, offsetof(info_values, json), 0, 0, "report one JSON object"},
    SEQTOPK_CLI_DESC_ROWS(info_values),
};
enum { OWN_ROWS = 2 }; /* the rest speaks of a plan */

static const seqtopk_options options = {
    "info",
    "Shows this machine, the kernels compiled in and which of them it can run; with --shape the plan for a shape.",
    "Examples:\n"
    "  seqtopk info\n"
    "  seqtopk info --shape 8192x256x8 --score sigmoid --norm sum --isa ref\n"
    "  seqtopk info --shape 1 --model kimi-k3 --scope token",
    rows,
    sizeof rows / sizeof *rows,
};
_Static_assert(sizeof rows / sizeof *rows <= 64, "one bit a row");

/* --------------------------------------------------- instruction sets -- */

static void print_isas(void) {
    const char *name;
    char missing[SEQTOPK_ISA_MISSING];
    printf("\ninstruction sets\n");
    for (int32_t i = 0; (name = seqtopk_isa_name(i)); i++) {
        const char *features = seqtopk_isa_features(name);
        printf("  %-8s %-9s %s\n", name, seqtopk_isa_usable(name) ? "usable" : "-",
               features && *features ? features : "nothing special");
        if (!seqtopk_isa_usable(name)) {
            seqtopk_isa_missing(i, missing);
            printf("  %-8s %-9s missing: %s\n", "", "", missing);
        }
    }
}

static void json_isas(seqtopk_json *json) {
    const char *name;
    char missing[SEQTOPK_ISA_MISSING];
    seqtopk_json_begin(json, "isas", '[');
    for (int32_t i = 0; (name = seqtopk_isa_name(i)); i++) {
        const char *features = seqtopk_isa_features(name);
        seqtopk_json_begin(json, NULL, '{');
        seqtopk_json_text(json, "name", name);
        seqtopk_json_bool(json, "usable", seqtopk_isa_usable(name));
        seqtopk_json_text(json, "features", features);
        if (!seqtopk_isa_usable(name)) {
            seqtopk_isa_missing(i, missing);
            seqtopk_json_text(json, "missing", missing);
        }
        seqtopk_json_end(json, '}');
    }
    seqtopk_json_end(json, ']');
}

/* ------------------------------------------------------- caches, kernels -- */

/* What this process computes floats by: results are the same everywhere only if none of it was changed (by a library built
 * with -ffast-math, which does that when it is loaded). NULL: nothing was. */
static const char *changed_arithmetic(void) {
    volatile float least = FLT_MIN, denormal = FLT_TRUE_MIN, half = 0.5f, none = 0;
    if (fegetround() != FE_TONEAREST)
        return "does not round to nearest: results differ from those of other programs";
    if (!(denormal > none))
        return "takes denormals for 0 (DAZ): results differ from those of other programs";
    if (!(least * half > none))
        return "makes denormals 0 (FTZ): results differ from those of other programs";
    return NULL;
}

static void print_machine(const seqtopk_machine *machine) {
    printf("seqtopk    %s\nprocessor  %s, %ld online\ncaches     ", seqtopk_version(), machine->name,
           machine->processors);
    if (!machine->cache_count)
        printf("unknown");
    for (size_t i = 0; i < machine->cache_count; i++)
        printf("%sL%d %s %lld KiB", i ? ", " : "", machine->caches[i].level, machine->caches[i].type,
               machine->caches[i].bytes >> 10);
    const char *changed = changed_arithmetic();
    printf("\narithmetic %s\n", changed ? changed : "rounds to nearest, keeps denormals");
}

static void json_machine(seqtopk_json *json, const seqtopk_machine *machine) {
    seqtopk_json_text(json, "version", seqtopk_version());
    seqtopk_json_text(json, "processor", machine->name);
    seqtopk_json_int(json, "processors", machine->processors);
    seqtopk_json_bool(json, "default_arithmetic", !changed_arithmetic());
    seqtopk_json_begin(json, "caches", '[');
    for (size_t i = 0; i < machine->cache_count; i++) {
        seqtopk_json_begin(json, NULL, '{');
        seqtopk_json_int(json, "level", machine->caches[i].level);
        seqtopk_json_text(json, "type", machine->caches[i].type);
        seqtopk_json_int(json, "bytes", machine->caches[i].bytes);
        seqtopk_json_end(json, '}');
    }
    seqtopk_json_end(json, ']');
}

static void print_kernels(void) {
    int width = 0;
    seqtopk_kernel kernel = SEQTOPK_KERNEL_INIT;
    for (int32_t i = 0; seqtopk_kernel_get(i, &kernel) == SEQTOPK_OK; i++)
        if (width < (int)strlen(kernel.name))
            width = (int)strlen(kernel.name);
    printf("\nkernels\n");
    for (int32_t i = 0; seqtopk_kernel_get(i, &kernel) == SEQTOPK_OK; i++)
        printf("  %-*s  %-6s  %s\n", width, kernel.name, kernel.usable ? "usable" : "-", kernel.about);
}

static void json_kernels(seqtopk_json *json) {
    seqtopk_kernel kernel = SEQTOPK_KERNEL_INIT;
    seqtopk_json_begin(json, "compiled", '[');
    for (int32_t i = 0; seqtopk_kernel_get(i, &kernel) == SEQTOPK_OK; i++) {
        seqtopk_json_begin(json, NULL, '{');
        seqtopk_json_text(json, "name", kernel.name);
        seqtopk_json_text(json, "op", kernel.op);
        seqtopk_json_text(json, "dtype", kernel.dtype);
        seqtopk_json_text(json, "isa", kernel.isa);
        seqtopk_json_text(json, "algorithm", kernel.algorithm);
        seqtopk_json_int(json, "revision", kernel.revision);
        seqtopk_json_bool(json, "usable", kernel.usable);
        seqtopk_json_text(json, "about", kernel.about);
        seqtopk_json_end(json, '}');
    }
    seqtopk_json_end(json, ']');
}

/* ------------------------------------------------------------- contenders -- */

/* Whether a row is of another type of logits than the plan's: then its sibling of the right type is listed. */
static bool of_other_logits(const seqtopk_kernel *kernel, const seqtopk_desc *desc) {
    char dtype[SEQTOPK_WORD];
    seqtopk_kernel other = SEQTOPK_KERNEL_INIT;
    seqtopk_options_word(SEQTOPK_WORDS_DTYPE, (int)desc->dtype, dtype);
    if (!strcmp(kernel->dtype, dtype))
        return false;
    for (int32_t i = 0; seqtopk_kernel_get(i, &other) == SEQTOPK_OK; i++)
        if (!strcmp(other.op, kernel->op) && !strcmp(other.dtype, dtype))
            return true;
    return false;
}

static const char *const why_nots[] = {NULL, "this machine cannot run it", "does not apply to this plan"};

/* Why a kernel cannot serve such a plan: the library is asked, by forcing it. NULL: it can. */
static const char *why_not(const seqtopk_kernel *kernel, const seqtopk_desc *desc) {
    seqtopk_desc forced = *desc;
    seqtopk_plan *plan;
    if (!kernel->usable)
        return why_nots[1];
    forced.isa = NULL;
    forced.kernel = kernel->name;
    forced.tuning = seqtopk_tuning_none();
    if (seqtopk_plan_create(&plan, &forced, NULL))
        return why_nots[2];
    seqtopk_plan_destroy(plan);
    return NULL;
}

static bool is_chosen(const seqtopk_plan *plan, const seqtopk_kernel *kernel, int64_t tokens) {
    seqtopk_choice choice = SEQTOPK_CHOICE_INIT;
    bool chosen = false;
    for (int32_t i = 0; seqtopk_plan_choice(plan, i, &choice) == SEQTOPK_OK; i++)
        if (!strcmp(choice.op, kernel->op) && choice.tokens_from <= tokens)
            chosen = !strcmp(choice.kernel, kernel->name);
    return chosen;
}

static void print_contenders(const seqtopk_plan *plan, const seqtopk_desc *desc) {
    seqtopk_kernel kernel = SEQTOPK_KERNEL_INIT;
    const char *op = "";
    printf("\ncontenders for calls of %" PRId64 " tokens (*: chosen)\n", desc->tokens);
    for (int32_t i = 0; seqtopk_kernel_get(i, &kernel) == SEQTOPK_OK; i++) {
        /* The registry goes by instruction set; a reader goes by stage: at a stage's first row all of them. */
        seqtopk_kernel one = SEQTOPK_KERNEL_INIT;
        bool first = true;
        for (int32_t j = 0; j < i && first; j++)
            first = seqtopk_kernel_get(j, &one) || strcmp(one.op, kernel.op) != 0;
        for (int32_t j = i; first && seqtopk_kernel_get(j, &one) == SEQTOPK_OK; j++) {
            if (strcmp(one.op, kernel.op) || of_other_logits(&one, desc))
                continue;
            const char *why = why_not(&one, desc);
            printf("  %-16s %c %-6s %-12s %s%s\n", strcmp(op, one.op) ? one.op : "",
                   is_chosen(plan, &one, desc->tokens) ? '*' : ' ', one.isa, one.algorithm, why ? why : one.about,
                   why || one.revision == 1 ? "" : " (revised)");
            op = one.op;
        }
    }
}

static void json_contenders(seqtopk_json *json, const seqtopk_plan *plan, const seqtopk_desc *desc) {
    seqtopk_kernel kernel = SEQTOPK_KERNEL_INIT;
    seqtopk_json_begin(json, "contenders", '[');
    for (int32_t i = 0; seqtopk_kernel_get(i, &kernel) == SEQTOPK_OK; i++) {
        if (of_other_logits(&kernel, desc))
            continue;
        seqtopk_json_begin(json, NULL, '{');
        seqtopk_json_text(json, "op", kernel.op);
        seqtopk_json_text(json, "kernel", kernel.name);
        seqtopk_json_text(json, "why_not", why_not(&kernel, desc));
        seqtopk_json_bool(json, "chosen", is_chosen(plan, &kernel, desc->tokens));
        seqtopk_json_end(json, '}');
    }
    seqtopk_json_end(json, ']');
}

/* ---------------------------------------------------------- expected time -- */

static double apart(int64_t a, int64_t b) {
    const double x = a ? (double)a : 1, y = b ? (double)b : 1;
    return x > y ? x / y : y / x;
}

/* The shape that a line of a file's choices, of which the cursor is at the first, is on; 0: that line is none. */
static bool shape_of_line(seqtopk_ranges_cursor cursor, int32_t line, seqtopk_tuning_shape *shape) {
    seqtopk_tuning_reason reason;
    for (seqtopk_ranges_line kind; (kind = seqtopk_ranges_next(&cursor, &reason)) != SEQTOPK_RANGES_END;)
        if (kind == SEQTOPK_RANGES_SHAPE && cursor.line == line) {
            *shape = cursor.shape;
            return true;
        }
    return false;
}

/* Of what was measured of a shape, what is nearest to so many tokens. */
static const seqtopk_measurement *nearest(const seqtopk_tuning_file *file, const seqtopk_tuning_shape *shape,
                                          int64_t tokens) {
    const seqtopk_measurement *best = NULL;
    for (int32_t d = 0; d < file->size; d++) {
        const seqtopk_measurement *one = file->measurement + d;
        if (seqtopk_tuning_shape_compare(&one->shape, shape) == 0 &&
            (!best || apart(one->tokens, tokens) < apart(best->tokens, tokens)))
            best = one;
    }
    return best;
}

/* What a tuning file measured for the decisions that a plan took from it. Each is of a whole call; those that were
 * measured with bounds or a bias take longer, so that the shortest of those nearest in T is the plain call's. ps 0: no
 * line tells. */
static seqtopk_measurement expected(const seqtopk_plan *plan, int64_t tokens) {
    const seqtopk_tuning_reader reader = seqtopk_tuning_reader_here();
    seqtopk_measurement shortest = {.ps = 0};
    seqtopk_tuning_info info = SEQTOPK_TUNING_INFO_INIT;
    seqtopk_tuning_file file = {.size = 0};
    seqtopk_ranges_cursor choices;
    char *text = NULL;
    size_t size = 0;
    if (seqtopk_tuning_get_info(seqtopk_tuning_machine(), &info) != SEQTOPK_OK || !info.path)
        return shortest;
    for (int32_t i = 0; i < plan->first[SEQTOPK_OPS]; i++) {
        const seqtopk_decision *decision = plan->decision + i;
        if (!decision->line || decision->tokens_from > tokens)
            continue;
        if (!text && (seqtopk_store_read(info.path, &text, &size, NULL, NULL) != SEQTOPK_OK ||
                      seqtopk_ranges_open(&choices, text, size, &reader, NULL) != SEQTOPK_OK ||
                      seqtopk_tuning_file_parse(&file, text, size, &reader, NULL) != SEQTOPK_OK))
            break;
        seqtopk_tuning_shape shape;
        const seqtopk_measurement *measured =
            shape_of_line(choices, decision->line, &shape) ? nearest(&file, &shape, tokens) : NULL;
        if (!measured)
            continue;
        const double near = apart(measured->tokens, tokens), nearer = apart(shortest.tokens, tokens);
        if (!shortest.ps || near < nearer || (near <= nearer && measured->ps < shortest.ps))
            shortest = *measured;
    }
    free(text);
    seqtopk_tuning_file_free(&file);
    return shortest;
}

static void print_expected(const seqtopk_plan *plan, const seqtopk_desc *desc) {
    const seqtopk_measurement line = expected(plan, desc->tokens);
    if (!line.ps)
        return;
    const bool here = line.tokens == desc->tokens && line.shape.experts == desc->experts &&
                      line.shape.top_k == desc->top_k && line.shape.threads == desc->threads;
    printf("expected   %.1f us a call of %dx%dx%d on %d thread%s, by line %d%s\n", (double)line.ps / 1e6,
           (int)line.tokens, (int)line.shape.experts, (int)line.shape.top_k, (int)line.shape.threads,
           line.shape.threads == 1 ? "" : "s", (int)line.line, here ? "" : ", the nearest that was tuned");
}

static void json_expected(seqtopk_json *json, const seqtopk_plan *plan, const seqtopk_desc *desc) {
    const seqtopk_measurement line = expected(plan, desc->tokens);
    if (!line.ps)
        return;
    seqtopk_json_begin(json, "expected", '{');
    seqtopk_json_real(json, "ns", (double)line.ps / 1000);
    seqtopk_json_int(json, "tokens", line.tokens);
    seqtopk_json_int(json, "experts", line.shape.experts);
    seqtopk_json_int(json, "top_k", line.shape.top_k);
    seqtopk_json_int(json, "threads", line.shape.threads);
    seqtopk_json_int(json, "line", line.line);
    seqtopk_json_end(json, '}');
}

/* ---------------------------------------------------------------- a plan -- */

static void print_plan(const seqtopk_plan *plan, const seqtopk_desc *desc, const seqtopk_cli_model *model) {
    char dtype[SEQTOPK_WORD];
    if (model->name)
        printf("model      %s\n", model->name);
    printf("plan       %" PRId64 " tokens, %" PRId32 " experts, %s, %" PRId32 " thread%s\nrouting    ", desc->tokens,
           desc->experts, seqtopk_options_word(SEQTOPK_WORDS_DTYPE, (int)desc->dtype, dtype), desc->threads,
           desc->threads == 1 ? "" : "s");
    seqtopk_cli_router_text(desc, model->is_biased);
    printf("\nscratch    %zu bytes for one sequence\n", seqtopk_scratch_size(plan, desc->tokens, 1, desc->threads));
    printf("selected   %" PRId64 " at most; %" PRId32 " at most by one token; %" PRId32 " steps\n\nkernels\n",
           seqtopk_max_selected(plan, desc->tokens), seqtopk_max_per_token(plan), seqtopk_route_steps(plan));
    seqtopk_cli_choices_text(plan, -1);
    seqtopk_cli_ways_text(plan, desc->tokens, model->is_biased);
}

static void json_plan(seqtopk_json *json, const seqtopk_plan *plan, const seqtopk_desc *desc,
                      const seqtopk_cli_model *model) {
    seqtopk_json_begin(json, "plan", '{');
    seqtopk_json_text(json, "model", model->name);
    seqtopk_json_int(json, "tokens", desc->tokens);
    seqtopk_json_int(json, "experts", desc->experts);
    seqtopk_cli_router_json(json, plan, desc, model->is_biased);
    seqtopk_json_int(json, "threads", desc->threads);
    seqtopk_json_int(json, "scratch", (int64_t)seqtopk_scratch_size(plan, desc->tokens, 1, desc->threads));
    seqtopk_json_int(json, "max_selected", seqtopk_max_selected(plan, desc->tokens));
    seqtopk_json_int(json, "max_per_token", seqtopk_max_per_token(plan));
    seqtopk_json_int(json, "steps", seqtopk_route_steps(plan));
    seqtopk_cli_choices_json(json, plan, -1);
    seqtopk_cli_ways_json(json, plan, desc->tokens, model->is_biased);
    json_contenders(json, plan, desc);
    json_expected(json, plan, desc);
    seqtopk_json_end(json, '}');
}

/* --------------------------------------------------------------- command -- */

static int make_plan(info_values *values, uint64_t given, seqtopk_desc *desc, seqtopk_plan **plan,
                     seqtopk_cli_model *model) {
    int64_t shape[3] = {0};
    if (!values->shape) {
        for (size_t r = OWN_ROWS; r < options.count; r++)
            if (given >> r & 1)
                return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                        "info: --%s needs --shape TxExK, a plan to act on (with --model T alone)",
                                        rows[r].name);
        return SEQTOPK_OPTIONS_RUN;
    }
    int status = seqtopk_cli_model_shape(&options, &given, &values->desc, values->shape, 3, shape, model);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    status = seqtopk_cli_desc_fill(&options, given, &values->desc, shape[1], "--shape", shape[2], desc);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    desc->tokens = shape[0];
    status = seqtopk_cli_plan(options.command, desc, plan);
    if (status == SEQTOPK_OPTIONS_RUN && seqtopk_max_selected(*plan, shape[0]) < 0)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "info: --shape %s could select more pairs than an int32 list can index; "
                                "take fewer tokens",
                                values->shape);
    return status;
}

/* ------------------------------------------------------------ tuning file -- */

/* This machine's, or what was found instead: a line for each place that was looked at. */
static void print_tuning(void) {
    seqtopk_tuning_info info = SEQTOPK_TUNING_INFO_INIT;
    const seqtopk_tuning *tuning = seqtopk_tuning_machine();
    if (seqtopk_tuning_get_info(tuning, &info) != SEQTOPK_OK)
        return;
    const char *heading = "tuning";
    for (const char *line = info.reason, *end; *line; line = *end ? end + 1 : end, heading = "") {
        end = line + strcspn(line, "\n");
        printf("%-10s %.*s\n", heading, (int)(end - line), line);
    }
    if (info.path) {
        printf("%-10s %d shapes", "", (int)info.shapes);
        int32_t line = 0;
        const char *why = seqtopk_tuning_dropped(tuning, 0, &line);
        if (why)
            printf("; %d lines dropped, the first because: line %d, %s", (int)info.dropped, (int)line, why);
        putchar('\n');
    }
}

static void json_tuning(seqtopk_json *json) {
    seqtopk_tuning_info info = SEQTOPK_TUNING_INFO_INIT;
    if (seqtopk_tuning_get_info(seqtopk_tuning_machine(), &info) != SEQTOPK_OK)
        return;
    seqtopk_json_begin(json, "tuning", '{');
    if (info.path)
        seqtopk_json_text(json, "path", info.path);
    seqtopk_json_int(json, "shapes", info.shapes);
    seqtopk_json_int(json, "dropped", info.dropped);
    seqtopk_json_text(json, "reason", info.reason);
    seqtopk_json_end(json, '}');
}

static void report(const info_values *values, const seqtopk_plan *plan, const seqtopk_desc *desc,
                   const seqtopk_cli_model *model) {
    seqtopk_machine machine;
    seqtopk_machine_read(&machine);
    if (values->json) {
        seqtopk_json json = {stdout, false};
        seqtopk_json_begin(&json, NULL, '{');
        json_machine(&json, &machine);
        json_tuning(&json);
        json_isas(&json);
        json_kernels(&json);
        if (plan)
            json_plan(&json, plan, desc, model);
        seqtopk_json_end(&json, '}');
        putchar('\n');
        return;
    }
    print_machine(&machine);
    print_tuning();
    if (plan) {
        print_plan(plan, desc, model);
        print_expected(plan, desc);
        print_contenders(plan, desc);
    } else {
        print_isas();
        print_kernels();
    }
}

int seqtopk_cli_info(int argc, char **argv) {
    info_values values = {.desc = SEQTOPK_CLI_DESC_INIT};
    seqtopk_desc desc = SEQTOPK_DESC_INIT;
    seqtopk_plan *plan = NULL;
    seqtopk_cli_model model = {NULL, 0, false};
    uint64_t given;
    int status = seqtopk_options_parse(&options, argc, argv, &values, &given);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    status = make_plan(&values, given, &desc, &plan, &model);
    if (status == SEQTOPK_OPTIONS_RUN) {
        report(&values, plan, &desc, &model);
        status = SEQTOPK_EXIT_OK;
    }
    seqtopk_plan_destroy(plan);
    return status;
}
