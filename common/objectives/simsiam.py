"""SimSiam: one view predicts the other's projection, without target network and negatives.

L = ½[(2 - 2 cos(p(z_a), sg z_b)) + (2 - 2 cos(p(z_b), sg z_a))]: the paper's ½[D + D] with
D = -cos, on BYOL's scale. The projector ends with a BatchNorm without affine parameters; the
predictor is a bottleneck.
Nothing but the stop-gradient keeps it from collapsing (`stop-gradient = false`). How that shows
depends on the last BatchNorm: with it every dimension keeps variance 1, so images cannot all go to
one point, and the projections lose dimensions instead (their effective rank falls); without it
(`output-norm = false`) they do go to one point (their standard deviation falls).
Shared: encoder, projector, predictor. Local: nothing.
Source: Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021
(arXiv 2011.10566), eqs. 1 to 4, sections 4.1 and 4.4 (tables 1 and 3).
"""

from dataclasses import dataclass

from torch import Tensor, nn

from common.losses.cosine import cosine_distance
from common.models.encoders import Encoder
from common.models.heads import mlp
from common.objectives.base import Objective, Representations


@dataclass(frozen=True)
class Parameters:
    """`stop_gradient`: false to see the collapse; `output_norm`: the projector's last BatchNorm;
    `hidden` and `width`: the projector's layers; `bottleneck`: the predictor's hidden layer, a
    quarter of the width (section 3)."""

    stop_gradient: bool = True
    output_norm: bool = True
    hidden: int = 256
    width: int = 128
    bottleneck: int = 32


class SimSiam(Objective):
    """Prediction of the other view's projection, symmetric in the views."""

    name = "simsiam"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        self.stop_gradient = parameters.stop_gradient
        self.encoder = encoder
        self.projector = mlp(
            encoder.feature_dim,
            parameters.hidden,
            parameters.width,
            last_norm=parameters.output_norm,
        )
        self.predictor = mlp(parameters.width, parameters.bottleneck, parameters.width)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        z_a, z_b = seen.z_a, seen.z_b
        t_a, t_b = (z_a.detach(), z_b.detach()) if self.stop_gradient else (z_a, z_b)
        loss = 0.5 * (
            cosine_distance(self.predictor(z_a), t_b) + cosine_distance(self.predictor(z_b), t_a)
        )
        return {"prediction": loss}

    def shared(self) -> dict[str, nn.Module]:
        return {**super().shared(), "predictor": self.predictor}
