"""A run that was stopped goes on: what has changed since, and whether it may.

Before the first checkpoint nothing is learned yet: the record is written anew, of the sites as they
are. After it the sites' images may change, which is said by name and recorded; not their shape
(`Roster` refuses such a site), nor the classes that the number of clusters was settled by.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from common.config.options import RUN_OPTIONS
from common.record.schema import Change, ResumedEvent, Run, SiteFacts
from common.utils.errors import UserError, plain

FACTS = {
    "examples": "images",
    "fingerprint": "fingerprint of its images",
    "channels": "channels",
    "side": "side",
    "kind": "kind of data",
    "device": "device",
    "python": "Python",
    "torch": "PyTorch",
}  # of a site, and what they are called


def go_on(path: Path, before: Run, now: Run, after: int | None) -> tuple[Run, ResumedEvent]:
    """The record with which the run in `path` goes on after round `after` (None: it has no
    checkpoint), and the event that says so. `UserError` where it is a run with another plan, or
    what it has learned so far would mean nothing beside what comes."""
    anew = after is None
    settled = {*before.settled, *now.settled} if anew else set()
    if _plan(before, settled) != _plan(now, settled):
        raise UserError(f"{path}: it holds a run with another plan")
    changes = tuple(_changes(before, now))
    event = ResumedEvent(round=after or 0, changes=changes, anew=anew)
    if anew:
        return now.model_copy(update={"created": before.created}), event
    _check_classes(path, before, now)
    absent = before.sites.keys() - now.sites.keys()
    classes = tuple(sorted({*before.classes, *now.classes})) if absent else now.classes
    kept = {
        "created": before.created,
        "settled": before.settled,
        "superseded": before.superseded,
        "kept": before.kept,
        "sites": dict(sorted({**before.sites, **now.sites}.items())),
        "classes": classes,
    }
    return now.model_copy(update=kept), event


def site_changes(name: str, before: SiteFacts, now: SiteFacts) -> Iterator[Change]:
    """What is not as it was of the site called `name`."""
    for fact, what in FACTS.items():
        old, new = getattr(before, fact), getattr(now, fact)
        if old != new and old is not None:
            yield Change(site=name, what=what, before=old, now=new)


def _plan(run: Run, settled: Collection[str]) -> dict[str, Any]:
    """The plan, with options that are newer than it at their defaults, and without what the sites
    decide anew."""
    plan = {name: option.default for name, option in RUN_OPTIONS.items()} | dict(run.plan)
    return {name: value for name, value in plan.items() if name not in settled}


def _changes(before: Run, now: Run) -> Iterator[Change]:
    """Site by site, then of the federation. A site that is not there yet is as it was."""
    for name in sorted(now.sites):
        was, is_now = before.sites.get(name), now.sites[name]
        if was is None:
            yield Change(site=name, what="new, with images", now=is_now.examples)
            continue
        yield from site_changes(name, was, is_now)
    gone, new_ones = _classes(before, now)
    if gone:
        yield Change(what="classes that are gone:", before=_names(gone))
    if new_ones:
        yield Change(what="new classes:", now=_names(new_ones))
    if before.engine != now.engine:
        yield Change(what="engine", before=before.engine, now=now.engine)
    for name, version in now.versions.items():
        if before.versions.get(name) != version:
            yield Change(what=name, before=before.versions.get(name), now=version)


def _classes(before: Run, now: Run) -> tuple[set[str], set[str]]:
    """The classes that are gone, and those that are new. A site that is not there yet may have
    those that nobody has."""
    absent = before.sites.keys() - now.sites.keys()
    gone = set() if absent else set(before.classes) - set(now.classes)
    return gone, set(now.classes) - set(before.classes)


def _check_classes(path: Path, before: Run, now: Run) -> None:
    gone, new = _classes(before, now)
    by_classes = before.plan.get("clusters") == len(before.classes)
    if "clusters" in before.settled and by_classes and (gone or new):
        told = [f"gone: {_names(gone)}"] * bool(gone) + [f"new: {_names(new)}"] * bool(new)
        raise UserError(
            f"{path}: its {len(before.classes)} clusters were settled by the sites' classes, which "
            f"are others now ({'; '.join(told)}): let the sites join with the classes that they "
            "had, or start a new run"
        )


def _names(classes: Iterable[str]) -> str:
    return plain(", ".join(sorted(classes)), 80)
