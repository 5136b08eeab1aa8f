/* SPDX-License-Identifier: MIT */
#include "tune/contenders.h"

#include "src/plan/plan.h"

#include <stdio.h>
#include <string.h>

static const seqtopk_row *row_named(const char *name) {
    for (int32_t i = 0; i < seqtopk_registry_size; i++)
        if (strcmp(seqtopk_registry[i].name, name) == 0)
            return seqtopk_registry + i;
    return NULL;
}

static void read_config(seqtopk_tune_config *config, const seqtopk_plan *plan, int64_t tokens) {
    seqtopk_choice choice = SEQTOPK_CHOICE_INIT;
    *config = (seqtopk_tune_config){.isa = config->isa};
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
    const seqtopk_status status = seqtopk_plan_create(&plan, &desc, error);
    config->isa = isa;
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
    forced.isa = config->isa;
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

void seqtopk_tune_reached(const seqtopk_desc *desc, int32_t way, bool by_expert, int32_t threads,
                          bool reached[SEQTOPK_OPS]) {
    const bool is_sweep =
        way == SEQTOPK_WAY_sweep_logits || way == SEQTOPK_WAY_sweep_scores || way == SEQTOPK_WAY_sweep_keys;
    for (int op = 0; op < SEQTOPK_KERNEL_OPS; op++)
        reached[op] = seqtopk_ways[way].kernels >> op & 1;
    reached[SEQTOPK_OP_mask_groups] = seqtopk_loses_groups(desc);
    reached[SEQTOPK_OP_histogram] = reached[SEQTOPK_OP_offset_experts] = reached[SEQTOPK_OP_scatter] = by_expert;
    reached[SEQTOPK_OP_sample] = is_sweep;
    reached[SEQTOPK_OP_block] = way != SEQTOPK_WAY_topk_logits; /* it decides what is short, too */
    reached[SEQTOPK_OP_ahead] = true;
    reached[SEQTOPK_OP_share] = threads > 1;
}
