/* SPDX-License-Identifier: MIT */
/* The codec of tuning files: there and back, and every way in which a file can be no good. */
#include "tuning.h"

#include "src/tuning/machine.h"

#include <inttypes.h>
#include <limits.h>

/* ----------------------------------------------------------- there and back -- */

Test(tuning_file, layout) {
    seqtopk_tuning_file w = tuning_small();
    char *text = tuning_text(&w);
    static const char expected[] = "seqtopk-tuning 1\n"
                                   "library 0.0.1\n"
                                   "machine test ref -\n"
                                   "choices 193\n"
                                   "[collect_logits f32 sequence softmax]\n"
                                   "128 8 1: 256 ref_slots6@1 2048 ref_slots10@1 16384 -\n"
                                   "[block i32 token sigmoid]\n"
                                   "64 6 2: 1 logits4096@1 8 - 268435456 logits2048@1\n"
                                   "measured 0123456789abcdef\n"
                                   "[collect_logits f32 sequence softmax 128 8 1]\n"
                                   "1024 ref_slots6@1 5000 10 ref_slots10 6000 clear\n"
                                   "2048 ref_slots10@1 9000 0 ref_slots6 9001 close\n"
                                   "[block i32 token sigmoid 64 6 2]\n"
                                   "1 logits4096@1 1 1000000 alone\n"
                                   "1073741824 logits2048@1 1000000000000000 7 logits4096 1000000000000000 close\n"
                                   "end 4 ";
    cr_expect_eq(strlen(text), sizeof expected - 1 + 17);
    memcpy(strstr(text, "measured ") + 9, "0123456789abcdef", 16);
    cr_assert_eq(strncmp(text, expected, sizeof expected - 1), 0, "%s", text);
    free(text);
    seqtopk_tuning_file_free(&w);
}

static void expect_same(const seqtopk_tuning_file *a, const seqtopk_tuning_file *b) {
    cr_assert_eq(a->size, b->size);
    cr_expect_str_eq(a->library, b->library);
    cr_expect_str_eq(a->machine, b->machine);
    for (int32_t i = 0; i < a->size; i++) {
        const seqtopk_measurement *x = a->measurement + i, *y = b->measurement + i;
        cr_expect_eq(seqtopk_measurement_compare(x, y), 0);
        cr_expect(x->row == y->row && x->runner_up == y->runner_up && x->ps == y->ps && x->clear == y->clear &&
                  x->runner_up_ps == y->runner_up_ps && x->spread == y->spread);
    }
}

Test(tuning_file, there_and_back) {
    static const int32_t sizes[] = {0, 1, 2, 3, 17, 400};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        seqtopk_tuning_file w = tuning_random(sizes[i], 7 + i), back;
        char *text = tuning_text(&w);
        const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
        cr_assert_eq(seqtopk_tuning_file_parse(&back, text, strlen(text), &any, NULL), SEQTOPK_OK);
        cr_expect_eq(back.dropped, 0);
        expect_same(&w, &back);
        char *again = tuning_text(&back);
        cr_expect_str_eq(text, again);
        free(text);
        free(again);
        seqtopk_tuning_file_free(&w);
        seqtopk_tuning_file_free(&back);
    }
}

/* Sorted whatever the order of adding; what is there already is replaced. */
Test(tuning_file, add_in_any_order) {
    seqtopk_tuning_file w = tuning_random(300, 5), mixed = {0};
    memcpy(mixed.library, w.library, sizeof w.library);
    memcpy(mixed.machine, w.machine, sizeof w.machine);
    for (int pass = 0; pass < 2; pass++)
        for (int32_t i = 0; i < w.size; i++) {
            seqtopk_measurement tuned = w.measurement[(i * 7919 + 13) % w.size];
            tuned.spread += 1 - pass;
            cr_assert_eq(seqtopk_tuning_file_add(&mixed, &tuned, NULL), SEQTOPK_OK);
        }
    expect_same(&w, &mixed);
    for (int32_t i = 0; i < w.size; i++) {
        const seqtopk_measurement *t = w.measurement + i;
        cr_expect_eq(seqtopk_tuning_file_find(&w, &t->shape, t->tokens), t);
        if (!t[0].shape.experts || t->tokens == 1)
            continue;
        seqtopk_tuning_shape other = t->shape;
        other.threads = 1024;
        cr_expect_null(seqtopk_tuning_file_find(&w, &other, t->tokens));
    }
    seqtopk_tuning_file_free(&w);
    seqtopk_tuning_file_free(&mixed);
}

