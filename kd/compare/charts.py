"""Charts as inline SVG; text takes its colour from the page."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

MARKED = 30  # curves of at most this many points have a mark at each


class Line(NamedTuple):
    """One curve of a chart."""

    label: str
    color: str  # any CSS colour, a page's variable too
    points: Sequence[tuple[float, float]]
    dashed: bool = False


class Mark(NamedTuple):
    """One value on a ruler."""

    label: str
    color: str  # any CSS colour, a page's variable too
    value: float
    raised: bool  # whether its label is above the line
    start: float | None = None  # the value where its bar starts; None: no bar


def ruler(title: str, marks: Sequence[Mark]) -> str:
    """Different values on one line, with a bar from a mark's `start` to its value."""
    width, side, row = 640, 70, 20
    raised = [mark for mark in marks if mark.raised]
    lowered = [mark for mark in marks if not mark.raised]
    base = 24 + row * max(len(raised), 1)
    low, high = min(mark.value for mark in marks), max(mark.value for mark in marks)

    def x(value: float) -> float:
        return side + (value - low) / (high - low) * (width - 2 * side)

    parts = [f'<line class="axis" x1="{side}" x2="{width - side}" y1="{base}" y2="{base}"/>']
    parts += [
        f'<line x1="{x(mark.start):.1f}" x2="{x(mark.value):.1f}" y1="{base}" y2="{base}" '
        f'stroke="{mark.color}" stroke-width="6"/>'
        for mark in raised
        if mark.start is not None
    ]
    for mark in marks:
        place = x(mark.value)
        y = base - 12 - row * raised.index(mark) if mark.raised else base + 22 + row * lowered.index(mark)
        near = base - 6 if mark.raised else base + 6
        far = y + 4 if mark.raised else y - 12
        anchor = "start" if place < width / 4 else "end" if place > width * 3 / 4 else "middle"  # labels are long
        parts.append(
            f'<line class="stem" x1="{place:.1f}" x2="{place:.1f}" y1="{near}" y2="{far}"/>'
            f'<circle cx="{place:.1f}" cy="{base}" r="6" fill="{mark.color}"/>'
            f'<text x="{place:.1f}" y="{y}" text-anchor="{anchor}">{escape(mark.label)}</text>'
        )
    height = base + 10 + row * max(len(lowered), 1)
    opening = f'<svg class="ruler" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
    return f"{opening}{''.join(parts)}</svg>"


def line_chart(title: str, lines: Sequence[Line], x_label: str, y_label: str) -> str:
    """Curves over steps; values that are not finite are left out."""
    lines = [line._replace(points=[p for p in line.points if math.isfinite(p[1])]) for line in lines]
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    if not xs:
        return ""
    width, height, left, right, top, bottom = 560, 260, 52, 12, 10, 40
    x_ticks = ticks(0, max(xs))
    y_ticks = ticks(min(0.0, min(ys)), max(ys))
    x_high = max(max(xs), 1e-9)
    y_low, y_high = min(y_ticks[0], min(ys)), max(y_ticks[-1], max(ys), min(ys) + 1e-9)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + x / x_high * (width - left - right),
            height - bottom - (y - y_low) / (y_high - y_low) * (height - top - bottom),
        )

    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">']
    for tick in y_ticks:
        _, y = at(0, tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in x_ticks:
        x, _ = at(tick, y_low)
        parts.append(f'<text x="{x:.1f}" y="{height - bottom + 16}" text-anchor="middle">{_number(tick)}</text>')
    parts.append(
        f'<text x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text transform="translate(12 {(top + height - bottom) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    for line in lines:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in line.points))
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        if len(line.points) <= MARKED and not line.dashed:
            marks = (at(*point) for point in line.points)
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{line.color}"/>' for x, y in marks]
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{line.color}" stroke-width="2"'
            f' stroke-linejoin="round"{dash}><title>{escape(line.label)}</title></polyline>'
        )
    labels = {line.label: line for line in reversed(lines)}  # several seeds of one network are one entry
    legend = "".join(
        f'<span><i style="border-top:3px {"dashed" if line.dashed else "solid"} {line.color}"></i>'
        f"{escape(label)}</span>"
        for label, line in reversed(labels.items())
    )
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{''.join(parts)}</svg>"
        f'<div class="legend">{legend}</div></figure>'
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers 1, 2 or 5 × 10ⁿ apart in [low, high], about `about` of them."""
    span = high - low
    if span <= 0:
        return [low]
    rough = span / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _number(value: float) -> str:
    if abs(value) >= 1e6 or (value and abs(value) < 1e-3):
        return f"{value:.0e}"
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:g}"
