/* SPDX-License-Identifier: MIT */
#include "array.h"
#include "dlpack.h"

#include <string.h>

/* -- which door a type of objects has, remembered by type ------------------------------------------------------------ */

typedef struct door {
    PyTypeObject *type; /* held, so that its address stays its own */
    const dlpack_exchange *exchange;
    int is_torch;
} door;

enum { DOORS = 8 };
static seqtopk_py_lock doors_lock;
static door doors[DOORS];
static int doors_used, doors_next;

const dlpack_exchange *seqtopk_py_exchange_of(PyTypeObject *type) {
    PyObject *capsule = PyObject_GetAttrString((PyObject *)type, "__dlpack_c_exchange_api__");
    const dlpack_exchange *exchange = NULL;
    if (capsule && PyCapsule_IsValid(capsule, "dlpack_exchange_api"))
        exchange = PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
    /* The table lives as long as the process; of other major versions an older one may hang behind it. */
    const dlpack_exchange_header *header = exchange ? &exchange->header : NULL;
    while (header && header->version.major != 1)
        header = header->previous;
    Py_XDECREF(capsule);
    PyErr_Clear();
    exchange = (const dlpack_exchange *)(const void *)header;
    return exchange && exchange->look_at ? exchange : NULL;
}

/* torch.Tensor or made from it: whether results are to be tensors. */
static int is_of_torch(PyTypeObject *type) {
    PyObject *torch = PyMapping_GetItemString(PyImport_GetModuleDict(), "torch");
    PyObject *tensor = torch ? PyObject_GetAttrString(torch, "Tensor") : NULL;
    int is_torch = tensor && PyType_Check(tensor) && PyType_IsSubtype(type, (PyTypeObject *)tensor);
    Py_XDECREF(torch);
    Py_XDECREF(tensor);
    PyErr_Clear();
    return is_torch;
}

static int find_door(PyTypeObject *type, door *found) {
    int i = 0;
    SEQTOPK_PY_LOCK(&doors_lock);
    while (i < doors_used && doors[i].type != type)
        i++;
    if (i < doors_used)
        *found = doors[i];
    const int is_known = i < doors_used;
    SEQTOPK_PY_UNLOCK(&doors_lock);
    return is_known;
}

/* Two threads may add the same one: it is found once, and makes room for others like any. */
static void add_door(const door *d) {
    Py_INCREF((PyObject *)d->type);
    SEQTOPK_PY_LOCK(&doors_lock);
    const door old = doors[doors_next];
    doors[doors_next] = *d;
    doors_next = (doors_next + 1) % DOORS;
    if (doors_used < DOORS)
        doors_used++;
    SEQTOPK_PY_UNLOCK(&doors_lock);
    Py_XDECREF((PyObject *)old.type);
}

static door door_of(PyTypeObject *type) {
    door d;
    if (!find_door(type, &d)) {
        d = (door){.type = type, .exchange = seqtopk_py_exchange_of(type), .is_torch = is_of_torch(type)};
        add_door(&d);
    }
    return d;
}

/* -- the three ways in ----------------------------------------------------------------------------------------------- */

static seqtopk_py_type type_of_dlpack(const dlpack_tensor *t) {
    if (t->lanes != 1)
        return SEQTOPK_PY_OTHER;
    switch (t->code << 8 | t->bits) {
    case DLPACK_FLOAT << 8 | 32: return SEQTOPK_PY_F32;
    case DLPACK_FLOAT << 8 | 16: return SEQTOPK_PY_F16;
    case DLPACK_BFLOAT << 8 | 16: return SEQTOPK_PY_BF16;
    case DLPACK_INT << 8 | 32: return SEQTOPK_PY_I32;
    case DLPACK_INT << 8 | 64: return SEQTOPK_PY_I64;
    case DLPACK_UINT << 8 | 8:
    case DLPACK_BOOL << 8 | 8: return SEQTOPK_PY_U8;
    default: return SEQTOPK_PY_OTHER;
    }
}

static int take_dlpack(seqtopk_py_array *array, const dlpack_tensor *t, const char *name) {
    if (t->device_type != DLPACK_CPU && t->device_type != DLPACK_CUDA_HOST && t->device_type != DLPACK_ROCM_HOST) {
        PyErr_Format(PyExc_ValueError, "%s: on a device other than the CPU (DLPack's type %d): move it there first",
                     name, (int)t->device_type);
        return -1;
    }
    array->type = type_of_dlpack(t);
    array->data = t->data ? (char *)t->data + t->byte_offset : NULL;
    array->ndim = t->ndim;
    int64_t stride = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (i < 2) {
            array->shape[i] = t->shape[i];
            array->strides[i] = t->strides ? t->strides[i] : stride;
        }
        stride *= t->shape[i];
    }
    return 0;
}

static seqtopk_py_type type_of_format(const char *format, Py_ssize_t size) {
    if (!format)
        return SEQTOPK_PY_U8;
    if (*format == '=' || *format == '@' || (*format == '<' && PY_LITTLE_ENDIAN))
        format++;
    if (!*format || format[1])
        return SEQTOPK_PY_OTHER;
    switch (*format) {
    case 'f': return SEQTOPK_PY_F32;
    case 'e': return SEQTOPK_PY_F16;
    case 'i':
    case 'l':
    case 'q':
    case 'n': return size == 4 ? SEQTOPK_PY_I32 : size == 8 ? SEQTOPK_PY_I64 : SEQTOPK_PY_OTHER;
    case 'B':
    case '?': return SEQTOPK_PY_U8;
    default: return SEQTOPK_PY_OTHER;
    }
}

