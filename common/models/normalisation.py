"""Normalisation that does not mix the images of a batch.

BatchNorm in training mode subtracts the batch's mean. At a site that holds a single class this mean
is the class, so the very difference between classes is taken away before the loss sees it
(`tests/common/models/test_normalisation.py` shows it). GroupNorm (Wu and He, ECCV 2018, arXiv
1803.08494) normalises each image by itself, and has no running statistics that a federation must
average.
"""

import math

from torch import nn

from common.models.encoders import Encoder

GROUPS = {"group": 8, "layer": 1}
"""Groups of maps by the plan's `normalisation`, where that is not "batch"."""


def normalise(model: nn.Module, encoders: str, heads: str) -> None:
    """Give the encoders inside `model`, and all else in it, the normalisation that a plan wants;
    `heads` may be the "same"."""
    if encoders in GROUPS:
        for each in [part for part in model.modules() if isinstance(part, Encoder)]:
            without_batch_norm(each, GROUPS[encoders])
    heads = encoders if heads == "same" else heads
    if heads in GROUPS:
        without_batch_norm(model, GROUPS[heads], but=Encoder)


def without_batch_norm(
    module: nn.Module, groups: int = GROUPS["group"], but: type[nn.Module] | None = None
) -> None:
    """Replace every BatchNorm inside `module`, in place: of maps by GroupNorm with up to so many
    groups, of vectors (the heads) by LayerNorm. Scale and shift start anew at 1 and 0; they are
    trained where the BatchNorm's are. What is inside modules of the type `but` stays."""
    if getattr(module, "keeps_its_norms", False):  # weights that were trained with others
        return
    for name, child in module.named_children():
        if but is not None and isinstance(child, but):
            continue
        if isinstance(child, nn.BatchNorm2d):
            fitting = math.gcd(groups, child.num_features)
            norm: nn.Module = nn.GroupNorm(fitting, child.num_features, affine=child.affine)
        elif isinstance(child, nn.BatchNorm1d):
            norm = nn.LayerNorm(child.num_features, elementwise_affine=child.affine)
        else:
            without_batch_norm(child, groups, but)
            continue
        trained = all(p.requires_grad for p in child.parameters())
        setattr(module, name, norm.requires_grad_(trained))
