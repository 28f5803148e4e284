"""A fixed encoder's outputs for a site's images: computed once, rounded, the same for any spread.

A stage with `features = "kept"` sums up these. h is scaled to unit length and cut down to multiples
of 2^-14, so that sums of products are exact in any order (`client/statistics/exact.py`). A view is
drawn from a seed that is the image's own: what other images a site has, or how they are spread,
changes no image's views. All of a site's images are summed up, also those kept for kNN and probe,
or a site's own draw of these would decide; no label enters a sum.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.dataset import take
from client.embedding import in_one_forward
from client.storage.features import FeatureStore, Rows, Sums
from client.workbench import Workbench
from common.augmentations.seeded import mixed
from common.config.options import Plan
from common.models.pretrained.encoder import Pretrained
from common.models.whole import STEP, whole
from common.protocol.layout import digest_of
from common.utils.seeds import derive_seed

CHUNK = 1024  # rows that are summed up at once
PLAIN, VIEWS, AGREEMENT = "plain", ("view-a", "view-b"), ("agreement-a", "agreement-b")


@dataclass(frozen=True)
class Features:
    """The features of all `images` (N, C, H, W) of a site by `bench`'s encoder, under `plan`."""

    bench: Workbench
    plan: Plan
    images: Tensor
    store: FeatureStore

    @torch.no_grad()
    def plain(self) -> Iterator[Tensor]:
        """h (n, d) of the images themselves, chunk by chunk."""
        for rows in _chunks(self._kept(PLAIN)):
            yield self._scaled(rows)

    @torch.no_grad()
    def views(self) -> Iterator[tuple[Tensor, Tensor]]:
        """h (n, d) of two views of each image."""
        for a, b in self.whole_views():
            yield a * STEP, b * STEP

    @torch.no_grad()
    def whole_views(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The same as whole numbers of 2^-14, in float32."""
        yield from self._pairs([self._kept(name) for name in VIEWS])

    def summed(self, add: Callable[[Iterator[tuple[Tensor, Tensor]]], Sums]) -> Sums:
        """What `add` makes of `whole_views`, an exact sum over images."""
        return self.store.summed(
            VIEWS,
            self._key(VIEWS[0]),
            lambda: [self._kept(name) for name in VIEWS],
            lambda both: add(self._pairs(both)),
        )

    def _pairs(self, both: Sequence[Rows]) -> Iterator[tuple[Tensor, Tensor]]:
        a, b = both
        for rows_a, rows_b in zip(_chunks(a), _chunks(b), strict=True):
            yield self._placed(rows_a), self._placed(rows_b)

    @torch.no_grad()
    def other_views(self) -> Iterator[tuple[Tensor, Tensor]]:
        """h (n, d) of two other views of each, by which nothing is solved: kept where sums are,
        for images that may leave, and of a pretrained encoder, which takes long; else computed
        each time."""
        if self.store.keeps_sums or isinstance(self.bench.model.encoder, Pretrained):
            both = self._pairs([self._kept(name) for name in AGREEMENT])
            yield from ((one * STEP, other * STEP) for one, other in both)
            return
        for index in self._forwards():
            a, b = (self._computed(name, index) for name in AGREEMENT)
            yield self._scaled(a), self._scaled(b)

    def _forwards(self) -> list[NDArray[np.int64]]:
        """All images' indices, as many at once as are forwarded together."""
        count = len(self.images)
        return np.array_split(np.arange(count), -(-count // in_one_forward(self.images)))

    def _kept(self, name: str) -> Rows:
        def made() -> Iterator[Rows]:
            return (self._computed(name, index) for index in self._forwards())

        width = self.bench.model.encoder.feature_dim
        return self.store.rows(name, self._key(name), width, made)

    def _key(self, name: str) -> str:
        """Of all that a row depends on but its image: encoder, views, seed, precision."""
        encoder = self.bench.model.encoder
        weights = {key: tensor.numpy(force=True) for key, tensor in encoder.state_dict().items()}
        made = [self.plan.encoder, str(self.bench.device.type), self.plan.precision]
        if self.plan.network is not None:  # no part of the state: all have them from a file
            made += [self.plan.weights, self.plan.network.model_dump_json()]
        if name != PLAIN:
            made += [repr(self.bench.augmentation.preset), str(self.plan.seed)]
        text = "/".join([digest_of({k: w.ravel() for k, w in weights.items()}), *made])
        return hashlib.sha256(text.encode()).hexdigest()

    @torch.no_grad()
    def _computed(self, name: str, index: NDArray[np.int64]) -> Rows:
        """Rows (m, d) of the images at `index`."""
        bench, place = self.bench, torch.from_numpy(index).to(self.images.device)
        images = take(self.images, place, bench.device)
        if name == PLAIN:
            seen = bench.augmentation.plain(images)
        else:
            own = np.ascontiguousarray(self.store.digests[index, :8]).view("<i8").ravel()
            of_image = torch.from_numpy(own.astype(np.int64)).to(bench.device)
            seeds = mixed(of_image ^ derive_seed(self.plan.seed, "view of an image", name))
            seen = bench.augmentation.seeded(images, seeds)
        bench.model.eval()
        with bench.precision():
            h = bench.model.encoder(seen.contiguous(memory_format=torch.channels_last))
        return rounded(h).numpy(force=True)

    def _scaled(self, rows: Rows) -> Tensor:
        return self._placed(rows) * STEP

    def _placed(self, rows: Rows) -> Tensor:
        return torch.from_numpy(np.array(rows)).to(self.bench.device).float()


def rounded(h: Tensor) -> Tensor:
    """Encoder outputs (N, d) at unit length, cut down to whole numbers of 2^-14: int16. The same
    bits in any batch where `h` itself has few bits, as that of `noise-filters`."""
    return (whole(h) / STEP).to(torch.int16)


def _chunks(rows: Rows) -> Iterator[Rows]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]
