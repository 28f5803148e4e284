"""k-means on pixels: what clusters without any learning get, beside the figures from labels.

Over the pooled images, where all of them are on this machine (`covey run`, `covey simulate`): means
of pixels are pictures, so that real sites are not asked for them. Who wants them of real sites runs
the recipe `fedkmeans-pixels`.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from client.statistics.measure import count_table
from common import metrics
from common.clustering.kmeans import kmeans
from common.data.planned import PARTITION, planned_data, remaining
from common.record import writer
from common.record.reader import RunRecord, read_run
from common.record.schema import PixelBaseline
from common.utils.errors import UserError
from common.utils.seeds import derive_seed, generator

IMAGES = 10_000  # at most, drawn by the run's seed
SIDE = 32  # larger images are averaged down to it
RESTARTS = 3


def write_baseline(folder: Path) -> None:
    """Write `pixels.json` into the folder of a run whose images are here and have labels; nothing
    for another run."""
    record = read_run(folder)
    if not record.run.classes or not (folder / PARTITION).exists():
        return
    if known := _known(folder, record):
        writer.write_pixels(folder, known)
        return
    plan = record.run.settings()
    data = remaining(folder, planned_data(plan))
    if data.labels is None:
        return
    rng = np.random.default_rng(derive_seed(plan.seed, "pixels"))
    rows = np.sort(rng.permutation(len(data.images))[:IMAGES])
    pixels = torch.from_numpy(data.images[rows]).float() / 255
    if data.side > SIDE:
        pixels = F.interpolate(pixels, size=(SIDE, SIDE), mode="area")
    k = _clusters(record)
    seed = generator("cpu", plan.seed, "pixels")
    found = kmeans(pixels.flatten(1), max(1, k), restarts=RESTARTS, generator=seed)
    labels = torch.from_numpy(data.labels[rows])
    table = count_table(found.labels, labels, k, len(record.run.classes))
    scores = metrics.clustering_scores(table)
    writer.write_pixels(folder, PixelBaseline(images=len(rows), figures=scores))


def _clusters(record: RunRecord) -> int:
    return len(record.stages[-1].cluster_sizes) if record.stages else record.run.settings().clusters


def _known(folder: Path, record: RunRecord) -> PixelBaseline | None:
    """That of the run that was asked, where it has the same images and as many clusters."""
    if record.run.follow_up is None:
        return None
    try:
        before = read_run(folder.parent / record.run.follow_up.of)
    except UserError:
        return None
    return before.pixels if _given(before) == _given(record) else None


def _given(record: RunRecord) -> tuple[object, ...]:
    """What the figures depend on."""
    prints = sorted((name, site.fingerprint or "") for name, site in record.run.sites.items())
    return _clusters(record), record.run.settings().seed, record.run.classes, prints
