/* SPDX-License-Identifier: MIT */
/* The life of a cache's sequences, and the methods by name. */
#include "array.h"
#include "bind.h"
#include "cache.h"
#include "errors.h"

/* What a call returns: None, or the exception that a status is. */
static PyObject *leave(seqtopk_py_cache *c, seqtopk_status status, const seqtopk_error *error) {
    PyThread_release_lock(c->lock);
    if (status != SEQTOPK_OK)
        return seqtopk_py_raise(status, error);
    return Py_NewRef(Py_None);
}

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
    seqtopk_py_cache *c = (seqtopk_py_cache *)self;
    int64_t v[] = {0, 0};
    if (numbers("length", names, v, 2, 2, args, n) < 0)
        return NULL;
    seqtopk_py_cache_enter(c);
    int64_t tokens = seqtopk_cache_length(c->cache, (int32_t)v[1], (int32_t)v[0]);
    PyThread_release_lock(c->lock);
    if (tokens < 0)
        return PyErr_Format(PyExc_ValueError, "sequence is %lld of %d, layer %lld of %d", (long long)v[0],
                            (int)c->sequences, (long long)v[1], (int)c->layers);
    return PyLong_FromLongLong(tokens);
}

static PyObject *truncate_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"sequence", "tokens"};
    seqtopk_py_cache *c = (seqtopk_py_cache *)self;
    int64_t v[2];
    if (numbers("truncate", names, v, 2, 0, args, n) < 0)
        return NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_py_cache_enter(c);
    return leave(c, seqtopk_cache_truncate(c->cache, (int32_t)v[0], v[1], &error), &error);
}

static PyObject *remove_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"sequence", "start", "stop"};
    seqtopk_py_cache *c = (seqtopk_py_cache *)self;
    int64_t v[3];
    if (numbers("remove", names, v, 3, 0, args, n) < 0)
        return NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_py_cache_enter(c);
    return leave(c, seqtopk_cache_remove(c->cache, (int32_t)v[0], v[1], v[2], &error), &error);
}

static PyObject *copy_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"to", "source", "tokens"};
    seqtopk_py_cache *c = (seqtopk_py_cache *)self;
    int64_t v[] = {0, 0, -1};
    if (numbers("copy", names, v, 3, 1, args, n) < 0)
        return NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_py_cache_enter(c);
    return leave(c, seqtopk_cache_copy(c->cache, (int32_t)v[0], (int32_t)v[1], v[2], &error), &error);
}

static PyObject *clear_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"sequence"};
    seqtopk_py_cache *c = (seqtopk_py_cache *)self;
    int64_t v[] = {-1};
    if (numbers("clear", names, v, 1, 1, args, n) < 0)
        return NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_py_cache_enter(c);
    return leave(c, seqtopk_cache_clear(c->cache, (int32_t)v[0], &error), &error);
}

static PyObject *keep_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"sequence"};
    seqtopk_py_cache *c = (seqtopk_py_cache *)self;
    int64_t v[1];
    if (numbers("keep", names, v, 1, 0, args, n) < 0)
        return NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_py_cache_enter(c);
    return leave(c, seqtopk_cache_keep(c->cache, (int32_t)v[0], &error), &error);
}

static PyObject *reorder_method(PyObject *self, PyObject *parents) {
    seqtopk_py_cache *c = (seqtopk_py_cache *)self;
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
    seqtopk_py_cache_enter(c);
    seqtopk_status status = seqtopk_cache_reorder(c->cache, array.data, (int32_t)array.shape[0], &error);
    seqtopk_py_array_close(&array);
    return leave(c, status, &error);
}

static PyObject *save_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"sequence", "start", "stop"};
    seqtopk_py_cache *c = (seqtopk_py_cache *)self;
    int64_t v[3];
    if (numbers("save", names, v, 3, 0, args, n) < 0)
        return NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_status status = SEQTOPK_OK;
    seqtopk_py_cache_enter(c);
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
    seqtopk_py_cache *c = (seqtopk_py_cache *)self;
    int64_t v[1];
    Py_buffer blob;
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "load() takes 2 arguments, sequence and blob, and got %zd", n);
    if (seqtopk_py_int(args[0], "sequence", INT32_MIN, INT32_MAX, &v[0]) < 0 ||
        PyObject_GetBuffer(args[1], &blob, PyBUF_SIMPLE) < 0)
        return NULL;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    seqtopk_py_cache_enter(c);
    seqtopk_status status = seqtopk_cache_load(c->cache, (int32_t)v[0], blob.buf, (size_t)blob.len, &error);
    PyBuffer_Release(&blob);
    return leave(c, status, &error);
}

static PyObject *stats_method(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    static const char *const names[] = {"layer", "sequence"};
    seqtopk_py_cache *c = (seqtopk_py_cache *)self;
    int64_t v[] = {-1, -1};
    if (numbers("stats", names, v, 2, 2, args, n) < 0)
        return NULL;
    seqtopk_cache_stats s = SEQTOPK_CACHE_STATS_INIT;
    seqtopk_py_cache_enter(c);
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

PyMethodDef seqtopk_py_cache_methods[] = {
    {"step", CALLABLE(seqtopk_py_step), METH_FASTCALL | METH_KEYWORDS, seqtopk_py_step_doc},
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
