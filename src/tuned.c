/* SPDX-License-Identifier: MIT */
/* Looking up: the tuned shape that is nearest to a plan's, and of it the T that is nearest. The rule is in
 * seqtopk.h. */
#include "src/tuned.h"
#include "src/plan.h"
#include "src/status.h"

#include <stdlib.h>

enum {
    OCTAVE = 256, /* logarithms are in parts of an octave */
    OTHER_SCOPE = OCTAVE / 2,
    OTHER_SCORE = OCTAVE / 4,
    FARTHEST = 2 * OCTAVE,
    FARTHEST_BUCKETS = 2 /* of T */
};

static const seqtopk_tuned_rows empty; /* read, and no line of it was any good */

/* log2(n), straight between powers of two; n >= 1. */
static int16_t logarithm(int32_t n) {
    int power = 0;
    while (n >> power > 1)
        power++;
    return (int16_t)(power * OCTAVE + (int32_t)(((int64_t)n * OCTAVE) >> power) - OCTAVE);
}

/* Whether a section has decisions at all, which the cursor stands before. */
static int has_lines(const seqtopk_wisdom_cursor *cursor) { return cursor->at < cursor->end && *cursor->at != '['; }

seqtopk_status seqtopk_tuned_index(seqtopk_tuning *tuning, seqtopk_error *error) {
    seqtopk_wisdom_cursor cursor = tuning->start;
    int32_t capacity = 0;
    seqtopk_tuned tuned;
    seqtopk_wisdom_reason reason;
    for (seqtopk_wisdom_skip(&cursor); cursor.at < cursor.end; seqtopk_wisdom_skip(&cursor)) {
        if (seqtopk_wisdom_next(&cursor, &tuned, &reason) != SEQTOPK_WISDOM_HEADING || !has_lines(&cursor))
            continue;
        if (tuning->sections == capacity) {
            capacity =
                capacity ? 2 * capacity : 16 + (int32_t)(tuning->size / 512); /* a full file needs no second turn */
            seqtopk_tuned_section *larger = realloc(tuning->section, (size_t)capacity * sizeof *larger);
            if (!larger)
                return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for %d tuned shapes", (int)capacity);
            tuning->section = larger;
        }
        seqtopk_tuned_section *section = tuning->section + tuning->sections++;
        section->shape = tuned.shape;
        section->experts = logarithm(tuned.shape.experts);
        section->top_k = logarithm(tuned.shape.top_k);
        section->threads = logarithm(tuned.shape.threads);
        section->line = cursor.line;
        section->at = (uint32_t)(cursor.at - tuning->text);
        atomic_init(&section->rows, NULL);
        tuning->first[tuned.shape.op + 1] = tuning->sections;
    }
    for (int op = 0; op < SEQTOPK_OPS; op++) /* those without any */
        if (tuning->first[op + 1] < tuning->first[op])
            tuning->first[op + 1] = tuning->first[op];
    return SEQTOPK_OK;
}

void seqtopk_tuned_free(seqtopk_tuning *tuning) {
    for (int32_t s = 0; s < tuning->sections; s++) {
        const seqtopk_tuned_rows *rows = atomic_load_explicit(&tuning->section[s].rows, memory_order_acquire);
        if (rows != &empty)
            free((seqtopk_tuned_rows *)rows);
    }
    free(tuning->section);
}

static int bucket_of(int32_t tokens) {
    int bucket = 0;
    while (tokens >> bucket > 1)
        bucket++;
    return bucket;
}

/* The nearest bucket that was measured, the lower of two; -1: that is too far. */
static int nearest_bucket(uint32_t measured, int bucket) {
    for (int away = 0; away <= FARTHEST_BUCKETS; away++) {
        if (bucket - away >= 0 && (measured >> (bucket - away) & 1))
            return bucket - away;
        if (bucket + away < SEQTOPK_WISDOM_BUCKETS && (measured >> (bucket + away) & 1))
            return bucket + away;
    }
    return -1;
}

