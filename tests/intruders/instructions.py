"""Spoiled instructions against everything that a site does with one, up to the first step."""

import hashlib
import logging
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torchvision.models  # noqa: F401 (a plan may name its networks: not while watched)

import client.trainer
import client.workbench
from client.tasks import TASKS
from client.tasks.deliver import checked_facts
from common.clustering.centroids import Centroids
from common.config import recipes
from common.config.encoder import Network
from common.learned.facts import facts_of
from common.protocol import layout
from common.protocol.exchanges import EXCHANGES
from common.protocol.messages import Instruction, Reply, decode, encode
from common.protocol.recall import Recall
from common.record.reader import RunRecord
from common.stages import build_stage
from common.unlearning import build_unlearning, from_text, to_text
from common.utils.errors import UserError, plain
from server.conversation.guard import limited_memory
from tests.builders.records import a_run
from tests.builders.sites import CLASSES, site
from tests.intruders.mutations import Mutator
from tests.intruders.replies import BATCH, Tally

MEMORY = 1 << 28  # bytes: models of up to `NUMBERS` parameters are built, one after the other
NUMBERS = 2**21
OPTIONS = {
    "clusters": 10,
    "rounds": 2,
    "encoder": "pixels",
    "parameters": "hidden=16 width=8",
}
IN_A_ROW = 20  # of one kind: a site keeps the model of the last plan
SOLVED = {
    "solver": ",landmark-spectral",
    "rounds": "2,0",
    "parameters": "hidden=16 width=8,width=8 landmarks=20",
}
STARTED = {
    "solver": ",patch-pca",
    "encoder": "small-convnet",
    "parameters": "hidden=16 width=8,widest=600",
}
SUMMED = {
    "features": "anew,kept",
    "parameters": "hidden=16 width=8,width=8 landmarks=20 landmarks-from=sums",
}
TRIED = {"solver": ",chosen-spectral", "features": "anew,kept"}
SYNCHRONOUS = {
    "objective": "spectral-contrastive",
    "synchronous": True,
    "normalisation": "layer",
}
FILE = np.arange(200, dtype=np.uint8)  # with weights, that the site is handed
ABOUT = {
    "unlearn": to_text(build_unlearning("contrastive-unlearning", {}), "earlier"),
    "recall": Recall("earlier", 4).to_text(),
}
PREPARED = "train, prepared"  # what was prepared alone: the rest came before
KINDS = sorted([*EXCHANGES, PREPARED], key=("prepare", PREPARED).__contains__)
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.chmod")
RUNS = (
    "exec",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "socket.connect",
    "ctypes.dlopen",
)


class Beyond(AssertionError):
    """A site did what no server may make it do."""


class Watch:
    """An audit hook, once installed for good: what Python itself opens, changes, runs or dials
    while `on`. Reading is allowed of what is in `reads`, changing of what is in `folder`."""

    def __init__(self):
        self.on = False
        self.folder = Path("/nowhere")
        self.seen = []

    def __call__(self, event, arguments):
        if not self.on:
            return
        if event == "open":
            path, _mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if path in FINDERS:
                return
            if isinstance(path, str | bytes | os.PathLike) and (writes or self._foreign(path)):
                self._inside(event, path)
        elif event in CHANGES:
            self._inside(event, arguments[0])
        elif event in RUNS and not (event == "exec" and _is_library(arguments[0])):
            self.seen.append(f"{event} {arguments!r}")

    def _foreign(self, path):
        """Whether a read file is neither of this site nor of an installed program (how much memory
        is free is looked up before images are made in another size)."""
        text = os.fsdecode(path)
        return not any(text.startswith(str(root)) for root in OWN)

    def _inside(self, event, path):
        place = Path(os.fsdecode(path))
        if not place.is_absolute() or not place.resolve().is_relative_to(self.folder):
            self.seen.append(f"{event} {place}")


LIBRARIES = [Path(p).resolve() for p in (sys.prefix, sys.base_prefix, Path(__file__).parents[2])]
OWN = ("/proc/self", "/proc/meminfo", *map(str, LIBRARIES))
FINDERS = frozenset(p for p in sys.path if p.startswith("__editable__."))
"""An installed checkout's places in `sys.path`: every import looks there, and they are no files."""
WATCH = Watch()


def _is_library(code):
    """Python's own `exec` of a module that is imported, or of a dataclass that is made."""
    name = getattr(code, "co_filename", "")
    return name.startswith(("<", *map(str, LIBRARIES)))


@contextmanager
def watched(folder):
    """Inside, whatever leads out of `folder` is noted; `Beyond` at the end names it."""
    if not getattr(WATCH, "installed", False):
        sys.addaudithook(WATCH)
        WATCH.installed = True
    WATCH.folder, WATCH.on, WATCH.seen = folder.resolve(), True, []
    try:
        yield
    finally:
        WATCH.on = False
    if WATCH.seen:
        raise Beyond("; ".join(WATCH.seen[:3]))


