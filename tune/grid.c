/* SPDX-License-Identifier: MIT */
#include "tune/grid.h"

#include "src/plan/presets.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUICK_SHAPES = 5, MOST_SHAPES = 4096, SIZES = 18 };

/* Small, common and large; decoding, a short prompt and a long one. */
static const struct {
    int32_t experts, top_k;
} quick_shapes[QUICK_SHAPES] = {{8, 2}, {64, 8}, {128, 8}, {256, 8}, {512, 10}};
static const int64_t quick_sizes[] = {1, 32, 512, 8192};
static const seqtopk_dtype quick_dtypes[] = {SEQTOPK_DTYPE_F32, SEQTOPK_DTYPE_BF16};

/* A shape that is asked for; tokens 0: every size. */
typedef struct shape {
    int64_t tokens, experts, top_k;
} shape;

typedef struct shapes {
    shape *list;
    size_t count;
} shapes;

const char *seqtopk_tune_scope_word(seqtopk_scope scope) {
    switch (scope) {
    case SEQTOPK_SCOPE_SEQUENCE: return "sequence";
    case SEQTOPK_SCOPE_TOKEN: return "token";
    case SEQTOPK_SCOPE_ONLINE: return "online";
    }
    return "?";
}

const char *seqtopk_tune_dtype_word(seqtopk_dtype dtype) {
    switch (dtype) {
    case SEQTOPK_DTYPE_F32: return "f32";
    case SEQTOPK_DTYPE_BF16: return "bf16";
    case SEQTOPK_DTYPE_F16: return "f16";
    }
    return "?";
}

int64_t seqtopk_tune_point_bytes(const seqtopk_tune_point *point) {
    return point->tokens * point->experts * (point->dtype == SEQTOPK_DTYPE_F32 ? 4 : 2);
}

const char *seqtopk_tune_point_text(const seqtopk_tune_point *p, char text[SEQTOPK_TUNE_POINT_TEXT]) {
    int n =
        snprintf(text, SEQTOPK_TUNE_POINT_TEXT, "%s %s %" PRId64 "x%" PRId32 "x%" PRId32,
                 seqtopk_tune_scope_word(p->scope), seqtopk_tune_dtype_word(p->dtype), p->tokens, p->experts, p->top_k);
    if (p->threads > 1)
        snprintf(text + n, SEQTOPK_TUNE_POINT_TEXT - (size_t)n, " %" PRId32 " threads", p->threads);
    return text;
}

/* ----------------------------------------------------------------- words -- */

/* The next of the words between commas, whose length it returns; 0 at the end and for an empty word, told apart by *at.
 */
static size_t next_word(const char **at, const char **word) {
    *word = *at;
    const size_t length = strcspn(*at, ",");
    *at += length + ((*at)[length] == ',');
    return length;
}

static bool parse_number(const char *text, size_t length, int64_t most, int64_t *value) {
    int64_t n = 0;
    if (length == 0 || length > 9)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        n = n * 10 + (text[i] - '0');
    }
    *value = n;
    return n >= 1 && n <= most;
}

/* "TxExK" or "ExK". */
static bool parse_shape(const char *word, size_t length, shape *s) {
    int64_t numbers[3];
    size_t count = 0, from = 0;
    for (size_t i = 0; i <= length; i++) {
        if (i < length && word[i] != 'x')
            continue;
        if (count == 3 || !parse_number(word + from, i - from, INT32_MAX, &numbers[count++]))
            return false;
        from = i + 1;
    }
    if (count < 2)
        return false;
    *s = (shape){count == 3 ? numbers[0] : 0, numbers[count - 2], numbers[count - 1]};
    return s->experts <= 65536 && s->top_k <= s->experts && s->tokens <= INT32_MAX / s->top_k &&
           (s->tokens & (s->tokens - 1)) == 0;
}

/* ---------------------------------------------------------------- shapes -- */

static bool add_shape(shapes *all, shape s) {
    for (size_t i = 0; i < all->count; i++)
        if (all->list[i].tokens == s.tokens && all->list[i].experts == s.experts && all->list[i].top_k == s.top_k)
            return true;
    if (all->count == MOST_SHAPES)
        return false;
    all->list[all->count++] = s;
    return true;
}

static bool add_named_shapes(const char *text, shapes *all, char message[SEQTOPK_TUNE_MESSAGE]) {
    const char *at = text, *word;
    do {
        shape s;
        const size_t length = next_word(&at, &word);
        if (!parse_shape(word, length, &s)) {
            snprintf(message, SEQTOPK_TUNE_MESSAGE,
                     "--shapes needs TxExK or ExK, separated by commas, T a power of two and K <= E <= 65536 "
                     "(8192x256x8,128x8), and '%.*s' is not",
                     (int)(length > 60 ? 60 : length), word);
            return false;
        }
        if (!add_shape(all, s)) {
            snprintf(message, SEQTOPK_TUNE_MESSAGE, "--shapes names more than %d shapes; tune them in several runs",
                     (int)MOST_SHAPES);
            return false;
        }
    } while (*at || at[-1] == ',');
    return true;
}

static bool add_models(const char *text, shapes *all, char message[SEQTOPK_TUNE_MESSAGE]) {
    const char *at = text, *word;
    do {
        char name[48], nearest[SEQTOPK_PRESETS_NEAREST];
        const size_t length = next_word(&at, &word);
        snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), word);
        const int32_t m = length < sizeof name ? seqtopk_preset_find(name) : -1;
        if (m < 0) {
            snprintf(message, SEQTOPK_TUNE_MESSAGE,
                     "--models: there is no model '%s'; the nearest:%s; see seqtopk models", name,
                     seqtopk_presets_nearest(name, nearest));
            return false;
        }
        add_shape(all, (shape){0, seqtopk_presets[m].experts, seqtopk_presets[m].top_k});
    } while (*at || at[-1] == ',');
    return true;
}

