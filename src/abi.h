/* SPDX-License-Identifier: MIT */
/* The sizes that the public structs began with: what programs of any version are measured by. */
#ifndef SEQTOPK_SRC_ABI_H
#define SEQTOPK_SRC_ABI_H

#include <seqtopk/seqtopk.h>

/*
 * seqtopk_<name>, the last field of its first version, and the bytes of that where pointers have 8. A row never
 * changes: fields are added at a struct's end, and not into padding there (seqtopk_kernel has some), since the size
 * would not tell who knows them.
 */
#define SEQTOPK_SIZED_STRUCTS(STRUCT)                                                                                  \
    STRUCT(error, message, 256)                                                                                        \
    STRUCT(desc, kernel, 104)                                                                                          \
    STRUCT(preset, second_source, 56)                                                                                  \
    STRUCT(input, bias, 56)                                                                                            \
    STRUCT(output, selected, 160)                                                                                      \
    STRUCT(parallel, context, 24)                                                                                      \
    STRUCT(team, context, 40)                                                                                          \
    STRUCT(exchange, rows, 112)                                                                                        \
    STRUCT(cache_desc, reserved, 64)                                                                                   \
    STRUCT(cache_rows, reserved, 32)                                                                                   \
    STRUCT(cache_stats, most_read, 64)                                                                                 \
    STRUCT(kernel, usable, 64)                                                                                         \
    STRUCT(way, about, 24)                                                                                             \
    STRUCT(choice, tokens_from, 40)                                                                                    \
    STRUCT(tuning_info, reason, 32)

#define SEQTOPK_END_OF(type, field) (offsetof(type, field) + sizeof(((type *)0)->field))

/* SEQTOPK_FIRST_<name>: the size of the first version, as a compiler pads it. */
enum {
#define SEQTOPK_FIRST_SIZE(name, last, bytes)                                                                          \
    SEQTOPK_FIRST_##name = (SEQTOPK_END_OF(seqtopk_##name, last) + _Alignof(seqtopk_##name) - 1) /                     \
                           _Alignof(seqtopk_##name) * _Alignof(seqtopk_##name),
    SEQTOPK_SIZED_STRUCTS(SEQTOPK_FIRST_SIZE)
#undef SEQTOPK_FIRST_SIZE
};

/* Sizes that a struct may have: in steps of a pointer, which none ends in the middle of, and not beyond all reason. */
enum { SEQTOPK_STRUCT_STEP = sizeof(void *), SEQTOPK_STRUCT_MOST = 4096 };

#define SEQTOPK_FIRST_SIZE_STANDS(name, last, bytes)                                                                   \
    _Static_assert(sizeof(void *) != 8 || SEQTOPK_FIRST_##name == (bytes), "the first seqtopk_" #name " has changed"); \
    _Static_assert(sizeof(seqtopk_##name) >= SEQTOPK_FIRST_##name && sizeof(seqtopk_##name) <= SEQTOPK_STRUCT_MOST &&  \
                       sizeof(seqtopk_##name) % SEQTOPK_STRUCT_STEP == 0,                                              \
                   "seqtopk_" #name " has a size that the library itself would refuse");
SEQTOPK_SIZED_STRUCTS(SEQTOPK_FIRST_SIZE_STANDS)
#undef SEQTOPK_FIRST_SIZE_STANDS

#endif
