"""CCFC: SimSiam tied to the received model, then pseudo-clusters that pull together.

D(p, z) = mean_i 1 - cos(p_i, sg z_i), the paper's -cos shifted to be 0 at best; θ_g is the model as
received, frozen, in evaluation mode. Both stages keep predictions near those of θ_g:
L_model = ½[D(p_a, p_a of θ_g) + D(p_b, p_b of θ_g)].
Stage 1, `ccfc`:          L = ½[D(p_a, z_b) + D(p_b, z_a)] + λ·L_model.
Stage 2, `ccfc-clusters`: L = mean_k mean_{i,j in k} (1 - cos(p_i, sg z_j)) + λ·L_model, over the
pseudo-clusters k that occur in the batch. Pseudo-labels are set once a round: the global centroid
nearest to the image's embedding by the received model. Before there are any, a site's own k-means
gives them: the loss needs no names that sites agree on.
Shared: encoder, projector, predictor. Received: a frozen copy of these.

Where ours differs from the authors' code: the global centroids are k-means over the sites'
centroids weighted by their counts, which the authors ignore, and they are those of the model that
the round before received (the authors cluster what each site has just trained). Stage 2 sees both
views of an image as members of its cluster, the authors the plain image alone: of an image that is
alone in its cluster the views are left to pull together, while the authors' code skips it and,
where all are alone, divides by zero.
Sources: Yan et al., "CCFC: Bridging Federated Clustering and Contrastive Learning" (arXiv
2401.06634); its code for D, λ, the layers and the order of things.
"""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.clustering.kmeans import kmeans
from common.losses.clusters import cluster_attraction
from common.losses.cosine import prediction_error
from common.models.encoders import Encoder
from common.models.heads import mlp
from common.objectives.base import LocalRound, Objective, Representations
from common.objectives.target import ReceivedModel


@dataclass(frozen=True)
class Parameters:
    """`model_weight` λ; `hidden` and `width`: the projector's layers, `bottleneck`: the
    predictor's. All as in the authors' code."""

    model_weight: float = 0.001
    hidden: int = 256
    width: int = 256
    bottleneck: int = 16


class CCFC(Objective):
    """Stage 1: SimSiam, with predictions kept near the received model's."""

    name = "ccfc"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__()
        self.model_weight = parameters.model_weight
        self.encoder = encoder
        self.projector = mlp(
            encoder.feature_dim, parameters.hidden, parameters.width, last_norm=True
        )
        self.predictor = mlp(parameters.width, parameters.bottleneck, parameters.width)
        heads = nn.Sequential(self.projector, self.predictor)
        self.global_model = ReceivedModel(copy.deepcopy(encoder), copy.deepcopy(heads))

    def begin_round(self, site: LocalRound) -> None:
        heads = nn.Sequential(self.projector, self.predictor)
        self.global_model.become(self.encoder, heads)

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        p = self.predictor(torch.cat([seen.z_a, seen.z_b]))
        with torch.no_grad():
            received = self.global_model(torch.cat([seen.batch.a, seen.batch.b]))
        return {
            **self.attraction(seen, p),
            "model": self.model_weight * 0.5 * prediction_error(p, received),
        }

    def attraction(self, seen: Representations, p: Tensor) -> dict[str, Tensor]:
        """What pulls together, with predictions `p` (2N, p) of view a and then view b."""
        across = torch.cat([seen.z_b, seen.z_a])
        return {"prediction": 0.5 * prediction_error(p, across)}

    def shared(self) -> dict[str, nn.Module]:
        return {**super().shared(), "predictor": self.predictor}

    def received(self) -> dict[str, nn.Module]:
        return {"global_model": self.global_model}


class CCFCClusters(CCFC):
    """Stage 2: predictions and projections within a pseudo-cluster attract."""

    name = "ccfc-clusters"

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        super().__init__(encoder, parameters, clusters)
        self.clusters = clusters
        self.labels: Tensor | None = None  # (n,), of this round

    def begin_round(self, site: LocalRound) -> None:
        super().begin_round(site)
        self.labels = pseudo_labels(site, self.clusters)

    def attraction(self, seen: Representations, p: Tensor) -> dict[str, Tensor]:
        rows = seen.batch.rows
        if self.labels is None:  # outside a round: every image by itself
            labels, clusters = torch.arange(len(rows), device=p.device), len(rows)
        else:
            labels, clusters = self.labels[rows], self.clusters
        z = torch.cat([seen.z_a, seen.z_b])
        return {"clusters": cluster_attraction(p, z, labels.repeat(2), clusters)}


@torch.no_grad()
def pseudo_labels(site: LocalRound, clusters: int) -> Tensor:
    """Labels (n,) in [0, clusters) of the site's training images: the nearest global centroid or,
    before there are global ones, the site's own."""
    points = site.embed()
    with torch.autocast(points.device.type, enabled=False):
        if site.centroids is None:
            return kmeans(points, clusters, generator=site.generator, spherical=True).labels
        nearest: Tensor = (points @ F.normalize(site.centroids.to(points), dim=1).T).argmax(dim=1)
    return nearest
