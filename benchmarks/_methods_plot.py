"""A figure of merit against a cost, with the front of entries that none beats in both: inline SVG
in the look of the run report."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from server.report.svg import Scale, drawing, element, ticks

WIDTH, HEIGHT = 1080, 470
LEFT, RIGHT, TOP, BOTTOM = 56, 128, 24, 50
LETTER, LINE = 6.7, 13.5  # size of a label's letters
FREE = 34  # where costs of 0 stand, left of the logarithmic axis


@dataclass(frozen=True)
class Entry:
    """One entry: its mean `cost` ≥ 0 and `merit`, and the standard deviation of the merit."""

    name: str
    cost: float
    merit: float
    deviation: float = 0.0


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with: the ceiling or the floor."""

    name: str
    merit: float


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "_Box") -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


def front(entries: Sequence[Entry]) -> list[Entry]:
    """The entries that none beats in both: from cheap to dear, each better than all before it."""
    best: list[Entry] = []
    for entry in sorted(entries, key=lambda e: (e.cost, -e.merit)):
        if not best or entry.merit > best[-1].merit:
            best.append(entry)
    return best


def pareto(
    entries: Sequence[Entry],
    levels: Sequence[Level],
    *,
    label: str,
    x_name: str,
    y_name: str,
    written: Callable[[float], str],
) -> Markup:
    """The chart: cost on a logarithmic axis, every entry with its name and its deviation."""
    x, y = _scales(entries, levels)
    best = front(entries)
    parts = [
        *_grid(x, y, entries, written, x_name, y_name),
        *_levels(levels, x, y),
        *_steps(best, x, y),
        *_points(entries, best, x, y),
        *_labels(entries, best, x, y, [_around(x(e.cost), _height(y, e.merit)) for e in entries]),
    ]
    return drawing(WIDTH, HEIGHT, label, *parts)


def _scales(
    entries: Sequence[Entry], levels: Sequence[Level]
) -> tuple[Callable[[float], float], Scale]:
    """The cost axis, and the merit axis down to what lies far below all others: such entries stand
    on its lower end."""
    costs = [math.log10(e.cost) for e in entries if e.cost > 0] or [0.0]
    pad = max(0.06, 0.06 * (max(costs) - min(costs)))
    free = FREE if any(e.cost <= 0 for e in entries) else 0
    log = Scale(min(costs) - pad, max(costs) + pad, LEFT + 2 * free, WIDTH - RIGHT)
    least = _lower_fence([e.merit for e in entries])
    merits = [e.merit + s * e.deviation for e in entries for s in (-1, 1) if e.merit >= least]
    merits += [level.merit for level in levels]
    edge = 0.06 * (max(merits) - min(merits)) or 0.05
    y = Scale(min(merits) - edge, max(merits) + edge, HEIGHT - BOTTOM, TOP)
    return lambda cost: log(math.log10(cost)) if cost > 0 else LEFT + free, y


