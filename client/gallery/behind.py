"""A site's own page of clusters, drawn when the site has answered: nobody waits for it.

It is drawn in a thread from what the site has in memory. A site that leaves at once has no page:
`covey gallery` draws it at any time.
"""

import logging
import shlex
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from client.dataset import Dataset
from client.statistics.assigned import assign
from common.learned.file import LearnedModel
from common.utils.files import write_atomic

LOG = logging.getLogger(__name__)
FILE = "clusters.html"
ONE = threading.Lock()  # sites that share a process draw one after the other
PAUSE = 2.0  # seconds before it begins: the answer is sent, and a local federation has ended


def draw(
    path: Path, model: LearnedModel, points: Tensor, centroids: Tensor, data: Dataset
) -> threading.Thread:
    """Draw `clusters.html` beside the model's file `path`, of a site's `data` with its embeddings
    `points` (N, d); the thread that does it."""
    thread = threading.Thread(
        target=_draw,
        args=(path, model, points.cpu(), centroids.cpu(), data),
        name=FILE,
        daemon=True,
    )
    thread.start()
    return thread


def _draw(
    path: Path, model: LearnedModel, points: Tensor, centroids: Tensor, data: Dataset
) -> None:
    threading.Event().wait(PAUSE)
    page = path.with_name(FILE)
    try:
        with ONE:
            html = page_of(path, model, points, centroids, data)
        write_atomic(page, html.encode(errors="backslashreplace"))
        LOG.info("run %s: the page of its clusters is %s", model.facts.run, page)
    except Exception:  # the site goes on without it
        LOG.exception("run %s: no page of its clusters", model.facts.run)


def page_of(
    path: Path, model: LearnedModel, points: Tensor, centroids: Tensor, data: Dataset
) -> str:
    """The page as HTML."""
    from client.gallery import gallery  # noqa: PLC0415 (no site waits for it when it starts)
    from client.gallery.choice import Seen, mapped  # noqa: PLC0415
    from client.gallery.layout import flattened_apart  # noqa: PLC0415

    found = assign(points, centroids)
    parts = (found.cluster, found.runner_up, found.distance, found.confidence)
    seen = Seen(data.names, *(part.numpy() for part in parts))
    seed = model.facts.settings().seed
    sample = mapped(len(points), seed)

    def look(rows: Sequence[int], side: int) -> Sequence[NDArray[np.uint8]]:
        index = np.asarray(rows, np.int64)
        return list(data.images[index].cpu().numpy()) if len(index) else []

    shown = points.numpy()[sample]
    clusters = model.facts.clusters
    made = gallery.build(seen, sample, shown, look, clusters, seed, flattened_apart)
    command = shlex.join(["covey", "name", str(path), "names.json"])
    return gallery.render(made, model.facts, model.identity, data.site, command)
