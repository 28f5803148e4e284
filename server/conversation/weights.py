"""Handing the file with the encoder's weights to sites that have none, and have said they take it.

Only the file that the plan names, by its digest, is ever read here. It goes in parts, each to all
sites that are at it, so that one that was cut off goes on where it was. A site that falls out is
said by name, and says itself in the run what it lacks.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from common.config.options import Plan
from common.models.pretrained.settle import wanted
from common.models.pretrained.store import PART, WeightStore, parts_of
from common.protocol.messages import Instruction, MessageError, Reply
from common.utils.errors import plain
from server.conversation.roster import Roster
from server.conversation.transport import CLOCKS, hear, push
from server.run.progress import Progress, ProgressFile

KIND = "weights"


class Handing:
    """Hands over the file of `plan` in the run called `run`; `warn` is told who falls out."""

    def __init__(
        self,
        grid: Grid,
        roster: Roster,
        plan: Plan,
        run: str,
        progress: ProgressFile,
        warn: Callable[[str], None],
    ) -> None:
        self._grid, self._roster, self._plan, self._run = grid, roster, plan, run
        self._progress, self._warn = progress, warn

    def __call__(self) -> list[str]:
        """Give it to all that want it and are there; who has got it, sorted."""
        how = self._plan.network
        online = self._roster.refresh()
        had = {name: parts for name in online if (parts := self._roster.sites[name].parts) >= 0}
        if how is None or not had:
            return []
        parts, got = parts_of(how.size), list[str]()
        had = {name: at for name, at in had.items() if at < parts}
        path = wanted(self._plan, WeightStore()).path
        while had:
            at = min(had.values())
            nodes = {name: online[name] for name, there in had.items() if there == at}
            took = self._send(nodes, at + 1, _read(path, at))
            had = {name: there for name, there in had.items() if name not in nodes}
            if at + 1 == parts:
                got += took
            else:
                had |= dict.fromkeys(took, at + 1)
        return sorted(got)

    def _send(self, nodes: Mapping[str, int], number: int, part: bytes) -> list[str]:
        """One part to these sites; those that have it."""
        self._progress.begin(Progress(KIND, step=number, asked=len(nodes)))
        data = np.frombuffer(part, np.uint8)
        asked = Instruction(KIND, self._run, 0, self._plan, step=number, weights=data).to_record()
        ttl = self._plan.deadline + CLOCKS
        messages = {
            name: Message(asked, node, "query", group_id=KIND, ttl=ttl)
            for name, node in nodes.items()
        }
        waiting = push(self._grid, messages)
        took: list[str] = []
        for site, answer in hear(self._grid, waiting, self._plan.deadline):
            why = _refusal(answer, site)
            if why:
                self._warn(f"{site} has not taken the weights: {why}")
            else:
                took.append(site)
                self._progress.count(len(took))
        for site in waiting.values():
            self._warn(f"{site} has not taken the weights: no answer")
        self._roster.settle(took, waiting, late=False)
        return took


def _read(path: Path, part: int) -> bytes:
    with path.open("rb") as file:
        file.seek(part * PART)
        return file.read(PART)


def _refusal(answer: Message, site: str) -> str:
    if answer.has_error():
        return plain(answer.error.reason or f"error {answer.error.code}")
    try:
        reply = Reply.from_record(answer.content)
    except MessageError as error:
        return str(error)
    return "" if (reply.kind, reply.site) == (KIND, site) else "it answers something else"
