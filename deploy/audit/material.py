"""Whose images are compared: of two runs, the one made in the other's place without some images.

Which images are gone is read from the two folders' partitions, whatever made the second one.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.config.options import Plan
from common.data import ImageData, load, load_test
from common.data.images import Indices, Pixels
from common.data.partition import Partition
from common.data.planned import PARTITION, planned_data
from common.membership import FEW
from common.record.reader import read_settings
from common.record.schema import Run
from common.utils.errors import UserError

TIMES = 4  # so many never-seen images for each forgotten one, where there are


@dataclass(frozen=True)
class Material:
    """`data`: the images of the original run, in the order of its partition's numbers; `kept` and
    `gone`: rows of them; `parts`: rows by site that the second run had; `counts`: site -> images
    taken back; `unseen`: of the classes of those that are gone, in the same shares, held by nobody,
    none where an attack could not be judged; `test`: all that nobody holds, None where there are no
    labels; `wanting`: what cannot be had, a sentence each."""

    original: Run
    forgotten: Run
    data: ImageData
    kept: Indices
    gone: Indices
    parts: Partition
    counts: dict[str, int]
    unseen: ImageData
    test: ImageData | None
    wanting: tuple[str, ...] = ()

    @property
    def classes_gone(self) -> tuple[int, ...]:
        """Classes of which at least half of the federation's images are gone."""
        labels = self.data.labels
        if labels is None:
            return ()
        before = np.bincount(labels, minlength=len(self.data.classes))
        taken = np.bincount(labels[self.gone], minlength=len(self.data.classes))
        return tuple(int(c) for c in np.flatnonzero((taken > 0) & (2 * taken >= before)))


def material(original: Path, forgotten: Path) -> Material:
    """What the two run folders are about; `UserError` where they are not such a pair, or the images
    are not on this machine."""
    before, after = (_finished(folder) for folder in (original, forgotten))
    plan = before.settings()
    first, second = (Partition.load(_partition(folder)) for folder in (original, forgotten))
    data = planned_data(plan)
    held = [np.concatenate(each.sites) for each in (first, second)]
    gone = np.setdiff1d(held[0], held[1])
    if not len(gone) or len(np.setdiff1d(held[1], held[0])):
        raise UserError(f"{forgotten} is no run without some of the images of {original}")
    counts = {
        f"site-{number}": int(np.isin(rows, gone).sum()) for number, rows in enumerate(first.sites)
    }
    others = _nobodys(plan, data)
    unseen = alike(others, data.subset(gone), TIMES)
    wanting = _wanting(plan, len(others.images), len(gone), len(unseen.images))
    return Material(
        original=before,
        forgotten=after,
        data=data,
        kept=np.sort(held[1]),
        gone=gone,
        parts=second,
        counts={site: count for site, count in counts.items() if count},
        unseen=unseen.subset(np.arange(0)) if wanting else unseen,
        test=None if others.labels is None or not len(others.images) else others,
        wanting=wanting,
    )


def _wanting(plan: Plan, others: int, gone: int, unseen: int) -> tuple[str, ...]:
    """Why nobody can attack, of so many images that nobody has, and of them like those gone."""
    if not others:
        why = f"{plan.dataset} has no test images, and the run had all others"
        what = "Attacks, and figures on images that no site has"
        return (f"{what}: {why} (--images N leaves some).",)
    if min(gone, unseen) < FEW:
        beside = f"{gone} forgotten images beside {unseen} like them that nobody has"
        return (f"Attacks: {beside}, and to tell anything it takes {FEW} of each.",)
    return ()


def alike(others: ImageData, gone: ImageData, times: int) -> ImageData:
    """Of `others`, at most `times` as many as are `gone`, with their classes in the same shares."""
    if others.labels is None or gone.labels is None:
        return others.subset(np.arange(min(len(others.images), times * len(gone.images))))
    rows = {int(c): np.flatnonzero(others.labels == c) for c in np.unique(gone.labels)}
    wanted = {c: int((gone.labels == c).sum()) for c in rows}
    share = min(times, *(len(rows[c]) / wanted[c] for c in rows))
    chosen = [rows[c][: round(share * wanted[c])] for c in rows]
    return others.subset(np.sort(np.concatenate(chosen)))


def _finished(folder: Path) -> Run:
    run = read_settings(folder)
    if run.status != "finished":
        raise UserError(f"{folder}: the run has not finished, it is {run.status}")
    return run


def _partition(folder: Path) -> Path:
    path = folder / PARTITION
    if not path.exists():
        raise UserError(
            f"{folder} has no {PARTITION}: its sites hold their own images, and an audit needs "
            "those that were forgotten. Audit a simulation of the plan"
        )
    return path


def _nobodys(plan: Plan, data: ImageData) -> ImageData:
    """Images of the same source that no site holds: the test split, or those of the training images
    that the plan has not drawn."""
    how = replace(plan.preparation, side=data.side, channels=data.channels)
    others = load_test(plan.dataset, how=how) or load(plan.dataset, how=how)
    held = set(map(_digest, data.images))
    others = others.subset(
        np.array([i for i, each in enumerate(others.images) if _digest(each) not in held], np.int64)
    )
    if others.labels is not None and data.labels is not None and others.classes != data.classes:
        raise UserError(f"the test images of {plan.dataset} have other classes")
    return others


def _digest(image: Pixels) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()
