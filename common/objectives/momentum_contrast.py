"""Momentum contrast in the batch: stage 1 of FedMCC.

Both views pass through the online and the target network: four representations, and each online
projection is contrasted with the target's projections of the other view:
L_C = ½[NCE(z_a; t_b) + NCE(z_b; t_a)]. Shared: encoder, projector. Local: the target network.
Sources: Miao and Koyuncu, "FedMCC", ACM TIST 15(4), 2024, and IEEE JSTSP 18(6), 2024 (our
reconstruction: the tables and code are not public); the keys from an averaged network are He et
al., CVPR 2020 (arXiv 1911.05722), in-batch as in MoCo v3.
"""

from dataclasses import dataclass

from torch import Tensor

from common.losses.contrastive import symmetric_info_nce
from common.models.encoders import Encoder
from common.models.heads import mlp
from common.objectives.base import Representations
from common.objectives.target import TargetObjective


@dataclass(frozen=True)
class Parameters:
    """`temperature` τ, `momentum` m₀ of the target; `hidden`, `width`: the projector's layers."""

    temperature: float = 0.2
    momentum: float = 0.99
    hidden: int = 256
    width: int = 128


class MomentumContrast(TargetObjective):
    """InfoNCE of the online projections against the target's."""

    name = "momentum-contrast"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        self.temperature = parameters.temperature
        self.encoder = encoder
        self.projector = mlp(encoder.feature_dim, parameters.hidden, parameters.width)
        self.start_target(parameters.momentum)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        loss = symmetric_info_nce(seen.z_a, seen.z_b, seen.t_a, seen.t_b, self.temperature)
        return {"contrast": loss}
