/* SPDX-License-Identifier: MIT */
/* A plan: which kernel serves each stage, decided once. */
#include "src/plan.h"
#include "src/status.h"
#include "src/tuned.h"

#include <stdlib.h>
#include <string.h>

/* What the caller insists on, and where that was said. */
typedef struct {
    const char *isa, *isa_from;
    const char *kernels, *kernels_from;
    int32_t isa_index;
    const seqtopk_row *row[SEQTOPK_OPS];
} forced;

static const char *given(const char *field, const char *variable) {
    const char *value = field ? field : getenv(variable);
    return value && *value ? value : NULL;
}

static int fits(const seqtopk_row *row, const seqtopk_desc *desc) {
    return (row->dtype == (int32_t)desc->dtype || !seqtopk_op_reads_logits(row->op)) && row->applies(desc);
}

static seqtopk_status force_isa(forced *f, seqtopk_error *error) {
    f->isa_index = -1;
    if (!f->isa)
        return SEQTOPK_OK;
    f->isa_index = seqtopk_isa_index(f->isa);
    if (f->isa_index < 0)
        return seqtopk_fail(error, SEQTOPK_E_ISA, -1, "%s: \"%.40s\" is no instruction set of this build", f->isa_from,
                            f->isa);
    if (!seqtopk_isa_runs(f->isa_index))
        return seqtopk_fail(error, SEQTOPK_E_ISA, -1, "%s: this machine cannot run %s; it needs %s", f->isa_from, f->isa,
                            seqtopk_isa_features(f->isa));
    return SEQTOPK_OK;
}

static const seqtopk_row *find_row(const char *name, size_t length) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (strlen(seqtopk_registry[i].name) == length && memcmp(seqtopk_registry[i].name, name, length) == 0)
            return seqtopk_registry + i;
    return NULL;
}

static seqtopk_status force_kernels(forced *f, const seqtopk_desc *desc, seqtopk_error *error) {
    for (const char *name = f->kernels; name && *name;) {
        const int length = (int)strcspn(name, ",");
        const seqtopk_row *row = find_row(name, (size_t)length);
        if (!row)
            return seqtopk_fail(error, SEQTOPK_E_KERNEL, -1, "%s: there is no kernel \"%.*s\"", f->kernels_from,
                                length > 80 ? 80 : length, name);
        if (!seqtopk_isa_runs(row->isa))
            return seqtopk_fail(error, SEQTOPK_E_KERNEL, -1, "%s: this machine cannot run %s", f->kernels_from,
                                row->name);
        if (!fits(row, desc))
            return seqtopk_fail(error, SEQTOPK_E_KERNEL, -1, "%s: %s does not apply to this plan (%s)", f->kernels_from,
                                row->name, row->about);
        if (f->row[row->op] && f->row[row->op] != row)
            return seqtopk_fail(error, SEQTOPK_E_KERNEL, -1, "%s: %s and %s are for the same stage", f->kernels_from,
                                f->row[row->op]->name, row->name);
        f->row[row->op] = row;
        name += length;
        name += *name == ',';
    }
    return SEQTOPK_OK;
}

/* The widest ISA that has a usable row for `op`: a forced one, or whatever runs. The reference has every op. */
static int32_t best_isa(seqtopk_op op, const seqtopk_desc *desc, const forced *f) {
    int32_t best = 0;
    for (int32_t i = 0; i < seqtopk_registry_size; i++) {
        const seqtopk_row *row = seqtopk_registry + i;
        if (row->op == op && fits(row, desc) && seqtopk_isa_runs(row->isa) && row->isa > best &&
            (f->isa_index < 0 || row->isa == f->isa_index))
            best = row->isa;
    }
    return best;
}

/* A plan in the making. */
enum { MOST_OF_MODEL = 8, MOST_OF_OP = MOST_OF_MODEL + SEQTOPK_WISDOM_BUCKETS };
typedef struct {
    seqtopk_desc desc;
    const seqtopk_tuning *tuning; /* NULL: not asked */
    int32_t first[SEQTOPK_OPS + 1];
    int32_t decisions;
    seqtopk_decision decision[SEQTOPK_OPS * MOST_OF_OP];
} draft;

/* The same kernel for the same reason goes on. */
static void decide(draft *d, seqtopk_op op, seqtopk_decision decision) {
    const seqtopk_decision *last = d->decision + d->decisions - 1;
    if (d->decisions > d->first[op] && last->row == decision.row && !last->line == !decision.line)
        return;
    d->decision[d->decisions++] = decision;
}

static int32_t count_candidates(seqtopk_op op, const seqtopk_desc *desc) {
    int32_t candidates = 0;
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        candidates += seqtopk_registry[i].op == op && fits(seqtopk_registry + i, desc) &&
                      seqtopk_isa_runs(seqtopk_registry[i].isa);
    return candidates;
}

/* What the model has to say about an op; answers how many. */
static int32_t ask_model(const draft *d, seqtopk_op op, const forced *f, seqtopk_decision decision[MOST_OF_MODEL]) {
    const int32_t isa = best_isa(op, &d->desc, f);
    const int32_t candidates = count_candidates(op, &d->desc);
    const char *why = f->isa_index < 0 ? "model: the widest usable ISA"
                      : isa == f->isa_index ? f->isa_from
                                            : "the reference: the forced ISA has no kernel for this stage";
    int64_t from = 0;
    int32_t decisions = 0;
    for (int32_t i = 0; i < seqtopk_registry_size && decisions < MOST_OF_MODEL; i++) {
        const seqtopk_row *row = seqtopk_registry + i;
        if (row->op != op || row->isa != isa || !fits(row, &d->desc))
            continue;
        const int64_t limit = seqtopk_model_limit(row, &d->desc);
        if (limit < from)
            continue;
        decision[decisions++] = (seqtopk_decision){row, why, from, candidates, 0};
        if (limit == INT64_MAX)
            break;
        from = limit + 1;
    }
    return decisions;
}

