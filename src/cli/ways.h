/* SPDX-License-Identifier: MIT */
/* Which ways from logits to lists serve a plan, and which were taken. */
#ifndef SEQTOPK_CLI_WAYS_H
#define SEQTOPK_CLI_WAYS_H

#include "json.h"

#include <seqtopk/seqtopk.h>

/* Every way for a sequence of so many tokens, in the order of preference: that which it is sent, why others do not serve. */
void seqtopk_cli_ways_text(const seqtopk_plan *plan, int64_t tokens, int32_t is_biased);
void seqtopk_cli_ways_json(seqtopk_json *json, const seqtopk_plan *plan, int64_t tokens, int32_t is_biased);

/* The ways that the sequences of a call went, and why some fell back: ways, fallbacks [sequences] of its output. */
void seqtopk_cli_taken_text(const int32_t *ways, const int32_t *fallbacks, int64_t sequences);
void seqtopk_cli_taken_json(seqtopk_json *json, const int32_t *ways, const int32_t *fallbacks, int64_t sequences);

#endif
