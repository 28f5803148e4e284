"""What a run has learned, for who has images: embeddings, clusters, names of clusters."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from common.data import ImageData
from common.utils.errors import UserError
from covey._images import Images, Pictures, read
from covey._run import Run
from covey._run import read as read_run

if TYPE_CHECKING:
    from torch import Tensor

    from deploy.evaluation.trained import Trained


class Model:
    """An encoder and its clusters, as a run has left them. Made by `covey.load`.

    Images are taken as (`covey.Pictures`)

    - the path of a folder, with or without subfolders; every readable image in it, by file name;
    - the path of an .npz file, or the name of a data set (its training images);
    - a NumPy array or a torch tensor of uint8, (N, C, H, W), (N, H, W, C) or (N, H, W), C 1 or 3;
    - a PIL image or a list of PIL images;
    - `covey.Images`, read before by `read`.

    Photographs (the files of a folder and PIL images) are cropped to the middle square, scaled to
    `side` and made grey or RGB. All others must have the shape already; `resize=True` scales them.
    """

    def __init__(self, run: Run, trained: "Trained") -> None:
        self.run = run
        self._trained = trained
        self._has_statistics = not trained.local_statistics()

    @property
    def recipe(self) -> str:
        """The recipe of the run."""
        return self.run.recipe

    @property
    def figures(self) -> Mapping[str, float]:
        """The run's figures of the model (`Run.figures`)."""
        return self.run.figures

    @property
    def channels(self) -> int:
        """Channels of the images that it takes: 1 (grey) or 3 (RGB)."""
        return self._trained.channels

    @property
    def side(self) -> int:
        """Height and width of the images that it takes, in pixels."""
        return self._trained.side

    @property
    def space(self) -> str:
        """Where the run clusters: in the output of the "encoder" or of the "projector"."""
        return self._trained.space

    @property
    def centroids(self) -> NDArray[np.float32] | None:
        """The federation's centroids (K, d), in the space of `embed`; None where each site's are
        its own (batchnorm = "local")."""
        points = self._trained.centroids
        return None if points is None else points.detach().cpu().numpy().astype(np.float32)

    @property
    def classes_or_names(self) -> tuple[str, ...]:
        """A name for each of the K clusters: where sites had labels, the class that most of its
        images have (so that two clusters may have one name), else "cluster 0", "cluster 1", ..."""
        return cluster_names(self.run, self._trained.plan.clusters)

    def read(self, images: Pictures, *, resize: bool = False) -> Images:
        """The images in the model's shape, with the names of their files; `Error` where there is
        no image, or one of another shape."""
        return read(images, self.channels, self.side, resize)

    def embed(self, images: Pictures, *, resize: bool = False) -> NDArray[np.float32]:
        """The embeddings (N, d) of unit length, in the space where the run clusters.

        `Error` for images that do not fit (see above), and where the run has diverged.
        """
        return self._points(images, resize).cpu().numpy().astype(np.float32, copy=False)

    def predict(self, images: Pictures, *, resize: bool = False) -> NDArray[np.int64]:
        """The cluster (N,) of each image, 0 to K-1: the nearest of the federation's centroids.

        `Error` as `embed`, and where the run has no centroids of the whole federation.
        """
        from client.statistics.clusters import nearest  # noqa: PLC0415 (torch)

        centroids = self._trained.centroids
        if centroids is None:
            raise UserError(
                f"{self.run.folder}: with batchnorm local each site has centroids of its own: "
                "cluster what embed gives"
            )
        points = self._points(images, resize)
        return nearest(points, centroids).cpu().numpy().astype(np.int64, copy=False)

    def adapt(self, images: Pictures, *, resize: bool = False) -> None:
        """With batchnorm = "local", take the networks' running statistics from these images, as a
        site that joins with them does; `embed` needs them. Else nothing is done."""
        self._trained.estimate_statistics(self._data(images, resize))
        self._has_statistics = True

    def _points(self, images: Pictures, resize: bool) -> "Tensor":
        if not self._has_statistics:
            raise UserError(
                f"{self.run.folder}: with batchnorm local each site keeps its statistics: "
                "adapt(images) takes them from yours"
            )
        return self._trained.embed(self._data(images, resize), self.space)

    def _data(self, images: Pictures, resize: bool) -> ImageData:
        found = self.read(images, resize=resize)
        return ImageData(found.pixels, None, (), found.names, "natural")


def load(run: str | Path | Run, device: str = "auto") -> Model:
    """The model of a finished run: a folder, or what `simulate` or `runs` gave.

    `device`: auto, cpu, cuda, cuda:1, ... `Error` where the folder holds no run, the run has not
    finished, a file is damaged, or there is no such device.
    """
    from deploy.evaluation.trained import load_trained  # noqa: PLC0415 (torch)

    folder = run.folder if isinstance(run, Run) else Path(run)
    return Model(read_run(folder), load_trained(folder, device))


def cluster_names(run: Run, clusters: int) -> tuple[str, ...]:
    """Names of the clusters that `predict` tells apart, by the last stage's table of counts."""
    names = [f"cluster {number}" for number in range(clusters)]
    last = run.stages[-1] if run.stages else None
    # Where a head assigns images, the table counts its clusters and not the centroids'.
    if last is None or last.table is None or last.by != "centroids":
        return tuple(names)
    if last.table.shape != (clusters, len(run.classes)):
        return tuple(names)
    for number, counts in enumerate(last.table):
        if counts.sum():
            names[number] = run.classes[int(counts.argmax())]
    return tuple(names)
