"""What an instruction must be before the site does anything for it.

The server chooses what is trained, never where: a run's name is no path, a plan's data set and
device are not looked at, and what would not fit the site's model or its memory is refused before a
tensor is made. Every refusal is a `UserError` of one line.
"""

import re
from pathlib import Path

from client.storage.exclusions import FILE
from client.workbench import Workbench
from common.objectives.base import Objective
from common.objectives.pooled import Pooled
from common.protocol.declaration import Asks, Brings, Given, Needs, When
from common.protocol.exchanges import MOST_SENT
from common.protocol.messages import ALL, MOST_CLASSES, Instruction
from common.solvers.base import statistics_of, width_of
from common.utils.errors import UserError

LONGEST_NAME = 100
MOST_STEPS = 2**40  # in a pass over all sites' images: no federation has as many images
OF_A_RUN = re.compile(
    r"state-\d+\.(safetensors|broken)|assignments\.csv|model\.covey|clusters\.html"
    r"|(names|received|offered)\.json|taken-part\.bin|\..*\.part"
)


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
    if run == FILE or path.is_symlink() or (path.exists() and not _is_run(path)):
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
    if not first + instruction.exchange.in_a_round <= number <= last:
        raise UserError(f"{instruction.kind}: stage {stage} has no round {number}")
    if not plan.clusters:
        raise UserError("the plan does not say how many clusters there are")
    if len(instruction.classes) > MOST_CLASSES:
        raise UserError(f"{len(instruction.classes)} classes")


def check_parts(instruction: Instruction, bench: Workbench) -> None:
    """`UserError` unless what came with the instruction fits the model that the site has built."""
    _check_model(instruction, bench)
    _check_asked(instruction, bench)
    stage = instruction.plan.stages[instruction.stage]
    width = width_of(bench.model, instruction.asked, stage.embedding)
    _check_centroids(instruction, width)
    if instruction.learned and instruction.exchange.when is not When.FINISHED:
        raise UserError(f"{instruction.kind}: it brings what only the end of a run does")
    if instruction.weights is not None:
        raise UserError(f"{instruction.kind}: it brings a part of a file")
    if instruction.about and instruction.exchange.asks is not Asks.TAKING:
        raise UserError(f"{instruction.kind}: it brings what only unlearn and recall do")
    if instruction.probe is not None:
        fitting = (width + 1, len(instruction.classes))
        if instruction.probe.shape != fitting:
            raise UserError(f"probe: {instruction.probe.shape} instead of {fitting}")


def _check_asked(instruction: Instruction, bench: Workbench) -> None:
    """That the stage's objective or solver does what is asked for."""
    stage, exchange = instruction.plan.stages[instruction.stage], instruction.exchange
    name = stage.method
    if exchange.solves and instruction.asked not in statistics_of(bench.model):
        raise UserError(f"{name} solves nothing from {instruction.asked}")
    if exchange.in_a_round and exchange.of_batch != stage.synchronous:
        how = "synchronous" if stage.synchronous else "not synchronous"
        raise UserError(f"{exchange.kind}: stage {stage.name!r} is {how}")
    if exchange.of_batch and not 1 <= instruction.steps <= MOST_STEPS:
        raise UserError(f"{exchange.kind}: {instruction.steps} steps in a pass")
    if exchange.of_batch:
        if not isinstance(bench.model, Pooled):
            raise UserError(f"the loss of {name} is no function of means")
        numbers = range(1, bench.model.exchanges + 1) if exchange.steps else (0,)
        if instruction.step not in numbers:
            raise UserError(f"{exchange.kind}: a step has no number {instruction.step} of these")
    if exchange.brings is Brings.SHARED and not isinstance(bench.model, Objective):
        raise UserError(f"{name} is not trained")
    if exchange.brings is Brings.PREPARED and not bench.prepares:
        raise UserError(f"{name} prepares nothing")


def _check_centroids(instruction: Instruction, width: int) -> None:
    exchange, clusters = instruction.exchange, instruction.plan.clusters
    _check_sets(instruction)
    if instruction.centroids is None:
        if exchange.centroids is not Given.PERHAPS:
            raise UserError(f"{exchange.kind}: the message has no centroids")
        return
    number, wide = instruction.centroids.points.shape
    if instruction.sets and exchange.centroids is not Given.PERHAPS:
        if number != sum(instruction.sets) or wide != width:
            raise UserError(f"centroids: {(number, wide)} for sets of {instruction.sets}"[:200])
        return
    if not 1 <= number <= exchange.sets * clusters or number % clusters or wide != width:
        shape = (number, wide)
        raise UserError(f"centroids: {shape} for {clusters} clusters of width {width}")


def _check_sets(instruction: Instruction) -> None:
    """That other numbers of clusters, and a part of the images, are meant where they can be."""
    exchange, sets, within = instruction.exchange, instruction.sets, instruction.within
    if sets and (not exchange.resizes or sum(sets) > MOST_SENT):
        raise UserError(f"{exchange.kind}: {len(sets)} sets of other sizes than the plan's")
    if len(sets) > 1 and exchange.centroids is not Given.SETS:
        raise UserError(f"{exchange.kind}: {len(sets)} sets instead of one")
    if within != ALL and not (exchange.within and 0 <= within < instruction.clusters):
        raise UserError(f"{exchange.kind}: it is not about cluster {within} alone")


def _check_model(instruction: Instruction, bench: Workbench) -> None:
    layout, kind = bench.layout, instruction.kind
    needed = instruction.exchange.needs is Needs.MODEL
    if needed and layout.groups and not instruction.groups:
        raise UserError(f"{kind}: the message has no model")
    for name, array in instruction.groups.items():
        if name not in layout.groups:
            raise UserError(f"groups.{name}: not of this model")
        if len(array) != layout.size(name):
            raise UserError(f"groups.{name}: {len(array)} numbers instead of {layout.size(name)}")
