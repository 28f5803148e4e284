"""Spectral clustering by landmarks, from the sums that sites send."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from client.measure import affinity
from common.encoders import build_encoder
from common.errors import UserError
from common.objectives.landmarks import Landmarks, Parameters, Weights, solve_spectrum

CHANCE = torch.Generator().manual_seed(0)


def weights_of(points: Tensor, landmarks: Tensor, nearest: int = 3, temperature: float = 0.1):
    layer = Weights(points.shape[1], len(landmarks) + 2, nearest)
    layer.set(landmarks, temperature)
    with torch.no_grad():
        return layer(points)


def unit(count: int, width: int) -> Tensor:
    return F.normalize(torch.randn(count, width, generator=CHANCE), dim=1)


def test_the_weights_are_a_softmax_over_the_nearest_landmarks_and_over_none_that_is_not_there():
    points, landmarks = unit(20, 4), unit(6, 4)
    found = weights_of(points, landmarks)
    for z, row in zip(points, found, strict=True):
        cosines = landmarks @ z
        near = cosines.argsort(descending=True)[:3]
        wanted = torch.zeros(8)
        wanted[near] = (cosines[near] / 0.1).softmax(dim=0)
        assert torch.allclose(row, wanted, atol=1e-6)


def test_the_spectrum_is_that_of_the_graph_between_all_images():
    """The eigenvectors of the N × N matrix A Δ⁻¹ Aᵀ, found without it."""
    weights = weights_of(unit(60, 5), unit(12, 5)).double()
    embedded = weights @ solve_spectrum(weights.T @ weights, 4)
    degrees = weights.sum(dim=0)
    used = degrees > 0
    graph = weights[:, used] / degrees[used] @ weights[:, used].T
    assert torch.allclose(graph.sum(dim=1), torch.ones(60, dtype=torch.float64))
    values, vectors = torch.linalg.eigh(graph)
    wanted = vectors.flip(1)[:, :4] * 60**0.5
    signs = (embedded * wanted).sum(dim=0).sign()
    assert torch.allclose(embedded, wanted * signs, atol=1e-6)
    assert values.max() == pytest.approx(1.0)


def test_sites_sums_add_up_to_the_pooled_ones_however_images_are_spread():
    weights = weights_of(unit(90, 5), unit(12, 5))
    pooled = affinity(weights, 1)
    for sizes in ([30, 30, 30], [1, 88, 1]):
        parts = weights[weights.argmax(dim=1).argsort()].split(sizes)
        assert pooled == pytest.approx(sum(affinity(part, 1) for part in parts), abs=1e-4)


def test_a_landmark_near_fewer_images_than_the_bound_is_left_out_of_a_sites_sum():
    weights = weights_of(unit(30, 5), unit(12, 5))
    near = (weights > 0).sum(dim=0).numpy()
    assert 0 < (near >= 8).sum() < len(near)
    sent = affinity(weights, 8)
    assert not sent[near < 8].any() and not sent[:, near < 8].any()
    kept = near >= 8
    assert sent[kept][:, kept] == pytest.approx(affinity(weights, 1)[kept][:, kept])


def test_it_follows_bent_clusters_that_k_means_cuts():
    """Two arcs on the sphere, one inside the other."""
    turn = torch.linspace(0, 4.5, 200)
    arcs = [torch.stack([r * turn.cos(), r * turn.sin(), torch.ones(200)], 1) for r in (0.5, 1.5)]
    points = F.normalize(torch.cat(arcs), dim=1)
    weights = weights_of(points, points[::10], nearest=3, temperature=0.02).double()
    second = (weights @ solve_spectrum(weights.T @ weights, 2))[:, 1]
    assert len(second[:200].sign().unique()) == len(second[200:].sign().unique()) == 1
    assert second[0].sign() != second[200].sign()


def test_solved_in_three_steps_its_projector_gives_the_spectral_embedding():
    objective = Landmarks(build_encoder("convnet", 1, 8, 0), Parameters(landmarks=20), 3).eval()
    assert objective.solves == ("moments", "landmarks", "affinity")
    h = torch.randn(50, objective.encoder.feature_dim, generator=CHANCE)
    x = objective.solving_points("moments", h).double()
    ones = F.pad(x, (0, 1), value=1.0)
    objective.solve("moments", {"gram": ones.T @ ones, "within": x.T @ x / 10})
    with torch.no_grad():
        z = objective.solving_points("landmarks", h)
        assert z.shape == (50, objective.solving_width("landmarks"))
        objective.solve("landmarks", {"points": z[:15].double()})
        a = objective.solving_points("affinity", h)
        assert a.shape == (50, 20) and torch.allclose(a.sum(dim=1), torch.ones(50))
        assert not a[:, 15:].any()
        objective.solve("affinity", {"affinity": (a.T @ a).double()})
        u = objective.projector(h)
    assert u.shape == (50, objective.width("projector")) == (50, 3)
    assert torch.allclose(
        u, (a.double() @ solve_spectrum((a.T @ a).double(), 3)).float(), atol=1e-4
    )


def test_sums_that_say_nothing_are_refused():
    with pytest.raises(UserError, match="no site has enough images near one landmark"):
        solve_spectrum(torch.zeros(4, 4).double(), 2)
    with pytest.raises(ValueError, match=r"affinities \(4, 3\)"):
        solve_spectrum(torch.ones(4, 3).double(), 2)


def test_a_site_sends_no_more_landmarks_than_it_has_images_for():
    objective = Landmarks(build_encoder("convnet", 1, 8, 0), Parameters(landmarks=20), 3)
    assert [objective.landmarks_of(n) for n in (5, 57, 10_000)] == [1, 5, 20]


def test_fewer_landmarks_than_clusters_are_refused_in_one_line():
    with pytest.raises(UserError, match="2 landmarks are too few for 3 clusters"):
        Landmarks(build_encoder("convnet", 1, 8, 0), Parameters(landmarks=2), 3)