Test(tuning_file, add_refuses) {
    seqtopk_tuning_file w = tuning_small();
    const seqtopk_measurement good = w.measurement[0];
    const int32_t size = w.size, other = w.measurement[2].row;
    seqtopk_measurement bad[32];
    int n = 0;
#define BAD(change)                                                                                                    \
    do {                                                                                                               \
        bad[n] = good;                                                                                                 \
        bad[n].change;                                                                                                 \
        n++;                                                                                                           \
    } while (0)
    BAD(tokens = 0);
    BAD(tokens = 3);
    BAD(tokens = -4);
    BAD(row = -1);
    BAD(row = other);
    BAD(row = seqtopk_registry_size);
    BAD(runner_up = good.row);
    BAD(runner_up = -2);
    BAD(runner_up = -1);
    BAD(spread = -1);
    BAD(spread = INT_MAX);
    BAD(clear = 2);
    BAD(ps = 0);
    BAD(ps = INT64_MAX);
    BAD(runner_up_ps = 0);
    BAD(shape.experts = 0);
    BAD(shape.experts = 65537);
    BAD(shape.top_k = 0);
    BAD(shape.top_k = 129);
    BAD(shape.threads = 0);
    BAD(shape.threads = 1025);
    BAD(shape.scope = SEQTOPK_SCOPE_ONLINE);
    BAD(shape.scope = -1);
    BAD(shape.score = 4);
    BAD(shape.dtype = SEQTOPK_ROW_bf16);
    BAD(shape.dtype = 77);
    BAD(shape.op = SEQTOPK_OPS);
    for (int i = 0; i < n; i++) {
        seqtopk_error error = SEQTOPK_ERROR_INIT;
        cr_expect_eq(seqtopk_tuning_file_add(&w, bad + i, &error), SEQTOPK_E_VALUE, "change %d", i);
        cr_expect(error.message[0]);
    }
    cr_expect_eq(w.size, size);
    seqtopk_tuning_file_free(&w);
}

Test(tuning_file, encode_needs_room) {
    seqtopk_tuning_file w = tuning_small();
    const size_t size = seqtopk_tuning_file_encode(&w, NULL, 0);
    char *text = malloc(size + 1);
    memset(text, 'x', size + 1);
    for (size_t capacity = 0; capacity < size; capacity++)
        cr_expect(seqtopk_tuning_file_encode(&w, text, capacity) == size && text[0] == 'x');
    cr_expect(seqtopk_tuning_file_encode(&w, text, size) == size && text[0] == 's' && text[size] == 'x');
    free(text);
    seqtopk_tuning_file_free(&w);
}

Test(tuning_file, checksum) {
    /* By value, so that no machine or compiler computes another. */
    cr_expect_eq(tuning_sum("", 0), UINT64_C(0xe821a9cc1f06a6e9));
    cr_expect_eq(tuning_sum("seqtopk", 7), UINT64_C(0xa9da7afb424b0f9a));
    char text[100];
    for (int i = 0; i < 100; i++)
        text[i] = (char)(i * 37);
    cr_expect_eq(tuning_sum(text, 100), UINT64_C(0xd59591b2a21ea237));
}

/* ------------------------------------------------------------ whole files -- */

static void expect_refused(const char *text, size_t size, const seqtopk_tuning_reader *reader, const char *says) {
    seqtopk_tuning_file w;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    memset(&w, 0xa5, sizeof w);
    cr_expect_eq(seqtopk_tuning_file_parse(&w, text, size, reader, &error), SEQTOPK_E_TUNING, "\"%s\" is taken", says);
    cr_expect_not_null(strstr(error.message, says), "\"%s\" does not say \"%s\"", error.message, says);
    cr_expect(!strchr(error.message, '\n'));
    cr_expect(!w.measurement && w.size == 0 && w.dropped == 0);
}

