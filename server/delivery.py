"""The end of a run for its sites: each that is there receives the model, once.

Nothing hangs on the answers: the run has its result already. A site that is away is said by name;
`covey submit --resume RUN` of a run that has ended hands the model over again.
"""

import logging
from dataclasses import replace

from flwr.serverapp import Grid

from common.learned.file import LearnedModel
from common.record.reader import read_run
from common.record.schema import DeliveredEvent
from server.conversation.asking import Question
from server.conversation.inquiry import account
from server.strategy import CoveyStrategy

LOG = logging.getLogger(__name__)
SIMULATED = ("in-process", "ray")
"""Engines whose sites are on this machine, where the run's folder is."""


def deliver(strategy: CoveyStrategy, grid: Grid, model: LearnedModel) -> None:
    """Hand the model over to the sites that do not have it yet, and record who has it."""
    state, plan, folder = strategy.state, strategy.plan, strategy.folder
    have = set(read_run(folder.path).up_to_date)
    last = replace(state, closed=len(plan.stages) - 1)
    clusters = model.facts.clusters
    sets = () if clusters == plan.clusters else (clusters,)
    question = Question("deliver", state.round, learned=model.facts.to_json(), sets=sets)
    inquiry = strategy.asking.tell(grid, last, question, without=have)
    told = {} if inquiry is None else account(inquiry)
    have |= set(told.get("answered", ()))
    refused = told.get("refused", {})
    missing = strategy.roster.sites.keys() - have - refused.keys()
    who = {"answered": sorted(have), "missing": sorted(missing), "refused": refused}
    event = DeliveredEvent(round=state.round, **{**told, **who})
    folder.log(event)
    LOG.info("%s", event.text)
