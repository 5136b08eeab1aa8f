/* SPDX-License-Identifier: MIT */
/*
 * Looking up: the tuned shape that is nearest to a plan's. It is away by |log2| of the ratio of E, plus that of K, plus
 * half of that of the threads, plus 1/2 for another scope and 1/4 for another score; beyond 2 nothing is near.
 */
#include "src/tuning/lookup.h"
#include "src/status.h"

#include <stdlib.h>
#include <string.h>

enum {
    OCTAVE = 256, /* logarithms are in parts of an octave */
    OTHER_SCOPE = OCTAVE / 2,
    OTHER_SCORE = OCTAVE / 4,
    FARTHEST = 2 * OCTAVE
};

static seqtopk_tuning_line empty; /* read, and no range of it was any good; never written */

/* log2(n), straight between powers of two; n >= 1. */
static int16_t logarithm(int32_t n) {
#if defined(__GNUC__)
    const int power = 31 - __builtin_clz((unsigned)n);
#else
    int power = 0;
    while (n >> power > 1)
        power++;
#endif
    return (int16_t)(power * OCTAVE + (int32_t)(((int64_t)n * OCTAVE) >> power) - OCTAVE);
}

/* The array, grown if need be so that one more element than `count` fits, to `usual` elements at first; NULL: no
 * memory, and the array is as it was. */
static void *with_room(void *array, int32_t count, int32_t *capacity, int32_t usual, size_t size) {
    if (count < *capacity)
        return array;
    const int32_t more = *capacity ? 2 * *capacity : usual;
    void *larger = realloc(array, (size_t)more * size);
    *capacity = larger ? more : *capacity;
    return larger;
}

/* Adds the line that the cursor has read; 0: no memory. */
static int add_line(seqtopk_tuning *tuning, const seqtopk_ranges_cursor *cursor, int32_t capacity[2]) {
    enum { USUAL_LINE = 24, USUAL_GROUPS = 128 }; /* bytes, or more: a usual file's arrays need not grow */
    const seqtopk_tuning_shape *shape = &cursor->shape;
    if (tuning->groups == 0 || !seqtopk_ranges_same_heading(&tuning->group[tuning->groups - 1].shape, shape)) {
        seqtopk_tuning_group *group = with_room(tuning->group, tuning->groups, capacity, USUAL_GROUPS, sizeof *group);
        if (!group)
            return 0;
        tuning->group = group;
        group[tuning->groups++] = (seqtopk_tuning_group){*shape, tuning->entries, 0};
        tuning->first[shape->op + 1] = tuning->groups;
    }
    const int32_t usual = 16 + (int32_t)((cursor->end - cursor->at) / USUAL_LINE);
    seqtopk_tuning_entry *entry = with_room(tuning->entry, tuning->entries, capacity + 1, usual, sizeof *entry);
    if (!entry)
        return 0;
    tuning->entry = entry;
    entry += tuning->entries++;
    entry->experts = logarithm(shape->experts);
    entry->top_k = logarithm(shape->top_k);
    entry->threads = logarithm(shape->threads);
    entry->number = cursor->line;
    entry->at = (uint32_t)(cursor->begin - tuning->text);
    atomic_init(&entry->line, NULL);
    tuning->group[tuning->groups - 1].entries++;
    return 1;
}

seqtopk_status seqtopk_tuning_index(seqtopk_tuning *tuning, seqtopk_error *error) {
    seqtopk_ranges_cursor cursor;
    seqtopk_tuning_reason reason;
    seqtopk_ranges_line line;
    int32_t capacity[2] = {0, 0};
    const seqtopk_status status = seqtopk_ranges_open(&cursor, tuning->text, tuning->size, &tuning->reader, error);
    if (status)
        return status;
    while ((line = seqtopk_ranges_next(&cursor, &reason)) != SEQTOPK_RANGES_END)
        if (line == SEQTOPK_RANGES_SHAPE && !add_line(tuning, &cursor, capacity))
            return seqtopk_fail(error, SEQTOPK_E_MEMORY, -1, "no memory for a tuning file's shapes");
    for (int op = 0; op < SEQTOPK_OPS; op++) /* those without any */
        if (tuning->first[op + 1] < tuning->first[op])
            tuning->first[op + 1] = tuning->first[op];
    return SEQTOPK_OK;
}

