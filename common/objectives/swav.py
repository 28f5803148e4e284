"""SwAV: one view predicts which prototypes the other view is assigned to.

Scores S_a = z_a·Cᵀ (N, K) with z and the prototypes C of unit length; assignments Q_a = Sinkhorn of
S_a (equally large clusters in each batch, without gradient); P_a = softmax(S_a/τ);
L = ½[-mean_i Σ_k Q_b log P_a  -  mean_i Σ_k Q_a log P_b]. Two views; no queue and no small crops.
The mean of the sites' prototypes is shorter than 1, so they are scaled to unit length again when a
round begins, as after each step. They are not frozen at first, as the authors' code does for its
first epoch. As many prototypes as the run has clusters (`prototypes = 0`) are a cluster head, too:
P is then the assignment (option `clusters-from`).
Shared: encoder, projector, prototypes. Local: nothing.
Source: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
NeurIPS 2020 (arXiv 2006.09882), eqs. 1 to 5 and appendix A.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from common.losses.assignments import assignment_error
from common.losses.sinkhorn import sinkhorn
from common.models.encoders import Encoder
from common.models.heads import Prototypes, mlp
from common.objectives.base import LocalRound, Objective, Representations
from common.utils.errors import UserError


@dataclass(frozen=True)
class Parameters:
    """`temperature` τ, `epsilon` and `iterations` of Sinkhorn (appendix A.1); `prototypes` K, 0: as
    many as the run's clusters (3,000 in the paper, for 1,000 classes; a batch should have more
    images); `hidden`, `width`: the projector's layers."""

    temperature: float = 0.1
    epsilon: float = 0.05
    iterations: int = 3
    prototypes: int = 64
    hidden: int = 256
    width: int = 128


class SwAV(Objective):
    """Swapped prediction of cluster assignments."""

    name = "swav"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        if parameters.prototypes < 0 or parameters.iterations < 1 or parameters.epsilon <= 0:
            raise UserError(
                "objective 'swav': prototypes must be 0 or more, iterations 1 or more, epsilon "
                "above 0"
            )
        self.settings, self.clusters = parameters, clusters
        self.encoder = encoder
        self.projector = mlp(encoder.feature_dim, parameters.hidden, parameters.width)
        self.prototypes = Prototypes(parameters.prototypes or clusters, parameters.width)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        settings = self.settings
        s_a, s_b = self.prototypes(seen.z_a), self.prototypes(seen.z_b)
        q_a, q_b = (sinkhorn(s, settings.epsilon, settings.iterations) for s in (s_a, s_b))
        loss = 0.5 * (
            assignment_error(s_a, q_b, settings.temperature)
            + assignment_error(s_b, q_a, settings.temperature)
        )
        return {"prediction": loss}

    def begin_round(self, site: LocalRound) -> None:
        self.prototypes.renormalise()

    def after_step(self, progress: float) -> None:
        self.prototypes.renormalise()

    def shared(self) -> dict[str, nn.Module]:
        return {**super().shared(), "prototypes": self.prototypes}

    def assignments(self, h: Tensor) -> Tensor | None:
        if len(self.prototypes.vectors) != self.clusters:
            return None
        # Of a state just averaged, as sites score it, they are shorter than 1.
        lengths = self.prototypes.vectors.norm(dim=1).clamp_min(1e-12)
        scores: Tensor = self.prototypes(self.projector(h)) / lengths
        return (scores / self.settings.temperature).softmax(dim=1)
