/* SPDX-License-Identifier: MIT */
/* What decoding a file token by token came to: what `seqtopk decode` reports and draws. */
#ifndef SEQTOPK_CLI_TRACE_H
#define SEQTOPK_CLI_TRACE_H

#include "inputs.h"
#include "model.h"
#include "save.h"

#include <seqtopk/seqtopk.h>

typedef struct seqtopk_cli_trace {
    const char *path, *directory, *plot; /* the last two may be NULL */
    const seqtopk_cli_model *model;
    const seqtopk_cli_inputs *inputs;
    const seqtopk_desc *desc;
    const seqtopk_cli_lists *lists;
    const float *ns; /* [tokens]: of each step, the least of `runs` */
    int32_t runs;
    int32_t most;     /* that a token may get */
    int64_t joint;    /* tokens of each sequence that were taken jointly at its beginning */
    const char *mode; /* "exact", "compact", "threshold" */
    int is_ledger;
    seqtopk_cache_stats stats;
    double from_offline, from_topk; /* share of the pairs that those do not have */
    double offline_from_topk;
} seqtopk_cli_trace;

/* A range of tokens of all sequences by their places in them. */
typedef struct seqtopk_cli_range {
    int64_t first, last; /* places, both included */
    int64_t tokens;      /* unmasked ones there */
    double experts;      /* of a token, on average */
    int32_t least, most;
    double median, slowest; /* ns of a step */
} seqtopk_cli_range;

/* The trace in at most SEQTOPK_CLI_RANGES ranges of one width; returns how many. `work` [tokens]. */
enum { SEQTOPK_CLI_RANGES = 16 };
int32_t seqtopk_cli_trace_ranges(const seqtopk_cli_trace *trace, float *work, seqtopk_cli_range *ranges);

/* Both return the exit status. */
int seqtopk_cli_trace_print(const seqtopk_cli_trace *trace, int json);
int seqtopk_cli_trace_plot(const seqtopk_cli_trace *trace, const char *path);

#endif
