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


@dataclass(frozen=True)
class Grid:
    """Where the cells of a heat map are. A `fine` one has cells too small for any text."""

    left: float
    top: float
    wide: float
    high: float
    fine: bool

    def box(self, row: int, column: int, gap: float = 0.0) -> dict[str, float]:
        """The cell's rectangle."""
        x, y = self.left + column * self.wide, self.top + row * self.high
        return {"x": x, "y": y, "width": self.wide - gap, "height": self.high - gap}


def heat_map(table: Counts, class_names: Sequence[str]) -> Markup:
    """Contingency counts (K, C): a row per cluster, shaded by share of the cluster's images."""
    placed = order(table)
    clusters, classes = table.shape
    grid = _grid(clusters, class_names)
    across, down = classes * grid.wide, clusters * grid.high
    width, height = grid.left + across + (8 if grid.fine else 52), grid.top + down + 6
    ground = {"x": grid.left, "y": grid.top, "width": across, "height": down}
    parts = [element("rect", class_="ground", **ground)]
    if not grid.fine:
        parts.append(_columns(placed, class_names, grid))
        parts.append(element("text", "pure", x=width - 4, y=grid.top - 8, class_="tick y"))
    for at, row in enumerate(placed.rows):
        parts.append(_cells(table[row], placed, row, at, grid=grid, names=class_names))
        if not grid.fine:
            parts.append(_margins(table[row], row, at, grid))
    for at in range(0 if grid.fine else placed.matched):
        parts.append(element("rect", class_="pair", **grid.box(at, at)))
    label = f"Contingency table of {clusters} clusters and {classes} classes"
    widths = f"max-width: {1.15 * width:.0f}px; min-width: {min(0.72 * width, 560):.0f}px"
    return drawing(width, height, label, *parts, class_="heat", style=widths)


def _grid(clusters: int, names: Sequence[str]) -> Grid:
    classes = len(names)
    if classes > 40:
        side = max(3.0, 640.0 / classes)
        return Grid(8.0, 4.0, side, side, fine=True)
    wide = 46.0 if classes <= 12 else max(20.0, 560.0 / classes)
    high = 26.0 if clusters <= 20 else 18.0 if clusters <= 40 else 13.0
    slanted = 0.0 if _level(names, wide) else 0.64 * LETTER * max(len(_short(n)) for n in names)
    return Grid(42.0, 26.0 + slanted, wide, high, fine=False)


def _level(names: Sequence[str], wide: float) -> bool:
    """Whether the class names fit over their columns."""
    return max(len(_short(name)) for name in names) * LETTER <= wide


def _columns(placed: Order, names: Sequence[str], grid: Grid) -> Markup:
    """Class names over the columns: level where they fit, else slanted."""
    level = _level(names, grid.wide)
    parts = []
    for at, column in enumerate(placed.columns):
        x, y = grid.left + (at + 0.5) * grid.wide, grid.top - 8
        turn = {} if level else {"transform": f"rotate(-40 {x:.1f} {y:.1f})"}
        kind = "tick x" if level else "tick"
        parts.append(element("text", _short(names[column]), x=x, y=y, class_=kind, **turn))
    return join(parts)


def _short(name: str, most: int = 11) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _cells(
    counts: Counts, placed: Order, cluster: int, at: int, *, grid: Grid, names: Sequence[str]
) -> Markup:
    """A row's counts; empty cells show the ground."""
    images = max(1, int(counts.sum()))
    small, letter = ("", 7) if grid.high >= 18 else (" small", 5.6)
    gap = 0.0 if grid.fine else 1.0
    parts = []
    for place, column in enumerate(placed.columns):
        number = int(counts[column])
        if not number:
            continue
        share, text = number / images, count(number)
        title = element("title", f"cluster {cluster}, {names[column]}: {text}")
        box = grid.box(at, place, gap)
        shade = {"class_": "cell", "style": f"--share:{share:.3f}"}
        parts.append(element("rect", title, **box, **shade))
        if not grid.fine and len(text) * letter <= grid.wide - 2:
            ink = "on" if share > 0.5 else "off"
            x, y = box["x"] + grid.wide / 2, _baseline(at, grid)
            parts.append(element("text", text, x=x, y=y, class_=f"figure {ink}{small}"))
    return join(parts)


def _margins(counts: Counts, cluster: int, at: int, grid: Grid) -> Markup:
    """The cluster's number on the left, the share of its largest class on the right."""
    kind = "tick y" if grid.high >= 18 else "tick y small"
    pure = f"{counts.max() / counts.sum():.0%}" if counts.sum() else "empty"
    left, right = grid.left - 8, grid.left + len(counts) * grid.wide + 48
    y = _baseline(at, grid)
    return element("text", str(cluster), x=left, y=y, class_=kind) + element(
        "text", pure, x=right, y=y, class_=kind
    )


def _baseline(at: int, grid: Grid) -> float:
    return grid.top + (at + 0.5) * grid.high + (4.2 if grid.high >= 18 else 3.2)


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
        if pitch >= LETTER * len(str(len(sizes))) + 3:
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
DISTINCT = COLOURS * len(SHAPES)  # groups that can be told apart


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
