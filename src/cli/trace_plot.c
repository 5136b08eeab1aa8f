/* SPDX-License-Identifier: MIT */
/* A trace as a picture: the experts of each token, and the time of each step, over the place in the sequence. */
#include "cli.h"
#include "trace.h"
#include "whole.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 860, PANEL = 210, LEFT = 64, RIGHT = 20, TOP = 34, GAP = 62, POINTS = 1500 };

/* Where a value stands in panel p, and a place. */
typedef struct scales {
    double most_x, most_y[2];
} scales;

static double x_of(const scales *s, double place) {
    return (double)LEFT + (double)(WIDTH - LEFT - RIGHT) * place / s->most_x;
}
static double y_of(const scales *s, int p, double value) {
    return (double)(TOP + p * (PANEL + GAP)) + (double)PANEL * (1 - value / s->most_y[p]);
}

/* 1, 2 or 5 times a power of ten, at most five of which are up to `most`. */
static double tick_of(double most) {
    double power = 1;
    while (power * 50 < most)
        power *= 10;
    return power * 5 >= most ? power : power * 10 >= most ? power * 2 : power * 25 >= most ? power * 5 : power * 10;
}

static void draw_axes(FILE *out, const scales *s, int p, const char *title) {
    const double tick = tick_of(s->most_y[p]), step = tick_of(s->most_x);
    fprintf(out, "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">%s</text>\n", LEFT, TOP - 12 + p * (PANEL + GAP), title);
    for (double v = 0; v <= s->most_y[p]; v += tick)
        fprintf(out,
                "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                LEFT, y_of(s, p, v), WIDTH - RIGHT, y_of(s, p, v), LEFT - 6, y_of(s, p, v) + 4, v);
    for (double v = 0; v <= s->most_x; v += step)
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%g</text>\n", x_of(s, v), y_of(s, p, 0) + 18,
                v);
}

/* At most POINTS tokens, spread evenly. */
static void draw_points(FILE *out, const seqtopk_cli_trace *t, const scales *s, int p) {
    const int64_t every = t->inputs->tokens / POINTS + 1;
    int64_t sequence = 0;
    fprintf(out, "<g fill=\"%s\" fill-opacity=\"0.35\">\n", p ? "#8a4b08" : "#1f5fa8");
    for (int64_t i = 0; i < t->inputs->tokens; i += every) {
        const int32_t *cu_seqlens = t->inputs->cu_seqlens;
        while (cu_seqlens && cu_seqlens[sequence + 1] <= i)
            sequence++;
        const double place = (double)(cu_seqlens ? i - cu_seqlens[sequence] : i);
        const double value = p ? (double)t->ns[i] : t->lists->token_offsets[i + 1] - t->lists->token_offsets[i];
        fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"1.3\"/>\n", x_of(s, place),
                y_of(s, p, value < s->most_y[p] ? value : s->most_y[p]));
    }
    fprintf(out, "</g>\n");
}

static void draw_line(FILE *out, const scales *s, int p, const seqtopk_cli_range *ranges, int32_t count) {
    fprintf(out, "<polyline fill=\"none\" stroke=\"#000\" stroke-width=\"1.8\" points=\"");
    for (int32_t i = 0; i < count; i++)
        fprintf(out, "%.1f,%.1f ", x_of(s, (double)(ranges[i].first + ranges[i].last) / 2),
                y_of(s, p, p ? ranges[i].median : ranges[i].experts));
    fprintf(out, "\"/>\n");
}

static void draw(FILE *out, const seqtopk_cli_trace *t, const seqtopk_cli_range *ranges, int32_t count) {
    scales s = {.most_x = count ? (double)ranges[count - 1].last + 1 : 1, .most_y = {t->most + 1.0, 1}};
    for (int32_t i = 0; i < count; i++)
        s.most_y[1] = ranges[i].median * 3 > s.most_y[1] ? ranges[i].median * 3 : s.most_y[1];
    const int height = TOP + 2 * PANEL + GAP + 40;
    char title[96];
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
            "font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
            WIDTH, height);
    snprintf(title, sizeof title, "experts of a token (K = %d; the line: their mean)", (int)t->desc->top_k);
    draw_axes(out, &s, 0, title);
    draw_points(out, t, &s, 0);
    draw_line(out, &s, 0, ranges, count);
    draw_axes(out, &s, 1, "ns of a step (the line: the median; slower ones stand at the top)");
    draw_points(out, t, &s, 1);
    draw_line(out, &s, 1, ranges, count);
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">place in the sequence</text>\n</svg>\n", WIDTH / 2,
            height - 4);
}

int seqtopk_cli_trace_plot(const seqtopk_cli_trace *trace, const char *path) {
    seqtopk_cli_range ranges[SEQTOPK_CLI_RANGES];
    float *work = seqtopk_cli_alloc((unsigned long long)trace->inputs->tokens, sizeof *work);
    if (!work)
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "no memory for the picture");
    const int32_t count = seqtopk_cli_trace_ranges(trace, work, ranges);
    free(work);
    seqtopk_whole file;
    if (!seqtopk_whole_open(&file, path))
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: cannot be written: %s", path, strerror(errno));
    draw(file.out, trace, ranges, count);
    if (!seqtopk_whole_close(&file, true))
        return seqtopk_cli_fail(SEQTOPK_EXIT_FAILURE, "%s: cannot be written: %s", path, strerror(errno));
    return SEQTOPK_EXIT_OK;
}
