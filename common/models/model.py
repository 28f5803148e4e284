"""The model of a stage: an encoder with its heads, and what of it leaves the site.

What is trained is an `Objective` (`common/objectives/`), what is solved from sums a `Solver`
(`common/solvers/`). All else that a site or the server does with a stage's model is the same.
"""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from common.config.parameters import NoParameters
from common.models.encoders import Encoder
from common.models.heads import output_width


class Model(nn.Module):
    """An encoder, a projector and perhaps more heads."""

    name: ClassVar[str]
    """What a stage calls it; a class without one is for others to build on."""

    parameters_type: ClassVar[type[Any]] = NoParameters
    """A frozen dataclass of numbers with defaults: its own parameters."""

    encoder: Encoder
    projector: nn.Module

    def shared(self) -> dict[str, nn.Module]:
        """The modules that are one for all sites, by name."""
        return {"encoder": self.encoder, "projector": self.projector}

    def local(self) -> dict[str, nn.Module]:
        """The modules that stay at the site between rounds (targets, queues), by name."""
        return {}

    def restart_local(self) -> None:
        """Reset what is local from what is shared: at a site's first round in a run."""

    def width(self, embedding: str) -> int:
        """Numbers in one image's embedding: "encoder" output or "projector" output."""
        return self.encoder.feature_dim if embedding == "encoder" else output_width(self.projector)

    def points(self, outputs: Tensor) -> Tensor:
        """Embeddings (N, d) as they are compared: in float32, of unit length."""
        return F.normalize(outputs.float(), dim=1)

    def assignments(self, h: Tensor) -> Tensor | None:
        """Soft cluster assignments (N, K) of encoder outputs, or None without a cluster head."""
        return None
