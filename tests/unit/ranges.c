/* SPDX-License-Identifier: MIT */
/* The part of a tuning file that plans read: what it says of the decisions, and every way in which it can be no good. */
#include "tuning.h"

#include "src/tuning/ranges.h"

#define NTH "[collect_logits f32 sequence softmax]\n"
#define GOOD "128 8 1: 64 ref_slots6@1 1024 -\n"

/* ----------------------------------------------------------- of decisions -- */

/* By the rule itself: the row measured at the nearest T, no more than two powers of two away, of two the lower. */
static int32_t row_of(const seqtopk_tuning_file *w, const seqtopk_tuning_shape *shape, int bucket) {
    for (int away = 0; away <= 2; away++)
        for (int side = -1; side <= 1; side += 2) {
            const int at = bucket + side * away;
            const seqtopk_measurement *t =
                at >= 0 && at < SEQTOPK_TUNING_BUCKETS ? seqtopk_tuning_file_find(w, shape, 1 << at) : NULL;
            if (t)
                return t->row;
        }
    return -1;
}

/* A file's choices are those of its decisions, shape by shape, and are found without what follows them. */
Test(ranges, follow_from_decisions) {
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    for (int seed = 0; seed < 8; seed++) {
        seqtopk_tuning_file w = tuning_random(seed * 100, (uint64_t)seed);
        char *text = tuning_text(&w);
        const size_t start = seqtopk_tuning_file_start(text, strlen(text));
        cr_assert(start > 0 && start < strlen(text));
        char *only = malloc(start); /* of its size, for the sanitizers */
        memcpy(only, text, start);
        seqtopk_ranges_cursor cursor;
        cr_assert_eq(seqtopk_ranges_open(&cursor, only, start, &any, NULL), SEQTOPK_OK);
        seqtopk_tuning_reason reason;
        int32_t at = 0;
        for (seqtopk_ranges_line line; (line = seqtopk_ranges_next(&cursor, &reason)) != SEQTOPK_RANGES_END;) {
            cr_assert(line == SEQTOPK_RANGES_SHAPE && at < w.size);
            cr_assert_eq(seqtopk_tuning_shape_compare(&cursor.shape, &w.measurement[at].shape), 0);
            seqtopk_tuning_range range[SEQTOPK_TUNING_BUCKETS];
            const int32_t ranges = seqtopk_ranges_read(cursor.begin, &cursor.shape, &any, range, &reason);
            cr_assert(ranges > 0 && !reason);
            for (int32_t b = 0, r = -1; b < SEQTOPK_TUNING_BUCKETS; b++) {
                if (r + 1 < ranges && range[r + 1].tokens == 1 << b)
                    r++;
                cr_expect_eq(r < 0 ? -1 : range[r].row, row_of(&w, &cursor.shape, b));
            }
            int32_t number = 1;
            for (const char *c = only; c < cursor.begin; c++)
                number += *c == '\n';
            cr_expect_eq(cursor.line, number);
            while (at < w.size && seqtopk_tuning_shape_compare(&cursor.shape, &w.measurement[at].shape) == 0)
                at++;
        }
        cr_expect_eq(at, w.size);
        free(only);
        free(text);
        seqtopk_tuning_file_free(&w);
    }
}

/* How much of a file plans read is told by its first lines, and by no fewer. */
Test(ranges, start) {
    seqtopk_tuning_file w = tuning_small();
    char *text = tuning_text(&w);
    const size_t size = strlen(text), start = seqtopk_tuning_file_start(text, size);
    const size_t told = (size_t)(strchr(strstr(text, "choices "), '\n') - text) + 1;
    cr_expect_eq((size_t)(strstr(text, "measured ") - text) + 26, start);
    for (size_t have = 0; have <= size; have++) {
        char *some = malloc(have ? have : 1);
        memcpy(some, text, have);
        cr_expect_eq(seqtopk_tuning_file_start(some, have), have < told ? 0 : start);
        free(some);
    }
    free(text);
    seqtopk_tuning_file_free(&w);
}

/* Whatever is behind the choices, a plan does not see it; whatever is wrong with them, it does. */
Test(ranges, torn_and_changed_at_every_byte) {
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    seqtopk_tuning_file w = tuning_small();
    seqtopk_ranges_cursor cursor;
    char *text = tuning_text(&w);
    const size_t size = strlen(text), start = seqtopk_tuning_file_start(text, size);
    for (size_t have = 0; have <= size; have++) {
        char *torn = malloc(have ? have : 1);
        memcpy(torn, text, have);
        cr_expect_eq(seqtopk_ranges_open(&cursor, torn, have, &any, NULL),
                     have < start ? SEQTOPK_E_TUNING : SEQTOPK_OK);
        free(torn);
    }
    for (size_t i = 0; i < size; i++)
        for (int bit = 0; bit < 8; bit++) {
            text[i] = (char)(text[i] ^ 1 << bit);
            cr_expect_eq(seqtopk_ranges_open(&cursor, text, size, &any, NULL),
                         i < start ? SEQTOPK_E_TUNING : SEQTOPK_OK);
            text[i] = (char)(text[i] ^ 1 << bit);
        }
    free(text);
    seqtopk_tuning_file_free(&w);
}