Test(tuning_file, torn_at_every_byte) {
    seqtopk_tuning_file w = tuning_small();
    char *text = tuning_text(&w);
    const size_t whole = strlen(text);
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    for (size_t size = 0; size < whole; size++) {
        char *torn = malloc(size ? size : 1); /* of its size, for the sanitizers */
        memcpy(torn, text, size);
        expect_refused(torn, size, &any, "it ");
        free(torn);
    }
    free(text);
    seqtopk_tuning_file_free(&w);
}

Test(tuning_file, changed_at_every_byte) {
    seqtopk_tuning_file w = tuning_small();
    char *text = tuning_text(&w);
    const size_t size = strlen(text);
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    for (size_t i = 0; i < size; i++)
        for (int bit = 0; bit < 8; bit++) {
            text[i] = (char)(text[i] ^ 1 << bit);
            expect_refused(text, size, &any, "it");
            text[i] = (char)(text[i] ^ 1 << bit);
        }
    free(text);
    seqtopk_tuning_file_free(&w);
}

Test(tuning_file, refused) {
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "no tuning file"},
        {"\n", "no tuning file"},
        {"hello", "no tuning file"},
        {"seqtopk-tuning ", "cut off in its first line"},
        {"seqtopk-tuning 1", "cut off in its first line"},
        {"seqtopk-tuning 1\n", "cut off"},
        {"seqtopk-tuning 1\n\n", "cut off"},
        {HEAD, "line 4"},
        {HEAD "choices 10", "line 4"},
        {HEAD "choices \n", "line 4"},
        {HEAD "choices 026\n", "line 4"},
        {HEAD "choices -26\n", "line 4"},
        {HEAD "choices 26 \n", "line 4"},
        {HEAD "choices 26\n", "cut off in its choices"},
        {HEAD "choices 99999999999999999999\nmeasured 0123456789abcdef\n", "cut off in its choices"},
        {HEAD "choices 0\nmeasured 0123456789abcdef\n", "line 4 says"},
        {HEAD "choices 25\nmeasured 0123456789abcdef\n", "line 4 says"},
        {HEAD "choices 26\nmeasures 0123456789abcdef\n", "line 4 says"},
        {HEAD "choices 26\nmeasured 0123456789ABCDEF\n", "line 4 says"},
        {HEAD "choices 26\nmeasured 0123456789abcdef\n", "checksum of its choices is wrong"},
        {"seqtopk-tuning 2\n", "of format 2"},
        {"seqtopk-tuning 99999999999999999999999999999999\n", "of format"},
        {"seqtopk-tuning 0\n", "first line is damaged"},
        {"seqtopk-tuning -1\n", "first line is damaged"},
        {"seqtopk-tuning 01\n", "first line is damaged"},
        {"seqtopk-tuning 1 \n", "first line is damaged"},
        {"seqtopk-tuning 1\r\n", "CR LF"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(bad[i].text, strlen(bad[i].text), &any, bad[i].says);
    cr_expect_eq(seqtopk_tuning_file_parse(&(seqtopk_tuning_file){0}, NULL, 0, &any, NULL), SEQTOPK_E_NULL);
}

/* Without an end that is right, whatever the choices. */
Test(tuning_file, refused_ends) {
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    static const struct {
        const char *end, *says;
    } bad[] = {
        {"", "cut off"},
        {"\n", "cut off"},
        {"end 0\n", "cut off"},
        {"end 0 0123456789abcdef\n", "checksum is wrong"},
        {"end 0 0123456789ABCDEF\n", "cut off"},
        {"end 0 0123456789abcdef", "cut off"},
        {"end  0123456789abcdef\n", "cut off"},
        {"end 00 0123456789abcdef\n", "cut off"},
        {"end 0  0123456789abcdef\n", "cut off"},
        {"0 0123456789abcdef\n", "cut off"},
        {"0123456789abcdef\n", "cut off"},
        {"99999999999999999999999999999999999999999999\n", "cut off"},
        {"end 99999999999999999999 0123456789abcdef\n", "cut off"},
        {"end 0 0123456789abcdef\n\n", "cut off"},
    };
    char *good = tuning_forged(HEAD, "", "", 0, 0);
    *strstr(good, "end 0 ") = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[256];
        snprintf(text, sizeof text, "%s%s", good, bad[i].end);
        expect_refused(text, strlen(text), &any, bad[i].says);
    }
    free(good);
}

