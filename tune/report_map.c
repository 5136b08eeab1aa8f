/* SPDX-License-Identifier: MIT */
#include "tune/report_map.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEFT = 74, TOP = 24, WIDTH = 33, HEIGHT = 21, GAP = 2, COLUMNS = 32, ROWS = 512, VARIANTS = 64, COLOURS = 10 };

/* ------------------------------------------------------------------ grid -- */

/* Which T are columns and which (E, K) are rows, and whose result is in which cell. */
typedef struct map {
    int32_t columns, rows;
    int64_t tokens[COLUMNS];
    int32_t experts[ROWS], top_k[ROWS];
    const seqtopk_tune_result *cell[ROWS][COLUMNS];
} map;

static int32_t column_of(map *m, int64_t tokens) {
    int32_t at = 0;
    while (at < m->columns && m->tokens[at] < tokens)
        at++;
    if (at < m->columns && m->tokens[at] == tokens)
        return at;
    if (m->columns == COLUMNS)
        return -1;
    memmove(m->tokens + at + 1, m->tokens + at, (size_t)(m->columns - at) * sizeof *m->tokens);
    m->tokens[at] = tokens;
    m->columns++;
    return at;
}

static int32_t row_of(map *m, int32_t experts, int32_t top_k) {
    int32_t at = 0;
    while (at < m->rows && (m->experts[at] < experts || (m->experts[at] == experts && m->top_k[at] < top_k)))
        at++;
    if (at < m->rows && m->experts[at] == experts && m->top_k[at] == top_k)
        return at;
    if (m->rows == ROWS)
        return -1;
    memmove(m->experts + at + 1, m->experts + at, (size_t)(m->rows - at) * sizeof *m->experts);
    memmove(m->top_k + at + 1, m->top_k + at, (size_t)(m->rows - at) * sizeof *m->top_k);
    m->experts[at] = experts;
    m->top_k[at] = top_k;
    m->rows++;
    return at;
}

static map *map_new(const seqtopk_report_section *s) {
    map *m = calloc(1, sizeof *m);
    /* All columns and rows first: their numbers move while they are found. */
    for (int pass = 0; m && pass < 2; pass++)
        for (size_t i = 0; i < s->count; i++) {
            const seqtopk_tune_point *p = &s->results[i]->point;
            const int32_t column = column_of(m, p->tokens), row = row_of(m, p->experts, p->top_k);
            if (pass && column >= 0 && row >= 0)
                m->cell[row][column] = s->results[i];
        }
    return m;
}

static void tokens_text(int64_t tokens, char text[24]) {
    if (tokens >= 1 << 20 && tokens % (1 << 20) == 0)
        snprintf(text, 24, "%lldM", (long long)(tokens >> 20));
    else if (tokens >= 1024 && tokens % 1024 == 0)
        snprintf(text, 24, "%lldk", (long long)(tokens >> 10));
    else
        snprintf(text, 24, "%lld", (long long)tokens);
}

static void open_map(FILE *out, const map *m, const char *label) {
    const int width = LEFT + m->columns * WIDTH + 4, height = TOP + m->rows * HEIGHT + 4;
    fprintf(out, "<svg width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n", width,
            height, width, height, label);
    fprintf(out, "<text class=\"axis\" x=\"%d\" y=\"14\" text-anchor=\"end\">E x K \\ T</text>\n", LEFT - 8);
    for (int32_t c = 0; c < m->columns; c++) {
        char text[24];
        tokens_text(m->tokens[c], text);
        fprintf(out, "<text class=\"axis\" x=\"%d\" y=\"14\" text-anchor=\"middle\">%s</text>\n",
                LEFT + c * WIDTH + (WIDTH - GAP) / 2, text);
    }
    for (int32_t r = 0; r < m->rows; r++)
        fprintf(out, "<text class=\"axis\" x=\"%d\" y=\"%d\" text-anchor=\"end\">%d x %d</text>\n", LEFT - 8,
                TOP + r * HEIGHT + 14, (int)m->experts[r], (int)m->top_k[r]);
}

static void rectangle(FILE *out, int32_t row, int32_t column, int32_t columns, const char *class_name) {
    fprintf(out, "<rect %sx=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"3\" />", class_name, LEFT + column * WIDTH,
            TOP + row * HEIGHT, columns * WIDTH - GAP, HEIGHT - GAP);
}

