/* SPDX-License-Identifier: MIT */
/* A plan: which kernel serves each stage, decided once. */
#include "src/plan/decide.h"
#include "src/status.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------- where it is from -- */

enum { LINE_DIGITS = 10 };

/* "tuning file PATH line N" */
static size_t longest_text(const seqtopk_tuning *tuning) {
    return strlen("tuning file  line ") + (tuning->path ? strlen(tuning->path) : 0) + LINE_DIGITS + 1;
}

static char *write_text(char *to, const seqtopk_tuning *tuning, int32_t line) {
    const char *parts[] = {tuning->path ? "tuning file " : "tuning", tuning->path ? tuning->path : "", " line "};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const size_t size = strlen(parts[i]);
        memcpy(to, parts[i], size);
        to += size;
    }
    char digits[LINE_DIGITS];
    int at = LINE_DIGITS;
    do
        digits[--at] = (char)('0' + line % 10);
    while (line /= 10);
    memcpy(to, digits + at, (size_t)(LINE_DIGITS - at));
    to += LINE_DIGITS - at;
    *to = 0;
    return to + 1;
}

/* --------------------------------------------------------------- kernels -- */

/* The T at which any decision changes, ascending from 0; returns how many. */
static int32_t find_ranges(const seqtopk_draft *d, int64_t from[SEQTOPK_DRAFT_DECISIONS]) {
    int32_t ranges = 0;
    for (int32_t i = 0; i < d->decisions; i++) {
        const int64_t tokens = d->decision[i].tokens_from;
        int32_t at = ranges;
        while (at > 0 && from[at - 1] > tokens)
            at--;
        if (at > 0 && from[at - 1] == tokens)
            continue;
        memmove(from + at + 1, from + at, (size_t)(ranges++ - at) * sizeof *from);
        from[at] = tokens;
    }
    return ranges;
}

void seqtopk_plan_gather(seqtopk_plan *plan) {
    const seqtopk_op at_once = plan->desc.scope == SEQTOPK_SCOPE_TOKEN ? SEQTOPK_OP_topk_logits : SEQTOPK_OP_collect_logits;
    for (int op = 0; op < SEQTOPK_OPS; op++) {
        const seqtopk_decision *decision = plan->decision + plan->first[op];
        const seqtopk_decision *last = plan->decision + plan->first[op + 1] - 1;
        for (int32_t r = 0; r < plan->ranges; r++) {
            seqtopk_kernels *kernels = plan->kernels + r;
            while (decision < last && decision[1].tokens_from <= kernels->tokens_from)
                decision++;
            kernels->of[op] = decision->row->function;
            if (op == (int)at_once)
                kernels->staged = decision->row->isa == 0;
        }
    }
}

static seqtopk_plan *finish(const seqtopk_draft *d) {
    int64_t from[SEQTOPK_DRAFT_DECISIONS];
    const int32_t ranges = find_ranges(d, from);
    const size_t decisions = (size_t)d->decisions * sizeof *d->decision;
    const size_t kernels = (size_t)ranges * sizeof(seqtopk_kernels);
    size_t tuned = 0;
    for (int32_t i = 0; i < d->decisions; i++)
        tuned += d->decision[i].line != 0;
    seqtopk_plan *plan = malloc(sizeof *plan + decisions + kernels + (tuned ? tuned * longest_text(d->tuning) : 0));
    if (!plan)
        return NULL;
    plan->desc = d->desc;
    memcpy(plan->first, d->first, sizeof plan->first);
    memcpy(plan->decision, d->decision, decisions);
    plan->ranges = ranges;
    plan->kernels = (seqtopk_kernels *)(void *)(plan->decision + d->decisions);
    char *text = (char *)(plan->kernels + ranges);
    for (int32_t i = 0; i < d->decisions; i++)
        if (plan->decision[i].line) {
            plan->decision[i].why = text;
            text = write_text(text, d->tuning, plan->decision[i].line);
        }
    const int by_token = plan->desc.scope == SEQTOPK_SCOPE_TOKEN;
    const int32_t experts = plan->desc.experts;
    plan->work_rows = experts <= 1024 ? 16384 / experts : experts <= 2048 ? 16 : experts < 32768 ? 32768 / experts : 1;
    plan->most_tokens = INT32_MAX / plan->desc.top_k;
    plan->sure = by_token ? plan->desc.top_k : plan->desc.min_experts;
    plan->most = by_token ? plan->desc.top_k : plan->desc.max_experts;
    for (int32_t r = 0; r < ranges; r++)
        plan->kernels[r].tokens_from = from[r];
    seqtopk_plan_gather(plan);
    return plan;
}

seqtopk_status seqtopk_plan_create(seqtopk_plan **plan, const seqtopk_desc *desc, seqtopk_error *error) {
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    if (!plan)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "plan is NULL: pass the address of a seqtopk_plan pointer");
    *plan = NULL;
    seqtopk_draft made;
    seqtopk_forced forced;
    seqtopk_status status = seqtopk_desc_resolve(&made.desc, desc, error);
    if (status)
        return status;
    status = seqtopk_force(&forced, &made.desc, error);
    if (status)
        return status;
    /* A forced instruction set leaves a tuning file no choice worth the reading. */
    made.tuning = forced.isa ? NULL : made.desc.tuning ? made.desc.tuning : seqtopk_tuning_machine();
    made.desc.isa = made.desc.kernel = NULL;
    made.desc.tuning = NULL;
    seqtopk_decide(&made, &forced);
    if (!(*plan = finish(&made)))
        return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for a plan of %d decisions", (int)made.decisions);
    return SEQTOPK_OK;
}

void seqtopk_plan_destroy(seqtopk_plan *plan) { free(plan); }

int64_t seqtopk_max_selected(const seqtopk_plan *plan, int64_t tokens) {
    if (!plan || tokens < 0 || tokens > plan->most_tokens)
        return -1;
    return tokens * plan->desc.top_k;
}

int32_t seqtopk_max_per_token(const seqtopk_plan *plan) { return plan ? plan->most : 0; }

int32_t seqtopk_plan_choice_count(const seqtopk_plan *plan) { return plan ? plan->first[SEQTOPK_OPS] : 0; }

seqtopk_status seqtopk_plan_choice(const seqtopk_plan *plan, int32_t index, seqtopk_choice *choice) {
    if (!plan || !choice)
        return SEQTOPK_E_NULL;
    if (choice->struct_size != sizeof *choice)
        return SEQTOPK_E_STRUCT;
    if (index < 0 || index >= plan->first[SEQTOPK_OPS])
        return SEQTOPK_E_VALUE;
    const seqtopk_decision *decision = plan->decision + index;
    choice->contenders = decision->contenders;
    choice->op = decision->row->op_name;
    choice->kernel = decision->row->name;
    choice->why = decision->why;
    choice->tokens_from = decision->tokens_from;
    return SEQTOPK_OK;
}
