"""A plot of lines as SVG, written by hand: panels side by side, the load on a logarithmic axis."""

from html import escape
from math import log

PANEL, HEIGHT, GAP, LEFT, TOP = 270, 230, 34, 44, 56
LEGEND_ROW, LEGEND_COLUMN, BOTTOM = 20, 240, 46
COLOURS = ("#64748b", "#c2410c", "#0f766e", "#7c3aed", "#2563eb", "#a16207")
LARGEST = 1.05


def lines(title, note, names, panels):
    """`names` are those of the lines, by keys (front end, number of workers); front ends have colours, and a
    line is dashed where there is more than one worker. `panels` are pairs of a name and the points
    (load, value) of lines, by key. A dotted line shows the best that is possible: the load, and no
    more than 1. Returns the SVG's text."""
    fronts = list(dict.fromkeys(front for front, _ in names))
    colours = {front: COLOURS[at % len(COLOURS)] for at, front in enumerate(fronts)}
    loads = sorted({load for _, each in panels for points in each.values() for load, _ in points})
    width = LEFT + len(panels) * (PANEL + GAP)
    columns = max(1, (width - LEFT) // LEGEND_COLUMN)
    legend = -(-(len(names) + 1) // columns) * LEGEND_ROW
    bottom = TOP + HEIGHT + 34
    parts = [_text(12, 24, title, 'font-size="15" font-weight="bold"')]
    for at, (name, each) in enumerate(panels):
        parts.append(_panel(LEFT + at * (PANEL + GAP), name, each, loads, colours))
    entries = [(_look(key, colours), name) for key, name in names.items()]
    entries.append((BEST, "the best possible"))
    for at, (look, name) in enumerate(entries):
        x = LEFT + at % columns * LEGEND_COLUMN
        y = bottom + 22 + at // columns * LEGEND_ROW
        parts.append(f'<path d="M{x} {y - 4}h32" fill="none" {look}/>')
        parts.append(_text(x + 40, y, name))
    parts.append(_text(12, bottom + legend + 30, note, 'fill="#555" font-size="11"'))
    body = "\n".join(parts)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + legend + BOTTOM}" \
font-family="sans-serif" font-size="12" role="img">
<title>{escape(title)}</title>
<rect width="100%" height="100%" fill="#fff"/>
{body}
</svg>
"""


BEST = 'stroke="#111" stroke-dasharray="2 4"'


def _look(key, colours):
    front, workers = key
    dash = ' stroke-dasharray="7 4"' if workers > 1 else ""
    return f'stroke="{colours[front]}" stroke-width="2"{dash}'


def _panel(left, name, each, loads, colours):
    first, last = log(loads[0]), log(loads[-1])

    def x(load):
        return left + (log(load) - first) / ((last - first) or 1) * PANEL

    def y(value):
        return TOP + HEIGHT - value / LARGEST * HEIGHT

    def path(points, look):
        steps = "L".join(f"{x(load):.1f} {y(value):.1f}" for load, value in points)
        return f'<path d="M{steps}" fill="none" {look}/>'

    parts = [_text(left, TOP - 8, name, 'font-weight="bold"')]
    parts.append(_text(left, TOP + HEIGHT + 32, "load ÷ capacity", 'fill="#555"'))
    for value in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path d="M{left} {y(value):.1f}h{PANEL}" stroke="#ddd"/>')
        parts.append(_text(left - 5, y(value) + 4, f"{value:g}", 'text-anchor="end" fill="#555"'))
    for load in loads:
        parts.append(
            _text(x(load), TOP + HEIGHT + 16, f"{load:g}", 'text-anchor="middle" fill="#555"')
        )
    best = sorted({*loads, 1.0} if loads[0] < 1 < loads[-1] else loads)
    parts.append(path([(load, min(load, 1)) for load in best], BEST))
    for key, points in each.items():
        points = sorted(points)
        parts.append(path(points, _look(key, colours)))
        for load, value in points:
            parts.append(
                f'<circle cx="{x(load):.1f}" cy="{y(value):.1f}" r="2.5" fill="{colours[key[0]]}"/>'
            )
    return "\n".join(parts)


def _text(x, y, text, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'
