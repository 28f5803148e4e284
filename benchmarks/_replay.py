"""A run again, in this process and undisturbed, with those sites answering in each round that
answered then: what a run whose processes were killed must be equal to."""

from collections.abc import Sequence
from pathlib import Path

from flwr.clientapp import ClientApp

from client.app import build_app
from client.site import Site
from common.protocol.messages import Instruction, decode
from common.record.reader import read_run
from common.utils.errors import UserError
from deploy.engines.in_process import InProcessGrid
from server.app import run
from server.run.folder import RunFolder


def answered(folder: Path) -> dict[int, set[str]]:
    """Round -> the sites whose answers are in the result, by the run's metrics."""
    return {event.round: set(event.answered) for event in read_run(folder).rounds}


def replay(folder: Path, sites: Sequence[Site], into: Path, rounds: int = 0) -> None:
    """Do the run in `folder` again over `sites`, into the folder `into`; its first `rounds`, where
    it was ended before it had finished (0: all).

    Only for recipes whose sites keep nothing from round to round: who was killed after a round's
    training, and what it kept, is in no metrics.
    """
    took_part = answered(folder)

    def app_of(site: Site) -> ClientApp:
        def handle(_context: object, record: bytes) -> bytes:
            asked = Instruction.from_record(decode(record))
            if asked.kind == "train" and site.trainer.site not in took_part[asked.round]:
                raise UserError("it did not answer then")
            return site.handle(record)

        return build_app(handle)

    grid = InProcessGrid({site.trainer.site: app_of(site) for site in sites})
    plan = RunFolder(folder).plan().model_copy(update={"quorum": 0.01})
    if rounds:
        (stage,) = plan.stages
        plan = plan.model_copy(update={"stages": (stage.model_copy(update={"rounds": rounds}),)})
    run(grid, plan, RunFolder(into), "in-process")