void seqtopk_tuning_unindex(seqtopk_tuning *tuning) {
    for (int32_t e = 0; e < tuning->entries; e++) {
        seqtopk_tuning_line *line = atomic_load_explicit(&tuning->entry[e].line, memory_order_acquire);
        if (line != &empty)
            free(line);
    }
    free(tuning->entry);
    free(tuning->group);
}

/* Reads a line; `empty`: no range of it is any good; NULL: no memory. */
static seqtopk_tuning_line *read_line(const seqtopk_tuning *tuning, const seqtopk_tuning_entry *entry,
                                      seqtopk_tuning_shape heading) {
    seqtopk_tuning_range range[SEQTOPK_TUNING_BUCKETS];
    seqtopk_tuning_reason reason;
    const int32_t ranges = seqtopk_ranges_read(tuning->text + entry->at, &heading, &tuning->reader, range, &reason);
    if (!ranges)
        return &empty;
    seqtopk_tuning_line *line = malloc(sizeof *line + (size_t)ranges * sizeof *range);
    if (!line)
        return NULL;
    line->number = entry->number;
    line->ranges = ranges;
    memcpy(line->range, range, (size_t)ranges * sizeof *range);
    return line;
}

/* Two threads may both read it; the one that comes second takes the first's. NULL: no memory now; it
 * is read the next time. */
static const seqtopk_tuning_line *line_of(const seqtopk_tuning *tuning, seqtopk_tuning_entry *entry,
                                          const seqtopk_tuning_shape *heading) {
    seqtopk_tuning_line *line = atomic_load_explicit(&entry->line, memory_order_acquire);
    if (line)
        return line;
    seqtopk_tuning_line *mine = read_line(tuning, entry, *heading);
    if (!mine)
        return NULL;
    if (atomic_compare_exchange_strong_explicit(&entry->line, &line, mine, memory_order_acq_rel, memory_order_acquire))
        return mine;
    if (mine != &empty)
        free(mine);
    return line;
}

static int32_t apart(int32_t a, int32_t b) { return a < b ? b - a : a - b; }

/* The entry nearest to the shape of `desc`, the first of equally near ones, and its group; NULL: none is near.
 * Entries that turned out to have no usable choice are skipped. */
static seqtopk_tuning_entry *nearest(const seqtopk_tuning *tuning, const seqtopk_desc *desc, seqtopk_op op,
                                     const seqtopk_tuning_group **of) {
    const int32_t experts = logarithm(desc->experts), top_k = logarithm(desc->top_k);
    const int32_t threads = logarithm(desc->threads > 1 ? desc->threads : 1);
    const int any_dtype = !seqtopk_op_reads_logits(op);
    seqtopk_tuning_entry *best = NULL;
    int32_t least = FARTHEST + 1;
    for (int32_t g = tuning->first[op]; g < tuning->first[op + 1]; g++) {
        const seqtopk_tuning_group *group = tuning->group + g;
        const int32_t away = (group->shape.scope == (int32_t)desc->scope ? 0 : OTHER_SCOPE) +
                             (group->shape.score == (int32_t)desc->score ? 0 : OTHER_SCORE);
        if (away >= least || (!any_dtype && group->shape.dtype != (int32_t)desc->dtype))
            continue;
        for (int32_t e = group->first; e < group->first + group->entries && least > 0; e++) {
            seqtopk_tuning_entry *entry = tuning->entry + e;
            const int32_t distance =
                away + apart(entry->experts, experts) + apart(entry->top_k, top_k) + apart(entry->threads, threads) / 2;
            if (distance < least && atomic_load_explicit(&entry->line, memory_order_relaxed) != &empty) {
                least = distance;
                best = entry;
                *of = group;
            }
        }
    }
    return best;
}

const seqtopk_tuning_line *seqtopk_tuning_look_up(const seqtopk_tuning *tuning, const seqtopk_desc *desc,
                                                  seqtopk_op op) {
    const seqtopk_tuning_line *line = NULL;
    const seqtopk_tuning_group *group = NULL;
    do { /* until an entry has choices: every turn but the last marks one as empty */
        seqtopk_tuning_entry *entry = nearest(tuning, desc, op, &group);
        line = entry ? line_of(tuning, entry, &group->shape) : NULL;
    } while (line == &empty);
    return line;
}
