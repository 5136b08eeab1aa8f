/* SPDX-License-Identifier: MIT */
/* A plan: which kernel serves each stage, decided once. */
#include "src/plan.h"
#include "src/status.h"

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

static int is_row_dtype(const seqtopk_row *row, const seqtopk_desc *desc) {
    switch (row->op) {
    case SEQTOPK_OP_score:
    case SEQTOPK_OP_keys:
    case SEQTOPK_OP_sweep:
    case SEQTOPK_OP_pick:
    case SEQTOPK_OP_weights: return row->dtype == (int32_t)desc->dtype;
    default: return 1; /* of keys or of ids, whatever the logits are */
    }
}

static int fits(const seqtopk_row *row, const seqtopk_desc *desc) {
    return is_row_dtype(row, desc) && row->applies(desc);
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

static void decide(seqtopk_plan *plan, const seqtopk_row *row, const char *why, int64_t from, int32_t candidates) {
    plan->decision[plan->decisions++] = (seqtopk_decision){row, why, from, candidates};
}

static void choose(seqtopk_plan *plan, seqtopk_op op, const forced *f) {
    if (f->row[op]) {
        decide(plan, f->row[op], f->kernels_from, 0, 1);
        return;
    }
    const int32_t isa = best_isa(op, &plan->desc, f);
    const char *why = f->isa_index < 0 ? "the widest usable ISA"
                      : isa == f->isa_index ? f->isa_from
                                            : "the reference: the forced ISA has no kernel for this stage";
    int64_t from = 0;
    int32_t candidates = 0;
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        candidates += seqtopk_registry[i].op == op && fits(seqtopk_registry + i, &plan->desc) &&
                      seqtopk_isa_runs(seqtopk_registry[i].isa);
    for (int32_t i = 0; i < seqtopk_registry_size; i++) {
        const seqtopk_row *row = seqtopk_registry + i;
        if (row->op != op || row->isa != isa || !fits(row, &plan->desc))
            continue;
        const int64_t limit = seqtopk_model_limit(row, &plan->desc);
        if (limit < from)
            continue;
        decide(plan, row, why, from, candidates);
        if (limit == INT64_MAX)
            break;
        from = limit + 1;
    }
}

seqtopk_status seqtopk_plan_create(seqtopk_plan **plan, const seqtopk_desc *desc, seqtopk_error *error) {
    if (seqtopk_error_clear(error))
        return SEQTOPK_E_STRUCT;
    if (!plan)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "plan is NULL: pass the address of a seqtopk_plan pointer");
    *plan = NULL;
    seqtopk_plan made = {0};
    seqtopk_status status = seqtopk_desc_resolve(&made.desc, desc, error);
    if (status)
        return status;
    forced f = {
        .isa = given(desc->isa, "SEQTOPK_ISA"),
        .isa_from = desc->isa ? "forced by desc.isa" : "forced by SEQTOPK_ISA",
        .kernels = given(desc->kernel, "SEQTOPK_KERNEL"),
        .kernels_from = desc->kernel ? "forced by desc.kernel" : "forced by SEQTOPK_KERNEL",
    };
    status = force_isa(&f, error);
    if (!status)
        status = force_kernels(&f, &made.desc, error);
    if (status)
        return status;
    made.desc.isa = made.desc.kernel = NULL;
    const int by_token = made.desc.scope == SEQTOPK_SCOPE_TOKEN;
    made.sure = by_token ? made.desc.top_k : made.desc.min_experts;
    made.most = by_token ? made.desc.top_k : made.desc.max_experts;
    for (int op = 0; op < SEQTOPK_OPS; op++)
        choose(&made, (seqtopk_op)op, &f);
    if (!(*plan = malloc(sizeof **plan)))
        return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for a plan (%zu bytes)", sizeof **plan);
    **plan = made;
    return SEQTOPK_OK;
}

void seqtopk_plan_destroy(seqtopk_plan *plan) { free(plan); }

seqtopk_any_fn *seqtopk_plan_kernel(const seqtopk_plan *plan, seqtopk_op op, int64_t tokens) {
    seqtopk_any_fn *found = NULL;
    for (int32_t i = 0; i < plan->decisions; i++)
        if (plan->decision[i].row->op == op && plan->decision[i].tokens_from <= tokens)
            found = plan->decision[i].row->function;
    return found;
}

int64_t seqtopk_max_selected(const seqtopk_plan *plan, int64_t tokens) {
    if (!plan || tokens < 0 || tokens > INT32_MAX / plan->desc.top_k)
        return -1;
    return tokens * plan->desc.top_k;
}

int32_t seqtopk_max_per_token(const seqtopk_plan *plan) { return plan ? plan->most : 0; }

int32_t seqtopk_plan_choice_count(const seqtopk_plan *plan) { return plan ? plan->decisions : 0; }

seqtopk_status seqtopk_plan_choice(const seqtopk_plan *plan, int32_t index, seqtopk_choice *choice) {
    if (!plan || !choice)
        return SEQTOPK_E_NULL;
    if (choice->struct_size != sizeof *choice)
        return SEQTOPK_E_STRUCT;
    if (index < 0 || index >= plan->decisions)
        return SEQTOPK_E_VALUE;
    const seqtopk_decision *decision = plan->decision + index;
    choice->candidates = decision->candidates;
    choice->op = decision->row->op_name;
    choice->kernel = decision->row->name;
    choice->why = decision->why;
    choice->tokens_from = decision->tokens_from;
    return SEQTOPK_OK;
}
