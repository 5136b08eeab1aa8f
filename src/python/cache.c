/* SPDX-License-Identifier: MIT */
/*
 * seqtopk.Cache: SeqTopK while sequences grow. A lock lets one call at a time in, since a long step lets go of the GIL: what
 * the C API leaves to the caller, that two threads do not write to one layer, is not to be left to Python's.
 */
#include "cache.h"
#include "bind.h"
#include "call.h"
#include "describe.h"
#include "errors.h"
#include "plans.h"
#include "work.h"

#include <stddef.h>

typedef struct cache {
    PyObject_HEAD seqtopk_cache *cache;
    seqtopk_py_plan *plan;
    PyThread_type_lock lock;
    int32_t layers, sequences;
} cache;

static void enter(cache *c) {
    if (PyThread_acquire_lock(c->lock, NOWAIT_LOCK) == PY_LOCK_ACQUIRED)
        return;
    Py_BEGIN_ALLOW_THREADS;
    PyThread_acquire_lock(c->lock, WAIT_LOCK);
    Py_END_ALLOW_THREADS;
}

/* What a call returns: None, or the exception that a status is. */
static PyObject *leave(cache *c, seqtopk_status status, const seqtopk_error *error) {
    PyThread_release_lock(c->lock);
    if (status != SEQTOPK_OK)
        return seqtopk_py_raise(status, error);
    return Py_NewRef(Py_None);
}

/* -- making ---------------------------------------------------------------------------------------------------------- */

#define MAKE_NAMES(X)                                                                                                  \
    X(layers)                                                                                                          \
    X(sequences)                                                                                                       \
    X(experts)                                                                                                         \
    SEQTOPK_PY_DESC_NAMES(X) X(dtype) X(mode) X(max_tokens) X(max_bytes) X(threshold) X(is_ledger) X(rollback)

enum {
#define PLACE(name) MAKE_##name,
    MAKE_NAMES(PLACE)
#undef PLACE
        MAKE_COUNT
};

#define NAME(name) #name,
static const char *const make_names[] = {MAKE_NAMES(NAME)};
static PyObject *make_interned[MAKE_COUNT];
static const seqtopk_py_signature make_signature = {"Cache", make_names, MAKE_COUNT, 2, make_interned};

static int read_number(PyObject *const *values, int place, int64_t high, int64_t *out) {
    return values[place] ? seqtopk_py_int(values[place], make_names[place], 0, high, out) : 0;
}

static int read_cache_desc(PyObject *const *values, seqtopk_cache_desc *desc) {
    static const char *const modes[] = {"exact", "threshold", "compact"};
    int64_t layers = 1, sequences = 1, is_ledger = 0, rollback = 0;
    int mode = 0;
    *desc = (seqtopk_cache_desc)SEQTOPK_CACHE_DESC_INIT;
    if (read_number(values, MAKE_layers, INT32_MAX, &layers) < 0 ||
        read_number(values, MAKE_sequences, INT32_MAX, &sequences) < 0 ||
        read_number(values, MAKE_max_tokens, INT32_MAX, &desc->max_tokens) < 0 ||
        read_number(values, MAKE_max_bytes, INT64_MAX, &desc->max_bytes) < 0 ||
        read_number(values, MAKE_is_ledger, 1, &is_ledger) < 0 ||
        read_number(values, MAKE_rollback, INT32_MAX, &rollback) < 0 ||
        (values[MAKE_mode] && seqtopk_py_word(values[MAKE_mode], "mode", modes, 3, &mode) < 0) ||
        (values[MAKE_threshold] && seqtopk_py_float(values[MAKE_threshold], "threshold", &desc->threshold) < 0))
        return -1;
    desc->layers = (int32_t)layers;
    desc->sequences = (int32_t)sequences;
    desc->is_ledger = (int32_t)is_ledger;
    desc->rollback = (int32_t)rollback;
    desc->mode = mode == 0 ? SEQTOPK_CACHE_EXACT : mode == 1 ? SEQTOPK_CACHE_THRESHOLD : SEQTOPK_CACHE_COMPACT;
    return 0;
}

