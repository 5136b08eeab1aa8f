/* SPDX-License-Identifier: MIT */
/*
 * As much of Criterion as the unit tests use, for where there is no Criterion: other processors, another libc, and
 * sanitizers that want all of a program compiled with them. Every test runs in a process of its own, as there.
 */
#ifndef SEQTOPK_TESTS_PLAIN_CRITERION_H
#define SEQTOPK_TESTS_PLAIN_CRITERION_H

#include <stddef.h>
#include <string.h>

typedef struct plain_options {
    double timeout; /* seconds */
    int unused;
} plain_options;

typedef struct plain_test {
    const char *suite, *name;
    void (*run)(void);
    plain_options options;
    struct plain_test *next;
} plain_test;

void plain_add(plain_test *test);
/* Returns `right`. What was expected and is not so is printed; what was asserted ends the test. */
int plain_check(int right, int fatal, const char *file, int line, const char *what, const char *format, ...);
_Noreturn void plain_skip(const char *format, ...);

/* C11 wants something in the place of dots, so that all macros add to what they are given: an option, a message. */
#define Test(...) PLAIN_TEST(__VA_ARGS__, .unused = 0)
#define PLAIN_TEST(in, named, ...)                                                                                     \
    static void plain_##in##_##named(void);                                                                            \
    __attribute__((constructor)) static void plain_add_##in##_##named(void) {                                          \
        static plain_test test = {#in, #named, plain_##in##_##named, {__VA_ARGS__}, NULL};                             \
        plain_add(&test);                                                                                              \
    }                                                                                                                  \
    static void plain_##in##_##named(void)

#define PLAIN(right, fatal, what, ...) plain_check((right) != 0, fatal, __FILE__, __LINE__, what, __VA_ARGS__)
#define PLAIN_IS(fatal, a, ...) PLAIN(a, fatal, #a, __VA_ARGS__)
#define PLAIN_NOT(fatal, a, ...) PLAIN(!(a), fatal, "not " #a, __VA_ARGS__)
#define PLAIN_FAIL(fatal, ...) PLAIN(0, fatal, "not to come here", __VA_ARGS__)
#define PLAIN_EQ(fatal, a, b, ...) PLAIN((a) == (b), fatal, #a " == " #b, __VA_ARGS__)
#define PLAIN_NEQ(fatal, a, b, ...) PLAIN((a) != (b), fatal, #a " != " #b, __VA_ARGS__)
#define PLAIN_LT(fatal, a, b, ...) PLAIN((a) < (b), fatal, #a " < " #b, __VA_ARGS__)
#define PLAIN_LEQ(fatal, a, b, ...) PLAIN((a) <= (b), fatal, #a " <= " #b, __VA_ARGS__)
#define PLAIN_GT(fatal, a, b, ...) PLAIN((a) > (b), fatal, #a " > " #b, __VA_ARGS__)
#define PLAIN_GEQ(fatal, a, b, ...) PLAIN((a) >= (b), fatal, #a " >= " #b, __VA_ARGS__)
#define PLAIN_NULL(fatal, a, ...) PLAIN((a) == NULL, fatal, #a " to be NULL", __VA_ARGS__)
#define PLAIN_NOT_NULL(fatal, a, ...) PLAIN((a) != NULL, fatal, #a " not to be NULL", __VA_ARGS__)
#define PLAIN_STR_EQ(fatal, a, b, ...) PLAIN(strcmp(a, b) == 0, fatal, #a " to be the string " #b, __VA_ARGS__)
#define PLAIN_STR_NEQ(fatal, a, b, ...) PLAIN(strcmp(a, b) != 0, fatal, #a " not to be the string " #b, __VA_ARGS__)
#define PLAIN_ARR_EQ(fatal, a, b, n, ...)                                                                              \
    PLAIN(memcmp(a, b, n) == 0, fatal, #a " to have the bytes of " #b, __VA_ARGS__)
#define PLAIN_FLOAT_EQ(fatal, a, b, off, ...)                                                                          \
    PLAIN((a) - (b) <= (off) && (b) - (a) <= (off), fatal, #a " to be near " #b, __VA_ARGS__)

#define cr_expect(...) PLAIN_IS(0, __VA_ARGS__, "")
#define cr_expect_not(...) PLAIN_NOT(0, __VA_ARGS__, "")
#define cr_expect_fail(...) PLAIN_FAIL(0, __VA_ARGS__, "")
#define cr_expect_eq(...) PLAIN_EQ(0, __VA_ARGS__, "")
#define cr_expect_neq(...) PLAIN_NEQ(0, __VA_ARGS__, "")
#define cr_expect_lt(...) PLAIN_LT(0, __VA_ARGS__, "")
#define cr_expect_leq(...) PLAIN_LEQ(0, __VA_ARGS__, "")
#define cr_expect_gt(...) PLAIN_GT(0, __VA_ARGS__, "")
#define cr_expect_geq(...) PLAIN_GEQ(0, __VA_ARGS__, "")
#define cr_expect_null(...) PLAIN_NULL(0, __VA_ARGS__, "")
#define cr_expect_not_null(...) PLAIN_NOT_NULL(0, __VA_ARGS__, "")
#define cr_expect_str_eq(...) PLAIN_STR_EQ(0, __VA_ARGS__, "")
#define cr_expect_str_neq(...) PLAIN_STR_NEQ(0, __VA_ARGS__, "")
#define cr_expect_arr_eq(...) PLAIN_ARR_EQ(0, __VA_ARGS__, "")
#define cr_expect_float_eq(...) PLAIN_FLOAT_EQ(0, __VA_ARGS__, "")

#define cr_assert(...) PLAIN_IS(1, __VA_ARGS__, "")
#define cr_assert_not(...) PLAIN_NOT(1, __VA_ARGS__, "")
#define cr_assert_fail(...) PLAIN_FAIL(1, __VA_ARGS__, "")
#define cr_assert_eq(...) PLAIN_EQ(1, __VA_ARGS__, "")
#define cr_assert_neq(...) PLAIN_NEQ(1, __VA_ARGS__, "")
#define cr_assert_lt(...) PLAIN_LT(1, __VA_ARGS__, "")
#define cr_assert_leq(...) PLAIN_LEQ(1, __VA_ARGS__, "")
#define cr_assert_gt(...) PLAIN_GT(1, __VA_ARGS__, "")
#define cr_assert_geq(...) PLAIN_GEQ(1, __VA_ARGS__, "")
#define cr_assert_null(...) PLAIN_NULL(1, __VA_ARGS__, "")
#define cr_assert_not_null(...) PLAIN_NOT_NULL(1, __VA_ARGS__, "")
#define cr_assert_str_eq(...) PLAIN_STR_EQ(1, __VA_ARGS__, "")
#define cr_assert_str_neq(...) PLAIN_STR_NEQ(1, __VA_ARGS__, "")
#define cr_assert_arr_eq(...) PLAIN_ARR_EQ(1, __VA_ARGS__, "")
#define cr_assert_float_eq(...) PLAIN_FLOAT_EQ(1, __VA_ARGS__, "")

#define cr_skip(...) plain_skip(__VA_ARGS__)
#define cr_skip_test(...) plain_skip(__VA_ARGS__)

#endif