/* With a good checksum: made by who knows the format and means no good, or by another library. */
Test(tuning_file, refused_headers) {
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"seqtopk-tuning 1\n", "line 2"},
        {"seqtopk-tuning 1\nlibrary 1\n", "line 3"},
        {"seqtopk-tuning 1\nmachine m\nlibrary 1\n", "line 2"},
        {"seqtopk-tuning 1\nlibrary \nmachine m\n", "line 2"},
        {"seqtopk-tuning 1\nlibrary 1\nmachine \n", "line 3"},
        {"seqtopk-tuning 1\nlibrary 0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0\nmachine m\n", "line 2"},
        {"seqtopk-tuning 1\nlibrary 1\nmachine a\tb\n", "line 3"},
        {"seqtopk-tuning 1\nlibrary 1\nmachine \xc3\xa9\n", "line 3"},
        {"seqtopk-tuning 1\nlibrary 1\r\nmachine m\n", "line 2"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *text = tuning_forged(bad[i].text, "", "", 0, 0);
        expect_refused(text, strlen(text), &any, bad[i].says);
        free(text);
    }
}

Test(tuning_file, another_library_or_machine) {
    seqtopk_tuning_file w = tuning_small();
    char *text = tuning_text(&w);
    const size_t size = strlen(text);
    seqtopk_tuning_reader reader = {"0.0.1", "test ref -", UINT32_MAX};
    seqtopk_tuning_file back;
    cr_assert_eq(seqtopk_tuning_file_parse(&back, text, size, &reader, NULL), SEQTOPK_OK);
    seqtopk_tuning_file_free(&back);
    reader.library = "0.0.2";
    expect_refused(text, size, &reader, "made by library 0.0.1, this is 0.0.2");
    reader.library = NULL;
    reader.machine = "test avx2 -";
    expect_refused(text, size, &reader, "another machine, \"ref\" where this is \"avx2\"");
    reader.machine = "test";
    expect_refused(text, size, &reader, "another machine");
    reader.machine = "test ref - ";
    expect_refused(text, size, &reader, "another machine");
    reader.machine = "";
    expect_refused(text, size, &reader, "another machine");
    free(text);
    seqtopk_tuning_file_free(&w);
}

Test(tuning_file, too_large) {
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    const size_t size = (size_t)SEQTOPK_TUNING_LARGEST + 1;
    char *text = malloc(size);
    memset(text, 'x', size);
    memcpy(text, "seqtopk-tuning 1\n", 17);
    expect_refused(text, size, &any, "no tuning file has more");
    expect_refused(text, size - 1, &any, "line 2");
    free(text);
}

/* ------------------------------------------------------------------ lines -- */

#define NTH "[collect_logits f32 sequence softmax 128 8 1]\n"
#define GOOD "1024 ref_slots6@1 5000 10 ref_slots10 6000 clear\n"

/* Parses HEAD, no choices, `lines` and an end line; expects so many decisions, and these notes, a 0 last: the line, not
 * counting those of the choices, and the reason. */
static void expect_notes(const char *lines, size_t size, const seqtopk_tuning_reader *reader, int32_t decisions,
                         const int *notes) {
    static const char choices[] = "choices 26\nmeasured 0123456789abcdef\n";
    char *text = tuning_forged(HEAD, "", lines, size, 4000000);
    const size_t length = sizeof HEAD + sizeof choices - 2 + size + strlen("end 4000000 0123456789abcdef\n");
    seqtopk_tuning_file w;
    cr_assert_eq(seqtopk_tuning_file_parse(&w, text, length, reader, NULL), SEQTOPK_OK, "%s", lines);
    cr_expect_eq(w.size, decisions, "%s: %d decisions", lines, (int)w.size);
    int n = 0;
    for (; notes[2 * n]; n++)
        if (n < w.notes) {
            cr_expect_eq(w.note[n].line - 2, notes[2 * n], "%s: line %d", lines, (int)w.note[n].line);
            cr_expect_eq((int)w.note[n].reason, notes[2 * n + 1], "%s: line %d: %s", lines, (int)w.note[n].line,
                         seqtopk_tuning_reason_text(w.note[n].reason));
        }
    cr_expect_eq(w.notes, n, "%s: %d notes", lines, (int)w.notes);
    cr_expect_eq(w.dropped, n);
    seqtopk_tuning_file_free(&w);
    free(text);
}

