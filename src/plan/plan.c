/* SPDX-License-Identifier: MIT */
/* A plan: which kernel serves each stage, decided once. */
#include "src/abi.h"
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

/* The T from which on any decision differs, ascending from 0; returns how many there are. */
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

static uint32_t ways_of(const seqtopk_kernels *kernels) {
    uint32_t has = 0, ways = 0;
    for (int op = 0; op < SEQTOPK_KERNEL_OPS; op++)
        has |= (uint32_t)(kernels->of[op] != NULL) << op;
    for (int w = 0; w < SEQTOPK_WAYS; w++)
        ways |= (uint32_t)((seqtopk_ways[w].kernels & ~has) == 0) << w;
    return ways;
}

/* The first way that serves. A forced one is returned in any case: seqtopk_call_open refuses calls that it does not
 * serve. */
static uint8_t first_way(const seqtopk_plan *plan, const seqtopk_kernels *kernels, int is_biased,
                         seqtopk_length length) {
    seqtopk_ask ask = seqtopk_plan_ask(plan);
    int way = plan->way;
    ask.is_biased = is_biased;
    ask.length = length;
    for (int w = 0; way < 0 && w < SEQTOPK_WAYS; w++)
        way = seqtopk_plan_why_not(plan, kernels, (seqtopk_way_id)w, &ask) ? -1 : w;
    return (uint8_t)way;
}

/* How many rows at a time have their keys made: at least one, and no more than there is work space for. */
static int64_t block_rows(const seqtopk_plan *plan, int64_t logits) {
    const int64_t rows = logits / plan->desc.experts;
    return rows < 1 ? 1 : rows < plan->work_rows ? rows : plan->work_rows;
}

