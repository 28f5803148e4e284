"""The pieces of every chart: escaped SVG elements, a linear scale, round ticks, and the frame with
axes and stage bands. Colours are classes of the style sheet: a chart follows light and dark."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 520, 250  # of a chart, in units of its view box
TOP, BOTTOM, LEFT = 24, 34, 30  # margins; the left one grows with the texts of the y axis
LETTER = 7.4  # width of one in the fonts that run widest
COLOURS = 10  # series colours in the style sheet: s0 ... s9
Attribute = str | float | int


def element(name: str, *children: Markup | str, **attributes: Attribute) -> Markup:
    """One SVG element; text and attribute values are escaped, `class_` is `class`, `_` is `-`."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
    )
    inside = Markup("").join(children)
    # Names are the charts' own, values and children are escaped.
    return Markup(f"<{name}{pairs}>{inside}</{name}>")  # noqa: S704


def _plain(value: Attribute) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def drawing(width: float, height: float, label: str, *children: Markup, **more: str) -> Markup:
    """An `svg` that scales with its container and tells a screen reader what it shows."""
    box = f"0 0 {_plain(float(width))} {_plain(float(height))}"
    return element("svg", *children, viewBox=box, role="img", aria_label=label, **more)


def join(parts: Iterable[Markup]) -> Markup:
    """Elements one after the other."""
    return Markup("").join(parts)


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to [start, stop] linearly."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return self.start + (value - self.low) / span * (self.stop - self.start)


@dataclass(frozen=True)
class Band:
    """A stage's part of the x axis."""

    start: float
    end: float
    name: str


@dataclass(frozen=True)
class Axes:
    """The two scales of a framed chart, and how its y values are written."""

    x: Scale
    y: Scale
    written: Callable[[float], str]


def ticks(low: float, high: float, most: int = 5, whole: bool = False) -> list[float]:
    """At most `most` + 1 round numbers (1, 2, 2.5 or 5 times a power of ten) within the range."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999]
    step = steps[0]
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def axes(
    x: tuple[float, float], y: tuple[float, float], right: float, written: Callable[[float], str]
) -> Axes:
    """Scales of a chart whose plot leaves `right` units free for labels."""
    texts = [written(value) for value in ticks(*y, 4)]
    left = LETTER * max(map(len, texts)) + 12
    return Axes(Scale(*x, max(LEFT, left), WIDTH - right), Scale(*y, HEIGHT - BOTTOM, TOP), written)


def frame(on: Axes, bands: Sequence[Band], x_name: str) -> Markup:
    """Stage bands, horizontal grid with values, rounds below."""
    return join([*_bands(on, bands), *_grid(on), *_rounds(on, x_name)])


def _bands(on: Axes, bands: Sequence[Band]) -> list[Markup]:
    parts = []
    for index, band in enumerate(bands):
        left, right = on.x(band.start), on.x(band.end)
        if index % 2 == 1:
            parts.append(
                element(
                    "rect", x=left, y=on.y.stop, width=right - left,
                    height=on.y.start - on.y.stop, class_="band",
                )
            )  # fmt: skip
        name = band.name if len(band.name) * LETTER + 6 < right - left else str(index + 1)
        if right - left > 14:
            parts.append(
                element("text", name, x=(left + right) / 2, y=on.y.stop - 6, class_="band-name")
            )
    return parts


def _grid(on: Axes) -> list[Markup]:
    parts = []
    for value in ticks(on.y.low, on.y.high, 4):
        y = on.y(value)
        kind = "grid zero" if value == on.y.low else "grid"
        parts.append(element("line", x1=on.x.start, x2=on.x.stop, y1=y, y2=y, class_=kind))
        text = on.written(value)
        parts.append(element("text", text, x=on.x.start - 7, y=y + 4, class_="tick y"))
    return parts


def _rounds(on: Axes, x_name: str) -> list[Markup]:
    bottom = on.y.start + 16
    parts = [
        element("text", f"{value:.0f}", x=on.x(value), y=bottom, class_="tick x")
        for value in ticks(on.x.low, on.x.high, 8, whole=True)
    ]
    middle = (on.x.start + on.x.stop) / 2
    return [*parts, element("text", x_name, x=middle, y=bottom + 15, class_="axis")]


def readout(on: Axes, at: float, half: float, text: str) -> Markup:
    """An invisible column around x = `at`, `half` wide to each side, that shows `text` and a line
    under the pointer: style sheet only, no script."""
    left = max(on.x.start, on.x(at - half))
    right = min(on.x.stop, on.x(at + half))
    height = on.y.start - on.y.stop
    return element(
        "g",
        element("rect", x=left, y=on.y.stop, width=max(right - left, 1.0), height=height),
        element("line", x1=on.x(at), x2=on.x(at), y1=on.y.stop, y2=on.y.start),
        element("text", text, x=on.x.stop, y=on.y.stop - 6),
        class_="hit",
    )