static int by_experts(const void *a, const void *b) {
    const shape *x = a, *y = b;
    if (x->experts != y->experts)
        return x->experts < y->experts ? -1 : 1;
    if (x->top_k != y->top_k)
        return x->top_k < y->top_k ? -1 : 1;
    return (x->tokens > y->tokens) - (x->tokens < y->tokens);
}

/* ------------------------------------------------------------------ grid -- */

static void add_point(seqtopk_tune_grid *grid, const seqtopk_tune_request *request, const shape *s, int64_t tokens,
                      int scope, seqtopk_dtype dtype) {
    const seqtopk_tune_point point = {(seqtopk_scope)scope, dtype,  (int32_t)s->experts,
                                      (int32_t)s->top_k,    tokens, request->threads > 0 ? request->threads : 1};
    if (request->dtype >= 0 && dtype != (seqtopk_dtype)request->dtype)
        return;
    if (request->scope >= 0 && scope != request->scope)
        return;
    /* A shape may be asked for twice: alone, and among all sizes. */
    const seqtopk_tune_point *last = grid->count ? grid->points + grid->count - 1 : NULL;
    if (last && last->scope == point.scope && last->dtype == point.dtype && last->experts == point.experts &&
        last->top_k == point.top_k && last->tokens == point.tokens)
        return;
    grid->points[grid->count++] = point;
}

static int ascending(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The sizes that shapes [i, n), all of one (E, K), ask for, ascending. */
static size_t sizes_of(const shape *list, size_t n, bool quick, int64_t *sizes) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (list[i].tokens) {
            sizes[count++] = list[i].tokens;
        } else if (quick) {
            for (size_t q = 0; q < sizeof quick_sizes / sizeof *quick_sizes; q++)
                sizes[count++] = quick_sizes[q];
        } else {
            for (int64_t t = 1; t <= SEQTOPK_TUNE_TOKENS_MOST; t *= 2)
                sizes[count++] = t;
        }
    }
    qsort(sizes, count, sizeof *sizes, ascending);
    return count;
}

/* Shapes [first, last) have the same experts. */
static void add_experts(seqtopk_tune_grid *grid, const seqtopk_tune_request *request, const shape *list, size_t count,
                        seqtopk_dtype dtype, int64_t *sizes) {
    for (int scope = SEQTOPK_SCOPE_SEQUENCE; scope <= SEQTOPK_SCOPE_TOKEN; scope++)
        for (size_t i = 0, end; i < count; i = end) {
            for (end = i; end < count && list[end].top_k == list[i].top_k; end++)
                ;
            const size_t n = sizes_of(list + i, end - i, request->quick, sizes);
            for (size_t t = 0; t < n; t++)
                add_point(grid, request, list + i, sizes[t], scope, dtype);
        }
}

static bool out_of_memory(char message[SEQTOPK_TUNE_MESSAGE]) {
    snprintf(message, SEQTOPK_TUNE_MESSAGE, "no memory for the grid; name fewer shapes");
    return false;
}

bool seqtopk_tune_grid_make(const seqtopk_tune_request *request, seqtopk_tune_grid *grid,
                            char message[SEQTOPK_TUNE_MESSAGE]) {
    shapes all = {malloc(MOST_SHAPES * sizeof *all.list), 0};
    bool ok = true;
    *grid = (seqtopk_tune_grid){NULL, 0};
    if (!all.list)
        return out_of_memory(message);
    if (request->shapes)
        ok = add_named_shapes(request->shapes, &all, message);
    if (ok && request->models)
        ok = add_models(request->models, &all, message);
    if (!request->shapes && !request->models) {
        for (size_t i = 0; request->quick && i < QUICK_SHAPES; i++)
            add_shape(&all, (shape){0, quick_shapes[i].experts, quick_shapes[i].top_k});
        for (int32_t m = 0; !request->quick && m < seqtopk_presets_size; m++)
            if (seqtopk_presets[m].is_tuned)
                add_shape(&all, (shape){0, seqtopk_presets[m].experts, seqtopk_presets[m].top_k});
    }
    qsort(all.list, all.count, sizeof *all.list, by_experts);
    /* No shape has more than SIZES sizes, nor a size more than six points. */
    int64_t *sizes = malloc((all.count + 1) * SIZES * sizeof *sizes);
    grid->points = malloc((all.count + 1) * SIZES * 6 * sizeof *grid->points);
    if (ok && (!sizes || !grid->points))
        ok = out_of_memory(message);
    for (size_t i = 0, end; ok && i < all.count; i = end) {
        for (end = i; end < all.count && all.list[end].experts == all.list[i].experts; end++)
            ;
        for (int d = SEQTOPK_DTYPE_F32; d <= SEQTOPK_DTYPE_F16; d++) {
            bool wanted = !request->quick || request->dtype >= 0;
            for (size_t q = 0; q < sizeof quick_dtypes / sizeof *quick_dtypes; q++)
                wanted |= quick_dtypes[q] == (seqtopk_dtype)d;
            if (wanted)
                add_experts(grid, request, all.list + i, end - i, (seqtopk_dtype)d, sizes);
        }
    }
    free(sizes);
    free(all.list);
    if (!ok)
        seqtopk_tune_grid_free(grid);
    return ok;
}

void seqtopk_tune_grid_free(seqtopk_tune_grid *grid) {
    free(grid->points);
    *grid = (seqtopk_tune_grid){NULL, 0};
}
