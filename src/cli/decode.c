/* SPDX-License-Identifier: MIT */
/* `seqtopk decode`: a file of logits token by token, as a model that decodes would have it, and what that differs in. */
#include "cli.h"
#include "desc.h"
#include "inputs.h"
#include "measure.h"
#include "model.h"
#include "options.h"
#include "progress.h"
#include "save.h"
#include "trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS = 3 }; /* so that what interrupts one of them does not count as a slow step */

typedef struct decode_values {
    seqtopk_cli_desc desc;
    seqtopk_cli_sources sources;
    int64_t top_k, joint;
    float threshold;
    int ledger, mode;
    const char *out, *plot;
    int json;
} decode_values;

#define AT(field) offsetof(decode_values, field)
static const seqtopk_option rows[] = {
    {SEQTOPK_OPTION_POSITIONAL, true, "LOGITS.npy", NULL, AT(sources.logits), 0, 0,
     "router logits of one layer, float32 or float16, [T, E] or [S, T, E]: S sequences"},
    {SEQTOPK_OPTION_INT, false, "top-k", "K", AT(top_k), 1, 65536,
     "experts of a token on average; needed without --model"},
    SEQTOPK_CLI_DESC_ROWS(decode_values),
    {.kind = SEQTOPK_OPTION_HEADING, .help = "Decoding"},
    {SEQTOPK_OPTION_INT, false, "joint", "N", AT(joint), 0, INT32_MAX,
     "the first N tokens of a sequence compete jointly, as a prompt may (default: 0)"},
    {SEQTOPK_OPTION_CHOICE, false, "mode", "exact|compact", AT(mode), 0, 0,
     "compact: at most 64 KiB whatever the length, on keys rounded down to a grid (default: exact)"},
    {SEQTOPK_OPTION_FLAG, false, "ledger", NULL, AT(ledger), 0, 0, "never more than K experts for each token so far"},
    {SEQTOPK_OPTION_FLOAT, false, "threshold", "F", AT(threshold), -FLT_MAX, FLT_MAX,
     "no past: keys from F on are selected (of softmax: the logarithm of a probability)"},
    {.kind = SEQTOPK_OPTION_HEADING, .help = "Input"},
    {SEQTOPK_OPTION_TEXT, false, "mask", "FILE.npy", AT(sources.mask), 0, 0,
     "bool or integers, [T] or [S, T]: tokens at 0 are not routed"},
    {SEQTOPK_OPTION_TEXT, false, "bias", "FILE.npy", AT(sources.bias), 0, 0,
     "selection bias, float32 [E]; weights do not see it"},
    {SEQTOPK_OPTION_TEXT, false, "factors", "FILE.npy", AT(sources.factors), 0, 0,
     "float32 [E]: a last factor of each expert's weights"},
    {.kind = SEQTOPK_OPTION_HEADING, .help = "Output"},
    {SEQTOPK_OPTION_TEXT, false, "out", "DIR", AT(out), 0, 0, "write the lists into this directory, as route does"},
    {SEQTOPK_OPTION_TEXT, false, "plot", "FILE.svg", AT(plot), 0, 0, "draw experts and time over the sequence"},
    {SEQTOPK_OPTION_FLAG, false, "json", NULL, AT(json), 0, 0, "report one JSON object"},
};
#undef AT
_Static_assert(sizeof rows / sizeof *rows <= 64, "one bit a row");

static const seqtopk_options options = {
    "decode",
    "Selects experts token by token, as while decoding, where each token competes with those before it (SeqTopK), and "
    "shows\n"
    "how many it gets, how far that is from knowing all tokens at once, and what a step costs.",
    "Examples:\n"
    "  seqtopk decode logits.npy --top-k 8 --min 1 --max 10\n"
    "  seqtopk decode logits.npy --top-k 8 --min 1 --max 10 --joint 512 --plot trace.svg --out lists",
    rows,
    sizeof rows / sizeof *rows,
};

/* ---------------------------------------------------------------- memory -- */

typedef struct job {
    seqtopk_cli_inputs inputs;
    seqtopk_desc desc;
    seqtopk_plan *plan;
    seqtopk_cache_desc cache_desc;
    seqtopk_cache *cache;
    seqtopk_cli_lists lists;
    int64_t capacity;
    float *ns;
    void *scratch;
    size_t scratch_size;
} job;