#define DROPS(lines, decisions, ...)                                                                                   \
    do {                                                                                                               \
        const seqtopk_tuning_reader any_ = seqtopk_tuning_reader_any();                                                \
        expect_notes(lines, sizeof lines - 1, &any_, decisions, (const int[]){__VA_ARGS__, 0});                        \
    } while (0)
#define KEEPS(lines, decisions) DROPS(lines, decisions, 0)

Test(tuning_file, lines_kept) {
    KEEPS("", 0);
    KEEPS(NTH, 0);
    KEEPS(NTH GOOD, 1);
    KEEPS(NTH "1 ref_slots6@1 1 0 alone\n" GOOD, 2);
    /* The runner-up is gone: what it lost to still won. */
    KEEPS(NTH "1 ref_slots6@1 1 0 avx9_magic 2 close\n", 1);
}

Test(tuning_file, lines_dropped) {
    static const char *const syntax[] = {
        "\n",
        "x\n",
        "1024\n",
        "1024 \n",
        " " GOOD,
        "-" GOOD,
        "+" GOOD,
        "0" GOOD,
        "1024  ref_slots6@1 5000 10 alone\n",
        "1024 @1 5000 10 alone\n",
        "1024 ref_slots6 5000 10 alone\n",
        "1024 ref_slots6@ 5000 10 alone\n",
        "1024 ref_slots6@1\n",
        "1024 ref_slots6@1 5000\n",
        "1024 ref_slots6@1 5000 10\n",
        "1024 ref_slots6@1 5000 10 \n",
        "1024 ref_slots6@1 5e3 10 alone\n",
        "1024 ref_slots6@1 5,0 10 alone\n",
        "1024 ref_slots6@1 5000 10 alone \n",
        "1024 ref_slots6@1 5000 10 alone\r\n",
        "1024 ref_slots6@1 5000 10 ref_slots10\n",
        "1024 ref_slots6@1 5000 10 ref_slots10 6000\n",
        "1024 ref_slots6@1 5000 10 ref_slots10 6000 sure\n",
        "1024 ref_slots6@1 5000 10 ref_slots10 6000 clear close\n",
        "1024\tlogits4096@1 5000 10 alone\n",
        "[\n",
        "[]\n",
        "[collect_logits]\n",
        "[collect_logits f32 sequence softmax 128 8]\n",
        "[collect_logits f32 sequence softmax 128 8 1\n",
        "[collect_logits f32 sequence softmax 128 8 1] \n",
        "[collect_logits f32 sequence softmax 128 8 1 1]\n",
        "[collect_logits  f32 sequence softmax 128 8 1]\n",
        "[collect_logits f32 sequence softmax -128 8 1]\n",
        " [x]\n",
        "end 1\n",
    };
    for (size_t i = 0; i < sizeof syntax / sizeof *syntax; i++) {
        const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
        char lines[512];
        /* What comes before it stays; after a heading that is no good its decisions go. */
        snprintf(lines, sizeof lines, NTH GOOD "%s2048 ref_slots6@1 5000 10 alone\n", syntax[i]);
        if (syntax[i][0] == '[')
            expect_notes(lines, strlen(lines), &any, 1,
                         (const int[]){6, SEQTOPK_TUNING_SYNTAX, 7, SEQTOPK_TUNING_SYNTAX, 0});
        else
            expect_notes(lines, strlen(lines), &any, 2, (const int[]){6, SEQTOPK_TUNING_SYNTAX, 0});
    }
    /* Before any heading. */
    DROPS(GOOD NTH GOOD, 1, 4, SEQTOPK_TUNING_SYNTAX);
    DROPS(NTH "1024 ref_h\0eap@1 5000 10 alone\n" GOOD, 1, 5, SEQTOPK_TUNING_SYNTAX);
    DROPS("\0\n" NTH GOOD, 1, 4, SEQTOPK_TUNING_SYNTAX);
}

