"""Sites on the CPU with digits, and what a server would ask them."""

from pathlib import Path

import numpy as np
import torch

from client.site import Site, open_site
from client.trainer import Trainer
from client.workbench import Workshop
from common.config.options import Plan
from common.data import load
from common.models.pretrained.store import WeightStore
from common.protocol import layout
from common.protocol.messages import Instruction
from common.stages import build_stage

CPU = torch.device("cpu")
CLASSES = tuple("0123456789")


def trainer(folder: Path, images: int = 100, device: torch.device = CPU) -> Trainer:
    """The trainer of a site called `ward` with so many digits, which has taken others back."""
    forgotten = load("digits", images=images + 30).subset(np.arange(images, images + 30))
    own = load("digits", images=images)
    return Trainer("ward", own, folder, Workshop(device), forgotten=forgotten)


def site(folder: Path, images: int = 60, takes: bool = False) -> Site:
    """The same with what it keeps: state, log, assignments; `takes` an encoder's weights."""
    own = folder / "weights"
    workshop = Workshop(CPU, WeightStore((own,), own if takes else None))
    return open_site("ward", load("digits", images=images), folder, workshop)


def instruction(
    plan: Plan, kind: str = "train", round_number: int = 1, **parts: object
) -> Instruction:
    """What a server asks in this round of a plan, with its model as it starts."""
    stage, _ = plan.stage_of(max(1, round_number))
    shared = build_stage(plan, stage, 1, 8, 10).shared()
    digest, groups = layout.layout_of(shared).digest, layout.flatten(shared)
    sent = {"groups": groups, "classes": CLASSES, **parts}
    return Instruction(kind, "run", round_number, plan, stage, digest, **sent)
