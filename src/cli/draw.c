/* SPDX-License-Identifier: MIT */
#define _DEFAULT_SOURCE
#include "draw.h"

#include <langinfo.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Anything but a terminal (a file, a pipe, a log) gets plain characters and a fixed width. */
static bool unicode(void) { return isatty(STDOUT_FILENO) && !strcmp(nl_langinfo(CODESET), "UTF-8"); }

static int columns(void) {
    struct winsize size;
    if (isatty(STDOUT_FILENO) && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col)
        return size.ws_col < 120 ? size.ws_col : 120;
    return 80;
}

/* What is not 0 shows: a bar is never shorter than its smallest mark. */
static void draw_bar(double part, int width, bool blocks) {
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int marks = (int)(part * width * (blocks ? 8 : 1) + 0.5);
    if (part > 0 && marks == 0)
        marks = 1;
    int whole = blocks ? marks / 8 : marks;
    for (int i = 0; i < whole; i++)
        fputs(blocks ? "█" : "#", stdout);
    if (blocks)
        fputs(eighths[marks % 8], stdout);
}

void seqtopk_draw_bars(const seqtopk_bar *bars, size_t count) {
    int labels = 0, numbers = 0, notes = 0;
    double most = 0;
    for (size_t i = 0; i < count; i++) {
        int label = (int)strlen(bars[i].label), number = (int)strlen(bars[i].number), note = (int)strlen(bars[i].note);
        labels = label > labels ? label : labels;
        numbers = number > numbers ? number : numbers;
        notes = note > notes ? note : notes;
        most = bars[i].value > most ? bars[i].value : most;
    }
    int room = columns() - 2 - labels - 2 - numbers - (notes ? 2 + notes : 0) - 2;
    if (room < 8)
        room = 8;
    bool blocks = unicode();
    for (size_t i = 0; i < count; i++) {
        printf("  %*s  %*s%s%*s ", labels, bars[i].label, numbers, bars[i].number, notes ? "  " : "", -notes,
               bars[i].note);
        draw_bar(most > 0 ? bars[i].value / most : 0, room, blocks);
        putchar('\n');
    }
}

int64_t seqtopk_draw_bucket(int64_t n) {
    return n <= SEQTOPK_DRAW_ROWS ? 1 : (n + SEQTOPK_DRAW_ROWS - 1) / SEQTOPK_DRAW_ROWS;
}
