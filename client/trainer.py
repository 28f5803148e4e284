"""The site's trainer: one message in, one message out.

The same class runs in the resident trainer beside a SuperNode, and in process in a simulation. It
holds the site's images on the device and answers every kind of message
(`common/protocol/messages.py`). It knows nothing of Flower's conversation, sockets or files of a
run.
"""

import logging
import platform
from pathlib import Path

import torch
from torch import Tensor

from client.dataset import place
from client.embedding import Seen
from client.storage.state import StateStore
from client.tasks.work import Work
from client.validation import check_parts, check_round, run_folder
from client.workbench import Workshop
from common.config.options import Plan
from common.data import ImageData
from common.protocol.messages import NOT_TAKEN, Instruction, Reply
from common.utils.errors import UserError, plain
from common.utils.seeds import generator

LOG = logging.getLogger(__name__)

About = tuple[Plan, int, str]
"""What embeddings are by: the plan, the stage, which decides the space, the digest of the state."""


class Trainer:
    """Trains and measures on one site's images.

    `data`: the site's images, which never leave it; `folder`: where its states and cluster
    assignments go; `min_count`: the site's own bound, below which it sends no centroid, count or
    sum of a cluster, whatever a plan says.
    """

    def __init__(
        self, site: str, data: ImageData, folder: Path, workshop: Workshop, min_count: int = 1
    ) -> None:
        if len(data.images) < 2:
            raise UserError(f"site {site}: {len(data.images)} images are too few to train on")
        self.site = site
        self.data = data
        self.folder = folder
        self.workshop = workshop
        self.min_count = min_count
        device = workshop.device
        self.images = place(torch.from_numpy(data.images), device)
        self.seen: tuple[About, Seen] | None = None  # the images by the last state assessed
        self.labels = None if data.labels is None else torch.from_numpy(data.labels).to(device)

    def handle(self, instruction: Instruction) -> Reply:
        """Do what is asked; `UserError` where it does not fit this site."""
        if instruction.kind == "hello":
            if instruction.refusal:
                run, why = plain(instruction.run), plain(instruction.refusal)
                LOG.warning("%s %s: %s", NOT_TAKEN, run, why)
            return self._introduce()
        check_round(instruction)
        store = StateStore(run_folder(self.folder, instruction.run))
        data = self.data
        bench = self.workshop.bench(instruction, data.channels, data.side, data.kind)
        instruction = self.workshop.whole(instruction, bench.objective.prepares)
        check_parts(instruction, bench)
        if instruction.kind == "prepare":
            self.workshop.received = instruction.groups
        training = instruction.kind == "train"
        before = instruction.kind in ("prepare", "train")  # of the round; the others come after it
        state = store.load(instruction.round + (not before)) or {}
        if instruction.groups:
            bench.set_up(instruction.groups, state)
        work = Work(self, instruction, bench, state)
        reply = work.answer()
        if training and work.kept:
            store.save(instruction.round, work.kept)
        return reply

    def _introduce(self) -> Reply:
        data = self.data
        return Reply(
            kind="hello",
            site=self.site,
            round=0,
            examples=len(data.images),
            info={
                "channels": data.channels,
                "side": data.side,
                "kind": data.kind,
                "classes": list(data.classes),
                "fingerprint": data.fingerprint,
                "device": device_name(self.workshop.device),
                "python": platform.python_version(),
                "torch": torch.__version__,
            },
        )

    def split(self, instruction: Instruction) -> tuple[Tensor, Tensor]:
        """Indices of the training and of the evaluation images: fixed over a run."""
        n = len(self.images)
        order = torch.randperm(
            n, generator=generator("cpu", instruction.plan.seed, self.site, "split")
        )
        held = min(max(1, round(n * instruction.plan.evaluation_share)), n - 2)
        order = order.to(self.workshop.device)
        return order[held:], order[:held]


def device_name(device: torch.device) -> str:
    """What a table calls the device: "cpu", or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
