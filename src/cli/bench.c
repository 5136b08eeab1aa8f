/* SPDX-License-Identifier: MIT */
/* `seqtopk bench`: what this machine does for a shape. Random logits in memory, then five things timed side by side. */
#include "bench.h"
#include "cli.h"
#include "logits.h"
#include "machine.h"
#include "model.h"
#include "read.h"
#include "save.h"
#include "threads.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(seqtopk_bench_values, field)
static const seqtopk_option rows[] = {
    {SEQTOPK_OPTION_TEXT, true, "shape", "TxE", AT(shape), 0, 0,
     "T tokens, E experts: 8192x256; with --model T alone: 8192"},
    {SEQTOPK_OPTION_INT, false, "top-k", "K", AT(top_k), 1, 65536,
     "experts of a token; in scope sequence on average; needed without --model"},
    SEQTOPK_CLI_DESC_ROWS(seqtopk_bench_values),
    {.kind = SEQTOPK_OPTION_HEADING, .help = "Input"},
    {SEQTOPK_OPTION_INT, false, "sequences", "S", AT(sequences), 1, INT32_MAX,
     "scope sequence: S sequences of about T / S tokens (default: 1)"},
    {SEQTOPK_OPTION_FLAG, false, "biased", NULL, AT(biased), 0, 0, "with a random selection bias"},
    {SEQTOPK_OPTION_INT, false, "seed", "N", AT(seed), 0, INT32_MAX, "of the random logits (default: 1)"},
    {.kind = SEQTOPK_OPTION_HEADING, .help = "Measuring"},
    {SEQTOPK_OPTION_FLOAT, false, "seconds", "F", AT(seconds), 0.001, 3600,
     "how long to measure, about (default: 2; with --cold 10)"},
    {SEQTOPK_OPTION_FLAG, false, "cold", NULL, AT(cold), 0, 0,
     "time single calls, 64 MB of other memory read before each"},
    {SEQTOPK_OPTION_FLAG, false, "json", NULL, AT(json), 0, 0, "report one JSON object"},
};
#undef AT

static const seqtopk_options options = {
    "bench",
    "Measures what this machine does for a shape, on random logits.",
    "Measured, in rounds that take one sample of each, and shown as medians with the quartiles' distance as spread:\n"
    "  read       all logits read and added up, on one thread: what any routing must wait for\n"
    "  floor      the fastest pass that makes of every logit what the router's keys need, on one thread: for softmax\n"
    "             the log-sum-exp of every row, by the plan's own kernel; with a bias s(x) + b (softmax: p + b) and "
    "the\n"
    "             row's maximum; else the row's maximum alone; with groups each group's score instead of the maximum.\n"
    "             The report names it\n"
    "  route      logits to lists by token (offsets, ids, weights), on --threads N\n"
    "  permuted   the same with lists by expert too (offsets, tokens, slots)\n"
    "  reference  the route by the reference, one thread; its lists must be the same to the bit\n"
    "Small shapes are called many times a sample. Every call has the same input: what fits into caches is read from\n"
    "there, and branches are learnt; logits that come straight from a matrix product are as warm, others are not.\n\n"
    "With --cold only floor and route are measured: a sample is one call, before which 64 MB of other memory are "
    "read,\n"
    "so that it finds logits, lists, plan and code where a program finds them that did something else meanwhile. The\n"
    "clock's own cost is taken off. The default of --seconds is good for several hundred samples.\n\n"
    "Logits are made from --seed, the same on every machine: a normal distribution, times 0.75 to 1.75 by token, with\n"
    "some experts liked more than others by all tokens.\n\n"
    "In JSON: read_ns, floor_ns, route_ns, route_permuted_ns, reference_ns, each the median time of one call\n"
    "(null: not measured).\n\n"
    "Examples:\n"
    "  seqtopk bench --shape 8192x256 --top-k 8 --norm sum\n"
    "  seqtopk bench --model deepseek-v3 --shape 4096 --scope token\n"
    "  seqtopk bench --model qwen3 --shape 1 --scope token --cold\n"
    "  seqtopk bench --shape 1x128 --top-k 8 --scope token --isa avx2 --json\n"
    "  seqtopk bench --shape 4096x256 --top-k 8 --scope token --score sigmoid --biased --groups 8 --group-topk 4 \\\n"
    "      --group-score top2 --norm sum --threads 2",
    rows,
    sizeof rows / sizeof *rows,
};
_Static_assert(sizeof rows / sizeof *rows <= 64, "one bit a row");

