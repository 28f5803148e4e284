"""Losses that know a batch by means over its images: what a synchronous stage can train.

Of such an objective the loss of a batch is
    L = E[l] + φ(s̄),   s̄ = E[s],
E the mean over the batch's images, l and s functions of one image's two views, φ any function. A
site k that has n_k of a batch's n images, and everybody's s̄, takes the gradient of
    L_k = E_k[l] + <∂φ/∂s(s̄), E_k[s]>,
s̄ held fixed. Then Σ n_k/n ∇L_k = ∇L, whatever the images of each site: the gradient is a sum over
the images, and a sum does not depend on how they are spread.

To be one, a subclass says its `statistics` s and its terms `by_statistics`. The module that holds
s̄ is `Means`, or one of its own: the parameters of `shared()[prepares]` have the statistics' names.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from common.objectives.base import LocalRound, Objective, Representations

POOLED = "means"


class Means(nn.Module):
    """s̄ by name: parameters without gradient, so that they are sent and averaged like others."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=False))


class Pooled(Objective):
    """An objective whose loss is a function of means over the batch's images."""

    def __init__(self) -> None:
        super().__init__()
        self.means: Means | None = None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the statistics, by name."""
        raise NotImplementedError

    def statistics(self, seen: Representations) -> dict[str, Tensor]:
        """E[s] of a batch, by name."""
        raise NotImplementedError

    def by_statistics(
        self, seen: Representations, statistics: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The loss's terms, with these statistics instead of the batch's own."""
        raise NotImplementedError

    def terms(self, seen: Representations) -> dict[str, Tensor]:
        return self.by_statistics(seen, self.statistics(seen))

    def synchronise(self) -> None:
        """Be the objective of a synchronous stage: the statistics, if there are any, get a module
        that is shared."""
        if not self.shapes():
            return
        self.means = Means(self.shapes())
        self.prepares = POOLED

    def shared(self) -> dict[str, nn.Module]:
        return {**super().shared(), **({POOLED: self.means} if self.means is not None else {})}

    def prepare(self, site: LocalRound) -> None:
        totals: dict[str, Tensor] = {}
        images = 0
        for batch in site.views():
            for name, mean in self.statistics(self.represent(batch)).items():
                totals[name] = totals.get(name, 0) + mean * len(batch.rows)
            images += len(batch.rows)
        for name, held in self.pooled().items():
            held.copy_(totals[name] / images)

    def pooled(self) -> dict[str, Tensor]:
        """s̄ as it was received, by name."""
        if not self.prepares:
            return {}
        module = self.shared()[self.prepares]
        return {name: held.detach() for name, held in module.named_parameters()}


def part_of(objective: Pooled, seen: Representations) -> tuple[dict[str, Tensor], Tensor]:
    """Of a batch that the sites have together, one site's images: the loss's terms, whose mean over
    the sites by images is L's, and L_k (above), whose gradients' mean is L's."""
    pooled = {name: held.requires_grad_() for name, held in objective.pooled().items()}
    terms = objective.by_statistics(seen, pooled)
    loss = torch.stack(list(terms.values())).sum()
    if not pooled:
        return terms, loss
    slopes = torch.autograd.grad(loss, list(pooled.values()), retain_graph=True)
    own = objective.statistics(seen)
    for name, slope in zip(pooled, slopes, strict=True):
        loss = loss + (slope * own[name]).sum()
    return terms, loss
