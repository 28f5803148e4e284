"""Losses that know a batch by means over its images: what a synchronous stage can train.

Of such an objective the loss of a batch is
    L = E[l] + φ(s̄),   s̄ = E[s],
E the mean over the batch's images, l and s functions of one image's two views, φ any function. A
site k that has n_k of a batch's n images, and everybody's s̄, takes the gradient of
    L_k = E_k[l] + <∂φ/∂s(s̄), E_k[s]>,
s̄ held fixed. Then Σ n_k/n ∇L_k = ∇L, whatever the images of each site: the gradient is a sum over
the images, and a sum does not depend on how they are spread.

A BatchNorm is a mean, too: layer j of J normalises by m_j = E[o_j], o_j an image's inputs to the
layer and their squares, which are functions of m_1 ... m_{j-1}. What m_j does to the loss is no
function of s̄ alone, but again a mean over the images:
    λ_j = ∂L/∂m_j = E[∂l/∂m_j] + <∂φ/∂s, E[∂s/∂m_j]> + Σ_{i>j} <λ_i, E[∂o_i/∂m_j]>,
and with all of them L_k has Σ_j <λ_j, E_k[o_j]> more. So a step begins with 2J + 1 exchanges of
means, each from what those before it gave: m_1 ... m_J, s̄, λ_J ... λ_1.

To be one, a subclass says its `statistics` s and its terms `by_statistics`. The module that holds
the means is `Means`, or one of its own: the parameters of `shared()[prepares]` have the statistics'
names.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from common.models.pooled_batch_norm import PooledBatchNorm, pool_batch_norms
from common.objectives.base import Batch, LocalRound, Objective, Representations

POOLED = "means"
NORM, SLOPE = "norm_{}", "slope_{}"  # m_j and λ_j among the means, j from 1
PLACES = "places"  # numbers that an image's two views give to each map of layer 1 ... J


class Means(nn.Module):
    """Means by name: parameters without gradient, so that they are sent and averaged like
    others."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        hold(self, shapes)


def hold(module: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give `module` a parameter of zeros, without gradient, for each name."""
    for name, shape in shapes.items():
        module.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=False))


class Pooled(Objective):
    """An objective whose loss is a function of means over the batch's images."""

    def __init__(self) -> None:
        super().__init__()
        self.means: Means | None = None
        self.norms: list[PooledBatchNorm] = []

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

    @property
    def exchanges(self) -> int:
        """Of means, with which a step begins."""
        return 2 * len(self.norms) + bool(self.shapes())

    def synchronise(self) -> None:
        """Be the objective of a synchronous stage: the means get a module that is shared, and each
        BatchNorm takes everybody's moments."""
        self.norms = pool_batch_norms(self)
        if not self.prepares and (self.shapes() or self.norms):
            self.means = Means(self.shapes())
            self.prepares = POOLED
        if self.norms:
            held = self.shared()[self.prepares]
            hold(held, {PLACES: (len(self.norms),)})
            for number, norm in enumerate(self.norms, start=1):
                two = (2, norm.num_features)
                hold(held, {NORM.format(number): two, SLOPE.format(number): two})

    def shared(self) -> dict[str, nn.Module]:
        return {**super().shared(), **({POOLED: self.means} if self.means is not None else {})}

    def prepare(self, site: LocalRound) -> None:
        """Fill in the statistics, or what the exchange `site.step` of a step's is about."""
        held = self.pooled()
        for name, mean in self.means_at(site).items():
            held[name].copy_(mean)

    def means_at(self, site: LocalRound) -> dict[str, Tensor]:
        """The same, of the site's images, by name."""
        totals: dict[str, Tensor] = {}
        images = 0
        for batch in site.views():
            for name, mean in self._measured(batch, site.step).items():
                totals[name] = totals.get(name, 0) + mean * len(batch.rows)
            images += len(batch.rows)
        return {name: total / images for name, total in totals.items()}

    def _measured(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The means of a batch that are next, by everybody's that are known."""
        norms, held, last = len(self.norms), self.pooled(), self.exchanges
        if 0 < step <= norms:
            self._normalise_by(held, step - 1)
            self.represent(batch)
            places = [2.0 * norm.places for norm in self.norms]
            own = self.norms[step - 1].own
            return {NORM.format(step): own, PLACES: torch.tensor(places, device=own.device)}
        self._normalise_by(held, norms)
        if step <= last - norms:
            return self.statistics(self.represent(batch))
        at = last + 1 - step
        moments = self.norms[at - 1].moments
        assert moments is not None
        with torch.enable_grad():
            moments.requires_grad_()
            _, loss = part_of(self, self.represent(batch), above=at)
            (slope,) = torch.autograd.grad(loss, [moments])
        return {SLOPE.format(at): slope}

    def _normalise_by(self, held: Mapping[str, Tensor], known: int) -> None:
        """Let the first `known` BatchNorms take everybody's moments, the others the batch's own."""
        for number, norm in enumerate(self.norms, start=1):
            name = NORM.format(number)
            norm.moments = held[name].clone() if number <= known else None

    def pooled(self) -> dict[str, Tensor]:
        """The means as they were received, by name; none where there are none."""
        if not self.prepares:
            return {}
        module = self.shared()[self.prepares]
        return {name: held.detach() for name, held in module.named_parameters()}

    def normalise_by_all(self) -> None:
        """Let every BatchNorm take everybody's moments."""
        self._normalise_by(self.pooled(), len(self.norms))

    def track(self, images: int) -> None:
        """Move the BatchNorms' running statistics on by the moments of a step on so many images."""
        held = self.pooled()
        for number, norm in enumerate(self.norms, start=1):
            count = round(images * float(held[PLACES][number - 1]))
            norm.track(held[NORM.format(number)], count)


def part_of(
    objective: Pooled, seen: Representations, above: int = 0
) -> tuple[dict[str, Tensor], Tensor]:
    """Of a batch that the sites have together, one site's images: the loss's terms, whose mean over
    the sites by images is L's, and L_k (above), whose gradients' mean is L's; with those λ_j alone
    that are of BatchNorms above the one of that number."""
    held = objective.pooled()
    known = {name: held[name].clone().requires_grad_() for name in objective.shapes()}
    terms = objective.by_statistics(seen, known)
    loss = torch.stack(list(terms.values())).sum()
    slopes = torch.autograd.grad(loss, list(known.values()), retain_graph=True) if known else ()
    own = objective.statistics(seen) if known else {}
    for name, slope in zip(known, slopes, strict=True):
        loss = loss + (slope * own[name]).sum()
    for number, norm in enumerate(objective.norms[above:], start=above + 1):
        loss = loss + (held[SLOPE.format(number)] * norm.own).sum()
    return terms, loss
