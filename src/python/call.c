/* SPDX-License-Identifier: MIT */
#include "call.h"
#include "bind.h"
#include "work.h"

#include <string.h>

int seqtopk_py_call_open(seqtopk_py_call *call, PyObject *logits) {
    memset(call, 0, sizeof *call);
    call->input = (seqtopk_input)SEQTOPK_INPUT_INIT;
    if (!logits) {
        PyErr_SetString(PyExc_TypeError, "logits are missing: an array [tokens, experts]");
        return -1;
    }
    if (seqtopk_py_array_open_logits(&call->logits, logits, &call->input.row_stride) < 0)
        return -1;
    if (call->logits.shape[0] > INT32_MAX) {
        PyErr_Format(PyExc_OverflowError, "logits: %lld tokens; 2^31 - 1 are the most",
                     (long long)call->logits.shape[0]);
        seqtopk_py_array_close(&call->logits);
        return -1;
    }
    call->input.logits = call->logits.data;
    call->input.tokens = call->logits.shape[0];
    return 0;
}

static int want_one(PyObject *word, unsigned *want) {
    static const char *const words[] = {"tokens", "experts", "padded", "padded64", "pairs", "dense", "lse", "margins"};
    int at;
    if (seqtopk_py_word(word, "want", words, (int)(sizeof words / sizeof *words), &at) < 0)
        return -1;
    *want |= 1U << at;
    return 0;
}

/* A word or several. */
static int read_want(PyObject *object, unsigned *want) {
    if (PyUnicode_Check(object))
        return want_one(object, want);
    PyObject *words = PySequence_Tuple(object);
    if (!words) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_SetString(PyExc_TypeError, "want: a word or several are wanted");
        return -1;
    }
    int status = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(words) && status == 0; i++)
        status = want_one(PyTuple_GET_ITEM(words, i), want);
    Py_DECREF(words);
    return status;
}

static int read_wish(PyObject *const *values, seqtopk_py_wish *wish) {
    static const char *const paddings[] = {"minus_one", "experts", "distinct", "first"};
    int64_t number;
    int at;
    wish->want = SEQTOPK_PY_WANT_TOKENS;
    if (values[SEQTOPK_PY_DATA_want] && read_want(values[SEQTOPK_PY_DATA_want], &wish->want) < 0)
        return -1;
    if (values[SEQTOPK_PY_DATA_padding]) {
        if (seqtopk_py_word(values[SEQTOPK_PY_DATA_padding], "padding", paddings, 4, &at) < 0)
            return -1;
        wish->padding = (seqtopk_padding)at;
    }
    if (values[SEQTOPK_PY_DATA_width]) {
        if (seqtopk_py_int(values[SEQTOPK_PY_DATA_width], "width", 1, INT32_MAX, &number) < 0)
            return -1;
        wish->width = (int32_t)number;
    }
    if (values[SEQTOPK_PY_DATA_block_size]) {
        if (seqtopk_py_int(values[SEQTOPK_PY_DATA_block_size], "block_size", 1, INT32_MAX, &number) < 0)
            return -1;
        wish->block_size = (int32_t)number;
        wish->want |= SEQTOPK_PY_WANT_BLOCKS;
    }
    return 0;
}

int seqtopk_py_call_read(seqtopk_py_call *call, PyObject *const *values) {
    static const char *const policies[] = {"error", "drop", "mark"};
    seqtopk_input *in = &call->input;
    int64_t tokens = in->tokens, experts = call->logits.shape[1];
    int at;
    if (read_wish(values, &call->wish) < 0)
        return -1;
    call->wish.is_torch = call->logits.is_torch;
    if (values[SEQTOPK_PY_DATA_token_mask]) {
        if (seqtopk_py_array_open_as(&call->mask, values[SEQTOPK_PY_DATA_token_mask], "token_mask", SEQTOPK_PY_U8, 1,
                                     tokens) < 0)
            return -1;
        in->token_mask = call->mask.data;
    }
    if (values[SEQTOPK_PY_DATA_bias]) {
        if (seqtopk_py_array_open_as(&call->bias, values[SEQTOPK_PY_DATA_bias], "bias", SEQTOPK_PY_F32, 1, experts) < 0)
            return -1;
        in->bias = call->bias.data;
    }
    if (values[SEQTOPK_PY_DATA_expert_factors]) {
        if (seqtopk_py_array_open_as(&call->factors, values[SEQTOPK_PY_DATA_expert_factors], "expert_factors",
                                     SEQTOPK_PY_F32, 1, experts) < 0)
            return -1;
        in->expert_factors = call->factors.data;
    }
    if (values[SEQTOPK_PY_DATA_on_nonfinite]) {
        if (seqtopk_py_word(values[SEQTOPK_PY_DATA_on_nonfinite], "on_nonfinite", policies, 3, &at) < 0)
            return -1;
        in->on_nonfinite = (seqtopk_nonfinite)at;
    }
    return 0;
}

void seqtopk_py_call_close(seqtopk_py_call *call) {
    seqtopk_py_array_close(&call->logits);
    seqtopk_py_array_close(&call->mask);
    seqtopk_py_array_close(&call->bias);
    seqtopk_py_array_close(&call->factors);
}

int seqtopk_py_call_is_long(const seqtopk_py_call *call) {
    return call->input.tokens > 1 && call->input.tokens * call->logits.shape[1] >= SEQTOPK_PY_LONG_CALL;
}
