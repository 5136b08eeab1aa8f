/* SPDX-License-Identifier: MIT */
#include "tune/contenders.h"

#include "src/plan/plan.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const seqtopk_row *row_named(const char *name) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (strcmp(seqtopk_registry[i].name, name) == 0)
            return seqtopk_registry + i;
    return NULL;
}

static void read_config(seqtopk_tune_config *config, const seqtopk_plan *plan, int64_t tokens) {
    seqtopk_choice choice = SEQTOPK_CHOICE_INIT;
    memset(config, 0, sizeof *config);
    for (int32_t i = 0; seqtopk_plan_choice(plan, i, &choice) == SEQTOPK_OK; i++) {
        const seqtopk_row *row = row_named(choice.kernel);
        if (choice.tokens_from <= tokens)
            config->row[row->op] = row;
    }
}

static seqtopk_status config_of(seqtopk_tune_config *config, seqtopk_desc desc, const char *isa, int64_t tokens,
                                seqtopk_error *error) {
    seqtopk_plan *plan;
    desc.isa = isa;
    desc.kernel = NULL;
    if (isa)
        desc.tuning = seqtopk_tuning_none();
    desc.tokens = tokens;
    const seqtopk_status status = seqtopk_plan_create(&plan, &desc, error);
    if (status == SEQTOPK_OK) {
        read_config(config, plan, tokens);
        seqtopk_plan_destroy(plan);
    }
    return status;
}

seqtopk_status seqtopk_tune_config_default(seqtopk_tune_config *config, const seqtopk_desc *desc, int64_t tokens,
                                           seqtopk_error *error) {
    return config_of(config, *desc, NULL, tokens, error);
}

seqtopk_status seqtopk_tune_config_reference(seqtopk_tune_config *config, const seqtopk_desc *desc,
                                             seqtopk_error *error) {
    return config_of(config, *desc, seqtopk_isa_name(0), desc->tokens, error);
}

seqtopk_status seqtopk_tune_config_plan(const seqtopk_tune_config *config, const seqtopk_desc *desc,
                                        seqtopk_plan **plan, seqtopk_error *error) {
    char names[SEQTOPK_OPS * 96];
    size_t at = 0;
    for (int op = 0; op < SEQTOPK_OPS; op++)
        if (config->row[op] && at < sizeof names)
            at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", at ? "," : "", config->row[op]->name);
    seqtopk_desc forced = *desc;
    forced.isa = NULL;
    forced.kernel = names;
    forced.tuning = seqtopk_tuning_none();
    return seqtopk_plan_create(plan, &forced, error);
}

/* The library itself is asked, so that no rule of its is written twice. */
const char *seqtopk_tune_why_not(const seqtopk_desc *desc, const seqtopk_row *row, char why[SEQTOPK_TUNE_WHY]) {
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_desc forced = *desc;
    seqtopk_plan *plan;
    forced.isa = NULL;
    forced.kernel = row->name;
    forced.tuning = seqtopk_tuning_none();
    if (seqtopk_plan_create(&plan, &forced, &error) == SEQTOPK_OK) {
        seqtopk_plan_destroy(plan);
        return NULL;
    }
    snprintf(why, SEQTOPK_TUNE_WHY, "%s",
             !seqtopk_isa_runs(row->isa)        ? "this machine cannot run it"
             : error.status == SEQTOPK_E_KERNEL ? "it does not apply to this plan"
                                                : error.message);
    return why;
}

int32_t seqtopk_tune_contenders(const seqtopk_desc *desc, seqtopk_op op, const seqtopk_row **rows, int32_t most) {
    int32_t count = 0;
    char why[SEQTOPK_TUNE_WHY];
    for (int32_t i = 0; i < seqtopk_registry_size && count < most; i++) {
        const seqtopk_row *row = seqtopk_registry + i;
        if (row->op == op && seqtopk_isa_runs(row->isa) && !seqtopk_tune_why_not(desc, row, why))
            rows[count++] = row;
    }
    return count;
}

/* ----------------------------------------------------------------- reach -- */

/*
 * Kernels that, instead of working, leave the call and tell who they were. The contract of a route makes that safe: it
 * holds nothing that would have to be given back. They look at no argument, so that one function stands for every type
 * of kernel.
 */
static jmp_buf trapped;
#define TRAP(n)                                                                                                        \
    static void trap##n(void) { longjmp(trapped, n + 1); }
#define EACH(X)                                                                                                        \
    X(0)                                                                                                               \
    X(1)                                                                                                               \
    X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21)    \
        X(22) X(23)
EACH(TRAP)
#define NAME(n) trap##n,
static seqtopk_any_fn *const traps[] = {EACH(NAME)};
_Static_assert(SEQTOPK_OPS <= sizeof traps / sizeof *traps, "a trap for each op");

/* A plan's ops, all trapped but those known to be reached. */
static void set_traps(seqtopk_plan *copy, const seqtopk_plan *plan, seqtopk_row *rows, const bool *reached) {
    for (int op = 0; op < SEQTOPK_OPS; op++)
        for (int32_t i = plan->first[op]; i < plan->first[op + 1]; i++) {
            rows[i] = *plan->decision[i].row;
            rows[i].function = reached[op] ? rows[i].function : traps[op];
            copy->decision[i].row = rows + i;
        }
    seqtopk_plan_gather(copy);
}

void seqtopk_tune_reached(const seqtopk_plan *plan, seqtopk_tune_route_fn *route, void *context,
                          bool reached[SEQTOPK_OPS]) {
    const size_t decisions = (size_t)plan->first[SEQTOPK_OPS];
    const size_t size = sizeof *plan + decisions * sizeof *plan->decision;
    seqtopk_plan *copy = malloc(size);
    seqtopk_row *rows = malloc(decisions * sizeof *rows);
    seqtopk_kernels *kernels = malloc((size_t)plan->ranges * sizeof *kernels);
    memset(reached, 0, SEQTOPK_OPS * sizeof *reached);
    if (copy && rows && kernels) {
        memcpy(copy, plan, size);
        memcpy(kernels, plan->kernels, (size_t)plan->ranges * sizeof *kernels);
        copy->kernels = kernels;
        const int by = setjmp(trapped);
        if (by > 0)
            reached[by - 1] = true;
        set_traps(copy, plan, rows, reached);
        route(context, copy); /* comes back here only when it met no trap */
    }
    free(kernels);
    free(rows);
    free(copy);
}