static int read_plan(PyObject *const *values, seqtopk_desc *desc) {
    int64_t experts = 0;
    int dtype = 0;
    if (!values[MAKE_experts] && !values[MAKE_preset]) {
        PyErr_SetString(PyExc_TypeError, "experts is missing: how many the logits have (or name a preset)");
        return -1;
    }
    if ((values[MAKE_experts] && seqtopk_py_int(values[MAKE_experts], "experts", 1, 65536, &experts) < 0) ||
        seqtopk_py_describe(values + MAKE_k, experts, desc) < 0 ||
        (values[MAKE_dtype] && seqtopk_py_word(values[MAKE_dtype], "dtype", seqtopk_py_dtypes, 3, &dtype) < 0))
        return -1;
    desc->dtype = (seqtopk_dtype)dtype;
    if (!values[MAKE_scope])
        desc->scope = SEQTOPK_SCOPE_ONLINE;
    return 0;
}

static int fill(cache *c, PyObject *const *values) {
    seqtopk_desc desc;
    seqtopk_cache_desc cache_desc;
    if (read_plan(values, &desc) < 0 || read_cache_desc(values, &cache_desc) < 0)
        return -1;
    c->lock = PyThread_allocate_lock();
    if (!c->lock) {
        PyErr_NoMemory();
        return -1;
    }
    c->plan = seqtopk_py_plan_get(&desc);
    if (!c->plan)
        return -1;
    cache_desc.plan = c->plan->plan;
    c->layers = cache_desc.layers;
    c->sequences = cache_desc.sequences;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_status status = seqtopk_cache_create(&c->cache, &cache_desc, &error);
    if (status == SEQTOPK_OK)
        return 0;
    seqtopk_py_raise(status, &error);
    return -1;
}

