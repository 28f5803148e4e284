"""Frozen: nothing is solved, for stages that only measure and cluster what an encoder gives.

Shared: the encoder. The embedding is the encoder's output, whichever of the two a stage asks for.
"""

from torch import nn

from common.config.parameters import NoParameters
from common.models.encoders import Encoder
from common.solvers.base import Solver


class Frozen(Solver):
    """An encoder as it is."""

    name = "frozen"

    def __init__(self, encoder: Encoder, parameters: NoParameters, clusters: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = nn.Identity()

    def shared(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}

    def width(self, embedding: str) -> int:
        return self.encoder.feature_dim
