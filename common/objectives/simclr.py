"""SimCLR: two views of an image attract, all other images of the batch repel.

L = NT-Xent(z_a, z_b; τ). Shared: encoder, projector. Local: nothing.
Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations",
ICML 2020 (arXiv 2002.05709).
"""

from dataclasses import dataclass

from torch import Tensor

from common.losses.contrastive import nt_xent
from common.models.encoders import Encoder
from common.models.heads import mlp
from common.objectives.base import Objective, Representations


@dataclass(frozen=True)
class Parameters:
    """`temperature` τ; `hidden` and `width`: the projector's layers."""

    temperature: float = 0.5
    hidden: int = 256
    width: int = 128


class SimCLR(Objective):
    """NT-Xent between the projections of two views."""

    name = "simclr"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.encoder = encoder
        self.projector = mlp(encoder.feature_dim, parameters.hidden, parameters.width)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        return {"contrast": nt_xent(seen.z_a, seen.z_b, self.parameters_.temperature)}
