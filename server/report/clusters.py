"""What became of the images: cluster sizes, the contingency table, the map of embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from server.report.formats import count
from server.report.svg import COLOURS, HEIGHT, LETTER, WIDTH, Scale, drawing, element, join, ticks

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """Rows (clusters) and columns (classes) so that matched pairs stand on the diagonal; the first
    `matched` of each are the pairs."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    matched: int


def order(table: Counts) -> Order:
    """The one-to-one matching that ACC counts (Kuhn, 1955), in the order of the classes; clusters
    beyond it follow by the class that most of them is, empty ones last."""
    clusters, classes = table.shape
    rows, columns = linear_sum_assignment(-table)
    pairs = sorted(zip(columns.tolist(), rows.tolist(), strict=True))
    matched_rows = [row for _, row in pairs]
    matched_columns = [column for column, _ in pairs]
    rest = [row for row in range(clusters) if row not in set(matched_rows)]
    rest.sort(key=lambda row: (table[row].sum() == 0, int(table[row].argmax()), row))
    spare = [column for column in range(classes) if column not in set(matched_columns)]
    return Order((*matched_rows, *rest), (*matched_columns, *spare), len(pairs))


def heat_map(table: Counts, class_names: Sequence[str]) -> Markup:
    """Contingency counts (K, C): a row per cluster, shaded by share of the cluster's images."""
    placed = order(table)
    clusters, classes = table.shape
    wide, high = _cell(clusters, classes)
    left, top = 42.0, _top(class_names, wide) if classes <= 40 else 10.0
    width, height = left + classes * wide + 52, top + clusters * high + 6
    parts = []
    if classes <= 40:
        parts.append(_columns(placed, class_names, left, top, wide))
        parts.append(element("text", "pure", x=width - 4, y=top - 8, class_="tick y"))
    for at, row in enumerate(placed.rows):
        y = top + at * high
        parts.append(_row(table[row], row, placed, y=y, cell=(left, wide, high), names=class_names))
    for at in range(placed.matched if high >= 9 else 0):
        box = {"x": left + at * wide, "y": top + at * high, "width": wide, "height": high}
        parts.append(element("rect", class_="pair", **box))
    label = f"Contingency table of {clusters} clusters and {classes} classes"
    return drawing(width, height, label, *parts, class_="heat", style=_widths(width))


def _cell(clusters: int, classes: int) -> tuple[float, float]:
    wide = 46.0 if classes <= 12 else max(6.0, 520.0 / classes)
    high = 26.0 if clusters <= 20 else 18.0 if clusters <= 40 else 13.0
    return wide, high if wide >= 12 else min(high, 9.0)


def _top(names: Sequence[str], wide: float) -> float:
    """Room for the class names: level where they fit over their columns, else slanted."""
    return 26.0 if _level(names, wide) else 26.0 + 0.64 * LETTER * max(map(_length, names))


def _level(names: Sequence[str], wide: float) -> bool:
    return max(map(_length, names)) * LETTER <= wide


def _length(name: str) -> int:
    return len(_short(name))


def _widths(width: float) -> str:
    return f"max-width: {1.15 * width:.0f}px; min-width: {min(0.72 * width, 560):.0f}px"


def _columns(placed: Order, names: Sequence[str], left: float, top: float, wide: float) -> Markup:
    """Class names over the columns: level where they fit, else slanted."""
    texts = [_short(names[column]) for column in placed.columns]
    level = _level(names, wide)
    parts = []
    for at, text in enumerate(texts):
        x, y = left + (at + 0.5) * wide, top - 8
        turn = {} if level else {"transform": f"rotate(-40 {x:.1f} {y:.1f})"}
        kind = "tick x" if level else "tick"
        parts.append(element("text", text, x=x, y=y, class_=kind, **turn))
    return join(parts)


