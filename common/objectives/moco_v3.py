"""MoCo v3: momentum contrast in the batch, with a predictor and without a queue.

L = 2τ·[NCE(p(z_a); t_b) + NCE(p(z_b); t_a)], the negatives being the other keys of the batch.
All layers of both MLPs have BatchNorm, the last without affine parameters. m rises to 1 by half a
cosine. Shared: encoder, projector, predictor. Local: the target network.
Source: Chen, Xie and He, "An Empirical Study of Training Self-Supervised Vision Transformers",
ICCV 2021 (arXiv 2104.02057), algorithm 1 and section 4.1 (implementation).
"""

from dataclasses import dataclass

from torch import Tensor, nn

from common.losses.contrastive import symmetric_info_nce
from common.models.encoders import Encoder
from common.models.heads import mlp
from common.objectives.base import Representations
from common.objectives.target import TargetObjective


@dataclass(frozen=True)
class Parameters:
    """`temperature` τ (the paper's for transformers; the authors' code has 1 for ResNet-50),
    `momentum` m₀ of the target (the paper's); `hidden`, `width`: layers of projector and
    predictor."""

    temperature: float = 0.2
    momentum: float = 0.99
    hidden: int = 256
    width: int = 128


class MoCoV3(TargetObjective):
    """InfoNCE of the predictions against the target's projections."""

    name = "moco-v3"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        hidden, width = parameters.hidden, parameters.width
        self.temperature = parameters.temperature
        self.encoder = encoder
        self.projector = mlp(encoder.feature_dim, hidden, width, last_norm=True)
        self.predictor = mlp(width, hidden, width, last_norm=True)
        self.start_target(parameters.momentum)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        q_a, q_b = self.predictor(seen.z_a), self.predictor(seen.z_b)
        contrast = symmetric_info_nce(q_a, q_b, seen.t_a, seen.t_b, self.temperature)
        return {"contrast": 4 * self.temperature * contrast}  # 2τ, of a sum and not of a mean

    def shared(self) -> dict[str, nn.Module]:
        return {**super().shared(), "predictor": self.predictor}
