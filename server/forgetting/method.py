"""What a method of forgetting is: the state from which a run begins anew without some images.

Every method runs the same plan over what is left; they differ in what they keep of the earlier run.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar

from common.config.given import Scalar
from common.config.options import Plan
from common.protocol.messages import Groups
from common.record.schema import KeptState, Run
from common.utils.errors import UserError
from server.model import GlobalModel
from server.run.folder import Checkpoint


@dataclass(frozen=True)
class Past:
    """What the earlier run has left: its record, the state that it has `reached`, what `read`s
    those that it has kept on its way; the `sites` that take images back, and those that are `gone`
    with all of them."""

    run: Run
    reached: Checkpoint
    read: Callable[[KeptState], Checkpoint]
    sites: Collection[str]
    gone: tuple[str, ...] = ()


class Method(ABC):
    """One method. `name`: on the command line and in the record; `title`: a line about it;
    `exact`: whether nothing of the images is in what comes out; `before_the_site`: whether it goes
    back to before the sites came, so that those whose images leave must be known beforehand;
    `at_site`: whether it needs the images once more, where they are."""

    name: str
    title: str
    exact: ClassVar[bool] = False
    before_the_site: ClassVar[bool] = False
    at_site: ClassVar[bool] = False

    @abstractmethod
    def start(self, plan: Plan, past: Past, model: GlobalModel) -> Checkpoint | None:
        """The state from which `plan` goes on over the images that are left; None: from the
        beginning. `past`: of the earlier run, which has ended; `model`: the plan's. `UserError`
        where the method cannot forget in such a run."""

    def parameters(self) -> dict[str, Scalar]:
        """The method's own, every one written out."""
        return {}


def trains(plan: Plan) -> bool:
    """Whether anything is trained in a run of the plan."""
    return plan.rounds > 0


def closing(plan: Plan) -> int:
    """The first of the stages after all training; the last one that is trained where it is the
    plan's last: its end is made from sums, too."""
    last = max(index for index, stage in enumerate(plan.stages) if stage.rounds)
    return min(last + 1, len(plan.stages) - 1)


def check_published(plan: Plan) -> None:
    """`UserError` for a plan whose sites keep a part of the encoder to themselves."""
    if plan.batchnorm == "local":
        raise refusal(plan, "each site's own running statistics are not the coordinator's to keep")


def refusal(plan: Plan, why: str) -> UserError:
    """Why a method cannot forget in a run of the plan, and what can."""
    return UserError(f"{plan.recipe}: {why}: --method retrain forgets them")


def encoder_groups(groups: Groups) -> Groups:
    """Those of a state's groups that are the encoder's."""
    return {name: group for name, group in groups.items() if name.startswith("encoder")}


def trained_again(plan: Plan, reached: Checkpoint, model: GlobalModel) -> tuple[int, Checkpoint]:
    """(the last stage that is trained, the state before its last round) with the encoder of the
    earlier run; projector and heads are new. `UserError` where a round alone makes no sense."""
    stage = max(index for index, each in enumerate(plan.stages) if each.rounds)
    check_published(plan)
    if plan.stages[stage].synchronous:
        raise refusal(plan, "its rounds are single steps, and one of them forgets nothing")
    groups = model.enter(stage, encoder_groups(reached.groups), None)
    return stage, Checkpoint(plan.rounds_before(stage + 1) - 1, stage, groups)


def encoder_alone(plan: Plan, stage: int, reached: Checkpoint, model: GlobalModel) -> Checkpoint:
    """The state at the beginning of what closes `stage`, with the encoder (and its running
    statistics) of the earlier run; all else is as the plan's seed makes it. `UserError` where what
    is published would be a trained head."""
    of = plan.stages[stage]
    check_published(plan)
    if of.rounds and of.embedding == "projector":
        why = "its clusters lie in the space of the projector that was trained with the images"
        raise refusal(plan, why)
    if of.rounds and of.clusters_from == "head":
        raise refusal(plan, "its clusters are those of a head that was trained with the images")
    groups = model.enter(stage, encoder_groups(reached.groups), None)
    return Checkpoint(plan.rounds, stage, groups)
