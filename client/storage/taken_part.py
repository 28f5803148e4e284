"""Which of a site's images were in a run: `taken-part.bin` in its folder of that run.

Eight bytes for each image, the first 63 bits of its pixels' SHA-256 in the form that the run's plan
wants, sorted: no name and no picture. Images that come or leave while the run goes on were in it,
too. The site looks there when a run made from this one asks what of it is to be unlearned.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.dataset import digests_of
from common.data.images import Pixels
from common.utils.errors import UserError
from common.utils.files import write_atomic

FILE = "taken-part.bin"
KIND = np.dtype("<i8")


class TakenPart:
    """The note of one run, in the site's `folder` of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def add(self, digests: Tensor) -> None:
        """Images with these `digests` (N,) int64 are in the run from now on, or still."""
        known = self.read()
        every = np.unique(digests.numpy() if known is None else torch.cat([digests, known]).numpy())
        if known is None or len(every) > len(known):
            write_atomic(self.path, every.astype(KIND).tobytes(), mode=0o600)

    def read(self) -> Tensor | None:
        """Digests of all images that were in the run; None where the site has not noted it.
        `UserError` where the note is damaged."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        if len(data) % KIND.itemsize:
            raise UserError(f"{self.path} is damaged: which images were in the run is not known")
        return torch.from_numpy(np.frombuffer(data, KIND).astype(np.int64))

    def had(self, images: Pixels) -> NDArray[np.bool_]:
        """Which of the `images` (m, C, H, W) were in the run: (m,). `UserError` where the site does
        not know."""
        known = self.read()
        if known is None:
            raise UserError(
                f"this site does not know which of its images were in the run "
                f"{self.path.parent.name}: another method (exact-sums, fine-tune, retrain) need "
                "not know"
            )
        return np.isin(digests_of(images).numpy(), known.numpy())
