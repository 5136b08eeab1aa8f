/* SPDX-License-Identifier: MIT */
#include "src/cache/rung.h"
#include "src/cache/words.h"

#include <math.h>
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

static int push(seqtopk_rung *rung, const uint64_t *words, int64_t n, seqtopk_purse *purse) {
    for (int64_t w = 0; w < n; w++) {
        uint64_t *place = seqtopk_shelf_push(&rung->words, purse);
        if (!place)
            return 0;
        *place = words[w];
    }
    seqtopk_sample_pass(rung->sample, words, n);
    return 1;
}

int seqtopk_rung_add(seqtopk_rung *rung, const uint64_t *words, int32_t n, seqtopk_purse *purse) {
    const int32_t from = seqtopk_reaching(words, n, rung->high), to = seqtopk_reaching(words, n, rung->low);
    rung->above += from;
    return from == to || push(rung, words + from, to - from, purse);
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

/* Writes those of words [n] that are in [low, high), and counts those above. */
static int64_t pick(seqtopk_reader *reader, const uint64_t *words, int64_t n, uint64_t *picked) {
    int64_t count = 0, above = 0;
    for (int64_t w = 0; w < n; w++) {
        picked[count] = words[w];
        count += words[w] >= reader->low && words[w] < reader->high;
        above += words[w] >= reader->high;
    }
    reader->above += above;
    return count;
}

static int read_rung(seqtopk_reader *reader, const seqtopk_rung *rung, int64_t budget, seqtopk_sink *sink, void *to) {
    uint64_t picked[PIECE];
    while (budget > 0 && reader->cursor < rung->words.size) {
        int64_t n;
        const uint64_t *words = seqtopk_shelf_at(&rung->words, reader->cursor, &n);
        n = n < PIECE ? n : PIECE;
        const int64_t count = pick(reader, words, n, picked);
        if (count > 0 && !sink(to, picked, count))
            return 0;
        reader->cursor += n;
        budget -= n;
    }
    return 1;
}

/* The keys of a token from number *at on, as far as there is space, as words. Returns how many. */
static int32_t words_of(const float *keys, int32_t width, int64_t token, int32_t *at, int32_t space, uint64_t *words) {
    int32_t n = 0;
    for (; *at < width && n < space && keys[*at] > -INFINITY; ++*at)
        words[n++] = seqtopk_word_of(keys[*at], token);
    return n;
}

static int read_log(seqtopk_reader *reader, const seqtopk_log *log, int64_t budget, seqtopk_sink *sink, void *to) {
    uint64_t words[PIECE], picked[PIECE];
    for (; budget > 0 && reader->cursor < log->tokens.size; reader->cursor++) {
        int64_t ignored;
        const float *keys = seqtopk_note_keys(seqtopk_log_at(log, reader->cursor, &ignored));
        for (int32_t at = 0, n = PIECE; n == PIECE;) {
            n = words_of(keys, log->width, reader->cursor, &at, PIECE, words);
            const int64_t count = pick(reader, words, n, picked);
            if (count > 0 && !sink(to, picked, count))
                return 0;
        }
        budget -= log->width;
    }
    return 1;
}

int seqtopk_read_on(seqtopk_reader *reader, const seqtopk_source *source, int64_t budget, seqtopk_sink *sink,
                    void *to) {
    return source->rung ? read_rung(reader, source->rung, budget, sink, to)
                        : read_log(reader, source->log, budget, sink, to);
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