/* ------------------------------------------------------------------ lines -- */

/* Reads HEAD and these choices; expects so many good ranges in all, and these drops (line, reason), a 0 last. */
static void expect_ranges(const char *choices, const seqtopk_tuning_reader *reader, int32_t ranges, const int *drops) {
    char *text = tuning_forged(HEAD, choices, "", 0, 0);
    seqtopk_ranges_cursor cursor;
    seqtopk_error error = SEQTOPK_ERROR_INIT;
    cr_assert_eq(seqtopk_ranges_open(&cursor, text, strlen(text), reader, &error), SEQTOPK_OK, "%s", error.message);
    seqtopk_tuning_reason reason;
    int32_t good = 0;
    for (seqtopk_ranges_line line; (line = seqtopk_ranges_next(&cursor, &reason)) != SEQTOPK_RANGES_END;) {
        seqtopk_tuning_range range[SEQTOPK_TUNING_BUCKETS];
        if (line == SEQTOPK_RANGES_SHAPE) {
            const int32_t all = seqtopk_ranges_read(cursor.begin, &cursor.shape, reader, range, &reason);
            for (int32_t r = 0; r < all; r++)
                good += range[r].row >= 0;
        }
        if (!reason)
            continue;
        cr_expect_eq(cursor.line, drops[0], "%s: line %d", choices, (int)cursor.line);
        cr_expect_eq((int)reason, drops[1], "%s: line %d: %s", choices, (int)cursor.line,
                     seqtopk_tuning_reason_text(reason));
        drops += drops[0] ? 2 : 0;
    }
    cr_expect_eq(drops[0], 0, "%s: line %d is kept", choices, drops[0]);
    cr_expect_eq(good, ranges, "%s: %d ranges", choices, (int)good);
    free(text);
}

#define DROPS(choices, ranges, ...)                                                                                    \
    do {                                                                                                               \
        const seqtopk_tuning_reader any_ = seqtopk_tuning_reader_any();                                                \
        expect_ranges(choices, &any_, ranges, (const int[]){__VA_ARGS__, 0});                                          \
    } while (0)

Test(ranges, lines_kept) {
    DROPS("", 0, 0);
    DROPS(NTH, 0, 0);
    DROPS(NTH GOOD, 1, 0);
    DROPS(NTH "128 8 1: 1 ref_slots6@1 2 ref_slots10@1\n"
              "128 8 2: 1073741824 ref_slots6@1\n",
          3, 0);
    DROPS(NTH "128 8 1:\n", 0, 0);
    DROPS(NTH "128 8 1: 1 - 2 -\n", 0, 0);
}

Test(ranges, syntax) {
    static const char *const bad[] = {
        "\n",
        "x\n",
        "256 8\n",
        "256 8 1\n",
        "256 8 1 \n",
        " 256 8 1:\n",
        "-256 8 1:\n",
        "0256 8 1:\n",
        "256  8 1: 1 ref_slots6@1\n",
        "256 8 1; 1 ref_slots6@1\n",
        "256 8 1:  1 ref_slots6@1\n",
        "256 8 1: 1 ref_slots6@1 \n",
        "256 8 1: 1\n",
        "256 8 1: 1 \n",
        "256 8 1: ref_slots6@1\n",
        "256 8 1: 1 ref_slots6\n",
        "256 8 1: 1 ref_slots6@\n",
        "256 8 1: 1 @1\n",
        "256 8 1: 1 --\n",
        "256 8 1: 1 -2\n",
        "256 8 1: 0 ref_slots6@1\n",
        "256 8 1: 3 ref_slots6@1\n",
        "256 8 1: -1 ref_slots6@1\n",
        "256 8 1: 2147483648 ref_slots6@1\n",
        "256 8 1: 18446744073709551617 ref_slots6@1\n",
        "256 8 1: 2 ref_slots6@1 1 ref_slots6@1\n",
        "256 8 1: 2 ref_slots6@1 2 ref_slots10@1\n",
        "256 8 1: 1 ref_slots6@1\r\n",
        "256 8 1:\t1 ref_slots6@1\n",
        "[\n",
        "[]\n",
        "[collect_logits]\n",
        "[collect_logits f32 sequence]\n",
        "[collect_logits f32 sequence softmax\n",
        "[collect_logits f32 sequence softmax] \n",
        "[collect_logits f32 sequence softmax 128 8 1]\n",
        "[collect_logits  f32 sequence softmax]\n",
        "measured 0\n",
    };
    const seqtopk_tuning_reader any = seqtopk_tuning_reader_any();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char choices[512];
        /* What comes before it stays; after a heading that is no good its lines go. */
        snprintf(choices, sizeof choices, NTH GOOD "%s512 8 1: 1 ref_slots6@1\n", bad[i]);
        if (bad[i][0] == '[')
            expect_ranges(choices, &any, 1, (const int[]){7, SEQTOPK_TUNING_SYNTAX, 8, SEQTOPK_TUNING_SYNTAX, 0});
        else
            expect_ranges(choices, &any, 2, (const int[]){7, SEQTOPK_TUNING_SYNTAX, 0});
    }
    DROPS(GOOD NTH GOOD, 1, 5, SEQTOPK_TUNING_SYNTAX); /* before any heading */
}

