/* SPDX-License-Identifier: MIT */
#include "lists.h"
#include "dlpack.h"

#include <stddef.h>
#include <stdlib.h>

typedef enum kind { KIND_I32, KIND_I64, KIND_F32, KIND_BOOL, KINDS } kind;
typedef enum shape { SHAPE_T, SHAPE_T1, SHAPE_S, SHAPE_N, SHAPE_E1, SHAPE_TU, SHAPE_TE, SHAPE_B, SHAPE_BB } shape;

typedef struct list {
    const char *name;
    kind kind;
    shape shape;
    unsigned part;
    size_t field; /* in seqtopk_output */
} list;

static const list lists[] = {
#define LIST(name, type, shape, part)                                                                                  \
    {#name, KIND_##type, SHAPE_##shape, SEQTOPK_PY_WANT_##part, offsetof(seqtopk_output, name)},
    SEQTOPK_PY_LISTS(LIST)
#undef LIST
};

/* The parts as `want` has them, for messages. */
static const char *part_name(unsigned part) {
    switch (part) {
    case SEQTOPK_PY_WANT_EXPERTS: return "want='experts'";
    case SEQTOPK_PY_WANT_PADDED: return "want='padded'";
    case SEQTOPK_PY_WANT_PADDED64: return "want='padded64'";
    case SEQTOPK_PY_WANT_PADDED_ANY: return "want='padded'";
    case SEQTOPK_PY_WANT_PAIRS: return "want='pairs'";
    case SEQTOPK_PY_WANT_DENSE: return "want='dense'";
    case SEQTOPK_PY_WANT_LSE: return "want='lse'";
    case SEQTOPK_PY_WANT_MARGINS: return "want='margins'";
    default: return "block_size=";
    }
}

static const size_t kind_size[KINDS] = {4, 8, 4, 1};

/* -- making ---------------------------------------------------------------------------------------------------------- */

typedef struct sizes {
    int64_t tokens, sequences, experts, pairs, width, slots, blocks;
} sizes;

static int64_t count(shape s, const sizes *z) {
    switch (s) {
    case SHAPE_T: return z->tokens;
    case SHAPE_T1: return z->tokens + 1;
    case SHAPE_S: return z->sequences;
    case SHAPE_N: return z->pairs;
    case SHAPE_E1: return z->experts + 1;
    case SHAPE_TU: return z->tokens * z->width;
    case SHAPE_TE: return z->tokens * z->experts;
    case SHAPE_B: return z->slots;
    case SHAPE_BB: return z->blocks;
    }
    return 0;
}

static int measure(const seqtopk_plan *plan, const seqtopk_py_wish *wish, sizes *z) {
    z->pairs = wish->is_shared ? seqtopk_team_max_selected(plan, z->tokens) : seqtopk_max_selected(plan, z->tokens);
    z->width = wish->width ? wish->width : seqtopk_max_per_token(plan);
    if (z->pairs < 0) {
        PyErr_Format(PyExc_OverflowError, "logits: %lld tokens are given more pairs than an int32 can count",
                     (long long)z->tokens);
        return -1;
    }
    if (wish->want & SEQTOPK_PY_WANT_BLOCKS) {
        z->slots = wish->is_shared
                       ? (z->pairs + z->experts * (wish->block_size - 1)) / wish->block_size * wish->block_size
                       : seqtopk_max_block_slots(plan, z->tokens, wish->block_size);
        if (z->slots < 0) {
            PyErr_Format(PyExc_ValueError, "block_size is %d: it must be at least 1, and an int32 must count the slots",
                         (int)wish->block_size);
            return -1;
        }
        z->blocks = z->slots / wish->block_size;
    }
    return 0;
}

seqtopk_py_routing *seqtopk_py_routing_make(const seqtopk_plan *plan, int64_t tokens, int32_t experts,
                                            const seqtopk_py_wish *wish, seqtopk_output *output) {
    sizes z = {.tokens = tokens, .sequences = wish->sequences, .experts = experts};
    if (measure(plan, wish, &z) < 0)
        return NULL;
    size_t at[SEQTOPK_PY_LIST_COUNT], size = 0;
    for (int i = 0; i < SEQTOPK_PY_LIST_COUNT; i++) {
        if (!(lists[i].part & wish->want))
            continue;
        at[i] = size;
        size += ((size_t)count(lists[i].shape, &z) * kind_size[lists[i].kind] + 15) & ~(size_t)15;
    }
    seqtopk_py_routing *r = PyObject_NewVar(seqtopk_py_routing, &seqtopk_py_routing_type, (Py_ssize_t)size);
    if (!r)
        return NULL;
    *output = (seqtopk_output)SEQTOPK_OUTPUT_INIT;
    for (int i = 0; i < SEQTOPK_PY_LIST_COUNT; i++) {
        if (!(lists[i].part & wish->want))
            continue;
        r->at[i] = at[i];
        /* All of the fields that lists.h names are pointers to elements. */
        *(void **)(void *)((char *)output + lists[i].field) = r->data + at[i];
    }
    r->tokens = tokens;
    r->sequences = wish->sequences;
    r->selected = 0;
    r->nonfinite[0] = 0;
    r->nonfinite[1] = -1;
    r->experts = experts;
    r->width = (int32_t)z.width;
    r->block_size = wish->block_size;
    r->block_total = 0;
    r->is_torch = wish->is_torch;
    r->want = wish->want;
    output->capacity = z.pairs;
    output->padding = wish->padding;
    output->padded_width = wish->want & SEQTOPK_PY_WANT_PADDED_ANY ? r->width : 0;
    output->block_size = wish->want & SEQTOPK_PY_WANT_BLOCKS ? wish->block_size : 0;
    output->block_capacity = z.slots;
    output->block_total = wish->want & SEQTOPK_PY_WANT_BLOCKS ? &r->block_total : NULL;
    output->selected = &r->selected;
    output->nonfinite = r->nonfinite;
    return r;
}

/* -- showing --------------------------------------------------------------------------------------------------------- */

static sizes sizes_of(const seqtopk_py_routing *r) {
    return (sizes){.tokens = r->tokens,
                   .sequences = r->sequences,
                   .experts = r->experts,
                   .pairs = r->selected,
                   .width = r->width,
                   .slots = r->block_total,
                   .blocks = r->block_size ? r->block_total / r->block_size : 0};
}

/* Found at the first need, by several threads maybe, who find the same. */
static PyObject *_Atomic ndarray, *_Atomic dtypes[KINDS];

static int find_numpy(void) {
    static const char *const names[KINDS] = {"int32", "int64", "float32", "bool"};
    PyObject *numpy = PyImport_ImportModule("numpy");
    if (!numpy)
        return -1;
    for (int i = 0; i < KINDS; i++)
        if (!dtypes[i])
            dtypes[i] = PyObject_CallMethod(numpy, "dtype", "s", names[i]);
    ndarray = PyObject_GetAttrString(numpy, "ndarray");
    Py_DECREF(numpy);
    return ndarray && dtypes[KINDS - 1] ? 0 : -1;
}

/* A view of the object's own memory, which it holds. */
static PyObject *view(seqtopk_py_routing *r, const list *l, size_t at) {
    if (!ndarray && find_numpy() < 0)
        return NULL;
    sizes z = sizes_of(r);
    PyObject *extent = l->shape == SHAPE_TU   ? Py_BuildValue("(Li)", (long long)z.tokens, (int)z.width)
                       : l->shape == SHAPE_TE ? Py_BuildValue("(Li)", (long long)z.tokens, (int)z.experts)
                                              : PyLong_FromLongLong(count(l->shape, &z));
    PyObject *offset = PyLong_FromSize_t(at), *array = NULL;
    if (extent && offset) {
        PyObject *args[] = {extent, dtypes[l->kind], (PyObject *)r, offset};
        array = PyObject_Vectorcall(ndarray, args, 4, NULL);
    }
    Py_XDECREF(extent);
    Py_XDECREF(offset);
    return array;
}

/* A tensor lent to torch: what it reads, and the object that it keeps alive. */
typedef struct loan {
    dlpack_managed_versioned managed;
    int64_t shape[2], strides[2];
    PyObject *owner;
} loan;

/* Tensors may end on any thread, and after Python. */
static void end_loan(dlpack_managed_versioned *managed) {
    loan *l = managed->context;
    if (!Py_IsInitialized())
        return; /* the process ends, and all of its memory with it */
    PyGILState_STATE state = PyGILState_Ensure();
    Py_DECREF(l->owner);
    PyGILState_Release(state);
    free(l);
}

static PyObject *lend(seqtopk_py_routing *r, const list *of, const dlpack_exchange *exchange, size_t at) {
    static const uint8_t codes[KINDS] = {DLPACK_INT, DLPACK_INT, DLPACK_FLOAT, DLPACK_BOOL};
    loan *l = calloc(1, sizeof *l);
    if (!l)
        return PyErr_NoMemory();
    sizes z = sizes_of(r);
    int is_rows = of->shape == SHAPE_TU || of->shape == SHAPE_TE;
    l->shape[0] = is_rows ? z.tokens : count(of->shape, &z);
    l->shape[1] = of->shape == SHAPE_TU ? z.width : z.experts;
    l->strides[0] = is_rows ? l->shape[1] : 1;
    l->strides[1] = 1;
    l->owner = Py_NewRef((PyObject *)r);
    l->managed = (dlpack_managed_versioned){.version = {1, 0}, .context = l, .deleter = end_loan};
    l->managed.tensor = (dlpack_tensor){.data = r->data + at,
                                        .device_type = DLPACK_CPU,
                                        .ndim = is_rows ? 2 : 1,
                                        .code = codes[of->kind],
                                        .bits = (uint8_t)(kind_size[of->kind] * 8),
                                        .lanes = 1,
                                        .shape = l->shape,
                                        .strides = l->strides};
    void *made = NULL;
    return exchange->to_object(&l->managed, &made) == 0 ? made : NULL;
}

/* torch.Tensor's own door, or by way of NumPy where it has none (before 2.10). */
static PyObject *tensor(seqtopk_py_routing *r, const list *l, size_t at) {
    static const dlpack_exchange *_Atomic exchange;
    static PyObject *_Atomic from_numpy;
    if (!exchange && !from_numpy) {
        PyObject *torch = PyImport_ImportModule("torch"), *type = NULL;
        if (!torch)
            return NULL;
        type = PyObject_GetAttrString(torch, "Tensor");
        exchange = type ? seqtopk_py_exchange_of((PyTypeObject *)type) : NULL;
        from_numpy = PyObject_GetAttrString(torch, "from_numpy");
        Py_XDECREF(type);
        Py_DECREF(torch);
    }
    if (exchange)
        return lend(r, l, exchange, at);
    PyObject *array = from_numpy ? view(r, l, at) : NULL, *made = NULL;
    if (array)
        made = PyObject_CallOneArg(from_numpy, array);
    Py_XDECREF(array);
    return made;
}

static PyObject *get_list(PyObject *self, void *closure) {
    seqtopk_py_routing *r = (seqtopk_py_routing *)self;
    const list *l = closure;
    if (!(l->part & r->want)) {
        PyErr_Format(PyExc_AttributeError, "%s was not asked for: route with %s", l->name, part_name(l->part));
        return NULL;
    }
    return r->is_torch ? tensor(r, l, r->at[l - lists]) : view(r, l, r->at[l - lists]);
}

static PyObject *get_tokens(PyObject *self, void *closure) {
    (void)closure;
    return PyLong_FromLongLong(((seqtopk_py_routing *)self)->tokens);
}

static PyObject *get_experts(PyObject *self, void *closure) {
    (void)closure;
    return PyLong_FromLong(((seqtopk_py_routing *)self)->experts);
}

static PyObject *get_selected(PyObject *self, void *closure) {
    (void)closure;
    return PyLong_FromLongLong(((seqtopk_py_routing *)self)->selected);
}

static PyObject *get_dropped(PyObject *self, void *closure) {
    (void)closure;
    const int64_t *n = ((seqtopk_py_routing *)self)->nonfinite;
    return Py_BuildValue("(LL)", (long long)n[0], (long long)n[1]);
}

static PyObject *show(PyObject *self) {
    seqtopk_py_routing *r = (seqtopk_py_routing *)self;
    return PyUnicode_FromFormat("Routing(tokens=%lld, experts=%d, selected=%lld)", (long long)r->tokens,
                                (int)r->experts, (long long)r->selected);
}

static int get_buffer(PyObject *self, Py_buffer *out, int flags) {
    seqtopk_py_routing *r = (seqtopk_py_routing *)self;
    return PyBuffer_FillInfo(out, self, r->data, Py_SIZE(r), 0, flags);
}

static PyBufferProcs buffer = {.bf_getbuffer = get_buffer};

#define DOC_token_offsets "[T + 1] int32: the pairs of token t are [token_offsets[t], token_offsets[t + 1])"
#define DOC_expert_ids "[N] int32: the expert of each pair, by token; ascending within a token, or as order says"
#define DOC_weights "[N] float32: the weight of each pair"
#define DOC_expert_offsets "[E + 1] int32: the pairs of expert e are [expert_offsets[e], expert_offsets[e + 1])"
#define DOC_expert_tokens "[N] int32: the token of each pair, by expert; ascending within an expert"
#define DOC_expert_slots "[N] int32: where the same pair is in the lists by token"
#define DOC_padded_ids "[T, U] int32: each token's experts, then what padding says"
#define DOC_padded_ids64 "[T, U] int64: the same"
#define DOC_padded_weights "[T, U] float32: their weights, then 0"
#define DOC_pair_tokens "[N] int32: the token of each pair of the lists by token"
#define DOC_pair_places "[N] int32: where each pair of the lists by token is in the lists by expert"
#define DOC_routing_map "[T, E] bool: which pairs were selected"
#define DOC_routing_probs "[T, E] float32: their weights, else 0"
#define DOC_row_lse "[T] float32: the log-sum-exp of each row, with score='softmax'"
#define DOC_sequence_margins                                                                                           \
    "[S] float32: how far the key of a sequence's last pair is from the first that was left out"
#define DOC_block_slots "[B] int32: sorted_token_ids of moe_align_block_size"
#define DOC_block_experts "[B / block_size] int32: the expert of each block"

/* A closure is not const; nobody writes to it. */
#define GETTER(name, type, shape, part)                                                                                \
    {#name, get_list, NULL, DOC_##name, (void *)(uintptr_t)&lists[SEQTOPK_PY_LIST_##name]},

static PyGetSetDef getters[] = {
    SEQTOPK_PY_LISTS(GETTER){"tokens", get_tokens, NULL, "T", NULL},
    {"experts", get_experts, NULL, "E", NULL},
    {"selected", get_selected, NULL, "N: how many pairs were selected", NULL},
    {"dropped", get_dropped, NULL, "(rows that on_nonfinite dropped, the first of those tokens or -1)", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

PyTypeObject seqtopk_py_routing_type = {
    .ob_base = PyVarObject_HEAD_INIT(NULL, 0).tp_name = "seqtopk.Routing",
    .tp_doc = "The lists of one call. Arrays are views of memory that the object holds: of NumPy, or torch tensors\n"
              "where the logits were one. Those that `want` did not name raise AttributeError.",
    .tp_basicsize = offsetof(seqtopk_py_routing, data),
    .tp_itemsize = 1,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_repr = show,
    .tp_getset = getters,
    .tp_as_buffer = &buffer,
};