static int take_buffer(seqtopk_py_array *array) {
    const Py_buffer *view = &array->view;
    array->type = type_of_format(view->format, view->itemsize);
    array->data = view->buf;
    array->ndim = view->ndim;
    for (int i = 0; i < view->ndim && i < 2; i++) {
        array->shape[i] = view->shape[i];
        if (view->shape[i] > 1 && view->strides[i] % view->itemsize)
            array->type = SEQTOPK_PY_OTHER; /* a field of a record */
        array->strides[i] = view->strides[i] / view->itemsize;
    }
    return 0;
}

/* NumPy lends no buffer of a type that is not its own: ml_dtypes' bfloat16 is looked at as the integers it is stored as. */
static int take_bfloat16(seqtopk_py_array *array, PyObject *object) {
    PyObject *dtype = PyObject_GetAttrString(object, "dtype");
    PyObject *word = dtype ? PyObject_GetAttrString(dtype, "name") : NULL;
    int is_bfloat16 = word && PyUnicode_Check(word) && PyUnicode_CompareWithASCIIString(word, "bfloat16") == 0;
    Py_XDECREF(dtype);
    Py_XDECREF(word);
    PyErr_Clear();
    if (!is_bfloat16)
        return -1;
    array->owner = PyObject_CallMethod(object, "view", "s", "uint16");
    if (!array->owner || PyObject_GetBuffer(array->owner, &array->view, PyBUF_STRIDES | PyBUF_FORMAT) < 0) {
        PyErr_Clear();
        return -1;
    }
    take_buffer(array);
    array->type = SEQTOPK_PY_BF16;
    return 0;
}

static PyObject *capsule_of(PyObject *object) {
    PyObject *method = PyObject_GetAttrString(object, "__dlpack__");
    if (!method)
        return NULL;
    PyObject *none = PyTuple_New(0), *newest = Py_BuildValue("{s(ii)}", "max_version", 1, 0);
    PyObject *capsule = none && newest ? PyObject_Call(method, none, newest) : NULL;
    if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError)) { /* from before there were versions */
        PyErr_Clear();
        capsule = PyObject_CallNoArgs(method);
    }
    Py_XDECREF(none);
    Py_XDECREF(newest);
    Py_DECREF(method);
    return capsule;
}

/* The capsule is not consumed: it is let go by whoever made it, when it goes. */
static int take_capsule(seqtopk_py_array *array, PyObject *object, const char *name) {
    array->owner = capsule_of(object);
    if (!array->owner)
        return -1;
    if (PyCapsule_IsValid(array->owner, "dltensor_versioned")) {
        dlpack_managed_versioned *m = PyCapsule_GetPointer(array->owner, "dltensor_versioned");
        if (m->version.major == 1)
            return take_dlpack(array, &m->tensor, name);
    }
    dlpack_managed *m = PyCapsule_GetPointer(array->owner, "dltensor");
    return m ? take_dlpack(array, &m->tensor, name) : -1;
}

static int open(seqtopk_py_array *array, PyObject *object, const char *name) {
    const door d = door_of(Py_TYPE(object));
    array->is_torch = d.is_torch;
    if (d.exchange) {
        dlpack_tensor tensor;
        memset(&tensor, 0, sizeof tensor);
        if (d.exchange->look_at(object, &tensor) == 0)
            return take_dlpack(array, &tensor, name);
        /* torch says so in a page of C++ frames. */
        PyErr_Format(PyExc_TypeError, "%s: a dense tensor in memory is wanted, and this one is not (meta, sparse?)",
                     name);
        return -1;
    }
    if (PyObject_CheckBuffer(object)) {
        if (PyObject_GetBuffer(object, &array->view, PyBUF_STRIDES | PyBUF_FORMAT) == 0)
            return take_buffer(array);
        array->view.obj =
            NULL; /* bfloat16, mostly, for which buffers have no letter: JAX has it by DLPack, NumPy has not */
        PyErr_Clear();
    }
    if (PyObject_HasAttrString(object, "__dlpack__")) {
        if (take_capsule(array, object, name) == 0)
            return 0;
        if (array->owner || !PyErr_ExceptionMatches(PyExc_BufferError))
            return -1;
        PyObject *type, *why, *trace;
        PyErr_Fetch(&type, &why, &trace);
        int status = take_bfloat16(array, object);
        if (status < 0)
            PyErr_Format(PyExc_TypeError, "%s: %S", name, why ? why : type);
        Py_XDECREF(type);
        Py_XDECREF(why);
        Py_XDECREF(trace);
        return status;
    }
    PyErr_Format(PyExc_TypeError, "%s: an array is wanted (NumPy, torch, JAX, or any with DLPack or a buffer), not %s",
                 name, Py_TYPE(object)->tp_name);
    return -1;
}

int seqtopk_py_array_open(seqtopk_py_array *array, PyObject *object, const char *name) {
    memset(array, 0, sizeof *array);
    if (open(array, object, name) == 0)
        return 0;
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_TypeError, "%s: a buffer of %s that cannot be read", name, Py_TYPE(object)->tp_name);
    seqtopk_py_array_close(array);
    return -1;
}

void seqtopk_py_array_close(seqtopk_py_array *array) {
    if (array->view.obj)
        PyBuffer_Release(&array->view);
    Py_CLEAR(array->owner);
    PyMem_Free(array->copy);
    array->copy = NULL;
}