static void job_free(job *j) {
    seqtopk_cache_destroy(j->cache);
    seqtopk_plan_destroy(j->plan);
    seqtopk_cli_inputs_free(&j->inputs);
    seqtopk_cli_lists_free(&j->lists);
    free(j->ns);
    free(j->scratch);
}

static int no_memory(const char *path) {
    return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: no memory for the lists of its tokens", path);
}

/* The rows of a call are one token, or a sequence's first `joint` tokens. */
static int job_allocate(job *j, const char *path, int64_t joint) {
    seqtopk_cli_lists *l = &j->lists;
    j->capacity = seqtopk_max_selected(j->plan, j->inputs.tokens);
    if (j->capacity < 0)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                "%s: its tokens could select more pairs than an int32 list can index; split it, or set "
                                "--max",
                                path);
    const bool has_lists =
        seqtopk_cli_lists_make(l, j->inputs.tokens, j->desc.experts - j->desc.null_experts, j->capacity);
    j->ns = seqtopk_cli_alloc((unsigned long long)l->tokens, sizeof(float));
    const int64_t most_rows = joint < 1 ? 1 : joint < l->tokens ? joint : l->tokens > 0 ? l->tokens : 1;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    if (seqtopk_cache_create(&j->cache, &j->cache_desc, &error))
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "decode: %s", error.message);
    j->scratch_size = seqtopk_cache_scratch_size(j->cache, most_rows, 1);
    const size_t offline =
        seqtopk_scratch_size(j->plan, l->tokens, j->inputs.sequences > 1 ? j->inputs.sequences : 1, 1);
    j->scratch_size = offline > j->scratch_size ? offline : j->scratch_size;
    j->scratch = seqtopk_cli_alloc(j->scratch_size, 1);
    return has_lists && j->ns && j->scratch ? SEQTOPK_OPTIONS_RUN : no_memory(path);
}

/* --------------------------------------------------------------- decoding -- */

static int64_t end_of(const job *j, int64_t sequence) {
    return j->inputs.cu_seqlens ? j->inputs.cu_seqlens[sequence + 1] : j->inputs.tokens;
}

/* Tokens [first, last) of a sequence in one call; their lists from pair *at on. */
static seqtopk_status step(job *j, int32_t sequence, int64_t first, int64_t last, int joint, int run, int32_t *at,
                           seqtopk_error *error) {
    const int32_t base = *at;
    seqtopk_cache_rows rows_of = SEQTOPK_CACHE_ROWS_INIT;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    seqtopk_input in = seqtopk_cli_inputs_view(&j->inputs);
    const size_t row = (size_t)j->inputs.experts * (j->inputs.dtype == SEQTOPK_DTYPE_F32 ? 4 : 2);
    in.logits = (const char *)in.logits + (size_t)first * row;
    in.tokens = last - first;
    in.token_mask = in.token_mask ? in.token_mask + first : NULL;
    in.cu_seqlens = NULL;
    int32_t *whose = last - first > 1 ? NULL : &sequence;
    int32_t *many = NULL;
    if (!whose) {
        many = seqtopk_cli_alloc((unsigned long long)(last - first), sizeof *many);
        if (!many)
            return SEQTOPK_E_MEMORY;
        for (int64_t i = 0; i < last - first; i++)
            many[i] = sequence;
        whose = many;
    }
    rows_of.sequences = whose;
    rows_of.take = joint ? SEQTOPK_TAKE_JOINT : SEQTOPK_TAKE_CAUSAL;
    out.token_offsets = j->lists.token_offsets + first;
    out.expert_ids = j->lists.expert_ids + base;
    out.weights = j->lists.weights + base;
    out.capacity = j->capacity - base;
    const double begin = seqtopk_measure_now();
    const seqtopk_status status = seqtopk_cache_step(j->cache, &rows_of, &in, &out, j->scratch, j->scratch_size, error);
    const float ns = (float)((seqtopk_measure_now() - begin) / (double)(last - first));
    free(many);
    for (int64_t t = first; t < last && !status; t++)
        j->ns[t] = run == 0 || ns < j->ns[t] ? ns : j->ns[t];
    for (int64_t t = first; t <= last && !status; t++)
        j->lists.token_offsets[t] += base;
    *at = j->lists.token_offsets[last];
    return status;
}

static int explain(const job *j, const char *path, seqtopk_status status, const seqtopk_error *error, int64_t first) {
    if (status == SEQTOPK_E_NONFINITE && error->token >= 0)
        return seqtopk_cli_inputs_nonfinite(&j->inputs, path, first + error->token);
    return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: %s: %s", path, seqtopk_status_string(status), error->message);
}

