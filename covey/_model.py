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

    from deploy.using.model import Opened


class Model:
    """An encoder and its clusters, as a run has left them. Made by `covey.load`.

    Images are taken as (`covey.Pictures`)

    - the path of a folder, with or without subfolders; every readable image in it, by file name;
    - the path of an .npz file, or the name of a data set (its training images);
    - a NumPy array or a torch tensor of uint8, (N, C, H, W), (N, H, W, C) or (N, H, W), C 1 or 3;
    - a PIL image or a list of PIL images;
    - `covey.Images`, read before by `read`.

    Photographs (the files of a folder and PIL images) are made what the run's were: upright,
    square, scaled to `side`, grey or RGB, and of 8 bits through the run's window.
    All others must have the shape already; `resize=True` scales them.
    """

    def __init__(self, opened: "Opened", run: Run | None = None) -> None:
        self.run = run
        self._opened = opened
        self._facts, self._networks = opened.facts, opened.networks
        self._has_statistics = not self._networks.local_statistics()

    @property
    def recipe(self) -> str:
        """The recipe of the run."""
        return self._facts.recipe

    @property
    def figures(self) -> Mapping[str, float]:
        """The run's figures of the model (`Run.figures`)."""
        return self._facts.figures

    @property
    def sizes(self) -> tuple[int, ...]:
        """Images in each of the K clusters over the whole federation; empty where the run does not
        say (a cluster head assigned them)."""
        return self._facts.sizes

    @property
    def channels(self) -> int:
        """Channels of the images that it takes: 1 (grey) or 3 (RGB)."""
        return self._networks.channels

    @property
    def side(self) -> int:
        """Height and width of the images that it takes, in pixels."""
        return self._networks.side

    @property
    def space(self) -> str:
        """Where the run clusters: in the output of the "encoder" or of the "projector"."""
        return self._networks.space

    @property
    def centroids(self) -> NDArray[np.float32] | None:
        """The federation's centroids (K, d), in the space of `embed`; None where each site's are
        its own (batchnorm = "local")."""
        points = self._networks.centroids
        return None if points is None else points.detach().cpu().numpy().astype(np.float32)

    @property
    def classes_or_names(self) -> tuple[str, ...]:
        """A name for each of the K clusters: what a person called it (`covey name`); where sites
        had labels, the class that most of its images have (so that two clusters may have one name);
        else "cluster 0", "cluster 1", ..."""
        return tuple(self._facts.shown(cluster) for cluster in range(self._facts.clusters))

    def read(self, images: Pictures, *, resize: bool = False) -> Images:
        """The images in the model's shape, with the names of their files; `Error` where there is
        no image, or one of another shape."""
        return read(images, self._facts.preprocessing.preparation, resize)

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

        centroids = self._opened.centroids()
        points = self._points(images, resize)
        return nearest(points, centroids).cpu().numpy().astype(np.int64, copy=False)

    def adapt(self, images: Pictures, *, resize: bool = False) -> None:
        """With batchnorm = "local", take the networks' running statistics from these images, as a
        site that joins with them does; `embed` needs them. Else nothing is done."""
        self._networks.estimate_statistics(self._data(images, resize))
        self._has_statistics = True

    def _points(self, images: Pictures, resize: bool) -> "Tensor":
        if not self._has_statistics:
            raise UserError(
                f"{self._opened.path}: with batchnorm local each site keeps its statistics: "
                "adapt(images) takes them from yours"
            )
        return self._networks.embed(self._data(images, resize), self.space)

    def _data(self, images: Pictures, resize: bool) -> ImageData:
        found = self.read(images, resize=resize)
        return ImageData(found.pixels, None, (), found.names, "natural")


def load(model: str | Path | Run, device: str = "auto") -> Model:
    """A model: a `model.covey`, the folder of a finished run, or what `simulate` or `runs` gave.

    `device`: auto, cpu, cuda, cuda:1, ... `Error` where the file is no model of Covey or is
    damaged, where the folder holds no run or one that has not finished, and for a device that is
    not there.
    """
    from deploy.using.model import open_model  # noqa: PLC0415 (torch)

    path = model.folder if isinstance(model, Run) else Path(model)
    return Model(open_model(path, device), read_run(path) if path.is_dir() else None)
