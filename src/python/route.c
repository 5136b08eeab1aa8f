/* SPDX-License-Identifier: MIT */
/* seqtopk.route: the lists of logits that are all there. */
#include "route.h"
#include "bind.h"
#include "call.h"
#include "describe.h"
#include "errors.h"
#include "recall.h"
#include "work.h"

#define ROUTE_NAMES(X)                                                                                                 \
    X(logits)                                                                                                          \
    SEQTOPK_PY_DESC_NAMES(X) X(cu_seqlens) X(token_seq) X(given_ids) X(given_offsets) X(team) SEQTOPK_PY_DATA_NAMES(X)

enum {
#define PLACE(name) ARG_##name,
    ROUTE_NAMES(PLACE)
#undef PLACE
        ARGS
};

#define NAME(name) #name,
static const char *const arg_names[] = {ROUTE_NAMES(NAME)};
static PyObject *interned[ARGS];
static const seqtopk_py_signature signature = {"route", arg_names, ARGS, 2, interned};

int seqtopk_py_route_ready(void) { return seqtopk_py_intern(&signature); }

const char seqtopk_py_route_doc[] =
    "route(logits, k=None, *, scope='sequence', score='softmax', norm='default', norm_eps=0.0, norm_floor=0.0,\n"
    "      scale=1.0, norm_skip_top1=False, min=0, max=None, groups=None, group_top_k=None, group_score='max',\n"
    "      group_n=None, order='expert', min_p=None, top_p=None, preset=None, parity='hf', cu_seqlens=None,\n"
    "      token_seq=None, given_ids=None, given_offsets=None, token_mask=None, bias=None, expert_factors=None,\n"
    "      on_nonfinite='error', want='tokens', padding='minus_one', width=None, block_size=None, team=None)\n"
    "--\n\n"
    "Select experts for tokens: SeqTopK (scope='sequence') or TopK (scope='token').\n\n"
    "logits: [T, E] of float32, bfloat16 or float16: NumPy, torch, JAX, or any with DLPack or a buffer. Read where\n"
    "    they are; rows may be apart, a row's elements may not.\n"
    "k: the experts a token gets, in sequence scope on average. With a preset the default is the model's.\n"
    "min, max: bounds on the experts of one token in sequence scope; max may be 'k+2'.\n"
    "cu_seqlens: [S + 1] integers from 0 to T: where sequences end. None: one sequence.\n"
    "token_seq: [T] integers in place of cu_seqlens: the sequence of each token, from 0 on, in any order. Results "
    "stay\n"
    "    in the order of logits.\n"
    "token_mask: [T] bool or uint8: 0 is masked: gets nothing, and brings no budget.\n"
    "bias: [E] float32, added to the scores for the selection only. expert_factors: [E] float32, on the weights.\n"
    "given_ids: [T, W] int32, or [N] with given_offsets [T + 1]: the selection, made elsewhere; -1 is none.\n"
    "team: the processes that share these sequences, of which these are this one's tokens: seqtopk.torch.team(group), "
    "or any\n"
    "    object with rank, size, allreduce_sum(words) and exscan_sum(words), words being int64 in a buffer to write "
    "to,\n"
    "    and count_all if all keys shall be counted first, not those of a sample.\n"
    "want: further lists, a word or several: 'experts', 'padded', 'padded64', 'pairs', 'dense', 'lse', 'margins'.\n"
    "padding, width: of padded rows [T, U]: 'minus_one', 'experts' (E), 'distinct', 'first'; U, or what may be "
    "needed.\n"
    "block_size: blocks as vLLM's moe_align_block_size makes them.\n\n"
    "Returns a Routing. Raises seqtopk.Error (a ValueError) that names the argument, seqtopk.NonfiniteError with the\n"
    "first token that has a NaN or +inf, TypeError for what is no such array. Calls of 32768 logits and more let go "
    "of\n"
    "the GIL, and use set_num_threads() threads. Safe to call from any thread.";

typedef struct more {
    seqtopk_py_array sequences, ids, offsets;
} more;

