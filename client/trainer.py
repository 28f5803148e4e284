"""The site's trainer: one message in, one message out.

The same class runs in the resident trainer beside a SuperNode, and in process in a simulation. It
holds the site's images and answers every kind of message (`common/protocol/messages.py`) by the
function that `client/tasks` has for it. It knows nothing of Flower's conversation, sockets or files
of a run.
"""

import logging
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from client.dataset import SiteImages
from client.embedding import Memory, Seen
from client.holdings import Holdings, Source
from client.leaving import check_leaving
from client.statistics.knowing import Recalled
from client.storage.exclusions import Exclusions
from client.storage.features import FeatureStore
from client.storage.names import offered
from client.storage.state import StateStore, remove_audits
from client.storage.taken_part import TakenPart
from client.storage.weights import parts_had, take_part
from client.tasks import TASKS
from client.tasks.task import Task
from client.validation import check_parts, check_round, run_folder
from client.workbench import Workshop
from common.config.options import Plan
from common.data import ImageData
from common.protocol.declaration import Brings, Needs
from common.protocol.messages import NOT_TAKEN, Instruction, Reply
from common.protocol.taken_back import run_of
from common.utils.errors import UserError, plain

LOG = logging.getLogger(__name__)


class Trainer:
    """Trains and measures on one site's images.

    `data`: the site's images, which never leave it; `source`: reads them anew where a plan wants
    another form; `folder`: where its states and cluster assignments go; `min_count`: the site's own
    bound, below which it sends no centroid, count or sum of a cluster, whatever a plan says;
    `exclusions`: what the site has taken back; `forgotten`: the same of a site without such a list.
    """

    def __init__(
        self,
        site: str,
        data: ImageData,
        folder: Path,
        workshop: Workshop,
        min_count: int = 1,
        source: Source | None = None,
        exclusions: Exclusions | None = None,
        forgotten: ImageData | None = None,
    ) -> None:
        self.site = site
        self.holdings = Holdings(site, data, workshop.device, source, exclusions, forgotten)
        self.folder = folder
        self.workshop = workshop
        self.min_count = min_count
        self.memory: Memory[Seen] = Memory()
        self.projected: Memory[Tensor] = Memory()
        self.recalled = Recalled()
        self._noted: tuple[Path | None, Callable[[], SiteImages | None]] = (None, lambda: None)
        self.kept = FeatureStore(folder, data, keep_sums=exclusions is not None)

    def images_for(self, plan: Plan) -> SiteImages:
        """The site's images as `plan` wants them; what was computed of others is let go."""
        images = self.holdings.of(plan)
        if images.data is not self.kept.data:
            self.memory.forget()
            self.projected.forget()
            self.kept = self.kept.followed_by(images.data)
        return images

    def handle(self, instruction: Instruction) -> Reply:
        """Do what is asked; `UserError` where it does not fit this site."""
        exchange = instruction.exchange
        if exchange.needs is Needs.NOTHING:
            if instruction.refusal:
                run, why = plain(instruction.run), plain(instruction.refusal)
                LOG.warning("%s %s: %s", NOT_TAKEN, run, why)
            return self._take(instruction) or self._introduce(instruction)
        check_round(instruction)
        folder = run_folder(self.folder, instruction.run)
        store = StateStore(folder)
        plan = instruction.plan
        images = self.images_for(plan)
        own = images.data
        bench = self.workshop.bench(instruction, own.channels, own.side, own.kind)
        instruction = self.workshop.whole(instruction, bench.prepares)
        check_parts(instruction, bench)
        self._note(images, folder)
        if exchange.brings is Brings.PREPARED:
            self.workshop.receive(instruction.groups)
        state = _state(store, instruction)
        if instruction.groups:
            bench.set_up(instruction.groups, state)
        forgotten, stayed = self._taken_back(instruction, images)
        task = Task(
            instruction=instruction,
            bench=bench,
            data=images.dataset(plan, instruction.classes),
            state=state,
            store=store,
            memory=self.memory,
            projected=self.projected,
            kept=self.kept,
            forgotten=forgotten,
            stayed=stayed,
            recalled=self.recalled,
            min_count=max(plan.min_count, self.min_count),
        )
        reply = TASKS[instruction.kind](task)
        check_leaving(reply, task)
        wire = task.stage.wire
        return reply if wire == "exact" else reply.in_halves(wire)

    def _note(self, images: SiteImages, folder: Path) -> None:
        """That these images are in the run: once, at a site with a list."""
        where, which = self._noted
        if self.holdings.has_list and (where != folder or which() is not images):
            if where != folder:
                remove_audits(self.folder, folder)
            TakenPart(folder).add(images.digests)
            self._noted = folder, ref(images)  # they may go when others are held

    def _taken_back(
        self, instruction: Instruction, images: SiteImages
    ) -> tuple[Tensor | None, Tensor | None]:
        """Images that were taken back, for a message that is about them, and rows of those that
        stayed; None where it is about something else."""
        use = instruction.exchange.use
        if use is None:
            return None, None
        earlier = TakenPart(run_folder(self.folder, run_of(instruction.about)))
        gone = self.holdings.taken_back(instruction.plan, earlier, use)
        if not (len(gone) and self.holdings.has_list):
            return gone, torch.arange(len(images.data.images))
        return gone, torch.from_numpy(np.flatnonzero(earlier.had(images.data.images)))

    def _take(self, asked: Instruction) -> Reply | None:
        """Keep a part of a file with weights, if this is one."""
        if asked.kind != "weights":
            return None
        if asked.weights is None:
            raise UserError("weights: the message has none")
        take_part(self.workshop.weights, asked.plan, asked.step, asked.weights)
        return Reply(kind=asked.kind, site=self.site, round=asked.round)

    def _offered(self, run: str) -> list[str]:
        """What this site offers to call the clusters of that run."""
        try:
            return offered(run_folder(self.folder, run))
        except UserError:  # no name of a run: it is refused when something is to be done
            return []

    def _introduce(self, asked: Instruction) -> Reply:
        data = self.images_for(asked.plan).data
        parts = parts_had(self.workshop.weights, asked.plan)
        names = self._offered(asked.run)
        files = {} if data.account is None else {"files": list(data.account.counts)}
        return Reply(
            kind="hello",
            site=self.site,
            round=0,
            examples=len(data.images),
            info={
                **files,
                **({"window": data.window} if data.window else {}),
                **({"withdrawn": data.withdrawn} if data.withdrawn else {}),
                **({"names": names} if names else {}),
                **({} if parts is None else {"weights": parts}),
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


def _state(store: StateStore, asked: Instruction) -> Mapping[str, Tensor]:
    """What the site kept from before. Its own running statistics are those of the run that a later
    question is about."""
    in_a_round = asked.exchange.in_a_round
    state = store.load(asked.round + (not in_a_round)) or {}
    if not state and asked.plan.batchnorm == "local" and not in_a_round:
        return store.load_earlier() or {}
    return state


def device_name(device: torch.device) -> str:
    """What a table calls the device: "cpu", or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
