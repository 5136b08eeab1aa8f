/* SPDX-License-Identifier: MIT */
/*
 * What DLPack lays down in memory (dlpack.h 1.3, dmlc/dlpack), as far as arrays of a CPU are read by it: the tensor, its
 * owner in the legacy and in the versioned form, and the table of functions that a type may offer
 * (`__dlpack_c_exchange_api__`), by which a tensor is looked at without making a capsule.
 */
#ifndef SEQTOPK_PYTHON_DLPACK_H
#define SEQTOPK_PYTHON_DLPACK_H

#include <stdint.h>

enum { DLPACK_CPU = 1, DLPACK_CUDA_HOST = 3, DLPACK_ROCM_HOST = 11 };
enum { DLPACK_INT = 0, DLPACK_UINT = 1, DLPACK_FLOAT = 2, DLPACK_BFLOAT = 4, DLPACK_BOOL = 6 };

typedef struct dlpack_version {
    uint32_t major, minor;
} dlpack_version;

typedef struct dlpack_tensor {
    void *data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape;
    int64_t *strides; /* in elements; NULL: compact, row by row */
    uint64_t byte_offset;
} dlpack_tensor;

typedef struct dlpack_managed {
    dlpack_tensor tensor;
    void *context;
    void (*deleter)(struct dlpack_managed *self);
} dlpack_managed;

typedef struct dlpack_managed_versioned {
    dlpack_version version;
    void *context;
    void (*deleter)(struct dlpack_managed_versioned *self);
    uint64_t flags;
    dlpack_tensor tensor;
} dlpack_managed_versioned;

typedef struct dlpack_exchange_header {
    dlpack_version version;
    struct dlpack_exchange_header *previous;
} dlpack_exchange_header;

typedef struct dlpack_exchange {
    dlpack_exchange_header header;
    void (*allocate)(void);
    void (*from_object)(void);
    int (*to_object)(dlpack_managed_versioned *tensor, void **object); /* takes the tensor over */
    int (*look_at)(void *object, dlpack_tensor *out);                  /* borrowed; may be NULL */
    void (*stream)(void);
} dlpack_exchange;

#endif