static void open_text(FILE *out, int32_t row, int32_t column, int32_t columns) {
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", LEFT + column * WIDTH + (columns * WIDTH - GAP) / 2,
            TOP + row * HEIGHT + 13);
}

static void write_shape(FILE *out, const seqtopk_tune_point *p) {
    fprintf(out, "T %lld, E %d, K %d: ", (long long)p->tokens, (int)p->experts, (int)p->top_k);
}

/* --------------------------------------------------------------- winners -- */

static const seqtopk_tune_found *found_of(const seqtopk_tune_result *r, seqtopk_op op) {
    for (int32_t f = 0; r && f < r->count; f++)
        if (r->found[f].op == op)
            return r->found + f;
    return NULL;
}

int32_t seqtopk_report_ops(const seqtopk_report_section *s, seqtopk_op ops[SEQTOPK_OPS]) {
    double weight[SEQTOPK_OPS] = {0};
    int32_t count = 0;
    for (int op = 0; op < SEQTOPK_OPS; op++) {
        for (size_t i = 0; i < s->count; i++) {
            const seqtopk_tune_found *f = found_of(s->results[i], (seqtopk_op)op);
            /* What the plain call decides counts in full; a gap too large to be told from a larger one does not. */
            if (f)
                weight[op] += 1e-6 + (f->score == SEQTOPK_SCORE_SOFTMAX && f->gap > 0 ? fmin(f->gap, 1) : 0) *
                                         (f->ns <= 1.5 * s->results[i]->incumbent_ns ? 1 : 0.1);
        }
        if (weight[op] > 0)
            ops[count++] = (seqtopk_op)op;
    }
    for (int32_t i = 1; i < count; i++)
        for (int32_t j = i; j > 0 && weight[ops[j]] > weight[ops[j - 1]]; j--) {
            const seqtopk_op swapped = ops[j];
            ops[j] = ops[j - 1];
            ops[j - 1] = swapped;
        }
    return count;
}

/* The winners of an op, most frequent first: their places are their letters and colours. */
typedef struct variants {
    const seqtopk_row *row[VARIANTS];
    int32_t wins[VARIANTS], count, all;
} variants;

static int32_t variant_of(const variants *v, const seqtopk_row *row) {
    for (int32_t i = 0; i < v->count; i++)
        if (v->row[i] == row)
            return i;
    return -1;
}

static void find_variants(variants *v, const seqtopk_report_section *s, seqtopk_op op) {
    *v = (variants){.count = 0};
    for (size_t i = 0; i < s->count; i++) {
        const seqtopk_tune_found *f = found_of(s->results[i], op);
        if (!f)
            continue;
        int32_t at = variant_of(v, f->row);
        if (at < 0 && v->count < VARIANTS)
            v->row[at = v->count++] = f->row;
        if (at >= 0)
            v->wins[at]++;
        v->all++;
    }
    for (int32_t i = 1; i < v->count; i++)
        for (int32_t j = i; j > 0 && v->wins[j] > v->wins[j - 1]; j--) {
            const seqtopk_row *row = v->row[j];
            const int32_t wins = v->wins[j];
            v->row[j] = v->row[j - 1];
            v->wins[j] = v->wins[j - 1];
            v->row[j - 1] = row;
            v->wins[j - 1] = wins;
        }
}

static char letter(int32_t variant) { return variant < 26 ? (char)('A' + variant) : '*'; }
static int colour(int32_t variant) { return variant < COLOURS ? variant : COLOURS - 1; }

static void write_title(FILE *out, const seqtopk_tune_result *r, const seqtopk_tune_found *f) {
    fputs("<title>", out);
    write_shape(out, &r->point);
    fprintf(out, "%s_%s, a call in ", f->row->isa_name, f->row->algorithm);
    seqtopk_report_time(out, f->ns);
    fprintf(out, " (spread %.1f %%)", 100 * f->spread);
    if (f->runner_up) {
        fprintf(out, "; next %s_%s, %+.1f %%%s", f->runner_up->isa_name, f->runner_up->algorithm, 100 * f->gap,
                f->clear ? "" : ", within the noise");
    }
    if (f->row != f->incumbent)
        fprintf(out, "; the model takes %s_%s", f->incumbent->isa_name, f->incumbent->algorithm);
    if (r->reference_ns > 0 && r->ns > 0)
        fprintf(out, "; reference %.1f x", r->reference_ns / r->ns);
    if (r->floor_ns > 0)
        fprintf(out, "; floor x %.2f", r->ns / r->floor_ns);
    fputs("</title>", out);
}