static PyObject *make(PyObject *type, PyObject *const *args, size_t flags, PyObject *names) {
    PyObject *values[MAKE_COUNT];
    if (seqtopk_py_bind(&make_signature, args, PyVectorcall_NARGS(flags), names, values) < 0)
        return NULL;
    cache *c = (cache *)((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
    if (c && fill(c, values) < 0)
        Py_CLEAR(c);
    return (PyObject *)c;
}

static void end(PyObject *self) {
    cache *c = (cache *)self;
    seqtopk_cache_destroy(c->cache);
    seqtopk_py_plan_drop(c->plan);
    if (c->lock)
        PyThread_free_lock(c->lock);
    Py_TYPE(self)->tp_free(self);
}

/* -- steps ----------------------------------------------------------------------------------------------------------- */

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

int seqtopk_py_cache_ready(void) {
    return seqtopk_py_intern(&make_signature) < 0 ? -1 : seqtopk_py_intern(&step_signature);
}

static int check_logits(const cache *c, const seqtopk_py_call *call) {
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

static seqtopk_status run(cache *c, const whose *w, const seqtopk_py_call *call, void *scratch, size_t size,
                          const seqtopk_parallel *parallel, seqtopk_error *error) {
    if (parallel)
        return seqtopk_cache_step_parallel(c->cache, &w->rows, &call->input, &call->output, scratch, size, parallel,
                                           error);
    return seqtopk_cache_step(c->cache, &w->rows, &call->input, &call->output, scratch, size, error);
}

static PyObject *step(cache *c, const whose *w, seqtopk_py_call *call) {
    seqtopk_py_routing *routing =
        seqtopk_py_routing_make(c->plan->plan, call->input.tokens, c->plan->desc.experts, &call->wish, &call->output);
    if (!routing)
        return NULL;
    int is_long = seqtopk_py_call_is_long(call);
    enter(c);
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

static PyObject *step_method(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    cache *c = (cache *)self;
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

/* -- the life of sequences ------------------------------------------------------------------------------------------- */

/* Integers by place, the last `optional` of which may be missing and keep what they are set to. */
static int numbers(const char *function, const char *const *names, int64_t *values, int count, int optional,
                   PyObject *const *args, Py_ssize_t n) {
    if (n < count - optional || n > count) {
        PyErr_Format(PyExc_TypeError, "%s() takes %d to %d arguments, and got %zd", function, count - optional, count,
                     n);
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (seqtopk_py_int(args[i], names[i], INT32_MIN, INT32_MAX, &values[i]) < 0)
            return -1;
    return 0;
}

static PyObject *length(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"sequence", "layer"};
    cache *c = (cache *)self;
    int64_t v[] = {0, 0};
    if (numbers("length", names, v, 2, 2, args, n) < 0)
        return NULL;
    enter(c);
    int64_t tokens = seqtopk_cache_length(c->cache, (int32_t)v[1], (int32_t)v[0]);
    PyThread_release_lock(c->lock);
    if (tokens < 0)
        return PyErr_Format(PyExc_ValueError, "sequence is %lld of %d, layer %lld of %d", (long long)v[0],
                            (int)c->sequences, (long long)v[1], (int)c->layers);
    return PyLong_FromLongLong(tokens);
}

static PyObject *truncate_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"sequence", "tokens"};
    cache *c = (cache *)self;
    int64_t v[2];
    if (numbers("truncate", names, v, 2, 0, args, n) < 0)
        return NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    enter(c);
    return leave(c, seqtopk_cache_truncate(c->cache, (int32_t)v[0], v[1], &error), &error);
}

static PyObject *remove_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"sequence", "start", "stop"};
    cache *c = (cache *)self;
    int64_t v[3];
    if (numbers("remove", names, v, 3, 0, args, n) < 0)
        return NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    enter(c);
    return leave(c, seqtopk_cache_remove(c->cache, (int32_t)v[0], v[1], v[2], &error), &error);
}

static PyObject *copy_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"to", "source", "tokens"};
    cache *c = (cache *)self;
    int64_t v[] = {0, 0, -1};
    if (numbers("copy", names, v, 3, 1, args, n) < 0)
        return NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    enter(c);
    return leave(c, seqtopk_cache_copy(c->cache, (int32_t)v[0], (int32_t)v[1], v[2], &error), &error);
}

static PyObject *clear_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"sequence"};
    cache *c = (cache *)self;
    int64_t v[] = {-1};
    if (numbers("clear", names, v, 1, 1, args, n) < 0)
        return NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    enter(c);
    return leave(c, seqtopk_cache_clear(c->cache, (int32_t)v[0], &error), &error);
}

static PyObject *keep_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"sequence"};
    cache *c = (cache *)self;
    int64_t v[1];
    if (numbers("keep", names, v, 1, 0, args, n) < 0)
        return NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    enter(c);
    return leave(c, seqtopk_cache_keep(c->cache, (int32_t)v[0], &error), &error);
}

static PyObject *reorder_method(PyObject *self, PyObject *parents) {
    cache *c = (cache *)self;
    seqtopk_py_array array;
    if (seqtopk_py_array_open_as(&array, parents, "parents", SEQTOPK_PY_I32, 1, -1) < 0)
        return NULL;
    if (array.shape[0] > c->sequences) {
        PyErr_Format(PyExc_ValueError, "parents: %lld of them, and the cache has %d sequences",
                     (long long)array.shape[0], (int)c->sequences);
        seqtopk_py_array_close(&array);
        return NULL;
    }
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    enter(c);
    seqtopk_status status = seqtopk_cache_reorder(c->cache, array.data, (int32_t)array.shape[0], &error);
    seqtopk_py_array_close(&array);
    return leave(c, status, &error);
}