Test(tuning_file, headings_dropped) {
    static const char *const ops[] = {"[swoop f32 sequence softmax 128 8 1]\n",
                                      "[select_keys bf16 sequence softmax 128 8 1]\n",
                                      "[collect_logits i32 sequence softmax 128 8 1]\n",
                                      "[collect_logits f64 sequence softmax 128 8 1]\n",
                                      "[n f32 sequence softmax 128 8 1]\n",
                                      "[nthx f32 sequence softmax 128 8 1]\n"};
    static const char *const shapes[] = {"[collect_logits f32 online softmax 128 8 1]\n",
                                         "[collect_logits f32 sequence hardmax 128 8 1]\n",
                                         "[collect_logits f32 sequence softmax 0 8 1]\n",
                                         "[collect_logits f32 sequence softmax 65537 8 1]\n",
                                         "[collect_logits f32 sequence softmax 128 0 1]\n",
                                         "[collect_logits f32 sequence softmax 128 129 1]\n",
                                         "[collect_logits f32 sequence softmax 128 8 0]\n",
                                         "[collect_logits f32 sequence softmax 128 8 1025]\n",
                                         "[collect_logits f32 sequence softmax 99999999999999999999999 8 1]\n",
                                         "[collect_logits f32 sequence softmax 128 99999999999999999999999 1]\n",
                                         "[collect_logits f32 sequence softmax 18446744073709551744 8 1]\n"};
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    char lines[512];
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        snprintf(lines, sizeof lines, "%s" GOOD NTH GOOD, ops[i]);
        expect_notes(lines, strlen(lines), &any, 1,
                     (const int[]){4, SEQTOPK_TUNING_UNKNOWN_OP, 5, SEQTOPK_TUNING_UNKNOWN_OP, 0});
    }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        snprintf(lines, sizeof lines, "%s" GOOD NTH GOOD, shapes[i]);
        expect_notes(lines, strlen(lines), &any, 1, (const int[]){4, SEQTOPK_TUNING_SHAPE, 5, SEQTOPK_TUNING_SHAPE, 0});
    }
}

Test(tuning_file, numbers_dropped) {
    static const char *const bad[] = {
        "0 ref_slots6@1 5000 10 alone\n",
        "3 ref_slots6@1 5000 10 alone\n",
        "2147483648 ref_slots6@1 5000 10 alone\n",
        "18446744073709551617 ref_slots6@1 5000 10 alone\n",
        "1024 ref_slots6@1 0 10 alone\n",
        "1024 ref_slots6@1 1000000000000001 10 alone\n",
        "1024 ref_slots6@1 18446744073709551617 10 alone\n",
        "1024 ref_slots6@1 5000 1000001 alone\n",
        "1024 ref_slots6@1 5000 4294967296 alone\n",
        "1024 ref_slots6@1 5000 10 ref_slots10 0 clear\n",
        "1024 ref_slots6@1 5000 10 ref_slots10 99999999999999999999999 clear\n",
    };
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    char lines[512];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(lines, sizeof lines, NTH "%s" GOOD, bad[i]);
        expect_notes(lines, strlen(lines), &any, 1, (const int[]){5, SEQTOPK_TUNING_NUMBER, 0});
    }
}

