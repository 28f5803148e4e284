"""A closing is chosen without labels: by the agreement of views, and by how sites differ."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from client.statistics.solving import agreements
from common.models.encoders import pixels
from common.solvers.base import Landmarks, Trial, unit
from common.solvers.chosen_spectral import RIDGES, ChosenSpectral, Parameters
from common.solvers.projection import solve_projection

D, K, N = 48, 3, 300  # of one channel: 48 is no square, so three channels of 4 × 4
SETTINGS = Parameters(width=8, dimensions=6, landmarks=20)


def features(noise: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Two views of images of three kinds, and the kinds; views differ in half of the directions."""
    chance = torch.Generator().manual_seed(seed)
    kinds = torch.arange(N) % K
    centre = torch.randn(K, D, generator=chance)[kinds]
    shake = torch.cat([torch.full((D // 2,), noise), torch.full((D // 2,), 0.05)])
    a, b = (centre + shake * torch.randn(N, D, generator=chance) for _ in range(2))
    return unit(a), unit(b), kinds


def moments(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    both = F.pad(torch.cat([a, b]), (0, 1), value=1.0).double()
    difference = (a - b).double()
    return {"gram": both.T @ both / 2, "within": difference.T @ difference}


def begun(own: float = 0.9, noise: float = 3.0) -> tuple[ChosenSpectral, Tensor, Tensor]:
    """After moments and landmarks; two other views."""
    model = ChosenSpectral(pixels(3, 4), SETTINGS, K)
    a, b, kinds = features(noise)
    model.solve_projector(moments(a, b))
    marks = torch.stack([F.normalize(a[kinds == kind].mean(0), dim=0) for kind in range(K)])
    sums = {"points": marks.double(), "own": torch.tensor([own]), "chance": torch.tensor([0.5])}
    model.set_landmarks(sums)
    other_a, other_b, _ = features(noise, seed=0)
    return model, other_a, other_b


def trial(model: ChosenSpectral) -> Trial:
    found = model.statistics()["trial"]
    assert isinstance(found, Trial)
    return found


def test_a_score_finds_the_nearest_centre_in_the_projection() -> None:
    """Slowly: project, scale, compare with every centre."""
    model, a, _ = begun()
    scores, points = trial(model).scores().float(), trial(model).points
    found = (points(a) @ scores.T).unflatten(1, (len(RIDGES) + 1, K)).argmax(dim=2)
    weights, mean = solve_projection(*moments(*features(3.0)[:2]).values(), 8, RIDGES[2])
    z = F.normalize((a.double() - mean) @ weights, dim=1)
    marks = F.normalize((model._landmarks - mean) @ weights, dim=1)  # three landmarks: the centres
    wanted = (z @ marks.T).argmax(dim=1)
    table = np.zeros((K, K))
    np.add.at(table, (wanted.numpy(), found[:, 2].numpy()), 1)
    assert (table > 0).sum() == K  # the same clusters, under other numbers


def test_counts_are_those_of_a_loop() -> None:
    model, a, b = begun()
    scores, points = trial(model).scores().float(), trial(model).points
    wanted = np.zeros((len(RIDGES) + 1, K, K), np.int64)
    for x, y in zip(points(a), points(b), strict=True):
        for way, rows in enumerate(scores.split(K)):
            wanted[way, int((rows @ x).argmax()), int((rows @ y).argmax())] += 1
    parts = zip(points(a).split(77), points(b).split(77), strict=True)
    assert np.array_equal(agreements(parts, scores, K), wanted.reshape(-1, K))


def views(model: ChosenSpectral, best: int) -> dict[str, Tensor]:
    """Tables in which one way alone has views that agree."""
    tables = torch.ones(len(RIDGES) + 1, K, K)
    tables[best] = torch.eye(K) * 100
    return {"views": tables.flatten(0, 1).double()}


@pytest.mark.parametrize("best", [0, 3, len(RIDGES)])
def test_the_way_with_the_most_agreement_is_taken(best: int) -> None:
    model, a, _ = begun(own=0.4)
    model.choose(views(model, best))
    name = f"ridge {RIDGES[best]:g}" if best < len(RIDGES) else "no projection"
    assert f"chosen without labels: {name}, no landmarks" in model.said()
    z = model.projector(a)
    if best < len(RIDGES):
        weights, mean = solve_projection(*moments(*features(3.0)[:2]).values(), 8, RIDGES[best])
        assert torch.allclose(z.double(), ((a.double() - mean) @ weights)[:, :6], atol=1e-3)
    else:  # h along the directions in which it is longest
        both = torch.cat(features(3.0)[:2])
        energy = torch.linalg.eigvalsh(moments(*features(3.0)[:2])["gram"][:-1, :-1])[-6:].sum()
        assert model.projector(both).square().sum().item() / 2 == pytest.approx(
            energy.item(), rel=1e-3
        )


def test_where_sites_are_alike_no_affinities_are_asked_for() -> None:
    alike, _, _ = begun(own=0.4)
    apart, a, _ = begun(own=0.9)
    assert alike.skips("affinity") and not apart.skips("affinity")
    apart.choose(views(apart, 3))
    affinity = torch.zeros(20, 20, dtype=torch.float64)
    affinity[:3, :3] = torch.eye(3) + 0.1
    apart.solve_coordinates({"affinity": affinity})
    wanted = apart.spectrum(apart.weights(apart.projection(a)))
    assert torch.allclose(apart.projector(a), wanted) and wanted.abs().sum() > 0


def test_landmarks_are_those_of_the_encoders_outputs() -> None:
    model, a, _ = begun()
    statistic = model.statistics()["landmarks"]
    assert isinstance(statistic, Landmarks) and statistic.width == D
    assert torch.equal(statistic.points(a), unit(a))
    assert list(model.statistics()) == ["moments", "landmarks", "trial", "affinity"]


def test_fewer_landmarks_than_clusters_leave_clusters_empty() -> None:
    model = ChosenSpectral(pixels(3, 4), replace(SETTINGS, landmarks=20), 7)
    a, b, _ = features(1.0)
    model.solve_projector(moments(a, b))
    one = {"points": a[:2].double(), "own": torch.zeros(1), "chance": torch.ones(1)}
    model.set_landmarks(one)
    scores = model.scores().float()
    assert scores.shape == ((len(RIDGES) + 1) * 7, D + 1)
    found = (trial(model).points(a) @ scores.T).unflatten(1, (-1, 7)).argmax(dim=2)
    assert int(found.max()) <= 1