/* One caller of route. */
typedef struct caller {
    const seqtopk_plan *plan;
    seqtopk_input in;
    seqtopk_output out;
    seqtopk_parallel parallel;
    void *scratch;
    size_t scratch_size;
    seqtopk_status status; /* of the last call */
} caller;

typedef struct job {
    seqtopk_desc desc, reference_desc;
    int64_t tokens;
    int32_t *cu_seqlens;
    seqtopk_cli_logits logits;
    seqtopk_plan *plan, *reference_plan;
    seqtopk_cli_team *team; /* NULL: route on one thread */
    seqtopk_cli_lists found, expected;
    bool compared; /* there are lists of the reference */
    caller route, permuted, reference;
    seqtopk_read_fn *read;
    volatile uint32_t sum; /* nobody reads it; it makes the read pass count */
    seqtopk_floor floor;
    void *other; /* [OTHER] bytes, with --cold: what is read between two calls */
    seqtopk_measure items[SEQTOPK_BENCH_ITEMS];
} job;

enum { OTHER = 64 << 20 };

/* ------------------------------------------------------------ what is timed -- */

static void call_read(void *context) {
    job *j = context;
    j->sum = j->read(j->logits.data, j->logits.bytes);
}

static void read_other(void *context) {
    job *j = context;
    j->sum = j->read(j->other, OTHER);
}

static void call_route(void *context) {
    caller *w = context;
    if (w->parallel.parallel_for)
        w->status = seqtopk_route_parallel(w->plan, &w->in, &w->out, w->scratch, w->scratch_size, &w->parallel, NULL);
    else
        w->status = seqtopk_route(w->plan, &w->in, &w->out, w->scratch, w->scratch_size, NULL);
}

/* ---------------------------------------------------------------- allocation -- */

static void job_free(job *j) {
    seqtopk_cli_team_end(j->team);
    seqtopk_cli_logits_free(&j->logits);
    seqtopk_plan_destroy(j->plan);
    seqtopk_plan_destroy(j->reference_plan);
    seqtopk_cli_lists_free(&j->found);
    seqtopk_cli_lists_free(&j->expected);
    free(j->cu_seqlens);
    free(j->other);
    free(j->route.scratch);
    free(j->reference.scratch);
    seqtopk_floor_free(&j->floor);
    free(j);
}

static bool make_sequences(job *j, int64_t sequences) {
    if (sequences == 1)
        return true;
    j->cu_seqlens = seqtopk_cli_alloc((unsigned long long)sequences + 1, sizeof(int32_t));
    for (int64_t s = 0; j->cu_seqlens && s <= sequences; s++)
        j->cu_seqlens[s] = (int32_t)(s * j->tokens / sequences); /* both below 2^31 */
    return j->cu_seqlens != NULL;
}

static bool make_caller(caller *w, const job *j, const seqtopk_plan *plan, seqtopk_cli_lists *l, int64_t sequences,
                        int32_t threads) {
    w->plan = plan;
    w->in = (seqtopk_input)SEQTOPK_INPUT_INIT;
    w->in.logits = j->logits.data;
    w->in.tokens = j->tokens;
    w->in.bias = j->logits.bias;
    w->in.cu_seqlens = j->cu_seqlens;
    w->in.sequences = j->cu_seqlens ? (int32_t)sequences : 0;
    w->out = (seqtopk_output)SEQTOPK_OUTPUT_INIT;
    w->out.token_offsets = l->token_offsets;
    w->out.expert_ids = l->expert_ids;
    w->out.weights = l->weights;
    w->out.selected = &l->selected;
    w->out.capacity = seqtopk_max_selected(plan, j->tokens);
    w->scratch_size = seqtopk_scratch_size(plan, j->tokens, sequences, threads);
    w->scratch = seqtopk_cli_alloc(w->scratch_size, 1);
    return w->scratch != NULL;
}

/* Probabilities are about 1 / E, and a bias for them is no larger than that: else it alone would decide. */
static void fit_bias(job *j) {
    for (int64_t e = 0; j->logits.bias && j->desc.score == SEQTOPK_SCORE_SOFTMAX && e < j->desc.experts; e++)
        j->logits.bias[e] *= 4.0f / (float)j->desc.experts;
}

