/* SPDX-License-Identifier: MIT */
/* The type, and how a cache is made. */
#include "cache.h"
#include "bind.h"
#include "describe.h"
#include "errors.h"

void seqtopk_py_cache_enter(seqtopk_py_cache *c) {
    if (PyThread_acquire_lock(c->lock, NOWAIT_LOCK) == PY_LOCK_ACQUIRED)
        return;
    Py_BEGIN_ALLOW_THREADS;
    PyThread_acquire_lock(c->lock, WAIT_LOCK);
    Py_END_ALLOW_THREADS;
}

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

static int fill(seqtopk_py_cache *c, PyObject *const *values) {
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
    seqtopk_py_cache *c = (seqtopk_py_cache *)((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
    if (c && fill(c, values) < 0)
        Py_CLEAR(c);
    return (PyObject *)c;
}

static void end(PyObject *self) {
    seqtopk_py_cache *c = (seqtopk_py_cache *)self;
    seqtopk_cache_destroy(c->cache);
    seqtopk_py_plan_drop(c->plan);
    if (c->lock)
        PyThread_free_lock(c->lock);
    Py_TYPE(self)->tp_free(self);
}

int seqtopk_py_cache_ready(void) { return seqtopk_py_intern(&make_signature) < 0 ? -1 : seqtopk_py_step_ready(); }

static PyObject *get_layers(PyObject *self, void *closure) {
    (void)closure;
    return PyLong_FromLong(((seqtopk_py_cache *)self)->layers);
}

static PyObject *get_sequences(PyObject *self, void *closure) {
    (void)closure;
    return PyLong_FromLong(((seqtopk_py_cache *)self)->sequences);
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
    .tp_basicsize = sizeof(seqtopk_py_cache),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = end,
    .tp_methods = seqtopk_py_cache_methods,
    .tp_getset = getters,
    .tp_vectorcall = make,
    .tp_new = NULL,
};
