/* SPDX-License-Identifier: MIT */
#include "describe.h"
#include "bind.h"
#include "errors.h"
#include "plans.h"

#include <string.h>

const char *const seqtopk_py_dtypes[3] = {"float32", "bfloat16", "float16"};

/* In the order of their enums. */
static const char *const scopes[] = {"sequence", "token", "online"};
static const char *const scores[] = {"softmax", "sigmoid", "sqrtsoftplus", "logits"};
static const char *const norms[] = {"default", "none", "sum", "softmax"};
static const char *const group_scores[] = {"max", "top2", "topn"};
static const char *const orders[] = {"expert", "rank", "given"};
static const char *const parities[] = {"hf", "vllm", "llama.cpp"};

#define WORD(name, words, type, field)                                                                                 \
    do {                                                                                                               \
        int at;                                                                                                        \
        PyObject *given = values[SEQTOPK_PY_##name];                                                                   \
        if (given) {                                                                                                   \
            if (seqtopk_py_word(given, #name, words, (int)(sizeof words / sizeof *words), &at) < 0)                    \
                return -1;                                                                                             \
            field = (type)at;                                                                                          \
        }                                                                                                              \
    } while (0)

/* The library says what a number's range is, and names the field; here it need only fit. */
#define INT(name, field)                                                                                               \
    do {                                                                                                               \
        int64_t number;                                                                                                \
        PyObject *given = values[SEQTOPK_PY_##name];                                                                   \
        if (given) {                                                                                                   \
            if (seqtopk_py_int(given, #name, INT32_MIN, INT32_MAX, &number) < 0)                                       \
                return -1;                                                                                             \
            field = (int32_t)number;                                                                                   \
        }                                                                                                              \
    } while (0)

#define FLOAT(name, field)                                                                                             \
    do {                                                                                                               \
        PyObject *given = values[SEQTOPK_PY_##name];                                                                   \
        if (given && seqtopk_py_float(given, #name, &field) < 0)                                                       \
            return -1;                                                                                                 \
    } while (0)

static int preset(PyObject *name, PyObject *const *values, int64_t experts, seqtopk_desc *desc) {
    seqtopk_parity parity = SEQTOPK_PARITY_HUGGING_FACE;
    WORD(parity, parities, seqtopk_parity, parity);
    const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    if (!text) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_TypeError, "preset: a model's name is wanted, not %s", Py_TYPE(name)->tp_name);
        return -1;
    }
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_status status = seqtopk_desc_preset(text, parity, desc, &error);
    if (status != SEQTOPK_OK) {
        seqtopk_py_raise(status, &error);
        return -1;
    }
    if (experts && experts != desc->experts) {
        PyErr_Format(PyExc_ValueError,
                     "logits have %lld experts, and the preset '%s' has %d: give k, score and norm instead of a preset",
                     (long long)experts, text, (int)desc->experts);
        return -1;
    }
    return 0;
}

/* A number, or "k+N". */
static int bound(PyObject *given, int32_t k, int32_t *out) {
    int64_t number = 0;
    if (!PyUnicode_Check(given)) {
        if (seqtopk_py_int(given, "max", INT32_MIN, INT32_MAX, &number) < 0)
            return -1;
        *out = (int32_t)number;
        return 0;
    }
    const char *text = PyUnicode_AsUTF8(given);
    if (!text)
        return -1;
    char *end = NULL;
    if (strncmp(text, "k+", 2) == 0 && text[2] >= '0' && text[2] <= '9')
        number = strtol(text + 2, &end, 10);
    if (!end || *end || number > 65536) {
        PyErr_Format(PyExc_ValueError, "max is %R; it must be a number, or 'k+' and a number, as 'k+2'", given);
        return -1;
    }
    *out = k + (int32_t)number;
    return 0;
}

int seqtopk_py_describe(PyObject *const *values, int64_t experts, seqtopk_desc *desc) {
    memset(desc, 0, sizeof *desc); /* padding too, since descriptions are compared as bytes */
    desc->struct_size = sizeof *desc;
    if (values[SEQTOPK_PY_preset] && preset(values[SEQTOPK_PY_preset], values, experts, desc) < 0)
        return -1;
    if (experts > INT32_MAX) {
        PyErr_Format(PyExc_ValueError, "logits have %lld experts; 65536 are the most", (long long)experts);
        return -1;
    }
    if (experts)
        desc->experts = (int32_t)experts;
    if (!values[SEQTOPK_PY_k] && !values[SEQTOPK_PY_preset]) {
        PyErr_SetString(PyExc_TypeError, "k is missing: the experts a token gets (or name a preset)");
        return -1;
    }
    INT(k, desc->top_k);
    WORD(scope, scopes, seqtopk_scope, desc->scope);
    WORD(score, scores, seqtopk_score, desc->score);
    WORD(norm, norms, seqtopk_norm, desc->norm);
    FLOAT(norm_eps, desc->norm_eps);
    FLOAT(norm_floor, desc->norm_floor);
    FLOAT(scale, desc->scale);
    INT(norm_skip_top1, desc->norm_skip_top1);
    INT(min, desc->min_experts);
    INT(groups, desc->groups);
    INT(group_top_k, desc->group_top_k);
    WORD(group_score, group_scores, seqtopk_group_score, desc->group_score);
    INT(group_n, desc->group_n);
    WORD(order, orders, seqtopk_order, desc->order);
    FLOAT(min_p, desc->min_p);
    FLOAT(top_p, desc->top_p);
    if (values[SEQTOPK_PY_max])
        return bound(values[SEQTOPK_PY_max], desc->top_k, &desc->max_experts);
    return 0;
}

#define NAMES(X) X(experts) SEQTOPK_PY_DESC_NAMES(X)

#define NAME(name) #name,
static const char *const arg_names[] = {NAMES(NAME)};
enum { ARGS = SEQTOPK_PY_DESC_COUNT + 1 };
static PyObject *interned[ARGS];
static const seqtopk_py_signature signature = {"describe", arg_names, ARGS, 2, interned};

int seqtopk_py_describe_ready(void) { return seqtopk_py_intern(&signature); }

const char seqtopk_py_describe_doc[] =
    "describe(experts, k=None, ...)\n\n"
    "What route()'s keywords come to for so many experts (None: the preset's), as a dict: defaults and a preset's "
    "numbers\n"
    "filled in, `width` the most experts that a token can get. Raises what route() would.";

PyObject *seqtopk_py_describe_call(PyObject *module, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    (void)module;
    PyObject *values[ARGS];
    int64_t experts = 0;
    seqtopk_desc d;
    if (seqtopk_py_bind(&signature, args, n, names, values) < 0 ||
        (values[0] && seqtopk_py_int(values[0], "experts", 1, 65536, &experts) < 0) ||
        seqtopk_py_describe(values + 1, experts, &d) < 0)
        return NULL;
    seqtopk_py_plan *plan = seqtopk_py_plan_get(&d);
    if (!plan)
        return NULL;
    int32_t width = seqtopk_max_per_token(plan->plan);
    seqtopk_py_plan_drop(plan);
    seqtopk_norm norm = d.norm ? d.norm : d.score == SEQTOPK_SCORE_LOGITS ? SEQTOPK_NORM_SOFTMAX : SEQTOPK_NORM_NONE;
    return Py_BuildValue("{sisisssssssdsdsdsisisisisisssisssi}", "experts", d.experts, "k", d.top_k, "scope",
                         scopes[d.scope], "score", scores[d.score], "norm", norms[norm], "norm_eps", (double)d.norm_eps,
                         "norm_floor", (double)d.norm_floor, "scale", d.scale != 0.0f ? (double)d.scale : 1.0,
                         "norm_skip_top1", d.norm_skip_top1, "min", d.min_experts, "max", d.max_experts, "groups",
                         d.groups, "group_top_k", d.group_top_k, "group_score", group_scores[d.group_score], "group_n",
                         d.group_n, "order", orders[d.order], "width", width);
}
