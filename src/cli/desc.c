/* SPDX-License-Identifier: MIT */
#include "desc.h"
#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int check_groups(const seqtopk_options *options, uint64_t given, const seqtopk_cli_desc *cli, int64_t experts) {
    const char *command = options->command;
    if (!seqtopk_options_given(options, given, "groups")) {
        if (seqtopk_options_given(options, given, "group-topk"))
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --group-topk needs --groups", command);
        if (cli->group_quota)
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --group-quota needs --groups, which it is of", command);
        return SEQTOPK_OPTIONS_RUN;
    }
    if (experts % cli->groups)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --groups %" PRId64 " does not divide %" PRId64 " experts; take a divisor", command,
                                cli->groups, experts);
    if (cli->groups > 1 && !cli->group_quota && !seqtopk_options_given(options, given, "group-topk"))
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --groups needs --group-topk, the groups that a token keeps",
                                command);
    if (cli->group_top_k > cli->groups)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --group-topk %" PRId64 " is above --groups %" PRId64 "; take %" PRId64 " at most",
                                command, cli->group_top_k, cli->groups, cli->groups);
    if (cli->groups > 1 && cli->group_score == SEQTOPK_GROUP_TOP2 && experts / cli->groups < 2)
        return seqtopk_cli_fail(
            SEQTOPK_EXIT_USAGE,
            "%s: --group-score top2 adds up two experts, and a group has one; take max or fewer groups", command);
    if (cli->group_score == SEQTOPK_GROUP_TOPN && cli->group_n > experts / cli->groups)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --group-n %" PRId64 " is above the %" PRId64 " experts of a group; take fewer",
                                command, cli->group_n, experts / cli->groups);
    return SEQTOPK_OPTIONS_RUN;
}

static int check_bounds(const char *command, const seqtopk_cli_desc *cli, int64_t top_k) {
    if (cli->min > top_k)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --min %" PRId64 " is above --top-k %" PRId64 "; the budget has no room for it",
                                command, cli->min, top_k);
    if (cli->max && cli->max < cli->min)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --max %" PRId64 " is below --min %" PRId64 "; raise it or leave one out", command,
                                cli->max, cli->min);
    return SEQTOPK_OPTIONS_RUN;
}

int seqtopk_cli_desc_fill(const seqtopk_options *options, uint64_t given, const seqtopk_cli_desc *cli, int64_t experts,
                          const char *experts_of, int64_t top_k, seqtopk_desc *desc) {
    const char *command = options->command;
    bool bounded = cli->scope == SEQTOPK_SCOPE_SEQUENCE, prunes = cli->min_p > 0 || cli->top_p > 0;
    const int64_t own = cli->shared_weight != 0 ? 0 : cli->shared_experts; /* that have logits and do not compete */
    if (top_k > experts)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --top-k %" PRId64 " is above the %" PRId64 " experts of %s; take fewer", command,
                                top_k, experts, experts_of);
    if (seqtopk_options_given(options, given, "scale") && cli->scale == 0)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --scale 0 would make every weight 0; leave it out for 1",
                                command);
    if (prunes && bounded)
        return seqtopk_cli_fail(
            SEQTOPK_EXIT_USAGE,
            "%s: --%s is for --scope token: in scope sequence each token gets its own number anyway", command,
            cli->min_p > 0 ? "min-p" : "top-p");
    if (cli->shared_weight != 0 && !cli->shared_experts)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --shared-weight needs --shared-experts, whose weight it is",
                                command);
    if (own >= experts || cli->null_experts >= experts)
        return seqtopk_cli_fail(
            SEQTOPK_EXIT_USAGE, "%s: --%s-experts %" PRId64 " leaves none of the %" PRId64 " experts of %s; take fewer",
            command, own >= experts ? "shared" : "null", own >= experts ? own : cli->null_experts, experts, experts_of);
    int status = check_groups(options, given, cli, experts - own);
    if (status == SEQTOPK_OPTIONS_RUN && (bounded || prunes))
        status = check_bounds(command, cli, top_k);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;

    *desc = (seqtopk_desc)SEQTOPK_DESC_INIT;
    desc->experts = (int32_t)(experts + cli->shared_experts - own);
    desc->top_k = (int32_t)top_k;
    desc->scope = (seqtopk_scope)cli->scope;
    desc->score = (seqtopk_score)cli->score;
    desc->norm = (seqtopk_norm)cli->norm;
    if (desc->norm == SEQTOPK_NORM_DEFAULT)
        desc->norm = desc->score == SEQTOPK_SCORE_LOGITS ? SEQTOPK_NORM_SOFTMAX : SEQTOPK_NORM_NONE;
    desc->norm_eps = cli->eps;
    desc->norm_floor = cli->floor;
    desc->scale = cli->scale;
    desc->norm_skip_top1 = cli->skip_top1;
    desc->key_from = (seqtopk_key_from)cli->key_from;
    desc->logit_scale = cli->logit_scale;
    desc->logit_softcap = cli->softcap;
    desc->min_p = cli->min_p;
    desc->top_p = cli->top_p;
    desc->null_experts = (int32_t)cli->null_experts;
    desc->shared_experts = (int32_t)cli->shared_experts;
    desc->shared_weight = cli->shared_weight;
    desc->norm_jitter = cli->jitter;
    if (prunes)
        desc->min_experts = (int32_t)cli->min;
    if (bounded) {
        desc->min_experts = (int32_t)cli->min;
        desc->max_experts = (int32_t)cli->max;
    }
    if (cli->groups > 1) {
        desc->groups = (int32_t)cli->groups;
        desc->group_top_k = (int32_t)cli->group_top_k;
        desc->group_quota = (int32_t)cli->group_quota;
        desc->group_score = (seqtopk_group_score)cli->group_score;
        desc->group_n = cli->group_score == SEQTOPK_GROUP_TOPN ? (int32_t)cli->group_n : 0;
    }
    desc->dtype = cli->dtype < 0 ? SEQTOPK_DTYPE_F32 : (seqtopk_dtype)cli->dtype;
    desc->order = (seqtopk_order)cli->order;
    desc->threads = (int32_t)cli->threads;
    desc->isa = cli->isa;
    desc->kernel = cli->kernel;
    desc->way = cli->way;
    return SEQTOPK_OPTIONS_RUN;
}