/* Numbers below 2^16 are whoever's they are; larger ones would make a call as long as they say. */
static int read_token_seq(seqtopk_py_call *call, PyObject *object, more *m) {
    const int64_t tokens = call->input.tokens, limit = tokens > 65536 ? tokens : 65536;
    if (seqtopk_py_array_open_as(&m->sequences, object, "token_seq", SEQTOPK_PY_I32, 1, tokens) < 0)
        return -1;
    const int32_t *whose = m->sequences.data;
    int32_t last = 0;
    for (int64_t t = 0; t < tokens; t++) {
        if (whose[t] < 0 || whose[t] >= limit) {
            PyErr_Format(PyExc_ValueError, "token_seq[%lld] is %d; sequences are numbered from 0 on, below %lld",
                         (long long)t, (int)whose[t], (long long)limit);
            return -1;
        }
        last = whose[t] > last ? whose[t] : last;
    }
    call->input.token_seq = whose;
    call->input.sequences = last + 1;
    return 0;
}

static int read_sequences(seqtopk_py_call *call, PyObject *object, PyObject *token_seq, more *m) {
    if (!object)
        return token_seq ? read_token_seq(call, token_seq, m) : 0;
    if (token_seq) {
        PyErr_SetString(PyExc_TypeError, "cu_seqlens and token_seq say the same: leave one out");
        return -1;
    }
    if (seqtopk_py_array_open_as(&m->sequences, object, "cu_seqlens", SEQTOPK_PY_I32, 1, -1) < 0)
        return -1;
    if (m->sequences.shape[0] < 1 || m->sequences.shape[0] > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "cu_seqlens: [S + 1] offsets are wanted, from 0 to the number of tokens");
        return -1;
    }
    call->input.cu_seqlens = m->sequences.data;
    call->input.sequences = (int32_t)(m->sequences.shape[0] - 1);
    return 0;
}

static int read_given(seqtopk_py_call *call, PyObject *ids, PyObject *offsets, more *m) {
    seqtopk_input *in = &call->input;
    if (!ids) {
        if (offsets)
            PyErr_SetString(PyExc_TypeError, "given_offsets without given_ids");
        return offsets ? -1 : 0;
    }
    if (!offsets) {
        if (seqtopk_py_array_open_as(&m->ids, ids, "given_ids", SEQTOPK_PY_I32, 2, in->tokens) < 0)
            return -1;
        in->given_width = m->ids.shape[1] > INT32_MAX ? INT32_MAX : (int32_t)m->ids.shape[1];
    } else {
        if (seqtopk_py_array_open_as(&m->offsets, offsets, "given_offsets", SEQTOPK_PY_I32, 1, in->tokens + 1) < 0)
            return -1;
        const int32_t *last = m->offsets.data;
        if (seqtopk_py_array_open_as(&m->ids, ids, "given_ids", SEQTOPK_PY_I32, 1, last[in->tokens]) < 0)
            return -1;
        in->given_offsets = m->offsets.data;
    }
    in->given_ids = m->ids.data;
    return 0;
}

/* Calls a method of the team's object with the words as a buffer: what it writes there is the result. */
static int collect(PyObject *object, const char *method, int64_t *words, int64_t n) {
    const PyGILState_STATE state = PyGILState_Ensure();
    PyObject *buffer = PyMemoryView_FromMemory((char *)words, (Py_ssize_t)(n * (int64_t)sizeof *words), PyBUF_WRITE);
    PyObject *result = buffer ? PyObject_CallMethod(object, method, "O", buffer) : NULL;
    const int status = result ? 0 : -1; /* the exception stays for the call to raise */
    Py_XDECREF(result);
    Py_XDECREF(buffer);
    PyGILState_Release(state);
    return status;
}

static int allreduce_sum(void *context, int64_t *words, int64_t n) {
    return collect(context, "allreduce_sum", words, n);
}
static int exscan_sum(void *context, int64_t *words, int64_t n) { return collect(context, "exscan_sum", words, n); }

static int read_number(PyObject *object, const char *name, int32_t *number) {
    PyObject *value = PyObject_GetAttrString(object, name);
    const long long n = value ? PyLong_AsLongLong(value) : -1;
    Py_XDECREF(value);
    if (PyErr_Occurred())
        return -1;
    *number = n < INT32_MIN || n > INT32_MAX ? -1 : (int32_t)n;
    return 0;
}

static int read_team(PyObject *object, seqtopk_team *team) {
    *team = (seqtopk_team)SEQTOPK_TEAM_INIT;
    team->context = object;
    team->allreduce_sum = allreduce_sum;
    team->exscan_sum = exscan_sum;
    if (PyObject_HasAttrString(object, "count_all") && read_number(object, "count_all", &team->count_all) < 0)
        return -1;
    return read_number(object, "rank", &team->rank) < 0 ? -1 : read_number(object, "size", &team->size);
}

