"""How long a run will train, as an order of magnitude, said before it begins.

Of use where somebody starts a network for large photographs on a laptop: hours can be foretold from
the number of images, their side, the network and the device. It says nothing finer than that.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from common.config.options import Plan
from server.conversation.registration import SiteInfo

LONG = 3600.0  # seconds from which it is said
SIDE = 32  # pixels, of the images that COSTS is about
SMALL_SIDE, STEM = 64, 16  # above this side a residual network's stem leaves a 16th of the pixels
SHARED = ("processes", "in-process", "ray")  # engines whose sites share one machine
CORES = 8  # of a site's machine, which does not say how many it has


@dataclass(frozen=True)
class Cost:
    """Seconds in which one image is trained on: two views, forward, backward, step, at side 32; on
    one core of a CPU, and on a GPU."""

    cpu: float
    gpu: float


# CPU: one thread of a Xeon, PyTorch 2.14 (bare forward and backward, the best of four). GPU: an
# H200, of `convnet` and `resnet18` (docs/results/performance.md, "The training loop", from side
# 28); of the others in the proportion of the CPU's. A network without weights trains nothing.
COSTS = {
    "pixels": Cost(0.0, 0.0),
    "noise-filters": Cost(0.8e-3, 0.02e-3),  # two forwards: none of its own weights is trained
    "small-convnet": Cost(0.7e-3, 0.05e-3),
    "layered-convnet": Cost(2.3e-3, 0.06e-3),
    "convnet": Cost(2.2e-3, 0.055e-3),
    "resnet18": Cost(60e-3, 0.14e-3),
    "resnet34": Cost(113e-3, 0.27e-3),
    "resnet50": Cost(181e-3, 0.42e-3),
}


def training_seconds(plan: Plan, sites: Mapping[str, SiteInfo], engine: str, done: int) -> float:
    """Seconds of training that are left after `done` rounds: of all sites where they share a
    machine, else of the slowest."""
    images = sum(site.examples for site in sites.values())
    each = [_of_site(plan, site, images, engine, done) for site in sites.values()]
    return sum(each) if engine in SHARED else max(each, default=0.0)


def warning(plan: Plan, sites: Mapping[str, SiteInfo], engine: str, done: int) -> str:
    """What to tell who started a run that takes hours; "" for a shorter one."""
    seconds = training_seconds(plan, sites, engine, done)
    if seconds < LONG:
        return ""
    images = sum(site.examples for site in sites.values())
    slowest = max(sites.values(), key=lambda site: _of_site(plan, site, images, engine, done))
    passes = _passes(plan, slowest.examples, images, done)
    whose = f"{images:,} images" if engine in SHARED else f"the {slowest.examples:,} images"
    where = "" if engine in SHARED else f" at {slowest.name}"
    return (
        f"this trains for {_about(seconds)}, as an order of magnitude: {plan.encoder}, "
        f"{passes:.0f} passes over {whose} of side {slowest.side}{where}, on "
        f"{_device(slowest)}. Shorter: {', '.join(_ways(plan, slowest, engine))}"
    )


def _of_site(plan: Plan, site: SiteInfo, images: int, engine: str, done: int) -> float:
    cost = COSTS.get(plan.encoder, Cost(0.0, 0.0))  # of a pretrained one nothing is known
    pixels = site.side**2 / SIDE**2
    if plan.encoder.startswith("resnet") and site.side > SMALL_SIDE:
        pixels /= STEM
    cores = (os.cpu_count() or 1) if engine in SHARED else CORES
    a_pass = site.examples * pixels * (cost.cpu / cores if _is_cpu(site) else cost.gpu)
    return a_pass * _passes(plan, site.examples, images, done)


def _passes(plan: Plan, own: int, images: int, done: int) -> float:
    """Passes of a site over its `own` images, of so many `images` in all, in the rounds that are
    left."""
    passes = 0.0
    for index, stage in enumerate(plan.stages):
        left = stage.rounds - min(max(0, done - plan.rounds_before(index)), stage.rounds)
        trained = (images if stage.synchronous else own) * (1 - plan.evaluation_share)
        steps = 1 if stage.synchronous else stage.local_steps
        passes += left * (steps * stage.batch_size / trained if steps else stage.local_epochs)
    return passes * plan.participation * (1 - plan.evaluation_share)


def _is_cpu(site: SiteInfo) -> bool:
    return (site.facts.device or "cpu") == "cpu"


def _device(site: SiteInfo) -> str:
    return "a CPU" if _is_cpu(site) else f"a GPU ({site.facts.device})"


def _ways(plan: Plan, site: SiteInfo, engine: str) -> list[str]:
    """What makes it shorter, the most effective first."""
    ways = ["a GPU"] if _is_cpu(site) else []
    if plan.encoder.startswith("resnet"):
        ways.append("--encoder convnet")
    if site.side > SIDE:
        ways.append(f"--side {SIDE}" + ("" if engine in SHARED else " where a site joins"))
    if engine in SHARED:
        ways.append("fewer --images")
    return [*ways, "fewer --rounds or --local-epochs"]


def _about(seconds: float) -> str:
    """One digit, and the unit that people use: "about 2 hours", "about 10 days"."""
    hours = seconds / 3600
    number, unit = (hours, "hour") if hours < 48 else (hours / 24, "day")
    rounded = float(f"{number:.1g}")
    return f"about {rounded:g} {unit}{'' if rounded == 1 else 's'}"
