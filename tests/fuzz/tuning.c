/* SPDX-License-Identifier: MIT */
/*
 * Tuning files, which may come from anywhere. What is read must be what is written again; what a plan takes from it
 * must be what it could have been forced to.
 *
 * An input is read as it is, and once more as what a file holds beside its head and checksums: choices, an empty line,
 * decisions. Those are put around it here, so that a fuzzer's changes pass the door, and corpora are of no machine.
 */
#include "fuzz.h"

#include "src/tuning/machine.h"
#include "src/tuning/text.h"

#include <stdio.h>
#include <stdlib.h>

const size_t fuzz_longest = 1 << 14;

static void fail(const char *what) {
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

/* A word and the checksum that makes what comes before it whole; returns the new size. */
static size_t sign(uint8_t *data, size_t size, size_t capacity, const char *word) {
    if (size + strlen(word) + SEQTOPK_TUNING_DIGITS + 2 > capacity)
        return size;
    memcpy(data + size, word, strlen(word));
    size += strlen(word);
    char sum[SEQTOPK_TUNING_DIGITS + 2];
    snprintf(sum, sizeof sum, "%016llx\n", (unsigned long long)seqtopk_tuning_file_checksum((char *)data, size));
    memcpy(data + size, sum, sizeof sum - 1);
    return size + sizeof sum - 1;
}

static uint64_t next(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return *state >> 33;
}

/* Any row, or one of the same op and dtype. */
static const seqtopk_row *row_like(const seqtopk_row *heading, uint64_t *state) {
    const uint64_t size = (uint64_t)seqtopk_registry_size, begin = next(state) % size;
    const seqtopk_row *row = seqtopk_registry + begin;
    for (uint64_t i = 0; i < size && heading && next(state) % 64; i++) {
        row = seqtopk_registry + (begin + i) % size;
        if (row->op == heading->op && row->dtype == heading->dtype)
            break;
    }
    return row;
}

/* A heading of the same op, with a larger shape, or of a later one. */
static const seqtopk_row *next_heading(const seqtopk_row *heading, unsigned *shape, uint64_t *random) {
    const seqtopk_row *row = row_like(next(random) % 2 ? heading : NULL, random);
    *shape += (unsigned)(next(random) % 3);
    return heading && row->op < heading->op && next(random) % 16 ? heading : row;
}

static size_t put_heading(char *text, const seqtopk_row *row, unsigned shape, uint64_t *random) {
    static const char *const scopes[] = {"sequence", "token", "online"};
    static const char *const scores[] = {"softmax", "sigmoid", "sqrtsoftplus", "logits"};
    return (size_t)snprintf(text, 128, "[%s %s %s %s", row->op_name, row->dtype_name,
                            scopes[next(random) % 16 ? shape % 2 : 2], scores[next(random) % 4]);
}

static size_t put_numbers(char *text, unsigned shape, uint64_t *random) {
    return (size_t)snprintf(text, 128, "%u %u %u", next(random) % 16 ? 8 + shape : 0,
                            next(random) % 16 ? 1 + shape / 4 : 99, 1 + (unsigned)(next(random) % 3));
}

static size_t put_row(char *text, const seqtopk_row *row, uint64_t *random) {
    return (size_t)snprintf(text, 128, "%s@%d", row->variant, (int)(next(random) % 16 ? row->revision : 9));
}

static size_t put_choices(char *text, size_t capacity, uint64_t *random) {
    const seqtopk_row *heading = NULL;
    size_t at = 0;
    unsigned shape = 0;
    for (uint64_t lines = next(random) % 30; lines > 0 && at + 3072 < capacity; lines--) {
        if (!heading || next(random) % 4 == 0) {
            heading = next_heading(heading, &shape, random);
            at += put_heading(text + at, heading, shape, random);
            at += (size_t)snprintf(text + at, 4, "]\n");
        }
        shape += (unsigned)(next(random) % 3);
        at += put_numbers(text + at, shape, random);
        text[at++] = ':';
        for (unsigned power = (unsigned)(next(random) % 4); power < 33; power += 1 + (unsigned)(next(random) % 16)) {
            at += (size_t)snprintf(text + at, 32, " %u ", 1u << power % 32);
            if (next(random) % 8)
                at += put_row(text + at, row_like(heading, random), random);
            else
                text[at++] = '-';
        }
        text[at++] = '\n';
    }
    return at;
}

static size_t put_decisions(char *text, size_t capacity, uint64_t *random) {
    const seqtopk_row *heading = NULL;
    size_t at = 0;
    unsigned power = 0, shape = 0;
    for (uint64_t lines = next(random) % 60; lines > 0 && at + 512 < capacity; lines--) {
        if (!heading || next(random) % 8 == 0) {
            heading = next_heading(heading, &shape, random);
            power = 0;
            at += put_heading(text + at, heading, shape, random);
            text[at++] = ' ';
            at += put_numbers(text + at, shape, random);
            at += (size_t)snprintf(text + at, 4, "]\n");
        }
        at += (size_t)snprintf(text + at, 32, "%u ", 1u << power % 32);
        at += put_row(text + at, row_like(heading, random), random);
        at +=
            (size_t)snprintf(text + at, 64, " %u %u ", 1 + (unsigned)next(random), (unsigned)(next(random) % 1010000));
        power += (unsigned)(next(random) % 4);
        if (next(random) % 2)
            at += (size_t)snprintf(text + at, 128, "alone\n");
        else
            at += (size_t)snprintf(text + at, 128, "%s %u %s\n", row_like(heading, random)->variant,
                                   (unsigned)next(random) % 999, next(random) % 2 ? "clear" : "close");
    }
    return at;
}

/* What a file holds: lines that are nearly right. */
void fuzz_shape(uint8_t *data, size_t *size, size_t capacity, uint64_t random) {
    static char choices[6 << 10], decisions[2 << 10];
    if (random % 8 == 0)
        return;
    const size_t first = put_choices(choices, sizeof choices, &random);
    const size_t second = put_decisions(decisions, sizeof decisions, &random);
    if (first + second + 1 > capacity)
        return;
    memcpy(data, choices, first);
    data[first] = '\n';
    memcpy(data + first + 1, decisions, second);
    *size = first + 1 + second;
    for (uint64_t changes = next(&random) % 4; changes > 0; changes--)
        data[next(&random) % *size] = (uint8_t)next(&random);
}

/* Where an empty line is, or the end. */
static size_t find_break(const uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (data[i] == '\n' && (i == 0 || data[i - 1] == '\n'))
            return i;
    return size;
}

/* A whole file of this machine around an input; returns its size. */
static size_t put_around(uint8_t *file, size_t capacity, const uint8_t *data, size_t size) {
    const size_t first = find_break(data, size), second = first < size ? size - first - 1 : 0;
    const size_t measured = strlen("measured ") + SEQTOPK_TUNING_DIGITS + 1;
    size_t at = (size_t)snprintf((char *)file, capacity, "seqtopk-tuning 1\nlibrary %s\nmachine %s\nchoices %zu\n",
                                 SEQTOPK_VERSION, seqtopk_machine_key(), first + measured);
    memcpy(file + at, data, first);
    at = sign(file, at + first, capacity, "measured ");
    memcpy(file + at, data + size - second, second);
    at += second;
    if (second > 0 && file[at - 1] != '\n')
        file[at++] = '\n';
    return sign(file, at, capacity, "end 1 ");
}

static void check_codec(const char *text, size_t size) {
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    seqtopk_tuning_file w, back;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    if (seqtopk_tuning_file_parse(&w, text, size, &any, &error)) {
        if (!error.message[0] || strchr(error.message, '\n') || w.measurement)
            fail("a refusal is one line and leaves nothing");
        return;
    }
    if (w.dropped < w.notes || (size_t)w.size + (size_t)w.dropped > size)
        fail("more than there was");
    for (int32_t i = 0; i < w.size; i++)
        if (seqtopk_tuning_shape_check(&w.measurement[i].shape) || seqtopk_measurement_check(w.measurement + i) ||
            (i > 0 && seqtopk_measurement_compare(w.measurement + i - 1, w.measurement + i) >= 0))
            fail("a decision that is none, or out of order");
    const size_t length = seqtopk_tuning_file_encode(&w, NULL, 0);
    char *written = malloc(length), *again = malloc(length);
    if (!written || !again || seqtopk_tuning_file_encode(&w, written, length) != length)
        fail("writing");
    if (seqtopk_tuning_file_parse(&back, written, length, &any, &error) || back.size != w.size || back.dropped)
        fail("what was written is not read");
    for (int32_t i = 0; i < w.size; i++) {
        w.measurement[i].line = back.measurement[i].line = 0;
        if (memcmp(w.measurement + i, back.measurement + i, sizeof *w.measurement) != 0)
            fail("what was written is read as something else");
    }
    if (seqtopk_tuning_file_encode(&back, again, length) != length || memcmp(written, again, length) != 0)
        fail("the same decisions are written in two ways");
    free(written);
    free(again);
    seqtopk_tuning_file_free(&w);
    seqtopk_tuning_file_free(&back);
}

static void check_plan(const seqtopk_tuning *tuning, seqtopk_desc desc) {
    seqtopk_plan *plan, *forced;
    desc.tuning = tuning;
    if (seqtopk_plan_create(&plan, &desc, NULL))
        fail("no plan");
    seqtopk_choice choice = SEQTOPK_CHOICE_INIT, before = SEQTOPK_CHOICE_INIT;
    for (int32_t i = 0; seqtopk_plan_choice(plan, i, &choice) == SEQTOPK_OK; i++) {
        if (before.op && strcmp(before.op, choice.op) == 0 ? choice.tokens_from <= before.tokens_from
                                                           : choice.tokens_from != 0)
            fail("choices overlap, or begin late");
        before = choice;
        if (strncmp(choice.why, "tuning", 6) != 0)
            continue;
        desc.tuning = seqtopk_tuning_none();
        desc.kernel = choice.kernel;
        if (seqtopk_plan_create(&forced, &desc, NULL))
            fail("a tuning file chose what cannot be forced");
        seqtopk_plan_destroy(forced);
        desc.kernel = NULL;
    }
    seqtopk_plan_destroy(plan);
}

static void check_file(const uint8_t *data, size_t size) {
    check_codec((const char *)data, size);
    seqtopk_tuning *tuning;
    if (seqtopk_tuning_parse(&tuning, data, size, NULL))
        return;
    for (int i = 0; i < 4; i++) {
        seqtopk_desc desc = SEQTOPK_DESC_INIT;
        desc.experts = 16 << 2 * (i & 1);
        desc.top_k = 4;
        desc.scope = (seqtopk_scope)(i >> 1);
        desc.dtype = (seqtopk_dtype)(i % 3);
        check_plan(tuning, desc);
    }
    seqtopk_tuning_info info = SEQTOPK_TUNING_INFO_INIT;
    int32_t line, last = 0;
    if (seqtopk_tuning_get_info(tuning, &info) || !info.reason)
        fail("info");
    for (int32_t i = 0; i < info.dropped; i++, last = line)
        if (!seqtopk_tuning_dropped(tuning, i, &line) || line <= last)
            fail("a dropped line without a reason or out of order");
    if (seqtopk_tuning_dropped(tuning, info.dropped, &line))
        fail("a reason too many");
    seqtopk_tuning_free(tuning);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t file[(1 << 14) + 1024];
    check_file(data, size);
    if (size + 1024 > sizeof file)
        return 0;
    /* Of its exact size, so that a sanitizer sees a read beyond it. */
    const size_t whole = put_around(file, sizeof file, data, size);
    uint8_t *exact = malloc(whole);
    if (exact) {
        memcpy(exact, file, whole);
        check_file(exact, whole);
    }
    free(exact);
    return 0;
}
