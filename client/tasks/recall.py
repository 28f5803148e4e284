"""An audit of forgetting where the images are: does a model still know those that were taken back?

The site is shown one model after the other: of the run that had the images, of the one in its
place, and of runs that never had them. It scores its images by each, and keeps the scores. When it
has met all, it tells for each how well the scores, calibrated by the runs that never had the
images, tell these from images of its own that stayed (`common/membership.py`). Those have been in
all the runs, so that calibration takes away what they are known by, and a model that has forgotten
gets .5: there are no images here that nobody has had. Counts and sums leave, no score.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from client.embedding import embed_outputs, outputs
from client.features import Features
from client.statistics import exact
from client.statistics.knowing import Recalled, likeness, nearest_landmark
from client.storage.features import FeatureStore
from client.tasks.task import Task
from common.membership import FEW, Scores, calibrated, success
from common.protocol.messages import NEEDS_MODEL, Reply
from common.protocol.recall import FORGOTTEN, REFERENCE, Recall
from common.solvers.landmark_spectral import LandmarkSpectral
from common.stages import trains_projector
from common.utils import seeds
from common.utils.errors import UserError

TIMES = 4  # so many images that stayed for each that is looked for, where there are


def recall(task: Task) -> Reply:
    """What is found in the model that came, once all are known; `UserError` where the site has not
    let its images be looked at, or has too few to tell."""
    about, number = Recall.from_text(task.instruction.about), task.instruction.step
    if not 1 <= number <= about.models:
        raise UserError(f"recall: there is no model {number} of {about.models}")
    gone, stayed = _sides(task)
    found = task.recalled.of(task.instruction.run, about)
    if number not in found.scores:
        if task.bench.layout.groups and not task.instruction.groups:
            raise UserError(NEEDS_MODEL)
        with task.phase("embed"), task.bench.precision():
            found.scores[number] = dict(_scores(task, gone, stayed))
        if number == FORGOTTEN and task.keeps_features:
            found.sums = _sums(task, gone)
    told = {"taken": len(gone), "stayed": len(stayed)}
    if len(found.scores) < about.models:
        return task.reply(told)
    return task.reply(told | _successes(found, number))


def _sides(task: Task) -> tuple[Tensor, Tensor]:
    """(images that were taken back, images that stayed): the same for all models."""
    gone, stayed = task.forgotten, task.stayed
    assert gone is not None and stayed is not None
    least = max(FEW, task.min_count)
    drawn = torch.Generator().manual_seed(seeds.derive_seed(0, "recall", task.data.site))
    gone = gone[torch.randperm(len(gone), generator=drawn)][: len(stayed)]
    rows = stayed[torch.randperm(len(stayed), generator=drawn)][: TIMES * len(gone)]
    if len(gone) < least or len(rows) < least:
        raise UserError(
            f"{len(gone)} images that were taken back may be looked at, beside {len(rows)} that "
            f"stayed: to tell anything it takes {least} of each (covey client forget --may-audit)"
        )
    return gone, task.data.images[rows.to(task.data.images.device)]


def _scores(task: Task, gone: Tensor, stayed: Tensor) -> Iterator[tuple[str, Scores]]:
    """By each attack that the recipe gives reason for: by what stands for groups of images, and
    where an encoder was trained, by how alike it finds views of an image."""
    model = task.bench.model
    if isinstance(model, LandmarkSpectral):
        solver = model
        if not bool(solver.weights.used.any()):
            raise UserError("recall: the model has no landmarks")
        yield "near", _both(nearest_landmark(solver, _outputs(task, s)) for s in (gone, stayed))
    elif task.instruction.centroids is not None:
        yield "near", _both(_nearest_centroid(task, s) for s in (gone, stayed))
    if not task.plan.rounds:
        return
    trained = trains_projector(model, task.stage)
    for name, space in (("views", "encoder"), *[("projected", "projector")] * trained):
        yield (
            name,
            _both(
                likeness(
                    model,
                    task.bench.augmentation,
                    images,
                    space,
                    seeds.generator(task.bench.device, 0, "recall", side),  # the same views for all
                )
                for side, images in (("gone", gone), ("stayed", stayed))
            ),
        )


def _both(found: Iterator[Tensor]) -> Scores:
    gone, stayed = (scores.double().cpu() for scores in found)
    return gone, stayed


@torch.no_grad()
def _outputs(task: Task, images: Tensor) -> Tensor:
    bench, rows = task.bench, torch.arange(len(images))
    return torch.cat(list(outputs(bench.model, bench.augmentation, images, rows, bench.device)))


def _nearest_centroid(task: Task, images: Tensor) -> Tensor:
    h = _outputs(task, images)
    points = embed_outputs(task.bench.model, [h], task.stage.embedding).points
    return (points @ task.centroids().T).max(dim=1).values


def _successes(found: Recalled, number: int) -> dict[str, float]:
    """Of the model with that number: sums over the images that are looked for."""
    told = dict(found.sums)
    for name, scores in found.scores[number].items():
        others = [
            each[name]
            for other, each in found.scores.items()
            if other >= REFERENCE and other != number
        ]
        by, count = success(calibrated(scores, others)), len(scores[0])
        told |= {name: by.auc * count, f"{name}_found": round(by.tpr * count)}
    return told


@torch.no_grad()
def _sums(task: Task, gone: Tensor) -> dict[str, float]:
    """How many sums there are over features, and how many of them are, to the bit, the same made
    anew of the images that are left, and of all less those that were taken back."""
    bench, width = task.bench, task.bench.model.encoder.feature_dim

    def features(images: Tensor) -> Features:
        shown = images.numpy(force=True)
        data = replace(task.kept.data, images=shown, labels=None, names=("",) * len(shown))
        store = FeatureStore(task.store.folder, data)
        return Features(bench, task.plan, images, store)

    with task.phase("embed"):
        left, taken = features(task.data.images), features(gone)
        of_left, of_taken = (
            exact.view_moments(each.whole_views(), width, bench.device) for each in (left, taken)
        )
        both = itertools.chain(left.whole_views(), taken.whole_views())
        of_all = exact.view_moments(both, width, bench.device)
        answered = task.features().summed(lambda p: exact.view_moments(p, width, bench.device))
    same = sum(
        new.tobytes() == (whole - less).tobytes() == told.tobytes()
        for new, less, whole, told in zip(of_left, of_taken, of_all, answered, strict=True)
    )
    return {"sums": len(of_left), "sums_same": same}
