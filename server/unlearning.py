"""The beginning of a run by a method that needs the forgotten images: their sites unlearn them.

The state says whether that is still to be done, so that a run that was killed goes on in the right
place. All sites that take images back are waited for: nobody else has what is to be unlearned.
"""

from collections.abc import Collection, Mapping

from flwr.serverapp import Grid

from common.config.given import Scalar
from common.record.schema import UnlearnedEvent
from common.unlearning import build_unlearning, to_text
from server.conversation.asking import Question
from server.conversation.inquiry import account
from server.forgetting.at_site import TO_UNLEARN
from server.forgetting.method import encoder_groups
from server.run.folder import Checkpoint
from server.strategy import CoveyStrategy


def unlearn(
    strategy: CoveyStrategy,
    grid: Grid,
    method: str,
    parameters: Mapping[str, Scalar],
    sites: Collection[str],
) -> None:
    """Let the `sites` unlearn what they take back, if the state says that they have to; the state
    after it has their mean encoder, and a new projector."""
    state = strategy.state
    if TO_UNLEARN not in state.memory:
        return
    how = to_text(build_unlearning(method, parameters))
    question = Question("unlearn", state.round, unlearning=how, sites=frozenset(sites))
    inquiry = strategy.asking.hold(grid, state, question)
    learned = {**state.groups, **inquiry.update.result()}
    groups = strategy.model.enter(state.closed, encoder_groups(learned), None)
    strategy.folder.log(UnlearnedEvent(round=state.round, **account(inquiry)))
    strategy.advance(Checkpoint(state.round, state.closed, groups))
