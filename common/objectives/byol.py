"""BYOL: the online network predicts the target network's projection of the other view.

L_NC = ½[(2 - 2 cos(p(z_a), sg t_b)) + (2 - 2 cos(p(z_b), sg t_a))]. No negatives.
Shared: encoder, projector, predictor. Local: the target network.
Source: Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020 (arXiv 2006.07733), eq. 2.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from common.losses.cosine import prediction_error
from common.models.encoders import Encoder
from common.models.heads import mlp
from common.objectives.base import Representations
from common.objectives.target import TargetObjective


@dataclass(frozen=True)
class Parameters:
    """`momentum` m₀ of the target; `hidden` and `width`: layers of projector and predictor."""

    momentum: float = 0.99
    hidden: int = 256
    width: int = 128


class BYOL(TargetObjective):
    """Prediction of the target's projections, symmetric in the views."""

    name = "byol"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = mlp(encoder.feature_dim, parameters.hidden, parameters.width)
        self.predictor = mlp(parameters.width, parameters.hidden, parameters.width)
        self.start_target(parameters.momentum)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        loss = 0.5 * (
            prediction_error(self.predictor(seen.z_a), seen.t_b)
            + prediction_error(self.predictor(seen.z_b), seen.t_a)
        )
        return {"prediction": loss}

    def shared(self) -> dict[str, nn.Module]:
        return {**super().shared(), "predictor": self.predictor}
