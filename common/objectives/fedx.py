"""FedX: contrast and relations are learned from the site's own model and from the global one.

L = NT(z_a, z_b) + ½[NT(p(z_a), g_b) + NT(p(z_b), g_a)] + R(z_a, z_b; z_o) + R(p(z_a), p(z_b); g_o)
with NT the NT-Xent loss, p the predictor, g projections by the model as received (frozen, in
evaluation mode), o other images of the site, and all temperatures .1. R makes two views of an image
relate alike to the others: with r the softmax over o of cos(z_a, z_o)/τ, r' the same of z_b and
m = ½(r + r'), R = mean ½[KL(m ‖ r) + KL(m ‖ r')].
The others are the batch before this one; a round's first step takes the second views of its own
batch. Where paper and code differ: the paper calls R the Jensen-Shannon divergence, which has the
arguments of KL the other way round; this is the code's. Ours: the code contrasts one view with the
global model; both views are drawn alike, and the mean of both directions is less noisy; and the
heads have BatchNorm, as those of the other objectives here.
Shared: encoder, projector, predictor. Received: the global encoder and projector.
Source: Han et al., "FedX: Unsupervised Federated Learning with Cross Knowledge Distillation", ECCV
2022 (arXiv 2207.09158), and the authors' code.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.losses.contrastive import nt_xent
from common.losses.relation import relation
from common.models.encoders import Encoder
from common.models.heads import mlp
from common.objectives.base import LocalRound, Objective, Representations
from common.objectives.target import ReceivedModel


@dataclass(frozen=True)
class Parameters:
    """`temperature`: of the contrast and of the relations r; `relation_temperature`: of the mean
    relation m; `hidden`, `width`: layers of projector and predictor."""

    temperature: float = 0.1  # these and the width: the authors' code
    relation_temperature: float = 0.1
    hidden: int = 256
    width: int = 256


class FedX(Objective):
    """Two-sided distillation: from the site's own projections and from the global model's."""

    name = "fedx"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        self.settings = parameters
        self.encoder = encoder
        self.projector = mlp(encoder.feature_dim, parameters.hidden, parameters.width)
        self.predictor = mlp(parameters.width, parameters.hidden, parameters.width)
        self.teacher = ReceivedModel(copy.deepcopy(self.encoder), copy.deepcopy(self.projector))
        self._current: Tensor | None = None
        self._others: Tensor | None = None  # images (M, C, H, W) of the step before

    def begin_round(self, site: LocalRound) -> None:
        self.teacher.become(self.encoder, self.projector)
        self._current = self._others = None

    @torch.no_grad()
    def _targets(self, a: Tensor, b: Tensor, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, Tensor]:
        t_a, t_b = self.teacher(torch.cat([a, b])).chunk(2)
        return t_a, t_b

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        tau, tau_mean = self.settings.temperature, self.settings.relation_temperature
        self._current = seen.batch.a
        images = seen.batch.b if self._others is None else self._others
        z_others = self.projector(self.encoder(images))
        with torch.no_grad():
            t_others = self.teacher(images)
        p_a, p_b = self.predictor(torch.cat([seen.z_a, seen.z_b])).chunk(2)
        return {
            "contrast": nt_xent(seen.z_a, seen.z_b, tau),
            "global_contrast": 0.5 * (nt_xent(p_a, seen.t_b, tau) + nt_xent(p_b, seen.t_a, tau)),
            "relation": relation(seen.z_a, seen.z_b, z_others, tau, tau_mean),
            "global_relation": relation(p_a, p_b, t_others, tau, tau_mean),
        }

    def after_step(self, progress: float) -> None:
        self._others = self._current

    def end_round(self, site: LocalRound) -> None:
        self._current = self._others = None

    def shared(self) -> dict[str, nn.Module]:
        return {**super().shared(), "predictor": self.predictor}

    def received(self) -> dict[str, nn.Module]:
        return {"teacher": self.teacher}
