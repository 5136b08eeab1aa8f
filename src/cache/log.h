/* SPDX-License-Identifier: MIT */
/* The keys of the past, token by token: exact, and too long to be read at every step. */
#ifndef SEQTOPK_SRC_CACHE_LOG_H
#define SEQTOPK_SRC_CACHE_LOG_H

#include "src/cache/shelf.h"
#include "src/plan/plan.h"

typedef struct seqtopk_log {
    seqtopk_shelf tokens; /* of seqtopk_token_note and `width` keys each */
    int32_t width;        /* keys of a token that compete: max_experts - min_experts */
    const seqtopk_kernels *kernels;
} seqtopk_log;

typedef struct seqtopk_token_note {
    uint32_t
        sure; /* how many experts the token has whatever the others have; SEQTOPK_NOTE_MASKED: it brought no budget */
    uint32_t given;   /* how many it got */
} seqtopk_token_note; /* then float keys[width], best first, -inf behind the last */
#define SEQTOPK_NOTE_MASKED UINT32_MAX

static inline const float *seqtopk_note_keys(const seqtopk_token_note *note) { return (const float *)(note + 1); }

/* The note of a token, and of how many from there on they stand behind one another. */
static inline const seqtopk_token_note *seqtopk_log_at(const seqtopk_log *log, int64_t token, int64_t *count) {
    return seqtopk_shelf_at(&log->tokens, token, count);
}

#endif
