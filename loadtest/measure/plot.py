"""Plots as SVG text: bars with their quartiles, and lines over categories. No library is needed."""

import math
from html import escape

WIDTH = 720
LABELS = 150
ROW = 22
TOP = 34
COLOURS = ("#2a6f97", "#e07a1f", "#4f9d57", "#a63d57", "#7a5ea8", "#8a8a8a", "#c2a83e", "#3aa6a0")


def svg(height, parts):
    """A document; white behind it, so that it can be read on any page."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">'
    )
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, ground, *parts, "</svg>"]) + "\n"


def text(x, y, words, anchor="start", weight="normal"):
    """Words at a place."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
        f' fill="#222222">{escape(words)}</text>'
    )


def line(x1, y1, x2, y2, colour="#222222", width=1.0):
    """A straight line."""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        f' stroke="{colour}" stroke-width="{width}"/>'
    )


def box(x, y, width, height, colour):
    """A filled box."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}"'
        f' fill="{colour}"/>'
    )


def step_of_key(series, widest):
    """How far the names of a key are apart, so that all of them have room."""
    return min(widest, (WIDTH - LABELS - 10) / len(series))


def ticks(highest):
    """Round numbers from 0 on, the last one at or above `highest`."""
    if highest <= 0:
        return [0, 1]
    step = 1e-9
    factors = (2, 2.5, 2)
    turn = 0
    while highest / step > 6:
        step *= factors[turn % 3]
        turn += 1
    count = int(highest / step)
    return [step * n for n in range(count + (highest > step * count) + 1)]


def tell(value):
    """A number as short as it can be."""
    if value >= 1000:
        return f"{value / 1000:g}k" if value < 1e6 else f"{value / 1e6:g}M"
    return f"{value:.3g}"


def bars(title, unit, rows, series=("",)):
    """Bars lying one below the other. `rows` are (label, one spread or None for each of `series`);
    a whisker goes from the first to the third quartile."""
    rows = [row for row in rows if any(row[1])]
    if not rows:
        return None
    values = [spread[key] for _, spreads in rows for spread in spreads if spread
              for key in ("median", "q3")]
    marks = ticks(max(values))
    room = WIDTH - LABELS - 80

    def place(value):
        return LABELS + room * value / marks[-1]

    has_key = len(series) > 1
    top = TOP + (18 if has_key else 0)
    of_a_row = ROW * len(series) + 6
    bottom = top + of_a_row * len(rows)
    parts = [text(8, 20, title, weight="bold")]
    for index, name in enumerate(series if has_key else ()):
        x = LABELS + step_of_key(series, 170) * index
        parts += [box(x, 30, 12, 12, COLOURS[index % len(COLOURS)]), text(x + 17, 40, name)]
    for mark in marks:
        parts.append(line(place(mark), top, place(mark), bottom, "#dddddd"))
        parts.append(text(place(mark), bottom + 14, tell(mark), "middle"))
    parts.append(text(WIDTH - 8, bottom + 14, unit, "end"))
    for number, (label, spreads) in enumerate(rows):
        y = top + of_a_row * number
        parts.append(text(LABELS - 8, y + of_a_row / 2 + 4, label, "end"))
        for index, spread in enumerate(spreads):
            if not spread:
                continue
            middle = y + 3 + ROW * index + ROW / 2
            end = place(spread["median"])
            colour = COLOURS[index % len(COLOURS)]
            parts.append(box(LABELS, middle - 8, end - LABELS, 16, colour))
            low, high = place(spread["q1"]), place(spread["q3"])
            parts.append(line(low, middle, high, middle))
            parts += [line(x, middle - 4, x, middle + 4) for x in (low, high)]
            parts.append(text(max(end, high) + 5, middle + 4, tell(spread["median"])))
    return svg(bottom + 24, parts)


def lines(title, unit, categories, series):
    """Lines over `categories`, the height logarithmic; `series` are (name, one value or None for
    each category)."""
    values = [value for _, row in series for value in row if value]
    if not values:
        return None
    low = math.floor(math.log10(min(values)))
    decades = max(math.ceil(math.log10(max(values))) - low, 1)
    height, top, left = 320, TOP + 20, 60
    bottom = height - 30

    def y_of(value):
        return bottom - (bottom - top) * (math.log10(value) - low) / decades

    def x_of(index):
        return left + 30 + (WIDTH - left - 60) * index / max(len(categories) - 1, 1)

    parts = [text(8, 20, title, weight="bold"), text(8, top - 6, unit)]
    for decade in range(decades + 1):
        y = bottom - (bottom - top) * decade / decades
        parts += [line(left, y, WIDTH - 10, y, "#dddddd")]
        parts += [text(left - 6, y + 4, tell(10 ** (low + decade)), "end")]
    for index, category in enumerate(categories):
        parts.append(text(x_of(index), height - 10, category, "middle"))
    for index, (name, row) in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        points = [(x_of(n), y_of(value)) for n, value in enumerate(row) if value]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        x = LABELS + step_of_key(series, 110) * index
        parts += [box(x, 26, 12, 12, colour), text(x + 16, 36, name)]
    return svg(height, parts)
