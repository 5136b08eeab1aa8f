/* SPDX-License-Identifier: MIT */
/* seqtopk.Routing: the lists of one call, in one piece of memory with the object, and shown as arrays when asked for. */
#ifndef SEQTOPK_PYTHON_LISTS_H
#define SEQTOPK_PYTHON_LISTS_H

#include "array.h"
#include "python.h"

/*
 * LIST(name, type, shape, of which part of the results): the fields of seqtopk_output. Shapes: T tokens, T1 tokens + 1, S
 * sequences, N pairs, E1 experts + 1, TU rows of the padded width, TE rows of all experts, B slots of blocks, BB blocks.
 */
#define SEQTOPK_PY_LISTS(LIST)                                                                                         \
    LIST(token_offsets, I32, T1, TOKENS)                                                                               \
    LIST(expert_ids, I32, N, TOKENS)                                                                                   \
    LIST(weights, F32, N, TOKENS)                                                                                      \
    LIST(expert_offsets, I32, E1, EXPERTS)                                                                             \
    LIST(expert_tokens, I32, N, EXPERTS)                                                                               \
    LIST(expert_slots, I32, N, EXPERTS)                                                                                \
    LIST(padded_ids, I32, TU, PADDED)                                                                                  \
    LIST(padded_ids64, I64, TU, PADDED64)                                                                              \
    LIST(padded_weights, F32, TU, PADDED_ANY)                                                                          \
    LIST(pair_tokens, I32, N, PAIRS)                                                                                   \
    LIST(pair_places, I32, N, PAIRS)                                                                                   \
    LIST(routing_map, BOOL, TE, DENSE)                                                                                 \
    LIST(routing_probs, F32, TE, DENSE)                                                                                \
    LIST(row_lse, F32, T, LSE)                                                                                         \
    LIST(sequence_margins, F32, S, MARGINS)                                                                            \
    LIST(block_slots, I32, B, BLOCKS)                                                                                  \
    LIST(block_experts, I32, BB, BLOCKS)

/* What `want` names, as bits. Lists by token always come. */
enum {
    SEQTOPK_PY_WANT_TOKENS = 1,
    SEQTOPK_PY_WANT_EXPERTS = 2,
    SEQTOPK_PY_WANT_PADDED = 4,
    SEQTOPK_PY_WANT_PADDED64 = 8,
    SEQTOPK_PY_WANT_PADDED_ANY = SEQTOPK_PY_WANT_PADDED | SEQTOPK_PY_WANT_PADDED64,
    SEQTOPK_PY_WANT_PAIRS = 16,
    SEQTOPK_PY_WANT_DENSE = 32,
    SEQTOPK_PY_WANT_LSE = 64,
    SEQTOPK_PY_WANT_MARGINS = 128,
    SEQTOPK_PY_WANT_BLOCKS = 256
};

enum {
#define SEQTOPK_PY_LIST(name, type, shape, part) SEQTOPK_PY_LIST_##name,
    SEQTOPK_PY_LISTS(SEQTOPK_PY_LIST)
#undef SEQTOPK_PY_LIST
        SEQTOPK_PY_LIST_COUNT
};

typedef struct seqtopk_py_wish {
    unsigned want;
    seqtopk_padding padding;
    int32_t width;      /* 0: what a token may get */
    int32_t block_size; /* with WANT_BLOCKS */
    int is_torch;       /* arrays are tensors */
    int64_t sequences;  /* with WANT_MARGINS */
    int is_shared;      /* tokens may be given more pairs than they bring: a rank's of a team */
} seqtopk_py_wish;

typedef struct seqtopk_py_routing {
    PyObject_VAR_HEAD int64_t tokens, sequences, selected;
    int64_t nonfinite[2];
    int32_t experts, width, block_size, block_total;
    int32_t is_torch;
    unsigned want;
    size_t at[SEQTOPK_PY_LIST_COUNT]; /* bytes from `data` on */
    _Alignas(16) char data[];
} seqtopk_py_routing;

extern PyTypeObject seqtopk_py_routing_type;

/* An object with room for what is wished, and the output that writes into it. NULL with an exception set. */
seqtopk_py_routing *seqtopk_py_routing_make(const seqtopk_plan *plan, int64_t tokens, int32_t experts,
                                            const seqtopk_py_wish *wish, seqtopk_output *output);

#endif
