"""What an instruction must be before the site does anything for it.

The server chooses what is trained, never where: a run's name is no path, a plan's data set and
device are not looked at, and what would not fit the site's model or its memory is refused before a
tensor is made. Every refusal is a `UserError` of one line.
"""

import re
from pathlib import Path

from client.workbench import Workbench
from common.protocol.messages import MOST_CLASSES, SOLVING, Instruction
from common.utils.errors import UserError

MOST_SETS = 64  # of centroids in one Lloyd step
LONGEST_NAME = 100
ANY_ROUND = (*SOLVING, "assess", "lloyd", "score")  # asked for between rounds
NEED_MODEL = ("prepare", "train", *SOLVING)
NEED_CENTROIDS = ("lloyd", "score")
OF_A_RUN = re.compile(r"state-\d+\.(safetensors|broken)|assignments\.csv|\..*\.part")


def check_run_name(run: str) -> None:
    """`UserError` unless `run` is a plain name: the server must not choose a site's paths."""
    plain_name = run and not run.startswith(".") and Path(run).name == run and run.isprintable()
    if not plain_name or len(run.encode()) > LONGEST_NAME:
        raise UserError(f"the server calls its run {run!r}: not a plain name")


def run_folder(folder: Path, run: str) -> Path:
    """Where the site keeps what belongs to `run`; `UserError` for a name that leads to anything
    else that is in the site's folder."""
    check_run_name(run)
    path = folder / run
    if path.is_symlink() or (path.exists() and not _is_run(path)):
        raise UserError(f"the server calls its run {run!r}: that is something else of this site's")
    return path


def _is_run(path: Path) -> bool:
    return path.is_dir() and all(OF_A_RUN.fullmatch(each.name) for each in path.iterdir())


def check_round(instruction: Instruction) -> None:
    """`UserError` unless the plan has the stage, and the stage the round."""
    plan, stage, number = instruction.plan, instruction.stage, instruction.round
    if not 0 <= stage < len(plan.stages):
        raise UserError(f"the plan has no stage {stage}")
    first = plan.rounds_before(stage)
    last = first + plan.stages[stage].rounds
    if not first + (instruction.kind not in ANY_ROUND) <= number <= last:
        raise UserError(f"{instruction.kind}: stage {stage} has no round {number}")
    if not plan.clusters:
        raise UserError("the plan does not say how many clusters there are")
    if len(instruction.classes) > MOST_CLASSES:
        raise UserError(f"{len(instruction.classes)} classes")


def check_parts(instruction: Instruction, bench: Workbench) -> None:
    """`UserError` unless what came with the instruction fits the model that the site has built."""
    _check_model(instruction, bench)
    kind, clusters = instruction.kind, instruction.plan.clusters
    stage = instruction.plan.stages[instruction.stage]
    if kind in SOLVING and instruction.asked not in bench.objective.solves:
        raise UserError(f"{stage.objective} solves nothing from {instruction.asked}")
    width = bench.objective.width_for(instruction.asked, stage.embedding)
    if kind == "train" and not bench.objective.trains:
        raise UserError(f"{stage.objective} is not trained")
    if kind == "prepare" and not bench.objective.prepares:
        raise UserError(f"{stage.objective} prepares nothing")
    if instruction.centroids is None:
        if kind in NEED_CENTROIDS:
            raise UserError(f"{kind}: the message has no centroids")
    else:
        shape = instruction.centroids.points.shape
        most = MOST_SETS * clusters if kind == "lloyd" else clusters
        whole = kind == "score" or shape[0] % clusters == 0
        if not 1 <= shape[0] <= most or not whole or shape[1] != width:
            raise UserError(f"centroids: {shape} for {clusters} clusters of width {width}")
    if instruction.probe is not None:
        fitting = (width + 1, len(instruction.classes))
        if instruction.probe.shape != fitting:
            raise UserError(f"probe: {instruction.probe.shape} instead of {fitting}")


def _check_model(instruction: Instruction, bench: Workbench) -> None:
    layout, kind = bench.layout, instruction.kind
    if kind in NEED_MODEL and layout.groups and not instruction.groups:
        raise UserError(f"{kind}: the message has no model")
    for name, array in instruction.groups.items():
        if name not in layout.groups:
            raise UserError(f"groups.{name}: not of this model")
        if len(array) != layout.size(name):
            raise UserError(f"groups.{name}: {len(array)} numbers instead of {layout.size(name)}")
