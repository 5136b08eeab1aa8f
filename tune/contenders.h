/* SPDX-License-Identifier: MIT */
/* Which kernels can serve, and plans that take a certain one for each op. All of it follows from the registry. */
#ifndef SEQTOPK_TUNE_CONTENDERS_H
#define SEQTOPK_TUNE_CONTENDERS_H

#include "src/plan/ways.h"

#include <stdbool.h>

/* A row for each op; NULL where none is reached or compiled in. */
typedef struct seqtopk_tune_config {
    const char *isa; /* that is forced; NULL: none */
    const seqtopk_row *row[SEQTOPK_OPS];
} seqtopk_tune_config;

/* What a plan takes for calls of so many tokens, by desc->tuning. */
seqtopk_status seqtopk_tune_config_default(seqtopk_tune_config *config, const seqtopk_desc *desc, int64_t tokens,
                                           seqtopk_error *error);

/* The reference's kernel of each op. */
seqtopk_status seqtopk_tune_config_reference(seqtopk_tune_config *config, const seqtopk_desc *desc,
                                             seqtopk_error *error);

/* A plan in which every op is forced. */
seqtopk_status seqtopk_tune_config_plan(const seqtopk_tune_config *config, const seqtopk_desc *desc,
                                        seqtopk_plan **plan, seqtopk_error *error);

/* The rows that a plan of `desc` may take for an op on this machine, into rows [most]; returns how many. */
int32_t seqtopk_tune_contenders(const seqtopk_desc *desc, seqtopk_op op, const seqtopk_row **rows, int32_t most);

/* Why a row cannot serve a plan of `desc` here, in words that live in `why`; NULL: it can. */
enum { SEQTOPK_TUNE_WHY = 256 };
const char *seqtopk_tune_why_not(const seqtopk_desc *desc, const seqtopk_row *row, char why[SEQTOPK_TUNE_WHY]);

/* What a call reaches that went a certain way (seqtopk_output.ways): the kernels and sizes worth timing. */
void seqtopk_tune_reached(const seqtopk_desc *desc, int32_t way, bool by_expert, int32_t threads,
                          bool reached[SEQTOPK_OPS]);

#endif
