"""Frozen: no loss at all, for stages that only measure and cluster what an encoder gives.

Its stages have rounds = 0. Shared: the encoder. Local: nothing. The embedding is the encoder's
output, whichever of the two a stage asks for.
"""

from torch import Tensor, nn

from common.models.encoders import Encoder
from common.objectives.base import NoParameters, Objective, Representations


class Frozen(Objective):
    """An encoder as it is."""

    name = "frozen"
    trains = False

    def __init__(self, encoder: Encoder, parameters: NoParameters, clusters: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = nn.Identity()

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        raise ValueError("a frozen encoder has no loss: its stage has rounds = 0")

    def shared(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}

    def width(self, embedding: str) -> int:
        return self.encoder.feature_dim
