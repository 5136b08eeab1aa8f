/* SPDX-License-Identifier: MIT */
#include "src/status.h"
#include "src/abi.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *seqtopk_version(void) { return SEQTOPK_VERSION; }

const char *seqtopk_status_string(seqtopk_status status) {
    switch (status) {
    case SEQTOPK_OK: return "success";
    case SEQTOPK_E_NULL: return "a needed pointer is NULL";
    case SEQTOPK_E_STRUCT: return "a struct has an unknown size";
    case SEQTOPK_E_VALUE: return "a value is outside its range";
    case SEQTOPK_E_SHAPE: return "sizes contradict each other";
    case SEQTOPK_E_OVERFLOW: return "more pairs than an int32 list can index";
    case SEQTOPK_E_CAPACITY: return "an output or the scratch is too small";
    case SEQTOPK_E_NONFINITE: return "NaN or +inf in the logits or the bias";
    case SEQTOPK_E_UNSUPPORTED: return "not in this version";
    case SEQTOPK_E_ISA: return "the forced instruction set cannot run here";
    case SEQTOPK_E_KERNEL: return "the forced kernel is unknown or does not apply";
    case SEQTOPK_E_MEMORY: return "out of memory";
    case SEQTOPK_E_FILE: return "a file cannot be read or written";
    case SEQTOPK_E_TUNING: return "the tuning file is of no use here";
    case SEQTOPK_E_TEAM: return "the ranks of a team do not come together";
    }
    return "unknown status";
}

const char *seqtopk_fallback_string(seqtopk_fallback fallback) {
    switch (fallback) {
    case SEQTOPK_FALLBACK_NONE: return "none";
    case SEQTOPK_FALLBACK_TIES: return "more ties than there is space for";
    case SEQTOPK_FALLBACK_SAMPLE: return "the sampled rows misled";
    case SEQTOPK_FALLBACK_FEW: return "fewer candidates than the budget";
    }
    return "unknown reason";
}

seqtopk_status seqtopk_fail(seqtopk_error *error, seqtopk_status status, int64_t token, const char *format, ...) {
    if (error) {
        va_list arguments;
        va_start(arguments, format);
        error->status = status;
        error->token = token;
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
    }
    return status;
}

/* What is written here and above is in the first version's size, so that no other size needs to be looked at. */
seqtopk_status seqtopk_error_clear(seqtopk_error *error) {
    if (!error)
        return SEQTOPK_OK;
    if (!seqtopk_struct_is_sized(error, SEQTOPK_FIRST_error))
        return SEQTOPK_E_STRUCT;
    error->status = SEQTOPK_OK;
    error->token = -1;
    error->message[0] = '\0';
    return SEQTOPK_OK;
}

static uint32_t size_of(const void *sized) {
    uint32_t size;
    memcpy(&size, sized, sizeof size);
    return size;
}

int seqtopk_struct_is_sized(const void *theirs, size_t first_size) {
    const uint32_t size = size_of(theirs);
    return size >= first_size && size <= SEQTOPK_STRUCT_MOST && size % SEQTOPK_STRUCT_STEP == 0;
}

seqtopk_status seqtopk_take_other_struct(void *ours, size_t our_size, size_t first_size, const void *theirs,
                                         const char *name, seqtopk_error *error) {
    if (!theirs)
        return seqtopk_fail(error, SEQTOPK_E_NULL, -1, "%s is NULL", name);
    const uint32_t size = size_of(theirs);
    if (!seqtopk_struct_is_sized(theirs, first_size))
        return seqtopk_fail(error, SEQTOPK_E_STRUCT, -1,
                            "%s.struct_size is %" PRIu32 ", which it never was (now %zu): begin with the struct's "
                            "*_INIT macro",
                            name, size, our_size);
    for (size_t i = our_size; i < size; i++)
        if (((const unsigned char *)theirs)[i])
            return seqtopk_fail(error, SEQTOPK_E_UNSUPPORTED, -1,
                                "%s sets a field that library %s does not know (byte %zu): link a newer library", name,
                                SEQTOPK_VERSION, i);
    if (size < our_size)
        memset(ours, 0, our_size);
    memcpy(ours, theirs, size < our_size ? size : our_size);
    return SEQTOPK_OK;
}

void seqtopk_give_struct(void *theirs, const void *ours, size_t our_size) {
    const uint32_t size = size_of(theirs);
    memcpy((unsigned char *)theirs + sizeof size, (const unsigned char *)ours + sizeof size,
           (size < our_size ? size : our_size) - sizeof size);
}