def _lower_fence(values: Sequence[float]) -> float:
    """Below it lie outliers (Tukey's far ones, with three times the quartiles' distance)."""
    if len(values) < 4:
        return min(values)
    first, _, third = statistics.quantiles(values, n=4)
    return first - 3 * (third - first)


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high` that are about evenly spread on a logarithmic axis: at
    most eight, where that is possible."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for factors in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1,)):
        found = [f * 10.0**power for power in powers for f in factors]
        found = [value for value in found if low <= value <= high]
        if len(found) <= 8:
            break
    return found


def _grid(
    x: Callable[[float], float],
    y: Scale,
    entries: Sequence[Entry],
    written: Callable[[float], str],
    x_name: str,
    y_name: str,
) -> Iterator[Markup]:
    right = WIDTH - RIGHT
    for value in ticks(y.low, y.high, 6):
        at = y(value)
        yield element("line", x1=LEFT, x2=right, y1=at, y2=at, class_="grid")
        yield element("text", f"{value:.2f}", x=LEFT - 8, y=at + 4, class_="tick y")
    yield element("line", x1=LEFT, x2=right, y1=y.start, y2=y.start, class_="grid zero")
    costs = [e.cost for e in entries if e.cost > 0]
    marks = log_ticks(min(costs), max(costs)) if costs else []
    if len(marks) < 2:
        marks = sorted({*costs[:1], *marks})
    if any(e.cost <= 0 for e in entries):
        marks.append(0.0)
    for value in marks:
        at = x(value)
        yield element("line", x1=at, x2=at, y1=y.stop, y2=y.start, class_="grid")
        text = written(value) if value else "0"
        yield element("text", text, x=at, y=y.start + 17, class_="tick x")
    middle = (LEFT + right) / 2
    yield element("text", x_name, x=middle, y=HEIGHT - 8, class_="axis")
    yield element("text", y_name, x=LEFT - 8, y=TOP - 10, class_="tick y")


def _levels(levels: Sequence[Level], x: Callable[[float], float], y: Scale) -> Iterator[Markup]:
    right, before = WIDTH - RIGHT, math.inf
    for level in sorted(levels, key=lambda one: one.merit):
        at = y(level.merit)
        yield element("line", x1=LEFT, x2=right, y1=at, y2=at, class_="level")
        before = min(at + 4, before - LINE)
        text = f"{level.name} {level.merit:.3f}"
        yield element("text", text, x=right + 6, y=before, class_="level-name")


def _steps(best: Sequence[Entry], x: Callable[[float], float], y: Scale) -> Iterator[Markup]:
    """The border of what is reached: at each cost the best merit of those that cost no more."""
    if not best:
        return
    path = f"M{x(best[0].cost):.1f} {y(best[0].merit):.1f}"
    for entry in best[1:]:
        path += f"H{x(entry.cost):.1f}V{y(entry.merit):.1f}"
    yield element("path", d=f"{path}H{WIDTH - RIGHT}", class_="front")


def _points(
    entries: Sequence[Entry], best: Sequence[Entry], x: Callable[[float], float], y: Scale
) -> Iterator[Markup]:
    for entry in entries:
        at, height = x(entry.cost), _height(y, entry.merit)
        kind = "leads" if entry in best else "follows"
        low, high = (_height(y, entry.merit + s * entry.deviation) for s in (-1, 1))
        about = f"{entry.name}: {entry.merit:.3f} ± {entry.deviation:.3f}"
        yield element(
            "g",
            element("title", about),
            element("line", x1=at, x2=at, y1=low, y2=high),
            element("circle", cx=at, cy=height, r=4.5 if kind == "leads" else 3.5),
            class_=f"point {kind}",
        )


def _labels(
    entries: Sequence[Entry],
    best: Sequence[Entry],
    x: Callable[[float], float],
    y: Scale,
    taken: list[_Box],
) -> Iterator[Markup]:
    """Names where they cover what is `taken` least, those of the front first, each added to it; a
    line leads to a name that had to go further."""
    for entry in sorted(entries, key=lambda e: (e not in best, -e.merit)):
        at, height = x(entry.cost), _height(y, entry.merit)
        text = entry.name if entry.merit >= y.low else f"{entry.name} {entry.merit:.3f} ↓"
        box = _place(at, height, LETTER * len(text), taken)
        taken.append(box)
        right_of = box.left > at
        near = box.left if right_of else box.right
        middle = (box.top + box.bottom) / 2
        kind = "leads" if entry in best else "follows"
        if abs(near - at) > 12 or abs(middle - height) > 9:
            yield element("line", x1=at, y1=height, x2=near, y2=middle, class_="leader")
        # Set against the point's side, so that a letter's width matters on the far side only.
        kind += "" if right_of else " before"
        where = box.left if right_of else box.right
        yield element("text", text, x=where, y=middle + 4, class_=f"label halo {kind}")


def _height(y: Scale, merit: float) -> float:
    return y(max(merit, y.low))


def _around(at: float, height: float) -> _Box:
    return _Box(at - 5, height - 5, at + 5, height + 5)


def _place(at: float, height: float, width: float, taken: Sequence[_Box]) -> _Box:
    def cost(box: _Box) -> float:
        away = math.hypot((box.left + box.right) / 2 - at, (box.top + box.bottom) / 2 - height)
        outside = box.left < LEFT or box.right > WIDTH or box.top < TOP - 8
        outside = outside or box.bottom > HEIGHT - BOTTOM
        return sum(box.overlap(other) for other in taken) * 20 + away + 1000 * outside

    boxes = []
    for gap in (8, 22, 44, 70, 100):
        for step in range(-9, 10):
            middle = height + step * LINE * 0.75
            for left in (at + gap, at - gap - width):
                boxes.append(_Box(left, middle - LINE / 2, left + width, middle + LINE / 2))
    return min(boxes, key=cost)


STYLE = """\
.level { stroke: var(--muted); stroke-dasharray: 5 5; opacity: .7; }
.front { fill: none; stroke: var(--accent); stroke-width: 1.6; opacity: .75; }
.point.follows { fill: var(--muted); stroke: var(--muted); }
.point.leads { fill: var(--accent); stroke: var(--accent); }
.point line { stroke-width: 1; opacity: .45; }
.point circle { stroke: var(--card); stroke-width: 1; }
.leader { stroke: var(--muted); stroke-width: .7; opacity: .6; }
svg .label.before { text-anchor: end; }
svg .label.follows { fill: var(--ink); }
svg .label.leads { fill: var(--accent); font-weight: 650; }
"""