/* Systems promise more memory than there is, and end a program that takes them at their word. */
static int check_memory(const job *j, const seqtopk_bench_values *values) {
    const unsigned long long gib = 1ull << 30, pairs = (unsigned long long)seqtopk_max_selected(j->plan, j->tokens);
    const unsigned long long size = j->desc.dtype == SEQTOPK_DTYPE_F32 ? 4 : 2;
    const unsigned long long logits = size * (unsigned long long)j->tokens * (unsigned long long)j->desc.experts;
    seqtopk_machine machine;
    seqtopk_machine_read(&machine);
    if (!machine.memory || logits + 8 * sizeof(float) * pairs < machine.memory)
        return SEQTOPK_OPTIONS_RUN;
    return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                            "bench: --shape %s has %llu GiB of logits, and this machine %llu GiB of memory; take fewer "
                            "tokens",
                            values->shape, logits / gib, machine.memory / gib);
}

static bool job_allocate(job *j, const seqtopk_bench_values *values, const seqtopk_row *lse) {
    const int64_t experts = j->desc.experts, pairs = seqtopk_max_selected(j->plan, j->tokens);
    const bool ok = make_sequences(j, values->sequences) &&
                    seqtopk_cli_lists_make(&j->found, j->tokens, experts, pairs) &&
                    seqtopk_cli_lists_make(&j->expected, j->tokens, experts, pairs) &&
                    seqtopk_cli_logits_make(&j->logits, j->tokens, experts, j->desc.dtype, values->biased,
                                            (uint64_t)values->seed) &&
                    make_caller(&j->route, j, j->plan, &j->found, values->sequences, j->desc.threads) &&
                    make_caller(&j->reference, j, j->reference_plan, &j->expected, values->sequences, 1) &&
                    seqtopk_floor_make(&j->floor, &j->desc, j->tokens, j->logits.data, j->logits.bias,
                                       (seqtopk_lse_fn *)lse->function, lse->isa_name);
    fit_bias(j);
    if (values->cold && !(j->other = seqtopk_cli_alloc(OTHER, 1)))
        return false;
    if (j->other)
        memset(j->other, 1, OTHER); /* else all of it would be one page of zeros */
    if (!ok || (j->desc.threads > 1 && !(j->team = seqtopk_cli_team_make(j->desc.threads))))
        return false;
    if (j->team)
        j->route.parallel = seqtopk_cli_team_lend(j->team);
    j->permuted = j->route;
    j->permuted.out.expert_offsets = j->found.expert_offsets;
    j->permuted.out.expert_tokens = j->found.expert_tokens;
    j->permuted.out.expert_slots = j->found.expert_slots;
    return true;
}

/* ----------------------------------------------------------------- measuring -- */

/* Whether one call of the reference ends within a few times the time there is, or within seconds, as a 64th of the
 * tokens tells the second time. */
static bool reference_fits(const job *j, double seconds) {
    enum { PART = 64 };
    const double most = seconds > 1 ? 5 * seconds : 5;
    double start = 0;
    caller part = j->reference;
    part.in.tokens /= PART;
    part.in.cu_seqlens = NULL;
    for (int i = 0; i < 2; i++) {
        start = seqtopk_measure_now();
        call_route(&part);
    }
    return (seqtopk_measure_now() - start) * (double)PART < most * 1e9;
}

static int check(const job *j) {
    const seqtopk_cli_lists *a = &j->found, *b = &j->expected;
    const size_t n = (size_t)a->selected;
    if (j->route.status || j->permuted.status || j->reference.status)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "bench: a route failed: %s",
                                seqtopk_status_string(j->route.status      ? j->route.status
                                                      : j->permuted.status ? j->permuted.status
                                                                           : j->reference.status));
    if (!j->compared)
        return SEQTOPK_OPTIONS_RUN;
    if (a->selected != b->selected ||
        memcmp(a->token_offsets, b->token_offsets, ((size_t)j->tokens + 1) * sizeof(int32_t)) ||
        memcmp(a->expert_ids, b->expert_ids, n * sizeof(int32_t)) || memcmp(a->weights, b->weights, n * sizeof(float)))
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                "bench: the lists differ from the reference's, which is an error in a kernel of this "
                                "plan; force others with --isa or --kernel, and report it");
    return SEQTOPK_OPTIONS_RUN;
}

