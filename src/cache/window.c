/* SPDX-License-Identifier: MIT */
#include "src/cache/window.h"
#include "arch/words.h"

#include <string.h>

static size_t bytes_of(int32_t space, int32_t target) { return ((size_t)space + (size_t)target) * sizeof(uint64_t); }

int seqtopk_window_make(seqtopk_window *window, int32_t target, seqtopk_purse *purse) {
    const int32_t space = 3 * target;
    *window = (seqtopk_window){.high = SEQTOPK_WORD_MOST, .target = target, .space = space, .first = target};
    window->sorted = seqtopk_purse_take(purse, bytes_of(space, target));
    if (window->sorted)
        window->extension = window->sorted + space;
    return window->sorted != NULL;
}

void seqtopk_window_free(seqtopk_window *window, seqtopk_purse *purse) {
    seqtopk_purse_give(purse, window->sorted, bytes_of(window->space, window->target));
    window->sorted = NULL;
}

size_t seqtopk_window_bytes(const seqtopk_window *window) { return bytes_of(window->space, window->target); }

void seqtopk_window_copy(seqtopk_window *to, const seqtopk_window *from) {
    to->low = from->low;
    to->high = from->high;
    to->above = from->above;
    to->count = from->count;
    to->first = from->first;
    to->is_extending = 0;
    memcpy(seqtopk_window_words(to), seqtopk_window_words(from), (size_t)to->count * sizeof *to->sorted);
}

/* The index of the first word of an ascending array that is not below `word`. */
static int32_t index_of(const uint64_t *words, int32_t n, uint64_t word) {
    const uint64_t *at = words;
    while (n > 1) { /* without a branch that could be guessed wrong */
        const int32_t half = n / 2;
        at += at[half - 1] < word ? half : 0;
        n -= half;
    }
    return (int32_t)(at - words) + (n == 1 && *at < word);
}

/* From the end on which there are fewer words to move. */
void seqtopk_window_insert(seqtopk_window *w, const uint64_t *words, int32_t n) {
    uint64_t *own = seqtopk_window_words(w);
    int32_t place[SEQTOPK_INSERTED] = {0}; /* of all of them at first: no search waits for another */
    for (int32_t i = 0; i < n; i++)
        place[i] = index_of(own, w->count, words[i]);
    const int has_front = w->first >= n, has_back = w->first + w->count + n <= w->space;
    if (has_front && (place[n / 2] < w->count / 2 || !has_back)) {
        int32_t left = 0; /* words that have moved to the front */
        for (int32_t i = n - 1; i >= 0; i--) {
            memmove(own + left - i - 1, own + left, (size_t)(place[i] - left) * sizeof *own);
            own[place[i] - i - 1] = words[i];
            left = place[i];
        }
        w->first -= n;
    } else {
        int32_t right = w->count; /* from there on words have moved to the back */
        for (int32_t i = 0; i < n; i++) {
            memmove(own + place[i] + n - i, own + place[i], (size_t)(right - place[i]) * sizeof *own);
            own[place[i] + n - i - 1] = words[i];
            right = place[i];
        }
    }
    w->count += n;
}

static void take_out(uint64_t *words, int32_t *count, uint64_t word) {
    const int32_t at = index_of(words, *count, word);
    memmove(words + at, words + at + 1, (size_t)(*count - at - 1) * sizeof *words);
    --*count;
}

/* Leaves about `target` words round the cut, in the middle of the space. Words that are equal, as one token's may be, stay
 * on one side. */
static void trim(seqtopk_window *w, int64_t rank) {
    uint64_t *words = seqtopk_window_words(w);
    const int64_t middle = w->above + w->count - rank;
    const int64_t most = w->count - w->target, wanted = middle - w->target / 2;
    int32_t from = (int32_t)(wanted < 0 ? 0 : wanted < most ? wanted : most), to = from + w->target;
    while (to > 0 && to < w->count && words[to - 1] == words[to])
        to--;
    while (from > 0 && words[from - 1] == words[from])
        from--;
    if (to < w->count) {
        w->above += w->count - to;
        w->high = words[to];
        w->is_extending = w->is_extending > 0 ? 0 : w->is_extending;
    }
    if (from > 0) {
        w->low = words[from];
        w->is_extending = w->is_extending < 0 ? 0 : w->is_extending;
    }
    w->first = (w->space - (to - from)) / 2;
    w->count = to - from;
    memmove(seqtopk_window_words(w), words + from, (size_t)w->count * sizeof *words);
}

