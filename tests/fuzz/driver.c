/* SPDX-License-Identifier: MIT */
/*
 * Drives a target without libFuzzer: fuzz [RUNS [SEED]] for random inputs, fuzz FILE... for these, or fuzz --corpus FILE for
 * those of a corpus in the tree (corpus.py). libFuzzer itself: docs/releasing.md.
 */
#include "fuzz.h"

#include "tests/random.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_RUNS = 2000 };

static int run_file(const char *path, uint8_t *buffer) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    const size_t size = fread(buffer, 1, fuzz_longest, file);
    fclose(file);
    printf("%s: %zu bytes\n", path, size);
    return LLVMFuzzerTestOneInput(buffer, size);
}

/* A line of hexadecimal digits; -1: it is none, or the file has ended. */
static int64_t read_line(FILE *file, uint8_t *buffer) {
    unsigned byte;
    int64_t size = 0;
    while (size < (int64_t)fuzz_longest && fscanf(file, "%2x", &byte) == 1) {
        buffer[size++] = (uint8_t)byte;
        const int next = fgetc(file);
        if (next == '\n')
            return size;
        ungetc(next, file);
    }
    return -1;
}

/* Of its exact size, so that a sanitizer sees a read beyond it. */
static int run_exactly(const uint8_t *data, size_t size) {
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact)
        return 1;
    memcpy(exact, data, size);
    const int status = LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return status;
}

static int run_corpus(const char *path, uint8_t *buffer) {
    FILE *file = fopen(path, "r");
    int64_t size, inputs = 0;
    int status = 0;
    if (!file) {
        perror(path);
        return 1;
    }
    while ((size = read_line(file, buffer)) >= 0) {
        status |= run_exactly(buffer, (size_t)size);
        inputs++;
    }
    status |= !feof(file) || inputs == 0;
    fclose(file);
    printf("%" PRId64 " inputs of a corpus\n", inputs);
    return status;
}

static int is_number(const char *text) {
    char *end;
    (void)strtoull(text, &end, 0);
    return *text && !*end;
}

int main(int argc, char **argv) {
    uint8_t *buffer = malloc(fuzz_longest);
    if (!buffer)
        return 1;
    if (argc > 1 && !is_number(argv[1])) {
        int status = 0;
        if (argc == 3 && strcmp(argv[1], "--corpus") == 0)
            status = run_corpus(argv[2], buffer);
        else
            for (int i = 1; i < argc; i++)
                status |= run_file(argv[i], buffer);
        free(buffer);
        return status;
    }
    const uint64_t runs = argc > 1 ? strtoull(argv[1], NULL, 0) : DEFAULT_RUNS;
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : random_first_seed();
    random_state random;
    printf("seed %" PRIu64 "\n", seed);
    fflush(stdout);
    for (uint64_t i = 0; i < runs; i++) {
        /* Each from a seed of its own, so that one can be had again: SEED + i and one run. */
        random_seed(&random, seed + i);
        size_t size = random_below(&random, (uint32_t)(random_below(&random, 4) ? 512 : fuzz_longest) + 1);
        size = size < fuzz_longest ? size : fuzz_longest;
        for (size_t j = 0; j < size; j++)
            buffer[j] = (uint8_t)random_u64(&random);
        fuzz_shape(buffer, &size, fuzz_longest, random_u64(&random));
        if (run_exactly(buffer, size))
            return 1;
    }
    free(buffer);
    printf("%" PRIu64 " inputs\n", runs);
    return 0;
}
