/* SPDX-License-Identifier: MIT */
/* Every kernel alone, by its contract in arch/kernel.h: reference's bits, oracle, guarded memory. */
#include "bits.h"
#include "cases.h"
#include "check.h"

#include <string.h>

const int32_t check_expert_counts[CHECK_EXPERT_COUNTS] = {1,  2,  3,  7,   8,   13,  15,  16,  17,  31,   32,   33,  40,
                                                          60, 64, 67, 127, 128, 160, 256, 384, 512, 1021, 2048, 4096};
const int32_t check_row_counts[CHECK_ROW_COUNTS] = {0, 1, 2, 3, 5, 16, 17, 33};

static unsigned char visited[CHECK_KERNELS_MOST];

const seqtopk_row *check_next(const seqtopk_row *row, seqtopk_op op, int32_t dtype) {
    for (row = row ? row + 1 : seqtopk_registry; row < seqtopk_registry + seqtopk_registry_size; row++)
        if (row->op == op && (dtype < 0 || row->dtype == dtype) && check_wants(row)) {
            visited[row - seqtopk_registry] = 1;
            return row;
        }
    return NULL;
}

int check_same_bits(const float *a, const float *b, size_t n, size_t *where) {
    for (*where = 0; *where < n; ++*where)
        if (bits_of(a[*where]) != bits_of(b[*where]))
            return 0;
    return 1;
}

int check_is_rubbish(const void *memory, size_t size) {
    const unsigned char *bytes = memory;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != GUARD_RUBBISH)
            return 0;
    return 1;
}

void check_ops(void) {
    case_random = &run.random;
    check_rows();
    check_select();
    check_lists();
    check_cache();
    check_groups();
    check_nan();
    case_close();
    for (int32_t i = 0; i < seqtopk_registry_size; i++) {
        check_context("%s", seqtopk_registry[i].name);
        if (check_wants(seqtopk_registry + i))
            check_that(visited[i], "no test calls this kernel");
    }
}