Test(ranges, shapes_and_order) {
    DROPS("[swoop f32 sequence softmax]\n" GOOD NTH GOOD, 1, 5, SEQTOPK_TUNING_UNKNOWN_OP, 6,
          SEQTOPK_TUNING_UNKNOWN_OP);
    DROPS("[collect_logits f32 online softmax]\n" GOOD NTH GOOD, 1, 5, SEQTOPK_TUNING_SHAPE, 6, SEQTOPK_TUNING_SHAPE);
    DROPS("[collect_logits f32 sequence hardmax]\n" GOOD NTH GOOD, 1, 5, SEQTOPK_TUNING_SHAPE, 6, SEQTOPK_TUNING_SHAPE);
    DROPS(NTH "0 8 1: 1 ref_slots6@1\n" GOOD, 1, 6, SEQTOPK_TUNING_SHAPE);
    DROPS(NTH "65537 8 1: 1 ref_slots6@1\n" GOOD, 1, 6, SEQTOPK_TUNING_SHAPE);
    DROPS(NTH "128 129 1: 1 ref_slots6@1\n" GOOD, 1, 6, SEQTOPK_TUNING_SHAPE);
    DROPS(NTH "128 8 1025: 1 ref_slots6@1\n" GOOD, 1, 6, SEQTOPK_TUNING_SHAPE);
    DROPS(NTH "99999999999999999999999 8 1: 1 ref_slots6@1\n" GOOD, 1, 6, SEQTOPK_TUNING_SHAPE);
    DROPS(NTH GOOD GOOD, 1, 7, SEQTOPK_TUNING_ORDER);
    DROPS(NTH GOOD NTH GOOD, 1, 7, SEQTOPK_TUNING_ORDER, 8, SEQTOPK_TUNING_ORDER);
    DROPS("[topk_row f32 sequence softmax]\n" NTH GOOD, 0, 6, SEQTOPK_TUNING_ORDER, 7, SEQTOPK_TUNING_ORDER);
}

/* A row that is no good leaves its range to the model, and the other ranges stand. */
Test(ranges, rows) {
#define AND " 2 ref_slots6@1\n"
    DROPS(NTH "8 1 1: 1 ref_magic@1" AND, 1, 6, SEQTOPK_TUNING_UNKNOWN_ROW);
    DROPS(NTH "8 1 1: 1 ref_lanes@1" AND, 1, 6, SEQTOPK_TUNING_UNKNOWN_ROW); /* of another op */
    DROPS(NTH "8 1 1: 1 seqtopk_collect_logits_f32__ref_slots6@1" AND, 1, 6, SEQTOPK_TUNING_UNKNOWN_ROW);
    DROPS(NTH "8 1 1: 1 ref_slots6@0" AND, 1, 6, SEQTOPK_TUNING_REVISION);
    DROPS(NTH "8 1 1: 1 ref_slots6@99999999999999999999" AND, 1, 6, SEQTOPK_TUNING_REVISION);
    DROPS(NTH "8 1 1: 1 ref_magic@1\n", 0, 6, SEQTOPK_TUNING_UNKNOWN_ROW);
    const seqtopk_tuning_reader nothing_runs = {NULL, NULL, 0};
    expect_ranges(NTH GOOD, &nothing_runs, 0, (const int[]){6, SEQTOPK_TUNING_NOT_USABLE, 0});
}

/* Lines of megabytes. */
Test(ranges, monsters) {
    static const char fills[] = {'x', '1', '[', ' ', '-'};
    for (size_t f = 0; f < sizeof fills; f++) {
        const size_t size = 4 << 20;
        char *choices = malloc(size);
        memset(choices, fills[f], size);
        memcpy(choices + size - sizeof NTH GOOD - 1, "\n" NTH GOOD, sizeof NTH GOOD + 1);
        DROPS(choices, 1, 5, SEQTOPK_TUNING_SYNTAX);
        free(choices);
    }
}
