"""Stage 2 and the contrastive regulariser: whole losses against loops written from the papers."""

import math

import pytest
import torch
from torch import Tensor, nn

from common.losses.clusters import correlations
from common.models.encoders import Encoder
from common.objectives.base import Batch, Objective, Representations
from common.objectives.cluster import Cluster, Parameters
from common.objectives.regularised import TEMPERATURE, Regularised
from tests.common.objectives.slow import cosine

N, K, WIDTH = 6, 3, 5


class First(Objective):
    """A stage-1 objective whose only term is easily told apart."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.projector = Encoder(nn.Flatten(), WIDTH), nn.Identity()

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        return {"first": (seen.h_a * seen.h_b).sum()}


def seen() -> Representations:
    """All six representations, none like another; t is a constant, as a target's is."""
    chance = torch.Generator().manual_seed(5)
    h_a, h_b, z_a, z_b, t_a, t_b = torch.randn(6, N, WIDTH, generator=chance)
    trained = (x.requires_grad_() for x in (h_a, h_b, z_a, z_b))
    images = torch.zeros(N, 1, 1, WIDTH)
    return Representations(Batch(images, images, torch.arange(N), chance), *trained, t_a, t_b)


def stage_2(**parameters) -> Cluster:
    torch.manual_seed(0)
    first = First()
    return Cluster(first.encoder, Parameters(**parameters), K, first)


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def slow_assignments(part: Cluster, h: Tensor) -> Tensor:
    """softmax_k cos(h_i, c_k)/τ_h, row by row."""
    rows = []
    for row in h:
        scores = torch.stack([cosine(row, c) for c in part.cluster_head.centroids])
        powers = (scores / part.settings.head_temperature).exp()
        rows.append(powers / powers.sum())
    return torch.stack(rows)


def slow_columns(c_a: Tensor, c_b: Tensor, temperature: float) -> Tensor:
    """Contrastive Clustering's eqs. 4 and 5: 2K columns, each to find its partner."""
    columns = [*c_a.T, *c_b.T]
    losses = []
    for i, column in enumerate(columns):
        powers = {
            j: (cosine(column, other) / temperature).exp()
            for j, other in enumerate(columns)
            if j != i
        }
        losses.append(-(powers[(i + K) % (2 * K)] / sum(powers.values())).log())
    return sum(losses) / len(losses)


def slow_attraction(c_a: Tensor, c_b: Tensor) -> Tensor:
    """mean_k 1 - r_k, r_k the correlation of column k in the two views."""
    total = torch.zeros(())
    for a, b in zip(c_a.T, c_b.T, strict=True):
        total = total + 1 - cosine(a - a.mean(), b - b.mean())
    return total / K


def test_flat_assignments_are_no_way_out_of_the_columns() -> None:
    """Columns that are constant agree with themselves as they are, but say nothing: a head that
    learns to tell nothing apart must not be what the loss wants."""
    flat, sure = torch.full((9, K), 1 / K), torch.eye(K).repeat(3, 1)
    assert correlations(sure, sure).mean() == pytest.approx(1)
    assert correlations(flat, flat).mean() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_training_without_negatives_keeps_assignments_apart(seed: int) -> None:
    """Stage 2's own terms on blobs of which the head has a fair idea to begin with: with cosines of
    the columns as they are the largest share went from .7 to 1/K."""
    chance = torch.Generator().manual_seed(seed)
    blobs = torch.nn.functional.one_hot(torch.arange(60) % K, WIDTH).float()
    part = stage_2(contrastive=False, first_weight=0.0, head_temperature=0.5)
    part.start_from(torch.eye(K, WIDTH))
    encoder = nn.Linear(WIDTH, WIDTH)
    nn.init.eye_(encoder.weight)
    nn.init.zeros_(encoder.bias)
    optimiser = torch.optim.Adam([*part.parameters(), *encoder.parameters()], lr=0.01)
    for _ in range(300):
        h_a, h_b = encoder(blobs + 0.3 * torch.randn(2, 60, WIDTH, generator=chance))
        loss = total(part.terms(seen()._replace(h_a=h_a, h_b=h_b)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    shares = part.assignments(h_a)
    assert shares.amax(dim=1).mean() > 0.8
    assert (shares.argmax(dim=1) == torch.arange(60) % K).float().mean() > 0.95


def slow_entropy(c: Tensor) -> Tensor:
    """log K + Σ_k P_k log P_k."""
    shares = [sum(row[k] for row in c) / N for k in range(K)]
    return math.log(K) + sum(share * share.log() for share in shares)


@pytest.mark.parametrize("contrastive", [True, False])
def test_stage_2_is_the_papers(contrastive: bool) -> None:
    part = stage_2(
        contrastive=contrastive, first_weight=0.7, cluster_temperature=0.5, entropy_weight=2.0
    )
    batch = seen()
    c_a, c_b = slow_assignments(part, batch.h_a), slow_assignments(part, batch.h_b)
    columns = slow_columns(c_a, c_b, 0.5) if contrastive else slow_attraction(c_a, c_b)
    entropy = 2.0 * (slow_entropy(c_a) + slow_entropy(c_b))
    slow = 0.7 * (batch.h_a * batch.h_b).sum() + columns + entropy
    fast = total(part.terms(batch))
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    wanted = (batch.h_a, batch.h_b, part.cluster_head.centroids)
    for x, y in zip(
        torch.autograd.grad(fast, wanted), torch.autograd.grad(slow, wanted), strict=True
    ):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("contrastive", [True, False])
def test_sure_and_equally_large_clusters_cost_what_orthogonal_columns_do(contrastive: bool) -> None:
    """Then every column is like its partner and unlike all others, and the entropy is log K."""
    part = stage_2(contrastive=contrastive, head_temperature=1e-3)
    part.cluster_head.start_from(torch.eye(K, WIDTH))
    h = torch.eye(K, WIDTH).repeat(N // K, 1)
    terms = part.terms(seen()._replace(h_a=h, h_b=h))
    expected = math.log(1 + (2 * K - 2) * math.exp(-1)) if contrastive else 0.0
    assert terms["columns"].item() == pytest.approx(expected, abs=1e-5)
    assert terms["entropy"].item() == pytest.approx(0.0, abs=1e-5)


def slow_contrast(z: Tensor, t: Tensor) -> Tensor:
    losses = []
    for i, row in enumerate(z):
        powers = torch.stack([(cosine(row, key) / TEMPERATURE).exp() for key in t])
        losses.append(-(powers[i] / powers.sum()).log())
    return sum(losses) / N


@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_the_regulariser_is_its_weight_times_the_contrastive_loss(weight: float) -> None:
    batch = seen()
    contrast = slow_contrast(batch.z_a, batch.t_b) + slow_contrast(batch.z_b, batch.t_a)
    slow = (batch.h_a * batch.h_b).sum() + weight * 0.5 * contrast
    fast = total(Regularised(First(), weight).terms(batch))
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    wanted = (batch.h_a, batch.h_b, batch.z_a, batch.z_b)
    for x, y in zip(
        torch.autograd.grad(fast, wanted), torch.autograd.grad(slow, wanted), strict=True
    ):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)
