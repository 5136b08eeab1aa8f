/* SPDX-License-Identifier: MIT */
#define _DEFAULT_SOURCE
#include "progress.h"

#include <langinfo.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

seqtopk_progress seqtopk_progress_new(const char *command) {
    return (seqtopk_progress){.command = command, .terminal = isatty(STDERR_FILENO), .shown = -1};
}

const char *seqtopk_clock_text(double seconds, char text[SEQTOPK_CLOCK]) {
    const long s = seconds > 0 ? (long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(text, SEQTOPK_CLOCK, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, SEQTOPK_CLOCK, "%ld:%02ld", s / 60, s % 60);
    return text;
}

static int columns(void) {
    struct winsize size;
    return !ioctl(STDERR_FILENO, TIOCGWINSZ, &size) && size.ws_col ? size.ws_col : 80;
}

/* One line, no wider than the terminal: a wrapped line could not be drawn over. */
static void draw(const seqtopk_progress *p, size_t done, size_t points, double left, const char *what) {
    enum { MOST = 40 };
    char clock[SEQTOPK_CLOCK], head[64], bar[MOST * 3 + 1] = "";
    const bool blocks = !strcmp(nl_langinfo(CODESET), "UTF-8");
    const double part = points ? (double)done / (double)points : 1;
    const int head_width =
        snprintf(head, sizeof head, " %3.0f %%  %s left  ", 100 * part, seqtopk_clock_text(left, clock));
    int width = columns() - 1, room = width - head_width - (int)strlen(what);
    room = room > MOST ? MOST : room;
    const int full = (int)(part * room);
    for (int i = 0; i < room; i++)
        strcat(bar, i < full ? (blocks ? "█" : "#") : (blocks ? "░" : "."));
    if (room < 0)
        room = 0;
    fprintf(stderr, "\r%s%s%.*s\033[K", bar, head, width - head_width - room > 0 ? width - head_width - room : 0, what);
    (void)p;
    fflush(stderr);
}

void seqtopk_progress_show(seqtopk_progress *p, size_t done, size_t points, double gone, double left, const char *group,
                           const char *what) {
    char past[SEQTOPK_CLOCK], rest[SEQTOPK_CLOCK];
    if (p->terminal) {
        if (p->shown >= 0 && gone - p->shown < 0.1 && done < points)
            return;
        p->shown = gone;
        p->drawn = true;
        draw(p, done, points, left, what);
        return;
    }
    if (!strcmp(p->group, group))
        return;
    snprintf(p->group, sizeof p->group, "%s", group);
    fprintf(stderr, "%s: %s: %zu of %zu points done, %s gone, about %s left\n", p->command, group, done, points,
            seqtopk_clock_text(gone, past), seqtopk_clock_text(left, rest));
}

void seqtopk_progress_clear(seqtopk_progress *p) {
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}
