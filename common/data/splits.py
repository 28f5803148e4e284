"""The rules by which a partition spreads images over sites, as pure functions.

A rule takes labels (N,), its parameter, the sites' shares of the images (S,) or None where sizes
are the rule's own choice, the number of sites and a generator, and returns one index array per
site: disjoint, covering 0..N-1, none empty. `SPLITS` names them.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from common.data.images import Indices, Labels
from common.utils.errors import UserError

SMALLEST = 10  # images that every site gets at least, where there are enough
SMALLEST_SHAPE = 1e-6  # of a Dirichlet draw; below it floating point underflows

Shares = NDArray[np.float64]
Split = Callable[[Labels, float, Shares | None, int, np.random.Generator], list[Indices]]


def iid(
    labels: Labels, _: float, shares: Shares | None, sites: int, rng: np.random.Generator
) -> list[Indices]:
    """A shuffled deal: equal sizes, or by `shares`."""
    shares = np.full(sites, 1 / sites) if shares is None else shares
    sizes = apportion(shares, len(labels), _smallest(len(labels), sites))
    return _cut(rng.permutation(len(labels)), sizes)


def dirichlet(
    labels: Labels, alpha: float, shares: Shares | None, sites: int, rng: np.random.Generator
) -> list[Indices]:
    """Each class is divided by its own q ~ Dirichlet(α·S·shares): with equal shares, every shape is
    α (Yurochkin et al., ICML 2019). Sites that end below the smallest size are filled up with
    random images of the others."""
    shares = np.full(sites, 1 / sites) if shares is None else shares
    shapes = np.maximum(alpha * sites * shares, SMALLEST_SHAPE)
    parts: list[list[Indices]] = [[] for _ in range(sites)]
    for members in _by_group(labels, rng):
        bounds = np.rint(np.cumsum(rng.dirichlet(shapes)) * len(members)).astype(np.int64)
        for part, piece in zip(parts, np.split(members, bounds[:-1]), strict=True):
            part.append(piece)
    return _fill_up([np.concatenate(part) for part in parts], rng)


def p_skew(
    labels: Labels, p: float, shares: Shares | None, sites: int, rng: np.random.Generator
) -> list[Indices]:
    """Site i gets p·n_i of its own class and (1-p)·n_i of the shuffled rest, any class among them
    (CCFC: Yan et al., 2024, with as many sites as classes).

    For any number of sites: with G = min(S, C) groups, class c belongs to group c mod G and site i
    draws its own part from group i mod G; so several sites share a class, or a site has several.
    Without `shares`, n_i is group size / its number of sites, so that p = 1 leaves every site with
    its own classes alone, however unequal the classes are. With `shares` they decide n_i, and the
    own part is p·n_i or what its group has.
    """
    groups = min(sites, int(labels.max()) + 1)
    pools = _by_group(labels % groups, rng)
    owners = [np.arange(group, sites, groups) for group in range(groups)]
    sizes = np.empty(sites, np.int64)
    for pool, own in zip(pools, owners, strict=True):
        sizes[own] = apportion(np.ones(len(own)), len(pool), 0)
    sizes = apportion(sizes if shares is None else shares, len(labels), 1)
    parts: list[Indices] = [np.empty(0, np.int64)] * sites
    rest: list[Indices] = []
    for pool, own in zip(pools, owners, strict=True):
        wanted = np.rint(p * sizes[own]).astype(np.int64)
        if wanted.sum() > len(pool):
            wanted = _largest_remainder(wanted, len(pool))
        *pieces, left = np.split(pool, np.cumsum(wanted))
        rest.append(left)
        for site, piece in zip(own, pieces, strict=True):
            parts[site] = piece
    shuffled = rng.permutation(np.concatenate(rest))
    pieces = _cut(shuffled, sizes - np.array([len(part) for part in parts]))
    return [np.concatenate(pair) for pair in zip(parts, pieces, strict=True)]


def shards(
    labels: Labels, each: float, shares: Shares | None, sites: int, rng: np.random.Generator
) -> list[Indices]:
    """Images sorted by class are cut into S·`each` equal shards, and every site is dealt `each` of
    them at random (McMahan et al., AISTATS 2017)."""
    count = sites * int(each)
    if shares is not None:
        raise UserError("size-skew does not go with shards: shards are equal")
    if count > len(labels):
        raise UserError(
            f"shards({int(each)}) over {sites} sites needs {count} images: there are {len(labels)}"
        )
    pieces = np.array_split(np.concatenate(_by_group(labels, rng)), count)
    deal = rng.permutation(count).reshape(sites, int(each))
    return [np.concatenate([pieces[i] for i in hand]) for hand in deal]


SPLITS: dict[str, Split] = {
    "iid": iid,
    "dirichlet": dirichlet,
    "p-skew": p_skew,
    "shards": shards,
}


def apportion(shares: Shares | Indices, total: int, smallest: int) -> Indices:
    """Whole sizes (S,) in proportion to `shares` (S,), none below `smallest`, that sum to `total`
    (largest remainders; what fills up the small ones is taken from the others in proportion)."""
    sizes = np.maximum(_largest_remainder(shares, total), smallest)
    surplus: Indices = _largest_remainder(sizes - smallest, int(sizes.sum()) - total)
    return sizes - surplus


def _largest_remainder(weights: Shares | Indices, total: int) -> Indices:
    if total == 0:
        return np.zeros(len(weights), np.int64)
    exact = weights / weights.sum() * total
    sizes: Indices = np.floor(exact).astype(np.int64)
    order = np.argsort(sizes - exact, kind="stable")
    sizes[order[: total - int(sizes.sum())]] += 1
    return sizes


def _smallest(images: int, sites: int) -> int:
    return min(SMALLEST, images // sites)


def _by_group(groups: Labels, rng: np.random.Generator) -> list[Indices]:
    """The indices of each group 0..G-1, shuffled."""
    order = rng.permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]
    return np.split(order, np.cumsum(np.bincount(groups))[:-1])


def _cut(order: Indices, sizes: Indices) -> list[Indices]:
    return np.split(order, np.cumsum(sizes)[:-1])


def _fill_up(parts: Sequence[Indices], rng: np.random.Generator) -> list[Indices]:
    """The parts with none below the smallest size: random images of those above move."""
    total = sum(len(part) for part in parts)
    before = np.array([len(part) for part in parts])
    sizes = apportion(before, total, _smallest(total, len(parts)))
    shuffled = [rng.permutation(part) for part in parts]
    spare = [part[size:] for part, size in zip(shuffled, sizes, strict=True)]
    moving = _cut(rng.permutation(np.concatenate(spare)), np.maximum(sizes - before, 0))
    return [
        np.concatenate([part[:size], extra])
        for part, size, extra in zip(shuffled, sizes, moving, strict=True)
    ]
