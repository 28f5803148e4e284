"""Lines and stacked bars over the rounds of a run, as inline SVG."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from server.report.formats import mark
from server.report.svg import (
    COLOURS,
    HEIGHT,
    LETTER,
    WIDTH,
    Axes,
    Band,
    axes,
    drawing,
    element,
    frame,
    join,
    readout,
    ticks,
)

DOTS = 40  # points beyond which a line is drawn without dots
COLUMNS = 120  # bars beyond which rounds are drawn as means of several
READOUTS = 400  # columns under the pointer beyond which there are none

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One quantity: a segment of (x, y) for each stage, and the points that end a stage."""

    name: str
    segments: tuple[tuple[Point, ...], ...]
    ends: tuple[Point, ...] = ()

    @property
    def points(self) -> list[Point]:
        """All of its points."""
        return [point for segment in self.segments for point in segment] + list(self.ends)


def line_chart(
    series: Sequence[Series],
    bands: Sequence[Band],
    rounds: int,
    *,
    label: str,
    written: Callable[[float], str],
    bounds: tuple[float, float] | None = None,
    x: tuple[str, int] = ("round", 0),
) -> Markup:
    """Lines against rounds 0 ... `rounds`, or against what `x` calls it, from its number on.
    `bounds`: of the y axis, widened where a value lies beyond; without them the data's own. At the
    right end each line carries its name."""
    right = 26 + LETTER * max(len(one.name) for one in series)
    on = axes((x[1], rounds), _bounds(series, bounds), right, written)
    colours = {one.name: f"s{index % COLOURS}" for index, one in enumerate(series)}
    lines = join(_line(on, one, colours[one.name]) for one in reversed(series))  # first on top
    parts = [frame(on, bands, x[0]), lines, _names(on, series, colours)]
    return drawing(WIDTH, HEIGHT, label, *parts, _readouts(on, series, x[0]))


def _bounds(series: Sequence[Series], bounds: tuple[float, float] | None) -> tuple[float, float]:
    values = [y for one in series for _, y in one.points]
    low, high = min(values), max(values)
    if bounds is not None:
        low, high = min(low, bounds[0]), max(high, bounds[1])
        return (low if low == bounds[0] else low - 0.02), high
    pad = 0.06 * (high - low) or max(abs(high) * 0.1, 0.1)
    return low - pad, high + pad


def _line(on: Axes, one: Series, colour: str) -> Markup:
    parts = []
    for segment in one.segments:
        if len(segment) > 1:
            path = "M" + "L".join(f"{on.x(x):.1f} {on.y(y):.1f}" for x, y in segment)
            parts.append(element("path", d=path, class_=f"line {colour}"))
        dots = segment if len(segment) <= DOTS else ()
        parts += [element("circle", cx=on.x(x), cy=on.y(y), r=2, class_=colour) for x, y in dots]
    parts += [
        element("circle", cx=on.x(x), cy=on.y(y), r=4.5, class_=f"end {colour}")
        for x, y in one.ends
    ]
    return join(parts)


def _names(on: Axes, series: Sequence[Series], colours: Mapping[str, str]) -> Markup:
    """Names beside the lines' last points, moved apart where they would overlap."""
    last = sorted((on.y(max(one.points)[1]), one.name) for one in series)
    places: list[float] = []
    for y, _ in last:
        places.append(max(y, places[-1] + 15) if places else y)
    over = max(0.0, places[-1] - on.y.start)
    left = on.x.stop + 10
    return join(
        element("rect", x=left, y=y - over - 4, width=8, height=8, rx=2, class_=colours[name])
        + element("text", name, x=left + 12, y=y - over + 4, class_="name")
        for y, (_, name) in zip(places, last, strict=True)
    )


def _readouts(on: Axes, series: Sequence[Series], name: str) -> Markup:
    """What stands under the pointer; the figure that ends a stage wins over the segment's."""
    at: dict[float, dict[str, float]] = {}
    for one in series:
        for x, y in one.points:
            at.setdefault(x, {})[one.name] = y
    if len(at) > READOUTS:
        return Markup("")
    where = "after round" if name == "round" else name
    return join(
        readout(
            on, x, 0.5,
            f"{where} {x:.0f}  ·  " + "  ·  ".join(f"{k} {v:.3g}" for k, v in here.items()),
        )
        for x, here in sorted(at.items())
    )  # fmt: skip


