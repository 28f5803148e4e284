"""What Byzantine sites send, in `byzantine.py`: a reply of an honest site, made false.

`hello` and `score` are left honest, so that a run's figures are the truth about its model. All else
is attacked, moments and Lloyd's sums too. A reply is attacked in the site's process; the server
under test knows nothing of it.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from flwr.clientapp import ClientApp

from client.app import build_app
from client.site import Site
from common.clustering.centroids import Centroids, unit
from common.protocol.messages import Floats, Groups, Instruction, Reply, decode, encode
from common.utils.seeds import derive_seed

FLIP = -4.0  # with 3 of 10 sites, the mean of 7·Δ and 3·(-4)·Δ is -Δ/2: the model goes backwards
SCALE = 100.0
SHIFT = 3.0  # in lengths of an embedding, in one direction that all Byzantine sites agree on
HONEST = ("hello", "score")

Attack = Callable[[Instruction, Reply, np.random.Generator], Reply]


def times(factor: float, sums: float) -> Attack:
    """The site's change of the model times `factor`, its moments and its sums times `sums`."""

    def attack(asked: Instruction, reply: Reply, chance: np.random.Generator) -> Reply:
        groups = {
            name: (asked.groups[name] + factor * (own - asked.groups[name])).astype(np.float32)
            for name, own in reply.groups.items()
        }
        moments = {name: sums * moment for name, moment in reply.moments.items()}
        points = None if reply.centroids is None else np.sign(sums) * reply.centroids.points
        return changed(reply, groups, moments, points)

    return attack


def noise(asked: Instruction, reply: Reply, chance: np.random.Generator) -> Reply:
    """Standard normal numbers instead of the model; as large as they may be instead of sums."""
    groups = {name: normal(own, chance) for name, own in reply.groups.items()}
    moments = {
        name: (chance.uniform(-1, 1, moment.shape) * reply.examples)
        for name, moment in reply.moments.items()
    }
    points = None if reply.centroids is None else normal(reply.centroids.points, chance)
    return changed(reply, groups, moments, points)


def not_a_number(asked: Instruction, reply: Reply, chance: np.random.Generator) -> Reply:
    """NaN everywhere."""
    return times(float("nan"), float("nan"))(asked, reply, chance)


def shifted(asked: Instruction, reply: Reply, chance: np.random.Generator) -> Reply:
    """An honest model; centroids, and sums of Lloyd's steps, moved in one common direction."""
    moments = dict(reply.moments)
    points = None if reply.centroids is None else shift(reply.centroids.points)
    if "sums" in moments:
        counts = reply.tables["lloyd"].sum(axis=1, keepdims=True)
        means = moments["sums"] / np.maximum(counts, 1)
        moments["sums"] = shift(means).astype(np.float64) * counts
    return changed(reply, reply.groups, moments, points)


def shift(points: np.ndarray) -> Floats:
    """Points (n, d), moved by `SHIFT` in the direction that the seed of their width gives."""
    direction = np.random.default_rng(points.shape[1]).normal(size=points.shape[1])
    return unit(points + SHIFT * direction / np.linalg.norm(direction))


def normal(like: np.ndarray, chance: np.random.Generator) -> Floats:
    """Standard normal numbers of the same shape."""
    return chance.normal(size=like.shape).astype(np.float32)


def changed(
    reply: Reply, groups: Groups, moments: dict[str, np.ndarray], points: np.ndarray | None
) -> Reply:
    """The reply with other numbers; counts stay."""
    centroids = None
    if reply.centroids is not None and points is not None:
        own = points if np.isnan(points).any() else unit(points)
        centroids = Centroids(own.astype(np.float32), reply.centroids.counts)
    return replace(reply, groups=groups, moments=moments, centroids=centroids)


ATTACKS: dict[str, Attack] = {
    "sign-flip": times(FLIP, -1.0),
    "scale": times(SCALE, SCALE),
    "noise": noise,
    "nan": not_a_number,
    "shifted-centroids": shifted,
}


def false_app(site: Site, attack: Attack, seed: int) -> ClientApp:
    """The ClientApp of `site`, whose every answer but the honest ones is attacked."""

    def handle(record: bytes) -> bytes:
        asked, reply = Instruction.from_record(decode(record)), site.handle(record)
        if asked.kind in HONEST:
            return reply
        about = (site.trainer.site, asked.kind, asked.round)
        chance = np.random.default_rng(derive_seed(seed, "byzantine", *about))
        return encode(attack(asked, Reply.from_record(decode(reply)), chance).to_record())

    return build_app(lambda _context, record: handle(record))
