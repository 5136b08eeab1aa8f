/* SPDX-License-Identifier: MIT */
/* Looking up: the tuned shape that is nearest to a plan's, and of it the T that is nearest. The rule is in seqtopk.h. */
#include "src/tuned.h"
#include "src/plan.h"
#include "src/status.h"

#include <stdlib.h>

enum {
    OCTAVE = 256,             /* logarithms are in parts of an octave */
    OTHER_SCOPE = OCTAVE / 2,
    OTHER_SCORE = OCTAVE / 4,
    FARTHEST = 2 * OCTAVE,
    FARTHEST_BUCKETS = 2      /* of T */
};
enum { UNREAD, KNOWN, EMPTY };

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
            capacity = capacity ? 2 * capacity : 256;
            seqtopk_tuned_section *larger = realloc(tuning->section, (size_t)capacity * sizeof *larger);
            if (!larger)
                return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for %d tuned shapes", (int)capacity);
            tuning->section = larger;
        }
        tuning->section[tuning->sections++] = (seqtopk_tuned_section){
            .shape = tuned.shape,
            .experts = logarithm(tuned.shape.experts),
            .top_k = logarithm(tuned.shape.top_k),
            .threads = logarithm(tuned.shape.threads),
            .line = cursor.line,
            .at = (uint32_t)(cursor.at - tuning->text),
        };
        tuning->first[tuned.shape.op + 1] = tuning->sections;
    }
    for (int op = 0; op < SEQTOPK_OPS; op++) /* those without any */
        if (tuning->first[op + 1] < tuning->first[op])
            tuning->first[op + 1] = tuning->first[op];
    if (tuning->sections == 0)
        return SEQTOPK_OK;
    /* Zero is valid for lock-free atomics. Untouched pages cost nothing. */
    tuning->words = calloc((size_t)tuning->sections, sizeof *tuning->words);
    if (!tuning->words)
        return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for %d tuned shapes", (int)tuning->sections);
    return SEQTOPK_OK;
}

static int bucket_of(int32_t tokens) {
    int bucket = 0;
    while (tokens >> bucket > 1)
        bucket++;
    return bucket;
}

/* Reads what stands under a heading, unless that was done before. */
static _Atomic uint64_t *read_section(const seqtopk_tuning *tuning, int32_t s) {
    _Atomic uint64_t *words = tuning->words[s];
    if (atomic_load_explicit(words + SEQTOPK_TUNED_KNOWN, memory_order_acquire))
        return words;
    seqtopk_wisdom_cursor cursor = tuning->start;
    cursor.at = tuning->text + tuning->section[s].at;
    cursor.line = tuning->section[s].line;
    cursor.shape = tuning->section[s].shape;
    cursor.lost = SEQTOPK_WISDOM_KEPT;
    uint64_t known = EMPTY;
    while (has_lines(&cursor)) {
        seqtopk_tuned tuned;
        seqtopk_wisdom_reason reason;
        if (seqtopk_wisdom_next(&cursor, &tuned, &reason) != SEQTOPK_WISDOM_DECISION)
            continue;
        atomic_store_explicit(words + bucket_of(tuned.tokens), (uint64_t)tuned.line << 32 | (uint32_t)(tuned.row + 1),
                              memory_order_relaxed);
        known = KNOWN;
    }
    atomic_store_explicit(words + SEQTOPK_TUNED_KNOWN, known, memory_order_release);
    return words;
}

static int32_t apart(int32_t a, int32_t b) { return a < b ? b - a : a - b; }

/* The section nearest to what `desc` asks for, the first of equals, those left out that turned out to be empty; -1: none. */
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
        if (distance < least &&
            atomic_load_explicit(tuning->words[s] + SEQTOPK_TUNED_KNOWN, memory_order_relaxed) != EMPTY) {
            least = distance;
            best = s;
        }
    }
    return best;
}

int seqtopk_tuned_look_up(const seqtopk_tuning *tuning, const seqtopk_desc *desc, seqtopk_op op, seqtopk_tuned_rows *rows) {
    _Atomic uint64_t *words;
    do { /* until one has decisions: every turn but the last leaves one section less to find */
        const int32_t section = nearest(tuning, desc, op);
        if (section < 0)
            return 0;
        words = read_section(tuning, section);
    } while (atomic_load_explicit(words + SEQTOPK_TUNED_KNOWN, memory_order_relaxed) == EMPTY);
    for (int b = 0; b < SEQTOPK_WISDOM_BUCKETS; b++) {
        uint64_t word = 0;
        for (int away = 0; away <= FARTHEST_BUCKETS && !word; away++) {
            if (b - away >= 0)
                word = atomic_load_explicit(words + b - away, memory_order_relaxed);
            if (!word && b + away < SEQTOPK_WISDOM_BUCKETS)
                word = atomic_load_explicit(words + b + away, memory_order_relaxed);
        }
        rows->row[b] = (int32_t)(uint32_t)word - 1;
        rows->line[b] = (int32_t)(word >> 32);
    }
    return 1;
}
