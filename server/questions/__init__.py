"""What a finished run is asked later: more of its clusters, over the sites that are there now."""

from flwr.serverapp import Grid

from common.record.follow_up import Order
from common.record.reader import read_run
from server.questions.asked import Asked
from server.questions.choosing import choose
from server.questions.recalling import recall
from server.questions.splitting import split
from server.strategy import CoveyStrategy


def answer(order: Order, strategy: CoveyStrategy, grid: Grid) -> bool:
    """Hold the exchanges that `order` asks for, unless that was done before the run was stopped;
    whether there is a model other than the earlier run's then."""
    asked = Asked(order, strategy, grid)
    if order.follow_up.kind == "audit":
        if not any(event.event == "recalled" for event in read_run(strategy.folder.path).events):
            recall(asked)
        return False
    if order.follow_up.kind == "split":
        if not asked.is_done:
            split(asked)
        return True
    if not any(event.event == "choice" for event in read_run(strategy.folder.path).events):
        choose(asked)
    return asked.is_done
