"""A bar chart as SVG, written by hand: groups of horizontal bars and a line where the ratio is 1."""

from html import escape

WIDTH, LEFT, RIGHT, TOP = 760, 170, 60, 72
BAR, GAP, BOTTOM = 13, 12, 40
COLOURS = ("#c2410c", "#64748b", "#0f766e")


def bars(title, note, series, groups):
    """`groups` are pairs of a name and one ratio for each name in `series`. Returns the SVG's text."""
    largest = max([1.0, *(value for _, values in groups for value in values)])
    scale = (WIDTH - LEFT - RIGHT) / largest
    group_height = BAR * len(series) + GAP
    bottom = TOP + group_height * len(groups)
    parts = [_text(12, 22, title, 'font-size="15" font-weight="bold"')]
    x = 12
    for name, colour in zip(series, COLOURS):
        parts += [_bar(x, 36, 12, colour), _text(x + 18, 47, name)]
        x += 40 + 8 * len(name)
    for index, (name, values) in enumerate(groups):
        y = TOP + index * group_height
        middle = y + BAR * len(series) / 2 + 4
        parts.append(_text(LEFT - 8, middle, name, 'text-anchor="end"'))
        for value, colour in zip(values, COLOURS):
            parts.append(_bar(LEFT, y, value * scale, colour))
            parts.append(_text(LEFT + value * scale + 5, y + BAR - 2, f"{value:.2f}"))
            y += BAR
    one = LEFT + scale
    parts.append(
        f'<path d="M{one:.1f} {TOP - 6}V{bottom}" stroke="#111" stroke-dasharray="4 3"/>'
    )
    parts.append(_text(12, bottom + 22, note, 'fill="#555" font-size="11"'))
    body = "\n".join(parts)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + BOTTOM}" \
font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
{body}
</svg>
"""


def _text(x, y, text, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _bar(x, y, width, colour):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR - 1}" fill="{colour}"/>'
