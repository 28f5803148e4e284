"""Asking the sites: who is asked what, with which state, and again where too few answer."""

from collections.abc import Callable
from dataclasses import dataclass

from flwr.serverapp import Grid

from common.centroids import Centroids, of_width
from common.errors import UserError
from common.layout import digest_of
from common.messages import Floats, Groups, Instruction, Kind
from common.options import Plan
from server.exchange import Exchange
from server.model import GlobalModel
from server.roster import Roster
from server.run_folder import Checkpoint

ATTEMPTS = 3  # at an exchange whose quorum was missed, before the run fails
IN_PART = ("prepare", "train", "lloyd")  # asked of as many sites as the plan's participation says
REMEMBERED = ("lloyd", "score")  # after `assess`, from which the sites remember their embeddings


@dataclass(frozen=True)
class Question:
    """What is asked in training round `number`, or after it; `centroids` instead of the state's;
    `step` 1, 2, ... of a sequence of exchanges."""

    kind: Kind
    number: int
    centroids: Centroids | None = None
    probe: Floats | None = None
    step: int = 0


class Asking:
    """Opens and holds the exchanges of one run."""

    def __init__(
        self,
        plan: Plan,
        run: str,
        roster: Roster,
        model: GlobalModel,
        warn: Callable[[str, int], None],
    ) -> None:
        self._plan, self._run = plan, run
        self._roster, self._model = roster, model
        self._warn = warn
        self._digested: tuple[Groups, str] = ({}, "")

    def hold(self, grid: Grid, state: Checkpoint, question: Question) -> Exchange:
        """One exchange with quorum: asks again, a few times, while too few answer, then raises
        `UserError`. Where the sites remember the state, the model is sent only if one does not."""
        if question.kind in REMEMBERED:
            exchange = self.open(state, question, bare=True)
            exchange.hold(grid)
            if len(exchange.answered) == len(exchange.nodes):
                return exchange
        kind, number = question.kind, question.number
        reasons: dict[str, str] = {}
        for attempt in range(1, ATTEMPTS + 1):
            exchange = self.open(state, question)
            exchange.hold(grid)
            reasons |= exchange.refused
            for site, reason in sorted(exchange.refused.items()):
                self._warn(f"round {number}: {site} refused: {reason}", number)
            asked, answered = len(exchange.nodes), len(exchange.answered)
            if answered >= max(1.0, self._plan.quorum * asked):
                return exchange
            self._warn(
                f"round {number} ({kind}): {answered} of {asked} sites gave a usable answer, "
                f"too few for the quorum {self._plan.quorum:g} (attempt {attempt})",
                number,
            )
        why = "; ".join(f"{site}: {reason}" for site, reason in sorted(reasons.items())[:3])
        raise UserError(
            f"round {number}: the quorum was missed {ATTEMPTS} times ({why or 'no answers'})"
        )

    def open(self, state: Checkpoint, question: Question, *, bare: bool = False) -> Exchange:
        """An exchange that nobody has been asked in yet; `bare`: without the model."""
        kind, stage = question.kind, state.closed
        online = self._roster.refresh()
        names = sorted(online)
        if kind in IN_PART:
            names = self._roster.choose(question.number, names, question.step)
        width = self._model.width(stage, kind)
        layout = self._model.layout(stage)
        asked = Instruction(
            kind=kind,
            run=self._run,
            round=question.number,
            plan=self._plan,
            stage=stage,
            layout=layout.digest,
            state=self._digest(state.groups),
            groups={} if bare else state.groups,
            centroids=question.centroids or of_width(state.centroids, width),
            probe=question.probe,
            classes=self._roster.classes,
        )
        nodes = {name: online[name] for name in names}
        prepared = self._model.objective(stage).prepares
        returned = (prepared,) if kind == "prepare" else ()
        return Exchange(asked, nodes, self._roster.sites, layout, width, returned)

    def _digest(self, groups: Groups) -> str:
        """Of groups, which are never changed in place."""
        if self._digested[0] is not groups:
            self._digested = (groups, digest_of(groups))
        return self._digested[1]
