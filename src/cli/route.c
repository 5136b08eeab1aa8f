/* SPDX-License-Identifier: MIT */
/* `seqtopk route`: files in, a plan, a route, files and a report out. */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"
#include "desc.h"
#include "inputs.h"
#include "measure.h"
#include "model.h"
#include "options.h"
#include "ranks.h"
#include "report.h"
#include "save.h"
#include "threads.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct route_values {
    seqtopk_cli_desc desc;
    seqtopk_cli_sources sources;
    int64_t top_k;
    const char *out, *team;
    int json, margins, count_all, on_nonfinite;
} route_values;

#define AT(field) offsetof(route_values, field)
static const seqtopk_option rows[] = {
    {SEQTOPK_OPTION_POSITIONAL, true, "LOGITS.npy", NULL, AT(sources.logits), 0, 0,
     "router logits, float32 or float16, [T, E] or [S, T, E]: S sequences"},
    {SEQTOPK_OPTION_INT, false, "top-k", "K", AT(top_k), 1, 65536,
     "experts of a token; in scope sequence on average; needed without --model"},
    SEQTOPK_CLI_DESC_ROWS(route_values),
    {.kind = SEQTOPK_OPTION_HEADING, .help = "Input"},
    {SEQTOPK_OPTION_TEXT, false, "lengths", "N,N,...", AT(sources.lengths), 0, 0, "lengths of the sequences in [T, E]"},
    {SEQTOPK_OPTION_TEXT, false, "cu-seqlens", "FILE.npy", AT(sources.cu_seqlens), 0, 0,
     "the same as offsets, int32 or int64 [S + 1]"},
    {SEQTOPK_OPTION_TEXT, false, "token-seq", "FILE.npy", AT(sources.token_seq), 0, 0,
     "or the sequence of each token, in any order, int32 or int64 [T]"},
    {SEQTOPK_OPTION_TEXT, false, "mask", "FILE.npy", AT(sources.mask), 0, 0,
     "bool or integers, [T] or [S, T]: tokens at 0 are not routed"},
    {SEQTOPK_OPTION_TEXT, false, "bias", "FILE.npy", AT(sources.bias), 0, 0,
     "selection bias, float32 [E]; weights do not see it"},
    {SEQTOPK_OPTION_TEXT, false, "factors", "FILE.npy", AT(sources.factors), 0, 0,
     "float32 [E]: a last factor of each expert's weights"},
    {SEQTOPK_OPTION_TEXT, false, "given", "FILE.npy", AT(sources.given), 0, 0,
     "int [T, N] or [S, T, N], -1 for none: these are weighed and listed"},
    {SEQTOPK_OPTION_CHOICE, false, "on-nonfinite", "error|drop", AT(on_nonfinite), SEQTOPK_NONFINITE_ERROR, 0,
     "a NaN or +inf: the end, or its token gets nothing (default: error)"},
    {.kind = SEQTOPK_OPTION_HEADING, .help = "Machines"},
    {SEQTOPK_OPTION_TEXT, false, "team", "mpi", AT(team), 0, 0,
     "under mpirun: each process routes a part of each sequence"},
    {SEQTOPK_OPTION_FLAG, false, "count-all", NULL, AT(count_all), 0, 0,
     "counts all keys first, not a sample's: at most two all-reduces follow"},
    {.kind = SEQTOPK_OPTION_HEADING, .help = "Output"},
    {SEQTOPK_OPTION_TEXT, false, "out", "DIR", AT(out), 0, 0, "write the lists into this directory"},
    {SEQTOPK_OPTION_FLAG, false, "margins", NULL, AT(margins), 0, 0,
     "also how far the cut of each sequence is from what it left out"},
    {SEQTOPK_OPTION_FLAG, false, "json", NULL, AT(json), 0, 0, "report one JSON object"},
};
#undef AT

static const seqtopk_options options = {
    "route",
    "Selects experts for every token, and shows what came out.",
    "--out writes token_offsets.npy i32 [T+1], expert_ids.npy i32 [N], weights.npy f32 [N] (by token), and\n"
    "expert_offsets.npy i32 [E+1], expert_tokens.npy i32 [N], expert_slots.npy i32 [N] (by expert; slots index the\n"
    "lists by token). With --null-experts also null_weights.npy f32 [T], with --margins\n"
    "sequence_margins.npy f32 [S].\n\n"
    "Examples:\n"
    "  seqtopk route logits.npy --top-k 8 --min 1 --max 10\n"
    "  seqtopk route logits.npy --model deepseek-v3 --bias bias.npy --scope token --parity vllm\n"
    "  seqtopk route logits.npy --top-k 8 --scope token --score sigmoid --bias bias.npy \\\n"
    "      --groups 8 --group-topk 4 --group-score top2 --norm sum --eps 1e-20 --scale 2.5 --out lists\n"
    "  mpirun -n 4 seqtopk route logits.npy --top-k 8 --team mpi --out lists",
    rows,
    sizeof rows / sizeof *rows,
};
_Static_assert(sizeof rows / sizeof *rows <= 64, "one bit a row");

