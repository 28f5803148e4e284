"""Whether two runs are the same to the bit, and whether sums less the forgotten summands are.

Where all that follows fixed features is solved from sums, a run without some images is the run with
them, less their summands. That is arithmetic, and can be looked at: of the sums over everybody, S,
and over the forgotten, S_F, the difference S - S_F has to be the sum over those that are left, bit
for bit (`client/statistics/exact.py` says why it can be).
"""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.features import Features
from client.statistics import exact
from client.storage.features import FeatureStore
from client.workbench import Workbench
from common.augmentations import build_augmentation
from common.data import ImageData
from common.protocol.layout import layout_of
from deploy.audit.looking import Looking
from server.run.folder import Checkpoint, RunFolder

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Same:
    """One array, or group of them, by name: digests of it in the original run, in the forgotten one
    and in the run without the data under the same seed; or of a sum over everybody, of that less
    the forgotten, and of the sum over the others."""

    name: str
    original: str
    forgotten: str
    without: str

    @property
    def same(self) -> bool:
        """Whether forgetting gave the bits of a run that never had the data."""
        return self.forgotten == self.without


def published(original: Looking, forgotten: Looking, twin: Looking) -> list[Same]:
    """What the runs have learned, part by part: all that their checkpoints hold."""
    return of_states(*(look.folder for look in (original, forgotten, twin)))


def of_states(original: Path, forgotten: Path, twin: Path) -> list[Same]:
    """The same, of the runs in these folders."""
    found = [_state(folder) for folder in (original, forgotten, twin)]
    names = sorted(set().union(*found))
    return [Same(name, *(digest(each.get(name)) for each in found)) for name in names]


def sums(look: Looking) -> list[Same]:
    """The moments of features, where the last stage keeps them: nothing of other recipes."""
    if look.trained.plan.stages[-1].features != "kept":
        return []
    material = look.material
    parts = {
        name: _moments(look, material.data.subset(rows))
        for name, rows in (("gone", material.gone), ("left", material.kept))
    }
    everybody = _moments(look, material.data)
    return [
        Same(name, digest(everybody[name]), digest(everybody[name] - gone), digest(left))
        for name, gone, left in (
            (name, parts["gone"][name], parts["left"][name]) for name in everybody
        )
    ]


def digest(array: NDArray[Any] | None) -> str:
    """16 hex digits of SHA-256 over shape, type and bytes; "" of nothing."""
    if array is None:
        return ""
    whole = np.ascontiguousarray(array)
    said = f"{whole.dtype.str} {whole.shape}\n".encode()
    return hashlib.sha256(said + whole.tobytes()).hexdigest()[:16]


def _state(folder: Path) -> Arrays:
    reached = RunFolder(folder).checkpoint()
    assert isinstance(reached, Checkpoint)
    found: dict[str, NDArray[Any]] = dict(reached.groups)
    if reached.centroids is not None:
        found |= {"centroids": reached.centroids.points, "counts": reached.centroids.counts}
    return found


def _moments(look: Looking, data: ImageData) -> dict[str, NDArray[np.float64]]:
    """A site's sums, as if it had these images."""
    trained, plan = look.trained, look.trained.plan
    bench = Workbench(
        model=trained.model,
        augmentation=build_augmentation(plan.views, data.kind, data.side),
        layout=layout_of(trained.model.shared()),
        initial={},
        device=trained.device,
        wanted_precision=plan.precision,
        local_statistics=False,
    )
    with tempfile.TemporaryDirectory(prefix="covey-") as folder:
        store = FeatureStore(Path(folder), data)
        features = Features(bench, plan, torch.from_numpy(data.images), store)
        width = trained.encoder.feature_dim
        gram, within = exact.view_moments(features.whole_views(), width, trained.device)
    return {"Σ h hᵀ": gram, "Σ (h_a - h_b)(h_a - h_b)ᵀ": within}