/* Makes space for n words more, at either end, by letting go of what is far from the cut, or by moving. */
static void make_space(seqtopk_window *w, int32_t n, int64_t rank) {
    if (w->count + n > 2 * w->target)
        trim(w, rank);
    if (w->first < n || w->first + w->count + n > w->space) {
        uint64_t *words = seqtopk_window_words(w);
        w->first = (w->space - w->count) / 2;
        memmove(seqtopk_window_words(w), words, (size_t)w->count * sizeof *words);
    }
}

void seqtopk_window_trim(seqtopk_window *w, int64_t rank) {
    if (w->count > 2 * w->target)
        trim(w, rank);
}

void seqtopk_window_take_back(seqtopk_window *w, const uint64_t *words, int32_t n) {
    const int32_t from = seqtopk_reaching(words, n, w->high), to = seqtopk_reaching(words, n, w->low);
    w->above -= from;
    for (int32_t i = from; i < to; i++)
        take_out(seqtopk_window_words(w), &w->count, words[i]);
}

/* -------------------------------------------------------------- extending -- */

void seqtopk_window_extend(seqtopk_window *w, int is_upward, uint64_t end, int32_t source) {
    w->is_extending = is_upward ? 1 : -1;
    w->source = source;
    w->extension_count = 0;
    w->reader = (seqtopk_reader){.low = is_upward ? w->high : end, .high = is_upward ? end : w->low};
}

static int insert_into_extension(void *to, const uint64_t *words, int64_t n) {
    seqtopk_window *w = to;
    if (w->extension_count + n > w->target)
        return 0;
    for (int64_t i = 0; i < n; i++) {
        const int32_t at = index_of(w->extension, w->extension_count, words[i]);
        memmove(w->extension + at + 1, w->extension + at, (size_t)(w->extension_count - at) * sizeof *w->extension);
        w->extension[at] = words[i];
        w->extension_count++;
    }
    return 1;
}

static void join_extension(seqtopk_window *w, int64_t rank) {
    const int32_t n = w->extension_count, is_upward = w->is_extending > 0;
    make_space(w, n, rank);
    if (!w->is_extending) /* what it was to follow has been let go of */
        return;
    if (is_upward) {
        memcpy(seqtopk_window_words(w) + w->count, w->extension, (size_t)n * sizeof *w->extension);
        w->high = w->reader.high;
        w->above -= n;
    } else {
        w->first -= n;
        memcpy(seqtopk_window_words(w), w->extension, (size_t)n * sizeof *w->extension);
        w->low = w->reader.low;
    }
    w->count += n;
    w->is_extending = 0;
}

void seqtopk_window_read_on(seqtopk_window *w, const seqtopk_source *source, int64_t budget, int64_t rank) {
    if (!seqtopk_read_on(&w->reader, source, budget, insert_into_extension, w))
        w->is_extending = 0;
    else if (w->reader.cursor == seqtopk_source_size(source))
        join_extension(w, rank);
}

void seqtopk_window_forget(seqtopk_window *w, const seqtopk_source *source, const uint64_t *words, int32_t n) {
    int32_t from;
    const int32_t count = seqtopk_read_back(&w->reader, source, words, n, &from);
    for (int32_t i = 0; i < count; i++)
        take_out(w->extension, &w->extension_count, words[from + i]);
}

void seqtopk_window_fill(seqtopk_window *w, const uint64_t *words, int64_t n, uint64_t low, uint64_t high,
                         int64_t above, int64_t at) {
    int64_t from = n <= w->target ? 0 : at - w->target / 2, to = n <= w->target ? n : from + w->target;
    from = from < 0 ? 0 : from > n ? n : from;
    to = to < 0 ? 0 : to > n ? n : to;
    while (from > 0 && from < n && words[from] == words[from - 1]) /* equals stay together */
        from++;
    while (to > 0 && to < n && words[to] == words[to - 1])
        to--;
    w->above = above + from;
    w->high = from > 0 ? words[from - 1] : high;
    w->low = to < n ? (to > 0 ? words[to - 1] : high) : low;
    w->count = (int32_t)(to - from);
    w->first = (w->space - w->count) / 2;
    w->is_extending = 0;
    for (int64_t i = from; i < to; i++)
        seqtopk_window_words(w)[to - 1 - i] = words[i];
}