/* What the model decides for calls of [from, to) tokens. */
static void take_model(draft *d, seqtopk_op op, const seqtopk_decision *model, int32_t count, int64_t from, int64_t to) {
    for (int32_t i = 0; i < count && model[i].tokens_from < to; i++) {
        seqtopk_decision decision = model[i];
        if (i + 1 < count && model[i + 1].tokens_from <= from)
            continue;
        if (decision.tokens_from < from)
            decision.tokens_from = from;
        decide(d, op, decision);
    }
}

static void choose(draft *d, seqtopk_op op, const forced *f) {
    seqtopk_decision model[MOST_OF_MODEL];
    if (f->row[op]) {
        decide(d, op, (seqtopk_decision){f->row[op], f->kernels_from, 0, 1, 0});
        return;
    }
    const int32_t count = ask_model(d, op, f, model);
    const seqtopk_tuned_rows *tuned = d->tuning ? seqtopk_tuned_look_up(d->tuning, &d->desc, op) : NULL;
    if (!tuned) {
        take_model(d, op, model, count, 0, INT64_MAX);
        return;
    }
    for (int b = 0; b < SEQTOPK_WISDOM_BUCKETS; b++) {
        const int64_t from = b ? INT64_C(1) << b : 0;
        const int64_t to = b + 1 < SEQTOPK_WISDOM_BUCKETS ? INT64_C(1) << (b + 1) : INT64_MAX;
        const seqtopk_row *row = tuned->row[b] < 0 ? NULL : seqtopk_registry + tuned->row[b];
        if (row && seqtopk_isa_runs(row->isa) && fits(row, &d->desc))
            decide(d, op, (seqtopk_decision){row, NULL, from, model[0].candidates, tuned->line[b]});
        else
            take_model(d, op, model, count, from, to);
    }
}

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

static seqtopk_plan *finish(const draft *d) {
    const size_t decisions = (size_t)d->decisions * sizeof *d->decision;
    size_t tuned = 0;
    for (int32_t i = 0; i < d->decisions; i++)
        tuned += d->decision[i].line != 0;
    seqtopk_plan *plan = malloc(sizeof *plan + decisions + (tuned ? tuned * longest_text(d->tuning) : 0));
    if (!plan)
        return NULL;
    plan->desc = d->desc;
    memcpy(plan->first, d->first, sizeof plan->first);
    memcpy(plan->decision, d->decision, decisions);
    char *text = (char *)(plan->decision + d->decisions);
    for (int32_t i = 0; i < d->decisions; i++)
        if (plan->decision[i].line) {
            plan->decision[i].why = text;
            text = write_text(text, d->tuning, plan->decision[i].line);
        }
    const int by_token = plan->desc.scope == SEQTOPK_SCOPE_TOKEN;
    plan->sure = by_token ? plan->desc.top_k : plan->desc.min_experts;
    plan->most = by_token ? plan->desc.top_k : plan->desc.max_experts;
    return plan;
}

seqtopk_status seqtopk_plan_create(seqtopk_plan **plan, const seqtopk_desc *desc, seqtopk_error *error) {
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    if (!plan)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "plan is NULL: pass the address of a seqtopk_plan pointer");
    *plan = NULL;
    draft made;
    seqtopk_status status = seqtopk_desc_resolve(&made.desc, desc, error);
    if (status)
        return status;
    forced f = {
        .isa = given(made.desc.isa, "SEQTOPK_ISA"),
        .isa_from = made.desc.isa ? "forced by desc.isa" : "forced by SEQTOPK_ISA",
        .kernels = given(made.desc.kernel, "SEQTOPK_KERNEL"),
        .kernels_from = made.desc.kernel ? "forced by desc.kernel" : "forced by SEQTOPK_KERNEL",
    };
    status = force_isa(&f, error);
    if (!status)
        status = force_kernels(&f, &made.desc, error);
    if (status)
        return status;
    /* A forced instruction set leaves a tuning file no choice worth the reading. */
    made.tuning = f.isa ? NULL : made.desc.tuning ? made.desc.tuning : seqtopk_tuning_machine();
    made.desc.isa = made.desc.kernel = NULL;
    made.desc.tuning = NULL;
    made.decisions = 0;
    for (int op = 0; op < SEQTOPK_OPS; op++) {
        made.first[op] = made.decisions;
        choose(&made, (seqtopk_op)op, &f);
    }
    made.first[SEQTOPK_OPS] = made.decisions;
    if (!(*plan = finish(&made)))
        return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for a plan of %d decisions", (int)made.decisions);
    return SEQTOPK_OK;
}

void seqtopk_plan_destroy(seqtopk_plan *plan) { free(plan); }

int64_t seqtopk_max_selected(const seqtopk_plan *plan, int64_t tokens) {
    if (!plan || tokens < 0 || tokens > INT32_MAX / plan->desc.top_k)
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
    choice->candidates = decision->candidates;
    choice->op = decision->row->op_name;
    choice->kernel = decision->row->name;
    choice->why = decision->why;
    choice->tokens_from = decision->tokens_from;
    return SEQTOPK_OK;
}
