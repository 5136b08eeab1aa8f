/* SPDX-License-Identifier: MIT */
/* Cache.step: rows of one layer, routed and taken in. */
#include "bind.h"
#include "cache.h"
#include "call.h"
#include "describe.h"
#include "errors.h"
#include "work.h"

#define NAME(name) #name,
#define STEP_NAMES(X) X(layer) X(logits) X(sequences) X(positions) X(take) SEQTOPK_PY_DATA_NAMES(X)

enum {
#define PLACE(name) STEP_##name,
    STEP_NAMES(PLACE)
#undef PLACE
        STEP_COUNT
};

static const char *const step_names[] = {STEP_NAMES(NAME)};
static PyObject *step_interned[STEP_COUNT];
static const seqtopk_py_signature step_signature = {"step", step_names, STEP_COUNT, 4, step_interned};

int seqtopk_py_step_ready(void) { return seqtopk_py_intern(&step_signature); }

static int check_logits(const seqtopk_py_cache *c, const seqtopk_py_call *call) {
    const seqtopk_desc *desc = &c->plan->desc;
    if (call->logits.shape[1] != desc->experts) {
        PyErr_Format(PyExc_ValueError, "logits have %lld experts, and the cache was made for %d",
                     (long long)call->logits.shape[1], (int)desc->experts);
        return -1;
    }
    if ((int)call->logits.type != (int)desc->dtype) {
        PyErr_Format(PyExc_TypeError, "logits are %s, and the cache was made with dtype='%s'",
                     seqtopk_py_dtypes[call->logits.type], seqtopk_py_dtypes[desc->dtype]);
        return -1;
    }
    return 0;
}

typedef struct whose {
    seqtopk_py_array sequences, positions;
    seqtopk_cache_rows rows;
} whose;

static int read_whose(PyObject *const *values, int64_t tokens, whose *w) {
    static const char *const takes[] = {"causal", "joint"};
    int64_t layer = 0;
    int take = 0;
    w->rows = (seqtopk_cache_rows)SEQTOPK_CACHE_ROWS_INIT;
    if (!values[STEP_layer]) {
        PyErr_SetString(PyExc_TypeError, "layer is missing: the number of the layer, from 0");
        return -1;
    }
    if (seqtopk_py_int(values[STEP_layer], "layer", INT32_MIN, INT32_MAX, &layer) < 0 ||
        (values[STEP_take] && seqtopk_py_word(values[STEP_take], "take", takes, 2, &take) < 0) ||
        (values[STEP_sequences] &&
         seqtopk_py_array_open_as(&w->sequences, values[STEP_sequences], "sequences", SEQTOPK_PY_I32, 1, tokens) < 0) ||
        (values[STEP_positions] &&
         seqtopk_py_array_open_as(&w->positions, values[STEP_positions], "positions", SEQTOPK_PY_I64, 1, tokens) < 0))
        return -1;
    w->rows.layer = (int32_t)layer;
    w->rows.take = (seqtopk_take)take;
    w->rows.sequences = w->sequences.data;
    w->rows.positions = w->positions.data;
    return 0;
}

static seqtopk_status run(seqtopk_py_cache *c, const whose *w, const seqtopk_py_call *call, void *scratch, size_t size,
                          const seqtopk_parallel *parallel, seqtopk_error *error) {
    if (parallel)
        return seqtopk_cache_step_parallel(c->cache, &w->rows, &call->input, &call->output, scratch, size, parallel,
                                           error);
    return seqtopk_cache_step(c->cache, &w->rows, &call->input, &call->output, scratch, size, error);
}

static PyObject *step(seqtopk_py_cache *c, const whose *w, seqtopk_py_call *call) {
    seqtopk_py_routing *routing =
        seqtopk_py_routing_make(c->plan->plan, call->input.tokens, c->plan->desc.experts, &call->wish, &call->output);
    if (!routing)
        return NULL;
    int is_long = seqtopk_py_call_is_long(call);
    seqtopk_py_cache_enter(c);
    seqtopk_parallel parallel;
    int is_shared = is_long && seqtopk_py_borrow_threads(&parallel);
    size_t size = seqtopk_cache_scratch_size(c->cache, call->input.tokens, is_shared ? parallel.threads : 1);
    void *scratch = seqtopk_py_scratch(size);
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_status status = SEQTOPK_OK;
    const seqtopk_parallel *lent = is_shared ? &parallel : NULL;
    if (scratch && is_long) {
        Py_BEGIN_ALLOW_THREADS;
        status = run(c, w, call, scratch, size, lent, &error);
        Py_END_ALLOW_THREADS;
    } else if (scratch) {
        status = run(c, w, call, scratch, size, lent, &error);
    }
    if (is_shared)
        seqtopk_py_return_threads();
    PyThread_release_lock(c->lock);
    if (scratch && status == SEQTOPK_OK)
        return (PyObject *)routing;
    Py_DECREF(routing);
    return scratch ? seqtopk_py_raise(status, &error) : NULL;
}

PyObject *seqtopk_py_step(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    seqtopk_py_cache *c = (seqtopk_py_cache *)self;
    PyObject *values[STEP_COUNT], *routing = NULL;
    seqtopk_py_call call;
    if (seqtopk_py_bind(&step_signature, args, n, names, values) < 0 ||
        seqtopk_py_call_open(&call, values[STEP_logits]) < 0)
        return NULL;
    whose w = {0};
    if (check_logits(c, &call) == 0 && seqtopk_py_call_read(&call, values + STEP_token_mask) == 0 &&
        read_whose(values, call.input.tokens, &w) == 0)
        routing = step(c, &w, &call);
    seqtopk_py_array_close(&w.sequences);
    seqtopk_py_array_close(&w.positions);
    seqtopk_py_call_close(&call);
    return routing;
}

const char seqtopk_py_step_doc[] =
    "step(layer, logits, sequences=None, positions=None, *, take='causal', token_mask=None, bias=None,\n"
    "     expert_factors=None, on_nonfinite='error', want='tokens', padding='minus_one', width=None,\n"
    "     block_size=None)\n--\n\n"
    "Route the rows of one layer and take them into the cache.\n\n"
    "logits: [T, E] of the cache's dtype. sequences: [T] whose each row is; None: all sequence 0's. positions: [T]\n"
    "each token's place in its sequence; its length: appended; less: the sequence is truncated there first; more: an\n"
    "error. take: 'causal', as if rows came one by one, or 'joint'. A masked token takes a place and no more. The "
    "rest\n"
    "is route()'s. Returns a Routing. An error changes nothing.";