Test(tuning_file, rows_dropped) {
    DROPS(NTH "1 ref_magic@1 5000 10 alone\n" GOOD, 1, 5, SEQTOPK_TUNING_UNKNOWN_ROW);
    DROPS(NTH "1 alone@1 5000 10 alone\n" GOOD, 1, 5, SEQTOPK_TUNING_UNKNOWN_ROW);
    DROPS(NTH "1 ref_lanes@1 5000 10 alone\n" GOOD, 1, 5, SEQTOPK_TUNING_UNKNOWN_ROW); /* of another op */
    DROPS(NTH "1 seqtopk_collect_logits_f32__ref_slots6@1 5000 10 alone\n" GOOD, 1, 5, SEQTOPK_TUNING_UNKNOWN_ROW);
    DROPS(NTH "1 ref_slots6@1 5000 10 ref_slots6 6000 clear\n" GOOD, 1, 5, SEQTOPK_TUNING_UNKNOWN_ROW);
    DROPS(NTH "1 ref_slots6@0 5000 10 alone\n" GOOD, 1, 5, SEQTOPK_TUNING_REVISION);
    DROPS(NTH "1 ref_slots6@2 5000 10 alone\n" GOOD, 1, 5, SEQTOPK_TUNING_REVISION);
    DROPS(NTH "1 ref_slots6@99999999999999999999 5000 10 alone\n" GOOD, 1, 5, SEQTOPK_TUNING_REVISION);
    /* Duplicates: the first counts. */
    DROPS(NTH GOOD GOOD, 1, 6, SEQTOPK_TUNING_ORDER);
    DROPS(NTH GOOD "512 ref_slots6@1 5000 10 alone\n2048 ref_slots6@1 5000 10 alone\n", 2, 6, SEQTOPK_TUNING_ORDER);
    DROPS(NTH GOOD NTH "2048 ref_slots6@1 5000 10 alone\n", 1, 6, SEQTOPK_TUNING_ORDER, 7, SEQTOPK_TUNING_ORDER);
    DROPS("[topk_row f32 sequence softmax 128 8 1]\n" NTH GOOD, 0, 5, SEQTOPK_TUNING_ORDER, 6, SEQTOPK_TUNING_ORDER);
    /* What was dropped is not there for the next. */
    DROPS(NTH "1024 ref_magic@1 5000 10 alone\n" GOOD, 1, 5, SEQTOPK_TUNING_UNKNOWN_ROW);
    /* No instruction set of this machine. */
    const seqtopk_tuning_reader nothing_runs = {NULL, NULL, 0};
    expect_notes(NTH GOOD, sizeof NTH GOOD - 1, &nothing_runs, 0, (const int[]){5, SEQTOPK_TUNING_NOT_USABLE, 0});
}

Test(tuning_file, reasons) {
    for (int i = 0; i < SEQTOPK_TUNING_REASONS; i++)
        for (int j = 0; j <= i; j++)
            cr_expect_eq(i == j, strcmp(seqtopk_tuning_reason_text((seqtopk_tuning_reason)i),
                                        seqtopk_tuning_reason_text((seqtopk_tuning_reason)j)) == 0);
    cr_expect_str_eq(seqtopk_tuning_reason_text((seqtopk_tuning_reason)-1), "unknown reason");
}

/* A line of megabytes, and more bad lines than are told one by one. */
Test(tuning_file, monsters) {
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    const size_t size = 4 << 20;
    static const char fills[] = {'x', '1', '\n', '[', ' ', 0};
    for (size_t f = 0; f < sizeof fills; f++) {
        char *lines = malloc(size);
        memset(lines, fills[f], size);
        memcpy(lines + size - sizeof NTH GOOD, "\n" NTH GOOD, sizeof NTH GOOD);
        char *text = tuning_forged(HEAD, "", lines, size, INT_MAX - 1);
        const size_t length =
            strlen(HEAD "choices 26\nmeasured 0123456789abcdef\n") + size + strlen("end 2147483646 0123456789abcdef\n");
        seqtopk_tuning_file w;
        cr_assert_eq(seqtopk_tuning_file_parse(&w, text, length, &any, NULL), SEQTOPK_OK);
        cr_expect_eq(w.size, 1);
        cr_expect_eq(w.dropped, fills[f] == '\n' ? (int32_t)(size - sizeof NTH GOOD) + 1 : 1);
        cr_expect_eq(w.notes, fills[f] == '\n' ? SEQTOPK_TUNING_NOTES : 1);
        seqtopk_tuning_file_free(&w);
        free(text);
        free(lines);
    }
}

/* ---------------------------------------------------------------- merging -- */