static PyObject *save_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"sequence", "start", "stop"};
    cache *c = (cache *)self;
    int64_t v[3];
    if (numbers("save", names, v, 3, 0, args, n) < 0)
        return NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_status status = SEQTOPK_OK;
    enter(c);
    size_t size = seqtopk_cache_save_size(c->cache, (int32_t)v[0], v[1], v[2]);
    PyObject *blob = size ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size) : NULL;
    if (blob)
        status = seqtopk_cache_save(c->cache, (int32_t)v[0], v[1], v[2], PyBytes_AS_STRING(blob), size, &error);
    PyThread_release_lock(c->lock);
    if (!size)
        return PyErr_Format(PyExc_ValueError,
                            "save: no layer may have fewer than the tokens [%lld, %lld) of sequence %lld",
                            (long long)v[1], (long long)v[2], (long long)v[0]);
    if (status == SEQTOPK_OK)
        return blob;
    Py_DECREF(blob);
    return seqtopk_py_raise(status, &error);
}

static PyObject *load_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    cache *c = (cache *)self;
    int64_t v[1];
    Py_buffer blob;
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "load() takes 2 arguments, sequence and blob, and got %zd", n);
    if (seqtopk_py_int(args[0], "sequence", INT32_MIN, INT32_MAX, &v[0]) < 0 ||
        PyObject_GetBuffer(args[1], &blob, PyBUF_SIMPLE) < 0)
        return NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    enter(c);
    seqtopk_status status = seqtopk_cache_load(c->cache, (int32_t)v[0], blob.buf, (size_t)blob.len, &error);
    PyBuffer_Release(&blob);
    return leave(c, status, &error);
}

static PyObject *stats_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"layer", "sequence"};
    cache *c = (cache *)self;
    int64_t v[] = {-1, -1};
    if (numbers("stats", names, v, 2, 2, args, n) < 0)
        return NULL;
    seqtopk_cache_stats s = SEQTOPK_CACHE_STATS_INIT;
    enter(c);
    seqtopk_status status = seqtopk_cache_get_stats(c->cache, (int32_t)v[0], (int32_t)v[1], &s);
    PyThread_release_lock(c->lock);
    if (status != SEQTOPK_OK)
        return PyErr_Format(PyExc_ValueError, "layer is %lld of %d, sequence %lld of %d (-1: all)", (long long)v[0],
                            (int)c->layers, (long long)v[1], (int)c->sequences);
    return Py_BuildValue("{sLsLsLsLsLsLsL}", "tokens", (long long)s.tokens, "budget", (long long)s.budget, "pairs",
                         (long long)s.pairs, "bytes", (long long)s.bytes, "shared_bytes", (long long)s.shared_bytes,
                         "doubtful", (long long)s.doubtful, "most_read", (long long)s.most_read);
}

#define CALLABLE(function) (PyCFunction)(void (*)(void)) function

