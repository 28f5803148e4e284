"""Spectral clustering by landmarks, from the sums that sites send."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from client.statistics.solving import view_affinity
from common.models.encoders import build_encoder
from common.solvers.base import Affinity
from common.solvers.landmark_spectral import (
    LandmarkSpectral,
    Parameters,
    Weights,
    solve_spectrum,
)
from common.utils.errors import UserError

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
    embedded = weights @ solve_spectrum(weights.T @ weights, 4, -0.5)
    degrees = weights.sum(dim=0)
    used = degrees > 0
    graph = weights[:, used] / degrees[used] @ weights[:, used].T
    assert torch.allclose(graph.sum(dim=1), torch.ones(60, dtype=torch.float64))
    values, vectors = torch.linalg.eigh(graph)
    wanted = vectors.flip(1)[:, :4] * 60**0.5
    signs = (embedded * wanted).sum(dim=0).sign()
    assert torch.allclose(embedded, wanted * signs, atol=1e-6)
    assert values.max() == pytest.approx(1.0)


class Weighing:
    """Stands for encoder and views: an image is its row of two views' weights."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a, self.b = a, b

    def eval(self) -> None: ...

    def encoder(self, both: Tensor) -> Tensor:
        return both

    def pair(self, rows: Tensor, chance: torch.Generator) -> tuple[Tensor, Tensor]:
        return self.a[rows], self.b[rows]

    def sums(self, rows: Tensor, min_count: int) -> Tensor:
        """What a site with these images sends."""
        every = torch.arange(len(self.a))
        weights = Affinity(self.a.shape[1], solve=lambda sums: None, points=lambda h: h)
        return torch.from_numpy(view_affinity(self, self, every, rows, weights, min_count, CHANCE))


def two_views() -> Weighing:
    landmarks = unit(12, 5)
    return Weighing(weights_of(unit(90, 5), landmarks), weights_of(unit(90, 5), landmarks))


def test_sites_sums_add_up_to_the_pooled_ones_however_images_are_spread():
    views = two_views()
    a, b = views.a.double(), views.b.double()
    pooled = sum((torch.outer(x, y) + torch.outer(y, x)) / 2 for x, y in zip(a, b, strict=True))
    by_landmark = views.a.argmax(dim=1).argsort()
    for sizes in ([30, 30, 30], [1, 88, 1]):
        parts = [views.sums(part, 1) for part in by_landmark.split(sizes)]
        assert torch.allclose(sum(parts), pooled, atol=1e-5)


def test_a_landmark_near_fewer_images_than_the_bound_is_left_out_of_a_sites_sum():
    views, some = two_views(), torch.arange(20)
    near = ((views.a[some] > 0) | (views.b[some] > 0)).sum(dim=0)
    kept = near >= 8
    assert 0 < kept.sum() < len(near)
    sent = views.sums(some, 8)
    assert not sent[~kept].any() and not sent[:, ~kept].any()
    assert torch.equal(sent[kept][:, kept], views.sums(some, 1)[kept][:, kept])


def test_an_image_lies_at_the_mean_of_its_landmarks_diffusion_coordinates():
    """λ^t φ with φ the right eigenvectors of the walk Δ⁻¹ S: after a step, λ^(t+1) φ."""
    views = two_views()
    sums = views.sums(torch.arange(90), 1)
    used = sums.sum(dim=1) > 0
    walk = (sums / sums.sum(dim=1).clamp_min(1e-12)[:, None])[used][:, used]
    now, later = (solve_spectrum(sums, 4, time)[used] for time in (1.0, 2.0))
    assert torch.allclose(walk @ now, later, atol=1e-6)
    assert (later.norm(dim=0)[1:] < now.norm(dim=0)[1:]).all()


def test_what_goes_back_and_forth_between_landmarks_is_no_dimension():
    """Two landmarks, each image's two views never near the same: eigenvalues 1 and -1."""
    swapped = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    assert solve_spectrum(swapped, 2, 1.0).abs().sum(dim=0).tolist() == pytest.approx([2.0, 0.0])


