/* SPDX-License-Identifier: MIT */
/* Bars on a terminal. */
#ifndef SEQTOPK_CLI_DRAW_H
#define SEQTOPK_CLI_DRAW_H

#include <stddef.h>
#include <stdint.h>

/* A line: what it is about, its number as shown, the number itself (>= 0), and what follows the bar. */
typedef struct seqtopk_bar {
    char label[48], number[32], note[48];
    double value;
} seqtopk_bar;

/* Draws lines on standard output, aligned, the longest bar as wide as the terminal has room for. */
void seqtopk_draw_bars(const seqtopk_bar *bars, size_t count);

/* Items [0, n) in at most DRAW_ROWS ranges of one width: the width. */
enum { SEQTOPK_DRAW_ROWS = 16 };
int64_t seqtopk_draw_bucket(int64_t n);

#endif
