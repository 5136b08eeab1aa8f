/* SPDX-License-Identifier: MIT */
#include "src/plan/decide.h"
#include "src/environment.h"
#include "src/status.h"

#include <string.h>

/* ---------------------------------------------------------------- forcing -- */

static const char *given(const char *field, const char *variable) {
    if (!field)
        return seqtopk_environment(variable);
    return *field ? field : NULL;
}

static int fits(const seqtopk_row *row, const seqtopk_desc *desc, uint32_t reach) {
    return seqtopk_row_reads(row, desc) && row->applies(desc) &&
           (row->op >= SEQTOPK_KERNEL_OPS || (reach >> row->op & 1));
}

static seqtopk_status force_isa(seqtopk_forced *f, seqtopk_error *error) {
    f->isa_index = -1;
    if (!f->isa)
        return SEQTOPK_OK;
    f->isa_index = seqtopk_isa_index(f->isa);
    if (f->isa_index < 0)
        return seqtopk_fail(error, SEQTOPK_E_ISA, -1, "%s: \"%.40s\" is no instruction set of this build", f->isa_from,
                            f->isa);
    if (!seqtopk_isa_runs(f->isa_index)) {
        char missing[SEQTOPK_ISA_MISSING];
        seqtopk_isa_missing(f->isa_index, missing);
        return seqtopk_fail(error, SEQTOPK_E_ISA, -1, "%s: this machine cannot run %s; it lacks %s", f->isa_from,
                            f->isa, missing);
    }
    return SEQTOPK_OK;
}

static const seqtopk_row *find_row(const char *name, size_t length) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (strlen(seqtopk_registry[i].name) == length && memcmp(seqtopk_registry[i].name, name, length) == 0)
            return seqtopk_registry + i;
    return NULL;
}