/* Reads what stands under a heading; no memory for it: `empty`. */
static const seqtopk_tuned_rows *read_rows(const seqtopk_tuning *tuning, const seqtopk_tuned_section *section) {
    seqtopk_tuned_rows read;
    uint32_t measured = 0;
    seqtopk_wisdom_cursor cursor = tuning->start;
    cursor.at = tuning->text + section->at;
    cursor.line = section->line;
    cursor.shape = section->shape;
    cursor.rows = -1;
    cursor.lost = SEQTOPK_WISDOM_KEPT;
    while (has_lines(&cursor)) {
        seqtopk_tuned tuned;
        seqtopk_wisdom_reason reason;
        if (seqtopk_wisdom_next(&cursor, &tuned, &reason) != SEQTOPK_WISDOM_DECISION)
            continue;
        const int bucket = bucket_of(tuned.tokens);
        read.row[bucket] = tuned.row;
        read.line[bucket] = tuned.line;
        measured |= 1u << bucket;
    }
    seqtopk_tuned_rows *rows = measured ? malloc(sizeof *rows) : NULL;
    for (int b = 0; b < SEQTOPK_WISDOM_BUCKETS && rows; b++) {
        const int from = nearest_bucket(measured, b);
        rows->row[b] = from < 0 ? -1 : read.row[from];
        rows->line[b] = from < 0 ? 0 : read.line[from];
    }
    return rows ? rows : &empty;
}

/* Two threads may both read it; the one that comes second takes the first's. */
static const seqtopk_tuned_rows *rows_of(const seqtopk_tuning *tuning, seqtopk_tuned_section *section) {
    const seqtopk_tuned_rows *rows = atomic_load_explicit(&section->rows, memory_order_acquire);
    if (rows)
        return rows;
    const seqtopk_tuned_rows *mine = read_rows(tuning, section);
    if (atomic_compare_exchange_strong_explicit(&section->rows, &rows, mine, memory_order_acq_rel,
                                                memory_order_acquire))
        return mine;
    if (mine != &empty)
        free((seqtopk_tuned_rows *)mine);
    return rows;
}

static int32_t apart(int32_t a, int32_t b) { return a < b ? b - a : a - b; }

/* The section nearest to what `desc` asks for, the first of equals, those left out that turned out to be empty; -1:
 * none. */
static int32_t nearest(const seqtopk_tuning *tuning, const seqtopk_desc *desc, seqtopk_op op) {
    const int32_t experts = logarithm(desc->experts), top_k = logarithm(desc->top_k);
    const int32_t threads = logarithm(desc->threads > 1 ? desc->threads : 1);
    const int any_dtype = !seqtopk_op_reads_logits(op);
    int32_t best = -1, least = FARTHEST + 1;
    for (int32_t s = tuning->first[op]; s < tuning->first[op + 1]; s++) {
        const seqtopk_tuned_section *section = tuning->section + s;
        if (!any_dtype && section->shape.dtype != (int32_t)desc->dtype)
            continue;
        const int32_t distance = apart(section->experts, experts) + apart(section->top_k, top_k) +
                                 apart(section->threads, threads) / 2 +
                                 (section->shape.scope == (int32_t)desc->scope ? 0 : OTHER_SCOPE) +
                                 (section->shape.score == (int32_t)desc->score ? 0 : OTHER_SCORE);
        if (distance < least && atomic_load_explicit(&section->rows, memory_order_relaxed) != &empty) {
            least = distance;
            best = s;
        }
    }
    return best;
}

const seqtopk_tuned_rows *seqtopk_tuned_look_up(const seqtopk_tuning *tuning, const seqtopk_desc *desc, seqtopk_op op) {
    const seqtopk_tuned_rows *rows = NULL;
    do { /* until one has decisions: every turn but the last leaves one section less to find */
        const int32_t section = nearest(tuning, desc, op);
        rows = section < 0 ? NULL : rows_of(tuning, tuning->section + section);
    } while (rows == &empty);
    return rows;
}