static void measure(job *j, const seqtopk_bench_values *values, seqtopk_bench_report *report) {
    seqtopk_measure *items = j->items;
    items[SEQTOPK_BENCH_FLOOR] = (seqtopk_measure){.call = seqtopk_floor_call, .context = &j->floor, .share = 0.15};
    items[SEQTOPK_BENCH_ROUTE] = (seqtopk_measure){.call = call_route, .context = &j->route, .share = 0.3};
    j->compared = reference_fits(j, values->seconds);
    if (values->cold) {
        if (j->compared)
            call_route(&j->reference);
        report->rounds =
            seqtopk_measure_cold(items, SEQTOPK_BENCH_ITEMS, values->seconds, read_other, j, "seqtopk bench");
        return;
    }
    items[SEQTOPK_BENCH_READ] = (seqtopk_measure){.call = call_read, .context = j, .share = 0.15};
    items[SEQTOPK_BENCH_PERMUTED] = (seqtopk_measure){.call = call_route, .context = &j->permuted, .share = 0.25};
    if (j->compared)
        items[SEQTOPK_BENCH_REFERENCE] = (seqtopk_measure){.call = call_route, .context = &j->reference, .share = 0.15};
    report->rounds = seqtopk_measure_all(items, SEQTOPK_BENCH_ITEMS, values->seconds, "seqtopk bench");
}

/* ------------------------------------------------------------------- command -- */

static int make_plans(seqtopk_bench_values *values, uint64_t given, job *j) {
    int64_t shape[3] = {0, 0, values->top_k};
    seqtopk_cli_model model;
    int status = seqtopk_cli_model_shape(&options, &given, &values->desc, values->shape, 2, shape, &model);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    values->model = model.name;
    values->biased |= model.is_biased;
    j->tokens = shape[0];
    if (values->sequences > j->tokens)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "bench: --sequences %" PRId64 " is above the %" PRId64 " tokens of --shape; take fewer",
                                values->sequences, j->tokens);
    status = seqtopk_cli_desc_fill(&options, given, &values->desc, shape[1], values->model ? "--model" : "--shape",
                                   shape[2], &j->desc);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    j->desc.tokens = j->tokens;
    status = seqtopk_cli_plan(options.command, &j->desc, &j->plan);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    if (seqtopk_max_selected(j->plan, j->tokens) < 0)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "bench: --shape %s could select more pairs than an int32 list can index; take fewer "
                                "tokens",
                                values->shape);
    j->reference_desc = j->desc;
    j->reference_desc.isa = "ref";
    j->reference_desc.kernel = ""; /* none, whatever the environment says */
    j->reference_desc.tuning = seqtopk_tuning_none();
    j->reference_desc.threads = 1;
    return seqtopk_cli_plan(options.command, &j->reference_desc, &j->reference_plan);
}

static int run(seqtopk_bench_values *values, uint64_t given, job *j) {
    int status = make_plans(values, given, j);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    seqtopk_bench_report report = {
        .options = &options,
        .given = given,
        .values = values,
        .desc = &j->desc,
        .plan = j->plan,
        .items = j->items,
    };
    status = check_memory(j, values);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    report.score = seqtopk_plan_row(j->plan, SEQTOPK_OP_lse, j->tokens);
    report.floor = &j->floor;
    if (!job_allocate(j, values, report.score))
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE,
                                "bench: no memory for the logits and lists of --shape %s; take fewer tokens",
                                values->shape);
    j->read = seqtopk_cli_widest_read(&report.read_isa);
    report.bytes = j->logits.bytes;
    double start = seqtopk_measure_now();
    measure(j, values, &report);
    report.seconds = (seqtopk_measure_now() - start) / 1e9;
    status = check(j);
    return status == SEQTOPK_OPTIONS_RUN ? seqtopk_bench_print(&report) : status;
}

int seqtopk_cli_bench(int argc, char **argv) {
    seqtopk_bench_values values = {.desc = SEQTOPK_CLI_DESC_INIT, .sequences = 1, .seed = 1, .seconds = 2};
    uint64_t given;
    int status = seqtopk_options_parse(&options, argc, argv, &values, &given);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;
    if (values.cold && !seqtopk_options_given(&options, given, "seconds"))
        values.seconds = 10;
    job *j = calloc(1, sizeof *j);
    if (!j)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "bench: no memory");
    status = run(&values, given, j);
    job_free(j);
    return status;
}