static seqtopk_status force_kernels(seqtopk_forced *f, const seqtopk_desc *desc, seqtopk_error *error) {
    for (const char *name = f->kernels; name && *name;) {
        const int length = (int)strcspn(name, ",");
        const seqtopk_row *row = find_row(name, (size_t)length);
        if (!row)
            return seqtopk_fail(error, SEQTOPK_E_KERNEL, -1, "%s: there is no kernel \"%.*s\"", f->kernels_from,
                                length > 80 ? 80 : length, name);
        if (!seqtopk_isa_runs(row->isa))
            return seqtopk_fail(error, SEQTOPK_E_KERNEL, -1, "%s: this machine cannot run %s", f->kernels_from,
                                row->name);
        if (!fits(row, desc, seqtopk_ways_reach(desc)))
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

/* Whether the way serves a call depends on the call as well: seqtopk_call_open checks again. */
static seqtopk_status force_way(seqtopk_forced *f, const seqtopk_desc *desc, seqtopk_error *error) {
    f->way_index = -1;
    if (!f->way)
        return SEQTOPK_OK;
    f->way_index = seqtopk_way_index(f->way);
    if (f->way_index < 0)
        return seqtopk_fail(error, SEQTOPK_E_KERNEL, -1, "%s: \"%.40s\" is no way of this library", f->way_from,
                            f->way);
    const char *why_not = seqtopk_ways_why_never(f->way_index, desc);
    if (why_not)
        return seqtopk_fail(error, SEQTOPK_E_KERNEL, -1, "%s: way %s does not serve this plan (%s)", f->way_from,
                            f->way, why_not);
    return SEQTOPK_OK;
}

seqtopk_status seqtopk_force(seqtopk_forced *f, const seqtopk_desc *desc, seqtopk_error *error) {
    *f = (seqtopk_forced){
        .isa = given(desc->isa, "SEQTOPK_ISA"),
        .isa_from = desc->isa ? "forced by desc.isa" : "forced by SEQTOPK_ISA",
        .kernels = given(desc->kernel, "SEQTOPK_KERNEL"),
        .kernels_from = desc->kernel ? "forced by desc.kernel" : "forced by SEQTOPK_KERNEL",
        .way = given(desc->way, "SEQTOPK_WAY"),
        .way_from = desc->way ? "forced by desc.way" : "forced by SEQTOPK_WAY",
    };
    seqtopk_status status = force_isa(f, error);
    if (!status)
        status = force_kernels(f, desc, error);
    return status ? status : force_way(f, desc, error);
}

/* --------------------------------------------------------------- choosing -- */

/* The rows that fit a plan and run here, by op, in the order of the registry. */
typedef struct {
    const seqtopk_row *row[seqtopk_registry_size];
    int32_t first[SEQTOPK_OPS + 1];
} usable_rows;

static void find_usable(usable_rows *usable, const seqtopk_desc *desc, uint32_t reach) {
    const seqtopk_row *found[seqtopk_registry_size];
    int32_t count = 0, next[SEQTOPK_OPS + 1] = {0};
    for (int32_t i = 0; i < seqtopk_registry_size; i++) {
        const seqtopk_row *row = seqtopk_registry + i;
        if (!fits(row, desc, reach) || !seqtopk_isa_runs(row->isa))
            continue;
        found[count++] = row;
        next[row->op + 1]++;
    }
    for (int op = 0; op < SEQTOPK_OPS; op++)
        next[op + 1] += next[op];
    memcpy(usable->first, next, sizeof next);
    for (int32_t i = 0; i < count; i++)
        usable->row[next[found[i]->op]++] = found[i];
}

/* The widest ISA that has a row for `op`: a forced one, or whatever runs; else the reference, if it has one. */
static int32_t best_isa(seqtopk_op op, const usable_rows *usable, const seqtopk_forced *f) {
    int32_t best = 0;
    for (int32_t i = usable->first[op]; i < usable->first[op + 1]; i++) {
        const int32_t isa = usable->row[i]->isa;
        if (isa > best && (f->isa_index < 0 || isa == f->isa_index))
            best = isa;
    }
    return best;
}

/* Appends a decision, unless it is none or only repeats the last one of this op. */
static void decide(seqtopk_draft *d, seqtopk_op op, seqtopk_decision decision) {
    const seqtopk_decision *last = d->decision + d->decisions - 1;
    if (!decision.row || (d->decisions > d->first[op] && last->row == decision.row && !last->line == !decision.line))
        return;
    d->decision[d->decisions++] = decision;
}

/* What the model says of an op, whatever T: the first row of the best ISA that suits the shape; no row if there is none. */
static seqtopk_decision ask_model(const seqtopk_draft *d, seqtopk_op op, const usable_rows *usable,
                                  const seqtopk_forced *f) {
    const int32_t isa = best_isa(op, usable, f);
    const char *why = op >= SEQTOPK_KERNEL_OPS ? "model: the default"
                      : f->isa_index < 0       ? "model: the widest usable ISA"
                      : isa == f->isa_index    ? f->isa_from
                                               : "the reference: the forced ISA has no kernel for this stage";
    seqtopk_decision model = {NULL, why, 0, usable->first[op + 1] - usable->first[op], 0};
    for (int32_t i = usable->first[op]; i < usable->first[op + 1] && !model.row; i++)
        if (usable->row[i]->isa == isa && seqtopk_model_suits(usable->row[i], &d->desc))
            model.row = usable->row[i];
    return model;
}

static int64_t tokens_from(const seqtopk_tuning_range *range) { return range->tokens > 1 ? range->tokens : 0; }

static void choose_op(seqtopk_draft *d, seqtopk_op op, const usable_rows *usable, const seqtopk_forced *f,
                      uint32_t reach) {
    if (f->row[op]) {
        decide(d, op, (seqtopk_decision){f->row[op], f->kernels_from, 0, 1, 0});
        return;
    }
    seqtopk_decision model = ask_model(d, op, usable, f);
    const seqtopk_tuning_line *tuned = d->tuning ? seqtopk_tuning_look_up(d->tuning, &d->desc, op) : NULL;
    const int32_t ranges = tuned ? tuned->ranges : 0;
    for (int32_t r = -1; r < ranges; r++) { /* below the first range the model chooses */
        const int32_t tuned_row = r < 0 ? -1 : tuned->range[r].row;
        const seqtopk_row *row = tuned_row < 0 ? NULL : seqtopk_registry + tuned_row;
        model.tokens_from = r < 0 ? 0 : tokens_from(tuned->range + r);
        if (r + 1 < ranges && tokens_from(tuned->range + r + 1) <= model.tokens_from)
            continue; /* for no T at all */
        if (row && seqtopk_isa_runs(row->isa) && fits(row, &d->desc, reach))
            decide(d, op, (seqtopk_decision){row, NULL, model.tokens_from, model.contenders, tuned->number});
        else
            decide(d, op, model);
    }
}

void seqtopk_decide(seqtopk_draft *d, const seqtopk_forced *f) {
    usable_rows usable;
    const uint32_t reach = seqtopk_ways_reach(&d->desc);
    find_usable(&usable, &d->desc, reach);
    d->decisions = 0;
    for (int op = 0; op < SEQTOPK_OPS; op++) {
        d->first[op] = d->decisions;
        choose_op(d, (seqtopk_op)op, &usable, f, reach);
    }
    d->first[SEQTOPK_OPS] = d->decisions;
}