static seqtopk_status run(const seqtopk_plan *plan, const seqtopk_py_call *call, const seqtopk_team *team,
                          void *scratch, size_t size, const seqtopk_parallel *parallel, seqtopk_error *error) {
    if (team)
        return seqtopk_route_team(plan, &call->input, &call->output, scratch, size, team, parallel, error);
    if (parallel)
        return seqtopk_route_parallel(plan, &call->input, &call->output, scratch, size, parallel, error);
    return seqtopk_route(plan, &call->input, &call->output, scratch, size, error);
}

static seqtopk_status run_long(const seqtopk_plan *plan, const seqtopk_py_call *call, const seqtopk_team *team,
                               void *scratch, size_t size, const seqtopk_parallel *parallel, seqtopk_error *error) {
    seqtopk_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = run(plan, call, team, scratch, size, parallel, error);
    Py_END_ALLOW_THREADS;
    return status;
}

static PyObject *route(const seqtopk_plan *plan, seqtopk_py_call *call, const seqtopk_team *team) {
    const int64_t sequences = call->input.cu_seqlens || call->input.token_seq ? call->input.sequences : 1;
    call->wish.sequences = sequences;
    seqtopk_py_routing *routing =
        seqtopk_py_routing_make(plan, call->input.tokens, (int32_t)call->logits.shape[1], &call->wish, &call->output);
    if (!routing)
        return NULL;
    int is_long = seqtopk_py_call_is_long(call);
    seqtopk_parallel parallel;
    int is_shared = is_long && seqtopk_py_borrow_threads(&parallel);
    const int32_t threads = is_shared ? parallel.threads : 1;
    size_t size = team ? seqtopk_team_scratch_size(plan, call->input.tokens, sequences, call->output.capacity, threads)
                       : seqtopk_scratch_size(plan, call->input.tokens, sequences, threads);
    void *scratch = seqtopk_py_scratch(size);
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_status status = SEQTOPK_OK;
    if (scratch)
        status = (is_long ? run_long : run)(plan, call, team, scratch, size, is_shared ? &parallel : NULL, &error);
    if (is_shared)
        seqtopk_py_return_threads();
    if (scratch && status == SEQTOPK_OK)
        return (PyObject *)routing;
    Py_DECREF(routing);
    return scratch && !PyErr_Occurred() ? seqtopk_py_raise(status, &error) : NULL;
}

static seqtopk_py_plan *find_plan(const seqtopk_py_call *call, PyObject *const *values) {
    const int64_t experts = call->logits.shape[1];
    const seqtopk_dtype dtype = (seqtopk_dtype)call->logits.type; /* the same order */
    seqtopk_py_plan *plan = seqtopk_py_recall(values, experts, dtype);
    seqtopk_desc desc;
    if (plan || seqtopk_py_describe(values, experts, &desc) < 0)
        return plan;
    desc.dtype = dtype;
    plan = seqtopk_py_plan_get(&desc);
    if (plan)
        seqtopk_py_remember(values, experts, dtype, plan);
    return plan;
}

PyObject *seqtopk_py_route(PyObject *module, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    (void)module;
    PyObject *values[ARGS];
    seqtopk_py_call call;
    if (seqtopk_py_bind(&signature, args, n, names, values) < 0 || seqtopk_py_call_open(&call, values[ARG_logits]) < 0)
        return NULL;
    more m = {0};
    PyObject *routing = NULL;
    seqtopk_team team;
    seqtopk_py_plan *plan = find_plan(&call, values + ARG_k);
    if (plan && seqtopk_py_call_read(&call, values + ARG_token_mask) == 0 &&
        read_sequences(&call, values[ARG_cu_seqlens], values[ARG_token_seq], &m) == 0 &&
        read_given(&call, values[ARG_given_ids], values[ARG_given_offsets], &m) == 0 &&
        (!values[ARG_team] || read_team(values[ARG_team], &team) == 0)) {
        call.wish.is_shared = values[ARG_team] != NULL;
        routing = route(plan->plan, &call, values[ARG_team] ? &team : NULL);
    }
    seqtopk_py_plan_drop(plan);
    seqtopk_py_array_close(&m.sequences);
    seqtopk_py_array_close(&m.ids);
    seqtopk_py_array_close(&m.offsets);
    seqtopk_py_call_close(&call);
    return routing;
}
