"""What a plan leaves open, settled by what the sites that have joined say of their images."""

from collections.abc import Callable, Collection, Iterable

from common.config.options import Plan
from common.solvers.landmark_spectral import FEWER, OPEN
from server.conversation.registration import SiteInfo

DEFAULT_CLUSTERS = 10  # where neither the plan nor the sites' classes say a number
MORE = 2000  # landmarks, of many images


def settle_clusters(
    plan: Plan, sites: Collection[SiteInfo], before: Plan | None, warn: Callable[[str], None]
) -> int:
    """The number of clusters: the plan's, that of the run that goes on (`before`; None: none does),
    or as many as the sites have classes. Where some have none, the others' say nothing of the
    whole: it is the usual number, and a warning says how to choose another."""
    begun = before.clusters if before else 0
    if plan.clusters or begun:
        return plan.clusters or begun
    classes = {name for site in sites for name in site.classes}
    labelled = [site.name for site in sites if site.classes]
    if classes and len(labelled) == len(sites):
        return len(classes)
    if classes:
        warn(
            f"{len(labelled)} of {len(sites)} sites have classes ({', '.join(sorted(labelled))}: "
            f"{len(classes)}), which are not all there may be: {DEFAULT_CLUSTERS} clusters; "
            f"--clusters {len(classes)} chooses as many as there are classes"
        )
    return DEFAULT_CLUSTERS


def settle_landmarks(plan: Plan, sites: Iterable[SiteInfo], before: Plan | None) -> Plan:
    """The plan, whose parameters are all written out, with a number of landmarks at most for each
    stage that leaves it open: that of the run that goes on (`before`); or 1,000, and 2,000 where
    there are images for more. Each pair of landmarks is a number that a site sends."""
    images, stages = sum(site.examples for site in sites), []
    for number, stage in enumerate(plan.stages):
        given = dict(stage.parameters)
        if given.get("landmarks") == OPEN:
            enough = images > FEWER * int(given["images"])
            begun = before.stages[number].parameters if before else {}
            given["landmarks"] = begun.get("landmarks", MORE if enough else FEWER)
        stages.append(stage.model_copy(update={"parameters": given}))
    return plan.model_copy(update={"stages": tuple(stages)})


def say_grey(plan: Plan, sites: Iterable[SiteInfo], warn: Callable[[str], None]) -> None:
    """Say it where a network that was trained with colours gets grey images."""
    if plan.network is not None and any(site.channels == 1 for site in sites):
        warn(f"the images are grey: {plan.encoder} sees each in three equal channels")


def settle_window(
    plan: Plan, sites: Iterable[SiteInfo], warn: Callable[[str], None]
) -> tuple[Plan, tuple[str, ...]]:
    """The plan with the window that all sites with pictures of more than 8 bits give them, if it
    leaves that open, and which options that has settled; a warning where theirs differ."""
    told = {site.name: site.facts.window for site in sites if site.facts.window}
    windows = set(told.values())
    if plan.window or not windows:
        return plan, ()
    if len(windows) > 1:
        said = ", ".join(f"{name} {window}" for name, window in sorted(told.items()))
        warn(f"the sites' windows differ ({said}): --window LOW:HIGH gives all the same")
        return plan, ()
    return plan.model_copy(update={"window": windows.pop()}), ("window",)