def test_it_follows_bent_clusters_that_k_means_cuts():
    """Two arcs on the sphere, one inside the other."""
    turn = torch.linspace(0, 4.5, 200)
    arcs = [torch.stack([r * turn.cos(), r * turn.sin(), torch.ones(200)], 1) for r in (0.5, 1.5)]
    points = F.normalize(torch.cat(arcs), dim=1)
    weights = weights_of(points, points[::10], nearest=3, temperature=0.02).double()
    second = (weights @ solve_spectrum(weights.T @ weights, 2, 1.0))[:, 1]
    assert len(second[:200].sign().unique()) == len(second[200:].sign().unique()) == 1
    assert second[0].sign() != second[200].sign()


def test_solved_in_three_steps_its_projector_gives_the_spectral_embedding():
    parameters = Parameters(landmarks=20, dimensions=6)
    solver = LandmarkSpectral(build_encoder("convnet", 1, 8, 0), parameters, 3).eval()
    h = torch.randn(50, solver.encoder.feature_dim, generator=CHANCE)
    asked = solver.statistics()
    assert list(asked) == ["moments", "landmarks", "affinity"]
    moments, landmarks, affinity = asked.values()
    x = moments.points(h).double()
    ones = F.pad(x, (0, 1), value=1.0)
    moments.solve({"gram": ones.T @ ones, "within": x.T @ x / 10})
    with torch.no_grad():
        z = landmarks.points(h)
        assert z.shape == (50, landmarks.width)
        landmarks.solve({"points": z[:15].double()})
        a = affinity.points(h)
        assert a.shape == (50, affinity.width) == (50, landmarks.in_all) == (50, 20)
        assert torch.allclose(a.sum(dim=1), torch.ones(50))
        assert not a[:, 15:].any()
        sums = (a.T @ a).double()
        affinity.solve({"affinity": sums})
        u = solver.projector(h)
    assert u.shape == (50, solver.width("projector")) == (50, 6)
    assert torch.allclose(u, (a.double() @ solve_spectrum(sums, 6, 1.0)).float(), atol=1e-4)


@pytest.mark.parametrize("landmarks,clusters,wanted", [(20, 3, 20), (80, 3, 50), (80, 60, 60)])
def test_there_are_as_many_dimensions_as_clusters_at_least(landmarks, clusters, wanted):
    encoder = build_encoder("convnet", 1, 8, 0)
    solver = LandmarkSpectral(encoder, Parameters(landmarks=landmarks), clusters)
    assert solver.width("projector") == wanted


def test_a_time_before_the_walk_begins_or_after_it_has_ended_is_refused_in_one_line():
    for time in (-0.5, 101.0, float("nan")):
        with pytest.raises(UserError, match=r"time = .* must lie between 0 and 100"):
            LandmarkSpectral(build_encoder("convnet", 1, 8, 0), Parameters(time=time), 3)


def test_sums_that_say_nothing_are_refused():
    with pytest.raises(UserError, match="no site has enough images near one landmark"):
        solve_spectrum(torch.zeros(4, 4).double(), 2, 1.0)
    with pytest.raises(ValueError, match=r"affinities \(4, 3\)"):
        solve_spectrum(torch.ones(4, 3).double(), 2, 1.0)


def test_a_site_sends_no_more_landmarks_than_it_has_images_for():
    solver = LandmarkSpectral(build_encoder("convnet", 1, 8, 0), Parameters(landmarks=20), 3)
    at_most = solver.statistics()["landmarks"].at_most
    assert [at_most(n) for n in (5, 57, 10_000)] == [1, 5, 20]


def test_fewer_landmarks_than_clusters_are_refused_in_one_line():
    with pytest.raises(UserError, match="2 landmarks are too few for 3 clusters"):
        LandmarkSpectral(build_encoder("convnet", 1, 8, 0), Parameters(landmarks=2), 3)
