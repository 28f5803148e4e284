"""One batch of all sites' images, as one site sees it: which of its images are in it, their views.

In a synchronous stage a batch must be the same however images are spread over sites. So all that is
drawn about an image is a hash of what it is about and of the image itself: whether it is kept for
evaluation, in which step of a pass it is, how its views look. Nobody knows the others' images, and
each pass over all of them has each image once. Equal images are in the same steps.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from client.dataset import Dataset, drawn, take
from common.augmentations import Augmentation
from common.config.options import Plan
from common.objectives.base import Batch
from common.utils.seeds import generator

MOST_AT_ONCE = 1024  # images in one forward and backward; what they add is added up


def rows_of_step(data: Dataset, plan: Plan, stage: int, number: int, steps: int) -> Tensor:
    """Which of a site's training images, as in `Batch.rows`, are in the stage's step `number`, from
    1, where a pass over all sites' images takes `steps`."""
    if data.digests is None:
        raise ValueError("a plan without a synchronous stage draws nothing by image")
    over, at = divmod(number - 1, steps)
    own = data.digests[data.train.cpu()]
    return (drawn(own, plan.seed, stage, "pass", over) % steps == at).nonzero().flatten()


def batches_of_step(
    data: Dataset, augmentation: Augmentation, rows: Tensor, plan: Plan, round_number: int
) -> Iterator[Batch]:
    """Two views of each of the training images `rows` in a round, at most `MOST_AT_ONCE` together,
    on the device."""
    if data.digests is None:
        raise ValueError("a plan without a synchronous stage draws nothing by image")
    for few in rows.split(MOST_AT_ONCE):
        where = data.train.cpu()[few]
        images = take(data.images, where.to(data.images.device), data.device)
        seeds = torch.cat(
            [drawn(data.digests[where], plan.seed, round_number, view) for view in "ab"]
        )
        both, seeds = torch.cat([images, images]), seeds.to(data.device)
        a, b = augmentation.seeded(both, seeds, filled=False).chunk(2)
        own = generator(data.device, plan.seed, data.site, round_number, "step")
        yield Batch(a, b, few.to(data.device), own)