Test(tuning_file, merge) {
    seqtopk_tuning_file a = tuning_random(200, 1), b = tuning_random(200, 2), all = tuning_empty();
    for (int32_t i = 0; i < a.size; i += 3) { /* measured again, with another outcome */
        seqtopk_measurement again = a.measurement[i];
        again.ps++;
        again.clear = again.runner_up < 0 || i % 2;
        tuning_add(&b, again);
    }
    cr_assert_eq(seqtopk_tuning_file_merge(&all, &a, NULL), SEQTOPK_OK);
    expect_same(&all, &a);
    cr_assert_eq(seqtopk_tuning_file_merge(&all, &b, NULL), SEQTOPK_OK);
    int32_t both = 0;
    for (int32_t i = 0; i < all.size; i++) {
        const seqtopk_measurement *t = all.measurement + i;
        cr_expect(i == 0 || seqtopk_measurement_compare(t - 1, t) < 0);
        const seqtopk_measurement *old = seqtopk_tuning_file_find(&a, &t->shape, t->tokens);
        const seqtopk_measurement *new = seqtopk_tuning_file_find(&b, &t->shape, t->tokens);
        const seqtopk_measurement *right = !new || (old && old->clear && !new->clear) ? old : new;
        cr_assert_not_null(right);
        cr_expect_eq(memcmp(t, right, sizeof *t), 0);
        both += old && new;
    }
    cr_expect(both > 0, "the two have nothing in common");
    cr_expect_eq(all.size, a.size + b.size - both);
    /* Once more changes nothing. */
    const int32_t size = all.size;
    cr_assert_eq(seqtopk_tuning_file_merge(&all, &b, NULL), SEQTOPK_OK);
    cr_expect_eq(all.size, size);
    b.machine[0] ^= 1;
    cr_expect_eq(seqtopk_tuning_file_merge(&all, &b, NULL), SEQTOPK_E_TUNING);
    b.machine[0] ^= 1;
    b.library[0] ^= 1;
    cr_expect_eq(seqtopk_tuning_file_merge(&all, &b, NULL), SEQTOPK_E_TUNING);
    cr_expect_eq(all.size, size);
    seqtopk_tuning_file_free(&a);
    seqtopk_tuning_file_free(&b);
    seqtopk_tuning_file_free(&all);
}

/* ------------------------------------------------------------- the machine -- */

Test(tuning_file, machine_key) {
    const char *key = seqtopk_machine_key(), *name = seqtopk_machine_name();
    char text[SEQTOPK_MACHINE_NAME];
    cr_expect_eq(key, seqtopk_machine_key());
    cr_expect(strlen(key) > 10 && strlen(key) < SEQTOPK_TUNING_MACHINE);
    for (const char *c = key; *c; c++)
        cr_expect(*c >= ' ' && *c <= '~');
    int words = 1;
    for (const char *c = key; *c; c++)
        words += *c == ' ';
    cr_expect_eq(words, 5, "%s", key);
    cr_expect_not_null(strstr(key, " seqtopk-" SEQTOPK_VERSION));
    for (int32_t i = 1; seqtopk_isa_name(i); i++)
        cr_expect_eq(!strstr(key, seqtopk_isa_name(i)), !seqtopk_isa_usable(seqtopk_isa_name(i)));
    seqtopk_machine_name_of(key, text);
    cr_expect_str_eq(text, name);
    cr_expect_eq(strncmp(name, key, strcspn(key, " ")), 0);
    cr_expect(!strpbrk(name, "/ .\\"));
    /* A forged key leads nowhere. */
    seqtopk_machine_name_of("../../../etc/passwd x", text);
    cr_expect(!strpbrk(text, "/."), "%s", text);
    char longest[SEQTOPK_TUNING_MACHINE];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    seqtopk_machine_name_of(longest, text);
    cr_expect_eq(strlen(text), SEQTOPK_MACHINE_NAME - 1);
    seqtopk_tuning_file w;
    seqtopk_tuning_file_init(&w);
    cr_expect(strcmp(w.machine, key) == 0 && strcmp(w.library, SEQTOPK_VERSION) == 0 && w.size == 0);
}