/* All sequences from their beginnings. */
static int decode(job *j, const char *path, int64_t joint, int run, seqtopk_progress *progress) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    const double begin = seqtopk_measure_now();
    int32_t at = 0;
    j->lists.token_offsets[0] = 0;
    seqtopk_cache_clear(j->cache, -1, NULL);
    for (int64_t s = 0, t = 0; s < j->cache_desc.sequences; s++)
        for (const int64_t first = t, end = end_of(j, s); t < end;) {
            const int is_joint = t == first && joint > 0;
            const int64_t next = is_joint ? (first + joint < end ? first + joint : end) : t + 1;
            const seqtopk_status status = step(j, (int32_t)s, t, next, is_joint, run, &at, &error);
            if (status)
                return explain(j, path, status, &error, t);
            t = next;
            if (t % 4096 == 0 && seqtopk_measure_now() - begin > 1e9) {
                const double gone = (seqtopk_measure_now() - begin) / 1e9, done = (double)t / (double)j->inputs.tokens;
                seqtopk_progress_show(progress, (size_t)t, (size_t)j->inputs.tokens, gone, gone / done - gone,
                                      "decoding", "tokens");
            }
        }
    j->lists.selected = at;
    return SEQTOPK_OPTIONS_RUN;
}

/* --------------------------------------------------------------- distance -- */

typedef struct selection {
    int32_t *offsets, *ids;
} selection;

/* Routes all tokens at once in a scope. Returns 0 if that failed. */
static int route_whole(const job *j, seqtopk_scope scope, selection *to) {
    seqtopk_desc desc = j->desc;
    seqtopk_output out = SEQTOPK_OUTPUT_INIT;
    const seqtopk_input in = seqtopk_cli_inputs_view(&j->inputs);
    seqtopk_plan *plan;
    desc.scope = scope;
    desc.kernel = desc.way = NULL;
    if (scope == SEQTOPK_SCOPE_TOKEN)
        desc.min_experts = desc.max_experts = 0;
    to->offsets = seqtopk_cli_alloc((unsigned long long)in.tokens + 1, sizeof(int32_t));
    to->ids = seqtopk_cli_alloc((unsigned long long)j->capacity, sizeof(int32_t));
    if (!to->offsets || !to->ids || seqtopk_plan_create(&plan, &desc, NULL))
        return 0;
    const size_t size = seqtopk_scratch_size(plan, in.tokens, in.cu_seqlens ? in.sequences : 1, 1);
    void *scratch = seqtopk_cli_alloc(size, 1);
    out.token_offsets = to->offsets;
    out.expert_ids = to->ids;
    out.capacity = seqtopk_max_selected(plan, in.tokens);
    const int fine = scratch && seqtopk_route(plan, &in, &out, scratch, size, NULL) == SEQTOPK_OK;
    free(scratch);
    seqtopk_plan_destroy(plan);
    return fine;
}

/* Which share of the pairs of a are not among those of b. ids in any order. */
static double distance(const int32_t *offsets, const int32_t *ids, const selection *b, int64_t tokens) {
    int64_t differ = 0;
    for (int64_t t = 0; t < tokens; t++)
        for (int32_t i = offsets[t]; i < offsets[t + 1]; i++) {
            int has = 0;
            for (int32_t k = b->offsets[t]; k < b->offsets[t + 1] && !has; k++)
                has = b->ids[k] == ids[i];
            differ += !has;
        }
    return offsets[tokens] ? (double)differ / (double)offsets[tokens] : 0;
}

static int find_distances(const job *j, const char *path, seqtopk_cli_trace *trace) {
    selection offline = {0}, topk = {0};
    const seqtopk_cli_lists *l = &j->lists;
    const int fine = route_whole(j, SEQTOPK_SCOPE_SEQUENCE, &offline) && route_whole(j, SEQTOPK_SCOPE_TOKEN, &topk);
    if (fine) {
        trace->from_offline = distance(l->token_offsets, l->expert_ids, &offline, l->tokens);
        trace->from_topk = distance(l->token_offsets, l->expert_ids, &topk, l->tokens);
        trace->offline_from_topk = distance(offline.offsets, offline.ids, &topk, l->tokens);
    }
    free(offline.offsets);
    free(offline.ids);
    free(topk.offsets);
    free(topk.ids);
    return fine ? SEQTOPK_OPTIONS_RUN : no_memory(path);
}

/* ---------------------------------------------------------------- command -- */

