"""BYOL: the online network predicts the target network's projection of the other view.

L_NC = ½[(2 - 2 cos(p(z_a), sg t_b)) + (2 - 2 cos(p(z_b), sg t_a))]. No negatives.
Shared: encoder, projector, predictor. Local: the target network.
Source: Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020 (arXiv 2006.07733), eq. 2.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

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


def prediction_error(predicted: Tensor, target: Tensor) -> Tensor:
    """mean_i 2 - 2 cos(p_i, sg t_i), for (N, p) tensors; between 0 and 4."""
    return cosine_distance(predicted, target.detach())


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """mean_i 2 - 2 cos(a_i, b_i), for (N, p) tensors, with gradients to both; between 0 and 4."""
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"need two (N, p) tensors, got {tuple(a.shape)} and {tuple(b.shape)}")
    return 2 - 2 * F.cosine_similarity(a.float(), b.float(), dim=1).mean()