/* One route and what it works in. */
typedef struct job {
    seqtopk_cli_inputs inputs;
    seqtopk_desc desc;
    seqtopk_plan *plan;
    seqtopk_input in;
    seqtopk_output out;
    seqtopk_cli_team *team;
    seqtopk_cli_ranks *ranks; /* of --team; NULL: this process alone */
    seqtopk_cli_rank *told;
    seqtopk_parallel parallel;
    seqtopk_cli_lists lists;
    void *scratch;
    size_t scratch_size;
    int margins;
    seqtopk_nonfinite on_nonfinite;
} job;

static void job_free(job *j) {
    seqtopk_cli_team_end(j->team);
    seqtopk_cli_ranks_leave(j->ranks);
    free(j->told);
    seqtopk_cli_inputs_free(&j->inputs);
    seqtopk_plan_destroy(j->plan);
    seqtopk_cli_lists_free(&j->lists);
    free(j->scratch);
}

static int job_allocate(job *j, const char *path) {
    seqtopk_cli_lists *l = &j->lists;
    j->in = seqtopk_cli_inputs_view(&j->inputs);
    j->in.on_nonfinite = j->on_nonfinite;
    const int64_t sequences = j->in.sequences > 1 ? j->in.sequences : 1;
    j->out = (seqtopk_output)SEQTOPK_OUTPUT_INIT;
    j->out.capacity = seqtopk_max_selected(j->plan, j->inputs.tokens);
    if (j->out.capacity < 0)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                "%s: has so many tokens that --top-k %d could select more pairs than an int32 list can "
                                "index; split it",
                                path, (int)j->desc.top_k);
    j->scratch_size = seqtopk_scratch_size(j->plan, j->inputs.tokens, sequences, j->desc.threads);
    j->scratch = seqtopk_cli_alloc(j->scratch_size, 1);
    const bool has_lists =
        seqtopk_cli_lists_make(l, j->inputs.tokens, j->desc.experts - j->desc.null_experts, j->out.capacity);
    j->out.token_offsets = l->token_offsets;
    j->out.expert_ids = l->expert_ids;
    j->out.weights = l->weights;
    j->out.expert_offsets = l->expert_offsets;
    j->out.expert_tokens = l->expert_tokens;
    j->out.expert_slots = l->expert_slots;
    j->out.selected = &l->selected;
    j->out.nonfinite = l->dropped;
    if (j->desc.null_experts)
        l->null_weights = j->out.null_weights = seqtopk_cli_alloc((unsigned long long)j->inputs.tokens, sizeof(float));
    l->sequences = j->desc.scope == SEQTOPK_SCOPE_TOKEN ? 1 : sequences;
    l->ways = j->out.ways = seqtopk_cli_alloc((unsigned long long)l->sequences, sizeof(int32_t));
    l->fallbacks = j->out.fallbacks = seqtopk_cli_alloc((unsigned long long)l->sequences, sizeof(int32_t));
    if (j->margins)
        l->sequence_margins = j->out.sequence_margins =
            seqtopk_cli_alloc((unsigned long long)l->sequences, sizeof(float));
    if (!j->scratch || !has_lists || !l->ways || !l->fallbacks || (j->desc.null_experts && !l->null_weights) ||
        (j->margins && !l->sequence_margins))
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: no memory for lists of %lld pairs", path,
                                (long long)j->out.capacity);
    if (j->desc.threads > 1) {
        if (!(j->team = seqtopk_cli_team_make(j->desc.threads)))
            return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: no memory for %d threads", path, (int)j->desc.threads);
        j->parallel = seqtopk_cli_team_lend(j->team);
    }
    return SEQTOPK_OPTIONS_RUN;
}

static seqtopk_status route_once(const job *j, seqtopk_error *error) {
    if (j->desc.threads > 1)
        return seqtopk_route_parallel(j->plan, &j->in, &j->out, j->scratch, j->scratch_size, &j->parallel, error);
    return seqtopk_route(j->plan, &j->in, &j->out, j->scratch, j->scratch_size, error);
}

static int route(const job *j, const char *path) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_status status = route_once(j, &error);
    if (status == SEQTOPK_OK)
        return SEQTOPK_OPTIONS_RUN;
    if (status == SEQTOPK_E_NONFINITE && error.token >= 0 && error.token < j->inputs.tokens)
        return seqtopk_cli_inputs_nonfinite(&j->inputs, path, error.token);
    return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: %s: %s", path, seqtopk_status_string(status), error.message);
}

/* ---------------------------------------------------------------- timing -- */

static void call_route(void *context) { route_once(context, NULL); }

/* The median over up to a tenth of a second: few runs of a large route, many of a small one. The first run was `first`;
 * it found cold caches and counts only where it is the only one. Every run writes the same bits over the last. */
