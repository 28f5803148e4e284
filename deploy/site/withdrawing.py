"""`covey client forget` and `remember`: what a site takes back, and lets in again.

Taking back is written down here, and holds from the next message on: whatever runs, these images
are in none of it. What was learned with them before, the coordinator makes anew (`covey forget`).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.dataset import LEAST
from client.storage.exclusions import Exclusions, Withdrawal
from common.data import DATASETS
from common.data.folder import list_images
from common.data.identity import Identity, count_stored, identities
from common.learned.file import FILE
from common.utils.errors import UserError, plain
from common.utils.names import original, place, written
from deploy.forgetting.choosing import ASSIGNMENTS, Wish, in_cluster
from deploy.site.folder import SiteFolder


@dataclass(frozen=True)
class Withdrawing:
    """What is to be taken back, or let in again, before it is: so many `images`, of which `known`
    had been taken back before; `left`: how many images of the data take part then; whether they may
    be used once more, to `unlearn` them or to `audit` whether they were forgotten."""

    exclusions: Exclusions
    images: frozenset[Identity]
    known: int
    left: int
    why: str
    unlearn: bool = False
    audit: bool = False

    def lines(self) -> list[str]:
        """In words, of taking back."""
        before = f" ({self.known:,} of them have been before)" if self.known else ""
        told = [f"taken back: {len(self.images):,} images{before}, chosen by {self.why}"]
        told.append(f"{self.left:,} images take part in runs from then on")
        if self.left < LEAST:
            told[-1] = "the site takes part in no run from then on (covey client leave ends it)"
        if self.unlearn:
            told.append("they may be used once more, here, to take the network away from them")
        if self.audit:
            told.append("they may be looked at, here, to test whether they were forgotten")
        return told


def to_forget(
    home: SiteFolder,
    wish: Wish,
    run: str = "",
    data: str = "",
    unlearn: bool = False,
    audit: bool = False,
) -> Withdrawing:
    """What taking `wish` back would do; nothing is changed. `run`: whose clusters are meant (the
    one that the site has received a model of last); `data`: what the site has joined with, where
    it has not yet; `unlearn`, `audit`: let them be used once more, for that. `UserError` for a file
    that is not of the site's data, a cluster that there is not, what has been taken back before,
    and where too few would be left."""
    spec = data or spec_of(home)
    why = "name"
    every = names_of(spec)
    if wish.cluster is not None:
        folder = home.path / run if run else latest(home)
        chosen, why = in_cluster(folder / ASSIGNMENTS, wish.cluster), f"cluster {wish.cluster}"
        why = f"{why} of the run {folder.name}"
    elif wish.everything:
        chosen, why = tuple(every), "all"
    else:
        chosen = wish.names
    names = _names(spec, chosen, every)
    images = frozenset(identities(spec, names))
    exclusions = Exclusions(home.path, spec)
    listed = exclusions.read()
    taken = listed.keys()
    asked = Withdrawal("", "", unlearn, audit)
    if images <= taken and all(listed[each].allowing(asked) == listed[each] for each in images):
        raise UserError(f"nothing to do: these {len(images):,} images have been taken back before")
    gone = images | taken
    left = sum(each not in gone for each in identities(spec, every))
    if left < LEAST and not wish.everything:
        raise UserError(
            f"{left} of the site's {len(every):,} images would be left, too few to take part with: "
            "--all takes back all of them"
        )
    return Withdrawing(exclusions, images, len(images & taken), left, why, unlearn, audit)


def to_remember(home: SiteFolder, wish: Wish, data: str = "") -> frozenset[Identity]:
    """Which images would be let in again; `UserError` where none of them has been taken back."""
    spec = data or (spec_of(home) if not wish.everything else "")
    taken = Exclusions(home.path, spec).read().keys()
    if wish.everything:
        found = frozenset(taken)
    else:
        found = frozenset(identities(spec, _names(spec, wish.names, names_of(spec)))) & taken
    if not found:
        raise UserError("nothing to do: none of these images has been taken back")
    return found


def spec_of(home: SiteFolder) -> str:
    """The data that the site has joined with last."""
    home.invitation()
    try:
        return home.data.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{home.path}: the site has not joined yet: say with --data what") from None


def names_of(spec: str) -> list[str]:
    """All images of the data: files of a folder, numbers of an array."""
    if spec not in DATASETS and place(spec).is_dir():
        return list_images(place(spec))
    return [str(number) for number in range(count_stored(spec))]


def latest(home: SiteFolder) -> Path:
    """The folder of the run that the site has received a model of last; `UserError` without one."""
    models = sorted(home.path.glob(f"*/{FILE}"), key=lambda path: path.stat().st_mtime)
    if not models:
        raise UserError(f"{home.path} has no {FILE} of a run yet: there are no clusters")
    return models[-1].parent


def _names(spec: str, given: Sequence[str], every: Sequence[str]) -> list[str]:
    """What is `given` as names of the data: as in a table of Covey's, or as a path."""
    known = {said: name for name in every for said in (written(name), f"./{written(name)}", name)}
    found: list[str] = []
    missing: list[str] = []
    root = os.path.realpath(place(spec))
    for each in given:
        inside = os.path.relpath(os.path.realpath(each), root)
        page = each.rpartition("#")[0]
        name = next((known[w] for w in (each, original(each), inside, page) if w in known), None)
        (missing if name is None else found).append(each if name is None else name)
    if missing:
        more = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        raise UserError(f"{plain(missing[0], 80)!r} is not among the site's data {spec}{more}")
    return list(dict.fromkeys(found))
