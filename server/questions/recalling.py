"""An audit of forgetting over real sites: each that took images back is shown the models.

The folder has the models as states, `model-1.safetensors` and so on: of the run that had the
images, of the one in its place, of runs that never had them, each under its own seed. A site that
cannot or may not look does not fail the audit: why is told.
"""

from collections.abc import Iterator
from dataclasses import replace

from common.config.options import Plan
from common.protocol.parts import ATTACKS
from common.protocol.recall import Recall
from common.record.later import RecalledEvent
from common.utils.errors import UserError
from server.conversation.asking import Asking, Question
from server.model import GlobalModel
from server.questions.asked import Asked
from server.run.folder import Checkpoint, read_checkpoint

PASSES = 3  # over the models: one to meet them, one to hear of each, one if a site starts anew
Found = dict[str, float]


def model_file(number: int) -> str:
    """The name of the file with the state of the model with that number."""
    return f"model-{number}.safetensors"


def recall(asked: Asked) -> None:
    """Show the models to each site that took images back, and write down what it tells."""
    told: dict[str, tuple[Found, ...]] = {}
    refused: dict[str, str] = {}
    models = list(_models(asked))
    for site in asked.follow_up.sites:
        try:
            told[site] = _told_by(asked, site, models)
        except UserError as why:
            refused[site] = str(why)
    event = RecalledEvent(round=asked.state.round, told=told, refused=refused)
    asked.strategy.folder.log(event)


def _models(asked: Asked) -> Iterator[tuple[Asking, Checkpoint]]:
    """What asks about each model, and its state."""
    strategy = asked.strategy
    last, site = len(strategy.plan.stages) - 1, next(iter(strategy.roster.sites.values()))
    for number, seed in enumerate(asked.follow_up.seeds, 1):
        plan: Plan = strategy.plan.model_copy(update={"seed": seed})
        asking = Asking(
            plan,
            strategy.folder.name,
            strategy.roster,
            GlobalModel(plan, site.channels, site.side),
            strategy.warn,
            strategy.folder.progress,
        )
        state = read_checkpoint(strategy.folder.path / model_file(number))
        yield asking, replace(state, closed=last)


def _told_by(asked: Asked, site: str, models: list[tuple[Asking, Checkpoint]]) -> tuple[Found, ...]:
    """What the site tells of each model; `UserError` where it does not."""
    about = Recall(asked.follow_up.original, len(models)).to_text()
    found: dict[int, Found] = {}
    for _ in range(PASSES):
        for number, (asking, state) in enumerate(models, 1):
            if number in found:
                continue
            question = Question(
                "recall", state.round, step=number, about=about, sites=frozenset({site})
            )
            totals = asking.hold(asked.grid, state, question).measured.totals
            if any(totals.number(name) is not None for name in ATTACKS):
                found[number] = totals.numbers()
    if len(found) < len(models):
        raise UserError("it has not looked at all models")
    return tuple(found[number] for number in sorted(found))