static int check(const decode_values *values, uint64_t given) {
    const int has_threshold = seqtopk_options_given(&options, given, "threshold");
    if (values->desc.fields.scope != SEQTOPK_SCOPE_SEQUENCE)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "decode: --scope token has no past; decoding with it is what seqtopk route does");
    if (values->desc.fields.threads > 1)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "decode: --threads: a token is one thread's; leave it out");
    if (has_threshold && seqtopk_options_given(&options, given, "mode"))
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "decode: --threshold keeps no past, so that --mode says nothing; leave one "
                                "out");
    if (values->joint > 0 && (has_threshold || values->ledger))
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "decode: --joint does not go with --%s; leave one out",
                                has_threshold ? "threshold" : "ledger");
    return SEQTOPK_OPTIONS_RUN;
}

static int prepare(decode_values *values, uint64_t given, job *j, seqtopk_cli_model *model) {
    const char *path = values->sources.logits;
    int status = check(values, given);
    if (status == SEQTOPK_OPTIONS_RUN)
        status = seqtopk_cli_model_load(&options, &given, &values->desc, &values->sources, values->top_k, &j->inputs,
                                        &j->desc, model);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    j->desc.scope = SEQTOPK_SCOPE_ONLINE;
    status = seqtopk_cli_plan(options.command, &j->desc, &j->plan);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    j->cache_desc = (seqtopk_cache_desc)SEQTOPK_CACHE_DESC_INIT;
    j->cache_desc.layers = 1;
    j->cache_desc.plan = j->plan;
    j->cache_desc.sequences = j->inputs.cu_seqlens ? (int32_t)j->inputs.sequences : 1;
    j->cache_desc.is_ledger = values->ledger;
    j->cache_desc.mode = values->mode ? SEQTOPK_CACHE_COMPACT : SEQTOPK_CACHE_EXACT;
    if (seqtopk_options_given(&options, given, "threshold")) {
        j->cache_desc.mode = SEQTOPK_CACHE_THRESHOLD;
        j->cache_desc.threshold = values->threshold;
    }
    return job_allocate(j, path, values->joint);
}

static int run(decode_values *values, uint64_t given, job *j) {
    const char *path = values->sources.logits;
    seqtopk_cli_model model = {0};
    int status = prepare(values, given, j, &model);
    seqtopk_progress progress = seqtopk_progress_new(options.command);
    for (int i = 0; i < RUNS && status == SEQTOPK_OPTIONS_RUN; i++)
        status = decode(j, path, values->joint, i, &progress);
    seqtopk_progress_clear(&progress);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    seqtopk_cli_lists_permute(&j->lists);
    seqtopk_cli_trace trace = {.path = path,
                               .directory = values->out,
                               .plot = values->plot,
                               .model = &model,
                               .inputs = &j->inputs,
                               .desc = &j->desc,
                               .lists = &j->lists,
                               .ns = j->ns,
                               .runs = RUNS,
                               .most = seqtopk_max_per_token(j->plan),
                               .joint = values->joint,
                               .mode = j->cache_desc.mode == SEQTOPK_CACHE_THRESHOLD ? "threshold"
                                       : values->mode                                ? "compact"
                                                                                     : "exact",
                               .is_ledger = values->ledger,
                               .stats = SEQTOPK_CACHE_STATS_INIT};
    seqtopk_cache_get_stats(j->cache, -1, -1, &trace.stats);
    status = find_distances(j, path, &trace);
    if (status == SEQTOPK_OPTIONS_RUN && values->out) {
        const int saved = seqtopk_cli_save(values->out, &j->lists);
        status = saved == SEQTOPK_EXIT_OK ? SEQTOPK_OPTIONS_RUN : saved;
    }
    if (status == SEQTOPK_OPTIONS_RUN && values->plot) {
        const int drawn = seqtopk_cli_trace_plot(&trace, values->plot);
        status = drawn == SEQTOPK_EXIT_OK ? SEQTOPK_OPTIONS_RUN : drawn;
    }
    return status == SEQTOPK_OPTIONS_RUN ? seqtopk_cli_trace_print(&trace, values->json) : status;
}

int seqtopk_cli_decode(int argc, char **argv) {
    decode_values values = {.desc = SEQTOPK_CLI_DESC_INIT};
    uint64_t given;
    int status = seqtopk_options_parse(&options, argc, argv, &values, &given);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    job j = {0};
    status = run(&values, given, &j);
    job_free(&j);
    return status;
}
