# SPDX-License-Identifier: MIT
"""The plot of report.py, as SVG by hand: torch brings no library that draws."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 420, 250  # of a panel
LEFT, TOP, RIGHT, BOTTOM = 62, 38, 14, 46  # around its axes
BLUE, ORANGE = "#1f77b4", "#d95f02"


def _ticks(low, high):
    """Three to seven round numbers."""
    ten = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = ten * max(m for m in (1, 2, 5) if ten * m <= (high - low) / 3)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


class Panel:
    def __init__(self, at, title, label, x, y):
        self.origin, self.x, self.y = at, x, y
        self.parts = [self.text(WIDTH / 2, 16, title, "middle", 13), self.text(14, TOP - 5, label, "start", 10)]
        left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
        self.parts.append(f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" fill="none" '
                          f'stroke="#888"/>')
        for value in _ticks(*y):
            self.parts.append(self.text(left - 5, self.place(x[0], value)[1] + 4, f"{value:.3f}", "end"))

    def text(self, x, y, words, anchor="middle", size=11, colour="#222"):
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(words)}</text>'

    def place(self, x, y):
        across, up = (x - self.x[0]) / (self.x[1] - self.x[0]), (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def dot(self, x, y, colour, is_full):
        a, b = self.place(x, y)
        fill = colour if is_full else "white"
        self.parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>')

    def line(self, points, colour, more=""):
        places = " ".join("{:.1f},{:.1f}".format(*self.place(*point)) for point in points)
        self.parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.5" {more}/>')

    def below(self, x, words):
        self.parts.append(self.text(self.place(x, self.y[0])[0], HEIGHT - BOTTOM + 16, words))

    def legend(self, entries):
        for i, (words, colour) in enumerate(entries):
            self.parts.append(self.text(LEFT + 8 + 150 * i, HEIGHT - 8, words, "start", 11, colour))

    def done(self):
        return '<g transform="translate({},{})">{}</g>'.format(*self.origin, "\n".join(self.parts))


def _range(values):
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.01
    return low - margin, high + margin


def _dots(at, title, by_router):
    every = [value for forms in by_router.values() for values in forms.values() for value in values]
    panel = Panel(at, title, "bits per byte above TopK of the same seed", (-0.5, len(by_router) - 0.5), _range(every + [0.0]))
    panel.line([(panel.x[0], 0), (panel.x[1], 0)], "#888", 'stroke-dasharray="4 3"')
    for i, (router, forms) in enumerate(by_router.items()):
        panel.below(i, router)
        for is_full, form, aside in ((True, "offline", -0.12), (False, "online", 0.12)):
            for value in forms[form]:
                panel.dot(i + aside, value, BLUE, is_full)
    panel.legend([("● offline", BLUE), ("○ online", BLUE)])
    return panel.done()


def _curve(at, title, rows):
    panel = Panel(at, title, "bits per byte; experts of a token below", _range([row[0] for row in rows]),
                  _range([bits for row in rows for bits in row[2:]]))
    for column, colour, is_full in ((3, ORANGE, False), (2, BLUE, True)):
        panel.line([(row[0], row[column]) for row in rows], colour)
        for row in rows:
            panel.dot(row[0], row[column], colour, is_full)
    for row in rows:
        if row[0] == int(row[0]):
            panel.below(row[0], f"{row[0]:g}")
    panel.legend([("● SeqTopK online", BLUE), ("○ TopK, the same tokens", ORANGE)])
    return panel.done()


def draw(dots, curves):
    """dots: title -> router -> "offline" or "online" -> differences. curves: title -> rows of report.by_experts."""
    panels = [(_dots, item) for item in dots.items()] + [(_curve, item) for item in curves.items()]
    parts = [make((i % 2 * WIDTH, i // 2 * HEIGHT), *item) for i, (make, item) in enumerate(panels)]
    height = (len(panels) + 1) // 2 * HEIGHT
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {height}" font-family="sans-serif">\n'
            f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n")