def _short(name: str, most: int = 11) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _row(
    counts: Counts,
    cluster: int,
    placed: Order,
    *,
    y: float,
    cell: tuple[float, float, float],
    names: Sequence[str],
) -> Markup:
    left, wide, high = cell
    images = int(counts.sum())
    middle = y + high / 2 + (4.2 if high >= 18 else 3.2)
    small = "" if high >= 18 else " small"
    parts = []
    if high >= 10:
        parts.append(element("text", f"{cluster}", x=left - 8, y=middle, class_=f"tick y{small}"))
        pure = f"{counts.max() / images:.0%}" if images else "empty"
        x = left + len(counts) * wide + 48
        parts.append(element("text", pure, x=x, y=middle, class_=f"tick y{small}"))
    for at, column in enumerate(placed.columns):
        share = float(counts[column]) / images if images else 0.0
        text = count(int(counts[column]))
        title = element("title", f"cluster {cluster}, {names[column]}: {text}")
        x = left + at * wide
        box = element(
            "rect", title, x=x + 0.5, y=y + 0.5, width=wide - 1, height=high - 1,
            class_="cell", style=f"--share:{share:.3f}",
        )  # fmt: skip
        parts.append(box)
        if counts[column] and high >= 10 and len(text) * (7 if high >= 18 else 5) <= wide - 2:
            ink = "on" if share > 0.5 else "off"
            kind = f"figure {ink}{small}"
            parts.append(element("text", text, x=x + wide / 2, y=middle, class_=kind))
    return join(parts)


def size_bars(sizes: Sequence[int]) -> Markup:
    """Images in each cluster, largest first, and the size that all would have if even."""
    ranked = sorted(enumerate(sizes), key=lambda pair: -pair[1])
    even = sum(sizes) / len(sizes)
    x = Scale(0, len(sizes), 46, WIDTH - 12)
    y = Scale(0, max(*sizes, even, 1) * 1.06, HEIGHT - 34, 16)
    pitch = x(1) - x(0)
    parts = []
    for value in ticks(0, y.high, 4, whole=True):
        kind = "grid zero" if value == 0 else "grid"
        line = {"x1": x.start, "x2": x.stop, "y1": y(value), "y2": y(value)}
        parts.append(element("line", class_=kind, **line))
        text = {"x": x.start - 7, "y": y(value) + 4}
        parts.append(element("text", count(value), class_="tick y", **text))
    for at, (cluster, images) in enumerate(ranked):
        title = element("title", f"cluster {cluster}: {count(images)} images")
        box = {"x": x(at) + 0.1 * pitch, "width": 0.8 * pitch}
        tall = {"y": y(images), "height": y(0) - y(images)}
        parts.append(element("rect", title, class_="s0", **box, **tall))
        if len(sizes) <= 30:
            below = {"x": x(at + 0.5), "y": y.start + 16}
            parts.append(element("text", str(cluster), class_="tick x", **below))
    level = y(even)
    parts.append(element("line", x1=x.start, x2=x.stop, y1=level, y2=level, class_="even"))
    note = f"even: {count(even)}"
    parts.append(element("text", note, x=x.stop, y=level - 5, class_="tick y halo"))
    axis = "cluster, largest first"
    middle = (x.start + x.stop) / 2
    parts.append(element("text", axis, x=middle, y=y.start + 31, class_="axis"))
    return drawing(WIDTH, HEIGHT, "Images in each cluster", *parts)


SHAPES = ("round", "square", "plus")  # a group beyond the colours has another shape


def shape_of(group: int) -> str:
    """The style classes of a group's points in the map and in its legend."""
    return f"s{group % COLOURS} {SHAPES[group // COLOURS % len(SHAPES)]}"


def scatter(x: Sequence[float], y: Sequence[float], group: Sequence[int]) -> Markup:
    """The map of embeddings: a point per image, in its group's colour and shape. The axes of such
    a map mean nothing, so it has none."""
    points = np.array([x, y], np.float64).T
    labels = np.asarray(group)
    kept = np.isfinite(points).all(axis=1)
    points, labels = points[kept], labels[kept]
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max()) or 1.0
    width = 420.0
    height = max(180.0, 24 + (width - 24) * float(high[1] - low[1]) / span)
    placed = (points - (low + high) / 2) * (width - 24) / span * [1, -1] + [width / 2, height / 2]
    dot = 5.0 if len(points) <= 1500 else 3.5 if len(points) <= 5000 else 2.2
    paths = []
    for which in np.unique(labels):
        shape = shape_of(int(which))
        stroke = "m-2.5 0h5m-2.5-2.5v5" if "plus" in shape else "h0"
        path = "".join(f"M{px:.1f} {py:.1f}{stroke}" for px, py in placed[labels == which])
        thick = 1.4 if "plus" in shape else dot
        paths.append(element("path", d=path, class_=f"dots {shape}", stroke_width=thick))
    label = f"Map of {len(points)} embeddings"
    return drawing(width, height, label, *paths, class_="map")
