/* SPDX-License-Identifier: MIT */
#include "desc.h"
#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int check_groups(const seqtopk_options *options, uint64_t given, const seqtopk_desc *desc, int32_t experts) {
    const char *command = options->command;
    if (!seqtopk_options_given(options, given, "groups")) {
        if (seqtopk_options_given(options, given, "group-topk"))
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --group-topk needs --groups", command);
        if (desc->group_quota)
            return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --group-quota needs --groups, which it is of", command);
        return SEQTOPK_OPTIONS_RUN;
    }
    if (experts % desc->groups)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --groups %" PRId32 " does not divide %" PRId32 " experts; take a divisor", command,
                                desc->groups, experts);
    if (desc->groups > 1 && !desc->group_quota && !seqtopk_options_given(options, given, "group-topk"))
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --groups needs --group-topk, the groups that a token keeps",
                                command);
    if (desc->group_top_k > desc->groups)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --group-topk %" PRId32 " is above --groups %" PRId32 "; take %" PRId32 " at most",
                                command, desc->group_top_k, desc->groups, desc->groups);
    if (desc->groups > 1 && desc->group_score == SEQTOPK_GROUP_TOP2 && experts / desc->groups < 2)
        return seqtopk_cli_fail(
            SEQTOPK_EXIT_USAGE,
            "%s: --group-score top2 adds up two experts, and a group has one; take max or fewer groups", command);
    if (desc->group_score == SEQTOPK_GROUP_TOPN && desc->group_n > experts / desc->groups)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --group-n %" PRId32 " is above the %" PRId32 " experts of a group; take fewer",
                                command, desc->group_n, experts / desc->groups);
    return SEQTOPK_OPTIONS_RUN;
}

static int check_bounds(const char *command, const seqtopk_desc *desc, int64_t top_k) {
    if (desc->min_experts > top_k)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --min %" PRId32 " is above --top-k %" PRId64 "; the budget has no room for it",
                                command, desc->min_experts, top_k);
    if (desc->max_experts && desc->max_experts < desc->min_experts)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --max %" PRId32 " is below --min %" PRId32 "; raise it or leave one out", command,
                                desc->max_experts, desc->min_experts);
    return SEQTOPK_OPTIONS_RUN;
}

int seqtopk_cli_desc_fill(const seqtopk_options *options, uint64_t given, const seqtopk_cli_desc *cli, int64_t experts,
                          const char *experts_of, int64_t top_k, seqtopk_desc *desc) {
    const char *command = options->command;
    *desc = cli->fields;
    bool bounded = desc->scope == SEQTOPK_SCOPE_SEQUENCE, prunes = desc->min_p > 0 || desc->top_p > 0;
    const int64_t own = desc->shared_weight != 0 ? 0 : desc->shared_experts; /* that have logits and do not compete */
    if (top_k > experts)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --top-k %" PRId64 " is above the %" PRId64 " experts of %s; take fewer", command,
                                top_k, experts, experts_of);
    if (seqtopk_options_given(options, given, "scale") && desc->scale == 0)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --scale 0 would make every weight 0; leave it out for 1",
                                command);
    if (prunes && bounded)
        return seqtopk_cli_fail(
            SEQTOPK_EXIT_USAGE,
            "%s: --%s is for --scope token: in scope sequence each token gets its own number anyway", command,
            desc->min_p > 0 ? "min-p" : "top-p");
    if (desc->shared_weight != 0 && !desc->shared_experts)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE, "%s: --shared-weight needs --shared-experts, whose weight it is",
                                command);
    if (own >= experts || desc->null_experts >= experts)
        return seqtopk_cli_fail(SEQTOPK_EXIT_USAGE,
                                "%s: --%s-experts %" PRId64 " leaves none of the %" PRId64 " experts of %s; take fewer",
                                command, own >= experts ? "shared" : "null", own >= experts ? own : desc->null_experts,
                                experts, experts_of);
    int status = check_groups(options, given, desc, (int32_t)(experts - own));
    if (status == SEQTOPK_OPTIONS_RUN && (bounded || prunes))
        status = check_bounds(command, desc, top_k);
    if (status != SEQTOPK_OPTIONS_RUN)
        return status;

    desc->experts = (int32_t)(experts + desc->shared_experts - own);
    desc->top_k = (int32_t)top_k;
    if (desc->norm == SEQTOPK_NORM_DEFAULT)
        desc->norm = desc->score == SEQTOPK_SCORE_LOGITS ? SEQTOPK_NORM_SOFTMAX : SEQTOPK_NORM_NONE;
    if (!bounded && !prunes)
        desc->min_experts = 0;
    if (!bounded)
        desc->max_experts = 0;
    if (desc->groups < 2) {
        desc->groups = desc->group_top_k = desc->group_quota = 0;
        desc->group_score = SEQTOPK_GROUP_MAX;
    }
    if (desc->group_score != SEQTOPK_GROUP_TOPN)
        desc->group_n = 0;
    desc->dtype = cli->dtype < 0 ? SEQTOPK_DTYPE_F32 : (seqtopk_dtype)cli->dtype;
    desc->threads = desc->threads ? desc->threads : 1;
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
        {"token-seq", "in scope sequence only", sequence},
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
