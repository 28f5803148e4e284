"""The optimiser of a stage: at the sites for a round, at the server of a synchronous stage."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from common.config.options import Stage


def build_optimiser(stage: Stage, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum, as the stage says."""
    if stage.optimiser == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=stage.learning_rate,
            momentum=stage.momentum,
            weight_decay=stage.weight_decay,
            fused=True,
        )
    return torch.optim.AdamW(
        parameters, lr=stage.learning_rate, weight_decay=stage.weight_decay, fused=True
    )


def learning_rate(stage: Stage, done: float) -> float:
    """The step size when the share `done` in [0, 1) of the stage lies behind; cosine: Loshchilov
    and Hutter, ICLR 2017, eq. 5, without restarts."""
    if stage.schedule == "constant":
        return stage.learning_rate
    return stage.learning_rate * (1 + math.cos(math.pi * done)) / 2
