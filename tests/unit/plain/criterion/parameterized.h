/* SPDX-License-Identifier: MIT */
/* A test for each of an array of parameters; here one after the other in one process. */
#ifndef SEQTOPK_TESTS_PLAIN_PARAMETERIZED_H
#define SEQTOPK_TESTS_PLAIN_PARAMETERIZED_H

#include <criterion/criterion.h>

typedef struct plain_params {
    char *items;
    size_t size, count;
} plain_params;

#define cr_make_param_array(type, array, count) ((plain_params){(char *)(array), sizeof(type), count})
#define ParameterizedTestParameters(in, named) static plain_params plain_params_##in##_##named(void)
#define ParameterizedTest(parameter, in, named)                                                                        \
    static void plain_each_##in##_##named(parameter);                                                                  \
    Test(in, named) {                                                                                                  \
        const plain_params all = plain_params_##in##_##named();                                                        \
        for (size_t i = 0; i < all.count; i++)                                                                         \
            plain_each_##in##_##named((void *)(all.items + i * all.size));                                             \
    }                                                                                                                  \
    static void plain_each_##in##_##named(parameter)

#endif