/* Fills plan->kernels from the decisions, for the ranges that they have. */
static void gather(seqtopk_plan *plan) {
    for (int32_t r = 0; r < plan->ranges; r++) {
        seqtopk_kernels *kernels = plan->kernels + r;
        for (int op = 0; op < SEQTOPK_OPS; op++) {
            const seqtopk_row *row = seqtopk_plan_row(plan, (seqtopk_op)op, kernels->tokens_from);
            if (op < SEQTOPK_KERNEL_OPS)
                kernels->of[op] = row ? row->function : NULL;
            else
                kernels->size[op - SEQTOPK_KERNEL_OPS] = row->value;
        }
        kernels->ways = ways_of(kernels);
        kernels->block_rows = block_rows(plan, kernels->block);
        for (int length = 0; length < SEQTOPK_LENGTHS; length++)
            for (int is_biased = 0; is_biased < 2; is_biased++)
                kernels->way[is_biased][length] = first_way(plan, kernels, is_biased, (seqtopk_length)length);
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
    const int32_t experts = plan->desc.experts;
    plan->work_rows = experts <= 1024 ? 16384 / experts : experts <= 2048 ? 16 : experts < 32768 ? 32768 / experts : 1;
    plan->min_experts = seqtopk_least_of_token(&plan->desc);
    plan->max_experts = seqtopk_most_of_token(&plan->desc);
    plan->pairs = plan->desc.scope == SEQTOPK_SCOPE_ONLINE ? plan->max_experts : plan->desc.top_k;
    plan->beside = plan->desc.shared_experts;
    plan->columns = plan->desc.experts + (plan->desc.shared_weight == 0.0f ? plan->beside : 0);
    plan->dispatched = plan->desc.experts + plan->beside - plan->desc.null_experts;
    plan->adjusts = plan->beside > 0 || plan->desc.null_experts > 0;
    plan->most_tokens = INT32_MAX / (plan->pairs + plan->beside);
    plan->way = d->way;
    const seqtopk_ask unbiased = seqtopk_plan_ask(plan);
    plan->is_keyed = seqtopk_is_keyed(&unbiased);
    plan->is_plain = plan->desc.order == SEQTOPK_ORDER_EXPERT && plan->desc.norm != SEQTOPK_NORM_SPARSEMIXER &&
                     plan->desc.key_from == SEQTOPK_KEY_FROM_SCORE && !seqtopk_prunes(&plan->desc) &&
                     !seqtopk_prepares(&plan->desc) && plan->desc.group_quota == 0 && plan->beside == 0;
    for (int32_t r = 0; r < ranges; r++)
        plan->kernels[r].tokens_from = from[r];
    gather(plan);
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
    /* With a forced instruction set no tuning file is read: that leaves it no choice worth the time. */
    made.tuning = forced.isa ? NULL : made.desc.tuning ? made.desc.tuning : seqtopk_tuning_machine();
    made.way = forced.way_index;
    made.desc.isa = made.desc.kernel = made.desc.way = NULL;
    made.desc.tuning = NULL;
    seqtopk_decide(&made, &forced);
    if (!(*plan = finish(&made)))
        return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for a plan of %d decisions", (int)made.decisions);
    return SEQTOPK_OK;
}

/* ------------------------------------------------------------------- ways -- */

const char *seqtopk_plan_why_not(const seqtopk_plan *plan, const seqtopk_kernels *kernels, seqtopk_way_id way,
                                 const seqtopk_ask *ask) {
    const char *why = seqtopk_ways[way].why_not(ask);
    if (why)
        return why;
    if (!(kernels->ways >> way & 1))
        return "there is no kernel for a stage of it, or another instruction set is forced";
    return plan->way >= 0 && plan->way != (int32_t)way ? "another way is forced" : NULL;
}

const char *seqtopk_plan_way_why_not(const seqtopk_plan *plan, int32_t index, int64_t tokens, int32_t is_biased) {
    if (!plan || index < 0 || index >= SEQTOPK_WAYS || tokens < 0)
        return "there is no such way";
    const seqtopk_kernels *kernels = seqtopk_plan_kernels(plan, tokens);
    seqtopk_ask ask = seqtopk_plan_ask(plan);
    ask.is_biased = is_biased;
    ask.length = tokens == 1 ? SEQTOPK_LENGTH_ALONE : seqtopk_length_of(tokens, kernels->block_rows);
    return seqtopk_plan_why_not(plan, kernels, (seqtopk_way_id)index, &ask);
}

/* ------------------------------------------------------------------- API -- */

void seqtopk_plan_destroy(seqtopk_plan *plan) { free(plan); }

int64_t seqtopk_max_selected(const seqtopk_plan *plan, int64_t tokens) {
    if (!plan || tokens < 0 || tokens > plan->most_tokens)
        return -1;
    return tokens * (plan->pairs + plan->beside);
}

int64_t seqtopk_max_block_slots(const seqtopk_plan *plan, int64_t tokens, int32_t block_size) {
    const int64_t pairs = seqtopk_max_selected(plan, tokens);
    return pairs < 0 || block_size < 1 ? -1 : seqtopk_block_slots_of(plan, pairs, block_size);
}

int64_t seqtopk_block_slots_of(const seqtopk_plan *plan, int64_t pairs, int32_t block_size) {
    const int64_t experts = pairs < plan->dispatched ? pairs : plan->dispatched;
    const int64_t most = pairs + experts * (block_size - 1);
    const int is_power = (block_size & (block_size - 1)) == 0; /* a division is felt where there are few pairs */
    const int64_t slots = is_power ? most & -(int64_t)block_size : most / block_size * block_size;
    return slots > INT32_MAX ? -1 : slots;
}

int32_t seqtopk_max_per_token(const seqtopk_plan *plan) {
    if (!plan)
        return 0;
    const int32_t most = plan->max_experts + plan->beside;
    return most < plan->dispatched ? most : plan->dispatched;
}

int32_t seqtopk_max_width(const seqtopk_plan *plan, int64_t longest) {
    const int32_t most = seqtopk_max_per_token(plan);
    if (!plan || longest < 0 || plan->desc.scope != SEQTOPK_SCOPE_SEQUENCE)
        return longest < 0 ? 0 : most;
    if (longest >= most) /* K is at least 1 */
        return most;
    const int64_t width = longest * plan->desc.top_k + plan->beside;
    return width < most ? (int32_t)width : most;
}

int32_t seqtopk_plan_choice_count(const seqtopk_plan *plan) { return plan ? plan->first[SEQTOPK_OPS] : 0; }

seqtopk_status seqtopk_plan_choice(const seqtopk_plan *plan, int32_t index, seqtopk_choice *choice) {
    if (!plan || !choice)
        return SEQTOPK_E_NULL;
    if (!seqtopk_struct_is_sized(choice, SEQTOPK_FIRST_choice))
        return SEQTOPK_E_STRUCT;
    if (index < 0 || index >= plan->first[SEQTOPK_OPS])
        return SEQTOPK_E_VALUE;
    const seqtopk_decision *decision = plan->decision + index;
    const seqtopk_choice ours = {
        .contenders = decision->contenders,
        .op = decision->row->op_name,
        .kernel = decision->row->name,
        .why = decision->why,
        .tokens_from = decision->tokens_from,
    };
    seqtopk_give_struct(choice, &ours, sizeof ours);
    return SEQTOPK_OK;
}
