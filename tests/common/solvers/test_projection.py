"""The shared-moment projection: the generalised eigenproblem, from sums, whatever the spread."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from scipy.linalg import eigh
from torch import Tensor
from torch.nn import functional as F

from common.config import recipes
from common.config.checks import check_plan
from common.models.encoders import build_encoder
from common.record.reader import read_run
from common.solvers import landmark_spectral
from common.solvers.projection import Parameters, Projection, solve_projection
from common.utils.errors import UserError
from deploy.engines.simulate import simulate

D = 12


def raw_views(n: int = 400, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features of two views: the first three directions tell images apart, the last
    three are mostly what two views of an image differ in."""
    chance = torch.Generator().manual_seed(seed)
    scale = torch.ones(D, dtype=torch.float64)
    scale[:3] = 3.0
    noise = torch.full((D,), 0.3, dtype=torch.float64)
    noise[-3:] = 3.0
    image = torch.randn(n, D, generator=chance, dtype=torch.float64) * scale
    a, b = (
        image + noise * torch.randn(n, D, generator=chance, dtype=torch.float64) for _ in range(2)
    )
    return a + 1, b + 1


def views(n: int = 400) -> tuple[Tensor, Tensor]:
    """The same at unit length."""
    a, b = raw_views(n)
    return F.normalize(a, dim=1), F.normalize(b, dim=1)


def moments(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """As `client.statistics.solving.view_moments` sums them, written as loops over images."""
    gram = torch.zeros(D + 1, D + 1, dtype=torch.float64)
    within = torch.zeros(D, D, dtype=torch.float64)
    for x, y in zip(a, b, strict=True):
        for h in (x, y):
            one = torch.cat([h, torch.ones(1, dtype=torch.float64)])
            gram += torch.outer(one, one) / 2
        within += torch.outer(x - y, x - y)
    return gram, within


def test_it_solves_the_generalised_eigenproblem_as_scipy_does() -> None:
    a, b = views()
    weights, mean = solve_projection(*moments(a, b), width=5, ridge=0.1)
    h = torch.cat([a, b])
    total = np.cov(h.numpy().T, bias=True)
    within = ((a - b).T @ (a - b) / (2 * len(a))).numpy()
    noise = within + 0.1 * np.trace(within) / D * np.eye(D)
    values, vectors = eigh(total, noise)
    torch.testing.assert_close(mean, h.mean(0))
    expected = torch.from_numpy(vectors[:, ::-1][:, :5].copy())
    signs = (weights * expected).sum(0).sign()
    torch.testing.assert_close(weights, expected * signs, atol=1e-8, rtol=1e-8)
    projected = (h - mean) @ weights
    covariance = projected.T @ projected / len(h)
    torch.testing.assert_close(covariance, torch.diag(torch.from_numpy(values[::-1][:5].copy())))


def test_directions_that_tell_images_apart_come_first_and_those_of_views_last() -> None:
    weights, _ = solve_projection(*moments(*raw_views()), width=D, ridge=1e-3)
    share = weights.square() / weights.square().sum(0)
    assert share[:3, :3].sum(0).min() > 0.9
    assert share[-3:, -3:].sum(0).min() > 0.9


@pytest.mark.parametrize("cuts", [[], [200], [1, 399], [13, 57, 300]])
def test_it_does_not_depend_on_how_images_are_spread(cuts: list[int]) -> None:
    a, b = views()
    order = a[:, 0].argsort()  # as skewed as can be
    parts = [moments(a[i], b[i]) for i in order.tensor_split(cuts)]
    summed = [torch.stack(kind).sum(0) for kind in zip(*parts, strict=True)]
    pooled = solve_projection(*moments(a, b), width=6, ridge=0.1)
    spread = solve_projection(*summed, width=6, ridge=0.1)
    torch.testing.assert_close(spread, pooled, atol=1e-9, rtol=1e-9)


def test_a_huge_ridge_leaves_principal_components() -> None:
    a, b = views()
    weights, _ = solve_projection(*moments(a, b), width=3, ridge=1e9)
    _, vectors = torch.linalg.eigh(torch.cat([a, b]).T.cov(correction=0))
    cosines = (F.normalize(weights, dim=0) * vectors.flip(1)[:, :3]).sum(0).abs()
    torch.testing.assert_close(cosines, torch.ones(3, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_where_no_two_views_differ_there_are_principal_components(ridge: float) -> None:
    a, _ = views(40)
    weights, _ = solve_projection(*moments(a, a), width=3, ridge=ridge)
    _, vectors = torch.linalg.eigh(a.T.cov(correction=0))
    cosines = (F.normalize(weights, dim=0) * vectors.flip(1)[:, :3]).sum(0).abs()
    torch.testing.assert_close(cosines, torch.ones(3, dtype=torch.float64), atol=1e-6, rtol=0)
    constant = torch.ones_like(a)
    assert solve_projection(*moments(constant, constant), 3, ridge)[0].isfinite().all()


def test_moments_that_say_nothing_are_errors() -> None:
    a, b = views(20)
    gram, within = moments(a, b)
    with pytest.raises(ValueError, match="no images"):
        solve_projection(torch.zeros_like(gram), within, 3, 0.1)
    with pytest.raises(ValueError, match="no sum of squares"):
        solve_projection(gram, -within, 3, 0.1)
    with pytest.raises(ValueError, match="do not fit"):
        solve_projection(gram[:-1, :-1], within, 3, 0.1)


def test_the_solved_projector_maps_features_to_centred_directions() -> None:
    solver = Projection(build_encoder("pixels", 1, 8, seed=0), Parameters(width=4), 10)
    chance = torch.Generator().manual_seed(2)
    a, b = F.normalize(torch.randn(2, 300, 64, generator=chance, dtype=torch.float64), dim=2)
    h = torch.cat([a, b])
    ones = F.pad(h, (0, 1), value=1.0)
    sums = {"gram": ones.T @ ones / 2, "within": (a - b).T @ (a - b)}
    solver.statistics()["moments"].solve(sums)
    z = solver.projector(3.0 * h.float())  # of any length
    assert z.shape == (600, 4)
    torch.testing.assert_close(z.mean(0), torch.zeros(4), atol=1e-3, rtol=0)


def test_a_projection_cannot_be_trained() -> None:
    plan = recipes.load("fedsimclr-projection").plan({"rounds": "1,1"})
    with pytest.raises(UserError, match="projection is solved, not trained"):
        check_plan(plan)


@pytest.mark.parametrize(
    ("recipe", "width", "sent"),
    [
        ("fedsimclr-projection", Parameters().width, ["moments of differences between views"]),
        (
            "covey",
            landmark_spectral.Parameters().dimensions,
            ["moments of differences between views", "moments of weights over landmarks"],
        ),
    ],
)
def test_the_recipe_ends_in_the_space_that_was_solved(
    tmp_path: Path, recipe: str, width: int, sent: list[str]
) -> None:
    options = {"images": 240, "sites": 3, "partition": "p-skew(1.0)", "batch-size": 32}
    options |= {"encoder": "small-convnet"}
    plan = recipes.load(recipe).plan(options | {"rounds": "1", "local-epochs": 1})
    simulate(plan, tmp_path / "run")
    stage = read_run(tmp_path / "run").stages[-1]
    assert stage.stage_name == "clusters" and stage.round == 1
    assert sum(stage.cluster_sizes) == 240
    centroids = load_file(tmp_path / "run" / "centroids.safetensors")["points"]
    assert centroids.shape == (10, width)
    left = (tmp_path / "run" / "sites" / "site-0" / "left.jsonl").read_text()
    assert all(part in left for part in [*sent, "sums by cluster"])
