/* SPDX-License-Identifier: MIT */
/* What the parts of the conformance program share. */
#ifndef SEQTOPK_TESTS_CHECK_H
#define SEQTOPK_TESTS_CHECK_H

#include "guard.h"
#include "random.h"

#include "src/kernels/registry.h"

#include <stddef.h>
#include <stdint.h>

typedef struct check_run {
    const char *isa; /* NULL: all */
    const char *op;  /* NULL: all */
    int quick;
    uint64_t seed;
    random_state random;
    int64_t passed, failed;
    int64_t dispatched; /* routes through a plan that said which kernels it would use */
    char context[512];  /* what is being checked; printed with a failure, and with a fault */
} check_run;

extern check_run run;

#if defined(__GNUC__)
#define CHECK_PRINTF(text, values) __attribute__((format(printf, text, values)))
#else
#define CHECK_PRINTF(text, values)
#endif

/* Counts one check; on failure prints the context and the message. Returns `fine`. */
int check_that(int fine, const char *format, ...) CHECK_PRINTF(2, 3);
void check_context(const char *format, ...) CHECK_PRINTF(1, 2);

/* Memory that is there, or the program ends. */
void *check_alloc(size_t count, size_t size);

/* Kernels that the options ask for and that this machine can run. */
int check_wants(const seqtopk_row *row);
const seqtopk_row *check_reference(seqtopk_op op, int32_t dtype);
const char *check_dtype_name(int dtype);

/* The next row that is wanted after `row` (NULL: the first), of this op and, unless -1, dtype; NULL after the last. A
 * kernel that no test asks for so has no test, which is a failure. */
const seqtopk_row *check_next(const seqtopk_row *row, seqtopk_op op, int32_t dtype);

/* Whether two arrays are equal to the bit; *where is the first place where they are not. */
int check_same_bits(const float *a, const float *b, size_t n, size_t *where);
/* Whether nobody wrote there. */
int check_is_rubbish(const void *memory, size_t size);

enum { CHECK_EXPERT_COUNTS = 25, CHECK_ROW_COUNTS = 8, CHECK_EXPERTS_MOST = 4096, CHECK_KERNELS_MOST = 1024 };
extern const int32_t check_expert_counts[CHECK_EXPERT_COUNTS], check_row_counts[CHECK_ROW_COUNTS];

void check_rows(void);
void check_select(void);
void check_lists(void);
void check_groups(void);
void check_cache(void);
void check_nan(void);

void check_ops(void);    /* every kernel by its contract in arch/kernel.h */
void check_routes(void); /* every kernel through the public API */
void check_decode(void); /* long sequences, token by token */
/* A sequence with a kernel forced that a step of decoding goes through. */
void check_decode_with(const char *kernel);
void check_dispatch(void); /* that the kernel which a plan names is the one that runs */

#endif