bool seqtopk_cli_desc_note(const seqtopk_options *options, uint64_t given, const seqtopk_desc *desc, int *next,
                           char note[SEQTOPK_NOTE]) {
    bool summed = desc->norm == SEQTOPK_NORM_SUM, grouped = desc->groups > 1;
    bool sequence = desc->scope == SEQTOPK_SCOPE_SEQUENCE, prunes = desc->min_p > 0 || desc->top_p > 0;
    const struct {
        const char *name, *acts;
        bool acting;
    } notes[] = {
        {"min", "in scope sequence only, and with --min-p or --top-p", sequence || prunes},
        {"max", "in scope sequence only", sequence},
        {"lengths", "in scope sequence only", sequence},
        {"cu-seqlens", "in scope sequence only", sequence},
        {"sequences", "in scope sequence only", sequence},
        {"eps", "with --norm sum only", summed},
        {"floor", "with --norm sum only", summed},
        {"norm-skip-top1", "with --norm sum only", summed},
        {"jitter", "with --norm sparsemixer only", desc->norm == SEQTOPK_NORM_SPARSEMIXER},
        {"group-topk", "with two groups or more only", grouped},
        {"group-score", "with two groups or more only", grouped},
        {"group-n", "with --group-score topn only", grouped && desc->group_score == SEQTOPK_GROUP_TOPN},
    };
    for (; *next < (int)(sizeof notes / sizeof *notes); ++*next)
        if (!notes[*next].acting && seqtopk_options_given(options, given, notes[*next].name)) {
            snprintf(note, SEQTOPK_NOTE, "--%s acts %s", notes[*next].name, notes[*next].acts);
            ++*next;
            return true;
        }
    return false;
}

/* The library speaks of the field that forces; the user wrote an option. */
static const struct {
    const char *library, *ours;
} forced[] = {
    {"forced by desc.isa", "forced by --isa"},
    {"forced by desc.kernel", "forced by --kernel"},
    {"forced by desc.way", "forced by --way"},
};

const char *seqtopk_cli_why(const char *why) {
    for (size_t i = 0; i < sizeof forced / sizeof *forced; i++)
        if (!strcmp(why, forced[i].library))
            return forced[i].ours;
    return why;
}

int seqtopk_cli_plan(const char *command, const seqtopk_desc *desc, seqtopk_plan **plan) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_status status = seqtopk_plan_create(plan, desc, &error);
    if (status == SEQTOPK_OK)
        return SEQTOPK_OPTIONS_RUN;
    const char *ours = "", *rest = error.message;
    for (size_t i = 0; i < sizeof forced / sizeof *forced; i++) {
        const size_t length = strlen(forced[i].library);
        if (!strncmp(error.message, forced[i].library, length)) {
            ours = forced[i].ours;
            rest = error.message + length;
        }
    }
    return seqtopk_cli_fail(status == SEQTOPK_E_MEMORY ? SEQTOPK_EXIT_FAILURE : SEQTOPK_EXIT_USAGE, "%s: %s: %s%s",
                            command, seqtopk_status_string(status), ours, rest);
}