static PyMethodDef methods[] = {
    {"step", CALLABLE(step_method), METH_FASTCALL | METH_KEYWORDS,
     "step(layer, logits, sequences=None, positions=None, *, take='causal', token_mask=None, bias=None,\n"
     "     expert_factors=None, on_nonfinite='error', want='tokens', padding='minus_one', width=None,\n"
     "     block_size=None)\n--\n\n"
     "Route the rows of one layer and take them into the cache.\n\n"
     "logits: [T, E] of the cache's dtype. sequences: [T] whose each row is; None: all sequence 0's. positions: [T]\n"
     "each token's place in its sequence; its length: appended; less: the sequence is truncated there first; more: an\n"
     "error. take: 'causal', as if rows came one by one, or 'joint'. A masked token takes a place and no more. The "
     "rest\n"
     "is route()'s. Returns a Routing. An error changes nothing."},
    {"length", CALLABLE(length), METH_FASTCALL,
     "length(sequence=0, layer=0, /)\n--\n\nHow many tokens a layer has of a sequence."},
    {"truncate", CALLABLE(truncate_method), METH_FASTCALL,
     "truncate(sequence, tokens, /)\n--\n\nForget tokens from `tokens` on, in all layers."},
    {"remove", CALLABLE(remove_method), METH_FASTCALL,
     "remove(sequence, start, stop, /)\n--\n\nForget tokens [start, stop); those behind move up."},
    {"copy", CALLABLE(copy_method), METH_FASTCALL,
     "copy(to, source, tokens=-1, /)\n--\n\nMake sequence `to` one of the first tokens of `source` (-1: all), sharing "
     "memory."},
    {"clear", CALLABLE(clear_method), METH_FASTCALL, "clear(sequence=-1, /)\n--\n\nForget a sequence; -1: all."},
    {"keep", CALLABLE(keep_method), METH_FASTCALL, "keep(sequence, /)\n--\n\nForget all sequences but one."},
    {"reorder", reorder_method, METH_O,
     "reorder(parents, /)\n--\n\nSequence i becomes what sequence parents[i] was; -1: empty. For beams and batches."},
    {"save", CALLABLE(save_method), METH_FASTCALL,
     "save(sequence, start, stop, /)\n--\n\nAll layers of tokens [start, stop) of a sequence as bytes."},
    {"load", CALLABLE(load_method), METH_FASTCALL,
     "load(sequence, blob, /)\n--\n\nAppend what save() gave to a sequence, whose length must be its `start`."},
    {"stats", CALLABLE(stats_method), METH_FASTCALL,
     "stats(layer=-1, sequence=-1, /)\n--\n\nA dict: tokens, budget, pairs, bytes, shared_bytes, doubtful, most_read. "
     "-1: all."},
    {NULL, NULL, 0, NULL}};

static PyObject *get_layers(PyObject *self, void *closure) {
    (void)closure;
    return PyLong_FromLong(((cache *)self)->layers);
}

static PyObject *get_sequences(PyObject *self, void *closure) {
    (void)closure;
    return PyLong_FromLong(((cache *)self)->sequences);
}

static PyGetSetDef getters[] = {{"layers", get_layers, NULL, "How many layers it was made for.", NULL},
                                {"sequences", get_sequences, NULL, "The most sequences: ids are 0 to that - 1.", NULL},
                                {NULL, NULL, NULL, NULL, NULL}};

PyTypeObject seqtopk_py_cache_type = {
    .ob_base = PyVarObject_HEAD_INIT(NULL, 0).tp_name = "seqtopk.Cache",
    .tp_doc =
        "Cache(layers=1, sequences=1, *, experts=None, k=None, scope='online', score='softmax', norm='default',\n"
        "      norm_eps=0.0, norm_floor=0.0, scale=1.0, norm_skip_top1=False, min=0, max=None, groups=None,\n"
        "      group_top_k=None, group_score='max', group_n=None, order='expert', preset=None, parity='hf',\n"
        "      dtype='float32', mode='exact', max_tokens=0, max_bytes=0, threshold=0.0, is_ledger=False,\n"
        "      rollback=0)\n--\n\n"
        "SeqTopK while sequences grow: token m is given what route() over tokens 1 to m gives token m.\n\n"
        "layers, sequences: how many. experts: of the logits (or a preset's). What says how to route is route()'s.\n"
        "dtype: of the logits: 'float32', 'bfloat16', 'float16'. mode: 'exact', 'compact' (at most 64 KiB for each\n"
        "layer and sequence), 'threshold'. max_tokens: of one sequence; max_bytes: of all; 0: no limit.\n"
        "is_ledger: never more than k pairs for each token so far. Any thread may call; one call at a time runs.",
    .tp_basicsize = sizeof(cache),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = end,
    .tp_methods = methods,
    .tp_getset = getters,
    .tp_vectorcall = make,
    .tp_new = NULL,
};