def stacked_bars(
    columns: Mapping[int, Mapping[str, float]],
    keys: Sequence[str],
    bands: Sequence[Band],
    rounds: int,
    *,
    label: str,
    written: Callable[[float], str],
) -> Markup:
    """One bar per round, its parts in the order of `keys` from below; the last key, if it is
    "wait" or "other", in grey."""
    binned, per_bar = _bin(columns, keys, rounds)
    totals = [sum(parts.values()) for parts in binned.values()]
    high = _round_up(max(totals, default=0.0) or 1.0)
    on = axes((0.5, rounds + 0.5), (0, high), 12, lambda value: mark(written(value)))
    colours = {key: colour_of(key, index) for index, key in enumerate(keys)}
    thick = max(1.0, min(26.0, (on.x(1 + per_bar) - on.x(1)) * 0.78))
    bars = join(_bar(on, x, parts, thick, colours) for x, parts in binned.items())
    hits = join(
        readout(on, x, per_bar / 2, _told(x, per_bar, parts, written))
        for x, parts in binned.items()
    )
    return drawing(WIDTH, HEIGHT, label, frame(on, bands, "round"), bars, hits)


def colour_of(key: str, index: int) -> str:
    """The style class of a bar's part."""
    return "rest" if key in ("wait", "other") else f"s{index % COLOURS}"


def _bin(
    columns: Mapping[int, Mapping[str, float]], keys: Sequence[str], rounds: int
) -> tuple[dict[float, dict[str, float]], int]:
    """Means over `per_bar` neighbouring rounds, under the middle of each group."""
    per_bar = math.ceil(rounds / COLUMNS)
    groups: dict[int, list[Mapping[str, float]]] = {}
    for number, parts in columns.items():
        groups.setdefault((number - 1) // per_bar, []).append(parts)
    means = {
        group * per_bar + (per_bar + 1) / 2: {
            key: sum(parts.get(key, 0.0) for parts in several) / len(several) for key in keys
        }
        for group, several in sorted(groups.items())
    }
    return means, per_bar


def _bar(
    on: Axes, x: float, parts: Mapping[str, float], thick: float, colours: Mapping[str, str]
) -> Markup:
    drawn, below = [], 0.0
    for key, value in parts.items():
        top, bottom = on.y(below + value), on.y(below)
        below += value
        if bottom - top > 0.05:
            drawn.append(
                element(
                    "rect", x=on.x(x) - thick / 2, y=top, width=thick, height=bottom - top,
                    class_=colours[key],
                )
            )  # fmt: skip
    return join(drawn)


def _told(
    x: float, per_bar: int, parts: Mapping[str, float], written: Callable[[float], str]
) -> str:
    first, last = x - (per_bar - 1) / 2, x + (per_bar - 1) / 2
    name = f"round {x:.0f}" if per_bar == 1 else f"rounds {first:.0f} to {last:.0f}, mean"
    return "  ·  ".join([name, *(f"{k} {written(v)}" for k, v in parts.items() if v)])


def _round_up(value: float) -> float:
    """The first tick at or above `value`."""
    marks = ticks(0, value, 4)
    step = marks[1] if len(marks) > 1 else value
    return step * math.ceil(value / step - 1e-9)


def round_strip(states: Sequence[str], label: str) -> Markup:
    """A site's rounds as a strip of cells, one per round; `states` are style classes: answered,
    missing, refused, unasked. Neighbours with one state are one rectangle."""
    width, height = 160.0, 12.0
    cell = width / max(len(states), 1)
    gap = 1.0 if cell >= 4 else 0.0
    drawn, start = [], 0
    for index, state in enumerate(states):
        ends = index + 1 == len(states) or states[index + 1] != state
        if gap or ends:
            first = index if gap else start
            left, right = first * cell, (index + 1) * cell - gap
            drawn.append(
                element("rect", x=left, y=0, width=right - left, height=height, class_=state)
            )
        if ends:
            start = index + 1
    return drawing(width, height, label, *drawn, class_="strip")
