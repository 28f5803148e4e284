"""The robust rules as slow references: loops, as the papers print them."""

import numpy as np

SENT = {
    "encoder": np.array([1, -2, 3, 0.5], np.float32),
    "encoder.buffers": np.array([4, 50], np.float32),
    "projector": np.array([0, 7], np.float32),
}
WIDTH = sum(len(array) for array in SENT.values())


def vector(groups) -> np.ndarray:
    return np.concatenate([groups[name] for name in SENT]).astype(np.float64)


def slow_median(models, f) -> list[float]:
    found = []
    for column in zip(*models, strict=True):
        values = sorted(column)
        n = len(values)
        found.append((values[(n - 1) // 2] + values[n // 2]) / 2)
    return found


def slow_trimmed_mean(models, f) -> list[float]:
    found = []
    for column in zip(*models, strict=True):
        kept = sorted(column)[f : len(column) - f]
        found.append(sum(kept) / len(kept))
    return found


PARTS = ([0, 1, 2, 3, 6, 7], [4, 5])  # parameters; running statistics


def slow_clipping(models, f) -> list[float]:
    sent, n = vector(SENT), len(models)
    new = sent.copy()
    for part in PARTS:
        changes = [[float(m[i]) - sent[i] for i in part] for m in models]
        norms = [sum(c * c for c in change) ** 0.5 for change in changes]
        (longest,) = slow_median([[x] for x in norms], f)
        for change, norm in zip(changes, norms, strict=True):
            for i, c in zip(part, change, strict=True):
                new[i] += c * min(1, longest / norm) / n
    return list(new)


def slow_geometric_median(models, f) -> list[float]:
    """Weiszfeld's steps until nothing moves."""
    new = vector(SENT)
    for part in PARTS:
        points = np.asarray(models, float)[:, part]
        at, before = points.mean(axis=0), None
        while before is None or np.abs(at - before).max() > 1e-13 * np.abs(points).max():
            pull = 1 / np.sqrt(((points - at) ** 2).sum(axis=1)).clip(min=1e-9)
            at, before = pull @ points / pull.sum(), at
        new[part] = at
    return list(new)


def slow_scores(models, f) -> list[float]:
    sent, n = vector(SENT), len(models)
    squares = [
        (slow_median([[sum((float(m[i]) - sent[i]) ** 2 for i in part)] for m in models], f)[0])
        for part in PARTS
    ]
    found = []
    for i in range(n):
        distances = sorted(
            sum(
                sum((float(models[i][c]) - float(models[j][c])) ** 2 for c in part) / square
                for part, square in zip(PARTS, squares, strict=True)
            )
            for j in range(n)
            if j != i
        )
        found.append(sum(distances[: n - f - 2]))
    return found


def slow_krum(models, f) -> list[float]:
    scores = slow_scores(models, f)
    return list(models[scores.index(min(scores))])


def slow_multi_krum(models, f) -> list[float]:
    scores = slow_scores(models, f)
    chosen = sorted(range(len(models)), key=lambda i: scores[i])[: len(models) - f]
    return list(np.mean([models[i] for i in chosen], axis=0, dtype=np.float64))


SLOW = {
    "median": slow_median,
    "trimmed-mean": slow_trimmed_mean,
    "norm-clipping": slow_clipping,
    "geometric-median": slow_geometric_median,
    "krum": slow_krum,
    "multi-krum": slow_multi_krum,
}