def untrained(task):
    """Everything that comes before the first image is looked at."""
    if task.stage.rounds:
        task.local_round("train")
    if task.instruction.kind == "deliver":
        checked_facts(task)
    if task.instruction.kind == "unlearn":
        from_text(task.instruction.about)
    if task.instruction.kind == "recall":
        Recall.from_text(task.instruction.about)
    return Reply(task.instruction.kind, task.data.site, task.instruction.round)


def with_weights(plan):
    """The plan with an encoder whose weights are in that file."""
    how = {"side": 8, "mean": (0,) * 3, "std": (1,) * 3, "interpolation": "bilinear", "crop": 1}
    network = Network(size=len(FILE), **how)
    digest = hashlib.sha256(FILE.tobytes()).hexdigest()
    return plan.model_copy(update={"encoder": "timm:some", "weights": digest, "network": network})


def instruction(kind):
    """One that a server would send."""
    stage, number, recipe, more = 0, 1, "fedsimclr", {}
    if kind != PREPARED and EXCHANGES[kind].solves:
        stage, number, recipe = 1, 2, "fedsimclr-projection"
        other = {"patches": STARTED, "trial": TRIED, "landmark_sums": SUMMED}
        more = SOLVED | other.get(kind, {})
    elif kind in ("prepare", PREPARED):
        more = {"objective": "spectral-contrastive"}
    elif EXCHANGES[kind].of_batch:
        more = SYNCHRONOUS
    plan = recipes.load(recipe).plan(OPTIONS | more)
    if kind == "weights":
        return Instruction(kind, "run", 0, with_weights(plan), step=1, weights=FILE)
    learned = ""
    if kind == "deliver":
        settings = plan.model_dump(mode="json", by_alias=True)
        number, learned = plan.rounds, facts_of(RunRecord(a_run(plan=settings))).to_json()
    shared = build_stage(plan, stage, 1, 8, 10).shared()
    groups = layout.flatten(shared)
    width = 64
    centroids = {
        "trial": Centroids(
            np.tile(np.eye(10, width + 1, dtype=np.float32), (8, 1)), np.ones(80, int)
        ),
        "landmark_sums": Centroids(np.eye(7, 8, dtype=np.float32), np.ones(7, int)),
        "lloyd": Centroids(np.tile(np.eye(10, width, dtype=np.float32), (8, 1)), np.ones(80, int)),
        "score": Centroids(np.eye(10, width, dtype=np.float32), np.ones(10, int)),
        "train": Centroids(np.eye(10, width, dtype=np.float32), np.ones(10, int)),
        "deliver": Centroids(np.eye(10, width, dtype=np.float32), np.ones(10, int)),
        "weigh": Centroids(np.eye(10, width, dtype=np.float32), np.ones(10, int)),
    }
    return Instruction(
        "train" if kind == PREPARED else kind,
        "20260101-120000-fedsimclr",
        number,
        plan,
        stage,
        layout.layout_of(shared).digest,
        layout.digest_of(groups),
        {"moment": groups["moment"]} if kind == PREPARED else groups,
        centroids.get(kind),
        np.ones((width + 1, 10), np.float32) if kind == "score" else None,
        CLASSES,
        step=int(kind in ("patches", "landmark_sums", "statistics", "recall")),
        steps=2 * (kind != PREPARED and EXCHANGES[kind].of_batch),
        learned=learned,
        sets={"weigh": (4, 3, 3), "landmark_sums": (7,)}.get(kind, ()),
        within=2 if kind == "weigh" else -1,
        about=ABOUT.get(kind, ""),
    )


def bombard(count, folder, monkeypatch, seed=0):
    """`count` spoiled instructions of every kind; a `Tally`. Fails where one raises anything but a
    `UserError`, takes memory without bound, or leads out of the site's folder."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    monkeypatch.setattr(client.trainer, "TASKS", dict.fromkeys(TASKS, untrained))
    monkeypatch.setattr(client.trainer, "check_leaving", lambda reply, task: None)  # no answer
    monkeypatch.setattr(client.workbench, "MOST_NUMBERS", NUMBERS)
    home = folder / "covey-site-ward"
    for variable in ("COVEY_HOME", "COVEY_WEIGHTS"):  # where a site notes which weights it has
        monkeypatch.setenv(variable, str(home / "weights"))
    ward = site(home, takes=True)
    bases = {kind: encode(instruction(kind).to_record()) for kind in KINDS}
    for kind, base in bases.items():
        assert decode(ward.handle(base))["header"]["kind"] == kind.partition(",")[0]
    mutator = Mutator(seed, list(bases.values()))
    tally = Tally()
    for start in range(0, count, BATCH):
        with watched(home), limited_memory(MEMORY):
            for number in range(start, min(count, start + BATCH)):
                spoiled = mutator.spoil(bases[KINDS[number // IN_A_ROW % len(KINDS)]])
                try:
                    ward.handle(spoiled)
                except UserError as why:
                    tally.refuse(plain(str(why)))
                else:
                    tally.passed += 1
    assert {path.name for path in folder.iterdir()} == {home.name}
    return tally
