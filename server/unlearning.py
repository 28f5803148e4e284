"""The beginning of a run by a method that needs the forgotten images: their sites unlearn them.

The state says whether that is still to be done, so that a run that was killed goes on in the right
place. All sites that take images back are waited for: nobody else has what is to be unlearned.
"""

from flwr.serverapp import Grid

from common.record.forgetting import Forgetting
from common.record.schema import UnlearnedEvent
from common.unlearning import build_unlearning, to_text
from server.conversation.asking import Question
from server.conversation.inquiry import account
from server.forgetting.method import encoder_groups
from server.run.folder import TO_UNLEARN, Checkpoint
from server.strategy import CoveyStrategy


def unlearn(
    strategy: CoveyStrategy,
    grid: Grid,
    forgetting: Forgetting,
) -> None:
    """Let the sites that take images back unlearn them, if the state says that they have to; the
    state after it has their mean encoder, and a new projector."""
    state = strategy.state
    if TO_UNLEARN not in state.memory:
        return
    strategy.folder.take_back(state)  # of a run that was killed before the state was on disk
    sites = forgetting.images.keys() - set(forgetting.gone)
    method = build_unlearning(forgetting.method, forgetting.parameters)
    how = to_text(method, forgetting.of)
    question = Question("unlearn", state.round, about=how, sites=frozenset(sites))
    inquiry = strategy.asking.hold(grid, state, question)
    learned = {**state.groups, **inquiry.update.result()}
    groups = strategy.model.enter(state.closed, encoder_groups(learned), None)
    strategy.folder.log(UnlearnedEvent(round=state.round, **account(inquiry)))
    strategy.advance(Checkpoint(state.round, state.closed, groups))