static void write_cell(FILE *out, const map *m, const variants *v, seqtopk_op op, int32_t row, int32_t column) {
    const seqtopk_tune_result *r = m->cell[row][column];
    const seqtopk_tune_found *f = found_of(r, op);
    if (!f) {
        rectangle(out, row, column, 1, "class=\"none\" ");
        fputc('\n', out);
        return;
    }
    const int32_t variant = variant_of(v, f->row);
    fprintf(out, "<g class=\"v%d%s\">", colour(variant), f->clear ? "" : " close");
    write_title(out, r, f);
    rectangle(out, row, column, 1, "");
    open_text(out, row, column, 1);
    fprintf(out, "<tspan class=\"l\">%c</tspan> ", letter(variant));
    if (f->gap >= 0.995)
        fprintf(out, f->gap < 8.95 ? "x%.1f" : "x%.0f", 1 + f->gap);
    else
        fprintf(out, "%.0f", f->gap > 0 ? 100 * f->gap : 0);
    fputs("</text></g>\n", out);
}

/* Columns from `column` on that the same kernel wins. */
static int32_t run_of(const map *m, seqtopk_op op, int32_t row, int32_t column) {
    const seqtopk_tune_found *first = found_of(m->cell[row][column], op);
    int32_t end = column + 1;
    for (; end < m->columns; end++) {
        const seqtopk_tune_found *f = found_of(m->cell[row][end], op);
        if ((f ? f->row : NULL) != (first ? first->row : NULL))
            break;
    }
    return end - column;
}

static void write_run(FILE *out, const map *m, const variants *v, seqtopk_op op, int32_t row, int32_t column,
                      int32_t n) {
    const seqtopk_tune_found *f = found_of(m->cell[row][column], op);
    double most = 0;
    bool clear = false;
    char text[24];
    if (!f)
        return;
    for (int32_t c = column; c < column + n; c++) {
        const seqtopk_tune_found *one = found_of(m->cell[row][c], op);
        most = one->gap > most ? one->gap : most;
        clear |= one->clear;
    }
    fprintf(out, "<g class=\"v%d%s\"><title>T ", colour(variant_of(v, f->row)), clear ? "" : " close");
    tokens_text(m->tokens[column], text);
    fputs(text, out);
    tokens_text(m->tokens[column + n - 1], text);
    fprintf(out, " to %s, E %d, K %d: %s_%s, up to %.1f %% before the next</title>", text, (int)m->experts[row],
            (int)m->top_k[row], f->row->isa_name, f->row->algorithm, 100 * most);
    rectangle(out, row, column, n, "");
    open_text(out, row, column, n);
    fprintf(out, "<tspan class=\"l\">%c</tspan></text></g>\n", letter(variant_of(v, f->row)));
}

static void write_legend(FILE *out, const variants *v) {
    fputs("<ul class=\"legend\">\n", out);
    for (int32_t i = 0; i < v->count; i++)
        fprintf(out, "<li><i class=\"v%d\">%c</i><code>%s_%s</code><span class=\"soft\">%.0f %%</span></li>\n",
                colour(i), letter(i), v->row[i]->isa_name, v->row[i]->algorithm, 100.0 * v->wins[i] / v->all);
    fputs("</ul>\n", out);
}

void seqtopk_report_winners(FILE *out, const seqtopk_report_section *s, seqtopk_op op, bool fine) {
    map *m = map_new(s);
    variants v;
    find_variants(&v, s, op);
    if (!m || v.count == 0) {
        free(m);
        return;
    }
    fprintf(out, "<figure>\n<h3>%s: the winner</h3>\n<figcaption>%s</figcaption>\n", v.row[0]->op_name,
            fine ? "Letter and colour: the kernel. Number: how many per cent (or times, x) longer a call takes with "
                   "the next "
                   "best."
                 : "Runs of T that one kernel wins; pale: closer than the noise all along.");
    open_map(out, m, "which kernel wins");
    for (int32_t row = 0; row < m->rows; row++)
        for (int32_t column = 0, n; column < m->columns; column += n) {
            n = fine ? 1 : run_of(m, op, row, column);
            if (fine)
                write_cell(out, m, &v, op, row, column);
            else
                write_run(out, m, &v, op, row, column, n);
        }
    fputs("</svg>\n", out);
    write_legend(out, &v);
    fputs("</figure>\n", out);
    free(m);
}

