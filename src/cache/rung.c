/* SPDX-License-Identifier: MIT */
#include "src/cache/rung.h"
#include "arch/words.h"

#include <string.h>

/* ------------------------------------------------------------------- rung -- */

enum { SAMPLE = 256 };
_Static_assert((int)SAMPLE <= (int)SEQTOPK_SAMPLE, "what a search has space for");

size_t seqtopk_rung_bytes(void) { return seqtopk_sample_bytes(SAMPLE); }

int seqtopk_rung_make(seqtopk_rung *rung, uint64_t low, uint64_t high, seqtopk_purse *purse) {
    *rung = (seqtopk_rung){.low = low, .high = high, .sample = seqtopk_purse_take(purse, seqtopk_rung_bytes())};
    seqtopk_shelf_init(&rung->words, sizeof(uint64_t));
    if (rung->sample)
        seqtopk_sample_clear(rung->sample, SAMPLE);
    return rung->sample != NULL;
}

void seqtopk_rung_drop(seqtopk_rung *rung, seqtopk_purse *purse) {
    seqtopk_shelf_free(&rung->words, purse);
    seqtopk_purse_give(purse, rung->sample, seqtopk_rung_bytes());
    rung->sample = NULL;
}

int seqtopk_rung_copy(seqtopk_rung *to, seqtopk_rung *from, seqtopk_purse *purse) {
    if (!seqtopk_rung_make(to, from->low, from->high, purse))
        return 0;
    to->above = from->above;
    memcpy(to->sample, from->sample, seqtopk_rung_bytes());
    if (seqtopk_shelf_share(&to->words, &from->words, purse))
        return 1;
    seqtopk_rung_drop(to, purse);
    return 0;
}

int seqtopk_rung_push(seqtopk_rung *rung, const uint64_t *words, int64_t n, seqtopk_purse *purse) {
    for (int64_t left = n; left > 0;) {
        int64_t space;
        uint64_t *to = seqtopk_shelf_room(&rung->words, &space, purse);
        if (!to)
            return 0;
        space = space < left ? space : left;
        memcpy(to, words + (n - left), (size_t)space * sizeof *to);
        seqtopk_shelf_grow(&rung->words, space);
        left -= space;
    }
    seqtopk_sample_pass(rung->sample, words, n);
    return 1;
}

void seqtopk_rung_take_back(seqtopk_rung *rung, const uint64_t *words, int32_t n, seqtopk_purse *purse) {
    const int32_t from = seqtopk_reaching(words, n, rung->high), to = seqtopk_reaching(words, n, rung->low);
    rung->above -= from;
    if (from == to)
        return;
    seqtopk_sample_cut(rung->sample, seqtopk_token_of(words[from]));
    seqtopk_shelf_cut(&rung->words, rung->words.size - (to - from), 0, purse);
}

/* ---------------------------------------------------------------- reading -- */

enum { PIECE = 256 }; /* words at a time */

/* What is read on from with the next token: by then other sequences have had the caches. */
static inline __attribute__((always_inline)) void fetch_on(const void *from) {
    enum { BYTES = 512 };
    for (int at = 0; at < BYTES; at += 64)
        __builtin_prefetch((const char *)from + at, 0, 2);
}

static int read_rung(seqtopk_reader *reader, const seqtopk_source *source, int64_t budget, seqtopk_sink *sink,
                     void *to) {
    uint64_t picked[PIECE + SEQTOPK_PICKED_SLACK];
    while (budget > 0 && reader->cursor < source->rung->words.size) {
        int64_t n;
        const uint64_t *words = seqtopk_shelf_at(&source->rung->words, reader->cursor, &n);
        n = n < PIECE ? n : PIECE;
        const int64_t count =
            source->log->kernels->pick_words(words, n, reader->low, reader->high, picked, &reader->above);
        if (count > 0 && !sink(to, picked, count))
            return 0;
        reader->cursor += n;
        budget -= n;
        if (budget <= 0 && reader->cursor < source->rung->words.size)
            fetch_on(words + n);
    }
    return 1;
}

/* Tokens [reader->cursor, + rows), which stand behind one another; of long rows a piece at a time. */
static int read_rows(seqtopk_reader *reader, const seqtopk_log *log, const float *keys, int64_t rows,
                     seqtopk_sink *sink, void *to) {
    uint64_t picked[PIECE + SEQTOPK_PICKED_SLACK];
    for (int32_t at = 0; at < log->width; at += PIECE) {
        const int32_t width = log->width - at < PIECE ? log->width - at : PIECE;
        const int64_t count = log->kernels->pick_keys(keys + at, log->tokens.element, rows, width, reader->cursor,
                                                      reader->low, reader->high, picked, &reader->above);
        if (count > 0 && !sink(to, picked, count))
            return 0;
    }
    return 1;
}

static int read_log(seqtopk_reader *reader, const seqtopk_log *log, int64_t budget, seqtopk_sink *sink, void *to) {
    const int64_t most = log->width < PIECE ? PIECE / log->width : 1;
    while (budget > 0 && reader->cursor < log->tokens.size) {
        int64_t rows;
        const float *keys = seqtopk_note_keys(seqtopk_log_at(log, reader->cursor, &rows));
        rows = rows < most ? rows : most;
        if (rows * log->width > budget)
            rows = (budget + log->width - 1) / log->width; /* at least one, and not more than before */
        if (!read_rows(reader, log, keys, rows, sink, to))
            return 0;
        reader->cursor += rows;
        budget -= rows * log->width;
        if (budget <= 0 && reader->cursor < log->tokens.size)
            fetch_on((const char *)keys + rows * log->tokens.element);
    }
    return 1;
}

int seqtopk_read_on(seqtopk_reader *reader, const seqtopk_source *source, int64_t budget, seqtopk_sink *sink,
                    void *to) {
    return source->rung ? read_rung(reader, source, budget, sink, to) : read_log(reader, source->log, budget, sink, to);
}

int32_t seqtopk_read_back(seqtopk_reader *reader, const seqtopk_source *source, const uint64_t *words, int32_t n,
                          int32_t *from) {
    int32_t first = 0, read = 0; /* of the source's words of the token */
    if (!source->rung) {
        const int64_t token = source->log->tokens.size - 1;
        read = reader->cursor > token ? n : 0;
        reader->cursor = reader->cursor > token ? token : reader->cursor;
    } else {
        first = seqtopk_reaching(words, n, source->rung->high);
        const int64_t left = source->rung->words.size - (seqtopk_reaching(words, n, source->rung->low) - first);
        read = reader->cursor > left ? (int32_t)(reader->cursor - left) : 0;
        reader->cursor = reader->cursor > left ? left : reader->cursor;
    }
    const int32_t above = seqtopk_reaching(words + first, read, reader->high);
    reader->above -= above;
    *from = first + above;
    return seqtopk_reaching(words + first, read, reader->low) - above;
}
