"""Objectives over 8 × 8 grey images, with batches and rounds for them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from common.config.options import Stage
from common.models.encoders import build_encoder
from common.objectives import build_objective
from common.objectives.base import Batch, LocalRound, Objective

SIDE = 8


def draws(seed: int = 0) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def objective(
    name: str, encoder: str = "small-convnet", clusters: int = 4, seed: int = 0, **options: object
) -> Objective:
    """An objective with the options of a stage; its encoder and its heads are the seed's."""
    stage = Stage(name="stage", objective=name, **options)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_objective(stage, build_encoder(encoder, 1, SIDE, seed=0), clusters)


def views(
    rows: int | Sequence[int] = 8, seed: int = 1, generator: torch.Generator | None = None
) -> Batch:
    """Two random views of so many images, or of those with these rows. What the objective draws
    comes from the generator: where there is none, from the one that made the views."""
    rows = range(rows) if isinstance(rows, int) else rows
    own = draws(seed)
    a, b = torch.rand(2, len(rows), 1, SIDE, SIDE, generator=own)
    return Batch(a, b, torch.tensor(list(rows)), generator or own)


def local_round(points: Tensor, centroids: Tensor | None = None, seed: int = 0) -> LocalRound:
    """A round at a site whose images are embedded as these points; nothing asks for its views."""
    return LocalRound(
        embed=lambda: points, views=lambda: iter(()), centroids=centroids, generator=draws(seed)
    )


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The loss."""
    return torch.stack(list(terms.values())).sum()