/* ------------------------------------------------------------------ heat -- */

/* A number of each result in seven shades. */
typedef struct heat {
    const char *title, *caption, *label, *shade;
    double limit[6];                                    /* the last number of each shade but the deepest */
    double (*value)(const seqtopk_tune_result *result); /* negative: none */
    const char *format;
    void (*explain)(FILE *out, const seqtopk_tune_result *result);
} heat;

static void write_heat_cell(FILE *out, const heat *h, const map *m, int32_t row, int32_t column) {
    const seqtopk_tune_result *r = m->cell[row][column];
    const double value = r ? h->value(r) : -1;
    int shade = 0;
    if (value < 0) {
        rectangle(out, row, column, 1, "class=\"none\" ");
        fputc('\n', out);
        return;
    }
    while (shade < 6 && value > h->limit[shade])
        shade++;
    fprintf(out, "<g class=\"%s%d\"><title>", h->shade, shade);
    write_shape(out, &r->point);
    h->explain(out, r);
    fputs("</title>", out);
    rectangle(out, row, column, 1, "");
    open_text(out, row, column, 1);
    fprintf(out, value >= 99.5 ? "%.0f" : h->format, value);
    fputs("</text></g>\n", out);
}

static void write_heat(FILE *out, const seqtopk_report_section *s, const heat *h) {
    map *m = map_new(s);
    if (!m)
        return;
    fprintf(out, "<figure>\n<h3>%s</h3>\n<figcaption>%s</figcaption>\n", h->title, h->caption);
    open_map(out, m, h->label);
    for (int32_t row = 0; row < m->rows; row++)
        for (int32_t column = 0; column < m->columns; column++)
            write_heat_cell(out, h, m, row, column);
    fputs("</svg>\n</figure>\n", out);
    free(m);
}

static double floor_value(const seqtopk_tune_result *r) {
    return r->ns > 0 && r->floor_ns > 0 ? r->ns / r->floor_ns : -1;
}

static void floor_explain(FILE *out, const seqtopk_tune_result *r) {
    seqtopk_report_time(out, r->ns);
    fputs(" a call, ", out);
    seqtopk_report_time(out, r->floor_ns);
    fputs(" for the score kernel alone", out);
}

void seqtopk_report_floor(FILE *out, const seqtopk_report_section *s) {
    static const heat h = {"Distance to the floor",
                           "How many scoring passes a call takes: 1.0 would be the floor.",
                           "time of a call over the time of a scoring pass",
                           "h",
                           {1.5, 2, 2.5, 3.5, 6, 12},
                           floor_value,
                           "%.1f",
                           floor_explain};
    write_heat(out, s, &h);
}

static double gain_value(const seqtopk_tune_result *r) {
    const double gain = r->ns > 0 && r->incumbent_ns > 0 ? 100 * (r->incumbent_ns / r->ns - 1) : -1;
    return r->ns > 0 && gain < 0 ? 0 : gain;
}

static void gain_explain(FILE *out, const seqtopk_tune_result *r) {
    seqtopk_report_time(out, r->ns);
    fputs(" tuned, ", out);
    seqtopk_report_time(out, r->incumbent_ns);
    fputs(" untuned", out);
    if (r->reference_ns > 0) {
        fputs(", ", out);
        seqtopk_report_time(out, r->reference_ns);
        fputs(" with the reference's kernels", out);
    }
}

void seqtopk_report_gain(FILE *out, const seqtopk_report_section *s) {
    static const heat h = {"What tuning gains",
                           "How many per cent longer a call takes with what the model chooses.",
                           "time of an untuned call over a tuned one",
                           "g",
                           {1, 5, 10, 20, 40, 80},
                           gain_value,
                           "%.0f",
                           gain_explain};
    write_heat(out, s, &h);
}