static double median(job *j, double first, int32_t *repetitions) {
    const double seconds = 0.1;
    *repetitions = 1;
    seqtopk_measure *item = 2 * first < 1e9 * seconds ? calloc(1, sizeof *item) : NULL;
    if (!item)
        return first;
    *item = (seqtopk_measure){.call = call_route, .context = j, .share = 1};
    seqtopk_measure_all(item, 1, seconds, NULL);
    const double ns = item->median;
    *repetitions = item->samples * (int32_t)item->calls;
    free(item);
    return ns;
}

/* --------------------------------------------------------------- command -- */

/* All that is read and allocated. */
static int prepare(route_values *values, uint64_t *given, job *j, seqtopk_cli_model *model) {
    int status = seqtopk_cli_model_load(&options, given, &values->desc, &values->sources, values->top_k, &j->inputs,
                                        &j->desc, model);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    j->margins = values->margins;
    j->on_nonfinite = (seqtopk_nonfinite)values->on_nonfinite;
    if (j->margins && (j->desc.scope != SEQTOPK_SCOPE_SEQUENCE || values->sources.given || values->team))
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "route: --margins: only sequences have a cut, without --given and --team; leave it out "
                                "or take --scope sequence");

    status = seqtopk_cli_plan(options.command, &j->desc, &j->plan);
    if (status == SEQTOPK_OPTIONS_RUN)
        status = job_allocate(j, values->sources.logits);
    return status;
}

static int print(const route_values *values, const seqtopk_cli_model *model, uint64_t given, const job *j,
                 double median_ns, int32_t repetitions) {
    seqtopk_cli_report report = {
        .path = values->sources.logits,
        .model = model,
        .directory = values->out,
        .options = &options,
        .given = given,
        .inputs = &j->inputs,
        .desc = &j->desc,
        .plan = j->plan,
        .lists = &j->lists,
        .threads = j->desc.threads,
        .median_ns = median_ns,
        .repetitions = repetitions,
        .told = j->told,
        .ranks = j->ranks ? seqtopk_cli_ranks_size(j->ranks) : 0,
    };
    if (values->out) {
        const int status = seqtopk_cli_save(values->out, &j->lists);
        if (status != SEQTOPK_EXIT_OK)
            return status;
    }
    return seqtopk_cli_report_print(&report, values->json);
}

static int run(route_values *values, uint64_t given, job *j) {
    seqtopk_cli_model model;
    int32_t repetitions;
    int status = prepare(values, &given, j, &model);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    const double start = seqtopk_measure_now();
    status = route(j, values->sources.logits);
    const double first = seqtopk_measure_now() - start;
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    const double ns = median(j, first, &repetitions);
    return print(values, &model, given, j, ns, repetitions);
}

/* As one of several processes, of which the first reports. All end with the same status. */
static int run_team(route_values *values, uint64_t given, job *j) {
    seqtopk_cli_model model;
    int32_t repetitions;
    if (strcmp(values->team, "mpi") != 0)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "route: --team %s: there is no such team; the one that there is: mpi", values->team);
    values->sources.rows_later = 1;
    if (!(j->ranks = seqtopk_cli_ranks_join(values->count_all)))
        return SEQTOPK_EXIT_FAILURE;
    int status = seqtopk_cli_ranks_agree(j->ranks, prepare(values, &given, j, &model));
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    const int32_t size = seqtopk_cli_ranks_size(j->ranks);
    j->told = calloc((size_t)size, sizeof *j->told);
    status = seqtopk_cli_ranks_agree(j->ranks, j->told ? SEQTOPK_OPTIONS_RUN : SEQTOPK_EXIT_FAILURE);
    if (status == SEQTOPK_OPTIONS_RUN)
        status = seqtopk_cli_ranks_route(j->ranks, &j->inputs, j->plan, &j->desc, values->sources.logits,
                                         j->desc.threads > 1 ? &j->parallel : NULL, &j->lists, j->told, &repetitions);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    status = SEQTOPK_EXIT_OK;
    if (seqtopk_cli_ranks_rank(j->ranks) == 0) {
        int64_t longest = 0;
        for (int32_t r = 0; r < size; r++)
            longest = j->told[r].ns > longest ? j->told[r].ns : longest;
        status = print(values, &model, given, j, (double)longest, repetitions);
    }
    return seqtopk_cli_ranks_agree(j->ranks, status);
}

int seqtopk_cli_route(int argc, char **argv) {
    route_values values = {.desc = SEQTOPK_CLI_DESC_INIT};
    uint64_t given;
    int status = seqtopk_options_parse(&options, argc, argv, &values, &given);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    if (values.count_all && !values.team)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "route: --count-all: only a team samples what it counts; leave it "
                                                    "out, or add --team mpi");
    if (values.team && (values.sources.token_seq || values.on_nonfinite))
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "route: %s: not with --team; %s",
                                values.sources.token_seq ? "--token-seq" : "--on-nonfinite drop",
                                values.sources.token_seq ? "put the tokens of each sequence together, and say --lengths"
                                                         : "mask those tokens with --mask");
    job j = {0};
    status = values.team ? run_team(&values, given, &j) : run(&values, given, &j);
    job_free(&j);
    return status;
}
